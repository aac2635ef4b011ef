"""Elliptical laws with heavy tails, as mixtures of normal laws over their scale: posteriors by one sum over the scale.

X = m + sqrt(V) G, G ~ N(0, S) and V > 0 independent: Student's t where V is inverse gamma, Laplace's law where it is
exponential; the density exp(-q^(b/2)), q = (x - m)'S^-1(x - m), b <= 2, where 1/(2V) is stable of exponent b/2 but for
a power (`stable`). With S = Q diag(l) Q', e = Q'(y - r m) and a_i(v) = r^2 v l_i, given Y_r = y and V = v the i-th
coordinate of Q'(rX - r m) is normal with

    mean c_i e_i and variance c_i,    c_i(v) = a_i/(a_i + 1),    and    p(v | y) ~ p(v) prod_i N(e_i; 0, a_i + 1).

So its posterior mean is E[c_i | y] e_i, and the covariance diag(E[c_i | y]) + (Cov[c_i, c_j | y] e_i e_j)_ij. Where
S = l I that is E[c] I + Var[c] e e': its norm is E[c] + Var[c] |e|^2.

All means over v are trapezoidal sums in log v: where the integrand and its derivatives vanish at both ends, these
converge faster than any power of the step, which follows the width sqrt(2/d) that posteriors of log v have.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array, whole_number
from brenier.core.points import Numbers
from brenier.laws.base import Localization, Target, far, resolving
from brenier.laws.parameters import check_snr, read_numbers
from brenier.laws.stable import log_stable

NATS = 46.0  # below their peak, in nats, that densities of log v are cut: 1e-20
STEP = 0.25  # of the sum over log v, in widths of posteriors
BLOCK = 2**21  # numbers in work at once
HIGHEST = 1.95  # exponent of a generalised normal law below that of a normal one
LOW, HIGH = 0.1, 0.999  # quantiles of V that say the smallest and the largest length


class Elliptical(Target):
    """A mixture of N(m, v S) over v: `student`, `laplace`, `generalised_normal`, or from a density of log v.

    Args:
        log_scale: log density of log V up to a constant, at an array of values of log V, with one peak; or the one
            value that V has.
        draw: n values of V, from a generator of numpy; or of the root of (X - m)'S^-1(X - m), with `of_radius`.
        dim: d.
        location: m, shape (d,), or a number.
        scale: S: a number, d numbers for its diagonal, or a positive definite d x d matrix, in squared data units.
        name: what to call the law in results.
        square_integrable: whether E V is finite.
        width: of the narrowest feature of the density of log V.
        of_radius: what `draw` draws.

    Raises:
        ValueError: numbers that are not finite, of the wrong shape, or S not positive definite.
    """

    def __init__(
        self,
        log_scale: Callable[[Array], Array] | float,
        draw: Callable[[int, np.random.Generator], Array],
        dim: int,
        *,
        location: Numbers = 0.0,
        scale: Numbers = 1.0,
        name: str = "elliptical",
        square_integrable: bool = True,
        width: float = math.inf,
        of_radius: bool = False,
    ) -> None:
        dim = whole_number(dim, "dim", 1)
        self.name, self.event_shape, self._finite, self._draw_scale = name, (dim,), square_integrable, draw
        self._of_radius = of_radius
        self.dtype, self.device = torch.float64, torch.device("cpu")
        centre = read_numbers(location, "location").flatten().double().cpu()
        if len(centre) not in (1, dim) or not bool(torch.isfinite(centre).all()):
            raise ValueError(f"location must be a number or {dim} finite numbers, got shape {tuple(centre.shape)}")
        self.location = centre.expand(dim).clone()
        self.spread, self.axes = _axes(read_numbers(scale, "scale").double().cpu(), dim)
        values, mass = _nodes(log_scale, dim, width)
        self._variances, self._mass = torch.from_numpy(values), torch.from_numpy(mass)

    @classmethod
    def student(cls, df: float, dim: int, *, location: Numbers = 0.0, scale: Numbers = 1.0) -> Self:
        """Student's t with `df` degrees of freedom: V = df/chi^2_df. S is no covariance: that is df/(df - 2) S."""
        if not 0 < df < math.inf:
            raise ValueError(f"df must be positive and finite, got {df}")

        def log_scale(t: Array) -> Array:
            return -df / 2 * (t + np.exp(-t))

        def draw(n: int, generator: np.random.Generator) -> Array:
            return df / generator.chisquare(df, n)

        name = f"t({df:g}) in {dim} dimensions"
        return cls(log_scale, draw, dim, location=location, scale=scale, name=name, square_integrable=df > 2)

    @classmethod
    def laplace(cls, dim: int, *, location: Numbers = 0.0, scale: Numbers = 1.0) -> Self:
        """Laplace's law with covariance S: V exponential of mean 1. On the line of density exp(-|x| sqrt(2/S))."""

        def log_scale(t: Array) -> Array:
            return t - np.exp(t)

        def draw(n: int, generator: np.random.Generator) -> Array:
            return generator.exponential(size=n)

        return cls(log_scale, draw, dim, location=location, scale=scale, name=f"Laplace in {dim} dimensions")

    @classmethod
    def generalised_normal(cls, exponent: float, dim: int, *, location: Numbers = 0.0, scale: Numbers = 1.0) -> Self:
        """Density exp(-((x - m)'S^-1(x - m))^(b/2)), b = `exponent`: on the line, scipy's gennorm(b).

        A mixture of normal laws for 0 < b <= 2 only: at 2 it is N(m, S/2), at 1 tails are those of Laplace's law.
        Between 1.95 and 2 V is all but constant, and the sum over it too long.

        Raises:
            ValueError: another exponent.
        """
        dim = whole_number(dim, "dim", 1)
        if not 0.05 <= exponent <= HIGHEST and exponent != 2:
            what = (
                "take 2, the normal law" if HIGHEST < exponent < 2 else "a density or a product of scipy:gennorm does"
            )
            raise ValueError(
                f"exponent must be from 0.05 to {HIGHEST}, or 2, got {exponent:g}: beyond 2 the law is no mixture of "
                f"normal laws, and near 0 too wide; {what}"
            )
        a = exponent / 2

        def log_scale(t: Array) -> Array:
            rate = -t - math.log(2)
            return (1 - dim / 2) * rate + log_stable(rate, a)

        def draw(n: int, generator: np.random.Generator) -> Array:
            return generator.gamma(dim / exponent, size=n) ** (1 / exponent)

        name = f"generalised normal ({exponent:g}) in {dim} dimensions"
        width = (1 - a) / a
        made = 0.5 if exponent == 2 else log_scale
        return cls(made, draw, dim, location=location, scale=scale, name=name, width=width, of_radius=True)

    @property
    def square_integrable(self) -> bool:
        """Whether E |X|^2 is finite."""
        return self._finite

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points."""
        random = np.random.default_rng(np.random.SeedSequence([seed, 0xE111]))
        drawn = self._draw_scale(n, random)[:, None]
        z = random.normal(size=(n, self.dim))
        z *= drawn / np.linalg.norm(z, axis=1, keepdims=True) if self._of_radius else np.sqrt(drawn)
        turned = torch.from_numpy(z).to(self.spread) * self.spread.sqrt()
        return (self.location + turned @ self.axes.T).to(self.device, self.dtype)

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y]."""
        return self._blocked(y, snr, lambda e, c, w: (self._mean(e, (w[:, :, None] * c).sum(1), snr),))[0]

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Norm and trace of Cov[rX | Y_r = y], and E[X | Y_r = y]."""

        def find(e: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, ...]:
            mean = (w[:, :, None] * c).sum(1)
            if c.shape[2] == 1:
                pulled = (w * (c[:, :, 0] - mean).square()).sum(1) * e.square().sum(1)
                norm, trace = mean[:, 0] + pulled, self.dim * mean[:, 0] + pulled
            else:
                off = (c - mean[:, None]) * w.sqrt()[:, :, None] * e[:, None]
                covariance = off.mT @ off + torch.diag_embed(mean)
                norm = torch.linalg.eigvalsh(covariance)[:, -1]
                trace = covariance.diagonal(dim1=1, dim2=2).sum(1)
            return norm, trace, self._mean(e, mean, snr)

        norm, trace, mean = self._blocked(y, snr, find)
        return Localization(norm=norm, trace=trace, mean=mean)

    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y."""
        e = (y.double() - snr * self.location) @ self.axes
        return torch.cat([torch.logsumexp(self._logs(part, snr, 1.0), 1) for part in self._parts(e)]).to(self.dtype)

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]:
        """Log density of X itself, differentiable by autograd."""

        def log_density(x: Tensor) -> Tensor:
            e = (x.double() - self.location) @ self.axes
            return torch.cat([torch.logsumexp(self._logs(part, 1.0, 0.0), 1) for part in self._parts(e)])

        return log_density

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance; NotImplementedError for a law that has none."""
        if not self._finite:
            raise NotImplementedError(f"{self.name} has no second moment")
        covariance = (self.axes * self.spread) @ self.axes.T * (self._mass * self._variances).sum()
        return self.location, covariance

    def scales(self) -> tuple[float, float]:
        """Roots of the 0.1-quantile of V times the least variance of S, and of the 0.999-quantile times the largest."""
        below = torch.cumsum(self._mass, 0)
        low, high = (float(self._variances[min(int((below < q).sum()), len(below) - 1)]) for q in (LOW, HIGH))
        return math.sqrt(low * float(self.spread.min())), math.sqrt(high * float(self.spread.max()))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or returning another dtype; sums are in float64."""
        other = copy.copy(self)
        other.device = torch.device(device or self.device)
        other.dtype = resolving(dtype or self.dtype, self.location, self.scales()[0], self.name)
        for name in ("location", "spread", "axes", "_variances", "_mass"):
            setattr(other, name, getattr(self, name).to(other.device))
        return other

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The location where it lies far from zero, else 0."""
        return self.location if far(self.location, self.scales()[0]) else torch.zeros_like(self.location)

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by."""
        other = copy.copy(self)
        other.location = self.location + by.to(self.location)
        return other

    def reshaped(self, location: Float[Tensor, " d"], scale: Float[Tensor, "d d"]) -> Self:
        """The same mixture over scales with another m and S."""
        other = copy.copy(self)
        other.location = location.to(self.location)
        level = scale.diagonal().mean()
        same = bool(torch.allclose(scale, level * torch.eye(self.dim).to(scale), rtol=0, atol=1e-12 * float(level)))
        spread, axes = _axes(level.cpu() if same else (scale + scale.T).cpu() / 2, self.dim)
        other.spread, other.axes = spread.to(self.spread), axes.to(self.axes)
        return other

    def _mean(self, e: Tensor, mean: Tensor, snr: float) -> Tensor:
        return self.location + (mean * e) @ self.axes.T / snr

    def _logs(self, e: Float[Tensor, "n d"], snr: float, noise: float) -> Float[Tensor, "n k"]:
        """log of p(v) N(e; 0, r^2 v S + noise), summed over nothing."""
        a = snr**2 * self._variances[:, None] * self.spread + noise  # (k, d) or (k, 1)
        squares = e.square() if a.shape[1] > 1 else e.square().sum(1, keepdim=True)
        counts = 1 if a.shape[1] > 1 else self.dim
        quadratic = squares @ (1 / a).T
        return self._mass.log() - (quadratic + (counts * (2 * math.pi * a).log()).sum(1)) / 2

    def _parts(self, e: Tensor) -> tuple[Tensor, ...]:
        return e.split(max(1, BLOCK // (len(self._mass) * self.spread.numel())))

    def _blocked(
        self, y: Tensor, snr: float, find: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
    ) -> list[Tensor]:
        """What `find` says of e, of c over the nodes, (1, k, d) or (1, k, 1), and of their weights, (n, k)."""
        check_snr(snr)
        e = (y.double() - snr * self.location) @ self.axes
        a = snr**2 * self._variances[:, None] * self.spread
        c = (a / (a + 1))[None]
        found = [find(part, c, torch.softmax(self._logs(part, snr, 1.0), 1)) for part in self._parts(e)]
        return [torch.cat(column).to(self.dtype) for column in zip(*found, strict=True)]


def _axes(scale: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues of S, one where they are equal, and its axes as columns."""
    eye = torch.eye(dim, dtype=torch.float64)
    if scale.numel() == 1:
        spread, axes = scale.reshape(1), eye
    elif scale.shape == (dim,):
        spread, axes = scale, eye
    elif scale.shape == (dim, dim) and bool(torch.isclose(scale, scale.T).all()):
        spread, axes = torch.linalg.eigh(scale)
    else:
        raise ValueError(f"scale must be a number, {dim} numbers or a symmetric matrix, got shape {tuple(scale.shape)}")
    if not bool(((spread > 0) & torch.isfinite(spread)).all()):
        raise ValueError(f"scale must be positive definite, its least eigenvalue is {float(spread.min()):.3g}")
    return spread, axes


def _nodes(log_scale: Callable[[Array], Array] | float, dim: int, width: float) -> tuple[Array, Array]:
    """Values of V, evenly spaced in log V where its density is above e^-46 of its peak, and their mass."""
    if not callable(log_scale):
        return np.array([log_scale]), np.ones(1)
    wide = np.linspace(-700, 700, 28_001)
    with np.errstate(over="ignore", invalid="ignore"):
        logs = np.nan_to_num(log_scale(wide), nan=-np.inf)
    kept = wide[logs > logs.max() - NATS]
    if len(kept) < 2 or kept[0] == wide[0] or kept[-1] == wide[-1]:
        raise ValueError("the scale spreads over more than e^700, or over less than e^0.1: its posteriors have no sum")
    step = STEP * min(math.sqrt(2 / (dim + 2)), width)
    t = np.arange(kept[0] - 0.05, kept[-1] + 0.05, step)
    logs = log_scale(t)
    mass = np.exp(logs - logs.max())
    return np.exp(t), mass / mass.sum()
