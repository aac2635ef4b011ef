"""The error criterion: the grid with which a sampler ends closest to where the exact flow ends.

Over all grids with so many steps, minimise the mean square end error of the pilots,

    E |x_N - x(end)|^2,

in three stages, each starting where the one before ended:

1. Its linear prediction, local error times amplification (see `pilots`), by Levenberg and Marquardt's method from every
   hand-made grid: no evaluation of the denoiser.
2. The error itself, from runs of the sampler on the pilots: Broyden's updates turn the derivatives of the prediction
   into those of the error, so that one trial takes one run. As the error has several valleys, from several of these
   ends and grids that differ, where evaluations are cheap.
3. There, too, derivatives of the error by difference quotients, from the least of these.

Another objective (see `objectives`) takes the place of the mean square from the second stage on, which then starts from
difference quotients, too: only the error itself is known along the probes of the prediction.

For a network, whose evaluations cost, few pilots and good derivatives do better than many pilots and the derivatives of
the prediction: see `by_runs`.

A grid is described by the logarithms of the gaps between its levels in log sigma, up to a common factor: any choice of
them is a descending grid. For grids that end at 0 the gap from the last positive level to the lowest one allowed
counts, too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Target
from brenier.sampling.multistep import Multistep
from brenier.sampling.objectives import Objective, RootMeanSquare, objective_for
from brenier.sampling.pilots import HERE, Pilots, windows
from brenier.sampling.steps import Memory, SolverName, evaluations, find_solver, walk

Residual: TypeAlias = Callable[[Array], tuple[Array, float]]
Jacobian: TypeAlias = Callable[[Array], Array]

COLUMNS = 512  # of a table, in the first stage
TRIALS = 30  # of the linear prediction, from each start
HANDS = 5  # grids made by hand that are run on the pilots
RUNS = 7  # of the sampler on the pilots, in the second stage from each start
DEEPEST = 3  # ends of the second stage that the third goes on from
TURNS = 5  # trials of the second stage by another objective
ROUNDS, EACH = 3, 4  # for a network: how often derivatives are made, and trials from each
VALLEYS, MANY_VALLEYS = 3, 8  # starts that differ, of networks, and of laws whose evaluations are cheap
DISTINCT = 0.7  # between starts, in log sigma of the level that differs most
REFINEMENTS = 8  # trials in the third
SMALL = 1e-5  # of a difference quotient in log sigma
ENOUGH = 5e-3  # relative gain in mean square below which a stage ends
UNEVEN = 50.0  # largest ratio of two gaps between levels
LEAP = 1.0  # most that the logarithm of a gap changes in one trial


class _Grids(NamedTuple):
    """All grids between two levels, ending at the lower one or, past it, at 0."""

    high: float
    low: float
    to_zero: bool

    def sigmas(self, gaps: Array) -> Array:
        """The grid with these logarithms of gaps."""
        share = np.exp(gaps - gaps.max())
        place = np.cumsum(share / share.sum())[:-1]
        inner = self.high * (self.low / self.high) ** place
        return np.concatenate([[self.high], inner, [0.0 if self.to_zero else self.low]])

    def slopes(self, gaps: Array) -> Array:
        """Derivatives of the logarithms of the inner levels by the gaps, (steps - 1, steps)."""
        share = np.exp(gaps - gaps.max())
        share /= share.sum()
        below = np.tri(len(share))[:-1]
        return math.log(self.low / self.high) * (below - (below @ share)[:, None]) * share

    def gaps(self, sigmas: Sequence[float]) -> Array:
        """Of a grid; one that steps down to `low` before 0 leaves a last gap of a tenth of the others' mean."""
        levels = [*sigmas[:-1], self.low] if self.to_zero else sigmas
        gaps = -np.diff(np.log(levels))
        if self.to_zero:
            gaps[-1] = max(gaps[-1], 0.1 * gaps.mean())
        return np.log(gaps)

    def shortfall(self, gaps: Array) -> Array:
        """By how much gaps are too short beside the longest.

        Levels next to each other make a difference quotient. Multistep solvers would gain by it, but for rounding and a
        network's own error, which it magnifies.
        """
        between = gaps[:-1] if self.to_zero else gaps
        lacking = np.maximum(between.max() - math.log(UNEVEN) - gaps, 0)
        if self.to_zero:
            lacking[-1] = 0
        return lacking


