"""Wasserstein-2 distances between laws seen through samples, each with an error bar.

    W2^2(mu, nu) = min over couplings of E|X - Y|^2

Between two samples of n points the minimum C(X, Y) is a finite problem: sorting on the line, a linear programme beyond.
As an estimate for the laws behind them it lies too high, by a floor of order n^(-2/d) that hardly falls with n in high
dimension: 128 points each of two equal laws N(0, I) in d = 64 lie sqrt(90) apart. `debiased_w2` measures the floor on
pairs of laws whose distance is known and takes it off; `w2` picks it unless told otherwise. Beside it stand

    `sorted_w2`, `exact_w2`     C(X, Y) of the samples as they are, with weights
    `sinkhorn_divergence`       entropic transport, less what it is between equal laws
    `sliced_w2`                 a lower bound, from projections on lines
    `gelbrich`                  a lower bound, from means and covariances

Points are the rows of x (n, d) and y (m, d): tensors on any device, arrays or lists; the work is done in float64 on the
CPU. Rows are independent draws, and so are the two samples. Distances are in the unit of the data.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from brenier.core.points import Numbers, as_points, warn_of_lattice
from brenier.distances.couplings import Array, by_any, by_entropy, by_entropy_alone, by_simplex, by_sorting
from brenier.distances.debiasing import covariance, debiased
from brenier.distances.distance import Distance
from brenier.distances.pair import Pair, pair
from brenier.laws.base import Target
from brenier.laws.line.quantiles import check_moment, is_explicit, quantile_w2

Method: TypeAlias = Literal["auto", "quantiles", "debiased", "sorted", "exact", "sinkhorn", "sliced", "gelbrich"]

_LARGEST = 2**25  # entries of a cost matrix: a quarter of a GiB
_DRAWN = 4096  # points of a law that is sampled on its own account
_ENOUGH = 2**14  # points of each law beyond which the error bar is no longer what limits `debiased_w2`
_GROUPS = 20  # of the jackknife
_REG = 0.05  # of entropic transport, beside the mean squared distance


def w2(x: Numbers | Target, y: Numbers | Target, *, method: Method = "auto", seed: int = 0) -> Distance:
    """W2 between two laws, or the laws behind two samples, by the method that fits; each has a function of its own.

    "auto" is quadrature of quantile functions between explicit laws on the line, and `debiased_w2` otherwise: in d > 1
    on at most 2^14 rows of each sample, since it takes 0.1 ms a row, and with more rows its error bar would fall below
    its bias. A law that is not taken as it is is sampled: 4,096 points, or as many as the other side has.

    Args:
        x: shape (n, d), in the unit of the data; or a law.
        y: shape (m, d); or a law.
        method: "auto", "quantiles", "debiased", "sorted", "exact", "sinkhorn", "sliced" or "gelbrich".
        seed: of samples, shuffles and projections.

    Raises:
        ValueError: wrong shapes, values that are not finite, a law without second moment, or a method that does
            not exist or does not fit.
        RuntimeError: a solver stopped before the optimum.

    Warns:
        UserWarning: points lie so far from zero that they have lost their spread.
    """
    for law in (x, y):
        if isinstance(law, Target):
            check_moment(law)
    if isinstance(x, Target) and isinstance(y, Target):
        explicit = is_explicit(x) and is_explicit(y)
        if method == "quantiles" or (method == "auto" and explicit):
            value = quantile_w2(x, y)
            return Distance(value, 0.0, value**2, 0.0, "quantile quadrature", 0)
    if method == "quantiles":
        raise ValueError("quantiles are those of laws: give two explicit laws on the line, or another method")
    x, y = (z if isinstance(z, Target) else as_points(z, name) for z, name in ((x, "x"), (y, "y")))
    for points, name in ((x, "x"), (y, "y")):
        if isinstance(points, Tensor):
            warn_of_lattice(points, name)
    x, y = _sampled(x, y, seed), _sampled(y, x, seed + 1)
    if method == "auto" and x.shape[1] > 1 and max(len(x), len(y)) > _ENOUGH:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(x), generator=generator)[:_ENOUGH]
        others = rows if len(x) == len(y) else torch.randperm(len(y), generator=generator)[:_ENOUGH]
        x, y = x[rows.to(x.device)], y[others.to(y.device)]
    if method in ("auto", "debiased"):
        return debiased_w2(x, y, seed=seed)
    if method == "sliced":
        return sliced_w2(x, y, seed=seed)
    others_by_name = {"sorted": sorted_w2, "exact": exact_w2, "sinkhorn": sinkhorn_divergence, "gelbrich": gelbrich}
    if method not in others_by_name:
        names = "auto, quantiles, debiased, sorted, exact, sinkhorn, sliced or gelbrich"
        raise ValueError(f"no method {method!r}: it is {names}")
    return others_by_name[method](x, y)


def _sampled(law: Tensor | Target, other: Tensor | Target, seed: int) -> Tensor:
    if isinstance(law, Tensor):
        return law
    return law.sample(len(other) if isinstance(other, Tensor) else _DRAWN, seed)


def debiased_w2(x: Numbers, y: Numbers, *, batch: int = 128, seed: int = 0) -> Distance:
    """W2 between the laws behind two samples: exact transport between batches of them, less its floor.

    The floor is measured on pairs of laws close to this one whose distance is known: one of the two laws, and its image
    under the affine map that gives it the mean and the covariance of the other (see `debiasing`). Between affinely
    related laws (equal, shifted, scaled; any two Gaussians; a point and anything) what is left is free of bias to
    leading order. For others, what remains of the bias shows as a dependence on the size of the batches: the estimate
    is made with `batch` points and with a quarter of them, and where the two differ by more than their noise it is
    extrapolated by that difference, of which half is added to the error bar in quadrature.

    The error bar comes from the dual potentials, the influences of single points (del Barrio, Loubes, Ann. Probab. 47,
    2019). It is up to 1.5 times too large where the laws nearly agree. Bias in `squared`, measured with n = 1024:

    - affinely related laws: a small part of the error bar; two thirds of it, downwards, for equal laws with one uneven
      covariance in d = 64.
    - laws not far apart and not affinely related: downwards, up to one error bar.
    - laws of twenty separate clusters, far from the other law: -5% to +8%, which the error bar allows for.
    - on the line: upwards by a quarter of its floor for a law with gaps against itself, downwards by up to 5% for one
      against another law with gaps. The error bar allows for both.

    Fewer than 256 points in d > 1 leave no batches to extrapolate from: laws of clusters, or of a few values, then come
    out low, by up to two fifths in `squared`. With fewer than 16 points the error bar itself is a guess.

    Args:
        x: shape (n, d), in the unit of the data. A sample whose points are all equal is taken for a point mass. Where
            n = m and d > 1, row i of y may depend on row i of x.
        y: shape (m, d). Of the larger sample, as many rows are used as the smaller one has.
        batch: points of each law in one transport problem, or an eighth of all if that is less. The time grows with
            its square. On the line, all points are used at once.
        seed: of the shuffle that deals rows to batches.

    Raises:
        ValueError: wrong shapes, values that are not finite, `batch` below 1.
        RuntimeError: the solver stopped before the optimum.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    samples = pair(x, y)
    if not np.ptp(samples.x, axis=0).any() or not np.ptp(samples.y, axis=0).any():
        return _from_point(samples)
    generator = torch.Generator().manual_seed(seed)
    by_x = torch.randperm(len(samples.x), generator=generator).numpy()
    by_y = by_x if samples.paired else torch.randperm(len(samples.y), generator=generator).numpy()
    rows = samples.n
    found = debiased(samples.x[by_x[:rows]], samples.y[by_y[:rows]], batch)
    return Distance.from_squared(found.squared, found.squared_se, method=found.method, n=rows, scale=samples.scale)


