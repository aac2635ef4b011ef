"""JKO steps on the line, each of which minimises a free energy near the law before.

    W2^2(mu_{k-1}, nu)/(2 eta) + int f dnu + int log nu dnu/beta                      ([LDK24] Proposition 1)

is least over all laws nu at mu_k: the implicit Euler step of the gradient flow that the Langevin process is. In
quantile functions it is convex where 1 + eta f'' > 0. With a label zeta of the mass, of log density l(zeta) and old
place y(zeta), the new place x = S(zeta) minimises

    J(S) = int e^l [(S - y)^2/(2 eta) + f(S) - log S'/beta] dzeta,

here over splines S by Newton's method, whose system is banded. The new law has log p(S(zeta)) = l(zeta) - log
S'(zeta), and labels the next step: there y is the identity. Labels of the first are places of the old law seen
through noise of variance 2 eta/beta, so that point masses and gaps need no more than a knot where y jumps. All
weights are logarithms: tails and gaps keep their relative accuracy.

The optimal map back is y(zeta) from S(zeta). That it is i + eta (f' + (log p)'/beta) is what Proposition 1 says;
nothing here uses it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import BSpline, make_lsq_spline
from scipy.sparse.linalg import splu

from brenier.core.checks import Array
from brenier.laws.base import Target
from brenier.laws.line.quantiles import Quantiles, normal_score
from brenier.probing.chain.flow import Level
from brenier.probing.chain.potential import Potential

KNOTS = 6000  # most stretches between knots
EXTENT = 12.0  # |z| up to which laws are held; beyond, where 1e-33 of the mass lies, their scores are continued
_DEGREE = 5
_NODES, _GAUSS = np.polynomial.legendre.leggauss(8)
_RESOLUTION = 3.0  # knots per deviation of a step's noise at first
_FALL = 0.6  # by how much the logarithm of the density may fall between knots
_FINE = 4001
_MIDDLE = 6.0  # |z| up to which knots have to be close enough,
_SETTLED = 1e-7  # which is so when closer ones change S and what the score does in a step by less than this, relatively
KINKS = 64
_ASIDE = 1e-6  # in normal scores, of where a quantile function jumps
_COARSEST = 100  # fewest stretches between knots at first
_MARGIN = 8  # stretches at either end that are left out: there S depends on how it ends
_TURNS = 60
_CLOSE = 1e-12  # relative to the stretch: where Newton's method ends,
_ROUNDING = 1e-9  # or from here on where it gets no closer
_REACH = 8.5  # |z| up to which quantile functions have tables
_KEPT = 0.25  # of its slope S keeps at least so much in a step of Newton's method


class _Step(NamedTuple):
    """One JKO step."""

    onward: BSpline  # S: places of the new law by label
    density: BSpline  # log density of the new law
    ends: tuple[float, float]  # between which it is kept: beyond, it is continued by its last two derivatives
    kinks: Array  # places where its score jumps

    def level(self, x: Array) -> Level:
        """Log density, score and its derivative at places (n,)."""
        inside = np.clip(x, *self.ends)
        over = x - inside
        density, score, bend = (self.density(inside, nu) for nu in range(3))
        return Level(density + over * (score + over * bend / 2), score + over * bend, bend)

    def reach(self) -> tuple[float, float]:
        """Places beyond which the density is below exp(-EXTENT^2/2) of its largest, or a tenth of the law away."""
        ends = np.array(self.ends)
        density, score, bend = self.level(ends)
        floor = float(self.density.c.max()) - EXTENT**2 / 2
        width = ends[1] - ends[0]
        away = np.linspace(0, width / 10, 400)[:, None]
        outward = score * np.array([-1.0, 1.0])
        above = density + away * (outward + away * bend / 2) > floor
        first = np.where(above.all(0), len(away) - 1, (~above).argmax(0))
        low, high = ends + away[first, 0] * np.array([-1.0, 1.0])
        return float(low), float(high)


class Proximal:
    """The laws mu_k, k = 0..K, of JKO steps from an explicit law on the line.

    Args:
        law: of X at time 0.
        potential: f.
        steps: number of steps K.
        eta: length of a step.
        beta: inverse temperature.

    Attributes:
        gap: the widest between parts of the law, 0 where it has none.

    Raises:
        ValueError: 1 + eta f'' is not positive, so that the step has no unique minimiser; the laws reach too far.
    """

    def __init__(self, law: Target, potential: Potential, steps: int, eta: float, beta: float) -> None:
        self.name = law.name
        self._potential, self._eta, self._beta = potential, eta, beta
        self._start = Quantiles(law, np.ones(1), np.zeros(1))
        rough = _kinks(law, self._start)
        before, after = (self._start(self._start.jumps() + side)[0] for side in (-_ASIDE, _ASIDE))
        self.gap = float((after - before).max(initial=0.0))
        if len(rough) > KINKS:
            raise ValueError(f"{law.name} has {len(rough)} point masses and gaps: JKO steps take {KINKS} at most")
        noise = math.sqrt(2 * eta / beta)
        blur = noise if len(rough) else min(noise, law.scales()[0] / 2)
        self._labels = Quantiles(law, np.ones(1), np.full(1, blur))
        self.steps = [self._first(law, rough, noise)]
        for _ in range(1, steps):
            last = self.steps[-1]
            grid = self._grid(*last.reach(), lambda x, last=last: last.level(x).log_density)
            label = _points(grid, last.kinks)
            self.steps.append(self._step(grid, last.kinks, label, label, last.level(label).log_density))

    def _first(self, law: Target, rough: Array, noise: float) -> _Step:
        """The first step, on knots so close that closer ones change nothing."""
        low, high = (float(end) for end in _deep(law, self._labels, np.array([-EXTENT, EXTENT])))
        kinks = self._labels(rough)[0]
        self._width = min(noise / _RESOLUTION, (high - low) / _COARSEST)
        middle = self._labels(np.linspace(-_MIDDLE, _MIDDLE, 400))[0]
        step: _Step | None = None
        place, pull = np.full((2, len(middle)), np.inf)
        while True:
            onward = None if step is None else step.onward
            grid = self._grid(low, high, lambda x: self._labels.rows(x[None]).log_density.numpy()[0], onward)
            label = _points(grid, kinks)
            found = self._labels.rows(label[None])
            old = _deep(law, self._start, normal_score(found)[0])
            step = self._step(grid, kinks, label, old, found.log_density.numpy()[0])
            before = place, pull
            place = step.onward(middle)
            pull = self._eta / self._beta * step.level(place).score
            off = max(float(abs(new - last).max()) for new, last in zip((place, pull), before, strict=True))
            if off <= _SETTLED * float(np.ptp(place)):
                return step
            self._width /= 2

    @property
    def emptiness(self) -> str:
        """Why steps are not resolved, and what to do.

        From two points a gap g apart a step makes exp(-beta min (x - y_i)^2/(2 eta)), but for f: in the middle that is
        exp(-beta g^2/(8 eta)) of what it is at the points. The maps of the steps that follow are as steep there.
        """
        if self.gap == 0:
            return "where parts of a law are many deviations of a step's noise apart, take a larger eta, or the flow"
        empty = self._beta * self.gap**2 / (8 * self._eta)
        return (
            f"in the middle of its gap of {self.gap:.3g} a step leaves exp({-empty:.3g}) of the density beside it, and "
            "the map of the next is as steep: take a larger eta, or the flow"
        )

    def at(self, k: int, x: Array) -> Level:
        """Log density, score and its derivative at step k >= 1."""
        return self.steps[k - 1].level(x)

    def curves(self, z: Array) -> Array:
        """Quantile functions at Phi(z), shape (K + 1, m)."""
        found = [self._start(z)[0]]
        place = self._labels(z)[0]
        for step in self.steps:
            place = step.onward(place)
            found.append(place)
        return np.stack(found)

    def _grid(
        self, low: float, high: float, log_density: Callable[[Array], Array], onward: BSpline | None = None
    ) -> Array:
        """Ends of stretches, short beside the noise, and where the density is steep short beside its fall.

        What a spline minimises is weighted by the density: were that to fall over a stretch, the inner end alone would
        say how S goes on outwards. With a first S they are short after it, too.
        """
        x = np.linspace(low, high, _FINE)
        rate = np.full(_FINE, 1 / self._width)
        if onward is not None:
            rate *= np.maximum(onward(x, 1), 1)
        rate = np.maximum(rate, abs(np.gradient(log_density(x), x)) / _FALL)
        total = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(x))])
        if total[-1] > KNOTS:
            raise ValueError(
                f"JKO steps of {self.name}, which reaches from {low:.3g} to {high:.3g}, take {total[-1]:,.0f} knots "
                f"{self._width:.2g} apart, and {KNOTS:,} are the most: make eta larger or beta smaller, or truncate "
                f"the law"
            )
        return np.interp(np.linspace(0, total[-1], math.ceil(total[-1]) + 1), total, x)

    def _step(self, grid: Array, kinks: Array, label: Array, old: Array, log_density: Array) -> _Step:
        knots = _knots(grid, kinks)
        onward = self._minimise(knots, label, old, log_density)
        place, slope = onward(label), onward(label, 1)
        new = make_lsq_spline(place, log_density - np.log(slope), onward(knots), _DEGREE)
        low, high = onward(grid[[_MARGIN, -1 - _MARGIN]])
        return _Step(onward, new, (float(low), float(high)), onward(kinks))

    def _minimise(self, knots: Array, label: Array, old: Array, log_density: Array) -> BSpline:
        """S by Newton's method. Rows are divided by their largest weight, which may be no number by itself."""
        eta, beta, f = self._eta, self._beta, self._potential
        basis, slopes = _basis(knots, label)
        inner = _spans(knots)
        log_weight = log_density + np.log(np.tile(_GAUSS, len(inner)) * np.repeat(inner, len(_NODES)) / 2)
        weighted, weighted_slopes = (_by_largest(part, basis, log_weight) for part in (basis, slopes))
        inside = sparse.diags(np.concatenate([[0.0], np.ones(len(knots) - _DEGREE - 3), [0.0]]))
        straight = _straight(knots)
        greville = np.convolve(knots[1:-1], np.ones(_DEGREE), "valid") / _DEGREE
        coefficients, size = greville, math.inf  # S = zeta
        for _ in range(_TURNS):
            place, slope = basis @ coefficients, slopes @ coefficients
            force = (place - old) / eta + f.slope(place)
            gradient = inside @ (weighted.T @ force - weighted_slopes.T @ (1 / slope) / beta) + straight @ coefficients
            stiff = 1 / eta + f.second(place)
            if stiff.min() <= 0:
                worst = -float(f.second(place).min())
                raise ValueError(
                    f"a JKO step of {eta:g} has no unique minimiser where f'' of the potential {f.name} is "
                    f"{-worst:.3g}: eta must be below {1 / worst:.3g}"
                )
            hessian = weighted.T @ basis.multiply(stiff[:, None]) + weighted_slopes.T @ slopes.multiply(
                1 / (beta * slope[:, None] ** 2)
            )
            change = splu(sparse.csc_matrix(inside @ hessian + straight)).solve(-gradient)
            steeper = slopes @ change
            with np.errstate(divide="ignore"):
                most = float(np.min(np.where(steeper < 0, (1 - _KEPT) * slope / -steeper, np.inf)))
            coefficients = coefficients + min(most, 1.0) * change
            size, before = abs(change).max() / (knots[-1] - knots[0]), size
            if most >= 1 and (size <= _CLOSE or _ROUNDING >= size > before / 2):
                return BSpline(knots, coefficients, _DEGREE)
        raise ValueError(
            f"a JKO step of {eta:g} of {self.name} is not found in {_TURNS} steps of Newton's method: {self.emptiness}"
        )


