"""`brenier plan`: where a sampler should put its steps, as a table, a sentence, a file and a figure."""

import time
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer


def run_plan(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A law, data, images or a network: see `brenier targets`.")
    ],
    steps: Annotated[int, typer.Option(help="Steps of the sampler: intervals of the grid.")] = 10,
    solver: Annotated[str, typer.Option(help="euler, heun, dpmpp-2m, dpmpp-2m-sde, ...")] = "dpmpp-2m",
    criterion: Annotated[
        str, typer.Option(help="error, curvature, information, kl, karras, log-snr, cosine, ...")
    ] = "error",
    sigma_max: Annotated[float | None, typer.Option(help="Noise level to start from (default: from the law).")] = None,
    sigma_min: Annotated[float | None, typer.Option(help="Noise level to end at (default: 0).")] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="PROFILE", help="What `brenier probe -o` saved, instead of a new probe.")
    ] = None,
    pilots: Annotated[int, typer.Option(help="Trajectories that the error is predicted from.")] = 256,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Take these data for a network's own law, not its samples.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the schedule (.json).")] = None,
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Place the steps of a sampler of TARGET where they leave the least error."""
    from brenier.cli.outputs import SCHEDULE_SUFFIXES, check_outputs, write_schedule
    from brenier.core import records

    check_outputs(output, figure, force, SCHEDULE_SUFFIXES)
    known = None if profile is None else records.read(profile, "profile")

    import torch

    from brenier.catalog import load_target
    from brenier.reports.schedule import print_schedule
    from brenier.sampling.planning import plan

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        law = load_target(target, dtype=None if dtype is None else getattr(torch, dtype), device=device, data=data)
        begun = time.monotonic()
        schedule = plan(law, steps, solver, criterion, sigma_max, sigma_min, known, pilots, seed, progress=not quiet)
        seconds = time.monotonic() - begun
        write_schedule(schedule, known, output, figure, force)
        if not quiet:
            print_schedule(schedule, seconds)