def _from_point(samples: Pair) -> Distance:
    """Between a point and any law there is one coupling."""
    f, g = np.zeros(len(samples.x)), np.zeros(len(samples.y))
    if np.ptp(samples.x, axis=0).any():
        f = np.square(samples.x - samples.y[0]).sum(1)
    else:
        g = np.square(samples.y - samples.x[0]).sum(1)
    return samples.distance(float(samples.a @ f + samples.b @ g), f, g, "exact, one law is a point")


def sorted_w2(
    x: Numbers, y: Numbers, *, x_weights: Numbers | None = None, y_weights: Numbers | None = None
) -> Distance:
    """W2 between two samples on the line: the L2 distance of their quantile functions, by sorting.

    Exact for the two samples as they are. As an estimate for the laws behind them, `squared` lies too high by the
    mean squared error of both quantile functions, which the error bar does not hold: see `debiased_w2`.

    Args:
        x: shape (n, 1), in the unit of the data.
        y: shape (m, 1).
        x_weights: shape (n,), non-negative; default equal. They need not sum to 1.
        y_weights: shape (m,).

    Raises:
        ValueError: wrong shapes, values that are not finite, weights that are negative or all zero.
    """
    samples = pair(x, y, x_weights, y_weights)
    if samples.x.shape[1] != 1:
        raise ValueError(
            f"sorted_w2 is for laws on the line, and points have {samples.x.shape[1]} coordinates: use w2 or exact_w2"
        )
    return samples.distance(*by_sorting(samples.x, samples.a, samples.y, samples.b), "sorted")


