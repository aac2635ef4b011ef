"""Figures of the difficulty of points: ways, error, what tells of it, and the hardest and easiest points themselves."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brenier.core import records
from brenier.core.points import image_sides
from brenier.figures.axes import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SMALL,
    SMALLEST,
    is_narrow,
    legend_below,
    log_axis,
    narrowed,
    panel,
    sigma_axis,
    snr_axis,
    values_of,
)
from brenier.figures.page import letter_panels, page, plain

WORDS = {
    "integral_localization": r"$\int L\,d\log r$",
    "max_localization": r"$\max L$",
    "integral_trace": r"$\int \mathrm{tr}\,d\log r$",
    "dimension": "dimension (FLIPD)",
    "mean_distance": "to the mean",
    "nearest_distance": "to the nearest",
    "neighbour_distance": "to the 5th nearest",
    "noise_norm": "length of noise",
    "log_density": "log density",
}
WIDTH, PANEL, ABOVE, BETWEEN, BELOW = 9.0, 2.8, 1.1, 1.1, 0.75  # inches
GALLERY = 3.4
WAYS = 40  # curves drawn
PICTURES = 6  # images of a row of the gallery, of each kind


def plot_difficulty(found: xr.Dataset) -> Figure:
    """Draw ways and points and, where the error was measured, what tells of it, on a page 9 inches wide.

    Args:
        found: what `brenier.difficulty` returned, or a file of it.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is no difficulty.
    """
    records.check(found, "difficulty")
    told = "rho" in found
    upper = 2 if told else 1
    height = ABOVE + upper * PANEL + upper * BETWEEN + GALLERY + BELOW
    title = f"{found.attrs['title']}: {found.attrs['solver']}, {int(found.attrs['steps'])} steps"
    with page(WIDTH, height, plain(title), at=1 - 0.15 / height) as figure:

        def place(top: float, tall: float, left: float, wide: float) -> Axes:
            return figure.add_axes((left, 1 - (top + tall) / height, wide, tall / height))

        panels = [place(ABOVE, PANEL, 0.085, 0.385)]
        plot_difficulty_ways(found, panels[0])
        if "error" in found:
            panels.append(place(ABOVE, PANEL, 0.58, 0.385))
            plot_difficulty_against_error(found, panels[1])
        if told:
            panels.append(place(ABOVE + PANEL + BETWEEN, PANEL, 0.19, 0.775))
            plot_difficulty_ranks(found, panels[2])
        panels.append(place(height - BELOW - GALLERY, GALLERY, 0.085, 0.88))
        plot_hard_points(found, panels[-1])
        letter_panels(panels, 8)
        panels[0].set_title(panels[0].get_title(loc="left"), loc="left", y=1, pad=34)  # clear of its top axis
    return figure


def plot_difficulty_ways(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The localization along the ways to the hardest, the middle and the easiest points.

    Raises:
        ValueError: the dataset is no difficulty.
    """
    records.check(found, "difficulty", ("localization", "snr", "rank"))
    ax = panel(ax, "Localization on the way")
    snr, way = values_of(found, "snr"), values_of(found, "localization")
    order = np.argsort(found["rank"].to_numpy())
    tenth = max(1, len(order) // 10)
    middle = order[(len(order) - tenth) // 2 :][:tenth]
    handles: list[Any] = []
    for rows, label, colour, dash in (
        (order[-tenth:], "easiest tenth", BLUE, ":"),
        (middle, "middle tenth", GREEN, "--"),
        (order[:tenth], "hardest tenth", ORANGE, "-"),
    ):
        ax.plot(snr, way[:, rows[:WAYS]], color=colour, linewidth=0.5, alpha=0.35)
        (line,) = ax.plot(snr, way[:, rows].mean(1), color=colour, linestyle=dash, linewidth=2, label=label)
        handles.append(line)
    snr_axis(ax, np.sort(snr))
    sigma_axis(ax)
    ax.axhline(1, color=BLACK, linewidth=0.8, linestyle=":")
    ax.set(ylabel="localization $L$")
    ax.set_ylim(bottom=0)
    return legend_below(ax, handles, 3)


def plot_difficulty_against_error(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The error of the few-step sampler over the integral of the localization, a dot for each point.

    Raises:
        ValueError: the dataset is no difficulty, or the error was not measured.
    """
    records.check(found, "difficulty", ("integral_localization", "error"))
    ax = panel(ax, "Does it tell of the error?")
    x, y = values_of(found, "integral_localization"), values_of(found, "error")
    worst = np.zeros(len(y), dtype=bool)
    worst[np.argsort(-y, kind="stable")[: round(len(y) / 10)]] = True
    handles: list[Any] = []
    for rows, label, colour, marker in ((~worst, "point", BLUE, "o"), (worst, "worst tenth", ORANGE, "^")):
        handles += ax.plot(x[rows], y[rows], marker, color=colour, markersize=3, alpha=0.7, linewidth=0, label=label)
    positive = y[y > 0]
    if len(positive) and positive.max() > 20 * np.quantile(positive, 0.02):
        log_axis(ax, float(np.quantile(positive, 0.01)) / 1.3, 1.3 * float(positive.max()))
    ax.set(xlabel=WORDS["integral_localization"], ylabel="distance to the flow's end (unit of the data)")
    return legend_below(ax, handles)


def plot_difficulty_ranks(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Spearman's correlation of each measure with the error, without sign, and the area under the curve; 95% intervals.

    Raises:
        ValueError: the dataset is no difficulty, or the error was not measured.
    """
    records.check(found, "difficulty", ("measure", "rho", "rho_low", "rho_high", "auc", "auc_low", "auc_high"))
    ax = panel(ax, "What tells of the error, and of its worst tenth?")
    names = [str(name) for name in found["measure"].to_numpy()]
    places = np.arange(len(names), dtype=float)
    handles: list[Any] = []
    for key, label, colour, marker, shift in (
        ("rho", "Spearman's correlation", BLUE, "o", -0.14),
        ("auc", "area under the curve", ORANGE, "s", 0.14),
    ):
        middle, low, high = (values_of(found, key + end) for end in ("", "_low", "_high"))
        look: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 4.5, "capsize": 2, "label": label}
        handles.append(ax.errorbar(middle, places + shift, xerr=[middle - low, high - middle], **look).lines[0])
        handles[-1].set_label(label)
    ax.set_yticks(places, [WORDS[name] for name in names])
    ax.axvline(0, color=BLACK, linewidth=0.8)
    ax.axvline(0.5, color=BLACK, linewidth=0.8, linestyle=":")
    ax.set(xlim=(-1.03, 1.03), ylim=(len(names) - 0.5, -0.5), axisbelow=True)
    ax.set_xlabel("1: tells all; correlation 0 and area 0.5: nothing")
    ax.grid(axis="x", color="0.9")
    return legend_below(ax, handles)


def plot_hard_points(found: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The points: images, hardest and easiest, with what is undecided; on the line and in the plane their places.

    In other dimensions the sorted difficulty.

    Raises:
        ValueError: the dataset is no difficulty.
    """
    records.check(found, "difficulty", ("points", "rank", "integral_localization"))
    shape = [int(side) for side in np.atleast_1d(found.attrs["event_shape"])]
    ax = panel(ax, "Where the hard points lie")
    points, hard = values_of(found, "points"), values_of(found, "integral_localization")
    if "component" in found and image_sides(shape) is not None:
        _gallery(ax, found, shape)
    elif points.shape[1] <= 2:
        across = points[:, 1] if points.shape[1] == 2 else hard
        dots = ax.scatter(points[:, 0], across, c=hard, s=10, cmap="viridis")
        figure = ax.get_figure()
        assert figure is not None  # axes are made in one
        if points.shape[1] == 2:
            bar = figure.colorbar(dots, ax=ax)
            bar.set_label(WORDS["integral_localization"], fontsize=SMALL if is_narrow(ax) else None)
            bar.ax.tick_params(labelsize=SMALLEST if is_narrow(ax) else None)
            ax.set_aspect("equal", adjustable="datalim")
            ax.set(xlabel="$x_1$", ylabel="$x_2$")
        else:
            ax.set(xlabel="place (unit of the data)", ylabel=WORDS["integral_localization"])
    else:
        ax.set_title("Difficulty, sorted", loc="left")
        for name, colour in (("integral_localization", BLUE), ("max_localization", ORANGE)):
            ax.plot(np.arange(1, len(hard) + 1), -np.sort(-values_of(found, name)), color=colour, label=WORDS[name])
        ax.set(xlabel="rank", ylabel="no unit")
        ax.legend(frameon=False, fontsize=SMALLEST if is_narrow(ax) else None)
    return narrowed(ax)


def image_of(values: NDArray[Any], shape: list[int]) -> NDArray[Any]:
    """An image with its channels last, or grey."""
    image = values.reshape(shape)
    if image.ndim == 3:
        image = np.moveaxis(image, 0, -1) if shape[0] in (1, 3) else image
        image = image[..., 0] if image.shape[-1] == 1 else image
    return image


def _gallery(ax: Axes, found: xr.Dataset, shape: list[int]) -> None:
    """Columns of the hardest, then of the easiest; rows of the point, the posterior's mean, and its components."""
    ax.set_title(
        "Hardest and easiest, and what is undecided there: the posterior's mean and principal axes", loc="left"
    )
    rows = found["row"].to_numpy()
    half = len(rows) // 2
    count = min(PICTURES // 2 if is_narrow(ax) else PICTURES, half)
    shown = [*range(count), *range(len(rows) - count, len(rows))]
    points, means = values_of(found, "points"), values_of(found, "posterior_mean")
    parts, variance, views = (values_of(found, name) for name in ("component", "variance", "view_snr"))
    low, high = float(points.min()), float(points.max())
    sides = image_sides(shape)
    assert sides is not None  # it was asked
    tall, wide = sides
    gap = max(1, round(0.15 * wide))
    kinds = 2 + parts.shape[2]
    colour = (3,) if 3 in (shape[0], shape[-1]) and len(shape) == 3 else ()
    canvas: NDArray[np.float64] = np.ones((kinds * (tall + gap) - gap, (2 * count + 1) * (wide + gap) - gap, *colour))
    for place, k in enumerate(shown):
        left = (place + (place >= count)) * (wide + gap)
        pictures = [(points[rows[k]] - low) / (high - low or 1), (means[k, 0] - low) / (high - low or 1)]
        pictures += [0.5 + 0.5 * part / (np.abs(part).max() or 1) for part in parts[k, 0]]
        for row, picture in enumerate(pictures):
            canvas[row * (tall + gap) :][:tall, left : left + wide] = np.clip(image_of(picture, shape), 0, 1)
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    at = [(place + (place >= count)) * (wide + gap) + (wide - 1) / 2 for place in range(2 * count)]
    labels = [f"{found['rank'].to_numpy()[rows[k]]}\n$r$ {views[k, 0]:.2g}\n{variance[k, 0, 0]:.2g}" for k in shown]
    ax.set_xticks(at, labels)
    names = ["point", "mean", *(f"axis {k + 1}" for k in range(parts.shape[2]))]
    ax.set_yticks([k * (tall + gap) + (tall - 1) / 2 for k in range(kinds)], names)
    ax.tick_params(length=0)
    ax.set_xlabel("rank; SNR of the view; variance of $rX$ along the first axis")
    ax.spines[:].set_visible(False)
    ax.set_anchor("N")
