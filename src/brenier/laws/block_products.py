"""Products of the covariances of posteriors with vectors, summed over blocks of atoms: what Krylov spaces ask for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from brenier.core.blocks.blocks import Block
from brenier.laws.atoms import exp_
from brenier.laws.block_sums import AT_ONCE, Queries

WIDE = 0.01  # mean squared distance from x, over |x|^2, from which on x may be taken off afterwards
TOGETHER = 64  # posteriors whose products are made at once
FAR = 1e6  # squared distance over the second moment that counts for a chance, at most


@dataclass(frozen=True)
class Products:
    """Posteriors (2, P) by numbers of SNR and query, and vectors (P, b, d) that their covariances are to multiply.

    With `draws` atoms are thinned to about so many for each: one stays with a chance in proportion to its share in
    mass and second moment, and weighs as much more.
    """

    queries: Queries
    peak: Float[Tensor, "S n"]
    mass: Float[Tensor, "S n"]
    apart: Float[Tensor, "S n"]
    moment: Float[Tensor, "S n"]
    pairs: Int[Tensor, "2 P"]
    vectors: Float[Tensor, "P b d"]
    least: float  # share of an atom in mass and second moment below which it is left out
    draws: float = math.inf
    salt: int = 0  # which of many ways to thin them


@dataclass
class Product:
    """Sums over atoms of w (x_i - x) <x_i - x, v>, shape (P, b, d), of w (x_i - x), and of w: some are left out."""

    product: Float[Tensor, "P b d"]
    shift: Float[Tensor, "P d"]
    mass: Float[Tensor, " P"]

    def merge(self, other: Self) -> Self:
        """Over the atoms of both."""
        self.product += other.product
        self.shift += other.shift
        self.mass += other.mass
        return self


def products(block: Block, shared: Products, asked: Bool[Tensor, " P"]) -> Product:
    """What one block adds to the posteriors that ask for it.

    Those that are not much narrower than their distance from zero share products with the atoms as they are, x being
    taken off afterwards: many columns at once are faster by far than steps to atoms for each query, and rounding does
    not show.
    """
    queries, (snr, query) = shared.queries, shared.pairs
    total = Product(
        torch.zeros_like(shared.vectors, dtype=torch.float64),
        torch.zeros(len(snr), queries.x.shape[1], dtype=torch.float64),
        torch.zeros(len(snr), dtype=torch.float64),
    )
    wide = shared.moment[snr, query] >= WIDE * queries.x[query].double().square().sum(1)
    for atoms, own, weights, _ in _weighted(block, shared, asked):
        together = wide[own] if math.isinf(shared.draws) else torch.zeros_like(own, dtype=torch.bool)
        if bool(together.any()):
            for at in together.nonzero()[:, 0].split(TOGETHER):
                _together(total, shared, own[at], atoms, weights[at])
        for at, kept, steps in _steps(shared, own, (~together).nonzero()[:, 0], atoms, weights):
            some, v = weights[at][:, kept], shared.vectors[own[at]].to(weights)
            along = (v.flatten(0, 1) @ steps.T).view(*v.shape[:2], -1).mul_(some[:, None])
            total.product[own[at]] += (along.flatten(0, 1) @ steps).view(v.shape).double()
            total.shift[own[at]] += (some @ steps).double()
            total.mass[own[at]] += some.sum(1, dtype=torch.float64)
    return total


def weighted_steps(
    block: Block, shared: Products, asked: Bool[Tensor, " P"]
) -> Iterator[tuple[Int[Tensor, " k"], Float[Tensor, "k m"], Float[Tensor, "k m"], Float[Tensor, "m d"]]]:
    """By query and some atoms at a time: its posteriors, weights, chances to stay, and steps from it to the atoms."""
    for atoms, own, weights, chances in _weighted(block, shared, asked):
        for at, kept, steps in _steps(shared, own, torch.arange(len(own)), atoms, weights):
            yield own[at], weights[at][:, kept], chances[at][:, kept], steps


def _weighted(
    block: Block, shared: Products, asked: Bool[Tensor, " P"]
) -> Iterator[tuple[Float[Tensor, "m d"], Int[Tensor, " k"], Float[Tensor, "k m"], Float[Tensor, "k m"]]]:
    """By some atoms at a time: posteriors, their weights, 0 where they are left out, and chances to stay."""
    queries, query = shared.queries, shared.pairs[1]
    needed = torch.zeros(len(queries.x), dtype=torch.bool).index_fill_(0, query[asked], value=True)
    for start, atoms, rows, distances, slopes in queries.pieces(block, needed):
        local = torch.full((len(queries.x),), -1).scatter_(0, rows, torch.arange(len(rows)))
        here = (asked & (local[query] >= 0)).nonzero()[:, 0]
        for own in here.split(max(1, AT_ONCE // len(atoms))):
            yield atoms, own, *_weights(shared, own, local[query[own]], distances, slopes, start)


def _weights(
    shared: Products, own: Int[Tensor, " p"], place: Int[Tensor, " p"], distances: Tensor, slopes: Tensor, start: int
) -> tuple[Float[Tensor, "p m"], Float[Tensor, "p m"]]:
    """Weights of atoms in some posteriors, 0 where they are left out, divided by chances to stay; and these."""
    queries, (snr, query) = shared.queries, shared.pairs[:, own]
    weights = torch.empty(len(own), distances.shape[1], dtype=queries.frame.fine)
    for s in snr.unique().tolist():
        at = (snr == s).nonzero()[:, 0]
        logits = queries.logits(distances[place[at]], slopes[place[at]], s)
        weights[at] = exp_(logits.sub_(shared.peak[s, query[at], None].to(logits))).to(weights)
    weights.div_(shared.mass[snr, query, None].to(weights))
    scale = shared.moment[snr, query, None].clamp_min(torch.finfo(torch.float32).tiny).to(weights)
    apart = (distances[place].to(weights) + shared.apart[snr, query, None].to(weights)).div_(scale)
    if math.isinf(shared.draws):
        stake = apart.clamp_max_(1).add_(1).mul_(weights)
        return weights.mul_(stake >= shared.least), torch.ones(()).expand_as(weights)
    chances = apart.clamp_max_(FAR).add_(1).mul_(weights).mul_(shared.draws / 2).clamp_max_(1)
    stays = uniform(start, weights.shape[1], shared.salt).to(weights) < chances
    return torch.where(stays, weights / chances, 0), chances


def _steps(
    shared: Products, own: Int[Tensor, " k"], at: Int[Tensor, " j"], atoms: Tensor, weights: Tensor
) -> Iterator[tuple[Int[Tensor, " i"], Int[Tensor, " n"], Float[Tensor, "n d"]]]:
    """By query: which of the posteriors `at` are its, the atoms that any of them has, and the steps to these."""
    query = shared.pairs[1, own[at]]
    for q in query.unique().tolist():
        mine = at[query == q]
        kept = (weights[mine] != 0).any(0).nonzero()[:, 0]
        if len(kept):
            yield mine, kept, atoms[kept].to(weights).sub_(shared.queries.x[q].to(weights))


def uniform(first: int, count: int, salt: int) -> Float[Tensor, " m"]:
    """Numbers in (0, 1) that rows have, `count` of them from row `first` on: Steele, Lea and Flood's mixing (2014)."""
    state = np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64((salt + 1) * 0xD1B54A32D192ED03 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    return torch.from_numpy(((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def _together(total: Product, shared: Products, own: Int[Tensor, " p"], atoms: Tensor, weights: Tensor) -> None:
    """Add what some atoms contribute to several posteriors at once."""
    kept = (weights != 0).any(0).nonzero()[:, 0]
    if len(kept) < len(atoms):
        atoms, weights = atoms[kept], weights[:, kept]
    y, v = atoms.to(weights), shared.vectors[own].to(weights)
    x = shared.queries.x[shared.pairs[1, own]].to(weights)
    along = (v.flatten(0, 1) @ y.T).view(*v.shape[:2], -1)
    along.sub_(v @ x[:, :, None]).mul_(weights[:, None])
    found = (along.flatten(0, 1) @ y).view(v.shape) - along.sum(2, keepdim=True) * x[:, None]
    total.product[own] += found.double()
    total.shift[own] += (weights @ y - weights.sum(1, keepdim=True) * x).double()
    total.mass[own] += weights.sum(1, dtype=torch.float64)


def merge_product(first: Product, second: Product) -> Product:
    """Over both."""
    return first.merge(second)
