"""Data as they are given where a law is needed: a law itself, or points."""

import math
import os
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.points import Numbers, warn_of_lattice
from brenier.core.reading.values import check_array
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.laws.line.families import Frozen, is_distribution, of_distribution


def as_law(
    data: Target | Numbers | Frozen, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Target:
    """A law as it is, or moved to `dtype` and `device` where these are given; of points, their empirical measure.

    Args:
        data: a law; a frozen distribution of scipy.stats, see `brenier.laws.line.families`; or an array, list,
            table or tensor, whatever `brenier.core.reading.plain` takes, of shape (n,),
            (n, d) or (n, *event_shape), one point per row.
        dtype: default: that of the law; float32 for points, float64 where they lie far from zero.
        device: default: where the law or the tensor is, else the CPU.

    Raises:
        ValueError, TypeError: one line, for a name and for what are no points.
    """
    if isinstance(data, Target):
        return data if dtype is None and device is None else data.to(device, dtype)
    if is_distribution(data):
        return of_distribution(data).to(device, dtype)
    if isinstance(data, str | os.PathLike):
        name = os.fspath(data)
        raise TypeError(f'{name!r} is a name, and a law or points are needed: give brenier.load_target("{name}")')
    if isinstance(data, Tensor):
        device = device or data.device
    return points_law(check_array(data), "data", dtype, device)


def points_law(
    points: NDArray[Any], name: str, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Empirical:
    """The empirical measure of points (n, *event_shape) that `brenier.core.reading` has checked.

    Raises:
        ValueError: squares of the coordinates overflow in `dtype`.

    Warns:
        UserWarning: the points lie so far from zero that they have lost their spread.
    """
    warn_of_lattice(torch.from_numpy(points.reshape(len(points), -1)), repr(name))
    largest = max(float(points.max()), -float(points.min()))
    # The squared distance of two points has to stay finite.
    limit = math.sqrt(torch.finfo(dtype or torch.float32).max / points[0].size) / 4
    if largest > limit:
        what = dtype or torch.float32
        raise ValueError(f"{name!r}: the largest coordinate is {largest:.3g}, squares overflow in {what}: rescale")
    return Empirical(points, event_shape=points.shape[1:], name=name, dtype=dtype, device=device)
