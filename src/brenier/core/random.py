"""Random numbers: a user's whole number, and whole numbers of our own that tell its uses apart, name a stream.

Numpy's `SeedSequence` mixes them: streams of different names are independent, and equal names give equal numbers on
every machine. Numbers are drawn on the CPU in float64 and then moved, so that they are the same on every device and in
every dtype, but for rounding.
"""

import numpy as np
import torch
from torch import Tensor


def seeds(*stream: int, count: int = 1) -> list[int]:
    """`count` seeds of 32 bits from the stream of this name."""
    return np.random.SeedSequence(stream).generate_state(count).tolist()


def spawned_seeds(seed: int, *key: int, count: int = 1) -> list[int]:
    """`count` seeds of 64 bits from the descendant `key` of the stream of a seed."""
    return np.random.SeedSequence(seed, spawn_key=key).generate_state(count, np.uint64).tolist()


def generator_for(*stream: int) -> torch.Generator:
    """A generator on the CPU that begins with a seed of 63 bits from the stream of this name."""
    word = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


def normal_like(x: Tensor, source: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of x, drawn in float64."""
    return torch.randn(x.shape, generator=source, dtype=torch.float64).to(x)
