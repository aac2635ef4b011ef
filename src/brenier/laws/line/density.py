"""Any law on the line, by its log density: the posterior p(x | y) ~ p(x) exp(-(y - r x)^2/2) by quadrature.

Nothing is assumed of the density but that its integral is finite: poles at the ends, kinks, heavy tails, any scale. It
is asked once, when the law is made (`panels`); after that every posterior is a sum over nodes (`convolved`). The law
lives in a coordinate of its own, X = place + length U, so that narrow, wide and distant laws are computed alike.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Distribution, Localization, Target, far, resolving
from brenier.laws.line.convolved import Convolved
from brenier.laws.line.panels import REMOTE
from brenier.laws.line.search import coordinate, read_function, read_support, resolved
from brenier.laws.parameters import check_snr

_LAYER = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 7.5, 9.0, 11.0)  # deviations of the noise beyond the last place of the law
_SHARES = 16  # the law's smallest length is that of its densest sixteenth,
_NORMAL_SHARE = 0.15731068461017067  # which is this long for N(0, 1)
_HEAVY = -3.0  # a density that falls no faster than |x|^-3 has no second moment


class OnTheLine(Target):
    """A law on R, by the logarithm of its density.

    Args:
        log_density: of x, an array (n,) or, where it cannot take one, a tensor (n,), in the unit of the data: (n,), up
            to a constant, and -inf where there is no mass. It is asked only while the law is made.
        support: ends (low, high) of the support, -inf and inf where it has none. The density is cut off there: that is
            how laws are truncated.
        name: what to call the law in results.
        at: places that a search may pass by: narrow modes, poles, kinks and jumps inside the support.

    Raises:
        ValueError: the support is empty or the wrong way round; the log density is NaN, inf on a stretch or -inf
            everywhere, or its integral diverges, as far as that shows; its tails are so heavy that their quantiles
            at 1e-20 are no numbers.
        TypeError: log_density is no function of an array.

    Where y lies so far out that its posterior is on a stretch whose density is below e^-400 of the highest, nothing is
    known: posteriors are NaN there. [LDK24] Definition 4 and Section 5 are about such laws with special densities.
    """

    def __init__(
        self,
        log_density: Callable[[Any], Any],
        support: Sequence[float] = (-math.inf, math.inf),
        *,
        name: str = "density",
        at: Sequence[float] = (),
    ) -> None:
        low, high = read_support(support)
        asked = read_function(log_density)
        self.place, self.length = coordinate(asked, low, high, at)
        ends = ((low - self.place) / self.length, (high - self.place) / self.length)
        inside = [(place - self.place) / self.length for place in at]
        blur = float(np.finfo(float).eps) * abs(self.place) / self.length
        self._panels = resolved(lambda u: asked(self.place + self.length * u), *ends, inside, blur)
        self._infinite = (math.isinf(low), math.isinf(high))
        self.name, self.event_shape = name, (1,)
        self.dtype, self.device = torch.float64, torch.device("cpu")
        self._convolved = Convolved(self._panels)
        self._edges = self._of_the_mass()
        normal = [0.15865525393145707, 0.5, 0.8413447460685429]
        levels = self._quantiles([*normal, *(np.arange(1, _SHARES) / _SHARES)])
        gaps = np.diff([self._edges[0], *levels[3:], self._edges[-1]])
        self._median = float(levels[1])
        self._lengths = float(gaps.min()) / _NORMAL_SHARE, float(levels[2] - levels[0]) / 2

    @property
    def square_integrable(self) -> bool:
        """Whether E X^2 is finite, as told from how the density falls at the ends of what was resolved."""
        return not any(
            open_end and power >= _HEAVY - 1e-6
            for open_end, power in zip(self._infinite, self._convolved.powers(), strict=True)
        )

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points: a panel by its mass, and a place in it by rejection."""
        u = self._convolved.draw(n, torch.Generator(self.device).manual_seed(seed))
        return (self.place + self.length * u).to(self.dtype)[:, None]

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y] of each noisy point ([LDK24] Proposition 2)."""
        own, r = self._own(y, snr)
        return self._out(self.place + self.length * ((own + self._convolved.moments(own, r).mean) / r))[:, None]

    def score(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """d log p/dy = E[rX | y] - y of Y_r, with no cancellation."""
        return self._out(self._convolved.moments(*self._own(y, snr)).mean)[:, None]

    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y."""
        return self._out(self._convolved.moments(*self._own(y, snr)).log_density)

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Var[rX | Y_r = y], which is norm and trace alike, and E[X | Y_r = y] ([LDK24] Definition 4)."""
        own, r = self._own(y, snr)
        found = self._convolved.moments(own, r)
        mean = self.place + self.length * ((own + found.mean) / r)
        norm = self._out(found.variance)
        return Localization(norm=norm, trace=norm, mean=self._out(mean)[:, None])

    def norm_and_log_density(
        self, y: Float[Tensor, "n d"], snr: float
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Var[rX | Y_r = y] and log p of Y_r at y, from the same sums."""
        found = self._convolved.moments(*self._own(y, snr))
        return self._out(found.variance), self._out(found.log_density)

    def scales(self) -> tuple[float, float]:
        """The smallest and the largest length in the law, in the unit of the data.

        Largest: half the distance of the quantiles at one deviation of a normal law. Smallest: the length of the
        shortest sixteenth of the mass, over that of N(0, 1). For a normal law both are its deviation.
        """
        smallest, largest = self._lengths
        return self.length * min(smallest, largest), self.length * largest

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or in another dtype; the quadrature is in float64 always."""
        other = copy.copy(self)
        other.device = torch.device(device or self.device)
        if other.device != self.device:
            other._convolved = Convolved(self._panels, other.device)
        if dtype is not None and dtype != self.dtype:
            other.dtype = resolving(dtype, torch.tensor(self._middle), self.scales()[0], self.name)
        return other

    @property
    def origin(self) -> Float[Tensor, " 1"]:
        """The median where it lies far from zero, else 0."""
        middle = torch.tensor([self._middle], dtype=torch.float64, device=self.device)
        return middle if far(middle, self.scales()[1]) else torch.zeros_like(middle)

    def moved(self, by: Float[Tensor, " 1"]) -> Self:
        """The law of X + by."""
        return self.affine(1.0, float(by))

    def affine(self, scale: float, shift: float) -> Self:
        """The law of shift + scale X, scale > 0.

        Raises:
            ValueError: the scale is not positive, or one of the two is not finite.
        """
        if not (0 < scale < math.inf and math.isfinite(shift)):
            raise ValueError(f"scale must be positive and both finite, got scale {scale} and shift {shift}")
        other = copy.copy(self)
        other.place, other.length = shift + scale * self.place, scale * self.length
        return other

    def breakpoints(self, snr: float) -> Float[Tensor, " m"] | None:
        """Ends of the panels that hold all but 1e-20 of the law on either side, and the noise around the outermost."""
        check_snr(snr)
        y = snr * self.length * self._edges
        layer = np.asarray(_LAYER)
        # Y_r changes over no less than the noise: panels that are narrow beside it say nothing of their own.
        y = np.concatenate([np.round(2 * y[1:-1]) / 2, y[0] - layer, y[0] + layer, y[-1] - layer, y[-1] + layer])
        return torch.from_numpy(np.unique(snr * self.place + y)).to(self.device, torch.float64)

    def distribution(
        self, x: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], sigma: Float[Tensor, "*n"]
    ) -> Distribution:
        """Distribution of alpha X + sigma Z at x, element by element."""
        shape = x.shape
        x, alpha, sigma = (part.to(self.device, torch.float64).flatten() for part in (x, alpha, sigma))
        away = x - alpha * self.place
        parts = torch.empty((3, len(x)), dtype=torch.float64, device=self.device)
        clean = sigma == 0
        stretch = alpha * self.length
        u = away[clean] / stretch[clean]
        lower, upper = self._convolved.log_tail_clean(u, upper=False), self._convolved.log_tail_clean(u, upper=True)
        density = self._convolved.log_density_clean(u) - stretch[clean].log()
        parts[:, clean] = torch.stack([lower, upper, density])
        noise = sigma[~clean]
        y, r = away[~clean] / noise, stretch[~clean] / noise
        lower, upper = self._convolved.log_tails(y, r)
        density = self._convolved.moments(y, r).log_density - noise.log()
        parts[:, ~clean] = torch.stack([lower, upper, density])
        return Distribution(*(part.reshape(shape) for part in parts))

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]] | None:
        """Log density of X, differentiable by autograd; None where it ends, or where E X^2 is infinite."""
        if not (all(self._infinite) and self.square_integrable):
            return None
        place, length, convolved = self.place, self.length, self._convolved

        def log_density(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
            return convolved.log_density_clean((x[:, 0].double() - place) / length).to(x.dtype) - math.log(length)

        return log_density

    def moments(self) -> tuple[Float[Tensor, " 1"], Float[Tensor, "1 1"]]:
        """Mean and variance.

        Raises:
            NotImplementedError: E X^2 is infinite.
        """
        if not self.square_integrable:
            raise NotImplementedError(f"{self.name} has no second moment")
        mean, variance = self._convolved.mean_and_variance()
        return self._out(self.place + self.length * mean)[None], self._out(self.length**2 * variance)[None, None]

    @property
    def _middle(self) -> float:
        return self.place + self.length * self._median

    def _own(self, y: Float[Tensor, "n d"], snr: float) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """y and r in the law's own coordinate."""
        check_snr(snr)
        if y.ndim != 2 or y.shape[1] != 1:
            raise ValueError(f"noisy points must have shape (n, 1), got {tuple(y.shape)}")
        own = y[:, 0].to(self.device, torch.float64) - snr * self.place
        return own, torch.full_like(own, snr * self.length)

    def _out(self, values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return values.to(self.dtype)

    def _of_the_mass(self) -> Array:
        """Ends of the panels that hold the law but for 1e-20 on either side."""
        left, right, _, log_mass, _ = self._panels
        first = int((np.logaddexp.accumulate(log_mass) > -REMOTE).argmax())
        last = len(left) - int((np.logaddexp.accumulate(log_mass[::-1]) > -REMOTE).argmax())
        return np.unique(np.concatenate([left[first:last], right[first:last]]))

    def _quantiles(self, levels: Sequence[float]) -> Array:
        """Quantiles of U by bisection."""
        level = torch.tensor(levels, dtype=torch.float64, device=self.device).log()
        low, high = (torch.full_like(level, float(end)) for end in self._edges[[0, -1]])
        for _ in range(200):
            middle = low + (high - low) / 2
            below = self._convolved.log_tail_clean(middle, upper=False) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high.cpu().numpy()
