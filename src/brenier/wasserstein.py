"""Wasserstein-2 distances between laws seen through samples, each with an error bar.

    W2^2(mu, nu) = min over couplings of E|X - Y|^2

Between two samples of n points the minimum C(X, Y) is a finite problem: sorting on the line, a linear programme beyond.
As an estimate for the laws behind them it lies too high, by a floor of order n^(-2/d) that hardly falls with n in high
dimension: about 0.7 of the total variance of each law for 128 points in d = 64. `debiased_w2` measures that floor on
pairs of laws whose distance is known and subtracts it; `w2` picks it unless told otherwise. The others stand beside it:

    `sorted_w2`, `exact_w2`     C(X, Y) of the samples as they are, with weights
    `sinkhorn_divergence`       entropic transport, its own bias removed
    `sliced_w2`                 a smaller distance, from one-dimensional projections
    `gelbrich`                  a lower bound, from means and covariances

Points are rows of float tensors x (n, d) and y (m, d), on any device; the work is done in float64 on the CPU. Rows are
independent draws; where n = m, row i of y may depend on row i of x. Results are in the unit of the data.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.couplings import Array, by_any, by_entropy, by_simplex, by_sorting
from brenier.debiasing import debiased

Points: TypeAlias = Float[Tensor, "..."]  # (n, d), checked with a message of its own
Weights: TypeAlias = Float[Tensor, "..."]  # (n,), likewise
Method: TypeAlias = Literal["auto", "debiased", "sorted", "exact", "sinkhorn", "sliced", "gelbrich"]

_LARGEST = 2**25  # entries of a cost matrix: a quarter of a GiB
_ENOUGH = 2**14  # points of each law beyond which the error bar is no longer what limits `debiased_w2`


@dataclass(frozen=True)
class Distance:
    """A distance and how far to trust it.

    Attributes:
        value: W2, in the unit of the data.
        error: standard error of `value`. Where `squared` is not far above 0, half of the larger distance from `value` to
            the ends of its two-sigma interval, so that value +- 2 error covers what squared +- 2 squared_error covers.
        squared: the estimate of W2^2 behind it, in squared units; a debiased one may be negative.
        squared_error: standard error of `squared`.
        method: what was done, in words.
        n: points per law (of the smaller sample).
    """

    value: float
    error: float
    squared: float
    squared_error: float
    method: str
    n: int

    @classmethod
    def from_squared(cls, squared: float, error: float, method: str, n: int, scale: float = 1.0) -> Self:
        """The distance sqrt(squared) * scale, given the standard error of `squared`."""
        value, low, high = (math.sqrt(max(squared + shift, 0)) for shift in (0, -2 * error, 2 * error))
        # From value - low + high - value over 4 far from zero; near zero the two sides differ and the larger one counts.
        spread = max(high - value, value - low) / 2
        return cls(value * scale, spread * scale, squared * scale**2, error * scale**2, method, n)


class _Pair(NamedTuple):
    """Two weighted samples, moved and scaled together into the unit box."""

    x: Array
    a: Array
    y: Array
    b: Array
    scale: float
    paired: bool  # row i of x and row i of y may depend on each other

    @property
    def n(self) -> int:
        return min(len(self.x), len(self.y))

    def distance(self, squared: float, f: Array, g: Array, method: str) -> Distance:
        """A statistic linear in the two laws to first order, with influences f of the points of x and g of y."""
        f, g = self.a * (f - self.a @ f), self.b * (g - self.b @ g)
        parts = [f + g] if self.paired else [f, g]
        variance = sum(float(part @ part) * len(part) / max(len(part) - 1, 1) for part in parts)
        return Distance.from_squared(squared, math.sqrt(variance), method, self.n, self.scale)


def _points(x: Tensor, name: str) -> Array:
    if x.ndim != 2 or len(x) == 0 or x.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: points are the rows of an array (n, d), with n, d >= 1")
    if not x.is_floating_point():
        raise TypeError(f"{name} holds {x.dtype}: points are floating-point numbers")
    points = x.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(points).all():
        raise ValueError(f"{name} holds values that are not finite, first in row {np.argwhere(~np.isfinite(points))[0, 0]}")
    return points


def _mass(weights: Tensor | None, n: int, name: str) -> Array:
    if weights is None:
        return np.ones(n)
    mass = weights.detach().to("cpu", torch.float64).numpy()
    if mass.shape != (n,):
        raise ValueError(f"the weights of {name} have shape {mass.shape}, and it has {n} points: give one weight each")
    if not np.isfinite(mass).all() or (mass < 0).any() or not mass.any():
        raise ValueError(f"the weights of {name} must be finite, non-negative and not all zero")
    mass = mass / mass.max()
    return np.where(mass < 1e-100, 0, mass)  # what cannot be told from nothing


def _pair(x: Points, y: Points, x_weights: Weights | None = None, y_weights: Weights | None = None) -> _Pair:
    u, v = _points(x, "x"), _points(y, "y")
    if u.shape[1] != v.shape[1]:
        raise ValueError(f"x has shape {u.shape} and y {v.shape}: both must have the same number of columns")
    a, b = _mass(x_weights, len(u), "x"), _mass(y_weights, len(v), "y")
    u, v = u[a > 0], v[b > 0]
    paired = len(a) == len(b) and bool((a > 0).all() and (b > 0).all())
    a, b = a[a > 0], b[b > 0]
    centre = u.mean(0) / 2 + v.mean(0) / 2
    u, v = u - centre, v - centre
    scale = float(max(abs(u).max(), abs(v).max())) or 1.0
    return _Pair(u / scale, a / a.sum(), v / scale, b / b.sum(), scale, paired)


def sorted_w2(x: Points, y: Points, x_weights: Weights | None = None, y_weights: Weights | None = None) -> Distance:
    """W2 between two samples on the line: the L2 distance of their quantile functions, by sorting.

    Exact for the two samples as they are. As an estimate for the laws behind them, `squared` lies too high by the
    mean squared error of the two empirical quantile functions, which the error bar does not hold: see `debiased_w2`.

    Args:
        x: shape (n, 1), in the unit of the data.
        y: shape (m, 1).
        x_weights: shape (n,), non-negative; default equal. They need not sum to 1.
        y_weights: shape (m,).

    Raises:
        ValueError: wrong shapes, values that are not finite, weights that are negative or all zero.
    """
    pair = _pair(x, y, x_weights, y_weights)
    if pair.x.shape[1] != 1:
        raise ValueError(f"sorted_w2 is for laws on the line, and x has shape {tuple(x.shape)}: use w2 or exact_w2")
    return pair.distance(*by_sorting(pair.x, pair.a, pair.y, pair.b), "sorted")


def exact_w2(x: Points, y: Points, x_weights: Weights | None = None, y_weights: Weights | None = None) -> Distance:
    """W2 between two samples by the network simplex (POT's `emd`): exact for the samples as they are, n up to 5000.

    As an estimate for the laws behind them, `squared` lies too high, by a floor of order n^(-2/d) that the error bar (of
    its fluctuation alone: del Barrio and Loubes, Ann. Probab. 47, 2019) does not hold. See `debiased_w2`.

    Args:
        x: shape (n, d), in the unit of the data.
        y: shape (m, d).
        x_weights: shape (n,), non-negative; default equal. They need not sum to 1.
        y_weights: shape (m,).

    Raises:
        ValueError: wrong shapes, values that are not finite, weights that are negative or all zero, or too many points.
        RuntimeError: the solver stopped before the optimum.
    """
    pair = _pair(x, y, x_weights, y_weights)
    if len(pair.x) * len(pair.y) > _LARGEST:
        raise ValueError(f"exact_w2 between {len(pair.x)} and {len(pair.y)} points is too large a problem: use w2")
    return pair.distance(*by_simplex(pair.x, pair.a, pair.y, pair.b), "exact")




def debiased_w2(x: Points, y: Points, batch: int = 128, seed: int = 0) -> Distance:
    """W2 between the laws behind two samples: exact transport between batches, less the floor of that very transport.

    For a positive semi-definite A, x -> A x is the gradient of a convex function, so that W2^2(mu, A#mu) = E|X - A X|^2
    for every law mu. With A the linear map that carries the covariance of mu to that of nu (Gelbrich 1990), B the one back,
    and X, X' and Y, Y' batches that share no point,

        c = C(X, Y),    f = C(X, A X') - E|X - A X|^2,    g = C(B Y', Y) - E|Y - B Y|^2,
        D = c - [(f^-4 + g^-4)/2]^(-1/4)

    averaged over batches. f and g are floors of pairs like (mu, nu). They agree where the laws are affinely related (equal,
    shifted, scaled, any two Gaussians, a point and anything), and D is then free of bias to leading order. Elsewhere the
    smaller one is nearer the truth, and what is left of the bias shows as a dependence of D on the size of the batches:
    D is found for `batch` and for a quarter of it, and where the two differ by more than their noise D is extrapolated by
    that difference (a bias of order batch^(-1/2)); half of the correction is added to the error bar, in quadrature.

    A and B come from the rows outside the batches at hand, shrunk towards multiples of the identity by their own noise.
    They are multiples of the identity where the covariances have fewer than 2 d rows to come from, or d > 256.

    The error bar comes from the dual potentials, the influence of single points (del Barrio and Loubes 2019). Where the
    laws nearly agree it is up to 1.5 times too large. What bias remains, in `squared`, with n = 1024:

    - affinely related laws: within the error bar; for two full covariances in d = 64, +4%.
    - a law of many clusters against a Gaussian or against another one far away: from -4% to +8%, of either sign.
    - `batch` below 32 (fewer than 256 points in d > 1): not extrapolated, and such pairs come out up to a fifth too small.

    Args:
        x: shape (n, d), in the unit of the data. A sample of one point, or of equal points, is taken for a point mass.
        y: shape (m, d).
        batch: points of each law in one transport problem, at most n/8 of them; on the line always half the sample. Time
            grows with its square.
        seed: of the shuffle that deals rows to batches.

    Raises:
        ValueError: wrong shapes or values that are not finite.
        RuntimeError: the solver stopped before the optimum.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    pair = _pair(x, y)
    if not np.ptp(pair.x, axis=0).any() or not np.ptp(pair.y, axis=0).any():
        return _from_point(pair)
    generator = torch.Generator().manual_seed(seed)
    by_x = torch.randperm(len(pair.x), generator=generator).numpy()
    by_y = by_x if pair.paired else torch.randperm(len(pair.y), generator=generator).numpy()
    found = debiased(pair.x[by_x[: pair.n]], pair.y[by_y[: pair.n]], batch)
    return Distance.from_squared(found.squared, found.error, found.source, pair.n, pair.scale)


def _from_point(pair: _Pair) -> Distance:
    """Between a point and any law there is one coupling."""
    f, g = np.zeros(len(pair.x)), np.zeros(len(pair.y))
    if np.ptp(pair.x, axis=0).any():
        f = np.square(pair.x - pair.y[0]).sum(1)
    else:
        g = np.square(pair.y - pair.x[0]).sum(1)
    return pair.distance(float(pair.a @ f + pair.b @ g), f, g, "exact, one law is a point")


def sinkhorn_divergence(
    x: Points,
    y: Points,
    x_weights: Weights | None = None,
    y_weights: Weights | None = None,
    regularisation: float = 0.05,
) -> Distance:
    """Entropic transport less its value between each sample and itself: OT(x, y) - OT(x, x)/2 - OT(y, y)/2.

    OT is the minimum of E|X - Y|^2 + epsilon KL(coupling | product), epsilon = `regularisation` times the mean squared
    distance between x and y, found by POT in the log domain, block by block, to a marginal error of 1e-6. Not W2: it is
    W2 for shifted laws and as epsilon -> 0; otherwise it misses what happens on lengths below sqrt(epsilon). In return
    its floor is of order 1/n in any dimension. The error bar holds the fluctuation of the sample, not that difference.

    Args:
        x: shape (n, d), in the unit of the data. Time is n m a few hundred times; memory is linear in n and m.
        y: shape (m, d).
        x_weights: shape (n,), non-negative; default equal. They need not sum to 1.
        y_weights: shape (m,).
        regularisation: positive, relative to the mean squared distance.

    Raises:
        ValueError: wrong shapes, values that are not finite, weights that are negative or all zero.
        RuntimeError: Sinkhorn's iteration did not converge.
    """
    if not 0 < regularisation < math.inf:
        raise ValueError(f"regularisation must be positive and finite, got {regularisation}")
    pair = _pair(x, y, x_weights, y_weights)
    u, a, v, b = pair.x, pair.a, pair.y, pair.b
    epsilon = regularisation * float(a @ np.square(u).sum(1) + b @ np.square(v).sum(1) - 2 * (a @ u) @ (b @ v))
    method = f"Sinkhorn divergence, regularisation {regularisation:g}"
    if not epsilon > 0:  # one and the same point
        return pair.distance(0.0, np.zeros(len(u)), np.zeros(len(v)), method)
    f, g = by_entropy(u, a, v, b, epsilon)
    f -= sum(by_entropy(u, a, u, a, epsilon)) / 2
    g -= sum(by_entropy(v, b, v, b, epsilon)) / 2
    return pair.distance(float(a @ f + b @ g), f, g, method)


def sliced_w2(x: Points, y: Points, projections: int = 256, seed: int = 0) -> Distance:
    """sqrt(d) times the sliced distance: W2^2 between projections on random lines, averaged, times d.

    A different distance, at most sqrt(d) W2. With the factor sqrt(d) it equals W2 for laws that are shifted or scaled
    copies of each other in every direction alike (isotropic Gaussians, say), and its square adds up differences over
    all directions; without it, it would be at most W2 and fall with d. Its floor, of order 1/n, is taken off with the
    help of the two halves of each sample. The error bar holds the choice of lines and the fluctuation of the samples.

    Args:
        x: shape (n, d), in the unit of the data.
        y: shape (m, d).
        projections: number of random lines.
        seed: of the lines and the halves.

    Raises:
        ValueError: wrong shapes, values that are not finite, or fewer than two projections.
    """
    if projections < 2:
        raise ValueError(f"an error bar needs at least 2 projections, got {projections}")
    pair = _pair(x, y)
    u, v = pair.x, pair.y
    d = u.shape[1]
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn((projections, d), generator=generator, dtype=torch.float64).numpy()
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    halves = [torch.randperm(len(z), generator=generator).chunk(2) for z in (u, v)]
    squares = np.zeros(projections)
    f, g = np.zeros(len(u)), np.zeros(len(v))
    for k, line in enumerate(lines):
        on_line = (u @ line)[:, None], (v @ line)[:, None]
        squares[k], potential_x, potential_y = by_any(*on_line)
        f += potential_x * (d / projections)
        g += potential_y * (d / projections)
        for z, parts in zip(on_line, halves, strict=True):
            if len(parts) == 2:  # twice the floor's share of this sample in each half, and in both
                squares[k] -= by_any(*(z[part.numpy()] for part in parts))[0] / 4
    method = f"sliced, {projections} projections, times sqrt(d)"
    fluctuation = pair.distance(0.0, f, g, method).squared_error / pair.scale**2
    error = math.hypot(fluctuation, d * squares.std(ddof=1) / math.sqrt(projections))
    return Distance.from_squared(d * float(squares.mean()), error, method, pair.n, pair.scale)


def gelbrich(x: Points, y: Points) -> Distance:
    """Distance of means and covariances: squared, |m_x - m_y|^2 + tr[S_x + S_y - 2 (S_x^{1/2} S_y S_x^{1/2})^{1/2}].

    A lower bound on W2 between any two laws, equal to it where one is the image of the other under a symmetric
    positive semi-definite affine map, as for any two Gaussians (Gelbrich, Math. Nachr. 147, 1990). The jackknife
    over 20 groups of rows takes off the bias of order 1/n and gives the error bar; it wants n of several d.

    Args:
        x: shape (n, d), in the unit of the data.
        y: shape (m, d).

    Raises:
        ValueError: wrong shapes or values that are not finite.
    """
    pair = _pair(x, y)
    groups = min(20, max(len(pair.x), len(pair.y)))

    def without(z: Array, k: int) -> Array:
        return z[np.arange(len(z)) % groups != k] if len(z) >= groups else z

    whole = _bures(pair.x, pair.y)
    if groups == 1:
        return Distance.from_squared(whole, 0.0, "Gelbrich bound", pair.n, pair.scale)
    parts = np.array([_bures(without(pair.x, k), without(pair.y, k)) for k in range(groups)])
    squared = groups * whole - (groups - 1) * parts.mean()
    error = math.sqrt((groups - 1) * parts.var())
    return Distance.from_squared(float(squared), error, "Gelbrich bound, jackknife", pair.n, pair.scale)


def _covariance(x: Array) -> Array:
    centred = x - x.mean(0)
    return centred.T @ centred / len(x)


def _bures(x: Array, y: Array) -> float:
    values, axes = np.linalg.eigh(_covariance(x))
    half = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    t = _covariance(y)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ t @ half), 0)).sum()
    return float(np.square(x.mean(0) - y.mean(0)).sum() + values.sum() + np.trace(t) - 2 * cross)


