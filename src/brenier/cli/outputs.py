"""The files that the commands write, all or none, and those that they read back.

Profiles, chains, calibrations, comparisons, evaluations, transport maps and flows are datasets in netCDF; a schedule is
JSON; samples are an array.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from brenier.core.writing import atomic_path, atomic_paths, check_output, write_dataset

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from torch import Tensor

    from brenier.sampling.schedule import Schedule

DATA_SUFFIXES = (".nc",)
SCHEDULE_SUFFIXES = (".json",)
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
TABLE_SUFFIXES = (".csv",)


def check_outputs(
    output: Path | None, figure: Path | None, force: bool, suffixes: tuple[str, ...] = DATA_SUFFIXES
) -> None:
    """Refuse outputs that could not be written, before any work is done."""
    if output is not None:
        check_output(output, suffixes, force)
    if figure is not None:
        check_output(figure, FIGURE_SUFFIXES, force)


def write_outputs(data: "xr.Dataset", output: Path | None, figure: Path | None, force: bool) -> None:
    """Write what was computed, and its figure, where they are wanted: both, or none."""
    wanted = [path for path in (output, figure) if path is not None]
    if not wanted:
        return
    with atomic_paths(*wanted, force=force) as drafts:
        if output is not None:
            write_dataset(data, drafts[0])
        if figure is not None:
            write_figure(data, drafts[-1])


def write_interrupted(data: "xr.Dataset", output: Path, force: bool) -> None:
    """Write what an interrupted fit has come to, and say so."""
    from brenier.reports.tables import print_interrupted

    with atomic_path(output, force) as draft:
        write_dataset(data, draft)
    print_interrupted(output)


def write_figure(data: "xr.Dataset", path: Path) -> None:
    """Draw what was computed. The same data make the same bytes: no dates, no random names inside."""
    from brenier.figures import plot, save_figure

    save_figure(plot(data), path)


def write_schedule(
    schedule: "Schedule", profile: "xr.Dataset | None", output: Path | None, figure: Path | None, force: bool
) -> None:
    """Write a schedule, and its figure with the profile in it, where they are wanted: both, or none."""
    wanted = [path for path in (output, figure) if path is not None]
    with atomic_paths(*wanted, force=force) as drafts:
        if output is not None:
            schedule.to_json(drafts[0])
        if figure is not None:
            from brenier.figures import plot_schedule, save_figure

            save_figure(plot_schedule(schedule, profile), drafts[-1])


def write_page(page: "Figure", path: Path, force: bool) -> None:
    """Write one figure."""
    from brenier.figures import save_figure

    with atomic_path(path, force) as draft:
        save_figure(page, draft)


def write_points(points: "Tensor", path: Path, force: bool = False) -> None:
    """Write points as an array."""
    import numpy as np

    with atomic_path(path, force) as draft:
        np.save(draft, points.cpu().numpy())


def read_result(path: Path) -> "xr.Dataset | Schedule":
    """Read what a command saved, of whatever kind; the map in a flow must be whole, too.

    Raises:
        ValueError: the file is missing, is none that a command saves, or is damaged.
    """
    from brenier.core.records import read

    if path.suffix.lower() in SCHEDULE_SUFFIXES:
        from brenier.sampling.schedule import Schedule

        return Schedule.from_json(path)
    data = read(path)
    if data.attrs["kind"] == "flow":
        from brenier.transport.mongeampere import read_potential

        read_potential(data, repr(str(path)))
    return data


def given_schedule(schedule: Path | None, criterion: str | None) -> "Schedule | str | None":
    """The schedule that was saved, or the criterion to plan one by; None where neither is given."""
    from brenier.sampling.schedule import Schedule

    if schedule is not None and criterion is not None:
        raise ValueError("--criterion is how to plan, and --schedule is a plan: give one of them")
    return criterion if schedule is None else Schedule.from_json(schedule)
