"""Noise paired with data, for flows: independent, by exact plans within a batch, by a fitted map, or as they are given.

A coupling leaves both laws what they were, N(0, I) and that of the data, and decides which noise goes with which datum.
A map from N(0, I) to the points (arXiv:2509.25519, 2510.15038) gives each noise its point. Plans between k draws of
noise and k of data (arXiv:2302.00482) tend to that as k grows, but slowly: the squared W2 between the two couplings
falls like k^(-1/4) (arXiv:2605.12174).

Where data have classes that the network is told, noise must not know them, or a class that is asked for starts from the
wrong noise: plans then go between noises and data of one class (arXiv:2503.10636), and maps have to be by class.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from brenier.core.points import Numbers, as_tensor
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.networks.saved import INDEPENDENT
from brenier.training.points import Points
from brenier.training.workers import Workers

MINIBATCH, GIVEN = "minibatch", "given"
PLAN_SIZE = 128  # noises and data to a plan
SAME_MASS = 1e-6  # relative difference of weights that rounding may make


@runtime_checkable
class Map(Protocol):
    """A map from N(0, I) to points, as `brenier.SemiDiscrete` is one.

    Attributes:
        points: shape (N, d), in the order of the data.
        weights: shape (N,), sum 1.
        source: "normal".
        labels: the class of each point, shape (N,); None for a map without.
    """

    points: Float[Tensor, "N d"]
    weights: Float[Tensor, " N"]
    source: str
    labels: Tensor | None

    def draw_pairs(self, n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """n noises and the numbers of their points."""
        ...


@runtime_checkable
class Stream(Protocol):
    """Batches of pairs that are made by their place, as `brenier.Pairs` and `brenier.RecordedPairs`.

    Attributes:
        size: pairs to a batch.
        done: batches that were taken.
        source: "normal".
    """

    size: int
    done: int

    @property
    def source(self) -> str:
        """The name of the law of the noise."""
        ...

    def check(self, data: Numbers) -> None:
        """Refuse data that the pairs do not lead to."""
        ...


PairsLike: TypeAlias = str | Map | Iterable[tuple[Numbers, ...]]
Drawn: TypeAlias = tuple[Float[Tensor, "n *shape"], Float[Tensor, "n *shape"], Int[Tensor, " n"] | None]
UNAWARE = "knows no classes, so that noise would know those of its data: give one that was made with these labels"


def name_of(pairs: PairsLike) -> str:
    """What pairs are called in a config.

    Raises:
        ValueError: a name that is none.
        TypeError: no pairs.
    """
    if isinstance(pairs, str):
        if pairs not in (INDEPENDENT, MINIBATCH):
            raise ValueError(f"pairs must be {INDEPENDENT}, {MINIBATCH}, a map or pairs themselves, got {pairs!r}")
        return pairs
    if not isinstance(pairs, Map | Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"pairs must be {INDEPENDENT}, {MINIBATCH}, a fitted map, or yield (noise, index), got "
            f"{type(pairs).__name__}"
        )
    return GIVEN


def _check_source(pairs: "Map | Stream") -> None:
    if pairs.source != "normal":
        raise ValueError(f"the map starts from {pairs.source}, a flow from N(0, I): fit one with source normal")


def check_map(pairs: Map, data: Empirical, labels: Int[Tensor, " N"] | None = None) -> None:
    """Refuse a map that does not lead from N(0, I) to these data, class by class where they have classes.

    Raises:
        ValueError: it starts elsewhere, leads to other points, weights or classes, or is not fitted.
    """
    _check_source(pairs)
    mine, theirs = data.data.cpu().float(), pairs.points.cpu().float()
    if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=1e-6, atol=1e-6 * float(mine.std())):
        counts = f"{tuple(theirs.shape)}, not {tuple(mine.shape)}" if mine.shape != theirs.shape else "of other values"
        raise ValueError(f"the map was fitted to other points than {data.name} holds ({counts}): fit one to these")
    if not torch.allclose(data.weights.cpu().double(), pairs.weights.cpu().double(), rtol=SAME_MASS):
        raise ValueError(f"the map was fitted to other weights than {data.name} has: fit one to these")
    if labels is not None:
        if pairs.labels is None:
            raise ValueError(f"the map {UNAWARE}")
        if not torch.equal(pairs.labels.cpu().unique(return_inverse=True)[1], labels.cpu()):
            raise ValueError(f"the map was fitted to other classes than {data.name} is given: fit one to these")
    pairs.draw_pairs(1, torch.Generator())  # raises where it is not fitted


class Independent:
    """Noise that knows nothing of the data."""

    def __init__(self, points: Points) -> None:
        self.points = points

    def draw(self, n: int, seeds: Sequence[int]) -> Drawn:
        """n pairs, and the classes of their data."""
        y, labels = self.points.batch(n, seeds[0])
        x = torch.randn(y.shape, generator=torch.Generator(y.device).manual_seed(seeds[1]), device=y.device)
        return x, y, labels

    def prepare(self, n: int, seeds: Sequence[int]) -> None:
        """Nothing: noise takes no time."""

    def skip(self, n: int) -> None:
        """Nothing: seeds say it all."""


class Minibatch(Independent):
    """Exact plans between as many noises as data, `size` at a time."""

    def __init__(self, points: Points, size: int) -> None:
        super().__init__(points)
        self.size = size

    def draw(self, n: int, seeds: Sequence[int]) -> Drawn:
        """n pairs, and the classes of their data."""
        x, y, labels = super().draw(n, seeds)
        order = [
            rows[plan(x[rows], y[rows], None if labels is None else labels[rows])]
            for rows in torch.arange(n, device=x.device).split(self.size)
        ]
        return x, y[torch.cat(order)], labels  # which a plan within classes leaves as they are


def plan(
    x: Float[Tensor, "k *shape"], y: Float[Tensor, "k *shape"], labels: Int[Tensor, " k"] | None = None
) -> Int[Tensor, " k"]:
    """The permutation p that makes sum |x_i - y_p(i)|^2 least, of those that keep labels as they are."""
    products = x.flatten(1).double() @ y.flatten(1).double().T
    if labels is not None:
        products -= (labels[:, None] != labels) * (2 * len(products) * products.abs().max() + 1)
    return torch.from_numpy(linear_sum_assignment(products.cpu().numpy(), maximize=True)[1]).to(x.device)


class Mapped:
    """Each noise with the point that a map carries it to; the next ones are found while the network is trained."""

    def __init__(self, points: Points, pairs: Map, shape: Sequence[int]) -> None:
        self.points, self.map, self.shape = points, pairs, tuple(shape)
        self._thread = ThreadPoolExecutor(1, "pairs")
        self._ahead: tuple[tuple[int, int], Future[tuple[Tensor, Tensor]]] | None = None

    def draw(self, n: int, seeds: Sequence[int]) -> Drawn:
        """n pairs, and the classes of their data."""
        known, self._ahead = self._ahead, None
        ready = known is not None and known[0] == (n, seeds[1])
        x, index = known[1].result() if known is not None and ready else self._drawn(n, seeds[1])
        return self.points.like(x, self.shape), *self.points.take(index)

    def prepare(self, n: int, seeds: Sequence[int]) -> None:
        """Begin with the pairs that are to be drawn next, in another thread."""
        self._ahead = (n, seeds[1]), self._thread.submit(self._drawn, n, seeds[1])

    def _drawn(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        return self.map.draw_pairs(n, torch.Generator().manual_seed(seed))

    def skip(self, n: int) -> None:
        """Nothing: seeds say it all."""


class Listed:
    """Pairs as they come, one at a time or many, from what yields noises and numbers of points.

    Several processes go through the same pairs, and each takes its part of every batch.
    """

    def __init__(self, points: Points, pairs: Iterable[Any], shape: Sequence[int], workers: Workers) -> None:
        self.points, self.shape, self.workers = points, tuple(shape), workers
        self._pairs, self._source = pairs, iter(pairs)
        self._noise, self._index = torch.zeros(0, points.dim), torch.zeros(0, dtype=torch.long)
        self.count = 0  # of those that were taken

    def draw(self, n: int, seeds: Sequence[int]) -> Drawn:
        """n pairs, and the classes of their data."""
        noise, index = self._next(n * self.workers.count)
        mine = slice(n * self.workers.rank, n * (self.workers.rank + 1))
        return self.points.like(noise[mine], self.shape), *self.points.take(index[mine])

    def prepare(self, n: int, seeds: Sequence[int]) -> None:
        """Nothing: what yields pairs may have them made ahead, as a `DataLoader` has."""

    def skip(self, n: int) -> None:
        """Go through n pairs, as a run before did; to the batch in question, where pairs are made by their place."""
        if isinstance(self._pairs, Stream) and self.count == 0:
            self._pairs.done += n // self._pairs.size
            self.count, n = self.count + n - n % self._pairs.size, n % self._pairs.size
        while n > 0:
            n -= len(self._next(min(n, 2**14))[1])

    def _next(self, n: int) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        noises, indices = [self._noise], [self._index]
        while sum(map(len, indices)) < n:
            pair = next(self._source, None)
            if pair is None:
                have = self.count + sum(map(len, indices))
                raise ValueError(f"the pairs ended after {have:,}, amid the training: give more, or ones without end")
            if not isinstance(pair, tuple | list) or len(pair) not in (2, 3):  # labels may follow
                raise TypeError(f"pairs must yield (noise, index), got {type(pair).__name__}")
            if self.points.labelled and isinstance(self._pairs, Stream) and len(pair) == 2:
                raise ValueError(f"the map of these pairs {UNAWARE}")
            noise, index = pair[:2]
            index = as_tensor(index, "indices of pairs").reshape(-1)
            if index.is_floating_point():
                raise TypeError(f"indices of pairs must be whole numbers, got {index.dtype}")
            index = index.to("cpu", torch.long)
            noise = as_tensor(noise, "noise of pairs")
            if noise.numel() != len(index) * self.points.dim:
                shape = f"{tuple(noise.shape)} for {len(index)} points of {self.points.dim} numbers"
                raise ValueError(f"noise and index of a pair do not fit each other: {shape}")
            noises.append(noise.reshape(len(index), -1).to("cpu", torch.float32))
            indices.append(index)
        noise, index = torch.cat(noises), torch.cat(indices)
        self._noise, self._index, self.count = noise[n:], index[n:], self.count + n
        return noise[:n], index[:n]


Pairs: TypeAlias = Independent | Mapped | Listed


def pairs_of(
    pairs: PairsLike,
    plan_size: int | None,
    law: Target,
    given: Target,
    workers: Workers,
    labels: Int[Tensor, " N"] | None = None,
) -> Pairs:
    """What draws pairs for a training.

    Args:
        pairs: the name of a coupling, a map, or what yields noises and numbers of points.
        plan_size: of minibatch plans.
        law: to train on, moved to zero and with the channels of images first.
        given: the same as it was given, which maps and numbers are about.
        workers: the processes of the training.
        labels: the class of each datum, from 0, where the network is told.

    Raises:
        ValueError: the map or the pairs do not go with the law.
    """
    points = Points(law, workers.device, labels)
    if isinstance(pairs, str):
        return Minibatch(points, plan_size or PLAN_SIZE) if pairs == MINIBATCH else Independent(points)
    if not isinstance(given, Empirical):
        raise ValueError(f"pairs say which datum goes with a noise, and {given.name} is a law: give data")
    if isinstance(pairs, Map):
        check_map(pairs, given, labels)
        return Mapped(points, pairs, given.event_shape)
    if isinstance(pairs, Stream):
        _check_source(pairs)
        pairs.check(given.data)
    return Listed(points, pairs, given.event_shape, workers)
