"""Explicit laws on the line through their quantile functions, and integrals over them.

The coordinate is z = Phi^-1(u): a quantile function Q becomes x(z) = Q(Phi(z)), which is linear for a normal law, keeps
both tails, and turns integrals over u into integrals against the normal density phi. On the line

    W2^2(mu, nu) = int_0^1 (Q_mu - Q_nu)^2 du = int (x_mu - x_nu)^2 phi dz,

and every monotone map T carries quantile functions along: that of T#mu is T(x_mu). Integrals are Gauss-Legendre sums on
panels in z. A quantile function jumps where its law has a gap and rises steeply where there is little mass, so panels
are cut until every curve that the caller asks for is resolved.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.special import ndtri_exp

from brenier.core.checks import Array
from brenier.laws.base import Distribution, Target

REACH = 9.0  # beyond |z| = 9 lies a mass of 2e-19
_ORDER = 16
_NODES, _GAUSS = legendre.leggauss(_ORDER)
_ANALYSIS = (np.arange(_ORDER)[:, None] + 0.5) * _GAUSS * legendre.legvander(_NODES, _ORDER - 1).T
_FINE = legendre.legvander(-np.cos(np.linspace(0, np.pi, 769)), _ORDER - 1)  # values on a panel, from coefficients
_GRADING = np.array([1 / 4, 1 / 16, 1 / 64])
_LOG_PEAK = -math.log(2 * math.pi) / 2
_FINEST = 1e-13  # shortest panel: about the spacing of numbers at |z| = 9
_RESOLVING = 1e6  # SNR, relative to the law's smallest length, at which its breakpoints are those of the law itself


class Mesh(NamedTuple):
    """Nodes z, sorted, and their weights: sum(weights * f(z)) is the integral of f phi."""

    z: Array  # (m,)
    weights: Array  # (m,)


class _Bracket(NamedTuple):
    """Points on both sides of each quantile, and their normal scores."""

    low: Array
    high: Array
    z_low: Array
    z_high: Array


def is_explicit(law: Target) -> bool:
    """Whether a law lies on the line and has its distribution in closed form."""
    return law.dim == 1 and law.breakpoints(1.0) is not None


def check_moment(law: Target) -> None:
    """A ValueError where a law has no second moment, so that its W2 to most laws is infinite."""
    if not law.square_integrable:
        raise ValueError(f"{law.name} has no second moment: W2 to it is infinite, or of no meaning; truncate the law")


def normal_score(distribution: Distribution) -> Array:
    """z = Phi^-1(F(x)), from whichever tail is the smaller one."""
    lower, upper = distribution.log_cdf.cpu().numpy(), distribution.log_sf.cpu().numpy()
    return np.where(lower < upper, ndtri_exp(lower), -ndtri_exp(upper))


class Quantiles:
    """Quantile functions of alpha_k X + sigma_k Z for an explicit law of X on the line.

    Args:
        law: a one-dimensional law with `distribution` and `breakpoints`.
        alpha: factors > 0, shape (k,).
        sigma: noise levels >= 0, shape (k,), in the unit of the data.
    """

    def __init__(self, law: Target, alpha: Array, sigma: Array) -> None:
        self.law = law.to(device="cpu", dtype=torch.float64)
        self.alpha, self.sigma = alpha, sigma
        finest = min(_RESOLVING / self.law.scales()[0], 1e150)  # squares of it are numbers
        self._tables = [self._table(a, s, finest) for a, s in zip(alpha, sigma, strict=True)]

    def distribution(self, x: Array, k: NDArray[np.intp]) -> Distribution:
        """Distribution of the k-th law at x, element by element."""
        points, alpha, sigma = (torch.from_numpy(np.asarray(v)) for v in (x, self.alpha[k], self.sigma[k]))
        return self.law.distribution(points, alpha, sigma)

    def rows(self, x: Array) -> Distribution:
        """Distribution of every law, row by row of x (k, m)."""
        return self.distribution(x, np.broadcast_to(np.arange(len(x))[:, None], x.shape))

    def jumps(self) -> Array:
        """The z at which the quantile function of a law without noise jumps: gaps between its parts, sorted."""
        gaps = [scores[1:][(scores[1:] == scores[:-1]) & (np.diff(x) > 1e-6 * np.ptp(x))] for x, scores in self._tables]
        z = np.concatenate(gaps)
        return np.unique(np.round(z[abs(z) < REACH], 14))

    def __call__(self, z: Array) -> Array:
        """x with F_k(x) = Phi(z), for |z| <= REACH of shape (m,); the result has shape (k, m)."""
        low, high, z_low, z_high = (np.empty((len(self._tables), len(z))) for _ in range(4))
        for row, (x, scores) in enumerate(self._tables):
            i = np.clip(np.searchsorted(scores, z), 1, len(x) - 1)
            low[row], high[row], z_low[row], z_high[row] = x[i - 1], x[i], scores[i - 1], scores[i]
        span = np.array([x[-1] - x[0] for x, _ in self._tables])
        shape = low.shape
        k = np.broadcast_to(np.arange(shape[0])[:, None], shape).ravel()
        z = np.broadcast_to(z, shape).ravel()
        bracket = _Bracket(low.ravel(), high.ravel(), z_low.ravel(), z_high.ravel())
        return self._solve(z, k, bracket, 1e-15 * span[k]).reshape(shape)

    def _table(self, alpha: float, sigma: float, finest: float) -> tuple[Array, Array]:
        """Points that bracket every quantile, and their normal scores."""
        if not is_explicit(self.law):
            raise ValueError(f"{self.law.name} has no explicit distribution on the line: use samples")
        snr = min(alpha / sigma, finest) if sigma > 0 else finest
        points = self.law.breakpoints(snr)
        assert points is not None
        x = points.double().numpy() / snr * alpha
        x = np.unique(np.concatenate([x, (x[1:] + x[:-1]) / 2]))
        column = torch.from_numpy(x)
        at = self.law.distribution(column, torch.full_like(column, alpha), torch.full_like(column, sigma))
        return x, np.maximum.accumulate(normal_score(at))

    def _solve(self, z: Array, k: NDArray[np.intp], bracket: _Bracket, tolerance: Array) -> Array:
        """Newton's method on x -> Phi^-1(F(x)), kept inside its bracket; bisection where the law has no density."""
        low, high = bracket.low, bracket.high
        with np.errstate(invalid="ignore", divide="ignore"):
            x = low + (high - low) * (z - bracket.z_low) / (bracket.z_high - bracket.z_low)
        x = np.where((x > low) & (x < high), x, (low + high) / 2)
        found = x.copy()
        active = np.arange(len(x), dtype=np.intp)
        for turn in range(200):
            at = self.distribution(x, k)
            score = normal_score(at)
            below = score < z
            low, high = np.where(below, x, low), np.where(below, high, x)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                slope = np.exp(at.log_density.numpy() + score**2 / 2 - _LOG_PEAK)
                step = x - (score - z) / slope
            inside = (step >= low) & (step <= high) & (turn % 4 != 3)
            moved = np.where(inside, step, (low + high) / 2)
            rounding = tolerance + 4 * np.finfo(float).eps * abs(x)
            close = (abs(moved - x) <= rounding) | (high - low <= rounding)
            # Where a bracket closes on a jump of F, the quantile is its upper end.
            found[active] = np.where(close & ~inside, high, moved)
            going = ~close
            active, k = active[going], k[going]
            x, z, low, high, tolerance = moved[going], z[going], low[going], high[going], tolerance[going]
            if len(active) == 0:
                return found
        raise RuntimeError(f"quantiles of {self.law.name} were not found in 200 steps")


