"""What a report prints, as HTML: a console that keeps its tables and sentences, escaped, beside printing them."""

from html import escape
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Block(NamedTuple):
    """A piece of a report: a sentence, or a table."""

    text: str
    table: Table | None = None

    def html(self, name: str = "") -> str:
        """The piece as HTML; a table can be scrolled, by keyboard too, and is called `name`."""
        if self.table is None:
            return f"<p>{escape(self.text)}</p>"
        return table_html(self.table, name)


class Recorder(Console):
    """A console that keeps what is printed on it.

    Attributes:
        blocks: sentences and tables, in their order.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.blocks: list[Block] = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and keep."""
        for one in objects:
            if isinstance(one, Table):
                self.blocks.append(Block("", one))
            elif str(one).strip():
                marked = isinstance(one, str) and options.get("markup", True)
                self.blocks.append(Block((Text.from_markup(one).plain if marked else str(one)).strip()))
        super().print(*objects, **options)


class Summary(str):
    """A report as text, which a notebook shows as HTML.

    Attributes:
        html: the same with tables that can be copied, and nothing that runs.
    """

    __slots__ = ("html",)

    def __new__(cls, text: str, html: str) -> "Summary":
        """The text, and its HTML."""
        made = super().__new__(cls, text)
        made.html = html
        return made

    def _repr_html_(self) -> str:
        return self.html


def table_html(table: Table, name: str = "", rows: str = "") -> str:
    """A table of `tables` as HTML.

    Args:
        table: the table.
        name: of the region in which it scrolls.
        rows: what the ids of its rows begin with. Default: they have none.
    """
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    sides = [' class="left"' if column.justify == "left" else "" for column in table.columns]
    titles = zip((escape(str(column.header)) for column in table.columns), sides, strict=True)
    head = "".join(f'<th scope="col"{side}>{title}</th>' for title, side in titles)
    lines = [f"<thead><tr>{head}</tr></thead>"] if table.show_header else []
    lines.append("<tbody>")
    for k, row in enumerate(table.rows):
        first, *rest = (escape(column[k].strip()) for column in columns)
        place = f' id="{rows}{k}"' if rows else ""
        style = f' class="{row.style}"' if row.style else ""
        cells = "".join(f"<td{side}>{cell}</td>" for cell, side in zip(rest, sides[1:], strict=True))
        lines.append(f'<tr{place}{style}><th scope="row">{first}</th>{cells}</tr>')
    lines.append("</tbody>")
    region = f' class="scroll" role="region" tabindex="0" aria-label="{escape(name)}"' if name else ' class="scroll"'
    return f"<div{region}><table>{''.join(lines)}</table></div>"
