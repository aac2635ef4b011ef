"""The law of a positive quantity of which each draw is known with an error of its own.

Estimated variances scatter about the true ones like l ~ L chi^2_nu/nu, nu = 2/cv^2 for a relative standard error cv, so
their law is wider than that of L: its tails are too heavy, and quantities above a level are counted that are not. The
nonparametric maximum likelihood estimate of the law of L (Robbins 1950; Kiefer and Wolfowitz, Ann. Math. Stat. 27,
1956) takes the scatter back out: weights on a grid by expectation-maximisation, with no shape assumed.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.laws.atoms import exp_

Single: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.float32]]  # jaxtyping knows no `NDArray` of numpy 2.5

POINTS = 96  # of the grid
STEPS = 300  # of expectation-maximisation from equal weights
NEGLIGIBLE = 1e-9  # weight: enough for what was seen to stay possible, and in the end left out
TINY = 1e-12  # of the largest value: what lies below is as good as zero
LEAST = 1e-280  # stands for the largest where all are zero


def support(values: Float[Tensor, "*b Q"], points: int = POINTS) -> Float[Tensor, "*b m"]:
    """A grid for the law of L: quantiles of the values, so that it is fine where they are many, and the ends."""
    inner = torch.quantile(values, torch.linspace(0, 1, points, dtype=values.dtype, device=values.device), dim=-1)
    return inner.movedim(0, -1).maximum(_tiny(values)).contiguous()


def _tiny(values: Float[Tensor, "*b Q"]) -> Float[Tensor, "*b 1"]:
    return TINY * values.amax(-1, keepdim=True).clamp_min(LEAST)


def mixing_weights(
    values: Float[Tensor, "*b Q"],
    noise: Float[Tensor, "*b Q"],
    grid: Float[Tensor, "*b m"],
    start: Float[Tensor, "*b m"] | None = None,
    steps: int = STEPS,
    counts: Float[Tensor, "*b Q"] | None = None,
) -> Float[Tensor, "*b m"]:
    """Weights on the grid under which the values are likeliest.

    Args:
        values: what was seen, positive, along the last axis; earlier axes are problems of their own.
        noise: squared relative standard error of each.
        grid: places where L may lie.
        start: weights to begin from. Default: equal ones.
        steps: of expectation-maximisation.
        counts: how often each value counts. Default: once.
    """
    values = values.maximum(_tiny(values))
    half = (1 / noise.clamp(1e-4, 4.0))[..., None]  # nu/2
    fit = -half * (grid.log()[..., None, :] + values[..., None] / grid[..., None, :])
    fit = exp_((fit - fit.amax(-1, keepdim=True)).float())
    share = (torch.ones_like(values) if counts is None else counts).expand_as(values)
    share = (share / share.sum(-1, keepdim=True)).float()
    weights = torch.ones_like(grid) if start is None else start.clamp_min(NEGLIGIBLE)
    weights = (weights / weights.sum(-1, keepdim=True)).float()
    fits, shares, starts = (
        part.cpu().numpy() for part in (fit.reshape(-1, *fit.shape[-2:]), _rows(share), _rows(weights))
    )
    problems = zip(fits, shares, starts, strict=True)
    found = np.stack([_ascend(*problem, steps) for problem in problems]).astype(np.float64)
    found[found <= 1e3 * NEGLIGIBLE] = 0
    found /= found.sum(1, keepdims=True)
    return torch.from_numpy(found.reshape(weights.shape)).to(grid.device)


def _rows(values: Float[Tensor, "*b n"]) -> Float[Tensor, "p n"]:
    return values.reshape(-1, values.shape[-1])


def _ascend(
    fit: Float[Single, "Q m"], share: Float[Single, " Q"], weights: Float[Single, " m"], steps: int
) -> Float[Single, " m"]:
    """Expectation-maximisation, one problem after the other: each stays in the cache."""
    for _ in range(steps):
        weights = np.maximum(weights * ((share / (fit @ weights)) @ fit), NEGLIGIBLE)
    return weights
