"""Tables: one point per row, one coordinate per column.

Columns are found by name, row numbers are no coordinate, and what is no number is refused with its column's name.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.arrow import entries, read_table
from brenier.core.reading.files import choices, say
from brenier.core.reading.numbers import to_number
from brenier.core.reading.options import Reading
from brenier.core.reading.texts import read_text

if TYPE_CHECKING:
    import pandas as pd

_COUNTING = frozenset({"index", "id", "row", "rowid", "row_id", "rownames", "level_0", "nr", "no", "#"})
_UNNAMED = re.compile(r"Unnamed: \d+|__index_level_\d+__")
RULE = 0.99  # of the variance: a quarter of the columns that holds more has all the say
_MANY = 100  # rows whose variances say something
_FEW = 5  # rows that may well count themselves by chance


@dataclass(frozen=True)
class Column:
    """A column of a table: a name to choose it by, its entries, the decimal mark of texts, whether the name is its own.

    Entries are an array (n,), (n, k) for lists, or a `ChunkedArray`, which is turned into one if it is chosen.
    """

    name: str
    entries: Any
    decimal: str = "."
    named: bool = True


def read_csv(path: Path, reading: Reading) -> NDArray[Any]:
    """The numbers in a table of text, with a header or without, shape (rows, columns)."""
    return _points(path, text_columns(path, reading), reading)


def read_columns(path: Path, reading: Reading) -> NDArray[Any]:
    """The numbers in a Parquet, Feather or Arrow file, or a folder of Parquet files, shape (rows, columns)."""
    return _points(path, arrow_columns(path, reading), reading)


def text_columns(path: Path, reading: Reading) -> list[Column]:
    """The columns of a table of text; those without a name are called by their number.

    Raises:
        ValueError: see `read_text`; another number of names than of fields.
    """
    frame, layout = read_text(path, reading)
    columns = [series.to_numpy() for _, series in frame.items()]
    names = layout.names
    while len(columns) > 1 and _is_missing(columns[-1]) and not (names and len(names) >= len(columns) and names[-1]):
        columns.pop()  # separators at the ends of lines
    names = [str(place) for place in range(len(columns))] if names is None else names
    while len(names) > len(columns) and not names[-1]:
        names = names[:-1]
    rows_named = len(names) == len(columns) - 1 and (len(names) > 1 or layout.separator != ",")
    if rows_named and (columns[0].dtype.kind == "O" or _counts(columns[0])):
        names = ["", *names]  # as R writes them
    if len(names) != len(columns):
        remedy = "give as many" if layout.separator != "," else "give as many, and say where commas are decimal marks"
        raise ValueError(f"the rows have {len(columns)} fields, and the header has {len(names)} names: {remedy}")
    pairs = enumerate(zip(names, columns, strict=True))
    return [Column(name or str(place), values, layout.decimal, bool(name)) for place, (name, values) in pairs]


def arrow_columns(path: Path, reading: Reading) -> list[Column]:
    """The columns of a table of Arrow's, without what pandas keeps as labels of rows, unless it is asked for."""
    table, labels = read_table(path)
    left = [name for name in labels if name not in (reading.columns or ())]
    said = [name for name in left if not _UNNAMED.fullmatch(name) and name not in reading.drop]
    if said:
        say(path, f"labels of rows, {choices(said)}, are left out: name all columns that are coordinates to read them")
    names = [str(name) for name in table.column_names]
    return [Column(name, table.column(k)) for k, name in enumerate(names) if name not in left or name in reading.drop]


def coordinates_of(path: Path, table: Any, reading: Reading) -> tuple[NDArray[Any], list[str]]:
    """The numbers in some rows of a table of Arrow's, shape (rows, columns), and the names of their columns."""
    labels = (table.schema.pandas_metadata or {}).get("index_columns", [])
    names = [str(name) for name in table.column_names]
    columns = [Column(name, table.column(k)) for k, name in enumerate(names) if name not in labels]
    picked = _chosen(path, columns, reading)
    return _stacked(_all_coordinates(picked)), [column.name for column in picked]


def _points(path: Path, columns: Sequence[Column], reading: Reading) -> NDArray[Any]:
    picked = _chosen(path, columns, reading)
    points = _stacked(_all_coordinates(picked))
    if reading.standardize is False and len(points) >= _MANY:
        _say_which_rule(path, points, [column.name for column in picked])
    return points


