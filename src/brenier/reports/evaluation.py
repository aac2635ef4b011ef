"""An evaluation in a terminal: a table, and what it says of copies and of modes in a sentence each."""

import math

import xarray as xr
from rich.console import Console

from brenier.metrics.verdicts import WORDS, against_control, frechet_needs
from brenier.reports.tables import Column, many, number, print_tables, say, scale, stdout


def print_evaluation(evaluation: xr.Dataset, console: Console | None = None) -> None:
    """Print what was compared, the table of metrics with 95% intervals, and the sentences."""
    console = console or stdout()
    about = evaluation.attrs
    size = f"{many(int(about['n']), 'sample')} and {int(about['n_reference']):,} points of {about['reference']}"
    say(
        f"{about['title']}: {size} in {many(int(about['dim']), 'dimension')}, features {about['features']}, "
        f"k = {int(about['k'])}, seed {int(about['seed'])}",
        console,
    )
    console.print()
    rows = [evaluation.sel(metric=name) for name in evaluation["metric"].to_numpy()]
    columns = [Column("", [WORDS.get(str(row["metric"].item()), str(row["metric"].item())) for row in rows])]
    for title, name in {"value": "", "perfect sampler": "control_"}.items():
        if name and not bool(evaluation["control"].notnull().any()):
            continue
        cells = [_cells(row, name.rstrip("_") or "value", f"{name}low", f"{name}high") for row in rows]
        columns.append(Column(title, [value for value, _ in cells]))
        columns.append(Column("95% interval" if not name else "its 95% interval", [interval for _, interval in cells]))
    print_tables(columns, [None] * len(rows), console, left=1)
    for text in sentences(evaluation):
        console.print(text, markup=False)


def _cells(row: xr.Dataset, value: str, low: str, high: str) -> tuple[str, str]:
    found, error = float(row[value]), float(row[f"{value}_se"])
    if math.isnan(found):
        return "", ""
    doubt = f" ±{number(error)}" if error > 0 else ""
    return f"{number(found)}{doubt}", f"{number(float(row[low]))} to {number(float(row[high]))}"


def sentences(evaluation: xr.Dataset) -> list[str]:
    """What is copied, what is mixed, and where numbers of samples are too few to say."""
    about, names = evaluation.attrs, [str(name) for name in evaluation["metric"].to_numpy()]
    lines = [f"W2 is {about['w2_method']}."]
    few = frechet_needs(evaluation)
    if few is not None:
        count, fewest, enough = few
        lines.append(f"{fewest:,} points are few for a Frechet distance of {count} features: {enough:,} are enough.")
    if "closer" in names:
        own = "held-out points" if about["memorisation_control"] == "held-out" else "training points among each other"
        lines.append(_beside_control(evaluation, "closer", "nearer to a training point than that is to others", own))
        what = "nearer to a training point than a third of the way to the second nearest, as copies do"
        lines.append(_beside_control(evaluation, "copied", what, own))
    if "mmr" in names:
        what = f"between classes of {about['classifier']} (lambda {scale(float(about['lambda']))})"
        lines.append(_beside_control(evaluation, "mmr", what, "points of the reference"))
    if "stray" in names:
        lines.append(_beside_control(evaluation, "stray", "outside all components", "points of the reference"))
    return lines


def _beside_control(evaluation: xr.Dataset, name: str, what: str, control: str) -> str:
    """A share beside that of the control, and whether they differ by more than two standard errors."""
    row = evaluation.sel(metric=name)
    value, other = float(row["value"]), float(row["control"])
    verdict = against_control(evaluation, name)
    verdict = "the same within the errors" if verdict == "same" else verdict
    return f"{value:.1%} of the samples lie {what}, {other:.1%} of the {control}: {verdict}."
