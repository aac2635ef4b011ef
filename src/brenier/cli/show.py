"""`brenier show`: a saved profile once more, as a table, a sentence and a figure."""

from pathlib import Path
from typing import Annotated

import typer


def run_show(
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="A profile saved by `brenier probe -o`.")],
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a figure that exists.")] = False,
) -> None:
    """Print the table and the sentence of a saved profile; draw it with --figure."""
    from brenier.cli.outputs import check_outputs, read_profile, write_outputs
    from brenier.cli.report import print_report

    check_outputs(None, figure, force)
    content = read_profile(profile)
    write_outputs(content, None, figure, force)
    print_report(content)
