"""The history of a Monge-Ampère map: what was measured on the way, one panel under the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter

from brenier.figures.axes import BLACK, BLUE, GREEN, ORANGE, Array, band, legend_below, log_axis, tick_label, values_of
from brenier.figures.page import Drawing


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
    names = quantities(history)
    if not names:
        raise ValueError("this is not a history of a flow, or one without steps")
    if axes is None:
        figure = Drawing(figsize=(5.5, 1.7 * len(names) + 1), layout="constrained")
        axes = list(figure.subplots(len(names), 1, squeeze=False)[:, 0])
    if len(axes) != len(names):
        raise ValueError(f"this history has {len(names)} quantities, {', '.join(names)}: give as many axes")
    over_time = "time" in history.dims
    x = (np.arange(history.sizes["time"]) if over_time else history["step"].to_numpy()).astype(np.float64)
    handles: list[Artist] = []
    for ax, name in zip(axes, names, strict=True):
        handles += _HISTORY[name](ax, x, history)
        if ax is not axes[-1]:
            ax.xaxis.set_major_formatter(NullFormatter())
        ax.set_xlim(*roomy(x))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[-1].set_xlabel("step")
    axes[0].set_title("How it came about", loc="left")
    legend_below(axes[-1], handles)
    figure = axes[0].get_figure(root=True)
    assert figure is not None  # axes are made in one
    figure.align_ylabels(list(axes))
    return list(axes)


def quantities(history: xr.Dataset) -> list[str]:
    """The quantities that there are to draw."""
    over = next((name for name in ("step", "time") if name in history.dims and history.sizes[name]), None)
    if over is None:
        return []
    known = {str(name) for name in history.data_vars} | ({"time_step"} if over == "time" else set[str]())
    return [name for name in _HISTORY if name in known and not (name == "displacement" and known & {"kl", "w2"})]


def roomy(x: Array) -> tuple[float, float]:
    """From first to last, with some room."""
    room = 0.04 * float(x[-1] - x[0]) or 0.5
    return float(x[0]) - room, float(x[-1]) + room


def _draw_kl(ax: Axes, x: Array, history: xr.Dataset) -> list[Artist]:
    kl = values_of(history, "kl")
    handles: list[Artist] = [*ax.plot(x, kl, color=BLUE, linewidth=1.4, label="KL from the target", gid="kl")]
    constant = int(history.attrs.get("kl_constant", 0))
    logarithmic = not constant and _logarithmic(ax, kl)
    if "kl_se" in history:
        limits = sorted(ax.get_ylim()) if logarithmic else (-np.inf, np.inf)
        band(ax, x, kl, values_of(history, "kl_se"), BLUE, (limits[0], limits[1]))
        handles.append(Patch(color=BLUE, alpha=0.2, linewidth=0, label="two standard errors"))
    if "held_kl" in history:
        held, error = values_of(history, "held_kl"), 2 * values_of(history, "held_kl_se")
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
    handles: list[Artist] = [*ax.plot(x, eta, color=BLACK, linewidth=1.2, linestyle="-.", label="step size", gid="eta")]
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
