"""The figure of a Monge-Ampère map: what it makes of the reference, held against the target, and how it came about.

On the line the map and the densities are drawn as they are; in the plane, points and the image of a polar grid; in more
dimensions, points on the first two principal axes of the target.
"""

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brenier.core import records
from brenier.figures.axes import BLUE, ORANGE, Array, legend_below, panel, values_of
from brenier.figures.history import plot_history, quantities, roomy
from brenier.figures.page import counted, letter_panels, page, plain, short
from brenier.transport.mongeampere import MongeAmpere, images, read_potential
from brenier.transport.mongeampere.portrait import portrait

SIZES = {1: (5.6, 5.4, 0.15, 0.82), 2: (9, 5.25, 0.09, 0.84), 3: (9, 8.6, 0.09, 0.91)}  # inches, and edges
BELOW, BETWEEN = 1.25, 1.55  # inches, for what lies under panels
ENDS = {
    "closed form": "in closed form",
    "steady": "steady after {steps} steps",
    "steps": "ended after {steps} steps",
    "tolerance": "at its tolerance after {steps} steps",
    "minutes": "out of time after {steps} steps",
    "interrupted": "interrupted after {steps} steps",
    "diverged": "diverged after {steps} steps, the last good map",
}


def plot_flow(flow: MongeAmpere | xr.Dataset) -> Figure:
    """Draw a map and its history on a page 9 inches wide: on the line three panels in two rows, elsewhere two.

    Args:
        flow: a fitted map, or what `brenier flow` saved.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not such a map; the map has not been fitted.
    """
    data = _dataset(flow)
    line, steps = int(data.attrs["dim"]) == 1, quantities(data)
    columns = 1 + line + bool(steps)
    width, height, left, top = SIZES[columns]
    with page(width, height, _title(data, "\n" if columns == 1 else ", "), at=0.97) as figure:
        rows = 2 if columns == 3 else 1
        tall = (top * height - BELOW - (rows - 1) * BETWEEN) / rows
        layout = {"left": left, "right": 0.98, "bottom": BELOW / height, "top": top, "wspace": 0.24}
        grid = figure.add_gridspec(rows, min(columns, 2), hspace=BETWEEN / tall, **layout)
        panels = [figure.add_subplot(grid[0, k]) for k in range(1 + line)]
        if line:
            plot_flow_map(data, panels[0])
            plot_flow_density(data, panels[1])
        else:
            plot_flow_image(data, panels[0])
        if steps:
            last = grid[1, :] if rows == 2 else grid[0, columns - 1]
            parts = last.subgridspec(len(steps), 1, hspace=0.14)
            stack = [figure.add_subplot(parts[k]) for k in range(len(steps))]
            plot_history(data, stack)
            panels.append(stack[0])
        letter_panels(panels, 8)
    return figure


# On the line


def plot_flow_map(flow: MongeAmpere | xr.Dataset, ax: Axes | None = None) -> Axes:
    """The map on the line, over the increasing map that takes quantiles to quantiles where both densities are known.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    found = images.line_map(_dataset(flow))
    ax = panel(ax, "The map")
    handles: list[Artist] = [*ax.plot(found.y, found.x, color=BLUE, linewidth=1.8, label="map $T(y)$", gid="map")]
    if found.quantiles is not None:
        (exact,) = ax.plot(found.y, found.quantiles, color=ORANGE, linewidth=1.4, linestyle="--", gid="quantiles")
        exact.set_label("quantiles to quantiles")
        handles.append(exact)
    ax.set(xlabel="$y$, of the reference", ylabel="$x$, of the target (unit of the data)", xlim=found.shown)
    seen = (found.y >= ax.get_xlim()[0]) & (found.y <= ax.get_xlim()[1])
    ax.set_ylim(*roomy(np.sort(found.x[seen])))
    return legend_below(ax, handles)


def plot_flow_density(flow: MongeAmpere | xr.Dataset, ax: Axes | None = None) -> Axes:
    """The density of the image on the line against that of the target; histograms of points where they are unknown.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    target, image, window = images.line_densities(_dataset(flow))
    ax = panel(ax, "What it makes of the reference")
    if target.counted:
        first = ax.stairs(target.heights, target.places, color=ORANGE, linewidth=1.4, label="target, its points")
    else:
        first = ax.fill_between(target.places, target.heights, color=ORANGE, alpha=0.35, linewidth=0, label="target")
    first.set_gid("target")
    label = "image of the reference"
    if image.counted:
        second = ax.stairs(image.heights, image.places, color=BLUE, linewidth=1.4, label=f"{label}, its points")
    else:
        (second,) = ax.plot(image.places, image.heights, color=BLUE, linewidth=1.6, label=label)
    second.set_gid("image")
    top = float(ax.dataLim.y1 if target.counted else np.nanmax(target.heights))
    ax.set(xlabel="$x$ (unit of the data)", ylabel="density", xlim=window, ylim=(0, 1.35 * top))
    return legend_below(ax, [first, second])


