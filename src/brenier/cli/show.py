"""`brenier show`: what was saved once more, as tables, sentences and a figure."""

from pathlib import Path
from typing import Annotated

import typer


def run_show(
    saved: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="What `-o` of probe, chain, ..., transport or flow saved."),
    ],
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a figure that exists.")] = False,
) -> None:
    """Print what was saved, draw it with --figure; several profiles are laid over each other in one figure."""
    from brenier.cli.outputs import (
        SCHEDULE_SUFFIXES,
        check_outputs,
        print_data,
        read_data,
        write_comparison,
        write_outputs,
        write_schedule,
    )

    check_outputs(None, figure, force)
    schedules = [path for path in saved if path.suffix.lower() in SCHEDULE_SUFFIXES]
    if schedules and len(saved) > 1:
        raise ValueError(f"{str(schedules[0])!r} is no profile but a schedule: only profiles are shown together")
    if schedules:
        from brenier.reports.schedule import print_schedule
        from brenier.sampling.schedule import Schedule

        schedule = Schedule.from_json(saved[0])
        write_schedule(schedule, None, None, figure, force)
        print_schedule(schedule)
        return
    found = [read_data(path) for path in saved]
    if len(found) == 1:
        write_outputs(found[0], None, figure, force)
        print_data(found[0])
        return
    for path, data in zip(saved, found, strict=True):
        kind = data.attrs["kind"]
        if kind != "profile":
            raise ValueError(f"{str(path)!r} holds no profile but a {kind}: only profiles are shown together")
    if figure is not None:
        stems = [path.stem for path in saved]
        labels = stems if len(set(stems)) == len(stems) else [str(path) for path in saved]
        if len(set(labels)) < len(labels):
            raise ValueError(f"{max(labels, key=labels.count)!r} is given twice: give each file once")
        write_comparison(dict(zip(labels, found, strict=True)), figure, force)
    for data in found:
        print_data(data)
