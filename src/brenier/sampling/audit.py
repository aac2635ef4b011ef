"""Audit: which noise levels a pipeline really visits, and what noise it begins with.

What is asked of a scheduler is not always what it does: it rounds to whole steps, shifts twice, leaves out the top of
the table, ends above 0, or tells its network another time than that of what it is given. `trace` runs it as a pipeline
would and reads the levels off; what differs from what was asked for, or from the training, is found here. It also reads
off how much each call of the network weighs in the end: by that a solver is told.
"""

import inspect
import json
import math
import os
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brenier.core import records
from brenier.core.checks import Array, whole_number
from brenier.core.extras import library
from brenier.core.reading.files import read_json
from brenier.laws.course import Course
from brenier.networks.diffusers.model import load_scheduler
from brenier.networks.diffusers.pipeline import START
from brenier.networks.diffusers.scheduler import EDM, Convention, config_of, flows, is_one_of, read_scheduler
from brenier.networks.diffusers.trace import Trace, check_driven, trace
from brenier.sampling.schedule import Schedule
from brenier.sampling.steps import SOLVERS, Memory, evaluations, find_solver, walk

TOLERANCE = 0.01  # relative difference of noise levels that is let pass
SHIFTED = 1e-3  # relative difference of levels at which a shift is recognised
WEIGHED = 0.01  # by which the weight of a call is missed
SAME = 1e-4  # relative difference of levels that are one
INFINITE = 1e6  # the level of what has no signal, for a solver's weights
NOTHING_ELSE = 500.0  # noise levels above which there is nothing but noise, and differences do not count
OWN_SIGMAS = "np.linspace(1.0, 1 / num_inference_steps"  # in the code of pipelines that make their own


class Finding(NamedTuple):
    """What is off, in a word and in a sentence without its subject."""

    what: str
    text: str


class _Asked(NamedTuple):
    """What is asked of a scheduler.

    Attributes:
        arguments: for `set_timesteps`.
        sigmas: the levels that should be visited, where it is known.
        how: what a pipeline is given, in words.
        solver: that they were planned for, where it is known.
    """

    arguments: dict[str, Any]
    sigmas: tuple[float, ...] | None
    how: str
    solver: str | None = None


class _Pipeline(NamedTuple):
    name: str
    scheduler: Any
    code: str | None  # of its class, where it is known


def audit(
    pipeline: object,
    schedule: Schedule | str | os.PathLike[str] | None = None,
    *,
    steps: int = 10,
    tolerance: float = TOLERANCE,
) -> xr.Dataset:
    """Find which noise levels a pipeline really visits, by running its scheduler on a network that is known exactly.

    Args:
        pipeline: of diffusers; the folder of one, of which no weights are read; or a scheduler.
        schedule: noise levels that it should visit, or their file. They are asked for as callers do: an installed
            schedule (`Schedule.install`) by nothing but the number of steps, others by `sigmas` or `timesteps`,
            whichever the scheduler takes. Default: those of an installed schedule, else what the scheduler does for
            `steps`.
        steps: that the pipeline is asked for, without a schedule.
        tolerance: relative difference of noise levels that is let pass.

    Returns:
        Dataset over `call`, the calls of the network: `told`, the level that belongs to the time that it is told;
        `executed`, that of what it sees; `requested` where it is known, NaN elsewhere; `time`; and `size`, the size of
        what it sees over what it should be. `end` is the level that the result is left at; `begins` the noise that the
        pipeline begins with, over that of its first level. The attribute `findings` lists in JSON what is off;
        `solver` names the one of `brenier.sampling.steps` that the scheduler steps as, at these levels, and is empty
        where it is none.

    Raises:
        TypeError: it is no pipeline and no scheduler.
        ValueError: its scheduler cannot be read or driven, or the arguments are out of range; the message names it.

    Warns:
        UserWarning: the schedule was planned for a network with another convention.
    """
    steps = whole_number(steps, "steps", 1)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, got {tolerance:g}")
    if isinstance(schedule, str | os.PathLike):
        schedule = Schedule.from_json(schedule)
    opened = _open(pipeline)
    read = read_scheduler(opened.scheduler, "")
    check_driven(opened.scheduler)
    if schedule is not None and schedule.convention not in (None, read.name):
        warnings.warn(
            f"the schedule was planned for a network that is {schedule.convention}, and {opened.name} has one that is "
            f"{read.name}",
            stacklevel=2,
        )
    asked = _ask(opened, schedule, steps, read)
    code = opened.code
    multiplies, scales = (code is None or word in code for word in ("init_noise_sigma", "scale_model_input"))
    run = trace(opened.scheduler, read, asked.arguments, multiplies, scales)
    course = read.course(read.scale.low, read.scale.high)
    expected = None if asked.sigmas is None else _expected(asked.sigmas, opened.scheduler)
    requested = np.full(len(run.told), np.nan)
    requested[: len(expected or ())] = (expected or [])[: len(requested)]
    solver = _solver(run, asked.solver)
    found = [*_findings(opened, course, expected, asked, run, tolerance)]
    found += _other_solver(asked.solver, solver, found)
    return records.dataset(
        "audit",
        {
            "told": ("call", run.told),
            "executed": ("call", run.executed),
            "requested": ("call", requested),
            "time": ("call", run.times),
            "size": ("call", run.size),
            "end": ((), run.end),
            "begins": ((), run.begins),
        },
        {"call": np.arange(len(run.told))},
        title=f"noise levels of {opened.name}",
        pipeline=opened.name,
        scheduler=type(opened.scheduler).__name__,
        asked=asked.how,
        solver=solver or "",
        sigma_max=course.high,
        sigma_min=course.low,
        tolerance=tolerance,
        findings=json.dumps([one._asdict() for one in found]),
    )


