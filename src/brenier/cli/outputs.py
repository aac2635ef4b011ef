"""The files that the commands write, all or none, and those that they read back.

Profiles, chains, calibrations, comparisons, evaluations, transport maps and flows are datasets in netCDF; a schedule is
JSON; samples are an array.
"""

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brenier.core.reading.files import exists, line
from brenier.core.writing import atomic_paths, check_output, write_dataset

if TYPE_CHECKING:
    import xarray as xr
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


def write_files(*files: tuple[Path | None, Callable[[Path], object]], force: bool) -> None:
    """Write those files that are wanted, all or none.

    Args:
        files: for each its path, None where it is not wanted, and what writes it to a path.
        force: whether to replace what exists.
    """
    wanted = [(path, write) for path, write in files if path is not None]
    with atomic_paths(*(path for path, _ in wanted), force=force) as drafts:
        for draft, (_, write) in zip(drafts, wanted, strict=True):
            write(draft)


def finish(
    data: "xr.Dataset",
    output: Path | None,
    figure: Path | None,
    *files: tuple[Path | None, Callable[[Path], object]],
    force: bool,
    quiet: bool,
    json: bool,
    seconds: float | None = None,
) -> None:
    """Write what was computed, its figure and other files, where they are wanted; print it unless `quiet`."""
    own = (output, partial(write_result, data)), (figure, partial(write_figure, data))
    write_files(*own, *files, force=force)
    if not quiet:
        print_result(data, json=json, seconds=seconds)


def print_result(
    result: "xr.Dataset | Schedule | dict[str, xr.Dataset]", *, json: bool, seconds: float | None = None
) -> None:
    """Print what was computed, or several profiles by name, as JSON or as tables and sentences."""
    from brenier.reports import show, to_json

    if json:
        sys.stdout.write(to_json(result))
    elif isinstance(result, dict):
        from brenier.reports.profile import print_profiles

        print_profiles(result)
    else:
        show(result, seconds=seconds)


def write_result(data: "xr.Dataset", path: Path) -> None:
    """Write what was computed as netCDF, or an evaluation as JSON, by the suffix."""
    if path.suffix.lower() != ".json":
        write_dataset(data, path)
    else:
        from brenier.metrics.evaluation import to_table

        path.write_text(json.dumps(to_table(data), indent=2, allow_nan=False) + "\n", encoding="utf-8")


class Unfinished:
    """The file of a fit while it goes on: what it has come to is written now and then, and after Ctrl-C.

    Args:
        output: the file.
        resume: whether to go on with the fit that it holds. Where there is none yet, a warning says so.
        start: another map to start from.
        force: whether to replace what is there.

    Attributes:
        force: likewise; from the first writing on, the file is the fit's own.
        start: the map to start from; None for none.
        resume: whether the fit of that map goes on.

    Raises:
        ValueError: --resume beside --start or --force; or the file cannot be written.
    """

    def __init__(self, output: Path, *, resume: bool, start: Path | None, force: bool) -> None:
        for given, other in ((start is not None, "--start"), (force, "--force")):
            if resume and given:
                raise ValueError(f"--resume goes on with what -o holds, and replaces it: leave out {other}")
        check_output(output, DATA_SUFFIXES, force or resume)
        self.output, self.force, self.resume = output, force or resume, resume and exists(output)
        self.start = output if self.resume else start
        if resume and not self.resume:
            warnings.warn(f"{str(output)!r} does not exist, there is nothing to resume: a fit begins", stacklevel=2)

    def write(self, data: "xr.Dataset", about: dict[str, Any]) -> None:
        """Write what the fit has come to."""
        write_files((self.output, partial(write_dataset, data.assign_attrs(about))), force=self.force)
        self.force = True

    def end(self, data: "xr.Dataset", about: dict[str, Any]) -> None:
        """Write what an interrupted fit has come to, and say so."""
        from brenier.reports.tables import print_interrupted

        self.write(data, about)
        print_interrupted(self.output)


def print_json(found: Mapping[str, Any]) -> None:
    """Print numbers by their names."""
    sys.stdout.write(json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_figure(data: "xr.Dataset", path: Path) -> None:
    """Draw what was computed. The same data make the same bytes: no dates, no random names inside."""
    from brenier.figures import plot, save_figure

    save_figure(plot(data), path)


def write_points(points: "Tensor", path: Path) -> None:
    """Write points as an array."""
    import numpy as np

    array = np.ascontiguousarray(points.cpu().numpy())
    with path.open("wb") as stream:  # by hand, as `np.save` does not say that a disk is full
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data)


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


def labels(saved: list[Path]) -> list[str]:
    """What to call the results: the names of the files, with their folders where these alone tell them apart."""
    stems = [line(path.stem) for path in saved]
    found = stems if len(set(stems)) == len(stems) else [line(path) for path in saved]
    if len(set(found)) < len(found):
        raise ValueError(f"{max(found, key=found.count)!r} is given twice: give each file once")
    return found


def given_schedule(schedule: Path | None, criterion: str | None) -> "Schedule | str | None":
    """The schedule that was saved, or the criterion to plan one by; None where neither is given."""
    from brenier.sampling.schedule import Schedule

    if schedule is not None and criterion is not None:
        raise ValueError("--criterion is how to plan, and --schedule is a plan: give one of them")
    return criterion if schedule is None else Schedule.from_json(schedule)
