"""Where the commands print."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 120


def stdout() -> Console:
    """Standard output, as wide as the terminal; `PIPED_WIDTH` wide where it is none and COLUMNS is not set."""
    console = Console(highlight=False)
    return console if console.is_terminal or os.environ.get("COLUMNS") else Console(highlight=False, width=PIPED_WIDTH)


def stderr() -> Console:
    """Standard error, for what is said beside the output; lines are never broken."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_facts(title: str, rows: Sequence[tuple[str, str, str]], console: Console | None = None) -> None:
    """Print a title, and under it rows of a name, a value and a remark, which alone may be broken."""
    console = console or stdout()
    console.print(title, markup=False, soft_wrap=True)
    console.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    for wide in (False, False, True):
        table.add_column(no_wrap=not wide)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_interrupted(output: Path) -> None:
    """Say on standard error what an interrupted fit has left, and how to go on."""
    stderr().print(
        f"brenier: interrupted: {str(output)!r} holds the map so far, not measured; "
        f"go on from it with --start {output} and a new name for -o, or --force",
        markup=False,
    )
