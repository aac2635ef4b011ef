"""A law of boxes seen through Gaussian noise: sums against the kernel exp(-|t|^2/2), t = r x - y.

The kernel is a product over axes: it costs exponentials along the sides of a box only, and moments are one product of
matrices. Which boxes matter to a place y is told from bounds in logarithms. A box that is narrow beside the noise is
summed over its own nodes; of a wide one the window that holds the kernel, on which log p is read off its Legendre
series. Boxes that lie together within less than the noise are merged into one, by the transpose of interpolation: sums
of polynomials stay as they are, and on so short a length the kernel is one.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.polynomial import legendre
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.space.boxes import ORDERS, Boxes

_NATS = 20.0  # what is that much smaller than the largest part is left out
_WIDE = 2.5  # deviations of the noise that a box's own nodes resolve along a side
_STEEP = 10.0  # nats by which the kernel may fall along a side that is summed over its own nodes
_WINDOW = 24.0  # nats below its largest value in the box, along a side, that the kernel is followed
_FINE = {2.2: 10, 3.6: 14, math.inf: 22}  # nodes along a side of windows up to so many deviations to each end
_MERGED, _FEW = 0.7, 4  # deviations of the noise within which boxes are merged, and how many at least
_MERGED_ORDER = 8  # nodes along a side of what they are merged into
_BLOCK = 2**21  # numbers in work at once


class Moments(NamedTuple):
    """The posterior of t = r X - y, and the density behind it.

    Attributes:
        log_density: log of the density of r X + Z at y.
        mean: of t.
        covariance: of t, that is of r X.
    """

    log_density: Float[Tensor, " n"]
    mean: Float[Tensor, "n d"]
    covariance: Float[Tensor, "n d d"]


class _Side:
    """A grid with the same nodes along every side of [-1, 1]^d: products and moments on it."""

    def __init__(self, order: int, dim: int) -> None:
        self.nodes, self.gauss = (torch.from_numpy(part) for part in legendre.leggauss(order))
        vander = torch.from_numpy(legendre.legvander(self.nodes.numpy(), order - 1))
        self.order, self.dim = order, dim
        self.analysis = (torch.arange(order)[:, None] + 0.5) * self.gauss * vander.T  # values -> Legendre coefficients
        grid = torch.cartesian_prod(*[self.nodes] * dim)
        self._upper = torch.triu_indices(dim, dim)
        pairs = grid[:, self._upper[0]] * grid[:, self._upper[1]]
        self._powers = torch.cat([torch.ones(len(grid), 1, dtype=grid.dtype), grid, pairs], 1)

    def product(self, sides: Float[Tensor, "m d f"]) -> Float[Tensor, "m k"]:
        """The product of a function of each coordinate, at all nodes of the grid."""
        found = sides[:, 0]
        for axis in range(1, self.dim):
            found = (found[:, :, None] * sides[:, axis, None]).flatten(1)
        return found

    def mapped(self, values: Float[Tensor, "m k"], along: Sequence[Float[Tensor, "_ g f"]]) -> Float[Tensor, "m e"]:
        """Matrices applied to values on the grid, one along each side."""
        found = values.view(-1, *([self.order] * self.dim))
        for matrix in along:  # the leading side goes, and comes back last
            rest = found.shape[2:]
            found = torch.moveaxis((matrix @ found.flatten(2)).view(len(values), -1, *rest), 1, -1)
        return found.flatten(1)

    def moments(
        self, weights: Float[Tensor, "m k"], middle: Float[Tensor, "m d"], half: Float[Tensor, "m d"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, "m d"], Float[Tensor, "m d d"]]:
        """Mass, first and second moments of weights at middle + half * grid."""
        mass, own, pairs = (weights @ self._powers).split([1, self.dim, len(self._upper[0])], 1)
        square = own.new_empty(len(own), self.dim, self.dim)
        square[:, self._upper[0], self._upper[1]] = pairs
        square[:, self._upper[1], self._upper[0]] = pairs
        own = half * own
        cross = middle[:, :, None] * own[:, None]
        square = half[:, :, None] * half[:, None] * square + cross + cross.mT
        return mass[:, 0], middle * mass + own, square + mass[:, :, None] * middle[:, :, None] * middle[:, None]


class _Group(NamedTuple):
    """Boxes with nodes alike. A node's mass is exp(highest) times its weight times the half sides of its box."""

    side: _Side
    centre: Float[Tensor, "b d"]
    half: Float[Tensor, "b d"]
    highest: Float[Tensor, " b"]
    lowest: Float[Tensor, " b"]
    weights: Float[Tensor, "b k"]
    series: Float[Tensor, "b k"] | None  # of log p, for what may be wide

    def part(self, chosen: Tensor) -> "_Group":
        rest = [None if part is None else part[chosen] for part in self[1:]]
        return _Group(self.side, *rest)  # pyright: ignore[reportArgumentType]


