"""Figures of schedules: where the steps are and what each should cost, and what ways to place them leave of the error.

A grid is drawn over the SNR r = 1/sigma, so that a sampler runs from left to right; the step to sigma = 0, which has no
place on a logarithmic axis, ends behind a gap at r = infinity.
"""

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brenier.figures.axes import (
    BLACK,
    BLUE,
    GAP,
    GREEN,
    MARKERS,
    ORANGE,
    Array,
    check_variables,
    legend_below,
    letter_panels,
    log_axis,
    new_axes,
    nice_ticks,
    page_fonts,
    tick_label,
    values_of,
)
from brenier.sampling.handmade import HANDMADE
from brenier.sampling.schedule import Schedule

WIDTH, PANEL, BETWEEN, ABOVE, BELOW = 7.5, 1.9, 1.65, 1.2, 0.85  # inches: the page of a schedule, and heights on it
LAST = 0.12  # share of the axis that the step to 0 takes
COLOURS = (ORANGE, BLUE, GREEN, "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito's but black and yellow
MEASURES = {"rms": "RMS distance to the end point", "w2": "$W_2$ to the law"}
MISSING = {"rms": "draws noise on the way:\nno end point to compare with", "w2": "no data to compare with"}
DEPTH = 1e4  # ratio of largest to smallest error that is shown
SPREAD = 0.12  # of the logarithm of the evaluations: room beside one another for the criteria


def plot_schedule(schedule: Schedule, profile: xr.Dataset | None = None) -> Figure:
    """Draw where the steps are and, where it is predicted, the error that each adds, on a page of 7.5 by 4.2 or 7.8.

    Args:
        schedule: what `brenier.plan` returned.
        profile: what `brenier.probe` found of the same law: its localization and complexity are drawn behind the steps.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not a profile.
    """
    rows = 1 if schedule.predicted_error is None else 2
    height = ABOVE + rows * PANEL + (rows - 1) * BETWEEN + BELOW
    edges = {"left": 0.125, "right": 0.9, "bottom": BELOW / height, "top": 1 - ABOVE / height}
    with page_fonts():
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(rows, 1, squeeze=False, gridspec_kw={**edges, "hspace": BETWEEN / PANEL}).ravel())
        plot_schedule_steps(schedule, profile, panels[0])
        if rows == 2:
            plot_schedule_error(schedule, panels[1])
        letter_panels(panels)
        figure.suptitle(_title(schedule), fontsize=10.5, y=1 - 0.13 / height, va="top")
    return figure


def plot_schedule_steps(schedule: Schedule, profile: xr.Dataset | None = None, ax: Axes | None = None) -> Axes:
    """How many steps there are to a factor of ten in sigma, with the noise levels marked at the bottom.

    Behind it, with a profile, E L_r and m*(r) on an axis of their own at the right.

    Raises:
        ValueError: the dataset is not a profile.
    """
    ax = new_axes() if ax is None else ax
    places = _level_axis(ax, schedule)
    last = schedule.sigmas[-1] == 0
    edges = places[:-1] if last else places
    handles: list[Artist] = []
    if len(edges) > 1:
        density = 1 / np.diff(np.log10(edges))
        steps = ax.stairs(density, edges, fill=True, color=BLUE, alpha=0.35, linewidth=0)
        handles.append(ax.stairs(density, edges, color=BLUE, linewidth=1.4, label="steps per decade", baseline=None))
        steps.set_gid("density")
        ax.set_ylim(0, 1.08 * density.max())
    else:
        ax.set(ylim=(0, 1), yticks=[])
    levels = ax.vlines(places, 0, 0.08, color=BLACK, linewidth=1, transform=ax.get_xaxis_transform(), zorder=4)
    levels.set(label="noise levels visited", gid="levels")
    handles.append(levels)
    if profile is not None:
        handles += _behind(ax, profile)
    ax.set_ylabel(r"steps per decade of $\sigma$")
    ax.set_title("Where the steps are", loc="left")
    legend_below(ax, handles, columns=4)
    return ax


