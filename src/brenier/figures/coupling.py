"""A coupling as a figure: what minibatch plans pay beside the map and independent pairs, and how far they are off."""

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brenier.core import records
from brenier.figures.axes import BLACK, BLUE, GREEN, ORANGE, curve, legend_below, log_axis, panel, tick_label, values_of
from brenier.figures.page import counted, letter_panels, page, plain

ALONE = 1.5  # room on both sides of a single size of plans


def plot_coupling(coupling: xr.Dataset) -> Figure:
    """Draw what `brenier.coupling_report` found on a page of two panels, 9 by 4.2 inches.

    Raises:
        ValueError: the dataset is no coupling, or has no minibatch plans to draw.
    """
    records.check(coupling, "coupling")
    if coupling.sizes["batch"] == 0:
        raise ValueError("this coupling was measured without minibatch plans: there is nothing to draw")
    about = coupling.attrs
    title = f"Pairs of noise with {counted(int(about['points']), 'point')} in {counted(int(about['dim']), 'dimension')}"
    with page(9, 4.2, plain(title), at=0.97) as figure:
        layout = {"left": 0.1, "right": 0.98, "bottom": 0.24, "top": 0.83, "wspace": 0.28}
        left, right = figure.subplots(1, 2, gridspec_kw=layout)
        plot_pair_costs(coupling, left)
        plot_detours(coupling, right)
        letter_panels((left, right), 6)
    return figure


def plot_pair_costs(coupling: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The mean squared distance of noise and datum, by plans of each size, by the map, and of independent pairs.

    Raises:
        ValueError: the dataset is no coupling.
    """
    records.check(coupling, "coupling")
    ax = panel(ax, "What pairs pay")
    handles: list[Artist] = [_errors(ax, coupling, "cost", "minibatch plans", ORANGE, "s")]
    looks = {"independent_cost": ("independent", GREEN, ":"), "map_cost": ("map", BLUE, "-")}
    for name, (label, colour, dash) in looks.items():
        line = ax.axhline(float(coupling[name]), color=colour, linestyle=dash, linewidth=1.4)
        line.set(label=label, gid=name)
        handles.append(line)
    ax.set(xlabel="noises and data of a plan, $k$", ylabel="mean squared distance")
    return legend_below(ax, handles, columns=3)


def plot_detours(coupling: xr.Dataset, ax: Axes | None = None) -> Axes:
    """How far the datum that a plan gives a noise is from the map's, with a guide of slope -1/4.

    Raises:
        ValueError: the dataset is no coupling.
    """
    records.check(coupling, "coupling")
    ax = panel(ax, "How far plans are from the map")
    slope = float(coupling.attrs["slope"])
    label = "minibatch plans" if np.isnan(slope) else f"minibatch plans: slope {tick_label(round(slope, 3))}"
    line = _errors(ax, coupling, "detour", label, ORANGE, "s")
    k, found = values_of(coupling, "batch"), values_of(coupling, "detour")
    ends = k[[0, -1]]
    guide = Line2D(ends, 0.95 * found[0] * (ends / ends[0]) ** -0.25, color=BLACK, linestyle=":", linewidth=1.2)
    guide.set(label="slope \N{MINUS SIGN}1/4", gid="guide")
    ax.add_line(guide)
    shown = np.concatenate([found[found > 0], np.asarray(guide.get_ydata(), dtype=np.float64)])
    shown = shown[shown > 0]
    if len(shown) > 0:
        log_axis(ax, float(shown.min()) / 1.15, float(shown.max()) * 1.15)
    ax.set(xlabel="noises and data of a plan, $k$", ylabel="detour (unit of the data)")
    return legend_below(ax, [line, guide])


def _errors(ax: Axes, coupling: xr.Dataset, name: str, label: str, colour: str, marker: str) -> Line2D:
    """A curve over the sizes of plans with bars of two standard errors."""
    k, values, errors = (values_of(coupling, key) for key in ("batch", name, f"{name}_se"))
    line = curve(ax, k, values, name, label, colour, marker, "-", markers=len(k))
    ax.errorbar(k, values, 2 * errors, color=colour, linestyle="none", capsize=2, linewidth=1)
    log_axis(ax, k[0] / ALONE, k[-1] * ALONE, "x")
    ax.set_xticks(k, [f"{size:,.0f}" for size in k])
    return line
