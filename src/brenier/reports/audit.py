"""An audit in a terminal: the level at each call of the network, and what is off in a sentence each."""

import numpy as np
import xarray as xr
from rich.console import Console

from brenier.reports.tables import ROWS, Column, many, number, print_tables, say, scale, stdout
from brenier.sampling.audit import findings

CAPTION = (
    "sigma requested, of the time that the network is told, and of what it sees; size: of that, over what it should be"
)


def print_audit(audit: xr.Dataset, console: Console | None = None) -> None:
    """Print which levels a pipeline visits, and what is off."""
    console = console or stdout()
    about, calls = audit.attrs, audit.sizes["call"]
    say(
        f"{about['pipeline']} with {about['scheduler']}, {about['asked']}: {many(calls, 'call')} of the network",
        console,
    )
    console.print()
    console.print(CAPTION, markup=False)
    shown = np.unique(np.linspace(0, calls - 1, min(calls, ROWS)).round().astype(int))
    rows = audit.isel(call=shown)
    columns = [Column("call", [str(k + 1) for k in shown]), Column("time", _cells(rows, "time"))]
    names = ["requested", "told", "executed", "size"]
    columns += [Column(name, _cells(rows, name)) for name in names if rows[name].notnull().any()]
    print_tables(columns, _styles(rows, float(about["tolerance"])), console)
    if len(shown) < calls:
        console.print(f"{len(shown)} of {calls} calls shown.")
    begins, end = float(audit["begins"]), float(audit["end"])
    rest = "0" if end < float(about["sigma_min"]) / 100 else scale(end)
    console.print(f"Begins with {begins:.4g} times the noise of its first level, ends at sigma = {rest}.", markup=False)
    if about.get("solver"):
        console.print(f"Steps as {about['solver']} does.", markup=False)
    off = findings(audit)
    for one in off:
        say(f"Off ({one.what}): {about['pipeline']} {one.text}.", console)
    if not off:
        console.print("All levels are those that were asked for, and that the network is told.")


def _cells(rows: xr.Dataset, name: str) -> list[str]:
    return [number(float(value)) for value in rows[name].to_numpy()]


def _styles(rows: xr.Dataset, tolerance: float) -> list[str | None]:
    """Red where what the network sees is not what it is told, or what was asked for."""
    executed = rows["executed"]
    finite = np.isfinite(executed)
    off = np.zeros(len(executed), dtype=bool)
    for name in ("told", "requested"):
        off |= ((abs(executed / rows[name] - 1) > tolerance) & finite & np.isfinite(rows[name])).to_numpy()
    return ["red" if one else None for one in off]