def plot_schedule_error(schedule: Schedule, ax: Axes | None = None) -> Axes:
    """What each step adds to the predicted end error; below zero, what it undoes of others' errors.

    Raises:
        ValueError: the schedule predicts none.
    """
    if schedule.predicted_error is None:
        raise ValueError(f"this schedule by {schedule.criterion!r} predicts no error: fill it in with `predict`")
    ax = new_axes() if ax is None else ax
    places = _level_axis(ax, schedule)
    shares = np.asarray(schedule.predicted_error)
    ax.bar(
        places[:-1],
        shares,
        np.diff(places),
        align="edge",
        color=ORANGE,
        alpha=0.75,
        edgecolor="white",
        linewidth=0.8,
        gid="share",
    )
    low, high = 1.08 * shares.min(initial=0.0), 1.08 * shares.max(initial=0.0)
    ax.set_ylim(low, high if low < high else 1)
    ax.axhline(0, color=BLACK, linewidth=0.8)
    ax.set_ylabel("share (unit of the data)")
    ax.set_title(f"Predicted end error of {tick_label(float(f'{shares.sum():.3g}'))}, by step", loc="left")
    return ax


def _level_axis(ax: Axes, schedule: Schedule) -> Array:
    """The SNR from left to right with the noise level on top; returns where the levels are, that of 0 behind a gap."""
    sigmas = np.asarray(schedule.sigmas)
    snr = 1 / sigmas[sigmas > 0]
    span = float(snr[-1] / snr[0]) if len(snr) > 1 else 10.0
    places = snr
    if sigmas[-1] == 0:
        places = np.append(snr, snr[-1] * span ** (LAST / (1 - LAST)))
        ax.axvspan(snr[-1], places[-1], facecolor="0.94", linewidth=0, zorder=0, gid="to-zero")
    room = (places[-1] / places[0]) ** 0.02
    low, high = float(places[0] / room), float(places[-1] * room)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    end = high if sigmas[-1] > 0 else float(places[-1] / (high / low) ** GAP)
    top = ax.secondary_xaxis("top")
    for axis, counted, limit in ((ax, lambda r: r, r"$\infty$"), (top, lambda r: 1 / r, "0")):
        ticks = nice_ticks(*sorted((counted(low), counted(end)))) if len(snr) > 1 else [counted(float(snr[0]))]
        labels = [tick_label(float(f"{tick:.3g}")) for tick in ticks]
        ticks = [counted(tick) for tick in ticks]
        if sigmas[-1] == 0:
            ticks, labels = [*ticks, float(places[-1])], [*labels, limit]
        axis.set_xticks(ticks, labels)
        axis.set_xticks([], minor=True)
    ax.set_xlabel("signal-to-noise ratio $r$")
    top.set_xlabel(r"noise level $\sigma$ (unit of the data)")
    return places


def _behind(ax: Axes, profile: xr.Dataset) -> list[Artist]:
    """E L_r and m*(r) in grey, behind what is there, against an axis at the right."""
    check_variables(profile, ("snr", "mean_localization", "m_star"), "a profile")
    right = ax.twinx()
    ax.set_zorder(right.get_zorder() + 1)
    ax.patch.set_visible(False)
    snr = values_of(profile, "snr")
    handles: list[Artist] = []
    low, high = ax.get_xlim()
    top = 0.0
    styles = {"mean_localization": (r"$\mathrm{E}\,L_r$", "-"), "m_star": ("$m^*(r)$", ":")}
    for name, (label, dash) in styles.items():
        values = values_of(profile, name)
        handles += right.plot(snr, values, color="0.4", linestyle=dash, linewidth=1.6, label=label, gid=name)
        top = max(top, float(values[(snr >= low) & (snr <= high)].max(initial=0.0)))
    right.set_ylim(0, 1.08 * top if top > 0 else 1)
    right.set_ylabel(r"$\mathrm{E}\,L_r$, $m^*(r)$", color="0.3")
    return handles


