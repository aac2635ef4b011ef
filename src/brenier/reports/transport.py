"""A transport map in a terminal: how its fit went, how far its cells are off, and what it pays."""

import numpy as np
import xarray as xr
from rich.console import Console

from brenier.reports.coupling import skew_verdict
from brenier.reports.tables import many, print_facts, scale, with_error

WHY = {
    "exact": "in closed form",
    "tolerance": "at the tolerance of {tolerance}",
    "minutes": "by --minutes, before the tolerance of {tolerance}",
    "interrupted": "by Ctrl-C, before the tolerance of {tolerance}",
}


def print_transport(transport: xr.Dataset, seconds: float | None = None, console: Console | None = None) -> None:
    """Print what was fitted and how it ended, and a table of what was measured."""
    about = transport.attrs
    dim = int(about["dim"]) if "dim" in about else transport.sizes["axis"]
    size = f"{many(transport.sizes['point'], 'point')} in {many(dim, 'dimension')}"
    name = f"{about['target']}: " if "target" in about else ""
    title = f"{name}{size}, from the {about['source']} law, seed {about['fit_seed']}"
    print_facts(title, _rows(transport, seconds), console)


def _rows(transport: xr.Dataset, seconds: float | None) -> list[tuple[str, str, str]]:
    about = transport.attrs
    end = WHY[str(about["fit_stopped"])].format(tolerance=scale(float(about["fit_tolerance"])))
    rows = [("cells", f"{int(about['cells']):,}", ""), ("draws of the fit", f"{int(about['fit_samples']):,}", "")]
    if "labels" in transport:
        _, counts = np.unique(transport["labels"].to_numpy(), return_counts=True)
        least, most = int(counts.min()), int(counts.max())
        remark = f"of {f'{least:,} to ' * (least < most)}{many(most, 'point')}, a map for each"
        rows.insert(1, ("classes", f"{len(counts):,}", remark))
    if "conditions" in transport:
        how = "the least whose pairs are not seen to be skewed" if about.get("kappa_chosen") else "as given"
        told = many(transport.sizes["coordinate"], "number")
        rows.insert(1, ("conditions", told, f"of weight kappa {scale(float(about['kappa']))}: {how}"))
    rows += [] if seconds is None else [("seconds", f"{seconds:.1f}", "")]
    rows += [("it ended", end, "")]
    if "excess" not in about:
        return [*rows, ("excess total variation", "not measured", "")]
    both = ", of conditions, too" if "conditions" in transport else ""
    counted = f"{scale(about['total_variation'])} counted, of which noise {scale(about['floor'])}"
    rows += [
        ("excess total variation", with_error(about, "excess"), f"{counted}; {int(about['samples']):,} fresh draws"),
        ("chi-square", with_error(about, "chi_square"), "without the noise: can be below 0"),
        ("W2 by the map", with_error(about, "w2_primal"), f"{int(about['w2_samples']):,} fresh draws{both}"),
        ("W2 by the heights", with_error(about, "w2_dual"), "at most W2, but for noise"),
    ]
    if "paid" in about:
        rows.append(("of noise and datum", with_error(about, "paid"), "root mean squared distance of the map's pairs"))
    if "independent" in about:
        rows.append(("of independent pairs", scale(float(about["independent"]), 5), "root mean squared distance"))
    if "skew_p" in about:
        rows.append(("skew", f"{about['skew_correlation']:.4f}", skew_verdict(about)))
    return rows
