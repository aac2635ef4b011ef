"""What a map pays, and what its potential vouches for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """W2 from the source to the weighted points, as the map pays it and as the heights vouch for it.

    Attributes:
        primal: sqrt E|X - T(X)|^2.
        primal_se: its standard error.
        dual: sqrt of E|X|^2 + sum b |y|^2 - 2 (E u(X) - <b, h>), whatever the heights at most W2 but for noise.
        dual_se: its standard error.
        samples: draws.
    """

    primal: float
    primal_se: float
    dual: float
    dual_se: float
    samples: int

    @classmethod
    def of(cls, primal: Float[Tensor, " n"], dual: Float[Tensor, " n"]) -> Self:
        """From the squares at every draw."""
        numbers: list[float] = []
        for square in (primal, dual):
            root = math.sqrt(max(float(square.mean()), 0.0))
            error = float(square.std()) / math.sqrt(len(square))
            numbers += [root, error / (2 * root) if root > 0 else math.sqrt(error)]
        return cls(numbers[0], numbers[1], numbers[2], numbers[3], len(primal))

    @classmethod
    def joined(cls, parts: Sequence[Self], shares: NDArray[np.float64]) -> Self:
        """The root of the mean of the squares of parts that have these shares of the mass."""
        numbers: list[float] = []
        for name in ("primal", "dual"):
            roots, errors = (np.array([vars(part)[name + end] for part in parts]) for end in ("", "_se"))
            root = math.sqrt(float(shares @ roots**2))
            numbers += [root, float(np.linalg.norm(shares * roots * errors)) / root if root > 0 else 0.0]
        return cls(numbers[0], numbers[1], numbers[2], numbers[3], sum(part.samples for part in parts))