def _title(schedule: Schedule) -> str:
    law = "" if schedule.target is None else f"{_short(schedule.target)}:"
    count, calls = schedule.steps, schedule.evaluations_per_sample
    how = f"{count:,} step{'s' * (count > 1)} of {schedule.solver} by {_short(schedule.criterion)}"
    how += f", {calls:,} evaluation{'s' * (calls > 1)}"
    return f"{law}{' ' if len(law) + len(how) < 80 else chr(10)}{how}".strip().replace("$", r"\$")


def _short(name: str) -> str:
    return f"{name[:27]}…" if len(name) > 28 else name


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
    keys = -(-(comparison.sizes["criterion"] + 1) // 4)
    above, panel, between, below = 0.75, 2.1, 0.85, 0.6 + 0.18 * keys
    height = above + len(solvers) * panel + (len(solvers) - 1) * between + below
    layout = {"left": 0.085, "right": 0.98, "bottom": below / height, "top": 1 - above / height}
    with page_fonts():
        figure = Figure(figsize=(9, height))
        FigureCanvasAgg(figure)
        panels = figure.subplots(
            len(solvers), 2, squeeze=False, gridspec_kw={**layout, "hspace": between / panel, "wspace": 0.18}
        )
        for row, solver in zip(panels, solvers, strict=True):
            for ax, name in zip(row, MEASURES, strict=True):
                plot_compared_errors(comparison, str(solver), name, ax)
                sliced = ", sliced" * (name == "w2" and str(comparison.attrs["w2_method"]).startswith("sliced"))
                ax.set_title(f"{solver}: {MEASURES[name]}{sliced}", loc="left")
        panels[-1, 0].legend(
            handles=[
                *_keys(comparison),
                Line2D(
                    [],
                    [],
                    linestyle="none",
                    marker="o",
                    markerfacecolor="none",
                    color="0.4",
                    label="hollow: below the axis",
                ),
            ],
            loc="lower center",
            bbox_to_anchor=(0.5, 0.05 / height),
            bbox_transform=figure.transFigure,
            ncols=4,
            frameon=False,
        )
        figure.suptitle(_heading(comparison), fontsize=10.5, y=1 - 0.13 / height, va="top")
    return figure


def plot_compared_errors(comparison: xr.Dataset, solver: str, name: str = "rms", ax: Axes | None = None) -> Axes:
    """One measure of one solver, "rms", "median" or "w2", against the evaluations per sample."""
    _check(comparison)
    check_variables(comparison, (name, f"{name}_se"), "a comparison")
    ax = new_axes() if ax is None else ax
    low, high = _limits(comparison)
    log_axis(ax, low, high)
    calls = values_of(comparison, "evaluations")
    room = 1 + SPREAD
    ax.set_xscale("log")
    ax.set_xlim(calls.min() / room, calls.max() * room)
    part = comparison.sel(solver=solver)
    at = values_of(part, "evaluations")
    left, right = ax.get_xlim()
    ticks = _apart(at, GAP / 2 * float(np.log(right / left)))
    ax.set_xticks(ticks, [tick_label(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("evaluations per sample")
    ax.set_ylabel("unit of the data")
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
    return ax


def _check(comparison: xr.Dataset) -> None:
    needed = ("criterion", "solver", "steps", "evaluations", "rms", "rms_se", "w2", "w2_se")
    check_variables(comparison, needed, "a comparison of brenier.compare")


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


def _heading(comparison: xr.Dataset) -> str:
    about = comparison.attrs
    dim, n = int(about["dim"]), int(about["n"])
    return (
        f"{_short(str(about['target']))} in {dim:,} dimension{'s' * (dim > 1)}: {n:,} samples of each grid, "
        "±2 standard errors"
    ).replace("$", r"\$")
