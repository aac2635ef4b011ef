"""The course of a network's pipelines: which noise they begin with, and the noise levels that they may visit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROUNDED = 1e-3  # relative distance at which a level is taken for the first one, as published lists are rounded
SAME = 1e-9  # the same for any, by rounding in float64


@dataclass(frozen=True)
class Course:
    """How pipelines go with a network, from noise to points.

    Attributes:
        high: noise level that they begin at, sigma in x = X + sigma Z.
        low: their last one above 0.
        noise: deviation in x of what they begin with at `high`: noise alone, around `Target.origin`. A chain that keeps
            its variance begins with N(0, I), which in x is Z/alpha and not X + sigma Z. None: noise around the mean.
        levels: the only ones that the network was trained at, descending, where they are steps of a chain; None: all.
        shift: of flow matching, whose level at the time u is shift u/(1 - u); None: it is none.
    """

    high: float
    low: float
    noise: float | None = None
    levels: tuple[float, ...] | None = None
    shift: float | None = None

    def noise_at(self, sigma: float) -> float | None:
        """The deviation of what pipelines begin with at this level; None for one that they do not begin at."""
        if self.noise is None or abs(sigma / self.high - 1) > ROUNDED:
            return None
        return self.noise * (sigma / self.high)

    def even(self, steps: int) -> list[float] | None:
        """The grid down to 0 that is even in the time of pipelines, as they visit by default; None: they have none."""
        shares = np.linspace(0, 1, steps + 1)[:-1]
        if self.levels is not None:
            places = shares * (len(self.levels) - 1)
            return [*np.exp(np.interp(places, np.arange(len(self.levels)), np.log(self.levels))).tolist(), 0.0]
        if self.shift is None:
            return None
        first, last = (sigma / (self.shift + sigma) for sigma in (self.high, self.low))
        time = first + shares * (last - first)
        return [self.high, *(self.shift * time / (1 - time)).tolist()[1:], 0.0]

    def placed(self, sigmas: Sequence[float]) -> list[float]:
        """A grid with the levels between its ends moved to the nearest that the network knows, each to another.

        Raises:
            ValueError: it knows fewer between these ends.
        """
        if self.levels is None or len(sigmas) < 3:
            return [*sigmas]
        high, low = sigmas[0] * (1 - SAME), sigmas[-1] * (1 + SAME)
        known = np.array([level for level in self.levels if low < level < high])
        count = len(sigmas) - 2
        if count > len(known):
            raise ValueError(
                f"the chain has {len(known)} steps between sigma = {sigmas[0]:.4g} and {sigmas[-1]:.4g}, and a grid of "
                f"{count + 1} steps visits {count} there: plan fewer"
            )
        ahead = np.arange(count)
        nearest = np.abs(np.log(known)[:, None] - np.log(sigmas[1:-1])).argmin(0)
        nearest = np.maximum.accumulate(nearest - ahead) + ahead  # each below the one before
        nearest = np.minimum(nearest, len(known) - count + ahead)  # and room for those that follow
        return [sigmas[0], *known[nearest].tolist(), sigmas[-1]]
