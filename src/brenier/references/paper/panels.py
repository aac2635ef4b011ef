"""Figures 2 to 6, 8 and 10 drawn: survival curves, then m* and delta*, then net contraction over time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brenier.figures.axes import BLUE, MARKERS, ORANGE, Array, legend_below
from brenier.figures.page import letter_panels, page
from brenier.references.paper.multiscale import EXAMPLES
from brenier.scales import time_from_snr

GREY = "0.45"
LAWS = {
    "two-points": r"$\frac{1}{2}\delta_{-1}+\frac{1}{2}\delta_1$",
    "point-mass": r"point mass $\delta_0$",
    "normal": r"normal laws $\mathcal{N}(0,\sigma^2)$",
    "uniform": "uniform law on $(-1,1)$",
    "spike-slab": r"$\frac{1}{2}\delta_0+\frac{1}{2}\mathcal{N}(0,1)$",
    "four-gaussians": (
        r"$0.1\,\mathcal{N}(-4,1)+0.2\,\mathcal{N}(-2,0.5)+0.4\,\mathcal{N}(2,0.5)+0.3\,\mathcal{N}(4,1)$"
    ),
}
# What the axes of m*, delta*, r(t) and of zeta* show, of curves some of which grow without bound as t -> 0.
SHOWN: dict[str, tuple[float, tuple[float, float]]] = {
    "fig3": (2.2, (-0.5, 11)),
    "fig4": (2.0, (-0.1, 2)),
    "fig5": (3.0, (-0.1, 2)),
    "fig6": (2.0, (-8, 6)),
    "fig8": (2.0, (-3, 3)),
    "fig10": (2.0, (-3.3, 1.1)),
}


def draw(name: str, data: xr.Dataset) -> Figure:
    """Draw one figure from the numbers that `multiscale.compute` made for it."""
    example = EXAMPLES[name]
    panels: list[Callable[[Axes], str]] = []
    start = 0
    for snrs in example.snrs:
        panels.append(partial(_survival, data.isel(snr=slice(start, start + len(snrs)))))
        start += len(snrs)
    if example.t_max:
        top, limits = SHOWN[name]
        panels += [partial(_complexity, data, top), partial(_contraction, data, limits)]
    rows, columns = (2, 2) if len(panels) == 4 else (1, len(panels))
    with page(4.4 * columns, 4.1 * rows, LAWS[example.law], legend=7.5, layout="constrained") as figure:
        for ax, draw_panel in zip(np.ravel(figure.subplots(rows, columns)), panels, strict=True):
            ax.set_title(draw_panel(ax), loc="left")
        letter_panels(figure.axes, None)
    return figure


def _survival(data: xr.Dataset, ax: Axes) -> str:
    """s_r(u), one curve for each SNR; a last one far beyond the others is dashed in black."""
    snrs, u = data["snr"].to_numpy(), data["u"].to_numpy()
    ax.axvspan(1, u[-1], color="0.93", zorder=0, linewidth=0)
    ax.text((1 + u[-1]) / 2, 0.97, "not log-concave", ha="center", va="top", color="0.3", fontsize=8)
    ax.axvline(1, color=GREY, linewidth=1, linestyle=":")
    far = bool(snrs[-1] > 10 * snrs[-2])
    near = snrs[:-1] if far else snrs
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(near)))
    styles = [(colour, "-") for colour in colours] + [("black", "--")] * far
    handles: list[Artist] = []
    for r, row, (colour, dash) in zip(snrs, data["survival"].to_numpy(), styles, strict=True):
        handles += ax.plot(u, row, color=colour, linestyle=dash, linewidth=1.3, label=f"$r={r:.4g}$")
    ax.set(xlim=(0, u[-1]), ylim=(-0.02, 1.03), xlabel="localization threshold $u$", ylabel="survival $s_r(u)$")
    legend_below(ax, handles, columns=4)
    if snrs[0] < 1 < snrs[-1]:
        return "Survival of $L_r$"
    return "Survival of $L_r$, low SNR" if snrs[-1] <= 1 else "Survival of $L_r$, high SNR"


def _complexity(data: xr.Dataset, top: float, ax: Axes) -> str:
    """m*, delta* and r(t) over time, and the time of the onset."""
    times = data["time"].to_numpy()
    handles: list[Artist] = []
    if "deviation" in data.dims:
        handles += _by_deviation(ax, data, "delta_star", zero="$m^*$")
    else:
        handles += _marked(ax, times, data["m_star"].to_numpy(), ORANGE, "o", "-", "$m^*$")
        handles += _marked(ax, times, data["delta_star"].to_numpy(), BLUE, "s", "--", r"$\delta^*$")
    handles += ax.plot(times, data["snr_at_time"], color=GREY, linestyle="-.", linewidth=1.2, label="$r(t)$", gid="snr")
    first = float(data["onset_snr"])
    if np.isfinite(first):
        label = f"onset, $r^*={first:.3g}$"
        handles.append(ax.axvline(float(time_from_snr(first)), color="black", linestyle=":", linewidth=1, label=label))
    ax.set(xlim=(0, times[-1]), ylim=(-0.03 * top, top), xlabel="time $t$", ylabel=r"$m^*$, $\delta^*$, $r$")
    legend_below(ax, handles, columns=4)
    return r"$m^*$, $\delta^*$ by $\sigma$" if "deviation" in data.dims else r"$m^*$, $\delta^*$ and the SNR"


def _contraction(data: xr.Dataset, limits: tuple[float, float], ax: Axes) -> str:
    """zeta*_M over time, and the sharp rate of the richest perturbation, dashed, where it is another."""
    times, richness = data["time"].to_numpy(), data["perturbation"].to_numpy()
    handles: list[Artist] = []
    title = r"Net contraction $\zeta^*_M$"
    if "deviation" in data.dims:
        title = r"Net contraction $\zeta^*_\infty$"
        handles += _by_deviation(ax, data.isel(perturbation=0), "zeta_star")
    elif np.isinf(richness).all():
        title = r"Net contraction $\zeta^*_\infty$"
        handles += _marked(ax, times, data["zeta_star"].to_numpy()[:, 0], BLUE, "", "-", r"$\zeta^*_\infty$")
    else:
        colours = [*mpl.colormaps["viridis"](np.linspace(0, 0.85, len(richness) - 1)), ORANGE]
        for m, column, colour, marker in zip(richness, data["zeta_star"].to_numpy().T, colours, MARKERS, strict=False):
            handles += _marked(ax, times, column, colour, marker, "-", f"$M={m:g}$")
        label = rf"$M={richness[-1]:g}$, sharp rate $\zeta^\sharp_M$"
        handles += _marked(ax, times, data["zeta_sharp"].to_numpy()[:, -1], ORANGE, "", "--", label)
    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    ax.set(xlim=(0, times[-1]), ylim=limits, xlabel="time $t$", ylabel="net contraction (per unit of time)")
    if len(handles) > 1:
        legend_below(ax, handles, columns=4)
    return title


def _by_deviation(ax: Axes, data: xr.Dataset, name: str, zero: str = "") -> list[Artist]:
    """One variable over time for each normal law; `zero` labels a line at 0."""
    deviations = data["deviation"].to_numpy()
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(deviations)))
    handles: list[Artist] = []
    if zero:
        handles += ax.plot(data["time"], data["m_star"][0], color=ORANGE, linewidth=1.6, label=zero, gid="m_star")
    for deviation, row, colour in zip(deviations, data[name].to_numpy(), colours, strict=True):
        handles += ax.plot(data["time"], row, color=colour, linewidth=1.3, label=rf"$\sigma={deviation:.2f}$", gid=name)
    return handles


def _marked(ax: Axes, x: Array, y: Array, colour: Any, marker: str, dash: str, label: str) -> list[Artist]:
    """A curve with a dozen markers, so that it is told apart in grey print."""
    (line,) = ax.plot(x, y, color=colour, linestyle=dash, marker=marker, markersize=3.5, linewidth=1.4, label=label)
    line.set(markevery=0.08)
    return [line]
