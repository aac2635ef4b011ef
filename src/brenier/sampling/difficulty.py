"""Which points are hard: the localization along a cheap way to each, held against the error of a few-step sampler.

Each point is followed along the few steps of a sampler, and L is looked at where they are taken. Points that are given
are noised first, each a few times, and come back. The error that this is held against is the distance to where the
probability flow itself goes from the same noise; the difficulty knows nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.stats import spearmanr
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core import records
from brenier.core.checks import Array, whole_number
from brenier.core.points import put_back
from brenier.core.random import generator_for, normal_like, seeds
from brenier.core.work import progress_bar
from brenier.laws.alike import ROWS, warn_of_scales
from brenier.laws.base import Target
from brenier.laws.levels import given_snrs
from brenier.networks.conventions import known_snr
from brenier.probing.association import associate
from brenier.probing.difficulty import dimension_level, distances, integral, local_dimension, localize_along, undecided
from brenier.sampling.driver import centre, check_points, integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.planning import noise_range, plan
from brenier.sampling.sample import check_made_for
from brenier.sampling.schedule import Schedule
from brenier.sampling.steps import find_solver

MEASURES = ("integral_localization", "max_localization")
CONTROLS = ("integral_trace", "dimension", "mean_distance", "nearest_distance", "neighbour_distance", "noise_norm")
NEIGHBOUR = 5  # the nearest of this rank is the distance that tells of a density
AMONG = 20_000  # points that distances to data go to, at most
LEVELS = 12  # at which the dimension and the level to noise to are looked for
SCOUTS = 64  # points on which they are
PILOTS = 256  # given points that plans are made from, at most
FEWEST = 20  # points that can be correlated


def difficulty(
    law: LawLike,
    samples: LawLike | None = None,
    *,
    data: LawLike | None = None,
    steps: int | None = None,
    solver: str | None = None,
    schedule: Schedule | str | None = None,
    n: int = 384,
    sigma: float | None = None,
    copies: int = 8,
    check: bool = True,
    snrs: Sequence[float] | None = None,
    components: int = 3,
    shown: int = 8,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Say of single points how hard they are, and how far that tells their error with few steps.

    Args:
        law: a law, data, a network, or what `load_target` takes.
        samples: points to ask about, whoever made them: an array, a file, or a law of which n are drawn. Default: what
            the sampler itself makes of n noises.
        data: the same, but points that stand for the law: what they are near to is the rest of them.
        steps: of the sampler. Default: those of the schedule, else 5: a way of many is dear.
        solver: a sampler that draws no noise on the way, see `brenier.sampling.steps`. Default: the schedule's, else
            "dpmpp-2m".
        schedule: noise levels to visit, or the criterion to plan them by, see `plan`. Default: "error".
        n: how many points, where they are drawn.
        sigma: level that given points are noised to, in the unit of the data. Default: the one of twelve at which their
            localizations differ most. The larger it is, the less is left of the point; see `reliability`.
        copies: noises of each given point; figures are means over them.
        check: whether to measure the error, too.
        snrs: SNRs to look at what is undecided at. Default: each point's level of the largest localization.
        components: principal components of the posterior to find, of which there are d; 0 for none.
        shown: how many of the hardest points, and how many of the easiest, to find them for.
        seed: of every random number.
        device: where to compute. Default: where the law is.
        dtype: of the computation. Default: the law's.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Dataset over `sample`; lengths are in the unit of the data.

        - `localization`, `trace` (level, sample): ||Cov[rX | Y_r]||_op and tr Cov[rX | Y_r] where steps were taken, at
          `sigma` (level).
        - `integral_localization`, int L dlog r over these levels, by which `rank` counts from the hardest, 1;
          `max_localization`, and `hardest_snr` where it is; `integral_trace`.
        - `dimension`: local intrinsic dimension at the point, by FLIPD at the attribute `dimension_sigma`.
        - `mean_distance`, to the law's mean; `nearest_distance`, `neighbour_distance`: to the nearest and the fifth
          nearest of the points that the attribute `neighbours` names. `noise_norm`: length of the noise over its root
          mean square, of points that were not given. `log_density` of laws that have one.
        - `error`: distance of the sampler's end to the flow's own. With it, over `measure`: `rho`, Spearman's
          correlation with the error; `partial`, that of `integral_localization` with the measure held fixed; `lead`,
          |rho| of `integral_localization` less |rho| of the measure; `auc`, for the worst tenth of the errors; and
          `partial_all` (), all controls held fixed; each with `_low` and `_high`, 95% bootstrap intervals.
        - `points` (sample, coordinate); for the `row` (shown) of the hardest and then the easiest, the posterior's mean
          (shown, view, coordinate) at `view_snr` (shown, view), its principal `component`s (shown, view, component,
          coordinate), and their `variance`s, those of rX.

        Attributes hold the cost: `evaluations` of the denoiser and `localizations` per point; and of points that were
        given the level `noised_to` and the `reliability`: how far `integral_localization` would go with that of other
        copies, by Spearman's correlation between halves of the copies, and Spearman and Brown's formula.

    Raises:
        ValueError: an argument is out of range, or does not go with the law. The message says what would be right.
    """
    law = load_target(law, dtype=dtype, device=device)
    if law.period > 1:
        raise ValueError(f"{law.name} has {law.period} conditions in turn: give one")
    if samples is not None and data is not None:
        raise ValueError("samples and data are both points to ask about: give one of them")
    given, origin, seed = samples if data is None else data, law.origin, whole_number(seed, "seed", 0)
    law = law.moved(-origin)
    n, copies = whole_number(n, "n", 2), whole_number(copies, "copies", 1)
    components = min(whole_number(components, "components", 0), law.dim)
    shown = whole_number(shown, "shown", 1)
    views = given_snrs(snrs, None)
    if views is not None:
        _check_known(law, views)
    noises, draws, looks = seeds(seed, 0xD1FF1, count=3)
    with progress_bar(f"looking for what is hard in {law.name}", progress) as advance:
        if given is None:
            if sigma is not None:
                raise ValueError("sigma is what given points are noised to, and none are given: leave it out")
            points, copies, high = None, 1, None
        else:
            points = _points(law, given, origin, n, draws)
            high = _level(law, points, draws) if sigma is None else noise_range(law, sigma, None)[0]
        advance(0.1)
        made = _schedule(law, steps, solver, schedule, high, points, seed)
        grid = list(made.sigmas)
        advance(0.1)
        if points is None:
            x = start(law, n, grid[0], noises)
        else:
            x = _noised(points, grid[0], copies, noises)
        run = integrate(law, x, grid, made.solver, seed, trajectory=True)
        assert run.trajectory is not None  # as it was asked for
        sigmas = [level for level in grid if level > 0]
        found = localize_along(law, run.trajectory[: len(sigmas)], sigmas, lambda share: advance(0.4 * share))
        at = run.x if points is None else points
        numbers = _of_ways(found.norm, found.trace, 1 / np.array(sigmas), copies)
        numbers |= _of_points(law, at, data is not None, draws)
        if points is None:
            noise = (x - centre(law, grid[0])).double().norm(dim=1) / (grid[0] * math.sqrt(law.dim))
            numbers["noise_norm"] = _array(noise)
        level, reliability = numbers.pop("dimension_sigma"), numbers.pop("reliability")
        among = numbers.pop("neighbours")
        advance(0.1)
        told: dict[str, Any] = {}
        if check:
            apart = (run.x - reference(law, x, grid[0], grid[-1])).double().norm(dim=1)
            numbers["error"] = _array(apart.reshape(copies, -1).mean(0))
            told = _told(numbers, seed) if len(at) >= FEWEST else {}
        advance(0.2)
        if components:
            told |= _views(law, run.trajectory, at, sigmas, numbers, views, components, shown, looks)
        advance(0.1)
    about: dict[str, Any] = (
        {} if given is None else {"copies": copies, "noised_to": grid[0], "reliability": reliability}
    )
    variables = {
        key: (("level", "sample") if value.ndim == 2 else ("sample",), value) for key, value in numbers.items()
    }
    variables |= told
    return records.dataset(
        "difficulty",
        {
            **variables,
            "sigma": (("level",), sigmas),
            "snr": (("level",), 1 / np.array(sigmas)),
            "points": (("sample", "coordinate"), _array(put_back(at, origin))),
        },
        title=f"difficulty of points of {law.name}",
        law=law,
        n=len(at),
        asked="samples" if samples is not None else "data" if data is not None else "drawn",
        solver=made.solver,
        schedule=made.criterion,
        steps=made.steps,
        seed=seed,
        sigma_max=grid[0],
        sigma_min=grid[-1],
        dimension_sigma=level,
        neighbours=among,
        evaluations=run.evaluations * copies,
        localizations=len(sigmas) * copies,
        **about,
    )


