"""The coupling that a map makes, in numbers: its marginals, its cost beside that of others, and whether it is skewed.

Minibatch plans, the usual way to pair noise and data, couple k noises and k data optimally and throw them away. Both
marginals are right on average, but the pairs are those of k points: of a batch that has too many data of one side, some
get noise from the other. Where noises are paired with other data than the map's is measured by the *detour*,

    sqrt(E |y_k(x) - T(x)|^2),

an upper bound of W2 between the two couplings, which falls like k^(-1/4) once k is much larger than the number of data:
counts are off by a share of k^(-1/2), and so many pairs are wrong (arXiv:2605.12174).

A flow that learns the pairs of a map goes straight: (1 - t) x + t T(x) tells x for t < 1, T being monotone, so that no
two paths meet and the best velocity is T(x) - x. That of independent pairs, of a normal X,

    v(x, t) = (E[Y | (1 - t) X + t Y = x] - x)/(1 - t),

is followed, and its straightness is int E|v(x_t, t) - (x_1 - x_0)|^2 dt along its paths (see `laws.flow`).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from brenier.core import records
from brenier.core.checks import Array, whole_number
from brenier.core.random import generator_for, seeds
from brenier.core.work import progress_bar
from brenier.laws.flow import PATHS, STEPS, even_times, follow, straightness
from brenier.transport.semidiscrete.blocked import BlockedSemiDiscrete
from brenier.transport.semidiscrete.conditions import ByCondition
from brenier.transport.semidiscrete.map import FRESH, SemiDiscrete
from brenier.transport.semidiscrete.skew import skew_test

PAIRS = 2**13  # of the plans of one size, about
REPEATED = 16  # plans of one size at least
COSTED = 2**17  # draws that the map's cost is averaged over at most
MOMENTS = {"normal": (1.0, 0.0), "uniform": (1 / 3, 0.5)}  # mean square and mean of a coordinate of the source
MEASURED = ("cost", "cost_se", "detour", "detour_se")
Z95 = 1.959964


def coupling_report(
    transport: SemiDiscrete,
    condition: Any = None,
    *,
    batches: Sequence[int] = (16, 64, 256, 1024),
    samples: int = FRESH,
    pairs: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """What the pairs of a map are like, beside independent ones and those of minibatch plans.

    Args:
        transport: a fitted map.
        condition: of each datum, to be tested for skew: classes, shape (N,), or real numbers, shape (N,) or (N, k).
            Default: the labels of a map with classes, none of others.
        batches: sizes k of minibatch plans; of a map with classes within each class, of one with conditions by the cost
            of the map. Those of 4,096 take minutes.
        samples: draws that the masses of the cells are counted from; the map's cost is that of as many, 2^17 at most.
        pairs: that the skew test sees.
        seed: of all draws.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Over `batch`: `cost`, the mean squared distance that plans pay, and `detour`, the root mean squared distance of
        the datum from the map's, with standard errors; `map_cost`, `independent_cost`. As attributes the fields of
        `MarginalError`; `slope`, of log detour over log k, with `slope_low` and `slope_high`, NaN for fewer than two
        sizes; where there are conditions `skew_p`, `skew_correlation` and `skew_pairs`, see `skew_test`. And
        `independent_straightness`, of the flow that independent pairs make, within classes where there are some; that
        of a map's is 0. NaN for real conditions and sources but the normal one.

    Raises:
        ValueError: the map has not been fitted; conditions of another number, or NaN; a batch of fewer than 2.
    """
    sizes = sorted({whole_number(k, "batches", 2) for k in batches})
    seed, pairs = whole_number(seed, "seed", 0), whole_number(pairs, "pairs", 4)
    known = transport.labels if condition is None else condition
    labels = known.cpu().numpy() if isinstance(known, Tensor) else None if known is None else np.asarray(known)
    if labels is not None and labels.shape[:1] != (len(transport.points),):
        raise ValueError(f"condition must be {len(transport.points):,}, one for each datum, got shape {labels.shape}")
    error, cost = transport.marginal_error(samples, seed), mean_cost(transport, min(samples, COSTED), seed)
    about: dict[str, Any] = asdict(error)
    if labels is not None:
        x, index = transport.draw_pairs(pairs, generator_for(seed, 0x5E))
        found = skew_test(x, labels[index.cpu().numpy()], seed=seed)
        about |= {f"skew_{name}": value for name, value in found._asdict().items()}
    rows: list[tuple[float, float, float, float]] = []
    with progress_bar("coupling", progress) as advance:
        for k in sizes:
            rows.append(_plans(transport, k, max(REPEATED, PAIRS // k), seed))
            advance(1 / len(sizes))
    table = np.array(rows).reshape(-1, 4).T
    about |= _slope(np.array(sizes, np.float64), table[2], table[3])
    independent, independent_se = independent_cost(transport, seed)
    bent, bent_se = independent_straightness(transport, seed)
    return records.dataset(
        "coupling",
        {
            name: ("batch", values)
            for name, values in zip(("cost", "cost_se", "detour", "detour_se"), table, strict=True)
        }
        | {"map_cost": cost[0], "map_cost_se": cost[1]}
        | {"independent_cost": independent, "independent_cost_se": independent_se}
        | {"independent_straightness": bent, "independent_straightness_se": bent_se},
        {"batch": np.array(sizes, np.int64)},
        source=transport.source,
        points=len(transport.points),
        dim=transport.dim,
        **about,
        seed=seed,
    )


def independent_cost(transport: SemiDiscrete | BlockedSemiDiscrete, seed: int = 0) -> tuple[float, float]:
    """E|X - Y|^2 for independent X and Y, and its standard error, 0 for a source that is known."""
    middle, square = transport.moments()
    mean = torch.from_numpy(middle)
    if transport.source in MOMENTS:
        own, each = MOMENTS[transport.source]
        return transport.dim * own + square - 2 * each * float(mean.sum()), 0.0
    x = transport.draw(PAIRS, seeds(seed, 0x1D)[0]).double().cpu()
    each = x.square().sum(1) - 2 * x @ mean
    return float(each.mean()) + square, float(each.std()) / math.sqrt(len(x))


def independent_straightness(transport: SemiDiscrete, seed: int = 0) -> tuple[float, float]:
    """Of the flow that independent pairs make, with its standard error; NaN where that is not known."""
    if transport.source != "normal" or isinstance(transport, ByCondition):
        return math.nan, math.nan
    labels, generator = transport.labels, generator_for(seed, 0x57A)
    drawn = torch.multinomial(transport.weights, PATHS, replacement=True, generator=generator)
    points, logs = transport.points.double().cpu(), transport.weights.log().cpu()
    squares = points.square().sum(1)
    if labels is not None:
        logs = logs.where(labels[drawn][:, None] == labels, -torch.inf)

    def velocity(x: Tensor, t: float) -> Tensor:
        chances = ((t * x @ points.T - t**2 * squares / 2) / (1 - t) ** 2 + logs).softmax(1)
        return (chances @ points - x) / (1 - t)

    x, times = transport.draw(PATHS, generator).double().cpu(), even_times(STEPS)
    found = straightness(torch.stack([x, *follow(velocity, x, times, "midpoint")]), times)
    return found.value, found.value_se


def mean_cost(transport: SemiDiscrete, samples: int, seed: int = 0) -> tuple[float, float]:
    """The mean squared distance of noise and the map's datum, and its standard error."""
    if not isinstance(transport, ByCondition):  # whose W2 is that of conditions, too
        cost = transport.w2(samples, seed)
        return cost.primal**2, 2 * cost.primal * cost.primal_se
    parts: list[Tensor] = []
    for k in range(-(-samples // PAIRS)):
        x, index = transport.draw_pairs(PAIRS, generator_for(seed, 0xC0, k))
        parts.append((x.double() - transport.points[index].double()).square().sum(1).cpu())
    each = torch.cat(parts)
    return float(each.mean()), float(each.std()) / math.sqrt(len(each))


def _plans(transport: SemiDiscrete, k: int, count: int, seed: int) -> tuple[float, float, float, float]:
    """The mean squared distance that plans between k noises and k data pay, and their detour, with standard errors."""
    points = transport.points.double().cpu().numpy()
    paid, off = np.empty(count), np.empty(count)
    for number in range(count):
        x, mapped, drawn = _batch(transport, k, generator_for(seed, 0xB7, k, number))
        noise, label = x.double().cpu().numpy(), None if transport.labels is None else transport.labels.numpy()[drawn]
        given = np.empty(k, np.intp)
        beside, classes = np.zeros((k, 0)), [np.full(k, True)]
        if isinstance(transport, ByCondition):
            beside = transport.kappa * transport.conditions.numpy()[drawn]
        elif label is not None:
            classes = [label == one for one in np.unique(label)]
        for rows in classes:
            own = np.concatenate([noise, beside], 1)[rows], np.concatenate([points[drawn], beside], 1)[rows]
            given[rows] = drawn[rows][_assigned(*own)]
        paid[number] = ((noise - points[given]) ** 2).sum(1).mean()
        off[number] = ((points[given] - points[mapped]) ** 2).sum(1).mean()
    cost_se, off_se = (float(values.std(ddof=1)) / math.sqrt(count) for values in (paid, off))
    detour = math.sqrt(float(off.mean()))
    return float(paid.mean()), cost_se, detour, off_se / (2 * detour) if detour > 0 else 0.0


def _batch(
    transport: SemiDiscrete, k: int, generator: torch.Generator
) -> tuple[Tensor, NDArray[np.intp], NDArray[np.intp]]:
    """k noises, the map's datum of each, and k data drawn by their weights, of the same labels where there are some."""
    drawn = torch.multinomial(transport.weights, k, replacement=True, generator=generator)
    x = transport.draw(k, generator)
    condition = None if transport.labels is None else transport.labels[drawn]
    return x, transport.cells(x, condition).cpu().numpy(), drawn.numpy()


def _assigned(x: Array, y: Array) -> NDArray[np.intp]:
    """Which y each x gets, at the least sum of squared distances."""
    return linear_sum_assignment(cdist(x, y, "sqeuclidean"))[1]


def _slope(k: Array, detour: Array, errors: Array) -> dict[str, float]:
    """The slope of log detour over log k by least squares, with its 95% interval."""
    kept = detour > 0
    if kept.sum() < 2:
        return {"slope": math.nan, "slope_low": math.nan, "slope_high": math.nan}
    place = np.log(k[kept]) - np.log(k[kept]).mean()
    weights = place / (place**2).sum()
    slope = float(weights @ np.log(detour[kept]))
    half = Z95 * float(np.sqrt(weights**2 @ (errors[kept] / detour[kept]) ** 2))
    return {"slope": slope, "slope_low": slope - half, "slope_high": slope + half}
