"""The two leading cells at draws of the source: how far the heights have to move for a draw to change its cell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from brenier.core.checks import Array
from brenier.transport.semidiscrete.cells import Cells


@dataclass(frozen=True)
class Gaps:
    """The two leading cells at draws of the source.

    Attributes:
        first: the leading cells, shape (n,).
        second: those that follow, shape (n,).
        gap: between their scores, shape (n,).
        lack: by how much the score of each cell falls short of the leading one where that is least, shape (N,); None
            where that was not asked for.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    gap: Array
    lack: Array | None

    def laplacian(self, scale: Array) -> sparse.csr_matrix:
        """Estimate of the Hessian of E, from gaps below the smaller scale of their two cells, shape (N, N)."""
        below = np.minimum(scale[self.first], scale[self.second])
        near = self.gap < below
        count = len(scale)
        rates = sparse.coo_matrix((1 / below[near], (self.first[near], self.second[near])), (count, count)).tocsr()
        rates = (rates + rates.T) / (2 * len(self.gap))
        return (sparse.diags(np.asarray(rates.sum(1)).ravel()) - rates).tocsr()


def mean_gaps(
    cells: Cells, heights: Array, draws: int, stream: tuple[int, ...], *, lacking: bool = False
) -> tuple[Gaps, Array]:
    """The two leading cells at draws of the source, and the mean gap of each cell, shape (N,), drawn to the median."""
    leading, two, lack = cells.leading(heights, draws, stream, lacking=lacking)
    score, place = leading.double().cpu().numpy(), two.cpu().numpy()
    short = None if lack is None else lack.double().cpu().numpy()
    gaps = Gaps(place[:, 0], place[:, 1], score[:, 0] - score[:, 1], short)
    number = np.bincount(gaps.first, minlength=len(heights))
    total = np.bincount(gaps.first, weights=gaps.gap, minlength=len(heights))
    usual = float(np.median(gaps.gap))
    if usual <= 0:
        usual = float(gaps.gap.mean()) or 1.0
    return gaps, (total + usual) / (number + 1)
