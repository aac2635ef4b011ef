"""The figure of a calibration: where a network is a posterior mean, where it is not, and in what way.

On top a table of verdicts, for sampling, for probing and check by check; below, each a function of its own: the
denoising error and the error that the Jacobian predicts; their ratios; the differences between halves of equal
predicted error, and the excess; asymmetry and negative directions. Bands reach two standard errors to each side.
"""

import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from brenier.figures.axes import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    Array,
    band,
    curve,
    legend_below,
    log_axis,
    panel,
    sigma_axis,
    snr_axis,
    values_of,
)
from brenier.figures.page import counted, letter_panels, page, plain, short
from brenier.probing.verdicts import CHECKS, PURPOSES, VERDICTS, deviations

# Okabe and Ito's colours, which the colour-blind tell apart; letters and hatches say the same again in grey print.
SHADES = {"good": "#56B4E9", "fair": "#F0E442", "poor": "#D55E00", "undecided": "white"}
HATCHES = {"good": "", "fair": "//", "poor": "xx", "undecided": ".."}
ROWS = {
    "excess": "excess",
    "balance": "balance",
    "directional": "top direction",
    "dependence": "halves",
    "asymmetry": "symmetry",
    "negative": "positivity",
}
SPLITS = {"predicted": "by predicted error", "outlying": r"by $|D-\mathrm{E}D|$", "moved": r"by $|x-D|$"}
BREAK = 0.35  # between the verdicts and the checks, in rows
NARROW, WIDE = 0.3, 3.0  # ratios of errors: what an axis shows at least, and at most, to each side of 1


def plot_calibration(calibration: xr.Dataset) -> Figure:
    """Draw a calibration: verdicts, errors, ratios, halves and symmetry in one figure of 9 x 10.2 inches.

    Args:
        calibration: what `brenier.calibrate` returned, or a file of it.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not a calibration.
    """
    deviations(calibration)  # or it says what is missing
    with page(9, 10.2, _title(calibration), at=0.985) as figure:
        grid = figure.add_gridspec(
            *(3, 2), height_ratios=(0.95, 1, 1), left=0.12, right=0.97, bottom=0.1, top=0.875, hspace=0.72, wspace=0.25
        )
        panels: list[Axes] = [figure.add_subplot(grid[0, :])]
        panels += [figure.add_subplot(grid[row, column]) for row in (1, 2) for column in (0, 1)]
        plot_verdicts(calibration, panels[0])
        plot_denoising_error(calibration, panels[1])
        plot_balance(calibration, panels[2])
        plot_halves(calibration, panels[3])
        plot_symmetry(calibration, panels[4])
        letter_panels(panels, 6)
        panels[0].set_title(panels[0].get_title(loc="left"), loc="left", y=1, pad=34)  # clear of its top axis
    return figure


