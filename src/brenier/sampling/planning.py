"""Plan: a law or a network, a sampler and a number of steps -> the noise levels to visit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core.checks import whole_number
from brenier.core.points import put_back
from brenier.core.work import progress_bar
from brenier.laws.base import Target
from brenier.laws.levels import default_snrs
from brenier.probing.profile import probe
from brenier.sampling.driver import beginning, check_points, integrate
from brenier.sampling.error import (
    HANDS,
    MANY_VALLEYS,
    REFINEMENTS,
    VALLEYS,
    by_prediction,
    by_runs,
    cost_of_runs,
    minimise,
    placed,
    shares,
)
from brenier.sampling.handmade import HANDMADE
from brenier.sampling.information import INFORMED, needed_snrs
from brenier.sampling.objectives import OBJECTIVES, RootMeanSquare, objective_for
from brenier.sampling.pilots import AXES, TAIL, Pilots, even_noise, fly
from brenier.sampling.published import PUBLISHED, Ends
from brenier.sampling.schedule import Schedule
from brenier.sampling.scouting import Held, scout, scouted
from brenier.sampling.steps import SolverName, evaluations, find_solver

CRITERIA = ("error", *INFORMED, *HANDMADE, *PUBLISHED)
DETERMINISTIC = ("error", "dmn", "ld3")  # those that are for samplers without noise
STARTS = [*HANDMADE][:HANDS]  # of "error"
LEVELS = 33  # that a pilot's adjoint stops at
FINER = 4  # levels of a trajectory per one of these; a network's has no more of them
EARLIER = (5.0, 20.0)  # times the lowest level: where grids that end at 0 may have their last positive one
AMPLE = (5.0, 20.0, 80.0)  # the same of a network's course, whose lowest level is its training's and not the data's
LOWER = 4.0  # by what factor "error" may go below the lowest level of other criteria
BELOW = 32.0  # by what factor pilots follow the flow beyond the lowest level of grids that end at 0
UNITS = (0.25, 0.5, 1.0)  # of hand-made grids that plans are held against, in the law's largest length
OF_DEAR = 8  # of an explicit law whose posteriors are dear, pilots are at most this part of a probe's queries
LOW = 8  # dimensions up to which evaluations are taken to be cheap: more pilots
MORE = 4  # by what factor at least the pilots of an explicit law are more there
REFINED = 20  # steps from which on the third stage of `error`, of cost trials x steps^2, has fewer trials
BUDGET = 512  # samples that planning for a network may cost: fewer leave no pilot to follow
EVEN = 2  # dimensions up to which an even spread of noise misses no border between basins
SCOUTS = 4  # per pilot, with as many held out as there are pilots
SWARM, HELD = 8192, 1024  # scouts of an explicit law, and those held out, at least
ALIKE = 8  # pilots of a network that the adjoint equation is solved for
FRESH = 16  # held out of a network's plan, more in proportion to a larger budget
MANY = 10  # pilots per step from which on those that a grid was made from tell how good it is, too
SEVERAL, RICH = 8, 4  # steps from which on, or budgets over the least, plans of a network have several starts
SPREAD = 2.0  # of squares of a network's end errors over their mean: of one of digits 1.4 to 4.3


def plan(
    law: LawLike,
    steps: int = 10,
    *,
    solver: str = "dpmpp-2m",
    criterion: str = "error",
    objective: str = "error",
    sigma_max: float | None = None,
    sigma_min: float | None = None,
    profile: xr.Dataset | None = None,
    pilots: int = 256,
    budget: int = BUDGET,
    seed: int = 0,
    progress: bool = True,
    points: Float[Tensor, "n d"] | None = None,
) -> Schedule:
    """Choose the noise levels that a sampler visits.

    Criteria:

    - "error": the smallest root mean square distance to the exact flow's end point, for this very sampler, over all
      grids (see `error`), or the smallest of another `objective`. Deterministic samplers only.
    - "curvature", "information", "information-rescaled", "kl": from the profile (see `information`).
    - "karras", "log-snr", "cosine", "linear-beta", "uniform-sigma", "ays", "beta", "sd3-shift": by hand (see
      `handmade`).
    - "dmn", "gits", "ld3", "oss", "score-optimal": as other papers have it, on as many trajectories as they take, a
      network's, too (see `published`). dmn and ld3 for deterministic samplers only.

    Args:
        law: a law, data or a network, or what `load_target` takes.
        steps: grid intervals.
        solver: "euler", "heun", "dpmpp-2m", "dpmpp-3m", "unip-3", "unipc-2", "unipc-3", "deis-2", "deis-3", "ipndm-2",
            "ipndm-3", "ipndm-4", "dpmpp-2m-sde", "euler-maruyama" or "annealed-langevin"; see `steps`.
        criterion: one of those above.
        objective: what the criterion "error" makes small: "error", that root mean square; "typical", the median
            distance, whatever the few do that end in another mode; "law", the sliced W2 between the law of where the
            sampler ends and that of where the flow does. See `objectives`.
        sigma_max: the first level, in the unit of the data. Default: ten times the law's largest length; for a network
            of diffusers the highest that its scheduler knows, and there it starts from what pipelines begin with (see
            `brenier.laws.course`). From any other level it starts from noise around its mean.
        sigma_min: the last level. Default: 0, after positive levels that go no lower than a tenth of the law's smallest
            length, or for a network of diffusers than the lowest that its scheduler knows; there hand-made and profile
            criteria have their last positive level. For a network that was trained at the steps of a chain, all levels
            but these two are steps of it: the nearest.
        profile: of this law by `probe`, for the criteria that are made from one. Default: one is made.
        pilots: trajectories that errors are measured on. In d < 8 dimensions 8/d times as many of points and of laws in
            closed form, and of any explicit law in up to 8 at least four times. For a network no more than `budget`
            allows. In more than two dimensions those of laws and data are drawn where the flow amplifies most (see
            `scouting`), and others like them decide whether a grid by hand is safer.
        budget: samples that planning by "error" for a network may cost at most, 512 or more; `Schedule.evaluations`
            says what was spent. A network that is sampled often is worth thousands.
        seed: of the pilots, and of a profile that is made here.
        progress: show a bar on stderr, where that is a terminal.
        points: noisy points X + sigma_max Z to fly pilots from, as many as `pilots` asks for at most. Default: noise
            around the law's mean, which is X + sigma_max Z only where sigma_max is large, or what pipelines begin with.

    Returns:
        The schedule. By "error" with each step's share in the predicted error; `predict` gives it to others.

    Raises:
        ValueError: an argument is out of range, or they do not go together. The message says what would be right.
    """
    law = load_target(law)
    origin = law.origin
    law = law.moved(-origin)
    steps, seed = whole_number(steps, "steps", 1, 10_000), whole_number(seed, "seed", 0)
    pilots, budget = whole_number(pilots, "pilots", 2, 2**16), whole_number(budget, "budget", BUDGET)
    sampler = find_solver(solver)
    if criterion not in CRITERIA:
        raise ValueError(f"no criterion {criterion!r}: it is one of {', '.join(CRITERIA)}")
    if criterion in DETERMINISTIC and sampler.stochastic:
        raise ValueError(
            f'criterion "{criterion}" measures the distance to the end of the probability flow, which {solver}, being '
            'stochastic, does not follow: choose criterion "kl"'
        )
    if objective not in OBJECTIVES:
        raise ValueError(f"no objective {objective!r}: it is one of {', '.join(OBJECTIVES)}")
    if objective != "error" and criterion != "error":
        raise ValueError(f'objective {objective!r} is for criterion "error", {criterion!r} knows none: leave one out')
    high, low, to_zero = noise_range(law, sigma_max, sigma_min)
    count = steps if to_zero else steps + 1
    if profile is not None:
        _check_profile(profile, law, low)
    name, spent, blame, doubt, value = find_name(solver), 0, None, None, (None, None)
    if criterion in HANDMADE:
        levels = _by_hand(criterion, law, count, high, low)
    elif criterion in INFORMED:
        if profile is None:
            about = "atoms" if law.atoms else None  # data are sampled by their own score
            profile = probe(law, needed_snrs(high, low), about=about, views=0, seed=seed, progress=progress)
            spent = int(profile.sizes["snr"] * profile.sizes["query"])
        levels = INFORMED[criterion](profile, count, high, low, name)
    elif criterion in PUBLISHED:
        begin = _begin(law, high, pilots, seed) if points is None else check_points(law, put_back(points, -origin))
        lowest = _lowest(law, low)
        between = Ends(high, low, lowest, _floor(law, lowest)) if to_zero else Ends(high, low)
        levels, spent = PUBLISHED[criterion](law, begin[:pilots], steps, between, name)
    else:
        begin = None if points is None else put_back(points, -origin)
        with progress_bar(f"planning for {law.name}", progress) as advance:
            found = _least(law, steps, name, (high, low, to_zero), objective, (pilots, budget), seed, begin, advance)
        levels, spent, blame, doubt, value = found
    sigmas = [high, *levels[1:], *([0.0] if to_zero else [])]
    return Schedule(
        _known(law, sigmas),
        name,
        criterion=criterion,
        predicted_error=blame,
        end_error_se=doubt,
        objective=objective if criterion == "error" else None,
        predicted_objective=value[0],
        predicted_objective_se=value[1],
        law=law.name,
        seed=seed,
        evaluations=spent,
        convention=law.convention,
    )


def predict(
    law: LawLike, schedules: Sequence[Schedule], *, pilots: int = 256, budget: int = BUDGET, seed: int = 0
) -> list[Schedule]:
    """The same schedules with each step's share in the error that they are predicted to leave.

    Predicted is the root mean square distance between where the sampler and the exact flow end, from the same noise, in
    the unit of the data: what it is on the pilots. Its shares are in proportion to (local error) x (amplification
    to the end); see `pilots`.

    Args:
        law: what they were planned for.
        schedules: for deterministic samplers.
        pilots: trajectories; see `plan`.
        budget: of a network, likewise.
        seed: of the pilots.

    Raises:
        ValueError: a sampler is stochastic, or a schedule's levels are not ones of a network.
    """
    law, seed = load_target(law), whole_number(seed, "seed", 0)
    law = law.moved(-law.origin)
    pilots, budget = whole_number(pilots, "pilots", 2, 2**16), whole_number(budget, "budget", BUDGET)
    predicted: list[Schedule] = []
    flights: dict[tuple[float, float, bool], tuple[Pilots, Held | None]] = {}
    for schedule in schedules:
        if find_solver(schedule.solver).stochastic:
            raise ValueError(f"{schedule.solver} is stochastic and has no end point to predict a distance from")
        grid = schedule.sigmas
        to_zero = grid[-1] == 0
        low = min(_lowest(law, noise_range(law, None, None)[1]), grid[-2]) if to_zero else grid[-1]
        key = (grid[0], low, to_zero)
        if key not in flights:
            cost = max(evaluations(other.solver, other.sigmas) for other in schedules)
            flights[key] = _fly(law, *key, (pilots, budget), cost, seed)
        flown, fresh = flights[key]
        asked = flown if fresh is None else fresh
        end = integrate(law, asked.start, grid, schedule.solver).x.double()
        error, doubt = _error(law, asked, end)
        parts = shares(flown, np.asarray(grid), schedule.solver, error)
        predicted.append(replace(schedule, predicted_error=tuple(parts.tolist()), end_error_se=doubt))
    return predicted


def noise_range(law: Target, sigma_max: float | None, sigma_min: float | None) -> tuple[float, float, bool]:
    """The highest and the lowest positive level of a grid, and whether it goes on to 0.

    Raises:
        ValueError: they are not positive, not finite, or the wrong way round.
    """
    for name, value in (("sigma_max", sigma_max), ("sigma_min", sigma_min)):
        if value is not None and not 0 < value < math.inf:
            hint = " (a grid ends at 0 unless sigma_min is given)" if name == "sigma_min" else ""
            raise ValueError(f"{name} must be positive and finite, got {value}{hint}")
    course = law.course
    own = 1 / default_snrs(law, 2) if course is None else (course.high, course.low)
    high = float(own[0] if sigma_max is None else sigma_max)
    low = float(own[1] if sigma_min is None else sigma_min)
    if not low < high:
        given = "" if sigma_min is not None else f", the lowest level that {law.name} calls for"
        raise ValueError(f"sigma_min must be below sigma_max: {low:g}{given} is not below {high:g}")
    return high, low, sigma_min is None


def usual_criterion(solver: str) -> str:
    """The criterion that a sampler's steps are planned by unless told otherwise."""
    if solver == "annealed-langevin":
        return "log-snr"  # its steps are none that "kl" describes (NCSNv2, Technique 2)
    return "kl" if find_solver(solver).stochastic else "error"


