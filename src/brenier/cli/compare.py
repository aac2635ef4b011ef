"""`brenier compare`: what every way to place the steps leaves of the error, as tables, sentences, a file, a figure."""

from typing import Annotated

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_compare(
    law: options.LawName,
    steps: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of steps.")] = "5,10,20",
    solvers: Annotated[str, typer.Option(metavar="NAME,NAME,...", help="Samplers.")] = "euler,heun,dpmpp-2m",
    criteria: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME,...", help="Ways to place the steps (default: all but dmn to score-optimal)."),
    ] = None,
    objective: options.Objective = "error",
    sigma_max: options.SigmaMax = None,
    sigma_min: options.SigmaMin = None,
    n: Annotated[
        int | None,
        typer.Option("--number", "-n", help="Samples of each grid (default: 1024, of a network 128)."),
    ] = None,
    pilots: Annotated[
        int | None,
        typer.Option(help="Trajectories that plans and predictions are made from (default: 256, of a network 64)."),
    ] = None,
    budget: options.Budget = 512,
    data: options.Data = None,
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
    """Sample LAW with the steps placed in every way, and hold the results against each other."""
    from brenier import compare
    from brenier.cli.numbers import read_numbers
    from brenier.cli.outputs import check_outputs, finish

    check_outputs(output, figure, force)
    counts = read_numbers(steps, "--steps")
    comparison = compare(
        options.open_law(law, data, device, dtype, reading),
        counts,
        solvers=_names(solvers),
        criteria=None if criteria is None else _names(criteria),
        objective=objective,
        sigma_max=sigma_max,
        sigma_min=sigma_min,
        n=n,
        pilots=pilots,
        budget=budget,
        seed=seed,
        progress=not quiet,
    )
    finish(comparison, output, figure, force=force, quiet=quiet, json=json)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
