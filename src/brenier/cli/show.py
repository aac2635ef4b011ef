"""`brenier show`: a saved profile or chain once more, as tables, sentences and a figure."""

from pathlib import Path
from typing import Annotated

import typer


def run_show(
    saved: Annotated[Path, typer.Argument(metavar="FILE", help="What `brenier probe -o` or `brenier chain -o` saved.")],
    figure: Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a figure that exists.")] = False,
) -> None:
    """Print a saved profile or chain; draw it with --figure."""
    from brenier.cli.outputs import check_outputs, kind, read_data, write_outputs

    check_outputs(None, figure, force)
    data = read_data(saved)
    write_outputs(data, None, figure, force)
    if kind(data) == "chain":
        from brenier.cli.chain_report import print_chain

        print_chain(data)
    else:
        from brenier.cli.report import print_report

        print_report(data)
