"""The files that the commands write, all or none, and those that they read back.

Profiles, chains, calibrations, comparisons, transport maps and flows are datasets in netCDF; a schedule is JSON.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import xarray as xr

from brenier.core.reading import exists
from brenier.core.writing import atomic_paths, check_output, write_dataset

if TYPE_CHECKING:
    from brenier.sampling.schedule import Schedule

Kind: TypeAlias = Literal["profile", "chain", "calibration", "comparison", "transport", "flow"]

DATA_SUFFIXES = (".nc",)
SCHEDULE_SUFFIXES = (".json",)
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
NEEDED: dict[Kind, tuple[str, ...]] = {
    "profile": (
        *("localization", "survival", "m_star", "delta_star", "zeta_star", "mean_localization"),
        *("ess", "time", "sigma"),
    ),
    "chain": (
        *("time", "snr", "w2_forward", "w2_backward", "w2_chain", "w2_discretisation", "mean_localization"),
        *("sup_localization", "rate", "rate_worst", "rate_star", "rate_sharp", "bound_worst", "bound_star"),
        *("bound_sharp", "ratio_chain", "ratio_worst", "ratio_star", "ratio_sharp"),
    ),
    "calibration": (
        *("verdict", "level", "contrast", "carried", "asymmetry", "negative", "mean_localization"),
        *("error", "predicted", "balance", "directional", "dependence"),
        *("error_se", "predicted_se", "balance_se", "directional_se", "dependence_se"),
    ),
    "comparison": (
        *("criterion", "solver", "steps", "evaluations", "predicted", "planning_evaluations", "sigmas"),
        *("rms", "median", "w2", "w2_reference", "rms_se", "median_se", "w2_se", "w2_reference_se"),
    ),
    "transport": ("points", "weights", "heights"),
    "flow": (),  # the variables depend on the family of the potential: see `read_potential`
}
SAVED = "`brenier probe -o`, `chain -o`, `calibrate -o`, `compare -o`, `transport -o` or `flow -o`"


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


def write_figure(data: xr.Dataset, path: Path) -> None:
    """Draw what was computed. The same data make the same bytes: no dates, no random names inside."""
    from brenier.figures import (
        plot_calibration,
        plot_chain,
        plot_comparison,
        plot_flow,
        plot_profile,
        plot_transport,
        save_figure,
    )

    draw = {
        "profile": plot_profile,
        "chain": plot_chain,
        "calibration": plot_calibration,
        "comparison": plot_comparison,
        "transport": plot_transport,
        "flow": plot_flow,
    }
    save_figure(draw[kind(data)](data), path)


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
    match kind(data):
        case "profile":
            from brenier.reports.profile import print_report as show
        case "chain":
            from brenier.reports.chain import print_chain as show
        case "calibration":
            from brenier.reports.calibration import print_calibration as show
        case "comparison":
            from brenier.reports.schedule import print_comparison as show
        case "transport":
            from brenier.reports.transport import print_transport as show
        case "flow":
            from brenier.reports.flow import print_flow as show
    show(data)


def read_data(path: Path) -> xr.Dataset:
    """Read what `write_dataset` saved.

    Raises:
        ValueError: the file is missing, is no netCDF file, or holds something else.
    """
    if not exists(path):
        raise ValueError(f"{str(path)!r} does not exist: give what {SAVED} saved")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: give what {SAVED} saved")
    try:
        data = xr.load_dataset(path, engine="h5netcdf")
    except PermissionError as error:
        raise ValueError(f"{str(path)!r}: cannot be read: {error.strerror}") from None
    except (OSError, ValueError, KeyError, RuntimeError):
        raise ValueError(f"{str(path)!r} is not a netCDF file: give what {SAVED} saved") from None
    found = kind(data)
    missing = [name for name in NEEDED[found] if name not in data.variables]
    if missing:
        raise ValueError(f"{str(path)!r} is not a {found}, it holds no {missing[0]!r}: give what {SAVED} saved")
    if found == "flow":
        from brenier.transport.mongeampere import read_potential

        read_potential(data, repr(str(path)))
        lost = [name for name in ("target", "reference", "dim", "method", "stopped", "steps") if name not in data.attrs]
        if lost:
            raise ValueError(f"{str(path)!r} does not say its {lost[0]}: give what {SAVED} saved")
    return data


def kind(data: xr.Dataset) -> Kind:
    """What a dataset is, or would be: by its axes, by the verdicts of a calibration, by the heights of a map.

    A flow says it itself: its history runs over steps, as a chain does.
    """
    if data.attrs.get("map") == "monge-ampere":
        return "flow"
    if "step" in data.dims:
        return "chain"
    if "criterion" in data.dims:
        return "comparison"
    if "heights" in data.variables and "fit_stopped" in data.attrs:
        return "transport"
    return "calibration" if "verdict" in data.variables else "profile"
