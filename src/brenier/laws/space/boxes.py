"""A density in two or three dimensions as it is needed: its logarithm at Gauss-Legendre nodes of boxes.

As on the line (`laws.line.panels`): boxes grow in octaves away from the middle of the law, so that tails of any weight
are reached, and are halved across the axis along which the logarithm is least of a polynomial, until it is one to
`RESOLVED` wherever mass is. Beside a jump boxes shrink until little of the law is left in them. After that the density
is not asked again.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from brenier.core.checks import Array
from brenier.laws.space.asked import LogDensity, Mode

ORDERS = {2: 8, 3: 6}  # nodes along each side of a box
MOST = {2: 30_000, 3: 12_000}  # boxes
RESOLVED = 2e-4  # error of a log density
SHARE = 5e-7  # of the law, times the error of its log density, that a box need not be halved for
VARIATION = 8.0  # nats by which a density may change over a box
TAIL = 1e-7  # share of the law that may lie beyond all boxes
OCTAVES = 120
ROUGH = 0.02  # root of the sum of squares of unresolved boxes' shares above which a law is refused
_NOTHING = 1e-20  # share of a box that is left out

Look: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]  # middles and half sides -> log p at nodes, log masses


class Boxes(NamedTuple):
    """A law in d dimensions: B boxes that hold all but `TAIL` of it, with m nodes along each side.

    Attributes:
        centre: middles, shape (B, d).
        half: half their sides, shape (B, d).
        values: log p at the nodes, shape (B, m^d), the last axis fastest; p is normalised.
        log_mass: log of the mass of each box, shape (B,).
        rough: whether the density jumps in the box, shape (B,).
        log_total: what was subtracted from log p to normalise it.
        unresolved: root of the sum of squares of the shares of rough boxes.
        falls: log2 of the ratio of masses of the last octaves: -nu for a tail of nu degrees of freedom.
    """

    centre: Array
    half: Array
    values: Array
    log_mass: Array
    rough: NDArray[np.bool_]
    log_total: float
    unresolved: float
    falls: float


def grid_of(dim: int) -> tuple[Array, Array]:
    """Nodes of [-1, 1]^d, shape (m^d, d), and the logarithms of their weights."""
    nodes, gauss = legendre.leggauss(ORDERS[dim])
    points = np.array(list(product(nodes, repeat=dim)))
    weights = np.array(list(product(gauss, repeat=dim))).prod(1)
    return points, np.log(weights)


def boxes_of(log_density: LogDensity, modes: list[Mode]) -> Boxes:
    """The boxes of a law with this log density, which need not be normalised.

    Raises:
        ValueError: its integral diverges, as far as that shows; it is too rough to be resolved.
    """
    centre, unit = modes[0].place, modes[0].widths
    dim = len(centre)
    grid, log_gauss = grid_of(dim)

    def look(middle: Array, half: Array) -> tuple[Array, Array]:
        x = middle[:, None] + half[:, None] * grid
        values = log_density(x.reshape(-1, dim)).reshape(len(middle), -1)
        return values, _log_masses(values, half, log_gauss)

    (middle, half, values, log_mass), falls = _octaves(look, centre, unit, modes)
    done: list[tuple[NDArray[Any], ...]] = []
    finished, count = -np.inf, 0
    while True:
        total = np.logaddexp(finished, _log_sum(log_mass))
        share = np.exp(log_mass - total)
        axis, good, rough = _judged(values, half / unit, share, dim)
        good &= ~_held(middle, half, modes)
        spent = count + len(middle) > MOST[dim]
        stop = good | (share < _NOTHING) if not spent else np.ones_like(good)
        keep = stop & (share >= _NOTHING)
        done.append((middle[keep], half[keep], values[keep], log_mass[keep], (rough & ~good)[keep]))
        finished = np.logaddexp(finished, _log_sum(log_mass[keep]))
        count += int(keep.sum())
        if stop.all():
            break
        rest = ~stop
        middle, half = _halved(middle[rest], half[rest], axis[rest])
        values, log_mass = look(middle, half)
    middle, half, values, log_mass, rough = (np.concatenate(part) for part in zip(*done, strict=True))
    total = _log_sum(log_mass)
    share = np.exp(log_mass - total)
    unresolved = float(np.sqrt((share[rough] ** 2).sum()))
    if unresolved > ROUGH:
        place = ", ".join(f"{value:.4g}" for value in middle[rough][share[rough].argmax()])
        raise ValueError(f"log_density is too rough around x = ({place}): {MOST[dim]} boxes do not resolve it")
    return Boxes(middle, half, values - total, log_mass - total, rough, total, unresolved, falls)


def _octaves(look: Look, centre: Array, unit: Array, modes: list[Mode]) -> tuple[tuple[Array, ...], float]:
    """Boxes of the cube around the middle and of octaves around it, as far as the law reaches; and `Boxes.falls`."""
    dim = len(centre)
    ways = np.array(list(product((-0.75, -0.25, 0.25, 0.75), repeat=dim)))
    outer = ways[(abs(ways) > 0.5).any(1)]
    inner = np.array(list(product((-0.5, 0.5), repeat=dim)))
    reach = max(float(np.max(abs(mode.place - centre) / unit)) for mode in modes)
    parts: list[tuple[Array, ...]] = []
    mass: list[float] = []
    for octave in range(OCTAVES):
        size = 2.0**octave
        cells, side = (inner, 0.5) if octave == 0 else (outer * size, size / 4)
        middle = centre + unit * cells
        half = np.broadcast_to(unit * side, middle.shape).copy()
        values, log_mass = look(middle, half)
        parts.append((middle, half, values, log_mass))
        mass.append(_log_sum(log_mass))
        total = _log_sum(np.array(mass))
        if octave > 4 and size > 2 * reach:
            rest = mass[-1] - total
            falls = max(mass[-1] - mass[-2], mass[-2] - mass[-3])
            if rest < math.log(1e-14) or (falls < -1e-2 and rest - math.log(-math.expm1(falls)) < math.log(TAIL)):
                ended = rest < math.log(1e-14)
                found = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
                return found, -math.inf if ended else falls / math.log(2)
    slope = (mass[-1] - mass[-21]) / (20 * math.log(2)) - dim
    slope = round(slope, 6) + 0.0
    if not slope < -dim - 1e-3:
        raise ValueError(
            f"log_density does not fall fast enough, like {slope:.3g} log|x| in {dim} dimensions: its integral is "
            "infinite, and no law has it"
        )
    raise ValueError(
        f"log_density falls like {slope:.3g} log|x| only: too much of the law lies too far out to be computed with; "
        "make it -inf beyond some distance"
    )


def _judged(
    values: Array, shape: Array, share: Array, dim: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """The axis to halve each box across; whether it need not be; whether the density jumps in it."""
    order = ORDERS[dim]
    _, gauss = legendre.leggauss(order)
    nodes = legendre.leggauss(order)[0]
    analysis = (np.arange(order)[:, None] + 0.5) * gauss * legendre.legvander(nodes, order - 1).T
    smooth: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(1))
    cube = np.where(smooth[:, None], values, 0.0).reshape(-1, *([order] * dim))
    tail, change = np.empty((len(values), dim)), np.empty((len(values), dim))
    for axis in range(dim):
        lines = np.moveaxis(cube, axis + 1, -1)
        tail[:, axis] = abs(lines @ analysis[-2:].T).reshape(len(values), -1).max(1)
        change[:, axis] = np.ptp(lines, axis=-1).reshape(len(values), -1).max(1)
    worst = tail.max(1)
    good = smooth & ((worst <= RESOLVED) | (share * np.minimum(worst, 1) <= SHARE))
    good &= (change.max(1) <= VARIATION) | (share <= SHARE)
    good |= share <= SHARE / 100
    score = np.where(smooth[:, None], np.maximum(tail / RESOLVED, change / VARIATION), shape)
    rough = ~smooth | (worst > 0.5)
    return score.argmax(1), good, rough


def _held(middle: Array, half: Array, modes: list[Mode]) -> NDArray[np.bool_]:
    """Boxes around a mode that are wider than it: they may not show it."""
    held = np.zeros(len(middle), dtype=bool)
    for mode in modes:
        held |= ((abs(middle - mode.place) <= half).all(1)) & (half > 2 * mode.widths).any(1)
    return held


def _halved(middle: Array, half: Array, axis: NDArray[np.intp]) -> tuple[Array, Array]:
    row = np.arange(len(middle))
    half = half.copy()
    half[row, axis] /= 2
    step = np.zeros_like(half)
    step[row, axis] = half[row, axis]
    return np.concatenate([middle - step, middle + step]), np.concatenate([half, half])


def _log_masses(values: Array, half: Array, log_gauss: Array) -> Array:
    logs = values + log_gauss
    top = logs.max(1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return top + np.log(np.exp(logs - top[:, None]).sum(1)) + np.log(half).sum(1)


def _log_sum(values: Array) -> float:
    top = float(values.max(initial=-np.inf))
    return top + math.log(np.exp(values - top).sum()) if math.isfinite(top) else top
