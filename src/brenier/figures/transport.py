"""Figures of semi-discrete transport: the cells of the source, where the map jumps, and what it makes of a grid.

On the line and in the plane the map is drawn as it is. Elsewhere the points are projected to their first two principal
axes, and beside them stands how far the masses of the cells are from the weights.

Points and their cells have colours by place: from blue to orange along the first principal axis, from dark to light
along the second, which the colour-blind tell apart, too.
"""

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from brenier.figures.axes import BLACK, BLUE, ORANGE, Array, legend_below, panel, tick_label
from brenier.figures.page import counted, letter_panels, page, plain, short
from brenier.transport import SemiDiscrete
from brenier.transport.semidiscrete import images
from brenier.transport.semidiscrete.images import Cells, Facets

RED = "#C8102E"
OUTLINED = 2000  # cells up to which all are outlined


def plot_transport(transport: SemiDiscrete | xr.Dataset, threshold: float | None = None) -> Figure:
    """Draw a transport map on a page of two panels, 9 by 5 inches.

    On the line: the map and its potential; in the plane: the cells of the source, and the points with the image of a
    grid; in more dimensions, or with classes: the points in projection, and the errors of the cells' masses.

    Args:
        transport: a fitted map, or what `brenier transport` saved.
        threshold: the angle, in radians, at which two faces of the potential meet, above which the map counts as
            jumping there. Default: three times the median of the angles in sight.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not a transport map, or its source was a function; the map has not been fitted.
    """
    name = None if isinstance(transport, SemiDiscrete) else transport.attrs.get("target")
    found = _fitted(transport)
    with page(9, 5.15, _title(found, name), at=0.97) as figure:
        layout = {"left": 0.08, "right": 0.98, "bottom": 0.23, "top": 0.84, "wspace": 0.22}
        left, right = figure.subplots(1, 2, gridspec_kw=layout)
        if found.dim == 1 and found.labels is None:
            plot_line_map(found, left, threshold=threshold)
            plot_line_potential(found, right, threshold=threshold)
        elif found.dim == 2 and found.labels is None:
            plane = images.cells_in_plane(found)
            _draw_cells(left, found, plane, threshold)
            plot_image(found, right, threshold=plane.facets.steep if threshold is None else threshold)
        else:
            plot_points(found, left)
            plot_masses(found, right)
        letter_panels((left, right), 8)
    return figure


# On the line


def plot_line_map(transport: SemiDiscrete, ax: Axes | None = None, *, threshold: float | None = None) -> Axes:
    """The map on the line as a step function, its borders marked at the bottom, its jumps in red.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    x, cells, facets = images.cells_on_line(transport)
    ax = panel(ax, "The map")
    jumps = facets.singular(threshold)
    values = transport.points[:, 0].double().cpu().numpy()
    edges = np.concatenate([[x[0, 0]], facets.ends[:, 0, 0], [x[-1, 0]]])
    levels = values[np.concatenate([facets.pair[:, 0], cells[-1:]])]
    steps = ax.stairs(levels, edges, baseline=None, color=BLUE, linewidth=1.6)
    steps.set(label="map $x \\mapsto y$", gid="map")
    borders = ax.vlines(edges[1:-1], 0, 0.03, transform=ax.get_xaxis_transform(), color=BLACK, linewidth=0.6)
    borders.set(label="borders of the cells", gid="borders")
    lines = [[(edges[k + 1], levels[k]), (edges[k + 1], levels[k + 1])] for k in np.flatnonzero(jumps)]
    ax.add_collection(LineCollection(lines, colors=RED, linewidths=2.2, zorder=4, gid="singular"))
    ax.set(xlabel=_axis("x", transport), ylabel="point $y$ of the target", xlim=(x[0, 0], x[-1, 0]))
    return legend_below(ax, [steps, borders, *_key(facets, jumps, "jump")])


def plot_line_potential(transport: SemiDiscrete, ax: Axes | None = None, *, threshold: float | None = None) -> Axes:
    """Brenier's potential on the line, with its kinks, where the map jumps.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    x, _, facets = images.cells_on_line(transport)
    ax = panel(ax, "Its potential")
    jumps = facets.singular(threshold)
    places = np.sort(np.concatenate([x[:, 0], facets.ends[:, 0, 0]]))
    heights = images.potential_at(transport, places[:, None])
    (curve,) = ax.plot(places, heights, color=BLUE, linewidth=1.6, gid="potential")
    curve.set_label(r"$u(x) = \max_i\, x y_i + h_i$")
    kinks = facets.ends[jumps, 0, :]
    heights = images.potential_at(transport, kinks)
    (dots,) = ax.plot(kinks[:, 0], heights, linestyle="none", marker="o", color=RED, markersize=4)
    dots.set_gid("singular")
    ax.set(xlabel=_axis("x", transport), ylabel="potential $u(x)$", xlim=(x[0, 0], x[-1, 0]))
    return legend_below(ax, [curve, *_key(facets, jumps, "kink", marker="o")], columns=1)


