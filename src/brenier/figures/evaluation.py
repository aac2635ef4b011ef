"""Figures of evaluations: shares beside a perfect sampler's, how close samples come to training data, closest pairs."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brenier.core import records
from brenier.core.points import image_sides
from brenier.figures.axes import BLACK, BLUE, ORANGE, Array, is_narrow, legend_below, narrowed, panel, values_of
from brenier.figures.page import letter_panels, page, plain
from brenier.metrics.verdicts import WORDS

SHARES = ("precision", "recall", "density", "coverage", "mmr", "stray", "closer", "copied")
CONTROLS = {"held-out": "held-out points", "leave-one-out": "training points among each other"}
WIDTH, TOP = 9.0, 4.4  # inches: the page, and its upper panels
STRIP, BELOW = 2.83, 4.43  # the panel of pairs: two rows of images, or another picture


def plot_evaluation(evaluation: xr.Dataset) -> Figure:
    """Draw the shares and, where training data were given, closeness and the closest pairs, on a page 9 inches wide.

    Args:
        evaluation: what `brenier.metrics.evaluate` returned.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not an evaluation.
    """
    records.check(evaluation, "evaluation")
    paired = "pair_points" in evaluation.variables
    bottom = 0.0 if not paired else STRIP if _is_image(evaluation) else BELOW
    height = TOP + bottom
    layout = {
        "bottom": bottom / height + 1.0 / height,
        "top": 1 - 0.8 / height,
        "left": 0.165,
        "right": 0.975,
        "wspace": 0.25,
    }
    with page(WIDTH, height, plain(str(evaluation.attrs["title"])), at=1 - 0.15 / height) as figure:
        panels = [figure.add_subplot(cell) for cell in figure.add_gridspec(1, 1 + paired, **layout)]
        plot_shares(evaluation, panels[0])
        if paired:
            plot_closeness(evaluation, panels[1])
            panels.append(figure.add_axes((0.08, 0.78 / height, 0.895, (bottom - 1.23) / height)))
            plot_pairs(evaluation, panels[2])
        letter_panels(panels, 8)
    return figure


def plot_shares(evaluation: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The metrics from 0 to 1 (and density) with 95% intervals, beside those of a perfect sampler where there are any.

    Raises:
        ValueError: the dataset is not an evaluation.
    """
    records.check(evaluation, "evaluation")
    ax = panel(ax, "How good, how mixed, how copied")
    names = [str(name) for name in evaluation["metric"].to_numpy() if str(name) in SHARES]
    part = evaluation.sel(metric=names)
    places = np.arange(len(names), dtype=float)
    handles: list[Artist] = []
    for key, prefix, label, colour, marker, shift in (
        ("value", "", "samples", BLUE, "o", -0.14),
        ("control", "control_", "a perfect sampler", ORANGE, "s", 0.14),
    ):
        middle, low, high = (values_of(part, name) for name in (key, f"{prefix}low", f"{prefix}high"))
        if np.isnan(middle).all():
            continue
        look: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 4.5, "capsize": 2}
        bars = ax.errorbar(middle, places + shift, xerr=[middle - low, high - middle], **look)
        bars.set_label(label)
        bars.lines[0].set_gid(key)
        handles.append(bars.lines[0])
        handles[-1].set_label(label)
    ax.set_yticks(places, [WORDS.get(name, name) for name in names])
    right = max(1.03, 1.03 * float(np.nanmax([part["high"], part["control_high"]])))
    ax.set(xlim=(-0.03, right), ylim=(len(names) - 0.5, -0.5), xlabel="share, with 95% intervals", axisbelow=True)
    ax.grid(axis="x", color="0.9")
    return legend_below(ax, handles)


