"""Operator norms of many small or implicit positive semi-definite matrices at once, each with an error bound."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
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
            power = power @ power
            scale = power.diagonal(dim1=1, dim2=2).sum(-1)
            power /= scale[:, None, None]
            log_trace, exponent = 2 * log_trace + scale.log(), 2 * exponent
    return value, width, vector


Apply: TypeAlias = Callable[[Float[Tensor, "m d"], Int[Tensor, " m"]], Float[Tensor, "m d"]]


def norm_by_ascent(
    apply: Apply, start: Float[Tensor, "n d"], tolerance: float = 0.01, steps: int = 500
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Largest eigenvalue of each of n implicit positive semi-definite operators, by conjugate-gradient ascent.

    Each step maximises the Rayleigh quotient over the plane of the current vector and a conjugate direction, at the
    cost of one product. A query leaves the iteration when its measured error is below `tolerance`: with residual
    rho = |A v - theta v|, an eigenvalue lies within rho of theta, and the smaller of rho and rho^2/gap (Kato-Temple,
    the gap measured in the same plane) bounds the error.

    Args:
        apply: (vectors (m, d), indices (m,) of the operators they belong to) -> products (m, d).
        start: one vector per operator, not zero, with some weight on every eigenvector.
        tolerance: relative error at which an operator is done.
        steps: most products per operator.

    Returns:
        theta (n,), a lower bound; its measured relative error (n,); the vectors (n, d).
    """
    n = len(start)
    value = start.new_zeros(n)
    error = start.new_zeros(n)
    vector = start / start.norm(dim=1, keepdim=True)
    active = torch.arange(n, device=start.device)
    v = vector
    av = apply(v, active)
    direction = torch.zeros_like(v)
    residual_square = v.new_ones(n)
    gap = torch.zeros_like(residual_square)
    for step in range(steps + 1):
        theta = (v * av).sum(1)
        residual = av - theta[:, None] * v
        square = residual.square().sum(1)
        scale = theta.clamp_min(torch.finfo(v.dtype).tiny)
        measured = square.sqrt() / scale
        if step > 0:  # no gap has been measured before the first plane
            measured = torch.minimum(measured, square / gap.clamp_min(torch.finfo(v.dtype).tiny) / scale)
        rounding = 64 * torch.finfo(v.dtype).eps
        done = (measured <= max(tolerance, rounding)) | (theta <= 0)
        stop = done | torch.full_like(done, step == steps)
        if bool(stop.any()):
            index = active[stop]
            value[index], error[index], vector[index] = theta[stop].clamp_min(0), measured[stop], v[stop]
            keep = ~stop
            active, v, av, direction = active[keep], v[keep], av[keep], direction[keep]
            residual, square, residual_square, theta = residual[keep], square[keep], residual_square[keep], theta[keep]
            if len(active) == 0:
                break
        direction = residual + (square / residual_square)[:, None] * direction
        residual_square = square
        d = direction - (direction * v).sum(1, keepdim=True) * v
        length = d.norm(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
        d = d / length
        ad = apply(d, active)
        a, b, c = theta, (d * av).sum(1), (d * ad).sum(1)
        half, centre = (a - c) / 2, (a + c) / 2
        radius = torch.hypot(half, b)
        gap = torch.where(radius > 0, centre + radius - (centre - radius), a)
        # Top eigenvector (cos, sin) of [[a, b], [b, c]].
        angle = torch.atan2(b, half + radius)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        v, av, direction = cos * v + sin * d, cos * av + sin * ad, (cos * d - sin * v) * length
    return value, error, vector
