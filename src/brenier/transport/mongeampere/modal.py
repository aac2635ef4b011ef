"""A reference for densities with several modes: the normal laws at all maxima that climbs find, mixed.

Each has -Hess log e^{-f} at its maximum as its precision and the mass of Laplace's approximation as its weight. A map
from one normal law to modes far apart has to tear; from this mixture it is nearly the identity, and what is left to it
are the modes' shapes. A mode that no climb ends at is missing.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.laws.mixture import GaussianMixture
from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.unseen import STRETCHES, Maxima, climb, maxima

STARTS = 96  # of climbs, in a round
ROUNDS = 3  # of climbs: the first from about the origin, the others from about what was found


def mixture_at_maxima(law: Marginal, seed: int = 0) -> GaussianMixture:
    """The mixture of the normal laws at the maxima of a density.

    Args:
        law: with a density, up to a constant.
        seed: of where climbs begin.

    Raises:
        ValueError: no density, or none with a maximum that climbs end at.
    """
    if law.log_density is None:
        raise ValueError(f'{law.name} has no density, and a reference "modes" is made of the maxima of one')
    generator, dim = torch.Generator().manual_seed(seed), law.dim
    eye, stretch = torch.eye(dim, dtype=torch.float64), torch.tensor(STRETCHES).double()
    ends, middle, root = torch.empty(0, dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64), eye
    found: GaussianMixture | None = None
    for _ in range(ROUNDS):
        noise = torch.randn(STARTS, dim, generator=generator, dtype=torch.float64)
        begin = middle + noise @ root.T * stretch.repeat(STARTS // len(STRETCHES))[:, None]
        ends = torch.cat([ends, climb(law, begin, root)])
        tops = maxima(law, ends, root)
        if not len(tops.at):
            continue
        found = _mixed(law, tops)
        middle, covariance = found.moments()
        root = torch.linalg.cholesky(covariance)
    if found is None:
        raise ValueError(f"{law.name} has no maximum with a curvature that climbs come to: give another reference")
    return found


def _mixed(law: Marginal, tops: Maxima) -> GaussianMixture:
    """Laplace's approximations, in proportion to their masses."""
    with torch.no_grad():
        logs = law.log_at(tops.at) + tops.root.diagonal(dim1=1, dim2=2).log().sum(1)
    covariances: Float[Tensor, "k d d"] = tops.root @ tops.root.mT
    return GaussianMixture(torch.softmax(logs, 0), tops.at, covariances, name="modes")
