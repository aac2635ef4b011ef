"""A file or folder of whatever kind to an array, by its suffix."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from brenier.core.reading.arrays import read_npy, read_npz
from brenier.core.reading.files import exists, one_line, split_member
from brenier.core.reading.images import read_images
from brenier.core.reading.tables import read_csv, read_parquet
from brenier.core.reading.values import Array, check_array


def read_array(source: str | os.PathLike[str]) -> Array:
    """Read the points in a data file, shape (n, *event_shape), float32 or float64.

    Args:
        source: a file by its suffix, or a folder of images:
            `.npy`; `.npz`, as "file.npz:name" where it holds several arrays;
            `.csv`, separated by commas, with a header or without, every column numeric;
            `.parquet`, every column numeric;
            a folder of images, or a `.zip` archive of them, see `read_images`.

    Raises:
        ValueError, TypeError: see `check_array`; also where the file is missing, unreadable or of another kind.
    """
    text = os.fspath(source)
    file, name = split_member(text)
    path = Path(file)
    if not exists(path):
        raise ValueError(f"{text!r} does not exist: give the path of a data file or of a folder of images")
    if path.is_dir() or path.suffix.lower() == ".zip":
        return read_images(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(READERS)
        raise ValueError(
            f"{text!r} has no suffix that says how to read it: give {kinds}, or a folder or .zip of images"
        )
    with one_line(path):
        if path.stat().st_size == 0:
            raise ValueError("the file is empty: it must hold at least one point")
        array = read_npz(path, name) if name is not None else reader(path)
    return check_array(array, text)


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
