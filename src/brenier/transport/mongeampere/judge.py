"""How good an iterate is, measured on the way: W2 to the target with its floor, and Kantorovich's dual.

The dual value E psi(Y) + E psi^c(X) is least at Brenier's potential. Its excess over the minimum is the Bregman
divergence of the evolution variational inequality, see `flow`: it falls by eta (KL + reverse KL) a step, to leading
order. All iterates see the same points, so that differences between them have less noise than each value.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.distances.wasserstein import exact_w2
from brenier.transport.cost import Cost
from brenier.transport.mongeampere.conjugate import conjugate, inverse
from brenier.transport.mongeampere.discrepancy import Discrepancy, Exact, NotFinite
from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.potentials import Framed, Potential

POINTS = 512  # of each law
FLOORS = 4  # pairs of samples of the target, whose root mean square is the floor of W2


class Judge:
    """Holds points of both laws against each iterate.

    Args:
        reference, target: the laws.
        discrepancy: how h is measured.
        seed: of the points.
    """

    def __init__(self, reference: Marginal, target: Marginal, discrepancy: Discrepancy, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._exact = discrepancy if isinstance(discrepancy, Exact) else None
        self._y = reference.drawn(POINTS, generator)
        self._x = None if target.draw is None else target.draw(POINTS, generator)
        self._guess = self._x
        self.floor = math.nan
        if target.draw is not None:
            pairs = [exact_w2(target.draw(POINTS, generator), target.draw(POINTS, generator)) for _ in range(FLOORS)]
            self.floor = math.sqrt(math.fsum(pair.squared for pair in pairs) / FLOORS)

    def look(self, potential: Potential) -> dict[str, float]:
        """W2 and the dual, "w2" and "dual", where the target has points; "held_kl" where both laws have densities."""
        found: dict[str, float] = {}
        with torch.no_grad():
            if self._exact is not None:
                found = self._divergence(self._exact, potential)
            if self._x is None or self._guess is None:
                return found
            w2 = exact_w2(potential.gradient(self._y), self._x).value
            self._guess = inverse(potential, self._x, self._guess, warn=False)
            dual = float(potential.value(self._y).mean() + conjugate(potential, self._x, self._guess).mean())
        return found | {"w2": w2, "dual": dual}

    def _divergence(self, exact: Exact, potential: Potential) -> dict[str, float]:
        """KL on the held points; infinite where the target's log density is not finite at one of them."""
        try:
            h = exact.value(potential, self._y)
        except NotFinite:
            return {"held_kl": math.inf, "held_kl_se": math.nan}
        return {"held_kl": float(h.mean()), "held_kl_se": float(h.std() / len(h) ** 0.5)}


def cost(
    potential: Potential, y: Float[Tensor, "n d"], x: Float[Tensor, "n d"] | None, back: Float[Tensor, "n d"] | None
) -> Cost:
    """What the map pays at points of the reference, and what the potential vouches for; of whitened laws, if these are.

    Args:
        potential: psi.
        y: points of the reference.
        x: points of the target; None where there are none.
        back: where the map takes to x.
    """
    if isinstance(potential, Framed):
        y = potential.inward(y)
        x, back = (None if points is None else potential.inward(points) for points in (x, back))
        potential = potential.inner
    with torch.no_grad():
        paid = (y - potential.gradient(y)).square().sum(1)
        if x is None or back is None:
            return Cost.of(paid, torch.full_like(paid, math.nan))
        held = potential.value(y) + conjugate(potential, x, back)
        return Cost.of(paid, y.square().sum(1) + x.square().sum(1) - 2 * held)
