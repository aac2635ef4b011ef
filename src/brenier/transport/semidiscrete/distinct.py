"""Weighted points as a fit needs them: those that differ, one for each cell, in units of their spread."""

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Self

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from brenier.core.checks import Array
from brenier.core.points import Numbers
from brenier.core.reading.values import check_array


@dataclass(frozen=True)
class Distinct:
    """The different points of positive weight.

    Attributes:
        scaled: the points, less `centre`, over `unit`, shape (cells, d), float32.
        masses: of the cells, shape (cells,), sum 1.
        first: of each cell, the number of its first point, shape (cells,).
        cell: of each point, its cell, shape (N,); -1 for a point of weight 0.
        centre: mean of the points, shape (d,).
        unit: root of their mean squared distance from it.
    """

    scaled: NDArray[np.float32]
    masses: Array
    first: NDArray[np.intp]
    cell: NDArray[np.intp]
    centre: Array
    unit: float

    def choose(self, cells: NDArray[np.intp], weights: Array, shares: Array) -> NDArray[np.intp]:
        """A point of each of these cells, by the weights of those that share it.

        Args:
            cells: shape (n,).
            weights: of all points, shape (N,).
            shares: uniform numbers in [0, 1), shape (n,).
        """
        if len(self.first) == np.count_nonzero(self.cell >= 0):
            return self.first[cells]
        order, last = self._members
        end = np.cumsum(weights[order])
        begin = np.append(0.0, end[last[:-1]])
        found = np.searchsorted(end, begin[cells] + shares * (end[last] - begin)[cells], side="right")
        return order[np.minimum(found, last[cells])]

    @cached_property
    def _members(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The points of positive weight by their cells, and where in this order the last of each cell is."""
        order = np.argsort(self.cell, kind="stable")[np.count_nonzero(self.cell < 0) :]
        return order, np.cumsum(np.bincount(self.cell[order])) - 1

    @classmethod
    def of(cls, points: NDArray[np.floating], weights: Array) -> Self:
        """From points of shape (N, d) and weights of sum 1.

        Warns:
            UserWarning: points that differ by less than single precision of their spread are taken for one.
        """
        positive = np.flatnonzero(weights > 0)
        rows = points[positive]
        centre: Array = rows.mean(0, dtype=np.float64)
        centred = rows - centre.astype(rows.dtype)
        largest = float(np.abs(centred).max()) or 1.0
        centred /= largest
        unit = largest * (float(np.sqrt(np.square(centred).sum(dtype=np.float64) / len(centred))) or 1.0)
        scaled = centred.astype(np.float32) * np.float32(largest / unit)
        first, kind = _kinds(scaled)
        if len(first) < len(rows) and len(first) < len(_kinds(rows)[0]):
            warnings.warn(
                "points that single precision cannot tell apart, in the unit of their spread, share a cell",
                stacklevel=3,
            )
        cell = np.full(len(points), -1)
        cell[positive] = kind
        masses: Array = np.asarray(np.bincount(kind, weights[positive]), dtype=np.float64)
        return cls(scaled[first], masses, positive[first], cell, centre, unit)


def _kinds(rows: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first row of each kind, in their order, and of every row the number of its kind."""
    kinds: dict[bytes, int] = {}
    first: list[int] = []
    kind = np.empty(len(rows), dtype=np.intp)
    for k, row in enumerate(rows):
        key = blake2b((row + 0.0).tobytes(), digest_size=16).digest()  # -0 is 0
        if key not in kinds:
            kinds[key] = len(first)
            first.append(k)
        kind[k] = kinds[key]
    return np.asarray(first), kind


def check_weights(weights: Numbers | None, count: int) -> Float[np.ndarray, " N"]:
    """The weights of `count` points, with sum 1, in float64.

    Raises:
        ValueError: another number of them, negative ones, none above 0.
    """
    if weights is None:
        return np.full(count, 1 / count)
    values = check_array(weights, "weights")
    if values.shape != (count, 1):
        shape = values.shape[:1] if values.shape[1:] == (1,) else values.shape
        raise ValueError(f"weights must be {count} numbers, one for each point, got shape {shape}")
    b = values[:, 0].astype(np.float64)
    if (b < 0).any():
        k = int(np.argmax(b < 0))
        raise ValueError(f"weights must not be negative, got {b[k]:g} for point {k} (counted from 0)")
    if not 0 < b.sum() < math.inf:
        raise ValueError("weights must have a positive, finite sum")
    if abs(b.sum() - 1) > 1e-6:
        warnings.warn(f"the weights sum to {b.sum():g}: they are brought to 1", stacklevel=3)
    return b / b.sum()
