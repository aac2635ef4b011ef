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
    """Print what was saved, draw it with --figure; several profiles stand side by side, and in one figure and table."""
    from brenier import table as tidy
    from brenier.cli.outputs import TABLE_SUFFIXES, check_outputs, labels, print_result, read_result, write_files
    from brenier.figures import plot, plot_profiles, save_figure

    check_outputs(table, figure, force, TABLE_SUFFIXES)
    found = [read_result(path) for path in saved]
    for path, result in zip(saved, found, strict=True):
        kind = getattr(result, "attrs", {}).get("kind", "schedule")
        if len(saved) > 1 and kind != "profile":
            verb = "is" if kind == "schedule" else "holds"
            raise ValueError(f"{str(path)!r} {verb} no profile but a {kind}: only profiles are shown together")

    # Several are profiles, as was checked above.
    shown = found[0] if len(found) == 1 else dict(zip(labels(saved), cast("list[xr.Dataset]", found), strict=True))

    def draw(path: Path) -> None:
        save_figure(plot_profiles(shown) if isinstance(shown, dict) else plot(shown), path)

    write_files((figure, draw), (table, lambda path: tidy(shown).to_csv(path, index=False)), force=force)
    print_result(shown, json=json)
