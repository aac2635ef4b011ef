"""Schedules and comparisons of schedules in a terminal: tables, and what they say in a sentence."""

import math

import numpy as np
import xarray as xr
from rich.console import Console

from brenier.reports.tables import (
    ROWS,
    Column,
    lay_out,
    many,
    print_tables,
    rounded,
    say,
    scale,
    stdout,
    with_errors,
)
from brenier.sampling.schedule import Schedule
from brenier.sampling.verdicts import against_hand, predicted

MEASURES = {"rms": "RMS", "median": "median", "w2": "W2"}
VALUES = {"typical": "median distance", "law": "sliced W2 to the law"}
CAPTION = (
    "RMS, median: distance to the end point of the probability flow from the same noise; W2: to the law, {method}; "
    "* least of the column"
)


def print_schedule(schedule: Schedule, seconds: float | None = None, console: Console | None = None) -> None:
    """Print the noise levels, what each step adds to the predicted error, and what planning took."""
    console = console or stdout()
    law = "" if schedule.law is None else f"{schedule.law}: "
    aim = "" if schedule.objective in (None, schedule.criterion) else f", objective {schedule.objective}"
    made = "" if schedule.seed is None else f", seed {schedule.seed}"
    say(f"{law}{many(schedule.steps, 'step')} of {schedule.solver} by {schedule.criterion}{aim}{made}", console)
    console.print()
    rows = range(schedule.steps)
    if len(rows) > ROWS:
        rows = np.unique(np.linspace(0, schedule.steps - 1, ROWS).round().astype(int)).tolist()
    titles = ["step", "sigma from", "to"] + ["predicted error", "share"] * (schedule.predicted_error is not None)
    table: list[list[str]] = []
    for k in rows:
        cells = [str(k + 1), scale(schedule.sigmas[k]), scale(schedule.sigmas[k + 1])]
        if schedule.predicted_error is not None and schedule.end_error is not None:
            part = schedule.predicted_error[k]
            cells += [scale(part), f"{round(100 * part / schedule.end_error)}%" if schedule.end_error > 0 else "-"]
        table.append(cells)
    columns = [Column(title, list(cells)) for title, cells in zip(titles, zip(*table, strict=True), strict=True)]
    print_tables(columns, [None] * len(table), console)
    if len(rows) < schedule.steps:
        console.print(f"{len(rows)} of {schedule.steps} steps shown.")
    console.print(_account(schedule, seconds), markup=False)


def _account(schedule: Schedule, seconds: float | None) -> str:
    end = schedule.end_error
    error = "No prediction of the error" if end is None else f"Predicted end error {scale(end)}"
    error += "" if end is None or schedule.end_error_se is None else f" ± {scale(schedule.end_error_se)}"
    if schedule.predicted_objective is not None and schedule.objective is not None:
        error += f", {VALUES.get(schedule.objective, schedule.objective)} {scale(schedule.predicted_objective)}"
        doubt = schedule.predicted_objective_se
        error += "" if doubt is None else f" ± {scale(doubt)}"
    text = f"{error}, with {many(schedule.evaluations_per_sample, 'evaluation')} of the denoiser per sample"
    spent = [] if schedule.evaluations is None else [f"{many(schedule.evaluations, 'evaluation')} in all"]
    spent += [] if seconds is None else [f"{seconds:.1f} s"]
    return f"{text}; planning took {' and '.join(spent)}." if spent else f"{text}."


def print_comparison(comparison: xr.Dataset, console: Console | None = None) -> None:
    """Print for each solver a table of criteria by measures and steps, and what they come to."""
    console = console or stdout()
    about = comparison.attrs
    say(
        f"{about['law']}: {many(int(about['dim']), 'dimension')}, {int(about['n']):,} samples of each grid, sigma "
        f"from {scale(about['sigma_max'])} to {scale(about['sigma_min'])}, {int(about['pilots']):,} pilots, "
        f"seed {int(about['seed'])}",
        console,
    )
    console.print(CAPTION.format(method=about["w2_method"]), markup=False)
    for solver in comparison["solver"].to_numpy():
        part = comparison.sel(solver=solver)
        calls = [many(int(count), "evaluation") for count in part["evaluations"].to_numpy()]
        listed = ", ".join(
            f"{many(int(k), 'step')}: {call}" for k, call in zip(part["steps"].to_numpy(), calls, strict=True)
        )
        say(f"\n{solver} ({listed})\n", console)
        names = Column("criterion", [str(name) for name in part["criterion"].to_numpy()])
        ends, laws = _columns(part, "rms") + _columns(part, "median"), _columns(part, "w2")
        fits = len(lay_out([names, *ends, *laws], console.width)) == 1
        styles = ["bold" if name == "error" else None for name in names.plain]
        for columns in [ends + laws] if fits else [ends, laws]:
            print_tables([names, *columns], styles, console, left=1)
    for text in sentences(comparison):
        console.print(text, markup=False)


def _columns(part: xr.Dataset, name: str) -> list[Column]:
    """A measure of one solver for each number of steps, if the solver has it."""
    columns: list[Column] = []
    for steps in part["steps"].to_numpy():
        values, errors = (part[key].sel(steps=steps).to_numpy() for key in (name, f"{name}_se"))
        if not np.isnan(values).all():
            values = rounded(values)[0]
            cells = zip(values, with_errors(values, errors)[1], strict=True)
            least = np.nanmin(values)
            shown = ["-" if math.isnan(value) else f"{cell}{'*' if value == least else ' '}" for value, cell in cells]
            columns.append(Column(f"{MEASURES[name]} {steps}", shown))
    return columns


def sentences(comparison: xr.Dataset) -> list[str]:
    """How `error` does by RMS against the schedules made by hand, and how near its prediction comes."""
    lines: list[str] = []
    found = against_hand(comparison)
    if found is not None:
        text = (
            "By RMS, error is as good as the best schedule made by hand, or within two standard errors, in "
            f"{found.good} of {many(found.cells, 'cell')}; in the geometric mean, the best by hand of each leaves "
            f"{found.best:.2f} times its error"
        )
        lines.append(text + ("." if math.isnan(found.karras) else f", karras {found.karras:.2f} times."))
    ratio = predicted(comparison)
    if ratio is not None:
        lines.append(
            f"Predicted over measured RMS: {scale(ratio.median)} in the median, {scale(ratio.low)} to "
            f"{scale(ratio.high)} in all."
        )
    reference, error = (float(comparison[name]) for name in ("w2_reference", "w2_reference_se"))
    if math.isfinite(reference):
        lines.append(f"The reference end points lie at W2 = {scale(reference)} ± {scale(error, 2)} from the law.")
    return lines
