"""The figure of a profile: where a law is hard to denoise, how hard, and how sure that is.

Four panels, each a function of its own: survival curves s_r(u) of the localization; m* and delta*; the contraction
rates zeta*_M and their sharp version; E L_r with the effective sample size behind it. All but the first have the SNR r
on a logarithmic axis. Bands reach two standard errors to each side; quadrature has none. ([LDK24] Figures 3 to 10.)
"""

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brenier.core import records
from brenier.figures.axes import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    band,
    bracket,
    colour_bar,
    curve,
    legend_below,
    log_axis,
    panel,
    richness_styles,
    sigma_axis,
    signed_log_axis,
    snr_axis,
    tick_label,
    top_axis,
    values_of,
)
from brenier.figures.page import counted, letter_panels, page, plain, short
from brenier.probing.bottleneck import bottleneck
from brenier.scales import snr_from_time, time_from_snr

LAYOUT = {"left": 0.09, "right": 0.93, "bottom": 0.132, "top": 0.862, "hspace": 0.83, "wspace": 0.24}
FLOOR = 1e-3  # localizations below it are as good as zero, and would stretch a logarithmic axis over empty decades
BEYOND = 4.0  # times the last SNR that data resolve, an axis ends
LIMITS = {"m_star": (0.0, np.inf), "delta_star": (0.0, 1.0), "mean_localization": (0.0, np.inf), "ess": (1.0, np.inf)}


def plot_profile(profile: xr.Dataset) -> Figure:
    """Draw a profile: survival, complexity, contraction and localization in one figure of 9 x 8.5 inches.

    Args:
        profile: what `brenier.probe` returned, or a file of it.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not a profile.
    """
    profile = _shown(profile)
    with page(9, 8.5, _title(profile), at=0.985) as figure:
        panels: list[Axes] = list(figure.subplots(2, 2, gridspec_kw=LAYOUT).ravel())
        plot_survival(profile, panels[0])
        plot_complexity(profile, panels[1])
        plot_contraction(profile, panels[2])
        plot_localization(profile, panels[3])
        if bool(profile["ess"].notnull().any()):
            right = panels[3].twinx()
            plot_ess(profile, right)
            for shading in right.patches:  # the left axis has the same, and in front of its curves it would hide them
                shading.remove()
            _join_legends(panels[3], right)
        letter_panels(panels)
    return figure


