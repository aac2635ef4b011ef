"""An atlas of laws in a terminal: where each is hard, how hard, and from where on."""

import math

import xarray as xr
from rich.console import Console

from brenier.reports.tables import Column, many, number, print_tables, say, scale, stdout, with_errors

CAPTION = "m*: the largest minimal relative tail, at SNR; onset: the SNR from which on P(L > 1) > 0"


def print_atlas(atlas: xr.Dataset, console: Console | None = None) -> None:
    """Print a row for each law."""
    console = console or stdout()
    first, last = (scale(float(atlas["snr"][end])) for end in (0, -1))
    say(f"{many(atlas.sizes['entry'], 'law')} at {atlas.sizes['snr']} SNRs from {first} to {last}", console)
    console.print()
    console.print(CAPTION, markup=False)
    hardest = atlas["m_star"].argmax("snr")
    errors = atlas["m_star_se"].isel(snr=hardest) if "m_star_se" in atlas else 0 * atlas["bottleneck_m_star"]
    columns = [
        Column("law", [str(name) for name in atlas["name"].values]),
        Column("group", [str(group) for group in atlas["group"].values]),
        Column("m*", *with_errors(atlas["bottleneck_m_star"].values, errors.values)),
        Column("at SNR", [scale(float(snr)) for snr in atlas["bottleneck_snr"].values]),
        Column("onset", [_onset(float(snr), first) for snr in atlas["onset_snr"].values]),
    ]
    print_tables(columns, [None] * atlas.sizes["entry"], console, left=2)


def _onset(snr: float, first: str) -> str:
    if math.isnan(snr):
        return f"below {first}"
    return "none" if math.isinf(snr) else number(0.0) if snr == 0 else scale(snr)
