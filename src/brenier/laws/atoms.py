"""Weighted atoms: sums that merge, covariances for many weightings of the same atoms, their leading subspace."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from brenier.core.linalg import norm_by_krylov

CHUNK = 4096  # atoms whose sums are formed at a time
AT_ONCE = 1024  # and whose products of coordinates are
SKETCH = 128  # random directions that stand for all that is outside a subspace
LITTLE = 2**22  # numbers of atoms that are few: float64 costs nothing
LOG2_E = math.log2(math.e)
EXACT = 2e-4  # relative error of a norm that sums in float32 may have, so that smaller ones need others
FINE = 1e-8  # and in float64


def exp_(values: Tensor) -> Tensor:
    """exp in place, by way of exp2: exp itself takes up to thirty times as long where it is subnormal."""
    return values.mul_(LOG2_E).exp2_()


def summed_in(dtype: torch.dtype, numbers: int, tolerance: float) -> torch.dtype:
    """What products with so many numbers of atoms, and their second moments, are summed in."""
    return torch.float64 if numbers < LITTLE or tolerance < EXACT else dtype


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
        dtype: that they are summed in. Default: of the atoms.
    """

    def __init__(self, atoms: Float[Tensor, "N d"], budget: float, dtype: torch.dtype | None = None) -> None:
        self._atoms, self._dtype = atoms, dtype or atoms.dtype
        dim = atoms.shape[1]
        self._upper = torch.triu_indices(dim, dim, device=atoms.device)
        self._diagonal = (self._upper[0] == self._upper[1]).nonzero()[:, 0]
        place = torch.empty(dim, dim, dtype=torch.long, device=atoms.device)  # of each entry in the upper triangle
        order = torch.arange(self._upper.shape[1], device=atoms.device)
        place[self._upper[0], self._upper[1]] = place[self._upper[1], self._upper[0]] = order
        self._place = place.flatten()
        self._kept: list[Tensor] | None = None
        if len(atoms) * self._upper.shape[1] * self._dtype.itemsize <= budget:
            self._kept = [self._features(i) for i in range(0, len(atoms), AT_ONCE)]

    def _features(self, i: int) -> Float[Tensor, "p m"]:
        chunk = self._atoms[i : i + AT_ONCE].T.to(self._dtype).contiguous()
        dim, number = chunk.shape
        features = chunk.new_empty(dim + self._upper.shape[1], number)
        features[:dim], place = chunk, dim
        for k in range(dim):  # the upper triangle, row by row
            torch.mul(chunk[k], chunk[k:], out=features[place : place + dim - k])
            place += dim - k
        return features

    def covariance(self, weights: Float[Tensor, "n N"]) -> tuple[Float[Tensor, "n d d"], Bool[Tensor, " n"]]:
        """Covariance of the atoms under each row of normalised weights, and where it is blurred.

        A covariance is blurred when the difference of moments that it is cancels more than a digit and a half in
        float32, six in float64. Past that, sums over thousands of atoms err by more than `EXACT` or `FINE` of it.
        """
        dim, weights = self._atoms.shape[1], weights.to(self._dtype)
        sums = weights.new_zeros(len(weights), dim + self._upper.shape[1])
        for k, i in enumerate(range(0, len(self._atoms), AT_ONCE)):
            features = self._kept[k] if self._kept is not None else self._features(i)
            sums.addmm_(weights[:, i : i + AT_ONCE], features.T)
        moments = sums.T.contiguous() / weights.sum(1)
        mean, second = moments[:dim], moments[dim:]
        square = second.index_select(0, self._diagonal).sum(0)
        second.addcmul_(*(mean.index_select(0, side) for side in self._upper), value=-1)
        least = 1e-6 if self._dtype == torch.float64 else 0.03
        blurred = second.index_select(0, self._diagonal).sum(0) < least * square
        return second.index_select(0, self._place).T.reshape(-1, dim, dim), blurred


def leading_directions(atoms: Float[Tensor, "N d"], rank: int, generator: torch.Generator) -> Float[Tensor, "d k"]:
    """By randomised subspace iteration on a sample of the atoms (Halko, Martinsson, Tropp, arXiv:0909.4061)."""
    some = atoms[torch.randperm(len(atoms), generator=generator)[:8192].to(atoms.device)]
    dim = atoms.shape[1]
    basis = torch.randn(dim, min(rank + 8, dim), generator=generator).to(some)
    for _ in range(3):
        basis = torch.linalg.qr(((some @ basis).T @ some).T)[0]
    small = (some @ basis).double()
    return basis @ torch.linalg.eigh(small.T @ small)[1].flip(1)[:, :rank].to(basis)


