"""Mixtures of multivariate t laws that follow a density: what importance weights are drawn from.

q = sum_k p_k t_nu(mu_k, S_k), one nu for all, and nu = inf for normal laws. Given Y_r = y, q has a posterior that can
be drawn from and has moments in closed form, as t laws are mixtures of normal laws over their scale
(`laws.elliptical`): whatever r is, it misses the posterior of p as q misses p there.

Fitted by expectation-maximisation on its own weighted draws (Cappe, Douc, Guillin, Marin, Robert, Stat. Comput. 18,
2008), with a component more where weights are largest, until the effective sample size grows no further.
"""

import math
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.space.asked import LogDensity, Mode

_TRIED = (3.0, 1.0, 1.7, 5.0, 9.0, 20.0, math.inf)  # degrees of freedom; fits begin with the first
_DRAWS = 6000  # of a round
_ROUNDS = 40
_PATIENCE, _GAIN = 6, 0.01  # rounds without such a gain in that share, after which a fit ends
_MOST = 24  # components
_ALONE, _MISSED = 0.9, 3.0  # share at which one component will do, and nats by which it may miss the other modes
_ENOUGH = 0.97  # of the draws effective: no more components
_NODES = 48  # of the sum over the scale


class Fit(NamedTuple):
    """A mixture as an adaptive fit left it.

    Attributes:
        mixture: the mixture.
        share: effective sample size of its draws, of their number.
        log_total: log of the integral of the density.
    """

    mixture: "TMixture"
    share: float
    log_total: float


class Given(NamedTuple):
    """The mixture given Y_r = y: components by scales, in one axis of c = k v.

    Attributes:
        log_weights: shape (n, c).
        mean: of rX - y, in data axes, shape (n, c, d).
        variances: of rX in the axes of the component, shape (c, d).
        log_density: log of the density of Y_r, shape (n,).
    """

    log_weights: Float[Tensor, "n c"]
    mean: Float[Tensor, "n c d"]
    variances: Float[Tensor, "c d"]
    log_density: Float[Tensor, " n"]


class TMixture:
    """sum_k p_k t_nu(mu_k, S_k).

    Args:
        weights: p_k, shape (k,).
        means: mu_k, shape (k, d).
        shapes: S_k, positive definite, shape (k, d, d).
        df: nu.
    """

    def __init__(self, weights: Array, means: Array, shapes: Array, df: float) -> None:
        self.weights, self.means, self.df = weights / weights.sum(), means, df
        spread, axes = np.linalg.eigh(shapes)
        self.spread = np.maximum(spread, 1e-12 * spread[:, -1:])
        self.axes = axes  # columns
        self.scales, self._scale_mass = _scales(df)

    @property
    def shapes(self) -> Array:
        """S_k."""
        return (self.axes * self.spread[:, None]) @ self.axes.transpose(0, 2, 1)

    @classmethod
    def around(cls, modes: list[Mode], log_density: LogDensity) -> Self:
        """Components at the modes, as wide as the density is curved there."""
        shapes = np.stack([_curved(log_density, mode) for mode in modes])
        logs = np.array([mode.height for mode in modes]) + np.linalg.slogdet(shapes)[1] / 2
        weights = np.exp(logs - logs.max()) + 0.01
        return cls(weights, np.stack([mode.place for mode in modes]), shapes, _TRIED[0])

    def sample(self, n: int, random: np.random.Generator) -> Array:
        """n independent draws."""
        k = random.choice(len(self.weights), n, p=self.weights)
        z = random.normal(size=(n, self.means.shape[1])) * np.sqrt(self.spread[k])
        if math.isfinite(self.df):
            z *= np.sqrt(self.df / random.chisquare(self.df, n))[:, None]
        return self.means[k] + np.einsum("nde,ne->nd", self.axes[k], z)

    def logs(self, x: Array) -> Array:
        """log p_k t_nu(x; mu_k, S_k), shape (n, k)."""
        dim, found = x.shape[1], np.empty((len(x), len(self.weights)))
        for k, weight in enumerate(self.weights):
            square = (((x - self.means[k]) @ self.axes[k]) ** 2 / self.spread[k]).sum(1)
            found[:, k] = math.log(max(weight, 1e-300)) - np.log(self.spread[k]).sum() / 2
            if math.isfinite(self.df):
                peak = (
                    math.lgamma((self.df + dim) / 2) - math.lgamma(self.df / 2) - dim / 2 * math.log(self.df * math.pi)
                )
                found[:, k] += peak - (self.df + dim) / 2 * np.log1p(square / self.df)
            else:
                found[:, k] -= square / 2 + dim / 2 * math.log(2 * math.pi)
        return found

    def given(self, y: Float[Tensor, "n d"], r: float) -> Given:
        """The posterior given Y_r = y."""
        means, spread, axes = (torch.from_numpy(part) for part in (self.means, self.spread, self.axes))
        scales, mass = torch.from_numpy(self.scales), torch.from_numpy(self._scale_mass)
        a = r**2 * scales[None, :, None] * spread[:, None]  # (k, v, d)
        c = (a / (1 + a)).flatten(0, 1)
        away = torch.einsum("nkd,kde->nke", y[:, None] - r * means, axes)
        square = torch.einsum("nke,kve->nkv", away.square(), 1 / (1 + a))
        prior = torch.from_numpy(self.weights).log()[:, None] + mass.log() - torch.log1p(a).sum(2) / 2
        logs = (prior - square / 2).flatten(1)
        left = torch.einsum("nke,kve->nkve", away, -1 / (1 + a))  # E[rX] - y = -(1 - c)(y - r mu)
        mean = torch.einsum("nkve,kde->nkvd", left, axes).flatten(1, 2)
        total = logs.logsumexp(1)
        return Given(logs - total[:, None], mean, c, total - y.shape[1] / 2 * math.log(2 * math.pi))


