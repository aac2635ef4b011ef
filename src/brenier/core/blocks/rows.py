"""Where rows lie: each kind says how many there are, where its own pieces end, and reads any range of them.

A kind that lies in a file holds its name alone, and opens it anew for every range: so it can be sent to workers, which
must see the same file system. A range comes as an array (m, d) in the dtype that is stored.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading import zarr_stores
from brenier.core.reading.arrow import read_groups, row_groups
from brenier.core.reading.files import exists, one_line, split_member
from brenier.core.reading.hdf5 import array_in_file
from brenier.core.reading.image_files import holds_images
from brenier.core.reading.images import read_some_images, size_of_images
from brenier.core.reading.options import Reading
from brenier.core.reading.packing import unpacked
from brenier.core.reading.read import suffix_of
from brenier.core.reading.tables import coordinates_of
from brenier.core.reading.values import check_array, kind_of

TOUCHED = 1024  # rows of a memory map that are picked before it is closed


@runtime_checkable
class Rows(Protocol):
    """Rows that can be read in ranges.

    Attributes:
        name: what to call them in errors.
        shape: (n, *event_shape).
        dtype: that they are stored in.
        ends: where the pieces end that they are stored in, which are best read whole; the last is n.
        anywhere: whether any process can read them, and not this one alone.
    """

    name: str
    shape: tuple[int, ...]
    anywhere: bool

    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102

    @property
    def ends(self) -> Sequence[int]: ...  # noqa: D102

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows from `start` up to `stop`, each flattened."""
        ...


