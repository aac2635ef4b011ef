"""Samples against data in blocks: what is linear in the data from all of them, what is quadratic from some.

Moments are sums over blocks. The nearest data of a sample are the nearest of each block's nearest; rows that are the
same count once, as in `copying`, and are known by a hash wherever they are. Neighbourhoods, kernels and W2 compare the
samples with rows drawn at random.
"""

import math
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.blocks.blocks import Block, Blocks
from brenier.core.points import as_tensor
from brenier.laws.blocked import BlockedEmpirical
from brenier.metrics.copying import LEAST, Memorisation, Nearness, is_new
from brenier.metrics.neighbours import MAX_MEMORY

SOME = 10_000  # rows of data in blocks that are taken for what is quadratic, or as many as there are samples
AMONG = 10_000  # of them that are held against the others, for a control


def some_of(law: BlockedEmpirical, least: int, seed: int) -> NDArray[np.intp]:
    """Numbers of rows at random, ascending: `SOME`, at least `least`; all where there are no more."""
    count = max(SOME, least)
    if len(law) <= count:
        return np.arange(len(law))
    return np.sort(np.random.default_rng(seed).choice(len(law), count, replace=False))


def rows_of_law(law: BlockedEmpirical, numbers: NDArray[np.intp]) -> Float[Tensor, "n d"]:
    """Rows by their numbers as they are stored, in float64."""
    return as_tensor(law.blocks.take(numbers)).double()


# Moments


@dataclass
class _Moments:
    """Count, mean and scatter of rows."""

    count: int
    mean: Float[Tensor, " d"]
    scatter: Float[Tensor, "d d"]

    def merge(self, other: Self) -> Self:
        count, step = self.count + other.count, other.mean - self.mean
        self.scatter += other.scatter + step[:, None] * step * (self.count * other.count / count)
        self.mean = self.mean + step * (other.count / count)
        self.count = count
        return self


def _moments(block: Block, _: Any, __: Any) -> _Moments:
    points = as_tensor(block.values).double()
    mean = points.mean(0)
    centred = points - mean
    return _Moments(len(points), mean, centred.T @ centred)


def _merged(first: Any, second: Any) -> Any:
    return first.merge(second)


