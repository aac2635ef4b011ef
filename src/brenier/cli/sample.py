"""`brenier sample`: points of a law or a network by a few steps of a sampler, as an array in a file."""

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from brenier.laws.base import Target
    from brenier.sampling.sample import Samples

ENOUGH = 256  # samples from which their distance to the law is worth saying


def run_sample(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A law, data, images or a network: see `brenier targets`.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Save the samples (.npy), (n, *shape of a point).")],
    n: Annotated[int, typer.Option("--number", "-n", help="How many.")] = 1000,
    schedule: Annotated[
        Path | None, typer.Option(metavar="SCHEDULE", help="Noise levels to visit: what `brenier plan -o` saved.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, where they are to be planned (default: 10).")] = None,
    solver: Annotated[str | None, typer.Option(help="Sampler (default: the schedule's, or dpmpp-2m).")] = None,
    criterion: Annotated[str | None, typer.Option(help="How to plan: see `brenier plan` (default: error).")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Take these data for a network's own law, not its samples.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    batch: Annotated[int | None, typer.Option(help="Points per call of the denoiser.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
    dtype: Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Draw samples of TARGET by a few steps, at the noise levels of a schedule or at new ones."""
    from brenier.core.checks import whole_number
    from brenier.core.writing import atomic_path, check_output

    check_output(output, (".npy",), force)
    whole_number(n, "-n", 1)
    if schedule is not None and criterion is not None:
        raise ValueError("--criterion is how to plan, and --schedule is a plan: give one of them")

    import numpy as np
    import torch

    from brenier.catalog import load_target
    from brenier.sampling.sample import sample
    from brenier.sampling.schedule import Schedule

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        grid = criterion if schedule is None else Schedule.from_json(schedule)
        law = load_target(target, dtype=None if dtype is None else getattr(torch, dtype), device=device, data=data)
        begun = time.monotonic()
        found = sample(law, n, steps, solver, grid, seed, batch=batch, progress=not quiet)
        seconds = time.monotonic() - begun
        with atomic_path(output, force) as draft:
            np.save(draft, found.events.cpu().numpy())
        if not quiet:
            _report(found, law, seed, seconds)


def _report(samples: "Samples", law: "Target", seed: int, seconds: float) -> None:
    """Print what was drawn, what it took and, where the law can be drawn from, how far from it the samples are."""
    from brenier.distances.wasserstein import w2
    from brenier.networks.network import NetworkTarget
    from brenier.reports.console import stdout
    from brenier.reports.schedule import many
    from brenier.reports.tables import scale

    console = stdout()
    n = len(samples.points)
    shape = " x ".join(str(side) for side in samples.event_shape)
    console.print(
        f"{law.name}: {many(n, 'sample')} of shape {shape} by {many(samples.schedule.steps, 'step')} of "
        f"{samples.solver}, "
        f"seed {seed}: {many(samples.evaluations, 'evaluation')} of the denoiser each, {seconds:.1f} s in all.",
        markup=False,
        soft_wrap=True,
    )
    if n >= ENOUGH and not (isinstance(law, NetworkTarget) and law.data is None):
        found = w2(samples.points, law, seed=seed)
        data = f"the data {law.data.name}" if isinstance(law, NetworkTarget) and law.data is not None else "the law"
        console.print(f"W2 to {data}: {scale(found.value)} ± {scale(found.value_se, 2)}.", markup=False)