def exact_w2(x: Numbers, y: Numbers, *, x_weights: Numbers | None = None, y_weights: Numbers | None = None) -> Distance:
    """W2 between two samples by POT's network simplex: exact for the samples as they are, n up to 5000.

    As an estimate for the laws behind them, `squared` lies too high, by a floor of order n^(-2/d). The error bar holds
    its fluctuation (del Barrio, Loubes, Ann. Probab. 47, 2019) but not the floor: see `debiased_w2`.

    Args:
        x: shape (n, d), in the unit of the data.
        y: shape (m, d).
        x_weights: shape (n,), non-negative; default equal. They need not sum to 1.
        y_weights: shape (m,).

    Raises:
        ValueError: wrong shapes, values that are not finite, weights that are negative or all zero, too many points.
        RuntimeError: the solver stopped before the optimum.
    """
    samples = pair(x, y, x_weights, y_weights)
    if len(samples.x) * len(samples.y) > _LARGEST:
        raise ValueError(
            f"exact_w2 between {len(samples.x)} and {len(samples.y)} points is too large a problem: use w2"
        )
    return samples.distance(*by_simplex(samples.x, samples.a, samples.y, samples.b), "exact")


def sinkhorn_divergence(
    x: Numbers,
    y: Numbers,
    *,
    x_weights: Numbers | None = None,
    y_weights: Numbers | None = None,
    reg: float | None = None,
) -> Distance:
    """Entropic transport less what it is between equal laws: OT(x, y) - OT(x, x)/2 - OT(y, y)/2.

    OT is the minimum of E|X - Y|^2 + reg KL(coupling | product), as in POT (Feydy et al., AISTATS 2019); with half the
    cost, |X - Y|^2/2, it would be half of `reg`. Not W2, though equal to it between laws that differ by a shift, and in
    the limit reg -> 0: it is blind to lengths below sqrt(reg). In return its floor is lower, if the regularisation
    suits the dimension: between equal normal laws, 512 points and the default leave most of the floor of exact
    transport in d = 8 and d = 64, four times the default a sixth and a twelfth of it. The error bar holds the
    fluctuation of the samples, neither the floor nor the difference from W2.

    Args:
        x: shape (n, d), in the unit of the data. Time is n m a few hundred times, memory linear in n and m.
        y: shape (m, d).
        x_weights: shape (n,), non-negative; default equal. They need not sum to 1.
        y_weights: shape (m,).
        reg: positive, in squared units of the data. Default: 0.05 of the mean squared distance between x and y.

    Raises:
        ValueError: wrong shapes, values that are not finite, weights that are negative or all zero.
        RuntimeError: Sinkhorn's iteration did not converge.
    """
    if reg is not None and not 0 < reg < math.inf:
        raise ValueError(f"reg must be positive and finite, got {reg}")
    samples = pair(x, y, x_weights, y_weights)
    u, a, v, b = samples.x, samples.a, samples.y, samples.b
    mean_square = float(a @ np.square(u).sum(1) + b @ np.square(v).sum(1) - 2 * (a @ u) @ (b @ v))
    method = f"Sinkhorn divergence, reg {f'{_REG} of the mean squared distance' if reg is None else format(reg, 'g')}"
    if not np.ptp(np.concatenate([u, v]), axis=0).any():
        return samples.distance(0.0, np.zeros(len(u)), np.zeros(len(v)), method)
    reg = _REG * mean_square if reg is None else reg / samples.scale**2
    f, g = by_entropy(u, a, v, b, reg)
    f -= by_entropy_alone(u, a, reg)
    g -= by_entropy_alone(v, b, reg)
    return samples.distance(float(a @ f + b @ g), f, g, method)


