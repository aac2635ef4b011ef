"""The Jacobian J of a network at many points at once: operator norm, trace and symmetry, from products J v and J^T u.

Up to `DENSE` dimensions J is formed, one reverse product per row. Above, nothing of size d x d ever is:

- norm: Golub-Kahan-Lanczos bidiagonalisation J V = U B, J^T U = V B^T + beta v e^T with full reorthogonalisation; the
  top singular value of B, with the residual beta |e^T a| of its triplet (Golub & Van Loan, Matrix Computations, 10.4).
- trace: what U captures exactly, tr U^T J U, plus Hutchinson's estimate on the complement of U with a few random signs
  (Hutch++, Meyer et al., arXiv:2010.09649); its standard error is that of the second part.
- asymmetry ||J - J^T||_F/||J||_F: both products with the same random signs.
- the spectrum of the symmetric part below a threshold: Lanczos quadrature from a random start (Ubaru, Chen, Saad, SIAM
  J. Matrix Anal. Appl. 38, 2017).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.linalg import norm_by_squaring

DENSE = 128  # dimensions up to which J is formed
PROBES = 4  # random signs per point behind the trace, the first of them behind the asymmetry too
STEPS = 32  # most steps of a bidiagonalisation
QUADRATURE = 10  # steps of a Lanczos quadrature
NEGATIVE = 0.01  # an eigenvalue below minus this share of the norm counts as negative

Product: TypeAlias = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]
Map: TypeAlias = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]


@dataclass(frozen=True)
class Jacobian:
    """The Jacobian J = dD/dx of a denoiser at n points, as far as it is needed: no unit.

    Attributes:
        mean: D, shape (n, d), in the unit of the data.
        norm: operator norm ||J||_op, the largest singular value, shape (n,).
        norm_error: bound on the relative distance of `norm` from a singular value, shape (n,).
        direction: its right singular vector, shape (n, d).
        symmetric: largest eigenvalue of (J + J^T)/2, shape (n,); equal to `norm` for a true posterior.
        trace: tr J, shape (n,).
        trace_se: its standard error, shape (n,); 0 where J was formed.
        asymmetry: ||J - J^T||_F/||J||_F, shape (n,): between 0, for a true score, and 2.
        negative: share of the eigenvalues of (J + J^T)/2 below -1% of the norm, shape (n,): 0 for a true posterior;
            None where it was not asked for.
    """

    mean: Float[Tensor, "n d"]
    norm: Float[Tensor, " n"]
    norm_error: Float[Tensor, " n"]
    direction: Float[Tensor, "n d"]
    symmetric: Float[Tensor, " n"]
    trace: Float[Tensor, " n"]
    trace_se: Float[Tensor, " n"]
    asymmetry: Float[Tensor, " n"]
    negative: Float[Tensor, " n"] | None = None


def dense_jacobian(value: Float[Tensor, "n d"], reverse: Product) -> Float[Tensor, "n d d"]:
    """J, row by row: `reverse` is u -> J^T u."""
    basis = torch.eye(value.shape[1], dtype=value.dtype, device=value.device)
    return torch.stack([reverse(row.expand_as(value).contiguous()) for row in basis], 1)


def from_dense(value: Float[Tensor, "n d"], matrices: Float[Tensor, "n d d"], spectrum: bool) -> Jacobian:
    """What is asked of J where it is at hand."""
    square, width, direction = norm_by_squaring(matrices.mT @ matrices, 1e-4)
    norm = square.sqrt()
    eigenvalues = torch.linalg.eigvalsh((matrices + matrices.mT) / 2)
    whole = torch.linalg.matrix_norm(matrices)
    skew = torch.linalg.matrix_norm(matrices - matrices.mT)
    negative = (eigenvalues < -NEGATIVE * norm[:, None]).to(norm.dtype).mean(1)
    return Jacobian(
        mean=value,
        norm=norm,
        norm_error=width / 2,
        direction=torch.nn.functional.normalize(direction, dim=1),
        symmetric=eigenvalues[:, -1],
        trace=matrices.diagonal(dim1=1, dim2=2).sum(1),
        trace_se=torch.zeros_like(norm),
        asymmetry=_ratio(skew, whole),
        negative=negative if spectrum else None,
    )


def from_products(
    value: Float[Tensor, "n d"],
    forward: Product,
    reverse: Product,
    start: Float[Tensor, "n d"],
    signs: Float[Tensor, "probes n d"],
    tolerance: float | int,
    spectrum: bool,
) -> Jacobian:
    """What is asked of J where only products are to be had.

    Args:
        value: D, passed on.
        forward: v -> J v.
        reverse: u -> J^T u.
        start: where the bidiagonalisation starts; not zero.
        signs: entries -1 and 1, independent of `start`.
        tolerance: relative error at which a norm is done.
        spectrum: whether to find the share of negative eigenvalues, too.
    """
    found = bidiagonalise(forward, reverse, start, tolerance)
    inner = found.right @ found.images.mT
    symmetric = torch.linalg.eigvalsh((inner + inner.mT) / 2)[:, -1]
    captured = (found.left * found.transposed).sum((1, 2))
    rest: list[Tensor] = []
    backs = [reverse(sign) for sign in signs]
    for sign, back in zip(signs, backs, strict=True):
        within = (found.left @ sign[:, :, None]).mT
        outside = sign - (within @ found.left)[:, 0]
        rest.append((outside * (back - (within @ found.transposed)[:, 0])).sum(1))
    estimates = torch.stack(rest)
    image = forward(signs[0])
    size = (image.square().sum(1) + backs[0].square().sum(1)) / 2
    return Jacobian(
        mean=value,
        norm=found.norm,
        norm_error=found.residual,
        direction=found.direction,
        symmetric=symmetric,
        trace=captured + estimates.mean(0),
        trace_se=estimates.std(0) / len(estimates) ** 0.5,
        asymmetry=_ratio((image - backs[0]).square().sum(1), size).sqrt(),
        negative=_negative_share(forward, reverse, signs[0], NEGATIVE * found.norm) if spectrum else None,
    )


@dataclass(frozen=True)
class Bidiagonal:
    """Where n bidiagonalisations stopped, after k steps.

    Attributes:
        norm: estimate of the largest singular value, from below, shape (n,).
        residual: relative residual of its triplet, shape (n,).
        direction: right singular vector, shape (n, d).
        right: orthonormal V, shape (n, k, d), and images: J V.
        left: orthonormal U, shape (n, k, d), and transposed: J^T U.
    """

    norm: Float[Tensor, " n"]
    residual: Float[Tensor, " n"]
    direction: Float[Tensor, "n d"]
    right: Float[Tensor, "n k d"]
    images: Float[Tensor, "n k d"]
    left: Float[Tensor, "n k d"]
    transposed: Float[Tensor, "n k d"]


def bidiagonalise(
    forward: Product, reverse: Product, start: Float[Tensor, "n d"], tolerance: float | int, steps: int = STEPS
) -> Bidiagonal:
    """Largest singular value of each of n operators, by Golub-Kahan-Lanczos steps until all of them are done.

    An operator is done when the residual rho of its top triplet is below `tolerance` times the estimate theta, which is
    a lower bound: then some singular value lies within rho of theta. Nothing certifies that it is the largest.
    """
    tiny, rounding = torch.finfo(start.dtype).tiny, 16 * torch.finfo(start.dtype).eps
    steps = min(steps, start.shape[1])
    right, images, left, transposed = [_unit(start)], [], [], []
    while True:
        images.append(forward(right[-1]))
        left.append(_unit(_outside(images[-1], left)))
        transposed.append(reverse(left[-1]))
        fresh = _outside(transposed[-1], right)
        beta = fresh.norm(dim=1)
        bases = [torch.stack(part, 1) for part in (right, images, left, transposed)]
        inner, values, outer = torch.linalg.svd(bases[2] @ bases[1].mT)
        theta = values[:, 0]
        error = beta * inner[:, -1, 0].abs() / theta.clamp_min(tiny)
        error = torch.where((theta <= tiny) | (beta <= rounding * theta), rounding, error)
        if bool((error <= max(tolerance, rounding)).all()) or len(left) >= steps:
            return Bidiagonal(theta, error, (outer[:, :1] @ bases[0])[:, 0], *bases)
        right.append(_unit(fresh))


def _negative_share(forward: Product, reverse: Product, start: Tensor, threshold: Tensor) -> Tensor:
    """Share of the eigenvalues of (J + J^T)/2 below -threshold, by Lanczos quadrature from a random start."""
    basis = [torch.nn.functional.normalize(start, dim=1)]
    images: list[Tensor] = []
    for step in range(min(QUADRATURE, start.shape[1])):
        images.append((forward(basis[-1]) + reverse(basis[-1])) / 2)
        if step + 1 < min(QUADRATURE, start.shape[1]):
            basis.append(_unit(_outside(images[-1], basis)))
    inner = torch.stack(basis, 1) @ torch.stack(images, 1).mT
    values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
    return (vectors[:, 0].square() * (values < -threshold[:, None])).sum(1)


def _outside(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """The part of each vector orthogonal to its basis; twice, for rounding."""
    if not basis:
        return vector
    span = torch.stack(basis, 1)
    for _ in range(2):
        vector = vector - ((span @ vector[:, :, None]).mT @ span)[:, 0]
    return vector


def _unit(vector: Tensor) -> Tensor:
    """Vectors of length 1; of length 0 where there is nothing but rounding."""
    return torch.nn.functional.normalize(vector, dim=1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)
