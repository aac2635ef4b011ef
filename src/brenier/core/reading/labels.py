"""Labels of points in tables and lines of text: numbers or words, one for each point."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.files import choices
from brenier.core.reading.numbers import to_number
from brenier.core.reading.options import Reading
from brenier.core.reading.tables import Column, arrow_columns, text_columns, without_row_numbers
from brenier.core.reading.texts import Text

_MARKS = "\t;|,"


def column_labels(path: Path, name: str | None, reading: Reading, text: bool) -> NDArray[Any]:
    """The labels in a column of a table, shape (n,).

    Args:
        path: the file, of text or one of Arrow's.
        name: which column. Default: the only one beside row numbers.
        reading: how, where a text does not say it itself. A word that only the first line has is a name.
        text: whether it is one of text.

    Raises:
        ValueError: no such column, several, or a point without a label.
    """
    columns = _in_text(path, reading) if text else arrow_columns(path, Reading())
    names = [column.name for column in columns]
    if name is None:
        columns = without_row_numbers(path, columns)
        if len(columns) != 1:
            raise ValueError(f"holds {len(columns)} columns: choose one as '{path.name}:NAME', NAME = {choices(names)}")
        return _labels(_entries(columns[0]))
    if names.count(name) != 1:
        found = "no column" if name not in names else f"{names.count(name)} columns"
        raise ValueError(f"holds {found} {name!r}: choose of {choices(names)}")
    return _labels(_entries(columns[names.index(name)]))


def line_labels(path: Path) -> NDArray[Any]:
    """The labels in a text, one per line, shape (n,)."""
    with Text(path).open() as stream:
        return _labels([line.strip() for line in stream.read().rstrip().split("\n")])


def _in_text(path: Path, reading: Reading) -> list[Column]:
    reading = reading.only({"separator", "decimal", "header"})
    first = next((line for line in Text(path).head() if line.strip()), "")
    if reading.separator is None and not any(mark in first for mark in _MARKS):
        reading = replace(reading, separator=",")  # words may hold spaces
    columns = text_columns(path, reading)
    if len(columns) > 1 or reading.header is not None:
        return columns
    [alone] = text_columns(path, replace(reading, header=False))
    name, *below = _entries(alone)
    if name in below or not isinstance(name, str) or to_number(name) is not None:
        return [alone]
    return [replace(alone, name=name, entries=alone.entries[1:])]


def _entries(column: Column) -> list[Any]:
    entries = column.entries
    return entries.tolist() if isinstance(entries, np.ndarray) else entries.to_pylist()


def _labels(entries: Sequence[Any]) -> NDArray[Any]:
    """Numbers where all of them are, else text."""
    for row, entry in enumerate(entries):
        if entry is None or entry == "" or (isinstance(entry, float) and math.isnan(entry)):
            raise ValueError(f"row {row} (counted from 0) has no label (empty or NaN): every point needs one")
    numbers = [to_number(entry) if isinstance(entry, str) else entry for entry in entries]
    if all(isinstance(number, int | float) and not math.isnan(number) for number in numbers):
        return np.array(numbers)
    return np.array([str(entry) for entry in entries])
