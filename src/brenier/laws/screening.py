"""Which blocks of atoms can matter to a posterior, by where they lie: proofs and not guesses.

The posterior at y = r x + z weighs atoms by exp(-r^2/2 |u - x_i|^2), u = x + z/r. The n_b atoms of a block lie in a
ball about its centre c_b and in a shell about one point p that all blocks share, so that their distance to u is no
less than

    D_b = max(|u - c_b| - radius_b, |u - p| - outer_b, inner_b - |u - p|, 0),

and together they weigh no more than n_b exp(-r^2/2 D_b^2). Blocks whose bounds sum to at most `dropped` times what some
others are known to weigh are left out.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brenier.laws.block_looks import Look
from brenier.laws.block_sums import Frame, Queries

SLACK = 1e-4  # of a distance, for rounding


@dataclass(frozen=True)
class Places:
    """Where each of B blocks lies, in the unit of a frame.

    Attributes:
        centres: shape (B, d).
        radii: shape (B,).
        point: that shells are about, shape (d,).
        shells: inner and outer radius, shape (B, 2).
        counts: atoms of each.
    """

    centres: Float[Tensor, "B d"]
    radii: Float[Tensor, " B"]
    point: Float[Tensor, " d"]
    shells: Float[Tensor, "B 2"]
    counts: Float[Tensor, " B"]

    @classmethod
    def of(cls, seen: Look, first: Float[Tensor, " d"], counts: Float[Tensor, " B"], frame: Frame) -> "Places":
        """From the first read, in which `first` was the point of the shells."""
        order = torch.tensor(seen.numbers).argsort()
        centres = ((torch.stack(seen.centres) - frame.centre) / frame.unit)[order]
        radii = torch.tensor(seen.radii, dtype=torch.float64)[order] / frame.unit
        shells = torch.tensor(seen.shells, dtype=torch.float64)[order] / frame.unit
        return cls(centres, radii, (first - frame.centre) / frame.unit, shells, counts.double())

    def bounds(self, queries: Queries, s: int) -> Float[Tensor, "n B"]:
        """Logarithm of what no block's weights exceed, exp(logit) as in `block_sums`, at the s-th SNR."""
        x, z, r = queries.x.double(), queries.z.double(), queries.ratios[s]
        u = x + z / r
        to_centre = torch.cdist(u, self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        to_point = torch.linalg.vector_norm(u - self.point, dim=1, keepdim=True)
        apart = torch.maximum(
            to_centre - self.radii, torch.maximum(to_point - self.shells[:, 1], self.shells[:, 0] - to_point)
        )
        apart = (apart - SLACK * (to_centre + to_point)).clamp_min(0)
        return self.counts.log() - apart.square() * (r**2 / 2) + z.square().sum(1, keepdim=True) / 2


def kept(
    bounds: Float[Tensor, "n B"], least: Float[Tensor, " n"], dropped: float
) -> tuple[Bool[Tensor, "n B"], Float[Tensor, " n"]]:
    """Which blocks have to be read, and the logarithm of what the others weigh at most.

    Args:
        bounds: as from `Places.bounds`.
        least: logarithm of what the whole is known to weigh at least.
        dropped: share of it that may be left out.
    """
    order = bounds.argsort(1)
    total = torch.logcumsumexp(bounds.gather(1, order), 1)
    out = total <= least[:, None] + (math.log(dropped) if dropped > 0 else -math.inf)
    left = torch.where(out, total, -torch.inf).amax(1)
    return torch.ones_like(out).scatter_(1, order, ~out), left
