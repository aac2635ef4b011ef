"""Brenier maps on a grid, in one and two dimensions: the parabolic Monge-Ampère equation run to its steady state.

    d psi/dt = -f(grad psi) + g + log det Hess psi          reference e^{-g}, target e^{-f}
             = -log(rho_t/e^{-f}) o grad psi                rho_t = (grad psi)_# e^{-g}

`cells` has the equation on the cells of a box. Here it is integrated in time by RODAS3 (Sandu et al., Atmos. Environ.
31, 1997), a Rosenbrock method of third order, stable for stiff equations, whose steps are set by its embedded error;
a step in which the image of a cell would lose all its mass is halved. As psi settles the steps grow without bound, and
the method becomes Newton's.

How far it goes: every cell gets the mass it should have, jumps or not, so that a map is right away from its jumps. On
the line, and in the plane for jumps along the axes, a jump is one cell wide; one that crosses the axes is spread over
two or three, where the symmetric differences may have an eigenvalue a little below 0. The cell that holds a jump is
sent across the gap: a share of about cell width/(2 pi)^(1/2) of a normal reference, which halving the cells halves.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.sparse import eye_array
from scipy.sparse.linalg import splu

from brenier.core import records
from brenier.core.checks import whole_number
from brenier.core.work import progress_bar
from brenier.transport.mongeampere.grid.equation import Array, Box, Equation, Nodes, log_densities
from brenier.transport.mongeampere.grid.splines import GridPotential
from brenier.transport.mongeampere.marginal import Marginal

POINTS, MOST = {1: 1024, 2: 128}, {1: 2**16, 2: 2**10}  # cells along an axis
_LONGEST = 1e3  # step in time, where all but constants has long settled
_FIRST, _SHORTEST = 1e-4, 1e-14  # the latter is below rounding errors in psi
_MIXED = 0.05  # of the affine map in every try at a convex start on finer cells
_STEPS = 2000
_GROWTH = 5.0
_COARSE = 3e-2  # residual at which cells are halved
MEASURED = ("residual", "least_curvature", "kl", "refused", "cells")
_SEEN = {1: 4096, 2: 256}  # cells along an axis on which a law is looked at to find its box


class _Flow:
    """A solution on the way, from the affine map of box to box.

    Args:
        equation: on the first grid.
        accuracy: error allowed in a step, relative to the spread of the first potential.

    Attributes:
        psi: the potential, with mean 0.
        time: of psi.
        rows: what the history says of every step.
    """

    def __init__(self, equation: Equation, accuracy: float) -> None:
        self.equation = equation
        self.time, self.step, self.refused = 0.0, _FIRST, 0
        self.rows: list[dict[str, float]] = []
        self.error = accuracy * _spread(equation.mass, equation.start)
        moved = self._move(equation.start)
        assert moved  # an affine map is convex

    def _move(self, psi: Array) -> bool:
        """To a potential; or stay, where it is not convex."""
        nodes = self.equation.nodes(psi)
        found = self.equation.linearise(psi, nodes)
        if found is None:
            return False
        self.psi, self.nodes, (self.rate, self.jacobian) = psi - self.equation.mass @ psi, nodes, found
        return True

    def refine(self, equation: Equation) -> None:
        """Go on with the same spline on cells of half the size.

        Where jumps cross the cells it need not be convex there. Then it is averaged over neighbours, and mixed with
        that of the affine map, until it is: at the latest when next to nothing but the affine map is left.
        """
        psi = self._sum_of_neighbours(self.psi, ((0.25, 0.75, 0.0), (0.0, 0.75, 0.25)))
        self.equation, self.step = equation, max(self.step, _FIRST)
        while not self._move(psi):
            psi = self._sum_of_neighbours(psi, ((0.25, 0.5, 0.25),))
            psi += _MIXED * (equation.start - psi)

    def _sum_of_neighbours(self, psi: Array, weights: Sequence[tuple[float, float, float]]) -> Array:
        """Along every axis, combinations of each cell with those before and after it: as many as weights are given."""
        values = grid_potential(self.equation, psi).padded.numpy()
        for k in range(self.equation.dim):
            c = np.moveaxis(values, k, 0)
            parts = [before * c[:-2] + at * c[1:-1] + after * c[2:] for before, at, after in weights]
            values = np.moveaxis(np.stack(parts, 1).reshape(-1, *c.shape[1:]), 0, k)
        return values.ravel()

    def _record(self) -> float:
        """Put down where the solution is; returns the residual."""
        mass, rate = self.equation.mass, self.rate
        row = {
            "time": self.time,
            "residual": _spread(mass, rate),
            "least_curvature": float(self.equation.least_curvature(self.psi).min()),
            "kl": float(-mass @ rate),
            "refused": self.refused,
            "cells": self.equation.cells,
        }
        if self.rows and self.rows[-1]["time"] == self.time:  # on coarser cells
            self.rows.pop()
        self.rows.append(row)
        return row["residual"]

    def run(self, stop: float, tolerance: float, advance: Callable[[float], None]) -> bool:
        """To a time, or until the residual is below the tolerance; whether it got there.

        It did not where 2000 steps are too few, or no step is short enough to keep psi convex.
        """
        start, first, done = self.time, np.inf, 0.0
        for turn in range(_STEPS):
            residual = self._record()
            first = residual if turn == 0 else first
            if np.isfinite(stop):
                share = (self.time - start) / (stop - start)
            else:
                share = min(np.log(first / residual) / max(np.log(first / tolerance), 1e-9), 1.0)
            advance(max(share - done, 0.0))
            done = max(share, done)
            if self.time == stop or residual <= tolerance:
                return True
            if not self._step(stop):
                break
        return False

    def _step(self, stop: float) -> bool:
        while self.step > _SHORTEST:
            step = min(self.step, stop - self.time)
            trial = _rosenbrock(self.equation, self.psi, self.nodes, self.rate, self.jacobian, step)
            if trial is None:
                self.refused += 1
                self.step = step / 2
                continue
            psi, error = trial
            excess = _spread(self.equation.mass, error) / self.error
            factor = min(_GROWTH, max(0.2, 0.9 * max(excess, 1e-12) ** (-1 / 3)))
            if excess > 1:
                self.step = step * factor
            elif self._move(psi):
                cut = step < self.step  # by the stop: says little about the next step
                self.step = min(max(step * factor, self.step) if cut else step * factor, _LONGEST)
                self.time = stop if step == stop - self.time else self.time + step
                return True
            else:
                self.refused += 1
                self.step = step / 2
        return False


def solve_on_grid(
    reference: Marginal,
    target: Marginal,
    points: int | None = None,
    times: Sequence[float] | None = None,
    tolerance: float = 1e-4,
    accuracy: float | None = None,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
    image: tuple[Sequence[float], Sequence[float]] | None = None,
    progress: bool = True,
) -> tuple[GridPotential, xr.Dataset]:
    """Integrate the equation from the affine map of box to box, to the steady state or through given times.

    Args:
        reference: a law with a density, in 1 or 2 dimensions.
        target: another; its density may lack a factor.
        points: cells along each axis. Default: 1024 on the line, 128 in the plane.
        times: rising times > 0 to stop at and to save psi at. Default: on to the steady state.
        tolerance: residual that counts as steady.
        accuracy: error that a step may make, relative to the spread of psi. Default: 1e-2, or 1e-6 with `times`.
        box: corners (low, high) of the reference's box. Default: what leaves about 1e-7 of the mass on each side.
        image: corners of the target's box. Default: the same for the target.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        The potential at the end, and its history: a Dataset over `time`, one for every step, with

        - `residual`: L2(reference) norm of d psi/dt less its mean: of log(rho_t/e^{-f}), up to a constant.
        - `least_curvature`: the smallest eigenvalue of Hess psi, by differences across each cell.
        - `kl`: KL(rho_t || target), between the laws within their boxes.
        - `refused`: trial steps refused until then because they left the convex functions.
        - `cells`: along an axis. To the steady state they start few, and are halved in size on the way.

        With `times` also `potential` over `saved` and the axes `y1` (and `y2`), with mean 0 under the reference.

    Raises:
        ValueError: a law without a density, other dimensions, arguments out of range, a log density that is not finite.
        RuntimeError: 2000 steps were too few, or none was short enough to keep psi convex.
    """
    _check_laws(reference, target)
    cells = whole_number(POINTS[reference.dim] if points is None else points, "points", 4, MOST[reference.dim])
    stops = _check_times(times)
    if not (tolerance > 0 and (accuracy is None or accuracy > 0)):
        raise ValueError(f"tolerance and accuracy must be positive, got {tolerance} and {accuracy}")
    source, goal = (
        find_box(law) if given is None else _given_box(given, name, law.dim)
        for law, given, name in ((reference, box, "box"), (target, image, "image"))
    )
    exact = accuracy if accuracy is not None else 1e-2 if stops is None else 1e-6
    # A jump moves by about a cell in a step: to the steady state it goes on coarse cells first.
    halvings = 0 if stops is not None else _halvings(cells)
    equations = [Equation(reference, target, source, goal, cells >> k) for k in range(halvings, -1, -1)]
    flow = _Flow(equations[0], exact)
    saved: list[Array] = []
    with progress_bar("Monge-Ampère equation on a grid", progress) as advance:
        share = 1 / len(equations if stops is None else stops)
        arrived = True
        for stop in stops or []:
            arrived = arrived and flow.run(stop, 0.0, lambda part: advance(share * part))
            saved.append(flow.psi)
        for equation in equations if stops is None else []:
            if equation is not flow.equation:  # even from where coarse cells lead no further
                flow.refine(equation)
            enough = tolerance if equation.cells == cells else max(tolerance, _COARSE)
            arrived = flow.run(np.inf, enough, lambda part: advance(share * part))
    if not arrived:
        residual, time = flow.rows[-1]["residual"], flow.time
        raise RuntimeError(
            f"the equation came to a halt at time {time:.3g}, residual {residual:.2g}: try another number of points, "
            "or boxes with less of the tails"
        )
    history = _history(flow, stops or [], saved)
    records.describe(
        history,
        "grid solution",
        title=f"Monge-Ampère equation from {reference.name} to {target.name}",
        reference=reference.name,
        target=target.name,
        dim=reference.dim,
        points=cells,
    )
    return grid_potential(flow.equation, flow.psi), history


def grid_potential(equation: Equation, psi: Array) -> GridPotential:
    """The potential with these values at the centres."""
    box, image = equation.box, equation.image
    corners = (torch.from_numpy(corner.copy()) for corner in (box.low, box.high, image.low, image.high))
    return GridPotential(torch.from_numpy(psi.reshape((equation.cells,) * equation.dim)), *corners)


def _rosenbrock(
    equation: Equation, psi: Array, nodes: Nodes, rate: Array, jacobian: Any, step: float
) -> tuple[Array, Array] | None:
    """One step of RODAS3 and its error; None where a stage is not convex."""
    matrix = eye_array(len(psi)) * (2 / step) - jacobian
    solve = splu(
        matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1, options={"SymmetricMode": True}
    ).solve
    k1 = solve(rate)
    k2 = solve(rate + 4 / step * k1)
    third = equation.rate(psi + 2 * k1, nodes)
    if third is None:
        return None
    k3 = solve(third + (k1 - k2) / step)
    fourth = equation.rate(psi + 2 * k1 + k3, nodes)
    if fourth is None:
        return None
    k4 = solve(fourth + (k1 - k2 - 8 / 3 * k3) / step)
    return psi + 2 * k1 + k3 + k4, k4


def _spread(mass: Array, values: Array) -> float:
    """Standard deviation under the reference."""
    return float(np.sqrt(mass @ (values - mass @ values) ** 2))


def _check_laws(reference: Marginal, target: Marginal) -> None:
    for law in (reference, target):
        if law.log_density is None:
            raise ValueError(f"{law.name} has no density, and a grid needs one: take another method")
    if reference.dim != target.dim:
        raise ValueError(f"{reference.name} is in {reference.dim} dimensions and {target.name} in {target.dim}")
    if reference.dim > 2:
        raise ValueError(f"a grid is for 1 or 2 dimensions, and {target.name} is in {target.dim}: take another method")


def _check_times(times: Sequence[float] | None) -> list[float] | None:
    if times is None:
        return None
    stops = [float(time) for time in times]
    if not stops or not np.isfinite(stops).all() or min(np.diff([0.0, *stops])) <= 0:
        raise ValueError(f"times must be positive and rising, got {list(times)}")
    return stops


def _given_box(given: tuple[Sequence[float], Sequence[float]], name: str, dim: int) -> Box:
    low, high = (np.asarray(corner, dtype=np.float64) for corner in given)
    if low.shape != (dim,) or high.shape != (dim,) or not (np.isfinite([low, high]).all() and (low < high).all()):
        raise ValueError(f"{name} must be two corners (low, high) of {dim} numbers each, got {given}")
    return Box(low, high)


def _halvings(cells: int) -> int:
    """How often the cells can be halved in number, and are still at least 16."""
    count = 0
    while cells % 2 == 0 and cells >= 32:
        cells, count = cells // 2, count + 1
    return count


def _history(flow: _Flow, stops: Sequence[float], saved: list[Array]) -> xr.Dataset:
    equation, rows = flow.equation, flow.rows
    times = [row["time"] for row in rows]
    history = xr.Dataset({name: ("time", [row[name] for row in rows]) for name in MEASURED}, {"time": times})
    if saved:
        axes = {f"y{k + 1}": centres for k, centres in enumerate(equation.box.centres(equation.cells))}
        shape = (len(saved), *(equation.cells for _ in axes))
        history["potential"] = (("saved", *axes), np.reshape(saved, shape))
        history = history.assign_coords({"saved": list(stops), **axes})
    return history


def find_box(law: Marginal, tail: float = 1e-7) -> Box:
    """The smallest box that leaves about `tail` of the mass on each side, by the marginal densities on a grid.

    Raises:
        ValueError: the mass does not decay within 1e4 of the origin or of the mean.
    """
    centre = np.zeros(law.dim) if law.mean is None else law.mean.numpy()
    half = np.full(law.dim, 8.0) if law.covariance is None else 6 * np.sqrt(law.covariance.diagonal().numpy())
    box = Box(centre - half, centre + half)
    for _ in range(12):
        trimmed = _trimmed(law, box, tail)
        inside = (trimmed.low > box.low + 0.02 * box.width) & (trimmed.high < box.high - 0.02 * box.width)
        if inside.all():
            break
        box = Box(box.low - box.width / 2, box.high + box.width / 2)
    else:
        raise ValueError(f"the density of {law.name} does not decay: give the box that holds its mass")
    margin = 0.2 * trimmed.width  # once more on a finer grid
    return _trimmed(law, Box(trimmed.low - margin, trimmed.high + margin), tail)


def _trimmed(law: Marginal, box: Box, tail: float) -> Box:
    cells = _SEEN[law.dim]
    heights = log_densities(law, box.points(cells))
    mass = np.exp(heights - heights.max()).reshape((cells,) * law.dim)
    edges = np.linspace(0, 1, cells + 1)
    low, high = np.empty(law.dim), np.empty(law.dim)
    for k in range(law.dim):
        marginal = mass.sum(tuple(j for j in range(law.dim) if j != k))
        for side, ends in ((1, low), (-1, high)):
            below = np.cumsum(marginal[::side]) / marginal.sum()
            place = edges[np.searchsorted(below, tail)]  # the last edge with less than that on its outer side
            ends[k] = box.low[k] + box.width[k] * (place if side == 1 else 1 - place)
    return Box(low, high)
