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
