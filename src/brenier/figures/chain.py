"""The figure of a chain: how far apart its laws are there and back, how fast they part, and what theory allows.

Panels, each a function of its own: the four distances; the growth rate on the way back with those of theory; the gap on
the way back with its bounds; relative entropy and total variation beside W2 (explicit laws on the line) or the
localization (particles); under a potential the contraction on the way there, and entropies on both ways; and what the
score's error does, where it has one. All have the Ornstein-Uhlenbeck time from left to right, with the SNR on top: the
way there is read rightwards, the way back leftwards, and markers point along. Bands reach two standard errors to each
side; quantiles have none. ([LDK24] Section 3, Theorem 4, Corollary 2.)
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brenier.core import records
from brenier.figures.axes import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    Array,
    band,
    curve,
    legend_below,
    log_axis,
    nice_ticks,
    panel,
    richness_styles,
    signed_log_axis,
    tick_label,
    values_of,
)
from brenier.figures.page import counted, letter_panels, page, plain, short, stacked
from brenier.scales import snr_from_time, time_from_snr

GREY = "0.45"
OU_TIME = "Ornstein–Uhlenbeck time $t$"
HEIGHTS = {"above": 1.27, "panel": 2.2, "between": 1.85, "below": 1.12}  # on the page, in inches
SPAN = 8.0  # ratio of largest to smallest from which an axis is logarithmic
DEPTH = 1e-4  # of the largest value: what lies below would stretch a logarithmic axis over empty decades
DEEPEST = 1e-2  # what is relative to the last step is shown down to here all the same
HEADROOM = 30.0  # bounds beyond this multiple of the largest gap leave the panel


def plot_chain(chain: xr.Dataset) -> Figure:
    """Draw a chain: distances, rates, bounds and what else is known of it, on a page of 9 inches by 8.6 or 12.7.

    Args:
        chain: what `brenier.chain` returned, or a file of it.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: the dataset is not a chain.
    """
    records.check(chain, "chain")
    panels: list[Callable[[xr.Dataset, Axes], Axes]] = [plot_chain_distances, plot_chain_rates, plot_chain_bounds]
    fourth = plot_chain_contraction if "contraction" in chain else plot_chain_localization
    panels.append(plot_chain_divergences if {"kl_backward", "mean_localization"} <= set(chain) else fourth)
    if "contraction" in chain and "kl_backward" in chain:
        panels += [plot_chain_entropies, plot_chain_divergences]
    if "w2_error" in chain:
        panels += [plot_chain_error] + [plot_chain_localization] * ("kl_backward" in chain)
    rows = -(-len(panels) // 2)
    height, layout = stacked(rows, **HEIGHTS)
    with page(9, height, _title(chain), at=1 - 0.13 / height) as figure:
        grid = figure.add_gridspec(rows, 2, left=0.105, right=0.97, wspace=0.28, **layout)
        for number, draw in enumerate(panels):
            draw(chain, figure.add_subplot(grid[number // 2, number % 2]))
        letter_panels(figure.axes)
    return figure


def plot_chain_distances(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The four W2 distances: on the way there, and on the way back between the laws named in the legend."""
    ax = _panel(ax, chain, "Distances, there and back")
    names = ("w2_forward", "w2_backward", "w2_chain", "w2_discretisation")
    *between, steps = (values_of(chain, name) for name in names)
    # What the steps do starts from nothing: of its curve, the upper part says enough.
    floor = _distance_axis(ax, [*between, np.where(steps >= steps.max() / 30, steps, np.nan)])
    handles: list[Artist] = [
        _curve(ax, chain, "w2_forward", r"there: $W_2(\mu,\nu)$", BLUE, ">", "-", floor),
        _curve(ax, chain, "w2_backward", r"back: $W_2(\mu,\bar\nu)$", ORANGE, "<", "-", floor),
        _curve(ax, chain, "w2_chain", r"back: $W_2(\bar\mu,\bar\nu)$", GREEN, "<", "--", floor),
        _curve(ax, chain, "w2_discretisation", r"steps alone: $W_2(\mu,\bar\mu)$", GREY, "<", ":", floor),
    ]
    ax.set_ylabel("$W_2$ (unit of the data)")
    return legend_below(ax, handles)


