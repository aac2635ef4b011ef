"""Points of a law that has nothing but a denoiser: drawn by running its own chain, the probability flow.

The chain goes down EDM's noise levels (arXiv:2206.00364, (5)) by Heun's method. It starts from a normal law around the
denoiser's own idea of the mean, D at the largest noise level.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.laws.base import Target

EVALUATIONS = 32  # noise levels of the chain
CENTRING = 8  # evaluations that find the mean that the chain starts around
RHO = 7.0  # spacing of the noise levels


def drawn_by_chain(law: Target, n: int, seed: int, batch: int) -> Float[Tensor, "n d"]:
    """Draw n points, `batch` at a time, or a few more, so that rows keep their conditions.

    Raises:
        ValueError: the law does not say which SNRs it answers for.
    """
    low, high = law.snr_range
    if low == 0 or high == math.inf:
        raise ValueError(f"drawing from {law.name} needs its noise levels: give data or snr_range")
    sigmas = [*(np.linspace(low ** (-1 / RHO), high ** (-1 / RHO), EVALUATIONS) ** RHO).tolist(), 0.0]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((n, law.dim), generator=generator, dtype=torch.float64).to(law.device, law.dtype)
    if n == 0:
        return noise
    centre = torch.zeros_like(noise[: law.period])
    for _ in range(CENTRING):
        centre = law.denoise(centre / sigmas[0], 1 / sigmas[0])
    blocks = noise.split(-(-batch // law.period) * law.period)
    return torch.cat([_descend(law, _around(centre, len(block)) + sigmas[0] * block, sigmas) for block in blocks])


def _around(centres: Tensor, rows: int) -> Tensor:
    """The centre of each row, in turn."""
    return centres[torch.arange(rows, device=centres.device) % len(centres)]


def _descend(law: Target, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    for sigma, after in pairwise(sigmas):
        clean = law.denoise(x / sigma, 1 / sigma)
        slope = (x - clean) / sigma
        ahead = x + (after - sigma) * slope
        if after > 0:
            slope = (slope + (ahead - law.denoise(ahead / after, 1 / after)) / after) / 2
            ahead = x + (after - sigma) * slope
        x = ahead
    return x
