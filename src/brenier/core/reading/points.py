"""What points are made of once they are read: their shape, their unit."""

import math
import warnings
from collections.abc import Sequence

import numpy as np

from brenier.core.reading.values import Array


def shaped(points: Array, shape: Sequence[int], name: str) -> Array:
    """Points (n, d) as (n, *shape), where d numbers fill it; others must have the shape, up to axes of length 1.

    Raises:
        ValueError: they have another one.
    """
    found = points.shape[1:]
    if len(found) > 1 and [size for size in found if size > 1] != [size for size in shape if size > 1]:
        raise ValueError(f"{name!r} holds points of shape {found}, and {tuple(shape)} is asked for")
    if math.prod(found) != math.prod(shape):
        numbers = math.prod(shape)
        raise ValueError(
            f"{name!r} holds points of {math.prod(found)} numbers, and shape {tuple(shape)} takes {numbers}"
        )
    return points.reshape(len(points), *shape)


def standardized(points: Array, by: Array, name: str) -> Array:
    """Every coordinate shifted and divided by mean and standard deviation of `by`, whose constant ones only shift.

    Raises:
        ValueError: points of another shape than those of `by`.
    """
    if points.shape[1:] != by.shape[1:]:
        raise ValueError(
            f"{name!r} holds points of shape {points.shape[1:]}, and is to be standardized by others of shape"
            f" {by.shape[1:]}: give as many coordinates"
        )
    first = by[0].astype(np.float64)  # means of what is left when it is taken off lose no digits
    rest = by - first
    mean, constant = rest.mean(0), (by == by[0]).all(0)
    if constant.any():
        places = np.flatnonzero(constant)
        which = ", ".join(map(str, places[:8])) + (", ..." if len(places) > 8 else "")
        many = f"coordinate {which} is" if len(places) == 1 else f"{len(places)} coordinates ({which}) are"
        warnings.warn(f"{name!r}: {many} constant: shifted, and not divided by 0", UserWarning, stacklevel=2)
    return ((points - first) - mean) / np.where(constant, 1.0, rest.std(0))
