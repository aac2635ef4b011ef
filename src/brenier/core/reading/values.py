"""What is data: real numbers, finite, one point per row."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.files import line

Array: TypeAlias = NDArray[np.floating[Any]]


def check_array(values: object, name: str = "data") -> Array:
    """Check that `values` are data, and return them as an array of shape (n, *event_shape), one point per row.

    A one-dimensional array holds n points in one dimension. Integers and booleans are data; they, and anything wider
    than float32, come back as float64 unless float32 holds every value of their type.

    Raises:
        TypeError: complex numbers, text, dates, records or Python objects.
        ValueError: a single number, no points, ragged rows, NaN or infinite values.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name!r}: not an array of numbers, one point per row: {line(error)}") from None
    wrong = {"c": "complex numbers", "O": "Python objects", "S": "text", "U": "text", "T": "text", "V": "records"}
    if array.dtype.kind not in "buif":
        kind = wrong.get(array.dtype.kind, "dates or times")
        raise TypeError(f"{name!r} holds {kind} (dtype {array.dtype}): data must be real numbers")
    if array.ndim == 0:
        raise ValueError(f"{name!r} is a single number: data must have one point per row, shape (n,) or (n, d)")
    if array.size == 0:
        raise ValueError(f"{name!r} is empty, shape {array.shape}: data must hold at least one point")
    dtype = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    array = array.astype(dtype, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        count = int(bad.sum())
        row = int(np.argmax(bad.reshape(len(array), -1).any(1)))
        many = "1 value is" if count == 1 else f"{count} values are"
        raise ValueError(
            f"{name!r}: {many} NaN or infinite, first in row {row} (counted from 0): remove or fill in such rows"
        )
    return array[:, None] if array.ndim == 1 else array
