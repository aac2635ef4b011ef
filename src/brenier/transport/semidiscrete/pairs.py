"""Pairs of noise and data that an optimal map makes, for the training of flows.

A flow network that learns `E|v((1 - t) x + t y, t) - (y - x)|^2` from independent noise x and data y learns crossing
paths, which a sampler has to follow in many small steps. With y the datum that a semi-discrete optimal map carries x
to, both have the laws that they had, to the map's error, and paths are nearly straight (arXiv:2509.25519; 2510.15038).
Plans between some noises and some data, the usual substitute, are biased towards independence as their number falls.

A batch is a function of a seed and its place in the stream: so processes share a stream without a word between them,
and go on with one where they left it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from brenier.core.checks import Array, whole_number
from brenier.core.points import Numbers, like
from brenier.core.random import generator_for
from brenier.transport.semidiscrete.sketch import check_same, sketch

STREAM = 0x9A125  # that pairs are drawn from, apart from all that a fit draws


@runtime_checkable
class Transport(Protocol):
    """What pairs are asked of: a fitted map."""

    points: Tensor
    weights: Tensor
    heights: Tensor | None
    source: str
    labels: Tensor | None

    @property
    def size(self) -> int:
        """The number of cells."""
        ...

    @property
    def cell_of(self) -> NDArray[np.intp]:
        """Of each point the number of its cell."""
        ...

    def draw(self, n: int, seed: int | torch.Generator = 0) -> Tensor:
        """n points of the source."""
        ...

    def top(self, x: Tensor, k: int, condition: Any = None) -> tuple[Tensor, Tensor]:
        """The k largest scores and their points."""
        ...

    def draw_pairs(self, n: int, generator: torch.Generator, family: int = 1) -> tuple[Tensor, Tensor]:
        """n points of the source and the numbers of their data."""
        ...


class Batches(IterableDataset[tuple[Tensor, ...]], ABC):
    """An endless stream of batches of pairs, shared by ranks and the workers of a loader.

    Iterate it, or hand it to `torch.utils.data.DataLoader(..., batch_size=None)`: with any number of workers the
    batches come in the same order. A second loop over it goes on where the first one ended.

    Attributes:
        size: pairs to a batch.
        seed: of the stream.
        rank: which of `world` processes this is: of every `world` batches it gets one.
        world: how many there are.
        done: batches that this rank has had. What a loader's workers give is counted in their processes and not here:
            there set it to the number of steps before a state is saved.
    """

    def __init__(self, batch: int, seed: int, rank: int, world: int) -> None:
        self.size, self.seed = whole_number(batch, "batch", 1), whole_number(seed, "seed", 0)
        self.world = whole_number(world, "world", 1)
        self.rank = whole_number(rank, "rank", 0, self.world - 1) if self.world > 1 else _only(rank)
        self.done = 0

    @abstractmethod
    def at(self, place: int) -> tuple[Tensor, ...]:
        """The batch at this place of the whole stream.

        Returns:
            Noise, shape (batch, d), and numbers of data, shape (batch,); of a map with classes also their labels.
        """

    @property
    @abstractmethod
    def source(self) -> str:
        """The name of the law of the noise."""

    @abstractmethod
    def check(self, data: Numbers) -> None:
        """Refuse data that the pairs do not lead to; what float32 makes of the right ones passes.

        Args:
            data: shape (N, d) or (N, *shape of a point).

        Raises:
            ValueError: another number of points, another dimension, other points or another order.
        """

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker = get_worker_info()
        own, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        place = self.done + own
        while True:
            self.done = place - own + workers
            yield self.at(self.rank + self.world * place)
            place += workers

    def arrays(self) -> Iterator[tuple[Any, ...]]:
        """The same batches as NumPy arrays, for JAX and others."""
        for pairs in self:
            yield like(pairs, None)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, as whole numbers: for `load_state_dict`, and for checkpoints."""
        return {**self._stream(), "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the state was taken.

        Raises:
            ValueError: the state is of another stream.
        """
        for name, own in self._stream().items():
            if state.get(name) != own:
                raise ValueError(f"the state is of pairs with {name} {state.get(name)}, and these have {own}")
        self.done = whole_number(state.get("done"), "done", 0)

    def _stream(self) -> dict[str, Any]:
        return {"batch": self.size, "seed": self.seed, "world": self.world}


def _only(rank: int) -> int:
    if rank != 0:
        raise ValueError(f"rank must be 0 where world is 1, got {rank!r}: say how many processes there are")
    return 0


def labelled(x: Tensor, index: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
    """Noise and numbers of data, with the labels of these where there are some."""
    return (x, index) if labels is None else (x, index, labels.to(index.device)[index])


class Pairs(Batches):
    """Fresh pairs of a fitted map, without end: noise that was never seen before, and its datum.

    Args:
        transport: a fitted `SemiDiscrete`.
        batch: pairs to a batch.
        seed: of the stream.
        family: pairs that are made together, as combinations of 16 draws (32 from 512 dimensions on). Default: 1,
            independent pairs. A multiple of twice that number, which divides the batch: each pair has the law that it
            should have and costs a fraction, but those of one family lie in few dimensions, and an average over them is
            worth fewer pairs than they are.
        rank: which of `world` processes this is.
        world: how many there are.

    Raises:
        ValueError: an argument is out of range; the map has not been fitted; families in fewer than 24 dimensions, or
            of another law than the normal one.
    """

    def __init__(
        self, transport: Transport, batch: int = 256, seed: int = 0, *, family: int = 1, rank: int = 0, world: int = 1
    ) -> None:
        super().__init__(batch, seed, rank, world)
        self.transport, self.family = transport, whole_number(family, "family", 1)
        self._sketch: Array | None = None
        transport.draw_pairs(
            self.size if self.family > 1 else 0, generator_for(0), self.family
        )  # refuses what is not made

    @property
    def source(self) -> str:
        """The name of the law of the noise."""
        return self.transport.source

    def at(self, place: int) -> tuple[Tensor, ...]:
        """The batch at this place of the whole stream: see `Batches.at`."""
        x, index = self.transport.draw_pairs(self.size, generator_for(self.seed, STREAM, place), self.family)
        return labelled(x, index, self.transport.labels)

    def check(self, data: Numbers) -> None:
        """Refuse data that are not the points of the map, in their order: see `Batches.check`."""
        if self._sketch is None:
            self._sketch = sketch(self.transport.points)
        check_same(self._sketch, int(self.transport.points.shape[1]), data)

    def _stream(self) -> dict[str, Any]:
        return {**super()._stream(), "family": self.family}
