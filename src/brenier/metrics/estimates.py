"""Numbers with their uncertainty, and the points that they are about."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.points import Numbers, as_points

_Z = 1.959963984540054  # of a 95% interval


class Estimate(NamedTuple):
    """A number, its standard error, and a 95% interval."""

    value: float
    value_se: float
    low: float
    high: float


def around(value: float, value_se: float, *, least: float = -math.inf) -> Estimate:
    """A number with the interval value +- 1.96 value_se, cut off at `least`."""
    return Estimate(value, value_se, max(value - _Z * value_se, least), value + _Z * value_se)


def share(value: float, n: int, *, value_se: float | None = None) -> Estimate:
    """A share of n, with Wilson's interval (J. Am. Stat. Assoc. 22, 1927), which neither 0 nor 1 makes vanish.

    Args:
        value: the share, from 0 to 1.
        n: how many it is a share of.
        value_se: its standard error. Default: that of n independent draws. With another, the interval is that of as
            many independent draws as would have it, and of n where there is none to tell from.
    """
    spread = value * (1 - value)
    draws = n if value_se is None or value_se == 0 or spread == 0 else min(spread / value_se**2, n)
    centre = (value + _Z**2 / (2 * draws)) / (1 + _Z**2 / draws)
    half = _Z * math.sqrt(spread / draws + (_Z / (2 * draws)) ** 2) / (1 + _Z**2 / draws)
    own = math.sqrt(spread / n) if value_se is None else value_se
    return Estimate(value, own, min(max(centre - half, 0.0), value), max(min(centre + half, 1.0), value))


def median(values: Float[Tensor, " n"]) -> Estimate:
    """The median, with an interval from the order statistics: ranks spread as heads do in n throws."""
    ordered = values.double().cpu().numpy()
    if len(ordered) == 0:
        return Estimate(*[math.nan] * 4)
    step = 1 / math.sqrt(len(ordered)) / 2
    ranks = np.clip([0.5, 0.5 - step, 0.5 + step, 0.5 - _Z * step, 0.5 + _Z * step], 0, 1)
    middle, lower, upper, low, high = (float(value) for value in np.quantile(ordered, ranks))
    return Estimate(middle, (upper - lower) / 2, low, high)


def points_of(
    x: Numbers, y: Numbers, names: tuple[str, str] = ("samples", "reference"), *, least: int = 1, note: str = ""
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Two sets of points in the same space, in float64, where the first one is; see `as_points`.

    Raises:
        ValueError: they are not in the same space.
    """
    one, other = (
        as_points(z, name, least=least, note=note, dtype=torch.float64) for z, name in zip((x, y), names, strict=True)
    )
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"{names[0]} have {one.shape[1]} numbers each, {names[1]} {other.shape[1]}: give as many")
    return one, other.to(one.device)
