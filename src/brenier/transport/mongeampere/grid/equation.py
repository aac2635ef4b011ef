"""The parabolic Monge-Ampère equation on the cells of a box, in one and two dimensions: a balance of masses.

The box of the reference e^{-g} is cut into equal cells. psi_i is the potential at the centre of cell i; between centres
it is interpolated linearly across an axis, and differences of neighbours are slopes along it. That gives the map T at
the centre, at the middles of the faces and at the corners of every cell, and T is bilinear in between. On the faces of
the box it is held on those of the target's box. In cell i,

    d psi_i/dt = log int_{T(cell i)} e^{-f} dx - log int_{cell i} e^{-g} dy

which divided by the volume of the cell is log det Hess psi - f(grad psi) + g, to second order for smooth maps. Where
the map leaps across a gap of the target within one cell, f at a point would be off by as much as it varies in the gap;
the integral is not. The images of the cells tile the target's box: no mass is lost, and the steady state is a map that
gives every cell the mass it should have. On the line that makes the slopes at the faces the quantiles of the two laws
within their boxes, exactly, and in the plane the same holds for sums psi_1(y_1) + psi_2(y_2).
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logsumexp

from brenier.core.checks import Array
from brenier.transport.mongeampere.marginal import Marginal

_GAUSS = 1 / np.sqrt(12)  # of the two nodes on an interval of length 1, from its middle
_PANELS = {1: 4096, 2: 96}  # of the target's box, along an axis: no panel of an integral over an image is longer
_CHUNK = 2**18


@dataclass(frozen=True)
class Box:
    """A product of intervals.

    Attributes:
        low, high: its corners, shape (d,).
    """

    low: Array
    high: Array

    @property
    def width(self) -> Array:
        """Its edges, shape (d,)."""
        return self.high - self.low

    def centres(self, cells: int) -> list[Array]:
        """The centres of equal cells along each axis."""
        steps = (np.arange(cells) + 0.5) / cells
        return [low + width * steps for low, width in zip(self.low, self.width, strict=True)]

    def points(self, cells: int) -> Array:
        """The centres of all cells, shape (cells^d, d)."""
        mesh = np.meshgrid(*self.centres(cells), indexing="ij")
        return np.stack([axis.ravel() for axis in mesh], 1)


@dataclass(frozen=True)
class Nodes:
    """Nodes of the integrals over the images of the cells, cell by cell.

    Every cell has 2^d parts between its centre and its corners, and 3^d sites: the corners of its parts.

    Attributes:
        first: number of the first node of each cell, shape (N,).
        owner: the cell of each node, shape (m,).
        part: which part of the cell it is in, shape (m,).
        place: where in that part, from 0 to 1 along each axis, shape (m, d).
        weight: its share of the cell's volume, shape (m,).
    """

    first: NDArray[np.intp]
    owner: NDArray[np.intp]
    part: NDArray[np.intp]
    place: Array
    weight: Array


class Equation:
    """The right side of the equation and its Jacobian.

    Args:
        reference, target: laws with densities; factors are taken out.
        box, image: of the reference and the target.
        cells: along each axis.

    Attributes:
        start: the potential of the affine map from box to box, shape (N,).
        mass: of the cells under the reference, shape (N,), sum 1.
    """

    def __init__(self, reference: Marginal, target: Marginal, box: Box, image: Box, cells: int) -> None:
        self.box, self.image, self.cells, self.dim = box, image, cells, reference.dim
        self.step = box.width / cells
        self._target = target
        points = box.points(cells)
        ratio = image.width / box.width
        self.start = ((ratio * (points - box.low) / 2 + image.low) * (points - box.low)).sum(1)
        self._sites = list(itertools.product(range(3), repeat=self.dim))
        self._parts = list(itertools.product(range(2), repeat=self.dim))
        self._operators = self._differences()
        heights = log_densities(reference, (points[:, None] + self.step * _offsets(self.dim)).reshape(-1, self.dim))
        self._log_mass = _log_normalised(heights.reshape(len(points), -1))
        self.mass = np.exp(self._log_mass)
        fine = image.points(512 if self.dim == 2 else 2**14)
        self._log_total = logsumexp(log_densities(target, fine)) + np.log(image.width.prod() / len(fine))

    def _differences(self) -> list[list[tuple[Any, Array]]]:
        """For every site and component: a sparse matrix A and a vector a with T = A psi + a, cell by cell."""
        n, ones = self.cells, np.ones(self.cells)
        # On the n + 1 faces: differences of the cells beside them, 0 at the ends; and means, of one cell at the ends.
        at, before = (sparse.eye_array(n + 1, n, k=k, format="lil") for k in (0, -1))
        inner: Any = at - before
        inner[0, 0] = inner[n, n - 1] = 0.0
        middle: Any = (at + before) / 2
        middle[0, 0] = middle[n, n - 1] = 1.0
        # A cell has a lower face, itself, and an upper face.
        lower, upper = (sparse.eye_array(n, n + 1, k=k, format="csr") for k in (0, 1))
        pick = (lower, (lower + upper) / 2, upper)
        values = (lower @ middle, sparse.eye_array(n), upper @ middle)
        slopes: list[list[tuple[Any, Array]]] = []
        for k in range(self.dim):
            ends = np.zeros(n + 1)
            ends[0], ends[n] = self.image.low[k], self.image.high[k]
            slopes.append([(part @ inner / self.step[k], part @ ends) for part in pick])
        if self.dim == 1:
            return [[slopes[0][site]] for (site,) in self._sites]
        plane: Any = [
            [
                (sparse.kron(slopes[0][i][0], values[j], "csr"), np.kron(slopes[0][i][1], ones)),
                (sparse.kron(values[i], slopes[1][j][0], "csr"), np.kron(ones, slopes[1][j][1])),
            ]
            for i, j in self._sites
        ]
        return plane

    def vertices(self, psi: Array) -> Array:
        """T at the sites of all cells, shape (3^d, d, N)."""
        return np.array([[matrix @ psi + constant for matrix, constant in site] for site in self._operators])

    def least_curvature(self, psi: Array) -> Array:
        """The smaller eigenvalue of the differences of T between opposite faces of each cell, symmetric, shape (N,)."""
        V = self.vertices(psi)
        if self.dim == 1:
            return (V[2, 0] - V[0, 0]) / self.step[0]
        along = (V[7] - V[1]) / self.step[0]
        across = (V[5] - V[3]) / self.step[1]
        return (along[0] + across[1]) / 2 - np.hypot((along[0] - across[1]) / 2, (along[1] + across[0]) / 2)

    def nodes(self, psi: Array) -> Nodes:
        """Nodes for images as long as under psi: two for each panel along each part of a cell."""
        V = self.vertices(psi) / self.image.width[:, None]
        lengths = np.empty((self.dim, len(self._parts), V.shape[2]))
        for p, part in enumerate(self._parts):
            corners = [V[self._site(part, corner)] for corner in self._parts]
            for k in range(self.dim):
                apart = [
                    abs(there - here).max(0)
                    for there, b in zip(corners, self._parts, strict=True)
                    for here, a in zip(corners, self._parts, strict=True)
                    if b[k] > a[k] and all(b[j] == a[j] for j in range(self.dim) if j != k)
                ]
                lengths[k, p] = np.max(apart, 0)
        panels = np.maximum(np.ceil(lengths * _PANELS[self.dim]), 1).astype(np.intp)
        along = 2 * panels.transpose(0, 2, 1).reshape(self.dim, -1)
        count = along.prod(0)
        begin = np.cumsum(count) - count
        member = np.repeat(np.arange(len(count)), count)  # part of cell, numbered cell by cell
        rest = np.arange(len(member)) - begin[member]
        place = np.empty((len(member), self.dim))
        for k in range(self.dim):
            rest, number = np.divmod(rest, along[k, member])
            panel, side = np.divmod(number, 2)
            place[:, k] = (panel + 0.5 + (2 * side - 1) * _GAUSS) / (along[k, member] / 2)
        owner, part = np.divmod(member, len(self._parts))
        return Nodes(begin[:: len(self._parts)], owner, part, place, 1 / (count[member] * len(self._parts)))

    def _site(self, part: tuple[int, ...], corner: tuple[int, ...]) -> int:
        return self._sites.index(tuple(p + c for p, c in zip(part, corner, strict=True)))

    def rate(self, psi: Array, nodes: Nodes) -> Array | None:
        """d psi/dt, shape (N,); None where an image has no positive mass: where psi is not convex."""
        V = self.vertices(psi)
        if not self._upright(V):
            return None
        images, derivatives, _ = self._images(V, nodes)
        found = self._masses(nodes, log_densities(self._target, images), _determinant(derivatives))
        return None if found is None else found[0]

    def linearise(self, psi: Array, nodes: Nodes) -> tuple[Array, Any] | None:
        """d psi/dt and its Jacobian, a sparse matrix (N, N); None where psi is not convex."""
        V = self.vertices(psi)
        if not self._upright(V):
            return None
        images, derivatives, shapes = self._images(V, nodes)
        heights, gradients = _differentiated(self._target, images)
        determinant, parts = _determinant(derivatives), len(self._parts)
        found = self._masses(nodes, heights, determinant)
        if found is None:
            return None
        rate, shares = found
        cofactors = _cofactors(derivatives)
        totals: dict[tuple[int, int], Array] = {}
        for c, (shape, slopes) in enumerate(shapes):
            for k in range(self.dim):
                turn = sum(cofactors[k][j] * slopes[j] for j in range(self.dim))
                pull = shares * (determinant * gradients[:, k] * shape + turn)
                sums: Any = np.bincount(nodes.owner * parts + nodes.part, pull, len(psi) * parts).reshape(-1, parts)
                for part, total in zip(self._parts, sums.T, strict=True):
                    key = self._site(part, self._parts[c]), k
                    totals[key] = total + totals[key] if key in totals else total
        return rate, sum(sparse.diags_array(total) @ self._operators[site][k][0] for (site, k), total in totals.items())

    def _upright(self, V: Array) -> bool:
        """Whether the map expands every cell on the whole: with a positive determinant, whether psi is not concave."""
        middle = len(V) // 2  # the centre's site; those of the faces lie 3^(d - 1 - k) before and after it
        strides = [3 ** (self.dim - 1 - k) for k in range(self.dim)]
        rises = [(V[middle + stride, k] - V[middle - stride, k]) / self.step[k] for k, stride in enumerate(strides)]
        return bool((np.sum(rises, 0) > 0).all())

    def _images(self, V: Array, nodes: Nodes) -> tuple[Array, list[list[Array]], list[tuple[Array, list[Array]]]]:
        """T at the nodes (m, d), its derivatives [k][l], and each corner's shape function with its derivatives."""
        table = np.array([[self._site(part, corner) for part in self._parts] for corner in self._parts])
        images = np.zeros_like(nodes.place)
        derivatives = [[np.zeros(len(images)) for _ in range(self.dim)] for _ in range(self.dim)]
        shapes: list[tuple[Array, list[Array]]] = []
        for c, corner in enumerate(self._parts):
            factors = [nodes.place[:, k] if corner[k] else 1 - nodes.place[:, k] for k in range(self.dim)]
            signs = [(1 if corner[k] else -1) * 2 / self.step[k] for k in range(self.dim)]
            shape = np.prod(factors, 0)
            others = [factors[::-1][k] if self.dim == 2 else np.ones_like(shape) for k in range(self.dim)]
            slopes = [sign * other for sign, other in zip(signs, others, strict=True)]
            shapes.append((shape, slopes))
            for k in range(self.dim):
                value = V[table[c][nodes.part], k, nodes.owner]
                images[:, k] += shape * value
                for j in range(self.dim):
                    derivatives[k][j] += slopes[j] * value
        return images, derivatives, shapes

    def _masses(self, nodes: Nodes, heights: Array, determinant: Array) -> tuple[Array, Array] | None:
        """Rates, and for each node its weight e^{-f} over the sum of det weight e^{-f} in its cell."""
        peak = np.maximum.reduceat(heights, nodes.first)
        weighted = nodes.weight * np.exp(heights - peak[nodes.owner])
        totals = np.add.reduceat(weighted * determinant, nodes.first)
        if not (totals > 0).all():
            return None
        rate = np.log(totals * self.step.prod()) + peak - self._log_total - self._log_mass
        return rate, weighted / totals[nodes.owner]


