"""`brenier difficulty`: which points are hard, and how far that tells their error, as tables, a file and a figure."""

from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_difficulty(
    law: options.LawName,
    samples: Annotated[
        str | None, typer.Option(metavar="FILE", help="Points to ask about (default: the sampler's own).")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="The same: data, near to one another and not to LAW's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler (default: 5).")] = None,
    solver: Annotated[
        str | None, typer.Option(help="Sampler that draws no noise on the way (default: dpmpp-2m).")
    ] = None,
    criterion: Annotated[str | None, typer.Option(help="How the steps are placed (default: error).")] = None,
    schedule: Annotated[Path | None, typer.Option(metavar="FILE", help="Or the plan, of `brenier plan -o`.")] = None,
    n: Annotated[int, typer.Option("--number", "-n", help="How many points, where they are drawn.")] = 384,
    sigma: Annotated[
        float | None,
        typer.Option(metavar="S", help="Level to noise given points to (default: where they differ most)."),
    ] = None,
    copies: Annotated[int, typer.Option(help="Noises of each given point.")] = 8,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Measure the error, too.")] = True,
    snr: Annotated[
        str | None,
        typer.Option(metavar="R,R,...", help="SNRs to show what is undecided at (default: each point's hardest)."),
    ] = None,
    components: Annotated[int, typer.Option(help="Principal components of the posterior to find.")] = 3,
    shown: Annotated[int, typer.Option(help="Of so many of the hardest points, and of the easiest.")] = 8,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    output: options.Dataset = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Say which points of LAW are hard: those that a sampler makes of noise, or those in a file."""
    from brenier import difficulty
    from brenier.cli.numbers import read_numbers
    from brenier.cli.outputs import check_outputs, finish, given_schedule

    check_outputs(output, figure, force)
    views = None if snr is None else read_numbers(snr, "--snr")
    files = options.Files(reading, law, samples, data, device=device, dtype=dtype)
    found = difficulty(
        options.open_law(files.open(law), None, device, dtype),
        files.open(samples),
        data=files.open(data),
        steps=steps,
        solver=solver,
        schedule=given_schedule(schedule, criterion),
        n=n,
        sigma=sigma,
        copies=copies,
        check=check,
        snrs=views,
        components=components,
        shown=shown,
        seed=seed,
        progress=not quiet,
    )
    finish(found, output, figure, force=force, quiet=quiet, json=json)
