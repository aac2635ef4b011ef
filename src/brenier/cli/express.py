"""`brenier express`: samples by one transport map to noisy data and a few steps from there."""

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import xarray as xr

    from brenier.sampling.expressway import Expressway
    from brenier.sampling.sample import Samples

FRESH = 2**18  # draws that the transport is judged by


def run_express(
    data: Annotated[str, typer.Argument(metavar="DATA", help="The points that are diffused: see `brenier targets`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Save the samples (.npy), (n, *shape of a point).")],
    network: Annotated[
        str | None, typer.Option(metavar="TARGET", help="Network or law to follow (default: DATA, which copies them).")
    ] = None,
    n: Annotated[int, typer.Option("--number", "-n", help="How many.")] = 1000,
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
    minutes: Annotated[float | None, typer.Option(help="After which its fit stops, too.")] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="MAP", help="A saved map to start the fit from: its own goes on.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--map", metavar="MAP", help="Save the transport (.nc).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    batch: Annotated[int | None, typer.Option(help="Points per call of the denoiser.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Sample by transport from noise to DATA diffused to one noise level, and a few steps of a network from there."""
    from brenier.core.checks import whole_number
    from brenier.core.writing import atomic_paths, check_output, write_dataset

    check_output(output, (".npy",), force)
    if save is not None:
        check_output(save, (".nc",), force)
    whole_number(n, "-n", 1)
    where = _handover(handover)
    if schedule is not None and criterion is not None:
        raise ValueError("--criterion is how to plan, and --schedule is a plan: give one of them")
    if assignment == "random" and (save, start) != (None, None):
        raise ValueError("--assignment random fits no transport: leave out --map and --start")
    if assignment == "monge-ampere" and start is not None:
        raise ValueError("--start is a transport, and --assignment monge-ampere fits a flow: leave one of them out")

    import numpy as np
    import torch

    from brenier.sampling.expressway import Expressway
    from brenier.sampling.schedule import Schedule
    from brenier.transport import SemiDiscrete
    from brenier.transport.mongeampere.portrait import portrait

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        grid = criterion if schedule is None else Schedule.from_json(schedule)
        known = None if start is None else SemiDiscrete.load(start)
        if network is None:
            warnings.warn(
                f"without --network, followed is the denoiser of {data} itself, which copies it", stacklevel=1
            )
        begun = time.monotonic()
        way = Expressway(
            network,
            data,
            where,
            steps,
            solver,
            fresh_noise=fresh_noise,
            assignment=assignment,
            schedule=grid,
            seed=seed,
            device=device,
            dtype=None if dtype is None else getattr(torch, dtype),
        )
        way.fit(tolerance, minutes, seed, known, progress=not quiet)
        found = way.sample(n, seed, batch, progress=not quiet)
        seconds = time.monotonic() - begun
        flow = None if way.flow is None else portrait(way.flow, seed)
        wanted = [output] if save is None else [output, save]
        with atomic_paths(*wanted, force=force) as drafts:
            np.save(drafts[0], found.events.cpu().numpy())
            if save is not None and way.transport is not None:
                way.transport.save(drafts[1])
            if save is not None and flow is not None:
                write_dataset(flow, drafts[1])
        if not quiet:
            _report(way, found, flow, seed, seconds)


def _handover(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--handover {text!r}: give auto, or an SNR as a number") from None


def _report(way: "Expressway", samples: "Samples", flow: "xr.Dataset | None", seed: int, seconds: float) -> None:
    """Print what was drawn, where the map hands over and why, how good it is, and how much is copied."""
    from brenier.reports.console import stdout
    from brenier.reports.schedule import many
    from brenier.reports.tables import scale

    console = stdout()
    shape = " x ".join(str(side) for side in samples.event_shape)
    whole = f"{many(len(samples.points), 'sample')} of shape {shape}, seed {seed}, {seconds:.1f} s in all"
    steps = f"{many(samples.schedule.steps, 'step')} of {samples.solver} by {samples.schedule.criterion}"
    assert way.handover is not None
    lines = [
        f"{way.target.name} from {many(len(way.data), 'point')} of {way.data.name}: {whole}.",
        f"Handover at SNR {scale(way.handover.snr)} (sigma {scale(way.handover.sigma)}): {way.handover.reason}.",
        _transport(way) if flow is None else _flow(flow),
        f"Then {steps}: {many(samples.evaluations, 'evaluation')} of the denoiser each; the map takes none.",
        *_copies(way, samples),
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _transport(way: "Expressway") -> str:
    """How good the transport is, on fresh draws."""
    from brenier.reports.schedule import many
    from brenier.reports.tables import scale

    if way.transport is None or way.transport.result is None:
        return "Latents drawn at random: no transport."
    fit = way.transport.result
    if fit.stopped == "exact":
        return "Transport: exact."
    found = way.transport.marginal_error(FRESH)
    return (
        f"Transport: cells are off the weights by a total variation of {scale(found.excess, 2)} ± "
        f"{scale(found.excess_se, 1)} beyond sampling noise; the fit ended by {fit.stopped} after {fit.seconds:.1f} s "
        f"and {many(fit.samples, 'draw')}."
    )


def _flow(flow: "xr.Dataset") -> str:
    """How good the map of a Monge-Ampère flow is, on fresh draws."""
    from brenier.reports.flow import ENDS
    from brenier.reports.schedule import many
    from brenier.reports.tables import with_error

    about = flow.attrs
    return (
        f"Monge-Ampère map: W2 to the latents {with_error(about, 'w2')}, floor {with_error(about, 'floor')}; the flow "
        f"took {many(int(about['steps']), 'step')} and ended {ENDS[about['stopped']]}."
    )


def _copies(way: "Expressway", samples: "Samples") -> list[str]:
    """Whether samples lie nearer to the data than data do; nothing for fewer than three different data."""
    import math

    from brenier.metrics import memorisation

    if len(way.data.data.unique(dim=0)) < 3:
        return []
    memory = memorisation(samples.points, way.data.data)
    found, control = memory.samples.shares(), memory.control.shares()["closer"]
    slack = 2 * math.hypot(found["closer"].value_se, control.value_se)
    verdict = "no more, within the errors" if found["closer"].value <= control.value + slack else "more: copies"
    text = (
        f"Copies: {found['closer'].value:.1%} of the samples are nearer to a datum than that is to others, of the data "
        f"themselves {control.value:.1%}: {verdict}. {found['copied'].value:.1%} lie within a third of the way to the "
        "second nearest."
    )
    return [text]
