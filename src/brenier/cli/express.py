"""`brenier express`: samples by one transport map to noisy data and a few steps from there."""

import time
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading

FRESH = 2**18  # draws that the transport is judged by


@options.reads_files
def run_express(
    data: Annotated[str, typer.Argument(metavar="DATA", help="The points that are diffused: see `brenier laws`.")],
    output: options.Samples,
    network: Annotated[
        str | None, typer.Option(metavar="LAW", help="Network or law to follow (default: DATA, which copies them).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A class for each point, for a network that is told classes."),
    ] = None,
    n: options.Number = 1000,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler (default: 10).")] = None,
    solver: Annotated[str | None, typer.Option(help="Sampler (default: dpmpp-2m, or the schedule's).")] = None,
    handover: Annotated[
        str, typer.Option(metavar="auto|SNR", help="Where the map hands over to the sampler.")
    ] = "auto",
    schedule: Annotated[
        Path | None, typer.Option(metavar="SCHEDULE", help="Noise levels from the handover on: a saved schedule.")
    ] = None,
    criterion: Annotated[
        str | None, typer.Option(help="How to plan them: see `brenier plan` (default: error).")
    ] = None,
    assignment: Annotated[
        Literal["transport", "random", "monge-ampere"],
        typer.Option(help="Where a sample starts: a latent by transport, or a random one; or what a smooth map makes."),
    ] = "transport",
    fresh_noise: Annotated[
        bool, typer.Option("--fresh-noise", help="Noise the datum of the latent anew for each sample.")
    ] = False,
    tolerance: Annotated[float, typer.Option(help="Total variation that the transport may be off by.")] = 0.02,
    minutes: options.Minutes = None,
    start: Annotated[
        Path | None, typer.Option(metavar="MAP", help="A saved map to start the fit from: its own goes on.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--map", metavar="MAP", help="Save the transport (.nc).")] = None,
    seed: options.Seed = 0,
    batch: options.Batch = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Sample by transport from noise to DATA diffused to one noise level, and a few steps of a network from there."""
    from brenier import Expressway, SemiDiscrete
    from brenier.cli.outputs import given_schedule, write_files, write_points
    from brenier.core.checks import whole_number
    from brenier.core.reading.read import read_labels
    from brenier.core.writing import check_output, write_dataset
    from brenier.metrics.copying import memorisation
    from brenier.reports.expressway import show_expressway
    from brenier.transport.mongeampere.portrait import portrait

    check_output(output, (".npy",), force)
    if save is not None:
        check_output(save, (".nc",), force)
    whole_number(n, "-n", 1)
    where = _handover(handover)
    if assignment == "random" and (save, start) != (None, None):
        raise ValueError("--assignment random fits no transport: leave out --map and --start")
    if assignment == "monge-ampere" and start is not None:
        raise ValueError("--start is a transport, and --assignment monge-ampere fits a flow: leave one of them out")
    grid = given_schedule(schedule, criterion)
    known = None if start is None else SemiDiscrete.load(start)
    if network is None:
        warnings.warn(f"without --network, followed is the denoiser of {data} itself, which copies it", stacklevel=1)
    begun = time.monotonic()
    files = options.Files(reading, data, network, device=device, dtype=dtype)
    classes = None if labels is None else read_labels(labels, files.values(labels))
    way = Expressway(
        files.open(network),
        files.open(data),
        labels=classes,
        handover=where,
        steps=steps,
        solver=solver,
        fresh_noise=fresh_noise,
        assignment=assignment,
        schedule=grid,
        seed=seed,
        device=device,
        dtype=options.torch_dtype(dtype),
    )
    way.fit(tolerance, minutes=minutes, seed=seed, start=known, progress=not quiet)
    found = way.sample(n, seed, batch=batch, progress=not quiet)
    seconds = time.monotonic() - begun
    flow = None if way.flow is None else portrait(way.flow, seed=seed)
    files = ((output, partial(write_points, found.events)),)
    mapped = flow if way.transport is None else way.transport.to_dataset()
    files += () if mapped is None else ((save, partial(write_dataset, mapped)),)
    write_files(*files, force=force)
    if not quiet:
        fitted = None if way.transport is None else way.transport.result
        measured = way.transport is not None and fitted is not None and fitted.stopped != "exact"
        show_expressway(
            way,
            found,
            error=way.transport.marginal_error(FRESH) if way.transport is not None and measured else None,
            flow=flow,
            memory=memorisation(found.points, way.data.data) if len(way.data.data.unique(dim=0)) >= 3 else None,
            seed=seed,
            seconds=seconds,
        )


def _handover(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--handover {text!r}: give auto, or an SNR as a number") from None
