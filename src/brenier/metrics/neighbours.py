"""Precision, recall, density and coverage: which points lie in the neighbourhoods of others.

B(y) is the closed ball around y up to its k-th nearest other point of the same set, where points that are the same are
one: of data that are rounded, or repeated, the k nearest would often be copies of y, and B(y) be y alone. For samples
x_1..x_n and reference points y_1..y_m,

    precision  share of the x that lie in some B(y)          recall    share of the y that lie in some B(x)
    density    mean over the x of #{y: x in B(y)}/k          coverage  share of the B(y) that hold some x

where the density counts different y, so that a set that is repeated is what it was. (Precision, recall: Kynkaanniemi et
al., arXiv:1904.06991; density, coverage: Naeem et al., arXiv:2002.09797.)

Between equal laws density is 1 in expectation and, for as many samples as reference points, coverage

    1 - prod_{i=0..k-1} (n - 1 - i)/(2n - 1 - i)  ->  1 - 2^-k,

whatever the law; precision and recall depend on law, dimension and n even there. All work is blocked under a budget;
with 5,000 points each and the errors it takes seconds in 64 dimensions, and two minutes in 3,072, on two cores.
"""

import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.checks import check_memory, whole_number
from brenier.core.points import Numbers
from brenier.metrics.estimates import Estimate, around, points_of, share

NEIGHBOURS = 5  # k
MAX_MEMORY = 0.25  # GiB of a block
_SPLITS = 8
_ROUNDING = 1e-13  # of squared distances, beside the largest square


