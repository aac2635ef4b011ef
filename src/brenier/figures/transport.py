"""Figures of semi-discrete transport: the cells of the source, where the map jumps, and what it makes of a grid.

On the line and in the plane the map is drawn as it is. Elsewhere the points are projected to their first two principal
axes, and beside them stands how far the masses of the cells are from the weights.

Points and their cells have colours by place: from blue to orange along the first principal axis, from dark to light
along the second, which the colour-blind tell apart, too.
"""

from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from brenier.figures.axes import (
    BLACK,
    BLUE,
    ORANGE,
    Array,
    legend_below,
    letter_panels,
    new_axes,
    page_fonts,
    tick_label,
)
from brenier.transport import SemiDiscrete
from brenier.transport.semidiscrete.facets import facet_angle

RED = "#C8102E"
STEEP = 3.0  # times the median angle of the facets: what counts as singular unless a threshold is given
FINE = 500  # places along an axis of the plane at which cells are looked up
LONG = 4001  # places on the line, and along a line of the grid
GRID = 17  # lines of the grid in each direction
DRAWS, WORK = 2**20, 2e11  # draws that masses are counted from, and the multiplications that they may take
OUTLINED = 2000  # cells up to which all are outlined


class Facets(NamedTuple):
    """Where two cells meet in the window: from where to where, between which points, at which angle."""

    ends: Array  # (F, 2, d)
    pair: NDArray[np.intp]  # (F, 2)
    angle: Array  # (F,)


def plot_transport(transport: SemiDiscrete | xr.Dataset, threshold: float | None = None) -> Figure:
    """Draw a transport map on a page of two panels, 9 by 5 inches.

    On the line: the map and its potential; in the plane: the cells of the source, and the points with the image of a
    grid; in more dimensions: the points in projection, and the errors of the cells' masses.

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
    if threshold is None and found.dim <= 2:  # one for both panels
        facets = _borders(found, *_line(found)) if found.dim == 1 else _facets(found, *_grid(found))
        threshold = _threshold(facets.angle)
    with page_fonts():
        figure = Figure(figsize=(9, 5))
        FigureCanvasAgg(figure)
        layout = {"left": 0.08, "right": 0.98, "bottom": 0.23, "top": 0.84, "wspace": 0.22}
        left, right = figure.subplots(1, 2, gridspec_kw=layout)
        if found.dim == 1:
            plot_line_map(found, threshold, left)
            plot_line_potential(found, threshold, right)
        elif found.dim == 2:
            plot_cells(found, threshold, left)
            plot_image(found, threshold, right)
        else:
            plot_points(found, left)
            plot_masses(found, right)
        letter_panels((left, right))
        for ax in (left, right):
            ax.set_title(ax.get_title(loc="left"), loc="left", pad=8)
        figure.suptitle(_title(found, name), fontsize=10.5, y=0.97, va="top")
    return figure


# On the line


def plot_line_map(transport: SemiDiscrete, threshold: float | None = None, ax: Axes | None = None) -> Axes:
    """The map on the line as a step function, its borders marked at the bottom, its jumps in red.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    ax = new_axes() if ax is None else ax
    x, cells = _line(transport)
    facets = _borders(transport, x, cells)
    jumps = _singular(facets, threshold)
    values = _points(transport)[:, 0]
    edges = np.concatenate([[x[0, 0]], facets.ends[:, 0, 0], [x[-1, 0]]])
    levels = values[np.concatenate([facets.pair[:, 0], cells[-1:]])]
    steps = ax.stairs(levels, edges, baseline=None, color=BLUE, linewidth=1.6)
    steps.set(label="map $x \\mapsto y$", gid="map")
    borders = ax.vlines(edges[1:-1], 0, 0.03, transform=ax.get_xaxis_transform(), color=BLACK, linewidth=0.6)
    borders.set(label="borders of the cells", gid="borders")
    lines = [[(edges[k + 1], levels[k]), (edges[k + 1], levels[k + 1])] for k in np.flatnonzero(jumps)]
    ax.add_collection(LineCollection(lines, colors=RED, linewidths=2.2, zorder=4, gid="singular"))
    ax.set(xlabel=_axis("x", transport), ylabel="point $y$ of the target", xlim=(x[0, 0], x[-1, 0]))
    ax.set_title("The map", loc="left")
    legend_below(ax, [steps, borders, *_key(facets, jumps, "jump")])
    return ax


