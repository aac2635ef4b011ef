"""Figures of schedules: where the steps are, and what each should cost.

A grid is drawn over the SNR r = 1/sigma, so that a sampler runs from left to right; the step to sigma = 0, which has no
place on a logarithmic axis, ends behind a gap at r = infinity.
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brenier.core import records
from brenier.figures.axes import (
    BLACK,
    BLUE,
    GAP,
    ORANGE,
    Array,
    legend_below,
    narrowed,
    nice_ticks,
    panel,
    tick_label,
    values_of,
)
from brenier.figures.page import counted, letter_panels, page, plain, short, stacked
from brenier.sampling.schedule import Schedule

HEIGHTS = {"above": 1.2, "panel": 1.9, "between": 1.65, "below": 0.85}  # on the page, in inches
LAST = 0.12  # share of the axis that the step to 0 takes


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
    height, layout = stacked(rows, **HEIGHTS)
    layout |= {"left": 0.125, "right": 0.9}
    with page(7.5, height, _title(schedule), at=1 - 0.13 / height) as figure:
        panels = list(figure.subplots(rows, 1, squeeze=False, gridspec_kw=layout).ravel())
        plot_schedule_steps(schedule, panels[0], profile=profile)
        if rows == 2:
            plot_schedule_error(schedule, panels[1])
        letter_panels(panels)
    return figure


def plot_schedule_steps(schedule: Schedule, ax: Axes | None = None, *, profile: xr.Dataset | None = None) -> Axes:
    """How many steps there are to a factor of ten in sigma, with the noise levels marked at the bottom.

    Behind it, with a profile, E L_r and m*(r) on an axis of their own at the right.

    Raises:
        ValueError: the dataset is not a profile.
    """
    ax = panel(ax, "Where the steps are")
    places = _level_axis(ax, schedule)
    last = schedule.sigmas[-1] == 0
    edges = places[:-1] if last else places
    handles: list[Artist] = []
    if len(edges) > 1:
        density = schedule.steps_per_decade
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
    return legend_below(ax, handles, columns=4)


def plot_schedule_error(schedule: Schedule, ax: Axes | None = None) -> Axes:
    """What each step adds to the predicted end error; below zero, what it undoes of others' errors.

    Raises:
        ValueError: the schedule predicts none.
    """
    if schedule.predicted_error is None:
        raise ValueError(f"this schedule by {schedule.criterion!r} predicts no error: fill it in with `predict`")
    shares = np.asarray(schedule.predicted_error)
    ax = panel(ax, f"Predicted end error of {tick_label(float(f'{shares.sum():.3g}'))}, by step")
    places = _level_axis(ax, schedule)
    look: dict[str, Any] = {"color": ORANGE, "alpha": 0.75, "edgecolor": "white", "linewidth": 0.8, "gid": "share"}
    ax.bar(places[:-1], shares, np.diff(places), align="edge", **look)
    low, high = 1.08 * shares.min(initial=0.0), 1.08 * shares.max(initial=0.0)
    ax.set_ylim(low, high if low < high else 1)
    ax.axhline(0, color=BLACK, linewidth=0.8)
    ax.set_ylabel("share (unit of the data)")
    return narrowed(ax)


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
    ax.set(xscale="log", xlim=(low, high))
    end = high if sigmas[-1] > 0 else float(places[-1] / (high / low) ** GAP)
    top = ax.secondary_xaxis("top")
    for axis, unit, limit in ((ax, lambda r: r, r"$\infty$"), (top, lambda r: 1 / r, "0")):
        ticks = nice_ticks(*sorted((unit(low), unit(end)))) if len(snr) > 1 else [unit(float(snr[0]))]
        labels = [tick_label(float(f"{tick:.3g}")) for tick in ticks]
        ticks = [unit(tick) for tick in ticks]
        if sigmas[-1] == 0:
            ticks, labels = [*ticks, float(places[-1])], [*labels, limit]
        axis.set_xticks(ticks, labels)
        axis.set_xticks([], minor=True)
    ax.set_xlabel("signal-to-noise ratio $r$")
    top.set_xlabel(r"noise level $\sigma$ (unit of the data)")
    return places


def _behind(ax: Axes, profile: xr.Dataset) -> list[Artist]:
    """E L_r and m*(r) in grey, behind what is there, against an axis at the right."""
    records.check(profile, "profile", ("snr", "mean_localization", "m_star"))
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
    law = "" if schedule.law is None else f"{short(schedule.law)}:"
    how = f"{counted(schedule.steps, 'step')} of {schedule.solver} by {short(schedule.criterion)}"
    how += f", {counted(schedule.evaluations_per_sample, 'evaluation')}"
    return plain(f"{law}{' ' if len(law) + len(how) < 80 else chr(10)}{how}".strip())
