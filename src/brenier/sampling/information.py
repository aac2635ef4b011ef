"""Schedules from the profile: equal increments of something that the chain goes through, or the smallest KL divergence.

With r = 1/sigma, v = sigma^2, L_r the localization, mmse(r) = E tr Cov[X | Y_r] and d the dimension:

    curvature              equal increments of int E L_r dlog r. In units of the noise, a backward map multiplies a
                           small distance by at most exp(int L_r dlog r) ([LDK24] = arXiv:2411.01629, Definition 4)
    information            equal increments of the mutual information of X and Y_r, dI/dlog r = r^2 mmse(r)
                           (Guo, Shamai, Verdu, IEEE Trans. Inf. Theory 51, 2005): entropic time (arXiv:2504.13612)
    information-rescaled   equal increments of int sigma dI = int mmse dr: rescaled entropic time (the same)
    kl                     the smallest KL divergence of what the sampler puts out, as far as mmse foretells it

For the last, let v = sigma^2, q = v'/v of a step to v', l = mmse/(d v), J = (1 - l)/v the Fisher information of
X + sigma Z in a direction, K^2 = -dJ/dv = E||grad score||^2/d. Three kinds of samplers:

*euler-maruyama.* From the exact law at v a step has the exact conditional mean and (1 - q)^2 v (1 - L) too much
variance, which changes the density by half its second derivative: a relative error g of size (1 - q)^2 v^2 K(v)
K(v')/sqrt 2. Later steps leave E[g | x] of it, x at the last level, which is smaller by exp(-int J dv): its norm falls
at the rate E|grad g|^2/(2 E g^2), J for a Gaussian. Steps add up, and half the square of the sum is the divergence:

    KL ~ (d/4) (sum_k (1 - q_k)^2 v_k^2 K(v_k) K(v_k+1) exp(-int_{v_last}^{v_k+1} J dv))^2.

For a Gaussian the sum is exact, whatever the steps. The divergence of paths (below) counts what later noise hides, too.

*dpmpp-2m-sde.* Its first step lacks (1 - q)^2 v l of variance; in later ones the extrapolation makes up for that to
leading order. What is left is of third order in log v: the least of `FIRST` (1 - q)^2 v l(v) J(v') for the first step,
and |log q|^3 sqrt(l) for the others, with l at v or, where it is larger, a step of the same length before: what is
extrapolated is the change of D over the step before. The form of the last and `FIRST` were found by trial on laws on
the line.

*Others.* The divergence of paths between the exact reverse process and a sampler that holds D fixed over a step.
With t = 1/v the denoiser is a martingale in t, E|D_t - D_s|^2 = mmse(s) - mmse(t), and Girsanov's formula gives

    KL(paths) = (1/2) sum_k int_{t_k}^{t_k+1} (mmse(t_k) - mmse(t)) dt.

`path_kl` is that. Euler-Maruyama holds the score instead, a martingale with E|score|^2 = d/v - mmse/v^2 =: F(v) = d J:

    KL(paths) = (1/2) sum_k int_{v_k+1}^{v_k} (F(v) - F(v_k)) dv.

Both are the exact divergence of the law of all x_k, and bound that of the last. All sums are at their least over all
grids, by dynamic programming.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import PchipInterpolator
from scipy.special import expit

from brenier.core.checks import Array
from brenier.sampling.steps import SolverName

Cost: TypeAlias = Callable[[Array, Array], Array]
Informed: TypeAlias = Callable[[xr.Dataset, int, float, float, SolverName], list[float]]

SNRS = 48  # of a profile made for a schedule
FINE = 2001  # levels on which increments are added up
COARSE = 301  # levels among which dynamic programming chooses at first
FIRST = 20.0  # weight of the first step of dpmpp-2m-sde, of first order, beside those that follow
WINDOW = 0.2  # of log sigma, on either side, over which the Fisher information's slope is taken
SURE = 1e-12  # beyond which a share of 0 or 1 is not resolved
NEAR, ROUNDS = 10, 8  # neighbours on each side, at a fifth of the distance, in each round that follows


class _Curves(NamedTuple):
    """A profile, interpolated: functions of log r."""

    localization: Callable[[Array], Array]
    mmse: Callable[[Array], Array]
    fisher: Callable[[Array], Array]  # F
    dim: int


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
    """`count` levels from `high` to `low` with the smallest KL divergence, of what it is for the sampler: see above."""
    if count < 3:
        return [high, low][:count]
    first, step = _costs(_read(profile, high, low), high, low, solver)
    begin, end = -math.log(high), -math.log(low)
    grid = np.linspace(begin, end, COARSE)
    width = grid[1] - grid[0]
    chosen = _cheapest([grid[:1], *[grid[1:-1]] * (count - 2), grid[-1:]], first, step)
    for _ in range(ROUNDS):
        offsets = np.arange(-NEAR, NEAR + 1) * (width := width / 5)
        choices = [np.unique(np.clip(u + offsets, begin, end)) for u in chosen]
        chosen = _cheapest([grid[:1], *choices[1:-1], grid[-1:]], first, step)
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


def _costs(curves: _Curves, high: float, low: float, solver: SolverName) -> tuple[Cost, Cost]:
    """What the first step and the others cost, for all pairs of levels, u = log r, by the sampler."""
    if solver not in ("euler-maruyama", "dpmpp-2m-sde"):
        step = _step_kl(curves, solver)
        return step, step
    u = np.linspace(-math.log(high), -math.log(low), FINE)
    share = np.exp(2 * u) * curves.mmse(u) / curves.dim
    fisher = curves.fisher(u) / curves.dim
    hidden = 2 * cumulative_trapezoid(np.exp(-2 * u) * fisher, u, initial=0)  # int J dv, from the first level on
    kept = np.exp(hidden - hidden[-1])
    # K^2/J^2 = dlog J/int J dv, over a window wide enough for noise; at least 1, since E||A||^2 >= (E tr A)^2/d.
    wide = np.clip([u - WINDOW, u + WINDOW], u[0], u[-1])
    rise, passed = (np.diff(np.interp(wide, u, of), axis=0)[0] for of in (np.log(fisher), hidden))
    slope = fisher * np.sqrt(np.maximum(rise / passed, 1))

    def lost(a: Array, b: Array) -> Array:
        return (1 - np.exp(-2 * np.maximum(b[None, :] - a[:, None], 0))) ** 2

    def second(a: Array, b: Array) -> Array:
        after = np.interp(b, u, slope * kept)
        return lost(a, b) * (np.exp(-4 * a) * np.interp(a, u, slope))[:, None] * after[None, :]

    def first(a: Array, b: Array) -> Array:
        before = FIRST * np.exp(-2 * a) * np.interp(a, u, share)
        return lost(a, b) * before[:, None] * np.interp(b, u, fisher)[None, :]

    def third(a: Array, b: Array) -> Array:
        length = np.maximum(b[None, :] - a[:, None], 0)
        before = np.interp(a[:, None] - length, u, share)
        return (2 * length) ** 3 * np.sqrt(np.maximum(np.interp(a, u, share)[:, None], before))

    return (second, second) if solver == "euler-maruyama" else (first, third)


def _step_kl(curves: _Curves, solver: SolverName) -> Cost:
    """Half the martingale's loss at the start of a step times its length, for all pairs of levels, u = log r."""

    def denoiser(a: Array, b: Array) -> Array:
        return curves.mmse(a)[:, None] * (np.exp(2 * b)[None, :] - np.exp(2 * a)[:, None]) / 2

    def score(a: Array, b: Array) -> Array:
        return -curves.fisher(a)[:, None] * (np.exp(-2 * a)[:, None] - np.exp(-2 * b)[None, :]) / 2

    return score if solver == "euler-maruyama" else denoiser


