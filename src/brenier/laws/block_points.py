"""Rows of blocks as points, and what is done to them some at a time: as many as caches hold.

Arrays of a whole block would be memory that the system maps anew for each, at ten times the cost of what is computed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.points import as_tensor

CACHED = 2**17  # numbers that caches hold, with what is made of them


def held_in(dtype: "np.dtype[np.generic]") -> torch.dtype:
    """float32 where that holds all values of a type, else float64."""
    return torch.float32 if np.can_cast(dtype, np.float32) else torch.float64


def working(values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Float[Tensor, "m d"]:
    """Rows in float32 where that holds all values of their type, else in float64."""
    return as_tensor(values).to(held_in(values.dtype))


def few(points: Float[Tensor, "n d"]) -> Sequence[Float[Tensor, "m d"]]:
    """As many rows at a time as caches hold."""
    return points.split(max(1, CACHED // points.shape[1]))


def squares(points: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """|x|^2 of each, summed in float64."""
    return torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in few(points)]).square_()
