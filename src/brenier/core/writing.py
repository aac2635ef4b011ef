"""Writing results that are either whole or not there.

`atomic_paths` hands out temporary names in the folder of the results and renames them at the end: a reader never sees
half a file, and a failure leaves none.
"""

import os
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from brenier.core.reading.files import line

if TYPE_CHECKING:
    import xarray as xr


def check_output(path: str | os.PathLike[str], suffixes: Sequence[str] = (), force: bool = False) -> Path:
    """Check that a result can be written to `path`, before the work that makes it begins.

    Raises:
        ValueError: the folder is missing, `path` exists and `force` is off, or its suffix is not one of `suffixes`.
    """
    target = Path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        raise ValueError(f"{str(target)!r} must end in {' or '.join(suffixes)}")
    try:
        if not target.parent.is_dir():
            raise ValueError(f"{str(target)!r}: the folder {str(target.parent)!r} does not exist: make it first")
        if target.is_dir():
            raise ValueError(f"{str(target)!r} is a folder: give the name of a file")
        if os.path.lexists(target) and not force:
            raise ValueError(f"{str(target)!r} exists: give another name, or --force (force=True) to replace it")
        if not os.access(target.parent, os.W_OK):
            raise ValueError(f"{str(target)!r}: no permission to write in {str(target.parent)!r}")
    except OSError as error:
        raise ValueError(f"{str(target)!r} cannot be written: {line(error.strerror or error)}") from None
    return target


@contextmanager
def atomic_paths(*paths: str | os.PathLike[str], force: bool = False) -> Generator[tuple[Path, ...], None, None]:
    """Write several files, all or none: yields a temporary name for each, and renames them when the block ends.

    The temporary names lie in the same folders and have the same suffixes. Whatever goes wrong, an interrupt included,
    they are removed.

    Raises:
        ValueError: as `check_output`; and in place of any `OSError` in the block (a full disk, no permission).
    """
    targets = [check_output(path, force=force) for path in paths]
    drafts = [t.with_name(f".{t.stem[:100]}-{secrets.token_hex(6)}{t.suffix}") for t in targets]
    placed: list[Path] = []
    try:
        yield tuple(drafts)
        for draft, target in zip(drafts, targets, strict=True):
            existed = os.path.lexists(check_output(target, force=force))
            draft.replace(target)
            placed += [] if existed else [target]
    except BaseException as error:
        for path in drafts + placed:
            with suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            names = " and ".join(repr(str(target)) for target in targets)
            raise ValueError(f"{names} cannot be written: {line(error.strerror or error)}") from None
        raise


@contextmanager
def atomic_path(path: str | os.PathLike[str], force: bool = False) -> Generator[Path, None, None]:
    """Write one file, whole or not at all: `atomic_paths` for a single name."""
    with atomic_paths(path, force=force) as (draft,):
        yield draft


def write_dataset(data: "xr.Dataset", path: Path) -> None:
    """Write a dataset as netCDF. The same data make the same bytes."""
    # Through memory: HDF5 takes the process down when the disk fills up under a file that it has open.
    path.write_bytes(bytes(data.to_netcdf(engine="h5netcdf")))
