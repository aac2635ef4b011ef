"""Names of files, and errors about them in one line."""

import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

# Kinds of file that hold several arrays.
CONTAINERS = (".npz", ".pt", ".pth", ".safetensors", ".h5", ".hdf5", ".h5ad", ".mat", ".nc", ".nc4", ".zarr")
_MEMBER = re.compile(rf"(?P<file>.*?({'|'.join(map(re.escape, CONTAINERS))})):(?P<name>.*)", re.IGNORECASE | re.DOTALL)
_STORES = ("zarr.json", ".zarray", ".zgroup")
# What the readers raise on corrupt, truncated or encrypted files.
_CORRUPT = (ValueError, TypeError, EOFError, OverflowError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)


def exists(path: Path) -> bool:
    """Whether there is a file or folder at `path`; False for what cannot be a path, such as too long a name."""
    try:
        return path.exists()
    except OSError:
        return False


def split_member(source: str) -> tuple[str, str | None]:
    """Split "file.npz:name" into the file and the name of an array in it, of any of `CONTAINERS`; None for no name."""
    if exists(Path(source)):
        return source, None
    if match := _MEMBER.fullmatch(source):
        return match["file"], match["name"]
    file, _, name = source.rpartition(":")
    return (file, name) if file and is_store(Path(file)) else (source, None)


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, whatever its name."""
    return any(exists(path / mark) for mark in _STORES)


@contextmanager
def one_line(path: Path) -> Generator[None, None, None]:
    """Turn whatever a reader raises into one line that names the file."""
    try:
        yield
    except MemoryError:
        raise ValueError(f"{str(path)!r}: the array does not fit into memory") from None
    except OSError as error:
        raise ValueError(f"{str(path)!r}: cannot be read: {line(error.strerror or error)}") from None
    except _CORRUPT as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{str(path)!r}: {line(error)}") from None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{str(file)!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{str(file)!r} is damaged: it is not JSON") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(file)!r} is damaged: it must hold a JSON object")
    return cast(dict[str, Any], content)


def choices(names: Sequence[str]) -> str:
    """Names to choose from, the first of them where they are many."""
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")


def say(path: Path, note: str) -> None:
    """Warn of what may not be expected of a file."""
    warnings.warn(f"{str(path)!r}: {note}", UserWarning, stacklevel=2)


def line(message: object) -> str:
    """A message as one line that can be printed: without what would steer a terminal, or what no encoding knows."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(str(message).split()))
