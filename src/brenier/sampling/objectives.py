"""What a planned grid is to make small: three distances between where a sampler ends and where the exact flow does.

From the same noise the sampler ends at x_i and the flow at e_i; pilot i stands for a share w_i of all noise.

- "error": the root mean square distance, E |x - e|^2. The few pilots that end in another mode rule it.
- "typical": the median distance. What is made small is E rho(|x - e|), rho(t) = t^2 / (t^2 + c^2), c being `WIDTH`
  medians (Geman and McClure): a pilot that ends far off counts once, however far that is.
- "law": the distance between the law of x and that of e. Mass that trades places is no error. What is made small is
  the sliced W2 times sqrt(d), over lines u_j with orthogonal blocks,

      d E_j sum_k w_k (Q_j(t_k) - <u_j, e>_(k))^2,

  Q_j being the quantile function of <u_j, x> and t_k the middle of the step that <u_j, e>_(k) makes in its own. Both
  samples come from the same noise: what the draw of the pilots adds, cancels.

Each is a sum of squares, which Levenberg and Marquardt's method descends.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.checks import Array
from brenier.distances.couplings import by_sorting

LINES = 32  # that laws are compared along, at least
WIDTH = 2.0  # in medians: from there on an error counts as one that is far off


class Objective(ABC):
    """A distance between points x and the ends of pilots, as a sum of squares.

    Args:
        end: where the flow ends, (n, d).
        weights: of the pilots; they add up to one.
    """

    name: ClassVar[str]

    def __init__(self, end: Tensor, weights: Tensor) -> None:
        self.end, self.weights = end.double(), weights
        self._mass = weights.cpu().numpy()

    @abstractmethod
    def residual(self, x: Tensor) -> Array:
        """Numbers whose sum of squares is to be small."""

    @abstractmethod
    def slopes(self, x: Tensor, change: Tensor) -> Array:
        """Derivatives of `residual` where x moves along each `change`, (k, n, d): one column for each."""

    @abstractmethod
    def parts(self, x: Tensor) -> Array:
        """Of each pilot; their weighted mean is the sum of squares, and their spread says how sure it is."""

    @abstractmethod
    def value(self, x: Tensor) -> tuple[float, float]:
        """The distance in the unit of the data, and its standard error."""

    def _rooted(self, x: Tensor) -> tuple[float, float]:
        parts = self.parts(x)
        square = float(self._mass @ parts)
        error = float(np.sqrt(self._mass**2 @ (parts - square) ** 2))
        root = math.sqrt(max(square, 0.0))
        return root, error / 2 / max(root, 1e-300)


class RootMeanSquare(Objective):
    """The root mean square distance."""

    name = "error"

    def residual(self, x: Tensor) -> Array:
        """Errors along all axes times the root of their pilots' weights."""
        return ((x.double() - self.end) * self.weights.sqrt()[:, None]).flatten().cpu().numpy()

    def slopes(self, x: Tensor, change: Tensor) -> Array:
        """Of them."""
        return (change * self.weights.sqrt()[:, None]).flatten(1).T.cpu().numpy()

    def parts(self, x: Tensor) -> Array:
        """Squared distances."""
        return (x.double() - self.end).square().sum(1).cpu().numpy()

    def value(self, x: Tensor) -> tuple[float, float]:
        """Their root mean square."""
        return self._rooted(x)


