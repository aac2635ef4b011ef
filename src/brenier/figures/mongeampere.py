"""Figures of Monge-Ampère maps: what the map makes of the reference, held against the target, and how it came about.

On the line the map and the densities are drawn as they are; in the plane, points and the image of a polar grid; in more
dimensions, points on the first two principal axes of the target.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter

from brenier.figures.axes import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    Array,
    band,
    check_variables,
    legend_below,
    log_axis,
    new_axes,
    page_fonts,
    tick_label,
    values_of,
)
from brenier.transport.mongeampere import MongeAmpere, read_potential
from brenier.transport.mongeampere.portrait import portrait
from brenier.transport.mongeampere.potentials import Potential

CIRCLES, RAYS = (0.5, 1.0, 1.5, 2.0, 2.5), 24  # of the polar grid: radii in standard deviations, and lines outwards
LONG = 400  # places along a line of it
TAIL = 1e-5  # of the mass of a law on the line, on each side, that is not shown
HELD = (0.5, 0.9)  # shares of the target's mass within its contours
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
    """Draw a map and its history on a page: on the line three panels, 13 by 4.8 inches, elsewhere two, 10 by 5.4.

    Args:
        flow: a fitted map, or what `brenier flow` saved.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not such a map; the map has not been fitted.
    """
    data = _dataset(flow)
    line, steps = int(data.attrs["dim"]) == 1, _history_names(data)
    columns = 1 + line + bool(steps)
    with page_fonts():
        figure = Figure(figsize={1: (5.6, 5.4), 2: (10, 5.4), 3: (13, 5.0)}[columns])
        FigureCanvasAgg(figure)
        left, top = {1: 0.15, 2: 0.08, 3: 0.055}[columns], 0.82 if columns == 1 else 0.86
        grid = figure.add_gridspec(1, columns, left=left, right=0.98, bottom=0.24, top=top, wspace=0.24)
        panels = [figure.add_subplot(grid[0, k]) for k in range(1 + line)]
        if line:
            plot_flow_map(data, panels[0])
            plot_flow_density(data, panels[1])
        else:
            plot_flow_image(data, panels[0])
        if steps:
            rows = grid[0, columns - 1].subgridspec(len(steps), 1, hspace=0.14)
            stack = [figure.add_subplot(rows[k]) for k in range(len(steps))]
            plot_history(data, stack)
            panels.append(stack[0])
        for letter, ax in zip("abc", panels, strict=False):
            ax.set_title(f"({letter}) {ax.get_title(loc='left')}", loc="left", pad=8)
        figure.suptitle(_title(data, "\n" if columns == 1 else ", "), fontsize=10.5, y=0.97, va="top")
    return figure


# On the line


def plot_flow_map(flow: MongeAmpere | xr.Dataset, ax: Axes | None = None) -> Axes:
    """The map on the line, over the increasing map that takes quantiles to quantiles where both densities are known.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    data = _line(flow)
    ax = new_axes() if ax is None else ax
    y = values_of(data, "y")
    handles: list[Artist] = []
    x = _map(read_potential(data), y[:, None])[:, 0]
    (curve,) = ax.plot(y, x, color=BLUE, linewidth=1.8, gid="map")
    curve.set_label("map $T(y)$")
    handles.append(curve)
    if "reference_density" in data and "target_density" in data:
        quantiles = _quantiles(data)
        (exact,) = ax.plot(y, quantiles, color=ORANGE, linewidth=1.4, linestyle="--", gid="quantiles")
        exact.set_label("quantiles to quantiles")
        handles.append(exact)
    ax.set(xlabel="$y$, of the reference", ylabel="$x$, of the target (unit of the data)", xlim=_shown(data))
    seen = (y >= ax.get_xlim()[0]) & (y <= ax.get_xlim()[1])
    ax.set_ylim(*_span(np.sort(x[seen])))
    ax.set_title("The map", loc="left")
    legend_below(ax, handles)
    return ax


