"""`brenier compare`: what every way to place the steps leaves of the error, as tables, sentences, a file, a figure."""

import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer


def run_compare(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A law, data, images or a network: see `brenier targets`.")
    ],
    steps: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of steps.")] = "5,10,20",
    solvers: Annotated[str, typer.Option(metavar="NAME,NAME,...", help="Samplers.")] = "euler,heun,dpmpp-2m",
    criteria: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="Ways to place the steps (default: all).")
    ] = None,
    sigma_max: Annotated[float | None, typer.Option(help="Noise level to start from (default: from the law).")] = None,
    sigma_min: Annotated[float | None, typer.Option(help="Noise level to end at (default: 0).")] = None,
    n: Annotated[int, typer.Option("--number", "-n", help="Samples of each grid.")] = 1024,
    pilots: Annotated[int, typer.Option(help="Trajectories that plans are made from.")] = 256,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Take these data for a network's own law, not its samples.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the comparison (.nc, netCDF).")] = None,
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Sample TARGET with the steps placed in every way, and hold the results against each other."""
    from brenier.cli.numbers import read_numbers
    from brenier.cli.outputs import check_outputs, write_outputs

    check_outputs(output, figure, force)
    counts = read_numbers(steps, "--steps")

    import torch

    from brenier.catalog import load_target
    from brenier.reports.schedule import print_comparison
    from brenier.sampling.comparison import compare

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        law = load_target(target, dtype=None if dtype is None else getattr(torch, dtype), device=device, data=data)
        comparison = compare(
            law,
            counts,
            _names(solvers),
            None if criteria is None else _names(criteria),
            sigma_max,
            sigma_min,
            n,
            pilots,
            seed,
            progress=not quiet,
        )
        write_outputs(comparison, output, figure, force)
        if not quiet:
            print_comparison(comparison)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
