"""A target's noise levels, its backward maps, and its localization, step by step: index k stands for time k eta."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from brenier import complexity
from brenier.core.random import normal_like, seeds
from brenier.laws.base import Target
from brenier.laws.line.quadrature import localization_quadrature
from brenier.probing.chain.process import ScoreError, marginal

Array: TypeAlias = NDArray[np.float64]

QUERIES = 512  # most noisy points behind each localization by Monte Carlo


class Walk:
    """The levels mu_k = alpha_k X + sigma_k Z of a target, k = 0..K, and the maps back from each to the one before.

    Args:
        law: the target.
        steps: number of steps K.
        eta: length of a step, in OU time.
        beta: inverse temperature.
        pull: of the drift, -pull x: the second derivative of a quadratic potential about 0.
    """

    def __init__(self, law: Target, steps: int, eta: float, beta: float = 1.0, pull: float = 1.0) -> None:
        self.law, self.steps, self.eta, self.beta, self.pull = law, steps, eta, beta, pull
        self.time = np.arange(steps + 1) * eta
        levels = np.array([marginal(time, beta, pull) for time in self.time])
        self.alpha, self.sigma = levels[:, 0], levels[:, 1]
        with np.errstate(divide="ignore"):
            self.snr = self.alpha / self.sigma
            self.flat = pull + self.snr**2 / beta  # 1/(beta sigma^2): what a place without localization contracts by
        self.error: ScoreError | None = None
        self._error_size = np.zeros(steps + 1)

    def noised(self, x: Float[Tensor, "n d"], z: Float[Tensor, "n d"], k: int) -> Float[Tensor, "n d"]:
        """alpha_k x + sigma_k z."""
        return float(self.alpha[k]) * x + float(self.sigma[k]) * z

    def back_with_slope(self, x: Float[Tensor, "n d"], k: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """b_k(x) of [LDK24] (3.2), and the largest eigenvalue of its Jacobian, on the line its slope (`process`)."""
        sigma, snr = float(self.sigma[k]), float(self.snr[k])
        y = x / sigma
        posterior = self.law.localize(y, snr)
        assert posterior.mean is not None
        score = (snr * posterior.mean - y) / sigma
        slope = 1 + self.eta * self.pull - self.eta / (self.beta * sigma**2) * (1 - posterior.norm)
        return x + self.eta * (self.pull * x + score / self.beta), slope

    def set_error(self, error: ScoreError, trace: Array, level: Callable[[int], Tensor]) -> None:
        """Give the score an error.

        Args:
            error: what it is like.
            trace: E tr Cov[rX | .] at steps 1..K, from which E|score|^2 follows ([LDK24] Proposition 4).
            level: a sample of mu_k, (n, d), over which a smooth error's mean square is set.
        """
        self.error = error
        dim = self.law.dim
        for k in range(1, self.steps + 1):
            root = math.sqrt(max(dim - trace[k - 1], 0)) / self.sigma[k]
            self._error_size[k] = error.at(float(self.snr[k])) * root
            if error.kind == "smooth" and self._error_size[k] > 0:
                square = error.field(level(k), self._length(k))[0].square().sum(1)
                self._error_size[k] /= math.sqrt(float(square.mean()))

    def score_error(
        self, x: Float[Tensor, "n d"], k: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """The error of the score at x, and on the line its derivative; a white one is drawn from the generator."""
        size = float(self._error_size[k])
        if self.error is None or size == 0:
            return torch.zeros_like(x), torch.zeros_like(x[:, 0])
        if self.error.kind == "white":
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
            return noise * (size / math.sqrt(x.shape[1])), torch.zeros_like(x[:, 0])
        field, slope = self.error.field(x, self._length(k))
        return size * field, size * slope

    def _length(self, k: int) -> float:
        """The scale of mu_k: its standard deviation along the target's leading axis."""
        return math.hypot(self.alpha[k] * self.law.scales()[1], self.sigma[k])


def draw(law: Target, count: int, seed: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Points of a law and noise for them, from different seeds: one stream of numbers would tie them together."""
    points, noise = seeds(seed, count=2)
    x = law.sample(count, points)
    return x, normal_like(x, torch.Generator().manual_seed(noise))


class LocalizationPath(NamedTuple):
    """The law of L_r at steps 1..K, as far as the chain's account needs it."""

    mean: Array  # (steps,)
    supremum: Array  # (steps,)
    trace: Array  # E tr Cov[rX | .], (steps,)
    zeta_star: Array  # (steps, perturbation)
    zeta_sharp: Array  # (steps, perturbation)


def localize_by_quadrature(walk: Walk, richness: Array, advance: Callable[[float], None]) -> LocalizationPath:
    """The law of L_r along the walk of an explicit law on the line, exactly."""
    mean: list[float] = []
    supremum: list[float] = []
    zetas: list[tuple[Array, Array]] = []
    for snr, flat in zip(walk.snr[1:], walk.flat[1:], strict=True):
        values, weights, about = localization_quadrature(walk.law, float(snr), np.empty(0), richness.tolist())
        mean.append(about["mean_localization"])
        supremum.append(about["sup_localization"])
        zetas.append(_zetas(values, richness, np.array(flat), weights))
        advance(1 / walk.steps)
    star, sharp = (np.stack(part) for part in zip(*zetas, strict=True))
    return LocalizationPath(np.array(mean), np.array(supremum), np.array(mean), star, sharp)


def localize_by_queries(walk: Walk, richness: Array, seed: int, advance: Callable[[float], None]) -> LocalizationPath:
    """The law of L_r along the walk, from at most `QUERIES` noisy points that keep their draw at all steps."""
    law = walk.law.moved(-walk.law.origin)
    x, z = draw(law, min(QUERIES, law.default_queries), seed)
    path = law.localize_path(x, z, walk.snr[:0:-1].tolist(), advance)
    norm = path.norm.double().cpu().numpy()[::-1]
    trace = path.trace.double().cpu().numpy()[::-1].mean(1)
    star, sharp = _zetas(norm, richness, walk.flat[1:], None)
    return LocalizationPath(norm.mean(1), norm.max(1), trace, star, sharp)


def _zetas(localization: Array, richness: Array, flat: Array, weights: Array | None) -> tuple[Array, Array]:
    rates = complexity.net_contraction, complexity.sharp_contraction
    star, sharp = (rate(localization, richness, 0.0, weights) * flat[..., None] for rate in rates)
    return star, sharp