# In the plane


def plot_cells(transport: SemiDiscrete, ax: Axes | None = None, *, threshold: float | None = None) -> Axes:
    """The power diagram of the cells, each in the colour of its point, with the singular edges in red.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    return _draw_cells(ax, transport, images.cells_in_plane(transport), threshold)


def _draw_cells(ax: Axes | None, transport: SemiDiscrete, plane: Cells, threshold: float | None) -> Axes:
    ax = panel(ax, "Cells of the source, coloured as their points")
    x, cells, facets = plane
    low, high = x[0, 0], x[-1, -1]
    step = (high - low) / (len(x) - 1) / 2
    colours = _colours(transport)[cells]
    extent = (low[0] - step[0], high[0] + step[0], low[1] - step[1], high[1] + step[1])
    ax.imshow(0.45 + 0.55 * colours, origin="lower", extent=extent, interpolation="nearest", gid="cells")
    singular = facets.singular(threshold)
    handles: list[Artist] = []
    if transport.size <= OUTLINED:
        ax.add_collection(LineCollection(list(facets.ends), colors="0.35", linewidths=0.5, gid="edges"))
        handles.append(Line2D([], [], color="0.35", linewidth=0.5, label="edges of the cells"))
    ax.add_collection(LineCollection(list(facets.ends[singular]), colors=RED, linewidths=2, gid="singular"))
    ax.set(xlabel=_axis("x_1", transport), ylabel="$x_2$", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_aspect("equal")
    return legend_below(ax, [*handles, *_key(facets, singular, "edge")])


def plot_image(transport: SemiDiscrete, ax: Axes | None = None, *, threshold: float | None = None) -> Axes:
    """The points, their areas as their weights, and what the map makes of a square grid: where it jumps, in red.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    steps = images.image_of_grid(transport)
    ax = panel(ax, "The points, and the image of a grid")
    jumps = steps.singular(threshold)
    ax.add_collection(LineCollection(list(steps.ends[~jumps]), colors="0.55", linewidths=0.6, gid="grid"))
    ax.add_collection(LineCollection(list(steps.ends[jumps]), colors=RED, linewidths=0.6, alpha=0.8, gid="jumps"))
    dots = _scatter(transport, transport.points.double().cpu().numpy(), ax)
    ax.set(xlabel="$y_1$ (unit of the data)", ylabel="$y_2$")
    ax.set_aspect("equal", adjustable="datalim")
    lines = [
        Line2D([], [], color="0.55", linewidth=0.8, label="image of a square grid"),
        Line2D([], [], color=RED, linewidth=0.8, label="where it jumps"),
    ]
    return legend_below(ax, [dots, *lines[: 1 + bool(jumps.any())]])


# In more dimensions


