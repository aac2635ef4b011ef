"""The files that the commands write, all or none, and those that they read back.

Profiles, chains, calibrations, comparisons, evaluations, transport maps and flows are datasets in netCDF; a schedule is
JSON.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from brenier.core import records
from brenier.core.writing import atomic_path, atomic_paths, check_output, write_dataset

if TYPE_CHECKING:
    from brenier.sampling.schedule import Schedule

DATA_SUFFIXES = (".nc",)
SCHEDULE_SUFFIXES = (".json",)
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def check_outputs(
    output: Path | None, figure: Path | None, force: bool, suffixes: tuple[str, ...] = DATA_SUFFIXES
) -> None:
    """Refuse outputs that could not be written, before any work is done."""
    if output is not None:
        check_output(output, suffixes, force)
    if figure is not None:
        check_output(figure, FIGURE_SUFFIXES, force)


def write_outputs(data: xr.Dataset, output: Path | None, figure: Path | None, force: bool) -> None:
    """Write what was computed, and its figure, where they are wanted: both, or none."""
    wanted = [path for path in (output, figure) if path is not None]
    if not wanted:
        return
    with atomic_paths(*wanted, force=force) as drafts:
        if output is not None:
            write_dataset(data, drafts[0])
        if figure is not None:
            write_figure(data, drafts[-1])


def write_interrupted(data: xr.Dataset, output: Path, force: bool) -> None:
    """Write what an interrupted fit has come to, and say so."""
    from brenier.reports.console import print_interrupted

    with atomic_path(output, force) as draft:
        write_dataset(data, draft)
    print_interrupted(output)


def write_figure(data: xr.Dataset, path: Path) -> None:
    """Draw what was computed. The same data make the same bytes: no dates, no random names inside."""
    from brenier.figures import plot, save_figure

    save_figure(plot(data), path)


def write_schedule(
    schedule: "Schedule", profile: xr.Dataset | None, output: Path | None, figure: Path | None, force: bool
) -> None:
    """Write a schedule, and its figure with the profile in it, where they are wanted: both, or none."""
    wanted = [path for path in (output, figure) if path is not None]
    with atomic_paths(*wanted, force=force) as drafts:
        if output is not None:
            schedule.to_json(drafts[0])
        if figure is not None:
            from brenier.figures import plot_schedule, save_figure

            save_figure(plot_schedule(schedule, profile), drafts[-1])


def write_comparison(profiles: Mapping[str, xr.Dataset], path: Path, force: bool) -> None:
    """Draw several profiles in one figure."""
    from brenier.figures import plot_profiles, save_figure

    with atomic_paths(path, force=force) as (draft,):
        save_figure(plot_profiles(profiles), draft)


def print_data(data: xr.Dataset) -> None:
    """Print what was computed, as tables and sentences."""
    match data.attrs["kind"]:
        case "profile":
            from brenier.reports.profile import print_report as show
        case "chain":
            from brenier.reports.chain import print_chain as show
        case "calibration":
            from brenier.reports.calibration import print_calibration as show
        case "comparison":
            from brenier.reports.schedule import print_comparison as show
        case "evaluation":
            from brenier.reports.evaluation import print_evaluation as show
        case "transport":
            from brenier.reports.transport import print_transport as show
        case "flow":
            from brenier.reports.flow import print_flow as show
        case other:
            raise ValueError(f"a {other} is not shown: give what {records.SAVED} saved")
    show(data)


def read_data(path: Path) -> xr.Dataset:
    """Read what a command saved: a dataset of any kind that is shown; the map in a flow must be whole, too.

    Raises:
        ValueError: the file is missing, is no netCDF file, or holds something else.
    """
    data = records.read(path)
    if data.attrs["kind"] == "flow":
        from brenier.transport.mongeampere import read_potential

        read_potential(data, repr(str(path)))
    return data
