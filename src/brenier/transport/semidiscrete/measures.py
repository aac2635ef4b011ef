"""How good a semi-discrete map is: the masses of its cells on fresh draws."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Self

import numpy as np

from brenier.core.checks import Array
from brenier.transport.semidiscrete.cells import Tally


@dataclass(frozen=True)
class MarginalError:
    """How far the masses w of the cells are from the weights b, on fresh independent draws.

    Attributes:
        total_variation: sum |w_i - b_i|/2 as counted: `floor` for a perfect map.
        total_variation_se: its standard error.
        floor: what the draws' noise alone makes of it.
        excess: sqrt(total_variation^2 - floor^2), 0 where that is below the floor.
        excess_se: standard error of `excess`, at most what makes it 0.
        chi_square: unbiased estimate of sum (w_i - b_i)^2/b_i; can be negative.
        chi_square_se: its standard error.
        samples: draws.
    """

    total_variation: float
    total_variation_se: float
    floor: float
    excess: float
    excess_se: float
    chi_square: float
    chi_square_se: float
    samples: int

    @classmethod
    def of(cls, tally: Tally, weights: Array) -> Self:
        """From independent draws.

        Args:
            tally: of the cells.
            weights: b, positive, sum 1, shape (N,).
        """
        n, found = tally.samples, tally.total_variation(weights)
        floor = total_variation_floor(weights, n)
        # Cells far off their weights have errors of either sign as they are; near them, half-normal ones.
        se = math.sqrt((1 - 2 / math.pi * min(floor / found, 1.0) ** 2) / (4 * n)) if found > 0 else 0.0
        chi = tally.chi_square(weights), tally.chi_square_error(weights)
        return cls(found, se, floor, *_excess(found, se, floor), *chi, n)

    @classmethod
    def joined(cls, parts: Sequence[Self], shares: Array) -> Self:
        """Of parts that have these shares of the mass, each measured on draws of its own."""
        rows = np.array([astuple(part) for part in parts]).T
        tv, _, floor, _, _, chi, *_ = (rows @ shares).tolist()
        _, se, _, _, _, _, chi_se, _ = np.sqrt(rows**2 @ shares**2).tolist()
        return cls(tv, se, floor, *_excess(tv, se, floor), chi, chi_se, sum(part.samples for part in parts))


def _excess(found: float, se: float, floor: float) -> tuple[float, float]:
    """The total variation without the floor's share, and its standard error."""
    excess = math.sqrt(max(found**2 - floor**2, 0.0))
    least = math.sqrt(2 * floor * se)
    return excess, min(found * se / excess, least) if excess > 0 else least


def total_variation_floor(weights: Array, samples: float) -> float:
    """Mean of sum |w_i - b_i|/2 for a perfect map, w_i the share of `samples` draws in cell i: de Moivre's formula."""
    from scipy.stats import binom  # slow to import

    k = np.floor(samples * weights) + 1
    return float((k * (1 - weights) * binom.pmf(k, math.floor(samples), weights)).sum() / math.floor(samples))
