"""A law in two or three dimensions by its log density: posteriors p(x | y) ~ p(x) exp(-|y - r x|^2/2) by cubature.

The density is asked once, when the law is made (`boxes`), and for draws; after that every posterior is a sum over nodes
(`sums`). Norms are those of 2 x 2 or 3 x 3 matrices.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Localization
from brenier.laws.space.asked import Mode
from brenier.laws.space.boxes import boxes_of, grid_of
from brenier.laws.space.held import Held
from brenier.laws.space.sums import Moments, Sums

_STREAM = 0xC0BE
_QUERIES = {2: 2048, 3: 512}
_STEEPEST = 0.98  # quantile of |grad log p| up to which gradients say the smallest length
_JUMPS, _SEEN = 0.01, 2.5  # share of the law in boxes with jumps that may be wider than so many deviations of noise
_SLACK = 0.2  # nats by which a density may exceed its values at the nodes of a box


class ByCubature(Held):
    """A law on R^2 or R^3 by its log density; made by `from_density`.

    Args:
        log_density: of points (n, d) -> (n,), checked and up to a constant.
        modes: from `find_modes`.
        name: what to call the law in results.
        smooth: a log density of tensors that autograd differentiates; None where there is none.

    Raises:
        ValueError: the integral of the density diverges, or it is too rough.
    """

    def __init__(
        self,
        log_density: Callable[[Array], Array],
        modes: list[Mode],
        *,
        name: str = "density",
        smooth: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(log_density, modes, name, smooth)
        self._boxes = boxes_of(log_density, modes)
        self._sums = Sums(self._boxes)
        self._last = self._resolved()
        self._medians, self._lengths = self._measured()

    @property
    def default_queries(self) -> int:
        """Noisy points per SNR that a probe of this law takes unless told otherwise."""
        return _QUERIES[self.dim]

    @property
    def square_integrable(self) -> bool:
        """Whether E |X|^2 is finite, as told from how the mass falls over the last octaves."""
        return self._boxes.falls < -2 - 1e-3

    @property
    def snr_range(self) -> tuple[float, float]:
        """The SNRs at which posteriors can be had: of a density that jumps, while boxes are narrow beside noise."""
        return 0.0, self._last

    @property
    def tolerance(self) -> float:
        """Share of the law in boxes in which its density jumps, as the root of a sum of squares; 0 for a smooth one."""
        return self._boxes.unresolved

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points: a box by its mass, and a place in it by rejection."""
        random = np.random.default_rng(np.random.SeedSequence([seed, _STREAM]))
        boxes = self._boxes
        share = np.cumsum(np.exp(boxes.log_mass))
        box = np.minimum(np.searchsorted(share, share[-1] * random.random(n)), len(share) - 1)
        top = boxes.values.max(1) + _SLACK + boxes.log_total
        x = np.empty((n, self.dim))
        waiting = np.arange(n)
        while len(waiting):
            mine = box[waiting]
            place = boxes.centre[mine] + boxes.half[mine] * random.uniform(-1, 1, size=(len(waiting), self.dim))
            taken = np.log(random.random(len(waiting))) < self._asked(place) - top[mine]
            x[waiting[taken]] = place[taken]
            waiting = waiting[~taken]
        return (torch.from_numpy(x) + self._shift).to(self.device, self.dtype)

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Norm and trace of Cov[rX | Y_r = y], and E[X | Y_r = y]."""
        own = self._own(y, snr)
        found = self._posterior(own, snr)
        norm = torch.linalg.eigvalsh(found.covariance)[:, -1].clamp_min(0)
        trace = found.covariance.diagonal(dim1=1, dim2=2).sum(1)
        mean = (own + found.mean) / snr + self._shift
        return Localization(norm=self._out(norm), trace=self._out(trace), mean=self._out(mean))

    def scales(self) -> tuple[float, float]:
        """The smallest and the largest length in the law.

        Largest: half the distance of the quantiles at one deviation of a normal law, along the axis where it is
        largest. Smallest: one over the root of the largest eigenvalue of E[grad log p grad log p'], without the
        steepest 2% of the law. For N(0, s^2 I) both are s, nearly.
        """
        return self._lengths

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance; NotImplementedError for a law that has none."""
        if not self.square_integrable:
            raise NotImplementedError(f"{self.name} has no second moment")
        mean, covariance = self._sums.mean_and_covariance()
        return self._out(mean + self._shift), self._out(covariance)

    @property
    def _middle(self) -> Float[Tensor, " d"]:
        return self._medians

    @property
    def _log_total(self) -> float:
        return self._boxes.log_total

    def _posterior(self, own: Float[Tensor, "n d"], snr: float) -> Moments:
        if snr > self._last * (1 + 1e-9):
            raise ValueError(
                f"{self.name}: its density jumps, and at snr {snr:g} the boxes that hold it are too coarse: ask up to "
                f"snr {self._last:.4g} (--snr-max)"
            )
        return self._sums.moments(own, snr)

    def _resolved(self) -> float:
        """The SNR up to which all but a hundredth of the law is in boxes without jumps, or narrow beside the noise."""
        rough = self._boxes.rough
        width = 2 * self._boxes.half[rough].max(1, initial=0)
        order = np.argsort(-width)
        share = np.cumsum(np.exp(self._boxes.log_mass[rough][order]))
        beyond = np.flatnonzero(share > _JUMPS)
        return _SEEN / float(width[order[beyond[0]]]) if len(beyond) else math.inf

    def _measured(self) -> tuple[Float[Tensor, " d"], tuple[float, float]]:
        """The medians of the coordinates, and the smallest and the largest length."""
        boxes, (grid, log_gauss) = self._boxes, grid_of(self.dim)
        mass = np.exp(boxes.values + log_gauss + np.log(boxes.half).sum(1, keepdims=True))
        x = boxes.centre[:, None] + boxes.half[:, None] * grid
        quantiles = np.array([_quantiles(x[..., j].ravel(), mass.ravel()) for j in range(self.dim)])
        largest = float((quantiles[:, 2] - quantiles[:, 0]).max()) / 2
        slopes, kept = self._sums.slopes(), np.asarray(~boxes.rough)
        steepness = (slopes**2).sum(2)
        weight = mass[kept]
        order = np.argsort(steepness.ravel())
        inside = np.cumsum(weight.ravel()[order]) <= _STEEPEST * weight.sum()
        chosen = order[inside]
        information = (
            np.einsum("n,ni,nj->ij", weight.ravel()[chosen], *[slopes.reshape(-1, self.dim)[chosen]] * 2) / weight.sum()
        )
        steepest = float(np.linalg.eigvalsh(information)[-1]) if len(chosen) else 0.0
        smallest = 1 / math.sqrt(steepest) if steepest > 0 else largest
        smallest = max(smallest, 10 / self._last)  # the usual grid ends where posteriors do
        return torch.from_numpy(quantiles[:, 1].copy()), (min(smallest, largest), largest)


def _quantiles(values: Array, mass: Array, levels: Sequence[float] = (0.158655, 0.5, 0.841345)) -> Array:
    places, which = np.unique(values, return_inverse=True)
    own = np.bincount(which, mass)
    share = np.cumsum(own)
    return np.interp(np.array(levels) * share[-1], share - own / 2, places)
