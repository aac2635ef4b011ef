"""Heights of the Brenier potential by stochastic ascent of the semi-dual.

The heights of the optimal map minimise the convex E(h) = E max_i(<x, y_i> + h_i) - <b, h>, whose gradient is w(h) - b,
the masses of the cells less the weights. With w^ from m draws and any reasonable matrix P,

    h <- h - g P (w^ - b),

and the average of the iterates is the answer: whatever P, it tends to the smallest error that n draws allow,

    cov(w(h) - b) = (diag(b) - b b')/n,  chi-square (N - 1)/n    (Polyak, Juditsky, SIAM J. Control Optim. 30, 1992)

or, with families of correlated draws (`sources`), their inflation times that, and the draws cost much less.

P decides how soon that is. The gap between the largest and the second score at x says how far a height has to move for
x to change its cell: the Hessian of E is the graph Laplacian

    H_ij = -lim P(i leads, j is second, gap < e)/e,        H_ii = -sum_j H_ij.

In few dimensions, where cells have few neighbours and errors have a long way to go, P is the inverse of that, as
estimated, a little regularised. In many, P is diagonal: the mean gap of a cell over its weight.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from brenier.core.checks import Array
from brenier.transport.semidiscrete.cells import Cells, Tally
from brenier.transport.semidiscrete.gaps import mean_gaps

MOST = 2**36  # draws beyond which a tolerance is out of reach
FEW = 5  # dimensions up to which the Laplacian is inverted
LEAST = 1024  # draws to a step
STEP, EARLY = 0.16, 60  # g of the diagonal, and steps before draws to a step grow and averages are taken
NEWTON, NEAR = 0.6, 0.15  # g of the Laplacian, and total variation below which averages are taken
DAMPING = (2e-3, 0.2)  # of the Laplacian: between these, in proportion to the total variation
RAISED = 0.5  # mean gaps by which an empty cell is raised, at most, beyond where a first draw would fall into it
CLIP = 4.0  # largest relative excess of a cell's mass that counts before averages are taken
BLOCKS = 32  # of the iterates' average: its resolution
DROPPED, LATER = 1 / 8, 1 / 2  # share of its beginning that is left out, and after two measurements that failed
LEAST_FAMILIES = 64  # to a measurement
PRECISION = 0.12  # relative standard error of a measured chi-square, where that takes no more draws than the fit
GROWTH = 1.2  # of the draws from one measurement to the next
SPARE = 1.1  # draws over those that the theory calls for, before the first measurement


def check_tolerance(tolerance: float, cells: int = 1) -> None:
    """Refuse a total variation that is none, or one among so many cells that no number of draws could tell.

    Raises:
        ValueError: it is.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be between 0 and 1, a total variation, got {tolerance}")
    floor = math.sqrt((cells - 1) / (2 * math.pi * MOST))
    if tolerance < floor:
        raise ValueError(
            f"a tolerance of {tolerance:g} is below the noise floor: {MOST:.0e} draws among {cells} "
            f"cells leave a total variation of {floor:.1g}"
        )


@dataclass
class Average:
    """Weighted mean of the latest iterates."""

    blocks: list[tuple[int, Array]] = field(default_factory=list[tuple[int, Array]])

    def add(self, draws: int, heights: Array) -> None:
        """Take in an iterate that is worth so many draws."""
        self.blocks.append((draws, draws * heights))
        if len(self.blocks) > BLOCKS:
            sizes = [self.blocks[k][0] + self.blocks[k + 1][0] for k in range(len(self.blocks) - 1)]
            k = int(np.argmin(sizes))
            self.blocks[k : k + 2] = [(sizes[k], self.blocks[k][1] + self.blocks[k + 1][1])]

    @property
    def draws(self) -> int:
        """That the iterates are worth."""
        return sum(draws for draws, _ in self.blocks)

    def value(self, dropped: float = DROPPED) -> Array:
        """Mean of all iterates but those at the beginning."""
        first, left = 0, dropped * self.draws
        while left >= self.blocks[first][0]:
            left -= self.blocks[first][0]
            first += 1
        late = self.blocks[first:]
        return np.sum([part for _, part in late], axis=0) / sum(draws for draws, _ in late)


@dataclass(frozen=True)
class Progress:
    """Where an ascent is.

    Attributes:
        heights: the best so far, shape (N,).
        samples: draws so far.
        averaged: draws that the heights are worth, as an average.
        measured: cells of these heights under draws of their own, where they were just counted.
        share: of the draws that are likely to be needed.
    """

    heights: Array
    samples: int
    averaged: int
    measured: Tally | None
    share: float


