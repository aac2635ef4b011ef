"""Weighted atoms: sums that merge, covariances for many weightings of the same atoms, their leading subspace."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brenier.core.linalg import norm_by_ascent

CHUNK = 4096  # atoms whose second moments are formed at a time
LEADING = 128  # most dimensions of the leading subspace
HEAD = 32  # of which the first have their covariance formed whole
SKETCH = 128  # random directions that stand for all others


@dataclass(frozen=True)
class Sums:
    """Sums of posterior weights exp(logit) over some of the atoms, all divided by exp(peak): they merge associatively.

    Attributes:
        peak: largest logit so far, shape (n,).
        mass: sum of weights, shape (n,).
        square: sum of squared weights, shape (n,).
        first: sum of weight times feature, shape (n, k).
    """

    peak: Float[Tensor, " n"]
    mass: Float[Tensor, " n"]
    square: Float[Tensor, " n"]
    first: Float[Tensor, "n k"]

    @classmethod
    def of(cls, logits: Float[Tensor, "n m"], features: Float[Tensor, "m k"]) -> Self:
        """The sums over m atoms."""
        peak = logits.amax(1)
        weights = torch.exp(logits - peak[:, None])
        return cls(peak, weights.sum(1), weights.square().sum(1), weights @ features)

    def merge(self, other: Self) -> Self:
        """The sums over the atoms of both."""
        peak = torch.maximum(self.peak, other.peak)
        a, b = torch.exp(self.peak - peak), torch.exp(other.peak - peak)
        return type(self)(
            peak,
            a * self.mass + b * other.mass,
            a**2 * self.square + b**2 * other.square,
            a[:, None] * self.first + b[:, None] * other.first,
        )


class SecondMoments:
    """Weighted covariances of the same atoms (N, d) under many weightings, d of at most a few dozen.

    The products of coordinates are the same for every weighting, so all covariances are one matrix product with them.

    Args:
        atoms: shape (N, d).
        budget: bytes that the products of coordinates may take to be kept from one call to the next.
    """

    def __init__(self, atoms: Float[Tensor, "N d"], budget: float) -> None:
        self._atoms = atoms
        dim = atoms.shape[1]
        self._upper = torch.triu_indices(dim, dim, device=atoms.device)
        self._kept: list[Tensor] | None = None
        if len(atoms) * self._upper.shape[1] * atoms.element_size() <= budget:
            self._kept = [self._features(i) for i in range(0, len(atoms), CHUNK)]

    def _features(self, i: int) -> Tensor:
        chunk = self._atoms[i : i + CHUNK]
        return torch.cat([chunk, chunk[:, self._upper[0]] * chunk[:, self._upper[1]]], 1)

    def covariance(self, weights: Float[Tensor, "n N"]) -> tuple[Float[Tensor, "n d d"], Bool[Tensor, " n"]]:
        """Covariance of the atoms under each row of normalised weights, and where it is blurred.

        A covariance is blurred when the difference of moments that it is cancels more than two digits and a half.
        """
        dim = self._atoms.shape[1]
        moments = torch.zeros(dim + self._upper.shape[1], len(weights), dtype=weights.dtype, device=weights.device)
        for k, i in enumerate(range(0, len(self._atoms), CHUNK)):
            features = self._kept[k] if self._kept is not None else self._features(i)
            moments.addmm_(features.T, weights[:, i : i + CHUNK].T)
        moments /= weights.sum(1)
        mean, second = moments[:dim], moments[dim:]
        diagonal = self._upper[0] == self._upper[1]
        square = second[diagonal].sum(0)
        second.addcmul_(mean[self._upper[0]], mean[self._upper[1]], value=-1)
        blurred = second[diagonal].sum(0) < 0.003 * square
        place = torch.empty(dim, dim, dtype=torch.long, device=weights.device)
        order = torch.arange(self._upper.shape[1], device=weights.device)
        place[self._upper[0], self._upper[1]] = place[self._upper[1], self._upper[0]] = order
        return second[place.reshape(-1)].T.reshape(-1, dim, dim), blurred


@dataclass(frozen=True)
class Subspace:
    """Leading directions of the atoms, and a sketch of the rest: |Q'u|^2 for any u from a few random combinations.

    With Q (N, d) the atoms' part outside and S a normal matrix, |S'Q'u|^2/s estimates |Q'u|^2 without bias and with
    relative standard deviation sqrt(2/s), for every u that does not depend on S.

    Attributes:
        basis: leading directions, orthonormal columns, shape (d, k).
        atoms: the atoms in them, shape (N, k).
        sketch: Q S/sqrt(s), shape (N, s).
        squares: |q_i|^2, shape (N,).
        pairs: products of the first 16 columns of Q S with the next 16, shape (N, 256): they give S_1' D S_2 for the
            covariance D of the q_i under any weights, and with it |D|_F^2, without bias.
    """

    basis: Float[Tensor, "d k"]
    atoms: Float[Tensor, "N k"]
    sketch: Float[Tensor, "N s"]
    squares: Float[Tensor, " N"]
    pairs: Float[Tensor, "N 256"]

    @classmethod
    def of(cls, atoms: Float[Tensor, "N d"], squares: Float[Tensor, " N"]) -> Self:
        """By randomised subspace iteration on a sample of the atoms (Halko, Martinsson, Tropp, arXiv:0909.4061).

        Args:
            atoms: shape (N, d), d more than `HEAD`.
            squares: |x_i|^2, shape (N,).
        """
        dim = atoms.shape[1]
        generator = torch.Generator().manual_seed(0)
        some = atoms[torch.randperm(len(atoms), generator=generator)[:8192].to(atoms.device)]
        rank = min(LEADING, dim // 2)
        basis = torch.randn(dim, min(rank + 8, dim), generator=generator).to(some)
        for _ in range(3):
            basis = torch.linalg.qr(((some @ basis).T @ some).T)[0]
        small = (some @ basis).double()
        basis = basis @ torch.linalg.eigh(small.T @ small)[1].flip(1)[:, :rank].to(basis)
        random = torch.randn(dim, SKETCH, generator=generator).to(some) / SKETCH**0.5
        both = atoms @ torch.cat([basis, random], 1)
        inside = both[:, :rank].contiguous()
        sketch = both[:, rank:] - inside @ (basis.T @ random)
        left, right = (sketch[:, side] * SKETCH**0.5 for side in (slice(0, 16), slice(16, 32)))
        pairs = (left[:, :, None] * right[:, None]).reshape(len(atoms), 256)
        return cls(basis, inside, sketch, (squares.to(inside) - inside.square().sum(1)).clamp_min(0), pairs)

    def norm_outside(self, weights: Float[Tensor, "n N"], mean: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
        """What the norm of the covariance outside is not above: the smaller of its trace and 1.5 |D|_F, as estimated.

        Args:
            weights: normalised, shape (n, N).
            mean: of the sketch, shape (n, s).
        """
        centre = (mean[:, :16, None] * mean[:, None, 16:32]).reshape(len(mean), 256) * SKETCH
        frobenius = torch.linalg.vector_norm(weights @ self.pairs - centre, dim=1) / 16
        return torch.minimum(weights @ self.squares, 1.5 * frobenius)


def covariance_product(
    weights: Float[Tensor, "n N"],
    atoms: Float[Tensor, "N d"],
    v: Float[Tensor, "n d"],
    about: Float[Tensor, "n d"] | None = None,
) -> Float[Tensor, "n d"]:
    """Cov_w v for each row of normalised weights: sum_i w_i (a_i - abar) x_i with a = X v, never the matrix itself.

    The weights w_i (a_i - abar) sum to zero but for rounding, which the size of the atoms magnifies; `about`, a point
    near the mean of each row, takes that back out.
    """
    along = v @ atoms.T
    along -= (weights * along).sum(1, keepdim=True)
    along *= weights
    product = along @ atoms
    return product if about is None else product - along.sum(1, keepdim=True) * about


def covariance_norm(
    weights: Float[Tensor, "n N"],
    atoms: Float[Tensor, "N d"],
    start: Float[Tensor, "n d"],
    tolerance: float,
    gap: Float[Tensor, " n"] | None = None,
    about: Float[Tensor, "n d"] | None = None,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """Largest eigenvalue of Cov_w for each row of weights: value, error and vector as from `norm_by_ascent`."""

    def apply(v: Tensor, index: Tensor) -> Tensor:
        whole = len(index) == len(weights)
        rows = weights if whole else weights[index]
        return covariance_product(rows, atoms, v, about if whole or about is None else about[index])

    return norm_by_ascent(apply, start, tolerance=tolerance, gap=gap)
