"""Arrays in Zarr stores, versions 2 and 3: folders, by the zarr library.

Some codecs of such a store unpickle what they read. So its metadata are read first, as the JSON that they are, and an
array is opened only where all its codecs are known to turn bytes into numbers and to do nothing else.
"""

import base64
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.extras import library
from brenier.core.reading.files import read_json
from brenier.core.reading.members import by_others, check_size, chosen, data_among
from brenier.core.reading.packing import unpacked

_CODECS = {
    *("bytes", "endian", "transpose", "sharding_indexed", "blosc", "zstd", "gzip", "zlib", "bz2", "lzma", "lz4"),
    *("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3", "shuffle", "bitround", "delta", "quantize"),
    *("fixedscaleoffset", "astype", "packbits", "pcodec", "zfpy"),
}


def read_zarr(path: Path, name: str | None = None) -> NDArray[Any]:
    """The array of this name, "a/b" for b in the group a, unpacked.

    No name is needed where there is one that is no coordinate. A chunk that was never written is the array's fill
    value; where xarray wrote the store, that marks what is missing, as it does there.

    Raises:
        ValueError: zarr is not installed, a codec may run code, or values are missing.
    """
    with opened(path, name) as (array, attributes, _):
        check_size(array.shape, array.dtype.itemsize)
        return unpacked(np.asarray(array[...]), attributes)


@contextmanager
def opened(path: Path, name: str | None = None) -> Generator[tuple[Any, dict[str, Any], str], None, None]:
    """The array of this name as zarr has it, to be read in ranges; its attributes, and its name.

    Raises:
        ValueError: as `read_zarr`; a chunk does not fit into memory.
    """
    zarr = library("zarr", "zarr", "Zarr stores")
    arrays = _arrays(path)
    about = {key: _attributes(path / key, known) for key, known in arrays.items()}
    axes = {key for key in about if _axes(arrays[key], about[key]) == [key.rpartition("/")[2]]}
    name = name if name is None else name.strip("/")
    name = chosen(data_among(about, axes, name), name, path.name)
    if unsafe := sorted(_codecs(arrays[name]) - _CODECS):
        what = f"the array {name!r}" if name else "the array"
        raise ValueError(f"{what} has the codec {unsafe[0]!r}, and not all codecs are safe to run: write it without")
    with by_others("zarr"):
        array: Any = zarr.open_array(path / name, mode="r")
        check_size(array.shards or array.chunks, array.dtype.itemsize)  # made whole, whatever is asked of it
        yield array, about[name], name


def _arrays(path: Path) -> dict[str, dict[str, Any]]:
    """The metadata of each array in a store, by its name; "" for a store that is one array."""
    found: dict[str, dict[str, Any]] = {}
    for folder, inside, files in os.walk(path):
        inside.sort()
        file = next((mark for mark in ("zarr.json", ".zarray") if mark in files), None)
        known = {} if file is None else read_json(Path(folder, file))
        if file == ".zarray" or known.get("node_type") == "array":
            inside.clear()  # chunks, which may be millions
            found[Path(folder).relative_to(path).as_posix().removeprefix(".")] = known
    return found


def _attributes(folder: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Those of an array, with its mark of what is missing."""
    beside = folder / ".zattrs"
    found = dict(known.get("attributes") or {}) | (read_json(beside) if beside.is_file() else {})
    mark = found.get("_FillValue")
    if isinstance(mark, str):  # as xarray puts a float into version 3
        (found["_FillValue"],) = struct.unpack("<d", base64.b64decode(mark))
    if mark is None and "_ARRAY_DIMENSIONS" in found and known.get("fill_value") is not None:
        mark = known["fill_value"]
        found["_FillValue"] = float(mark) if isinstance(mark, str) else mark  # into version 2; "NaN" is one there
    return found


def _axes(known: dict[str, Any], attributes: dict[str, Any]) -> list[str]:
    """Names of an array's axes, where they have any."""
    return list(known.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS") or [])


def _codecs(known: Any) -> set[str]:
    """Names of all codecs in the metadata of an array, also of those in shards, and of those that are but a name."""
    if isinstance(known, str):
        return {known.removeprefix("numcodecs.")}
    if isinstance(known, list):
        return set().union(*map(_codecs, known))
    if not isinstance(known, dict):
        return set()
    name = known.get("id", known.get("name"))
    own = set() if name is None else {str(name).removeprefix("numcodecs.")}
    parts = (known.get(key) for key in ("codecs", "index_codecs", "configuration", "compressor", "filters"))
    return own.union(*map(_codecs, parts))
