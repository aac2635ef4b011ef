"""`brenier report`: results of any kinds on one page, which a browser opens without a network."""

from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options


def run_report(
    saved: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="What `-o` of probe, chain, plan, ..., transport or flow saved."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Save the page (.html).")],
    title: Annotated[str | None, typer.Option(help="Of the page (default: from the names of the files).")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    force: options.Force = False,
) -> None:
    """Make one page of results: sentences, numbers and curves that a slider moves along the SNR; profiles together."""
    from brenier import report
    from brenier.cli.outputs import labels, read_result
    from brenier.core.writing import check_output
    from brenier.page.report import SUFFIXES

    check_output(output, SUFFIXES, force)
    found = dict(zip(labels(saved), [read_result(path) for path in saved], strict=True))
    report(found, title=title).save(output, force=force)
    if show:
        import webbrowser

        if not webbrowser.open(output.absolute().as_uri()):
            raise ValueError(f"no browser was found to open {str(output)!r} in, which is written")