def plot_chain_rates(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The rate at which the square of W2(mubar, nubar) grows on the way back, with the rates 2 - 2 zeta of theory.

    Above zero the denoised laws part, below they close in. Each rate stands at the time its step begins from.
    """
    records.check(chain, "chain")
    about = "" if chain.attrs["mode"] == "ode" else " (theory: of the ODE)"
    ax = _panel(ax, chain, f"Rate on the way back{about}")
    names = ("rate", "rate_worst", "rate_star", "rate_sharp") + ("rate_local",) * ("rate_local" in chain)
    rates = np.concatenate([values_of(chain, name).ravel() for name in names])
    rates = rates[np.isfinite(rates)]
    low, high = rates.min(initial=0.0), rates.max(initial=0.0)
    if max(-low, high) > 3:
        signed_log_axis(ax, float(low), float(high))
    else:
        room = max(0.06 * (high - low), 0.02)
        ax.set_ylim(low - room, high + room)
    zero = ax.axhline(0, color=BLACK, linewidth=0.8, zorder=1, label="no change")
    handles = _theory(ax, chain, "rate")
    label = "measured" if chain.attrs["method"] == "quantiles" else "measured (noisy)"
    measured = _curve(ax, chain, "rate", label, BLACK, "<", "-")
    if "rate_local" in chain:
        handles.insert(0, _curve(ax, chain, "rate_local", "local worst case", GREY, "", ":"))
    ax.set_ylabel(r"growth rate of $W_2^2(\bar\mu,\bar\nu)$")
    _legend_of_rates(ax, [measured, zero, *handles])
    return ax


def plot_chain_bounds(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """W2(mubar, nubar) on the way back, with what the rates of theory add up to from the last step on.

    A bound that leaves the panel is named with the value that it reaches.
    """
    records.check(chain, "chain")
    exact = chain.attrs["method"] == "quantiles" and chain.attrs["mode"] == "ode" and not chain.attrs["score_error"]
    ax = _panel(ax, chain, f"Gap on the way back, and its {'bounds' if exact else 'estimates'}")
    gap = values_of(chain, "w2_chain")
    bounds = [values_of(chain, name).reshape(len(gap), -1) for name in ("bound_worst", "bound_star", "bound_sharp")]
    top = HEADROOM * gap.max(initial=0.0)
    floor = _distance_axis(ax, [gap, *(np.where(part <= top, part, np.nan) for part in bounds)])
    handles = _theory(ax, chain, "bound", floor, top)
    measured = _curve(ax, chain, "w2_chain", "measured", BLACK, "<", "-", floor)
    ax.set_ylabel(r"$W_2(\bar\mu,\bar\nu)$ (unit of the data)")
    _legend_of_rates(ax, [measured, *handles])
    return ax


def plot_chain_divergences(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """KL and total variation beside W2 on the way back, each divided by its value at the last step.

    Between the two laws taken back by the same maps, mubar and nubar, KL cannot change while W2 does; against the
    target's own law mu both hold what the finite steps add.
    What is not known or infinite is left out: at step 0, laws with point masses have no finite relative entropy.
    """
    styles = {
        "w2_chain": (r"$W_2(\bar\mu,\bar\nu)$", ORANGE, "<", "--"),
        "kl_chain": (r"$\mathrm{KL}(\bar\mu\,|\,\bar\nu)$", BLUE, "o", "--"),
        "w2_backward": (r"$W_2(\mu,\bar\nu)$", ORANGE, "<", "-"),
        "kl_backward": (r"$\mathrm{KL}(\mu\,|\,\bar\nu)$", BLUE, "d", "-"),
        "tv_backward": (r"$\mathrm{TV}(\mu,\bar\nu)$", GREEN, "s", ":"),
    }
    return _relative(_panel(ax, chain, "The way back in $W_2$, KL and TV"), chain, styles, last=True)


def plot_chain_entropies(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """W2, KL and total variation of mu and nu on the way there, each divided by its value at the first step.

    A law with point masses has no finite relative entropy at step 0: then KL and total variation are those over step 1.

    Raises:
        ValueError: relative entropies of the chain are not known.
    """
    records.check(chain, "chain")
    if "kl_forward" not in chain:
        raise ValueError("this chain has no variable 'kl_forward': it is known of laws on the line, and of normal laws")
    styles = {
        "w2_forward": (r"$W_2(\mu,\nu)$", ORANGE, ">", "-"),
        "kl_forward": (r"$\mathrm{KL}(\mu\,|\,\nu)$", BLUE, "d", "-"),
        "tv_forward": (r"$\mathrm{TV}(\mu,\nu)$", GREEN, "s", ":"),
    }
    return _relative(_panel(ax, chain, "The way there in $W_2$, KL and TV"), chain, styles, last=False)


def _relative(ax: Axes, chain: xr.Dataset, styles: Mapping[str, tuple[str, object, str, str]], *, last: bool) -> Axes:
    """Variables over their values at the last step, or at the first one at which they are known."""
    shown: dict[str, Array] = {}
    for name in styles:
        if name not in chain:
            continue
        values = np.where(np.isfinite(values_of(chain, name)), values_of(chain, name), np.nan)
        known = values[-1:] if last else values[np.isfinite(values)][:1]
        if len(known) and known[0] > 0:
            shown[name] = values / known[0]
    floor = _distance_axis(ax, list(shown.values()), DEEPEST)
    drawn = chain.assign({name: ("step", values) for name, values in shown.items()})
    drawn = drawn.drop_vars([f"{name}_se" for name in styles], errors="ignore")
    handles: list[Artist] = [_curve(ax, drawn, name, *styles[name], floor) for name in shown]
    handles.append(ax.axhline(1, color=BLACK, linewidth=0.8, zorder=1, label="no change"))
    ax.set_ylabel(f"relative to the {'last' if last else 'first'} step")
    return legend_below(ax, handles)


def plot_chain_localization(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """E L and the largest L along the chain. Where L exceeds 1 the noisy law is not log-concave."""
    ax = _panel(ax, chain, "Localization")
    mean, largest = values_of(chain, "mean_localization"), values_of(chain, "sup_localization")
    floor = _distance_axis(ax, [mean, largest, np.ones(1)])
    label = r"$\sup\,L$" if chain.attrs["method"] == "quantiles" else r"$\max\,L$ over samples"
    handles: list[Artist] = [
        _curve(ax, chain, "mean_localization", r"$\mathrm{E}\,L$", BLUE, "o", "-", floor),
        _curve(ax, chain, "sup_localization", label, GREEN, "^", "--", floor),
        ax.axhline(1, color=BLACK, linewidth=0.8, zorder=1, label="log-concave up to 1"),
    ]
    ax.set_ylabel("localization $L$")
    return legend_below(ax, handles)


def plot_chain_contraction(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The rate at which W2(mu, nu) falls on the way there, and lambda, which Theorem 1 holds it to at least.

    Raises:
        ValueError: the chain was run without a potential.
    """
    records.check(chain, "chain")
    if "contraction" not in chain:
        raise ValueError("this chain has no variable 'contraction': run it with a potential")
    ax = _panel(ax, chain, "Contraction on the way there")
    rate, least = values_of(chain, "contraction"), float(np.asarray(chain.attrs["convexity"], dtype=float)[0])
    rate = rate[np.isfinite(rate)]
    low, high = min(rate.min(initial=least), least, 0.0), max(rate.max(initial=least), least)
    if max(-low, high) > 3:
        signed_log_axis(ax, float(low), float(high))
    else:
        room = max(0.06 * (high - low), 0.02)
        ax.set_ylim(low - room, high + room)
    where = "" if chain.attrs["convexity_of"] == "whole space" else " where the laws lie"
    handles: list[Artist] = [
        _curve(ax, chain, "contraction", "measured", BLUE, ">", "-"),
        ax.axhline(least, color=ORANGE, linestyle="-.", zorder=1, label=rf"$\lambda=\inf f''${where}"),
    ]
    ax.set_ylabel(r"contraction rate of $W_2(\mu,\nu)$")
    return legend_below(ax, handles)


def plot_chain_error(chain: xr.Dataset, ax: Axes | None = None) -> Axes:
    """W2 between the target denoised with and without the score's error, and what first order predicts or allows.

    Raises:
        ValueError: the chain was run without a score error.
    """
    records.check(chain, "chain")
    if "w2_error" not in chain:
        raise ValueError("this chain has no variable 'w2_error': run it with a score_error")
    ax = _panel(ax, chain, f"Score error of {chain.attrs['score_error']:.3g}, {chain.attrs['error_kind']}")
    floor = _distance_axis(ax, [values_of(chain, "w2_error"), values_of(chain, "w2_error_predicted")])
    how = "predicted" if chain.attrs["dim"] == 1 and chain.attrs["error_kind"] == "smooth" else "at most,"
    handles: list[Artist] = [
        _curve(ax, chain, "w2_error", r"$W_2(\bar\mu$ with error, without$)$", ORANGE, "<", "-", floor),
        _curve(ax, chain, "w2_error_predicted", f"{how} to first order", BLUE, "o", "--", floor),
    ]
    low, high = np.asarray(chain.attrs["error_band"], dtype=float)
    if low > 0 or np.isfinite(high):
        beta = float(chain.attrs["beta"])
        start = float(time_from_snr(high, beta)) if np.isfinite(high) else 0.0
        end = float(time_from_snr(low, beta)) if low > 0 else float(chain["time"][-1])
        span = ax.axvspan(start, end, color="0.93", linewidth=0, zorder=0, label="where the score has the error")
        span.set_gid("error-band")
        handles.append(span)
    ax.set_ylabel("$W_2$ (unit of the data)")
    return legend_below(ax, handles)


def _panel(ax: Axes | None, chain: xr.Dataset, title: str) -> Axes:
    """Axes with the OU time from left to right, and on top the SNR at round values, infinite at time 0."""
    records.check(chain, "chain")
    ax = panel(ax, title)
    last, beta = float(chain["time"][-1]), float(chain.attrs["beta"])
    ax.set(xlim=(-0.02 * last, 1.02 * last), xlabel="time $t$" if "potential" in chain.attrs else OU_TIME)
    if "potential" in chain.attrs:
        return ax
    low, high = (float(snr_from_time(time, beta)) for time in (last, 0.08 * last))
    places = nice_ticks(low, high, lambda snr: time_from_snr(snr, beta))
    places = [place for place in places if "times" not in tick_label(place)]  # too long to stand side by side
    top = ax.secondary_xaxis("top")
    top.set_xticks([0.0, *(float(time_from_snr(place, beta)) for place in places)])
    top.set_xticklabels([r"$\infty$", *map(tick_label, places)])
    top.set_xlabel("signal-to-noise ratio $r$")
    return ax


def _distance_axis(ax: Axes, curves: Sequence[Array], deep: float = np.inf) -> float:
    """A y axis for what is not negative, logarithmic where that is wide; returns what a curve must exceed to show.

    Values from `deep` on are in sight however large the largest is.
    """
    values = np.concatenate([np.ravel(curve) for curve in curves] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    top = float(values.max(initial=0.0))
    positive = values[values > max(min(DEPTH * top, deep), 1e-300)]
    if top <= 0 or (positive.min() * SPAN > top and not (values == 0).any()):
        ax.set_ylim(-0.03 * top if top > 0 else -0.04, 1.08 * top if top > 0 else 1.06)
        return -np.inf
    log_axis(ax, 0.7 * float(positive.min()), 1.4 * top)
    return 0.0


def _curve(
    ax: Axes,
    chain: xr.Dataset,
    name: str,
    label: str,
    colour: object,
    marker: str,
    dash: str,
    floor: float = -np.inf,
    *,
    offset: int = 0,
) -> Line2D:
    """One variable against the time, with its band; zeros are left out of a logarithmic axis."""
    time, values = values_of(chain, "time"), values_of(chain, name)
    shown = np.where(np.isfinite(values) & (values > floor), values, np.nan)
    line = curve(ax, time, shown, name, label, colour, marker, dash, offset=offset)
    if f"{name}_se" in chain:
        low = ax.get_ylim()[0] if floor == 0 else 0.0
        # An estimate of 0 is not on a logarithmic axis, but its band may be.
        around = np.where(np.isfinite(values), values, np.nan)
        band(ax, time, around, values_of(chain, f"{name}_se"), colour, (low, np.inf))
    return line


def _theory(ax: Axes, chain: xr.Dataset, kind: str, floor: float = -np.inf, top: float = np.inf) -> list[Artist]:
    """The worst case and, for each richness M, the published curve (filled markers) and the sharp one (hollow).

    Where f'' has no upper bound only the sharp ones are finite, and are drawn.
    """
    if "potential" in chain.attrs and np.all(np.isinf(values_of(chain, "rate_worst")[1:])):
        return [
            _curve(
                ax,
                chain.isel(perturbation=k),
                f"{kind}_sharp",
                f"{label}, sharp",
                colour,
                marker,
                "--",
                floor,
                offset=k,
            )
            for k, (label, colour, marker) in enumerate(richness_styles(values_of(chain, "perturbation")))
        ]
    worst = "worst case" if chain.attrs["method"] == "quantiles" else "worst seen"
    handles: list[Artist] = [
        _curve(
            ax, chain, f"{kind}_worst", worst + _beyond(values_of(chain, f"{kind}_worst"), top), ORANGE, "", "-.", floor
        )
    ]
    for k, (label, colour, marker) in enumerate(richness_styles(values_of(chain, "perturbation"))):
        one = chain.isel(perturbation=k)
        sharp = _curve(ax, one, f"{kind}_sharp", "", colour, marker, "--", floor, offset=k)
        sharp.set(markerfacecolor="none", markersize=6.5)
        label += _beyond(values_of(one, f"{kind}_star"), top)
        handles.append(_curve(ax, one, f"{kind}_star", label, colour, marker, "-", floor, offset=k))
    handles += [
        Line2D([], [], color="0.3", linestyle="-", label=r"$\zeta^*_M$"),
        Line2D([], [], color="0.3", linestyle="--", label="sharp"),
    ]
    return handles


def _legend_of_rates(ax: Axes, handles: Sequence[Artist]) -> None:
    """A legend of up to nine entries in three columns, and of more in four, smaller."""
    if len(handles) <= 9:
        legend_below(ax, handles, columns=3)
    else:
        with mpl.rc_context({"legend.fontsize": 7.0}):
            legend_below(ax, handles, columns=4)


def _beyond(values: Array, top: float) -> str:
    """Words on a curve that leaves the panel at the top."""
    highest = float(np.nanmax(values))
    if np.isinf(highest):
        return r", to $\infty$"
    return f", to {tick_label(float(f'{highest:.1g}'))}" if highest > top else ""


def _title(chain: xr.Dataset) -> str:
    """What was run, and how."""
    about = chain.attrs
    dim, steps = int(about["dim"]), int(about["steps"])
    parts = [f"{counted(steps, 'step')} of {about['eta']:g}", str(about["mode"]).upper()]
    if about["method"] == "particles":
        parts += [f"{int(about['n']):,} particles", "±2 standard errors"]
    else:
        parts.append("quantiles")
    law = f"{short(about['law'])} in {counted(dim, 'dimension')}, from {short(about['start'])}:"
    if "potential" in about:
        law = f"{law[:-1]}, potential {short(about['potential'])}:"
    how = ", ".join(parts)
    between = " " if len(law) + len(how) < 100 else "\n"
    return plain(f"{law}{between}{how}")
