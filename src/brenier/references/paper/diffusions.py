"""Figures 7, 9 and 11: a law mu and the point nu = delta_0, diffused over 100 steps of eta = 0.01 and denoised again.

Forward, mu_t and nu_t follow the Ornstein-Uhlenbeck process, exactly; backward, mubar_t and nubar_t start from mu_1 and
nu_1 and follow the optimal maps of mu. The paper's caption has the chain end at K eta = 1, its axes at 1.5: here it is
1, and the other times are the steps next to those on its axes (0.01, 0.145, 0.296, 0.597, 0.898).
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from brenier.catalog import load_target
from brenier.figures.axes import BLUE, Array, legend_below
from brenier.figures.page import letter_panels, page
from brenier.probing.chain.run import densities
from brenier.references.paper.panels import LAWS

TIMES = (0.01, 0.15, 0.3, 0.6, 0.9, 1.0)
WIDTH = 0.46  # of half a violin: the lines of two times are 1 apart
TARGET, START = BLUE, "#E69F00"
MAPS = {"target": "Blues", "start": "Oranges"}
WAYS = ("forward", "backward")
NAMES = {
    "forward_target": r"$\mu_t$",
    "forward_start": r"$\nu_t$",
    "backward_target": r"$\bar\mu_t$",
    "backward_start": r"$\bar\nu_t$",
}


def compute(target: str) -> xr.Dataset:
    """Densities of mu_t, nu_t, mubar_t and nubar_t over (step, x), see `brenier.probing.chain.run.densities`.

    Where mu has point masses they are `atom` with `atom_mass` (atom).
    """
    data = densities(target, start=0.0, steps=100, eta=0.01)
    atoms, masses = (part.numpy() for part in load_target(target).point_masses())
    data = data.assign_coords(atom=np.ravel(atoms))
    data["atom_mass"] = ("atom", masses)
    data.attrs["method"] = "quantile functions"
    return data


def draw(data: xr.Dataset) -> Figure:
    """Half violins at six times, heat maps over all times, and the laws at both ends; forward left, backward right."""
    title = rf"$\mu=${LAWS[str(data.attrs['law'])]} and $\nu=\delta_0$, diffused and denoised"
    with page(10, 11, title, legend=8.5, layout="constrained") as figure:
        axes = figure.subplots(4, 2, height_ratios=(1.25, 0.9, 0.9, 1))
        limits = _range(data)
        for ax, way in zip(axes[0], WAYS, strict=True):
            _half_violins(ax, data, way, limits)
        for row, law in enumerate(("target", "start"), start=1):
            norm = PowerNorm(0.5, 0, _brightest(data, law))
            images = [
                _heat_map(ax, data, f"{way}_{law}", norm, limits) for ax, way in zip(axes[row], WAYS, strict=True)
            ]
            bar = figure.colorbar(images[0], ax=axes[row, :], pad=0.01, aspect=14, extend="max")
            bar.set_label("density (1/unit), square-root scale")
        _ends(axes[3, 0], axes[3, 1], data, limits)
        titles = [f"{way}, each half scaled to one width" for way in ("Forward diffusion", "Backward transport")]
        titles += [f"{NAMES[f'{way}_{law}']}, {way}" for law in ("target", "start") for way in WAYS]
        titles += ["Both laws at the end of the way forward", "The laws back at $t=0$"]
        for ax, title in zip(axes.flat, titles, strict=True):
            ax.set_title(title, loc="left")
        letter_panels(axes.ravel(), None)
    return figure


def _range(data: xr.Dataset) -> tuple[float, float]:
    """The x outside of which every density is below 1/500 of its largest value."""
    seen = np.zeros(data.sizes["x"], dtype=bool)
    for name in NAMES:
        rows = np.nan_to_num(data[name].to_numpy())
        seen |= (rows > 0.002 * rows.max(1, keepdims=True)).any(0)
    x = data["x"].to_numpy()[seen]
    return float(x[0]), float(x[-1])


def _brightest(data: xr.Dataset, law: str) -> float:
    """The largest density on both ways, but for times at which the law may be close to a point."""
    late = data["time"].to_numpy() >= 0.05
    return max(float(data[f"{way}_{law}"][late].max()) for way in WAYS)


def _half_violins(ax: Axes, data: xr.Dataset, way: str, limits: tuple[float, float]) -> None:
    """The chain from nu to the left and that from mu to the right of each time's line, each scaled to one width."""
    x = data["x"].to_numpy()
    order = TIMES if way == "forward" else TIMES[::-1]
    for place, time in enumerate(order):
        at = data.isel(step=int(np.argmin(abs(data["time"].to_numpy() - time))))
        target, start = (at[f"{way}_{law}"].to_numpy() for law in ("target", "start"))
        for values, side, colour, hatch in ((start, -1, START, "...."), (target, 1, TARGET, "")):
            half = ax.fill_betweenx(
                x, place, place + side * WIDTH * values / values.max(), color=colour, alpha=0.75, linewidth=0
            )
            half.set(hatch=hatch, edgecolor="white", gid=f"{time:g}")
        ax.axvline(place, color="0.4", linewidth=0.5, zorder=1)
    ax.set_xticks(range(len(order)), [f"{time:g}" for time in order])
    ax.set(xlim=(-0.6, len(order) - 0.4), ylim=limits, xlabel="time $t$", ylabel="$x$ (unit of the data)")
    handles: list[Artist] = [
        Patch(facecolor=START, alpha=0.75, hatch="....", edgecolor="white", label=f"left: {NAMES[f'{way}_start']}"),
        Patch(facecolor=TARGET, alpha=0.75, label=f"right: {NAMES[f'{way}_target']}"),
    ]
    legend_below(ax, handles)


