"""What a step of training makes small: the loss at a batch of draws, each with its noise level."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from brenier.core.random import generator_for
from brenier.networks.architectures import flow_loss, weighted_loss
from brenier.networks.noise_levels import FlowTimes, NoiseLevels
from brenier.training.pairs import Pairs
from brenier.training.points import Points


@dataclass(frozen=True)
class Dropped:
    """Labels that a network is trained without, now and then, so that it can be guided (arXiv:2207.12598).

    Attributes:
        share: of the points.
        none: the number that says that there is no label.
    """

    share: float
    none: int

    def __call__(self, labels: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
        """The labels, and `none` in place of some."""
        lost = torch.rand(len(labels), generator=generator_for(seed, 0xD20)) < self.share
        return labels.masked_fill(lost.to(labels.device), self.none)


class Denoising:
    """E w(sigma) |D(X + sigma Z; sigma) - X|^2, see `architectures.weighted_loss`."""

    def __init__(
        self, noise: NoiseLevels, points: Points, device: torch.device, dropped: Dropped | None = None
    ) -> None:
        self.noise, self._points, self._device, self._dropped = noise, points, device, dropped

    def __call__(
        self, network: nn.Module, sigma_data: Float[Tensor, ""], n: int, seeds: Sequence[int]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The loss of n draws, and their noise levels; `seeds` are three."""
        x, labels = self._points.batch(n, seeds[0])
        sigma = self.noise.sample(n, torch.Generator(self._device).manual_seed(seeds[1]))
        z = torch.randn(x.shape, generator=torch.Generator(self._device).manual_seed(seeds[2]), device=self._device)
        return weighted_loss(_told(network, labels, self._dropped, seeds[0]), x, z, sigma, sigma_data), sigma

    def prepare(self, n: int, seeds: Sequence[int]) -> None:
        """Nothing: points take no time."""

    def skip(self, n: int) -> None:
        """Nothing: seeds say it all."""


class FlowMatching:
    """E |v((1 - t) Z + t X, t) - (X - Z)|^2 over pairs of noise Z and data X, see `architectures.flow_loss`."""

    def __init__(self, noise: FlowTimes, pairs: Pairs, device: torch.device, dropped: Dropped | None = None) -> None:
        self.noise, self._pairs, self._device, self._dropped = noise, pairs, device, dropped

    def __call__(
        self, network: nn.Module, sigma_data: Float[Tensor, ""], n: int, seeds: Sequence[int]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The loss of n pairs, and their noise levels (1 - t)/t; `seeds` are three."""
        z, x, labels = self._pairs.draw(n, (seeds[0], seeds[2]))
        t = self.noise.sample(n, torch.Generator(self._device).manual_seed(seeds[1]))
        return flow_loss(_told(network, labels, self._dropped, seeds[0]), z, x, t, sigma_data), (1 - t) / t

    def prepare(self, n: int, seeds: Sequence[int]) -> None:
        """Begin with the pairs of the next step, which is given these seeds."""
        self._pairs.prepare(n, (seeds[0], seeds[2]))

    def skip(self, n: int) -> None:
        """Go on behind n pairs."""
        self._pairs.skip(n)


def _told(network: nn.Module, labels: Tensor | None, dropped: Dropped | None, seed: int) -> Callable[..., Tensor]:
    """The network, told the classes of its points where they have some, but for those that are dropped."""
    if labels is None:
        return network
    return partial(network, class_labels=labels if dropped is None else dropped(labels, seed))


Objective: TypeAlias = Denoising | FlowMatching
