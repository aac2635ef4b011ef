"""Figure 1: the density of Y_r for two points at -1 and 1, and where it is not strongly log-concave.

The curvature of log p_{Y_r} exceeds -delta where L_r(y) > 1 - delta ([LDK24] Proposition 3). For two points
L_r(y) = r^2 sech^2(r y), so these y are |y| < arccosh(r/sqrt(1 - delta))/r, and none if r^2 <= 1 - delta. The paper's
low SNR, printed as 0.71, is 1/sqrt(2), where sup L_r = 0.5 and s_r(0.5) = 0 as it says; at 0.71, s_r(0.5) = 0.079.
"""

from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from brenier.catalog import load_target
from brenier.complexity import integrated_tail, survival
from brenier.figures.axes import BLUE, Array, legend_below
from brenier.figures.page import letter_panels, page
from brenier.laws.line.quadrature import localization_quadrature

SNRS = np.array([np.sqrt(0.5), 1.5, 3.0])
DELTAS = np.array([0.0, 0.5])
# Vermilion, hatched, within orange: apart for the colour-blind and in grey print.
SHADES = {0.5: ("#E69F00", ""), 0.0: ("#D55E00", "////")}


def compute() -> xr.Dataset:
    """Density (snr, y) of Y_r; s = P(L_r > 1 - delta), h and the half-width of the region (snr, delta); NaN for none.

    y has no unit: Y_r is measured in units of its noise.
    """
    law = load_target("two-points")
    y = np.linspace(-6.5, 6.5, 521)
    column = torch.from_numpy(y)[:, None]
    density = [law.log_density(column, r).exp().numpy() for r in SNRS.tolist()]
    samples = [localization_quadrature(law, r, 1 - DELTAS)[:2] for r in SNRS.tolist()]
    variables = {
        "density": (("snr", "y"), np.stack(density)),
        "survival": (
            ("snr", "delta"),
            np.stack([survival(values, 1 - DELTAS, weights) for values, weights in samples]),
        ),
        "integrated_tail": (
            ("snr", "delta"),
            np.stack([integrated_tail(values, DELTAS, weights) for values, weights in samples]),
        ),
        "edge": (("snr", "delta"), _edges(SNRS[:, None], DELTAS)),
    }
    coordinates = {"snr": ("snr", SNRS), "y": ("y", y), "delta": ("delta", DELTAS)}
    return xr.Dataset(variables, coordinates, {"law": law.name, "method": "quadrature"})


def _edges(snr: Array, delta: Array) -> Array:
    """Where r^2 sech^2(r y) = 1 - delta; NaN where the left side never exceeds the right one (but for rounding)."""
    ratio = snr / np.sqrt(1 - delta)
    return np.where(ratio > 1 + 1e-12, np.arccosh(np.maximum(ratio, 1)) / snr, np.nan)


def draw(data: xr.Dataset) -> Figure:
    """Three densities side by side, the regions shaded; h and s below each."""
    title = r"Two points $\pm1$: where $\nabla^2\log p_{Y_r}>-\delta$"
    with page(11, 3.9, title, legend=8.5, layout="constrained") as figure:
        for ax, (r, one) in zip(figure.subplots(1, 3), data.groupby("snr"), strict=True):
            one = one.squeeze("snr")
            handles: list[Artist] = []
            for delta, (colour, hatch) in SHADES.items():
                edge, h, s = (float(one[name].sel(delta=delta)) for name in ("edge", "integrated_tail", "survival"))
                look: dict[str, Any] = {"facecolor": colour, "alpha": 0.45, "hatch": hatch, "edgecolor": "0.3"}
                if not np.isnan(edge):
                    ax.axvspan(-edge, edge, linewidth=0.5, gid=f"delta={delta:g}", **look)
                label = rf"$\delta={delta:g}$: $h={h:.2f}$, $s_r({1 - delta:g})={s:.2f}$"
                handles.append(Patch(label=label, linewidth=0.5, **look))
            ax.plot(data["y"], one["density"], color=BLUE, linewidth=1.6, gid="density")
            ax.set(xlim=(data["y"][0], data["y"][-1]), ylim=(0, None), xlabel="$y$ (units of the noise)")
            ax.set_title(f"$r={r:.2f}$", loc="left")
            legend_below(ax, handles[::-1], columns=1)
        figure.axes[0].set_ylabel("density of $Y_r$")
        letter_panels(figure.axes, None)
    return figure
