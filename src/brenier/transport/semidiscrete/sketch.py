"""Whether data are those that a map leads to: one number of each point tells, whatever float32 makes of the points.

Data that were read as a law, moved to the middle and back or rounded to float32 differ from themselves in the last
digits, so that no hash of theirs is of use. Their products with one random vector differ by no more than these digits
allow, and other data's, or the same in another order, by far more.
"""

import numpy as np
import torch

from brenier.core.checks import Array
from brenier.core.points import Numbers
from brenier.core.random import generator_for
from brenier.core.reading.values import check_array

PLACES = 16  # steps of float32 at the largest coordinate that a coordinate may differ by


def sketch(points: Numbers) -> Array:
    """The product of each point with one random vector, in float64, shape (N,)."""
    rows = _rows(points)
    return np.concatenate([part.astype(np.float64) @ _direction(rows.shape[1]) for part in np.array_split(rows, 64)])


def check_same(own: Array, dim: int, data: Numbers) -> None:
    """Refuse data that are not the points of this sketch, in their order.

    Args:
        own: the sketch of the points, shape (N,).
        dim: their dimension.
        data: shape (N, d) or (N, *shape of a point).

    Raises:
        ValueError: another number of points, another dimension, other points.
    """
    rows = _rows(data)
    if rows.shape != (len(own), dim):
        raise ValueError(
            f"the pairs lead to {len(own):,} points in {dim} dimensions, and these data are {len(rows):,} in "
            f"{rows.shape[1]}: give the data that the map was fitted to"
        )
    step = np.finfo(np.float32).eps * np.abs(rows).max(initial=np.finfo(np.float32).tiny)
    off = np.abs(sketch(rows) - own) > PLACES * step * np.abs(_direction(dim)).sum()
    if off.any():
        raise ValueError(
            f"{np.count_nonzero(off):,} of {len(rows):,} data differ from the points that the pairs lead to, first in "
            f"row {int(off.argmax())} (counted from 0): give the data that the map was fitted to, in their order"
        )


def _rows(points: Numbers) -> np.ndarray:
    rows = check_array(points, "data")
    return rows.reshape(len(rows), -1)


def _direction(dim: int) -> Array:
    return torch.randn(dim, generator=generator_for(0x5CE7C4), dtype=torch.float64).numpy()