class _Least(NamedTuple):
    """The levels of the least error, and what is known of it, as `Schedule` has it."""

    levels: list[float]
    evaluations: int
    shares: tuple[float, ...]
    error_se: float
    objective: tuple[float | None, float | None]  # and its standard error, where it is not the error


def _least(
    law: Target,
    steps: int,
    solver: SolverName,
    between: tuple[float, float, bool],
    objective: str,
    limits: tuple[int, int],
    seed: int,
    points: Tensor | None,
    advance: Callable[[float], None],
) -> _Least:
    """Criterion "error", between two levels, and on to 0 or not, with so many pilots and this budget at most."""
    high, low, to_zero = between
    count = steps if to_zero else steps + 1
    earlier = EARLIER if law.course is None else AMPLE
    ends = [low] if not to_zero else [low, *(k * low for k in earlier if k * low < high)]
    tail = [0.0] if to_zero else []
    starts = [[*_by_hand(hand, law, count, high, end), *tail] for end in ends for hand in STARTS]
    safe = [] if law.learned else _safe(law, count, high, low, tail)
    if to_zero:
        low = _lowest(law, low)
    cost = evaluations(solver, starts[0])
    valleys = VALLEYS if steps >= SEVERAL or limits[1] >= RICH * BUDGET else 1
    runs = cost_of_runs(solver, starts[0], valleys)
    if law.course is not None and law.course.levels is not None:
        runs += cost  # once more, on levels that the network knows
    if limits[1] > BUDGET:
        runs += 2 * cost  # beside those that are held out
    flown, fresh = _fly(law, high, low, to_zero, limits, cost, seed, points, runs)
    advance(0.5)
    if law.learned:
        if law.course is not None:
            starts = by_prediction(flown, solver, starts)
            own = law.course.even(steps) if to_zero and high == law.course.high else None
            starts = starts if own is None else [own, *starts]  # no worse than what pipelines visit
        found, hand = by_runs(law, flown, solver, starts, objective, valleys)
        rivals = [_known(law, hand.tolist())]
    else:
        cheap = law.swift or (law.dim <= LOW and not law.dear)
        refinements = int(REFINEMENTS * min(1.0, (REFINED / steps) ** 2)) if cheap else 0
        valleys = MANY_VALLEYS if law.swift else 1
        found, others = minimise(law, flown, solver, starts, refinements, objective, valleys)
        rivals = [*others, *safe]
    found = placed(law, flown, solver, found)
    grid, spent = found.sigmas, flown.evaluations + found.evaluations
    asked, end = flown, found.end
    if fresh is not None:
        choice = [found.sigmas, *map(np.asarray, rivals)]
        told = fresh
        if law.learned:  # few noises tell little: what is known to be safe, unless they are sure
            choice.reverse()
            told = fresh.joined(flown) if limits[1] > BUDGET and len(flown.start) >= MANY * steps else fresh
        best, end = told.safest(law, choice, solver, objective)
        grid, asked, end = choice[best], fresh, end[: len(fresh.start)]
        spent += fresh.evaluations + len(choice) * len(told.start) * cost
    error, doubt = _error(law, asked, end)
    blame = tuple(shares(flown, grid, solver, error).tolist())
    value = (None, None) if objective == "error" else objective_for(objective, asked.end, asked.weights, end).value(end)
    return _Least(grid[:count].tolist(), spent, blame, doubt, value)


