"""The Langevin process of any potential on the line, exactly in law: dX = -f'(X) dt + sqrt(2/beta) dB.

Its law p solves dp/dt = (f' p)' + p''/beta, whose two parts have closed forms: the drift carries places along dx/dt =
-f'(x) and leaves their masses alone, and the noise convolves with a normal law. Over a time tau, half the noise, the
drift, the other half (Strang) are the process but for O(tau^3):

    p  ->  p * N(0, tau/beta)  ->  sum_j m_j delta(xi_j),  xi_j = the drift from x_j,  ->  sum_j m_j N(xi_j, tau/beta).

Between noise and drift the law is smooth on the length of the noise, so that equidistant nodes x_j of less than that,
with masses m_j = h p(x_j), stand for it to rounding; all sums are of positive terms in logarithms, so that tails and
gaps keep their relative accuracy. Runs of n, 2 n and 4 n substeps are extrapolated (Richardson) in the logarithm of
the density, its derivatives and the normal score, which leaves O(tau^6). n is doubled until normal scores by two runs
and by three agree to 1e-6 in the mean square.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import ndtr, ndtri

from brenier.core.checks import Array
from brenier.laws.base import Target
from brenier.laws.line.quantiles import REACH, Quantiles
from brenier.probing.chain.potential import Potential

NODES = 6000  # most nodes that a law is given
SUBSTEPS = 32  # most substeps of a step in the coarsest run
_SPACING = 0.6  # of nodes, in deviations of half a substep's noise: sums over them err by 1e-12
_SHARES = 1 / 45, -20 / 45, 64 / 45  # of the runs, coarse to fine: their errors are even in tau
_LAST_TWO = -1 / 3, 4 / 3
_AGREE = 1e-6  # how far apart, in the mean square, normal scores by two and by three runs may be
_NOTHING = -1e6  # the logarithm of no mass
_ROUND = 16  # nodes by which a stretch of them grows or shrinks
_ROWS, _FEWEST = 64, 8  # places that are worked on at once, and nodes of each at least
_WINDOW = 18.0  # deviations beyond which a normal law has passed
_NEAR, _FADED = 20.0, 40.0  # deviations within which nodes are looked for, and logarithms by which they fade there


class Level(NamedTuple):
    """What is known of a law at places (n,)."""

    log_density: Array
    score: Array
    bend: Array  # (log p)''


class _Noise:
    """sum_j m_j N(xi_j, sigma^2) at fixed places x, from the nodes within `_NEAR` deviations of each.

    Where the mass falls so steeply that those beyond might matter, all nodes are summed over.
    """

    def __init__(self, nodes: Array, sigma: float, x: Array) -> None:
        self._nodes, self._sigma, self._x = nodes, sigma, x
        self._blocks: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
        order = np.argsort(x, kind="stable")
        for rows in np.array_split(order, max(len(x) // _ROWS, 1)):
            low, high = (np.searchsorted(nodes, x[rows] + side * _NEAR * sigma) for side in (-1, 1))
            width = min(max(int((high - low).max(initial=0)), _FEWEST), len(nodes))
            self._blocks.append((rows, np.minimum(low, len(nodes) - width)[:, None] + np.arange(width)))

    def log_density(self, log_mass: Array) -> Array:
        """Log density at each place."""
        return self._sums(log_mass, moments=False)[0]

    def level(self, log_mass: Array) -> Level:
        """Log density, score and its derivative at each place."""
        return Level(*self._sums(log_mass, moments=True))

    def _sums(self, log_mass: Array, *, moments: bool) -> Array:
        found = np.empty((3 if moments else 1, len(self._x)))
        last = len(self._nodes) - 1
        for rows, near in self._blocks:
            log, away = self._terms(rows, log_mass[near], self._nodes[near])
            top = log.max(1)
            edges = np.where(
                near[:, [0, -1]] % last == 0, -np.inf, log[:, [0, -1]]
            )  # nothing lies beyond the outermost
            wide = edges.max(1) > top - _FADED
            found[:, rows] = self._reduced(log, away, top, moments)
            if wide.any():
                log, away = self._terms(rows[wide], log_mass, self._nodes)
                found[:, rows[wide]] = self._reduced(log, away, log.max(1), moments)
        return found

    def _terms(self, rows: NDArray[np.intp], log_mass: Array, nodes: Array) -> tuple[Array, Array]:
        away = (nodes - self._x[rows, None]) / self._sigma
        return log_mass - away**2 / 2, away

    def _reduced(self, log: Array, away: Array, top: Array, moments: bool) -> Array:
        weight = np.exp(log - top[:, None])
        total = weight.sum(1)
        log_density = top + np.log(total) - math.log(2 * math.pi * self._sigma**2) / 2
        if not moments:
            return log_density[None]
        mean = (weight * away).sum(1) / total
        spread = (weight * (away - mean[:, None]) ** 2).sum(1) / total
        return np.stack([log_density, mean / self._sigma, (spread - 1) / self._sigma**2])


class Reach:
    """Places between which laws lie from time to time, and may be asked for.

    Args:
        time: increasing, from 0, shape (m,).
        low, high: the ends at those times, shape (m,).
    """

    def __init__(self, time: Array, low: Array, high: Array) -> None:
        self._time, self._low, self._high = time, low, high

    def between(self, first: float, last: float) -> tuple[float, float]:
        """The ends over a stretch of time."""
        inside = (self._time > first) & (self._time < last)
        low, high = ([*part[inside], *np.interp([first, last], self._time, part)] for part in (self._low, self._high))
        return float(min(low)), float(max(high))

    def widened(self, time: Array, low: Array, high: Array) -> "Reach | None":
        """The same with room for places from low to high at some times, shape (k,); None if it has that already."""
        ends = [np.interp(time, self._time, part) for part in (self._low, self._high)]
        if np.all(low >= ends[0]) and np.all(high <= ends[1]):
            return None
        every = np.union1d(time, self._time)
        lower, upper = (np.interp(every, self._time, part) for part in (self._low, self._high))
        room = 0.1 * (upper - lower)
        lower = np.minimum(lower, np.interp(every, time, low) - room)
        return Reach(every, lower, np.maximum(upper, np.interp(every, time, high) + room))


class _Run:
    """One run, of n substeps to each step."""

    def __init__(
        self, law: Target, potential: Potential, steps: int, eta: float, beta: float, reach: Reach, n: int
    ) -> None:
        tau = eta / n
        self.sigma = math.sqrt(tau / beta)
        low, high = reach.between(0, steps * eta)
        count = math.ceil((high - low) / (_SPACING * self.sigma)) + 1
        if count > NODES:
            raise ValueError(
                f"the laws of the chain reach from {low:.3g} to {high:.3g}, {count:,} nodes at a noise of "
                f"{self.sigma:.2g} per substep, and {NODES:,} are the most: make eta larger or beta smaller, truncate "
                f"the laws, or leave out the noise (beta = inf)"
            )
        lattice = np.linspace(low, high, count)
        places = carried(potential, lattice, tau)
        step = float(lattice[1] - lattice[0])

        def part(time: float) -> slice:
            ends = reach.between(max(time - tau, 0), time)
            first, last = (round((end - low) / step / _ROUND) * _ROUND for end in ends)
            return slice(max(first - _ROUND, 0), min(last + _ROUND, count))

        here = part(0.0)
        x = torch.from_numpy(lattice[here])
        first = law.distribution(x, torch.ones_like(x), torch.full_like(x, self.sigma))
        # A law may not know its density where there is less than e^-400 of it.
        log_mass = math.log(step) + np.nan_to_num(first.log_density.numpy(), nan=_NOTHING, neginf=_NOTHING)
        self.places: list[Array] = []  # of step k at k - 1: where the drift that ends there takes the nodes
        self.log_mass: list[Array] = []
        between: _Noise | None = None
        known: tuple[slice, slice] | None = None
        for turn in range(1, n * steps + 1):
            if turn > 1:
                there = part((turn - 1) * tau)
                if between is None or known != (here, there):  # after a drift and before the next
                    between, known = _Noise(places[here], math.sqrt(2) * self.sigma, lattice[there]), (here, there)
                log_mass, here = math.log(step) + between.log_density(log_mass), there
            if turn % n == 0:
                self.places.append(places[here])
                self.log_mass.append(log_mass)
        self._below = [np.concatenate([[0], np.cumsum(np.exp(mass))]) for mass in self.log_mass]
        self._above = [np.concatenate([[0], np.cumsum(np.exp(mass[::-1]))])[::-1] for mass in self.log_mass]

    def lost(self) -> float:
        """How far the masses of a step are from 1 at most."""
        return max(abs(float(total[-1]) - 1) for total in self._below)

    def at(self, k: int, x: Array) -> Level:
        """Density, score and its derivative at step k >= 1."""
        return _Noise(self.places[k - 1], self.sigma, x).level(self.log_mass[k - 1])

    def log_density(self, k: int, x: Array) -> Array:
        """Density alone."""
        return _Noise(self.places[k - 1], self.sigma, x).log_density(self.log_mass[k - 1])

    def normal_score(self, k: int, x: Array) -> Array:
        """Phi^-1(F_k(x))."""
        places = self.places[k - 1]
        found = np.empty((2, len(x)))
        for rows in np.array_split(np.argsort(x, kind="stable"), max(len(x) // _ROWS, 1)):
            low, high = (np.searchsorted(places, x[rows] + side * _WINDOW * self.sigma) for side in (-1, 1))
            near = low[:, None] + np.arange(max(int((high - low).max(initial=0)), 1))
            inside = near < high[:, None]
            near = np.minimum(near, len(places) - 1)
            mass = np.where(inside, np.exp(self.log_mass[k - 1][near]), 0)
            passed = (x[rows, None] - places[near]) / self.sigma
            found[0, rows] = self._below[k - 1][low] + (mass * ndtr(passed)).sum(1)
            found[1, rows] = self._above[k - 1][high] + (mass * ndtr(-passed)).sum(1)
        lower, upper = found
        with np.errstate(divide="ignore"):
            return np.where(lower < upper, ndtri(np.minimum(lower, 0.75)), -ndtri(np.minimum(upper, 0.75)))


class Flow:
    """The laws mu_k, k = 0..K, of a Langevin process that starts from an explicit law on the line.

    Args:
        law: of X at time 0.
        potential: f.
        steps: number of steps K.
        eta: length of a step, in units of time.
        beta: inverse temperature.
        reach: where all laws lie and are asked for.

    Raises:
        ValueError: the laws reach too far for the noise of a step, or a step is so long that 128 substeps do not do.
    """

    def __init__(self, law: Target, potential: Potential, steps: int, eta: float, beta: float, reach: Reach) -> None:
        self.name, self._reach, self._eta = law.name, reach, eta
        self._start = Quantiles(law, np.ones(1), np.zeros(1))
        self._steps, self._tables = steps, dict[int, tuple[Array, Array]]()
        n = 1
        runs = [_Run(law, potential, steps, eta, beta, reach, n << level) for level in range(len(_SHARES))]
        while True:
            self._runs, self.substeps = runs, n << (len(runs) - 1)
            self.disagreement = max(self._apart(k) for k in {1, (steps + 1) // 2, steps})
            if self.disagreement <= _AGREE:
                break
            if n == SUBSTEPS:
                raise ValueError(
                    f"a step of {eta:g} is too long for the potential {potential.name} where {law.name} lies: take a "
                    f"smaller eta and more steps"
                )
            n *= 2
            runs = [*runs[1:], _Run(law, potential, steps, eta, beta, reach, n << (len(runs) - 1))]
        lost = max(run.lost() for run in runs)
        if lost > 1e-8:
            low, high = reach.between(0, steps * eta)
            raise ValueError(f"{lost:.2g} of the mass of {law.name} leaves the stretch from {low:.3g} to {high:.3g}")

    def _apart(self, k: int) -> float:
        """How far apart normal scores by all runs and by the last two are at step k, in the mean square."""
        x = self._nodes(k, 401)
        scores = [run.normal_score(k, x) for run in self._runs]
        known = np.logical_and.reduce([abs(score) < REACH for score in scores])
        scores = [score[known] for score in scores]
        z, off = scores[-1], _mixed(_SHARES, scores) - _mixed(_LAST_TWO, scores[1:])
        mass = np.gradient(ndtr(z)) if len(z) > 1 else np.ones_like(z)
        return math.sqrt(float(off**2 @ mass / mass.sum())) if len(z) else math.inf

    def _nodes(self, k: int, count: int) -> Array:
        return np.linspace(*self._reach.between((k - 1) * self._eta, k * self._eta), count)

    def at(self, k: int, x: Array) -> Level:
        """Log density, score and its derivative at step k >= 1."""
        levels = [run.at(k, x) for run in self._runs]
        return Level(*(_mixed(_SHARES, parts) for parts in zip(*levels, strict=True)))

    def normal_score(self, k: int, x: Array) -> Array:
        """Phi^-1(F_k(x)) at step k >= 1."""
        scores = [run.normal_score(k, x) for run in self._runs]
        with np.errstate(invalid="ignore"):
            found = _mixed(_SHARES, scores)
        return np.where(np.isfinite(found), found, scores[-1])

    def curves(self, z: Array) -> Array:
        """Quantile functions at Phi(z), shape (K + 1, m)."""
        return np.concatenate([self._start(z), *(self._quantiles(k, z)[None] for k in range(1, self._steps + 1))])

    def _table(self, k: int) -> tuple[Array, Array]:
        """Places of step k and their normal scores, between which quantiles are looked for."""
        if k not in self._tables:
            nodes = self._nodes(k, max(len(self._runs[-1].places[k - 1]), 401))
            scores = self.normal_score(k, nodes)
            known = np.isfinite(scores)
            self._tables[k] = nodes[known], np.maximum.accumulate(scores[known])
        return self._tables[k]

    def _quantiles(self, k: int, z: Array) -> Array:
        """Newton's method in normal scores between neighbouring nodes, halving where it would leave them."""
        nodes, scores = self._table(k)
        place = np.clip(np.searchsorted(scores, z), 1, len(nodes) - 1)
        low, high = nodes[place - 1], nodes[place]
        x = np.interp(z, scores, nodes)
        for _ in range(60):
            off = self.normal_score(k, x) - z
            low, high = np.where(off < 0, np.maximum(low, x), low), np.where(off < 0, high, np.minimum(high, x))
            slope = np.exp(self._runs[-1].log_density(k, x) + z**2 / 2 + math.log(2 * math.pi) / 2)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                step = x - off / slope
            inside = (step >= low) & (step <= high)
            moved = np.where(inside, step, (low + high) / 2)
            change = abs(moved - x)
            x = moved
            if change.max() <= 1e-11 * (nodes[-1] - nodes[0]):
                break
        return x


