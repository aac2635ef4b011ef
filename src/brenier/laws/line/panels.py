"""A density on the line as it is needed: its logarithm in Legendre series on panels, with their masses.

A log density is asked where it matters and then never again. Panels grow in octaves away from the middle of the law,
so that tails of any weight are reached, and are halved until the logarithm is a polynomial to rounding and changes by
no more than `VARIATION` over each: then sixteen nodes integrate the density, too. Beside a kink, a jump or an end where
the density is infinite, panels shrink towards it until nothing of the law is left in the last.
"""

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from brenier.core.checks import Array

LogDensity: TypeAlias = Callable[[Array], Array]

ORDER = 16
NODES, GAUSS = legendre.leggauss(ORDER)
ANALYSIS = (np.arange(ORDER)[:, None] + 0.5) * GAUSS * legendre.legvander(NODES, ORDER - 1).T
VARIATION = 8.0  # nats by which a density may change over a panel
DEPTH = 400.0  # nats below the highest density where a law counts as ended
REMOTE = 48.0  # nats: what lies beyond a place with x p(x) so far below its largest value is 1e-20 of the law
_BEYOND = 26  # octaves that a heavy tail is followed past that place
_FARTHEST = 1e120  # squares of it are numbers
_EPS = float(np.finfo(float).eps)
_RESOLVED = 1e-12  # error of a log density
_LOOKS = 3  # halvings after which a stretch without mass is believed to have none
_MOST = 20000  # panels
_NEGLIGIBLE = 1e-18  # mass of a panel that need not be resolved, of the whole
_UNSEEN = 1e-30  # mass of a panel on which a function may give up, of the whole


class Panels(NamedTuple):
    """A law on the line: P panels that hold all its mass, from left to right; gaps between them have none.

    Attributes:
        left: ends, shape (P,).
        right: ends, shape (P,).
        coefficients: of log p in Legendre polynomials on each panel, shape (P, 16); p is normalised.
        log_mass: log of the mass of each panel, shape (P,).
        goes_on: whether the law goes on, at least 1e-20 of it, to the left and to the right of all panels.
    """

    left: Array
    right: Array
    coefficients: Array
    log_mass: Array
    goes_on: tuple[bool, bool]


def panels_of(
    log_density: LogDensity,
    low: float,
    high: float,
    centre: float,
    unit: float,
    at: Sequence[float] = (),
    blur: float = 0.0,
) -> Panels:
    """Panels of a law with this log density, which need not be normalised.

    Args:
        log_density: of points (n,), up to a constant; -inf where there is no mass.
        low: lower end of the support, or -inf.
        high: upper end, or inf.
        centre: a place where the density is positive.
        unit: a length on which the middle of the law changes.
        at: places that panels shall meet: kinks, jumps, poles, narrow modes.
        blur: rounding of places before they reach the log density.

    Raises:
        ValueError: the log density is NaN or inf on a stretch, is nowhere finite, or its integral diverges.
    """
    left_edges, left_goes = _octaves(log_density, centre, -unit, low)
    right_edges, right_goes = _octaves(log_density, centre, unit, high)
    around = unit * np.ldexp(1.0, -np.arange(41))
    places = np.asarray(at, dtype=float)[:, None] + np.concatenate([[0.0], around, -around])
    edges = np.unique(np.concatenate([left_edges, [centre], right_edges, places.ravel()]))
    first, last = (
        min([left_edges.min(), *(place - unit for place in at)]),
        max([right_edges.max(), *(place + unit for place in at)]),
    )
    edges = edges[(edges >= max(first, low)) & (edges <= min(last, high))]
    left, right, values = _halved(log_density, edges, unit, (low, high), blur)
    log_mass = _log_masses(left, right, values)
    total = _log_sum(log_mass)
    if not math.isfinite(total):
        raise ValueError(f"log_density integrates to {'0' if total < 0 else 'infinity'}: no law has it")
    coefficients = (values - total) @ ANALYSIS.T
    # What was cut off for its depth goes on, too.
    goes = (left_goes or bool(left[0] > low), right_goes or bool(right[-1] < high))
    return Panels(left, right, coefficients, log_mass - total, goes)


