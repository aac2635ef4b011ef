"""A Wasserstein distance between samples, with its error bar."""

import math
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Distance:
    """A distance and how far to trust it.

    Attributes:
        value: W2, in the unit of the data.
        value_se: standard error of `value`. Near 0, where the root bends: such that value +- 2 value_se covers what
            squared +- 2 squared_se covers.
        squared: the estimate of W2^2 behind it, in squared units; a debiased one may be negative.
        squared_se: standard error of `squared`.
        method: what was done, in words.
        n: points per law (of the smaller sample).
    """

    value: float
    value_se: float
    squared: float
    squared_se: float
    method: str
    n: int

    @classmethod
    def from_squared(cls, squared: float, squared_se: float, *, method: str, n: int, scale: float = 1.0) -> Self:
        """The distance scale * sqrt(squared), from `squared` and its standard error."""
        value, low, high = (math.sqrt(max(squared + shift, 0)) for shift in (0, -2 * squared_se, 2 * squared_se))
        spread = max(high - value, value - low) / 2
        return cls(value * scale, spread * scale, squared * scale * scale, squared_se * scale * scale, method, n)