class Sums:
    """Boxes as tensors, and the integrals of their law against the kernel.

    Args:
        boxes: of the law.
    """

    def __init__(self, boxes: Boxes) -> None:
        self.dim = boxes.centre.shape[1]
        side = _Side(ORDERS[self.dim], self.dim)
        self._merged = _Side(_MERGED_ORDER, self.dim)
        self._windows = {most: _Side(count, self.dim) for most, count in _FINE.items()}
        centre, half, values, log_mass = (
            torch.from_numpy(part) for part in (boxes.centre, boxes.half, boxes.values, boxes.log_mass)
        )
        highest = values.amax(1)
        weights = (values - highest[:, None]).exp() * side.product(side.gauss.expand(1, self.dim, -1))
        everywhere = log_mass - half.log().sum(1) - self.dim * math.log(2)
        smooth = ~torch.from_numpy(boxes.rough)
        analysis = side.analysis[None]
        series = side.mapped(torch.where(smooth[:, None], values, 0.0), [analysis] * self.dim)
        every = _Group(side, centre, half, highest, torch.where(smooth, values.amin(1), everywhere), weights, series)
        self._smooth, self._rough = every.part(smooth), every.part(~smooth)._replace(series=None)
        self._seen: tuple[float, list[_Group]] = (0.0, [])

    def moments(self, y: Float[Tensor, "n d"], r: float) -> Moments:
        """Density of r X + Z at y, mean and covariance of the posterior of t = r X - y."""
        if self._seen[0] != r:
            groups = [part for group in (self._smooth, self._rough) for part in self._joined(group, r)]
            self._seen = r, [group for group in groups if len(group.centre)]
        groups = self._seen[1]
        rows = max(1, _BLOCK // (sum(len(group.centre) for group in groups) * self.dim))
        parts = [self._moments(block, r, groups) for block in y.split(rows)]
        return Moments(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def mean_and_covariance(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Of the law itself."""
        found: list[Tensor] = []
        for group in (self._smooth, self._rough):
            sums = group.side.moments(group.weights, group.centre, group.half)
            scale = (group.highest + group.half.log().sum(1)).exp()
            mass, mean, square = (torch.tensordot(scale, part, 1) for part in sums)
            found.append(torch.cat([mass[None], mean, square.flatten()]))
        mass, mean, square = torch.stack(found).sum(0).split([1, self.dim, self.dim**2])
        mean = mean / mass
        return mean, (square / mass).view(self.dim, self.dim) - mean[:, None] * mean

    def slopes(self) -> Array:
        """Gradients of log p at the nodes of the boxes in which it is smooth, shape (boxes, nodes, d)."""
        group = self._smooth
        assert group.series is not None  # of smooth boxes
        nodes, order = group.side.nodes.numpy(), group.side.order
        plain = torch.from_numpy(legendre.legvander(nodes, order - 1))[None]
        lower = torch.from_numpy(legendre.legvander(nodes, order - 2) @ legendre.legder(np.eye(order)))[None]
        found = [
            group.side.mapped(group.series, [lower if k == axis else plain for k in range(self.dim)])
            for axis in range(self.dim)
        ]
        return (torch.stack(found, 2) / group.half[:, None]).numpy()

    def _moments(self, y: Float[Tensor, "n d"], r: float, groups: Sequence[_Group]) -> Moments:
        seen = [_bounds(group, y, r) for group in groups]
        best = torch.cat([lower for _, lower, _ in seen], 1).amax(1)
        best = torch.maximum(best, torch.cat([upper for upper, _, _ in seen], 1).amax(1) - _NATS)
        mass = y.new_zeros(len(y))
        first, second = y.new_zeros(y.shape), y.new_zeros(len(y), self.dim, self.dim)
        for group, (upper, _, distance) in zip(groups, seen, strict=True):
            owner, box = (upper > best[:, None] - _NATS).nonzero(as_tuple=True)
            side, gap = 2 * r * group.half[box], distance[owner, box]
            wide = ((side > _WIDE) | (side * gap > _STEEP)).any(1) & (group.series is not None)
            sums = [self._narrow(group, y, r, owner[~wide], box[~wide], gap[~wide])]
            sums.append(self._wide(group, y, r, owner[wide], box[wide], gap[wide]))
            for own, log_scale, *parts in (part for found in sums for part in found):
                scale = (log_scale - best[own]).exp()
                for total, part in zip((mass, first, second), parts, strict=True):
                    total.index_add_(0, own, scale.view(-1, *([1] * (part.ndim - 1))) * part)
        mean = first / mass[:, None]
        covariance = second / mass[:, None, None] - mean[:, :, None] * mean[:, None]
        log_density = best + mass.log() - self.dim * (math.log(2 * math.pi) / 2 + math.log(r))
        return Moments(log_density, mean, covariance)

    def _narrow(
        self, group: _Group, y: Tensor, r: float, owner: Tensor, box: Tensor, gap: Tensor
    ) -> Iterator[tuple[Tensor, ...]]:
        """Owners, log scales and scaled moments of pairs of a place and a box, over the nodes of the box."""
        side = group.side
        for rows in _blocks(len(owner), group.weights.shape[1]):
            own, b, least = owner[rows], box[rows], gap[rows].square() / 2
            middle, half = r * group.centre[b] - y[own], r * group.half[b]
            t = middle[:, :, None] + half[:, :, None] * side.nodes
            kernel = side.product((least[:, :, None] - t.square() / 2).exp())
            log_scale = group.highest[b] + half.log().sum(1) - least.sum(1)
            yield own, log_scale, *side.moments(group.weights[b] * kernel, middle, half)

    def _wide(
        self, group: _Group, y: Tensor, r: float, owner: Tensor, box: Tensor, gap: Tensor
    ) -> Iterator[tuple[Tensor, ...]]:
        """The same over windows of boxes."""
        middle, half = r * group.centre[box] - y[owner], r * group.half[box]
        centre, size = _window(middle, half)
        longest, before = size.amax(1), 0.0
        for most, side in self._windows.items():
            (here,) = ((longest > before) & (longest <= most)).nonzero(as_tuple=True)
            before = most
            for rows in _blocks(len(here), side.order**self.dim):
                k = here[rows]
                own, m, h, least = owner[k], centre[k], size[k], gap[k].square() / 2
                place = ((m - middle[k])[:, :, None] + h[:, :, None] * side.nodes) / half[k][:, :, None]
                basis = _legendre(place.clamp(-1, 1), group.side.order)
                assert group.series is not None  # else nothing is wide
                values = group.side.mapped(group.series[box[k]], [basis[:, axis] for axis in range(self.dim)])
                t, top = m[:, :, None] + h[:, :, None] * side.nodes, values.amax(1)
                kernel = side.product((least[:, :, None] - t.square() / 2).exp() * side.gauss)
                log_scale = top + h.log().sum(1) - least.sum(1)
                yield own, log_scale, *side.moments((values - top[:, None]).exp_() * kernel, m, h)

    def _joined(self, group: _Group, r: float) -> list[_Group]:
        """The group with those boxes merged that the noise does not tell apart."""
        small = (2 * r * group.half).amax(1) <= _MERGED
        cell = torch.floor(group.centre[small] * (r / _MERGED))
        _, which, count = torch.unique(cell, dim=0, return_inverse=True, return_counts=True)
        joined = torch.zeros_like(small)
        joined[small] = count[which] >= _FEW
        if not bool(joined.any()):
            return [group]
        part = group.part(joined)
        _, which = torch.unique(which[count[which] >= _FEW], return_inverse=True)
        number, index = int(which.max()) + 1, which[:, None].expand(-1, self.dim)
        low = part.centre.new_full((number, self.dim), math.inf).scatter_reduce_(
            0, index, part.centre - part.half, "amin"
        )
        high = torch.full_like(low, -math.inf).scatter_reduce_(0, index, part.centre + part.half, "amax")
        centre, half = (low + high) / 2, (high - low) / 2
        side, merged = part.side, self._merged
        nodes = part.centre[:, :, None] + part.half[:, :, None] * side.nodes
        place = (nodes - centre[which][:, :, None]) / half[which][:, :, None]
        basis = _legendre(place, merged.order) @ merged.analysis  # (boxes, d, nodes, nodes of the joint box)
        scale = (part.highest + part.half.log().sum(1)).exp()
        weights = side.mapped(part.weights * scale[:, None], [basis[:, axis].mT for axis in range(self.dim)])
        total = weights.new_zeros(number, weights.shape[1]).index_add_(0, which, weights)
        mass = total.sum(1)
        level = mass.log() - half.log().sum(1)
        made = _Group(merged, centre, half, level, level - self.dim * math.log(2), total / mass[:, None], None)
        return [group.part(~joined), made]


def _bounds(group: _Group, y: Float[Tensor, "n d"], r: float) -> tuple[Tensor, Tensor, Tensor]:
    """What a box weighs at most and about at least, in logarithms, (n, b), and its distances, (n, b, d)."""
    half = r * group.half
    width = 2 * half
    distance = ((r * group.centre - y[:, None]).abs() - half).clamp_min(0)
    upper = group.highest + width.clamp_max(2.6).log().sum(1) - distance.square().sum(2) / 2
    within = torch.minimum(width, 1 / (1 + distance))
    lower = group.lowest + (within.log() - (distance + within).square() / 2).sum(2)
    return upper, lower, distance


def _window(middle: Float[Tensor, "m d"], half: Float[Tensor, "m d"]) -> tuple[Tensor, Tensor]:
    """Of wide boxes the part that the kernel reaches: its middle and half sides in t."""
    low, high = middle - half, middle + half
    nearest = torch.zeros_like(low).clamp(low, high)
    reach = 2 * _WINDOW / (nearest.abs() + (nearest.square() + 2 * _WINDOW).sqrt())
    low, high = torch.maximum(low, nearest - reach), torch.minimum(high, nearest + reach)
    return (low + high) / 2, (high - low) / 2


def _blocks(count: int, size: int) -> Iterator[Int[Tensor, " m"]]:
    """Rows 0 to count in blocks that hold `_BLOCK` numbers at `size` to a row."""
    yield from torch.arange(count).split(max(1, _BLOCK // size)) if count else ()


def _legendre(x: Float[Tensor, "*m"], order: int) -> Float[Tensor, "*m k"]:
    """Legendre polynomials P_0, ..., P_{order - 1} at x, along a new last axis."""
    found = [torch.ones_like(x), x]
    for k in range(1, order - 1):
        found.append(((2 * k + 1) * x * found[-1] - k * found[-2]) / (k + 1))
    return torch.stack(found[:order], -1)
