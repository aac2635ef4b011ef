"""Components of a Gaussian mixture sum_i p_i N(mu_i, S_i): its moments, and what belongs to which of them.

The posterior of the component given a point x is p_i N(x; mu_i, S_i)/p(x); the squared Mahalanobis distance to it,
(x - mu_i)' S_i^-1 (x - mu_i), is chi-squared with d degrees of freedom under it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_BLOCK = 2**22  # points x components x dimensions in work at once


class Components(NamedTuple):
    """Weights, means and covariances of k components.

    Attributes:
        weights: p_i, shape (k,).
        means: mu_i, shape (k, d), in the unit of the data.
        variances: eigenvalues of S_i, shape (k, d), or (k, 1) where all d are equal.
        axes: their eigenvectors as columns, shape (k, d, d); None: the coordinate axes.
    """

    weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    variances: Float[Tensor, "k e"]
    axes: Float[Tensor, "k d d"] | None

    @property
    def flat(self) -> bool:
        """Whether a component has no variance in some direction."""
        return bool((self.variances <= 0).any())

    def covariances(self) -> Float[Tensor, "k d d"]:
        """The matrices S_i."""
        if self.axes is None:
            return torch.diag_embed(self.variances.expand(-1, self.means.shape[1]))
        return (self.axes * self.variances[:, None]) @ self.axes.mT

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance of the mixture."""
        mean = self.weights @ self.means
        spread = self.means - mean
        within = torch.einsum("k,kij->ij", self.weights, self.covariances())
        return mean, within + (self.weights[:, None] * spread).T @ spread

    def locate(self, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Posterior probabilities of the components at x, and squared Mahalanobis distances to them, in float64.

        Raises:
            ValueError: a component is flat.
        """
        if self.flat:
            raise ValueError("a component of the mixture has no variance in some direction: nothing lies within it")
        means, variances = (part.double().to(x.device) for part in (self.means, self.variances))
        volume = variances.log().sum(1) * (means.shape[1] / variances.shape[1])
        prior = self.weights.double().to(x.device).log() - volume / 2
        squares: list[Tensor] = []
        for part in x.double().split(max(1, _BLOCK // means.numel())):
            offset = part[:, None] - means
            if self.axes is not None:
                offset = torch.einsum("nkd,kde->nke", offset, self.axes.double().to(x.device))
            squares.append((offset.square() / variances).sum(2))
        square = torch.cat(squares)
        return (prior - square / 2).softmax(1), square
