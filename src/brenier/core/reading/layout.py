"""How a text holds a table: what stands between its fields, its decimal mark, and where its numbers begin."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from brenier.core.reading.files import line as one_line
from brenier.core.reading.headers import CERTAIN, PRIOR, SIGN, odds_of_names
from brenier.core.reading.numbers import decimal_marks, is_number, to_number
from brenier.core.reading.options import Reading

SPACE = " "  # as a separator: any run of spaces and tabs
ROWS = 1000  # that are looked at
FIELDS = 10_000  # that tell whether a separator splits lines into numbers
COLUMNS = 100_000  # that are read
_SEPARATORS = ("\t", ";", "|", ",", SPACE)


class Layout(NamedTuple):
    """How a text holds a table."""

    separator: str
    decimal: str
    certain: bool  # whether numbers cannot be read with the other mark
    names: list[str] | None  # None: no header
    lines: int  # before the numbers
    notes: list[str]  # what may not be expected


def find_layout(lines: Sequence[str], reading: Reading) -> Layout:
    """How the table that begins with these lines is laid out, as far as `reading` does not say it.

    Raises:
        ValueError: no rows, none below the names, or too many columns.
    """
    mark = re.fullmatch(r"sep=(.)", lines[0]) if lines else None  # which spreadsheets write, and read
    before = 0 if mark is None else 1
    lines = lines[before:]
    separator = reading.separator or (_separator(lines) if mark is None else mark[1])
    rows = list(_rows(lines, separator))
    if not rows:
        raise ValueError("the file is empty: it must hold at least one point")
    if max(len(row.fields) for row in rows) > COLUMNS:
        raise ValueError(f"the table has more than {COLUMNS:,} columns: save such points as .npy")
    fields, notes = [row.fields for row in rows], list[str]()
    certain, either = decimal_marks(field for row in fields for field in row)
    decimal = reading.decimal or ("," if certain == {","} else ".")
    if separator == ";" and reading.decimal is None and not certain and either is not None and "." in either:
        notes.append(f"numbers such as {either} are read as fractions: say so by the decimal mark if they are not")
    if reading.header is None:
        header, note = _has_names(fields, decimal)
        notes += note
    else:
        header = reading.header
    names, end = (fields[0], rows[0].end) if header else (_names_above(lines, rows[0], separator), 0)
    units = 1
    while header and units < len(rows) - 1 and _is_words(fields[units]) and not _is_words(fields[-1]):
        words = ", ".join(filter(None, fields[units]))
        notes.append(f"a line below the names holds no numbers, {words[:40]!r}: it is left out")
        end = rows[units].end
        units += 1
    if header and units == len(rows):
        raise ValueError("the file is empty below its header: it must hold at least one point")
    return Layout(separator, decimal, bool(certain), names, before + end, notes)


class _Row(NamedTuple):
    end: int  # lines up to its end
    fields: list[str]


def _rows(lines: Iterable[str], separator: str) -> Iterator[_Row]:
    """The first rows, without blank lines and comments."""
    kept = ("" if line.lstrip().startswith("#") else line for line in lines)
    if separator == SPACE:
        kept = (" ".join(line.split()) for line in kept)
    reader = csv.reader((line + "\n" for line in kept), delimiter=separator, skipinitialspace=separator != "\t")
    try:
        for fields in islice(reader, ROWS):
            if len(fields) > 1 or "".join(fields).strip():
                yield _Row(reader.line_num, [field.strip() for field in fields])
    except csv.Error as error:
        raise ValueError(f"not a table: {one_line(error)}") from None


def _separator(lines: Sequence[str]) -> str:
    """What splits the lines into rows of equal length, with the most numbers in them."""

    def score(separator: str) -> tuple[bool, float]:
        try:
            rows = [row.fields for row in islice(_rows(lines, separator), 100)]
        except ValueError:
            return False, 0.0
        if not rows:
            return False, 0.0
        below = rows[1:] or rows
        fields = list(islice((field for row in below for field in row if field), FIELDS))
        widths = {len(row) for row in below}
        equal = len(widths) == 1 and abs(len(rows[0]) - max(widths)) <= 1
        return equal and max(widths) > 1, sum(map(is_number, fields)) / max(len(fields), 1)

    scores = {separator: score(separator) for separator in _SEPARATORS}
    best = max(_SEPARATORS, key=scores.__getitem__)  # the first of equals
    if scores[best][0]:
        return best
    return next((mark for mark in _SEPARATORS[:-1] if lines and all(mark in line for line in lines if line)), ",")


def _is_words(fields: Sequence[str]) -> bool:
    return any(fields) and not any(is_number(field) for field in fields if field)


def _counts(fields: Sequence[str]) -> bool:
    """Whether fields are 0, 1, 2, ... or 1, 2, 3, ..."""
    return any(list(fields) == [str(k) for k in range(start, start + len(fields))] for start in (0, 1))


def _names_above(lines: Sequence[str], first: _Row, separator: str) -> list[str] | None:
    """The names in a comment right above the first row, where there are as many."""
    comments = [line.lstrip().removeprefix("#") for line in lines[: first.end - 1] if line.strip()]
    names = next((row.fields for row in _rows(comments[-1:], separator)), [])
    return names if len(names) == len(first.fields) and _is_words(names) else None


def _has_names(rows: Sequence[list[str]], decimal: str) -> tuple[bool, list[str]]:
    """Whether the first row is names, and what to say about that."""
    first, below = rows[0], [fields for fields in rows[1:] if len(fields) == len(rows[0])]
    is_digits = [all(is_number(fields[place]) for fields in below) for place in range(len(first))]
    digits = [place for place, known in enumerate(is_digits) if known]
    if not below or not digits or not all(is_number(first[place]) for place in digits):
        return not all(map(is_number, first)), []
    if first[0] == "" and all(first[1:]) and _counts([fields[0] for fields in below]):
        return True, []  # above the labels of rows
    names, points = [first[place] for place in digits], [[fields[place] for place in digits] for fields in below]
    values = [[to_number(field, decimal) for field in fields] for fields in (names, *points)]
    odds = odds_of_names(names, points, np.array(values, dtype=np.float64))
    if odds >= CERTAIN or odds <= SIGN * PRIOR:
        return odds >= CERTAIN, []
    shown = ", ".join(first[:4]) + (", ..." if len(first) > 4 else "")
    if odds >= 1:
        return True, [f"the first line, {shown}, is read as names: --no-header (header=False) if it is a point"]
    return False, [f"the first line, {shown}, is read as a point: --header (header=True) if it is names"]