def plot_line_potential(transport: SemiDiscrete, threshold: float | None = None, ax: Axes | None = None) -> Axes:
    """Brenier's potential on the line, with its kinks, where the map jumps.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    ax = new_axes() if ax is None else ax
    x, cells = _line(transport)
    facets = _borders(transport, x, cells)
    jumps = _singular(facets, threshold)
    places = np.sort(np.concatenate([x[:, 0], facets.ends[:, 0, 0]]))
    (line,) = ax.plot(places, _potential(transport, places[:, None]), color=BLUE, linewidth=1.6, gid="potential")
    line.set_label(r"$u(x) = \max_i\, x y_i + h_i$")
    kinks = facets.ends[jumps, 0, :]
    (dots,) = ax.plot(kinks[:, 0], _potential(transport, kinks), linestyle="none", marker="o", color=RED, markersize=4)
    dots.set_gid("singular")
    ax.set(xlabel=_axis("x", transport), ylabel="potential $u(x)$", xlim=(x[0, 0], x[-1, 0]))
    ax.set_title("Its potential", loc="left")
    legend_below(ax, [line, *_key(facets, jumps, "kink", marker="o")], columns=1)
    return ax


def _line(transport: SemiDiscrete) -> tuple[Array, NDArray[np.intp]]:
    """Places on the line, shape (n, 1), and their cells."""
    if transport.dim != 1:
        raise ValueError(f"this map is in {transport.dim} dimensions, and the figure is of one")
    low, high = _window(transport)[:, 0]
    x = np.linspace(low, high, LONG)[:, None]
    return x, _cells(transport, x)


def _borders(transport: SemiDiscrete, x: Array, cells: NDArray[np.intp]) -> Facets:
    """Where cells meet, from left to right."""
    at = np.flatnonzero(cells[1:] != cells[:-1])
    pair = np.stack([cells[at], cells[at + 1]], 1)
    border = _crossing(transport, pair, x[at], x[at + 1])
    return Facets(np.stack([border, border], 1), pair, _angle(transport, pair))


# In the plane


def plot_cells(transport: SemiDiscrete, threshold: float | None = None, ax: Axes | None = None) -> Axes:
    """The power diagram of the cells, each in the colour of its point, with the singular edges in red.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    ax = new_axes() if ax is None else ax
    x, cells = _grid(transport)
    low, high = x[0, 0], x[-1, -1]
    step = (high - low) / (FINE - 1) / 2
    colours = _colours(transport)[cells]
    extent = (low[0] - step[0], high[0] + step[0], low[1] - step[1], high[1] + step[1])
    ax.imshow(0.45 + 0.55 * colours, origin="lower", extent=extent, interpolation="nearest", gid="cells")
    facets = _facets(transport, x, cells)
    singular = _singular(facets, threshold)
    handles: list[Artist] = []
    if transport.size <= OUTLINED:
        ax.add_collection(LineCollection(list(facets.ends), colors="0.35", linewidths=0.5, gid="edges"))
        handles.append(Line2D([], [], color="0.35", linewidth=0.5, label="edges of the cells"))
    ax.add_collection(LineCollection(list(facets.ends[singular]), colors=RED, linewidths=2, gid="singular"))
    ax.set(xlabel=_axis("x_1", transport), ylabel="$x_2$", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_aspect("equal")
    ax.set_title("Cells of the source, coloured as their points", loc="left")
    legend_below(ax, [*handles, *_key(facets, singular, "edge")])
    return ax


def plot_image(transport: SemiDiscrete, threshold: float | None = None, ax: Axes | None = None) -> Axes:
    """The points, their areas as their weights, and what the map makes of a square grid: where it jumps, in red.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    ax = new_axes() if ax is None else ax
    low, high = _window(_plane(transport))
    along, across = np.linspace(0, 1, LONG), np.linspace(0, 1, GRID)
    rows = np.stack(np.meshgrid(along, across), -1)
    x = low + (high - low) * np.concatenate([rows, rows[..., ::-1]])  # (lines, places, 2)
    cells = _cells(transport, x.reshape(-1, 2)).reshape(len(x), -1)
    line, at = np.nonzero(cells[:, 1:] != cells[:, :-1])
    pair = np.unique(np.sort(np.stack([cells[line, at], cells[line, at + 1]], 1), 1), axis=0)
    steps = Facets(_points(transport)[pair], pair, _angle(transport, pair))
    jumps = _singular(steps, threshold)
    ax.add_collection(LineCollection(list(steps.ends[~jumps]), colors="0.55", linewidths=0.6, gid="grid"))
    ax.add_collection(LineCollection(list(steps.ends[jumps]), colors=RED, linewidths=0.6, alpha=0.8, gid="jumps"))
    dots = _scatter(transport, _points(transport), ax)
    ax.set(xlabel="$y_1$ (unit of the data)", ylabel="$y_2$")
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_title("The points, and the image of a grid", loc="left")
    lines = [
        Line2D([], [], color="0.55", linewidth=0.8, label="image of a square grid"),
        Line2D([], [], color=RED, linewidth=0.8, label="where it jumps"),
    ]
    legend_below(ax, [dots, *lines[: 1 + bool(jumps.any())]])
    return ax


def _grid(transport: SemiDiscrete) -> tuple[Array, NDArray[np.intp]]:
    """A fine grid of the plane, shape (n, n, 2), and the cells of its nodes."""
    low, high = _window(_plane(transport))
    x = np.stack(np.meshgrid(*(np.linspace(low[k], high[k], FINE) for k in range(2))), -1)
    return x, _cells(transport, x.reshape(-1, 2)).reshape(FINE, FINE)


def _facets(transport: SemiDiscrete, x: Array, cells: NDArray[np.intp]) -> Facets:
    """Where cells meet in the window, between the outermost crossings of a fine grid: two cells share one segment."""
    places: list[Array] = []
    pairs: list[NDArray[np.intp]] = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        differ = cells[one] != cells[other]
        pair = np.stack([cells[one][differ], cells[other][differ]], 1)
        places.append(_crossing(transport, pair, x[one][differ], x[other][differ]))
        pairs.append(np.sort(pair, 1))
    place, pair = np.concatenate(places), np.concatenate(pairs)
    kinds, kind = np.unique(pair, axis=0, return_inverse=True)
    kind = kind.ravel()
    y = _points(transport)
    apart = y[kinds[:, 0]] - y[kinds[:, 1]]
    direction = np.stack([-apart[:, 1], apart[:, 0]], 1) / np.maximum(np.hypot(*apart.T), np.finfo(float).tiny)[:, None]
    order = np.lexsort(((place * direction[kind]).sum(1), kind))
    first = np.searchsorted(kind[order], np.arange(len(kinds)))
    last = np.searchsorted(kind[order], np.arange(len(kinds)), side="right") - 1
    ends = np.stack([place[order[first]], place[order[last]]], 1)
    return Facets(ends, kinds, _angle(transport, kinds))


# In more dimensions


def plot_points(transport: SemiDiscrete, ax: Axes | None = None) -> Axes:
    """The points on their first two principal axes, their areas as their weights.

    Raises:
        ValueError: there is but one dimension, or the map has not been fitted.
    """
    if transport.dim < 2:
        raise ValueError("points on the line have no second axis")
    ax = new_axes() if ax is None else ax
    places, share = _principal(transport)
    dots = _scatter(transport, places, ax)
    ax.set(xlabel=f"first principal axis ({share[0]:.0%} of the variance)", ylabel=f"second ({share[1]:.0%})")
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_title("The points", loc="left")
    legend_below(ax, [dots])
    return ax


def plot_masses(transport: SemiDiscrete, ax: Axes | None = None, seed: int = 2) -> Axes:
    """Relative errors of the cells' masses on fresh draws, and how they would spread if only the draws were to blame.

    Raises:
        ValueError: the map has not been fitted.
    """
    ax = new_axes() if ax is None else ax
    work = transport.size * transport.dim
    n = int(min(DRAWS, max(WORK / work, 2**12)))
    counts = torch.zeros(len(transport.points), dtype=torch.float64)
    for k, begin in enumerate(range(0, n, 2**14)):
        x = transport.draw(min(2**14, n - begin), int(np.random.SeedSequence((seed, k)).generate_state(1)[0]))
        counts += torch.bincount(transport.cells(x).cpu(), minlength=len(counts))
    first, weights = _cell_weights(transport)
    errors = counts.numpy()[first] / n / weights - 1
    spread = np.sqrt((1 - weights) / (n * weights))
    reach = float(np.quantile(np.abs(errors), 0.995)) or 1.0
    bins = np.linspace(-reach, reach, 41)
    heights, _ = np.histogram(np.clip(errors, -reach, reach), bins)
    bars = ax.stairs(heights, bins, fill=True, color=BLUE, alpha=0.5, label="cells")
    bars.set_gid("cells")
    middle = np.linspace(-reach, reach, 401)
    # Mixed over the cells: each has noise of its own size.
    sizes, number = np.unique(spread, return_counts=True)
    if sizes.min(initial=1.0) > 0:
        density = np.exp(-((middle[:, None] / sizes) ** 2) / 2) / (sizes * np.sqrt(2 * np.pi)) @ number
        (noise,) = ax.plot(middle, density * (bins[1] - bins[0]), color=ORANGE, linewidth=1.6, linestyle="--")
        noise.set(label="noise of the draws alone", gid="noise")
    else:
        noise = ax.axvline(0, color=ORANGE, linestyle="--", label="noise of the draws alone")
    ax.set(xlabel="relative error of the mass, $w_i/b_i - 1$", ylabel="cells", xlim=(-reach, reach))
    ax.set_title(f"Masses of the cells, from {n:,} draws", loc="left")
    legend_below(ax, [bars, noise])
    return ax


# What they share


def _fitted(transport: SemiDiscrete | xr.Dataset) -> SemiDiscrete:
    if isinstance(transport, xr.Dataset):
        return SemiDiscrete.from_dataset(transport)
    if transport.heights is None:
        raise ValueError("the map has not been fitted yet: call fit first")
    return transport


def _plane(transport: SemiDiscrete) -> SemiDiscrete:
    if transport.dim != 2:
        raise ValueError(f"this map is in {transport.dim} dimensions, and the figure is of two")
    return transport


def _window(transport: SemiDiscrete) -> Array:
    """The corners of a box that holds nearly all of the source, shape (2, d)."""
    if transport.source == "normal":
        return np.array([[-3.0], [3.0]]).repeat(transport.dim, 1)
    if transport.source == "uniform":
        return np.array([[0.0], [1.0]]).repeat(transport.dim, 1)
    x = transport.draw(4096).double().cpu().numpy()
    middle, half = (x.max(0) + x.min(0)) / 2, (x.max(0) - x.min(0)).max() / 2 or 1.0
    return np.stack([middle - half, middle + half])


def _points(transport: SemiDiscrete) -> Array:
    return transport.points.double().cpu().numpy()


def _cells(transport: SemiDiscrete, x: Array) -> NDArray[np.intp]:
    return transport.cells(torch.from_numpy(x).float()).cpu().numpy()


def _potential(transport: SemiDiscrete, x: Array) -> Array:
    """In double precision, as lines need it; x of shape (n, 1)."""
    return np.asarray([float(value) for value in transport.potential(torch.from_numpy(x).float())])


def _angle(transport: SemiDiscrete, pair: NDArray[np.intp]) -> Array:
    y = transport.points.double().cpu()[torch.from_numpy(pair)]
    return facet_angle(y[:, 0], y[:, 1]).numpy()


def _crossing(transport: SemiDiscrete, pair: NDArray[np.intp], x: Array, z: Array) -> Array:
    """Where on the way from x to z the scores of the two points are equal, shape (n, d)."""
    assert transport.heights is not None
    y, h = _points(transport), transport.heights.cpu().numpy()
    apart, drop = y[pair[:, 0]] - y[pair[:, 1]], h[pair[:, 0]] - h[pair[:, 1]]
    unit = np.maximum(np.abs(apart).max(1, initial=0.0), np.finfo(float).tiny)  # squares of huge points overflow
    here, there = ((place * (apart / unit[:, None])).sum(1) + drop / unit for place in (x, z))
    change = here - there
    share = np.clip(np.divide(here, change, out=np.full_like(here, 0.5), where=change != 0), 0, 1)
    return x + share[:, None] * (z - x)


def _singular(facets: Facets, threshold: float | None) -> NDArray[np.bool_]:
    """Which facets have an angle above the threshold, by default some times their median."""
    return facets.angle > (_threshold(facets.angle) if threshold is None else threshold)


def _threshold(angles: Array) -> float:
    return STEEP * float(np.median(angles)) if len(angles) else 0.0


def _key(facets: Facets, singular: NDArray[np.bool_], what: str, marker: str = "") -> list[Artist]:
    """What is red, with the least angle at which it is."""
    if not singular.any():
        return []
    angle = tick_label(float(f"{np.degrees(facets.angle[singular].min()):.2g}"))
    style = "none" if marker else "-"
    label = f"singular {what}s: angle of {angle}° and more"
    return [Line2D([], [], color=RED, linewidth=2, linestyle=style, marker=marker, markersize=4, label=label)]


def _cell_weights(transport: SemiDiscrete) -> tuple[NDArray[np.intp], Array]:
    """The points that stand for cells, and the weights of the cells: duplicates count for the first of them."""
    weights = transport.weights.cpu().numpy()
    positive = np.flatnonzero(weights > 0)
    _, first, kind = np.unique(_points(transport)[positive], axis=0, return_index=True, return_inverse=True)
    return positive[first], np.asarray(np.bincount(kind.ravel(), weights[positive]), dtype=np.float64)


def _principal(transport: SemiDiscrete) -> tuple[Array, Array]:
    """Coordinates along the first two principal axes, shape (N, 2), and their shares of the variance."""
    y = _points(transport)
    y = y / (np.abs(y).max() or 1.0)
    weights = transport.weights.cpu().numpy()
    centred = y - weights @ y
    values, axes = np.linalg.eigh((weights[:, None] * centred).T @ centred)
    axes = axes[:, ::-1][:, :2] * np.sign(axes[:, ::-1][:, :2].sum(0) + 1e-12)
    places = centred @ axes * (np.abs(_points(transport)).max() or 1.0)
    total = float(values.sum()) or 1.0
    return places, np.maximum(values[::-1][:2], 0.0) / total


def _colours(transport: SemiDiscrete) -> Array:
    """A colour for each point by its rank along the first two principal axes, shape (N, 3)."""
    places, _ = _principal(transport)
    count = max(len(places) - 1, 1)
    hue, light = (places[:, k].argsort().argsort() / count for k in range(2))
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
    text = "" if name is None else str(name)
    text = f"{text[:27]}…" if len(text) > 28 else text
    law = f"{text}: " if text else ""
    n, d = len(transport.points), transport.dim
    law += f"optimal transport to {n:,} point{'s' * (n > 1)} in {d:,} dimension{'s' * (d > 1)}"
    return law.replace("$", r"\$")
