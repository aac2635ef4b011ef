"""What a chain did, from its dataset: where the gap of the two denoised laws grows, and what differs from what.

Two numbers differ where they are apart by more than two standard errors. Those of two steps are added as if
independent, which is on the safe side: the particles are the same ones.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

Array: TypeAlias = NDArray[np.float64]

ROUNDING = 1e-9  # relative: differences below it are those of the arithmetic
SMALL = 0.005  # relative: a factor of 1.00 would say nothing


class Measured(NamedTuple):
    """A number and its standard error: 0 where it is exact, infinite where it is not known."""

    value: float
    se: float = 0.0

    def over(self, other: "Measured") -> "Measured":
        """Their ratio, with its error to first order."""
        ratio = self.value / other.value
        return Measured(ratio, math.hypot(self.se, ratio * other.se) / other.value)

    def differs(self, other: "Measured") -> bool:
        """Whether they are apart by more than two standard errors, or by more than rounding where there are none."""
        slack = max(2 * math.hypot(self.se, other.se), ROUNDING * max(self.value, other.value))
        return abs(self.value - other.value) > slack


class Rise(NamedTuple):
    """Between which steps, low > high, the gap grows by the largest factor, and the fewest that hold half of it."""

    low: int
    high: int
    half_low: int
    half_high: int
    factor: float


class Gap(NamedTuple):
    """What the way back does to W2(mu', nu').

    Attributes:
        last, first: at the last step, where the way back begins, and at step 0.
        seen: at which steps it differs from 0.
        exact: whether no step has a standard error.
        change: from last to first; "none": they do not differ, "small": by less than `SMALL`.
        factor: first / last; NaN where one of them does not differ from 0.
        rise: where it grows most; None if it does so nowhere by more than `SMALL` and its error, or is not seen at
            every step.
        falls: whether no step back makes it larger.
    """

    last: Measured
    first: Measured
    seen: Literal["nowhere", "somewhere", "everywhere"]
    exact: bool
    change: Literal["none", "small", "grows", "shrinks"]
    factor: float
    rise: Rise | None
    falls: bool


class Contrast(NamedTuple):
    """Back from step `last` to `first`, by which factors relative entropy and W2 change."""

    last: int
    first: int
    kl: float
    w2: float


def values(chain: "xr.Dataset", name: str) -> Array:
    """A variable in float64."""
    return chain[name].to_numpy().astype(np.float64)


def measured(chain: "xr.Dataset", name: str) -> list[Measured]:
    """A variable at each step; a standard error that is rounding is none."""
    found = values(chain, name)
    errors = values(chain, f"{name}_se") if f"{name}_se" in chain else np.zeros_like(found)
    pairs = zip(found.tolist(), errors.tolist(), strict=True)
    return [Measured(x, math.inf if math.isnan(se) else se if se > ROUNDING * x else 0.0) for x, se in pairs]


def fastest(chain: "xr.Dataset") -> int:
    """The step at which the denoised laws part fastest, by more than its error; 0 if they never do."""
    rate = np.nan_to_num(values(chain, "rate"), nan=-np.inf, posinf=-np.inf)
    step = int(rate.argmax())
    if not rate[step] * chain.attrs["eta"] > ROUNDING:
        return 0
    found = measured(chain, "w2_chain")
    return step if found[step - 1].differs(found[step]) else 0


def gap(chain: "xr.Dataset") -> Gap:
    """What the way back does to the distance of the two denoised laws."""
    found = measured(chain, "w2_chain")
    first, last = found[0], found[-1]
    apart = [one.differs(Measured(0.0)) for one in found]
    factor = first.value / last.value if apart[0] and apart[-1] else math.nan
    if not first.differs(last):
        change = "none"
    elif abs(factor - 1) < SMALL:
        change = "small"
    else:
        change = "grows" if first.value > last.value else "shrinks"
    return Gap(
        last,
        first,
        "everywhere" if all(apart) else "somewhere" if any(apart) else "nowhere",
        not any(one.se for one in found),
        change,
        factor,
        _rise(found) if all(apart) else None,
        all(near.value <= far.value * (1 + ROUNDING) for near, far in pairwise(found)),
    )


def _rise(gaps: list[Measured]) -> Rise | None:
    """Where the gap grows by the largest factor; half of it: in the logarithm."""
    value, error = np.array(gaps[::-1]).T  # in the order of the way back
    log = np.log(value)
    growth = log[None, :] - log[:, None]
    slack = np.maximum(2 * np.hypot(error[None, :], error[:, None]), ROUNDING * value)
    counts = np.triu((value[None, :] - value[:, None] > slack) & (growth > math.log1p(SMALL)))
    if not counts.any():
        return None
    largest = float(growth[counts].max())

    def shortest(enough: NDArray[np.bool_]) -> tuple[int, int]:
        return min(((int(i), int(j)) for i, j in np.argwhere(enough)), key=lambda pair: (pair[1] - pair[0], pair))

    start, end = shortest(counts & (growth >= largest * (1 - ROUNDING)))
    inside = np.zeros_like(counts)
    inside[start : end + 1, start : end + 1] = np.triu(np.ones((end - start + 1,) * 2, dtype=bool), 1)
    middle, final = shortest(inside & (growth >= largest / 2 * (1 - ROUNDING)))
    last = len(gaps) - 1
    return Rise(last - start, last - end, last - middle, last - final, float(value[end] / value[start]))


def contrast(chain: "xr.Dataset") -> Contrast | None:
    """Where W2(mu, nu') grows and KL(mu | nu') does not, or less, over the steps that have densities; else None."""
    if "kl_backward" not in chain:
        return None
    entropy, distance = values(chain, "kl_backward"), values(chain, "w2_backward")
    finite = np.flatnonzero(np.isfinite(entropy))
    last = len(entropy) - 1
    if len(finite) == 0 or not (finite[0] < last and 0 < entropy[last] < math.inf and distance[last] > 0):
        return None
    first = int(finite[0])
    kl, w2 = float(entropy[first] / entropy[last]), float(distance[first] / distance[last])
    return Contrast(last, first, kl, w2) if kl < w2 and w2 > 1 + SMALL else None