def ascend(
    cells: Cells, weights: Array, heights: Array, tolerance: float, stream: tuple[int, ...], averaged: int = 0
) -> Iterator[Progress]:
    """Fit heights; the last yielded are those whose measured chi-square is at most 2 pi tolerance^2.

    For relative errors of the masses that are normal, chi-square c makes a total variation of sqrt(c/(2 pi)).

    Args:
        cells: of the points.
        weights: b, positive, sum 1, shape (N,).
        heights: to start from.
        tolerance: of sum |w_i - b_i|/2.
        stream: seeds.
        averaged: draws that the heights to start from are worth: as an average that goes on.
    """
    goal = 2 * math.pi * tolerance**2
    few = cells.dim <= FEW and len(weights) > 2
    step: _Step = _Laplacian(cells, weights, stream) if few else _Diagonal(cells, weights, stream)
    average, samples, rounds, failed, due, inflation = Average(), 0, 0, 0, math.inf, 1.0
    if averaged:
        average.add(averaged, heights)
    while True:
        tally = cells.tally(heights, -(-step.draws // cells.size), (*stream, 1, rounds))
        heights, settled = step(heights, tally)
        samples += tally.samples
        rounds += 1
        if settled:
            if due == math.inf:
                inflation = max(1.0, step.inflation)
                due = SPARE * inflation * max(len(weights) - 1, 1) / goal / (1 - DROPPED)
            average.add(tally.samples, heights)
        best = average.value(DROPPED if failed < 2 else LATER) if average.blocks else heights
        if average.draws < due:
            yield Progress(best, samples, average.draws, None, min(average.draws / due, 1.0) if due < math.inf else 0.0)
            continue
        wanted = min(inflation * math.sqrt(2 * max(len(weights) - 1, 1)) / (PRECISION * goal), average.draws)
        measured = cells.tally(best, max(LEAST_FAMILIES, -(-int(wanted) // cells.size)), (*stream, 2, rounds))
        samples += measured.samples
        yield Progress(best, samples, average.draws, measured, 1.0)
        if measured.chi_square(weights) <= goal:
            return
        due, failed = GROWTH * average.draws, failed + 1


class _Step(Protocol):
    draws: int
    inflation: float

    def __call__(self, heights: Array, tally: Tally) -> tuple[Array, bool]:
        """The next heights, and whether they are worth averaging."""
        ...


class _Diagonal:
    """Many steps, each cell's by its own mean gap, of more and more draws.

    Draws to a step grow as the root of all draws, which is as good as g falling so, and takes fewer steps.
    """

    def __init__(self, cells: Cells, weights: Array, stream: tuple[int, ...]) -> None:
        self._cells, self._weights, self._stream = cells, weights, stream
        self._least = self.draws = max(LEAST, len(weights))
        self._samples = self._count = 0
        self._recent: Tally | None = None
        self.inflation = 1.0
        self._scale = np.zeros(0)

    def __call__(self, heights: Array, tally: Tally) -> tuple[Array, bool]:
        early = self._count < EARLY
        if self._count in (0, EARLY // 2, EARLY):
            self._scale = mean_gaps(self._cells, heights, 2 * self.draws, (*self._stream, 3, self._count))[1]
        excess = (tally.masses - self._weights) / np.maximum(self._weights, 1 / tally.samples)
        if early:
            excess = np.clip(excess, -CLIP, CLIP)
            if self._count >= EARLY // 2:
                self._recent = tally if self._recent is None else self._recent.merge(tally)
        if self._count == EARLY and self._recent is not None:
            self.inflation = self._recent.inflation(self._weights)
            self._cells.adapt(self._recent, self._weights)
        self._count += 1
        self._samples += tally.samples
        self.draws = int(self._least * max(1.0, math.sqrt(self._samples / (EARLY * self._least))))
        return heights - STEP * self._scale * excess, not early


class _Laplacian:
    """Few large steps, each from more draws than the one before.

    Where cells are of very different sizes, as those of clusters are, a step that is too large empties some of them,
    and iterates go in circles: before averages are taken, a step that makes the masses worse is taken back and halved.
    """

    inflation = 1.0

    def __init__(self, cells: Cells, weights: Array, stream: tuple[int, ...]) -> None:
        self._cells, self._weights, self._stream = cells, weights, stream
        self.draws = max(LEAST, 10 * len(weights))
        self._count = 0
        self._matrix: sparse.csr_matrix | None = None
        self._scale = np.zeros(0)
        self._settled = False

    def __call__(self, heights: Array, tally: Tally) -> tuple[Array, bool]:
        b, n = self._weights, tally.samples
        stream = (*self._stream, 3, self._count)
        gaps, scale = mean_gaps(self._cells, heights, max(LEAST, 10 * len(b)), stream, lacking=True)
        self._scale = scale if self._count == 0 else (self._scale + scale) / 2
        self._count += 1
        laplacian = gaps.laplacian(self._scale)
        self._matrix = laplacian if self._matrix is None else 0.7 * self._matrix + 0.3 * laplacian
        square = (float(((tally.masses - b) ** 2 / b).sum()) - (len(b) - 1) / n) / (2 * math.pi)
        off = math.sqrt(max(square, 0.0))
        damping = min(max(DAMPING[1] * off, DAMPING[0]), DAMPING[1])
        matrix = (self._matrix + damping * sparse.diags(b / self._scale)).tocsr()
        excess = np.clip(tally.masses - b, -b, CLIP * b)
        move, _ = cg(matrix, excess - excess.mean(), rtol=0.03, maxiter=200, M=sparse.diags(1 / matrix.diagonal()))
        self._settled = self._settled or off < NEAR
        if square < 2 * (len(b) - 1) / (2 * math.pi * n):
            self.draws = int(1.5 * self.draws)
        # The Hessian knows nothing of cells that no draw sees. Where cells are of very different sizes, as those of
        # clusters are, steps by damping alone make them far too large, and then empty again.
        assert gaps.lack is not None  # as it was asked for
        unseen = (tally.masses == 0) & (gaps.lack > 0)
        most = np.where(unseen, gaps.lack + RAISED * self._scale, np.inf)
        return heights + np.minimum(-NEWTON * move, most), self._settled