def _cheapest(choices: Sequence[Array], first: Cost, step: Cost) -> Array:
    """One level of each set, ascending in log r, with the smallest sum of steps: dynamic programming."""
    cost = np.zeros(1)
    back: list[NDArray[np.intp]] = []
    for k, (before, after) in enumerate(pairwise(choices)):
        price = (step if k else first)(before, after)
        total = cost[:, None] + np.where(after[None, :] > before[:, None], price, np.inf)
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
    # mmse falls with r, and so that 0 <= r^2 mmse <= d, F = r^2 (d - r^2 mmse) rises; F is known to r^4 times an error
    # of mmse. For a Gaussian the log-odds of r^2 mmse/d are a straight line.
    square = np.exp(2 * u)
    falling = isotonic_regression(np.maximum(mmse, 0), increasing=False)
    rising = isotonic_regression(square * (dim - square * falling), sample_weight=square**-2, y_min=0)
    shares = np.clip([square * falling / dim, 1 - rising / (dim * square)], SURE, 1 - SURE)
    odds, rest = (PchipInterpolator(u, np.log(share / (1 - share))) for share in shares)
    mean = PchipInterpolator(u, localization)

    def within(at: Array) -> Array:
        return np.clip(at, u[0], u[-1])

    return _Curves(
        localization=lambda at: np.asarray(mean(within(at))),
        mmse=lambda at: dim * np.exp(-2 * at) * expit(np.asarray(odds(within(at)))),
        fisher=lambda at: dim * np.exp(2 * at) * expit(-np.asarray(rest(within(at)))),
        dim=dim,
    )