@runtime_checkable
class Picked(Protocol):
    """Rows of which any can be read without those around them."""

    def pick(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """The rows of these numbers, each flattened."""
        ...


def rows_of(data: object, name: str = "data") -> Rows:
    """Rows of whatever holds them.

    Args:
        data: the path of a file or store that `can_be_read` names; an array, tensor or table in memory; a dask array;
            an xarray DataArray of either.
        name: what to call what is no file.

    Raises:
        ValueError, TypeError: one line: not real numbers, no rows, a file of another kind, unknown chunk sizes.
    """
    if isinstance(data, str | os.PathLike):
        return file_rows(os.fspath(data))
    inner = _unlabelled(data)
    return _Lazy.of(inner, name) if _is_dask(inner) else InMemory.of(inner, name)


def is_lazy(data: object) -> bool:
    """Whether data are a dask array, or an xarray DataArray of one."""
    return _is_dask(_unlabelled(data))


def can_be_read(file: str) -> bool:
    """Whether a file is of a kind that can be read in ranges: `.npy`, Zarr, HDF5, Parquet, folders of it, images."""
    path = Path(split_member(file)[0])
    if not exists(path) or suffix_of(path) not in _FILES:
        return False
    return holds_images(path) if path.is_dir() and not suffix_of(path) else True


def size_of(file: str) -> int:
    """Bytes that a file takes, or a folder with what is in it."""
    path = Path(split_member(file)[0])
    return sum(part.stat().st_size for part in path.rglob("*")) if path.is_dir() else path.stat().st_size


def file_rows(file: str, reading: Reading | None = None) -> Rows:
    """The rows in a file or store.

    Args:
        file: its path, with ":NAME" of one array of several.
        reading: columns of a table, the shape of a point.

    Raises:
        ValueError, TypeError: one line that names the file.
    """
    path, member = split_member(file)
    if not exists(Path(path)):
        raise ValueError(f"{file!r} does not exist: give the path of a data file")
    suffix, reading = suffix_of(Path(path)), Reading() if reading is None else reading
    if suffix not in _FILES:
        known = ", ".join(filter(None, _FILES))
        raise ValueError(f"{file!r} cannot be read in blocks: give {known}, a folder of images, or an array")
    with one_line(Path(file)):
        found = _FILES[suffix](file, Path(path), member, reading)
        if reading.standardize is not False:
            raise ValueError("data in blocks are not standardized: leave standardize out")
        if reading.shape is not None:
            shape = tuple(reading.shape)
            if math.prod(shape) != math.prod(found.shape[1:]):
                numbers = math.prod(found.shape[1:])
                raise ValueError(f"holds points of {numbers} numbers, and shape {shape} takes {math.prod(shape)}")
            found.shape = found.shape[0], *shape
    return found


def _checked(shape: Sequence[int], dtype: np.dtype[Any], name: str) -> tuple[int, ...]:
    """A shape (n, *event_shape) of real numbers."""
    if dtype.kind not in "buif":
        raise TypeError(f"{name} holds {kind_of(np.empty(0, dtype))} (dtype {dtype}): data must be real numbers")
    if len(shape) == 0 or math.prod(shape) == 0:
        raise ValueError(f"{name} has shape {tuple(shape)}: data must hold at least one point, one per row")
    return tuple(map(int, shape)) if len(shape) > 1 else (int(shape[0]), 1)


def _flat(block: NDArray[Any]) -> NDArray[Any]:
    return block.reshape(len(block), -1)


@dataclass
class InMemory:
    """Rows of an array in memory."""

    array: NDArray[Any]
    name: str
    shape: tuple[int, ...]
    anywhere: bool = False

    @classmethod
    def of(cls, data: object, name: str) -> "InMemory":
        """Of what `brenier.core.reading.plain` takes."""
        array = check_array(data, name)
        return cls(array, name, array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:  # noqa: D102
        return self.array.dtype

    @property
    def ends(self) -> Sequence[int]:  # noqa: D102
        return (self.shape[0],)

    def read(self, start: int, stop: int) -> NDArray[Any]:  # noqa: D102
        return _flat(self.array[start:stop])

    def pick(self, numbers: NDArray[np.int64]) -> NDArray[Any]:  # noqa: D102
        return _flat(self.array[numbers])


@dataclass
class _Stored:
    """Rows in a file, by what opens it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ends: Sequence[int]
    path: Path
    member: str | None
    anywhere: bool = True


@dataclass
class _Npy(_Stored):
    """Rows of an array as NumPy saves it, by memory map; the map is closed with every range."""

    @classmethod
    def of(cls, name: str, path: Path, _: str | None, __: Reading) -> "_Npy":
        array = cls._mapped(path)
        shape = _checked(array.shape, array.dtype, "the array")
        return cls(name, shape, array.dtype, (shape[0],), path, None)

    @staticmethod
    def _mapped(path: Path) -> NDArray[Any]:
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise ValueError("not an .npy file, in spite of its name: write it with numpy.save")
        return cast(NDArray[Any], np.load(path, mmap_mode="r", allow_pickle=False))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return self._read(slice(start, stop))

    def pick(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        # Each row maps pages about it, too, which are resident until the map is closed.
        parts = np.split(numbers, range(TOUCHED, len(numbers), TOUCHED))
        return np.concatenate([self._read(part) for part in parts])

    def _read(self, which: slice | NDArray[np.int64]) -> NDArray[Any]:
        with one_line(self.path):
            mapped = self._mapped(self.path)
            if mapped.shape[:1] != self.shape[:1] or mapped.dtype != self.dtype:
                raise ValueError(_changed(mapped.shape, self.shape))
            return _flat(np.array(mapped[which]))


@dataclass
class _Chunked(_Stored):
    """Rows of an array in a Zarr store or an HDF5 file."""

    attributes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, path: Path, member: str | None, _: Reading) -> "_Chunked":
        with cls._opened(path, member) as (array, attributes, known):
            chunks = getattr(array, "shards", None) or array.chunks
            shape = _checked(array.shape, array.dtype, "the array")
            side = int(chunks[0]) if chunks else shape[0]
            if chunks and side * math.prod(chunks[1:]) * array.dtype.itemsize > 2**32:
                raise ValueError(
                    f"its chunks of shape {tuple(chunks)} take more than 4 GiB each: store it in smaller ones"
                )
            ends = [*range(side, shape[0], side), shape[0]]
            return cls(name, shape, array.dtype, ends, path, known, attributes=attributes)

    @staticmethod
    def _opened(path: Path, member: str | None) -> Any:
        return zarr_stores.opened(path, member) if suffix_of(path) == ".zarr" else array_in_file(path, member)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        with one_line(self.path), self._opened(self.path, self.member) as (array, _, _known):
            if array.shape[0] != self.shape[0] or array.dtype != self.dtype:
                raise ValueError(_changed(array.shape, self.shape))
            values = np.asarray(array[start:stop])
        try:
            return _flat(unpacked(values, self.attributes))
        except ValueError as error:
            raise ValueError(f"{self.name!r}: in rows {start} to {stop - 1}, counted from {start}: {error}") from None


@dataclass
class _Parquet(_Stored):
    """Rows of a table in Parquet files, by their row groups."""

    columns: Sequence[str] = ()

    @classmethod
    def of(cls, name: str, path: Path, _: str | None, reading: Reading) -> "_Parquet":
        counts = row_groups(path)
        first, columns = coordinates_of(path, read_groups(path, 0, counts[0]), reading)
        ends = np.cumsum([count for count in counts if count]).tolist()
        shape = _checked((ends[-1], *first.shape[1:]), first.dtype, "the table")
        return cls(name, shape, first.dtype, ends, path, None, columns=columns)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        with one_line(self.path):
            table = read_groups(self.path, start, stop, self.columns)
            try:
                return coordinates_of(self.path, table, Reading(columns=self.columns))[0].astype(self.dtype, copy=False)
            except (TypeError, ValueError) as error:
                raise type(error)(f"in rows {start} to {stop - 1}, counted from {start}: {error}") from None


@dataclass
class _Images(_Stored):
    """Images in a folder or archive, decoded when they are read."""

    stored: tuple[int, ...] = ()

    @classmethod
    def of(cls, name: str, path: Path, _: str | None, __: Reading) -> "_Images":
        shape = size_of_images(path)
        return cls(name, shape, np.dtype(np.float32), (shape[0],), path, None, stored=shape)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        with one_line(self.path):
            return _flat(read_some_images(self.path, start, stop, self.stored))


@dataclass
class _Lazy:
    """Rows of a dask array, which are computed where and when they are asked for."""

    array: Any
    name: str
    shape: tuple[int, ...]
    ends: Sequence[int]
    anywhere: bool = True

    @classmethod
    def of(cls, array: Any, name: str) -> "_Lazy":
        if any(math.isnan(size) for size in array.shape):
            raise ValueError(
                f"{name}: a dask array whose chunk sizes are unknown, shape {array.shape}: call compute_chunk_sizes()"
            )
        shape = _checked(array.shape, array.dtype, name)
        array = array.reshape(shape) if array.ndim == 1 else array
        array = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))  # rows whole
        return cls(array, name, shape, np.cumsum(array.chunks[0]).tolist())

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def part(self, start: int, stop: int) -> Any:
        """The rows as a dask array, for a scheduler."""
        return self.array[start:stop]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return whole(self.part(start, stop).compute(scheduler="synchronous"))


def whole(block: object) -> NDArray[Any]:
    """A part of a dask array that was computed, as rows."""
    return _flat(np.asarray(block))


def _changed(found: Sequence[int], known: Sequence[int]) -> str:
    return f"changes while it is read: its shape was {tuple(known)} and is {tuple(found)}"


def _unlabelled(data: object) -> object:
    """What an xarray DataArray holds; anything else as it is."""
    xarray = sys.modules.get("xarray")
    return cast(Any, data).data if xarray is not None and isinstance(data, xarray.DataArray) else data


def _is_dask(data: object) -> bool:
    dask = sys.modules.get("dask.array")
    return dask is not None and isinstance(data, dask.Array)


_FILES: dict[str, Callable[[str, Path, str | None, Reading], Any]] = {
    ".npy": _Npy.of,
    ".zarr": _Chunked.of,
    ".h5": _Chunked.of,
    ".hdf5": _Chunked.of,
    ".parquet": _Parquet.of,
    "": _Images.of,  # a folder
    ".zip": _Images.of,
}