def findings(found: xr.Dataset) -> list[Finding]:
    """What an audit found to be off; nothing where all is as it should be."""
    return [Finding(**one) for one in json.loads(found.attrs["findings"])]


# What is there, and what is asked of it


def _open(pipeline: object) -> _Pipeline:
    if isinstance(pipeline, str | os.PathLike):
        return _open_folder(Path(pipeline))
    if callable(getattr(pipeline, "set_timesteps", None)):
        return _Pipeline(type(pipeline).__name__, pipeline, None)
    scheduler: Any = getattr(pipeline, "scheduler", None)
    if not callable(getattr(scheduler, "set_timesteps", None)):
        raise TypeError(f"pipeline must be one of diffusers, its folder or a scheduler, got {type(pipeline).__name__}")
    return _Pipeline(type(pipeline).__name__, scheduler, _code(type(pipeline)))


def _open_folder(folder: Path) -> _Pipeline:
    """The scheduler in a folder, and the code of the pipeline's class: neither weights nor code of the folder's."""
    places = [place for place in (folder / "scheduler", folder) if (place / "scheduler_config.json").is_file()]
    if not places:
        raise ValueError(f"{str(folder)!r} is no pipeline of diffusers: there is no scheduler_config.json in it")
    diffusers = library("diffusers", "diffusers", "pipelines of diffusers")
    config = read_json(places[0] / "scheduler_config.json")
    if config.get("_class_name") == "PlannedScheduler":
        from brenier.sampling.planned import PlannedScheduler

        scheduler: Any = PlannedScheduler.from_config(config)
    else:
        scheduler = load_scheduler(places)
    kind: Any = None
    if (folder / "model_index.json").is_file():
        name = read_json(folder / "model_index.json").get("_class_name")
        kind = getattr(diffusers, name, None) if isinstance(name, str) and name.isidentifier() else None
    return _Pipeline(folder.resolve().name, scheduler, _code(kind) if isinstance(kind, type) else None)


def _code(kind: type) -> str | None:
    try:
        return "\n".join(inspect.getsource(base) for base in kind.__mro__ if base.__name__.endswith("Pipeline"))
    except (OSError, TypeError):
        return None


def _ask(opened: _Pipeline, schedule: Schedule | None, steps: int, read: Convention) -> _Asked:
    scheduler, code = opened.scheduler, opened.code or ""
    installed = hasattr(scheduler, "trained")
    if installed:
        own = schedule.sigmas if schedule is not None else tuple(scheduler.config["sigmas"])
        solver = schedule.solver if schedule is not None else str(scheduler.config["solver"])
        return _Asked({"num_inference_steps": scheduler.steps}, own, "the schedule that is installed", solver)
    parameters = inspect.signature(scheduler.set_timesteps).parameters
    shifts = {"mu": config_of(scheduler).get("base_shift") or 0.5} if "mu" in parameters else {}
    shifts = shifts if config_of(scheduler).get("use_dynamic_shifting") else {}
    if schedule is None:
        sigmas = {"sigmas": np.linspace(1.0, 1 / steps, steps).tolist()} if OWN_SIGMAS in code else {}
        number = {} if sigmas else {"num_inference_steps": steps}
        return _Asked({**number, **sigmas, **shifts}, None, f"{steps} steps")
    levels = [sigma for sigma in schedule.sigmas if sigma > 0]
    usual = "use_flow_sigmas" not in config_of(scheduler) and not is_one_of(scheduler, EDM)  # which takes places
    if "sigmas" in parameters and (flows(scheduler) or usual):
        own = [sigma / (1 + sigma) for sigma in levels] if flows(scheduler) else [*schedule.sigmas]
        return _Asked({"sigmas": np.array(own), **shifts}, schedule.sigmas, "the schedule, as sigmas", schedule.solver)
    if "timesteps" in parameters and not flows(scheduler):
        whole = [round(read.scale.level(1 / sigma)[2]) for sigma in levels]
        return _Asked({"timesteps": whole}, schedule.sigmas, "the schedule, as timesteps", schedule.solver)
    how = f"{schedule.steps} steps, as it takes no more"
    return _Asked({"num_inference_steps": schedule.steps}, schedule.sigmas, how, schedule.solver)


