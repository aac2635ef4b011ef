"""`brenier laws`: what can be probed."""

from rich import box
from rich.table import Table
from rich.text import Text




def run_laws() -> None:
    """List the built-in laws and the kinds of files that can be probed."""
    from brenier.catalog import BUILT_IN, FILE_KINDS

    console = stdout()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("LAW", no_wrap=True)
    table.add_column("law")
    for name, built_in in BUILT_IN.items():
        table.add_row(Text(name, "bold"), Text(built_in.law))
    table.add_section()
    for name, content in FILE_KINDS.items():
        table.add_row(Text(name, "bold"), Text(content))
    console.print(table)