class Found(NamedTuple):
    """The best grid that was found.

    Attributes:
        sigmas: the grid.
        end: where it takes the pilots.
        objective: what it makes small.
        evaluations: of the denoiser, of single points, without those for the pilots.
    """

    sigmas: Array
    end: Tensor
    objective: Objective
    evaluations: int


def minimise(
    law: Target,
    pilots: Pilots,
    solver: SolverName,
    starts: Sequence[Sequence[float]],
    refinements: int = REFINEMENTS,
    objective: str = "error",
    valleys: int = 1,
) -> tuple[Found, list[Array]]:
    """The grid that leaves the pilots the smallest end error, or what else is to be small, and others near to it.

    Few pilots flatter what they were asked for long: on others a grid that was found before may do better.

    Args:
        law: the law that the pilots belong to.
        pilots: see `fly`.
        solver: a deterministic sampler.
        starts: grids to start from, with the same ends and steps; the first `HANDS` are run themselves, too.
        refinements: trials in the third stage; each costs half as many runs as there are steps.
        objective: one of `objectives.OBJECTIVES`.
        valleys: how many starts that differ the second stage of "error" is made from.
    """
    grids = _Grids(pilots.sigmas[0], pilots.sigmas[-1], pilots.to_zero)
    sampler = _Sampler(law, pilots, solver)
    if len(starts[0]) == 2:
        return sampler.found(np.asarray(starts[0]), objective), []

    def predicted(sigmas: Array) -> float:
        return float(np.square(few.contributions(sigmas, solver).sum(0)).sum())

    def all_slopes(sigmas: Array) -> Array:
        return _prediction_slopes(pilots, sigmas, solver) / math.sqrt(len(pilots.end))

    def left(gaps: Array) -> tuple[float, float]:
        """Between points of data many grids may leave the pilots no error at all: then the prediction decides."""
        sigmas = grids.sigmas(gaps)
        return sampler.error(sigmas)[1], predicted(sigmas)

    few, firsts = pilots.thinned(COLUMNS), _descents(pilots, grids, solver, starts)
    hands = [grids.gaps(start) for start in starts[:HANDS]]
    begin = sorted([*firsts[: 2 if valleys == 1 else None], *hands], key=left)
    if objective == "error":
        tried = _apart(grids, begin, valleys)
        ends = [_descend(grids, gaps, sampler.projected, all_slopes, RUNS, secant=True) for gaps in tried]
        ends = sorted(ends, key=lambda found: found[1])[:DEEPEST]
    else:
        sampler.aim = sampler.found(grids.sigmas(begin[0]), objective).objective
        best = min(begin, key=lambda gaps: sampler.error(grids.sigmas(gaps))[1])
        ends = [_descend(grids, best, sampler.error, sampler.slopes, TURNS, secant=True)]
    refined = [_descend(grids, gaps, sampler.error, sampler.slopes, refinements) for gaps, _ in ends if refinements]
    best, *others = (grids.sigmas(gaps) for gaps, _ in sorted([*refined, *ends], key=lambda found: found[1]))
    return sampler.found(best, objective), others


def by_runs(
    law: Target,
    pilots: Pilots,
    solver: SolverName,
    starts: Sequence[Sequence[float]],
    objective: str = "error",
    valleys: int = 1,
) -> tuple[Found, Array]:
    """The same for few pilots of a network, and the best of the starts.

    It begins there or at the best descent of the prediction. `ROUNDS` times derivatives are made by difference
    quotients, and Broyden's updates serve for `EACH` trials. The error may have several valleys, and the least start is
    not always in the deepest.

    Args:
        law: the law that the pilots belong to.
        pilots: see `fly`.
        solver: a deterministic sampler.
        starts: grids to start from, with the same ends and steps; the first `HANDS` - 1 are run themselves, too.
        objective: one of `objectives.OBJECTIVES`.
        valleys: how many starts that differ the first round is made from.
    """
    grids = _Grids(pilots.sigmas[0], pilots.sigmas[-1], pilots.to_zero)
    sampler = _Sampler(law, pilots, solver)
    if len(starts[0]) == 2:
        return sampler.found(np.asarray(starts[0]), objective), np.asarray(starts[0])

    def left(gaps: Array) -> float:
        return sampler.error(grids.sigmas(gaps))[1]

    def descended(gaps: Array) -> tuple[Array, float]:
        return _descend(grids, gaps, sampler.error, sampler.slopes, EACH, secant=True)

    hands = [grids.gaps(start) for start in starts[: HANDS - 1]]
    begin = sorted([*hands, _descents(pilots, grids, solver, starts)[0]], key=left)
    best, tried = begin[0], _apart(grids, begin, valleys)
    for _ in range(ROUNDS):
        sampler.aim = sampler.found(grids.sigmas(best), objective).objective
        best, _ = min(map(descended, tried), key=lambda found: found[1])
        tried = [best]
    return sampler.found(grids.sigmas(best), objective), grids.sigmas(min(hands, key=left))