def plot_survival(profile: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Survival curves s_r(u) = P(L_r > u), one per SNR, coloured by it; the SNR of the bottleneck dashed in black.

    What a curve keeps to the right of u = 1 is the share of noisy points where the law of Y_r is not log-concave.
    """
    profile = _told(_shown(profile))
    ax = panel(ax, "Survival of the localization")
    snr, u, survival = (values_of(profile, name) for name in ("snr", "u", "survival"))
    room = 1.5 if snr[0] == snr[-1] else 1.0
    curves = LineCollection(
        [np.column_stack([u, row]) for row in survival],
        cmap=_dark_viridis(),
        norm=LogNorm(snr[0] / room, snr[-1] * room),
        array=snr,
        linewidths=1.2,
    )
    ax.add_collection(curves)
    limit = u[(survival > 0.003).any(0)].max(initial=0)
    ax.set(xlim=(0, min(max(1.5, 1.05 * limit), u[-1])), ylim=(-0.02, 1.04))
    ax.axvline(1, color="0.35", linewidth=1, linestyle=":", gid="one")
    beyond = "$u>1$: not log-concave"
    handles: list[Artist] = [ax.axvspan(1, float(u[-1]), color="0.93", zorder=0, linewidth=0, label=beyond)]
    found = bottleneck(profile)
    if found["m_star"] > 0:
        k = int(np.argmin(abs(snr - found["snr"])))
        (hardest,) = ax.plot(u, survival[k], "--", color=BLACK, linewidth=1.6)
        hardest.set_label(_hardest(profile))
        handles.append(hardest)
        if "survival_low" in profile:
            bracket(ax, u, [values_of(profile, f"survival_{end}")[k] for end in ("low", "high")], BLACK)
        elif "survival_se" in profile:
            band(ax, u, survival[k], values_of(profile, "survival_se")[k], BLACK, (0.0, 1.0))
    ax.set(xlabel="localization threshold $u$", ylabel="survival $s_r(u)=P(L_r>u)$")
    colour_bar(ax, curves, "signal-to-noise ratio $r$")
    legend_below(ax, handles)
    return ax


def plot_complexity(profile: xr.Dataset, ax: Axes | None = None) -> Axes:
    """m* and delta* against the SNR, with the bottleneck and its interval, and the onset r*.

    Errors of richness M < 1/m* still shrink. The top axis is the noise level sigma = 1/r.
    """
    profile = _shown(profile)
    ax = panel(ax, "Complexity")
    low, high = snr_axis(ax, values_of(profile, "snr"))
    found = bottleneck(profile)
    hard = bool(found["m_star"] > 0)
    nothing = "not seen above 0" if "resolved_snr" in profile else "zero throughout"
    first = _curve(ax, profile, "m_star", "$m^*(r)$" if hard else f"$m^*(r)$, {nothing}", ORANGE, "o", "-")
    handles: list[Artist] = [first, _curve(ax, profile, "delta_star", r"$\delta^*(r)$", BLUE, "s", "--")]
    handles += _model(ax, profile, "m_star")
    if hard:
        place = _hardest(profile)
        if found["snr_low"] < found["snr_high"]:
            interval = ax.axvspan(found["snr_low"], found["snr_high"], color=ORANGE, alpha=0.15, linewidth=0, zorder=0)
            interval.set_gid("interval")
            if place.startswith("bottleneck"):
                place += f" ({_short(found['snr_low'])} to {_short(found['snr_high'])})"
        handles.append(
            ax.axvline(found["snr"], color=ORANGE, linestyle="-.", linewidth=1.2, label=place, gid="bottleneck")
        )
    if low < found["onset_snr"] < high:
        equals = "=" if profile.attrs["method"] == "quadrature" else r"\approx"
        text = f"onset, $r^*{equals}{_short(found['onset_snr'])}$"
        handles.append(ax.axvline(found["onset_snr"], color=BLACK, linestyle=":", label=text, gid="onset"))
    handles += _shade_untold(ax, profile)
    if (largest := float(_told(profile)["m_star"].max())) > 10:
        signed_log_axis(ax, 0.0, largest)
    else:
        ax.set_ylim(-0.04, max(1.06, float(ax.get_ylim()[1])))
    ax.set_ylabel(r"$m^*$, $\delta^*$")
    sigma_axis(ax)
    legend_below(ax, handles)
    return ax


def plot_contraction(profile: xr.Dataset, ax: Axes | None = None) -> Axes:
    """zeta*_M (solid) and the sharp rate (dashed) against the SNR, one colour and marker per richness M.

    Where a curve is below zero, denoising expands the worst errors of that richness. Linear between -1 and 1,
    logarithmic beyond; minus infinity, which zeta* takes at M = inf, is marked at the lower edge. The top axis is the
    Ornstein-Uhlenbeck time t.
    """
    profile = _shown(profile)
    ax = panel(ax, "Net contraction")
    snr, richness = values_of(profile, "snr"), values_of(profile, "perturbation")
    snr_axis(ax, snr)
    handles: list[Artist] = []
    endless = False
    for k, (label, colour, marker) in enumerate(richness_styles(richness)):
        one = profile.isel(perturbation=k)
        sharp = _curve(ax, one, "zeta_sharp", "", colour, marker, "--", offset=k)
        sharp.set(markerfacecolor="none", markersize=6.5)
        handles.append(_curve(ax, one, "zeta_star", label, colour, marker, "-", offset=k))
        gone = np.isneginf(values_of(one, "zeta_star"))
        if gone.any():
            endless = True
            at = (snr[gone], np.full(gone.sum(), 0.02))
            (marks,) = ax.plot(*at, marker="v", color=colour, linestyle="", transform=ax.get_xaxis_transform())
            marks.set(markersize=4, gid="minus-infinity")
    ax.axhline(0, color=BLACK, linewidth=0.8, zorder=1)
    told = _told(profile)
    rates = np.stack([values_of(told, "zeta_star"), values_of(told, "zeta_sharp")])
    rates = rates[np.isfinite(rates)]
    if abs(rates).max(initial=0) > 3:
        signed_log_axis(ax, float(rates.min()), float(rates.max()))
    handles += [
        Line2D([], [], color="0.3", linestyle="-", label=r"$\zeta^*_M$, filled"),
        Line2D([], [], color="0.3", linestyle="--", label=r"$\zeta^\sharp_M$, hollow"),
    ]
    if endless:
        handles.append(Line2D([], [], color="0.3", linestyle="", marker="v", markersize=4, label=r"$-\infty$"))
    handles += _shade_untold(ax, profile)
    ax.set_ylabel(r"net contraction $\zeta^*_M$, $\zeta^\sharp_M$")
    beta = float(profile.attrs["beta"])
    top_axis(
        ax, "Ornstein–Uhlenbeck time $t$", lambda time: snr_from_time(time, beta), lambda snr: time_from_snr(snr, beta)
    )
    legend_below(ax, handles, columns=4)
    return ax


def plot_localization(profile: xr.Dataset, ax: Axes | None = None) -> Axes:
    """E L_r and the largest L_r against the SNR, on a logarithmic axis, with the SNR where E L_r first reaches 1."""
    profile = _shown(profile)
    ax = panel(ax, "Localization")
    low, high = snr_axis(ax, values_of(profile, "snr"))
    largest = r"$\sup\,L_r$" if profile.attrs["method"] == "quadrature" else r"$\max\,L_r$ over queries"
    handles: list[Artist] = [_curve(ax, profile, "mean_localization", r"$\mathrm{E}\,L_r$", BLUE, "o", "-")]
    handles += _model(ax, profile, "mean_localization")
    if "resolved_snr" not in profile:
        handles.append(_curve(ax, profile, "sup_localization", largest, GREEN, "^", "--"))
    mean = values_of(profile, "mean_localization")
    top = max(float(_told(profile)[f"{name}_localization"].max()) for name in ("mean", "sup"))
    if top > FLOOR:
        log_axis(ax, max(FLOOR, 0.6 * mean.min()), max(2.0, 2 * top))
    else:
        ax.set_ylim(-0.04, 1.06)
    ax.axhline(1, color="0.35", linewidth=0.8, zorder=1)
    speciation = bottleneck(profile)["speciation_snr"]
    if low < speciation < high:
        text = f"speciation, $r={_short(speciation)}$"
        handles.append(ax.axvline(speciation, color=BLUE, linestyle=":", label=text, gid="speciation"))
    handles += _shade_untold(ax, profile)
    ax.set_ylabel("localization $L_r$")
    sigma_axis(ax)
    legend_below(ax, handles)
    return ax


def plot_ess(profile: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Median effective sample size of the posteriors against the SNR, with the collapse, where it falls below 2.

    Past the collapse a posterior sits on one stored point: what the profile says there is true of the data alone, not
    of the law behind them. A law without atoms has no effective sample size, and leaves the axes empty.
    """
    profile = _shown(profile)
    ax = panel(ax, "Effective sample size" if ax is None else "")
    low, high = snr_axis(ax, values_of(profile, "snr"))
    handles: list[Artist] = [_curve(ax, profile, "ess", "median ESS", ORANGE, "s", "-.")]
    log_axis(ax, 0.75, 1.5 * float(profile["ess"].max().clip(2).fillna(2)))
    collapse = bottleneck(profile)["collapse_snr"]
    if low < collapse < high:
        text = f"collapse, $r={_short(collapse)}$"
        handles.append(ax.axvline(collapse, color=ORANGE, linestyle="--", linewidth=1, label=text, gid="collapse"))
    handles += _shade_untold(ax, profile)
    ax.set_ylabel("effective sample size", color=ORANGE)
    ax.tick_params(axis="y", which="both", colors=ORANGE)
    legend_below(ax, handles)
    return ax


def _told(profile: xr.Dataset) -> xr.Dataset:
    """The SNRs at which the law is told; all, where there is none."""
    part = records.resolved(profile)
    return part if part.sizes["snr"] else profile


def _shown(profile: xr.Dataset) -> xr.Dataset:
    """What is drawn of a profile: without a model, not far past what the data resolve."""
    records.check(profile, "profile")
    resolved = float(profile.get("resolved_snr", np.inf))
    if not np.isfinite(resolved) or "model_m_star" in profile:
        return profile
    return profile.isel(snr=(profile["snr"] <= max(BEYOND * resolved, float(profile["snr"][0]))).to_numpy())


def _curve(
    ax: Axes, profile: xr.Dataset, name: str, label: str, colour: Any, marker: str, dash: str, *, offset: int = 0
) -> Line2D:
    """One variable against the SNR, with its band."""
    snr, values = values_of(profile, "snr"), values_of(profile, name)
    told = np.inf if name.startswith("model_") else float(profile.get("resolved_snr", np.inf))
    shown = np.where(np.isfinite(values) & (snr <= told), values, np.nan)
    line = curve(ax, snr, shown, name, label, colour, marker, dash, offset=offset)
    if f"{name}_low" in profile:
        ends = [np.where(snr <= told, values_of(profile, f"{name}_{end}"), np.nan) for end in ("low", "high")]
        bracket(ax, snr, ends, colour)
    elif f"{name}_se" in profile:
        band(ax, snr, shown, values_of(profile, f"{name}_se"), colour, LIMITS.get(name, (-np.inf, np.inf)))
    return line


def _shade_untold(ax: Axes, profile: xr.Dataset) -> list[Artist]:
    """Hatch the SNRs of which the profile cannot tell the law; returns what the legend shows for it.

    About the law behind data, those past what the data resolve; else those with a median effective sample size below 2.
    """
    if "resolved_snr" in profile:
        resolved = bottleneck(profile)["resolved_snr"]
        low, high = ax.get_xlim()
        start = resolved if np.isfinite(resolved) else low
        if start == float(profile["snr"][-1]):
            return []
        return [_hatch(ax, start, high, f"{int(profile.attrs['atoms']):,} data cannot tell", "untold")]
    small = values_of(profile, "ess") < 2
    if not small.any() or int(profile.attrs["atoms"]) == 0:  # a law that consists of few atoms memorises nothing
        return []
    low, high = ax.get_xlim()
    collapse = bottleneck(profile)["collapse_snr"]
    start = collapse if np.isfinite(collapse) else low
    return [_hatch(ax, start, high, "memorised (ESS < 2)", "memorised")]


def _hatch(ax: Axes, start: float, end: float, label: str, name: str) -> Artist:
    span = ax.axvspan(start, end, facecolor="0.93", edgecolor="0.78", hatch="///", linewidth=0, zorder=-1)
    span.set(label=label, gid=name)
    return span


def _model(ax: Axes, profile: xr.Dataset, name: str) -> list[Artist]:
    """The curve of the model that was profiled beside data, if there is one."""
    if f"model_{name}" not in profile:
        return []
    return [_curve(ax, profile, f"model_{name}", short(plain(profile.attrs["model"]), 24), PURPLE, "d", ":")]


def _hardest(profile: xr.Dataset) -> str:
    """What the SNR of the largest m* is called: the bottleneck, unless it is the only one or may lie beyond the end."""
    profile = _told(profile)
    k, last = int(values_of(profile, "m_star").argmax()), profile.sizes["snr"] - 1
    place = f"$r={_short(float(profile['snr'][k]))}$"
    if k not in (0, last):
        return f"bottleneck, {place}"
    return f"largest $m^*$, {place}" + (" (at the end)" if last > 0 else "")


def _join_legends(left: Axes, right: Axes) -> None:
    """One legend for two axes that share a panel."""
    handles: dict[object, Artist] = {}
    for ax in (left, right):
        legend = ax.get_legend()
        assert legend is not None  # both panels have one
        handles |= {handle.get_label(): handle for handle in legend.legend_handles if handle is not None}
        legend.remove()
    legend_below(left, list(handles.values()))


def _dark_viridis() -> ListedColormap:
    """Viridis without its lightest tenth, which is lost on white paper."""
    return ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.9, 256)))


def _short(value: float) -> str:
    return tick_label(float(f"{value:.3g}")).strip("$")


def _title(profile: xr.Dataset) -> str:
    """What was probed, and how."""
    about = profile.attrs
    how = "quadrature"
    if about["method"] != "quadrature":
        held = float(about["holdout"])
        source = f" from the {held:.0%} held out" if held > 0 else ""
        queries = int(about["queries"])
        how = f"Monte Carlo, {queries:,} quer{'ies' if queries > 1 else 'y'}{source}"
        behind = "resolved_snr" in profile
        how += ", bands: 95% brackets" if behind else ", bands ±2 standard errors" if queries > 1 else ""
    whose = "the law behind " if "resolved_snr" in profile else ""
    title = f"{whose}{short(about['law'], 40)} in {counted(int(about['dim']), 'dimension')}: {how}"
    return textwrap.fill(plain(title), 100)
