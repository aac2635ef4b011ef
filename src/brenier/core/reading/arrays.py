"""Arrays as libraries save them."""

import tokenize
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.files import choices


def read_npy(path: Path) -> NDArray[Any]:
    """The array in an .npy file."""
    with path.open("rb") as stream:
        magic = stream.read(6)
        if magic != b"\x93NUMPY":
            raise ValueError("not an .npy file, in spite of its name: write it with numpy.save")
        stream.seek(0)
        return _loaded(lambda: np.lib.format.read_array(stream, allow_pickle=False))


def read_npz(path: Path, name: str | None = None) -> NDArray[Any]:
    """The array of this name in an .npz file; the only one where no name is given."""
    if not zipfile.is_zipfile(path):
        raise ValueError("not an .npz file, in spite of its name: write it with numpy.savez")
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        if not names:
            raise ValueError("the archive holds no array")
        if name is None and len(names) > 1:
            raise ValueError(f"holds {len(names)} arrays: choose one as '{path.name}:NAME', NAME = {choices(names)}")
        if name is not None and name not in names:
            raise ValueError(f"holds no array {name!r}: choose one of {choices(names)}")
        return _loaded(lambda: archive[names[0] if name is None else name])


def _loaded(load: Callable[[], object]) -> NDArray[Any]:
    try:
        array = load()
    except (SyntaxError, tokenize.TokenError):
        raise ValueError("the header of the array is damaged") from None
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise TypeError("holds pickled Python objects, which are never loaded: save an array of numbers") from None
    if not isinstance(array, np.ndarray):
        raise ValueError("not an array in NumPy's format: write it with numpy.save or numpy.savez")
    return array
