"""Where the heaviest component of a one-dimensional Gaussian mixture changes: the upper envelope of parabolas."""

import math

import numpy as np

from brenier.core.checks import Array


def switches(log_weight: Array, mean: Array, variance: Array) -> list[tuple[float, float]]:
    """Where the largest of the parabolas log_weight - (y - mean)^2/(2 variance) changes, with the width of each change.

    A sweep from left to right: from the current largest, the next change is the nearest place where another parabola
    rises through it. K parabolas have at most 2K - 1 pieces.
    """
    a = -1 / (2 * variance)
    # At -infinity the flattest parabola is largest; among equals the one furthest left, then the highest.
    current = int(np.lexsort((-log_weight, mean, -variance))[0])
    place, found = -np.inf, []
    for _ in range(2 * len(mean)):
        # The difference (other - current) as a polynomial in y - mean[current]: no cancellation between large squares.
        gap = mean - mean[current]
        qa = a - a[current]
        qb = -2 * a * gap
        qc = a * gap**2 + log_weight - log_weight[current]
        root = _upward_root(qa, qb, qc, place - mean[current])
        root[current] = np.inf
        nearest = int(np.argmin(root))
        if not np.isfinite(root[nearest]):
            break
        slope = abs(2 * qa[nearest] * root[nearest] + qb[nearest])
        place = root[nearest] + mean[current]
        reach = math.sqrt(min(variance[nearest], variance[current]))
        found.append((float(place), min(reach, 1 / slope if slope > 0 else reach)))
        current = nearest
    return found


def _upward_root(a: Array, b: Array, c: Array, after: float) -> Array:
    """The root of a y^2 + b y + c at which it rises through zero, where that lies beyond `after`; else inf."""
    with np.errstate(divide="ignore", invalid="ignore"):
        radical = np.sqrt(b**2 - 4 * a * c)
        # 2 a y + b = +radical at the rising root; the form without cancellation depends on the sign of b.
        rising = np.where(b > 0, -2 * c / (b + radical), (radical - b) / (2 * a))
        rising = np.where((a == 0) & (b <= 0), np.inf, rising)
    return np.where((radical > 0) & (rising > after) & np.isfinite(rising), rising, np.inf)


def breakpoints(mean: Array, variance: Array, log_weight: Array) -> Array:
    """Points that enclose the mass of a mixture of N(r mu_i, v_i^2), v_i^2 = r^2 s_i^2 + 1, and separate its features.

    They are r mu_i + k v_i with v_i^2 = r^2 s_i^2 + 1 and |k| <= 11, and, graded, the places where the heaviest
    component of the posterior changes: that is where the localization peaks, with the width over which the log
    odds of the two components change by 1.

    Args:
        mean: r mu_i, shape (K,).
        variance: v_i^2, shape (K,).
        log_weight: log of the weights, less log v_i, shape (K,).
    """
    steps = np.concatenate([np.arange(-11.0, -3.0, 2.0), np.arange(-3.0, 4.0), np.arange(5.0, 12.0, 2.0)])
    grid = mean[:, None] + steps * np.sqrt(variance)[:, None]
    points = [np.round(2 * grid.ravel()) / 2]  # no v_i is below 1: neighbours closer than that say nothing new
    # Together, components can outweigh a wider one that none of them does alone: equal ones are added up, and all
    # but the widest are also tried with what as many as there are would add.
    both = np.stack([mean, variance], 1)
    distinct, group = np.unique(both, axis=0, return_inverse=True)
    joint = np.log(np.bincount(group.ravel(), np.exp(log_weight - log_weight.max())))
    crowd = np.where(distinct[:, 1] < distinct[:, 1].max(), math.log(len(distinct)), 0.0)
    changes = [switches(weight, *distinct.T) for weight in (joint, joint + crowd)]
    for place, width in {change for found in changes for change in found}:
        points.append(place + width * np.array([-60.0, -30.0, -12.0, -4.0, 0.0, 4.0, 12.0, 30.0, 60.0]))
    # A narrower component that never leads fades into the widest over this reach, and L may peak on the way.
    narrow = distinct[distinct[:, 1] < distinct[:, 1].max()]
    reach = np.sqrt(2 / (1 / narrow[:, 1] - 1 / distinct[:, 1].max()))
    points.append((narrow[:, :1] + reach[:, None] * np.array([-8.0, -4, -2, -1, 1, 2, 4, 8])).ravel())
    return np.unique(np.concatenate(points))
