"""What the figures share: colours, curves, SNR axes with readable ticks, bands, legends that cover no data."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from brenier.core.checks import Array
from brenier.figures.page import Drawing
from brenier.scales import sigma_from_snr, snr_from_sigma

# Okabe and Ito's colours, which the colour-blind tell apart; markers and dashes say the same again in grey print.
BLUE, ORANGE, GREEN, BLACK, PURPLE = "#0072B2", "#D55E00", "#009E73", "black", "#CC79A7"
MARKERS = "osD^vPX*"
GAP = 0.1  # of the axis between two labelled ticks
BELOW = 34  # points from the axes down to their legend: tick labels and the axis label lie between
NARROW = 3.1  # inches of an axes that stands in one column of a paper: letters are small there, and long lines broken
SMALL, SMALLEST = 7.5, 6.5  # letters there, in points
LETTER = 0.55  # width of a letter over its height


def panel(ax: Axes | None, title: str) -> Axes:
    """The axes of a panel with its title: those given, or some in a figure of their own that pyplot does not know."""
    ax = Drawing(figsize=(5.5, 4.2), layout="constrained").add_subplot() if ax is None else ax
    ax.set_title(title, loc="left")
    return ax


def values_of(data: xr.Dataset, name: str) -> Array:
    """One variable's numbers."""
    return data[name].to_numpy().astype(np.float64)


def curve(
    ax: Axes,
    x: Array,
    y: Array,
    name: str,
    label: str,
    colour: Any,
    marker: str,
    dash: str,
    *,
    offset: int = 0,
    markers: int = 12,
) -> Line2D:
    """A curve that is found again by its name; markers on so many points at most, so that curves stay curves."""
    step = -(-len(x) // markers)
    (line,) = ax.plot(x, y, color=colour, linestyle=dash, marker=marker, markersize=4, linewidth=1.4)
    line.set(label=label, gid=name, markevery=(offset % step, step))
    return line


def richness_styles(richness: Array) -> list[tuple[str, Any, str]]:
    """What the curves of each richness M are called, and their colours and markers."""
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(richness)))
    names = [r"\infty" if np.isinf(value) else f"{value:g}" for value in richness]
    return [(f"$M={name}$", colours[k], MARKERS[k % len(MARKERS)]) for k, name in enumerate(names)]


def snr_axis(ax: Axes, snr: Array) -> tuple[float, float]:
    """Put the SNR on a logarithmic x axis with some room on both sides of the SNRs; returns the limits."""
    room = max(1.5 if len(snr) < 3 else 1.0, (snr[-1] / snr[0]) ** 0.03)
    low, high = float(snr[0] / room), float(snr[-1] * room)
    log_axis(ax, low, high, "x")
    ax.set_xlabel("signal-to-noise ratio $r$")
    return low, high


def sigma_axis(ax: Axes, label: str = r"noise level $\sigma=1/r$ (unit of the data)") -> None:
    """Label the top of an SNR axis with the noise level."""
    top_axis(ax, label, snr_from_sigma, sigma_from_snr)


def top_axis(ax: Axes, label: str, to_snr: Callable[[Any], Any], from_snr: Callable[[Any], Any]) -> None:
    """Label the top of an SNR axis in another unit of noise, at round values of that unit."""
    ends = np.sort(from_snr(np.asarray(ax.get_xlim())))
    places = nice_ticks(float(ends[0]), float(ends[1]), lambda value: np.log(np.asarray(to_snr(value))))
    top = ax.secondary_xaxis("top")
    top.set_xticks(to_snr(np.asarray(places)), [tick_label(place) for place in places])
    top.set_xticks([], minor=True)
    top.set_xlabel(label)


def colour_bar(ax: Axes, curves: LineCollection, label: str) -> None:
    """A bar above the axes that says which SNR a colour is."""
    figure = ax.get_figure()
    assert figure is not None  # axes are made in one
    bar = figure.colorbar(curves, cax=ax.inset_axes((0, 1.01, 1, 0.03)), orientation="horizontal", ticklocation="top")
    low, high = curves.get_clim()
    assert low is not None
    assert high is not None
    places = nice_ticks(low, high)
    bar.set_ticks(places, labels=[tick_label(place) for place in places])
    bar.ax.minorticks_off()
    bar.set_label(label)