def sliced_w2(x: Numbers, y: Numbers, *, projections: int = 256, seed: int = 0) -> Distance:
    """sqrt(d) times the sliced distance: W2^2 between projections on random lines, averaged, times d.

    With the factor d (many authors leave it out) it is a lower bound on W2, equal to it where one law is the other one
    shifted and scaled, x -> c x + s. The floor of order 1/n is taken off with the help of the halves of each sample.
    The error bar holds the choice of the lines and the fluctuation of the samples, not the difference from W2.

    Args:
        x: shape (n, d), in the unit of the data.
        y: shape (m, d).
        projections: number of random lines.
        seed: of the lines and of the halves.

    Raises:
        ValueError: wrong shapes, values that are not finite, fewer than two projections.
    """
    if projections < 2:
        raise ValueError(f"an error bar needs at least 2 projections, got {projections}")
    samples = pair(x, y)
    d = samples.x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn((projections, d), generator=generator, dtype=torch.float64).numpy()
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    halves = [torch.randperm(len(z), generator=generator).numpy() for z in (samples.x, samples.y)]
    halves = [(rows[: len(rows) // 2], rows[len(rows) // 2 :]) for rows in halves]
    squares = np.zeros(projections)
    f, g = np.zeros(len(samples.x)), np.zeros(len(samples.y))
    for k, line in enumerate(lines):
        projected = (samples.x @ line)[:, None], (samples.y @ line)[:, None]
        squares[k], at_x, at_y = by_any(*projected)
        f += at_x * (d / projections)
        g += at_y * (d / projections)
        for z, (one, other) in zip(projected, halves, strict=True):
            if len(one) > 0:  # between the halves of a sample the floor is four times its share of this one
                squares[k] -= by_any(z[one], z[other])[0] / 4
    method = f"sliced, {projections} projections, times sqrt(d)"
    of_samples = samples.distance(0.0, f, g, method).squared_se / samples.scale / samples.scale
    of_lines = d * float(squares.std(ddof=1)) / math.sqrt(projections)
    standard = math.hypot(of_samples, of_lines)
    return Distance.from_squared(d * float(squares.mean()), standard, method=method, n=samples.n, scale=samples.scale)


def gelbrich(x: Numbers, y: Numbers) -> Distance:
    """Distance of means and covariances: squared, |m_x - m_y|^2 + tr[S_x + S_y - 2 (S_x^{1/2} S_y S_x^{1/2})^{1/2}].

    A lower bound on W2 between any two laws, equal to it where one is the image of the other under an affine map with a
    symmetric positive semi-definite matrix, as for any two Gaussians (Gelbrich, Math. Nachr. 147, 1990). A jackknife
    over 20 groups of rows takes off the bias of order d^2/n and gives the error bar; it wants n of several d.

    Args:
        x: shape (n, d), in the unit of the data.
        y: shape (m, d).

    Raises:
        ValueError: wrong shapes, values that are not finite.
    """
    samples = pair(x, y)
    groups = min([_GROUPS, *(len(z) for z in (samples.x, samples.y) if len(z) > 1)])

    def without(z: Array, group: int) -> Array:
        return z[np.arange(len(z)) % groups != group] if len(z) > 1 else z

    parts = np.array([_bures(without(samples.x, k), without(samples.y, k)) for k in range(groups)])
    squared = groups * _bures(samples.x, samples.y) - (groups - 1) * float(parts.mean())
    error = math.sqrt(groups - 1) * float(parts.std())
    method = "Gelbrich's bound, jackknife"
    return Distance.from_squared(squared, error, method=method, n=samples.n, scale=samples.scale)


def bures_jackknife(x: Array, mean: Array, covariances: Array) -> tuple[float, float, float]:
    """The squared distance of the moments of points from known ones: as it is, without its bias, its standard error.

    The first is that of the unbiased covariance, the second that of groups, as in `gelbrich`.

    Args:
        x: shape (n, d).
        mean: known, shape (d,).
        covariances: known, shape (d, d).
    """
    groups = min(_GROUPS, len(x))
    known = (mean, covariances)
    left = (x[np.arange(len(x)) % groups != k] for k in range(groups))
    parts = np.array([_bures_of((part.mean(0), covariance(part)), known) for part in left])
    own = x.mean(0), covariance(x)
    plain = _bures_of((own[0], own[1] * len(x) / (len(x) - 1)), known)
    squared = groups * _bures_of(own, known) - (groups - 1) * float(parts.mean())
    return plain, squared, math.sqrt(groups - 1) * float(parts.std())


def _bures(x: Array, y: Array) -> float:
    return _bures_of((x.mean(0), covariance(x)), (y.mean(0), covariance(y)))


def _bures_of(one: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    """Of means and covariances."""
    (own, s), (theirs, t) = one, other
    values, axes = np.linalg.eigh(s)
    half = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ t @ half), 0)).sum()
    return float(np.square(own - theirs).sum() + np.trace(s) + np.trace(t) - 2 * cross)
