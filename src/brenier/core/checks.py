"""Checks of arguments that many functions share: what is refused here never reaches a computation."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

MOST = 2**24  # entries along an axis that float32 can count


def whole_number(value: object, name: str, low: int, high: int | None = None) -> int:
    """`value` as an int.

    Raises:
        ValueError: it is not a whole number from `low` to `high`.
    """
    number: Any = value
    other = isinstance(value, bool) or not isinstance(value, Real)
    if other or not math.isfinite(number) or number != int(number) or number < low or number > (high or math.inf):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {span}, got {value!r}")
    return int(number)


def check_memory(gib: float) -> float:
    """`gib` itself, memory in GiB.

    Raises:
        ValueError: it is not positive.
    """
    if not gib > 0:
        raise ValueError(f"max_memory must be positive, got {gib} GiB")
    return gib


def check_perturbations(perturbations: Sequence[float]) -> Array:
    """The richnesses M of perturbations as an array; a ValueError where they are not numbers of at least 1."""
    richness = np.atleast_1d(np.asarray(perturbations, dtype=np.float64))
    if richness.ndim != 1 or richness.size == 0 or not np.all(richness >= 1):
        raise ValueError(f"perturbations must be numbers M of at least 1, got {perturbations}")
    return richness
