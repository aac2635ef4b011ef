"""Pages: a figure of some inches on a canvas that pyplot does not know, its title, its panels' letters, its file."""

import io
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Black on white whatever style a notebook is in, so that all figures look alike; in files, letters are letters.
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "white"),
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "black"),
    "axes.grid": False,
    "axes.titlelocation": "center",
}
WRITTEN: dict[Any, Any] = {
    "svg.hashsalt": "brenier",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "savefig.facecolor": "white",
    "savefig.transparent": False,
}
_UNDATED = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


class Drawing(Figure):
    """A figure that a notebook shows where it is the last value of a cell, without pyplot and `%matplotlib`."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As matplotlib does it, with letters that editors and printers know as such."""
        with mpl.rc_context(WRITTEN):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=100)
        return content.getvalue()


def save_figure(figure: Figure, path: str | Path, *, dpi: float = 200) -> None:
    """Write a figure to a .png, .pdf or .svg file. The same figure makes the same bytes: no dates, no random names.

    Args:
        figure: what to write.
        path: where to; the suffix says in which format. An existing file is replaced.
        dpi: dots per inch of a .png, and of what is drawn as dots in the other two.

    Raises:
        ValueError: matplotlib cannot write files of this suffix.
    """
    Path(path).write_bytes(drawn_as(figure, Path(path).suffix.lower(), dpi=dpi))


def drawn_as(figure: Figure, suffix: str, *, dpi: float = 200) -> bytes:
    """The bytes of a figure as a file of this suffix has them: always the same."""
    content = io.BytesIO()
    with mpl.rc_context(WRITTEN), warnings.catch_warnings():
        # A law may be named in any script: what the font lacks is drawn as a box, which says as much as the warning.
        warnings.filterwarnings("ignore", r"Glyph .* missing", UserWarning)
        # Through memory: matplotlib loses the error when the disk fills up under a file that it has open.
        figure.savefig(content, dpi=dpi, format=suffix[1:] or None, metadata=_UNDATED.get(suffix))
    return content.getvalue()


@contextmanager
def page(
    width: float,
    height: float,
    title: str,
    *,
    at: float | None = None,
    legend: float = 8.0,
    layout: Literal["constrained"] | None = None,
) -> Generator[Figure]:
    """A figure of `width` by `height` inches, on which letters have the sizes of a page while the block draws on it.

    Args:
        width: in inches.
        height: in inches.
        title: of the whole page.
        at: the height of its upper edge, as a share of the page. Default: left to the layout.
        legend: size of the letters of legends, in points.
        layout: an engine of matplotlib that places the panels.
    """
    with mpl.rc_context({**STYLE, "legend.fontsize": legend}):
        figure = Drawing(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        figure.suptitle(title, fontsize=10.5, **({} if at is None else {"y": at, "va": "top"}))


def stacked(rows: int, above: float, panel: float, between: float, below: float) -> tuple[float, dict[str, float]]:
    """The height of a page of so many rows of panels, and where they are on it; all given in inches."""
    height = above + rows * panel + (rows - 1) * between + below
    return height, {"bottom": below / height, "top": 1 - above / height, "hspace": between / panel}


def letter_panels(panels: Iterable[Axes], pad: float | None = 40) -> None:
    """Put (a), (b), ... before the panels' titles, `pad` points above, clear of top axes; None: where they are."""
    place: dict[str, Any] = {} if pad is None else {"y": 1, "pad": pad}
    for letter, ax in zip(ascii_lowercase, panels, strict=False):
        ax.set_title(f"({letter}) {ax.get_title(loc='left')}", loc="left", **place)


def plain(text: str) -> str:
    """Text in which a dollar is a dollar and begins no formula."""
    return text.replace("$", r"\$")


def short(name: object, most: int = 28) -> str:
    """A name of no more than `most` letters."""
    text = str(name)
    return f"{text[: most - 1]}…" if len(text) > most else text


def counted(number: int, what: str) -> str:
    """So many of something: "1 step", "1,024 steps"."""
    return f"{number:,} {what}{'s' * (number > 1)}"
