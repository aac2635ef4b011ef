"""Reading and checking the parameters of explicit laws: what is refused here never reaches a computation."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.points import Numbers, as_tensor

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")  # by their names in scikit-learn


def check_snr(snr: float | int) -> None:
    """Refuse an SNR that is not a positive number."""
    if not (snr > 0 and math.isfinite(snr)):
        raise ValueError(f"snr must be positive and finite, got {snr}")


def read_numbers(value: Numbers, what: str) -> Tensor:
    """`value` as a finite float64 tensor on the CPU."""
    array = as_tensor(value, what).to("cpu", torch.float64, copy=True)
    if not bool(torch.isfinite(array).all()):
        raise ValueError(f"{what} must be finite, got NaN or infinite values")
    return array


def read_weights(weights: Numbers) -> Float[Tensor, " k"]:
    """Weights (K,), the largest of them 1."""
    mass = read_numbers(weights, "weights")
    if mass.ndim != 1 or len(mass) == 0:
        raise ValueError(f"weights must be a list of K >= 1 numbers, got shape {tuple(mass.shape)}")
    if bool((mass < 0).any()) or not bool((mass > 0).any()):
        raise ValueError("weights must be non-negative and not all zero")
    return mass / mass.max()


def read_means(means: Numbers, count: int) -> Float[Tensor, "k d"]:
    """Component means (K, d), of numbers (K,) too."""
    centres = read_numbers(means, "means")
    centres = centres[:, None] if centres.ndim == 1 else centres
    if centres.ndim != 2 or len(centres) != count or centres.shape[1] == 0:
        raise ValueError(f"means must have shape ({count}, d), one row per weight, got {tuple(centres.shape)}")
    return centres


def read_covariances(
    covariances: Numbers, count: int, dim: int
) -> tuple[Float[Tensor, "k c"], Float[Tensor, "k d d"] | None]:
    """Eigenvalues, (K, 1) or (K, d), and eigenvectors, None where the data's own axes will do."""
    if isinstance(covariances, Sequence) and not isinstance(covariances, str):
        entries = [read_numbers(c, f"covariance {i}") for i, c in enumerate(covariances)]
    else:
        array = read_numbers(covariances, "covariances")
        entries = [array] * count if array.ndim == 0 else list(array)
    if len(entries) != count:
        raise ValueError(f"covariances must have one entry per component, got {len(entries)} for {count} weights")
    for i, entry in enumerate(entries):
        if entry.shape not in {(), (dim,), (dim, dim)}:
            shapes = f"a number, {dim} variances or a {dim} x {dim} matrix"
            raise ValueError(f"covariance {i} must be {shapes}, got shape {tuple(entry.shape)}")
        if entry.ndim < 2 and bool((entry < 0).any()):
            raise ValueError(f"covariance {i} holds a negative variance: variances must be 0 or more")
    matrices = [entry for entry in entries if entry.ndim == 2]
    if any(not bool((m == m.diagonal().diag()).all()) for m in matrices):
        full = torch.stack([m if m.ndim == 2 else m.expand(dim).diag() for m in entries])
        return _diagonalise(full)
    flat = [entry.diagonal() if entry.ndim == 2 else entry for entry in entries]
    if any(bool((v < 0).any()) for v in flat):
        raise ValueError("a covariance has a negative variance on its diagonal: it must be positive semi-definite")
    width = max(v.numel() for v in flat)
    return torch.stack([v.expand(width) for v in flat]), None


def per_component(covariances: Numbers, kind: str, count: int, dim: int) -> Float[Tensor, "k *c"]:
    """Covariances as scikit-learn has them, of one of its `COVARIANCE_TYPES`, with one entry per component.

    Raises:
        ValueError: their shape is not that of their type.
    """
    shapes = {"full": (count, dim, dim), "tied": (dim, dim), "diag": (count, dim), "spherical": (count,)}
    array = read_numbers(covariances, "covariances")
    if array.shape != shapes[kind]:
        found = tuple(array.shape)
        raise ValueError(f"covariances of type {kind!r} must have shape {shapes[kind]}, got {found}")
    return array.repeat(count, 1, 1) if kind == "tied" else array


def _diagonalise(matrices: Float[Tensor, "k d d"]) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d d"]]:
    dim = matrices.shape[1]
    size = matrices.abs().amax((1, 2))
    skew = (matrices - matrices.mT).abs().amax((1, 2))
    # Matrices that were computed in float32 carry its rounding.
    rounding = 8 * dim * torch.finfo(torch.float32).eps
    for i in torch.nonzero(skew > rounding * size).flatten().tolist()[:1]:
        raise ValueError(f"covariance {i} is not symmetric: entries differ from the transposed ones by {skew[i]:.3g}")
    values, vectors = torch.linalg.eigh((matrices + matrices.mT) / 2)
    for i in torch.nonzero(values[:, 0] < -rounding * size).flatten().tolist()[:1]:
        raise ValueError(f"covariance {i} must be positive semi-definite, it has the eigenvalue {values[i, 0]:.3g}")
    # Rounding leaves eigenvalues of flat directions near, not at, zero.
    flat = values <= dim * torch.finfo(torch.float64).eps * values[:, -1:]
    return torch.where(flat, torch.zeros_like(values), values), vectors
