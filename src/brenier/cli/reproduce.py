"""`brenier reproduce`: the figures of [LDK24] and the atlas of laws, each with the numbers behind it."""

from pathlib import Path
from typing import Annotated

import typer

from brenier.cli import options


def run_reproduce(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write them to, made if need be.")
    ],
    figures: Annotated[
        list[str] | None, typer.Argument(metavar="FIGURE", help="fig1 to fig11, all of them (the default), or atlas.")
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw the figures of arXiv:2411.01629, or an atlas of laws, as .png and .pdf, with the numbers as .nc (netCDF)."""
    from brenier.core.work import progress_bar
    from brenier.core.writing import atomic_paths, check_output, write_dataset
    from brenier.figures import save_figure
    from brenier.references import paper

    names = paper.check_names(figures or [])
    if output.is_file():
        raise ValueError(f"{str(output)!r} is a file: give a folder")
    made = output.parent.is_dir() and not output.exists()
    if made:
        output.mkdir()
    paths = [output / f"{name}{suffix}" for name in names for suffix in (".png", ".pdf", ".nc")]
    for path in paths:
        check_output(path, force=force)

    try:
        # All or none: what was asked for is there as a whole, or the folder is as it was.
        with (
            progress_bar("drawing figures", not quiet) as advance,
            atomic_paths(*paths, force=force) as new,
        ):
            for k, name in enumerate(names):
                png, pdf, numbers = new[3 * k : 3 * k + 3]
                data = paper.numbers(name)
                write_dataset(data, numbers)
                figure = paper.draw(name, data)
                save_figure(figure, png)
                save_figure(figure, pdf)
                advance(1 / len(names))
    finally:
        if made and not any(output.iterdir()):
            output.rmdir()
    if not quiet:
        for name in names:
            typer.echo(f"{output / name}: .png, .pdf, .nc: {paper.FIGURES[name].caption}")
