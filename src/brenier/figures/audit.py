"""Figure of an audit: the noise level at each call of the network, as it was asked for, told and executed."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brenier.core import records
from brenier.figures.axes import BLUE, GREEN, ORANGE, curve, legend_below, log_axis, panel, values_of
from brenier.figures.page import counted, page, plain, short, stacked

HEIGHTS = {"above": 0.85, "panel": 2.6, "between": 1.65, "below": 1.0}  # on the page, in inches
ROOM = 3.0  # factor by which a level that is infinite is drawn above the others


def plot_audit(audit: xr.Dataset) -> Figure:
    """Draw which noise levels a pipeline visits, on a page of 7.5 by 4.4.

    Args:
        audit: what `brenier.audit` returned.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not an audit.
    """
    height, layout = stacked(1, **HEIGHTS)
    about = audit.attrs
    title = f"{short(about.get('pipeline', ''))}, {counted(audit.sizes.get('call', 0), 'call')} of the network"
    with page(7.5, height, plain(title), at=1 - 0.13 / height) as figure:
        plot_audited_levels(audit, figure.subplots(1, 1, gridspec_kw=layout))
    return figure


def plot_audited_levels(audit: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The noise level at each call: requested, told and executed; a level without any signal is drawn on top.

    Raises:
        ValueError: the dataset is not an audit.
    """
    records.check(audit, "audit", ("told", "executed", "requested"))
    ax = panel(ax, "Noise levels visited")
    known = {name: values_of(audit, name) for name in ("requested", "told", "executed")}
    finite = np.concatenate([values[np.isfinite(values)] for values in known.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.1, 1.0)
    looks = {"requested": (GREEN, "s", ":"), "told": (ORANGE, "D", "--"), "executed": (BLUE, "o", "-")}
    handles = []
    for name, (colour, marker, dash) in looks.items():
        values = np.where(np.isinf(known[name]), ROOM * high, known[name])
        if np.isfinite(values).any():
            calls = values_of(audit, "call") + 1
            handles.append(curve(ax, calls, values, name, name, colour, marker, dash, markers=len(calls)))
    log_axis(ax, low / 1.5, 1.5 * ROOM * high)
    ax.set(xlabel="call of the network", ylabel=r"noise level $\sigma$ (unit of the data)")
    return legend_below(ax, handles, columns=3)
