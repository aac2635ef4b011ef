"""Compare ways to place a sampler's steps: the error that each leaves, and how far its samples are from the law.

Every grid starts from the same noise. The end point that the probability flow carries it to is known, from an adaptive
solver (`brenier.sampling.endpoint`), and the distance to it is the error:

    rms = sqrt(mean |x - x*|^2),    median = median |x - x*|,    w2 = W2(samples, law)

The few trajectories that end in another mode dominate the mean square; the median does not see them. A sampler that
draws noise on the way has no end point to reach: it is judged by W2 alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core import records
from brenier.core.checks import whole_number
from brenier.core.random import seeds
from brenier.core.work import progress_bar
from brenier.distances.couplings import by_sorting
from brenier.distances.distance import Distance
from brenier.distances.wasserstein import debiased_w2, exact_w2, sliced_w2, sorted_w2
from brenier.laws.base import Target
from brenier.probing.profile import probe
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import fine, reference
from brenier.sampling.information import INFORMED, needed_snrs
from brenier.sampling.objectives import OBJECTIVES
from brenier.sampling.planning import BUDGET, CRITERIA, DETERMINISTIC, noise_range, plan, predict
from brenier.sampling.published import PUBLISHED
from brenier.sampling.schedule import Schedule
from brenier.sampling.steps import SOLVERS, SolverName, evaluations

EXACT = 3  # dimensions up to which W2 is exact; in more, samples lie too far apart to see where mass is missing
COUPLED = 1024  # rows that exact transport takes: a third of a second
LINES = 128  # projections of the sliced distance
USUAL = tuple(name for name in CRITERIA if name not in PUBLISHED)
DIMS = ("criterion", "solver", "steps")


def compare(
    law: LawLike,
    steps: Sequence[float] = (5, 10, 20),
    *,
    solvers: Sequence[str] = ("euler", "heun", "dpmpp-2m"),
    criteria: Sequence[str] | None = None,
    objective: str = "error",
    sigma_max: float | None = None,
    sigma_min: float | None = None,
    n: int | None = None,
    pilots: int | None = None,
    budget: int = BUDGET,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Plan by every criterion for every solver and number of steps, and measure what each grid leaves of the error.

    Args:
        law: a law, data, a network, or what `load_target` takes.
        steps: numbers of grid intervals.
        solvers: samplers, see `brenier.sampling.steps`.
        criteria: ways to place the steps, see `plan`. Default: all but those of other papers, which take long.
        objective: what the criterion "error" makes small, see `plan`.
        sigma_max: noise level to start from, in the unit of the data. Default: that of `plan`.
        sigma_min: noise level to end at. Default: 0.
        n: samples of each grid, at least 2. Default: 1,024, of a network 128. Their noise is not that of the pilots.
        pilots: trajectories that plans and predictions are made from. Default: 256, of a network 64.
        budget: of a network, samples that each of them may cost at most, see `plan`.
        seed: of every random number.
        device: where to compute. Default: where the law is.
        dtype: of the computation. Default: the law's.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Dataset over `criterion`, `solver` and `steps`; distances are in the unit of the data.

        - `rms`, `median`: distance to the reference end point from the same noise (of a network, 256 steps of UniPC-3:
          see `endpoint.fine`); NaN for stochastic solvers.
        - `w2`: W2 to the law; in more than 3 dimensions sliced, times sqrt(d), a lower bound. Deterministic solvers:
          between their samples and the reference end points, which are drawn from the law (a network's: the one that it
          has learned), as they are, with the noise in common; never above `rms`. Stochastic solvers: to independent
          points of the law (a network's: of its data; NaN without), less the floor, by `wasserstein.debiased_w2` or
          `sliced_w2`, blind to anything below a large error bar.
        - `rms_se`, `median_se`, `w2_se`: standard errors, over trajectories: by the delta method, from the order
          statistics, and from the potentials. Cells share their noise: differences are better known than these say.
        - `w2_reference`, `w2_reference_se` (): the latter for the reference end points: what more steps lead to.
        - `predicted`: the `rms` that is predicted, see `predict`; NaN for stochastic solvers.
        - `predicted_objective`: by another objective than "error", what criterion "error" is predicted to leave of it:
          of "typical" the `median`, of "law" the `w2`, sliced in all dimensions. Both with `_se`.
        - `evaluations` (solver, steps): of the denoiser, per sample; `planning_evaluations`: to plan, over all pilots
          or queries.
        - `sigmas` (..., level): the grid, descending; NaN past its end.

        Where a criterion is not for a solver, as "error" for stochastic ones, all is NaN.

        Attributes hold what is needed to repeat the run.

    Raises:
        ValueError: an argument is out of range, or does not go with the law. The message says what would be right.
    """
    law = load_target(law, dtype=dtype, device=device)
    law = law.moved(-law.origin)
    names = _check_names(USUAL if criteria is None else criteria, "criterion", CRITERIA)
    samplers = _check_names(solvers, "solver", tuple(SOLVERS))
    counts = [whole_number(count, "steps", 1) for count in steps]
    if not counts or len(set(counts)) < len(counts):
        raise ValueError(f"steps must be one number or more, each given once, got {counts}")
    if objective not in OBJECTIVES:
        raise ValueError(f"no objective {objective!r}: it is one of {', '.join(OBJECTIVES)}")
    n = (128 if law.learned else 1024) if n is None else whole_number(n, "n", 2)
    pilots = (64 if law.learned else 256) if pilots is None else pilots
    seed = whole_number(seed, "seed", 0)
    high, low, to_zero = noise_range(law, sigma_max, sigma_min)
    end = 0.0 if to_zero else low
    cells = list(product(names, samplers, counts))
    with progress_bar(f"comparing schedules for {law.name}", progress) as advance:
        plans, spent = _plans(
            law, cells, objective, sigma_max, sigma_min, (pilots, budget), seed, lambda share: advance(0.5 * share)
        )
        noise, draws = seeds(seed, 0xC0A5E, count=2)
        x = start(law, n, high, noise)
        drawn = None if law.drawn_from is None else law.sample(n, draws)
        goal = None
        if not all(SOLVERS[solver].stochastic for solver in samplers):
            goal = fine(law, x, high, end) if law.learned else reference(law, x, high, end)
        rows: list[dict[str, float]] = []
        for schedule, cost in zip(plans, spent, strict=True):
            distances = _distances(law, schedule, x, goal, drawn, seed)
            said = (None, None) if schedule is None else (schedule.end_error, schedule.end_error_se)
            predicted = zip(("predicted", "predicted_se"), (math.nan if x is None else x for x in said), strict=True)
            rows.append({**distances, **dict(predicted), "planning_evaluations": cost})
            if objective != "error":
                for name in ("predicted_objective", "predicted_objective_se"):
                    value = None if schedule is None else getattr(schedule, name)
                    rows[-1][name] = math.nan if value is None else value
            advance(0.5 / len(plans))
    shape = (len(names), len(samplers), len(counts))
    levels = np.full((len(plans), max(counts) + 1), np.nan)
    for row, schedule in zip(levels, plans, strict=True):
        if schedule is not None:
            row[: len(schedule.sigmas)] = schedule.sigmas
    limit = _to_law(goal, drawn)
    return records.dataset(
        "comparison",
        {
            **{name: (DIMS, np.reshape([row[name] for row in rows], shape)) for name in rows[0]},
            "evaluations": (DIMS[1:], [[evaluations(s, [*[1.0] * k, end]) for k in counts] for s in samplers]),
            "sigmas": ((*DIMS, "level"), levels.reshape(*shape, -1)),
            **{name.replace("w2", "w2_reference"): ((), value) for name, value in limit.items()},
        },
        {"criterion": names, "solver": samplers, "steps": counts},
        title=f"schedules for {law.name}",
        law=law,
        n=n,
        pilots=pilots,
        budget=budget,
        seed=seed,
        sigma_max=high,
        sigma_min=end,
        **({} if objective == "error" else {"objective": objective}),
        w2_method="exact" if law.dim <= EXACT else "sliced, times sqrt(d)",
    )


