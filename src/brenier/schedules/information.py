"""Schedules from the profile: equal increments of something that the chain goes through, or the smallest KL divergence.

With r = 1/sigma, v = sigma^2, L_r the localization, mmse(r) = E tr Cov[X | Y_r] and d the dimension:

    curvature              equal increments of int E L_r dlog r. In units of the noise, a backward map multiplies a
                           small distance by at most exp(int L_r dlog r) ([LDK24] = arXiv:2411.01629, Definition 4)
    information            equal increments of the mutual information of X and Y_r, dI/dlog r = r^2 mmse(r)
                           (Guo, Shamai, Verdu, IEEE Trans. Inf. Theory 51, 2005): entropic time (arXiv:2504.13612)
    information-rescaled   equal increments of int sigma dI = int mmse dr: rescaled entropic time (the same)
    kl                     the smallest KL divergence of the sampler's path from that of the exact reverse process

For the last, let t = r^2. Along the exact reverse process the denoiser is a martingale in t, E|D_t - D_s|^2 = mmse(s) -
mmse(t), and Girsanov's formula for a sampler that holds D over its steps (the first-order step of dpmpp-2m-sde) gives

    KL = (1/2) sum_k int_{t_k}^{t_k+1} (mmse(t_k) - mmse(t)) dt.

Euler-Maruyama holds the score instead, which is a martingale with E|score|^2 = d/v - mmse/v^2 =: F(v), so that

    KL = (1/2) sum_k int_{v_k+1}^{v_k} (F(v) - F(v_k)) dv.

Both are left Riemann sums of monotone functions, at their best over all grids by dynamic programming.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import expit

from brenier.samplers.steps import SolverName

Array: TypeAlias = NDArray[np.float64]
Informed: TypeAlias = Callable[[xr.Dataset, int, float, float, SolverName], list[float]]

SNRS = 48  # of a profile made for a schedule
FINE = 2001  # levels on which increments are added up
COARSE = 301  # levels among which dynamic programming chooses at first
SURE = 1e-12  # beyond which a share of 0 or 1 is not resolved
NEAR, ROUNDS = 10, 8  # neighbours on each side, at a fifth of the distance, in each round that follows


class _Curves(NamedTuple):
    """A profile, interpolated: functions of log r."""

    localization: Callable[[Array], Array]
    mmse: Callable[[Array], Array]
    fisher: Callable[[Array], Array]  # F


def needed_snrs(high: float, low: float) -> list[float]:
    """SNRs at which a profile has to be known for a schedule from sigma = `high` to `low`."""
    return [float(r) for r in np.geomspace(1 / high, 1 / low, SNRS)]


def curvature(profile: xr.Dataset, count: int, high: float, low: float, _: SolverName = "euler") -> list[float]:
    """`count` levels from `high` to `low`, with equal increments of int E L_r dlog r between them."""
    curves = _read(profile, high, low)
    return _even(curves.localization, count, high, low)


def information(profile: xr.Dataset, count: int, high: float, low: float, _: SolverName = "euler") -> list[float]:
    """`count` levels from `high` to `low`, with equal increments of the mutual information between them."""
    curves = _read(profile, high, low)
    return _even(lambda u: np.exp(2 * u) * curves.mmse(u), count, high, low)


def information_rescaled(
    profile: xr.Dataset, count: int, high: float, low: float, _: SolverName = "euler"
) -> list[float]:
    """`count` levels from `high` to `low`, with equal increments of rescaled entropic time between them."""
    curves = _read(profile, high, low)
    return _even(lambda u: np.exp(u) * curves.mmse(u), count, high, low)


def kl(profile: xr.Dataset, count: int, high: float, low: float, solver: SolverName) -> list[float]:
    """`count` levels from `high` to `low` with the smallest KL divergence of paths."""
    if count < 3:
        return [high, low][:count]
    step = _step_kl(_read(profile, high, low), solver)
    begin, end = -math.log(high), -math.log(low)
    grid = np.linspace(begin, end, COARSE)
    width = grid[1] - grid[0]
    chosen = _cheapest([grid[:1], *[grid[1:-1]] * (count - 2), grid[-1:]], step)
    for _ in range(ROUNDS):
        offsets = np.arange(-NEAR, NEAR + 1) * (width := width / 5)
        choices = [np.unique(np.clip(u + offsets, begin, end)) for u in chosen]
        chosen = _cheapest([grid[:1], *choices[1:-1], grid[-1:]], step)
    return [high, *np.exp(-chosen[1:-1]).tolist(), low]


def path_kl(profile: xr.Dataset, sigmas: Sequence[float], solver: SolverName) -> float:
    """KL divergence of the path of a stochastic sampler from the exact one, without the last step where it goes to 0.

    Exact for euler-maruyama and for the first-order step of dpmpp-2m-sde, whose own second order makes it smaller.
    """
    u = -np.log([sigma for sigma in sigmas if sigma > 0])
    fine = np.concatenate([np.linspace(a, b, 513)[:-1] for a, b in pairwise(u)] + [u[-1:]])
    curves = _read(profile, float(np.exp(-u[0])), float(np.exp(-u[-1])))
    step = _step_kl(curves, solver)
    # The cost of holding a martingale over a step, less that over steps so fine that it tends to 0.
    total = sum(float(step(a[None], b[None])[0, 0]) for a, b in pairwise(u))
    least = sum(float(step(a[None], b[None])[0, 0]) for a, b in pairwise(fine))
    half = sum(float(step(b[None], a[None])[0, 0]) for a, b in pairwise(fine))
    return total - (least - half) / 2  # the trapezoidal rule for the integral


INFORMED: dict[str, Informed] = {
    "curvature": curvature,
    "information": information,
    "information-rescaled": information_rescaled,
    "kl": kl,
}


def _step_kl(curves: _Curves, solver: SolverName) -> Callable[[Array, Array], Array]:
    """Half the martingale's loss at the start of a step times its length, for all pairs of levels, u = log r."""

    def denoiser(a: Array, b: Array) -> Array:
        return curves.mmse(a)[:, None] * (np.exp(2 * b)[None, :] - np.exp(2 * a)[:, None]) / 2

    def score(a: Array, b: Array) -> Array:
        return -curves.fisher(a)[:, None] * (np.exp(-2 * a)[:, None] - np.exp(-2 * b)[None, :]) / 2

    return score if solver == "euler-maruyama" else denoiser


