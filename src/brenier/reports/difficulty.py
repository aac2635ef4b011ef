"""The difficulty of points in a terminal: the hardest and the easiest, and what tells of the error, in a table each."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from rich.console import Console

from brenier.reports.tables import Column, many, number, print_tables, say, scale, stdout

ENDS = 6  # points at each end of the table
MEASURES = {
    "integral_localization": "integral of L",
    "max_localization": "largest L",
    "integral_trace": "integral of the trace",
    "dimension": "dimension (FLIPD)",
    "mean_distance": "distance to the mean",
    "nearest_distance": "distance to the nearest",
    "neighbour_distance": "distance to the 5th nearest",
    "noise_norm": "length of the noise",
    "log_density": "log density",
}
COLUMNS = {
    "integral_localization": "int L",
    "max_localization": "max L",
    "hardest_snr": "at SNR",
    "dimension": "dimension",
    "nearest_distance": "nearest",
    "neighbour_distance": "5th nearest",
    "error": "error",
}
CAPTION = (
    "int L: integral of the localization over log r on the way; max L: its largest value, at SNR; dimension: of what "
    "the data lie on there (FLIPD); nearest: distances to data; error: distance of the sampler's end to the flow's"
)
ASKED = {"drawn": "the sampler's own points", "samples": "samples that were given", "data": "data that were given"}


def print_difficulty(found: xr.Dataset, console: Console | None = None) -> None:
    """Print what was asked and what it cost, the hardest and the easiest points, and what tells of their error."""
    console = console or stdout()
    about = found.attrs
    size = f"{about['law']} in {many(int(about['dim']), 'dimension')}: {int(about['n']):,} points"
    noised = (
        f"{many(int(about['copies']), 'noise')} each to sigma {scale(about['noised_to'])}" if "copies" in about else ""
    )
    way = f"{about['solver']}, {many(int(about['steps']), 'step')} by {about['schedule']}"
    cost = (
        f"{many(int(about['evaluations']), 'evaluation')} and {many(int(about['localizations']), 'localization')} each"
    )
    parts = [size, ASKED[about["asked"]], noised, way, cost, f"seed {about['seed']}"]
    say(", ".join(part for part in parts if part), console)
    console.print()
    console.print(CAPTION, markup=False)
    points = _points(found)
    print_tables(points, [None] * len(points[0].plain), console)
    if "rho" in found:
        print_tables(_measures(found), [None] * found.sizes["measure"], console, left=1)
    for text in sentences(found):
        console.print(text, markup=False)


def _points(found: xr.Dataset) -> list[Column]:
    order = np.argsort(found["rank"].to_numpy())
    some = order if len(order) <= 2 * ENDS else np.concatenate([order[:ENDS], [-1], order[-ENDS:]])

    def cells(show: Callable[[int], str], gap: str = "") -> list[str]:
        return [gap if k < 0 else show(int(k)) for k in some]

    columns = [
        Column("rank", cells(lambda k: f"{int(found['rank'][k]):,}", "...")),
        Column("point", cells("{:,}".format)),
    ]
    for name, title in COLUMNS.items():
        if name in found:
            columns.append(Column(title, cells(lambda k, values=found[name]: number(float(values[k])))))
    return columns


def _measures(found: xr.Dataset) -> list[Column]:
    titles = {
        "rho": "with the error",
        "partial": "int L, this fixed",
        "lead": "int L leads by",
        "auc": "AUC, worst tenth",
    }
    names = found["measure"].to_numpy()
    return [
        Column("", [MEASURES[str(name)] for name in names]),
        *(Column(title, [_interval(found.sel(measure=name), key) for name in names]) for key, title in titles.items()),
    ]


def _interval(row: xr.Dataset, name: str) -> str:
    value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
    known = f" [{low:.2f}, {high:.2f}]" if np.isfinite([low, high]).all() else ""  # no interval of too few points
    return "-" if np.isnan(value) else f"{value:.2f}{known}"


def sentences(found: xr.Dataset) -> list[str]:
    """What dimension and distances stand on, and whether the localization tells of the error."""
    about = found.attrs
    dimension = (
        f"{number(float(found['dimension'].median()))} in the median, at sigma {scale(about['dimension_sigma'])}"
    )
    lines = [f"The dimension is {dimension}; distances go to {about['neighbours']}."]
    if np.isfinite(about.get("reliability", np.nan)):
        alike = f"Noised anew, the points would be ranked alike by {number(float(about['reliability']))}"
        lines.append(f"{alike}: 1 is the same order, 0 chance. More copies or a smaller sigma make it more their own.")
    if "error" not in found:
        return [*lines, "The error was not measured."]
    if "rho" not in found:
        return [*lines, "There are too few points for correlations with the error."]
    own = found.sel(measure="integral_localization")
    value, low = float(own["rho"]), float(own["rho_low"])
    others = [str(name) for name in found["measure"].to_numpy() if "localization" not in str(name)]
    beaten = [name for name in others if float(found["lead_low"].sel(measure=name)) > 0]
    rivals = [
        f"{MEASURES[name]} ({float(found['rho'].sel(measure=name)):.2f})"
        for name in others
        if name not in beaten and np.isfinite(float(found["lead"].sel(measure=name)))
    ]
    if not low > 0:
        lines.append(f"The integral of L does not tell of the error here: correlation {_interval(own, 'rho')}.")
    else:
        strength = "tells well" if value >= 0.5 else "tells somewhat"
        lines.append(f"The integral of L {strength} of the error: correlation {_interval(own, 'rho')}.")
    if rivals:
        lines.append(f"It is not known to tell more than {', '.join(rivals)}.")
    else:
        lines.append("It tells more than every control, by intervals of the difference.")
    lines.append(f"With all controls held fixed it correlates by {_interval(found, 'partial_all')}.")
    return lines
