"""The triangular map that fits a density best: sup of E log rho~(S(Z)) + log det DS(Z), the negative of KL up to log Z.

Points of N(0, I) are kept and evenly spread, so that the mean over them is a function with a gradient, which L-BFGS
climbs: over few points first, then over many from there.
"""

from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from brenier.transport.mongeampere.marginal import Marginal, image, standard_normal
from brenier.transport.mongeampere.whitening import Triangular

ROUNDS = (512, 4096)  # points of N(0, I), in turn
STEPS = 200  # of L-BFGS in each
MEMORY = 20


def triangular(law: Marginal, seed: int = 0) -> Marginal:
    """The image of N(0, I) under the map of `fit_triangular`, which whitens it."""
    return image("triangular", fit_triangular(law, seed))


def fit_triangular(law: Marginal, seed: int = 0) -> Triangular:
    """The triangular map that KL(S(Z) || law) is least for, on evenly spread points, from the identity on.

    Args:
        law: with a density, up to a constant.
        seed: of the points.

    Raises:
        ValueError: no density, or one that is not finite on the points of N(0, I).
    """
    if law.log_density is None:
        raise ValueError(f'{law.name} has no density, and a reference "triangular" is fitted to one')
    base, start, free = standard_normal(law.dim), Triangular.identity(law.dim), Triangular.free(law.dim)
    count = int(free[0].sum())

    def made(flat: Tensor) -> Triangular:
        return Triangular(
            start.shift.masked_scatter(free[0], flat[:count]), start.log_scale.masked_scatter(free[1], flat[count:])
        )

    found = np.zeros(count + int(free[1].sum()))
    for points in ROUNDS:
        z = base.evenly(points, seed)

        def divergence(at: Any, z: Tensor = z) -> tuple[float, Any]:
            with torch.enable_grad():
                flat = torch.tensor(at, dtype=torch.float64, requires_grad=True)
                one = made(flat)
                value = -(law.log_at(one.outward(z)) + one.log_determinant(z)).mean()
                (slope,) = torch.autograd.grad(value, flat)
            if not bool(torch.isfinite(value)) or not bool(torch.isfinite(slope).all()):
                return np.inf, np.zeros_like(at)  # a step too far, which is taken back
            return float(value.detach()), slope.numpy()

        if not np.isfinite(divergence(found)[0]):
            raise ValueError(
                f'the log density of {law.name} is not finite all over N(0, I), where a reference "triangular" starts'
            )
        with np.errstate(invalid="ignore", over="ignore"):
            result: Any = optimize.minimize(
                divergence, found, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": MEMORY}
            )
        found = result.x
    return made(torch.from_numpy(found))
