"""Convex potentials psi on R^d, whose gradients are the maps: value, gradient and Hessian in closed form.

*Quadratic.*            psi(y) = y'Ay/2 + b'y
*Log-sum-exp network.*  psi(y) = y'Ay/2 + b'y + a s log sum_i exp(q_i(y)/s),   q_i(y) = |L_i'y|^2/2 + w_i'y + c_i

Every q_i is convex, and so is their log-sum-exp, with

    gradient    sum_i p_i (L_i L_i'y + w_i)              p = softmax(q/s)
    Hessian     sum_i p_i L_i L_i' + Cov_p(grad q)/s

A one-layer network that is convex in its input, and dense in the convex functions even with L = 0 (Calafiore, Gaubert,
Possieri, arXiv:1806.07850). For s -> 0 it is a maximum of quadratics, whose gradient jumps between affine maps: what
Brenier maps to laws in clusters look like. `a` is 0 until the quadratic part does not do.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.transport.mongeampere.whitening import Whitening


class Potential(ABC):
    """A function psi on R^d with its first two derivatives; y has shape (n, d). Values are differentiable by autograd.

    Attributes:
        dim: d.
    """

    dim: int

    @abstractmethod
    def value(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi(y), up to a constant."""

    @abstractmethod
    def gradient(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The map T(y) = grad psi(y)."""

    @abstractmethod
    def hessian(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """Hess psi(y), the Jacobian of the map."""

    @abstractmethod
    def arrays(self) -> dict[str, Tensor]:
        """The numbers that make it, by name; the class takes them as keyword arguments."""

    def log_determinant(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log det Hess psi(y); NaN where the Hessian is not positive definite."""
        hessian = self.hessian(y)
        if self.dim == 1:
            return hessian[:, 0, 0].log()
        factor, failed = torch.linalg.cholesky_ex(hessian)
        logs = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return torch.where(failed == 0, logs, torch.nan)

    def curvatures(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The smallest eigenvalue of Hess psi at each point."""
        with torch.no_grad():
            return torch.linalg.eigvalsh(self.hessian(y))[:, 0]

    def least_curvature(self, y: Float[Tensor, "n d"]) -> float:
        """The smallest eigenvalue of Hess psi over the points y."""
        return float(self.curvatures(y).min())


@dataclass(eq=False)
class _Parametric(Potential):
    """A potential that its fields make, y'Ay/2 + b'y among them."""

    A: Float[Tensor, "d d"]
    b: Float[Tensor, " d"]

    def __post_init__(self) -> None:
        self.dim = len(self.b)

    @property
    def quadratic(self) -> "Quadratic":
        """The quadratic part alone."""
        return Quadratic(self.A, self.b)

    def arrays(self) -> dict[str, Tensor]:
        """Its numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(eq=False)
class Quadratic(_Parametric):
    """psi(y) = y'Ay/2 + b'y.

    Args:
        A: symmetric, shape (d, d).
        b: shape (d,).
    """

    @classmethod
    def identity(cls, dim: int, dtype: torch.dtype = torch.float64) -> "Quadratic":
        """|y|^2/2, whose map leaves every point where it is."""
        return cls(torch.eye(dim, dtype=dtype), torch.zeros(dim, dtype=dtype))

    def value(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi(y)."""
        return ((y @ self.A) * y).sum(1) / 2 + y @ self.b

    def gradient(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y)."""
        return y @ self.A + self.b

    def hessian(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """Hess psi(y)."""
        return self.A.expand(len(y), -1, -1)


def fit_quadratic(
    y: Float[Tensor, "n d"], t: Float[Tensor, "n d"], weights: Float[Tensor, " n"] | None = None
) -> Quadratic:
    """The quadratic potential whose gradient is nearest to t: min E|Ay + b - t|^2 over symmetric A.

    With C = Cov(y) and M = Cov(y, t), A solves AC + CA = M + M'; exact for a t that is such a gradient itself, whatever
    the points, where they span R^d.
    """
    mass = torch.full_like(y[:, 0], 1 / len(y)) if weights is None else weights / weights.sum()
    centre, mean = mass @ y, mass @ t
    spread = y - centre
    weighted = mass[:, None] * spread
    values, axes = torch.linalg.eigh(weighted.T @ spread)
    cross = axes.T @ (weighted.T @ (t - mean)) @ axes
    slope = axes @ ((cross + cross.T) / (values[:, None] + values)) @ axes.T
    slope = (slope + slope.T) / 2
    return Quadratic(slope, mean - centre @ slope)


@dataclass(eq=False)
class ConvexNetwork(_Parametric):
    """psi(y) = y'Ay/2 + b'y + a s log sum_i exp(q_i(y)/s), q_i(y) = |L_i y|^2/2 + w_i'y + c_i.

    Args:
        A, b: of the quadratic part, shapes (d, d), positive semidefinite, and (d,).
        slopes: w, shape (m, d).
        offsets: c, shape (m,).
        factors: L, shape (m, r, d).
        amplitude: a >= 0, shape ().
        log_temperature: log s, shape ().
    """

    slopes: Float[Tensor, "m d"]
    offsets: Float[Tensor, " m"]
    factors: Float[Tensor, "m r d"]
    amplitude: Float[Tensor, ""]
    log_temperature: Float[Tensor, ""]

    @classmethod
    def start(cls, quadratic: Quadratic, units: int, rank: int, places: Float[Tensor, "m d"]) -> "ConvexNetwork":
        """A network that is `quadratic` still, with units that wait at `places` of the target space.

        With w_i = A y_i and c_i = -y_i'Ay_i/2 every unit is tangent to the quadratic part at y_i; a is 0.
        """
        A, b = quadratic.A, quadratic.b
        slopes = places @ A
        factors = places.new_zeros(units, rank, quadratic.dim)
        factors[:, torch.arange(rank), torch.arange(rank)] = 0.1 * torch.linalg.eigvalsh(A)[0].clamp(min=0).sqrt()
        zero = places.new_zeros(())
        return cls(A, b, slopes, -(slopes * places).sum(1) / 2, factors, zero, zero)

    @classmethod
    def mean(cls, networks: Sequence["ConvexNetwork"], weights: Sequence[float]) -> "ConvexNetwork":
        """The network with the mean parameters of some that differ little; convex as they are."""
        share = torch.tensor(weights, dtype=networks[0].A.dtype)
        parts = [network.arrays() for network in networks]
        stacked = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        return cls(**{name: torch.tensordot(share / share.sum(), part, 1) for name, part in stacked.items()})

    def value(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi(y)."""
        scale = self.amplitude * self.log_temperature.exp()
        return self.quadratic.value(y) + scale * self._heights(y, self._curvatures()).logsumexp(1)

    def gradient(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y)."""
        return self.quadratic.gradient(y) + self.both(y)[1]

    def both(self, y: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"]]:
        """Value and gradient, of the units alone, for less than both apart."""
        curvatures = self._curvatures()
        q = self._heights(y, curvatures)
        p = q.softmax(1)
        mean = (p @ curvatures.flatten(1)).view(len(y), self.dim, self.dim)
        slope = (mean @ y[:, :, None])[:, :, 0] + p @ self.slopes
        return self.amplitude * self.log_temperature.exp() * q.logsumexp(1), self.amplitude * slope

    def hessian(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """Hess psi(y)."""
        curvatures = self._curvatures()
        p = self._heights(y, curvatures).softmax(1)
        slopes = (y @ curvatures.flatten(0, 1).T).view(len(y), -1, self.dim) + self.slopes
        slopes = slopes - (p[:, :, None] * slopes).sum(1, keepdim=True)
        between = (p[:, :, None] * slopes).mT @ slopes * (-self.log_temperature).exp()
        within = (p @ curvatures.flatten(1)).view_as(between)
        return self.A + self.amplitude * (within + between)

    def _curvatures(self) -> Float[Tensor, "m d d"]:
        """L_i L_i', the second derivatives of the q_i."""
        return self.factors.mT @ self.factors

    def _heights(self, y: Float[Tensor, "n d"], curvatures: Float[Tensor, "m d d"]) -> Float[Tensor, "n m"]:
        """q_i(y)/s."""
        products = (y[:, :, None] * y[:, None]).flatten(1)
        q = products @ curvatures.flatten(1).T / 2 + y @ self.slopes.T + self.offsets
        return q * (-self.log_temperature).exp()


@dataclass(eq=False)
class Features(_Parametric):
    """psi(y) = y'Ay/2 + b'y + sum_j theta_j exp(-|y - c_j|^2/(2 l^2)): linear in all its coefficients.

    Args:
        A, b: of the quadratic part, shapes (d, d) and (d,).
        centres: c, shape (m, d).
        width: l, shape ().
        theta: shape (m,).
    """

    centres: Float[Tensor, "m d"]
    width: Float[Tensor, ""]
    theta: Float[Tensor, " m"]

    def value(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi(y)."""
        return self.quadratic.value(y) + self.bumps(y) @ self.theta

    def gradient(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y)."""
        weighted = self.bumps(y) * self.theta
        pull = weighted @ self.centres - weighted.sum(1, keepdim=True) * y
        return y @ self.A + self.b + pull / self.width**2

    def hessian(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """Hess psi(y)."""
        weighted = self.bumps(y) * self.theta
        total, first = weighted.sum(1)[:, None, None], weighted @ self.centres
        second = (weighted @ (self.centres[:, :, None] * self.centres[:, None]).flatten(1)).view(-1, self.dim, self.dim)
        cross = y[:, :, None] * first[:, None]
        outer = total * y[:, :, None] * y[:, None] - cross - cross.mT + second
        return self.A + (outer / self.width**2 - total * torch.eye(self.dim, dtype=y.dtype)) / self.width**2

    def bumps(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """exp(-|y - c_j|^2/(2 l^2)), shape (n, m)."""
        squared = y.square().sum(1, keepdim=True) + self.centres.square().sum(1) - 2 * y @ self.centres.T
        return (-squared / (2 * self.width**2)).exp()


@dataclass(eq=False)
class _Wrapped(Potential):
    """A potential that is made of another, `inner`, between other laws."""

    inner: Potential

    def __post_init__(self) -> None:
        self.dim = self.inner.dim

    def arrays(self) -> dict[str, Tensor]:
        """The numbers of `inner` by name."""
        return self.inner.arrays()


@dataclass(eq=False)
class Standardised(_Wrapped):
    """psi of a potential between standardised laws: T(y) = m + s T'((y - m0)/s0), T' the gradient of `inner`.

    Args:
        inner: psi', between (Y - m0)/s0 and (X - m)/s.
        centre: m0, shape (d,).
        unit: s0.
        target_centre: m, shape (d,).
        target_unit: s.
    """

    centre: Tensor
    unit: float
    target_centre: Tensor
    target_unit: float

    def value(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi(y)."""
        return self.unit * self.target_unit * self.inner.value(self._inward(y)) + y @ self.target_centre

    def gradient(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y)."""
        return self.target_unit * self.inner.gradient(self._inward(y)) + self.target_centre

    def hessian(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """Hess psi(y)."""
        return self.target_unit / self.unit * self.inner.hessian(self._inward(y))

    def _inward(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (y - self.centre) / self.unit


@dataclass(eq=False)
class Framed(_Wrapped):
    """The map between laws that went through S^-1 both: T(x) = S(T'(S^-1(x))), T' that of `inner`.

    The optimal one for the cost |S^-1(x) - S^-1(y)|^2. Unless S is affine, its linear part a multiple of a rotation, it
    is no gradient: `value` and `curvatures` are those of `inner`.

    Args:
        inner: psi', between the whitened laws.
        whitening: S.
    """

    whitening: Whitening

    def value(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi' where y is after whitening."""
        return self.inner.value(self.inward(y))

    def gradient(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y)."""
        return self.outward(self.inner.gradient(self.inward(y)))

    def hessian(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """The Jacobian of the map, DS Hess psi' (DS)^-1, each where it belongs."""
        z = self.inward(y)
        before, after = self.whitening.jacobian(z), self.whitening.jacobian(self.inner.gradient(z))
        turned = torch.linalg.solve_triangular(before, self.inner.hessian(z), upper=False, left=False)
        return after @ turned

    def log_determinant(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log det of the Jacobian; NaN where Hess psi' is not positive definite."""
        z = self.inward(y)
        grown = self.whitening.log_determinant(self.inner.gradient(z)) - self.whitening.log_determinant(z)
        return self.inner.log_determinant(z) + grown

    def curvatures(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The smallest eigenvalue of Hess psi' at each point."""
        return self.inner.curvatures(self.inward(y))

    def inward(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """S^-1(y)."""
        return self.whitening.inward(y)

    def outward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """S(z)."""
        return self.whitening.outward(z)


KINDS: dict[str, type[Potential]] = {"quadratic": Quadratic, "network": ConvexNetwork, "features": Features}


def detached(potential: Potential) -> Potential:
    """A copy that shares no memory and no graph."""
    arrays: dict[str, Any] = {name: value.detach().clone() for name, value in potential.arrays().items()}
    return type(potential)(**arrays)
