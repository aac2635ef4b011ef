"""Where the commands print."""

import os

from rich.console import Console

PIPED_WIDTH = 120


def stdout() -> Console:
    """Standard output, as wide as the terminal; `PIPED_WIDTH` wide where it is none and COLUMNS is not set."""
    console = Console(highlight=False)
    return console if console.is_terminal or os.environ.get("COLUMNS") else Console(highlight=False, width=PIPED_WIDTH)
