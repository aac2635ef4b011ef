"""Numbers with their uncertainty, and the checks that all metrics share."""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Points: TypeAlias = Float[Tensor, "..."]  # (n, d), or refused in words
_Z = 1.959963984540054  # of a 95% interval


class Estimate(NamedTuple):
    """A number, its standard error, and a 95% interval."""

    value: float
    value_se: float
    low: float
    high: float


def around(value: float, value_se: float, least: float = -math.inf) -> Estimate:
    """A number with the interval value +- 1.96 value_se, cut off at `least`."""
    return Estimate(value, value_se, max(value - _Z * value_se, least), value + _Z * value_se)


def share(value: float, n: int, value_se: float | None = None) -> Estimate:
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


def check_points(x: Points, name: str, least: int = 1, why: str = "") -> Float[Tensor, "n d"]:
    """Points as rows in float64, where they are.

    Raises:
        ValueError: not a matrix, values that are not finite, fewer than `least` rows.
        TypeError: not floating-point numbers.
    """
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: points are the rows of an array (n, d) with d >= 1")
    if not x.is_floating_point():
        raise TypeError(f"{name} holds {x.dtype}: points are floating-point numbers")
    if len(x) < least:
        raise ValueError(f"{len(x)} points in {name} are too few: at least {least} are needed{why}")
    finite = torch.isfinite(x).all(1)
    if not bool(finite.all()):
        raise ValueError(f"{name} holds values that are not finite, first in row {int((~finite).nonzero()[0, 0])}")
    return x.detach().double()


def check_pair(
    x: Points, y: Points, names: tuple[str, str] = ("samples", "reference"), least: int = 1, why: str = ""
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Two sets of points in the same space; see `check_points`."""
    one, other = check_points(x, names[0], least, why), check_points(y, names[1], least, why)
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"{names[0]} have {one.shape[1]} numbers each, {names[1]} {other.shape[1]}: give as many")
    return one, other.to(one.device)
