"""How good a semi-discrete map is, on fresh draws: the masses of its cells, and what it pays."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from brenier.core.checks import Array
from brenier.core.random import generator_for
from brenier.transport.cost import Cost
from brenier.transport.semidiscrete.cells import Tally
from brenier.transport.semidiscrete.pairs import Transport

PART = 4096  # draws at a time


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


def cost_of(transport: Transport, constant: float, over: Callable[..., Iterable[Any]], samples: int, seed: int) -> Cost:
    """What the map pays, and the dual value of its heights.

    Args:
        transport: a fitted map.
        constant: sum b_i (|y_i|^2 + 2 h_i), what the dual value has beside E|X|^2 - 2 E u(X).
        over: an ordered map over threads.
        samples: draws.
        seed: of them.
    """

    def squares(begin: int) -> tuple[Tensor, Tensor]:
        x = transport.draw(min(PART, samples - begin), generator_for(seed, 0xC057, begin))
        score, place = transport.top(x, 1)
        paid = (x.double() - transport.points[place[:, 0]].double()).square().sum(1)
        return paid.cpu(), (x.double().square().sum(1) - 2 * score[:, 0]).cpu() + constant

    primal, dual = zip(*over(squares, range(0, samples, PART)), strict=True)
    return Cost.of(torch.cat(primal), torch.cat(dual))
