"""Pairs that are made once and kept: as seeds and numbers of data, from which the same noise is made again.

The noise of a million pairs with 10,000 images is 3 GB, the seeds of its blocks and the numbers of the data are 2 MB.
Training from them takes no product with the data at all; and as their number is known, each datum can have its share of
them exactly.
"""

import io
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.checks import Array, whole_number
from brenier.core.points import Numbers
from brenier.core.random import generator_for
from brenier.core.reading.files import exists
from brenier.core.work import progress_bar
from brenier.core.writing import atomic_path
from brenier.transport.semidiscrete.equal import apportioned, equal_use
from brenier.transport.semidiscrete.pairs import STREAM, Batches, Transport, labelled
from brenier.transport.semidiscrete.sketch import check_same, sketch
from brenier.transport.semidiscrete.sources import Sampler, find_source

BLOCK = 256  # pairs whose noise one seed makes
LISTED = 16  # cells that a noise may be given at first, where each datum is to have its share
SIMILAR = 1e-5  # that noise may differ by when it is made again: rounding
VECTORS, NUMBERS = ("index", "first", "sketch", "labels"), ("seed", "source", "equal", "moved", "lost")  # in a file


@dataclass(frozen=True)
class Recording:
    """Pairs that were made once: `SemiDiscrete.record` makes them, and `brenier pairs` a file of them.

    Attributes:
        index: the numbers of the data, int32, shape (n,).
        seed: of the noise, which is made in blocks of 256 pairs.
        source: name of its law.
        draw: makes it, n points of shape (n, d) from a generator.
        first: the first noise, shape (d,), to be held against when it is made again.
        sketch: one number of each datum, by which they are known, shape (N,); see `sketch`.
        equal: whether each datum has its share of the pairs, exactly.
        moved: share of the noises that have another datum than the map's, for that.
        lost: share of what the map gains over independent pairs, in mean squared distance, that this costs; below 0
            where cells that were off their weights gain more by being righted.
        labels: of the data, int64, shape (N,), or their conditions, float64, shape (N, k); None for a map without.
    """

    index: NDArray[np.int32]
    seed: int
    source: str
    draw: Sampler
    first: NDArray[np.float32]
    sketch: Array
    equal: bool = False
    moved: float = 0.0
    lost: float = 0.0
    labels: NDArray[Any] | None = None

    @classmethod
    def of(
        cls, transport: Transport, n: int, seed: int = 0, *, equal: bool = False, progress: bool = True
    ) -> "Recording":
        """n pairs of a fitted map.

        Args:
            transport: a fitted `SemiDiscrete`.
            n: how many.
            seed: of them.
            equal: whether each datum is to have its share exactly, n times its weight to a whole number: for that,
                noises of cells that have too many get the best datum of those that have too few, cheapest first.
            progress: show a bar on stderr, where that is a terminal.

        Raises:
            ValueError: n or the seed is out of range; the map has not been fitted.
        """
        n, seed = whole_number(n, "n", 1), whole_number(seed, "seed", 0)
        if equal and transport.labels is not None and transport.labels.is_floating_point():
            raise ValueError("equal use is of maps without conditions, or with classes: leave equal out")
        listed = min(LISTED, transport.size)
        index: list[NDArray[np.int32]] = []
        best: list[Array] = []
        falls: list[NDArray[np.float32]] = []
        total = np.zeros(transport.points.shape[1])
        first = np.zeros(0, np.float32)
        rng = np.random.default_rng((seed, STREAM))
        uses = apportioned(transport.weights.numpy(), n, rng)
        wanted = None
        if equal and transport.labels is not None:
            wanted = rng.permutation(np.repeat(transport.labels.numpy(), uses))
        with progress_bar("pairs", progress) as advance:
            for block, begin in enumerate(range(0, n, BLOCK)):
                some = min(BLOCK, n - begin)
                if equal:
                    x = transport.draw(BLOCK, generator_for(seed, STREAM, block))[:some]
                    condition = None if wanted is None else wanted[begin : begin + some]
                    scores, places = (part.cpu().numpy() for part in transport.top(x, listed, condition))
                    best.append(scores[:, 0])
                    falls.append((scores[:, :1] - scores).astype(np.float32))
                    index.append(places.astype(np.int32))
                    total += x.double().sum(0).cpu().numpy()
                else:
                    x, numbers = transport.draw_pairs(BLOCK, generator_for(seed, STREAM, block))
                    index.append(numbers[:some].cpu().numpy().astype(np.int32))
                first = x[0].cpu().numpy() if block == 0 else first
                advance(some / n)
        numbers, moved, lost = np.concatenate(index), 0.0, 0.0
        if equal:
            means = float(np.concatenate(best).mean()), total / n
            numbers, moved, lost = _shared(transport, seed, uses, wanted, np.concatenate(falls), numbers, *means)
        known = sketch(transport.points)
        labels = None if transport.labels is None else transport.labels.numpy()
        return cls(numbers, seed, transport.source, transport.draw, first, known, equal, moved, lost, labels)

    @property
    def uses(self) -> tuple[int, int]:
        """How often the datum that is used least is used, and the one that is used most."""
        counts = np.bincount(self.index, minlength=len(self.sketch))
        return int(counts.min()), int(counts.max())

    def noise(self, block: int) -> Tensor:
        """The noise of the pairs from 256 times `block` on, shape (256, d)."""
        return self.draw(BLOCK, generator_for(self.seed, STREAM, block))

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write seeds and numbers as .npz, whole or not at all. The same pairs make the same file.

        Raises:
            ValueError: the file exists or cannot be written.
        """
        with atomic_path(path, force) as draft:
            self.write(draft)

    def write(self, path: Path) -> None:
        """Write them to a file that is there already."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in (*VECTORS, *NUMBERS):
                held, value = io.BytesIO(), getattr(self, name)
                np.save(held, np.zeros(0, np.int64) if value is None else np.asarray(value), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), held.getvalue(), zipfile.ZIP_DEFLATED)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, source: Sampler | None = None) -> Self:
        """Read what `save` or `brenier pairs` wrote.

        Args:
            path: of the file.
            source: where the map's source was a function, that function.

        Raises:
            ValueError: no such file, or something else in it; a function was the source and is not given; the same
                noise cannot be made again here.
        """
        place, hint = repr(os.fspath(path)), "give what `brenier pairs` saved"
        if not exists(Path(path)):
            raise ValueError(f"{place} does not exist: {hint}")
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                held: dict[str, Any] = {name: file[name] for name in (*VECTORS, *NUMBERS)}
        except (OSError, ValueError, TypeError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error):
            raise ValueError(f"{place} holds no pairs: {hint}") from None
        for name, value in held.items():
            dims = (1, 2) if name == "labels" else (int(name in VECTORS),)
            if value.ndim not in dims or (value.dtype.kind == "U") != (name == "source"):
                raise ValueError(f"{place} holds no pairs, its {name} is none: {hint}")
        index, points = held["index"], len(held["sketch"])
        if min(len(index), points, len(held["first"])) == 0 or index.dtype.kind != "i":
            raise ValueError(f"{place} holds no pairs: {hint}")
        if len(held["labels"]) not in (0, points):
            raise ValueError(f"{place} is damaged: it holds {len(held['labels'])} labels of {points} data")
        if index.min() < 0 or index.max() >= points:
            raise ValueError(f"{place} is damaged: numbers of data must be from 0 to {points - 1}")
        name = str(held["source"])
        if name == "sampler" and source is None:
            raise ValueError(f"{place}: the map was fitted for a source of yours: give that function, too")
        draw = find_source(name if source is None else source, len(held["first"])).draw
        found = cls(
            index.astype(np.int32),
            int(held["seed"]),
            name,
            draw,
            held["first"],
            held["sketch"],
            bool(held["equal"]),
            float(held["moved"]),
            float(held["lost"]),
            held["labels"] if len(held["labels"]) else None,
        )
        if not np.allclose(found.noise(0)[0].numpy(), found.first, rtol=SIMILAR, atol=SIMILAR):
            raise ValueError(f"{place}: its seeds do not make the same noise here: another source, or another torch")
        return found


