"""The parabolic Monge-Ampère iteration, psi_{k+1} = psi_k - eta_k h(T_k), h = log(rho_k/e^{-f}) (arXiv:2504.09279).

It is mirror descent for KL(. || e^{-f}) in the geometry of Brenier maps from e^{-g}. With the Bregman divergence

    D(psi) = int (psi - psi*) de^{-g} + int (psi^c - psi*^c) de^{-f} >= 0      psi* the limit, ^c the convex conjugate

(the suboptimality of psi in Kantorovich's dual), the continuous flow has d D/dt = -KL(rho_t || e^{-f}) - KL(e^{-f} ||
rho_t): differentiate, with d psi^c/dt = h. That is the evolution variational inequality at the target, and why averages
of KL over t up to T are below D(psi_0)/T, log-concave target or not. Steps add a term of order eta^2/inf Hess psi.

A step that makes psi lose its convexity on the points at hand is halved until it does not. Where T is steep, gradients
may be far larger than elsewhere. They are not cut, which would leave something that is no gradient: they lose weight in
the fit (`trusted`).
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.transport.mongeampere.discrepancy import Discrepancy, Exact, Measured, NotFinite
from brenier.transport.mongeampere.fits import Aim, Fit, trusted
from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.potentials import Potential

HALVINGS = 30  # of one step, after which no step keeps the potential convex


class Diverged(ValueError):
    """The flow cannot go on; the last good iterate is kept."""


@dataclass(frozen=True)
class Iterate:
    """One step of the flow.

    Attributes:
        number: k, of the potential after the step: 1 for the first.
        potential: psi_k.
        eta: the step that was taken.
        halvings: how often it was halved to keep the potential convex.
        displacement: root mean square of eta J grad h, what the step asked for.
        curvature: least eigenvalue of Hess psi_k on the step's points.
        fall: of the mean of h over the step's points; None where it was not looked at.
        figures: what was measured at psi_{k-1}, see `Measured`.
    """

    number: int
    potential: Potential
    eta: float
    halvings: int
    displacement: float
    curvature: float
    fall: float | None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass
class Stop:
    """When to stop before the last step.

    Attributes:
        tolerance: fall of KL in a step, over its size where that is below 1.
        begun: when, by the monotonic clock.
        limit: seconds that it may take.
    """

    tolerance: float
    begun: float
    limit: float

    @property
    def seconds(self) -> float:
        """Since the fit was begun."""
        return time.monotonic() - self.begun

    def reached(self, step: Iterate) -> Literal["tolerance", "minutes"] | None:
        """Why to stop after this step; None to go on."""
        if step.fall is not None and step.fall <= self.tolerance * min(1.0, step.eta):
            return "tolerance"
        return "minutes" if self.seconds > self.limit else None


def iterate(
    potential: Potential,
    reference: Marginal,
    discrepancy: Discrepancy,
    fit: Fit,
    etas: Sequence[float],
    points: int,
    limit: float,
    generator: torch.Generator,
    fixed: tuple[Float[Tensor, "n d"], Float[Tensor, " n"]] | None = None,
    descend: bool = False,
    first: int = 0,
) -> Iterator[Iterate]:
    """Step by step.

    Args:
        potential: psi_0.
        reference: e^{-g}, whose points each step is fitted on.
        discrepancy: how h is measured.
        fit: how the next potential is found.
        etas: eta_k for all k.
        points: of the reference, in a step.
        limit: displacement beyond which gradients lose weight.
        generator: of all random numbers.
        fixed: the same points for every step, and their mass in averages, sum 1. Default: fresh ones.
        descend: halve steps until the mean of h falls, too, and end where none does: for exact h on fixed points.
        first: k of the first step: those before were taken already.

    Raises:
        Diverged: numbers that are not finite, or no step that keeps the potential convex.
    """
    largest, shrunk = max(etas, default=1.0), 1.0
    for k in range(first, len(etas)):
        y = reference.drawn(points, generator) if fixed is None else fixed[0]
        mass = torch.full_like(y[:, 0], 1 / len(y)) if fixed is None else fixed[1]
        try:
            measured = discrepancy.measure(potential, y, k, generator)
        except NotFinite as error:
            raise Diverged(f"step {k + 1}: {error}") from None
        _check(measured, k)
        shrunk = min(1.0, 2 * shrunk)
        halvings = 0
        while True:
            eta = etas[k] * shrunk
            aim = _aim(potential, y, mass, measured, eta, limit)
            after = fit.next(potential, aim, eta / largest, generator)
            curvature = after.least_curvature(y)
            fall = _fall(discrepancy, after, y, mass, measured) if descend and curvature > 0 else None
            if curvature > 0 and (fall is None or fall > 0):
                break
            if halvings == HALVINGS and curvature > 0:
                return
            if halvings == HALVINGS:
                raise Diverged(f"step {k + 1}: the potential is not convex after a step of {eta:.1g} either")
            shrunk, halvings = shrunk / 2, halvings + 1
        potential = after
        yield Iterate(k + 1, potential, eta, halvings, aim.step, curvature, fall, _figures(measured, mass))


def _fall(discrepancy: Discrepancy, after: Potential, y: Tensor, mass: Tensor, before: Measured) -> float:
    """By how much the mean of h on these points, KL(rho || e^{-f}) up to noise, is less after a step."""
    assert isinstance(discrepancy, Exact)
    assert before.value is not None
    with torch.no_grad():
        try:
            return float(mass @ (before.value - discrepancy.value(after, y)))
        except NotFinite:
            return -math.inf


def _figures(measured: Measured, mass: Float[Tensor, " n"]) -> dict[str, float]:
    """What was measured, the mean of an exact h with the points' mass."""
    if measured.value is None or set(measured.figures) != {"kl", "kl_se"}:
        return measured.figures
    mean = mass @ measured.value
    error = (mass.square() @ (measured.value - mean).square()).sqrt()
    return {"kl": float(mean), "kl_se": float(error)}


def _check(measured: Measured, k: int) -> None:
    finite = bool(torch.isfinite(measured.gradient).all())
    if not finite or (measured.value is not None and not bool(torch.isfinite(measured.value).all())):
        raise Diverged(f"step {k + 1}: log(rho/e^-f) is not finite on the points that the flow has come to")


def _aim(potential: Potential, y: Tensor, mass: Tensor, measured: Measured, eta: float, limit: float) -> Aim:
    with torch.no_grad():
        step = eta * measured.gradient
        value = None if measured.value is None else potential.value(y) - eta * measured.value
        aim = Aim(
            y,
            potential.gradient(y) - step,
            value,
            torch.ones_like(mass),
            math.sqrt(float(mass @ step.square().sum(1))),
            eta,
            measured.value,
            mass,
        )
    return trusted(aim, step, limit)
