"""What one block says before posteriors: that its rows are finite, where it lies, how near its atoms lie to each other.

And posterior means at one SNR, for which no covariance is needed.
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.blocks.blocks import Block, checked
from brenier.laws.atoms import CHUNK
from brenier.laws.block_sums import CACHED, Frame, Queries, squares, working

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
    points = working(checked(block, name, len(first)))
    parts, origin = points.split(max(1, CACHED // points.shape[1])), points[0].double()  # what caches hold
    mean = origin + torch.stack([(part - origin).sum(0) for part in parts]).sum(0) / len(points)
    around = torch.cat([torch.linalg.vector_norm(part - mean, dim=1) for part in parts])
    shell = torch.cat([torch.linalg.vector_norm(part - first, dim=1) for part in parts])
    largest = max(float(points.max()), -float(points.min()))
    shells = [(float(shell.min()), float(shell.max()))]
    scatter, radius = float(around.square().sum()), float(around.max())
    return Look(len(points), mean, scatter, largest, [block.number], [mean], [radius], shells)


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
    atoms = frame.atoms(block.values)
    lengths = squares(atoms)
    for part, own in zip(atoms.split(CHUNK), lengths.split(CHUNK), strict=True):
        gaps = nearer(gaps, some, part, own)
    inside = (atoms.to(basis) @ basis).double()
    return Near(gaps, len(atoms), inside.sum(0), inside.T @ inside, float(lengths.max()))


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
    total: Mean | None = None
    parts: dict[int, list[Mean]] = {}
    for start, atoms, _rows, distances, slopes in queries.pieces(block):
        weights = queries.logits(distances, slopes, 0)
        peak, place = weights.max(1)
        weights.sub_(peak[:, None]).exp_()
        first = (weights.to(queries.frame.fine) @ atoms.to(queries.frame.fine)).double()
        one = Mean(peak.double(), place + start, weights.sum(1).double(), first)
        parts.setdefault(start, []).append(one)
    for pieces in parts.values():
        whole = Mean(*(torch.cat([getattr(one, name) for one in pieces]) for name in ("peak", "row", "mass", "first")))
        total = whole if total is None else total.merge(whole)
    assert total is not None
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
    can = (distances.amin(1) + lengths).double() <= gaps + 1e-3 * lengths.double()  # rounding is less
    at = can.nonzero()[:, 0]
    nearest = distances[at].topk(min(16, len(atoms)), largest=False).indices
    exact = torch.linalg.vector_norm(atoms[nearest].double() - some[at].double()[:, None], dim=2).square()
    return gaps.index_copy(0, at, torch.minimum(gaps[at], torch.where(exact > 0, exact, torch.inf).amin(1)))


def merge_near(first: Near, second: Near) -> Near:
    """Over both."""
    return first.merge(second)