def _mixed(shares: tuple[float, ...], parts: Sequence[Array]) -> Array:
    return np.sum([share * part for share, part in zip(shares, parts, strict=True)], axis=0)


def carried(potential: Potential, x: Array, time: float) -> Array:
    """Where dx/dt = -f'(x) takes places (n,) in a time.

    Raises:
        ValueError: it takes one of them to infinity.
    """
    if len(x) == 0:
        return x
    size = max(float(np.ptp(x)), 1e-300)
    found = solve_ivp(
        lambda _, y: -potential.slope(y), (0.0, time), x, method="DOP853", rtol=1e-12, atol=1e-14 * size, t_eval=[time]
    )
    if not found.success:
        raise ValueError(f"the drift of the potential {potential.name} leaves the line within a time of {time:g}")
    return np.maximum.accumulate(found.y[:, -1])


class Noiseless:
    """The laws mu_k of a process without noise, beta = inf: places follow the drift, or steps of its implicit scheme.

    Args:
        law: of X at time 0.
        potential: f.
        steps: number of steps K.
        eta: length of a step.
        implicit: whether x_k solves x + eta f'(x) = x_{k-1}, the proximal map, and not the differential equation.
    """

    def __init__(self, law: Target, potential: Potential, steps: int, eta: float, *, implicit: bool) -> None:
        self._start = Quantiles(law, np.ones(1), np.zeros(1))
        self._potential, self._steps, self._eta = potential, steps, eta
        self._step = proximal if implicit else carried

    def at(self, k: int, x: Array) -> Level:
        """There is no noise: the score, over an infinite beta, does not matter."""
        return Level(np.full_like(x, np.nan), np.zeros_like(x), np.zeros_like(x))

    def curves(self, z: Array) -> Array:
        """Quantile functions at Phi(z), shape (K + 1, m)."""
        found = [self._start(z)[0]]
        for _ in range(self._steps):
            found.append(self._step(self._potential, found[-1], self._eta))
        return np.stack(found)


def proximal(potential: Potential, x: Array, eta: float) -> Array:
    """The y with y + eta f'(y) = x, by Newton's method.

    Raises:
        ValueError: 1 + eta f'' is not positive where it is looked for.
    """
    y = x.copy()
    for _ in range(200):
        slope = 1 + eta * potential.second(y)
        if slope.min(initial=np.inf) <= 0:
            worst = -float(potential.second(y).min())
            raise ValueError(
                f"a JKO step of {eta:g} has no unique minimiser where f'' of the potential {potential.name} is "
                f"{-worst:.3g}: eta must be below {1 / worst:.3g}"
            )
        change = (y + eta * potential.slope(y) - x) / slope
        y = y - change
        if abs(change).max(initial=0) <= 1e-14 * max(abs(y).max(initial=0), 1e-300):
            break
    return y
