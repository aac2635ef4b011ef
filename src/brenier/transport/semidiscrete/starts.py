"""Heights to start an ascent from, and those on the line, which need none."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from brenier.core.checks import Array
from brenier.transport.semidiscrete.ascent import ascend
from brenier.transport.semidiscrete.cells import Cells, PointFunction

PROBE = 2048  # draws that moments of the source's scores are taken from
COARSE = 500  # cells that a coarse problem has at least
FINER = 8  # times as many cells from one level to the next
MANY = 32  # dimensions beyond which the linear map is no guess
ROUGH = 0.05  # tolerance of a coarse problem


def line_heights(y: Array, weights: Array, source: str) -> Array:
    """The exact heights on the line: h_i+1 - h_i = -q_i (y_i+1 - y_i), q_i the source's quantile at b_1 + ... + b_i.

    Args:
        y: distinct points, shape (N,), in any order.
        weights: b, positive, sum 1, shape (N,).
        source: "normal" or "uniform", on [0, 1].
    """
    order = np.argsort(y)
    below, above = np.cumsum(weights[order])[:-1], np.cumsum(weights[order][::-1])[::-1][1:]
    if source == "normal":
        borders = np.where(below < 0.5, ndtri(np.minimum(below, 0.5)), -ndtri(np.minimum(above, 0.5)))
    else:
        borders = below
    heights = np.empty_like(y)
    heights[order] = -np.concatenate([[0.0], np.cumsum(borders * np.diff(y[order]))])
    return heights


def extreme_values(cells: Cells, weights: Array, seed: int) -> Array:
    """As if scores were independent normal variables: each exceeds one common level with a chance b_i.

    h_i = -(mean of <x, y_i>) - (its deviation) Phi^-1(1 - b_i). Good where there are many dimensions.
    """
    mean, deviation = _moments(cells, seed)
    return -mean + deviation * ndtri(np.minimum(weights, 0.5))


def linear(cells: Cells, weights: Array, seed: int) -> Array:
    """As if the map were the linear one between normal laws of the same means and covariances.

    h_i = -u*(y_i), u*(y) = <m, y> + (y - mbar)' A^-1 (y - mbar)/2 with A the optimal map's matrix, m the source's mean,
    mbar the points'. Good where there are few dimensions.
    """
    x = cells.source.draw(PROBE, torch.Generator().manual_seed(seed)).double().numpy()
    mean, covariance = cells.moments(weights)
    root = _power(np.cov(x.T).reshape(len(covariance), -1), 0.5)
    # The map back, A^-1 = R (R S R)^-1/2 R, R the root of the source's covariance, S the points'.
    back = root @ _power(root @ covariance @ root, -0.5) @ root
    told = (torch.from_numpy(part) for part in (x.mean(0), mean, back))
    return cells.of_points(partial(_conjugate, *told))


def _conjugate(middle: Tensor, mean: Tensor, back: Tensor, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """-u*(y) of `linear`, of points y."""
    middle, mean, back, y = (part.to(y.device) for part in (middle, mean, back, y.double()))
    centred = y - mean
    return -(y @ middle) - torch.einsum("nd,de,ne->n", centred, back, centred) / 2


def extended(points: Tensor, heights: Array, means: Tensor) -> PointFunction:
    """Heights at other points: the conjugate of the potential, from its tangents.

    h(y) = min_i h_i - <xbar_i, y - y_i> with xbar_i the mean of x in cell i, where u* has the slope xbar_i.

    Args:
        points: those that have heights, shape (N, d).
        heights: shape (N,).
        means: of the cells, shape (N, d).

    Returns:
        Heights of other points, as a function of these.
    """
    offset = torch.as_tensor(heights, dtype=torch.float64, device=means.device) + (means.double() * points).sum(1)
    return partial(_tangents, offset, means.double())


def _tangents(offset: Float[Tensor, " N"], slopes: Float[Tensor, "N d"], y: Float[Tensor, "M d"]) -> Tensor:
    offset, slopes = offset.to(y.device), slopes.to(y.device)
    return torch.cat([(offset - part.double() @ slopes.T).amin(1) for part in y.split(1024)])


def cell_means(cells: Cells, heights: Array, seed: int) -> tuple[NDArray[np.intp], Tensor]:
    """Mean of x in each cell that draws have hit: the cells' numbers, and means of shape (k, d)."""
    generator, count = torch.Generator().manual_seed(seed), len(cells.points)
    h = torch.as_tensor(heights, dtype=torch.float32, device=cells.points.device)
    total, number = torch.zeros_like(cells.points, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    number = number.to(cells.points.device)
    for _ in range(-(-16 * count // PROBE)):
        x = cells.source.draw(PROBE, generator).to(cells.points.device)
        won = cells.winners(x, h).to(cells.points.device)
        total.index_add_(0, won, x.double())
        number += torch.bincount(won, minlength=count)
    hit = (number > 0).nonzero()[:, 0]
    return hit.cpu().numpy(), total[hit] / number[hit, None]


def carried(few: Cells, heights: Array, unit: float, places: Array, to: Array, seed: int) -> Array:
    """Heights at other points from those of fitted cells, both in the unit of the data.

    Args:
        few: the fitted cells.
        heights: of them, shape (N,).
        unit: of their points.
        places: the points, shape (N, d).
        to: the other points, shape (M, d).
        seed: of the draws that tell the means of the cells.
    """
    hit, means = cell_means(few, heights / unit, seed)
    own, other = (torch.from_numpy(points).to(means.device) for points in (places[hit], to))
    return extended(own, heights[hit], means)(other).cpu().numpy()


def best_start(cells: Cells, weights: Array, candidates: Sequence[Array], stream: tuple[int, ...]) -> Array:
    """Of several heights, those whose cells are the nearest to the weights in total variation."""
    families = -(-max(4 * len(weights), PROBE) // cells.size)
    return min(candidates, key=lambda heights: cells.tally(heights, families, stream).total_variation(weights))


def guess(cells: Cells, weights: Array, stream: tuple[int, ...], coarse: bool) -> Array:
    """Heights to start from: the best of those above; with `coarse` also of a fit to some of the points."""
    seed, count = stream[0], len(weights)
    candidates = [extreme_values(cells, weights, seed)]
    if cells.dim <= MANY:
        candidates.append(linear(cells, weights, seed))
    if coarse and count >= FINER * COARSE:
        chosen = np.random.default_rng(seed).choice(count, count // FINER, replace=False, p=weights)
        few = Cells(cells.some(chosen), cells.source, seed)
        share = np.full(len(chosen), 1 / len(chosen))
        with few.working():
            heights = guess(few, share, stream, coarse)
            for state in ascend(few, share, heights, ROUGH, (*stream, len(chosen))):
                heights = state.heights
            hit, means = cell_means(few, heights, seed)
        candidates.append(cells.of_points(extended(few.some(hit).double(), heights[hit], means)))
    return best_start(cells, weights, candidates, (*stream, 0))


def _moments(cells: Cells, seed: int) -> tuple[Array, Array]:
    """Mean and deviation of <x, y_i> under the source, shape (N,) each."""
    if cells.source.linear:
        return np.zeros(cells.count), cells.of_points(_length)
    x = cells.source.draw(PROBE, torch.Generator().manual_seed(seed))
    return cells.of_points(partial(_mean_score, x)), cells.of_points(partial(_score_deviation, cells.rows, x))


def _length(y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return y.double().norm(dim=1)


def _mean_score(x: Float[Tensor, "m d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return x.to(y.device).mean(0) @ y.T


def _score_deviation(rows: int, x: Float[Tensor, "m d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    x = x.to(y.device)
    square = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for part in x.split(rows):
        square += ((part - x.mean(0)) @ y.T).double().square().sum(0)
    return (square / len(x)).sqrt()


def _power(matrix: Array, power: float) -> Array:
    """Of a positive semidefinite matrix; what is 0 stays 0."""
    values, vectors = np.linalg.eigh(matrix)
    usable = values > 1e-9 * max(float(values[-1]), 0.0)
    raised = np.where(usable, np.where(usable, values, 1.0) ** power, 0.0)
    return (vectors * raised) @ vectors.T
