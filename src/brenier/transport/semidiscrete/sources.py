"""Laws that transport starts from, and a cheap way to draw many scores from the normal one.

Scores of x are the products <x, y_i> with all points. Of n draws of N(0, I_d) they cost n d N multiplications. But for
k independent draws X and any unit vector c, c'X is such a draw, too, and its scores are c'(X Y'): k multiplications a
score instead of d. A *family* is k draws and M combinations of them, rows of orthogonal matrices and their negatives.
Every combination has the law asked for, so that means over families are unbiased; those of one family are correlated a
little, by as much as two points with correlation <c, c'> fall into one cell more often than independent ones do. That
is measured (`Tally.inflation`), and M is set by it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Sampler: TypeAlias = Callable[[int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Source:
    """A law on R^d to draw from.

    Attributes:
        name: "normal", "uniform" or "sampler".
        dim: d.
        draw: n points of shape (n, d) in float32, from a generator.
        linear: whether unit combinations of independent draws have the same law: whether it is N(0, I).
    """

    name: str
    dim: int
    draw: Sampler
    linear: bool


def find_source(source: object, dim: int) -> Source:
    """The law that `source` names.

    Args:
        source: "normal", N(0, I); "uniform", the uniform law on [0, 1]^d; or a function that takes n and a
            `torch.Generator` and returns points of shape (n, d).
        dim: d.

    Raises:
        ValueError: an unknown name.
        TypeError: neither a name nor a function.
    """
    if source == "normal":
        return Source("normal", dim, partial(_normal, dim), True)
    if source == "uniform":
        return Source("uniform", dim, partial(_uniform, dim), False)
    if isinstance(source, str):
        raise ValueError(f'no source {source!r}: it is "normal", "uniform" or a function (n, generator) -> points')
    if not callable(source):
        raise TypeError(f"source must be a name or a function (n, generator) -> points, got {type(source).__name__}")
    return Source("sampler", dim, partial(_given, source, dim), False)


def _normal(dim: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, dim, generator=generator)


def _uniform(dim: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, dim, generator=generator)


def _given(source: Callable[..., object], dim: int, n: int, generator: torch.Generator) -> Tensor:
    x = source(n, generator)
    if not isinstance(x, Tensor) or tuple(x.shape) != (n, dim):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"the source must return a tensor of {n} points in {dim} dimensions, ({n}, {dim}), got {found}"
        )
    x = x.to("cpu", torch.float32)
    if not bool(torch.isfinite(x).all()):
        raise ValueError("the source returned numbers that are not finite")
    return x


def combinations(count: int, draws: int, generator: torch.Generator) -> Float[Tensor, "half k"]:
    """Rows of random orthogonal matrices, for half of `count` members of a family; the negatives are the other half."""
    blocks = -(-count // (2 * draws))
    return torch.linalg.qr(torch.randn(blocks, draws, draws, generator=generator))[0].reshape(-1, draws)
