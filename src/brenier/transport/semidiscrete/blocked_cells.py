"""Power cells of points in blocks: every block scores all draws with its own points, and the leading ones merge.

    max over i of <x, y_i> + h_i = max over blocks of (max within the block),

so that a block says for each draw its largest score and whose that is, two numbers where a score for each point was
made; the larger of two is kept, the earlier point where they are the same. Draws are made anew for every block, from
the seeds that `cells` makes them from, and heights are sent to the blocks that they belong to.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.blocks.blocks import Block, Blocks
from brenier.core.checks import Array
from brenier.core.random import generator_for
from brenier.laws.block_points import working
from brenier.transport.semidiscrete.cells import BLOCK, Cells, PointFunction, Tally, largest
from brenier.transport.semidiscrete.sources import Source

ROUND = 2**20  # draws of a round over the blocks, about
NUMBERS = 2**26  # of points that are sent to the blocks at a time


@dataclass(frozen=True)
class Spread:
    """The unit that points are taken in: less `centre`, (d,), over `unit`."""

    centre: Float[Tensor, " d"]
    unit: float

    def points(self, values: NDArray[Any]) -> Float[Tensor, "m d"]:
        """Rows as points, in float32."""
        rows = working(values)
        return (rows - self.centre.to(rows.dtype)).div_(self.unit).float()


@dataclass(frozen=True)
class Draws:
    """What blocks are asked: at which draws, in which unit, and how many leading scores.

    Attributes:
        spread: the unit of the points.
        source: the law of x.
        sizes: draws to a plain family, to any, and rows of scores at a time; see `Cells.of_size`.
        seed: of the combinations.
        stream: seeds of the draws.
        batches: number of each batch of families, and of families in it.
        independent: whether draws are not combined.
        one: whether batches share one stream of random numbers, and not have one each.
        given: points instead of draws, shape (n, d).
        most: leading scores that are wanted.
        lead: the largest score of all at each draw, shape (n,), where it is asked what each point falls short of it.
    """

    spread: Spread
    source: Source
    sizes: tuple[int, int, int]
    seed: int
    stream: Sequence[int] = ()
    batches: Sequence[tuple[int, int]] = ()
    independent: bool = False
    one: bool = False
    given: Tensor | None = None
    most: int = 1
    lead: Tensor | None = None

    def scores(self, block: Block, heights: Float[Tensor, " m"]) -> Iterator[Tensor]:
        """Of the points of a block at the draws, some rows at a time; the next overwrite them."""
        cells = Cells(self.spread.points(block.values), self.source, self.seed).of_size(*self.sizes)
        if self.given is not None:
            yield from cells.scores(self.given, heights)
            return
        shared = generator_for(*self.stream) if self.one else None
        for batch, number in self.batches:
            generator = generator_for(*self.stream, batch) if shared is None else shared
            yield from cells.families(heights, number, generator, self.independent)


@dataclass
class Leading:
    """The largest scores at each draw, descending, and the rows of their points; shape (n, k)."""

    score: Float[Tensor, "n k"]
    row: Int[Tensor, "n k"]

    def merge(self, other: Self, most: int) -> Self:
        """Of the points of both, the earlier ones first."""
        if self.score.shape[1] == other.score.shape[1] == most == 1:
            later = other.score > self.score
            torch.where(later, other.score, self.score, out=self.score)
            torch.where(later, other.row, self.row, out=self.row)
            return self
        score, row = torch.cat([self.score, other.score], 1), torch.cat([self.row, other.row], 1)
        score, order = score.sort(dim=1, descending=True, stable=True)
        self.score, self.row = score[:, :most], row.gather(1, order[:, :most])
        return self


def leading(block: Block, draws: Draws, heights: Float[Tensor, " m"]) -> Leading:
    """What leads within one block."""
    parts: list[tuple[Tensor, Tensor]] = []
    for scores in draws.scores(block, heights):
        if draws.most == 1:
            place = largest(scores)[:, None]
            parts.append((scores.gather(1, place), place))
        else:
            parts.append(scores.topk(min(draws.most, scores.shape[1])))
    score, place = (torch.cat([part[k] for part in parts]) for k in range(2))
    return Leading(score, place + block.start)


def shortfall(block: Block, draws: Draws, heights: Float[Tensor, " m"]) -> list[Tensor]:
    """By how much each point of a block falls short of the leading score where that is least."""
    assert draws.lead is not None  # what this is asked with
    lack, done = torch.full_like(heights, torch.inf), 0
    for scores in draws.scores(block, heights):
        lack = torch.minimum(lack, (draws.lead[done : done + len(scores), None] - scores).amin(0))
        done += len(scores)
    return [lack]


def each_point(block: Block, shared: tuple[Spread, PointFunction], _: object) -> list[Tensor]:
    """What a function says of the points of one block."""
    return [shared[1](shared[0].points(block.values)).double()]


def spread_mean(block: Block, spread: Spread, weights: Float[Tensor, " m"]) -> Tensor:
    """First moments of one block's points, weighted."""
    return weights @ spread.points(block.values).double()


def spread_sums(block: Block, spread: Spread, weights: Float[Tensor, " m"]) -> tuple[Tensor, Tensor]:
    """First and second moments of one block's points, weighted."""
    points = spread.points(block.values).double()
    weighted = weights[:, None] * points
    return weighted.sum(0), weighted.T @ points