def _offsets(dim: int) -> Array:
    """Gauss nodes of a cell of width 1 around 0, shape (2^d, d)."""
    return np.array(list(itertools.product((-_GAUSS, _GAUSS), repeat=dim)))


def _log_normalised(heights: Array) -> Array:
    """log of the shares that rows have in the sum of exp(heights)."""
    totals: Any = logsumexp(heights, 1)
    return totals - logsumexp(totals)


def _determinant(D: list[list[Array]]) -> Array:
    return D[0][0] if len(D) == 1 else D[0][0] * D[1][1] - D[0][1] * D[1][0]


def _cofactors(D: list[list[Array]]) -> list[list[Array | float]]:
    return [[1.0]] if len(D) == 1 else [[D[1][1], -D[1][0]], [-D[0][1], D[0][0]]]


def log_densities(law: Marginal, points: Array) -> Array:
    """log density at points (m, d).

    Raises:
        ValueError: it is not finite somewhere.
    """
    with torch.no_grad():
        values = torch.cat([law.log_at(part) for part in torch.from_numpy(points).split(_CHUNK)])
    return _finite(law, values, points)


def _differentiated(law: Marginal, points: Array) -> tuple[Array, Array]:
    """log density at points, and its gradient."""
    values, gradients = [], []
    with torch.enable_grad():
        for part in torch.from_numpy(points).split(_CHUNK):
            x = part.requires_grad_()
            value = law.log_at(x)
            gradients.append(torch.autograd.grad(value.sum(), x)[0])
            values.append(value.detach())
    return _finite(law, torch.cat(values), points), torch.cat(gradients).numpy()


def _finite(law: Marginal, values: torch.Tensor, points: Array) -> Array:
    finite = torch.isfinite(values).numpy()
    if not finite.all():
        place = ", ".join(f"{number:.3g}" for number in points[np.flatnonzero(~finite)[0]])
        raise ValueError(f"the log density of {law.name} is not finite at ({place}): grids need it in the whole box")
    return values.numpy()
