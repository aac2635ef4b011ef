"""Carry noisy points down a grid of noise levels, by any of the samplers."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import whole_number
from brenier.core.random import generator_for, normal_like
from brenier.core.work import progress_bar
from brenier.laws.base import Target
from brenier.sampling.steps import Memory, evaluations, find_solver, walk

DROWNING = 1e8  # in largest lengths: noise so large that D is the mean, to rounding
CENTRING = 32  # most evaluations, at one point, that find it


@dataclass(frozen=True)
class Run:
    """Where a sampler ended.

    Attributes:
        x: shape (n, d), in the unit of the data.
        evaluations: of the denoiser, per sample.
        trajectory: x at every noise level of the grid, shape (steps + 1, n, d), where it was asked for. Solvers
            that correct their steps do so after x was evaluated: here it is as evaluated.
    """

    x: Float[Tensor, "n d"]
    evaluations: int
    trajectory: Float[Tensor, "levels n d"] | None = None


def start(law: Target, n: int, sigma: float, seed: int = 0) -> Float[Tensor, "n d"]:
    """Noisy points to start from: noise of deviation `sigma` around the law's mean, or that of a network's pipelines.

    At the level where pipelines begin (`Target.course`) a network starts from what they begin with: noise alone.

    At others, D(x; sigma) tends to the mean as sigma grows. The mean of an explicit law or of data is D at `DROWNING`
    times their largest length. A network, which knows no such noise, is asked for m = D(m; sigma) at the largest level
    that it was trained for, and needs no data.

    Args:
        law: the law.
        n: number of points, 0 or more.
        sigma: noise level, in the unit of the data.
        seed: of the noise.

    Returns:
        Points of shape (n, d), the first noise level of a grid.

    Raises:
        ValueError: an argument is out of range, or the noise level is not one that the network was trained for.
    """
    n, seed = whole_number(n, "n", 0), whole_number(seed, "seed", 0)
    mean, deviation = beginning(law, check_grid([sigma, 0])[0])
    return mean + deviation * normal_like(mean.expand(n, -1), generator_for(seed, 0x57A27))


def beginning(law: Target, sigma: float) -> tuple[Float[Tensor, "1 d"], float]:
    """Mean and deviation of the noisy points that a sampler of the law starts from at this level; see `start`."""
    noise = None if law.course is None else law.course.noise_at(sigma)
    return (centre(law, sigma), sigma) if noise is None else (law.origin.to(law.dtype)[None], noise)


def centre(law: Target, sigma: float) -> Float[Tensor, "1 d"]:
    """The mean that `start` starts around, to rounding beside `sigma`."""
    if law.learned:
        level = 1 / law.snr_range[0] if law.snr_range[0] > 0 else sigma
    else:
        level = DROWNING * law.scales()[1]
    mean = torch.zeros((1, law.dim), dtype=law.dtype, device=law.device)
    for _ in range(CENTRING):
        before, mean = mean, law.denoise(mean.expand(law.period, -1) / level, 1 / level).mean(0, keepdim=True)
        if float((mean - before).abs().max()) <= 8 * torch.finfo(mean.dtype).eps * (float(mean.abs().max()) + sigma):
            break
    return mean


def integrate(
    law: Target,
    x: Float[Tensor, "n d"],
    sigmas: Iterable[float],
    solver: str = "dpmpp-2m",
    seed: int = 0,
    batch: int | None = None,
    trajectory: bool = False,
    progress: bool = False,
) -> Run:
    """Carry x, noisy points at sigmas[0], down to sigmas[-1].

    Args:
        law: whose denoiser is followed.
        x: shape (n, d); taken to the law's dtype and device.
        sigmas: at least two noise levels, descending, positive but for the last, which may be 0.
        solver: which sampler; see `steps`.
        seed: of the noise that a stochastic sampler draws on the way.
        batch: points per call of the denoiser. Default: all; a law has its own limits. It decides no result.
        trajectory: whether to keep x at every noise level.
        progress: show a bar on stderr, where that is a terminal.

    Raises:
        ValueError: points of another shape or not finite, a grid that does not descend, an unknown solver, or noise
            levels that the network was not trained for.
    """
    sampler, grid = find_solver(solver), check_grid(sigmas)
    x = check_points(law, x)
    size = max(len(x), 1) if batch is None else in_turn(law, whole_number(batch, "batch", 1))
    noise = generator_for(whole_number(seed, "seed", 0), 0x5A3B)
    work = max(len(x), 1) * evaluations(solver, grid)
    count = 0
    with progress_bar(f"sampling {law.name}", progress) as advance:

        def denoise(points: Tensor, sigma: float) -> Tensor:
            nonlocal count
            count += 1
            clean: list[Tensor] = []
            for part in points.split(size) if len(points) else ():
                clean.append(law.denoise(part / sigma, 1 / sigma))
                advance(len(part) / work)
            return torch.cat(clean) if clean else points

        memory = Memory(noise=lambda like: normal_like(like, noise))
        end, path = x, [x]
        for end in walk(sampler.step, denoise, x, grid, memory):
            if trajectory:
                path.append(end)
    return Run(end, count, torch.stack(path) if trajectory else None)


def in_turn(law: Target, rows: int) -> int:
    """So many rows, or a few more: a multiple of the law's period."""
    return -(-rows // law.period) * law.period


def check_grid(sigmas: Iterable[float]) -> list[float]:
    """The noise levels as a list.

    Raises:
        ValueError: fewer than two, not finite, not descending, or not positive (the last may be 0).
    """
    grid = [float(sigma) for sigma in sigmas]
    if len(grid) < 2:
        raise ValueError(f"a grid of noise levels has at least two, got {len(grid)}")
    if not np.all(np.isfinite(grid)):
        raise ValueError(f"noise levels must be finite, got {next(sigma for sigma in grid if not np.isfinite(sigma))}")
    for k, (sigma, after) in enumerate(pairwise(grid), 1):
        if not after < sigma:
            raise ValueError(f"noise levels must descend, got {after:g} after {sigma:g} at step {k}")
    if grid[-1] < 0:
        raise ValueError(f"noise levels must be positive, the last may be 0, got {grid[-1]:g}")
    return grid


def check_points(law: Target, x: Tensor) -> Tensor:
    """The points in the law's dtype, on its device.

    Raises:
        ValueError: they are not n points of d finite numbers.
    """
    if x.ndim != 2 or x.shape[1] != law.dim:
        raise ValueError(f"points of {law.name} must have shape (n, {law.dim}), got {tuple(x.shape)}")
    points = x.to(law.device, law.dtype)
    bad = ~torch.isfinite(points).all(1)
    if bool(bad.any()):
        raise ValueError(f"points must be finite, {int(bad.sum())} of {len(x)} are not in {law.dtype}")
    return points