def both(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Sums over two blocks."""
    return first[0] + second[0], first[1] + second[1]


def joined(first: list[Any], second: list[Any]) -> list[Any]:
    """Lists of two blocks, one after the other."""
    first += second
    return first


class BlockedCells(Cells):
    """The power cells of points in blocks, for any heights.

    Args:
        blocks: where the points are.
        first: the row of each cell's point, ascending, shape (cells,).
        spread: the unit of the points.
        source: the law of x.
        seed: of the combinations.
    """

    def __init__(self, blocks: Blocks, first: NDArray[np.intp], spread: Spread, source: Source, seed: int = 0) -> None:
        self._blocks, self._first, self._spread = blocks, first, spread
        self._place = torch.full((blocks.shape[0],), -1)  # the cell of each row
        self._place[torch.from_numpy(first)] = torch.arange(len(first))
        self._begin(len(first), blocks.dim, torch.device("cpu"), source, seed)

    @contextmanager
    def working(self) -> Generator[Callable[..., Iterable[Any]], None, None]:
        """A plain map: blocks go to threads or workers, and not draws."""
        yield map

    def of_points(self, function: PointFunction) -> Array:
        """What a function says of each point, shape (cells,): one that can be sent to workers."""
        found = self._blocks.map_reduce(each_point, joined, shared=(self._spread, function))
        return torch.cat(found).numpy()[self._first]

    def some(self, numbers: NDArray[np.intp]) -> Float[Tensor, "n d"]:
        """The points of these cells."""
        return self._spread.points(self._blocks.take(self._first[numbers]))

    def mean(self, weights: Array) -> Array:
        """Of the points, shape (d,)."""
        asked = self._by_block(torch.from_numpy(weights), 0.0)
        return self._blocks.map_reduce(spread_mean, torch.add, shared=self._spread, asked=asked).numpy()

    def moments(self, weights: Array) -> tuple[Array, Array]:
        """Mean and covariance of the points, shapes (d,) and (d, d)."""
        asked = self._by_block(torch.from_numpy(weights), 0.0)
        mean, second = self._blocks.map_reduce(spread_sums, both, shared=self._spread, asked=asked)
        return mean.numpy(), (second - mean[:, None] * mean).numpy()

    def winners(self, x: Float[Tensor, "n d"], heights: Float[Tensor, " N"]) -> Int[Tensor, " n"]:
        """The cell of each x."""
        return self.top(x, heights, 1)[1][:, 0]

    def top(
        self, x: Float[Tensor, "n d"], heights: Float[Tensor, " N"], k: int
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The k largest scores of each x, descending, and their cells."""
        found = [
            self._round(replace(self._draws(), given=part, most=k), heights)
            for part in x.split(max(1, NUMBERS // self.dim))
        ] or [Leading(x.new_zeros(0, k), torch.zeros(0, k, dtype=torch.long))]
        return torch.cat([part.score for part in found]), self._place[torch.cat([part.row for part in found])]

    def tally(self, heights: Array, families: int, stream: Sequence[int], independent: bool = False) -> Tally:
        """Count draws of the source into the cells: those that `Cells` would count."""
        h, firsts = torch.as_tensor(heights, dtype=torch.float32), self._batches(families, independent)
        batches = [(k, firsts[k + 1] - firsts[k]) for k in range(len(firsts) - 1)]
        size = self.plain if independent else self.size
        together = max(1, ROUND // (size * max(number for _, number in batches)))
        draws = replace(self._draws(), stream=tuple(stream), independent=independent)

        def counts() -> Iterator[NDArray[np.intp]]:
            for some in (batches[k : k + together] for k in range(0, len(batches), together)):
                won = self._place[self._round(replace(draws, batches=some), h).row[:, 0]]
                for part, (_, number) in zip(won.split([number * size for _, number in some]), some, strict=True):
                    yield self._counts(part, number)

        return self._tallied(firsts, counts(), independent)

    def leading(
        self, heights: Array, draws: int, stream: Sequence[int], *, lacking: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The two leading scores at draws of the source, as of `Cells`."""
        h = torch.as_tensor(heights, dtype=torch.float32)
        families = [(0, 1)] * -(-draws // self.size)
        asked = replace(self._draws(), stream=tuple(stream), batches=families, one=True, most=2)
        found = self._round(asked, h)
        lack = None
        if lacking:
            by_block = self._by_block(h, -torch.inf)
            told = replace(asked, lead=found.score[:, 0].clone())
            lack = torch.cat(self._blocks.map_reduce(shortfall, joined, shared=told, asked=by_block))[self._first]
        return found.score, self._place[found.row], lack

    def _draws(self) -> Draws:
        """The sizes of families as they are; rows of scores as the largest block has room for."""
        rows = max(1, BLOCK // (4 * int(self._blocks.sizes().max())))
        return Draws(self._spread, self.source, (self.plain, self.size, rows), self.seed)

    def _round(self, draws: Draws, heights: Float[Tensor, " N"]) -> Leading:
        merge = _Merging(draws.most)
        return self._blocks.map_reduce(leading, merge, shared=draws, asked=self._by_block(heights, -torch.inf))

    def _by_block(self, values: Float[Tensor, " N"], none: float) -> dict[int, Tensor]:
        """Values of the cells as those of rows, by the number of their block; `none` for rows that make no cell."""
        rows = torch.full((self._blocks.shape[0],), none, dtype=values.dtype)
        rows[torch.from_numpy(self._first)] = values
        return dict(enumerate(part.clone() for part in rows.split(self._blocks.sizes().tolist())))


@dataclass(frozen=True)
class _Merging:
    most: int

    def __call__(self, first: Leading, second: Leading) -> Leading:
        return first.merge(second, self.most)