def _expected(sigmas: tuple[float, ...], scheduler: Any) -> list[float]:
    """The level that is asked for at each call of the network."""
    if hasattr(scheduler, "trained"):
        from brenier.sampling.turns import turns

        return [turn.sigma for turn in turns(sigmas, str(scheduler.config["solver"]))]
    each = 2 if getattr(scheduler, "order", 1) == 2 else 1  # calls at every level but the first
    return [level for k, level in enumerate(sigmas[:-1]) for _ in range(each if k else 1)]


# What is off


def _findings(
    opened: _Pipeline, course: Course, expected: list[float] | None, asked: _Asked, run: Trace, tolerance: float
) -> Iterator[Finding]:
    told, executed = np.array(run.told), np.array(run.executed)
    if np.isnan(executed).any() or math.isnan(run.end):
        broken = np.isnan(executed)
        where = f"at call {int(np.argmax(broken)) + 1}" if broken.any() else "at the end"
        yield Finding("values", f"has values that are not finite {where}: does its network predict what has no signal?")
        return
    if abs(run.begins - 1) > START:
        yield Finding(
            "start",
            f"begins with noise {run.begins:.4g} times that of its first level, sigma = {_shown(told[0])}: "
            f"multiply latents by {1 / run.begins:.4g}, or let it begin at sigma = {course.high:.4g}",
        )
    if expected is None:
        yield from _by_itself(opened.scheduler, course, run, tolerance)
    else:
        yield from _by_schedule(opened.scheduler, expected, run, tolerance)
    apart = _apart(told, executed)
    worst = int(np.argmax(apart))
    if apart[worst] > tolerance:
        yield Finding(
            "told",
            f"tells its network sigma = {_shown(told[worst])} and gives it {_shown(executed[worst])}, off by "
            f"{apart[worst]:.2g}: it rounds times, or counts them in another way",
        )
    size = np.array(run.size)
    worst = int(np.argmax(np.abs(size - 1)))
    if abs(size[worst] - 1) > tolerance:
        yield Finding(
            "size",
            f"gives its network {size[worst]:.4g} times what it should see at sigma = {_shown(executed[worst])}: "
            "pipeline and scheduler do not go together",
        )
    finite = executed[np.isfinite(executed)]
    outside = finite[(finite > course.high * (1 + tolerance)) | (finite < course.low * (1 - tolerance))]
    if np.isnan(told).any() or len(outside):
        what = _shown(outside[0]) if len(outside) else f"at time {run.times[int(np.argmax(np.isnan(told)))]:.4g}"
        yield Finding(
            "range", f"visits sigma = {what}, beyond what its network knows, {course.low:.4g} to {course.high:.4g}"
        )
    yield from _end(course, asked, run, tolerance)


def _by_itself(scheduler: Any, course: Course, run: Trace, tolerance: float) -> Iterator[Finding]:
    """Of levels that a scheduler places by itself: whether they begin at the top, and are shifted only once."""
    if run.told[0] < min(course.high, NOTHING_ELSE) * (1 - tolerance):
        yield Finding(
            "top",
            f"begins at sigma = {_shown(run.told[0])}, and its network was trained up to {course.high:.4g}: noise "
            "alone is no sample of that level",
        )
    shift = _shift(scheduler)
    if shift != 1 and _twice(run.executed[-1], shift, scheduler):
        yield Finding(
            "shift",
            f"has its last level at sigma = {_shown(run.executed[-1])}, shifted twice by {shift:g}: its "
            f"smallest is {course.low:.4g}",
        )