def log_axis(ax: Axes, low: float, high: float, which: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis from low to high with plain numbers."""
    ax.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    places = nice_ticks(low, high)
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_ticks(places, [tick_label(place) for place in places])
    axis.set_ticks([], minor=True)


def signed_log_axis(ax: Axes, low: float, high: float) -> None:
    """A y axis around low to high and 0: linear from -1 to 1, logarithmic beyond, with plain numbers."""
    ax.set_yscale("symlog", linthresh=1)
    low, high = (end + np.copysign(max(0.7 * abs(end), 0.25), side) for end, side in ((min(low, 0), -1), (high, 1)))
    ax.set_ylim(low, high)

    def place(value: float) -> float:
        return float(np.sign(value) * (abs(value) if abs(value) < 1 else 1 + np.log10(abs(value))))

    chosen: list[float] = []
    powers = 10.0 ** np.arange(np.ceil(np.log10(max(-low, high, 10.0))))
    for value in (0.0, *np.column_stack([powers, -powers]).ravel()):
        apart = GAP / 2 * (place(high) - place(low))
        if low <= value <= high and all(abs(place(value) - place(other)) >= apart for other in chosen):
            chosen.append(float(value))
    ax.set_yticks(chosen, [tick_label(value) for value in chosen])


def nice_ticks(low: float, high: float, position: Callable[[Any], Any] = np.log) -> list[float]:
    """Round numbers from low to high, powers of ten first, that keep a distance on the axis that `position` makes."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ends = position(np.asarray([low, high]))
    chosen: dict[float, float] = {}  # value: place on the axis
    for digits in ([1.0], [2.0, 5.0], [3.0, 7.0], [1.5, 4.0, 8.0], [1.2, 1.8]):
        for value in np.outer(digits, decades).ravel():
            place = float((position(value) - ends[0]) / (ends[1] - ends[0]))
            room = {other: (_width(value) + _width(other)) / 2 for other in chosen}
            if 0 <= place <= 1 and all(abs(place - chosen[other]) >= room[other] for other in chosen):
                chosen[float(value)] = place
        if len(chosen) >= 3 and digits != [1.0]:
            break
    return sorted(chosen)


def _width(value: float) -> float:
    """Room for a tick's number, as a share of the axis: a power of ten with a factor takes half as much again."""
    return GAP * (1.5 if "times" in tick_label(value) else 1.0)


def tick_label(value: float) -> str:
    """A tick's number: plain where that is short, else a power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}".replace("-", "\N{MINUS SIGN}")
    if value < 0:
        return "\N{MINUS SIGN}" + tick_label(-value)
    exponent = int(np.floor(np.log10(value) + 1e-9))
    leading = f"{value / 10.0**exponent:.3g}"
    return rf"$10^{{{exponent}}}$" if leading == "1" else rf"${leading}\times10^{{{exponent}}}$"


def band(ax: Axes, x: Array, y: Array, error: Array, colour: Any, limits: tuple[float, float]) -> None:
    """Two standard errors around a curve, within what it can be; around a single point, an error bar."""
    low, high = (np.clip(y + sign * 2 * error, *limits) for sign in (-1, 1))
    if len(x) == 1:
        ax.errorbar(x, y, np.stack([np.maximum(y - low, 0), np.maximum(high - y, 0)]), color=colour, capsize=3)
    else:
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def bracket(ax: Axes, x: Array, ends: Sequence[Array], colour: Any) -> None:
    """What a bracket allows, from its lower to its upper end."""
    low, high = ends
    if len(x) == 1:
        ax.plot(np.repeat(x, 2), [low[0], high[0]], color=colour, marker="_")
    else:
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def legend_below(ax: Axes, handles: Sequence[Artist], columns: int = 2) -> Axes:
    """Put a legend under the x axis's label, where there are no data; returns the axes.

    In narrow axes it has as many columns as fit.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are made in one
    narrow = is_narrow(ax)
    lines = narrowed(ax).get_xlabel().count("\n")
    down = BELOW * SMALL / 10 + 3 + 1.2 * SMALL * lines if narrow else BELOW
    below = ax.transAxes + ScaledTranslation(0, -down / 72, figure.dpi_scale_trans)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below}
    place |= {"borderaxespad": 0, "handlelength": 2.4, "columnspacing": 1.2, "frameon": False, "handles": handles}
    if narrow:
        place |= {"fontsize": SMALLEST, "handlelength": 2.0, "columnspacing": 0.8, "labelspacing": 0.3}
    for count in range(columns, 0, -1):
        legend = ax.legend(ncols=count, **place)
        if not narrow or count == 1 or legend.get_window_extent().width <= (_width_of(ax) + 0.05) * figure.dpi:
            break
    return ax


def is_narrow(ax: Axes) -> bool:
    """Whether axes stand in one column of a paper."""
    return _width_of(ax) < NARROW


def _width_of(ax: Axes) -> float:
    """In inches, as far as the layout knows it."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are made in one
    return float(ax.get_position().width * figure.get_figwidth())


def narrowed(ax: Axes) -> Axes:
    """The axes with small letters and broken lines where they are narrow; called when all texts are there."""
    if not is_narrow(ax):
        return ax
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are made in one
    width, height = _width_of(ax), float(ax.get_position().height * figure.get_figheight())
    title = ax.get_title(loc="left")
    texts = {ax.xaxis.label: width, ax.yaxis.label: height}
    for one in (ax, *ax.child_axes):
        one.tick_params(labelsize=SMALLEST)
        texts |= {one.xaxis.label: width, one.yaxis.label: texts.get(one.yaxis.label, height)}
    for text, room in texts.items():
        text.set(fontsize=SMALL, text=_broken(text.get_text(), room, SMALL))
    ax.set_title(_broken(title, width, SMALL + 1), loc="left", fontsize=SMALL + 1)
    return ax


def _broken(text: str, room: float, size: float) -> str:
    """Text in lines of so many inches, formulas whole, as matplotlib counts their letters."""
    most = max(int(72 * room / (LETTER * size)), 12)
    lines, length = [""], 0
    for word in text.replace("\n", " ").split(" "):
        letters = len(re.sub(r"\\[a-zA-Z]+|[${}^_\\,]", "", word)) + word.count("\\")
        if lines[-1] and length + letters > most:
            lines.append("")
            length = 0
        lines[-1] += " " * bool(lines[-1]) + word
        length += letters + 1
    return "\n".join(lines)