def plot_flow_density(flow: MongeAmpere | xr.Dataset, ax: Axes | None = None) -> Axes:
    """The density of the image on the line against that of the target; histograms of points where they are unknown.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    data = _line(flow)
    ax = new_axes() if ax is None else ax
    potential, y = read_potential(data), values_of(data, "y")
    pushed = _map(potential, values_of(data, "reference_points"))[:, 0]
    ends = [float(value) for value in np.quantile(pushed, (0.001, 0.999))]
    if "target_points" in data:
        ends += [float(value) for value in np.quantile(values_of(data, "target_points"), (0.001, 0.999))]
    room = 0.1 * (max(ends) - min(ends)) or 1.0
    window = (min(ends) - room, max(ends) + room)
    if "target_density" in data:
        target = ax.fill_between(values_of(data, "x"), values_of(data, "target_density"), color=ORANGE, alpha=0.35)
        target.set(label="target", linewidth=0, gid="target")
    else:
        target = _histogram(ax, values_of(data, "target_points")[:, 0], window, ORANGE, "target, its points")
        target.set_gid("target")
    if "reference_density" in data:
        with torch.no_grad():
            slope = potential.hessian(torch.from_numpy(y[:, None]))[:, 0, 0].numpy()
        density = np.divide(values_of(data, "reference_density"), slope, out=np.full_like(y, np.nan), where=slope > 0)
        (image,) = ax.plot(_map(potential, y[:, None])[:, 0], density, color=BLUE, linewidth=1.6)
        image.set(label="image of the reference", gid="image")
    else:
        image = _histogram(ax, pushed, window, BLUE, "image of the reference, its points")
        image.set_gid("image")
    top = np.nanmax(values_of(data, "target_density")) if "target_density" in data else ax.dataLim.y1
    ax.set(xlabel="$x$ (unit of the data)", ylabel="density", xlim=window, ylim=(0, 1.35 * float(top)))
    ax.set_title("What it makes of the reference", loc="left")
    legend_below(ax, [target, image])
    return ax


def _line(flow: MongeAmpere | xr.Dataset) -> xr.Dataset:
    data = _dataset(flow)
    if int(data.attrs["dim"]) != 1:
        raise ValueError(f"this map is in {data.attrs['dim']} dimensions, and the figure is of one")
    return data


def _quantiles(data: xr.Dataset) -> Array:
    """The increasing map between the densities, NaN where one side has no more than `TAIL` of its mass."""
    reference, target = (_masses(values_of(data, name)) for name in ("reference_density", "target_density"))
    found = np.interp(reference, target, values_of(data, "x"))
    return np.where((reference > TAIL) & (reference < 1 - TAIL), found, np.nan)


def _shown(data: xr.Dataset) -> tuple[float, float]:
    """The places of the reference that leave `TAIL` of its mass on each side; all where its density is unknown."""
    y = values_of(data, "y")
    if "reference_density" not in data:
        return float(y[0]), float(y[-1])
    low, high = np.interp((TAIL, 1 - TAIL), _masses(values_of(data, "reference_density")), y)
    return float(low), float(high)


def _masses(density: Array) -> Array:
    """Of a density on equal steps, what lies below each of them; 1 in all."""
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return below / below[-1]


def _histogram(ax: Axes, points: Array, window: tuple[float, float], colour: str, label: str) -> Artist:
    bins = np.linspace(*window, 41)
    heights, _ = np.histogram(points, bins, density=True)
    return ax.stairs(heights, bins, color=colour, linewidth=1.4, label=label)


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
    ax = new_axes() if ax is None else ax
    potential, reference = read_potential(data), values_of(data, "reference_points")
    pushed = _map(potential, reference)
    target = values_of(data, "target_points") if "target_points" in data else None
    handles: list[Artist] = []
    if dim == 2:
        handles += _polar_grid(ax, potential, reference)
        ax.set(xlabel="$x_1$ (unit of the data)", ylabel="$x_2$")
    else:
        seen = pushed if target is None else target
        centre, axes, share = _principal(seen)
        pushed = (pushed - centre) @ axes
        target = None if target is None else (target - centre) @ axes
        whose = "the image" if target is None else "the target"
        ax.set(
            xlabel=f"first principal axis of {whose} ({share[0]:.0%} of its variance)",
            ylabel=f"second ({share[1]:.0%})",
        )
    if target is not None:
        handles.append(_dots(ax, target, ORANGE, "o", "target"))
    elif "target_density" in data:
        handles.append(_contours(ax, data))
    handles.append(_dots(ax, pushed, BLUE, "x", "image of the reference"))
    seen = np.concatenate([pushed] if target is None else [pushed, target])
    low, high = np.quantile(seen, (0.001, 0.999), axis=0)
    middle, half = (low + high) / 2, 0.54 * float((high - low).max()) or 1.0
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    ax.set_aspect("equal", adjustable="box")
    ax.set_title("The image of the reference", loc="left")
    legend_below(ax, handles)
    return ax


def _polar_grid(ax: Axes, potential: Potential, reference: Array) -> list[Artist]:
    """Circles and rays, mapped; ellipses and their rays where the reference is no standard normal law."""
    values, turn = np.linalg.eigh(np.cov(reference.T))
    root = (turn * np.sqrt(np.maximum(values, 0))) @ turn.T
    mean = reference.mean(0)
    angle, along = np.linspace(0, 2 * np.pi, LONG), np.linspace(0, CIRCLES[-1], LONG)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    outwards = 2 * np.pi * np.arange(RAYS) / RAYS
    rays = np.stack([np.cos(outwards), np.sin(outwards)], 1)[:, None] * along[:, None]
    lines = np.concatenate([[radius * circle for radius in CIRCLES], rays])
    image = _map(potential, mean + lines.reshape(-1, 2) @ root).reshape(lines.shape)
    ax.add_collection(LineCollection(list(image), colors="0.55", linewidths=0.6, zorder=1, gid="grid"))
    return [Line2D([], [], color="0.55", linewidth=0.8, label="image of a polar grid")]


def _dots(ax: Axes, places: Array, colour: str, marker: str, label: str) -> Artist:
    size = 9 if marker == "o" else 11
    dots = ax.scatter(*places.T, s=size, c=colour, marker=marker, linewidths=0.6 if marker == "x" else 0, alpha=0.7)
    dots.set(gid=label, zorder=3 if marker == "x" else 2)
    return Line2D([], [], color=colour, linestyle="none", marker=marker, markersize=4, label=label)


def _contours(ax: Axes, data: xr.Dataset) -> Artist:
    """Around the highest places of the density that hold these shares of its mass."""
    density = values_of(data, "target_density")
    heights = np.sort(density.ravel())[::-1]
    held = np.cumsum(heights) / heights.sum()
    levels = sorted({float(heights[np.searchsorted(held, share)]) for share in HELD})
    lines = ax.contour(values_of(data, "x1"), values_of(data, "x2"), density.T, levels, colors=ORANGE, linewidths=1.6)
    lines.set(gid="target", zorder=2)
    shares = " and ".join(f"{share:.0%}" for share in HELD)
    return Line2D([], [], color=ORANGE, linewidth=1.6, label=f"target, {shares} of its mass")


def _principal(points: Array) -> tuple[Array, Array, Array]:
    """Mean, the first two principal axes, shape (d, 2), and their shares of the variance."""
    centre = points.mean(0)
    values, axes = np.linalg.eigh(np.cov(points.T))
    axes = axes[:, ::-1][:, :2]
    return centre, axes * np.sign(axes.sum(0) + 1e-12), np.maximum(values[::-1][:2], 0) / (float(values.sum()) or 1.0)


# The history


def plot_history(history: xr.Dataset, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """What was measured on the way, one under the other: KL with two standard errors, W2 with its floor, step sizes.

    Where neither is known, as with a learned score, what steps moved points by, over their sizes, takes their place.

    KL on points that no step has seen stands beside that of the steps' points, where both densities are known.

    Of a flow on a grid: KL, the residual, and steps in time.

    Args:
        history: `MongeAmpere.history`, or what `brenier flow` saved.
        axes: one for each of the quantities that the history has. Default: a new figure.

    Raises:
        ValueError: it is no such history; as many axes as quantities are needed.
    """
    names = _history_names(history)
    if not names:
        raise ValueError("this is not a history of a flow, or one without steps")
    if axes is None:
        axes = list(
            Figure(figsize=(5.5, 1.7 * len(names) + 1), layout="constrained").subplots(len(names), 1, squeeze=False)[
                :, 0
            ]
        )
    if len(axes) != len(names):
        raise ValueError(f"this history has {len(names)} quantities, {', '.join(names)}: give as many axes")
    over_time = "time" in history.dims
    x = np.arange(history.sizes["time"]) if over_time else history["step"].to_numpy()
    handles: list[Artist] = []
    for ax, name in zip(axes, names, strict=True):
        handles += _HISTORY[name](ax, x.astype(np.float64), history)
        if ax is not axes[-1]:
            ax.xaxis.set_major_formatter(NullFormatter())
        ax.set_xlim(*_span(x.astype(np.float64)))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure = axes[0].get_figure(root=True)
    assert figure is not None  # axes are made in one
    axes[-1].set_xlabel("step")
    axes[0].set_title("How it came about", loc="left")
    legend_below(axes[-1], handles)
    figure.align_ylabels(list(axes))
    return list(axes)


def _history_names(history: xr.Dataset) -> list[str]:
    """The quantities that there are to draw."""
    over = next((name for name in ("step", "time") if name in history.dims and history.sizes[name]), None)
    if over is None:
        return []
    known = {str(name) for name in history.data_vars} | ({"time_step"} if over == "time" else set[str]())
    return [name for name in _HISTORY if name in known and not (name == "displacement" and known & {"kl", "w2"})]


def _span(x: Array) -> tuple[float, float]:
    """From first to last, with some room."""
    room = 0.04 * float(x[-1] - x[0]) or 0.5
    return float(x[0]) - room, float(x[-1]) + room


def _draw_kl(ax: Axes, x: Array, history: xr.Dataset) -> list[Artist]:
    kl = values_of(history, "kl")
    (line,) = ax.plot(x, kl, color=BLUE, linewidth=1.4, label="KL from the target", gid="kl")
    handles: list[Artist] = [line]
    constant = int(history.attrs.get("kl_constant", 0))
    logarithmic = not constant and _logarithmic(ax, kl)
    if "kl_error" in history:
        limits = sorted(ax.get_ylim()) if logarithmic else (-np.inf, np.inf)
        band(ax, x, kl, values_of(history, "kl_error"), BLUE, (limits[0], limits[1]))
        handles.append(Patch(color=BLUE, alpha=0.2, linewidth=0, label="two standard errors"))
    if "held_kl" in history:
        held, error = values_of(history, "held_kl"), 2 * values_of(history, "held_kl_error")
        seen = np.isfinite(held) & ((held > error) if logarithmic else True)
        style: dict[str, Any] = {"color": BLACK, "linestyle": "none", "marker": "D", "markersize": 3, "elinewidth": 0.8}
        dots = ax.errorbar(x[seen], held[seen], error[seen], **style).lines[0]
        dots.set(gid="held_kl", label="KL on unseen points")
        handles.append(dots)
    if not constant and not logarithmic:
        ax.axhline(0, color=BLACK, linewidth=0.6)
    ax.set_ylabel("KL + constant" if constant else "KL")
    return handles


def _draw_w2(ax: Axes, x: Array, history: xr.Dataset) -> list[Artist]:
    w2 = values_of(history, "w2")
    seen = np.isfinite(w2)
    (line,) = ax.plot(x[seen], w2[seen], color=GREEN, linewidth=1.2, marker="o", markersize=3, gid="w2")
    line.set_label("$W_2$ to the target")
    handles: list[Artist] = [line]
    floor = float(history.attrs.get("w2_floor", np.nan))
    if np.isfinite(floor):
        handles.append(ax.axhline(floor, color=BLACK, linestyle="--", linewidth=1, label="its floor", gid="floor"))
    if not _logarithmic(ax, w2[seen]):
        ax.set_ylim(bottom=0)
    ax.set_ylabel("$W_2$")
    return handles


def _draw_residual(ax: Axes, x: Array, history: xr.Dataset) -> list[Artist]:
    residual = values_of(history, "residual")
    (line,) = ax.plot(x, residual, color=GREEN, linewidth=1.4, linestyle="--", label="residual", gid="residual")
    _logarithmic(ax, residual)
    ax.set_ylabel("residual")
    return [line]


def _draw_displacement(ax: Axes, x: Array, history: xr.Dataset) -> list[Artist]:
    moved = values_of(history, "displacement") / values_of(history, "eta")
    (line,) = ax.plot(x, moved, color=GREEN, linewidth=1.2, gid="displacement")
    line.set_label("step over its size (root mean square)")
    if not _logarithmic(ax, moved):
        ax.set_ylim(bottom=0)
    ax.set_ylabel(r"step/$\eta$")
    return [line]


def _draw_eta(ax: Axes, x: Array, history: xr.Dataset) -> list[Artist]:
    eta, halved = values_of(history, "eta"), values_of(history, "halvings") > 0
    (line,) = ax.plot(x, eta, color=BLACK, linewidth=1.2, linestyle="-.", label="step size", gid="eta")
    handles: list[Artist] = [line]
    if halved.any():
        (marks,) = ax.plot(
            x[halved], eta[halved], linestyle="none", marker="v", markersize=4, color=ORANGE, gid="halved"
        )
        marks.set_label("step halved")
        handles.append(marks)
    if not _logarithmic(ax, eta):
        ax.set_ylim(0, 1.15 * float(eta.max()))
    ax.set_ylabel(r"$\eta$")
    return handles


def _draw_time_step(ax: Axes, x: Array, history: xr.Dataset) -> list[Artist]:
    steps = np.diff(history["time"].to_numpy())
    (line,) = ax.plot(x[1:], steps, color=BLACK, linewidth=1.2, linestyle="-.", label="step in time", gid="time_step")
    _logarithmic(ax, steps)
    ax.set_ylabel("step in time")
    return [line]


_HISTORY: dict[str, Any] = {
    "kl": _draw_kl,
    "w2": _draw_w2,
    "residual": _draw_residual,
    "displacement": _draw_displacement,
    "eta": _draw_eta,
    "time_step": _draw_time_step,
}


def _logarithmic(ax: Axes, values: Array) -> bool:
    """Whether values run over more than a power of ten, all positive; their axis is then logarithmic."""
    known = values[np.isfinite(values)]
    wide = len(known) > 0 and float(known.min()) > 0 and float(known.max() / known.min()) > 10
    if wide:
        room = 1.2 * float(known.max() / known.min()) ** 0.05
        log_axis(ax, float(known.min()) / room, float(known.max()) * room)
        ticks = ax.get_yticks()
        kept = ticks[:: -(-len(ticks) // 4)]  # the panels are low
        ax.set_yticks(kept, [tick_label(float(place)) for place in kept])
    return wide


# What they share


def _dataset(flow: MongeAmpere | xr.Dataset) -> xr.Dataset:
    if isinstance(flow, MongeAmpere):
        return portrait(flow)
    read_potential(flow)
    check_variables(flow, ["reference_points"], "a flow that was measured, as `brenier flow` saves it")
    return flow


def _map(potential: Potential, points: Array) -> Array:
    with torch.no_grad():
        return potential.gradient(torch.from_numpy(points)).numpy()


def _title(data: xr.Dataset, join: str) -> str:
    about = data.attrs
    name, dim, steps = str(about["target"]), int(about["dim"]), f"{int(about['steps']):,}"
    name = f"{name[:27]}…" if len(name) > 28 else name
    law = f"{name}: Monge-Ampère map in {dim:,} dimension{'s' * (dim > 1)}"
    drive = f" by {about['drive']}" if about["method"] in ("linear", "neural") else ""
    return f"{law}{join}{about['method']}{drive}, {ENDS[about['stopped']].format(steps=steps)}".replace("$", r"\$")
