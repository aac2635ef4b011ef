"""How reports are laid out: numbers, lines, columns and tables, and where they are printed."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich import box
from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 120
ROUNDING = 1e-12  # of the largest number of a column: what is smaller is rounding, and is shown as 0
REMARK = 24  # columns that the remark of a fact needs beside it
ROWS = 40
GAP = 2


def stdout() -> Console:
    """Standard output, as wide as the terminal; `PIPED_WIDTH` wide where it is none and COLUMNS is not set."""
    console = Console(highlight=False)
    return console if console.is_terminal or os.environ.get("COLUMNS") else Console(highlight=False, width=PIPED_WIDTH)


def say(text: str, console: Console | None = None) -> None:
    """Print a line, broken between words where a terminal is narrower, and whole where it is piped."""
    console = console or stdout()
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


class Column(NamedTuple):
    """A column of the table: its cells alone, and with their standard errors (None: they have none)."""

    title: str
    plain: list[str]
    detailed: list[str] | None = None

    def width(self, detailed: bool = False) -> int:
        """Characters that the column takes."""
        cells = self.detailed if detailed and self.detailed is not None else self.plain
        return max(len(text) for text in (self.title, *cells))


def many(count: int, what: str) -> str:
    """So many of them: 1 step, 1,000 steps."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def number(value: float) -> str:
    """A number in at most seven characters or so; only zero looks like zero."""
    size = abs(value)
    if math.isnan(size):
        return "-"
    if size == 0:
        return "0"
    if math.isinf(size):
        return "inf" if value > 0 else "-inf"
    if size < 0.0005:
        return f"{value:.0e}"
    if size >= 99999.5:
        return f"{value:.2e}"
    decimals = 3 if size < 9.9995 else 2 if size < 99.995 else 1 if size < 999.95 else 0
    return f"{value:.{decimals}f}"


def scale(value: float, digits: int = 3) -> str:
    """A positive number to three digits, for what runs over many powers of ten."""
    if not 1e-4 <= value < 1e6:
        return "-" if math.isnan(value) else f"{value:.{digits}g}"
    digits = max(digits, len(f"{value:.0f}"))
    return np.format_float_positional(value, digits, fractional=False, trim="-")


def with_error(about: Mapping[str, Any], name: str) -> str:
    """A number to the place of its standard error's second digit."""
    value, se = float(about[name]), float(about[f"{name}_se"])
    digits = math.floor(math.log10(abs(value) / se)) + 2 if value != 0 and se > 0 else 3
    return f"{scale(value, max(digits, 3))} ± {scale(se, 2)}"


def distinct(values: NDArray[np.float64]) -> list[str]:
    """Positive numbers to as many digits, three at least, as tell them apart."""
    for digits in range(3, 17):
        texts = [scale(value, digits) for value in values]
        if len(set(texts)) == len(values):
            return texts
    return [repr(float(value)) for value in values]


def lay_out(table: list[Column], width: int) -> list[list[tuple[str, list[str]]]]:
    """Lay columns out: standard errors where they fit, m* first; and several tables where the columns do not."""
    first, *rest = table
    total = sum(column.width() for column in table) + GAP * (len(table) - 1)
    shown = {column.title: column.plain for column in table}
    for column in sorted(table, key=lambda column: column.title != "m*"):
        more = column.width(detailed=True) - column.width()
        if column.detailed is not None and total + more <= width:
            shown[column.title] = column.detailed
            total += more
    blocks: list[list[tuple[str, list[str]]]] = []
    room = 0
    for column in rest:
        needed = GAP + max(len(text) for text in (column.title, *shown[column.title]))
        if not blocks or needed > room:
            blocks.append([(first.title, first.plain)])
            room = width - first.width()
        blocks[-1].append((column.title, shown[column.title]))
        room -= needed
    return blocks


def grid(
    titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None] | None = None, left: int = 0
) -> Table:
    """A table: `left` columns of words, broken where there is no room, then others to the right, which never are."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place < left else "right", no_wrap=place >= left)
    for place, cells in enumerate(rows):
        table.add_row(*cells, style=None if styles is None else styles[place])
    return table


def rounded(values: ArrayLike, *others: ArrayLike) -> list[NDArray[np.float64]]:
    """Numbers of a column, and errors that belong to them: 0 where they are rounding beside its largest number."""
    columns = [np.asarray(one, dtype=np.float64) for one in (values, *others)]
    known = np.abs(columns[0][np.isfinite(columns[0])])
    least = ROUNDING * float(known.max(initial=0.0))
    return [np.where(np.abs(one) <= least, 0.0, one) for one in columns]


def with_errors(values: ArrayLike, errors: ArrayLike) -> tuple[list[str], list[str]]:
    """Cells of a column alone, and with standard errors, which are left out where they are 0 or not known."""
    numbers, doubts = rounded(values, errors)
    cells = [number(value) for value in numbers]
    return cells, beside(cells, [number(doubt) if doubt > 0 else "" for doubt in doubts])


def beside(cells: Sequence[str], errors: Sequence[str]) -> list[str]:
    """The cells of a column with their standard errors, which begin at one place; "" where there is none."""
    shown = [f" ±{error}" if error else "" for error in errors]
    width = max(map(len, shown))
    return [f"{cell}{error:<{width}}" for cell, error in zip(cells, shown, strict=True)]


def print_tables(columns: list[Column], styles: Sequence[str | None], console: Console, left: int = 0) -> None:
    """Print the columns as `tables` lays them out, with an empty line after each."""
    for table in tables(columns, console.width, styles, left):
        console.print(table)
        console.print()


def tables(columns: list[Column], width: int, styles: Sequence[str | None], left: int = 0) -> list[Table]:
    """The columns as one table, or as several where they do not fit; each begins with the first column."""
    return [
        grid([title for title, _ in block], list(zip(*(cells for _, cells in block), strict=True)), styles, left)
        for block in lay_out(columns, width)
    ]


def print_facts(title: str, rows: Sequence[tuple[str, str, str]], console: Console | None = None) -> None:
    """Print a title, and under it rows of a name, a value and a remark, which alone may be broken.

    Where there is no room for remarks beside the values, they stand under them.
    """
    console = console or stdout()
    say(title, console)
    console.print()
    name, value = (max((len(row[k]) for row in rows), default=0) for k in (0, 1))
    beside_them = name + value + 2 * GAP + REMARK <= console.width
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    for wide in (False, False, True) if beside_them else (False, True):
        table.add_column(no_wrap=not wide)
    for row in rows:
        table.add_row(*(row if beside_them else (row[0], "\n".join(part for part in row[1:] if part))))
    console.print(table)


def print_interrupted(output: Path) -> None:
    """Say on standard error what an interrupted fit has left, and how to go on."""
    say(
        f"brenier: interrupted: {str(output)!r} holds the map so far, not measured: go on with --resume",
        Console(stderr=True, highlight=False),
    )
