"""Sample: a law or a network, a number of steps and where to put them -> points."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core.checks import whole_number
from brenier.core.points import put_back
from brenier.core.random import generator_for, normal_like
from brenier.core.work import progress_bar
from brenier.laws.base import Target
from brenier.laws.flow import (
    EVALUATIONS,
    PATHS,
    SOLVERS,
    STEPS,
    Straightness,
    Velocity,
    check_times,
    even_times,
    find_solver,
    follow,
    straightness,
)
from brenier.sampling.driver import Run, in_turn, integrate, start
from brenier.sampling.planning import plan, usual_criterion
from brenier.sampling.schedule import Schedule
from brenier.sampling.steps import find_solver as find_sampler


@dataclass(frozen=True)
class Samples:
    """What a sampler drew.

    Attributes:
        points: shape (n, d), in the unit of the data; float64 for a law that lies far from zero.
        event_shape: shape of one point before it was flattened to d numbers.
        schedule: the noise levels visited; None of a flow.
        solver: the sampler that visited them.
        evaluations: of the denoiser or the velocity, per sample.
        trajectory: the points at every noise level, shape (steps + 1, n, d), where it was asked for.
        times: those that a flow visited, from 0 to 1; else None.
    """

    points: Float[Tensor, "n d"]
    event_shape: tuple[int, ...]
    schedule: Schedule | None
    solver: str
    evaluations: int
    trajectory: Float[Tensor, "levels n d"] | None = None
    times: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.event_shape))
        how = f"{self.steps} steps of {self.solver}, {self.evaluations} evaluations"
        return f"<{len(self.points):,} samples of shape {shape}: {how}>"

    @property
    def steps(self) -> int:
        """How many there were."""
        return len(self.times or ()) - 1 if self.schedule is None else self.schedule.steps

    @property
    def events(self) -> Tensor:
        """The points in their own shape, (n, *event_shape): images as images."""
        return self.points.reshape(-1, *self.event_shape)


def sample(
    law: LawLike,
    n: int = 1000,
    *,
    steps: int | None = None,
    solver: str | None = None,
    schedule: Schedule | str | None = None,
    times: Iterable[float] | None = None,
    seed: int = 0,
    sigma_max: float | None = None,
    batch: int | None = None,
    trajectory: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> Samples:
    """Draw points by a few steps of a sampler, from noise around the law's mean, or what pipelines begin with.

    A flow (`brenier.FlowTarget`) is followed from N(0, I) at t = 0 to t = 1 by one of its own solvers, "euler", "heun"
    or "midpoint" in t, unless a schedule or another solver are asked for, which need a denoiser.

    Args:
        law: a law, data or a network, or what `load_target` takes.
        n: number of points, 0 or more.
        steps: grid intervals. Default: those of the schedule, else 10.
        solver: which sampler, see `brenier.sampling.steps`. Default: the schedule's, else "dpmpp-2m"; of a flow
            "euler".
        schedule: noise levels to visit, or the criterion to plan them by, see `plan`. Default: "error", for samplers
            that draw noise "kl", but for "annealed-langevin", whose steps that does not describe, "log-snr" (NCSNv2,
            Technique 2).
        times: of a flow, increasing from 0 to 1. Default: even.
        seed: of every random number.
        sigma_max: noise level to start from, in the unit of the data. Default: that of the schedule or of `plan`.
        batch: points per call of the denoiser. Default: all; a law has its own limits.
        trajectory: whether to keep the points at every noise level.
        device: where to compute. Default: where the law is.
        dtype: of the computation. Default: the law's.
        progress: show a bar on stderr, where that is a terminal.

    Raises:
        ValueError: an argument is out of range, or `steps` or `sigma_max` are not those of the schedule; times of what
            is no flow; a flow that is no denoiser, where one is needed.

    Warns:
        UserWarning: the schedule was made for another law or another sampler.
    """
    law = load_target(law, dtype=dtype, device=device)
    origin = law.origin
    law = law.moved(-origin)
    n, seed = whole_number(n, "n", 0), whole_number(seed, "seed", 0)
    plain = schedule is None and sigma_max is None and (solver is None or solver in SOLVERS)
    if law.flow is not None and (plain or times is not None):
        if not plain:
            raise ValueError("times are a flow's own, by its own solvers: leave schedule, sigma_max and others out")
        grid = _times(times, steps)
        return _followed(law, law.flow, origin, n, grid, solver or "euler", seed, batch, trajectory, progress)
    if times is not None:
        raise ValueError(f"times are those of a flow, and {law.name} is none: give a schedule, or steps")
    if isinstance(schedule, Schedule):
        _check(schedule, law.name, steps, solver, sigma_max)
        solver = solver or schedule.solver
    else:
        solver, steps = solver or "dpmpp-2m", 10 if steps is None else steps
        criterion = schedule or usual_criterion(solver)
        schedule = plan(
            law, steps, solver=solver, criterion=criterion, sigma_max=sigma_max, seed=seed, progress=progress
        )
    x = start(law, n, schedule.sigmas[0], seed)
    run = integrate(law, x, schedule.sigmas, solver, seed, batch, trajectory, progress)
    return drawn(run, origin, law, schedule, solver)


def straightness_of(flow: Target, n: int = PATHS, steps: int = STEPS, seed: int = 0) -> Straightness:
    """How straight the paths of a flow are, on n of them by so many steps of the midpoint rule; see `laws.flow`.

    Raises:
        ValueError: the law has no flow, or fewer than two paths.
    """
    found = sample(flow, n, times=even_times(steps), solver="midpoint", seed=seed, trajectory=True, progress=False)
    assert found.trajectory is not None  # as it was asked for
    assert found.times is not None
    return straightness(found.trajectory, found.times)


def _times(times: Iterable[float] | None, steps: int | None) -> list[float]:
    """The times that a flow is to visit."""
    if times is None:
        return even_times(10 if steps is None else steps)
    grid = check_times(times)
    if (grid[0], grid[-1]) != (0, 1):
        raise ValueError(f"times must go from 0, noise, to 1, data, got {grid[0]:g} to {grid[-1]:g}")
    if steps is not None and steps != len(grid) - 1:
        raise ValueError(f"there are {len(grid) - 1} steps between these times, not {steps}: leave steps out")
    return grid


def _followed(
    law: Target,
    velocity: Velocity,
    origin: Float[Tensor, " d"],
    n: int,
    times: list[float],
    solver: str,
    seed: int,
    batch: int | None,
    trajectory: bool,
    progress: bool,
) -> Samples:
    """What a flow carries n noises to; in blocks, as nothing is drawn on the way."""
    find_solver(solver)
    like = torch.zeros((n, law.dim), dtype=law.dtype, device=law.device)
    noise = normal_like(like, generator_for(seed, 0x57A27))
    size = max(n, 1) if batch is None else in_turn(law, whole_number(batch, "batch", 1))
    parts: list[Tensor] = []
    with progress_bar(f"sampling {law.name}", progress) as advance:
        for x in noise.split(size):
            path = [x]
            for after in follow(velocity, x, times, solver):
                path = [*path, after] if trajectory else [after]
                advance(len(x) / max(n, 1) / (len(times) - 1))
            parts.append(torch.stack(path))
    path = put_back(torch.cat(parts, 1), origin)
    count = EVALUATIONS[solver] * (len(times) - 1)
    return Samples(path[-1], law.event_shape, None, solver, count, path if trajectory else None, tuple(times))


def drawn(run: Run, origin: Float[Tensor, " d"], law: Target, schedule: Schedule, solver: str) -> Samples:
    """What a sampler drew of a law that was moved from `origin` to zero."""
    path = None if run.trajectory is None else put_back(run.trajectory, origin)
    return Samples(put_back(run.x, origin), law.event_shape, schedule, solver, run.evaluations, path)


def _check(schedule: Schedule, name: str, steps: int | None, solver: str | None, sigma_max: float | None) -> None:
    """Refuse what contradicts the schedule, warn of what it was not made for."""
    check_made_for(schedule, name, steps)
    if sigma_max is not None and sigma_max != schedule.sigmas[0]:
        raise ValueError(f"the schedule starts at {schedule.sigmas[0]:g}, not at {sigma_max:g}: leave sigma_max out")
    if solver is not None:
        find_sampler(solver)
        if solver != schedule.solver:
            warnings.warn(f"the schedule was made for {schedule.solver}, not for {solver}", stacklevel=3)


def check_made_for(schedule: Schedule, name: str, steps: int | None) -> None:
    """Refuse another number of steps than the schedule's, warn of another law than it was made for."""
    if steps is not None and steps != schedule.steps:
        raise ValueError(f"the schedule has {schedule.steps} steps, not {steps}: leave steps out, or plan anew")
    if schedule.law is not None and schedule.law != name:
        warnings.warn(f"the schedule was made for {schedule.law}, not for {name}", stacklevel=4)