def moments(law: BlockedEmpirical) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and covariance of all rows, with 1/n, in float64."""
    found = law.blocks.map_reduce(_moments, _merged)
    return found.mean, found.scatter / found.count


# Nearest rows


@dataclass
class _Near:
    """Distances to the two nearest different rows, ascending, their numbers and their keys; inf where there is none."""

    distance: Float[Tensor, "n 2"]
    row: Int[Tensor, "n 2"]
    key: Int[Tensor, "n 2 2"]

    def merge(self, other: Self) -> Self:
        """Of the rows of both, the earlier ones first."""
        distance, row = torch.cat([self.distance, other.distance], 1), torch.cat([self.row, other.row], 1)
        key = torch.cat([self.key, other.key], 1)
        again = (key[:, 2:, None] == key[:, None, :2]).all(3).any(2)
        distance[:, 2:][again] = math.inf
        distance, order = distance.sort(dim=1, stable=True)
        order = order[:, :2]
        self.distance, self.row = distance[:, :2], row.gather(1, order)
        self.key = key.gather(1, order[:, :, None].expand(-1, -1, 2))
        return self


@dataclass(frozen=True)
class _Asked:
    """Points whose nearest rows are wanted, less `origin`, and the keys of rows that do not count for each."""

    points: Float[Tensor, "n d"]
    origin: Float[Tensor, " d"]
    but: Int[Tensor, "n 2"] | None
    memory: float


def _near(block: Block, asked: _Asked, _: Any) -> _Near:
    keys = _keys(block.values)
    first = np.sort(np.unique(keys.numpy(), axis=0, return_index=True)[1])
    rows, y = torch.from_numpy(first), as_tensor(block.values).double()[first] - asked.origin
    keys, n = keys[rows], len(asked.points)
    found = _Near(torch.full((n, 2), math.inf), torch.zeros(n, 2, dtype=torch.long), torch.zeros(n, 2, 2).long())
    found.distance = found.distance.double()
    own, count = y.square().sum(1), min(2, len(y))
    at_once = max(1, int(asked.memory * 2**30 // (3 * 8 * (len(y) + y.shape[1]))))
    for part in torch.arange(n).split(at_once):
        x = asked.points[part]
        square = torch.addmm(own, x, y.T, alpha=-2)
        if asked.but is not None:
            square[(asked.but[part, None] == keys).all(2)] = math.inf
        index = square.topk(count, largest=False).indices
        distance = torch.stack([(x - y[index[:, j]]).norm(dim=1) for j in range(count)], 1)
        distance[square.gather(1, index) == math.inf] = math.inf
        distance, order = distance.sort(dim=1, stable=True)
        index = index.gather(1, order)
        found.distance[part, :count], found.row[part, :count] = distance, rows[index] + block.start
        found.key[part, :count] = keys[index]
    return found


def _keys(values: NDArray[Any]) -> Int[Tensor, "n 2"]:
    """What tells rows from others, two numbers for each."""
    rows = values + 0.0  # -0 is 0
    digests = b"".join(blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
    return torch.frombuffer(bytearray(digests), dtype=torch.int64).reshape(-1, 2)


def _nearest(blocks: Blocks, points: Tensor, origin: Tensor, memory: float, but: Tensor | None = None) -> _Near:
    return blocks.map_reduce(_near, _merged, shared=_Asked(points, origin, but, memory))


def memorisation_in_blocks(
    samples: Float[Tensor, "n d"],
    train: BlockedEmpirical,
    origin: Float[Tensor, " d"],
    *,
    held_out: Float[Tensor, "m d"] | None = None,
    seed: int = 0,
    max_memory: float = MAX_MEMORY,
) -> Memorisation:
    """`copying.memorisation` with training points in blocks; points are given less `origin`, in float64.

    Without held-out points the control is made from at most `AMONG` training points among all others.

    Raises:
        ValueError: fewer than three different training points.
    """
    blocks, origin = train.blocks, origin.cpu().double()

    def nearness(x: Tensor, but: Tensor | None = None) -> Nearness:
        near = _nearest(blocks, x, origin, max_memory, but)
        rows, place = near.row[:, 0].unique(return_inverse=True)
        values = blocks.take(rows.numpy())
        around = _nearest(blocks, as_tensor(values).double() - origin, origin, max_memory, _keys(values))
        if not bool(around.distance.isfinite().all()):
            raise ValueError("train holds fewer than 3 different points: memorisation needs 3, to tell near from far")
        own = around.distance[place, 0]
        if but is not None:  # where the nearest to it is the point itself, the next
            mutual = (around.key[place, 0] == but).all(1)
            own = torch.where(mutual, around.distance[place, 1], own)
        return Nearness(near.row[:, 0], near.distance[:, 0], near.distance[:, 1], own)

    found = nearness(samples)
    if held_out is not None:
        control = nearness(held_out)
        new = is_new(control, train.spread[1])
        if int(new.sum()) >= LEAST:
            parts = (control.index, control.distance, control.second, control.own)
            return Memorisation(found, Nearness(*(part[new] for part in parts)), "held-out")
    rows = np.arange(len(train))
    if len(train) > AMONG:
        rows = np.sort(np.random.default_rng(seed).choice(len(train), AMONG, replace=False))
    values = blocks.take(rows)
    keys = _keys(values)
    first = np.sort(np.unique(keys.numpy(), axis=0, return_index=True)[1])
    among = nearness(as_tensor(values).double()[first] - origin, keys[torch.from_numpy(first)])
    return Memorisation(found, among, "leave-one-out")
