"""Arrays in MATLAB's files: of version 4, of 5 to 7, and of 7.3, which are HDF5.

A file of version 5 is a header of 128 bytes and elements, one for each variable. An element is a tag - its type and its
number of bytes, or both and up to 4 bytes of data in one - and data up to a multiple of 8 bytes. That of a variable
holds flags, shape, name and values, each an element, or is compressed and holds an element that does.
"""

import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brenier.core.memory import check_fits
from brenier.core.reading.hdf5 import arrays_in, opened, values_of
from brenier.core.reading.members import by_others, check_size, chosen
from brenier.core.reading.plain import plain

# Of arrays that are numbers: what MATLAB calls them, and by which number version 5 does. Logical ones are unsigned.
_CLASSES = {6: "double", 7: "single"} | dict(
    enumerate(("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"), 8)
)
_SPARSE, _LOGICAL, _COMPLEX = 5, 0x200, 0x800  # a class and two flags
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_HEAD = 4096  # bytes that hold flags, shape and name


def read_matlab(path: Path, name: str | None = None) -> NDArray[Any]:
    """The numeric array of this name, in the shape that it has in MATLAB; the only one where no name is given."""
    import h5py

    if h5py.is_hdf5(path):
        return _read_hdf5(path, name)
    with path.open("rb") as stream:
        head = stream.read(128)
        if 0 in head[:4]:
            return _read_4(path, name)
        order = {b"IM": "<", b"MI": ">"}.get(head[126:])
        if order is None:
            raise ValueError("not a MATLAB file, in spite of its name, or cut off")
        return _read_5(stream, order, path.stat().st_size, name, path.name)


class _Variable(NamedTuple):
    name: str
    kind: int  # its class
    flags: int
    most: int  # values of a sparse array that there may be
    shape: tuple[int, ...]
    place: tuple[int, int]  # where its element lies in the file, and how many bytes it takes
    compressed: bool
    skipped: int  # bytes of the element before its values