class RecordedPairs(Batches):
    """A stream of batches from recorded pairs, as `Pairs`: all of them in one order, then all in another, without end.

    Args:
        recording: what `SemiDiscrete.record` made, or the path of what `brenier pairs` or `Recording.save` wrote.
        batch: pairs to a batch.
        seed: of the order, in which blocks of 256 pairs stay together.
        rank: which of `world` processes this is: of every `world` batches it gets one.
        world: how many there are.
        source: where the map's source was a function, that function.

    Raises:
        ValueError: an argument is out of range; as `Recording.load`.
    """

    def __init__(
        self,
        recording: "Recording | str | os.PathLike[str]",
        batch: int = 256,
        seed: int = 0,
        *,
        rank: int = 0,
        world: int = 1,
        source: Sampler | None = None,
    ) -> None:
        super().__init__(batch, seed, rank, world)
        own = recording if isinstance(recording, Recording) else Recording.load(recording, source=source)
        self.recording = own
        self._order: tuple[int, NDArray[np.intp]] = (-1, np.zeros(0, np.intp))

    @property
    def source(self) -> str:
        """The name of the law of the noise."""
        return self.recording.source

    def at(self, place: int) -> tuple[Tensor, ...]:
        """The batch at this place of the whole stream: see `Batches.at`."""
        index, begin, left = self.recording.index, place * self.size, self.size
        noises: list[Tensor] = []
        numbers: list[NDArray[np.int32]] = []
        while left > 0:
            epoch, row = divmod(begin, len(index))
            block = int(self._blocks(epoch)[row // BLOCK])
            own = index[block * BLOCK :][:BLOCK]
            part = slice(row % BLOCK, min(row % BLOCK + left, len(own)))
            noises.append(self.recording.noise(block)[part])
            numbers.append(own[part])
            begin, left = begin + len(numbers[-1]), left - len(numbers[-1])
        noise = torch.cat(noises)
        known = self.recording.labels
        found = torch.from_numpy(np.concatenate(numbers).astype(np.int64)).to(noise.device)
        return labelled(noise, found, None if known is None else torch.from_numpy(known))

    def check(self, data: Numbers) -> None:
        """Refuse data that the pairs do not lead to: see `Batches.check`."""
        check_same(self.recording.sketch, len(self.recording.first), data)

    def _blocks(self, epoch: int) -> NDArray[np.intp]:
        """The order of the blocks; the last one may be short, and stays the last."""
        if self._order[0] != epoch:
            whole = np.random.default_rng((self.seed, epoch)).permutation(-(-len(self.recording.index) // BLOCK) - 1)
            self._order = epoch, np.append(whole, len(whole))
        return self._order[1]


def _shared(
    transport: Transport,
    seed: int,
    uses: NDArray[np.intp],
    wanted: NDArray[np.int64] | None,
    falls: NDArray[np.float32],
    places: NDArray[np.int32],
    best: float,
    mean: Array,
) -> tuple[NDArray[np.int32], float, float]:
    """Numbers of data that give each its share; the share of noises that moved, and that of the gain that is lost.

    Args:
        transport: a fitted map.
        seed: of the noise.
        uses: of each datum, shape (N,).
        wanted: the label of the datum of each noise, shape (n,); None for a map without.
        falls: of the leading cells of each noise below the first, shape (n, k).
        places: the cells, shape (n, k).
        best: mean score of the first.
        mean: of the noise, shape (d,).
    """
    assert transport.heights is not None
    n, k, cell_of = *places.shape, transport.cell_of
    heights, points = transport.heights.double().cpu().numpy(), transport.points.double().cpu().numpy()
    labels = None if transport.labels is None else transport.labels.numpy()
    kept = cell_of >= 0
    capacity = np.bincount(cell_of[kept], uses[kept], minlength=len(uses)).astype(np.intp)

    def search(noises: NDArray[np.intp], cells: NDArray[np.intp]) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """The best of these cells for these noises, which are made again; where cells are few the last repeats."""
        found, at = np.empty((len(noises), k)), np.empty((len(noises), k), np.intp)
        for block in np.unique(noises // BLOCK):
            rows = np.flatnonzero(noises // BLOCK == block)
            x = transport.draw(BLOCK, generator_for(seed, STREAM, int(block))).double().cpu().numpy()
            x, own = x[noises[rows] % BLOCK], places[noises[rows], 0]
            scores = x @ points[cells].T + heights[cells]
            if labels is not None and wanted is not None:
                scores[wanted[noises[rows], None] != labels[cells]] = -np.inf
            order = np.argsort(-scores, 1)[:, np.minimum(np.arange(k), len(cells) - 1)]
            first = (x * points[own]).sum(1) + heights[own]
            found[rows], at[rows] = first[:, None] - np.take_along_axis(scores, order, 1), cells[order]
        return found, at

    cell, fall = equal_use(falls, places, capacity, search)
    begun = places[:, 0]
    drop = fall - heights[begun] + heights[cell]  # of <x, y>
    gain = best - heights[begun].mean() - mean @ (uses @ points) / n
    members = np.argsort(np.where(kept, cell_of, len(kept)), kind="stable")
    index = np.empty(n, np.int32)
    index[np.lexsort((np.random.default_rng((seed, STREAM, n)).random(n), cell))] = np.repeat(members, uses[members])
    return index, float((cell != begun).mean()), float(drop.mean() / gain) if gain > 0 else math.nan
