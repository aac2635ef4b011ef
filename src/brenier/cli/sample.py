"""`brenier sample`: points of a law or a network by a few steps of a sampler, as an array in a file."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading

ENOUGH = 256  # samples from which their distance to the law is worth saying


@options.reads_files
def run_sample(
    law: options.LawName,
    output: options.Samples,
    n: options.Number = 1000,
    schedule: Annotated[
        Path | None, typer.Option(metavar="SCHEDULE", help="Noise levels to visit: what `brenier plan -o` saved.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, where they are to be planned (default: 10).")] = None,
    solver: Annotated[str | None, typer.Option(help="Sampler (default: the schedule's, or dpmpp-2m).")] = None,
    times: Annotated[
        str | None, typer.Option(metavar="T,T,...", help="Times of a flow, from 0 to 1, instead of even steps.")
    ] = None,
    criterion: Annotated[str | None, typer.Option(help="How to plan: see `brenier plan` (default: error).")] = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    batch: options.Batch = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Draw samples of LAW by a few steps, at the noise levels of a schedule or at new ones."""
    from brenier import sample
    from brenier.cli.numbers import read_numbers
    from brenier.cli.outputs import given_schedule, write_files, write_points
    from brenier.core.checks import whole_number
    from brenier.core.writing import check_output
    from brenier.distances.wasserstein import w2
    from brenier.reports.samples import show_samples
    from brenier.sampling.sample import straightness_of

    check_output(output, (".npy",), force)
    whole_number(n, "-n", 1)
    grid = given_schedule(schedule, criterion)
    visited = None if times is None else read_numbers(times, "--times")
    with options.on_cluster(law, workers, scheduler, "networks", quiet=quiet):
        source = options.open_law(law, data, device, dtype, reading)
        begun = time.monotonic()
        found = sample(
            source,
            n,
            steps=steps,
            solver=solver,
            schedule=grid,
            times=visited,
            seed=seed,
            batch=batch,
            progress=not quiet,
        )
        seconds = time.monotonic() - begun
        write_files((output, partial(write_points, found.events)), force=force)
        if not quiet:
            known = n >= ENOUGH and source.drawn_from is not None
            distance = w2(found.points, source, seed=seed) if known else None
            straight = None if found.times is None else straightness_of(source, seed=seed)
            show_samples(found, source, distance, straight, seed=seed, seconds=seconds)