def _say_which_rule(path: Path, points: NDArray[Any], names: Sequence[str]) -> None:
    """Say so where a few of many columns hold nearly all of the variance: their units may be why."""
    with np.errstate(all="ignore"):  # what overflows is refused by who asks for it
        variances = points.astype(np.float64).var(0)
        order = np.argsort(-variances)
        held = np.cumsum(variances[order]) / variances.sum()
    vary = int((variances > 0).sum())
    many = int(np.argmax(held > RULE)) + 1
    if len(names) != len(variances) or vary < 2 or many > max(1, vary // 4) or not held[many - 1] > RULE:
        return
    ruling = choices([repr(names[place]) for place in np.sort(order[:many])])
    holds, their = ("holds", "its unit is") if many == 1 else ("hold", "their units are")
    say(
        path,
        f"{many} of {len(names)} columns, {ruling}, {holds} {RULE:.0%} of the variance: if {their} the reason, "
        "--standardize (standardize=True) gives all the same say",
    )


def _chosen(path: Path, columns: Sequence[Column], reading: Reading) -> list[Column]:
    """The columns that are asked for, in that order; otherwise those that may be coordinates."""
    names = [column.name for column in columns]
    for name in (*(reading.columns or ()), *reading.drop):
        if name not in names:
            raise ValueError(f"there is no column {name!r}: choose of {choices(names)}")
    if reading.columns is not None:
        for name in reading.columns:
            if names.count(name) > 1:
                raise ValueError(f"there are {names.count(name)} columns {name!r}: give them names of their own")
        return [columns[names.index(name)] for name in reading.columns]
    return without_row_numbers(path, [column for column in columns if column.name not in reading.drop])


def without_row_numbers(path: Path, columns: Sequence[Column]) -> list[Column]:
    """The columns but those that number the rows, unless there is no other; what is left out is said.

    Raises:
        ValueError: a column has no name and does not number them.
    """
    if len(columns) < 2:
        return list(columns)
    return [column for place, column in enumerate(columns) if not _is_label(path, column, place)]


def _is_label(path: Path, column: Column, place: int) -> bool:
    """Whether a column numbers the rows, which is said; a column that no name explains and that does not is refused."""
    name, unnamed = column.name, not column.named or _UNNAMED.fullmatch(column.name) is not None
    if unnamed and isinstance(column.entries, np.ndarray) and _is_missing(column.entries):
        return True
    if not unnamed and place > 0 and name.lower() not in _COUNTING:
        return False
    values = _whole(column)
    if unnamed:
        if values is None or len(np.unique(values)) < len(values):
            raise ValueError(f"column {name} has no name: give it one, or leave it out (--drop {name!r})")
        say(path, f"column {name} has no name and numbers the rows: it is left out")
        return True
    if values is None or not _counts(values) or (len(values) < _FEW and name.lower() not in _COUNTING):
        return False
    if name.lower() not in _COUNTING:
        say(
            path,
            f"column {name!r} counts the rows, and is read as a coordinate: leave it out with --drop if it is none",
        )
        return False
    say(path, f"column {name!r} counts the rows: it is left out, unless it is asked for with --columns")
    return True


def _whole(column: Column) -> NDArray[Any] | None:
    """The entries where they are whole numbers."""
    if not isinstance(column.entries, np.ndarray):
        import pyarrow as pa

        if not pa.types.is_integer(column.entries.type) or column.entries.null_count:
            return None
        return column.entries.to_numpy()
    return column.entries if column.entries.dtype.kind in "iu" else None


def _counts(values: NDArray[Any]) -> bool:
    """Whether values are 0, 1, 2, ... or 1, 2, 3, ..."""
    whole = values.dtype.kind in "iu" and len(values) > 1 and values[0] in (0, 1)
    return bool(whole and (np.diff(values) == 1).all())


def _is_missing(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and len(values) > 0 and bool(np.isnan(values).all())


def numbers(frame: "pd.DataFrame") -> NDArray[Any]:
    """The columns of a pandas table as one array, shape (rows, columns), float32 or float64; a missing entry is NaN.

    Raises:
        TypeError: a column is not numeric.
        ValueError: there is none.
    """
    import pandas as pd

    def column(name: str, series: "pd.Series") -> NDArray[Any]:
        dtype: Any = series.dtype
        if getattr(dtype, "kind", "O") in "buif":
            return _real(
                series.to_numpy() if isinstance(dtype, np.dtype) else series.to_numpy(np.float64, na_value=np.nan)
            )
        if dtype != np.dtype(object) and not isinstance(dtype, pd.StringDtype):
            raise TypeError(f"column {name!r} is not numeric but {dtype}: leave it out, or make it numbers")
        return _parsed(Column(name, None), series.to_numpy(), "leave it out, or make it numbers")

    return _stacked([column(str(name), series) for name, series in frame.items()])


def _stacked(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if not arrays:
        raise ValueError("the table has no columns")
    dtype = np.float32 if all(array.dtype == np.float32 for array in arrays) else np.float64
    return np.column_stack([array.astype(dtype, copy=False) for array in arrays])


def _all_coordinates(columns: Sequence[Column]) -> list[NDArray[Any]]:
    """The numbers in each column; what is wrong with several in one way is said at once.

    Raises:
        TypeError, ValueError: as `_coordinates`.
    """
    arrays: list[NDArray[Any]] = []
    refused: list[tuple[str, Exception]] = []
    for column in columns:
        try:
            arrays.append(_coordinates(column))
        except (TypeError, ValueError) as error:
            refused.append((column.name, error))
    if not refused:
        return arrays
    error = refused[0][1]
    alike = [name for name, other in refused if type(other) is type(error)]
    if len(alike) == 1:
        raise error
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(alike)
    raise type(error)(f"{error}; likewise {choices([repr(name) for name in alike[1:]])} (--drop {text.getvalue()!r})")


def _coordinates(column: Column) -> NDArray[Any]:
    """The numbers in a column, float32 or float64, shape (n,), or (n, k) for lists.

    Raises:
        TypeError: an entry is no number.
        ValueError: an entry is missing or infinite, or lists have several lengths.
    """
    name, remedy = repr(column.name), f"leave it out (--drop {column.name!r})"
    try:
        values = column.entries if isinstance(column.entries, np.ndarray) else entries(column.entries)
    except (TypeError, ValueError) as error:
        raise type(error)(f"column {name}: {error}: {remedy}") from None
    values = _real(values) if values.dtype.kind in "buif" else _parsed(column, values, remedy)
    bad = ~np.isfinite(values.reshape(len(values), math.prod(values.shape[1:]))).all(1)
    if bad.any():
        row, many = int(np.argmax(bad)), int(bad.sum())
        what = "values that are NaN or missing" if np.isnan(values[row]).any() else "infinite values"
        where = f"{many} row{'s' * (many > 1)}, first in row {row} (counted from 0)"
        raise ValueError(f"column {name} has {what} in {where}: fill in or remove such rows, or {remedy}")
    return values


def _real(values: NDArray[Any]) -> NDArray[Any]:
    narrow = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    return values.astype(np.float32 if narrow else np.float64, copy=False)


def _parsed(column: Column, values: NDArray[Any], remedy: str) -> NDArray[np.float64]:
    """The numbers that texts and other objects write."""
    found = [_number(entry, column.decimal) for entry in values.ravel()]
    if None in found:
        place = found.index(None)
        text, other = str(values.ravel()[place]), "," if column.decimal == "." else "."
        row = place // max(math.prod(values.shape[1:]), 1)
        if text.strip().endswith("%"):
            remedy = "write 0.12 for 12%"
        elif to_number(text, other) is not None:
            remedy = f"say that {other!r} is the decimal mark"
        raise TypeError(f"column {column.name!r} is not numeric: {text[:40]!r} in row {row} (counted from 0): {remedy}")
    return np.array(found, dtype=np.float64).reshape(values.shape)


def _number(entry: object, decimal: str) -> float | None:
    if entry is None or type(entry).__name__ in ("NAType", "NaTType"):
        return math.nan
    if isinstance(entry, bool | int | float | Decimal | np.number | np.bool):
        return float(entry)
    return to_number(entry, decimal) if isinstance(entry, str) else None
