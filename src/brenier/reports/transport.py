"""A transport map in a terminal: how its fit went, how far its cells are off, and what it pays."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table

from brenier.reports.console import stdout
from brenier.reports.schedule import many
from brenier.reports.tables import scale

if TYPE_CHECKING:
    from brenier.transport import SemiDiscrete

WHY = {
    "exact": "in closed form",
    "tolerance": "at the tolerance of {tolerance}",
    "minutes": "by --minutes, before the tolerance of {tolerance}",
    "interrupted": "by Ctrl-C, before the tolerance of {tolerance}",
}


def measured(transport: "SemiDiscrete", samples: int, seed: int) -> xr.Dataset:
    """The map as a dataset, with its marginal error and its cost in the attributes, and how they were measured."""
    error, cost = transport.marginal_error(samples, seed), transport.w2(seed=seed)
    found = transport.to_dataset()
    found.attrs |= {
        "measured": "fresh independent draws of the source, counted into the cells",
        **asdict(error),
        **{f"w2_{name}": value for name, value in asdict(cost).items()},
        "seed": seed,
    }
    return found


def print_transport(transport: xr.Dataset, seconds: float | None = None, console: Console | None = None) -> None:
    """Print what was fitted and how it ended, and a table of what was measured."""
    console = console or stdout()
    about = transport.attrs
    size = f"{many(transport.sizes['point'], 'point')} in {many(transport.sizes['axis'], 'dimension')}"
    name = f"{about['target']}: " if "target" in about else ""
    title = f"{name}{size}, from the {about['source']} law, seed {about['fit_seed']}"
    console.print(title, markup=False, soft_wrap=True)
    console.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    for wide in (False, False, True):
        table.add_column(no_wrap=not wide)
    for row in _rows(transport, seconds):
        table.add_row(*row)
    console.print(table)


def _rows(transport: xr.Dataset, seconds: float | None) -> list[tuple[str, str, str]]:
    about = transport.attrs
    end = WHY[str(about["fit_stopped"])].format(tolerance=scale(float(about["fit_tolerance"])))
    rows = [("cells", f"{int(about['cells']):,}", ""), ("draws of the fit", f"{int(about['fit_samples']):,}", "")]
    rows += [] if seconds is None else [("seconds", f"{seconds:.1f}", "")]
    rows += [("it ended", end, "")]
    if "excess" not in about:
        return [*rows, ("excess total variation", "not measured", "")]
    counted = f"{scale(about['total_variation'])} counted, of which noise {scale(about['floor'])}"
    return [
        *rows,
        ("excess total variation", with_error(about, "excess"), f"{counted}; {int(about['samples']):,} fresh draws"),
        ("chi-square", with_error(about, "chi_square"), "without the noise: can be below 0"),
        ("W2 by the map", with_error(about, "w2_primal"), f"{int(about['w2_samples']):,} fresh draws"),
        ("W2 by the heights", with_error(about, "w2_dual"), "at most W2, but for noise"),
    ]


def with_error(about: Mapping[str, Any], name: str) -> str:
    """A number to the place of its error's second digit."""
    value, error = float(about[name]), float(about[f"{name}_se"])
    digits = math.floor(math.log10(abs(value) / error)) + 2 if value != 0 and error > 0 else 3
    return f"{scale(value, max(digits, 3))} ± {scale(error, 2)}"