def _knots(grid: Array, kinks: Array) -> Array:
    """Ends of the stretches: those of the grid, and kinks several times, where splines may have one."""
    inside = grid[1:-1]
    inside = inside[np.min(abs(inside[:, None] - kinks), 1, initial=np.inf) > np.diff(grid).min() / 3]
    kinks = kinks[(kinks > grid[0]) & (kinks < grid[-1])]
    return np.sort(np.concatenate([np.repeat(grid[[0, -1]], _DEGREE + 1), inside, np.repeat(kinks, _DEGREE)]))


def _spans(knots: Array) -> Array:
    """Lengths of the stretches between different knots."""
    lengths = np.diff(knots)
    return lengths[lengths > 0]


def _points(grid: Array, kinks: Array) -> Array:
    """Nodes on all stretches."""
    ends = np.unique(_knots(grid, kinks))
    middle, half = (ends[1:] + ends[:-1]) / 2, np.diff(ends) / 2
    return (middle[:, None] + half[:, None] * _NODES).ravel()


def _basis(knots: Array, x: Array) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """All splines of a basis at x, and their derivatives."""
    count = len(knots) - _DEGREE - 1
    lower = BSpline.design_matrix(x, knots[1:-1], _DEGREE - 1)
    width = knots[_DEGREE + 1 : -1] - knots[1 : -_DEGREE - 1]
    scaled = lower @ sparse.diags(_DEGREE / width)
    difference = sparse.eye(count - 1, count, k=1) - sparse.eye(count - 1, count)
    return sparse.csr_matrix(BSpline.design_matrix(x, knots, _DEGREE)), sparse.csr_matrix(scaled @ difference)


