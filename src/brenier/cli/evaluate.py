"""`brenier evaluate`: samples held against data, as a table, sentences, a file, a figure."""

import json
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer


def run_evaluate(
    samples: Annotated[
        str, typer.Argument(metavar="SAMPLES", help="A file of samples: see `brenier targets` for the formats.")
    ],
    reference: Annotated[
        str, typer.Option(metavar="DATA", help="What to judge them against, best held out: data, images or a law.")
    ],
    train: Annotated[
        str | None, typer.Option(metavar="DATA", help="What the sampler was trained on (default: --reference).")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Classes of the reference's points: fits a classifier to them.")
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save what was found (.nc, or .json).")] = None,
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Judge SAMPLES: how far from the data, how precise, how complete, how mixed, how much copied."""
    from brenier.cli.outputs import check_outputs
    from brenier.core.reading import read_array
    from brenier.core.writing import atomic_paths, write_dataset

    check_outputs(output, figure, force, (".nc", ".json"))
    classes = None if labels is None else read_array(labels)

    from brenier.figures import plot_evaluation, save_figure
    from brenier.metrics.evaluation import evaluate, to_table
    from brenier.reports.evaluation import print_evaluation

    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        found = evaluate(
            samples, reference, train, classifier, classes, features, neighbours, threshold, seed, progress=not quiet
        )
        wanted = [path for path in (output, figure) if path is not None]
        with atomic_paths(*wanted, force=force) as drafts:
            if output is not None and output.suffix.lower() == ".nc":
                write_dataset(found, drafts[0])
            elif output is not None:
                text = json.dumps(to_table(found), indent=2, allow_nan=False) + "\n"
                drafts[0].write_text(text, encoding="utf-8")
            if figure is not None:
                save_figure(plot_evaluation(found), drafts[-1])
        if not quiet:
            print_evaluation(found)
