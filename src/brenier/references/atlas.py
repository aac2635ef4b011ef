"""A gallery of laws, and where each is hard to denoise: what tails, skew, modes, shapes and dimensions do.

All are scaled so that their lengths are about 1, and asked at the same SNRs: laws on the line by quadrature, others by
Monte Carlo from their exact posteriors, or, by their densities, from cubature.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brenier.catalog import load_target
from brenier.core.checks import Array
from brenier.figures.axes import BLACK, BLUE, ORANGE, log_axis
from brenier.figures.page import page, stacked
from brenier.laws.base import Target
from brenier.laws.elliptical import Elliptical
from brenier.laws.from_density import from_density
from brenier.laws.mixed import Mixture
from brenier.laws.mixture import GaussianMixture
from brenier.laws.product import Product
from brenier.probing.bottleneck import bottleneck
from brenier.probing.profile import probe

SNRS = np.geomspace(0.1, 32, 21)
QUERIES, FEW = 1024, 128  # noisy points, and in many dimensions
COLUMNS = 6
TOP = 1.75  # of the axis of m*, but where it is higher


@dataclass(frozen=True)
class Entry:
    """A law of the atlas.

    Attributes:
        name: what it is called in the figure.
        make: makes it.
        queries: noisy points, where it is probed with some.
    """

    name: str
    make: Callable[[], Target]
    queries: int = QUERIES


def _line(text: str) -> Callable[[], Target]:
    return partial(load_target, f"scipy:{text}")


def _normals(weights: list[float], means: list[float], variances: list[float]) -> Callable[[], Target]:
    return partial(GaussianMixture, weights, means, variances)


def _two(dim: int) -> Target:
    means = np.zeros((2, dim))
    means[:, 0] = -1.5, 1.5
    return GaussianMixture([0.5, 0.5], means, [0.25, 0.25])


def _copies(text: str, dim: int) -> Target:
    return Product([load_target(text)] * dim)


def _along(curve: Callable[[Array], Array], width: float) -> Target:
    """Normal laws close together along a curve in the plane."""
    places = curve((np.arange(160) + 0.5) / 160)
    return GaussianMixture(np.ones(len(places)), places, [width**2] * len(places))


def _spiral(s: Array) -> Array:
    angle = 4.5 * math.pi * np.sqrt(s)
    return (angle / (2 * math.pi))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _moons(s: Array) -> Array:
    angle = 2 * math.pi * s
    upper = s < 0.5
    x = np.where(upper, np.cos(angle) - 0.5, 0.5 - np.cos(angle - math.pi))
    y = np.where(upper, np.sin(angle) - 0.25, 0.25 - np.sin(angle - math.pi))
    return np.stack([x, y], 1)


def _ring(x: torch.Tensor) -> torch.Tensor:
    return -((torch.linalg.vector_norm(x, dim=1) - 1.5).square()) / (2 * 0.15**2)


def _funnel(x: torch.Tensor) -> torch.Tensor:
    v = x[:, 0]
    return -(v.square() + x[:, 1:].square().sum(1) * torch.exp(-v) + (x.shape[1] - 1) * v) / 2


def _banana(x: torch.Tensor) -> torch.Tensor:
    return -x[:, 0].square() / 2 - (x[:, 1] - x[:, 0].square()).square() / (2 * 0.3**2)


def _rounded() -> Target:
    """N(0, 1) in steps of a half."""
    places = np.arange(-10, 11) / 2
    return GaussianMixture(np.exp(-(places**2) / 2), places, 0.0)


def _checkers() -> Target:
    """Normal laws on a grid of four by four."""
    ways = np.arange(4) - 1.5
    return GaussianMixture(np.ones(16), np.stack(np.meshgrid(ways, ways), 2).reshape(16, 2), 0.03)


GROUPS: dict[str, tuple[Entry, ...]] = {
    "tails": (
        Entry("normal", partial(load_target, "normal")),
        Entry("Laplace", _line("laplace")),
        Entry("exp(-|x|^0.5)", _line("gennorm(0.5, scale=0.1)")),
        Entry("t(10)", _line("t(10)")),
        Entry("t(3)", _line("t(3)")),
        Entry("Cauchy", _line("cauchy")),
    ),
    "skew and ends": (
        Entry("uniform", _line("uniform(-1.7, 3.4)")),
        Entry("exponential", _line("expon")),
        Entry("gamma(0.5)", _line("gamma(0.5, scale=1.4)")),
        Entry("lognormal", _line("lognorm(1)")),
        Entry("Pareto(3)", _line("pareto(3, scale=2)")),
        Entry("t(3) cut at ±5", _line("t(3)[-5, 5]")),
    ),
    "modes": (
        Entry("two, equal", _normals([1, 1], [-1.5, 1.5], [0.25, 0.25])),
        Entry("two, 1 : 19", _normals([1, 19], [-1.5, 1.5], [0.25, 0.25])),
        Entry("widths 1 : 10, one centre", _normals([1, 1], [0, 0], [1, 0.01])),
        Entry("widths 1 : 10, apart", _normals([1, 1], [-1.5, 1.5], [1, 0.01])),
        Entry("nine in a row", _normals([1] * 9, np.linspace(-2.4, 2.4, 9).tolist(), [0.01] * 9)),
        Entry("four Gaussians", partial(load_target, "four-gaussians")),
    ),
    "points and densities": (
        Entry("two points", partial(load_target, "two-points")),
        Entry("1 : 19 points", _normals([1, 19], [-1, 1], [0, 0])),
        Entry("spike and slab", partial(load_target, "spike-slab")),
        Entry("spike and t(3)", lambda: Mixture([1, 1], [0.0, load_target("scipy:t(3)")])),
        Entry("spike and Laplace, 9 : 1", lambda: Mixture([9, 1], [0.0, load_target("scipy:laplace")])),
        Entry("rounded normal", _rounded),
    ),
    "shapes in the plane": (
        Entry("ring", partial(from_density, _ring, 2)),
        Entry("spiral", partial(_along, _spiral, 0.08)),
        Entry("two moons", partial(_along, _moons, 0.1)),
        Entry("banana", partial(from_density, _banana, 2)),
        Entry("funnel", partial(from_density, _funnel, 2)),
        Entry("checkers, 4 x 4", _checkers),
    ),
    "radial, to d = 1,000": (
        Entry("Laplace, d = 10", partial(Elliptical.laplace, 10)),
        Entry("Laplace, d = 1,000", partial(Elliptical.laplace, 1000), FEW),
        Entry("t(3), d = 3", partial(Elliptical.student, 3, 3)),
        Entry("t(3), d = 20", partial(Elliptical.student, 3, 20)),
        Entry("t(3), d = 1,000", partial(Elliptical.student, 3, 1000), FEW),
        Entry("t(30), d = 1,000", partial(Elliptical.student, 30, 1000), FEW),
    ),
    "independent, to d = 1,000": (
        Entry("Laplace, d = 10", partial(_copies, "scipy:laplace", 10), 256),
        Entry("t(3), d = 10", partial(_copies, "scipy:t(3)", 10), 512),
        Entry("t(3), d = 100", partial(_copies, "scipy:t(3)", 100), 64),
        Entry("two points, d = 10", partial(_copies, "two-points", 10)),
        Entry("two points, d = 1,000", partial(_copies, "two-points", 1000), FEW),
        Entry("two normals, d = 1,000", partial(_two, 1000), FEW),
    ),
}


def compute() -> xr.Dataset:
    """The profiles of all laws, by number, with their bottlenecks.

    Returns:
        Dataset over `entry` (with `name`, `group` and `dim`) and `snr`: `m_star`, `m_star_se`, `mean_localization` and
        `survival` at u = 1 (entry, snr); `bottleneck_snr`, `bottleneck_m_star`, `onset_snr` and `queries` (entry).
    """
    rows: list[xr.Dataset] = []
    for group, entries in GROUPS.items():
        for entry in entries:
            law = entry.make()
            profile = probe(law, SNRS, queries=entry.queries, about="atoms" if law.atoms else None, progress=False)
            found = bottleneck(profile)
            none = np.zeros(len(SNRS))
            over = {
                "m_star": profile["m_star"].to_numpy(),
                "m_star_se": profile["m_star_se"].to_numpy() if "m_star_se" in profile else none,
                "mean_localization": profile["mean_localization"].to_numpy(),
                "survival_at_one": profile["survival"].sel(u=1.0).to_numpy(),
            }
            single = {
                "bottleneck_snr": found["snr"],
                "bottleneck_m_star": float(profile["m_star"].max()),
                "onset_snr": found["onset_snr"],
                "queries": profile.attrs["queries"],
                "square_integrable": int(law.square_integrable),
            }
            variables = {name: (("entry", "snr"), values[None]) for name, values in over.items()}
            variables |= {name: (("entry",), [value]) for name, value in single.items()}
            labels = {"name": entry.name, "group": group, "dim": law.dim}
            coordinates = {"snr": SNRS} | {name: ("entry", [value]) for name, value in labels.items()}
            rows.append(xr.Dataset(variables, coordinates))
    return xr.concat(rows, "entry").assign_attrs(law="a gallery of laws")


def draw(data: xr.Dataset) -> Figure:
    """A panel for every law: m* and E L_r against the SNR, the bottleneck marked where it is a peak, and the onset."""
    groups = list(dict.fromkeys(data["group"].to_numpy().tolist()))
    height, layout = stacked(len(groups), 0.75, 1.02, 0.62, 0.75)
    with page(12.5, height, "Where laws are hard to denoise", at=1 - 0.12 / height) as figure:
        panels = figure.subplots(
            len(groups), COLUMNS, gridspec_kw=layout | {"left": 0.06, "right": 0.99, "wspace": 0.16}
        )
        for row, group in zip(panels, groups, strict=True):
            part = data.isel(entry=(data["group"] == group).to_numpy())
            for k, ax in enumerate(row):
                _panel(ax, part.isel(entry=k), first=k == 0, last=group == groups[-1])
            row[0].set_ylabel(group, fontsize=8.5)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        handles += [panels[0, 0].plot([], [], "v", color=ORANGE, markersize=5)[0]]
        handles += [panels[0, 0].plot([], [], ":", color=BLACK, linewidth=1)[0]]
        labels += ["bottleneck, where $m^*$ has a peak", "onset $r^*$"]
        figure.legend(handles, labels, loc="lower center", ncol=4, frameon=False, fontsize=9)
    return figure


def _panel(ax: Axes, one: xr.Dataset, *, first: bool, last: bool) -> None:
    snr, m_star = one["snr"].to_numpy(), one["m_star"].to_numpy()
    log_axis(ax, snr[0], snr[-1], "x")
    highest, k = float(m_star.max()), int(m_star.argmax())
    taller = highest > TOP
    top = 1.2 * highest if taller else TOP
    ax.set(ylim=(-0.035 * top, top), yticks=[0, 1, math.floor(highest)] if taller else [0, 0.5, 1])
    ax.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    ax.plot(
        snr, one["mean_localization"], "--", color=BLUE, linewidth=1.1, label=r"mean localization $\mathrm{E}\,L_r$"
    )
    ax.plot(snr, m_star, color=ORANGE, linewidth=1.8, label="complexity $m^*(r)$")
    spread = 2 * one["m_star_se"].to_numpy()
    ax.fill_between(snr, np.maximum(m_star - spread, 0), m_star + spread, color=ORANGE, alpha=0.25, linewidth=0)
    ax.set_title(str(one["name"].item()), loc="left", fontsize=8.5, pad=3)
    ax.tick_params(labelsize=7.5, labelbottom=last, labelleft=first or taller)
    size = "$m^*=0$" if highest < 1e-9 else f"{highest:.2f}"
    ax.text(0.985, 0.965, size, transform=ax.transAxes, ha="right", va="top", fontsize=8, color=ORANGE)
    if highest > 1e-9 and k < len(snr) - 1:
        ax.plot([snr[k]], [highest + 0.065 * top], "v", color=ORANGE, markersize=4)
    if snr[0] < float(one["onset_snr"]) < snr[-1]:
        ax.axvline(float(one["onset_snr"]), color=BLACK, linestyle=":", linewidth=1)
    if last:
        ax.set_xlabel("SNR $r$", fontsize=8)
