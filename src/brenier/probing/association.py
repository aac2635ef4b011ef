"""How far one number per point tells another: rank correlations, alone and with others held fixed, with intervals.

Spearman's correlation is Pearson's of the ranks. With others held fixed it is the partial correlation of the ranks,

    rho(a, b | K) = -P_ab / sqrt(P_aa P_bb),    P the inverse of the correlations of a, b and K.

The area under the curve is the chance that a point with b in its worst tenth has a larger a than one without. Intervals
are percentiles of bootstrap resamples of the points, the same for all numbers: so that differences have one, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from brenier.core.checks import Array

Flags: TypeAlias = NDArray[np.bool_]

RESAMPLES = 1000
WORST = 0.1  # share of the points that are called the worst
SINGULAR = 1e-10  # of the correlations of ranks: what is held fixed says it all


@dataclass(frozen=True)
class Association:
    """What m numbers per point tell of another one; values in row 0, then 95% intervals, low and high.

    Attributes:
        rho: Spearman's correlation with it, shape (3, m).
        partial: correlation of the first number with it, control j held fixed, shape (3, m); NaN where j is no control,
            or has the order of the first, as the trace has on the line.
        partial_all: the same with all controls held fixed, shape (3,).
        lead: |rho| of the first number less |rho| of control j, shape (3, m); NaN where j is no control.
        auc: area under the curve for the worst tenth, shape (3, m).
    """

    rho: Array
    partial: Array
    partial_all: Array
    lead: Array
    auc: Array


def associate(numbers: Array, outcome: Array, own: int = 1, seed: int = 0) -> Association:
    """How the rows of `numbers` go with `outcome`, the first above all. What does not vary goes with nothing: NaN.

    Args:
        numbers: shape (m, n), m >= 1; n >= 20, of which two are the worst tenth.
        outcome: shape (n,).
        own: rows that are no controls, from the first on.
        seed: of the resamples.

    Raises:
        ValueError: there are fewer than 20 points.
    """
    n = len(outcome)
    if n < 20:
        raise ValueError(f"{n} points are too few for correlations: give at least 20")
    stacked = np.vstack([numbers, outcome[None]])
    worst = np.zeros(n, dtype=bool)
    worst[np.argsort(-outcome, kind="stable")[: round(WORST * n)]] = True
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0xA550C]))
    found = [_once(stacked, worst, own)]
    for _ in range(RESAMPLES):
        rows = generator.integers(n, size=n)
        found.append(_once(stacked[:, rows], worst[rows], own))
    return Association(*(_interval(np.stack(part)) for part in zip(*found, strict=True)))


def _interval(values: Array) -> Array:
    """The value itself, and the middle 95% of its resamples."""
    ends = np.full((2, *values.shape[1:]), np.nan)
    known = np.isfinite(values[1:]).all(0) & np.isfinite(values[0])
    ends[:, known] = np.quantile(values[1:, known], (0.025, 0.975), axis=0)
    return np.concatenate([values[:1], ends])


def _once(stacked: Array, worst: Flags, own: int) -> tuple[Array, Array, Array, Array, Array]:
    """What `Association` holds, of one sample."""
    ranks = rankdata(stacked, axis=1)
    centred = ranks - ranks.mean(1, keepdims=True)
    size = np.sqrt((centred**2).sum(1))
    unit = np.divide(centred, size[:, None], out=np.full_like(centred, np.nan), where=size[:, None] > 0)
    matrix = unit @ unit.T
    last = len(stacked) - 1
    rho = matrix[last, :last]
    partial, lead = np.full(last, np.nan), np.abs(rho[0]) - np.abs(rho)
    partial[own:] = [_partial(matrix, last, [j]) for j in range(own, last)]
    lead[:own] = np.nan
    varying = [j for j in range(own, last) if np.isfinite(partial[j])]
    return rho, partial, np.array(_partial(matrix, last, varying)), lead, _auc(ranks[:-1], worst)


def _partial(matrix: Array, last: int, fixed: Sequence[int]) -> float:
    """Correlation of the first row with the last, others held fixed."""
    names = [0, last, *fixed]
    part = matrix[np.ix_(names, names)]
    if not np.isfinite(part).all() or np.linalg.eigvalsh(part)[0] < SINGULAR:
        return float("nan")
    inverse = np.linalg.inv(part)
    return float(-inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1]))


def _auc(ranks: Array, worst: Flags) -> Array:
    """Mann and Whitney's statistic as a share."""
    count = int(worst.sum())
    others = len(worst) - count
    if count == 0 or others == 0:
        return np.full(len(ranks), np.nan)
    return (ranks[:, worst].sum(1) - count * (count + 1) / 2) / (count * others)
