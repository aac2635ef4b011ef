"""The two leading cells at draws of the source: how far the heights have to move for a draw to change its cell."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from brenier.core.checks import Array
from brenier.core.random import generator_for
from brenier.transport.semidiscrete.cells import Cells


@dataclass(frozen=True)
class Gaps:
    """The two leading cells at draws of the source.

    Attributes:
        first: the leading cells, shape (n,).
        second: those that follow, shape (n,).
        gap: between their scores, shape (n,).
        lack: by how much the score of each cell falls short of the leading one where that is least, shape (N,).
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    gap: Array
    lack: Array

    def laplacian(self, scale: Array) -> sparse.csr_matrix:
        """Estimate of the Hessian of E, from gaps below the smaller scale of their two cells, shape (N, N)."""
        below = np.minimum(scale[self.first], scale[self.second])
        near = self.gap < below
        count = len(scale)
        rates = sparse.coo_matrix((1 / below[near], (self.first[near], self.second[near])), (count, count)).tocsr()
        rates = (rates + rates.T) / (2 * len(self.gap))
        return (sparse.diags(np.asarray(rates.sum(1)).ravel()) - rates).tocsr()


def mean_gaps(cells: Cells, heights: Array, draws: int, stream: tuple[int, ...]) -> tuple[Gaps, Array]:
    """The two leading cells at draws of the source, and the mean gap of each cell, shape (N,), drawn to the median."""
    h = torch.as_tensor(heights, dtype=torch.float32, device=cells.points.device)
    generator = generator_for(*stream)
    parts: list[tuple[Tensor, Tensor]] = []
    lack = torch.full_like(h, math.inf)
    for _ in range(-(-draws // cells.size)):
        for scores in cells.families(h, 1, generator):
            parts.append(scores.topk(2))
            lack = torch.minimum(lack, (parts[-1][0][:, :1] - scores).amin(0))
    score = torch.cat([part[0] for part in parts]).double().cpu().numpy()
    place = torch.cat([part[1] for part in parts]).cpu().numpy()
    gaps = Gaps(place[:, 0], place[:, 1], score[:, 0] - score[:, 1], lack.double().cpu().numpy())
    number = np.bincount(gaps.first, minlength=len(heights))
    total = np.bincount(gaps.first, weights=gaps.gap, minlength=len(heights))
    usual = float(np.median(gaps.gap))
    if usual <= 0:
        usual = float(gaps.gap.mean()) or 1.0
    return gaps, (total + usual) / (number + 1)
