"""Flows from N(0, I) at t = 0 to a law at t = 1, along dx/dt = v(x, t): how to follow them, and how straight they are.

    euler       x + h v(x, t)
    heun        x + h/2 (v(x, t) + v(x + h v(x, t), t + h))
    midpoint    x + h v(x + h/2 v(x, t), t + h/2)

for a step from t to t + h. Where paths are straight and even, one step of any of them is exact.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import whole_number

STEPS = 32  # of the midpoint rule, where a flow is drawn from or its paths are judged
PATHS = 256  # that straightness is measured on

Velocity: TypeAlias = Callable[[Float[Tensor, "n d"], float], Float[Tensor, "n d"]]


def euler(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """A step of order 1, by one velocity."""
    return x + h * v(x, t)


def heun(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """A step of order 2, by those at its two ends."""
    slope = v(x, t)
    return x + h / 2 * (slope + v(x + h * slope, t + h))


def midpoint(v: Velocity, x: Tensor, t: float, h: float) -> Tensor:
    """A step of order 2, by the one in its middle."""
    return x + h * v(x + h / 2 * v(x, t), t + h / 2)


SOLVERS = {"euler": euler, "heun": heun, "midpoint": midpoint}
EVALUATIONS = {"euler": 1, "heun": 2, "midpoint": 2}  # of the velocity, per step


def find_solver(solver: str) -> Callable[[Velocity, Tensor, float, float], Tensor]:
    """The step of a solver.

    Raises:
        ValueError: there is none of this name.
    """
    if solver not in SOLVERS:
        raise ValueError(f"no solver {solver!r} for flows: it is {', '.join([*SOLVERS][:-1])} or {[*SOLVERS][-1]}")
    return SOLVERS[solver]


def even_times(steps: int) -> list[float]:
    """Times from 0 to 1, evenly spaced."""
    steps = whole_number(steps, "steps", 1)
    return [k / steps for k in range(steps + 1)]


def check_times(times: Iterable[float]) -> list[float]:
    """The times as a list.

    Raises:
        ValueError: fewer than two, not finite, not increasing, or outside [0, 1].
    """
    grid = [float(t) for t in times]
    if len(grid) < 2:
        raise ValueError(f"a schedule of a flow has at least two times, got {len(grid)}")
    if outside := [t for t in grid if not 0 <= t <= 1]:
        raise ValueError(f"times of a flow must lie in [0, 1], from noise to data, got {outside[0]:g}")
    for k, (t, after) in enumerate(pairwise(grid), 1):
        if not after > t:
            raise ValueError(f"times of a flow must increase, got {after:g} after {t:g} at step {k}")
    return grid


def follow(velocity: Velocity, x: Tensor, times: Sequence[float], solver: str = "euler") -> Iterator[Tensor]:
    """The points (n, d) at every time after the first, from x (n, d) at the first.

    Raises:
        ValueError: as `find_solver` and `check_times`.
    """
    step = find_solver(solver)
    for t, after in pairwise(check_times(times)):
        x = step(velocity, x, t, after - t)
        yield x


class Straightness(NamedTuple):
    """How straight the paths of a flow are.

    Attributes:
        value: int E|v_t - (x_1 - x_0)|^2 dt, in squared units of the data: 0 for straight paths at an even speed.
        value_se: its standard error.
        share: of int E|v_t|^2 dt, between 0 and 1.
    """

    value: float
    value_se: float
    share: float


def straightness(path: Float[Tensor, "levels n d"], times: Sequence[float]) -> Straightness:
    """The straightness of paths from their points: that of polygons, which are straighter than what they approximate.

    Args:
        path: points at every time, from 0 to 1.
        times: in [0, 1], increasing.

    Raises:
        ValueError: fewer than two paths, or another number of times than points.
    """
    grid = path.new_tensor(check_times(times), dtype=torch.float64)
    if len(grid) != len(path) or path.shape[1] < 2:
        raise ValueError(f"straightness takes two paths or more, a point per time: got {tuple(path.shape)[:2]} points")
    steps = grid.diff()
    speeds = path.double().diff(dim=0) / steps[:, None, None]
    whole = (path[-1] - path[0]).double()
    bent = steps @ (speeds - whole).square().sum(2)
    moved = steps @ speeds.square().sum(2)
    value, total = float(bent.mean()), float(moved.mean())
    return Straightness(value, float(bent.std()) / math.sqrt(len(bent)), value / total if total > 0 else 0.0)