def w2(x: Points, y: Points, method: Method = "auto", seed: int = 0) -> Distance:
    """W2 between the laws behind two samples, by the method that fits; see the function of each method.

    "auto" is `debiased_w2`, on 2^14 rows of each sample at most where d > 1: its time is linear in n, and beyond that
    many points its bias outweighs its error bar.

    Args:
        x: shape (n, d), in the unit of the data.
        y: shape (m, d).
        method: "auto", "debiased", "sorted", "exact", "sinkhorn", "sliced" or "gelbrich".
        seed: of shuffles and projections.

    Raises:
        ValueError: wrong shapes, values that are not finite, or a method that does not exist or fit.
        RuntimeError: a solver stopped before the optimum.
    """
    if method == "auto" and x.ndim == 2 and y.ndim == 2 and x.shape[1] > 1:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(x), generator=generator)[:_ENOUGH]
        others = rows if len(x) == len(y) else torch.randperm(len(y), generator=generator)[:_ENOUGH]
        x, y = x[rows.to(x.device)], y[others.to(y.device)]
    match method:
        case "auto" | "debiased":
            return debiased_w2(x, y, seed=seed)
        case "sorted":
            return sorted_w2(x, y)
        case "exact":
            return exact_w2(x, y)
        case "sinkhorn":
            return sinkhorn_divergence(x, y)
        case "sliced":
            return sliced_w2(x, y, seed=seed)
        case "gelbrich":
            return gelbrich(x, y)
        case _:
            raise ValueError(f"no method {method!r}: auto, debiased, sorted, exact, sinkhorn, sliced or gelbrich")
