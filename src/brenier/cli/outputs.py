"""The files that the command writes, all or none, and the one that it reads back."""

from pathlib import Path

import xarray as xr

from brenier.files import atomic_paths, check_output, exists

PROFILE_SUFFIXES = (".nc",)
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
NEEDED = ("localization", "survival", "m_star", "delta_star", "zeta_star", "mean_localization", "ess", "time", "sigma")


def check_outputs(output: Path | None, figure: Path | None, force: bool) -> None:
    """Refuse outputs that could not be written, before any work is done."""
    if output is not None:
        check_output(output, PROFILE_SUFFIXES, force)
    if figure is not None:
        check_output(figure, FIGURE_SUFFIXES, force)


def write_outputs(profile: xr.Dataset, output: Path | None, figure: Path | None, force: bool) -> None:
    """Write the profile and its figure where they are wanted: both, or none."""
    wanted = [path for path in (output, figure) if path is not None]
    if not wanted:
        return
    with atomic_paths(*wanted, force=force) as drafts:
        if output is not None:
            write_profile(profile, drafts[0])
        if figure is not None:
            write_figure(profile, drafts[-1])


def write_profile(profile: xr.Dataset, path: Path) -> None:
    """Save a profile as netCDF. The same profile makes the same bytes."""
    # Through memory: HDF5 takes the process down when the disk fills up under a file that it has open.
    path.write_bytes(bytes(profile.to_netcdf(engine="h5netcdf")))


def write_figure(profile: xr.Dataset, path: Path) -> None:
    """Draw a profile. The same profile makes the same bytes: no dates, no random names inside."""
    from brenier.figures import plot_profile, save_figure

    save_figure(plot_profile(profile), path)


def read_profile(path: Path) -> xr.Dataset:
    """Read a profile that `write_profile` saved.

    Raises:
        ValueError: the file is missing, is no netCDF file, or holds something else than a profile.
    """
    if not exists(path):
        raise ValueError(f"{str(path)!r} does not exist: give a profile saved by `brenier probe -o`")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: give a profile saved by `brenier probe -o`")
    try:
        profile = xr.load_dataset(path, engine="h5netcdf")
    except PermissionError as error:
        raise ValueError(f"{str(path)!r}: cannot be read: {error.strerror}") from None
    except (OSError, ValueError, KeyError, RuntimeError):
        raise ValueError(f"{str(path)!r} is not a netCDF file: give a profile saved by `brenier probe -o`") from None
    missing = [name for name in NEEDED if name not in profile.variables]
    if missing:
        raise ValueError(f"{str(path)!r} is not a profile, it holds no {missing[0]!r}: save one by `brenier probe -o`")
    return profile
