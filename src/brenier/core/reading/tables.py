"""Tables: one point per row, one coordinate per column."""

import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.files import choices, line
from brenier.core.reading.options import Reading

if TYPE_CHECKING:
    import pandas as pd


def read_csv(path: Path, reading: Reading) -> NDArray[Any]:
    """The numbers in a .csv file, with a header or without, shape (rows, columns)."""
    import pandas as pd

    def read(header: int | None, **options: Any) -> "pd.DataFrame":
        separator, decimal = reading.separator or ",", reading.decimal or "."
        return pd.read_csv(path, header=header, sep=separator, decimal=decimal, encoding="utf-8-sig", **options)

    try:
        first = read(None, nrows=1, dtype=str, keep_default_na=False)
        names = [str(field).strip() for field in first.iloc[0]]
        if len(names) == 1 and re.search(r"[;\t ]", names[0]):
            raise ValueError(f"the first line is one field, {names[0][:40]!r}: separate the numbers by commas")
        unnamed = (
            all(name == "" or _is_number(name) for name in names) if reading.header is None else not reading.header
        )
        header = None if unnamed else 0
        if header == 0 and "" in names:
            position = names.index("") + 1
            raise ValueError(f"column {position} has no name (row numbers, perhaps): leave it out, or name it")
        frame = read(header, low_memory=False)
        counted = names == [str(column) for column in range(len(names))]
        if counted and reading.header is None and len(frame) > 1:
            # 0, 1, 2, ... above fractions are column names, which pandas writes for an array without any.
            named = read(0, low_memory=False)
            frame = named if any(dtype.kind == "f" for dtype in named.dtypes) else frame
    except UnicodeDecodeError:
        raise ValueError("not text in UTF-8: write a .csv of numbers separated by commas") from None
    except pd.errors.EmptyDataError:
        raise ValueError("the file is empty: it must hold at least one point") from None
    except pd.errors.ParserError as error:
        raise ValueError(f"not a table: {line(error).removeprefix('Error tokenizing data. C error: ')}") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(f"the rows have more fields than the {len(names)} names in the header")
    return numbers(_chosen(frame, reading))


def _is_number(field: object) -> bool:
    try:
        float(str(field))
    except ValueError:
        return str(field).lower() in ("true", "false")
    return True


def read_parquet(path: Path, reading: Reading) -> NDArray[Any]:
    """The numbers in a Parquet file, shape (rows, columns)."""
    import pandas as pd

    with path.open("rb") as stream:
        if stream.read(4) != b"PAR1":
            raise ValueError("not a Parquet file, in spite of its name")
    return numbers(_chosen(pd.read_parquet(path), reading))


def _chosen(frame: "pd.DataFrame", reading: Reading) -> "pd.DataFrame":
    """The columns that are asked for, in that order."""
    names = [str(label).strip() for label in frame.columns]
    for name in (*(reading.columns or ()), *reading.drop):
        if names.count(name) != 1:
            found = "no column" if name not in names else "several columns"
            raise ValueError(f"there is {found} {name!r}: choose of {choices(names)}")
    kept = [name for name in names if name not in reading.drop] if reading.columns is None else reading.columns
    return frame.iloc[:, [names.index(name) for name in kept]]


def numbers(frame: "pd.DataFrame") -> NDArray[Any]:
    """The columns of a table as one array, shape (rows, columns); a missing entry is NaN."""
    if frame.shape[1] == 0:
        raise ValueError("the table has no columns")
    dtype = np.float32 if all(kind == np.float32 for kind in frame.dtypes) else np.float64
    return np.stack([_column(label, column).astype(dtype) for label, column in frame.items()], axis=1)


def _column(label: object, column: "pd.Series") -> NDArray[Any]:
    import pandas as pd

    if getattr(column.dtype, "kind", "O") in "buif":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if column.dtype != object and not isinstance(column.dtype, pd.StringDtype):
        raise TypeError(f"column {label!r} is not numeric but {column.dtype}: leave it out, or make it numbers")
    # Numbers beyond 64 bits and booleans with gaps come as objects: what can be read as a number is one.
    for row, entry in enumerate(column):
        if not (isinstance(entry, bool | int | float | Decimal) or pd.isna(entry) is True or _is_number(entry)):
            raise TypeError(f"column {label!r} is not numeric: {str(entry)[:40]!r} in row {row} (counted from 0)")
    entries = [np.nan if pd.isna(entry) is True else entry for entry in column]
    return np.asarray(pd.to_numeric(pd.Series(entries, dtype=object)), dtype=np.float64)
