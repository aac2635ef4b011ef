"""The two ends of a transport, as a flow knows them: densities, where there are any, and points.

The reference e^{-g} is sampled and, for exact steps, has a density. The target e^{-f} has a density, maybe up to a
factor, or points, or both. `laws` makes them of what users give.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from brenier.transport.mongeampere.whitening import Affine, Whitening

LogDensity: TypeAlias = Callable[[Tensor], Tensor]
Draw: TypeAlias = Callable[[int, torch.Generator], Tensor]

STRETCH = 1.6  # of half of the points that cover a law
RADIUS, NEAR = 1e300, 1e-6  # of the search for a mode: longest step; squared distance of its end, in deviations
TINY = 1e-9  # Sobol's points may be 0 in single precision


@dataclass(frozen=True)
class Marginal:
    """A law on R^d, as far as it is known. All of it in float64.

    Attributes:
        name: for messages.
        dim: d.
        log_density: (n, d) -> (n,), differentiable by autograd; None where there is none.
        normalised: whether the density integrates to 1.
        draw: n points of shape (n, d), from a generator; None where none can be drawn.
        mean, covariance: of the law, shapes (d,) and (d, d); None where unknown.
        spread: n points from a seed that average better than independent ones; None where there are none.
        shape: of a point before it was flattened; None for (d,).
        whitening: S, of which it is the image of N(0, I), where it was found as that.
    """

    name: str
    dim: int
    log_density: LogDensity | None
    normalised: bool
    draw: Draw | None
    mean: Float[Tensor, " d"] | None
    covariance: Float[Tensor, "d d"] | None
    spread: Callable[[int, int], Tensor] | None = None
    shape: tuple[int, ...] | None = None
    whitening: Whitening | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a point before it was flattened."""
        return (self.dim,) if self.shape is None else self.shape

    def drawn(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """n points, of a law that can be sampled."""
        assert self.draw is not None
        return self.draw(n, generator)

    def log_at(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The log density at x, of a law that has one."""
        assert self.log_density is not None
        return self.log_density(x)

    def even(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """n points for averages: evenly spread ones where the law has them, else drawn ones."""
        if self.spread is None:
            return self.drawn(n, generator)
        return self.evenly(n, int(torch.randint(2**31, (), generator=generator)))

    def evenly(self, n: int, seed: int) -> Float[Tensor, "n d"]:
        """n evenly spread points, of a law that has them."""
        assert self.spread is not None
        return self.spread(n, seed)


def standard_normal(dim: int) -> Marginal:
    """N(0, I) on R^d."""

    def log_density(x: Tensor) -> Tensor:
        return -(x.square().sum(1) + dim * math.log(2 * math.pi)) / 2

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, dim, generator=generator, dtype=torch.float64)

    def spread(n: int, seed: int) -> Tensor:
        uniform = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed).draw(n, dtype=torch.float64)
        return torch.special.ndtri(uniform.clamp(TINY, 1 - TINY))

    eye = torch.eye(dim, dtype=torch.float64)
    return Marginal("normal", dim, log_density, True, draw, torch.zeros(dim, dtype=torch.float64), eye, spread)


def image(name: str, whitening: Whitening) -> Marginal:
    """The law of S(Z), Z ~ N(0, I), which S whitens."""
    base = standard_normal(whitening.dim)

    def log_density(x: Tensor) -> Tensor:
        z = whitening.inward(x)
        return base.log_at(z) - whitening.log_determinant(z)

    return Marginal(
        name,
        whitening.dim,
        log_density,
        True,
        lambda n, generator: whitening.outward(base.drawn(n, generator)),
        whitening.mean,
        whitening.covariance,
        lambda n, seed: whitening.outward(base.evenly(n, seed)),
        whitening=whitening,
    )


def unknown(name: str, dim: int) -> Marginal:
    """A law of which a file says no more than this."""
    return Marginal(name, dim, None, False, None, None, None)


def laplace(law: Marginal) -> Marginal:
    """The normal law with the mode of a density as its mean and its curvature there: Laplace's approximation.

    The mode is looked for from the origin, by Newton's method in a trust region.

    Raises:
        ValueError: no density, or none that has a mode with a positive definite -Hess log density.
    """
    if law.log_density is None:
        raise ValueError(f'{law.name} has no density, and a reference "laplace" is the normal law at its mode')
    log_density = law.log_density
    lost = ValueError(
        f"{law.name} has no mode with a curvature, looked for from the origin: give a reference that covers it"
    )

    def minus(x: Tensor) -> Tensor:
        return -log_density(x[None])[0]

    def value_and_slope(x: Any) -> tuple[float, Any]:
        with torch.enable_grad():
            at = torch.as_tensor(x, dtype=torch.float64).requires_grad_(True)
            value = minus(at)
            (slope,) = torch.autograd.grad(value, at)
        return float(value.detach()), slope.numpy()

    def hessian(x: Any) -> Tensor:
        with torch.enable_grad():
            found = torch.autograd.functional.hessian(minus, torch.as_tensor(x, dtype=torch.float64))
        assert isinstance(found, Tensor)
        if not bool(torch.isfinite(found).all()):
            raise lost
        return found

    with np.errstate(over="ignore", invalid="ignore"):  # a step into the tails, which is taken back
        found: Any = optimize.minimize(
            value_and_slope,
            np.zeros(law.dim),
            jac=True,
            hess=lambda x: hessian(x).numpy(),
            method="trust-exact",
            options={"max_trust_radius": RADIUS},
        )
    curved, slope = hessian(found.x), torch.from_numpy(value_and_slope(found.x)[1])
    values = torch.linalg.eigvalsh(curved)
    if not float(values[0]) > 1e-12 * float(values[-1]) or not float(slope @ torch.linalg.solve(curved, slope)) < NEAR:
        raise lost
    mode = torch.from_numpy(found.x)
    return image("laplace", Affine(mode, torch.linalg.cholesky(torch.linalg.inv(curved))))


def whitened(law: Marginal, whitening: Whitening) -> Marginal:
    """The law of S^-1(X), for a density that nothing else is known of."""
    assert law.draw is None

    def log_density(z: Tensor) -> Tensor:
        return law.log_at(whitening.outward(z)) + whitening.log_determinant(z)

    return Marginal(law.name, law.dim, log_density, law.normalised, None, None, None)


def standardised(law: Marginal, centre: Float[Tensor, " d"], unit: float) -> Marginal:
    """The law of (X - centre)/unit."""
    log_density, draw, spread, log_unit = law.log_density, law.draw, law.spread, law.dim * math.log(unit)
    return Marginal(
        law.name,
        law.dim,
        None if log_density is None else lambda x: log_density(centre + unit * x) + log_unit,
        law.normalised,
        None if draw is None else lambda n, generator: (draw(n, generator) - centre) / unit,
        None if law.mean is None else (law.mean - centre) / unit,
        None if law.covariance is None else law.covariance / unit**2,
        None if spread is None else lambda n, seed: (spread(n, seed) - centre) / unit,
    )


def covering(law: Marginal, n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """n points and their mass for averages over a law, which reach further out than it does itself.

    Half are points of the law, half are pulled apart about its mean by `STRETCH`. With mass in proportion to density
    over density of that mixture their averages are the law's (importance sampling, weights up to 2), and functions that
    are fitted on them are held where the law has next to no points. Without a density: points of the law alone.
    """
    y = law.even(n, generator)
    if law.log_density is None or law.mean is None:
        return y, torch.full_like(y[:, 0], 1 / n)
    half = n // 2  # of a Sobol sequence, each half is even; every second point is not
    y[:half] = law.mean + STRETCH * (y[:half] - law.mean)
    own = law.log_density(y)
    wide = law.log_density(law.mean + (y - law.mean) / STRETCH) - law.dim * math.log(STRETCH)
    return y, torch.softmax(own - torch.logaddexp(own, wide), 0)


def centre_and_unit(law: Marginal, standardise: bool) -> tuple[Float[Tensor, " d"], float]:
    """Mean, and root of the mean variance; 0 and 1 where they are unknown or not asked for."""
    if not standardise or law.mean is None or law.covariance is None:
        return torch.zeros(law.dim, dtype=torch.float64), 1.0
    variance = float(law.covariance.diagonal().mean())
    if not variance > 1e-24 * float(law.mean.square().max()):  # equal points leave the rounding of their mean
        raise ValueError(f"{law.name} is a single point: there is no map with a density to it")
    return law.mean, math.sqrt(variance)


def affine_guess(reference: Marginal, target: Marginal, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"] | None:
    """Where the affine map between standardised laws would come from."""
    if reference.mean is None or target.mean is None:
        return None
    m0, s0 = centre_and_unit(reference, True)
    m, s = centre_and_unit(target, True)
    return m0 + s0 / s * (x - m)
