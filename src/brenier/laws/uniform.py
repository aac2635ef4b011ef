"""The uniform law on an interval or a box.

Coordinates are independent, so everything is one-dimensional: given Y_r = y, U = rX is N(y, 1) truncated to
[r low, r high]. The closed forms of its moments in the normal density and distribution function cancel to nothing far
out and on short intervals. Here the moments are Gauss-Legendre sums instead, over the part of the interval that holds
all but e^-40 of the mass: sums of positive terms that keep full relative accuracy everywhere.

With t = r (low + high)/2 - y, w = r (high - low) and x = sign(t) (U - y), the variable x is a standard normal truncated
to [alpha, alpha + w], alpha = |t| - w/2, whose mode is x0 = max(alpha, 0); with x = x0 + v the density of v is
proportional to exp(-x0 v - v^2/2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.points import Numbers
from brenier.laws.base import Distribution, Localization, Target, far, resolving
from brenier.laws.parameters import check_snr, read_numbers

# exp(-x0 v - v^2/2) falls from 1 to e^-40 over the window: 64 nodes integrate it to rounding, with room to spare.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_NATS = 40.0
_BLOCK = 2**20
# Intervals up to this many standard deviations are summed over the nodes, wider ones are differences of closed forms.
_WIDE = 1.0
_FEW_NODES, _FEW_WEIGHTS = np.polynomial.legendre.leggauss(10)


class _Truncated(NamedTuple):
    """Moments of rX given Y_r = y, coordinate by coordinate."""

    pull: Float[Tensor, "n d"]  # E[rX] - y
    past_end: Float[Tensor, "n d"]  # |E[rX] - the end nearer to y|
    variance: Float[Tensor, "n d"]
    log_density: Float[Tensor, "n d"]


class Uniform(Target):
    """Uniform(low, high) on R, or the product of such laws on R^d; where low equals high, a constant.

    Args:
        low: lower ends, a number or d numbers, in the unit of the data.
        high: upper ends, none below its lower end.
        name: what to call the law in results.
        event_shape: the shape of one point before it was flattened to d numbers; (d,) by default.
        dtype: of computations, float64 by default, and where float32 does not resolve the law, far from zero.
        device: where to compute.

    Raises:
        ValueError: ends not finite, out of order, or of shapes that do not fit.

    Warns:
        UserWarning: float32 is asked for, and does not resolve the law.
    """

    swift = True

    def __init__(
        self,
        low: Numbers,
        high: Numbers,
        *,
        name: str = "uniform",
        event_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        ends = [read_numbers(low, "low").flatten(), read_numbers(high, "high").flatten()]
        dim = max(len(end) for end in ends)
        if any(len(end) not in {1, dim} for end in ends) or dim == 0:
            raise ValueError(f"low and high must have as many coordinates each, got {len(ends[0])} and {len(ends[1])}")
        lower, upper = ends[0].expand(dim), ends[1].expand(dim)
        if bool((lower > upper).any()):
            i = int(torch.nonzero(lower > upper)[0])
            raise ValueError(f"low must not exceed high, got {lower[i]:g} > {upper[i]:g} in coordinate {i}")
        self.name = name
        self.event_shape = event_shape or (dim,)
        if self.dim != dim:
            raise ValueError(f"event_shape {self.event_shape} holds {self.dim} numbers, the box has {dim} sides")
        self.dtype, self.device = torch.float64, torch.device(device or "cpu")
        self.low, self.high = lower.to(self.device), upper.to(self.device)
        if dtype is not None:
            self._narrow(dtype)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points of the box."""
        generator = torch.Generator(self.device).manual_seed(seed)
        part = torch.rand((n, self.dim), generator=generator, dtype=self.dtype, device=self.device)
        return torch.lerp(self.low, self.high, part)

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y] of each noisy point ([LDK24] Proposition 2)."""
        return self._blocked(y, snr, lambda part, y: self._mean(part, y, snr))

    def score(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """grad log p(y) = E[rX | y] - y of Y_r."""
        return self._blocked(y, snr, lambda part, y: part.pull)

    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y."""
        return self._blocked(y, snr, lambda part, y: part.log_density).sum(1)

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Norm and trace of Cov[rX | Y_r = y], which is diagonal, and E[X | Y_r = y] ([LDK24] Example 3)."""
        both = self._blocked(y, snr, lambda part, y: torch.cat([part.variance, self._mean(part, y, snr)], 1))
        variance, mean = both.split(self.dim, dim=1)
        return Localization(norm=variance.amax(1), trace=variance.sum(1), mean=mean)

    def scales(self) -> tuple[float, float]:
        """The smallest and the largest standard deviation of a coordinate that is not constant; (1, 1) without one."""
        deviation = (self.high - self.low) / math.sqrt(12)
        deviation = deviation[deviation > 0]
        return (float(deviation.min()), float(deviation.max())) if len(deviation) else (1.0, 1.0)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or in another dtype."""
        other = copy.copy(self)
        other.device = torch.device(device or self.device)
        other.low, other.high = self.low.to(other.device), self.high.to(other.device)
        if dtype is not None:
            other._narrow(dtype)
        return other

    def _narrow(self, dtype: torch.dtype) -> None:
        ends = torch.cat([self.low, self.high])
        self.dtype = resolving(dtype, ends, self.scales()[0], self.name)
        self.low, self.high = ends.to(self.dtype).split(self.dim)

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The middle where it lies far from zero, else 0."""
        middle = (self.low.double() + self.high.double()) / 2
        return middle if far(middle, self.scales()[0]) else torch.zeros_like(middle)

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by."""
        other = copy.copy(self)
        by = by.to(self.device)
        other.low, other.high = ((end.double() + by).to(self.dtype) for end in (self.low, self.high))
        return other

    def breakpoints(self, snr: float) -> Float[Tensor, " m"] | None:
        """In one dimension: the middle, and both ends with the boundary layer of width 1 around them; else None."""
        if self.dim != 1:
            return None
        check_snr(snr)
        layer = self.low.new_tensor([0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 7.5, 9.0, 11.0])
        layer = torch.cat([-layer, layer])
        middle = snr * (self.low + self.high) / 2
        return torch.cat([snr * self.low + layer, middle, snr * self.high + layer]).unique()

    def distribution(
        self, x: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], sigma: Float[Tensor, "*n"]
    ) -> Distribution:
        """In one dimension: distribution of alpha X + sigma Z at x, element by element."""
        if self.dim != 1:
            return super().distribution(x, alpha, sigma)
        from_low, from_high = x - alpha * self.low, x - alpha * self.high
        clean = sigma == 0
        noise = torch.where(clean, 1.0, sigma)
        upper, lower = from_low / noise, from_high / noise
        density = torch.where(upper + lower > 0, _log_normal_mass(-upper, -lower), _log_normal_mass(lower, upper))
        width = from_low - from_high
        share = torch.where(width > 0, (from_low / width).clamp(0, 1), (from_low >= 0).to(x))
        inside = (from_low >= 0) & (from_high <= 0) & (width > 0)
        return Distribution(
            log_cdf=torch.where(clean, share.log(), _log_mean_normal(lower, upper)),
            log_sf=torch.where(clean, torch.log1p(-share), _log_mean_normal(-upper, -lower)),
            log_density=torch.where(clean, torch.where(inside, -width.log(), -math.inf), density - noise.log()),
        )

    def point_masses(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
        """The one point of a law whose sides all have no length; else none."""
        return (self.low[None], self.low.new_ones(1)) if bool((self.low == self.high).all()) else super().point_masses()

    def _mean(self, part: _Truncated, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        above = snr * (self.low + self.high) / 2 < y
        mean = torch.where(above, self.high - part.past_end / snr, self.low + part.past_end / snr)
        return torch.minimum(torch.maximum(mean, self.low), self.high)

    def _blocked(
        self,
        y: Float[Tensor, "n d"],
        snr: float,
        read: Callable[[_Truncated, Float[Tensor, "n d"]], Float[Tensor, "n c"]],
    ) -> Float[Tensor, "n c"]:
        check_snr(snr)
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"noisy points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        blocks = y.to(self.device, self.dtype).split(max(1, _BLOCK // (self.dim * len(_NODES))))
        return torch.cat([read(self._truncated(block, snr), block) for block in blocks])

    def _truncated(self, y: Float[Tensor, "n d"], snr: float) -> _Truncated:
        width = snr * (self.high - self.low)
        middle = snr * (self.low + self.high) / 2 - y
        alpha = middle.abs() - width / 2
        mode = alpha.clamp_min(0)
        reach = 2 * _NATS / (mode + (mode.square() + 2 * _NATS).sqrt())
        first = torch.maximum(alpha.clamp_max(0), -reach)
        last = torch.minimum(torch.where(alpha > 0, width, width + alpha), reach)
        half = (last - first) / 2
        v = (first + half)[..., None] + half[..., None] * self.low.new_tensor(_NODES)
        mass = self.low.new_tensor(_WEIGHTS) * torch.exp(-v * (mode[..., None] + v / 2))
        total = mass.sum(-1)
        mean = (mass * v).sum(-1) / total
        variance = (mass * (v - mean[..., None]).square()).sum(-1) / total
        share = torch.where(width > 0, half / width, torch.full_like(half, 0.5))  # of [0, w] per unit of `total`
        log_density = -mode.square() / 2 + (share * total).log() - math.log(2 * math.pi) / 2
        sign = torch.where(middle < 0, -1.0, 1.0).to(y)
        return _Truncated(sign * (mode + mean), mean + (mode - alpha), variance, log_density)


def _nodes_between(low: Float[Tensor, "*n"], high: Float[Tensor, "*n"]) -> Float[Tensor, "*n m"]:
    """Gauss-Legendre nodes of each interval, along a new last axis."""
    return ((high + low) / 2)[..., None] + ((high - low) / 2)[..., None] * low.new_tensor(_FEW_NODES)


def _log_normal_mass(low: Float[Tensor, "*n"], high: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log of (Phi(high) - Phi(low))/(high - low), for intervals whose middle is not above 0."""
    near = _nodes_between(low, torch.minimum(high, low + _WIDE))
    bell = -near.square() / 2 + low.new_tensor(_FEW_WEIGHTS / 2).log() - math.log(2 * math.pi) / 2
    rest = torch.special.log_ndtr(torch.minimum(low, high - _WIDE)) - torch.special.log_ndtr(high)
    wide = torch.special.log_ndtr(high) + torch.log1p(-rest.exp()) - (high - low).clamp_min(_WIDE).log()
    return torch.where(high - low > _WIDE, wide, bell.logsumexp(-1))


def _log_mean_normal(low: Float[Tensor, "*n"], high: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log of the mean of Phi over each interval."""
    near = torch.special.log_ndtr(_nodes_between(low, torch.minimum(high, low + _WIDE)))
    narrow = (near + low.new_tensor(_FEW_WEIGHTS / 2).log()).logsumexp(-1)
    upper, lower = _log_integrated_normal(high), _log_integrated_normal(torch.minimum(low, high - _WIDE))
    wide = upper + torch.log1p(-(lower - upper).exp()) - (high - low).clamp_min(_WIDE).log()
    return torch.where(high - low > _WIDE, wide, narrow)


def _log_integrated_normal(v: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log of the integral of Phi from -inf to v, which is v Phi(v) + phi(v)."""
    far = v.abs()
    mills = math.sqrt(math.pi / 2) * torch.special.erfcx(far / math.sqrt(2))
    below = -far.square() / 2 - math.log(2 * math.pi) / 2 + (1 - far * mills).clamp_min(1e-300).log()
    return torch.where(v > 0, (v.clamp_min(0) + below.exp()).log(), below)