def plot_closeness(evaluation: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Distribution of d1/d0, a sample's distance to its nearest training point over that point's to its nearest other.

    Copies lie at 0; what lies left of 1 is the share "closer than data are".

    Raises:
        ValueError: the evaluation is none, or has no training data.
    """
    records.check(evaluation, "evaluation", ("closeness", "control_closeness"))
    ax = panel(ax, "How close to the training data")
    control = CONTROLS[str(evaluation.attrs["memorisation_control"])]
    handles: list[Artist] = []
    largest = 0.0
    for name, label, colour, dash in (
        ("closeness", "samples", BLUE, "-"),
        ("control_closeness", control, ORANGE, "--"),
    ):
        x = np.sort(values_of(evaluation, name))
        line = ax.ecdf(x, color=colour, linestyle=dash, linewidth=1.5, label=label)
        line.set_gid(name)
        handles.append(line)
        largest = max(largest, float(np.quantile(x, 0.95)))
    ax.axvline(1, color=BLACK, linewidth=0.8, linestyle=":")
    right = max(largest, 1.2)
    ax.set(xlim=(-0.02 * right, right), ylim=(0, 1.02))
    ax.set(xlabel="relative distance $d_1/d_0$ to the training data", ylabel="share of points below")
    return legend_below(ax, handles)


def plot_pairs(evaluation: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The samples closest to training points, by d1/d0: images above their neighbours, points in the plane joined.

    Data of other shapes have no picture: there the bars are d1/d0.

    Raises:
        ValueError: the evaluation is none, or has no training data.
    """
    records.check(evaluation, "evaluation", ("pair_points", "pair_distance"))
    ax = panel(ax, "The closest pairs, by $d_1/d_0$: sample and nearest training point")
    points = values_of(evaluation, "pair_points")
    shape = tuple(int(side) for side in np.atleast_1d(evaluation.attrs["event_shape"]))
    if _is_image(evaluation):
        shown = slice(len(points) // 2 if is_narrow(ax) else len(points))
        images = points[shown].reshape(-1, 2, *shape)
        _images(ax, images, values_of(evaluation, "pair_distance")[shown])
    elif points.shape[2] == 2:
        _plane(ax, points, values_of(evaluation, "cloud"))
    else:
        closeness = values_of(evaluation, "pair_closeness")
        rows = zip(evaluation["pair_sample"].to_numpy(), evaluation["pair_train"].to_numpy(), strict=True)
        ax.bar(np.arange(len(closeness)), closeness, color=BLUE)
        ax.set_xticks(np.arange(len(closeness)), [f"{sample}\n{row}" for sample, row in rows])
        ax.set(xlabel="row of the sample, and of the training point", ylabel="distance / neighbour's own")
    return narrowed(ax)


def _is_image(evaluation: xr.Dataset) -> bool:
    return image_sides([int(side) for side in np.atleast_1d(evaluation.attrs["event_shape"])]) is not None


def _images(ax: Axes, points: Array, distances: Array) -> None:
    """Two rows of images on one grey scale; below each pair its distance."""
    low, high = float(points.min()), float(points.max())
    scaled = (points - low) / (high - low or 1.0)
    if scaled.ndim == 5:  # channels come last in a picture; a single one is grey
        scaled = np.moveaxis(scaled, 2, -1) if scaled.shape[2] in (1, 3) else scaled
        scaled = scaled[..., 0] if scaled.shape[-1] == 1 else scaled
    tall, wide = scaled.shape[2:4]
    gap = max(1, round(0.12 * wide))
    count = len(scaled)
    canvas: NDArray[np.float64] = np.ones((2 * tall + gap, count * (wide + gap) - gap, *scaled.shape[4:]))
    for column, pair in enumerate(scaled):
        left = column * (wide + gap)
        for row, one in enumerate(pair):
            canvas[row * (tall + gap) :][:tall, left : left + wide] = one
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    places = np.arange(count) * (wide + gap) + (wide - 1) / 2
    ax.set_xticks(places, [f"{distance:.3g}" for distance in distances])
    ax.set_yticks([(tall - 1) / 2, tall + gap + (tall - 1) / 2], ["sample", "training"])
    ax.tick_params(length=0)
    ax.set_xlabel("distance, in the unit of the data")
    ax.spines[:].set_visible(False)
    ax.set_anchor("W")


def _plane(ax: Axes, points: Array, cloud: Array) -> None:
    """Pairs among other training points."""
    ax.plot(*cloud.T, ".", color="0.75", markersize=2, label="other training points", zorder=1)
    ax.add_collection(LineCollection(list(points), colors="0.6", linewidths=1))
    ax.plot(*points[:, 0].T, "o", color=BLUE, markersize=5, label="sample")
    ax.plot(*points[:, 1].T, "s", color=ORANGE, markersize=7, fillstyle="none", label="training point")
    ax.margins(0.08)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    legend_below(ax, list(ax.get_lines()), columns=3)