def find_name(solver: str) -> SolverName:
    """The solver's name, for a type checker: `find_solver` has refused others."""
    find_solver(solver)
    return solver  # pyright: ignore[reportReturnType]


def _by_hand(criterion: str, law: Target, count: int, high: float, low: float) -> list[float]:
    """A hand-made grid; the unit of cosine and linear-beta is the law's largest length, that of a network its own."""
    unit = 1.0 if law.learned else law.scales()[1]
    return [unit * sigma for sigma in HANDMADE[criterion](count, high / unit, low / unit)]


def _safe(law: Target, count: int, high: float, low: float, tail: list[float]) -> list[list[float]]:
    """All hand-made grids, those that have a unit of their own in several: what a plan has to be better than."""
    grids = [
        [*(unit * sigma for sigma in place(count, high / unit, low / unit)), *tail]
        for place in HANDMADE.values()
        for unit in (share * law.scales()[1] for share in UNITS)
    ]
    return [*{tuple(round(math.log(sigma), 6) for sigma in grid if sigma > 0): grid for grid in grids}.values()]


def _fly(
    law: Target,
    high: float,
    low: float,
    to_zero: bool,
    limits: tuple[int, int],
    cost: int,
    seed: int,
    points: Tensor | None = None,
    runs: int = 0,
) -> tuple[Pilots, Held | None]:
    """Pilots between two levels, and others that are held out.

    At most so many, and of a network no more than leave planning within the cost of a budget of samples, each of `cost`
    evaluations, where the sampler's runs take `runs` for each pilot; without runs all but a few are held out. Of other
    laws, in more than `EVEN` dimensions, they are drawn from scouts, and as many or more others are held out.
    """
    (pilots, images), floor = limits, _floor(law, low) if to_zero else None
    if law.learned:
        sigmas = np.geomspace(high, low, LEVELS).tolist()
        budget = images * cost - 2 * LEVELS * ALIKE * (law.dim if law.dim <= AXES else 1)
        path = LEVELS + 1 + (2 * TAIL if floor is not None and floor < low else 0)
        held = min(FRESH * max(images // BUDGET, 1), budget // 4 // (path + 2 * cost), pilots // 2)
        flying = min(pilots - held, max(2, (budget - held * (path + 2 * cost)) // (path + runs)))
        if not runs:
            flying = min(ALIKE, pilots)
            held = min(pilots, (budget - flying * path) // (path + cost))
        x = _begin(law, high, flying + held, seed) if points is None else check_points(law, points)
        x, other = x[:flying], x[flying : flying + held]
        flown = fly(law, x, sigmas, floor, 1, ALIKE, seed)
        even = torch.full((len(other),), 1 / max(len(other), 1), dtype=torch.float64, device=x.device)
        return flown, Held.of(law, other, even, sigmas, floor) if len(other) > 1 else None
    most = max(2, law.default_queries // OF_DEAR)
    more = max(MORE if law.dim <= LOW and not law.atoms else 1, LOW // law.dim if law.swift or law.atoms else 1)
    pilots = min(pilots, most) if law.dear else pilots * more
    sigmas = np.geomspace(high, low, (LEVELS - 1) * FINER + 1).tolist()
    if points is not None:
        return fly(law, check_points(law, points)[:pilots], sigmas, floor, FINER, None, seed), None
    if law.dear or law.dim <= EVEN:
        return fly(law, _begin(law, high, pilots, seed), sigmas, floor, FINER, None, seed), None
    scouts, held = SCOUTS * pilots, pilots
    if not law.atoms:
        scouts, held = max(SWARM, scouts), max(HELD, held)
    (x, weights), (other, others) = scout(law, _begin(law, high, scouts, seed), (high, low), pilots, held, seed)
    flown = fly(law, x, sigmas, floor, FINER, None, seed, weights)
    flown = replace(flown, evaluations=flown.evaluations + scouted(scouts))
    return flown, Held.of(law, other, others, sigmas, floor)


def _error(law: Target, asked: Pilots | Held, end: Tensor) -> tuple[float, float]:
    """The root mean square end error, and its standard error.

    A few noises hold none of the rare large errors of a network, and by their spread would be too sure: the coefficient
    of variation of squares is taken to be `SPREAD` at least.
    """
    error, doubt = RootMeanSquare(asked.end, asked.weights).value(end)
    return error, max(doubt, SPREAD * error / 2 / math.sqrt(len(end))) if law.learned else doubt


def _known(law: Target, sigmas: list[float]) -> list[float]:
    """The grid with levels that the network knows; see `Course.placed`."""
    return sigmas if law.course is None else law.course.placed(sigmas)


def _lowest(law: Target, low: float) -> float:
    """The lowest positive level that "error" may place before 0."""
    return max(low / LOWER, 1 / law.snr_range[1])


def _floor(law: Target, low: float) -> float:
    """The level down to which pilots follow the flow, for grids that end at 0."""
    return max(low / BELOW, 1 / law.snr_range[1])


def _begin(law: Target, sigma: float, count: int, seed: int) -> Tensor:
    """Noisy points that a sampler starts from, (count, d)."""
    mean, deviation = beginning(law, sigma)
    return mean + deviation * even_noise(law, count, seed)


def _check_profile(profile: xr.Dataset, law: Target, low: float) -> None:
    name, seed = profile.attrs.get("law"), profile.attrs.get("seed")
    if name != law.name:
        warnings.warn(
            f"the profile is of {name!r} (seed {seed}), the schedule for {law.name!r}: where that is hard to denoise, "
            "this may not be",
            stacklevel=3,
        )
    resolved = float(profile.get("resolved_snr", math.inf))
    if not resolved >= 1 / low:
        until = "at no SNR" if math.isnan(resolved) else f"up to SNR {resolved:.3g}"
        warnings.warn(
            f"the profile tells of the law behind the data {until}, the schedule goes on to {1 / low:.3g}: beyond, it "
            "follows what the data cannot tell",
            stacklevel=3,
        )