def cost_of_runs(solver: SolverName, sigmas: Sequence[float], valleys: int = 1) -> int:
    """Evaluations that `by_runs` takes for each pilot, at most."""
    once = evaluations(solver, sigmas)
    slopes = once + sum(evaluations(solver, sigmas[k:]) for k in range(len(sigmas) - 2))
    return HANDS * once + (ROUNDS - 1 + valleys) * (slopes + EACH * once)


def _apart(grids: _Grids, gaps: Sequence[Array], most: int) -> list[Array]:
    """The first of them, and others in their order that differ from those before."""
    chosen: list[Array] = []
    for each in gaps:
        levels = np.log(grids.sigmas(each)[1:-1])
        if all(np.abs(levels - np.log(grids.sigmas(other)[1:-1])).max() > DISTINCT for other in chosen):
            chosen.append(each)
    return chosen[:most]


def _descents(pilots: Pilots, grids: _Grids, solver: SolverName, starts: Sequence[Sequence[float]]) -> list[Array]:
    """Where descents of the linear prediction from each of the starts end, as gaps, the least predicted error first."""
    few = pilots.thinned(COLUMNS)

    def predicted(sigmas: Array) -> tuple[Array, float]:
        total = few.contributions(sigmas, solver).sum(0)
        return total, float(total @ total)

    def slopes(sigmas: Array) -> Array:
        return _prediction_slopes(few, sigmas, solver)

    ends = [_descend(grids, grids.gaps(start), predicted, slopes, TRIALS) for start in starts]
    return [gaps for gaps, _ in sorted(ends, key=lambda end: end[1])]


def by_prediction(pilots: Pilots, solver: SolverName, grids: Sequence[list[float]]) -> list[list[float]]:
    """Grids in the order of the error that the linear prediction foretells them."""

    def predicted(sigmas: list[float]) -> float:
        return float(np.square(pilots.contributions(sigmas, solver).sum(0)).sum())

    return sorted(grids, key=predicted)


def placed(law: Target, pilots: Pilots, solver: SolverName, found: Found) -> Found:
    """The same grid with levels that the network knows (see `Course.placed`), and the error that it leaves there."""
    sigmas = found.sigmas if law.course is None else np.asarray(law.course.placed(found.sigmas.tolist()))
    if np.array_equal(sigmas, found.sigmas):
        return found
    sampler = _Sampler(law, pilots, solver)
    moved = sampler.found(sigmas, found.objective.name)
    return moved._replace(evaluations=found.evaluations + moved.evaluations)


def shares(pilots: Pilots, sigmas: Array, solver: SolverName, error: float) -> Array:
    """How much of a root mean square end error each step is to blame for, in the unit of the data; they add up to it.

    In proportion to the mean product of the step's contribution with the sum of all: a step whose error undoes others'
    has a negative share.
    """
    parts = pilots.contributions(sigmas, solver)
    products = parts @ parts.sum(0)
    total = products.sum()
    if not (total > 0 and error > 0):
        return np.full(len(parts), error / len(parts))
    return products * (error / total)


