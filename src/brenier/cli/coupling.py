"""`brenier coupling`: what the pairs of a map are like, beside independent ones and those of minibatch plans."""

from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options
from brenier.core.reading.options import Reading


@options.reads_files
def run_coupling(
    transport: Annotated[Path, typer.Argument(metavar="MAP", help="What `brenier transport` saved.")],
    output: options.Dataset = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="A class for each point, to test for skew (default: the map's).")
    ] = None,
    conditions: Annotated[
        str | None, typer.Option(metavar="FILE", help="Real numbers for each point, to test for skew by instead.")
    ] = None,
    batches: Annotated[
        str, typer.Option(metavar="K,K,...", help="Noises and data of minibatch plans.")
    ] = "16,64,256,1024",
    samples: Annotated[int, typer.Option(help="Fresh draws that the map is judged by.")] = 2**18,
    seed: options.Seed = 0,
    device: options.Device = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Measure the coupling that MAP makes: its marginals, its cost, its straightness, and whether it is skewed."""
    from brenier.cli.numbers import read_numbers
    from brenier.cli.outputs import check_outputs, finish
    from brenier.core.checks import whole_number
    from brenier.core.reading.read import read_array, read_labels

    check_outputs(output, figure, force)
    sizes = [int(k) if k % 1 == 0 else whole_number(k, "--batches", 2) for k in read_numbers(batches, "--batches")]
    if labels is not None and conditions is not None:
        raise ValueError("--labels and --conditions are both what noise may depend on: give one of them")
    whole_number(samples, "--samples", 512)
    files = options.Files(reading, labels, conditions, device=device)
    told = None if conditions is None else read_array(conditions, files.values(conditions))
    told = told if labels is None else read_labels(labels, files.values(labels))

    from brenier import coupling_report
    from brenier.core.points import as_labels
    from brenier.transport import SemiDiscrete

    mapped = SemiDiscrete.load(transport, device=device)
    if labels is not None:
        told = as_labels(told, len(mapped.points))
    found = coupling_report(
        mapped,
        told,
        batches=sizes,
        samples=samples,
        seed=seed,
        progress=not quiet,
    )
    finish(found, output, figure, force=force, quiet=quiet, json=json)
