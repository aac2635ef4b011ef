"""The skew test: does noise that is paired with conditional data depend on the condition?

Under a coupling of noise x with data that have conditions c, a sampler that is told c starts from fresh noise, of the
law of x; right only where x does not depend on c. The statistic is the distance covariance (Székely, Rizzo, Bakirov,
Ann. Statist. 35, 2007), which is 0 for independence and for nothing else,

    sum_jk A_jk B_jk,    A_jk = |x_j - x_k| less the means of its row and column,    B_jk the distance of conditions,

1 or 0 for classes. Where x and c are independent, conditions can be exchanged among the pairs: the rank of the
statistic among those of random exchanges is a p-value that is right for any number of pairs, whatever the laws. The
effect is the squared distance correlation, without its bias (Székely, Rizzo, Ann. Statist. 42, 2014): 0 where there is
none, up to 1.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from brenier.core.checks import Array, whole_number
from brenier.core.points import Numbers, as_points
from brenier.core.reading.values import check_array

MOST = 2**13  # pairs, of which all distances are held
PART = 2**22  # numbers of exchanged classes at a time


class Skew(NamedTuple):
    """What the skew test found.

    Attributes:
        p: chance of a statistic as large where noise does not depend on the condition.
        correlation: squared distance correlation without bias; can be a little below 0.
        pairs: how many were tested.
    """

    p: float
    correlation: float
    pairs: int


def skew_test(noise: Numbers, condition: Any, *, permutations: int = 199, seed: int = 0) -> Skew:
    """Whether noise depends on the condition of the data that it is paired with; see `skew`.

    Args:
        noise: independent pairs' x, shape (n, d), n from 4 to 8,192.
        condition: of the datum of each: classes, whole numbers or words, shape (n,); or real numbers, shape (n,) or
            (n, k), in one unit.
        permutations: random exchanges; the least p is 1/(permutations + 1).
        seed: of them.

    Raises:
        ValueError: too few pairs, or too many; conditions of another number, or NaN.
    """
    x = as_points(noise, "noise", least=4).double().cpu().numpy()
    n, rng = len(x), np.random.default_rng(whole_number(seed, "seed", 0))
    permutations = whole_number(permutations, "permutations", 1)
    if n > MOST:
        raise ValueError(
            f"{n:,} pairs are too many for the skew test, whose memory grows as their square: at most {MOST}"
        )
    given = condition.cpu().numpy() if isinstance(condition, Tensor) else np.asarray(condition)
    if given.shape[:1] != (n,):
        raise ValueError(f"condition must be {n:,}, one for each noise, got shape {given.shape}")
    apart: Array = cdist(x, x).astype(np.float64)
    centred = apart - apart.mean(0) - apart.mean(1)[:, None] + apart.mean()
    if given.ndim == 1 and given.dtype.kind in "biuUS":
        kinds, kind = np.unique(given, return_inverse=True)
        between = (kind[:, None] != kind).astype(np.float64)
        found = _by_classes(centred, kind, len(kinds), permutations, rng)
    else:
        c = check_array(given, "condition").reshape(n, -1).astype(np.float64)
        between = cdist(c, c).astype(np.float64)
        orders = (rng.permutation(n) for _ in range(permutations))
        # Distances are made anew: to bring a matrix into another order takes several times as long.
        found = np.array([np.vdot(centred, between), *(np.vdot(centred, cdist(c[o], c[o])) for o in orders)])
    rounding = 1e-9 * np.abs(found).max(initial=0.0)
    p = float((found >= found[0] - rounding).mean())
    one, other = _unbiased(apart), _unbiased(between)
    size = float(np.vdot(one, one) * np.vdot(other, other))
    return Skew(p, float(np.vdot(one, other)) / size**0.5 if size > 0 else 0.0, n)


def depends(noise: Array, condition: Array, *, exchanges: int, seed: int = 0) -> bool:
    """Whether the statistic is larger than after each of so many exchanges: p of 1/(exchanges + 1).

    Where it is not, few exchanges tell. A strong dependence is told by a quarter of the pairs, at a sixteenth of the
    cost: they are tested first, which doubles the chance of an error.

    Args:
        noise: independent pairs' x, shape (n, d).
        condition: real numbers, shape (n, k).
        exchanges: how many.
        seed: of them.
    """

    def largest(x: Array, c: Array) -> bool:
        apart = cdist(x, x)
        centred = apart - apart.mean(0) - apart.mean(1)[:, None] + apart.mean()
        own = np.vdot(centred, cdist(c, c)) * (1 - 1e-9)
        orders = (rng.permutation(len(x)) for _ in range(exchanges))
        return all(np.vdot(centred, cdist(c[order], c[order])) < own for order in orders)

    rng = np.random.default_rng(seed)
    some = len(noise) // 4
    return largest(noise[:some], condition[:some]) or largest(noise, condition)


def _by_classes(
    centred: Array, kind: NDArray[np.intp], count: int, permutations: int, rng: np.random.Generator
) -> Array:
    """The statistic for classes, and for random exchanges of them: -sum of A within the classes, some at a time."""
    found: list[float] = []
    kinds = [kind, *(rng.permutation(kind) for _ in range(permutations))]
    step = max(1, PART // (len(kind) * count))
    for begin in range(0, len(kinds), step):
        own = np.stack(kinds[begin : begin + step])
        member = (own[:, :, None] == np.arange(count)).transpose(1, 0, 2).reshape(len(kind), -1).astype(np.float64)
        found += (-(member * (centred @ member)).sum(0).reshape(len(own), count).sum(1)).tolist()
    return np.array(found)


def _unbiased(distances: Array) -> Array:
    """Distances so centred that products of two such matrices are without bias."""
    n = len(distances)
    row = distances.sum(1) / (n - 2)
    found = distances - row - row[:, None] + distances.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(found, 0.0)
    return found