@dataclass(frozen=True)
class Subspace:
    """Leading directions of the atoms, and a sketch of the rest: |Q'u|^2 for any u from a few random combinations.

    With Q (N, d) the atoms' part outside and S a normal matrix, |S'Q'u|^2/s estimates |Q'u|^2 without bias and with
    relative standard deviation sqrt(2/s), for every u that does not depend on S.

    Attributes:
        basis: leading directions, orthonormal columns, shape (d, k).
        features: the atoms in them and the sketch Q S/sqrt(s) side by side, shape (N, k + s).
        squares: |x_i|^2, shape (N,).
        outside: |q_i|^2, shape (N,).
        pairs: products of the first p columns of Q S with the next p, shape (N, p^2): they give S_1' D S_2 for the
            covariance D of the q_i under any weights, and with it |D|_F^2, without bias.
    """

    basis: Float[Tensor, "d k"]
    features: Float[Tensor, "N f"]
    squares: Float[Tensor, " N"]
    outside: Float[Tensor, " N"]
    pairs: Float[Tensor, "N pp"]

    @classmethod
    def of(
        cls, atoms: Float[Tensor, "N d"], squares: Float[Tensor, " N"], rank: int = 128, sketch: int = SKETCH
    ) -> Self:
        """With as many leading directions as asked for.

        Args:
            atoms: shape (N, d).
            squares: |x_i|^2, shape (N,).
            rank: leading directions, at most half of all.
            sketch: random directions that stand for all others; p is their number over 8.
        """
        dim = atoms.shape[1]
        generator = torch.Generator().manual_seed(0)
        rank, side = min(rank, dim // 2), sketch // 8
        basis = leading_directions(atoms, rank, generator)
        random = torch.randn(dim, sketch, generator=generator).to(basis) / sketch**0.5
        mixing = torch.cat([basis, random - basis @ (basis.T @ random)], 1)
        features, squares = atoms @ mixing, squares.to(atoms)
        inside = features[:, :rank]
        left, right = (features[:, rank + first : rank + first + side] * sketch**0.5 for first in (0, side))
        pairs = (left[:, :, None] * right[:, None]).reshape(len(atoms), side**2)
        outside = (squares - inside.square().sum(1)).clamp_min(0)
        return cls(basis, features, squares, outside, pairs)

    @property
    def atoms(self) -> Float[Tensor, "N k"]:
        """The atoms in the leading directions."""
        return self.features[:, : self.basis.shape[1]]

    @property
    def sketch(self) -> Float[Tensor, "N s"]:
        """The part outside, in random combinations."""
        return self.features[:, self.basis.shape[1] :]

    def extended(
        self,
        weights: Float[Tensor, "n N"],
        theta: Float[Tensor, " n"],
        inner: Float[Tensor, " n"],
        v: Float[Tensor, "n k"],
        second: Float[Tensor, " n"],
        tolerance: float,
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Norm, trace and error of the norm of whole covariances, to second order in what couples inside to outside.

        With theta the norm inside, v its vector, b the part of Cov v outside and c a bound on the norm outside, the
        whole norm lies between theta + b^2/theta and theta + b^2/(theta - c) to that order, unless an eigenvalue
        theta_2 near theta could be raised beyond, to theta_2 theta/(theta - c) at most: there and where this leaves
        more than the tolerance the error is infinite and the norm theta.

        Args:
            weights: normalised, shape (n, N).
            theta: norm inside.
            inner: its relative error.
            v: its vector.
            second: the next eigenvalue inside, or what is known to be below it.
            tolerance: relative error allowed.
        """
        rank = self.basis.shape[1]
        mean = weights @ self.features
        mean, mean_outside = mean[:, :rank], mean[:, rank:]
        along = v @ self.atoms.T
        along -= (weights * along).sum(1, keepdim=True)
        coupling = (along.mul_(weights) @ self.sketch).square().sum(1)
        lost = mean_outside.square().sum(1)
        trace = weights @ self.squares - mean.square().sum(1) - lost
        outside = self.norm_outside(weights, mean_outside)
        size = mean_outside.shape[1]
        norm, error = second_order(theta, inner, second, coupling, outside, lost, trace, size, tolerance)
        return norm, trace, error

    def norm_outside(self, weights: Float[Tensor, "n N"], mean: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
        """What the norm of the covariance outside is not above: the smaller of its trace and 1.5 |D|_F, as estimated.

        Args:
            weights: normalised, shape (n, N).
            mean: of the sketch, shape (n, s).
        """
        side = mean.shape[1] // 8
        centre = (mean[:, :side, None] * mean[:, None, side : 2 * side]).flatten(1)
        whole = weights @ self.pairs / mean.shape[1]
        frobenius = torch.linalg.vector_norm(whole - centre, dim=1) * mean.shape[1] / side
        return torch.minimum(weights @ self.outside, 1.5 * frobenius)


def second_order(
    theta: Float[Tensor, " n"],
    inner: Float[Tensor, " n"] | float,
    second: Float[Tensor, " n"],
    coupling: Float[Tensor, " n"],
    outside: Float[Tensor, " n"],
    lost: Float[Tensor, " n"],
    trace: Float[Tensor, " n"],
    sketch: int,
    tolerance: float,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Norm and its error as `Subspace.extended` has them, from what was summed.

    Args:
        theta: norm inside.
        inner: its relative error.
        second: the next eigenvalue inside.
        coupling: |part of Cov v outside|^2, sketched.
        outside: bound on the norm outside.
        lost: |mean outside|^2, sketched, which the trace lacks.
        trace: of the whole.
        sketch: random directions of the sketch.
        tolerance: relative error allowed; where more is left the error is infinite and the norm theta.
    """
    theta = theta.clamp_min(torch.finfo(theta.dtype).tiny)
    room = theta - outside
    sketched = 3 * (2 / sketch) ** 0.5  # three standard deviations of a sketched square
    low = theta + (1 - sketched) * coupling / theta
    high = theta * (1 + inner) + (1 + sketched) * coupling / room
    norm, error = (low + high) / 2, (high - low) / (high + low)
    told = (room > 0) & (second * theta <= high * room) & (error <= tolerance)
    told &= sketched * lost <= tolerance * trace
    return torch.where(told, norm, theta), torch.where(told, error, torch.inf)


class Covariances:
    """Covariances of the same points under n weightings, as operators on vectors.

    A product costs 4 n b N d flops and one passage over the points: of each chunk both matrix products are made while
    the caches hold it.

    Args:
        weights: normalised.
        chunks: gives the points x_i anew with each passage, the next of them with each step.
        about: a point near the mean of each row, about which sums are taken: far from it they would cancel. Default: 0.
    """

    def __init__(
        self,
        weights: Float[Tensor, "n N"],
        chunks: Callable[[], Iterable[Float[Tensor, "m d"]]],
        about: Float[Tensor, "n d"] | None = None,
    ) -> None:
        self._weights, self._chunks, self._about = weights, chunks, about
        self._mean: Tensor | None = None

    @property
    def mean(self) -> Float[Tensor, "n d"]:
        """The mean of each row less `about`; known after a product."""
        assert self._mean is not None
        return self._mean

    def __call__(self, v: Float[Tensor, "m b d"], index: Int[Tensor, " m"]) -> Float[Tensor, "m b d"]:
        """Products with the covariances of these numbers; the first one is to be with all."""
        weights = self._weights if len(index) == len(self._weights) else self._weights.index_select(0, index)
        about = None if self._about is None else self._about[index]
        flat = v.flatten(0, 1)
        product, total = torch.zeros_like(flat), v.new_zeros(*v.shape[:2], 1)
        mean = torch.zeros_like(v[:, 0]) if self._mean is None else None
        height = None if about is None else v @ about[:, :, None]
        start = 0
        for part in self._chunks():
            rows = weights[:, start : start + len(part)]
            start += len(part)
            along = (flat @ part.T).view(*v.shape[:2], -1)
            along = (along if height is None else along.sub_(height)).mul_(rows[:, None])
            product.addmm_(along.flatten(0, 1), part)
            if about is not None:
                total += along.sum(2, keepdim=True)
            if mean is not None:
                mean.addmm_(rows, part)
        if mean is not None:
            self._mean = mean if about is None else mean - about
        to_mean = self.mean[index]
        product = product.view(v.shape)
        if about is not None:
            product -= total * about[:, None]
        return product - (v @ to_mean[:, :, None]) * to_mean[:, None]


def covariance_norm(
    weights: Float[Tensor, "n N"],
    atoms: Float[Tensor, "N d"],
    start: Float[Tensor, "n b d"],
    tolerance: float,
    about: Float[Tensor, "n d"] | None = None,
    steps: int = 500,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n k d"]]:
    """Largest eigenvalue of Cov_w for each row of weights: value, error and vectors as from `norm_by_krylov`.

    Args:
        weights: normalised.
        atoms: x_i.
        start: a few vectors for each row.
        tolerance: relative error allowed.
        about: as for `Covariances`.
        steps: as there.
    """
    return norm_by_krylov(Covariances(weights, chunked(atoms), about), start, tolerance=tolerance, steps=steps)


def chunked(
    atoms: Float[Tensor, "N d"], dtype: torch.dtype | None = None
) -> Callable[[], Iterable[Float[Tensor, "m d"]]]:
    """The atoms in chunks that the caches hold, in another dtype if need be."""
    return lambda: (part.to(dtype or atoms.dtype) for part in atoms.split(chunk_rows(atoms.shape[1])))


def chunk_rows(dim: int) -> int:
    """How many points of so many coordinates the caches hold."""
    return max(64, 2**18 // dim)


def random_start(
    weights: Float[Tensor, "n N"], atoms: Float[Tensor, "N d"], random: Float[Tensor, "b N"]
) -> Float[Tensor, "n b d"]:
    """Random vectors with covariance Cov_w, from standard normal numbers for each atom: half a step ahead of others."""
    mixed = weights.sqrt()[:, None] * random
    mixed.addcmul_(weights[:, None], mixed.sum(2, keepdim=True), value=-1)
    return (mixed.flatten(0, 1) @ atoms).view(len(weights), len(random), -1)
