"""What drives the flow: h = log(rho_k/e^{-f}) on the points T_k(y), and its gradient in y.

rho_k is the law of T_k(Y), Y ~ e^{-g}. All that a step needs are h(T_k(y)) and

    grad_y [h(T_k(y))] = J_k(y) (grad h)(T_k(y)),        J_k = Hess psi_k.

*Exact.* Where both laws have densities, h(T_k(y)) = -g(y) - log det J_k(y) + f(T_k(y)) in closed form, f known up to a
constant. *Field.* grad h is given. What learns h or its gradient is in `learned`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.potentials import Potential


class NotFinite(ValueError):
    """A log density that is not finite where the flow has come to."""


@dataclass(frozen=True)
class Measured:
    """h on the points T(y).

    Attributes:
        gradient: of h(T(y)) in y, shape (n, d). NaN where psi is not convex.
        value: h(T(y)), shape (n,); None where only the gradient is known.
        figures: what was found out on the way, by name: "kl", KL(rho_k || e^{-f}) up to the constant in f, with
            "kl_se", its standard error; of a classifier "reverse_kl", "loss", "calibration"; of a score "loss".
    """

    gradient: Float[Tensor, "n d"]
    value: Float[Tensor, " n"] | None
    figures: dict[str, float] = field(default_factory=dict)


class Discrepancy(ABC):
    """A way to measure how far rho_k is from the target."""

    exact: bool
    """Whether it is free of noise but for that of the points."""

    @abstractmethod
    def measure(self, potential: Potential, y: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> Measured:
        """h at T(y), for y drawn from the reference, at step k."""


class Exact(Discrepancy):
    """h in closed form from two densities.

    Args:
        reference, target: the laws.
        annealed: steps in which the target is e^{-(1 - b) g - b f}, b from 0 to 1 as the square of time: modes part
            slowly then, and each gets its share, where the target itself would draw all to the nearest.

    Raises:
        ValueError: a law without one.
    """

    exact = True

    def __init__(self, reference: Marginal, target: Marginal, annealed: int = 0) -> None:
        for law in (reference, target):
            if law.log_density is None:
                raise ValueError(
                    f"{law.name} has no density: give a mixture, a function log_density, or learn from data"
                )
        self.reference, self.target, self.annealed = reference, target, annealed

    def measure(self, potential: Potential, y: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> Measured:
        """h at T(y), and its gradient in y."""
        share = min(1.0, (k + 1) / (self.annealed + 1)) ** 2
        with torch.enable_grad():
            y = y.detach().requires_grad_(True)
            value = self.value(potential, y, share)
            (gradient,) = torch.autograd.grad(value.sum(), y)
        value = value.detach()
        known = value[torch.isfinite(value)]
        error = float(known.std() / max(len(known), 1) ** 0.5) if len(known) > 1 else 0.0
        return Measured(gradient, value, {"kl": float(known.mean()), "kl_se": error})

    def value(self, potential: Potential, y: Float[Tensor, "n d"], share: float = 1.0) -> Float[Tensor, " n"]:
        """h(T(y)), of the target itself or of a `share` b of it; NaN where psi is not convex."""
        pushed = potential.gradient(y)
        target = self.target.log_at(pushed)
        if not bool(torch.isfinite(target).all()):
            at = pushed.detach()[~torch.isfinite(target)][0].tolist()
            place = ", ".join(f"{number:.4g}" for number in at[:4]) + (", ..." if len(at) > 4 else "")
            raise NotFinite(f"the log density of {self.target.name} is not finite at x = ({place})")
        if share < 1:
            target = share * target + (1 - share) * self.reference.log_at(pushed)
        return self.reference.log_at(y) - potential.log_determinant(y) - target


class Field(Discrepancy):
    """grad h as a function of points of the target space and of the step: m(x, k)."""

    exact = True

    def __init__(self, gradient: Callable[[Tensor, int], Tensor]) -> None:
        self.gradient = gradient

    def measure(self, potential: Potential, y: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> Measured:
        """h at T(y), and its gradient in y."""
        m = self.gradient(potential.gradient(y), k)
        return Measured(torch.einsum("nij,nj->ni", potential.hessian(y), m), None)