def _check_known(law: Target, snrs: Array) -> None:
    low, high = law.snr_range
    for snr in snrs:
        if known_snr(float(snr), low, high) is None:
            raise ValueError(
                f"the SNR {snr:g} is not one that {law.name} knows: give some from {low:.4g} to {high:.4g}"
            )


def _points(law: Target, given: LawLike, origin: Tensor, n: int, seed: int) -> Tensor:
    """The points that are asked about, where the law has been moved to."""
    try:
        source = load_target(given, dtype=torch.float64)
    except ValueError as error:
        raise ValueError(f"points to ask about: {error}") from None
    if source.learned:
        raise ValueError(f"{source.name} is a network: give points, or leave them out")
    if source.dim != law.dim:
        raise ValueError(
            f"{source.name} has {source.dim} coordinates, {law.name} has {law.dim}: give points of its own"
        )
    rows = source.point_masses()[0] if source.atoms else source.sample(n, seed)
    if len(rows) < 2:
        raise ValueError(f"{source.name} is one point: give at least 2")
    if law.drawn_from is not None:
        like = law.drawn_from.sample(ROWS, seed)
        warn_of_scales(rows, like, source.name, law.name)
    return check_points(law, rows.double() - origin.to(rows.device))


def _levels(law: Target) -> list[float]:
    """Levels that resolve the law, descending."""
    high, low, _ = noise_range(law, None, None)
    return [float(level) for level in np.geomspace(high, low, LEVELS)]


