"""Power cells: which point y_i has the largest score <x, y_i> + h_i, and how often.

The mass w_i of cell i under the source, estimated from draws, is all that heights are fitted by and judged by. A block
of scores is made by one matrix product, is read once and stays in the cache in between; every worker is one thread with
blocks of its own, which on a busy machine is faster by far than several threads to a block. Blocks must not be small
either: between any two operations workers wait for each other, for the interpreter is one. So small families are
computed several at a time.
"""

import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.checks import Array
from brenier.core.random import generator_for
from brenier.core.work import workers
from brenier.transport.semidiscrete.sources import Source, combinations

BLOCK = 2**21  # bytes of scores at a time
TALL, LARGE = 256, 2**24  # rows from which a product is as fast as it gets, and bytes that they may take
BLOCKS = 16  # that the draws of a tally are dealt out to, for its errors
LARGEST = 8192  # draws to a family at most
PLAIN = 2**17  # scores of a family of draws that are not combined, about
USUAL = 0.002  # share of common cells within a family beyond that of independent draws, before it is measured
COMBINED = 24  # dimensions from which combinations pay
WIDE = 512  # dimensions from which a family is made of more draws
READING = 8.0  # work, in multiplications, of adding a height to a score and reading it

PointFunction: TypeAlias = Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]


@dataclass(frozen=True)
class Tally:
    """How often draws of the source fell into each cell.

    Attributes:
        blocks: counts, shape (blocks, N); families are dealt out to `BLOCKS` blocks in turn.
        squares: sum over families of squared counts, shape (N,).
        families: number of families, which are independent.
        size: draws to a family.
    """

    blocks: Array
    squares: Array
    families: int
    size: int

    @property
    def samples(self) -> int:
        """Number of draws."""
        return self.families * self.size

    @property
    def masses(self) -> Array:
        """Share of the draws in each cell, shape (N,)."""
        return self.blocks.sum(0) / self.samples

    def merge(self, other: "Tally") -> "Tally":
        """The tally of both, of families of the same size."""
        squares, families = self.squares + other.squares, self.families + other.families
        return Tally(self.blocks + other.blocks, squares, families, self.size)

    def total_variation(self, weights: Array) -> float:
        """sum |w_i - b_i|/2, which is `total_variation_floor` at least on average."""
        return float(np.abs(self.masses - weights).sum() / 2)

    def inflation(self, weights: Array) -> float:
        """Variance of the masses over that of as many independent draws; 1 where families are made of such."""
        between = (self.squares - self.blocks.sum(0) ** 2 / self.families) / (self.families - 1)
        return float((between / weights).sum()) / (self.size * max(len(weights) - 1, 1))

    def chi_square(self, weights: Array) -> float:
        """Unbiased estimate of sum (w_i - b_i)^2/b_i, from products of different blocks; can be negative."""
        return self._chi_squares(weights)[0]

    def chi_square_error(self, weights: Array) -> float:
        """Standard error of `chi_square`, by the jackknife over blocks."""
        without = np.asarray(self._chi_squares(weights)[1:])
        return math.sqrt((len(without) - 1) * float(without.var()))

    def _chi_squares(self, weights: Array) -> list[float]:
        """The estimate from all blocks, and from all but each."""
        drawn = self.blocks.sum(1)
        used = self.blocks[drawn > 0] - np.outer(drawn[drawn > 0], weights)
        drawn = drawn[drawn > 0]
        if len(drawn) < 3:
            raise ValueError(f"chi-square takes at least three families of draws, got {len(drawn)}")
        products = (used / weights) @ used.T
        found: list[float] = []
        for left_out in range(-1, len(drawn)):
            kept = np.arange(len(drawn)) != left_out
            pairs = drawn[kept].sum() ** 2 - (drawn[kept] ** 2).sum()
            found.append(float((products[np.ix_(kept, kept)].sum() - np.diag(products)[kept].sum()) / pairs))
        return found


