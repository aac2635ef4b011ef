"""Maps S that make N(0, I) of a law, or nearly: a flow then runs between laws that both went through S^-1.

*Affine.*       S(z) = c + R z                                         Laplace's approximation
*Triangular.*   S_i(z) = m_i(z_1 ... z_{i-1}) + z_i exp(s_i(z_1 ... z_{i-1}))

A triangular map (Knothe-Rosenblatt's) has its inverse and its determinant, sum_i s_i, in closed form. With m_i a
polynomial of degree 2 and s_i of degree 1 it unbends bananas and straightens funnels, whose scale is the exponential of
another coordinate: what no affine map does, and gradients of convex functions do with steep ones only. One mode stays
one mode, and the order of the coordinates counts: each depends on those before it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Whitening(ABC):
    """A map S of R^d onto itself."""

    dim: int

    @abstractmethod
    def outward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """S(z)."""

    @abstractmethod
    def inward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """S^-1(x)."""

    @abstractmethod
    def log_determinant(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log det DS(z)."""

    @abstractmethod
    def jacobian(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """DS(z), lower triangular."""

    @property
    @abstractmethod
    def mean(self) -> Float[Tensor, " d"]:
        """E S(Z), Z ~ N(0, I)."""

    @property
    def covariance(self) -> Float[Tensor, "d d"] | None:
        """Of S(Z); None where it is not known."""
        return None

    @abstractmethod
    def arrays(self) -> dict[str, Tensor]:
        """The numbers that make it, by name; the class takes them as keyword arguments."""


@dataclass(eq=False)
class Affine(Whitening):
    """S(z) = c + R z.

    Args:
        centre: c, shape (d,).
        root: R, lower triangular, shape (d, d).
    """

    centre: Float[Tensor, " d"]
    root: Float[Tensor, "d d"]

    def __post_init__(self) -> None:
        self.dim = len(self.centre)

    def outward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """c + R z."""
        return self.centre + z @ self.root.T

    def inward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """R^-1 (x - c)."""
        return torch.linalg.solve_triangular(self.root, (x - self.centre).T, upper=False).T

    def log_determinant(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log det R."""
        return self.root.diagonal().log().sum().expand(len(z))

    def jacobian(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """R."""
        return self.root.expand(len(z), -1, -1)

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """c."""
        return self.centre

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """R R'."""
        return self.root @ self.root.T

    def arrays(self) -> dict[str, Tensor]:
        """c and R."""
        return {"centre": self.centre, "root": self.root}


@dataclass(eq=False)
class Triangular(Whitening):
    """S_i(z) = m_i(z) + z_i exp(s_i(z)), both of the coordinates before i; s is linear, m has products of two besides.

    Args:
        shift: coefficients of m, shape (d, 1 + d + d(d + 1)/2): of 1, of z_i, and of z_i z_j for i <= j, those of
            z_i^2 - 1 for i = j.
        log_scale: of s, shape (d, 1 + d).
    """

    shift: Float[Tensor, "d p"]
    log_scale: Float[Tensor, "d q"]

    def __post_init__(self) -> None:
        self.dim = len(self.shift)

    @classmethod
    def identity(cls, dim: int) -> "Triangular":
        """S(z) = z."""
        terms = 1 + dim + dim * (dim + 1) // 2
        return cls(torch.zeros(dim, terms, dtype=torch.float64), torch.zeros(dim, 1 + dim, dtype=torch.float64))

    @staticmethod
    def free(dim: int) -> tuple[Bool[Tensor, "d p"], Bool[Tensor, "d q"]]:
        """Which of the coefficients are of coordinates before their own, and may be other than 0."""
        first, second = torch.triu_indices(dim, dim)
        before = torch.ones(dim, dim, dtype=torch.bool).tril(-1)
        always = torch.ones(dim, 1, dtype=torch.bool)
        linear = torch.cat([always, before], 1)
        return torch.cat([linear, before[:, first] & before[:, second]], 1), linear

    def outward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """S(z)."""
        return _terms(z) @ self.shift.T + z * self._logs(z).exp()

    def inward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """S^-1(x), coordinate by coordinate."""
        z = torch.zeros_like(x)
        for i in range(self.dim):  # rows i of the coefficients see no coordinate that is still 0
            shift = _terms(z) @ self.shift[i]
            z[:, i] = (x[:, i] - shift) * (-self._logs(z)[:, i]).exp()
        return z

    def log_determinant(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """sum_i s_i(z)."""
        return self._logs(z).sum(1)

    def jacobian(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """DS(z)."""
        d, scale = self.dim, self._logs(z).exp()
        first, second = torch.triu_indices(d, d)
        eye = torch.eye(d, dtype=z.dtype)
        products = z[:, first, None] * eye[second] + z[:, second, None] * eye[first]  # (n, q, d)
        bent = torch.einsum("iq,nqj->nij", self.shift[:, 1 + d :], products)
        grown = (z * scale)[:, :, None] * self.log_scale[:, 1:]
        return self.shift[:, 1 : 1 + d] + bent + grown + torch.diag_embed(scale)

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """E S(Z): all terms but the first have mean 0."""
        return self.shift[:, 0]

    def arrays(self) -> dict[str, Tensor]:
        """All coefficients."""
        return {"shift": self.shift, "log_scale": self.log_scale}

    def _logs(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """s(z)."""
        return self.log_scale[:, 0] + z @ self.log_scale[:, 1:].T


def _terms(z: Float[Tensor, "n d"]) -> Float[Tensor, "n p"]:
    """1, z_i, and z_i z_j, i <= j, about their means."""
    first, second = torch.triu_indices(z.shape[1], z.shape[1])
    return torch.cat([torch.ones_like(z[:, :1]), z, z[:, first] * z[:, second] - (first == second).to(z.dtype)], 1)