def _check_names(given: Sequence[str], what: str, known: Sequence[str]) -> list[Any]:
    for name in given:
        if name not in known:
            raise ValueError(f"no {what} {name!r}: it is one of {', '.join(known)}")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"give at least one {what}, and none twice, got {', '.join(given)}")
    return list(given)


def _plans(
    law: Target,
    cells: Sequence[tuple[str, SolverName, int]],
    objective: str,
    sigma_max: float | None,
    sigma_min: float | None,
    limits: tuple[int, int],
    seed: int,
    advance: Callable[[float], None],
) -> tuple[list[Schedule | None], list[int]]:
    """The schedule of each cell with its prediction, None where the criterion is not for the solver, and its cost."""
    profile = None
    if any(name in INFORMED for name, _, _ in cells):
        high, low, _ = noise_range(law, sigma_max, sigma_min)
        about = "atoms" if law.atoms else None
        profile = probe(law, needed_snrs(high, low), about=about, views=0, seed=seed, progress=False)
    given = {"pilots": limits[0], "budget": limits[1], "seed": seed}
    make = partial(plan, law, sigma_max=sigma_max, sigma_min=sigma_min, progress=False, **given)
    plans: list[Schedule | None] = []
    spent: list[int] = []
    for name, solver, steps in cells:
        informed = profile if name in INFORMED else None
        unfit = name in DETERMINISTIC and SOLVERS[solver].stochastic
        aim = objective if name == "error" else "error"
        plans.append(None if unfit else make(steps, solver=solver, criterion=name, objective=aim, profile=informed))
        spent.append(0 if plans[-1] is None else plans[-1].evaluations or 0)
        if informed is not None:  # the plan itself took nothing more
            spent[-1] += informed.sizes["snr"] * informed.sizes["query"]
        advance(1 / len(cells))
    silent = [k for k, made in enumerate(plans) if made is not None and made.end_error is None]
    silent = [k for k in silent if not SOLVERS[cells[k][1]].stochastic]
    schedules = [made for made in (plans[k] for k in silent) if made is not None]
    for k, made in zip(silent, predict(law, schedules, **given) if schedules else [], strict=True):
        plans[k] = made
    return plans, spent


