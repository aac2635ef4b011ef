"""Mixtures of laws on the line, point masses among them: truncated, skewed and heavy-tailed components alike.

Given Y_r = y the component i has the weight w_i ~ p_i f_i(y), f_i the density of its noisy law, and the laws of total
expectation and variance join what the components say of themselves: m = sum_i w_i m_i,

    Var[rX | y] = sum_i w_i (v_i + r^2 (m_i - m)^2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.core.points import Numbers
from brenier.core.random import seeds
from brenier.laws.base import Distribution, Localization, Target, far
from brenier.laws.given import as_law
from brenier.laws.line.families import Frozen
from brenier.laws.mixture import GaussianMixture
from brenier.laws.parameters import check_snr, read_weights

_STREAM = 0x317D
_LEVELS = (0.15865525393145707, 0.5, 0.8413447460685429, *(np.arange(1, 16) / 16).tolist())
_NORMAL_SHARE = 0.15731068461017067  # length of the densest sixteenth of N(0, 1)


class Mixture(Target):
    """sum_i p_i P_i of laws P_i on the line.

    Args:
        weights: p_i >= 0, shape (K,), not all zero; they are normalised, and components of weight 0 are left out.
        laws: explicit laws on the line, frozen distributions of scipy.stats, or numbers: point masses.
        name: what to call the law in results.

    Raises:
        ValueError: weights that are none or of another number; a law of more dimensions, learned, or made of data.
    """

    def __init__(
        self, weights: Numbers, laws: Sequence[Target | Frozen | float], *, name: str = "mixture of laws"
    ) -> None:
        mass = read_weights(weights)
        if len(laws) != len(mass):
            raise ValueError(f"a mixture needs one law per weight, got {len(laws)} laws and {len(mass)} weights")
        found = [_component(law) for law in laws]
        kept = [k for k in range(len(found)) if mass[k] > 0]
        self.name, self.event_shape = name, (1,)
        self.dtype, self.device = torch.float64, torch.device("cpu")
        self.laws = tuple(found[k].to("cpu", torch.float64) for k in kept)
        self.weights = mass[kept] / mass.sum()
        self._measure()

    def _measure(self) -> None:
        """The median, the smallest and the largest length."""
        levels = self._quantiles(_LEVELS)
        largest = float(levels[2] - levels[0]) / 2
        gaps = np.diff(levels[3:])
        lengths = [float(gap) / _NORMAL_SHARE for gap in gaps[gaps > 0]]
        lengths += [law.scales()[0] for law in self.laws if float(law.point_masses()[1].sum()) < 1]
        largest = largest if largest > 0 else max(lengths, default=1.0)
        self._median, self._lengths = float(levels[1]), (min([*lengths, largest]), largest)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points: a component each, then a point of that component."""
        which, *own = seeds(seed, _STREAM, count=1 + len(self.laws))
        generator = torch.Generator().manual_seed(which)
        component = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        x = torch.empty((n, 1), dtype=self.dtype, device=self.device)
        for k, law in enumerate(self.laws):
            mine = component == k
            x[mine.to(self.device)] = law.sample(int(mine.sum()), own[k]).to(x)
        return x

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y]."""
        mean = self.localize(y, snr).mean
        assert mean is not None  # as said there
        return mean

    def score(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """d log p/dy of Y_r: the components' own, weighted, with no cancellation."""
        weights, _ = self._weights(y, snr)
        scores = torch.stack([law.score(y, snr)[:, 0] for law in self.laws], 1)
        return (weights * _where(weights > 0, scores)).sum(1, keepdim=True)

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Var[rX | Y_r = y], which is norm and trace alike, and E[X | Y_r = y]."""
        return self._posterior(y, snr)[0]

    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y."""
        return self._weights(y, snr)[1]

    def norm_and_log_density(
        self, y: Float[Tensor, "n d"], snr: float
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Var[rX | Y_r = y] and log p of Y_r at y, from the same sums."""
        found, log_density = self._posterior(y, snr)
        return found.norm, log_density

    def scales(self) -> tuple[float, float]:
        """The smallest and the largest length in the law, as for `OnTheLine`, and the components' smallest."""
        return self._lengths

    @property
    def square_integrable(self) -> bool:
        """Whether E X^2 is finite."""
        return all(law.square_integrable for law in self.laws)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or returning another dtype."""
        other = copy.copy(self)
        other.device, other.dtype = torch.device(device or self.device), dtype or self.dtype
        other.laws = tuple(law.to(other.device, torch.float64) for law in self.laws)
        other.weights = self.weights.to(other.device)
        return other

    @property
    def origin(self) -> Float[Tensor, " 1"]:
        """The median where it lies far from zero, else 0."""
        middle = torch.tensor([self._median], dtype=torch.float64, device=self.device)
        return middle if far(middle, self.scales()[1]) else torch.zeros_like(middle)

    def moved(self, by: Float[Tensor, " 1"]) -> Self:
        """The law of X + by."""
        return self if bool((by == 0).all()) else self.mapped(lambda law: law.moved(by))

    def mapped(self, change: Callable[[Target], Target]) -> Self:
        """The mixture of what `change` makes of every component."""
        other = copy.copy(self)
        other.laws = tuple(change(law) for law in self.laws)
        other._measure()
        return other

    def breakpoints(self, snr: float) -> Float[Tensor, " m"] | None:
        """Those of all components."""
        points = [law.breakpoints(snr) for law in self.laws]
        return torch.cat([part.double() for part in points if part is not None]).unique()

    def distribution(
        self, x: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], sigma: Float[Tensor, "*n"]
    ) -> Distribution:
        """Distribution of alpha X + sigma Z at x, element by element."""
        parts = [law.distribution(*(part.double() for part in (x, alpha, sigma))) for law in self.laws]

        def joined(values: Sequence[Tensor]) -> Tensor:
            return (torch.stack([*values], -1) + self.weights.log()).logsumexp(-1)

        return Distribution(
            log_cdf=joined([part.log_cdf for part in parts]),
            log_sf=joined([part.log_sf for part in parts]),
            log_density=joined([part.log_density for part in parts]),
        )

    def point_masses(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
        """Places and probabilities of the components' point masses; equal places are one."""
        found = [law.point_masses() for law in self.laws]
        places = torch.cat([place.double() for place, _ in found])
        mass = torch.cat([p * own.double() for p, (_, own) in zip(self.weights, found, strict=True)])
        distinct, which = torch.unique(places, dim=0, return_inverse=True)
        return distinct, mass.new_zeros(len(distinct)).index_add_(0, which, mass)

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]] | None:
        """Log density of X itself; None where a component has no smooth one."""
        if len(self.point_masses()[1]):
            return None
        parts = [law.density() for law in self.laws]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return lambda x: (torch.stack([part(x) for part in known], 1) + self.weights.log()).logsumexp(1)

    def moments(self) -> tuple[Float[Tensor, " 1"], Float[Tensor, "1 1"]]:
        """Mean and variance, where every component has them."""
        means, variances = zip(*(law.moments() for law in self.laws), strict=True)
        each, within = torch.stack(means)[:, 0], torch.stack(variances)[:, 0, 0]
        mean = self.weights @ each
        return mean[None], (self.weights @ (within + (each - mean).square()))[None, None]

    def _weights(self, y: Float[Tensor, "n d"], snr: float) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
        """Posterior weights of the components, and log p(y). A law that is too far away to be known there has none."""
        check_snr(snr)
        if y.ndim != 2 or y.shape[1] != 1:
            raise ValueError(f"noisy points must have shape (n, 1), got {tuple(y.shape)}")
        logs = torch.stack([law.log_density(y.double(), snr) for law in self.laws], 1) + self.weights.log()
        known = torch.where(logs.isnan(), -math.inf, logs)
        log_density = torch.where(logs.isnan().all(1), math.nan, known.logsumexp(1))
        return (known - log_density[:, None]).exp(), log_density.to(self.dtype)

    def _posterior(self, y: Float[Tensor, "n d"], snr: float) -> tuple[Localization, Float[Tensor, " n"]]:
        weights, log_density = self._weights(y, snr)
        found = [law.localize(y.double(), snr) for law in self.laws]
        means = torch.stack([part.mean[:, 0] for part in found if part.mean is not None], 1)
        variances = torch.stack([part.norm for part in found], 1)
        counts = ~(weights <= 0)  # NaN stays NaN
        means, variances = _where(counts, means), _where(counts, variances)
        mean = (weights * means).sum(1, keepdim=True)
        norm = (weights * (variances + (snr * (means - mean)).square())).sum(1).to(self.dtype)
        return Localization(norm=norm, trace=norm, mean=mean.to(self.dtype)), log_density

    def _quantiles(self, levels: Sequence[float]) -> Array:
        """Quantiles of X by bisection in arsinh x, which resolves every scale."""
        level = torch.tensor(levels, dtype=torch.float64, device=self.device).log()
        low, high = torch.full_like(level, -700.0), torch.full_like(level, 700.0)
        one, none = torch.ones_like(level), torch.zeros_like(level)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.distribution(middle.sinh(), one, none).log_cdf < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high.sinh().cpu().numpy()


def _where(counts: Tensor, values: Tensor) -> Tensor:
    return torch.where(counts, values, 0.0)


def _component(law: Target | Frozen | float) -> Target:
    if isinstance(law, int | float):
        return GaussianMixture([1.0], [float(law)], 0.0, name=f"delta at {law:g}")
    found = as_law(law)
    if found.dim != 1 or found.atoms or found.breakpoints(1.0) is None:
        what = f"has {found.dim} dimensions" if found.dim != 1 else "has no explicit distribution there"
        instead = "in more, a GaussianMixture is one" if found.dim != 1 else "point masses are numbers"
        raise ValueError(f"a mixture is of explicit laws on the line, and {found.name} {what}: {instead}")
    return found
