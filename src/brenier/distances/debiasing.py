"""The squared W2 distance between the laws behind two samples, without the floor of finite samples.

Batches of m points of each law lie C(X, Y) apart: the minimum over couplings of the mean of |X - Y|^2. In expectation
it exceeds W2^2(mu, nu) by a floor that falls like m^(-2/d). For a positive semi-definite A, x -> A x is the gradient of
a convex function, so that W2^2(mu, A#mu) = E|X - A X|^2 for every law mu: of such pairs the floor is known. With A the
linear map that carries the covariance of mu to that of nu (Gelbrich, Math. Nachr. 147, 1990), B the one back, and X, X'
and Y, Y' batches that share no point,

    c = C(X, Y),    f = C(X, A X') - E|X - A X|^2,    g = C(B Y', Y) - E|Y - B Y|^2,
    D = c - [(f^-4 + g^-4)/2]^(-1/4)

averaged over batches. Shifts drop out: every point counts as often in one place as in the other. Where nu = A#mu up to
a shift, f and g have the expected floor of c, and D has none left. Otherwise the floor of c is that of the simpler law
(Hundrieser, Staudt, Munk, Ann. IHP 60, 2024), so the mean of f and g leans towards the smaller one, and what it misses
shows as a dependence of D on m.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brenier.distances.couplings import Array, by_any

Rows: TypeAlias = NDArray[np.intp]
Map: TypeAlias = Callable[[Array], Array]

_FOLDS = 4
_WIDEST = 256  # dimension up to which covariances are worth their cost
_FLAT = 1e-14  # a variance below this share of the total is rounding
_SMALLEST = 32  # batches that can still be cut in four


class Debiased(NamedTuple):
    """A squared distance and its standard error, and what was done, in words."""

    squared: float
    squared_se: float
    method: str


class _Fold(NamedTuple):
    """A part of the rows, and maps between the two laws that the other rows gave."""

    rows: Rows
    forth: Map
    back: Map


class _Statistic(NamedTuple):
    """A sum over points: what it owes to the i-th point of x and the i-th of y, shape (n,)."""

    value: float
    shares: Array


def debiased(x: Array, y: Array, batch: int) -> Debiased:
    """W2^2 between the laws of x and y, both (n, d) with n >= 2: rows are in random order, and neither law is a point.

    Args:
        x: sample of the one law.
        y: sample of the other. Row i may depend on row i of x and on no other.
        batch: points of each law in one transport problem.
    """
    n, d = x.shape
    if d == 1:
        return _on_the_line(x, y)
    folds = min(_FOLDS, max(n // 4, 1))
    size = max(min(batch, n // (2 * folds)), 1)
    deal = _deal(x, y, folds, size)
    found = _lean(_spread(x, y, deal, size))
    squared, variance = found.value, _variance(found.shares)
    if size >= _SMALLEST:
        squared, variance = _extrapolate(found, _lean(_spread(x, y, deal, size // 4)))
    batches = sum(len(_cut(fold.rows, size)) for fold in deal)
    return Debiased(squared, math.sqrt(variance), f"exact, {batches} batches of {size}, affine control variate")


def _on_the_line(x: Array, y: Array) -> Debiased:
    """The same, with all points in c. The floor of order 1/n is half of that of half as many points."""
    halves = _spread(x, y, _deal(x, y, 1, len(x)), len(x) // 2)
    _, at_x, at_y = by_any(x, y)
    found = _lean(np.stack([(at_x + at_y) / len(x), halves[1] / 2, halves[2] / 2]))
    return Debiased(
        found.value, math.sqrt(_variance(found.shares)), "sorted, floor from halves, affine control variate"
    )


def _cut(rows: Rows, size: int) -> list[Rows]:
    return np.array_split(rows, max(2, round(len(rows) / size)))


def _spread(x: Array, y: Array, deal: list[_Fold], size: int) -> Array:
    """c, f and g as sums over points, shape (3, n).

    Within a fold, each batch of x meets the next one of y: rows i of x and of y never meet. What a minimal cost owes to
    one of its points is the potential there.
    """
    spread = np.zeros((3, len(x)))
    for fold in deal:
        cuts = _cut(fold.rows, size)
        moved = [np.square(z - to(z)).sum(1) / 2 for z, to in ((x, fold.forth), (y, fold.back))]
        for i, j in zip(cuts, cuts[1:] + cuts[:1], strict=True):
            for row, here, there in ((0, x[i], y[j]), (1, x[i], fold.forth(x[j])), (2, fold.back(y[i]), y[j])):
                _, at_here, at_there = by_any(here, there)
                known = moved[row - 1] if row else np.zeros(len(x))
                spread[row, i] += (at_here - known[i]) / (len(i) * len(cuts) * len(deal))
                spread[row, j] += (at_there - known[j]) / (len(j) * len(cuts) * len(deal))
    return spread


def _lean(spread: Array) -> _Statistic:
    """D: c without a mean of f and g, which leans towards the smaller one as far as their difference is not noise."""
    c, f, g = (float(total) for total in spread.sum(1))
    floor, slopes = (f + g) / 2, np.array([0.5, 0.5])
    if (least := min(f, g)) > 0:  # else there is no floor, only noise around 0
        leaning = least * (((least / f) ** 4 + (least / g) ** 4) / 2) ** -0.25
        trust = _trust(f - g, spread[1] - spread[2])
        floor += trust * (leaning - floor)
        slopes += trust * ((leaning / np.array([f, g])) ** 5 / 2 - slopes)
    return _Statistic(c - floor, spread[0] - slopes @ spread[1:])


def _extrapolate(large: _Statistic, small: _Statistic) -> tuple[float, float]:
    """From batches, and batches of a quarter of their size, to a squared distance and its variance.

    Adding the difference of the two removes a bias of order m^(-1/2). It is added as far as it exceeds its noise, and
    taken to be right to within half of itself: enough for orders from m^(-0.37) to m^(-0.79).
    """
    step, shares = large.value - small.value, large.shares - small.shares
    trust = _trust(step, shares)
    return large.value + trust * step, _variance(large.shares + trust * shares) + (trust * step / 2) ** 2


def _trust(difference: float, shares: Array) -> float:
    """How much of a difference is not noise, from 0 to 1."""
    noise = _variance(shares)
    return 1 - noise / difference**2 if difference**2 > noise else 0.0


def _variance(shares: Array) -> float:
    """Variance of a sum over independent points."""
    return float(np.var(shares, ddof=1)) * len(shares)


def _deal(x: Array, y: Array, folds: int, size: int) -> list[_Fold]:
    """Rows dealt to folds, each with the maps A and B from the rows of all others; of its own, if it is the only one.

    They are multiples of the identity where covariances cost too much, or there are fewer than eight rows.
    """
    n, d = x.shape
    full = 1 < d <= _WIDEST and folds > 1
    deal: list[_Fold] = []
    for rows in np.array_split(np.arange(n), folds):
        own = x[rows], y[rows]
        others = (np.delete(x, rows, axis=0), np.delete(y, rows, axis=0)) if folds > 1 else own
        forth, back = _linear_maps(own, others, max(size // 4, 1)) if full else _scalar_maps(*others)
        deal.append(_Fold(rows, _affine(forth, x.mean(0), y.mean(0)), _affine(back, y.mean(0), x.mean(0))))
    return deal


def _affine(factor: float | Array, centre: Array, image: Array) -> Map:
    return lambda z: image + ((z - centre) @ factor if isinstance(factor, np.ndarray) else (z - centre) * factor)


def _scalar_maps(x: Array, y: Array) -> tuple[float, float]:
    """Factors that carry the total variance of x to that of y, and back."""
    s, t = float(x.var(0).sum()), float(y.var(0).sum())
    flat = _FLAT * (s + t)
    return math.sqrt(t / s) if s > flat else 0.0, math.sqrt(s / t) if t > flat else 0.0


def _linear_maps(own: tuple[Array, Array], others: tuple[Array, Array], size: int) -> tuple[Array, Array]:
    """A and B from `others`, with the effect of their noise on the floors of `own` taken off.

    The maps that two halves of the rows give show what is noise. Their shapes, what is left without a multiple of the
    identity, have only the truth in common: shapes are shrunk accordingly. And the floors that they give exceed those
    of the map of all rows by as much as these exceed the truth's, noise being twice as large in a half.
    """
    whole = _gaussian_maps(*map(_shrunk_covariance, others))
    halves = [_gaussian_maps(*(_shrunk_covariance(z[k::2]) for z in others)) for k in range(2)]
    maps: list[Array] = []
    for z, matrix, *pair in zip(own, whole, *halves, strict=True):
        unit = np.eye(len(matrix))
        one, two = (half - np.trace(half) / len(half) * unit for half in pair)
        signal, noise = float(np.vdot(one, two)), float(np.square(one - two).sum()) / 4
        shape = signal / (signal + noise) if signal > 0 else 0.0
        spread = covariance(z)
        per_unit = np.maximum(np.trace(spread), np.finfo(float).tiny)
        shrunk = [shape * m + (1 - shape) * np.vdot(spread, m) / per_unit * unit for m in (matrix, *pair)]
        floor, *floors = (_floor(z, m, size) for m in shrunk)
        excess = float(np.clip(sum(floors) / (2 * floor) - 1, -0.5, 0.5)) if floor > 0 else 0.0
        maps.append(shrunk[0] / (1 + excess))
    return maps[0], maps[1]


def _floor(z: Array, matrix: Array, size: int) -> float:
    """f of `_spread` from four batches at most; it is linear in a factor of the matrix."""
    cuts = _cut(np.arange(len(z)), size)[:4]
    image = z @ matrix
    moved = np.square(z - image).sum(1)
    following = cuts[1:] + cuts[:1]
    costs = [by_any(z[i], image[j])[0] for i, j in zip(cuts, following, strict=True)]
    known = [(moved[i].mean() + moved[j].mean()) / 2 for i, j in zip(cuts, following, strict=True)]
    return float(np.mean(costs) - np.mean(known))


def covariance(x: Array) -> Array:
    """Covariance matrix of the rows, with 1/n."""
    centred = x - x.mean(0)
    return centred.T @ centred / len(x)


def _shrunk_covariance(x: Array) -> Array:
    """Covariance matrix drawn towards a multiple of the identity, half as far as Ledoit and Wolf would (2004).

    With few rows the maps of plain covariances give floors that are too high for maps of halves to correct, those of
    fully shrunk ones floors of laws that are too round: half way, errors of both kinds stay within the error bar.
    """
    matrix = covariance(x)
    target = np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    noise = (np.mean(np.square(np.square(x - x.mean(0)).sum(1))) - np.square(matrix).sum()) / len(x)
    shape = np.square(matrix - target).sum()
    return matrix + (min(noise / shape, 1) / 2 if shape > 0 else 0) * (target - matrix)


def _gaussian_maps(s: Array, t: Array) -> tuple[Array, Array]:
    """A with A s A = t and B with B t B = s, symmetric positive semi-definite, as far as flat directions allow."""
    total = np.trace(s) + np.trace(t)
    root, unroot = _roots(s, _FLAT * total)
    middle, unmiddle = _roots(root @ t @ root, _FLAT * total**2)
    return unroot @ middle @ unroot, root @ unmiddle @ root


def _roots(matrix: Array, flat: float) -> tuple[Array, Array]:
    """The square root and its pseudo-inverse."""
    values, axes = np.linalg.eigh(matrix)
    steep = values > flat
    root = np.sqrt(np.where(steep, values, 1))
    return (axes * np.where(steep, root, 0)) @ axes.T, (axes * np.where(steep, 1 / root, 0)) @ axes.T
