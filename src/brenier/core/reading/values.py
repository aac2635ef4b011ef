"""What is data: real numbers, finite, one point per row."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brenier.core.memory import check_fits
from brenier.core.reading.files import choices, line
from brenier.core.reading.plain import count, plain

Array: TypeAlias = NDArray[np.floating[Any]]


def check_array(values: object, name: str = "data") -> Array:
    """Check that `values`, whatever `plain` takes, are data; as an array of shape (n, *event_shape), one point per row.

    A one-dimensional array holds n points in one dimension. Integers and booleans are data; they, and anything wider
    than float32, come back as float64 unless float32 holds every value of their type.

    Raises:
        TypeError: complex numbers, text, dates, records or Python objects; several arrays in one, or none.
        ValueError: a single number, no points, ragged rows, masked, NaN or infinite values; see `plain`.
    """
    array = plain(values, repr(name))
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name!r} holds {kind_of(array)} (dtype {line(array.dtype)}): data must be real numbers")
    if array.ndim == 0:
        raise ValueError(f"{name!r} is a single number: data must have one point per row, shape (n,) or (n, d)")
    if array.size == 0:
        raise ValueError(f"{name!r} is empty, shape {array.shape}: data must hold at least one point")
    dtype = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    if array.dtype != dtype:
        check_fits(array.size * np.dtype(dtype).itemsize, f"{name!r} in {np.dtype(dtype)}")
    array = array.astype(dtype, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(f"{name!r}: {count(bad, 'NaN or infinite')}")
    array = np.require(array, requirements="W")  # torch warns of others
    return array[:, None] if array.ndim == 1 else array


def kind_of(array: NDArray[Any]) -> str:
    """What an array holds that are no real numbers, in words."""
    if array.dtype.kind == "V":
        fields = array.dtype.names
        return "raw bytes" if fields is None else f"records of {choices(fields)}"
    kinds = {"c": "complex numbers", "O": "Python objects", "S": "text", "U": "text", "T": "text"}
    return kinds.get(array.dtype.kind, "dates or times")
