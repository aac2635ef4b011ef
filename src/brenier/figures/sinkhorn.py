"""The limit of Sinkhorn's iteration for small epsilon, as a figure: errors against epsilon, and their slopes."""

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brenier.core import records
from brenier.figures.axes import BLACK, BLUE, ORANGE, curve, legend_below, log_axis, panel, values_of
from brenier.figures.page import plain

STYLES = {"l2": ("$L^2$(reference)", BLUE, "o"), "sup": ("largest, central 99.8%", ORANGE, "s")}


def plot_sinkhorn_limit(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw how far Sinkhorn's potential is from that of the Monge-Ampère equation, against epsilon.

    Args:
        data: what `brenier.references.sinkhorn_limit.sinkhorn_limit` returns.
        ax: where to draw; axes of their own by default.

    Returns:
        The axes, both logarithmic. The legend has the slopes with their 95% intervals.

    Raises:
        ValueError: the dataset is not such a comparison.
    """
    needed = ["epsilon", *STYLES, "slope", "slope_low", "slope_high"]
    records.check(data, "sinkhorn limit", needed)
    ax = panel(ax, plain(f"{data.attrs['reference']} to {data.attrs['target']}"))
    epsilon = values_of(data, "epsilon")
    handles: list[Artist] = []
    for norm, (name, colour, marker) in STYLES.items():
        slope, low, high = (float(data[key].sel(norm=norm)) for key in ("slope", "slope_low", "slope_high"))
        label = f"{name}: slope {slope:.2f} [{low:.2f}, {high:.2f}]"
        handles.append(curve(ax, epsilon, values_of(data, norm), norm, label, colour, marker, "-"))
    ends = np.sort(epsilon)[[0, -1]]
    errors = np.concatenate([values_of(data, norm) for norm in STYLES])
    least = float(values_of(data, "l2")[epsilon.argmin()]) / 1.6
    guide = Line2D(ends, least * ends / ends[0], color=BLACK, linestyle=":", linewidth=1.2)
    guide.set(label="slope 1", gid="guide")
    ax.add_line(guide)
    log_axis(ax, ends[0] / 1.2, ends[1] * 1.2, "x")
    log_axis(ax, least / 1.3, float(errors.max()) * 1.5)
    ax.set_xlabel(r"regularisation $\varepsilon$")
    ax.set_ylabel(rf"error of $\psi$ after $t/\varepsilon$ iterations, $t={float(data.attrs['time']):g}$")
    return legend_below(ax, [*handles, guide], columns=1)
