"""Several profiles in one figure: a network beside the law it should have learned."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from brenier.core import records
from brenier.figures.axes import (
    BLACK,
    BLUE,
    GREEN,
    MARKERS,
    ORANGE,
    PURPLE,
    band,
    bracket,
    curve,
    legend_below,
    panel,
    sigma_axis,
    snr_axis,
    values_of,
)
from brenier.figures.page import letter_panels, page, plain
from brenier.probing.bottleneck import bottleneck

COLOURS = (BLUE, ORANGE, GREEN, BLACK, PURPLE, "#56B4E9", "#E69F00")  # all of Okabe and Ito's but yellow
DASHES = ("-", "--", "-.", ":")
END = ("low", "high")
STRIP = 0.045  # of the height of a panel: for each profile of data, a hatched strip where they cannot tell
BESIDE, LONGEST = 22, 50  # letters of names that stand side by side below a panel, and of any name there
PANELS = {
    "mean_localization": ("mean localization $E\\,L_r$", "Localization"),
    "m_star": ("minimal relative tail $m^*(r)$", "Complexity"),
}


def plot_profiles(profiles: Mapping[str, xr.Dataset] | Sequence[xr.Dataset]) -> Figure:
    """Draw E L_r and m* of several profiles, each with two standard errors to both sides.

    Args:
        profiles: what `brenier.probe` returned, by the names to give them, or in a list, under their targets' names.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: no profile, more than there are ways to draw a curve, or a dataset that is none.
    """
    named = _named(profiles)
    with page(9, 4.6, "") as figure:
        keys = len(named) + 2  # and what is hatched, and what is faint
        below = 0.135 + 0.045 * -(-keys // _columns(named))
        layout = {"left": 0.075, "right": 0.985, "bottom": below, "top": 0.82, "wspace": 0.2}
        panels = list(figure.subplots(1, 2, gridspec_kw=layout))
        for ax, name in zip(panels, PANELS, strict=True):
            plot_compared(named, ax, name=name)
        letter_panels(panels)
    return figure


def plot_compared(
    profiles: Mapping[str, xr.Dataset] | Sequence[xr.Dataset], ax: Axes | None = None, *, name: str
) -> Axes:
    """One variable of several profiles against the SNR: "mean_localization", "m_star" or another over `snr` alone."""
    named = _named(profiles)
    label, title = PANELS.get(name, (name, name))
    ax = panel(ax, title)
    everything = np.concatenate([values_of(profile, "snr") for profile in named.values()])
    snr_axis(ax, np.unique(everything))
    handles: list[Artist] = []
    lost = ""
    strips = 0
    for k, (called, profile) in enumerate(named.items()):
        records.check(profile, "profile", ("snr", name))
        x, y = values_of(profile, "snr"), values_of(profile, name)
        told = x <= _told(profile)
        y, beyond = np.where(told, y, np.nan), np.where(told & np.append(told[1:], True), np.nan, y)
        if f"{name}_low" in profile:
            bracket(ax, x, [np.where(told, values_of(profile, f"{name}_{end}"), np.nan) for end in END], COLOURS[k])
        elif f"{name}_se" in profile:
            band(ax, x, y, values_of(profile, f"{name}_se"), COLOURS[k], (0.0, np.inf))
        if not told.all():
            top, (low, high) = 1 - STRIP * strips, ax.get_xlim()
            start = _told(profile) if np.isfinite(_told(profile)) else low
            span = ax.axvspan(start, high, top - STRIP, top, facecolor="white", hatch="////")
            span.set(edgecolor=COLOURS[k], linewidth=0, gid=f"{name}-{k}-untold", zorder=0)
            strips += 1
        style = (COLOURS[k], MARKERS[k], DASHES[k % len(DASHES)])
        handles.append(curve(ax, x, y, f"{name}-{k}", plain(_ending(called)), *style, offset=k))
        if "resolved_snr" not in profile and not told.all():
            (faint,) = ax.plot(x, beyond, DASHES[k % len(DASHES)], color=COLOURS[k], alpha=0.35, linewidth=1)
            faint.set_gid(f"{name}-{k}-memorised")
            lost = "faint: memorised (ESS < 2)"
    ax.axhline(1, color="0.35", linewidth=1, linestyle=":")
    ax.set(ylim=(0, None), ylabel=label)
    sigma_axis(ax, r"noise level $\sigma=1/r$")
    if strips:
        hatched = "hatched: its data cannot tell"
        handles.append(Patch(facecolor="white", edgecolor="0.4", hatch="////", linewidth=0, label=hatched))
        ax.set_ylim(top=ax.get_ylim()[1] / (1 - STRIP * strips))
    if lost:
        handles.append(Line2D([], [], color="0.3", alpha=0.35, linewidth=1, label=lost))
    return legend_below(ax, handles, _columns(named))


def _told(profile: xr.Dataset) -> float:
    """The SNR up to which a profile tells of a law, not of single points."""
    if "resolved_snr" in profile:
        return float(profile["resolved_snr"])
    collapse = bottleneck(profile)["collapse_snr"] if int(profile.attrs.get("atoms", 0)) else np.nan
    return np.inf if np.isnan(collapse) else collapse


def _ending(name: str) -> str:
    """The end of a name that is too long: of paths it tells more than the beginning."""
    return f"…{name[1 - LONGEST :]}" if len(name) > LONGEST else name


def _columns(named: Mapping[str, xr.Dataset]) -> int:
    return 2 if max(map(len, named)) <= BESIDE else 1


def _named(profiles: Mapping[str, xr.Dataset] | Sequence[xr.Dataset]) -> dict[str, xr.Dataset]:
    if isinstance(profiles, Mapping):
        named = dict(profiles)
    else:
        targets = [str(profile.attrs.get("law", "profile")) for profile in profiles]
        twice = {name for name in targets if targets.count(name) > 1}
        labels = [f"{name} ({k})" if name in twice else name for k, name in enumerate(targets, 1)]
        named = dict(zip(labels, profiles, strict=True))
    if not 1 <= len(named) <= len(COLOURS):
        raise ValueError(f"from 1 to {len(COLOURS)} profiles can be told apart in one figure, got {len(named)}")
    for profile in named.values():
        records.check(profile, "profile", ("snr", *PANELS))
    return named