def plot_points(transport: SemiDiscrete, ax: Axes | None = None) -> Axes:
    """The points on their first two principal axes, their areas as their weights.

    Raises:
        ValueError: there is but one dimension, or the map has not been fitted.
    """
    if transport.dim < 2:
        raise ValueError("points on the line have no second axis")
    ax = panel(ax, "The points")
    places, share = images.projection(transport)
    dots = _scatter(transport, places, ax)
    ax.set(xlabel=f"first principal axis ({share[0]:.0%} of the variance)", ylabel=f"second ({share[1]:.0%})")
    ax.set_aspect("equal", adjustable="datalim")
    return legend_below(ax, [dots])


def plot_masses(transport: SemiDiscrete, ax: Axes | None = None, *, seed: int = 2) -> Axes:
    """Relative errors of the cells' masses on fresh draws, and how they would spread if only the draws were to blame.

    Raises:
        ValueError: the map has not been fitted.
    """
    masses = images.mass_errors(transport, seed)
    ax = panel(ax, f"Masses of the cells, from {masses.draws:,} draws")
    bars = ax.stairs(masses.cells, masses.edges, fill=True, color=BLUE, alpha=0.5, label="cells")
    bars.set_gid("cells")
    if masses.noise is None:
        noise = ax.axvline(0, color=ORANGE, linestyle="--")
    else:
        (noise,) = ax.plot(masses.places, masses.noise, color=ORANGE, linewidth=1.6, linestyle="--", gid="noise")
    noise.set_label("noise of the draws alone")
    ax.set(xlabel="relative error of the mass, $w_i/b_i - 1$", ylabel="cells", xlim=masses.edges[[0, -1]])
    return legend_below(ax, [bars, noise])


# What they share


def _fitted(transport: SemiDiscrete | xr.Dataset) -> SemiDiscrete:
    if isinstance(transport, xr.Dataset):
        return SemiDiscrete.from_dataset(transport)
    if transport.heights is None:
        raise ValueError("the map has not been fitted yet: call fit first")
    return transport


def _key(facets: Facets, singular: NDArray[np.bool_], what: str, marker: str = "") -> list[Artist]:
    """What is red, with the least angle at which it is."""
    if not singular.any():
        return []
    angle = tick_label(float(f"{np.degrees(facets.angle[singular].min()):.2g}"))
    style = "none" if marker else "-"
    label = f"singular {what}s: angle of {angle}° and more"
    return [Line2D([], [], color=RED, linewidth=2, linestyle=style, marker=marker, markersize=4, label=label)]


def _colours(transport: SemiDiscrete) -> Array:
    """A colour for each point by its rank along the first two principal axes, shape (N, 3)."""
    hue, light = images.ranks(transport).T
    cold, warm = np.array(to_rgb(BLUE)), np.array(to_rgb(ORANGE))
    base = (1 - hue)[:, None] * cold + hue[:, None] * warm
    return np.clip(base * (0.45 + 0.55 * light)[:, None] + 0.45 * (light**2)[:, None], 0, 1)


def _scatter(transport: SemiDiscrete, places: Array, ax: Axes) -> Artist:
    weights = transport.weights.cpu().numpy()
    kept = weights > 0
    area = np.clip(6000 / max(len(weights), 1), 3, 60)
    relative = weights[kept] / weights[kept].mean()
    colours, sizes = _colours(transport)[kept], area * relative
    dots = ax.scatter(*places[kept].T, s=sizes, c=colours, edgecolors=BLACK, linewidths=0.3, zorder=3)
    dots.set_gid("points")
    key = Line2D([], [], color=BLUE, linestyle="none", marker="o", markersize=5, markeredgecolor=BLACK)
    key.set_label("points" if np.allclose(relative, 1) else "points, areas as weights")
    return key


def _axis(name: str, transport: SemiDiscrete) -> str:
    law = {"normal": "the normal law", "uniform": "the uniform law"}.get(transport.source, "the source")
    return f"${name}$, of {law}"


def _title(transport: SemiDiscrete, name: object) -> str:
    law = f"{short(name)}: " if name else ""
    n, d = len(transport.points), transport.dim
    return plain(f"{law}optimal transport to {counted(n, 'point')} in {counted(d, 'dimension')}")
