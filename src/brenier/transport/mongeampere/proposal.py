"""Where the points of an evidence come from: a reference, half of it pulled apart about its mean by three factors."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.transport.mongeampere.conjugate import inverse
from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.potentials import Potential
from brenier.transport.mongeampere.whitening import Whitening

STRETCHES = (1.0, 1.5, 2.25, 3.375)  # of points about the mean
SHARES = (1 / 2, 1 / 6, 1 / 6, 1 / 6)
KNOWN = 2000  # points that ways back begin at
NEWTON = 15  # steps to an inverse
FOUND = 1e-6  # distance from x, relative to its size, up to which it is one


class Proposal(NamedTuple):
    """The mixture m of a reference and of it pulled apart; the reference alone, where it has no mean."""

    reference: Marginal

    def drawn(self, n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """n points, and which of the stretches each has: 0 where it is the reference's own."""
        y, mean = self.reference.drawn(n, generator), self.reference.mean
        if mean is None:
            return y, torch.zeros(n, dtype=torch.int64)
        which = torch.multinomial(torch.tensor(SHARES, dtype=torch.float64), n, replacement=True, generator=generator)
        return mean + torch.tensor(STRETCHES, dtype=torch.float64)[which, None] * (y - mean), which

    def log_at(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log m(y)."""
        reference, mean = self.reference, self.reference.mean
        if mean is None:
            return reference.log_at(y)
        parts = [
            math.log(share) + reference.log_at(mean + (y - mean) / by) - reference.dim * math.log(by)
            for share, by in zip(SHARES, STRETCHES, strict=True)
        ]
        return torch.logsumexp(torch.stack(parts), 0)


class Image(NamedTuple):
    """The law q of T(Y), Y ~ m, beside the target.

    Ways back to y begin at the nearest of some points whose images are known. These are none of those that weights are
    told of, so that what is found at x, or not, depends on x alone.

    Attributes:
        target: e^{-f}, whitened where the map is between whitened laws.
        potential: psi.
        proposal: m.
        whitening: S, where laws are whitened.
        known: points of m.
    """

    target: Marginal
    potential: Potential
    proposal: Proposal
    whitening: Whitening | None
    known: Float[Tensor, "k d"]

    def points(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y), as the target has them."""
        with torch.no_grad():
            return self._outward(self.potential.gradient(y))

    def log_weight(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log(e^{-f}/q) at points of the target; NaN where Newton's method finds no y with T(y) = x."""
        with torch.no_grad():
            z = x if self.whitening is None else self.whitening.inward(x)
            nearest = torch.cdist(z, self.potential.gradient(self.known)).argmin(1)
            y = inverse(self.potential, z, self.known[nearest], steps=NEWTON, warn=False)
            near = (self.potential.gradient(y) - z).norm(dim=1) <= FOUND * (1 + z.norm(dim=1))
            logs = self.target.log_at(z) + torch.linalg.slogdet(self.potential.hessian(y))[1] - self.proposal.log_at(y)
            return torch.where(near, logs, math.nan)

    def _outward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return z if self.whitening is None else self.whitening.outward(z)
