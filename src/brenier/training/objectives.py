"""What a step of training makes small: the loss at a batch of draws, each with its noise level."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brenier.networks.architectures import flow_loss, weighted_loss
from brenier.networks.noise_levels import FlowTimes, NoiseLevels
from brenier.training.pairs import Pairs
from brenier.training.points import Points


class Denoising:
    """E w(sigma) |D(X + sigma Z; sigma) - X|^2, see `architectures.weighted_loss`."""

    def __init__(self, noise: NoiseLevels, points: Points, device: torch.device) -> None:
        self.noise, self._points, self._device = noise, points, device

    def __call__(
        self, network: nn.Module, sigma_data: Float[Tensor, ""], n: int, seeds: Sequence[int]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The loss of n draws, and their noise levels; `seeds` are three."""
        x, labels = self._points.batch(n, seeds[0])
        sigma = self.noise.sample(n, torch.Generator(self._device).manual_seed(seeds[1]))
        z = torch.randn(x.shape, generator=torch.Generator(self._device).manual_seed(seeds[2]), device=self._device)
        return weighted_loss(_told(network, labels), x, z, sigma, sigma_data), sigma

    def skip(self, n: int) -> None:
        """Nothing: seeds say it all."""


class FlowMatching:
    """E |v((1 - t) Z + t X, t) - (X - Z)|^2 over pairs of noise Z and data X, see `architectures.flow_loss`."""

    def __init__(self, noise: FlowTimes, pairs: Pairs, device: torch.device) -> None:
        self.noise, self._pairs, self._device = noise, pairs, device

    def __call__(
        self, network: nn.Module, sigma_data: Float[Tensor, ""], n: int, seeds: Sequence[int]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The loss of n pairs, and their noise levels (1 - t)/t; `seeds` are three."""
        z, x, labels = self._pairs.draw(n, (seeds[0], seeds[2]))
        t = self.noise.sample(n, torch.Generator(self._device).manual_seed(seeds[1]))
        return flow_loss(_told(network, labels), z, x, t, sigma_data), (1 - t) / t

    def skip(self, n: int) -> None:
        """Go on behind n pairs."""
        self._pairs.skip(n)


def _told(network: nn.Module, labels: Tensor | None) -> Callable[..., Tensor]:
    """The network, told the classes of its points where they have some."""
    return network if labels is None else partial(network, class_labels=labels)


Objective: TypeAlias = Denoising | FlowMatching