def _straight(knots: Array) -> sparse.csr_matrix:
    """First and last row: S'' at the ends, from coefficients, in units of S over a stretch; the rest is empty."""
    count = len(knots) - _DEGREE - 1
    greville = np.convolve(knots[1:-1], np.ones(_DEGREE), "valid") / _DEGREE
    rows: list[Array] = []
    for a, b, c in (greville[:3], greville[-3:]):
        rows.append(np.array([c - b, a - c, b - a]) / (c - a))
    places = [0] * 3 + [count - 1] * 3, [0, 1, 2, count - 3, count - 2, count - 1]
    return sparse.csr_matrix((np.concatenate(rows), places), shape=(count, count))


def _by_largest(part: sparse.csr_matrix, basis: sparse.csr_matrix, log_weight: Array) -> sparse.csr_matrix:
    """Columns times weights, each over the largest weight on its spline's support."""
    support = sparse.coo_matrix(basis)
    largest = np.full(int(support.col.max()) + 1, -np.inf)
    np.maximum.at(largest, support.col, log_weight[support.row])
    entries = sparse.coo_matrix(part)
    values = entries.data * np.exp(log_weight[entries.row] - largest[entries.col])
    return sparse.csr_matrix((values, (entries.row, entries.col)), shape=part.shape)