class Cells:
    """The power cells of points, for any heights.

    Args:
        points: shape (N, d), float32.
        source: the law of x.
        seed: of the combinations.
    """

    def __init__(self, points: Float[Tensor, "N d"], source: Source, seed: int = 0) -> None:
        self.points = points
        self._begin(len(points), int(points.shape[1]), points.device, source, seed)

    def _begin(self, count: int, dim: int, device: torch.device, source: Source, seed: int) -> None:
        self.count, self.dim, self.device, self.source = count, dim, device, source
        self.linear = source.linear and dim >= COMBINED
        self.draws = 16 if dim < WIDE else 32
        self.rows = max(1, BLOCK // (4 * count))
        self.seed = seed
        self.plain = min(max(PLAIN // count, 64), LARGEST // 2)
        self._resize(USUAL)
        self._kept = threading.local()
        self._over: Callable[..., Iterable[Any]] | None = None

    def of_points(self, function: PointFunction) -> Array:
        """What a function says of each point, shape (N,); it takes and gives several."""
        return function(self.points).double().cpu().numpy()

    def some(self, numbers: NDArray[np.intp]) -> Float[Tensor, "n d"]:
        """The points of these cells."""
        return self.points[torch.from_numpy(numbers).to(self.device)]

    def moments(self, weights: Array) -> tuple[Array, Array]:
        """Mean and covariance of the points, shapes (d,) and (d, d)."""
        y = self.points.double().cpu().numpy()
        centred = y - weights @ y
        return weights @ y, (weights[:, None] * centred).T @ centred

    @contextmanager
    def working(self) -> Generator[Callable[..., Iterable[Any]], None, None]:
        """An ordered map over threads, as many as torch may use, each computing on one; tallies within share them."""
        if self._over is not None:
            yield self._over
            return
        try:
            with workers() as self._over:
                yield self._over
        finally:
            self._over = None

    def adapt(self, tally: Tally, weights: Array) -> None:
        """Choose the size of families by the inflation that such families have shown."""
        self._resize(max(tally.inflation(weights) - 1, 1e-3) / (tally.size - 1))

    def of_size(self, plain: int, size: int, rows: int) -> Self:
        """These cells, with families of such sizes and so many rows of scores at a time."""
        self.plain, self.size, self.rows = plain, size, rows
        if self.linear:
            self._combinations = combinations(size, self.draws, torch.Generator().manual_seed(self.seed))
        return self

    def _resize(self, r: float) -> None:
        """The size of families that takes the least work for a given variance, a multiple of 2 k.

        A draw costs a + b/M, its variance grows as 1 + (M - 1) r: least at M^2 = b (1 - r)/(a r).
        """
        size = self.plain
        if self.linear:
            each = self.draws / 2 + READING  # a product serves a combination and its negative
            best = math.sqrt(self.draws * self.dim * (1 - r) / (each * r))
            size = 2 * self.draws * max(1, round(min(best, LARGEST) / (2 * self.draws)))
        self.of_size(self.plain, size, self.rows)

    def winners(self, x: Float[Tensor, "n d"], heights: Float[Tensor, " N"]) -> Int[Tensor, " n"]:
        """The cell of each x."""
        rows = max(self.rows, min(TALL, LARGE // (4 * self.count)))
        found = [largest(scores) for scores in self.scores(x, heights, rows=rows)]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=x.device)

    def top(
        self, x: Float[Tensor, "n d"], heights: Float[Tensor, " N"], k: int
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The k largest scores of each x, descending, and their cells."""
        parts = [torch.addmm(heights, part, self.points.T).topk(k) for part in x.split(self.rows)] or [
            (x.new_zeros(0, k), torch.zeros(0, k, dtype=torch.long))
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def paired(
        self, heights: Float[Tensor, " N"], n: int, generator: torch.Generator, family: int = 1
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """n draws of the source, and the cell of each; in families of so many, each with combinations of its own.

        Raises:
            ValueError: families of such a source, in so few dimensions, or of such a size are not made.
        """
        if family == 1:
            x = self.source.draw(n, generator).to(self.device)
            return x, self.winners(x, heights)
        if not self.linear:
            raise ValueError(
                f"families are made of draws of N(0, I) in at least {COMBINED} dimensions, and these are of the "
                f"{self.source.name} law in {self.source.dim}: leave family out"
            )
        if family % (2 * self.draws) != 0 or n % family != 0:
            raise ValueError(
                f"family must be a multiple of {2 * self.draws} that divides the batch of {n}, or 1, got {family}"
            )
        noises: list[Tensor] = []
        won: list[Tensor] = []
        for _ in range(n // family):
            draws = self.source.draw(self.draws, generator).to(self.device)
            turns = combinations(family, self.draws, generator).to(draws)
            won += [largest(scores) for scores in self._combined(heights, draws, turns, 1)]
            for part in turns.split(self.rows):
                noises += [part @ draws, -part @ draws]
        return torch.cat(noises), torch.cat(won)

    def tally(self, heights: Array, families: int, stream: Sequence[int], independent: bool = False) -> Tally:
        """Count draws of the source into the cells.

        Args:
            heights: shape (N,).
            families: how many.
            stream: seeds of the random numbers. They depend on it and on the number of families
                alone, not on that of the workers.
            independent: whether to count independent draws and no combinations of them.
        """
        h = torch.as_tensor(heights, dtype=torch.float32, device=self.device)
        firsts = self._batches(families, independent)

        def one(batch: int) -> NDArray[np.intp]:
            number = firsts[batch + 1] - firsts[batch]
            drawn = self.families(h, number, generator_for(*stream, batch), independent)
            return self._counts(torch.cat([largest(scores) for scores in drawn]), number)

        with self.working() as over:
            return self._tallied(firsts, over(one, range(len(firsts) - 1)), independent)

    def _batches(self, families: int, independent: bool) -> list[int]:
        """The first family of each batch of those that are made together, and how many there are."""
        size = self.plain if independent else self.size
        rows = size // 2 if self.linear and not independent else size
        batches = -(-families // min(max(self.rows // rows, 1), BLOCKS))
        return [families * batch // batches for batch in range(batches + 1)]

    def _counts(self, won: Int[Tensor, " n"], number: int) -> NDArray[np.intp]:
        """Of families whose draws have these cells in turn, the counts of each, shape (number, N)."""
        places = (won.view(-1, number) + self.count * torch.arange(number, device=won.device)).flatten().cpu().numpy()
        return np.bincount(places, minlength=self.count * number).reshape(number, self.count)

    def _tallied(self, firsts: Sequence[int], counts: Iterable[NDArray[np.intp]], independent: bool) -> Tally:
        blocks, squares = np.zeros((BLOCKS, self.count)), np.zeros(self.count)
        for first, found in zip(firsts, counts, strict=False):
            blocks[np.arange(first, first + len(found)) % BLOCKS] += found
            squares += (found**2).sum(0)
        return Tally(blocks, squares, firsts[-1], self.plain if independent else self.size)

    def leading(
        self, heights: Array, draws: int, stream: Sequence[int], *, lacking: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The two leading scores at draws of the source and their cells, shape (n, 2).

        Where that is asked for, also by how much the score of each cell falls short of the leading one where that is
        least, shape (N,).
        """
        h, generator = torch.as_tensor(heights, dtype=torch.float32, device=self.device), generator_for(*stream)
        parts: list[tuple[Tensor, Tensor]] = []
        lack = torch.full_like(h, math.inf)
        for _ in range(-(-draws // self.size)):
            for scores in self.families(h, 1, generator):
                parts.append(scores.topk(2))
                if lacking:
                    lack = torch.minimum(lack, (parts[-1][0][:, :1] - scores).amin(0))
        score, place = (torch.cat([part[k] for part in parts]) for k in range(2))
        return score, place, lack if lacking else None

    def families(
        self, heights: Tensor, number: int, generator: torch.Generator, independent: bool = False
    ) -> Iterator[Tensor]:
        """Scores of families of draws, shape (n, N), a few rows at a time; the next rows overwrite them.

        Row r is of family r modulo their number. (Shapes are not annotated, as what a check of types knows of N
        outlives a generator: maps of two sizes would contradict each other.)
        """
        if independent or not self.linear:
            yield from self.scores(self.source.draw(number * self.plain, generator), heights, number)
            return
        draws = self.source.draw(self.draws * number, generator).to(self.device)
        yield from self._combined(heights, draws, self._combinations, number)

    def _combined(self, heights: Tensor, draws: Tensor, turns: Tensor, number: int) -> Iterator[Tensor]:
        """Scores of combinations of draws, a few rows at a time, and then of the negatives of these."""
        # This way round a product with it is twice as fast, where there is one family.
        products = (self.points @ draws.T).T.reshape(self.draws, -1)
        for part in turns.to(products).split(max(self.rows // number, 1)):
            plain, raised = self._space(len(part) * number)
            torch.mm(part, products, out=plain.view(len(part), -1))
            yield torch.add(heights, plain, out=raised)
            yield torch.sub(heights, plain, out=raised)  # of -x

    def scores(self, x: Tensor, heights: Tensor, number: int = 1, rows: int | None = None) -> Iterator[Tensor]:
        """Of points x, a multiple of `number` at a time; the next rows overwrite them."""
        for part in x.split(max((rows or self.rows) // number, 1) * number) if len(x) else ():
            scores, _ = self._space(len(part))
            yield torch.mm(part.to(self.device), self.points.T, out=scores).add_(heights)

    def _space(self, rows: int) -> tuple[Tensor, Tensor]:
        """Room for two blocks of scores, kept by every thread for itself."""
        if not hasattr(self._kept, "space") or self._kept.space.shape[1] < rows:
            self._kept.space = self.points.new_empty(2, max(rows, self.rows), self.count)
        return self._kept.space[0, :rows], self._kept.space[1, :rows]


def largest(scores: Tensor) -> Tensor:
    """The place of the largest score in each row; numpy is ten times faster at this than torch on a CPU."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(1))
    return scores.argmax(1)
