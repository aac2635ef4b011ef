"""Noise levels by hand: the formulas that people choose from.

Every one is even in a variable u of its own, from the level `high` to the level `low`, both included:

    karras         u = sigma^(1/rho), rho = 7                                  EDM (arXiv:2206.00364), (5)
    log-snr        u = log sigma                                               DPM-Solver (arXiv:2206.00927)
    cosine         u = t,  ab(t) = f(t)/f(0),  f(t) = cos^2(pi/2 (t+s)/(1+s))  arXiv:2102.09672, (17); s = 0.008
    linear-beta    u = t,  ab(t) = exp(-0.1 t - 9.95 t^2)                      arXiv:2011.13456, Appendix C
    uniform-sigma  u = sigma                                                   karras with rho = 1

with sigma = sqrt(1/ab - 1). A range beyond t = 0..1 continues the formula; beta is not capped.
cosine and linear-beta take the size of the data for 1. For a law of another size give both levels, and read the result,
in units of it; the others do not mind.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from brenier.core.checks import whole_number

Handmade: TypeAlias = Callable[[int, float, float], list[float]]
Coordinate: TypeAlias = Callable[[float], float]

ONSET = math.pi / 2 * 0.008 / 1.008  # angle at which the cosine schedule begins
BETA_MIN, BETA_MAX = 0.1, 20.0


def karras(count: int, high: float, low: float, rho: float = 7.0) -> list[float]:
    """`count` levels from `high` to `low`, even in sigma^(1/rho) (arXiv:2206.00364, (5))."""
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be positive and finite, got {rho}")
    # In units of `high`, no power overflows.
    return _even(count, high, low, lambda sigma: (sigma / high) ** (1 / rho), lambda u: high * u**rho)


def log_snr(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, even in log sigma (arXiv:2206.00927)."""
    return _even(count, high, low, math.log, math.exp)


def cosine(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, even in the time of the cosine schedule (arXiv:2102.09672, (17))."""
    begin, end = math.sin(ONSET), math.cos(ONSET)

    def angle(sigma: float) -> float:
        far = math.hypot(begin, sigma)
        return math.atan2(end * sigma * (sigma / (far + begin)), end**2 + begin * far)

    def level(u: float) -> float:
        return math.sqrt(math.sin(u) * math.sin(u + 2 * ONSET)) / math.cos(u + ONSET)

    return _even(count, high, low, angle, level)


def linear_beta(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, even in the time of DDPM's linear beta (arXiv:2011.13456, Appendix C)."""
    slope = BETA_MAX - BETA_MIN

    def time(sigma: float) -> float:
        total = float(np.logaddexp(0, 2 * math.log(sigma)))
        return 2 * total / (BETA_MIN + math.sqrt(BETA_MIN**2 + 2 * slope * total))

    def level(u: float) -> float:
        return math.sqrt(math.expm1(BETA_MIN * u + slope / 2 * u**2))

    return _even(count, high, low, time, level)


def uniform_sigma(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, even in sigma."""
    return _even(count, high, low, lambda sigma: sigma, lambda u: u)


HANDMADE: dict[str, Handmade] = {
    "karras": karras,
    "log-snr": log_snr,
    "cosine": cosine,
    "linear-beta": linear_beta,
    "uniform-sigma": uniform_sigma,
}


def _even(count: int, high: float, low: float, coordinate: Coordinate, level: Coordinate) -> list[float]:
    count = whole_number(count, "count", 1)
    if not 0 < low < high < math.inf:
        raise ValueError(f"noise levels must fall from high to low, both positive and finite, got {high} to {low}")
    between = [level(float(u)) for u in np.linspace(coordinate(high), coordinate(low), count)[1:-1]]
    return [high, *between, low][:count]