def _kinks(law: Target, quantiles: Quantiles) -> Array:
    """Normal scores at which the quantile function jumps, or where a point mass begins or ends."""
    places = np.unique(law.point_masses()[0].double().numpy())
    sides = [normal_score(quantiles.rows(x[None]))[0] for x in (np.nextafter(places, -np.inf), places)]
    z = np.sort(np.concatenate([quantiles.jumps(), *sides]))
    z = z[abs(z) < _REACH]
    return z[np.diff(z, prepend=-np.inf) > 1e-9]


def _deep(law: Target, quantiles: Quantiles, z: Array) -> Array:
    """Quantiles at Phi(z), also far out in the tails, where they are searched for by halving."""
    found = quantiles(np.clip(z, -_REACH, _REACH))[0]
    scale = law.scales()[1]
    for side in (-1, 1):
        out = side * z > _REACH
        if not out.any():
            continue

        wanted = side * z[out]

        def beyond(x: Array, side: int = side, wanted: Array = wanted) -> NDArray[np.bool_]:
            return side * normal_score(quantiles.rows(x[None]))[0] >= wanted

        near = found[out]
        far = near + side * scale
        for _ in range(100):
            short = ~beyond(far)
            if not short.any():
                break
            far = np.where(short, near + 2 * (far - near), far)
        for _ in range(70):
            middle = (near + far) / 2
            passed = beyond(middle)
            near, far = np.where(passed, near, middle), np.where(passed, middle, far)
        found[out] = far
    return found
