"""Schedules by the criteria of other papers, written from their formulas, to hold `error` against.

With x(s) the probability flow at levels s_0 > ... > s_N even in log sigma, D its denoised point, N = 60 or twice
the steps:

    dmn            the least bound sum_k |c_k| sigma_k on what errors of D, at most in proportion to sigma, do to the
                   end; c_k is how much the k-th evaluation weighs there, for this solver. The denoiser is not asked
                   (arXiv:2402.17376, which takes errors sigma for pixels; for Euler's method it is log-snr)
    gits           the least sum of deviations of Euler steps along trajectories, each counted 1.15 times as much as the
                   one before: the distance from the straight line between the ends, less that of the trajectory itself
                   (arXiv:2405.11326); on the line, where there is none, of x from the flow's
    ld3            the least mean square distance to the flow's end, by descent through this sampler (arXiv:2405.15506)
    oss            Euler steps, each of whose k-step states is the one closest to the flow at its level, of those made
                   from states of k - 1 steps (arXiv:2503.21774)
    score-optimal  equal increments of int sigma (E |d score(x; sigma)/d sigma|^2)^(1/2) d sigma, x held fixed: the work
                   of a corrector whose speed is sigma, as the score changes (arXiv:2412.07877)

dmn, gits and score-optimal place levels between given ends. ld3 and oss reach the end itself, and for grids that go on
to 0 choose the last positive level as `error` does.

What differs from the papers. ld3: the descent is that of Levenberg and Marquardt in the logarithms of the gaps, of all
teachers at once, instead of stochastic gradients; noise that the student may shift, and times that the network is told
apart from the levels, are left out. oss: one grid is found for all teachers, not the median of one for each. gits and
oss search levels even in log sigma, whatever the network's own time. dmn: weights are those of all evaluations from the
first step on.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Target
from brenier.sampling.driver import integrate
from brenier.sampling.handmade import log_snr
from brenier.sampling.pilots import TAIL, finish, flow_path
from brenier.sampling.steps import Memory, SolverName, evaluations, find_solver, walk

FINE = 61  # levels of a trajectory, the candidates of a search, at least: two for each step
LATER = 1.15  # how much more deviations count a step later
STUDENTS = {"gits": 256, "ld3": 64, "oss": 64, "score-optimal": 256}  # trajectories at most
TRIALS = 20  # of the descent of ld3
SMALL = {torch.float64: 1e-5, torch.float32: 1e-2}  # of its difference quotients, in the logarithm of a gap
LEAST = 0.1  # of the mean gap: the last one of a start that steps down to the lowest level


class Ends(NamedTuple):
    """Between which levels a grid lies.

    Attributes:
        high: the first.
        low: the last positive one; or, where grids end at 0 and may choose it, the usual one.
        lowest: the lowest that they may choose; None for grids that end at `low`.
        floor: level down to which the flow is followed before D is taken for its end, for grids that end at 0.
    """

    high: float
    low: float
    lowest: float | None = None
    floor: float | None = None


Placed: TypeAlias = tuple[list[float], int]  # levels, and the evaluations that they took
Published: TypeAlias = Callable[[Target, Float[Tensor, "n d"], int, Ends, SolverName], Placed]


def dmn(_law: Target, _x: Float[Tensor, "n d"], steps: int, ends: Ends, solver: SolverName) -> Placed:
    """Positive levels with the least bound on what errors of D in proportion to sigma do to the end."""
    start = np.array(_even(steps, ends))
    if len(start) < 3:
        return start.tolist(), 0

    def levels(gaps: Array) -> Array:
        return _levels(np.append(gaps, 0.0), ends.high, ends.low)

    found: Any = minimize(lambda gaps: bound(levels(gaps), solver), np.zeros(len(start) - 2), method="BFGS")
    best = levels(found.x)
    return (best if bound(best, solver) < bound(start, solver) else start).tolist(), 0


def bound(sigmas: Sequence[float] | Array, solver: SolverName) -> float:
    """sum_k |c_k| sigma_k over the evaluations of a grid; see `dmn`."""
    weights, levels = influence(sigmas, solver)
    return float(np.abs(weights) @ levels)


def influence(sigmas: Sequence[float] | Array, solver: SolverName) -> tuple[Array, Array]:
    """How much each evaluation of D weighs in where a sampler ends, and at which level it is made.

    All solvers are linear in what the denoiser says: it is made to say unit vectors.
    """
    grid = [float(sigma) for sigma in sigmas]
    unit, asked = torch.eye(evaluations(solver, grid), dtype=torch.float64), list[float]()

    def denoise(_: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return unit[len(asked) - 1 : len(asked)]

    *_, end = walk(find_solver(solver).step, denoise, 0 * unit[:1], grid, Memory(noise=torch.zeros_like))
    return end[0].numpy(), np.array(asked)


def gits(_: Target, path: Sequence[Tensor], clean: Sequence[Tensor], sigmas: list[float], count: int) -> Placed:
    """So many positive levels with the least sum of deviations of Euler steps along the flow."""
    chosen = shortest(deviations(path, clean, sigmas), count - 1, LATER)
    return [sigmas[k] for k in chosen], 0


def deviations(path: Sequence[Tensor], clean: Sequence[Tensor], sigmas: Sequence[float]) -> Array:
    """By how much an Euler step from each level to each lower one deviates more than the flow, mean over rows.

    Args:
        path: x at each level, (n, d) each.
        clean: D there.
        sigmas: the levels, descending.
    """
    cost = np.full((len(sigmas), len(sigmas)), np.inf)
    levels = torch.tensor(sigmas, dtype=torch.float64, device=path[0].device)
    line, chord = path[0].shape[1] == 1, path[0] - path[-1]
    chord = chord / chord.norm(dim=1, keepdim=True).clamp_min(1e-300)

    def off(points: Tensor) -> Tensor:
        """The part of differences from the end that is across the straight line between the ends."""
        return points - (points * chord).sum(-1, keepdim=True) * chord

    own = torch.stack([off(point - path[-1]).norm(dim=1) for point in path])
    for k, (point, known) in enumerate(zip(path[:-1], clean, strict=False)):
        share = (levels[k + 1 :] / levels[k])[:, None]
        if line:
            reached = known + share[..., None] * (point - known)
            away = (reached - torch.stack([*path[k + 1 :]])).norm(dim=2)
        else:  # |a + share b|, of what is across
            a, b = off(known - path[-1]), off(point - known)
            square = a.square().sum(1) + 2 * share * (a * b).sum(1) + share**2 * b.square().sum(1)
            away = square.clamp_min(0).sqrt() - own[k + 1 :]
        cost[k, k + 1 :] = away.mean(1).cpu().numpy()
    return cost


def shortest(cost: Array, steps: int, later: float = 1.0) -> list[int]:
    """The path with so many steps from the first place to the last of least cost, by dynamic programming.

    Args:
        cost: of a step from each place to each later one.
        steps: how many.
        later: by how much a step's cost is multiplied more than that of the step before.
    """
    ahead = np.where(np.triu(np.ones(cost.shape, dtype=bool), 1), cost, np.inf)
    left, choices = ahead[:, -1], list[NDArray[np.intp]]()
    for _ in range(steps - 1):
        total = ahead + later * left
        choices.append(total.argmin(1))
        left = total.min(1)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return [*path, len(cost) - 1]


def oss(law: Target, x: Float[Tensor, "n d"], steps: int, ends: Ends, _: SolverName) -> Placed:
    """Levels whose Euler steps stay closest to the flow, step after step."""
    if steps == 1:
        return _even(steps, ends), 0
    x = x[: STUDENTS["oss"]]
    goals, sigmas, spent = _teach(law, x, steps, ends)
    levels = torch.tensor(sigmas, dtype=torch.float64, device=x.device)[:, None, None]
    last, came = len(sigmas) - 1, list[NDArray[np.intp]]()
    states, reachable = goals[:1].expand_as(goals), range(1)  # a state for each level, of so many steps
    for step in range(1, steps + 1):
        away, origin = torch.full_like(levels[:, 0, 0], math.inf), np.zeros(len(sigmas), np.intp)
        after = torch.zeros_like(goals)
        end = last - (steps - step)
        for k in reachable:
            clean = law.denoise((states[k] / sigmas[k]).to(law.dtype), 1 / sigmas[k]).double()
            spent += len(x)
            below = slice(last if step == steps else k + 1, end + 1)
            reached = clean + levels[below] / sigmas[k] * (states[k] - clean)
            left = (reached - goals[below]).square().sum((1, 2))
            better = left < away[below]
            away[below] = torch.where(better, left, away[below])
            after[below] = torch.where(better[:, None, None], reached, after[below])
            origin[below][better.cpu().numpy()] = k
        states, reachable = after, range(step, end + 1)
        came.append(origin)
    chosen = [last]
    for origin in reversed(came):
        chosen.append(int(origin[chosen[-1]]))
    return [sigmas[k] for k in reversed(chosen) if sigmas[k] > 0], spent


def score_optimal(
    law: Target, path: Sequence[Tensor], clean: Sequence[Tensor], sigmas: list[float], count: int
) -> Placed:
    """So many positive levels between which the work of a corrector is the same."""
    work: list[float] = []
    for (sigma, after), point, known in zip(pairwise(sigmas), path, clean, strict=False):
        other = law.denoise((point / after).to(law.dtype), 1 / after).double()
        change = (other - point) / after**2 - (known - point) / sigma**2
        work.append(math.sqrt(sigma * after * float(change.square().sum(1).mean())))
    total = np.append(0.0, np.cumsum(work))
    total += 1e-9 * (float(total[-1]) or 1.0) * np.linspace(0, 1, len(total))  # where nothing happens, even steps
    inner = np.interp(np.linspace(0, total[-1], count)[1:-1], total, np.log(sigmas))
    return [sigmas[0], *np.exp(inner).tolist(), sigmas[-1]], len(path[0]) * len(work)


def ld3(law: Target, x: Float[Tensor, "n d"], steps: int, ends: Ends, solver: SolverName) -> Placed:
    """Levels with which this sampler ends closest to the flow, on so few trajectories."""
    if steps == 1:
        return _even(steps, ends), 0
    x = x[: STUDENTS["ld3"]]
    goals, _, spent = _teach(law, x, steps, ends)
    tail = [] if ends.lowest is None else [0.0]
    bottom = ends.low if ends.lowest is None else ends.lowest
    start = np.array([*_even(steps, ends), *([bottom] if tail else [])])
    gaps = -np.diff(np.log(start))
    gaps[-1] = max(gaps[-1], LEAST * gaps.mean())
    small = SMALL[x.dtype]

    def levels(change: Array) -> list[float]:
        found = _levels(np.log(gaps) + change, ends.high, bottom).tolist()
        return found[:-1] if tail else found

    def away(change: Array) -> Array:
        nonlocal spent
        grid = [*levels(change), *tail]
        spent += len(x) * evaluations(solver, grid)
        end = integrate(law, x, grid, solver).x.double()
        return (end - goals[-1]).flatten().cpu().numpy() / math.sqrt(len(x))

    def slopes(change: Array) -> Array:
        here = away(change)
        return np.stack([(away(change + small * axis) - here) / small for axis in np.eye(len(change))], 1)

    found = least_squares(away, np.zeros(len(gaps)), slopes, max_nfev=TRIALS)  # pyright: ignore[reportArgumentType]
    return levels(found.x), spent


def _along(place: Callable[..., Placed], students: int) -> Published:
    """A criterion that places levels between given ends by the flow of so many points at most."""

    def placed(law: Target, x: Float[Tensor, "n d"], steps: int, ends: Ends, _: SolverName) -> Placed:
        start = _even(steps, ends)
        if len(start) < 3:
            return start, 0
        x = x[:students]
        sigmas = _fine(ends.high, ends.low, steps)
        path, clean = flow_path(law, x, sigmas)
        levels, spent = place(law, path, clean, sigmas, len(start))
        return levels, spent + len(x) * (len(sigmas) + 1)

    return placed


PUBLISHED: dict[str, Published] = {
    "dmn": dmn,
    "gits": _along(gits, STUDENTS["gits"]),
    "ld3": ld3,
    "oss": oss,
    "score-optimal": _along(score_optimal, STUDENTS["score-optimal"]),
}


def _teach(law: Target, x: Float[Tensor, "n d"], steps: int, ends: Ends) -> tuple[Tensor, list[float], int]:
    """The flow at the levels that a grid may choose from, these levels, and the evaluations that it took."""
    sigmas = _fine(ends.high, ends.low if ends.lowest is None else ends.lowest, steps)
    path, clean = flow_path(law, x, sigmas)
    spent = len(x) * (len(sigmas) + 1)
    if ends.lowest is None:
        return torch.stack(path), sigmas, spent
    if ends.floor is not None and ends.floor < sigmas[-1]:
        spent += len(x) * (2 * TAIL - 1)
    end = finish(law, path[-1], clean[-1], sigmas[-1], ends.floor)
    return torch.stack([*path, end]), [*sigmas, 0.0], spent


def _even(steps: int, ends: Ends) -> list[float]:
    return log_snr(steps if ends.lowest is not None else steps + 1, ends.high, ends.low)


def _fine(high: float, low: float, steps: int) -> list[float]:
    return [high, *np.geomspace(high, low, max(FINE, 2 * steps + 1))[1:-1].tolist(), low]


def _levels(gaps: Array, high: float, low: float) -> Array:
    """The grid with these logarithms of gaps in log sigma, up to a common factor."""
    share = np.exp(gaps - gaps.max())
    inner = high * (low / high) ** (np.cumsum(share) / share.sum())[:-1]
    return np.array([high, *inner, low])