def plot_verdicts(calibration: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The verdicts at each SNR, and below them what each check says by itself. The top axis is sigma = 1/r."""
    deviations(calibration)
    ax, snr = panel(ax, "Verdicts: sampling goes by the excess, probing by all checks"), values_of(calibration, "snr")
    low, high = snr_axis(ax, snr)
    edges = np.concatenate([[low], np.sqrt(snr[1:] * snr[:-1]), [high]])
    verdicts = [calibration[f"verdict_{purpose}"].to_numpy() for purpose in PURPOSES]
    table = np.vstack([*verdicts, calibration["level"].to_numpy()])
    places = -np.arange(len(table)) - np.where(np.arange(len(table)) < len(verdicts), 0, BREAK)
    for row, codes in enumerate(table):
        height = 0.9 if row >= len(verdicts) else 1.0
        for k, code in enumerate(codes):
            name = VERDICTS[int(code)]
            cell = Rectangle((edges[k], places[row] - height / 2), edges[k + 1] - edges[k], height, gid=f"{row}-{k}")
            cell.set(facecolor=SHADES[name], edgecolor="0.25", hatch=HATCHES[name], linewidth=0.6)
            ax.add_patch(cell)
            if row < len(verdicts) and len(snr) <= 24:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
                ax.text(snr[k], places[row], name[0], ha="center", va="center", weight="bold", bbox=box)
    ax.set_ylim(places[-1] - 0.5, 0.5)
    ax.set_yticks(places, [*PURPOSES, *(ROWS[name] for name in CHECKS)])
    ax.tick_params(axis="y", length=0)
    for label in ax.get_yticklabels()[: len(verdicts)]:
        label.set(fontweight="bold")
    sigma_axis(ax)
    handles: list[Artist] = []
    for name in VERDICTS:
        handles.append(Rectangle((0, 0), 1, 1, facecolor=SHADES[name], edgecolor="0.25", hatch=HATCHES[name]))
        handles[-1].set_label(name)
    return legend_below(ax, handles, columns=4)


def plot_denoising_error(calibration: xr.Dataset, ax: Axes | None = None) -> Axes:
    """E|X - D|^2 and sigma^2 E tr J, over the d sigma^2 of no denoising: one curve for an exact posterior."""
    deviations(calibration)
    ax, snr = panel(ax, "Error"), values_of(calibration, "snr")
    snr_axis(ax, snr)
    unit = int(calibration.attrs["dim"]) / snr**2
    shown: list[Array] = []
    handles: list[Artist] = []
    styles = (("denoising_error", r"error $\mathrm{E}|X-D|^2$", BLACK, "o", "-"),)
    styles += (("predicted", r"predicted, $\sigma^2\,\mathrm{E}\,\mathrm{tr}\,J$", BLUE, "s", "--"),)
    for name, label, colour, marker, dash in styles:
        values, error = values_of(calibration, name) / unit, values_of(calibration, f"{name}_se") / unit
        handles.append(
            curve(ax, snr, np.where(values > 0, values, np.nan), name, label, colour, marker, dash, markers=16)
        )
        band(ax, snr, values, error, colour, (1e-300, np.inf))
        shown.append(values[values > 0])
    positive = np.concatenate(shown)
    if len(positive):
        top = float(positive.max())
        log_axis(ax, max(0.6 * float(positive.min()), 1e-6 * top), 1.6 * top)
    else:
        ax.set_ylim(-0.04, 1.06)
    ax.set_ylabel(r"error over $d\sigma^2$")
    return legend_below(ax, handles)


def plot_balance(calibration: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Predicted error over true error, in all directions and in the top one: below 1 the network is too sure.

    Shades mark the deviations that make a network fair and poor. What lies beyond the axis is marked at its edge.
    """
    found = deviations(calibration)
    ax, snr = panel(ax, "Balance"), values_of(calibration, "snr")
    snr_axis(ax, snr)
    handles: list[Artist] = []
    curves = (("balance", "all directions", BLUE, "o", "-"), ("directional", "top direction", ORANGE, "^", "--"))
    usable = values_of(calibration, "carried") > 0
    for name, label, colour, marker, dash in curves:
        values = np.where(usable, found[name][0] + 1, np.nan)
        handles.append(curve(ax, snr, values, name, label, colour, marker, dash, markers=16))
        band(ax, snr, values, found[name][1], colour, (-np.inf, np.inf))
    both = np.concatenate([found[name][0] for name in ("balance", "directional")])
    side = float(np.clip(1.15 * np.abs(both[np.isfinite(both)]).max(initial=0), NARROW, WIDE))
    low, high = max(1 - side, -0.04), 1 + side
    ax.set_ylim(low, high)
    for name, _, colour, marker, _ in curves:
        _mark_beyond(ax, snr, found[name][0] + 1, low, high, colour, marker)
    handles += _zones(ax, calibration, 1.0)
    ax.set_ylabel("predicted/true error")
    return legend_below(ax, handles)


def plot_halves(calibration: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Differences in true error between halves of equal predicted error, and the excess, as shares of the error.

    Both are 0 for an exact posterior. Above 0 the half with the smaller feature has the larger error.
    """
    deviations(calibration)
    ax, snr = panel(ax, "Halves of equal predicted error, and excess"), values_of(calibration, "snr")
    snr_axis(ax, snr)
    handles: list[Artist] = []
    styles = zip(calibration["feature"].to_numpy(), (BLUE, ORANGE, GREEN), "o^s", ("-", "--", ":"), strict=True)
    values, error = values_of(calibration, "excess"), values_of(calibration, "excess_se")
    handles.append(curve(ax, snr, np.maximum(values, 0), "excess", "excess", BLACK, "D", "-.", markers=16))
    band(ax, snr, values, error, BLACK, (0.0, 1.0))
    largest = float(values[np.isfinite(values)].max(initial=0))
    for k, (feature, colour, marker, dash) in enumerate(styles):
        one = calibration.isel(feature=k)
        values, error = values_of(one, "contrast"), values_of(one, "contrast_se")
        handles.append(curve(ax, snr, values, str(feature), SPLITS[str(feature)], colour, marker, dash, markers=16))
        band(ax, snr, values, error, colour, (-np.inf, np.inf))
        largest = max(largest, float(np.abs(values[np.isfinite(values)]).max(initial=0)))
    side = float(np.clip(1.15 * largest, NARROW, 1.1))
    ax.set_ylim(-side, side)
    handles += _zones(ax, calibration, 0.0)
    ax.set_ylabel("share of the error")
    return legend_below(ax, handles, columns=3)


def plot_symmetry(calibration: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The antisymmetric part as a share of the Jacobian, and the share of negative directions: 0 for a posterior."""
    found = deviations(calibration)
    ax, snr = panel(ax, "Symmetry and positivity of the Jacobian"), values_of(calibration, "snr")
    snr_axis(ax, snr)
    handles: list[Artist] = []
    curves = (
        ("asymmetry", "antisymmetric part", BLUE, "o", "-"),
        ("negative", "negative directions", ORANGE, "^", "--"),
    )
    for name, label, colour, marker, dash in curves:
        values, error = found[name]
        handles.append(curve(ax, snr, values, name, label, colour, marker, dash, markers=16))
        band(ax, snr, values, error, colour, (0.0, 1.0))
    largest = max(float(found[name][0].max()) for name in ("asymmetry", "negative"))
    ax.set_ylim(-0.01, max(0.2, 1.1 * largest))
    handles += _zones(ax, calibration, 0.0)
    ax.set_ylabel("share")
    return legend_below(ax, handles)


def _zones(ax: Axes, calibration: xr.Dataset, centre: float) -> list[Artist]:
    """Grey beyond `fair` and darker beyond `poor`, to both sides; returns what the legend shows for them."""
    fair, poor = float(calibration.attrs["fair"]), float(calibration.attrs["poor"])
    low, high = ax.get_ylim()
    ends = ((fair, poor, "0.95", f"beyond {fair:.0%}: fair"), (poor, np.inf, "0.88", f"beyond {poor:.0%}: poor"))
    handles: list[Artist] = []
    for near, far, shade, label in ends:
        for sign in (-1, 1):
            span = ax.axhspan(centre + sign * near, centre + sign * min(far, 1e3), color=shade, linewidth=0, zorder=-1)
        span.set_label(label)
        handles.append(span)
    ax.axhline(centre, color="0.35", linewidth=0.8, zorder=1)
    ax.set_ylim(low, high)
    return handles


def _mark_beyond(ax: Axes, snr: Array, values: Array, low: float, high: float, colour: Any, marker: str) -> None:
    """Hollow markers at the edge of the axis, for values beyond it."""
    for beyond, edge in ((values > high, high), (values < low, low)):
        if beyond.any():
            look: dict[str, Any] = {"marker": marker, "linestyle": "", "markerfacecolor": "none", "color": colour}
            ax.plot(snr[beyond], np.full(beyond.sum(), edge), clip_on=False, gid="beyond", **look)


def _title(calibration: xr.Dataset) -> str:
    """What was calibrated, against what, and how."""
    about = calibration.attrs
    queries, points = int(about["queries"]), int(about["points"])
    title = plain(f"Calibration of {short(about['network'], 40)} on {short(about['law'], 40)}")
    source = f" from {points:,} points" if points < queries else ""
    how = f"{counted(int(about['dim']), 'dimension')}, {queries:,} queries{source}, bands ±2 standard errors"
    return f"{textwrap.fill(title, 104)}\n{how}"
