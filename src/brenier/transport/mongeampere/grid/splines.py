"""Potentials from their values on a grid: quadratic splines.

    psi(y) = sum_i c_i B(y - y_i),    B a product of quadratic B-splines one step apart

Along an axis the map is linear between its values (c_{i+1} - c_i)/h at the faces of cells: it does not overshoot where
it jumps, and is right to second order where it is smooth. On the line psi is convex where the c_i are.
"""

from dataclasses import dataclass, fields
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.transport.mongeampere.potentials import Potential


@dataclass(eq=False)
class GridPotential(Potential):
    """A potential from the values at the centres of equal cells: their quadratic B-splines.

        psi(y) = sum_i c_i B(y - y_i),   B a product of quadratic B-splines

    psi has a continuous gradient. Along an axis the map is linear between the slopes (c_{i+1} - c_i)/h at the faces of
    cells: no overshoot where it jumps, and second order where it is smooth. On the faces of the box it is the map to
    the faces of the image, and beyond it goes on with the slope of the affine map from box to image.

    Args:
        values: c, shape (N,) or (N, M).
        low, high: corners of the box, shape (d,).
        image_low, image_high: corners of the image.
    """

    values: Float[Tensor, "..."]
    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]
    image_low: Float[Tensor, " d"]
    image_high: Float[Tensor, " d"]

    def __post_init__(self) -> None:
        self.dim = len(self.low)
        self._cells = torch.tensor(self.values.shape)
        self._step = (self.high - self.low) / self._cells
        self._ratio = (self.image_high - self.image_low) / (self.high - self.low)
        padded = self.values
        for k in range(self.dim):  # one more cell on each side, across the slope that the boundary has
            first, last = padded.narrow(k, 0, 1), padded.narrow(k, padded.shape[k] - 1, 1)
            step = self._step[k]
            padded = torch.cat([first - step * self.image_low[k], padded, last + step * self.image_high[k]], k)
        self.padded = padded

    def value(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi(y)."""
        inside = y.clamp(self.low, self.high)
        beyond = y - inside
        tilt = (self._inside(inside, 1) * beyond).sum(1)
        return self._spline(inside, (0,) * self.dim) + tilt + (self._ratio * beyond.square()).sum(1) / 2

    def gradient(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y)."""
        inside = y.clamp(self.low, self.high)
        return self._inside(inside, 1) + self._ratio * (y - inside)

    def hessian(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
        """Hess psi(y); that of one of the cells where they meet."""
        inside = y.clamp(self.low, self.high)
        out = y != inside
        diagonal = torch.where(out, self._ratio, self._inside(inside, 2))
        hessian = torch.diag_embed(diagonal)
        if self.dim == 2:
            cross = torch.where(out.any(1), 0, self._spline(inside, (1, 1)))
            hessian[:, 0, 1] = hessian[:, 1, 0] = cross
        return hessian

    def arrays(self) -> dict[str, Tensor]:
        """Its numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _inside(self, y: Tensor, order: int) -> Float[Tensor, "n d"]:
        """Derivatives of one order along each axis."""
        orders = [tuple(order if k == axis else 0 for k in range(self.dim)) for axis in range(self.dim)]
        return torch.stack([self._spline(y, each) for each in orders], 1)

    def _spline(self, y: Tensor, orders: tuple[int, ...]) -> Float[Tensor, " n"]:
        """A derivative of psi at points in the box."""
        place = (y - self.low) / self._step
        cell = torch.minimum(place.detach().floor().clamp(min=0), self._cells - 1)
        u = place - cell - 0.5
        weights = [_weights(u[:, k], order, float(self._step[k])) for k, order in enumerate(orders)]
        cell = cell.long()
        total = torch.zeros_like(u[:, 0])
        for shifts in product(range(3), repeat=self.dim):
            index = tuple(cell[:, k] + shift for k, shift in enumerate(shifts))
            term = self.padded[index]
            for k, shift in enumerate(shifts):
                term = term * weights[k][shift]
            total = total + term
        return total


def _weights(u: Tensor, order: int, step: float) -> tuple[Tensor | float, ...]:
    """Of the cells before, at and after a point, -1/2 <= u <= 1/2 steps from the centre of its own."""
    if order == 0:
        return (0.5 - u) ** 2 / 2, 0.75 - u**2, (0.5 + u) ** 2 / 2
    if order == 1:
        return (u - 0.5) / step, -2 * u / step, (u + 0.5) / step
    return 1 / step**2, -2 / step**2, 1 / step**2
