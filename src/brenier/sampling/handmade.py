"""Noise levels by hand: the formulas that people choose from.

Every one is even in a variable u of its own, from the level `high` to the level `low`, both included:

    karras         u = sigma^(1/rho), rho = 7                                  EDM (arXiv:2206.00364), (5)
    log-snr        u = log sigma                                               DPM-Solver (arXiv:2206.00927)
    cosine         u = t,  ab(t) = f(t)/f(0),  f(t) = cos^2(pi/2 (t+s)/(1+s))  arXiv:2102.09672, (17); s = 0.008
    linear-beta    u = t,  ab(t) = exp(-0.1 t - 9.95 t^2)                      arXiv:2011.13456, Appendix C
    uniform-sigma  u = sigma                                                   karras with rho = 1
    sd3-shift      u = t,  sigma = s t/(1 - t), s = 3                          shifted flow time (arXiv:2403.03206)
    ays            u = place in a table of levels                              Align Your Steps (arXiv:2404.14507)

with sigma = sqrt(1/ab - 1), and one is not even but bent:

    beta           u = t of linear-beta, by the quantiles of Beta(0.6, 0.6)    arXiv:2407.12173

A range beyond t = 0..1 continues the formula; beta is not capped. Other libraries call log-snr "exponential".
cosine, linear-beta, sd3-shift and beta take the size of the data for 1. For a law of another size give both levels, and
read the result, in units of it; the others do not mind.
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
SHIFT = 3.0  # of the flow's time: SD3's for images of a megapixel
BENT = 0.6  # both parameters of the beta distribution
AYS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)  # for Stable Diffusion 1.5


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
    return _even(count, high, low, _linear_time, _linear_level)


def beta(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, at quantiles of Beta(0.6, 0.6) in that time (arXiv:2407.12173)."""
    from scipy.special import betainc, betaincinv

    def share(sigma: float) -> float:
        first, last = _linear_time(high), _linear_time(low)
        return float(betainc(BENT, BENT, (_linear_time(sigma) - last) / (first - last)))

    def level(u: float) -> float:
        first, last = _linear_time(high), _linear_time(low)
        return _linear_level(last + (first - last) * float(betaincinv(BENT, BENT, u)))

    return _even(count, high, low, share, level)


def sd3_shift(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, even in the time of flow matching before its shift by 3 (arXiv:2403.03206).

    The shift t' = s t/(1 + (s - 1) t) multiplies sigma = t/(1 - t) by s.
    """
    return _even(count, high, low, lambda sigma: sigma / (SHIFT + sigma), lambda u: SHIFT * u / (1 - u))


def ays(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, as in the table of Align Your Steps for Stable Diffusion 1.5.

    Between its eleven levels log sigma is a straight line, as its authors have it; the range is stretched in log sigma.
    """
    table, places = np.log(np.array(AYS) / AYS[-1]) / math.log(AYS[0] / AYS[-1]), np.linspace(0, 1, len(AYS))

    def place(sigma: float) -> float:
        return -float(np.interp(math.log(sigma / low) / math.log(high / low), table[::-1], places[::-1]))

    def level(u: float) -> float:
        return low * (high / low) ** float(np.interp(-u, places, table))

    return _even(count, high, low, place, level)


def uniform_sigma(count: int, high: float, low: float) -> list[float]:
    """`count` levels from `high` to `low`, even in sigma."""
    return _even(count, high, low, lambda sigma: sigma, lambda u: u)


HANDMADE: dict[str, Handmade] = {
    "karras": karras,
    "log-snr": log_snr,
    "cosine": cosine,
    "linear-beta": linear_beta,
    "uniform-sigma": uniform_sigma,
    "ays": ays,
    "beta": beta,
    "sd3-shift": sd3_shift,
}


def _linear_time(sigma: float) -> float:
    total = float(np.logaddexp(0, 2 * math.log(sigma)))
    return 2 * total / (BETA_MIN + math.sqrt(BETA_MIN**2 + 2 * (BETA_MAX - BETA_MIN) * total))


def _linear_level(time: float) -> float:
    return math.sqrt(math.expm1(BETA_MIN * time + (BETA_MAX - BETA_MIN) / 2 * time**2))


def _even(count: int, high: float, low: float, coordinate: Coordinate, level: Coordinate) -> list[float]:
    count = whole_number(count, "count", 1)
    if not 0 < low < high < math.inf:
        raise ValueError(f"noise levels must fall from high to low, both positive and finite, got {high} to {low}")
    between = [level(float(u)) for u in np.linspace(coordinate(high), coordinate(low), count)[1:-1]]
    return [high, *between, low][:count]
