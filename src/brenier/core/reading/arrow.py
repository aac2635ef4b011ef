"""Arrow's tables: Parquet, Feather, and Arrow's own files and streams."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brenier.core.memory import check_fits
from brenier.core.reading.files import line

Table: TypeAlias = Any  # pyarrow's, which has no types
Entries: TypeAlias = Any  # its ChunkedArray


def read_table(path: Path) -> tuple[Table, list[str]]:
    """A table, and the names of its columns that pandas keeps as labels of rows.

    Raises:
        ValueError: not such a file, in spite of its name, or a damaged one.
    """
    import pyarrow as pa

    try:
        table = _folder(path) if path.is_dir() else _file(path)
        table.validate(full=True)
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"not a table that Arrow can read: {line(error)[:200]}") from None
    kept = (table.schema.pandas_metadata or {}).get("index_columns", [])
    return table, [name for name in kept if isinstance(name, str)]


def _file(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as stream:
        magic = stream.read(6)
        stream.seek(0)
        if path.suffix.lower() == ".parquet":
            if magic[:4] != b"PAR1":
                raise ValueError("not a Parquet file, in spite of its name")
            file = pq.ParquetFile(stream)
            check_fits(8 * file.metadata.num_rows * max(file.metadata.num_columns, 1), "the table")
            return file.read()
        if magic[:4] == b"FEA1":
            raise ValueError("Feather's first version, which is read no more: write it anew")
        if magic == b"ARROW1":
            return pa.ipc.open_file(stream).read_all()
        if magic[:4] != b"\xff\xff\xff\xff":
            raise ValueError("neither a file nor a stream of Arrow, in spite of its name")
        return pa.ipc.open_stream(stream).read_all()


def _folder(path: Path) -> Table:
    import pyarrow as pa

    files = _files(path)
    if not files:
        raise ValueError("holds no .parquet file: its subfolders are not read")
    return pa.concat_tables([_file(file) for file in files])


def row_groups(path: Path) -> list[int]:
    """How many rows each group has, of a Parquet file or of a folder of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts: list[int] = []
    try:
        for file in _files(path):
            known = pq.read_metadata(file)
            counts += [known.row_group(k).num_rows for k in range(known.num_row_groups)]
    except pa.ArrowException as error:
        raise ValueError(f"not a table that Arrow can read: {line(error)[:200]}") from None
    if not sum(counts):
        raise ValueError("the table is empty: it must hold at least one point")
    return counts


def read_groups(path: Path, start: int, stop: int, columns: Sequence[str] | None = None) -> Table:
    """The rows from `start` up to `stop` of a Parquet file or a folder of them, by the row groups that hold them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts: list[Table] = []
    first = 0  # row of the group at hand
    try:
        for name in _files(path):
            with pq.ParquetFile(name) as file:
                for k in range(file.metadata.num_row_groups):
                    count = file.metadata.row_group(k).num_rows
                    low, high = max(start - first, 0), min(stop - first, count)
                    if low < high:
                        wanted = None if columns is None else list(columns)
                        parts.append(file.read_row_group(k, columns=wanted).slice(low, high - low))
                    first += count
        return pa.concat_tables(parts)
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"its files hold tables of several kinds, or are damaged: {line(error)[:200]}") from None


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.glob("*.parquet") if file.is_file()) if path.is_dir() else [path]


def entries(column: Entries) -> NDArray[Any]:
    """The entries of a column: numbers, texts as objects, missing ones NaN or None; lists of one length as (n, length).

    Raises:
        TypeError: entries of another kind.
        ValueError: lists of several lengths, or missing ones.
    """
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return entries(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if lists:
        if column.null_count:
            raise ValueError("a list is missing")
        lengths = compute.unique(compute.list_value_length(column)).to_pylist()
        if len(lengths) > 1:
            raise ValueError(f"lists have {min(lengths)} to {max(lengths)} entries: all must have as many")
        inner = entries(compute.list_flatten(column))
        return inner.reshape(len(column), -1) if len(column) else np.zeros((0, 1))
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if pa.types.is_null(kind):
        check_fits(8 * len(column), "the table")
        return np.full(len(column), np.nan)
    if not (texts or numbers or pa.types.is_decimal(kind)):
        what = "categories" if pa.types.is_dictionary(kind) else str(kind)
        raise TypeError(f"holds {what}")
    return column.to_numpy()
