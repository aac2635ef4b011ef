"""`brenier evaluate`: samples held against data, as a table, sentences, a file, a figure."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_evaluate(
    samples: Annotated[
        str, typer.Argument(metavar="SAMPLES", help="A file of samples: see `brenier laws` for the formats.")
    ],
    reference: Annotated[
        str, typer.Option(metavar="DATA", help="What to judge them against, best held out: data, images or a law.")
    ],
    train: Annotated[
        str | None, typer.Option(metavar="DATA", help="What the sampler was trained on (default: --reference).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Classes of the reference's points, or their images' folder: fits a classifier."
        ),
    ] = None,
    classifier: Annotated[
        Literal["digits"] | None, typer.Option(help="A classifier that comes along (default for digits).")
    ] = None,
    features: Annotated[
        Literal["raw", "pca"], typer.Option(help="What distances and neighbourhoods are measured on.")
    ] = "raw",
    neighbours: Annotated[int, typer.Option("--neighbours", "-k", help="Neighbours in a neighbourhood.")] = 5,
    threshold: Annotated[
        float, typer.Option("--lambda", help="Probability of a second class that makes a mixture.")
    ] = 0.11,
    seed: options.Seed = 0,
    max_memory: options.MaxMemory = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save what was found (.nc, or .json).")] = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Judge SAMPLES: how far from the data, how precise, how complete, how mixed, how much copied."""
    from brenier import evaluate
    from brenier.cli.outputs import check_outputs, finish
    from brenier.core.reading.read import read_labels

    check_outputs(output, figure, force, (".nc", ".json"))
    files = options.Files(reading, reference, samples, train)
    classes = None if labels is None else read_labels(labels, reading)
    shared = next((name for name in (reference, train, samples) if name is not None and options.stays(name)), reference)
    with options.on_cluster(shared, workers, scheduler, "data", quiet=quiet):
        found = evaluate(
            files.open(samples),
            files.open(reference),
            train=files.open(train),
            classifier=classifier,
            labels=classes,
            features=features,
            k=neighbours,
            threshold=threshold,
            seed=seed,
            max_memory=max_memory,
            progress=not quiet,
        )
    finish(found, output, figure, force=force, quiet=quiet, json=json)
