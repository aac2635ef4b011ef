"""The figure of a comparison: what ways to place the steps leave of the error, against evaluations."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brenier.core import records
from brenier.figures.axes import (
    BLACK,
    BLUE,
    GAP,
    GREEN,
    MARKERS,
    ORANGE,
    PURPLE,
    Array,
    log_axis,
    narrowed,
    panel,
    tick_label,
    values_of,
)
from brenier.figures.page import counted, letter_panels, page, plain, short, stacked
from brenier.sampling.handmade import HANDMADE

HEIGHTS = {"above": 0.75, "panel": 2.1, "between": 0.85}  # on the page, in inches
COLOURS = (ORANGE, BLUE, GREEN, PURPLE, "#56B4E9", "#E69F00")  # Okabe and Ito's but black and yellow
MEASURES = {"rms": "RMS distance to the end point", "w2": "$W_2$ to the law"}
MISSING = {"rms": "draws noise on the way:\nno end point to compare with", "w2": "no data to compare with"}
DEPTH = 1e4  # ratio of largest to smallest error that is shown
SPREAD = 0.12  # of the logarithm of the evaluations: room beside one another for the criteria


def plot_comparison(comparison: xr.Dataset) -> Figure:
    """Draw error and W2 against evaluations: a row for each solver, a curve for each way to place the steps.

    All panels have the same axes; bars reach two standard errors to each side.

    Args:
        comparison: what `brenier.sampling.comparison.compare` returned, or a file of it.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not a comparison.
    """
    _check(comparison)
    solvers = comparison["solver"].to_numpy()
    rows = -(-(comparison.sizes["criterion"] + 1) // 4)  # of the legend
    height, layout = stacked(len(solvers), **HEIGHTS, below=0.6 + 0.18 * rows)
    layout |= {"left": 0.085, "right": 0.98, "wspace": 0.18}
    with page(9, height, _title(comparison), at=1 - 0.13 / height) as figure:
        panels = figure.subplots(len(solvers), 2, squeeze=False, gridspec_kw=layout)
        for row, solver in zip(panels, solvers, strict=True):
            for ax, name in zip(row, MEASURES, strict=True):
                plot_compared_errors(comparison, ax, solver=str(solver), name=name)
        letter_panels(panels.ravel(), None)
        hollow = Line2D([], [], linestyle="none", marker="o", markerfacecolor="none", color="0.4")
        hollow.set_label("hollow: below the axis")
        place: dict[str, Any] = {"bbox_to_anchor": (0.5, 0.05 / height), "bbox_transform": figure.transFigure}
        keys = [*_keys(comparison), hollow]
        panels[-1, 0].legend(handles=keys, loc="lower center", ncols=4, frameon=False, **place)
    return figure


def plot_compared_errors(comparison: xr.Dataset, ax: Axes | None = None, *, solver: str, name: str = "rms") -> Axes:
    """One measure of one solver, "rms", "median" or "w2", against the evaluations per sample."""
    _check(comparison)
    records.check(comparison, "comparison", (name, f"{name}_se"))
    sliced = ", sliced" * (name == "w2" and str(comparison.attrs["w2_method"]).startswith("sliced"))
    ax = panel(ax, f"{solver}: {MEASURES.get(name, name)}{sliced}")
    low, high = _limits(comparison)
    log_axis(ax, low, high)
    calls = values_of(comparison, "evaluations")
    room = 1 + SPREAD
    ax.set(xscale="log", xlim=(calls.min() / room, calls.max() * room))
    part = comparison.sel(solver=solver)
    at = values_of(part, "evaluations")
    left, right = ax.get_xlim()
    ticks = _apart(at, GAP / 2 * float(np.log(right / left)))
    ax.set_xticks(ticks, [tick_label(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="evaluations per sample", ylabel="unit of the data")
    criteria = [str(criterion) for criterion in part["criterion"].to_numpy()]
    for k, (criterion, key) in enumerate(zip(criteria, _keys(comparison), strict=True)):
        values, error = (values_of(part.sel(criterion=criterion), part_name) for part_name in (name, f"{name}_se"))
        if np.isnan(values).all():
            continue
        x = at * np.exp(SPREAD * (k / max(len(criteria) - 1, 1) - 0.5))
        shown = np.maximum(values, low)
        ends = np.clip([values - 2 * error, values + 2 * error], low, None)
        ax.vlines(x, *ends, color=key.get_color(), linewidth=0.9, zorder=key.get_zorder())
        under = values < low
        look = {name: getattr(key, f"get_{name}")() for name in ("color", "marker", "markersize", "zorder")}
        (line,) = ax.plot(x, shown, linestyle=key.get_linestyle(), linewidth=key.get_linewidth(), **look)
        line.set(gid=f"{name}-{criterion}", markevery=np.flatnonzero(~under).tolist())
        ax.plot(x[under], shown[under], markerfacecolor="none", linestyle="none", clip_on=False, **look)
    if not ax.lines:
        ax.text(0.5, 0.5, MISSING.get(name, MISSING["rms"]), transform=ax.transAxes, ha="center", va="center")
    return narrowed(ax)


def _check(comparison: xr.Dataset) -> None:
    needed = ("criterion", "solver", "steps", "evaluations", "rms", "rms_se", "w2", "w2_se")
    records.check(comparison, "comparison", needed)


def _limits(comparison: xr.Dataset) -> tuple[float, float]:
    """What the errors of all panels lie between."""
    values = np.concatenate([values_of(comparison, name).ravel() for name in MEASURES])
    values = values[np.isfinite(values)]
    high = 1.5 * float(values.max(initial=0.0)) or 1.0
    low = float(values[values > high / DEPTH].min(initial=high / 10))
    return low / 1.5, high


def _apart(places: Array, distance: float) -> list[float]:
    """Those of the places that keep a distance, in logarithms, from the one before."""
    kept: list[float] = []
    for place in np.unique(places).tolist():
        if not kept or np.log(place / kept[-1]) >= distance:
            kept.append(place)
    return kept


def _keys(comparison: xr.Dataset) -> list[Line2D]:
    """How each criterion is drawn: `error` thick and black, the others thin; those made by hand dashed."""
    keys: list[Line2D] = []
    others = 0
    for criterion in map(str, comparison["criterion"].to_numpy()):
        key = Line2D([], [], label=criterion, markersize=4)
        if criterion == "error":
            key.set(color=BLACK, linewidth=2.2, marker="o", zorder=5)
        else:
            key.set(color=COLOURS[others % len(COLOURS)], linewidth=1.1, marker=MARKERS[1 + others % 7], zorder=3)
            key.set_linestyle("--" if criterion in HANDMADE else "-")
            others += 1
        keys.append(key)
    return keys


def _title(comparison: xr.Dataset) -> str:
    about = comparison.attrs
    law = f"{short(about['law'])} in {counted(int(about['dim']), 'dimension')}"
    return plain(f"{law}: {int(about['n']):,} samples of each grid, ±2 standard errors")
