"""The inverse of a convex potential's map, through its conjugate psi^c(x) = max_y <x, y> - psi(y).

The maximiser is the y with T(y) = x. Newton's method with backtracking, on all points at once: the objective is convex,
a step that does not lower psi(y) - <x, y> enough (Armijo) is halved, for each point by itself.
"""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.transport.mongeampere.potentials import Potential

MOST = 200  # Newton steps
DAMPING = 1e-10  # of the Hessian, over its largest diagonal element
ARMIJO = 1e-4
HALVINGS = 40


def inverse(
    potential: Potential,
    x: Float[Tensor, "n d"],
    start: Float[Tensor, "n d"] | None = None,
    tolerance: float = 1e-9,
    warn: bool = True,
    steps: int = MOST,
) -> Float[Tensor, "n d"]:
    """y with grad psi(y) = x, to `tolerance` of the spread of x.

    Args:
        potential: psi, convex.
        x: shape (n, d).
        start: first guesses. Default: x itself.
        tolerance: of |T(y) - x|, over the root mean square of x about its mean, or 1 if that is larger.
        warn: about points that were not found.
        steps: of Newton's method, at most.

    Warns:
        UserWarning: some points were not found: they are outside of the map's range, or where it all but jumps.
    """
    y = (x if start is None else start).clone()
    small = tolerance * max(1.0, float((x - x.mean(0)).square().mean().sqrt()) if len(x) else 1.0)
    going = torch.arange(len(x))
    with torch.no_grad():
        for _ in range(steps):
            residual = potential.gradient(y[going]) - x[going]
            going = going[~(residual.norm(dim=1) <= small)]
            if len(going) == 0:
                return y
            y[going] = _newton(potential, x[going], y[going])
        residual = potential.gradient(y[going]) - x[going]
    lost = int((~(residual.norm(dim=1) <= small)).sum())
    if lost and warn:
        warnings.warn(
            f"{lost} of {len(x)} points have no inverse that Newton's method finds: they are outside of the map's "
            "range, or where it all but jumps",
            stacklevel=2,
        )
    return y


def conjugate(potential: Potential, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """psi^c(x) at its maximiser y."""
    return (x * y).sum(1) - potential.value(y)


def _newton(potential: Potential, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    slope = potential.gradient(y) - x
    hessian = potential.hessian(y)
    damping = DAMPING * hessian.diagonal(dim1=1, dim2=2).amax(1) + torch.finfo(y.dtype).tiny
    hessian = hessian + damping[:, None, None] * torch.eye(potential.dim, dtype=y.dtype)
    step = -torch.linalg.solve(hessian, slope)
    fall = (slope * step).sum(1)
    now, size = potential.value(y) - (x * y).sum(1), torch.ones_like(fall)
    for _ in range(HALVINGS):
        there = y + size[:, None] * step
        high = potential.value(there) - (x * there).sum(1) > now + ARMIJO * size * fall + 1e-12 * now.abs()
        if not bool(high.any()):
            break
        size = torch.where(high, size / 2, size)
    return y + size[:, None] * step