def _level(law: Target, points: Tensor, seed: int) -> float:
    """The level to noise points to: the one at which their localizations differ most."""
    few = points[:SCOUTS]
    noise = normal_like(few, generator_for(seed, 0x5C0))
    levels = _levels(law)
    spread = [float(law.localize(few / level + noise, 1 / level).norm.double().std()) for level in levels]
    return levels[int(np.argmax(spread))]


def _noised(points: Tensor, sigma: float, copies: int, seed: int) -> Tensor:
    """All points with the first noise, then with the next."""
    rows = points.repeat(copies, 1)
    return rows + sigma * normal_like(rows, generator_for(seed, 0x2015E))


def _schedule(
    law: Target,
    steps: int | None,
    solver: str | None,
    schedule: Schedule | str | None,
    high: float | None,
    points: Tensor | None,
    seed: int,
) -> Schedule:
    """The noise levels of the way, and the sampler."""
    if isinstance(schedule, Schedule):
        check_made_for(schedule, law.name, steps)
        if solver not in (None, schedule.solver):
            raise ValueError(f"the schedule was made for {schedule.solver}, not for {solver}: leave solver out")
        if high is not None and not math.isclose(schedule.sigmas[0], high, rel_tol=1e-6):
            first = schedule.sigmas[0]
            raise ValueError(
                f"points are noised to {high:.6g}, and the schedule begins at {first:.6g}: give sigma={first:.6g}"
            )
    name = schedule.solver if isinstance(schedule, Schedule) else solver or "dpmpp-2m"
    if find_solver(name).stochastic:
        raise ValueError(f"{name} draws noise on the way, and does not end where the flow does: give another solver")
    if isinstance(schedule, Schedule):
        return schedule
    noisy = None if points is None or high is None else _noised(points[:PILOTS], high, 1, seed)
    known: dict[str, Any] = {} if noisy is None else {"points": noisy, "pilots": len(noisy)}
    return plan(
        law,
        5 if steps is None else steps,
        solver=name,
        criterion=schedule or "error",
        sigma_max=high,
        seed=seed,
        progress=False,
        **known,
    )


def _of_ways(norm: Tensor, trace: Tensor, snrs: Array, copies: int) -> dict[str, Any]:
    """What the ways say, mean over copies."""
    by_copy = _array(norm).reshape(len(snrs), copies, -1)
    traces = _array(trace).reshape(len(snrs), copies, -1)
    mean = by_copy.mean(1)
    total = integral(by_copy, snrs).mean(0)
    rank = np.empty(len(total), dtype=np.int64)
    rank[np.argsort(-total, kind="stable")] = np.arange(1, len(total) + 1)
    return {
        "reliability": _reliability(integral(by_copy, snrs)),
        "localization": mean,
        "trace": traces.mean(1),
        "integral_localization": total,
        "max_localization": by_copy.max(0).mean(0),
        "hardest_snr": snrs[mean.argmax(0)],
        "integral_trace": integral(traces, snrs).mean(0),
        "rank": rank,
    }