class Neighbourhoods(NamedTuple):
    """Four answers to whether two sets of points lie in the same places."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def precision_recall(
    samples: Numbers, reference: Numbers, *, k: int = NEIGHBOURS, seed: int = 0, max_memory: float = MAX_MEMORY
) -> Neighbourhoods:
    """Precision, recall, density and coverage of samples against a reference.

    Numbers of points matter: compare only where n and m are the same. Standard errors hold the choice of both sets:
    half the root mean squared difference between complementary halves, over 8 splits, known to some 30%. (Binomial
    errors, which treat the one set as fixed, come out too small by up to 1.7; a jackknife of these counts too large.)

    Args:
        samples: features, shape (n, d).
        reference: features, shape (m, d).
        k: neighbours that make a neighbourhood: Naeem et al. use 5, Kynkaanniemi et al. 3.
        seed: of the splits.
        max_memory: GiB of a block.

    Raises:
        ValueError: values that are not finite, shapes that do not fit, or fewer than 2(k + 1) points in one of the two.

    Warns:
        UserWarning: points that repeat others.
    """
    k, max_memory = whole_number(k, "k", 1), check_memory(max_memory)
    x, y = points_of(samples, reference, least=2 * (k + 1), note=f" to split in halves that have {k} neighbours")
    sets = [_Distinct.of(z) for z in (x, y)]
    for name, z in zip(("samples", "reference"), sets, strict=True):
        if len(z.points) < len(z.row):
            few = f", with {len(z.points) - 1} neighbours each instead of {k}" if len(z.points) <= k else ""
            warnings.warn(
                f"only {len(z.points)} of {len(z.row)} points in {name} differ: neighbourhoods are those of these{few}",
                stacklevel=2,
            )
    whole = [z.part(z.row) for z in sets]
    found = _shares(whole[0], whole[1], k, max_memory)
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros(4, dtype=torch.float64)
    for _ in range(_SPLITS):
        halves = [z.halves(generator, 2 * (k + 1)) for z in sets]
        one, other = (_shares(here, there, k, max_memory) for here, there in zip(*halves, strict=True))
        squares += (one - other).square() / 4 / _SPLITS
    (precision, recall, density, coverage), errors = found.tolist(), squares.sqrt().tolist()
    return Neighbourhoods(
        share(precision, len(x), value_se=errors[0]),
        share(recall, len(y), value_se=errors[1]),
        around(density, errors[2], least=0.0),
        share(coverage, len(y), value_se=errors[3]),
    )


def expected_coverage(n: int, k: int = NEIGHBOURS) -> float:
    """Coverage between n points and n others of the same continuous law, in expectation (Naeem et al., Lemma 2)."""
    return 1 - math.prod((n - 1 - i) / (2 * n - 1 - i) for i in range(k))


class _Weighted(NamedTuple):
    """Different points, and how often each occurs."""

    points: Float[Tensor, "n d"]
    times: Int[Tensor, " n"]


class _Distinct(NamedTuple):
    """The different points among rows, and for each row which it is."""

    points: Float[Tensor, "n d"]
    row: Int[Tensor, " rows"]

    @classmethod
    def of(cls, rows: Float[Tensor, "rows d"]) -> Self:
        _, row = torch.unique(rows + 0.0, dim=0, return_inverse=True)  # -0 is 0
        first = torch.full((int(row.max()) + 1,), len(row), device=row.device)
        first = first.scatter_reduce(0, row, torch.arange(len(row), device=row.device), "amin")
        order = first.argsort()  # that of the rows
        return cls(rows[first[order]], order.argsort()[row])

    def part(self, row: Int[Tensor, " some"]) -> _Weighted:
        """Those of some rows."""
        count = torch.bincount(row, minlength=len(self.points))
        return _Weighted(self.points[count > 0], count[count > 0])

    def halves(self, generator: torch.Generator, least: int) -> tuple[_Weighted, _Weighted]:
        """Halves at random: of the different points, each with its copies, or of the rows where these are too few."""
        unit = self.row if len(self.points) >= least else torch.arange(len(self.row), device=self.row.device)
        size = int(unit.max()) + 1
        chosen = torch.zeros(size, dtype=torch.bool)
        chosen[torch.randperm(size, generator=generator)[: size // 2]] = True
        mine = chosen.to(unit.device)[unit]
        return self.part(self.row[mine]), self.part(self.row[~mine])


def _shares(x: _Weighted, y: _Weighted, k: int, max_memory: float) -> Float[Tensor, "4"]:
    """Precision, recall, density and coverage."""
    centre = y.points.mean(0)
    (u, many), (v, others) = (_Weighted(z.points - centre, z.times) for z in (x, y))
    slack = _ROUNDING * max(float(u.square().sum(1).max()), float(v.square().sum(1).max()))
    around_u, around_v = (_radii(z, k, max_memory).square() + slack for z in (u, v))
    hits = torch.zeros(len(u), dtype=torch.int64, device=u.device)
    covered, recalled = (torch.zeros(len(v), dtype=torch.bool, device=u.device) for _ in range(2))
    for rows, square in _squares(u, v, max_memory):
        inside = square <= around_v
        hits[rows] = inside.sum(1)
        covered |= inside.any(0)
        recalled |= (square <= around_u[rows, None]).any(0)
    density = _mean(hits, many) / max(min(k, len(v) - 1), 1)
    parts = [_mean(hits > 0, many), _mean(recalled, others), _mean(covered, others)]
    return torch.tensor([parts[0], parts[1], density, parts[2]], dtype=torch.float64)


def _mean(values: Tensor, count: Int[Tensor, " n"]) -> float:
    """The mean of values that occur so often."""
    return int((values * count).sum()) / int(count.sum())


def _radii(points: Float[Tensor, "n d"], k: int, max_memory: float) -> Float[Tensor, " n"]:
    """Distances of different points from their k-th nearest others, or from the farthest where there are fewer."""
    k = min(k, len(points) - 1)
    return nearest(points, None, k, max_memory)[0][:, -1] if k else points.new_zeros(len(points))


def nearest(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"] | None, k: int, max_memory: float = MAX_MEMORY
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Distances from each x to its k nearest y, ascending, and the rows of these; y = None: to the other x.

    Candidates come from products of matrices; their distances are then those of the differences, so that equal points
    lie exactly 0 apart.
    """
    among = x if y is None else y
    least = k + (y is None)
    if len(among) < least:
        raise ValueError(f"{k} nearest neighbours need at least {least} points, got {len(among)}")
    centre = among.mean(0)
    distances, indices = [], []
    for rows, square in _squares(x - centre, among - centre, max_memory):
        if y is None:
            square[torch.arange(len(square)), rows] = math.inf
        index = square.topk(k, largest=False).indices
        own = x[rows]
        distance = torch.stack([(own - among[index[:, j]]).norm(dim=1) for j in range(k)], 1)
        distance, order = distance.sort(dim=1, stable=True)
        distances.append(distance)
        indices.append(index.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


def _squares(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], max_memory: float
) -> Iterator[tuple[Int[Tensor, " b"], Float[Tensor, "b m"]]]:
    """Squared distances, some rows at a time, and which rows these are."""
    own = y.square().sum(1)
    block = max(1, int(max_memory * 2**30 // (3 * 8 * (len(y) + x.shape[1]))))
    for rows in torch.arange(len(x), device=x.device).split(block):
        part = x[rows]
        yield rows, torch.addmm(own, part, y.mT, alpha=-2).add_(part.square().sum(1, keepdim=True))
