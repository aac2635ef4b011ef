"""Operator norms of many small or implicit positive semi-definite matrices at once, each with an error bound."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

SMALL = 8  # rows of matrices that are factorised in less time


def norm_by_squaring(
    matrices: Float[Tensor, "n d d"], tolerance: float = 0.01
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Largest eigenvalue of each of n positive semi-definite matrices A, certified, by squaring them.

    With p = 2^q from q squarings, v any vector, v'Av/v'v <= lambda_1 <= |A^p|_F^{1/p}: squaring goes on, v being the
    largest column of A^p, until the two ends agree to `tolerance`. Needs no start vector, so it cannot miss an
    eigenvector, and is all matrix products. (Matrices of up to `SMALL` rows are factorised instead.)

    Returns:
        The lower end, shape (n,); the relative width of the enclosure, shape (n,); v, shape (n, d).
    """
    if matrices.shape[1] <= SMALL:
        values, vectors = torch.linalg.eigh(matrices)
        value = values[:, -1].clamp_min(0)
        return value, SMALL * torch.finfo(value.dtype).eps * (value > 0).to(value), vectors[..., -1]
    trace = matrices.diagonal(dim1=1, dim2=2).sum(-1)
    value, width = torch.zeros_like(trace), torch.zeros_like(trace)
    vector = torch.ones_like(matrices[:, 0])
    side = max(1, 2**17 // matrices[0].numel())  # as many at a time as the caches hold
    for active in (trace > 0).nonzero()[:, 0].split(side):
        first = matrices.index_select(0, active) / trace[active, None, None]
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
            image = (v[:, None] @ first)[:, 0]  # first is symmetric, and a row times it faster than it times a column
            lower = (image * v).sum(1) / v.square().sum(1)
            upper = torch.exp((log_trace + torch.linalg.matrix_norm(power).log()) / exponent)
            wide = (upper / lower - 1).clamp_min(0)
            value[active], width[active], vector[active] = lower * trace[active], wide, v
            # Rounding in |A^p|_F enters divided by p: past 2^24 there is nothing left to gain.
            undone = (wide > tolerance).nonzero()[:, 0] if exponent < 2**24 else active[:0]
            if len(undone) < len(active):
                active, first, power, log_trace = (
                    part.index_select(0, undone) for part in (active, first, power, log_trace)
                )
    return value, width, vector


Apply: TypeAlias = Callable[[Float[Tensor, "m b d"], Int[Tensor, " m"]], Float[Tensor, "m b d"]]
SAFETY = 3.0  # in measured errors: the next eigenvalue is nearer than the next Ritz value
ROOM = 48  # basis vectors of a space


def norm_by_krylov(
    apply: Apply, start: Float[Tensor, "n b d"], *, tolerance: float = 0.01, steps: int = 500, room: int = ROOM
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n k d"]]:
    """Largest eigenvalue of each of n implicit positive semi-definite operators, in Krylov spaces.

    Rayleigh-Ritz in the span of the start vectors and of the residuals of the leading Ritz vectors so far (Golub and
    Underwood, 1977; Davidson, J. Comput. Phys. 17, 1975). With several random vectors to start from, it hardly ever
    takes a lower eigenvalue for the largest, which a single one, or a good guess alone, does now and then (bounds in
    Musco and Musco, arXiv:1504.05477). An operator leaves when its measured error is below `tolerance`: with residual
    rho = |A v - theta v|, an eigenvalue lies within rho of theta, and within rho^2/gap (Kato-Temple), three times what
    the gap to the next Ritz value makes of it.

    Args:
        apply: (vectors (m, k, d), indices (m,) of the operators they belong to) -> products (m, k, d).
        start: a few vectors per operator, with some weight on every eigenvector between them.
        tolerance: relative error at which an operator is done.
        steps: most steps, each of which takes up as many residuals as there were start vectors. (With that of the
            leading one alone fewer products are made, and one operator in 60 takes a lower eigenvalue for the largest.)
        room: basis vectors after which a space is cut down to its leading Ritz vectors.

    Returns:
        theta (n,), a lower bound; its measured relative error (n,); the leading Ritz vectors (n, min(b, d), d), that of
        theta first, of which only that one is found to the tolerance.
    """
    dim, most = start.shape[2], min(start.shape[1:])
    room = min(dim, max(room, 2 * most))
    tiny, rounding = torch.finfo(start.dtype).tiny, 256 * torch.finfo(start.dtype).eps
    value, error, vector = start.new_zeros(len(start)), start.new_zeros(len(start)), torch.zeros_like(start[:, :most])
    active = torch.arange(len(start), device=start.device)
    basis, images = (start.new_zeros(len(start), room, dim) for _ in range(2))
    form = start.new_zeros(len(start), room, room)
    v, size = _orthonormal(start[:, :most], value), 0
    for step in range(1, steps + 1):
        new, known = slice(size, size + v.shape[1]), slice(0, size + v.shape[1])
        basis[:, new], images[:, new], size = v, apply(v, active), size + v.shape[1]
        part = basis[:, known] @ images[:, new].mT
        form[:, known, new], form[:, new, known] = part, part.mT
        values, vectors = torch.linalg.eigh(form[:, known, known])
        leading = vectors[..., -most:].mT.flip(1)  # the largest first
        ritz, image = leading @ basis[:, known], leading @ images[:, known]
        theta = values[:, -1]
        residual = image - values[:, -most:, None].flip(1) * ritz
        rho = torch.linalg.vector_norm(residual[:, 0], dim=1)
        gap = theta - values[:, -2] if size > 1 else torch.zeros_like(theta)
        relative = torch.minimum(rho, SAFETY * rho.square() / gap.clamp_min(tiny)) / theta.clamp_min(tiny)
        done = (relative <= max(tolerance, rounding)) | (theta <= 0) | (step == steps) | (size == dim)
        if bool(done.any()):
            index, rest = active[done], (~done).nonzero()[:, 0]
            value[index], error[index], vector[index] = theta[done].clamp_min(0), relative[done], ritz[done]
            active = active[rest]
            if len(active) == 0:
                break
            basis = basis.index_select(0, rest)  # one after the other: together they would be in memory twice
            images = images.index_select(0, rest)
            form, ritz, image, residual, theta, values = (
                part.index_select(0, rest) for part in (form, ritz, image, residual, theta, values)
            )
        if size == room:
            size, known = most, slice(0, most)
            basis[:, known], images[:, known] = ritz, image
            form[:, known, known] = torch.diag_embed(values[:, -most:].flip(1))
        v = residual[:, : room - size]
        for _ in range(2):  # what rounding leaves of a first projection goes with a second
            v = v - (v @ basis[:, known].mT) @ basis[:, known]
        v = _orthonormal(v, rounding * theta)
    return value, error, vector


def _orthonormal(vectors: Float[Tensor, "n b d"], least: Float[Tensor, " n"]) -> Float[Tensor, "n b d"]:
    """Orthonormal rows of the same span, zero for what is no longer than `least` beside those before it."""
    if vectors.shape[1] == 1:
        length = torch.linalg.vector_norm(vectors, dim=2, keepdim=True)
        return torch.where(length > least[:, None, None], vectors / length.clamp_min(torch.finfo(length.dtype).tiny), 0)
    q, factor = torch.linalg.qr(vectors.mT)
    kept = factor.diagonal(dim1=1, dim2=2).abs() > least[:, None]
    return (q * kept[:, None]).mT.contiguous()


def principal_axes(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two directions of largest variance, shape (d, 2), and their shares of it."""
    values, axes = np.linalg.eigh(covariance)
    first = axes[:, ::-1][:, :2]
    return first * np.sign(first.sum(0) + 1e-12), np.maximum(values[::-1][:2], 0) / (float(values.sum()) or 1.0)
