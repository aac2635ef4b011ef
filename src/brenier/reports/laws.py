"""What can be probed, in a terminal."""

from collections.abc import Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from brenier.reports.tables import stdout


def show_laws(laws: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Print the built-in laws and the kinds of files, each with what it is."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("LAW", no_wrap=True)
    table.add_column("law", overflow="fold")
    for entries in (laws, files):
        for name, content in entries.items():
            table.add_row(Text(name, "bold"), Text(content))
        table.add_section()
    stdout().print(table)