def _octaves(log_density: LogDensity, centre: float, unit: float, end: float) -> tuple[Array, bool]:
    """Edges centre + unit 2^k, to one side, as far as the law reaches; and whether it goes on beyond them."""
    reach = abs(end - centre)
    if reach == 0:
        return np.array([centre]), False
    octaves = int(min(math.log2(_FARTHEST / abs(unit)), math.log2(max(reach / abs(unit), 1e-300)) + 1, 420) + 6)
    distance = abs(unit) * np.ldexp(1.0, np.arange(-5, max(octaves, -3) - 5))
    inside = distance[distance < reach]
    x = centre + math.copysign(1, unit) * inside
    with np.errstate(all="ignore"):
        values = np.asarray(log_density(x), dtype=float)
        middle = float(np.asarray(log_density(np.array([centre])), dtype=float)[0])
    bounded = math.isfinite(end)
    if bounded:
        return np.append(x, end), False
    top = float(np.max(values, initial=middle if math.isfinite(middle) else -np.inf, where=np.isfinite(values)))
    with np.errstate(invalid="ignore"):
        spent = ~(values >= top - DEPTH)  # NaN, too: far out, a function may give up
        weight = values + np.log(inside)
    last = int(spent.argmax()) if spent.any() else len(x)
    # Zeros within the law are no end of it.
    more = np.flatnonzero(~spent[last:]) if last < len(x) else np.empty(0, dtype=int)
    if len(more):
        last = last + int(more[-1]) + 1
    peak = float(np.max(weight[:last], initial=-np.inf, where=np.isfinite(weight[:last])))
    far = np.flatnonzero(weight[:last] >= peak - REMOTE)
    settled = int(far[-1]) + 1 if len(far) else 0
    if settled >= len(x) - 1:
        slope = _slope(inside[-9:], values[-9:])
        if not slope < -1 - 1e-6:
            way = math.copysign(math.inf, unit)
            raise ValueError(
                f"log_density does not fall fast enough towards {way}, like {slope:.3g} log|x|: its integral is "
                "infinite, and no law has it; a support that ends would truncate it"
            )
        raise ValueError(
            f"log_density falls like {slope:.3g} log|x| only: quantiles at 1e-20 are too large to be computed with; "
            "give a support that ends"
        )
    if 0 < settled == last < len(x) and not values[last] < values[last - 1]:
        raise ValueError(
            f"log_density is {values[last]:g} at x = {x[last]:.3g}, where there still is mass: give a support that "
            "ends before"
        )
    stop = min(last + 1, settled + _BEYOND, len(x))
    return x[:stop], True


def _slope(x: Array, values: Array) -> float:
    """d log p/d log x over the last few places."""
    if len(x) < 2 or not np.isfinite(values[[0, -1]]).all():
        return 0.0
    return float((values[-1] - values[0]) / np.log(x[-1] / x[0]))


