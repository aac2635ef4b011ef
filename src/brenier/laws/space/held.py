"""What laws by their log density share: they are held in float64 on the CPU, around a place that can be moved."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Target, far, resolving
from brenier.laws.parameters import check_snr
from brenier.laws.space.asked import Mode


class Held(Target):
    """A law on R^d by its log density.

    Args:
        log_density: of points (n, d) -> (n,), checked and up to a constant.
        modes: from `find_modes`.
        name: what to call the law in results.
        smooth: a log density of tensors that autograd differentiates; None where there is none.
    """

    def __init__(
        self,
        log_density: Callable[[Array], Array],
        modes: list[Mode],
        name: str,
        smooth: Callable[[Tensor], Tensor] | None,
    ) -> None:
        dim = len(modes[0].place)
        self.name, self.event_shape = name, (dim,)
        self.dtype, self.device = torch.float64, torch.device("cpu")
        self._asked, self._smooth = log_density, smooth
        self._shift = torch.zeros(dim, dtype=torch.float64)

    @property
    @abstractmethod
    def _middle(self) -> Float[Tensor, " d"]:
        """A place in the middle of the law, where `_shift` is 0."""

    @property
    @abstractmethod
    def _log_total(self) -> float:
        """log of the integral of the density."""

    @abstractmethod
    def _posterior(self, own: Float[Tensor, "n d"], snr: float) -> Any:
        """`mean` and `covariance` of t = r X - y given y, and `log_density` of y, of the law whose `_shift` is 0."""

    @property
    def dear(self) -> bool:
        """Whether posteriors take a tenth of a millisecond each and more."""
        return True

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y]."""
        own = self._own(y, snr)
        return self._out((own + self._posterior(own, snr).mean) / snr + self._shift)

    def score(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """grad log p(y) = E[rX | y] - y of Y_r, with no cancellation."""
        return self._out(self._posterior(self._own(y, snr), snr).mean)

    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y."""
        return self._out(self._posterior(self._own(y, snr), snr).log_density)

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]] | None:
        """Log density of X, where autograd can differentiate it; else None."""
        smooth, shift, total = self._smooth, self._shift, self._log_total
        if smooth is None or not self.square_integrable:
            return None
        return lambda x: smooth(x - shift.to(x)) - total

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, returning another dtype, or to another device; it computes in float64 on the CPU."""
        other = copy.copy(self)
        other.device = torch.device(device or self.device)
        if dtype is not None and dtype != self.dtype:
            other.dtype = resolving(dtype, self._middle + self._shift, self.scales()[0], self.name)
        return other

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The middle of the law where that lies far from zero, else 0."""
        place = (self._middle + self._shift).to(self.device)
        return place if far(place, self.scales()[1]) else torch.zeros_like(place)

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by."""
        other = copy.copy(self)
        other._shift = self._shift + by.cpu().double()
        return other

    def _own(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """y of the law whose `_shift` is 0."""
        check_snr(snr)
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"noisy points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        return y.to("cpu", torch.float64) - snr * self._shift

    def _out(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype)
