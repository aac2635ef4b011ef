"""Entropic transport by Sinkhorn's iteration, in POT's convention.

Between weighted points y_i, a_i (the reference mu) and x_j, b_j (the target nu), the coupling of least

    E|Y - X|^2 + reg KL(pi | mu x nu)    is    pi_ij = a_i b_j exp((<y_i, x_j> - psi_i - phi_j)/(reg/2))

and Sinkhorn's iteration fits one marginal after the other, first the target's:

    phi(x) = reg/2 log sum_i a_i exp((<y_i, x> - psi_i)/(reg/2))
    psi(y) = reg/2 log sum_j b_j exp((<y, x_j> - phi_j)/(reg/2))

Both are convex functions on all of R^d; grad psi(y) = E[X | Y = y] is the barycentric map, Brenier's for reg -> 0. The
dual potentials of POT are |y|^2 - 2 psi and |x|^2 - 2 phi.

Samples that lie far from zero are moved there, y by p and x by q: the coupling stays what it is, and psi(y) becomes
psi(y - p) + <y - p, q>.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import whole_number
from brenier.core.points import Numbers, arrays_too, as_points, as_tensor
from brenier.laws.base import far

_LARGEST = 2**25  # entries of the coupling: a quarter of a GiB
_BLOCK = 2**22
_ROUGH = 1e-3  # marginal error at which larger reg have done what they can for a smaller one


@dataclass(frozen=True)
class Entropic:
    """An entropic coupling of two weighted samples. All in float64.

    Attributes:
        reference, reference_weights: y (n, d), less p, and a (n,), sum 1.
        target, target_weights: x (m, d), less q, and b (m,), sum 1.
        origins: p and q: the samples' means where these are far from zero, else 0.
        reg: in squared units of the data.
        psi, phi: potentials at `reference`, shape (n,), and at `target`, shape (m,).
        iterations: how many were made.
        marginal_error: sum_j |sum_i pi_ij - b_j|; the other marginal is right to rounding.
    """

    reference: Float[Tensor, "n d"]
    reference_weights: Float[Tensor, " n"]
    target: Float[Tensor, "m d"]
    target_weights: Float[Tensor, " m"]
    origins: tuple[Float[Tensor, " d"], Float[Tensor, " d"]]
    reg: float
    psi: Float[Tensor, " n"]
    phi: Float[Tensor, " m"]
    iterations: int
    marginal_error: float

    @arrays_too()
    def potential(self, y: Float[Tensor, "k d"]) -> Float[Tensor, " k"]:
        """psi at any points: reg/2 log sum_j b_j exp((<y, x_j> - phi_j)/(reg/2))."""
        origin, end = self.origins
        y = y.double() - origin
        blocks = self._scores(y, self.target, self.target_weights, self.phi)
        return torch.cat([self.reg / 2 * scores.logsumexp(1) for scores in blocks]) + y @ end

    @arrays_too()
    def map(self, y: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """The barycentric map E[X | Y = y] = grad psi(y), at any points."""
        origin, end = self.origins
        blocks = self._scores(y.double() - origin, self.target, self.target_weights, self.phi)
        return torch.cat([scores.softmax(1) @ self.target for scores in blocks]) + end

    @arrays_too()
    def inverse(self, x: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """The barycentric map back, E[Y | X = x], at any points; the inverse of `map` only for reg -> 0."""
        end, origin = self.origins
        blocks = self._scores(x.double() - origin, self.reference, self.reference_weights, self.psi)
        return torch.cat([scores.softmax(1) @ self.reference for scores in blocks]) + end

    def plan(self) -> Float[Tensor, "n m"]:
        """The coupling pi."""
        scores = (self.reference @ self.target.T - self.psi[:, None] - self.phi) / (self.reg / 2)
        return self.reference_weights[:, None] * self.target_weights * scores.exp()

    def value(self) -> float:
        """The minimum of E|Y - X|^2 + reg KL(pi | mu x nu), from the potentials; before convergence, less."""
        f = self.reference.square().sum(1) - 2 * self.psi
        g = self.target.square().sum(1) - 2 * self.phi
        apart = self.origins[0] - self.origins[1]
        means = self.reference_weights @ self.reference - self.target_weights @ self.target
        return float(self.reference_weights @ f + self.target_weights @ g + (2 * means + apart) @ apart)

    def _scores(self, points: Tensor, others: Tensor, weights: Tensor, potential: Tensor) -> list[Tensor]:
        """Logarithms of the coupling's weights between points (k, d) and one of the samples, up to a constant a row."""
        shifts = weights.log() - potential / (self.reg / 2)
        blocks = points.split(max(1, _BLOCK // len(others)))
        return [block @ others.T / (self.reg / 2) + shifts for block in blocks]


def sinkhorn(
    reference: Numbers,
    target: Numbers,
    *,
    reg: float,
    reference_weights: Numbers | None = None,
    target_weights: Numbers | None = None,
    iterations: int | None = None,
    tolerance: float = 1e-6,
    start: Numbers | None = None,
    anneal: float | None = None,
    most: int = 10_000,
) -> Entropic:
    """Sinkhorn's iteration on logarithms (POT), for the cost |x - y|^2.

    A law with a density is a grid: its points with weights density times volume. It resolves reg where points lie
    no further apart than sqrt(reg/2 times the least eigenvalue of Hess phi, or Hess psi).

    Args:
        reference: y, shape (n, d).
        target: x, shape (m, d).
        reg: in squared units of the data.
        reference_weights: a, positive, shape (n,); they are normalised. Default: equal.
        target_weights: b, shape (m,).
        iterations: how many to make. Default: until `tolerance`.
        tolerance: error of the target's marginal, summed over points, to stop at.
        start: psi at the points of the reference. Default: 0; |y|^2/2 is that of the identity.
        anneal: a larger reg to begin with, halved until `reg`; each starts from the psi of the one before,
            which saves iterations where reg is small.
        most: iterations allowed for each reg.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, weights that are not positive, more than 2^25
            pairs, arguments out of range.
        RuntimeError: the tolerance was not reached.
    """
    y, x = (
        as_points(points, name, dtype=torch.float64, device="cpu")
        for points, name in ((reference, "reference"), (target, "target"))
    )
    if y.shape[1] != x.shape[1]:
        raise ValueError(f"the reference is in {y.shape[1]} dimensions and the target in {x.shape[1]}")
    if len(y) * len(x) > _LARGEST:
        raise ValueError(f"{len(y)} x {len(x)} points make too large a coupling: 2^25 pairs at most")
    a, b = _weights(reference_weights, len(y), "reference"), _weights(target_weights, len(x), "target")
    (y, origin), (x, end) = _moved(y, a), _moved(x, b)
    if not (0 < reg < math.inf and 0 < tolerance < math.inf):
        raise ValueError(f"reg and tolerance must be positive and finite, got {reg} and {tolerance}")
    if anneal is not None and (iterations is not None or not reg < anneal < math.inf):
        raise ValueError(f"anneal is a reg above {reg:g}, without a number of iterations, got {anneal}")
    psi = torch.zeros_like(a) if start is None else as_tensor(start, "start").to("cpu", torch.float64)
    if psi.shape != a.shape or not bool(torch.isfinite(psi).all()):
        raise ValueError(f"start must hold {len(y)} finite numbers, one for each point of the reference")
    psi = psi - y @ end
    steps = whole_number(most if iterations is None else iterations, "most" if iterations is None else "iterations", 1)
    halvings = 0 if anneal is None else math.ceil(math.log2(anneal / reg))
    stages = [(anneal or reg) / 2**k for k in range(halvings)]
    phi, total = torch.zeros_like(b), 0
    for stage in [*stages, reg]:
        goal = None if iterations is not None else tolerance if stage == reg else max(tolerance, _ROUGH)
        phi, psi, made = _iterate(y, a, x, b, stage / 2, psi, steps, goal)
        total += made
    found = Entropic(y, a, x, b, (origin, end), float(reg), psi, phi, total, 0.0)
    error = float((found.plan().sum(0) - b).abs().sum())
    if iterations is None and error > tolerance:
        raise RuntimeError(
            f"Sinkhorn's iteration stopped after {steps} steps with marginal error {error:.2g}: "
            f"take more steps, a larger reg than {reg:g}, or anneal"
        )
    return replace(found, marginal_error=error)


def _iterate(
    y: Tensor, a: Tensor, x: Tensor, b: Tensor, epsilon: float, psi: Tensor, steps: int, tolerance: float | None
) -> tuple[Tensor, Tensor, int]:
    """phi, psi and the number of iterations, until the tolerance or for so many steps; epsilon is reg/2."""
    import ot  # seconds to import: only who needs it waits

    stop = -1.0 if tolerance is None else tolerance / math.sqrt(len(b))  # POT's error is a Euclidean norm
    # POT's v belongs to the target and is fitted first: what it is given for it does not matter.
    first = (a.log() - psi / epsilon, torch.zeros_like(b))
    cost = -(y @ x.T)
    solution: Any = ot.bregman.sinkhorn_log(
        a, b, cost, epsilon, numItermax=steps, stopThr=stop, log=True, warn=False, warmstart=first
    )
    log = solution[1]
    u, v = log["log_u"], log["log_v"]
    return epsilon * (b.log() - v), epsilon * (a.log() - u), int(log["niter"]) + 1


def _moved(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Points less their mean, and the mean, where that is far from zero beside their deviation."""
    mean = weights @ points
    centred = points - mean
    if far(mean, math.sqrt(float(weights @ centred.square().sum(1)))):
        return centred, mean
    return points, torch.zeros_like(mean)


def _weights(weights: Numbers | None, n: int, name: str) -> Tensor:
    if weights is None:
        return torch.full((n,), 1 / n, dtype=torch.float64)
    found = as_tensor(weights, f"the weights of the {name}").to("cpu", torch.float64)
    if found.shape != (n,) or not bool((torch.isfinite(found) & (found > 0)).all()):
        raise ValueError(
            f"the weights of the {name} must be {n} positive finite numbers: leave out points of no weight"
        )
    return found / found.sum()
