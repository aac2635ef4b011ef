"""Gaussian laws: the parabolic Monge-Ampère iteration in closed form, and its limit.

From N(m0, S0) to N(m, S) every map is affine, T_k(y) = A_k y + b_k. With h = log(rho_k/e^{-f}) and the density of
rho_k at T_k(y) that of the reference at y over det A_k, a step psi_k - eta h(T_k) is

    A_{k+1} = A_k - eta (A_k S^{-1} A_k - S0^{-1})
    b_{k+1} = b_k - eta (A_k S^{-1} (b_k - m) + S0^{-1} m0)

whose fixed point is Brenier's map, A = S0^{-1/2} (S0^{1/2} S S0^{1/2})^{1/2} S0^{-1/2} and b = m - A m0.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.potentials import Quadratic


def moments(law: Marginal) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and covariance.

    Raises:
        ValueError: they are unknown, or the covariance is singular.
    """
    if law.mean is None or law.covariance is None:
        raise ValueError(f"{law.name} has no known mean and covariance: the Gaussian map needs them")
    if float(torch.linalg.eigvalsh(law.covariance)[0]) <= 1e-12 * float(law.covariance.diagonal().max()):
        raise ValueError(f"{law.name} does not spread in every direction: leave out what is constant, or use PCA")
    return law.mean, law.covariance


def gaussian_map(reference: Marginal, target: Marginal) -> Quadratic:
    """Brenier's map between the normal laws with these means and covariances (Bures, Wasserstein)."""
    m0, S0 = moments(reference)
    m, S = moments(target)
    values, axes = torch.linalg.eigh(S0)
    root, inverse = (axes * values.sqrt()) @ axes.T, (axes / values.sqrt()) @ axes.T
    inner, turned = torch.linalg.eigh(root @ S @ root)
    slope = inverse @ (turned * inner.clamp(min=0).sqrt()) @ turned.T @ inverse
    slope = (slope + slope.T) / 2
    return Quadratic(slope, m - slope @ m0)


def gaussian_flow(reference: Marginal, target: Marginal, etas: Iterable[float]) -> Iterator[Quadratic]:
    """The iterates after each step, from the identity.

    Raises:
        ValueError: as for `moments`; a step so large that A ceases to be positive definite, with its number.
    """
    m0, S0 = moments(reference)
    m, S = moments(target)
    inverse, inverse0 = torch.linalg.inv(S), torch.linalg.inv(S0)
    now = Quadratic.identity(reference.dim)
    for k, eta in enumerate(etas):
        A = now.A - eta * (now.A @ inverse @ now.A - inverse0)
        b = now.b - eta * (now.A @ (inverse @ (now.b - m)) + inverse0 @ m0)
        now = Quadratic((A + A.T) / 2, b)
        if float(torch.linalg.eigvalsh(now.A)[0]) <= 0:
            raise ValueError(f"step {k} of size {eta:g} makes the potential lose its convexity: take smaller steps")
        yield now
