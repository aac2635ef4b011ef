"""Posteriors on atoms in blocks, thinned: an atom stays with a chance of its own, and weighs as much more if it does.

With chances p_i proportional to what an atom holds of mass and second moment, sums over some 10^4 atoms that stay are
unbiased, and their variance is the sum of (1 - p_i)/p_i^2 times each squared term (Horvitz and Thompson, J. Am. Stat.
Assoc. 47, 1952). Whether an atom stays depends on the number of its row alone, so cutting rows into blocks otherwise
changes nothing. A Krylov space on the atoms that stay finds a direction v, and others, drawn anew, say what v'Cov v is:
all but what leading directions of the data know exactly. What v itself lacks is its variance over the gap, to second
order, and is measured as well.
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brenier.core.blocks.blocks import Block
from brenier.laws.block_products import Products, weighted_steps

DRAWN = 2.0  # atoms that stay, times the squared tolerance
DEVIATIONS = 3.0  # standard deviations that an error is stated with
ON_ALL = 25  # flops per atom and dimension of a norm on all: two products and a half with two vectors, and the mean
ON_DRAWN = 145  # and on those that are drawn, gathered in five rounds with those of other posteriors
DRAWING = 5600  # flops that take as long as the weights and chances of an atom in these rounds
GAIN = 2.0  # times less, from which on atoms are drawn: some norms are not told by them
SAFETY = 2.0  # in what a direction lacks: the next eigenvalue is nearer than the next Ritz value


@dataclass(frozen=True)
class Variances:
    """What is asked along the directions that a Krylov space found.

    Attributes:
        products: the posteriors and, as vectors, the direction v, its part in leading directions of the data, and the
            next Ritz vector: shape (P, 3, d). Their `salt` is another than that of the space.
        means: of these coordinates less those of x, (P, 3).
        rest: the variance along v less that along its part, roughly: variances are smaller about it.
    """

    products: Products
    means: Float[Tensor, "P 3"]
    rest: Float[Tensor, " P"]


@dataclass
class Variance:
    """Sums over the atoms that stay, each over P posteriors: see `variances`."""

    mass: Float[Tensor, " P"]
    first: Float[Tensor, "P 3"]  # of the three coordinates about `means`
    second: Float[Tensor, "P 3"]  # of their squares
    noise: Float[Tensor, " P"]  # of (1 - p) times the squared terms of the variance along v less that along its part
    turned: Float[Tensor, " P"]  # of (1 - p) times the squared length of the terms of Cov v

    def merge(self, other: Self) -> Self:
        """Over the atoms of both."""
        for name in ("mass", "first", "second", "noise", "turned"):
            getattr(self, name).add_(getattr(other, name))
        return self


def pays(atoms: int, dim: int, draws: float) -> bool:
    """Whether a norm from so many atoms that are drawn costs less than half of one on all."""
    return ON_ALL * dim * atoms > GAIN * (DRAWING * atoms + ON_DRAWN * draws * dim)


def variances(block: Block, shared: Variances, asked: Bool[Tensor, " P"]) -> Variance:
    """What one block adds to the variances along the directions of posteriors that ask for it."""
    count = len(shared.rest)
    empty = (torch.zeros(count, *shape, dtype=torch.float64) for shape in ((), (3,), (3,), (), ()))
    total = Variance(*empty)
    for own, weights, chances, steps in weighted_steps(block, shared.products, asked):
        v = shared.products.vectors[own].to(weights)
        along = (v.flatten(0, 1) @ steps.T).view(len(own), 3, -1).sub_(shared.means[own, :, None].to(weights))
        squares = along.square()
        kept = weights * (1 - chances)
        total.mass[own] += weights.sum(1, dtype=torch.float64)
        total.first[own] += (along @ weights[:, :, None])[..., 0].double()
        total.second[own] += (squares @ weights[:, :, None])[..., 0].double()
        term = squares[:, 0] - squares[:, 1] - shared.rest[own, None].to(weights)
        total.noise[own] += (kept * weights * term.square()).sum(1, dtype=torch.float64)
        lengths = steps.square().sum(1)
        total.turned[own] += (kept * weights * squares[:, 0] * lengths).sum(1, dtype=torch.float64)
    return total


def merge_variances(first: Variance, second: Variance) -> Variance:
    """Over both."""
    return first.merge(second)


def norms_along(sums: Variance, known: Float[Tensor, " P"]) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Norms and their relative errors, from the variances along directions.

    Args:
        sums: over all blocks.
        known: the exact variance along the part of v in leading directions, 0 where there is none.
    """
    mass = sums.mass.clamp_min(1e-300)
    mean, second = sums.first / mass[:, None], sums.second / mass[:, None]
    along, part, following = (second - mean.square()).unbind(1)
    value = along + known - part
    lacking = sums.turned / mass.square() / (value - following).clamp_min(1e-300)
    noise = DEVIATIONS * (sums.noise / mass.square()).sqrt()
    norm = value + lacking
    return norm, (noise + SAFETY * lacking) / norm.clamp_min(1e-300)
