"""A file or folder of whatever kind to an array, by its suffix."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from brenier.core.reading.arrays import read_npy, read_npz
from brenier.core.reading.files import exists, is_store, one_line, split_member
from brenier.core.reading.hdf5 import read_anndata, read_hdf5
from brenier.core.reading.image_files import image_labels
from brenier.core.reading.images import read_images
from brenier.core.reading.labels import column_labels, line_labels
from brenier.core.reading.matlab import read_matlab
from brenier.core.reading.netcdf import read_netcdf
from brenier.core.reading.options import Reading
from brenier.core.reading.points import shaped, standardized
from brenier.core.reading.tables import read_columns, read_csv
from brenier.core.reading.tensors import read_safetensors, read_torch
from brenier.core.reading.values import Array, check_array
from brenier.core.reading.zarr_stores import read_zarr


def read_array(source: str | os.PathLike[str], reading: Reading | None = None) -> Array:
    """Read the points in a data file, shape (n, *event_shape), float32 or float64.

    Args:
        source: a file by its suffix, or a folder of images:
            `.npy`;
            `.npz`, `.pt`, `.pth`, `.safetensors`, `.h5`, `.hdf5`, `.h5ad`, `.mat`, `.nc`, `.nc4`, `.zarr`, as
            "file.npz:name" where it holds several arrays, with "a/b" for b in a;
            `.csv`, `.tsv`, `.csv.gz`, `.tsv.gz`: a table in text, with a header or without, every column numeric;
            `.parquet`, also a folder of them, `.feather`, `.arrow`: the same, with lists of coordinates, too;
            a folder of images, or a `.zip` archive of them, see `read_images`.
        reading: how, where the file does not say it itself.

    Raises:
        ValueError, TypeError: see `check_array`; also where the file is missing, unreadable or of another kind, or
            `reading` says what does not apply to it.
    """
    text = os.fspath(source)
    reading = Reading() if reading is None else reading
    file, name = split_member(text)
    path = Path(file)
    if not exists(path):
        raise ValueError(f"{text!r} does not exist: give the path of a data file or of a folder of images")
    check_fields(text, reading, fields_of(path))
    suffix = suffix_of(path)
    images = suffix == ".zip" or (path.is_dir() and not suffix)
    points = read_images(path) if images else check_array(_raw(path, name, text, reading), text)
    if reading.shape is not None:
        points = shaped(points, reading.shape, text)
    if reading.standardize is False:
        return points
    by = points if reading.standardize is True else check_array(reading.standardize, "standardize")
    return standardized(points, by, text)


def read_labels(source: str | os.PathLike[str], reading: Reading | None = None) -> NDArray[Any]:
    """Read the labels of points, numbers or text, one for each, in their order.

    Args:
        source: a folder or `.zip` archive of images, see `image_labels`; a table as for `read_array`, with one column
            or as "table.csv:NAME"; `.txt`, a label per line; or an array of numbers or text in a file.
        reading: how, where the file does not say it itself.

    Raises:
        ValueError, TypeError: as `image_labels`, `column_labels` and `read_array`.
    """
    text = os.fspath(source)
    reading = Reading() if reading is None else reading
    file, name = split_member(text)
    table, colon, column = text.rpartition(":")
    if name is None and colon and not exists(Path(text)) and suffix_of(Path(table)) in TABLES:
        file, name = table, column
    path = Path(file)
    if not exists(path):
        raise ValueError(f"{text!r} does not exist: give the path of a file of labels")
    suffix = suffix_of(path)
    if suffix == ".zip" or (path.is_dir() and not suffix):
        return image_labels(path)
    if suffix in (*TABLES, ".txt"):
        with one_line(path):
            return line_labels(path) if suffix == ".txt" else column_labels(path, name, reading, suffix in TEXTS)
    found = _raw(path, name, text, Reading())
    if found.dtype.kind not in "SU":
        found = check_array(found, text)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def suffix_of(path: Path) -> str:
    """The suffix that says how a file is read, with that before .gz; of a folder, what it holds: "" for images."""
    if is_store(path):
        return ".zarr"
    if path.is_dir():
        return ".parquet" if next(path.glob("*.parquet"), None) is not None else ""
    return "".join(path.suffixes[-2 if path.suffix.lower() == ".gz" else -1 :]).lower()


def fields_of(path: Path) -> tuple[str, ...]:
    """The fields of a `Reading` that say something about a file of this kind."""
    suffix = suffix_of(path)
    named = ("columns", "drop") if suffix in TABLES else ()
    return (*named, *(("separator", "decimal", "header") if suffix in TEXTS else ()), "shape", "standardize")


def check_fields(name: str, reading: Reading, fields: Collection[str]) -> None:
    """Refuse a `Reading` that says what does not apply.

    Raises:
        ValueError: it says more than `fields`.
    """
    lost = [field for field in reading.given if field not in fields]
    if lost:
        kind = {"columns": "tables", "drop": "tables", "shape": "points", "standardize": "points"}
        kind |= dict.fromkeys(("condition", "unconditional", "guidance"), "networks of diffusers")
        about = kind.get(lost[0], "tables of text")
        raise ValueError(f"{lost[0]} says how {about} are read, and {name!r} is of another kind: leave it out")


def _raw(path: Path, name: str | None, text: str, reading: Reading) -> NDArray[Any]:
    """What a file holds, whether it is data or not."""
    suffix = suffix_of(path)
    if suffix not in READERS and suffix not in TABLES:
        kinds = ", ".join((*READERS, *TABLES))
        raise ValueError(
            f"{text!r} has no suffix that says how to read it: give {kinds}, or a folder or .zip of images"
        )
    with one_line(Path(text)):
        if path.is_file() and path.stat().st_size == 0:
            raise ValueError("the file is empty: it must hold at least one point")
        return TABLES[suffix](path, reading) if suffix in TABLES else READERS[suffix](path, name)


READERS: dict[str, Callable[[Path, str | None], NDArray[Any]]] = {
    ".npy": lambda path, _: read_npy(path),
    ".npz": read_npz,
    ".pt": read_torch,
    ".pth": read_torch,
    ".safetensors": read_safetensors,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".h5ad": read_anndata,
    ".mat": read_matlab,
    ".nc": read_netcdf,
    ".nc4": read_netcdf,
    ".zarr": read_zarr,
}
TEXTS: dict[str, Callable[[Path, Reading], NDArray[Any]]] = dict.fromkeys(
    (".csv", ".tsv", ".csv.gz", ".tsv.gz"), read_csv
)
TABLES = TEXTS | dict.fromkeys((".parquet", ".feather", ".arrow"), read_columns)
