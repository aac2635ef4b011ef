"""A coupling in a terminal: its marginals, its cost beside that of others, and whether noise depends on conditions."""

import math
from collections.abc import Mapping
from typing import Any

import xarray as xr
from rich.console import Console

from brenier.reports.tables import Column, many, print_facts, print_tables, scale, stdout, with_error

BENT = ("independent_straightness", "independent_straightness_se")


def print_coupling(coupling: xr.Dataset, console: Console | None = None) -> None:
    """Print what pairs of the map are like, and a table of minibatch plans."""
    about, console = coupling.attrs, console or stdout()
    size = f"{many(int(about['points']), 'point')} in {many(int(about['dim']), 'dimension')}"
    own = {name: float(coupling[name]) for name in ("map_cost", "map_cost_se", "independent_cost")}
    apart = f"of independent pairs {scale(own['independent_cost'])}"
    rows = [
        ("excess total variation", with_error(about, "excess"), f"{int(about['samples']):,} fresh draws"),
        ("chi-square", with_error(about, "chi_square"), "without the noise: can be below 0"),
        ("mean squared distance", with_error(own, "map_cost"), apart),
    ]
    bent = float(coupling.get("independent_straightness", math.nan))
    if not math.isnan(bent):
        apart = with_error({name: float(coupling[name]) for name in BENT}, BENT[0])
        rows.append(("straightness", "0", f"of the flow that independent pairs make {apart}"))
    if "skew_p" in about:
        rows.append(("skew", f"{float(about['skew_correlation']):.4f}", skew_verdict(about)))
    if coupling.sizes["batch"] > 1:
        interval = f"{about['slope_low']:.3f} to {about['slope_high']:.3f}"
        rows.append(
            ("slope of the detour", f"{about['slope']:.3f}", f"{interval}; -1/4 for many more noises than data")
        )
    print_facts(f"Pairs with {size}, from the {about['source']} law, seed {about['seed']}", rows, console)
    if coupling.sizes["batch"] > 0:
        console.print()
        gain = own["independent_cost"] - own["map_cost"]
        kept = (
            (own["independent_cost"] - coupling["cost"].to_numpy()) / gain
            if gain > 0
            else coupling["cost"] * float("nan")
        )
        columns = [Column("minibatch", [f"{k:,}" for k in coupling["batch"].to_numpy()])]
        for name, title in (("cost", "mean squared distance"), ("detour", "detour")):
            values, errors = coupling[name].to_numpy(), coupling[f"{name}_se"].to_numpy()
            shown = [f"{scale(value)} ± {scale(error, 2)}" for value, error in zip(values, errors, strict=True)]
            columns.append(Column(title, shown))
        columns.insert(2, Column("of the map's gain", [f"{100 * share:.0f}%" if gain > 0 else "-" for share in kept]))
        print_tables(columns, [None] * coupling.sizes["batch"], console)


def skew_verdict(about: Mapping[str, Any]) -> str:
    """What a skew test has found, in words."""
    p = float(about["skew_p"])
    verdict = "noise depends on the condition" if p < 0.01 else "no dependence on the condition is seen"
    return f"p = {scale(p)} on {int(about['skew_pairs']):,} pairs: {verdict}"