def quantile_w2(mu: Target, nu: Target) -> float:
    """W2 between two explicit laws on the line, in the unit of the data, to about 1e-8 of their spread.

    Raises:
        ValueError: one of the laws has no explicit distribution on the line, or no second moment.
    """
    for law in (mu, nu):
        check_moment(law)
    curves = [Quantiles(law, np.ones(1), np.zeros(1)) for law in (mu, nu)]
    edges = np.unique(np.concatenate([np.linspace(-REACH, REACH, 25), *(curve.jumps() for curve in curves)]))
    mesh, (a, b) = resolve(
        lambda z: (curves[0](z), curves[1](z)),
        edges,
        lambda values: np.full(2, 1e-9 * max(np.ptp(values), np.finfo(float).tiny)),
    )
    return math.sqrt(float((a[0] - b[0]) ** 2 @ mesh.weights))


def resolve(
    curves: Callable[[Array], tuple[Array, ...]], edges: Array, tolerances: Callable[[tuple[Array, ...]], Array]
) -> tuple[Mesh, tuple[Array, ...]]:
    """Sample curves of z on a mesh that resolves them.

    Args:
        curves: maps nodes (m,) to arrays (..., m), each of which may have any leading shape.
        edges: sorted z where panels begin and end at first; they run from -REACH to REACH.
        tolerances: maps the curves on the first mesh to the allowed error of each curve, an L2 norm against phi on a
            panel; one number per leading index of all arrays, concatenated. inf: the curve need not be resolved.

    Returns:
        The mesh, and the curves on it.
    """
    left, right = edges[:-1], edges[1:]
    done: list[tuple[Array, tuple[Array, ...]]] = []
    allowed: Array | None = None
    wanted, largest = np.empty(0, dtype=np.intp), np.zeros(1)
    while len(left):
        half, middle = (right - left) / 2, (right + left) / 2
        z = middle[:, None] + half[:, None] * _NODES
        values = curves(z.ravel())
        weights = half[:, None] * _GAUSS * np.exp(_LOG_PEAK - z**2 / 2)
        if allowed is None:
            allowed = tolerances(values)
            wanted = np.flatnonzero(np.isfinite(allowed))
        stacked = np.concatenate([part.reshape(-1, z.size) for part in values])[wanted].reshape(-1, *z.shape)
        rounding = 64 * np.finfo(float).eps * abs(stacked).max((1, 2), initial=0)
        largest = np.maximum(largest, rounding)
        tail = abs(stacked @ _ANALYSIS[-3:].T).max(-1) * np.sqrt(weights.sum(1))
        excess = tail / np.maximum(allowed[wanted], largest)[:, None]
        good = (excess.max(0) <= 1) | (half <= _FINEST)
        done.append(
            (z[good], tuple(part.reshape(-1, *z.shape)[:, good].reshape(*part.shape[:-1], -1) for part in values))
        )
        worst = np.take_along_axis(stacked, excess.argmax(0)[None, :, None], 0)[0]
        left, right = _cut(left[~good], right[~good], z[~good], worst[~good])
    z = np.concatenate([nodes.ravel() for nodes, _ in done])
    order = np.argsort(z, kind="stable")
    parts = zip(*(values for _, values in done), strict=True)
    return _mesh(done, order), tuple(np.concatenate(part, -1)[..., order] for part in parts)


