"""`brenier audit`: which noise levels a pipeline really visits, as a table, sentences, a file and a figure."""

from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options


def run_audit(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Folder of a pipeline of diffusers.")],
    schedule: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `brenier plan -o` saved: levels that it should visit.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps that it is asked for, without a schedule.")] = 10,
    output: options.Dataset = None,
    figure: options.Figure = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read off which noise levels PIPELINE visits, and from which noise; status 1 where something is off."""
    from brenier import audit
    from brenier.cli.outputs import check_outputs, finish
    from brenier.sampling.audit import findings

    check_outputs(output, figure, force)
    found = audit(pipeline, schedule, steps=steps)
    finish(found, output, figure, force=force, quiet=quiet, json=json)
    if findings(found):
        raise typer.Exit(1)
