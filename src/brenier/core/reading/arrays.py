"""Arrays as NumPy saves them."""

import io
import tokenize
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.members import check_size, chosen

_MAGIC = b"\x93NUMPY"


def read_npy(path: Path) -> NDArray[Any]:
    """The array in an .npy file."""
    with path.open("rb") as stream:
        if stream.read(6) != _MAGIC:
            raise ValueError("not an .npy file, in spite of its name: write it with numpy.save")
        return array_in(stream, path.stat().st_size)


def read_npz(path: Path, name: str | None = None) -> NDArray[Any]:
    """The array of this name in an .npz file; the only one where no name is given."""
    if not zipfile.is_zipfile(path):
        raise ValueError("not an .npz file, in spite of its name: write it with numpy.savez")
    with zipfile.ZipFile(path) as archive:
        members = {
            entry.filename.removesuffix(".npy"): entry for entry in archive.infolist() if entry.filename[-1:] != "/"
        }
        entry = members[chosen(list(members), name, path.name)]
        with archive.open(entry) as stream:
            if stream.read(6) != _MAGIC:
                raise ValueError("not an array in NumPy's format: write it with numpy.save or numpy.savez")
            return array_in(cast(io.BufferedIOBase, stream), entry.file_size)


def array_in(stream: io.BufferedIOBase, size: int) -> NDArray[Any]:
    """The array that numpy.save wrote, in a stream of so many bytes.

    Raises:
        ValueError: the header is damaged, or promises more than there is or fits into memory.
        TypeError: pickled objects.
    """
    stream.seek(0)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    except (SyntaxError, tokenize.TokenError, MemoryError, RecursionError):
        raise ValueError("the header of the array is damaged") from None
    if dtype.hasobject:
        raise TypeError("holds pickled Python objects, which are never loaded: save an array of numbers")
    check_size(shape, dtype.itemsize, size - stream.tell())
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
