"""Carry noisy points down a grid of noise levels, by any of the samplers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.progress import progress_bar
from brenier.samplers.steps import Memory, SolverName, find_solver
from brenier.targets.base import Target

CENTRING = 8  # evaluations that find the mean that samplers start around


@dataclass(frozen=True)
class Run:
    """Where a sampler ended.

    Attributes:
        x: shape (n, d), in the unit of the data.
        evaluations: of the denoiser, per sample.
        trajectory: x at every noise level of the grid, shape (steps + 1, n, d), where it was asked for.
    """

    x: Float[Tensor, "n d"]
    evaluations: int
    trajectory: Float[Tensor, "levels n d"] | None = None


def start(target: Target, n: int, sigma: float, seed: int = 0) -> Float[Tensor, "n d"]:
    """Noisy points to start from: a normal law of deviation `sigma` around the target's mean.

    The mean is that of the denoiser itself, D(m; sigma) = m, so that a network needs no data.
    """
    centre = torch.zeros((1, target.dim), dtype=target.dtype, device=target.device)
    for _ in range(CENTRING):
        centre = target.denoise(centre / sigma, 1 / sigma)
    return centre + sigma * _normal(centre.expand(n, -1), np.random.SeedSequence([seed, 0x57A27]))


def integrate(
    target: Target,
    x: Float[Tensor, "n d"],
    sigmas: Sequence[float],
    solver: SolverName = "dpmpp-2m",
    seed: int = 0,
    batch: int | None = None,
    trajectory: bool = False,
    progress: bool = False,
) -> Run:
    """Carry x, noisy points at sigmas[0], down to sigmas[-1].

    Args:
        target: whose denoiser is followed.
        x: shape (n, d).
        sigmas: noise levels, descending, positive but for the last, which may be 0.
        solver: which sampler; see `steps`.
        seed: of the noise that a stochastic sampler draws on the way.
        batch: points per call of the denoiser. Default: all; a target has its own limits.
        trajectory: whether to keep x at every noise level.
        progress: show a bar on stderr, where that is a terminal.
    """
    sampler = find_solver(solver)
    count = 0
    draws = iter(np.random.SeedSequence([seed, 0x5A3B]).spawn(10**6))

    def denoise(points: Tensor, sigma: float) -> Tensor:
        nonlocal count
        count += 1
        parts = (points,) if batch is None else points.split(batch)
        return torch.cat([target.denoise(part / sigma, 1 / sigma) for part in parts])

    memory = Memory(noise=lambda like: _normal(like, next(draws)))
    path = [x]
    with progress_bar(f"sampling {target.name}", progress) as advance:
        for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            x = sampler.step(denoise, x, sigma, after, memory)
            if trajectory:
                path.append(x)
            advance(1 / (len(sigmas) - 1))
    return Run(x, count, torch.stack(path) if trajectory else None)


def _normal(like: Tensor, sequence: np.random.SeedSequence) -> Tensor:
    generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