def _halved(
    log_density: LogDensity, edges: Array, unit: float, support: tuple[float, float], blur: float
) -> tuple[Array, Array, Array]:
    """Ends of panels and the log density at their nodes, resolved; panels without mass are left out."""
    left, right = edges[:-1], edges[1:]
    before = np.full(len(left), np.inf)
    done: list[tuple[Array, Array, Array]] = []
    known, top = -np.inf, -np.inf  # log of the mass found, and the highest log density
    for rounds in count():
        if not len(left):
            break
        if sum(len(part[0]) for part in done) + len(left) > _MOST:
            raise ValueError(
                f"log_density is too rough around x = {left[len(left) // 2]:.6g}: {_MOST} panels do not do"
            )
        half = (right - left) / 2
        x = (left + half)[:, None] + half[:, None] * NODES
        values = _asked(log_density, x)
        finite = np.isfinite(values)
        endless = np.flatnonzero(values.min(1) == np.inf)
        if len(endless):
            raise ValueError(f"log_density is inf around x = {x[endless[0], 0]:.6g}: no law has it")
        top = max(top, float(values.max(initial=-np.inf, where=finite)))
        highest = values.max(1, initial=-np.inf, where=values < np.inf)
        lowest = values.min(1, initial=np.inf)
        place = np.maximum(abs(left), abs(right))
        grain = _EPS * place + blur
        narrowest = half <= 128 * grain
        mass = highest + np.log(2 * half)
        known = max(known, _log_sum(np.append(mass[finite.all(1)], known)) if finite.all(1).any() else known)
        tiny = (mass < known + math.log(_NEGLIGIBLE)) & (half < 1e-9 * unit)
        empty = highest < top - DEPTH
        smooth: NDArray[np.bool_] = np.asarray(finite.all(1))
        with np.errstate(invalid="ignore", divide="ignore"):
            tail = abs(np.where(smooth[:, None], values, 0) @ ANALYSIS[-3:].T).max(1)
            change = np.minimum(highest - lowest, VARIATION)
            noise = 64 * (_EPS * abs(np.where(finite, values, 0)).max(1) + grain / half * change)
            at_end = (left <= support[0]) | (right >= support[1])  # a power?
            rounding = (tail < 1e-8) | (~at_end & (mass + np.log(tail) < known + math.log(_NEGLIGIBLE)))
            rounding &= tail > 0.7 * before  # beside a kink it halves, where all is noise it stays
            noise = np.where(at_end, np.minimum(noise, 1e-6), noise)
            good = smooth & (highest - lowest <= VARIATION) & ((tail <= _RESOLVED + noise) | rounding)
        ended = narrowest | tiny | (half < 1e-300) | (~smooth & (mass < known + math.log(_UNSEEN)))
        for i in np.flatnonzero(ended & ~good & ~empty):
            values[i] = _last(left[i], right[i], x[i], values[i], support, float(mass[i] - known))
        keep = (good | ended) & ~empty & (values.max(1) > -np.inf)
        done.append((left[keep], right[keep], values[keep]))
        going = ~(good | ended | (empty & (rounds >= _LOOKS)))
        left, right, tail = left[going], right[going], np.where(smooth, tail, np.inf)[going]
        middle = left + (right - left) / 2
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        before = np.concatenate([tail, tail])
    left, right, values = (np.concatenate(parts) for parts in zip(*done, strict=True))
    if len(left) == 0:
        raise ValueError("log_density is -inf wherever it was looked at: give places with mass in `at`")
    order = np.argsort(left)
    return left[order], right[order], values[order]


def _asked(log_density: LogDensity, x: Array) -> Array:
    with np.errstate(all="ignore"):
        values = np.array(log_density(x.ravel()), dtype=float).reshape(x.shape)
    if np.isnan(values).any():
        raise ValueError(f"log_density is NaN at x = {x[np.isnan(values)][0]:.6g}: it must be a number, or -inf")
    return values


def _last(left: float, right: float, x: Array, values: Array, support: tuple[float, float], share: float) -> Array:
    """The log density on a panel that is halved no further: beside an end of the support, with the mass of a power."""
    finite = np.isfinite(values)
    if not finite.any():
        return values
    filled = np.interp(x, x[finite], values[finite])
    at_end = left <= support[0] or right >= support[1]
    if not at_end:
        if share > math.log(1e-6) and (values.max() == np.inf or np.ptp(filled) > 1):
            raise ValueError(
                f"log_density rises to a pole at x = {x[0]:.6g} whose mass cannot be told: no law has it, or it needs "
                "another coordinate"
            )
        return filled
    distance = x - left if left <= support[0] else right - x
    used = distance > 0.05 * (right - left)
    power = float(np.polyfit(np.log(distance[used]), filled[used], 1)[0])
    if power <= -1 + 1e-6:
        raise ValueError(
            f"log_density rises like {power:.3g} log|x - {left if left <= support[0] else right:.6g}|: its integral is "
            "infinite, and no law has it"
        )
    height = float(np.mean(filled[used] - power * np.log(distance[used])))
    log_mass = height + (power + 1) * math.log(right - left) - math.log1p(power)
    found = _log_masses(np.array([left]), np.array([right]), filled[None])[0]
    return filled + (log_mass - found)


def _log_masses(left: Array, right: Array, values: Array) -> Array:
    peak = values.max(1)
    return peak + np.log(np.exp(values - peak[:, None]) @ GAUSS * (right - left) / 2)


def _log_sum(values: Array) -> float:
    peak = float(values.max(initial=-np.inf))
    return peak + math.log(np.exp(values - peak).sum()) if math.isfinite(peak) else peak