class _Sampler:
    """The sampler on the pilots."""

    def __init__(self, law: Target, pilots: Pilots, solver: SolverName) -> None:
        self.law, self.pilots = law, pilots
        self.step = find_solver(solver).step
        self.count = 0
        self.aim: Objective = RootMeanSquare(pilots.end, pilots.weights)
        self._ends: dict[bytes, Tensor] = {}  # of the grids that have been run

    def error(self, sigmas: Array) -> tuple[Array, float]:
        """What is to be small of the pilots' end errors, and its square; of "error" their mean square."""
        error = self.aim.residual(self._run(sigmas))
        return error, float(error @ error)

    def found(self, sigmas: Array, objective: str) -> Found:
        """This grid, and all that is known of it."""
        end = self._run(sigmas)
        return Found(sigmas, end, objective_for(objective, self.pilots.end, self.pilots.weights, end), self.count)

    def projected(self, sigmas: Array) -> tuple[Array, float]:
        """End errors along the probes, and their mean square along all axes."""
        return self.pilots.project(self._run(sigmas)) / math.sqrt(len(self.pilots.end)), self.error(sigmas)[1]

    def slopes(self, sigmas: Array) -> Array:
        """Derivatives of `error` by the logarithms of the inner levels: only what follows a level is run anew."""
        end, states = self._carry(self.pilots.start, Memory(noise=torch.randn_like), sigmas)
        small = SMALL if end.dtype == torch.float64 else 1e3 * SMALL
        changes: list[Tensor] = []
        for i in range(1, len(sigmas) - 1):
            moved = sigmas.copy()
            moved[i] *= math.exp(small)
            x, memory = states[i - 1]
            other, _ = self._carry(x, replace(memory), moved[i - 1 :])
            changes.append(other.double() - end.double())
        return self.aim.slopes(end, torch.stack(changes)) / small

    def _run(self, sigmas: Array) -> Tensor:
        key = sigmas.tobytes()
        if key not in self._ends:
            self._ends[key] = self._carry(self.pilots.start, Memory(noise=torch.randn_like), sigmas)[0]
        return self._ends[key]

    def _carry(self, x: Tensor, memory: Memory, sigmas: Array) -> tuple[Tensor, list[tuple[Tensor, Memory]]]:
        end, states = x, [(x, replace(memory))]
        for end in walk(self.step, self._denoise, x, sigmas.tolist(), memory):
            states.append((end, replace(memory)))
        return end, states

    def _denoise(self, points: Tensor, sigma: float) -> Tensor:
        self.count += len(points)
        return self.law.denoise(points / sigma, 1 / sigma)


def _prediction_slopes(pilots: Pilots, sigmas: Array, solver: SolverName) -> Array:
    """Derivatives of the predicted errors by the logarithms of the inner levels; each moves the steps that know it."""
    method = find_solver(solver).multistep or Multistep(1)
    around, count = windows(sigmas), len(sigmas) - 1
    first, last = (2 if method.corrects else 1), method.order  # step k knows levels from k + 1 - last to k + first
    known = [(i, k) for i in range(1, count) for k in range(max(i - first, 0), min(i + last, count))]
    level, rows = np.array(known).T
    sides: list[Array] = []
    for factor in (math.exp(SMALL), math.exp(-SMALL)):
        moved = around[rows]
        moved[np.arange(len(rows)), HERE + level - rows] *= factor
        sides.append(pilots.steps(moved, solver))
    change = (sides[0] - sides[1]) / (2 * SMALL)
    return np.stack([change[level == i].sum(0) for i in range(1, count)], 1)


def _descend(
    grids: _Grids, gaps: Array, residual: Residual, slopes: Jacobian, trials: int, secant: bool = False
) -> tuple[Array, float]:
    """Levenberg and Marquardt's method: the best gaps seen, and the square that they leave.

    With `secant`, `slopes` is asked once and Broyden's rank-one updates do the rest.
    """
    sigmas = grids.sigmas(gaps)
    values, square = residual(sigmas)
    if not trials:
        return gaps, square
    matrix = slopes(sigmas) @ grids.slopes(gaps)
    damping = 1e-2
    for _ in range(trials):
        normal = matrix.T @ matrix
        scale = float(np.trace(normal)) / len(normal)
        if not 0 < scale < math.inf:
            break
        step = -np.linalg.solve(normal + damping * scale * np.eye(len(normal)), matrix.T @ values)
        step -= step.mean()
        step *= min(1.0, LEAP / max(float(np.abs(step).max()), 1e-300))
        step += grids.shortfall(gaps + step)
        if float(np.abs(step).max()) < 1e-9:
            break
        trial = gaps + step
        after, left = residual(grids.sigmas(trial))
        if secant:
            matrix = matrix + np.outer(after - values - matrix @ step, step) / (step @ step)
        if not left < square:  # also where it is NaN
            damping = 8 * max(damping, 1e-4)
            continue
        gain, gaps, values, square = 1 - left / square, trial, after, left
        damping = max(damping / 4, 1e-8)
        if gain < ENOUGH:
            break
        if not secant:
            matrix = slopes(grids.sigmas(gaps)) @ grids.slopes(gaps)
    return gaps, square