def _distances(
    law: Target, schedule: Schedule | None, x: Tensor, goal: Tensor | None, drawn: Tensor | None, seed: int
) -> dict[str, float]:
    """What a sampler leaves, from x."""
    if schedule is None:
        return _to_goal(x, None) | _to_law(x, None)
    end = integrate(law, x, schedule.sigmas, schedule.solver, seed).x
    if SOLVERS[schedule.solver].stochastic or goal is None:
        return _to_goal(end, None) | _to_law(end, drawn)
    return _to_goal(end, goal) | _to_twin(end, goal)


def _to_goal(x: Tensor, goal: Tensor | None) -> dict[str, float]:
    """Root mean square and median distance between rows, with their standard errors."""
    if goal is None:
        return dict.fromkeys(("rms", "rms_se", "median", "median_se"), math.nan)
    distance = np.sort((x - goal).double().norm(dim=1).cpu().numpy())
    n = len(distance)
    square = distance**2
    rms = math.sqrt(square.mean())
    # As many points lie below the median as heads fall in n throws: one deviation to both sides, in ranks.
    low, high = (np.quantile(distance, 0.5 + side / math.sqrt(n) / 2) for side in (-1, 1))
    return {
        "rms": rms,
        "rms_se": float(square.std(ddof=1)) / math.sqrt(n) / 2 / rms if rms > 0 else 0.0,
        "median": float(np.median(distance)),
        "median_se": float(high - low) / 2,
    }


def _to_twin(x: Tensor, goal: Tensor) -> dict[str, float]:
    """W2 between two samples as they are, whose rows share their noise: there is no floor to take off."""
    if x.shape[1] <= EXACT:
        found = sorted_w2(x, goal) if x.shape[1] == 1 else exact_w2(x[:COUPLED], goal[:COUPLED])
        return {"w2": found.value, "w2_se": found.value_se}
    u, v = x.double().cpu().numpy(), goal.double().cpu().numpy()
    n, dim = u.shape
    lines = np.random.default_rng(0).normal(size=(LINES, dim))
    lines *= math.sqrt(dim) / np.linalg.norm(lines, axis=1, keepdims=True)
    mass = np.full(n, 1 / n)
    squares, influence = np.zeros(LINES), np.zeros(n)
    for k, line in enumerate(lines):
        squares[k], f, g = by_sorting((u @ line)[:, None], mass, (v @ line)[:, None], mass)
        influence += (f + g) / LINES
    error = math.hypot(influence.std(ddof=1) / math.sqrt(n), squares.std(ddof=1) / math.sqrt(LINES))
    found = Distance.from_squared(float(squares.mean()), error, method="sliced", n=n)
    return {"w2": found.value, "w2_se": found.value_se}


def _to_law(x: Tensor | None, drawn: Tensor | None) -> dict[str, float]:
    """W2 between the laws behind two independent samples."""
    if x is None or drawn is None:
        return dict.fromkeys(("w2", "w2_se"), math.nan)
    found = debiased_w2(x, drawn) if x.shape[1] <= EXACT else sliced_w2(x, drawn, projections=LINES)
    return {"w2": found.value, "w2_se": found.value_se}