def _read_5(stream: BinaryIO, order: str, size: int, name: str | None, file: str) -> NDArray[Any]:
    found = {variable.name: variable for variable in _variables(stream, order, size)}
    variable = found[chosen(list(found), name, file)]
    shape, sparse = variable.shape, variable.kind == _SPARSE
    if variable.flags & _COMPLEX:
        raise TypeError("holds complex numbers: data must be real numbers")
    if not sparse:
        check_size(shape, np.dtype(_CLASSES[variable.kind]).itemsize)
    length = variable.skipped + (12 * variable.most + 4 * shape[-1] if sparse else 8 * math.prod(shape)) + _HEAD
    check_fits(length, "the array")
    body = memoryview(_body(stream, variable.place, length, variable.compressed))
    parts: list[NDArray[Any]] = []
    place = variable.skipped
    for _ in range(3 if sparse else 1):
        kind, data, place = _element(body, place, order)
        if kind not in _STORED:
            raise ValueError("damaged: its values are of no type of numbers")
        dtype = np.dtype(order + _STORED[kind])
        parts.append(np.frombuffer(data, dtype, len(data) // dtype.itemsize))
    if sparse:
        rows, columns, values = parts
        return _columns(rows, columns, values, shape)
    values = parts[0]
    if len(values) != math.prod(shape):
        raise ValueError(f"damaged: shape {shape} takes {math.prod(shape)} values, and {len(values)} are there")
    dtype = np.dtype(bool) if variable.flags & _LOGICAL else np.dtype(_CLASSES[variable.kind])
    return values.reshape(shape, order="F").astype(dtype)


def _variables(stream: BinaryIO, order: str, size: int) -> Iterator[_Variable]:
    """The arrays of numbers in a file."""
    place = 128
    while place + 8 <= size:
        stream.seek(place)
        kind, length = struct.unpack(order + "II", stream.read(8))
        if length > size - place - 8:
            raise ValueError("cut off, or damaged: a variable reaches beyond the end of the file")
        if kind in (_MATRIX, _COMPRESSED) and length:
            head = memoryview(_body(stream, (place + 8, length), _HEAD, kind == _COMPRESSED))
            variable = _variable(head, order, (place + 8, length), kind == _COMPRESSED)
            if variable is not None:
                yield variable
        place += 8 + length


def _variable(head: memoryview, order: str, place: tuple[int, int], compressed: bool) -> _Variable | None:
    """What an element says of the array in it; None if that is not of numbers."""
    at = 8 if compressed else 0
    _, flags, at = _element(head, at, order)
    word, most = struct.unpack(order + "II", flags)
    kind = word & 0xFF
    if kind != _SPARSE and kind not in _CLASSES:
        return None
    _, sizes, at = _element(head, at, order)
    _, name, at = _element(head, at, order)
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"damaged: an array of shape {shape}")
    return _Variable(bytes(name).decode("latin-1"), kind, word, most, shape, place, compressed, at)


def _element(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """The type and the data of the element at a place, and where the next one is."""
    kind, length = struct.unpack_from(order + "II", data, at)
    if kind >> 16:  # the short form
        kind, length, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
    else:
        start, end = at + 8, at + 8 + -(-length // 8) * 8
    if start + length > len(data) or (start == at + 4 and length > 4):
        raise ValueError("cut off, or damaged: an array has fewer bytes than it should")
    return kind, data[start : start + length], end


def _body(stream: BinaryIO, place: tuple[int, int], most: int, compressed: bool) -> bytes:
    """So many bytes of an element, or all."""
    stream.seek(place[0])
    if not compressed:
        return stream.read(min(place[1], most))
    return zlib.decompressobj().decompress(stream.read(place[1]), most)


def _read_4(path: Path, name: str | None) -> NDArray[Any]:
    from scipy.io import loadmat, whosmat

    with by_others("scipy"):
        shapes = {key: shape for key, shape, kind in whosmat(path) if kind in ("double", "single", "int32", "sparse")}
        name = chosen(list(shapes), name, path.name)
        with warnings.catch_warnings():  # matrix or array: both become dense
            warnings.filterwarnings("ignore", "The default value for `spmatrix`")
            found = loadmat(path, variable_names=[name])[name]
        return plain(found, "the array")


def _read_hdf5(path: Path, name: str | None) -> NDArray[Any]:
    with opened(path) as file:
        found = arrays_in(file, _is_sparse)
        if not any("MATLAB_class" in item.attrs for item in found.values()):
            raise ValueError("an HDF5 file that MATLAB did not write: give it the suffix .h5")
        numeric = (*_CLASSES.values(), "logical")
        arrays = {key: item for key, item in found.items() if _class(item) in numeric and not key.startswith("#")}
        item = arrays[chosen(list(arrays), name, path.name)]
        if _is_sparse(item):
            columns = values_of(item["jc"])
            rows, values = ((values_of(item[part]) if part in item else np.empty(0)) for part in ("ir", "data"))
            return _columns(rows, columns, values, (int(item.attrs["MATLAB_sparse"]), len(columns) - 1))
        values = values_of(item)
        if item.attrs.get("MATLAB_empty"):
            return np.empty(tuple(map(int, values)))
        if values.dtype.names == ("real", "imag"):
            raise TypeError("holds complex numbers: data must be real numbers")
        return values.T  # MATLAB keeps columns together


def _class(item: Any) -> str:
    kind = item.attrs.get("MATLAB_class", b"")
    return kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)


def _is_sparse(item: Any) -> bool:
    return "MATLAB_sparse" in item.attrs and "jc" in item


def _columns(rows: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A sparse matrix by the rows of its values, and where each column begins."""
    from scipy.sparse import csc_matrix

    last = int(columns[-1]) if len(columns) else 0
    return plain(csc_matrix((values[:last], rows[:last], columns), shape=shape), "the array")