def _by_schedule(scheduler: Any, expected: list[float], run: Trace, tolerance: float) -> Iterator[Finding]:
    """Of levels that were asked for: how many are visited, where, and whether they are shifted once more."""
    if len(expected) != len(run.executed):
        yield Finding("count", f"calls its network {len(run.executed)} times, and the schedule {len(expected)}")
    count = min(len(expected), len(run.executed))
    requested, executed = np.array(expected[:count]), np.array(run.executed[:count])
    apart = _apart(executed, requested)
    worst = int(np.argmax(apart))
    if apart[worst] <= tolerance:
        return
    visited = f"sigma = {_shown(executed[worst])} instead of {_shown(requested[worst])}"
    shift = _shift(scheduler)  # s -> shift s/(1 + (shift - 1) s) multiplies sigma = s/(1 - s)
    if shift != 1 and _apart(executed, shift * requested).max() <= tolerance:
        yield Finding("shift", f"shifts the levels that it is given once more, by {shift:g}: {visited}")
    else:
        yield Finding(
            "levels", f"visits {visited}, off by {apart[worst]:.2g}: schedule.install makes it visit what was planned"
        )


def _end(course: Course, asked: _Asked, run: Trace, tolerance: float) -> Iterator[Finding]:
    goal = 0.0 if asked.sigmas is None else asked.sigmas[-1]
    if goal > 0 and abs(run.end / goal - 1) > tolerance:
        yield Finding("end", f"ends at sigma = {_shown(run.end)} instead of {goal:.4g}")
    elif goal == 0 and run.end > course.low * (1 + tolerance):
        yield Finding("end", f"leaves noise of sigma = {_shown(run.end)} in what comes out")


def _solver(run: Trace, planned: str | None) -> str | None:
    """The solver that weighs the calls as the run did, at the levels that it visited: the planned one, or the first."""
    own = np.array(run.weights)
    levels = [min(level, INFINITE) for level in run.executed]
    grid = [level for k, level in enumerate(levels) if k == 0 or abs(level / levels[k - 1] - 1) > SAME]
    grid.append(run.end if run.end > SAME * levels[-1] else 0.0)
    if not all(after < level for level, after in pairwise(grid)):
        return None
    for solver in sorted(SOLVERS, key=lambda name: name != planned):
        weights = _weights(grid, solver)
        if weights.shape == own.shape and np.abs(weights - own).max() <= WEIGHED:
            return solver
    return None


def _weights(grid: list[float], solver: str) -> Array:
    """How much the denoiser at each call weighs in x at each call (row), as `Trace.weights` has it."""
    unit = torch.eye(evaluations(solver, grid), dtype=torch.float64)
    seen: list[Tensor] = []

    def denoise(points: Tensor, _: float) -> Tensor:
        seen.append(points[0])
        return unit[len(seen) - 1 : len(seen)]

    for _ in walk(find_solver(solver).step, denoise, 0 * unit[:1], grid, Memory(noise=torch.zeros_like)):
        pass
    return torch.stack(seen).numpy()


def _other_solver(planned: str | None, solver: str | None, found: list[Finding]) -> Iterator[Finding]:
    """Whether it is another one. Where levels are off, what is none of ours may be one at other levels."""
    if planned in (None, solver) or (solver is None and {one.what for one in found} & {"values", "levels", "count"}):
        return
    what = "none of brenier's solvers does" if solver is None else f"{solver} does"
    yield Finding("solver", f"steps as {what}, and the schedule was planned for {planned}: schedule.install runs that")


def _shift(scheduler: Any) -> float:
    config = config_of(scheduler)
    if not flows(scheduler) or config.get("use_dynamic_shifting"):
        return 1.0
    return float(config.get("shift") or config.get("flow_shift") or 1.0)


def _twice(sigma: float, shift: float, scheduler: Any) -> bool:
    """Whether the last level is that of the smallest s, shifted twice: sigma = s/(1 - s) is multiplied each time."""
    smallest = shift**2 / (float(config_of(scheduler)["num_train_timesteps"]) - 1)
    return abs(sigma / smallest - 1) < SHIFTED


def _apart(left: Array, right: Array) -> Array:
    """Relative difference of levels; none where both are so far that there is nothing but noise, or one is no level."""
    with np.errstate(invalid="ignore"):
        change = np.where(np.isinf(left) | np.isinf(right), 1.0, np.abs(left / right - 1))
    return np.where((np.fmin(left, right) > NOTHING_ELSE) | np.isnan(left) | np.isnan(right), 0.0, change)


def _shown(sigma: float) -> str:
    return "inf" if math.isinf(sigma) else f"{sigma:.4g}"