def _reliability(totals: Array) -> float:
    """Of means over copies, the rows: NaN where there is one, or nothing varies."""
    half = len(totals) // 2
    if half == 0 or np.ptp(totals) == 0:
        return math.nan
    found: Any = spearmanr(totals[:half].mean(0), totals[half : 2 * half].mean(0))
    between = float(found.statistic)
    return 2 * between / (1 + between) if between > 0 else between


def _of_points(law: Target, x: Tensor, own: bool, seed: int) -> dict[str, Any]:
    """What the points themselves say, whatever the way to them."""
    level = dimension_level(law, x[:SCOUTS], _levels(law))
    source = law.drawn_from
    if own or source is None:
        others, name = None, "the rest of these points"
    elif source.atoms:
        others, name = source.point_masses()[0].to(x.device), source.name
        if len(others) > AMONG:
            others = others[torch.randperm(len(others), generator=generator_for(seed, 0xA3))[:AMONG].to(x.device)]
    else:
        others, name = source.sample(AMONG // 4, seed), f"{AMONG // 4:,} draws of {source.name}"
    near, further = distances(x, others, NEIGHBOUR)
    mean = centre(law, law.scales()[1])
    found = {
        "dimension": _array(local_dimension(law, x, level)),
        "mean_distance": _array((x - mean).double().norm(dim=1)),
        "nearest_distance": _array(near),
        "neighbour_distance": _array(further),
        "dimension_sigma": level,
        "neighbours": name,
    }
    density = law.density()
    if density is not None:
        with torch.no_grad():
            found["log_density"] = _array(density(x))
    return found


def _told(numbers: dict[str, Any], seed: int) -> dict[str, Any]:
    """How each number goes with the error, as variables over `measure`."""
    names = [name for name in (*MEASURES, *CONTROLS, "log_density") if name in numbers]
    found = associate(np.stack([numbers[name] for name in names]), numbers["error"], len(MEASURES), seed)
    told: dict[str, Any] = {"measure": (("measure",), names)}
    for name in ("rho", "partial", "lead", "auc", "partial_all"):
        dims = () if name == "partial_all" else ("measure",)
        for end, values in zip(("", "_low", "_high"), getattr(found, name), strict=True):
            told[name + end] = (dims, values)
    return told


def _views(
    law: Target,
    path: Tensor,
    x: Tensor,
    sigmas: Sequence[float],
    numbers: dict[str, Any],
    views: Array | None,
    components: int,
    shown: int,
    seed: int,
) -> dict[str, Any]:
    """What is undecided at the hardest points and the easiest."""
    order = np.argsort(numbers["rank"])
    shown = min(shown, len(order) // 2)
    rows = np.concatenate([order[:shown], order[-shown:]])
    hardest = numbers["localization"].argmax(0)[rows]
    noise = normal_like(x[rows], generator_for(seed, 0x10C))
    if views is None:
        snrs = np.array([[1 / sigmas[k]] for k in hardest])
    else:
        snrs = np.broadcast_to(views, (len(rows), len(views)))
    shape = (*snrs.shape, components)
    values, vectors = np.empty(shape), np.empty((*shape, law.dim))
    means = np.empty((*snrs.shape, law.dim))
    for column in range(snrs.shape[1]):
        for snr in np.unique(snrs[:, column]):
            at = np.flatnonzero(snrs[:, column] == snr)
            if views is None:
                y = path[hardest[at[0]], rows[at]] * snr
            else:
                y = snr * x[rows[at]] + noise[at]
            found = undecided(law, y, float(snr), components, seed)
            for store, part in zip((values, vectors, means), found, strict=True):
                store[at, column] = _array(part)
    return {
        "row": (("shown",), rows),
        "view_snr": (("shown", "view"), snrs),
        "variance": (("shown", "view", "component"), values),
        "component": (("shown", "view", "component", "coordinate"), vectors),
        "posterior_mean": (("shown", "view", "coordinate"), means),
    }


def _array(values: Tensor) -> Array:
    return values.double().cpu().numpy()