class MedianDistance(Objective):
    """The median distance; that of the points `reference` sets the width c."""

    name = "typical"

    def __init__(self, end: Tensor, weights: Tensor, reference: Tensor) -> None:
        super().__init__(end, weights)
        self._width = max(WIDTH * self.value(reference)[0], 1e-300)

    def residual(self, x: Tensor) -> Array:
        """Errors over the root of their square plus c^2."""
        apart = x.double() - self.end
        scale = (apart.square().sum(1) + self._width**2).rsqrt() * self.weights.sqrt()
        return (apart * scale[:, None]).flatten().cpu().numpy()

    def slopes(self, x: Tensor, change: Tensor) -> Array:
        """Of them."""
        apart = x.double() - self.end
        total = (apart.square().sum(1) + self._width**2)[:, None]
        along = (change * apart).sum(-1, keepdim=True)
        moved = (change - apart * along / total) / total.sqrt() * self.weights.sqrt()[:, None]
        return moved.flatten(1).T.cpu().numpy()

    def parts(self, x: Tensor) -> Array:
        """rho of the distances."""
        square = (x.double() - self.end).square().sum(1).cpu().numpy()
        return square / (square + self._width**2)

    def value(self, x: Tensor) -> tuple[float, float]:
        """The median distance, and half of what its rank leaves open."""
        distance = (x.double() - self.end).norm(dim=1).cpu().numpy()
        order = np.argsort(distance)
        level = np.cumsum(self._mass[order]) - self._mass[order] / 2
        doubt = math.sqrt(float(self._mass @ self._mass)) / 2  # of the share that lies below the median
        low, middle, high = np.interp([0.5 - doubt, 0.5, 0.5 + doubt], level, distance[order])
        return float(middle), float(high - low) / 2


class SlicedDistance(Objective):
    """The distance between laws along lines, see above."""

    name = "law"

    def __init__(self, end: Tensor, weights: Tensor, lines: int = LINES) -> None:
        super().__init__(end, weights)
        self._lines = _lines(end.shape[1], lines)
        self._ends = self.end.cpu().numpy() @ self._lines.T
        order = np.argsort(self._ends, axis=0, kind="stable")
        self._levels = np.cumsum(self._mass[order], axis=0) - self._mass[order] / 2
        self._sorted = np.take_along_axis(self._ends, order, 0)
        self._roots = np.sqrt(self._mass[order] * end.shape[1] / len(self._lines))

    def residual(self, x: Tensor) -> Array:
        """Quantiles along all lines, less those of the exact ends."""
        seen = x.double().cpu().numpy() @ self._lines.T
        order = np.argsort(seen, axis=0, kind="stable")
        return ((self._at_levels(seen, order) - self._sorted) * self._roots).T.ravel()

    def slopes(self, x: Tensor, change: Tensor) -> Array:
        """Of them, as long as the order along each line stays."""
        order = np.argsort(x.double().cpu().numpy() @ self._lines.T, axis=0, kind="stable")
        moved = change.cpu().numpy() @ self._lines.T
        return np.stack([(self._at_levels(each, order) * self._roots).T.ravel() for each in moved], 1)

    def parts(self, x: Tensor) -> Array:
        """Dual potentials of the transport along the lines, of both ends."""
        seen = x.double().cpu().numpy() @ self._lines.T
        found = np.zeros(len(seen))
        for u, v in zip(seen.T, self._ends.T, strict=True):
            _, f, g = by_sorting(u[:, None], self._mass, v[:, None], self._mass)
            found += f + g
        return found * x.shape[1] / len(self._lines)

    def value(self, x: Tensor) -> tuple[float, float]:
        """Sliced W2 times sqrt(d)."""
        return self._rooted(x)

    def _at_levels(self, values: Array, order: NDArray[np.int64]) -> Array:
        """Values in this order, interpolated at the levels of the exact ends."""
        mass, values = self._mass[order], np.take_along_axis(values, order, 0)
        level = np.cumsum(mass, axis=0) - mass / 2
        columns = zip(self._levels.T, level.T, values.T, strict=True)
        return np.stack([np.interp(at, known, value) for at, known, value in columns], 1)


OBJECTIVES = ("error", "typical", "law")


def objective_for(name: str, end: Tensor, weights: Tensor, reference: Tensor) -> Objective:
    """The objective of this name; the errors of `reference` say how large typical ones are."""
    if name == "typical":
        return MedianDistance(end, weights, reference)
    return RootMeanSquare(end, weights) if name == "error" else SlicedDistance(end, weights)


def _lines(dim: int, count: int) -> Array:
    """Unit vectors in blocks of an orthogonal basis, at random; the axis itself in one dimension."""
    if dim == 1:
        return np.ones((1, 1))
    draw = np.random.default_rng(0)
    shape = (dim, min(dim, count))
    return np.concatenate([np.linalg.qr(draw.normal(size=shape))[0].T for _ in range(-(-count // dim))])