def fitted(log_density: LogDensity, modes: list[Mode], random: np.random.Generator) -> Fit:
    """The mixture that follows a density best, of those tried."""
    highest = max(modes, key=lambda mode: mode.height)
    best = _adapted(log_density, TMixture.around([highest], log_density), random, most=1)
    places = np.stack([mode.place for mode in modes])
    missed = log_density(places) - _log_sums(best.mixture.logs(places)) - best.log_total
    if best.share < _ALONE or missed.max() > _MISSED:
        best = _adapted(log_density, TMixture.around(modes, log_density), random)
    for df in _TRIED[1:]:
        mixture = best.mixture
        start = TMixture(mixture.weights, mixture.means, mixture.shapes, df)
        found = _adapted(log_density, start, random, most=len(start.weights))
        if found.share > best.share + _GAIN:  # else tails as heavy as may be: weights stay bounded
            best = found
    return best


def _adapted(log_density: LogDensity, mixture: TMixture, random: np.random.Generator, most: int = _MOST) -> Fit:
    best = Fit(mixture, 0.0, 0.0)
    since = 0
    for _ in range(_ROUNDS):
        x = mixture.sample(_DRAWS, random)
        logs = mixture.logs(x)
        own = _log_sums(logs)
        log_weight = log_density(x) - own
        if not np.isfinite(log_weight).any():
            break
        top = log_weight.max()
        weight = np.exp(log_weight - top)
        share = float(weight.sum() ** 2 / (weight**2).sum()) / _DRAWS
        since = 0 if share > best.share + _GAIN else since + 1
        if share > best.share:
            best = Fit(mixture, share, float(top + math.log(weight.mean())))
        if since > _PATIENCE:
            break
        more = share < _ENOUGH and len(mixture.weights) < most and since != 0
        mixture = _updated(mixture, x, logs - own[:, None], weight, random if more else None)
    return best


def _updated(
    mixture: TMixture, x: Array, log_share: Array, weight: Array, random: np.random.Generator | None
) -> TMixture:
    """A step of expectation-maximisation on weighted draws; with `random`, and a component where weights are large."""
    dim = x.shape[1]
    weight = np.minimum(weight, math.sqrt(len(weight)) * weight.mean())
    weight = weight / weight.sum()
    shares = np.exp(log_share) * weight[:, None]
    mass = shares.sum(0)
    kept = (
        np.flatnonzero(mass > 2 * (dim + 1) / len(x)) if (mass > 2 * (dim + 1) / len(x)).any() else [int(mass.argmax())]
    )
    means, shapes = mixture.means[kept].copy(), mixture.shapes[kept].copy()
    for j, k in enumerate(kept):
        away = (x - mixture.means[k]) @ mixture.axes[k]
        square = (away**2 / mixture.spread[k]).sum(1)
        pull = (mixture.df + dim) / (mixture.df + square) if math.isfinite(mixture.df) else np.ones(len(x))
        part = shares[:, k] * pull
        means[j] = part @ x / part.sum()
        off = x - means[j]
        shapes[j] = (part[:, None] * off).T @ off / mass[k]
        few = dim / max(1.0, float(shares[:, k].sum() ** 2 / (shares[:, k] ** 2).sum()))
        shapes[j] = (1 - min(few, 0.9)) * shapes[j] + min(few, 0.9) * mixture.shapes[k]
    mass = mass[kept]
    if random is not None:
        # A draw that the mixture misses most, with the spread of what lies nearest to it.
        missed = weight * (weight > np.quantile(weight, 0.9))
        place = x[random.choice(len(x), p=missed / missed.sum())]
        near = np.argsort((((x - place) @ np.linalg.inv(np.linalg.cholesky(_total(shapes, mass))).T) ** 2).sum(1))
        near = near[: max(20 * dim, len(x) // 50)]
        off, part = x[near] - place, weight[near] / weight[near].sum()
        shape = (part[:, None] * off).T @ off + 1e-3 * _total(shapes, mass)
        means, shapes = np.concatenate([means, place[None]]), np.concatenate([shapes, shape[None]])
        mass = np.append(mass, max(float(weight[near].sum()), 0.02))
    return TMixture(mass, means, shapes, mixture.df)


def _total(shapes: Array, mass: Array) -> Array:
    return np.einsum("k,kij->ij", mass / mass.sum(), shapes)


def _curved(log_density: LogDensity, mode: Mode) -> Array:
    """The inverse of minus the Hessian of the log density at a mode; the squares of widths where that is none."""
    dim, step = len(mode.place), 0.5 * mode.widths
    eye = np.eye(dim) * step
    i, j = np.triu_indices(dim)
    corners = [log_density(mode.place + a * eye[i] + b * eye[j]) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    second = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * step[i] * step[j])
    hessian = np.zeros((dim, dim))
    hessian[i, j] = hessian[j, i] = second
    if np.isfinite(second).all():
        values, axes = np.linalg.eigh(-hessian)
        if values[0] > 0:
            return (axes / values) @ axes.T
    return np.diag(mode.widths**2 / 2)


def _scales(df: float) -> tuple[Array, Array]:
    """Values of V = nu/chi^2_nu and their mass: trapezoidal in log V; one of 1 for a normal law."""
    if not math.isfinite(df):
        return np.ones(1), np.ones(1)
    t = np.linspace(-4.5, 4.5 + 40 / df, _NODES)
    logs = -df / 2 * (t + np.exp(-t))
    mass = np.exp(logs - logs.max())
    return np.exp(t), mass / mass.sum()


def _log_sums(logs: Array) -> Array:
    top = logs.max(1)
    return top + np.log(np.exp(logs - top[:, None]).sum(1))
