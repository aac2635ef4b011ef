"""`brenier show`: what was saved once more, as tables, sentences, a figure and a tidy table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from brenier.cli import options

if TYPE_CHECKING:
    import xarray as xr


def run_show(
    saved: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="What `-o` of probe, chain, plan, ..., transport or flow saved."),
    ],
    figure: options.Figure = None,
    table: Annotated[Path | None, typer.Option(help="Save a tidy table of the numbers (.csv).")] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Print what was saved, draw it with --figure; several profiles are laid over each other in one figure."""
    from brenier import table as tidy
    from brenier.cli.outputs import TABLE_SUFFIXES, check_outputs, labels, print_result, read_result, write_files
    from brenier.figures import plot, plot_profiles, save_figure

    check_outputs(table, figure, force, TABLE_SUFFIXES)
    if len(saved) > 1 and table is not None:
        raise ValueError("--table is of one result: give one file")
    found = [read_result(path) for path in saved]
    for path, result in zip(saved, found, strict=True):
        kind = getattr(result, "attrs", {}).get("kind", "schedule")
        if len(saved) > 1 and kind != "profile":
            verb = "is" if kind == "schedule" else "holds"
            raise ValueError(f"{str(path)!r} {verb} no profile but a {kind}: only profiles are shown together")

    def draw(path: Path) -> None:
        profiles = cast("list[xr.Dataset]", found)  # as was checked above, where there are several
        page = plot(found[0]) if len(found) == 1 else plot_profiles(dict(zip(labels(saved), profiles, strict=True)))
        save_figure(page, path)

    write_files((figure, draw), (table, lambda path: tidy(found[0]).to_csv(path, index=False)), force=force)
    for result in found:
        print_result(result, json=json)