def _cheapest(choices: Sequence[Array], step: Callable[[Array, Array], Array]) -> Array:
    """One level of each set, ascending in log r, with the smallest sum of steps: dynamic programming."""
    cost = np.zeros(1)
    back: list[NDArray[np.intp]] = []
    for before, after in pairwise(choices):
        total = cost[:, None] + np.where(after[None, :] > before[:, None], step(before, after), np.inf)
        back.append(total.argmin(0))
        cost = total.min(0)
    at = int(cost.argmin())
    path = [choices[-1][at]]
    for came, levels in zip(reversed(back), reversed(choices[:-1]), strict=True):
        at = int(came[at])
        path.append(levels[at])
    return np.array(path[::-1])


def _even(density: Callable[[Array], Array], count: int, high: float, low: float) -> list[float]:
    """`count` levels with equal increments of the integral of a density over log r."""
    if count < 3:
        return [high, low][:count]
    u = np.linspace(-math.log(high), -math.log(low), FINE)
    values = np.maximum(density(u), 0)
    total = np.concatenate([[0], np.cumsum((values[1:] + values[:-1]) / 2)])
    total += 1e-9 * (float(total[-1]) or 1.0) * np.linspace(0, 1, FINE)  # where nothing happens, even steps
    inner = np.interp(np.linspace(0, total[-1], count)[1:-1], total, u)
    return [high, *np.exp(-inner).tolist(), low]


def _read(profile: xr.Dataset, high: float, low: float) -> _Curves:
    """Interpolate a profile between its SNRs, monotonically; mmse is made to fall, as it does but for noise.

    Raises:
        ValueError: it holds no `mmse` or `mean_localization`, or they are not finite, or its SNRs leave out more than a
            fifth of the range at an end, in log sigma.
    """
    from sklearn.isotonic import isotonic_regression

    for name in ("snr", "mmse", "mean_localization"):
        if name not in profile.variables:
            raise ValueError(f"the profile holds no {name!r}: give what `brenier.probe` returned")
    u = np.log(profile["snr"].values)
    mmse, localization = profile["mmse"].values, profile["mean_localization"].values
    if len(u) < 2 or not (np.isfinite(mmse).all() and np.isfinite(localization).all()):
        raise ValueError("the profile must have finite values at two SNRs or more: probe again")
    begin, end = -math.log(high), -math.log(low)
    slack = 0.2 * (end - begin)
    if u[0] > begin + slack or u[-1] < end - slack:
        raise ValueError(
            f"the profile covers sigma from {math.exp(-u[-1]):.4g} to {math.exp(-u[0]):.4g}, the schedule {low:.4g} to "
            f"{high:.4g}: probe SNRs from {1 / high:.4g} to {1 / low:.4g}"
        )
    dim = int(profile.attrs["dim"])
    falling = isotonic_regression(np.maximum(mmse, 0), increasing=False)
    # 0 <= r^2 mmse <= d; for a Gaussian the log-odds of that share are a straight line.
    share = np.clip(np.exp(2 * u) * falling / dim, SURE, 1 - SURE)
    odds, mean = PchipInterpolator(u, np.log(share / (1 - share))), PchipInterpolator(u, localization)

    def within(at: Array) -> Array:
        return np.clip(at, u[0], u[-1])

    return _Curves(
        localization=lambda at: np.asarray(mean(within(at))),
        mmse=lambda at: dim * np.exp(-2 * at) * expit(np.asarray(odds(within(at)))),
        fisher=lambda at: dim * np.exp(2 * at) * expit(-np.asarray(odds(within(at)))),
    )
