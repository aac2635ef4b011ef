"""Products of the covariances of posteriors with vectors, summed over blocks of atoms: what Krylov spaces ask for."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from brenier.core.blocks.blocks import Block
from brenier.laws.block_sums import Queries

WIDE = 0.01  # mean squared distance from x, over |x|^2, from which on x may be taken off afterwards
TOGETHER = 64  # posteriors whose products are made at once


@dataclass(frozen=True)
class Products:
    """Posteriors (2, P) by numbers of SNR and query, and vectors (P, b, d) that their covariances are to multiply."""

    queries: Queries
    peak: Float[Tensor, "S n"]
    mass: Float[Tensor, "S n"]
    apart: Float[Tensor, "S n"]
    moment: Float[Tensor, "S n"]
    pairs: Int[Tensor, "2 P"]
    vectors: Float[Tensor, "P b d"]
    least: float  # share of an atom in mass and second moment below which it is left out


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
    needed = torch.zeros(len(queries.x), dtype=torch.bool).index_fill_(0, query[asked], value=True)
    wide = shared.moment[snr, query] >= WIDE * queries.x[query].double().square().sum(1)
    for _, atoms, rows, distances, slopes in queries.pieces(block, needed):
        local = torch.full((len(queries.x),), -1).scatter_(0, rows, torch.arange(len(rows)))
        here = asked & (local[query] >= 0)
        for own in (here & wide).nonzero()[:, 0].split(TOGETHER):
            _together(total, shared, own, atoms, *_weights(shared, own, local[query[own]], distances, slopes))
        for q in query[here & ~wide].unique().tolist():
            own = (here & ~wide & (query == q)).nonzero()[:, 0]
            weights, kept = _weights(shared, own, local[query[own]], distances, slopes)
            steps = atoms[kept].to(weights) - queries.x[q].to(weights)
            some, v = weights[:, kept], shared.vectors[own].to(weights)
            along = (v.flatten(0, 1) @ steps.T).view(*v.shape[:2], -1).mul_(some[:, None])
            total.product[own] += (along.flatten(0, 1) @ steps).view(v.shape).double()
            total.shift[own] += (some @ steps).double()
            total.mass[own] += some.sum(1, dtype=torch.float64)
    return total


def _weights(
    shared: Products, own: Int[Tensor, " p"], place: Int[Tensor, " p"], distances: Tensor, slopes: Tensor
) -> tuple[Float[Tensor, "p m"], Int[Tensor, " k"]]:
    """Weights of atoms in some posteriors, 0 where they are too small in all, and which are not."""
    queries, (snr, query) = shared.queries, shared.pairs[:, own]
    weights = torch.empty(len(own), distances.shape[1], dtype=queries.frame.fine)
    for s in snr.unique().tolist():
        at = (snr == s).nonzero()[:, 0]
        logits = queries.logits(distances[place[at]], slopes[place[at]], s)
        weights[at] = logits.sub_(shared.peak[s, query[at], None].to(logits)).exp_().to(weights)
    weights.div_(shared.mass[snr, query, None].to(weights))
    scale = shared.moment[snr, query, None].clamp_min(torch.finfo(torch.float32).tiny).to(weights)
    apart = distances[place].to(weights) + shared.apart[snr, query, None].to(weights)
    stake = apart.div_(scale).clamp_max_(1).add_(1).mul_(weights)
    return weights, (stake >= shared.least).any(0).nonzero()[:, 0]


def _together(
    total: Product, shared: Products, own: Int[Tensor, " p"], atoms: Tensor, weights: Tensor, kept: Int[Tensor, " k"]
) -> None:
    """Add what some atoms contribute to several posteriors at once."""
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
