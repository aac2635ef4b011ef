"""Semi-discrete optimal transport to points in blocks: what `map` holds, of data that need not be in memory.

Points stay where they are; here are the heights, a number for each of them. See `blocked_cells` for what is asked of
the blocks. Where a `distributed.Client` is active its workers do that, else the threads of this process.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Self

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core import records
from brenier.core.blocks.blocks import Block
from brenier.core.checks import Array, whole_number
from brenier.core.points import Numbers, arrays_too, as_points
from brenier.core.random import generator_for
from brenier.core.reading.files import exists, split_member
from brenier.core.writing import atomic_path, write_dataset
from brenier.laws.blocked import BlockedEmpirical
from brenier.transport.cost import Cost
from brenier.transport.semidiscrete.ascent import FEW, check_tolerance
from brenier.transport.semidiscrete.blocked_cells import BlockedCells, Spread, joined
from brenier.transport.semidiscrete.cells import BLOCKS
from brenier.transport.semidiscrete.distinct import check_weights
from brenier.transport.semidiscrete.fitted import SAVED, Fitted, read_fit
from brenier.transport.semidiscrete.fitting import fit_heights
from brenier.transport.semidiscrete.map import FRESH, KINDS, PART
from brenier.transport.semidiscrete.measures import MarginalError
from brenier.transport.semidiscrete.sources import Sampler, find_source
from brenier.transport.semidiscrete.starts import guess, line_heights

KIND = "blocked transport"


class BlockedSemiDiscrete:
    """Transport from a source to the points of data in blocks, for the quadratic cost.

    Args:
        data: the points: a `BlockedEmpirical`, or what `BlockedEmpirical.of` takes: a file, a store, a dask array.
        weights: of the points, shape (N,), as for `SemiDiscrete`. Default: equal.
        source: "normal", N(0, I), "uniform", on [0, 1]^d, or a function, as for `SemiDiscrete`; where workers draw, one
            that can be sent to them.

    Attributes:
        law: the points, as a law.
        weights: shape (N,), sum 1, float64.
        source: its name.
        heights: shape (N,), float64, with weighted mean 0; None before `fit`.
        result: how the last fit went; None before.

    Raises:
        ValueError: as `BlockedEmpirical`; weights of another number, negative ones, none above 0.
    """

    def __init__(self, data: object, weights: Numbers | None = None, *, source: str | Sampler = "normal") -> None:
        self.law = data if isinstance(data, BlockedEmpirical) else BlockedEmpirical.of(data)
        b = check_weights(weights, len(self.law))
        self.weights = torch.from_numpy(b)
        self._source = find_source(source, self.dim)
        self.source = self._source.name
        self.heights: Float[Tensor, " N"] | None = None
        self.result: Fitted | None = None
        self._spread = self._of_used(Spread(*self.law.spread), b > 0)
        keys = np.concatenate(self.law.blocks.map_reduce(_keys, joined, shared=self._spread))
        self._digest = blake2b(keys.tobytes(), digest_size=16).hexdigest()
        self._first, self._cell = _kinds(keys, b > 0)
        used = self._cell >= 0
        self._masses: Array = np.bincount(self._cell[used], b[used]).astype(np.float64)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.law.dim

    @property
    def _centre(self) -> Float[Tensor, " d"]:
        """That of the points as they are used, where the law was moved."""
        return self._spread.centre + self.law.centre - self.law.spread[0]

    @property
    def size(self) -> int:
        """The number of cells: of different points of positive weight."""
        return len(self._first)

    def fit(
        self,
        tolerance: float = 0.02,
        *,
        minutes: float | None = None,
        seed: int = 0,
        start: "BlockedSemiDiscrete | None" = None,
        resume: bool = False,
        checkpoint: Callable[[], object] | None = None,
        progress: bool = True,
    ) -> Self:
        """Find the heights, which are those that `SemiDiscrete` finds, to rounding; arguments are as there.

        Raises:
            ValueError: as there; a map to start from or to resume that leads to other points; a cluster that goes away.
        """
        seed = whole_number(seed, "seed", 0)
        check_tolerance(tolerance)
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        begun = time.monotonic()
        before = self if start is None else start
        self._check_start(before, given=start is not None or resume, resume=resume)
        averaged = before.result.averaged if resume and before.result is not None else 0
        cells = self._cells(seed)
        if self.size == 1 or (self.dim == 1 and self.source in KINDS):
            known = np.zeros(1) if self.size == 1 else self._on_line(cells)
            self._keep(known, Fitted("exact", tolerance, 0, time.monotonic() - begun, 0.0, seed))
            return self
        check_tolerance(tolerance, self.size)

        def first() -> Array:
            if before.heights is None:
                return guess(cells, self._masses, (seed, 0x57), self.dim <= FEW)
            return before.heights.numpy()[self._first] / self._spread.unit

        fit_heights(
            cells,
            self._masses,
            first,
            tolerance,
            seed=seed,
            averaged=averaged,
            begun=begun,
            minutes=minutes,
            keep=self._keep,
            checkpoint=checkpoint,
            progress=progress,
        )
        return self

    @arrays_too()
    def potential(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Brenier's potential u(x) = max_i <x, y_i> + h_i, shape (n,), in float64."""
        return self.top(x, 1)[0][:, 0]

    @arrays_too()
    def cells(self, x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The number of the point that each x is carried to, shape (n,)."""
        return self.top(x, 1)[1][:, 0]

    @arrays_too()
    def map(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The point that each x is carried to, shape (n, d): the gradient of the potential."""
        return self.law.take(self.cells(x)).to(self.law.dtype)

    @arrays_too()
    def top(self, x: Float[Tensor, "n d"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The k largest scores <x, y_i> + h_i at each x, descending, and the numbers of their points.

        Raises:
            ValueError: there are not k cells; x of another dimension; nothing was fitted.
        """
        k = whole_number(k, "k", 1, self.size)
        as_points(x, "x", dim=self.dim, least=0, note=", as the points have")
        values, places = self._cells().top(x.to("cpu", torch.float32), self._inner(), k)
        scores = self._spread.unit * values.double() + (x.double() @ self._centre)[:, None]
        return scores, torch.from_numpy(self._first)[places]

    def draw(self, n: int, seed: int | torch.Generator = 0) -> Float[Tensor, "n d"]:
        """n independent points of the source; with a generator in place of a seed, the next n."""
        generator = seed if isinstance(seed, torch.Generator) else None
        generator = generator or torch.Generator().manual_seed(whole_number(seed, "seed", 0))
        return self._source.draw(whole_number(n, "n", 0), generator)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """n independent points of the image: where the map carries `draw(n, seed)`."""
        return self.map(self.draw(n, seed))

    def marginal_error(self, samples: int = FRESH, seed: int = 1) -> MarginalError:
        """Hold the masses of the cells against the weights, on fresh independent draws, as `SemiDiscrete` does."""
        cells = self._cells()
        families = max(BLOCKS, -(-whole_number(samples, "samples", 512) // cells.plain))
        stream = (whole_number(seed, "seed", 0), 0xE)
        tally = cells.tally(self._inner().double().numpy(), families, stream, independent=True)
        return MarginalError.of(tally, self._masses)

    def w2(self, samples: int = 2**17, seed: int = 1) -> Cost:
        """W2 between the source and the points, by the map and by the heights; see `Cost`."""
        samples, seed = whole_number(samples, "samples", 2), whole_number(seed, "seed", 0)
        b, h = torch.from_numpy(self._masses), self._spread.unit * self._inner().double()
        squares = self._squares()
        constant = float(b @ squares + 2 * (b @ h))
        primal: list[Tensor] = []
        dual: list[Tensor] = []
        place = torch.full((len(self.law),), 0)
        place[torch.from_numpy(self._first)] = torch.arange(self.size)
        together = max(PART, 2**26 // self.dim // PART * PART)  # draws that are sent to the blocks at once
        for begin in range(0, samples, together):
            some = range(begin, min(begin + together, samples), PART)
            x = torch.cat([self.draw(min(PART, samples - k), generator_for(seed, 0xC057, k)) for k in some])
            score, row = (part[:, 0] for part in self.top(x, 1))
            own, cell = x.double().square().sum(1), place[row]
            primal.append(own - 2 * (score - h[cell]) + squares[cell])  # |x - y|^2, as the score is <x, y> + h
            dual.append(own - 2 * score + constant)
        return Cost.of(torch.cat(primal), torch.cat(dual))

    def moments(self) -> tuple[Array, float]:
        """Mean of the points, shape (d,), and of their squared lengths, by weight."""
        mean = self._centre.numpy() + self._spread.unit * self._cells().mean(self._masses)
        return mean, float(self._masses @ self._squares().numpy())

    def to_dataset(self) -> xr.Dataset:
        """Weights and heights, with how they were fitted and the file that the points are in, as a dataset."""
        if self.heights is None or self.result is None:
            raise ValueError("the map has not been fitted yet: call fit first")
        file, member = split_member(self.law.blocks.name)
        lies = exists(Path(file))
        place = str(Path(file).resolve()) + (f":{member}" if member else "")
        return records.dataset(
            KIND,
            {"weights": ("point", self.weights.numpy()), "heights": ("point", self.heights.numpy())},
            source=self.source,
            cells=self.size,
            dim=self.dim,
            points_file=place if lies else "",
            points_digest=self._digest,
            **{f"fit_{name}": getattr(self.result, name) for name in SAVED},
        )

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write `to_dataset` as netCDF, whole or not at all. Points are not in it.

        Raises:
            ValueError: nothing was fitted, or the file exists or cannot be written.
        """
        data = self.to_dataset()
        with atomic_path(path, force) as draft:
            write_dataset(data, draft)

    @classmethod
    def load(cls, path: str | os.PathLike[str], data: object = None, *, source: Sampler | None = None) -> Self:
        """Read what `save` or `brenier transport` wrote.

        Args:
            path: of the file.
            data: the points, as the class takes them. Default: the file that they were in.
            source: where it was a function, that function.

        Raises:
            ValueError: no such file, or something else in it; points that are not where they were, or are others.
        """
        found = records.read(path, KIND)
        try:
            return cls.from_dataset(found, data, source=source)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)!r}: {error}") from None

    @classmethod
    def from_dataset(cls, found: xr.Dataset, data: object = None, *, source: Sampler | None = None) -> Self:
        """The map that `to_dataset` describes; data and source as for `load`."""
        records.check(found, KIND)
        name, file = str(found.attrs["source"]), str(found.attrs["points_file"])
        if name not in KINDS and source is None:
            raise ValueError("the map was fitted for a source of yours: give that function, too")
        if data is None:
            if not file:
                raise ValueError("the map's points were in no file: give them, too, as data=")
            data = file
        law = data if isinstance(data, BlockedEmpirical) else BlockedEmpirical.of(data)
        if len(law) != found.sizes["point"]:
            raise ValueError(f"the map leads to {found.sizes['point']:,} points, and {law.name!r} has {len(law):,}")
        other = cls(law, found["weights"].values, source=name if source is None else source)
        if other._digest != found.attrs["points_digest"]:
            raise ValueError(f"the map leads to other points than those of {law.name!r}")
        other.heights, other.result = read_fit(found, other.weights)
        return other

    def _of_used(self, whole: Spread, used: NDArray[np.bool_]) -> Spread:
        """The unit of the points that have weight, from that of all."""
        if used.all():
            return whole
        cells = BlockedCells(self.law.blocks, np.flatnonzero(used), whole, self._source)
        count = int(used.sum())
        mean = torch.from_numpy(cells.mean(np.full(count, 1 / count)))
        square = float(np.square(cells.of_points(_length)).mean()) - float(mean.square().sum())
        centre = (whole.centre + whole.unit * mean).float().double()  # so that subtracting it rounds once
        return Spread(centre, whole.unit * (max(square, 0.0) ** 0.5 or 1.0))

    def _cells(self, seed: int = 0) -> BlockedCells:
        return BlockedCells(self.law.blocks, self._first, self._spread, self._source, seed)

    def _check_start(self, other: "BlockedSemiDiscrete", *, given: bool, resume: bool) -> None:
        if not given:
            return
        if other.heights is None or other.result is None:
            raise ValueError("the map to start from has not been fitted yet")
        same = other._digest == self._digest and np.array_equal(other._first, self._first)
        if not same:
            raise ValueError("a map to data in blocks starts from one to the same points")
        if resume and not (other.source == self.source and np.allclose(other._masses, self._masses, rtol=1e-9)):
            raise ValueError("the fit to resume is of a map from another source, to other points or of other weights")

    def _on_line(self, cells: BlockedCells) -> Array:
        places = cells.of_points(_coordinate) + float(self._spread.centre) / self._spread.unit
        return line_heights(places, self._masses, self.source)

    def _keep(self, inner: Array, how: Fitted) -> None:
        heights = self._spread.unit * (inner - self._masses @ inner)
        whole = np.where(self._cell >= 0, heights[self._cell], -np.inf)
        self.heights, self.result = torch.from_numpy(whole), how

    def _inner(self) -> Float[Tensor, " cells"]:
        """Heights of the cells in units of the points' spread, as scores need them."""
        if self.heights is None:
            raise ValueError("the map has not been fitted yet: call fit first")
        return (self.heights[torch.from_numpy(self._first)] / self._spread.unit).float()

    def _squares(self) -> Float[Tensor, " cells"]:
        """|y|^2 of the points of cells."""
        return torch.from_numpy(self._cells().of_points(partial(_square, self._centre, self._spread.unit)))


def _length(y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return y.double().norm(dim=1)


def _coordinate(y: Float[Tensor, "n 1"]) -> Float[Tensor, " n"]:
    return y[:, 0]


def _square(centre: Tensor, unit: float, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return (centre + unit * y.double()).square().sum(1)


def _keys(block: Block, spread: Spread, _: object) -> list[NDArray[np.uint64]]:
    """What tells the points of a block from others, two numbers for each."""
    points = (spread.points(block.values) + 0.0).numpy()  # -0 is 0
    digests = b"".join(blake2b(row.tobytes(), digest_size=16).digest() for row in points)
    return [np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)]


def _kinds(keys: NDArray[np.uint64], used: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first row of each kind of those that are used, ascending, and of every row the number of its kind, or -1."""
    rows = np.flatnonzero(used)
    order = rows[np.lexsort((keys[rows, 1], keys[rows, 0]))]  # of the same, the first row first
    new = np.append(True, (keys[order[1:]] != keys[order[:-1]]).any(1))
    first = order[new]
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    cell = np.full(len(keys), -1)
    cell[order] = rank[np.cumsum(new) - 1]
    return np.sort(first), cell
