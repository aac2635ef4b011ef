"""What one block says before posteriors: that its rows are finite, where it lies, how near its atoms lie to each other.

And posterior means at one SNR, for which no covariance is needed.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.blocks.blocks import Block, checked, of_length
from brenier.core.points import as_tensor
from brenier.laws.atoms import exp_
from brenier.laws.block_points import CACHED, few, held_in
from brenier.laws.block_sums import Frame, Queries

# The first read


@dataclass
class Look:
    """Count, mean and scatter of rows, the largest coordinate, and where each block lies."""

    count: int
    mean: Float[Tensor, " d"]
    scatter: float  # sum of |x_i - mean|^2
    largest: float
    numbers: list[int]
    centres: list[Tensor]  # of each block, (d,)
    radii: list[float]  # largest distance to that
    shells: list[tuple[float, float]]  # smallest and largest distance to the first row of all

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        count, step = self.count + other.count, other.mean - self.mean
        self.scatter += other.scatter + float(step.square().sum()) * self.count * other.count / count
        self.mean = self.mean + step * (other.count / count)
        self.count, self.largest = count, max(self.largest, other.largest)
        for name in ("numbers", "centres", "radii", "shells"):
            getattr(self, name).extend(getattr(other, name))
        return self


def look(block: Block, shared: tuple[str, Float[Tensor, " d"]], _: object) -> Look:
    """The first read of a block: refuses what is not finite."""
    name, first = shared
    parts = few(as_tensor(of_length(block, name, len(first))))
    start, count = first.to(held_in(block.values.dtype)), len(block.values)
    least, most, total, shells = math.inf, -math.inf, torch.zeros_like(first), []
    for part in parts:
        points = part.to(start.dtype)
        low, high = points.aminmax()
        least, most = min(least, float(low)), max(most, float(high))
        if not (math.isfinite(low) and math.isfinite(high)):
            checked(block, name, len(first))
        steps = (points - start).double()
        total += steps.sum(0)
        shells.append(torch.linalg.vector_norm(steps, dim=1))
    centre = first + total / count
    total, radii = torch.zeros_like(first), []
    for part in parts:
        steps = part.to(start.dtype).double().sub(centre)  # in float64: what is saved of the spread is compared by bits
        total += steps.sum(0)
        radii.append(torch.linalg.vector_norm(steps, dim=1))
    shift = total / count  # small: rounding in sums of long steps is undone
    shell, around = torch.cat(shells), torch.cat(radii)
    scatter = max(0.0, float(around.square().sum()) - count * float(shift.square().sum()))
    shape, radius = (float(shell.min()), float(shell.max())), float(around.max())
    return Look(count, centre + shift, scatter, max(most, -least), [block.number], [centre], [radius], [shape])


# The second: distances between neighbours, and second moments in leading directions


@dataclass
class Near:
    """Smallest positive squared distance of some atoms to others, and moments in leading directions."""

    gaps: Float[Tensor, " n"]
    count: int
    first: Float[Tensor, " k"]
    second: Float[Tensor, "k k"]
    largest: float  # |x_i|^2

    def merge(self, other: Self) -> Self:
        """Of the atoms of both."""
        self.gaps = torch.minimum(self.gaps, other.gaps)
        self.count, self.largest = self.count + other.count, max(self.largest, other.largest)
        self.first, self.second = self.first + other.first, self.second + other.second
        return self


def near(block: Block, shared: tuple[Frame, Tensor, Tensor, Tensor], _: object) -> Near:
    """What a block knows of neighbours of `some` atoms nearer than `gaps`, and in the directions `basis`."""
    frame, some, basis, gaps = shared
    first, second = (torch.zeros(*shape, basis.shape[1], dtype=torch.float64) for shape in ((), basis.shape[1:]))
    largest = 0.0
    for _, atoms, lengths in frame.parts(block.values):
        gaps, largest = nearer(gaps, some, atoms, lengths), max(largest, float(lengths.max()))
        inside = (atoms.to(basis) @ basis).double()
        first += inside.sum(0)
        second += inside.T @ inside
    return Near(gaps, len(block.values), first, second, largest)


# Means, and the likeliest atom


@dataclass
class Mean:
    """Largest logit so far and its row, sums of weights and of weighted atoms divided by its exponential."""

    peak: Float[Tensor, " n"]
    row: Int[Tensor, " n"]
    mass: Float[Tensor, " n"]
    first: Float[Tensor, "n d"]

    def merge(self, other: Self) -> Self:
        """Over the atoms of both."""
        self.row = torch.where(other.peak > self.peak, other.row, self.row)
        peak = torch.maximum(self.peak, other.peak)
        a, b = (self.peak - peak).exp(), (other.peak - peak).exp()
        self.peak, self.mass = peak, a * self.mass + b * other.mass
        self.first = a[:, None] * self.first + b[:, None] * other.first
        return self


def means(block: Block, queries: Queries, _: object) -> Mean:
    """What one block adds to posterior means at one SNR, and its likeliest atom."""
    (n, dim), fine = queries.x.shape, queries.frame.fine
    mass, first = (torch.zeros(n, *shape, dtype=torch.float64) for shape in ((), (dim,)))
    total = Mean(torch.full_like(mass, -torch.inf), torch.zeros(n, dtype=torch.long), mass, first)
    for start, atoms, rows, distances, slopes in queries.pieces(block):
        weights = queries.logits(distances, slopes, 0)
        peak, place = weights.max(1)
        before = total.peak[rows]
        top = torch.maximum(before, peak.double())
        total.row[rows] = torch.where(peak > before, place + start, total.row[rows])
        weights = exp_(weights.sub_(top[:, None].to(weights))).to(fine)
        own = (before - top).exp()
        total.peak[rows], total.mass[rows] = top, total.mass[rows] * own + weights.sum(1).double()
        at = slice(int(rows[0]), int(rows[-1]) + 1)  # all are needed: a view, and no copy
        if bool((own < 1).any()):
            total.first[at] *= own[:, None]
        total.first[at] += weights @ atoms.to(fine)
    return total


def merge_means(first: Mean, second: Mean) -> Mean:
    """Over both."""
    return first.merge(second)


def merge_looks(first: Look, second: Look) -> Look:
    """Over both."""
    return first.merge(second)


def nearer(
    gaps: Float[Tensor, " n"], some: Float[Tensor, "n d"], atoms: Float[Tensor, "m d"], squares: Float[Tensor, " m"]
) -> Float[Tensor, " n"]:
    """The smallest positive squared distance of each of some points to atoms, if it is below `gaps`, else that."""
    distances = torch.addmm(squares.to(atoms), some, atoms.T, alpha=-2)
    lengths = some.square().sum(1)
    most = gaps + 1e-3 * lengths.double()  # rounding is less
    at = ((distances.amin(1) + lengths).double() <= most).nonzero()[:, 0]
    values, nearest = distances[at].topk(min(16, len(atoms)), largest=False)
    close = ((values + lengths[at, None]).double() <= most[at, None]).flatten().nonzero()[:, 0]
    point, column = at[close // nearest.shape[1]], nearest.flatten()[close]
    found = torch.full((nearest.numel(),), torch.inf, dtype=torch.float64)
    for k in torch.arange(len(close)).split(max(1, CACHED // atoms.shape[1])):
        exact = torch.linalg.vector_norm(atoms[column[k]].double() - some[point[k]].double(), dim=1).square_()
        found[close[k]] = torch.where(exact > 0, exact, torch.inf)
    return gaps.index_copy(0, at, torch.minimum(gaps[at], found.view_as(values).amin(1)))


def merge_near(first: Near, second: Near) -> Near:
    """Over both."""
    return first.merge(second)
