"""`brenier train`: a network for data or for a law, to denoise or as a flow, as a folder."""

import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_train(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data file, a folder of images, a law.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the network; it is made.")],
    steps: Annotated[int | None, typer.Option(help="Updates of the weights (default: 10000).")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; plans the steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Points per step (default: 1024; images 64).")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the network for vectors (default: 128).")] = None,
    depth: Annotated[int | None, typer.Option(help="Its blocks (4), or layers per size of an image (2).")] = None,
    channels: Annotated[
        str | None, typer.Option(metavar="C,C,...", help="Channels of the U-Net for images (default: 64,128,128).")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of Adam, after warming up (default: 0.005; images 0.0002).")
    ] = None,
    decay: Annotated[
        Literal["cosine", "constant"] | None, typer.Option(help="Of the learning rate (default: cosine).")
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient (default: 1).")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the average of the weights (default: 0.999).")] = None,
    noise: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="A profile (.nc): train more where it is hard.")
    ] = None,
    objective: Annotated[
        Literal["denoising", "flow"] | None, typer.Option(help="To denoise, or to carry noise to data.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="independent|minibatch|FILE",
            help="Of a flow: noise with data; or a map (.nc), or its pairs (.npz) (default: independent).",
        ),
    ] = None,
    plan_size: Annotated[
        int | None, typer.Option(help="Noises to an exact plan of minibatch pairs (default: 128, or --batch).")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="A class for each point, which the network is told.")
    ] = None,
    drop_labels: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of points whose label it is not told: then it can be guided.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random numbers (default: 0).")] = None,
    device: options.Device = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"] | None, typer.Option(help="Auto: bfloat16 on GPUs that have it.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints (default: a minute).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Train a network on DATA, to denoise or as a flow. What `--resume` is not told, it takes from the run before."""
    sizes = None if channels is None else tuple(_whole_number(field) for field in channels.split(","))

    from brenier import train
    from brenier.cli.outputs import print_json
    from brenier.core.reading.read import read_labels
    from brenier.core.work import enough_memory
    from brenier.reports.training import numbers_of, show_training

    files = options.Files(reading, data, device=device)
    classes = None if labels is None else read_labels(labels, files.values(labels))
    begun = time.monotonic()
    seen: list[int] = [0, 0]

    def count(step: int, _: float) -> None:
        seen[:] = seen[0] + 1, step

    try:
        with enough_memory("a smaller --batch, --width or --channels"):
            train(
                files.open(data),
                output,
                steps=steps,
                minutes=minutes,
                batch=batch,
                width=width,
                depth=depth,
                channels=sizes,
                learning_rate=learning_rate,
                decay=decay,
                clip=clip,
                ema=ema,
                noise=noise,
                objective=objective,
                pairs=_pairs(pairs),
                plan_size=plan_size,
                labels=classes,
                drop_labels=drop_labels,
                seed=seed,
                device=device,
                precision=precision,
                checkpoint_every=checkpoint_every,
                resume=resume,
                force=force,
                progress=not quiet,
                on_step=count,
            )
    except KeyboardInterrupt:
        if not quiet and seen[0]:
            typer.echo(f"stopped at step {seen[1]}: go on with --resume", err=True)
        raise
    seconds = time.monotonic() - begun
    if os.environ.get("RANK", "0") != "0":  # of several processes, one reports
        return
    if json:
        print_json(numbers_of(output, steps=seen[0], seconds=seconds))
    elif not quiet:
        show_training(output, steps=seen[0], seconds=seconds)


def _pairs(named: str | None) -> Any:
    """The coupling of this name, or the map or the pairs in this file."""
    if named is None or named in ("independent", "minibatch"):
        return named

    from brenier import RecordedPairs, SemiDiscrete

    return RecordedPairs(named) if Path(named).suffix == ".npz" else SemiDiscrete.load(named)


def _whole_number(field: str) -> int:
    try:
        return int(field)
    except ValueError:
        raise ValueError(f"--channels: {field!r} is not a whole number: separate them by commas") from None
