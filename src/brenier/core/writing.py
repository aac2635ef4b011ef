"""Writing results that are either whole or not there.

`atomic_paths` hands out drafts in the folder of the results and renames them at the end: a reader never sees half a
file, and a failure leaves none. A process holds a lock on its drafts for as long as it lives, so that those of a dead
one can be told, and removed.
"""

import os
import re
import secrets
import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from brenier.core.reading.files import line

if TYPE_CHECKING:
    import xarray as xr

try:
    import fcntl
except ImportError:  # where there are no such locks, what killed processes leave behind stays
    fcntl = None

DRAFTS: set[Path] = set()  # of this process


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
    """Write several files, all or none: yields an empty file for each, and gives them their names when the block ends.

    These drafts lie in the same folders and have the same suffixes. Whatever goes wrong, an interrupt included, they
    are removed; those that a killed process has left are removed by the next one that writes to the same name.

    Each file is replaced at once. Several are one after another: a process that is killed in these microseconds leaves
    some new ones beside old ones, each whole.

    Raises:
        ValueError: as `check_output`; and in place of any `OSError` in the block (a full disk, no permission). Without
            `force` also where another process was first to write the file.
    """
    targets = [check_output(path, force=force) for path in paths]
    drafts = [t.with_name(f"{_beginning(t)}{secrets.token_hex(6)}{t.suffix}") for t in targets]
    with ExitStack() as held:
        try:
            for draft, target in zip(drafts, targets, strict=True):
                _remove_leftovers(target)
                held.callback(_remove, draft)
                _make(draft, held)
            yield tuple(drafts)
            for draft in drafts:
                _flush(draft)
            for target in targets:
                check_output(target, force=force)
            for draft, target in zip(drafts, targets, strict=True):
                _place(draft, target, force)
        except BaseException as error:
            for draft, target in zip(drafts, targets, strict=True):
                with suppress(OSError):
                    if target.samefile(draft):
                        target.unlink()
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
    with _alone():
        path.write_bytes(bytes(data.to_netcdf(engine="h5netcdf")))


def _alone() -> AbstractContextManager[object]:
    """Have xarray take no lock of the active Dask client for what is written here: its scheduler may not know it."""
    dask = sys.modules.get("dask")
    return nullcontext() if dask is None else dask.config.set(scheduler="synchronous")


@contextmanager
def locked(path: Path) -> Generator[bool, None, None]:
    """Hold a file or folder for this process; yields False where another one holds it.

    The system lets go of it when the process ends, however it ends. Where locks are unknown, as on some file systems
    over a network, every process may believe that it holds it.
    """
    with ExitStack() as held:
        yield _lock(path, held) is not False


def _lock(path: Path, held: ExitStack, wait: bool = False) -> bool | None:
    """Lock a file until `held` ends; False where another process has it, None where locks are unknown."""
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _beginning(target: Path) -> str:
    """What the names of drafts of `target` begin with; cut, as names may be no longer than 255 bytes."""
    return f".{os.fsencode(target.stem)[:100].decode(errors='ignore')}.brenier-"


def _make(draft: Path, held: ExitStack) -> None:
    """Make an empty file, and hold a lock on it until `held` ends."""
    DRAFTS.add(draft)
    while not draft.exists():  # as long as another process takes it for a leftover, before it is locked
        draft.touch()
        with suppress(FileNotFoundError):
            _lock(draft, held, wait=True)


def _remove(draft: Path) -> None:
    with suppress(OSError):
        draft.unlink()
    DRAFTS.discard(draft)


def _remove_leftovers(target: Path) -> None:
    """Remove the drafts of `target` whose process is dead."""
    name = re.compile(f"{re.escape(_beginning(target))}[0-9a-f]{{12}}{re.escape(target.suffix)}")
    with suppress(OSError), ExitStack() as held:
        for path in target.parent.iterdir():
            if name.fullmatch(path.name) and _lock(path, held):
                path.unlink()


def _flush(draft: Path) -> None:
    """Have the file on the disk before it gets its name: else power that fails may leave an empty one under it."""
    with draft.open("rb+") as stream:
        os.fsync(stream)


def _place(draft: Path, target: Path, force: bool) -> None:
    """Give a draft its name; where that is new, as a second name, which can be taken back."""
    try:
        os.link(draft, target)
    except OSError:  # the name exists, or the file system gives none twice
        check_output(target, force=force)
        draft.replace(target)
