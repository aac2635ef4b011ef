"""Two weighted samples, read and put on one scale for a transport problem between them."""

import math
from typing import NamedTuple

import numpy as np
import torch

from brenier.core.points import Numbers, as_points, as_weights
from brenier.distances.couplings import Array
from brenier.distances.distance import Distance

_NEGLIGIBLE = 1e-100  # beside the largest weight: squares of what is left do not underflow


class Pair(NamedTuple):
    """Two weighted samples without points of no weight, moved and scaled together into [-1, 1]^d."""

    x: Array
    a: Array
    y: Array
    b: Array
    scale: float
    paired: bool  # rows still correspond

    @property
    def n(self) -> int:
        """Points of the smaller sample."""
        return min(len(self.x), len(self.y))

    def distance(self, squared: float, f: Array, g: Array, method: str) -> Distance:
        """Of a statistic whose influences are f at the points of x and g at those of y."""
        f, g = self.a * (f - self.a @ f), self.b * (g - self.b @ g)
        terms = [f + g] if self.paired else [f, g]
        variance = sum(float(term @ term) * len(term) / max(len(term) - 1, 1) for term in terms)
        return Distance.from_squared(squared, math.sqrt(variance), method=method, n=self.n, scale=self.scale)


def pair(x: Numbers, y: Numbers, x_weights: Numbers | None = None, y_weights: Numbers | None = None) -> Pair:
    """Read samples and weights as they are given.

    Raises:
        ValueError: wrong shapes, values that are not finite, weights that are negative or all zero.
    """
    u, v = (as_points(z, name, dtype=torch.float64, device="cpu").numpy() for z, name in ((x, "x"), (y, "y")))
    if u.shape[1] != v.shape[1]:
        raise ValueError(f"x has shape {u.shape} and y {v.shape}: both must have the same number of columns")
    a, b = _mass(x_weights, len(u), "x"), _mass(y_weights, len(v), "y")
    paired = len(a) == len(b) and bool((a > 0).all() and (b > 0).all())
    u, v, a, b = u[a > 0], v[b > 0], a[a > 0], b[b > 0]
    centre = u.mean(0) / 2 + v.mean(0) / 2
    u, v = u - centre, v - centre
    scale = float(max(abs(u).max(), abs(v).max())) or 1.0
    return Pair(u / scale, a / a.sum(), v / scale, b / b.sum(), scale, paired)


def _mass(weights: Numbers | None, n: int, name: str) -> Array:
    mass = as_weights(weights, n, f"the weights of {name}").numpy()
    mass = mass / mass.max()
    return np.where(mass < _NEGLIGIBLE, 0, mass)
