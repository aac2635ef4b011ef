"""The exact law of the localization L_r(Y_r) of an explicit one-dimensional law, as a weighted sample.

On the line, L_r and the density of Y_r are smooth known functions. They are expanded in Legendre series on panels,
which are halved until both are resolved. Cut at its critical points, L_r becomes a set of monotone pieces, each of
which is inverted: the mass of {L_r > u} is then the mass of Y_r between known points, for any levels u.

A sample that carries, for every gap between neighbouring levels, the mass of L_r in the gap at its conditional mean,
has the survival function and the integrated tail of L_r at all these levels exactly, and its mean. So the formulas of
`brenier.complexity`, made for samples, give the exact figures when the levels include the points where they are read.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import ArrayLike, NDArray

from brenier.core.checks import Array
from brenier.laws.base import Target

Index: TypeAlias = NDArray[np.intp]

_ORDER = 16
_NODES, _GAUSS = legendre.leggauss(_ORDER)
# Values at the nodes -> Legendre coefficients; coefficients -> those of the derivative and of the antiderivative.
_ANALYSIS = (np.arange(_ORDER)[:, None] + 0.5) * _GAUSS * legendre.legvander(_NODES, _ORDER - 1).T
_DERIVATIVE = np.vstack([legendre.legder(np.eye(_ORDER)), np.zeros(_ORDER)])
_ANTIDERIVATIVE = legendre.legint(np.eye(_ORDER), lbnd=-1)
_SCAN = -np.cos(np.linspace(0, np.pi, 33))

_RESOLVED = 1e-11  # last coefficients of a series, relative to its largest one
_NEGLIGIBLE = 1e-20  # mass of a panel below which its density need not be resolved
_FLAT = 1e-10  # relative variation of L over a panel below which it counts as constant
_SNAP = 1e-12  # relative distance within which a constant and a level are the same number
_MASS = 1e-9  # error of the total mass above which the result is refused
_VANISHING = 1e-300
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


class _Panels(NamedTuple):
    """Legendre coefficients, per panel, of L, of p and of L p (the last two times half the panel's length)."""

    localization: Array  # (P, order)
    density: Array  # (P, order)
    moment: Array  # (P, order)


class _Pieces(NamedTuple):
    """Monotone pieces of L: the panel of each, and its ends in the panel's coordinate in [-1, 1], lower L first."""

    panel: Index
    x_low: Array
    x_high: Array
    low: Array
    high: Array


def localization_quadrature(
    target: Target, snr: float, levels: ArrayLike, perturbations: Sequence[float | int] = ()
) -> tuple[Array, Array, dict[str, float]]:
    """A weighted sample of L_r that is exact where it is read.

    Args:
        target: a one-dimensional law with `breakpoints` and `log_density`.
        snr: r > 0.
        levels: thresholds u at which survival and integrated tail (delta = 1 - u) will be read, any shape.
        perturbations: richnesses M >= 1 for which zeta_M will be read.

    Returns:
        Localizations (n,), sorted; their weights (n,), which sum to 1; and a dict of `mean_localization`,
        `sup_localization` (over all of R), `mmse` = E L/r^2 in squared data units, and `mass_error`, the distance of
        the total mass from 1 before it was normalised. m*, delta* and the values at risk of `brenier.complexity` come
        out to about 1e-7; survival, integrated tail, mean and supremum to about 1e-10.

    Raises:
        ValueError: the law has no explicit one-dimensional density.
        RuntimeError: the mass found differs from 1 by more than 1e-9.
    """
    panels, far = _resolve(target.moved(-target.origin), snr)
    pieces = _monotone_pieces(panels)
    top = max(float(pieces.high.max()), far)
    top = _BELOW_ONE if abs(top - 1) <= _SNAP else top
    masses = panels.density @ legendre.legval(1.0, _ANTIDERIVATIVE)
    total = float(masses.sum())
    if not abs(total - 1) <= _MASS:
        raise RuntimeError(f"quadrature of {target.name} at snr {snr:g} found the mass {total!r}: it must be 1")

    grid = np.concatenate([np.ravel(np.asarray(levels, dtype=np.float64)), _quantiles(panels, 128)])
    grid = np.unique(np.concatenate([grid[(grid >= 0) & (grid < top)], [0.0, top, 1.0]]))
    grid = _refine(panels, pieces, grid, perturbations)

    mass, moment = _bins(panels, pieces, grid)
    inside = mass > 0
    mean = np.divide(moment, mass, out=np.zeros_like(mass), where=inside)
    # A bin is (lower, upper]: rounding of its mean must not carry its mass across a level. Nor may L < 1 round to 1,
    # where a strictly log-concave law would count as one that is not.
    mean = np.clip(mean, np.append(-np.inf, np.nextafter(grid, np.inf)), np.append(grid, np.inf))
    mean = np.where(mean == 1, _BELOW_ONE, mean)
    values, weights = mean[inside], mass[inside] / mass.sum()
    # Y_r has a positive density everywhere, so that the supremum of L is an essential one: the sample holds it, with a
    # weight too small to change any sum.
    values, weights = np.append(values, max(top, values.max())), np.append(weights, _VANISHING)
    average = float(moment.sum() / mass.sum())
    summary = {
        "mean_localization": average,
        "sup_localization": float(values[-1]),
        "mmse": average / snr**2,
        "mass_error": abs(total - 1),
    }
    return values, weights, summary


def supremum(target: Target, snr: float) -> float:
    """sup of L_r over R, for an explicit one-dimensional law."""
    panels, far = _resolve(target, snr)
    return max(float(_monotone_pieces(panels).high.max()), far)


def onset(target: Target, low: float, high: float, scan: int = 49) -> float:
    """Onset SNR r* = max{r: sup L_q <= 1 for all q <= r} ([LDK24] Section 5.2), to a relative 1e-7.

    Scans `scan` SNRs, evenly in log r from `low` to `high` (and below `low` if L exceeds 1 there already), then solves
    between the last that is free of L > 1 and the first that is not. An excursion above 1 that begins and ends between
    two neighbours of the scan is not seen. Returns inf where there is no L > 1 up to `high`, and 0 where there is still
    at a hundredth of `low`: under a heavy tail, L exceeds 1 at every SNR, far out.
    """
    from scipy.optimize import root_scalar  # slow to import

    def excess(log_snr: float) -> float:
        return supremum(target, math.exp(log_snr)) - 1

    grid = np.linspace(math.log(low), math.log(high), scan)
    step = grid[1] - grid[0]
    first = next((x for x in grid if excess(x) > 1e-10), None)
    if first is None:
        return math.inf
    if first == grid[0] and excess(first - math.log(100)) > 0:
        return 0.0
    before = first - step
    while excess(before) > 0:
        before, first = before - step, before
    found: Any = root_scalar(excess, bracket=(before, first), xtol=1e-8)
    return math.exp(found.root)


def _resolve(target: Target, snr: float) -> tuple[_Panels, float]:
    """Panels on which L_r and the density of Y_r are resolved, and the largest L_r found far outside them."""
    target = target.to(dtype=torch.float64)
    points = target.breakpoints(snr)
    if points is None:
        raise ValueError(f"{target.name} has no explicit one-dimensional density: use method='monte-carlo'")
    edges = points.cpu().numpy()
    reach = np.ldexp(edges[-1] - edges[0], np.arange(24))
    out = target.localize(_column(np.concatenate([edges[0] - reach, edges[-1] + reach]), target), snr).norm
    far = out.nan_to_num(0.0).max()  # NaN: farther out than the law is known

    left, right = edges[:-1], edges[1:]
    before = np.full(len(left), np.inf)
    done: list[_Panels] = []
    while len(left):
        middle, half = (left + right) / 2, (right - left) / 2
        y = _column(middle[:, None] + half[:, None] * _NODES, target)
        norm, log_density = (part.cpu().numpy().reshape(-1, _ORDER) for part in target.norm_and_log_density(y, snr))
        localization, density = norm, half[:, None] * np.exp(log_density)
        new = _Panels(*(values @ _ANALYSIS.T for values in (localization, density, localization * density)))
        error = _relative_tail(new.localization)
        shape = np.maximum(_relative_tail(new.density), _relative_tail(new.moment))
        error = np.maximum(error, np.where(density.max(1) < _NEGLIGIBLE, 0, shape))
        # Halving a panel divides the error of a smooth function by thousands. Where it does not, only rounding is left.
        rounding = (error < 1e-5) & (error > before / 8)
        good = (error <= _RESOLVED) | rounding | (half <= 4 * np.finfo(float).eps * abs(middle))
        done.append(_Panels(*(part[good] for part in new)))
        left, right, middle, error = left[~good], right[~good], middle[~good], error[~good]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        before = np.concatenate([error, error])
    return _Panels(*(np.concatenate(parts) for parts in zip(*done, strict=True))), float(far)


def _column(points: Array, target: Target) -> torch.Tensor:
    return torch.from_numpy(points.reshape(-1, 1)).to(target.device)


def _relative_tail(coefficients: Array) -> Array:
    """The last Legendre coefficients of each row, relative to the largest."""
    return abs(coefficients[:, -3:]).max(1) / np.maximum(abs(coefficients).max(1), np.finfo(float).tiny)


def _series(coefficients: Array, x: Array) -> Array:
    """Legendre series, one row of coefficients per point."""
    return np.einsum("ij,ij->i", legendre.legvander(x, coefficients.shape[1] - 1), coefficients)


def _monotone_pieces(panels: _Panels) -> _Pieces:
    """Cut every panel at the critical points of L. Where L is constant to rounding, the panel is one flat piece."""
    slope = panels.localization @ _DERIVATIVE.T
    values = panels.localization @ legendre.legvander(_SCAN, _ORDER - 1).T
    flat = np.ptp(values, axis=1) <= _FLAT * values.max(1)
    rising = slope @ legendre.legvander(_SCAN, _ORDER - 1).T > 0
    panel, cell = np.nonzero((rising[:, 1:] != rising[:, :-1]) & ~flat[:, None])
    critical = _bisect(slope[panel], _SCAN[cell], _SCAN[cell + 1])

    every = np.arange(len(slope))
    one = np.ones(len(slope))
    owner = np.concatenate([every, panel, every])
    x = np.concatenate([-one, critical, one])
    order = np.lexsort((x, owner))
    owner, x = owner[order], x[order]
    value = np.maximum(_series(panels.localization[owner], x), 0)
    same = owner[1:] == owner[:-1]
    owner, start, end, first, last = owner[:-1][same], x[:-1][same], x[1:][same], value[:-1][same], value[1:][same]
    constant = flat[owner]
    first = np.where(constant, panels.localization[owner, 0], first)
    last = np.where(constant, first, last)
    falling = first > last
    return _Pieces(
        owner,
        np.where(falling, end, start),
        np.where(falling, start, end),
        np.minimum(first, last),
        np.maximum(first, last),
    )


def _bisect(coefficients: Array, low: Array, high: Array) -> Array:
    """A zero of each series between `low` and `high`, where it changes sign."""
    if len(low) == 0:
        return low
    sign = _series(coefficients, low) > 0
    for _ in range(50):
        middle = (low + high) / 2
        left = (_series(coefficients, middle) > 0) == sign
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return (low + high) / 2


def _crossings(coefficients: Array, low: Array, high: Array, level: Array) -> Array:
    """Where monotone series, each rising from x = `low` to x = `high`, pass `level`.

    Newton's step on the local parabola, which is fast beside critical points too, kept inside a bracket.
    """
    coefficients = coefficients.copy()
    coefficients[:, 0] -= level
    slope = coefficients @ _DERIVATIVE.T
    curvature = slope @ _DERIVATIVE.T
    rounding = 4 * np.finfo(float).eps * abs(coefficients).sum(1)
    found = (low + high) / 2
    active, x = np.arange(len(level)), found.copy()
    for _ in range(60):
        vandermonde = legendre.legvander(x, _ORDER - 1)
        f, f1, f2 = (np.einsum("ij,ij->i", vandermonde, c) for c in (coefficients, slope, curvature))
        low, high = np.where(f < 0, x, low), np.where(f < 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = x - 2 * f / (f1 + np.copysign(np.sqrt(np.maximum(f1**2 - 2 * f * f2, 0)), f1))
        inside = (step >= np.minimum(low, high)) & (step <= np.maximum(low, high))
        there = abs(f) <= rounding
        moved = np.where(there, x, np.where(inside, step, (low + high) / 2))
        going = abs(moved - x) > 1e-13
        found[active] = moved
        if not going.any():
            break
        active, x, low, high, rounding = active[going], moved[going], low[going], high[going], rounding[going]
        coefficients, slope, curvature = coefficients[going], slope[going], curvature[going]
    return found


def _bins(panels: _Panels, pieces: _Pieces, grid: Array) -> tuple[Array, Array]:
    """Mass and first moment of L in (-inf, u_0], (u_0, u_1], ..., (u_last, inf) for the sorted levels u."""
    slack = _SNAP * abs(grid)
    # Levels strictly inside each piece are those numbered first .. last - 1.
    first = np.searchsorted(grid + slack, pieces.low, side="left")
    last = np.maximum(np.searchsorted(grid + slack, pieces.high, side="left"), first)
    # A piece that starts at a level to rounding starts above it, one that ends at a level ends below it.
    start_at = (first < len(grid)) & (pieces.high > pieces.low)
    start_at &= abs(grid[np.minimum(first, len(grid) - 1)] - pieces.low) <= slack[np.minimum(first, len(grid) - 1)]
    first = first + (start_at & (last > first))
    count = last - first
    begin = np.cumsum(count) - count
    piece = np.repeat(np.arange(len(count)), count)
    level = grid[first[piece] + np.arange(len(piece)) - begin[piece]]
    crossing = _crossings(panels.localization[pieces.panel[piece]], pieces.x_low[piece], pieces.x_high[piece], level)
    # Cells: each piece is split at its crossings, in the order of rising L.
    cell = np.repeat(np.arange(len(count)), count + 1)
    k = np.arange(len(cell)) - (begin + np.arange(len(count)))[cell]
    ends = np.concatenate([crossing, [0.0]])
    lower = np.where(k == 0, pieces.x_low[cell], ends[begin[cell] + k - 1])
    upper = np.where(k == count[cell], pieces.x_high[cell], ends[np.minimum(begin[cell] + k, len(crossing))])
    span = legendre.legvander(upper, _ORDER) - legendre.legvander(lower, _ORDER)
    sums = []
    for coefficients in (panels.density, panels.moment):
        primitive = (coefficients @ _ANTIDERIVATIVE.T)[pieces.panel[cell]]
        part = np.einsum("ij,ij->i", span, primitive) * np.where(upper < lower, -1.0, 1.0)
        sums.append(np.bincount(first[cell] + k, np.maximum(part, 0), len(grid) + 1))
    return sums[0], sums[1]


def _tails(panels: _Panels, pieces: _Pieces, grid: Array) -> tuple[Array, Array]:
    """P(L > u) and E[(L - u)_+] at sorted levels u."""
    mass, moment = _bins(panels, pieces, grid)
    above = np.cumsum(mass[:0:-1])[::-1]
    return above, np.cumsum(moment[:0:-1])[::-1] - grid * above


def _quantiles(panels: _Panels, count: int) -> Array:
    """Levels that share out the mass of L about evenly."""
    synthesis = legendre.legvander(_NODES, _ORDER - 1).T
    values = (panels.localization @ synthesis).ravel()
    order = np.argsort(values)
    mass = np.cumsum(np.maximum((panels.density @ synthesis) * _GAUSS, 0).ravel()[order])
    return values[order][np.searchsorted(mass, mass[-1] * (np.arange(count) + 0.5) / count)]


def _refine(panels: _Panels, pieces: _Pieces, grid: Array, perturbations: Sequence[float]) -> Array:
    """Add levels around the minimiser of h(1 - u)/(1 - u) and around the values at risk, to about 1e-9."""
    share = np.array([1 / m for m in perturbations])
    survival, tail = _tails(panels, pieces, grid)
    for _ in range(8):
        # h/(1 - u) falls while (1 - u) s(u) > h(1 - u), and the difference of the two falls with u: one zero.
        signs = np.vstack([(tail - (1 - grid) * survival >= 0) | (grid >= 1), survival <= share[:, None]])
        upper = np.maximum(signs.argmax(1), 1)
        wide = grid[upper] - grid[upper - 1] > 1e-9 * np.maximum(grid[upper], 1e-3)
        upper = np.unique(upper[wide])
        if len(upper) == 0:
            break
        steps = np.linspace(0, 1, 14)[1:-1]
        new = np.unique(grid[upper - 1][:, None] + (grid[upper] - grid[upper - 1])[:, None] * steps)
        new = np.setdiff1d(new, grid)
        new_survival, new_tail = _tails(panels, pieces, new)
        grid, survival, tail = (
            np.concatenate(pair) for pair in ((grid, new), (survival, new_survival), (tail, new_tail))
        )
        order = np.argsort(grid)
        grid, survival, tail = grid[order], survival[order], tail[order]
    return grid