def variation(values: Array) -> Array:
    """Total variation, from -inf to inf, of curves (..., m) on a mesh from `resolve`, which has resolved them."""
    coefficients = values.reshape(-1, values.shape[-1] // _ORDER, _ORDER) @ _ANALYSIS.T
    total = [abs(np.diff((row @ _FINE.T).ravel())).sum() for row in coefficients]  # row by row: many points each
    return np.array(total).reshape(values.shape[:-1])


def _mesh(done: list[tuple[Array, tuple[Array, ...]]], order: NDArray[np.intp]) -> Mesh:
    nodes = np.concatenate([part for part, _ in done])
    half = (nodes[:, -1] - nodes[:, 0]) / (_NODES[-1] - _NODES[0])
    weights = half[:, None] * _GAUSS * np.exp(_LOG_PEAK - nodes**2 / 2)
    return Mesh(nodes.ravel()[order], weights.ravel()[order])


def _cut(left: Array, right: Array, z: Array, values: Array) -> tuple[Array, Array]:
    """Halve panels; where a curve rises at one place, cut around that place in pieces that grow away from it.

    A place before the first or after the last node is at the panel's end: there the curves of a chain rise over widths
    that shrink from step to step, and all of them need panels.
    """
    rise = abs(np.diff(values, axis=1))
    place = rise.argmax(1)
    last = rise.shape[1] - 1
    sudden = np.take_along_axis(rise, place[:, None], 1)[:, 0] > rise.sum(1) / 2
    rows = np.arange(len(left))
    centre = (z[rows, place] + z[rows, place + 1]) / 2
    centre = np.where(place == 0, left, np.where(place == last, right, centre))
    around = (right - left)[:, None] * np.concatenate([-_GRADING, _GRADING])
    middle = ((left + right) / 2)[:, None]
    inner = np.where((sudden | (place == 0) | (place == last))[:, None], centre[:, None] + around, middle)
    edges = np.sort(np.concatenate([left[:, None], inner, right[:, None]], 1).clip(left[:, None], right[:, None]), 1)
    lefts, rights = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    real = rights - lefts > 0
    return lefts[real], rights[real]
