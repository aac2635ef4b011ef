"""What the map of a portrait makes of the line, of points and of circles, beside what it should make of them.

All is computed from the dataset that `portrait` returns.
"""

from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from brenier.core.checks import Array
from brenier.core.linalg import principal_axes
from brenier.transport.mongeampere.potentials import Potential
from brenier.transport.mongeampere.storage import read_potential

CIRCLES, RAYS = (0.5, 1.0, 1.5, 2.0, 2.5), 24  # of the polar grid: radii in standard deviations, and lines outwards
LONG = 400  # places along a line of it
TAIL = 1e-5  # of the mass of a law on the line, on each side, that is not shown
HELD = (0.5, 0.9)  # shares of the target's mass within its contours
BINS = 40


class LineMap(NamedTuple):
    """A map on the line: its values `x` at `y`, those of the increasing map between the densities, where it matters."""

    y: Array
    x: Array
    quantiles: Array | None  # NaN where one side has no more than `TAIL` of its mass; None without both densities
    shown: tuple[float, float]  # the places of the reference that leave `TAIL` of its mass on each side


class Density(NamedTuple):
    """A density at places, or between them, one place more, where it was counted from points."""

    places: Array
    heights: Array
    counted: bool


class Densities(NamedTuple):
    """The target and the image of the reference, within a window that holds the points of both."""

    target: Density
    image: Density
    window: tuple[float, float]


class Points(NamedTuple):
    """The image of the reference's points and the target's, in the plane or on the principal axes of the target."""

    image: Array  # (n, 2)
    target: Array | None
    share: Array | None  # of the variance that the axes have; None in the plane itself


# On the line


def line_map(data: xr.Dataset) -> LineMap:
    """The map on the line.

    Raises:
        ValueError: the map is in another dimension.
    """
    _check_line(data)
    y = _values(data, "y")
    x = _image(read_potential(data), y[:, None])[:, 0]
    if "reference_density" not in data:
        return LineMap(y, x, None, (float(y[0]), float(y[-1])))
    below = _masses(_values(data, "reference_density"))
    low, high = np.interp((TAIL, 1 - TAIL), below, y)
    quantiles = None
    if "target_density" in data:
        found = np.interp(below, _masses(_values(data, "target_density")), _values(data, "x"))
        quantiles = np.where((below > TAIL) & (below < 1 - TAIL), found, np.nan)
    return LineMap(y, x, quantiles, (float(low), float(high)))


def line_densities(data: xr.Dataset) -> Densities:
    """Of the target and of the image on the line; counted from points where the density is not known.

    Raises:
        ValueError: the map is in another dimension.
    """
    _check_line(data)
    potential = read_potential(data)
    pushed = _image(potential, _values(data, "reference_points"))[:, 0]
    ends = np.quantile(pushed, (0.001, 0.999)).tolist()
    if "target_points" in data:
        ends += np.quantile(_values(data, "target_points"), (0.001, 0.999)).tolist()
    room = 0.1 * (max(ends) - min(ends)) or 1.0
    window = (min(ends) - room, max(ends) + room)
    if "target_density" in data:
        target = Density(_values(data, "x"), _values(data, "target_density"), False)
    else:
        target = _count(_values(data, "target_points")[:, 0], window)
    if "reference_density" not in data:
        return Densities(target, _count(pushed, window), window)
    y, density = _values(data, "y"), _values(data, "reference_density")
    with torch.no_grad():
        slope = potential.hessian(torch.from_numpy(y[:, None]))[:, 0, 0].numpy()
    density = np.divide(density, slope, out=np.full_like(y, np.nan), where=slope > 0)
    return Densities(target, Density(_image(potential, y[:, None])[:, 0], density, False), window)


def _check_line(data: xr.Dataset) -> None:
    if int(data.attrs["dim"]) != 1:
        raise ValueError(f"this map is in {data.attrs['dim']} dimensions, and the figure is of one")


def _masses(density: Array) -> Array:
    """Of a density on equal steps, what lies below each of them; 1 in all."""
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return below / below[-1]


def _count(points: Array, window: tuple[float, float]) -> Density:
    edges = np.linspace(*window, BINS + 1)
    heights, _ = np.histogram(points, edges, density=True)
    return Density(edges, heights, True)


# In the plane and beyond


def point_images(data: xr.Dataset) -> Points:
    """Points of the reference, pushed, and those of the target; in more than two dimensions on its principal axes."""
    pushed = _image(read_potential(data), _values(data, "reference_points"))
    target = _values(data, "target_points") if "target_points" in data else None
    if int(data.attrs["dim"]) == 2:
        return Points(pushed, target, None)
    seen = pushed if target is None else target
    centre = seen.mean(0)
    axes, share = principal_axes(np.cov(seen.T))
    return Points((pushed - centre) @ axes, None if target is None else (target - centre) @ axes, share)


def polar_grid(data: xr.Dataset) -> Array:
    """The image of circles and rays around the mean of the reference's points, out to 2.5 of their standard deviations.

    Circles are ellipses where the reference is no standard normal law. Shape (lines, places, 2).
    """
    reference = _values(data, "reference_points")
    values, turn = np.linalg.eigh(np.cov(reference.T))
    root = (turn * np.sqrt(np.maximum(values, 0))) @ turn.T
    angle, along = np.linspace(0, 2 * np.pi, LONG), np.linspace(0, CIRCLES[-1], LONG)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    outwards = 2 * np.pi * np.arange(RAYS) / RAYS
    rays = np.stack([np.cos(outwards), np.sin(outwards)], 1)[:, None] * along[:, None]
    lines = np.concatenate([[radius * circle for radius in CIRCLES], rays])
    return _image(read_potential(data), reference.mean(0) + lines.reshape(-1, 2) @ root).reshape(lines.shape)


def contour_levels(data: xr.Dataset) -> list[float]:
    """Heights of the target's density in the plane: what lies above each holds a share of its mass, those in `HELD`."""
    heights = np.sort(_values(data, "target_density").ravel())[::-1]
    held = np.cumsum(heights) / heights.sum()
    return sorted({float(heights[np.searchsorted(held, share)]) for share in HELD})


def _image(potential: Potential, points: Array) -> Array:
    with torch.no_grad():
        return potential.gradient(torch.from_numpy(points)).numpy()


def _values(data: xr.Dataset, name: str) -> Array:
    return data[name].to_numpy().astype(np.float64)
