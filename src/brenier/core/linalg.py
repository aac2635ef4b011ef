"""Operator norms of many small or implicit positive semi-definite matrices at once, each with an error bound."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor


def norm_by_squaring(
    matrices: Float[Tensor, "n d d"], tolerance: float = 0.01
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Largest eigenvalue of each of n positive semi-definite matrices A, certified, without factorising any.

    With p = 2^q from q squarings, v any vector, v'Av/v'v <= lambda_1 <= |A^p|_F^{1/p}: squaring goes on, v being the
    largest column of A^p, until the two ends agree to `tolerance`. Needs no start vector, so it cannot miss an
    eigenvector, and is all matrix products.

    Returns:
        The lower end, shape (n,); the relative width of the enclosure, shape (n,); v, shape (n, d).
    """
    trace = matrices.diagonal(dim1=1, dim2=2).sum(-1)
    value, width = torch.zeros_like(trace), torch.zeros_like(trace)
    vector = torch.ones_like(matrices[:, 0])
    side = max(1, 2**19 // matrices[0].numel())  # as many at a time as the caches hold
    for active in (trace > 0).nonzero()[:, 0].split(side):
        first = matrices[active] / trace[active, None, None]
        power, log_trace, exponent = first, torch.zeros_like(trace[active]), 1.0  # tr power = 1, log tr (first^p), p
        while len(active):
            power = power @ power
            scale = power.diagonal(dim1=1, dim2=2).sum(-1)
            power /= scale[:, None, None]
            log_trace, exponent = 2 * log_trace + scale.log(), 2 * exponent
            if exponent < 8:  # too early to look
                continue
            largest = power.diagonal(dim1=1, dim2=2).argmax(1)
            v = power[torch.arange(len(power), device=power.device), largest]
            lower = ((first @ v[:, :, None])[..., 0] * v).sum(1) / v.square().sum(1)
            upper = torch.exp((log_trace + torch.linalg.matrix_norm(power).log()) / exponent)
            wide = (upper / lower - 1).clamp_min(0)
            value[active], width[active], vector[active] = lower * trace[active], wide, v
            # Rounding in |A^p|_F enters divided by p: past 2^24 there is nothing left to gain.
            undone = (wide > tolerance).nonzero()[:, 0] if exponent < 2**24 else active[:0]
            if len(undone) < len(active):
                active, first, power, log_trace = active[undone], first[undone], power[undone], log_trace[undone]
    return value, width, vector


Apply: TypeAlias = Callable[[Float[Tensor, "m d"], Int[Tensor, " m"]], Float[Tensor, "m d"]]


def norm_by_ascent(
    apply: Apply,
    start: Float[Tensor, "n d"],
    *,
    tolerance: float = 0.01,
    gap: Float[Tensor, " n"] | None = None,
    steps: int = 500,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Largest eigenvalue of each of n implicit positive semi-definite operators, by locally optimal ascent.

    Each step maximises the Rayleigh quotient over the span of the current vector, its residual and the previous step
    (LOBPCG with one vector; Knyazev, SIAM J. Sci. Comput. 23, 2001), at the cost of one product. An operator leaves the
    iteration when its measured error is below `tolerance`: with residual rho = |A v - theta v|, an eigenvalue lies
    within rho of theta, and within rho^2/gap where the gap to the next is known (Kato-Temple).

    Args:
        apply: (vectors (m, d), indices (m,) of the operators they belong to) -> products (m, d).
        start: one vector per operator, not zero, with some weight on every eigenvector.
        tolerance: relative error at which an operator is done.
        gap: distance from the largest eigenvalue to the next, shape (n,), where the caller has an estimate. What the
            iteration itself sees of it, from so small a span, is too large and would end it early near ties.
        steps: most products per operator.

    Returns:
        theta (n,), a lower bound; its measured relative error (n,); the vectors (n, d).
    """
    tiny, rounding = torch.finfo(start.dtype).tiny, 256 * torch.finfo(start.dtype).eps
    value, error = start.new_zeros(len(start)), start.new_zeros(len(start))
    vector = start / start.norm(dim=1, keepdim=True)
    active = torch.arange(len(start), device=start.device)
    v = vector
    av = apply(v, active)
    p, ap = torch.zeros_like(v), torch.zeros_like(v)
    for step in range(steps + 1):
        theta = (v * av).sum(1)
        r = av - theta[:, None] * v
        rho = r.norm(dim=1)
        relative = rho if gap is None else torch.minimum(rho, rho.square() / gap[active].clamp_min(tiny))
        relative = relative / theta.clamp_min(tiny)
        stop = (relative <= max(tolerance, rounding)) | (theta <= 0) | (step == steps)
        if bool(stop.any()):
            index, keep = active[stop], ~stop
            value[index], error[index], vector[index] = theta[stop].clamp_min(0), relative[stop], v[stop]
            active, v, av, p, ap, r, rho = (part[keep] for part in (active, v, av, p, ap, r, rho))
            if len(active) == 0:
                break
        r = r / rho[:, None]
        ar = apply(r, active)
        for q, aq in ((v, av), (r, ar)):
            along = (p * q).sum(1, keepdim=True)
            p, ap = p - along * q, ap - along * aq
        length = p.norm(dim=1, keepdim=True)
        p, ap = (torch.where(length > rounding, part / length.clamp_min(tiny), 0) for part in (p, ap))
        span, image = torch.stack([v, r, p], 1), torch.stack([av, ar, ap], 1)
        gram = span @ image.mT
        _, vectors = torch.linalg.eigh((gram + gram.mT) / 2)
        best = vectors[:, None, :, 2]
        v, av = (best @ span)[:, 0], (best @ image)[:, 0]
        p, ap = (best[..., 1:] @ span[:, 1:])[:, 0], (best[..., 1:] @ image[:, 1:])[:, 0]
        length = v.norm(dim=1, keepdim=True)
        v, av, p, ap = v / length, av / length, p / length, ap / length
    return value, error, vector


def principal_axes(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two directions of largest variance, shape (d, 2), and their shares of it."""
    values, axes = np.linalg.eigh(covariance)
    first = axes[:, ::-1][:, :2]
    return first * np.sign(first.sum(0) + 1e-12), np.maximum(values[::-1][:2], 0) / (float(values.sum()) or 1.0)