# In the plane and beyond


def plot_flow_image(flow: MongeAmpere | xr.Dataset, ax: Axes | None = None) -> Axes:
    """Points of the reference, pushed, over points of the target, or over the contours of its density.

    In the plane also the image of a polar grid: circles and rays around the mean of the reference, out to 2.5 standard
    deviations. In more dimensions all of it is seen along the first two principal axes of the target's points.

    Raises:
        ValueError: the map is on the line, or has not been fitted.
    """
    data = _dataset(flow)
    dim = int(data.attrs["dim"])
    if dim < 2:
        raise ValueError("this map is on the line, and the figure is of two dimensions or more")
    ax = panel(ax, "The image of the reference")
    points = images.point_images(data)
    handles: list[Artist] = []
    if points.share is None:
        ax.add_collection(
            LineCollection(list(images.polar_grid(data)), colors="0.55", linewidths=0.6, zorder=1, gid="grid")
        )
        handles.append(Line2D([], [], color="0.55", linewidth=0.8, label="image of a polar grid"))
        ax.set(xlabel="$x_1$ (unit of the data)", ylabel="$x_2$")
    else:
        whose = "the image" if points.target is None else "the target"
        along = f"first principal axis of {whose} ({points.share[0]:.0%} of its variance)"
        ax.set(xlabel=along, ylabel=f"second ({points.share[1]:.0%})")
    if points.target is not None:
        handles.append(_dots(ax, points.target, ORANGE, "o", "target"))
    elif "target_density" in data:
        handles.append(_contours(ax, data))
    handles.append(_dots(ax, points.image, BLUE, "x", "image of the reference"))
    seen = points.image if points.target is None else np.concatenate([points.image, points.target])
    low, high = np.quantile(seen, (0.001, 0.999), axis=0)
    middle, half = (low + high) / 2, 0.54 * float((high - low).max()) or 1.0
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    ax.set_aspect("equal", adjustable="box")
    return legend_below(ax, handles)


def _dots(ax: Axes, places: Array, colour: str, marker: str, label: str) -> Artist:
    size = 9 if marker == "o" else 11
    dots = ax.scatter(*places.T, s=size, c=colour, marker=marker, linewidths=0.6 if marker == "x" else 0, alpha=0.7)
    dots.set(gid=label, zorder=3 if marker == "x" else 2)
    return Line2D([], [], color=colour, linestyle="none", marker=marker, markersize=4, label=label)


def _contours(ax: Axes, data: xr.Dataset) -> Artist:
    """Around the highest places of the density that hold these shares of its mass."""
    places = values_of(data, "x1"), values_of(data, "x2"), values_of(data, "target_density").T
    lines = ax.contour(*places, images.contour_levels(data), colors=ORANGE, linewidths=1.6)
    lines.set(gid="target", zorder=2)
    shares = " and ".join(f"{share:.0%}" for share in images.HELD)
    return Line2D([], [], color=ORANGE, linewidth=1.6, label=f"target, {shares} of its mass")


# What they share


def _dataset(flow: MongeAmpere | xr.Dataset) -> xr.Dataset:
    if isinstance(flow, MongeAmpere):
        return portrait(flow)
    read_potential(flow)
    hint = "give a flow that was measured, as `brenier flow` saves it"
    records.check(flow, "flow", ("reference_points",), hint=hint)
    return flow


def _title(data: xr.Dataset, join: str) -> str:
    about = data.attrs
    law = f"{short(about['target'])}: Monge-Ampère map in {counted(int(about['dim']), 'dimension')}"
    drive = f" by {about['drive']}" if about["method"] in ("linear", "neural") else ""
    end = ENDS[about["stopped"]].format(steps=f"{int(about['steps']):,}")
    return plain(f"{law}{join}{about['method']}{drive}, {end}")
