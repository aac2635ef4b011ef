"""Affine images A X + b of laws.

A family that is closed under them, as mixtures of normal laws are, says what becomes of its parameters. Of any other
law a multiple of a rotation is known: with A = s Q, Q'Q = I, and y' = Q'(y - r b),

    r X' + Z = y,  X' = s Q X + b    <=>    (r s) X + Q'Z = y',

and Q'Z is standard normal: the posterior of X is that at the SNR r s, given y'. What of y is not in the range of Q is
noise alone. Under any other A the noise is no longer isotropic in X, and no posterior of it is known.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.points import Numbers
from brenier.laws.base import Distribution, Localization, Target, far
from brenier.laws.elliptical import Elliptical
from brenier.laws.given import as_law
from brenier.laws.line.density import OnTheLine
from brenier.laws.line.families import Frozen
from brenier.laws.mixed import Mixture
from brenier.laws.mixture import GaussianMixture
from brenier.laws.parameters import check_snr, read_numbers
from brenier.laws.product import Product
from brenier.laws.uniform import Uniform

_SAME = 1e-9  # relative difference within which columns have one length and are orthogonal


def affine(law: Target | Numbers | Frozen, matrix: Numbers, shift: Numbers = 0.0, *, name: str | None = None) -> Target:
    """The law of A X + b, exactly.

    Args:
        law: of X, explicit, in d dimensions.
        matrix: A: a number, for a multiple of the identity, or (m, d). With orthogonal columns of one length, a
            rotation, reflection or embedding times a scale, it may be that of any law; Gaussian mixtures take any, laws
            that are elliptical any that can be inverted, boxes and products any that is diagonal.
        shift: b: a number or m numbers, in the unit of the image.
        name: what to call the law in results. Default: that of `law`.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a law that is learned or made of data, or an
            image that is not known: the message says what to take instead.
    """
    law = as_law(law)
    if law.atoms or law.learned:
        what, instead = ("data", "data @ matrix.T + shift") if law.atoms else ("a network", "a law that is explicit")
        raise ValueError(f"the image of {law.name}, which is {what}, is not made here: give {instead}")
    a = read_numbers(matrix, "matrix")
    a = a * torch.eye(law.dim, dtype=torch.float64) if a.numel() == 1 and (a.ndim < 2 or law.dim == 1) else a
    if a.ndim != 2 or a.shape[1] != law.dim or a.shape[0] == 0:
        raise ValueError(f"matrix must be a number or have shape (m, {law.dim}), got {tuple(a.shape)}")
    b = read_numbers(shift, "shift").flatten()
    if b.numel() not in (1, a.shape[0]):
        raise ValueError(f"shift must be a number or {a.shape[0]} numbers, got {b.numel()}")
    a, b = a.to(law.device), b.expand(a.shape[0]).to(law.device)
    found = _image(law, a, b)
    found = _rotated(law, a, b) if found is None else found
    if found is None:
        raise ValueError(
            f"of {law.name} the image under a rotation times a scale is known (orthogonal columns of one length), and "
            "this matrix is none: give a GaussianMixture or an Elliptical law, or the density of the image"
        )
    found.name = name or law.name
    return found


class Rotated(Target):
    """The law of s Q X + b, with orthonormal columns of Q; made by `affine`.

    Args:
        law: of X, in d dimensions.
        scale: s > 0.
        columns: Q, shape (m, d).
        shift: b, shape (m,).
    """

    def __init__(self, law: Target, scale: float, columns: Float[Tensor, "m d"], shift: Float[Tensor, " m"]) -> None:
        self.law, self.scale, self.columns, self.shift = law, scale, columns, shift
        self.name, self.event_shape = law.name, (len(shift),)
        self.dtype, self.device = law.dtype, law.device

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points."""
        return self._out(self.law.sample(n, seed))

    def denoise(self, y: Float[Tensor, "n m"], snr: float) -> Float[Tensor, "n m"]:
        """Posterior mean E[X' | Y_r = y]."""
        return self._out(self.law.denoise(self._own(y, snr), snr * self.scale))

    def localize(self, y: Float[Tensor, "n m"], snr: float) -> Localization:
        """Norm and trace of Cov[rX' | Y_r = y], those of X at the SNR r s, and the mean."""
        found = self.law.localize(self._own(y, snr), snr * self.scale)
        return replace(found, mean=None if found.mean is None else self._out(found.mean))

    def log_density(self, y: Float[Tensor, "n m"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y: that of X, and the noise beside it."""
        own = self._own(y, snr)
        away = y.double() - snr * self.shift
        beside = (away - own.double() @ self.columns.T).square().sum(1)
        extra = self.dim - self.law.dim
        return self.law.log_density(own, snr * self.scale) - (beside + extra * math.log(2 * math.pi)).to(own) / 2

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]] | None:
        """Log density of the image; None where that of X is none, or the image lies in a subspace."""
        inner = self.law.density() if self.dim == self.law.dim else None
        if inner is None:
            return None
        lost = self.dim * math.log(self.scale)
        return lambda x: inner((x - self.shift.to(x)) @ self.columns.to(x) / self.scale) - lost

    def moments(self) -> tuple[Float[Tensor, " m"], Float[Tensor, "m m"]]:
        """Mean and covariance."""
        mean, covariance = (part.double() for part in self.law.moments())
        turned = self.scale**2 * (self.columns @ covariance @ self.columns.T)
        return self._out(mean[None])[0], turned.to(self.dtype)

    def scales(self) -> tuple[float, float]:
        """Those of X, times s."""
        smallest, largest = self.law.scales()
        return self.scale * smallest, self.scale * largest

    @property
    def square_integrable(self) -> bool:
        """Whether E |X|^2 is finite."""
        return self.law.square_integrable

    @property
    def snr_range(self) -> tuple[float, float]:
        """Those of X, over s."""
        low, high = self.law.snr_range
        return low / self.scale, high / self.scale

    @property
    def tolerance(self) -> float:
        """Relative error allowed in operator norms."""
        return self.law.tolerance

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or in another dtype."""
        other = copy.copy(self)
        other.law = self.law.to(device, dtype)
        other.device, other.dtype = other.law.device, other.law.dtype
        other.columns, other.shift = self.columns.to(other.device), self.shift.to(other.device)
        return other

    @property
    def origin(self) -> Float[Tensor, " m"]:
        """The image of the origin of X where that is far from zero, else 0."""
        place = self.shift + self.scale * (self.columns @ self.law.origin.double())
        return place if far(place, self.scales()[0]) else torch.zeros_like(place)

    def moved(self, by: Float[Tensor, " m"]) -> Self:
        """The law of X' + by."""
        other = copy.copy(self)
        other.shift = self.shift + by.to(self.shift)
        return other

    def breakpoints(self, snr: float) -> Float[Tensor, " k"] | None:
        """In one dimension: those of X, turned round where Q = -1."""
        points = self.law.breakpoints(snr * self.scale) if self.dim == 1 else None
        return None if points is None else (points * self.columns[0, 0] + snr * self.shift).sort().values

    def distribution(
        self, x: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], sigma: Float[Tensor, "*n"]
    ) -> Distribution:
        """In one dimension: distribution of alpha X' + sigma Z at x, element by element."""
        if self.dim != 1:
            return super().distribution(x, alpha, sigma)
        sign = float(self.columns[0, 0])
        found = self.law.distribution(sign * (x - alpha * self.shift), alpha * self.scale, sigma)
        return found if sign > 0 else Distribution(found.log_sf, found.log_cdf, found.log_density)

    def point_masses(self) -> tuple[Float[Tensor, "k m"], Float[Tensor, " k"]]:
        """Those of X, mapped."""
        places, mass = self.law.point_masses()
        return self._out(places), mass

    def _own(self, y: Float[Tensor, "n m"], snr: float) -> Float[Tensor, "n d"]:
        check_snr(snr)
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"noisy points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        return ((y.to(self.device, torch.float64) - snr * self.shift) @ self.columns).to(self.dtype)

    def _out(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        return (self.shift + self.scale * (x.double() @ self.columns.T)).to(self.dtype)


def _rotated(law: Target, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target | None:
    """The image under a multiple of a rotation; None under anything else."""
    gram = a.T @ a
    scale = float(gram.diagonal().mean().sqrt())
    off = float((gram - scale**2 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max())
    if not 0 < scale < math.inf or off > _SAME * scale**2:
        return None
    return Rotated(law, scale, a / scale, b)


def _diagonal(a: Float[Tensor, "m d"]) -> Float[Tensor, " d"] | None:
    """The diagonal of a square matrix that has nothing beside it; else None."""
    entries = a.diagonal()
    return entries if a.shape[0] == a.shape[1] and bool((a == entries.diag()).all()) else None


@singledispatch
def _image(law: Target, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target | None:
    """The image of a law in its own family; None where that is not known."""
    del law, a, b
    return None


@_image.register
def _(law: GaussianMixture, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target:
    means = law.means.double() @ a.T + b
    variances, entries, square = law.variances.double(), _diagonal(a), a @ a.T
    level = square.diagonal().mean()
    if variances.shape[1] == 1 and bool(
        ((square - level * torch.eye(len(square)).to(square)).abs() <= _SAME * level).all()
    ):
        covariances = list(variances[:, 0] * level)
    elif law.axes is None and entries is not None:
        covariances = list(variances * entries.square())
    else:
        covariances = list(a @ law.components.covariances().double() @ a.T)
    return GaussianMixture(law.weights, means, covariances, name=law.name, dtype=law.dtype, device=law.device)


@_image.register
def _(law: Elliptical, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target | None:
    if a.shape[0] != a.shape[1] or float(torch.linalg.matrix_rank(a)) < len(a):
        return None
    shape = (law.axes * law.spread) @ law.axes.T
    return law.reshaped(a @ law.location.double() + b, a @ shape @ a.T)


@_image.register
def _(law: Uniform, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target | None:
    entries = _diagonal(a)
    if entries is None:
        return None
    ends = torch.stack([entries * law.low.double() + b, entries * law.high.double() + b])
    return Uniform(ends.amin(0), ends.amax(0), name=law.name, dtype=law.dtype, device=law.device)


@_image.register
def _(law: OnTheLine, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target | None:
    return law.affine(float(a), float(b)) if a.numel() == 1 and float(a) > 0 else None


@_image.register
def _(law: Mixture, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target | None:
    if a.numel() != 1 or float(a) == 0:
        return None
    return law.mapped(lambda part: affine(part, float(a), float(b)))


@_image.register
def _(law: Product, a: Float[Tensor, "m d"], b: Float[Tensor, " m"]) -> Target | None:
    entries = _diagonal(a)
    if entries is None or bool((entries == 0).any()):
        return None

    def change(part: Target, values: Float[Tensor, "e 2"]) -> Target:
        return affine(part, values[:, 0].diag(), values[:, 1])

    return law.mapped(change, torch.stack([entries, b], 1))