def _heat_map(ax: Axes, data: xr.Dataset, name: str, norm: PowerNorm, limits: tuple[float, float]) -> Any:
    """A density over time and x; time runs from left to right forward, and back to 0 backward."""
    way, law = name.split("_")
    times, x = data["time"].to_numpy(), data["x"].to_numpy()
    half = (times[1] - times[0]) / 2, (x[1] - x[0]) / 2  # both grids are even: each value fills a cell around its point
    image = ax.imshow(
        data[name].to_numpy().T,
        extent=(times[0] - half[0], times[-1] + half[0], x[0] - half[1], x[-1] + half[1]),
        origin="lower",
        aspect="auto",
        cmap=MAPS[law],
        norm=norm,
    )
    image.set_gid(name)
    ends = times[[0, -1]]
    ax.set(xlim=ends if way == "forward" else ends[::-1], ylim=limits, xlabel="time $t$")
    ax.set_ylabel("$x$ (unit of the data)")
    return image


def _ends(last: Axes, first: Axes, data: xr.Dataset, limits: tuple[float, float]) -> None:
    """The laws at t = 1, where the backward chains start, and at t = 0, where they end, beside mu itself."""
    x, final = data["x"].to_numpy(), data.isel(step=-1)
    handles: list[Artist] = []
    handles += last.plot(x, final["forward_target"], color=TARGET, linewidth=1.6, label=r"$\mu_1=\bar\mu_1$")
    handles += last.plot(x, final["forward_start"], "--", color=START, linewidth=1.6, label=r"$\nu_1=\bar\nu_1$")
    legend_below(last, handles)
    last.set_ylim(0, None)

    zero = data.isel(step=0)
    back: list[Artist] = []
    for name, colour, dash in (("backward_target", TARGET, "-"), ("backward_start", START, "--")):
        label = NAMES[name].replace("_t", "_0")
        back += first.plot(x, zero[name], color=colour, linestyle=dash, linewidth=1.6, label=label, gid=name)
    _mu_itself(first, zero, x, back)
    legend_below(first, back, columns=3)
    for ax in (last, first):
        ax.set(xlim=limits, xlabel="$x$ (unit of the data)", ylabel="density (1/unit)")


def _mu_itself(ax: Axes, zero: xr.Dataset, x: Array, handles: list[Artist]) -> None:
    """mu_0: its density, or lines where it has point masses, as high as the axis is at mass 1."""
    ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    if zero.sizes["atom"] == 0:
        handles += ax.plot(x, zero["forward_target"], ":", color="black", linewidth=1.4, label=r"$\mu_0$")
        return
    top = ax.get_ylim()[1]
    stems = ax.vlines(zero["atom"], 0, zero["atom_mass"] * top, color="black", linewidth=1.4, linestyle=":")
    stems.set_label(r"point masses of $\mu_0$ (top: mass 1)")
    handles.append(stems)
