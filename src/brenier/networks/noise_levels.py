"""How often each noise level is trained: a density over log sigma.

The default is log-normal, as in EDM (Karras et al., arXiv:2206.00364, Table 1), wide enough for the law at hand. With
a profile of `brenier.probe`, half of the levels go where denoising is hard:

    p(log sigma) = 1/2 N(log sigma; mean, std^2) + 1/2 m*(sigma) / int m*(sigma) d log sigma,

with m* of [LDK24] Definition 5 interpolated linearly in log sigma between the SNRs that were probed, and 0 beyond them.

A flow is trained at times t, and t names a noise level, too: of (1 - t) Z + t X, sigma = (1 - t)/t.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from brenier.core import records
from brenier.laws.base import Target

if TYPE_CHECKING:
    import xarray as xr

# EDM trains log sigma ~ N(-1.2, 1.2^2) on data with sigma_data = 0.5; relative to sigma_data that is
EDM_MEAN = -1.2 - math.log(0.5)
EDM_STD = 1.2
FLOW = "flow"  # kind of levels that are a flow's times
HELD = 0.95  # share of the levels that has to reach from the law's finest to its coarsest features


@dataclass(frozen=True)
class NoiseLevels:
    """A distribution of noise levels sigma, in the unit of the data.

    Attributes:
        mean, std: of log sigma in the log-normal part.
        nodes: log sigma, increasing, where the second part's density over log sigma has its `heights`, piecewise linear
            between; both empty where there is no second part. Else it carries half of the mass.
    """

    mean: float
    std: float
    nodes: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()

    @classmethod
    def of_law(cls, law: Target, sigma_data: float) -> Self:
        """Log-normal: EDM's, widened where its central 95% would miss a scale of the law.

        EDM's interval runs from 0.057 to 6.3 times `sigma_data`. Its upper end is raised to twice the law's largest
        length, and for an explicit law (not for data, whose smallest length is a distance between neighbours) its lower
        end is lowered to half of the smallest, see `Target.scales`.
        """
        reach = float(ndtri((1 + HELD) / 2))
        low = math.log(sigma_data) + EDM_MEAN - reach * EDM_STD
        high = math.log(sigma_data) + EDM_MEAN + reach * EDM_STD
        smallest, largest = law.scales()
        if not law.atoms:
            low = min(low, math.log(smallest / 2))
        high = max(high, math.log(2 * largest))
        return cls(mean=(low + high) / 2, std=(high - low) / (2 * reach))

    def with_profile(self, profile: "xr.Dataset") -> Self:
        """Half of these levels, half in proportion to m* of a profile that `brenier.probe` returned.

        Of a profile about the law behind data, m* counts up to the SNR that they resolve, where its bracket is above 0.

        Raises:
            ValueError: the dataset is no profile, holds fewer than two SNRs, m* = 0 throughout, or data do not resolve
                where it is largest.
        """
        records.check(profile, "profile", ("snr", "m_star"), "noise: this")
        probed, profile = profile, records.resolved(profile)
        snr = np.atleast_1d(profile["snr"].to_numpy().astype(float))
        heights = np.atleast_1d(profile["m_star"].to_numpy().astype(float))
        if "m_star_low" in profile:
            heights = np.where(profile["m_star_low"].to_numpy() > 1e-15, heights, 0)
        if len(snr) < 2:
            few = "holds" if len(np.atleast_1d(probed["snr"])) < 2 else "resolves no more than"
            raise ValueError(f"noise: the profile {few} a single SNR: probe at least two")
        if not (np.isfinite(heights).all() and (heights >= 0).all() and (snr > 0).all() and np.isfinite(snr).all()):
            raise ValueError("noise: the profile holds SNRs or m* that are negative or not finite: probe again")
        if not heights.max() > 0:
            raise ValueError('noise: m* = 0 throughout the profile, no level is hard: use noise="log-normal"')
        if probed.sizes["snr"] > profile.sizes["snr"] and heights.argmax() == snr.argmax():
            raise ValueError(
                f"noise: m* still grows at SNR {snr.max():.3g}, the last that the data resolve: give a profile of a "
                'model, or one about="atoms", or use noise="log-normal"'
            )
        order = np.argsort(-snr)
        nodes = -np.log(snr[order])
        return type(self)(self.mean, self.std, tuple(nodes.tolist()), tuple(heights[order].tolist()))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """What `config` wrote.

        Raises:
            ValueError: it is not finite, or no distribution.
        """
        profile = config.get("profile") or {"log_sigma": (), "m_star": ()}
        nodes, heights = (np.asarray(profile[name], dtype=np.float64) for name in ("log_sigma", "m_star"))
        mean, std = float(config["mean"]), float(config["std"])
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"noise levels must have a finite mean and a positive std, got {mean} and {std}")
        known = nodes.ndim == 1 and nodes.shape == heights.shape and bool(np.isfinite([nodes, heights]).all())
        if not (known and (np.diff(nodes) > 0).all() and (heights >= 0).all() and (heights.any() or not nodes.size)):
            raise ValueError("log_sigma must be finite and increasing, m_star as many numbers >= 0 and not all 0")
        return cls(mean, std, tuple(nodes.tolist()), tuple(heights.tolist()))

    def config(self) -> dict[str, Any]:
        """The distribution as JSON."""
        profile = {"log_sigma": list(self.nodes), "m_star": list(self.heights)} if self.nodes else None
        kind = "profile" if self.nodes else "log-normal"
        return {"kind": kind, "mean": self.mean, "std": self.std, "profile": profile}

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        """n levels sigma, one from each n-th part of the distribution, in increasing order within either half.

        Stratified: an average over them varies less than one over independent draws, and has the same expectation.
        """
        place = torch.arange(n, dtype=torch.float64, device=generator.device)
        place = (place + torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)) / n
        place = place.clamp(1e-12, 1 - 1e-12)
        if not self.nodes:
            return (self.mean + self.std * torch.special.ndtri(place)).exp().float()
        first = self.mean + self.std * torch.special.ndtri((2 * place).clamp(max=1 - 1e-12))
        second = self._second_quantile((2 * place - 1).clamp(min=0))
        return torch.where(place < 0.5, first, second).exp().float()

    def density(self, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Density of log sigma, at `sigma` of any shape."""
        level = np.log(sigma)
        normal = np.exp(-(((level - self.mean) / self.std) ** 2) / 2) / (self.std * math.sqrt(2 * math.pi))
        if not self.nodes:
            return normal
        return normal / 2 + np.interp(level, self.nodes, self.heights, 0.0, 0.0) / self._areas().sum() / 2

    def cdf(self, sigma: float) -> float:
        """Share of the levels below `sigma`."""
        level = math.log(sigma)
        normal = float(ndtr((level - self.mean) / self.std))
        return (normal + self._second_cdf(level)) / 2 if self.nodes else normal

    def quantile(self, share: float) -> float:
        """The sigma below which `share` of the levels lie."""
        from scipy.optimize import brentq

        far = 40 * self.std  # beyond it the normal distribution is 0 or 1 in float64
        ends = min((self.mean - far, *self.nodes)), max((self.mean + far, *self.nodes))
        root: Any = brentq(lambda level: self.cdf(math.exp(level)) - share, *ends, xtol=1e-12)
        return math.exp(root)

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """The levels (sigma_low, sigma_high) between which the central `share` of the distribution lies."""
        if not 0 < share < 1:
            raise ValueError(f"share must lie in (0, 1), got {share}")
        return self.quantile((1 - share) / 2), self.quantile((1 + share) / 2)

    def _areas(self) -> NDArray[np.float64]:
        """Areas below the second part's density, as it is given, between its nodes."""
        nodes, heights = np.array(self.nodes), np.array(self.heights)
        return np.diff(nodes) * (heights[1:] + heights[:-1]) / 2

    def _second_cdf(self, level: float) -> float:
        areas = self._areas()
        k = int(np.clip(np.searchsorted(self.nodes, level, "right") - 1, 0, len(areas) - 1))
        step = self.nodes[k + 1] - self.nodes[k]
        t = min(max((level - self.nodes[k]) / step, 0.0), 1.0)
        part = step * (self.heights[k] * t + (self.heights[k + 1] - self.heights[k]) * t * t / 2)
        return float((areas[:k].sum() + part) / areas.sum())

    def _second_quantile(self, share: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        nodes, heights = share.new_tensor(self.nodes), share.new_tensor(self.heights)
        areas = share.new_tensor(self._areas())
        total = areas.cumsum(0)
        k = torch.searchsorted(total, share * total[-1], right=True).clamp(max=len(areas) - 1)
        left = (share * total[-1] - (total - areas)[k]).clamp(min=0) / nodes.diff()[k]
        # h_0 t + (h_1 - h_0) t^2/2 = left, solved without cancellation.
        start, slope = heights[k], heights.diff()[k]
        root = start + (start.square() + 2 * slope * left).clamp(min=0).sqrt()
        t = torch.where(root > 0, 2 * left / root, 0.0).clamp(0, 1)
        return nodes[k] + t * nodes.diff()[k]


@dataclass(frozen=True)
class FlowTimes:
    """Times t of a flow from N(0, I) to data, by even angles a = arctan(s t/(1 - t)): see `architectures.flow_loss`.

    Attributes:
        deviation: s, of a coordinate of the data.
    """

    deviation: float

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """What `config` wrote.

        Raises:
            ValueError: the deviation is not positive and finite.
        """
        deviation = float(config["deviation"])
        if not 0 < deviation < math.inf:
            raise ValueError(f"the deviation must be positive and finite, got {deviation}")
        return cls(deviation)

    def config(self) -> dict[str, Any]:
        """The distribution as JSON."""
        return {"kind": FLOW, "deviation": self.deviation}

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        """n times, one angle from each n-th part of the quarter circle, in random order: pairs may come in some."""
        device = generator.device
        place = torch.randperm(n, generator=generator, device=device)
        angle = (place + torch.rand(n, generator=generator, dtype=torch.float64, device=device)) / n * (math.pi / 2)
        return (angle.sin() / (angle.sin() + self.deviation * angle.cos())).float()

    def quantile(self, share: float) -> float:
        """The sigma = (1 - t)/t below which `share` of the levels lie."""
        return self.deviation / math.tan((1 - share) * math.pi / 2)

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """The levels (sigma_low, sigma_high) between which the central `share` of the distribution lies."""
        return self.quantile((1 - share) / 2), self.quantile((1 + share) / 2)


def levels_of(config: dict[str, Any]) -> NoiseLevels | FlowTimes:
    """What the "noise" entry of a checkpoint's config describes.

    Raises:
        ValueError: as `from_config`.
    """
    return (FlowTimes if config.get("kind") == FLOW else NoiseLevels).from_config(config)
