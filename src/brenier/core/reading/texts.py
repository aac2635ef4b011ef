"""Tables in text: their encoding, and their fields."""

import gzip
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brenier.core.memory import check_fits
from brenier.core.reading.files import line, say
from brenier.core.reading.layout import SPACE, Layout, find_layout
from brenier.core.reading.numbers import decimal_marks
from brenier.core.reading.options import Reading

if TYPE_CHECKING:
    import pandas as pd

HEAD = 2**20  # characters from which the layout is found
LONGEST = 2**23  # characters of a line
_PER_FIELD = 16  # bytes that a field takes beside its characters while it is read
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f]")


def read_text(path: Path, reading: Reading) -> tuple["pd.DataFrame", Layout]:
    """The fields below the names of a table in text, as numbers where a whole column is; and how it is laid out.

    Raises:
        ValueError: no text, no rows, rows of unequal length, decimal marks that are unclear.
    """
    text = Text(path)
    head = text.head()
    layout = find_layout(head, reading)
    fields = sum(len(line.split(None if layout.separator == SPACE else layout.separator)) for line in head)
    text.check_fits(_PER_FIELD * fields / max(sum(map(len, head)), 1))
    frame = _fields(text, layout)
    if reading.decimal is None and not layout.certain:
        words = (entry for _, column in frame.items() if column.dtype.kind == "O" for entry in column)
        certain, either = decimal_marks(entry for entry in words if isinstance(entry, str))
        if certain == {","}:
            layout = layout._replace(decimal=",")
            frame = _fields(text, layout)
        elif either is not None and not certain:
            raise ValueError(f"{either!r} may be a fraction or thousands: say which is the decimal mark, . or ,")
    for note in layout.notes:
        say(path, note)
    return frame, layout


def _fields(text: "Text", layout: Layout) -> "pd.DataFrame":
    import pandas as pd

    # Since 3.1 pandas rounds what it reads right by itself, and warns of being told to.
    exact: Any = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
    try:
        with text.open(layout.lines) as stream:
            return pd.read_csv(
                stream,
                header=None,
                sep=r"\s+" if layout.separator == SPACE else layout.separator,
                decimal=layout.decimal,
                comment="#",
                skipinitialspace=layout.separator != "\t",
                low_memory=False,
                **exact,
            )
    except UnicodeError:
        raise ValueError("not text in one encoding: write it in UTF-8") from None
    except pd.errors.EmptyDataError:
        raise ValueError("the file is empty: it must hold at least one point") from None
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise ValueError(f"not a table: {line(error).removeprefix('Error tokenizing data. C error: ')}") from None
        expected, place, seen = map(int, found.groups())
        where = f"line {layout.lines + place} has {seen} fields, and those before it {expected}"
        raise ValueError(f"{where}: give every row as many, with one separator") from None


class Text:
    """A file of text: UTF-8, UTF-16 with its mark, or one byte per character; gzip'd or not; lines ended in any way.

    Raises:
        ValueError: it is no text.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as stream:
            self._zipped = stream.read(2) == b"\x1f\x8b"
        with self._bytes() as stream:
            start = stream.read(HEAD)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            self._encoding = "utf-16"
        else:
            self._encoding = "utf-8-sig"
            try:
                start.decode()
            except UnicodeDecodeError as error:
                if error.start < HEAD - 4:
                    self._encoding = "latin-1"  # digits are the same in all of these
        if _BINARY.search(start.decode(self._encoding, errors="ignore")):
            raise ValueError("not text, in spite of its name: write numbers with a separator between them")

    def _bytes(self) -> gzip.GzipFile | io.BufferedReader:
        return gzip.GzipFile(self._path) if self._zipped else self._path.open("rb")

    def check_fits(self, per_byte: float) -> None:
        """Refuse a text whose table takes more than the memory that is free, by what a byte of it takes.

        Raises:
            ValueError: it does.
        """
        size = 0 if self._zipped else self._path.stat().st_size
        with self._bytes() as stream:
            while self._zipped and (block := stream.read(HEAD)):
                size += len(block)
                check_fits(int(size * (1 + per_byte)), "the table")
        check_fits(int(size * (1 + per_byte)), "the table")

    def open(self, lines: int = 0) -> io.TextIOWrapper:
        """The text after its first lines."""
        stream = io.TextIOWrapper(self._bytes(), self._encoding)
        for _ in range(lines):
            stream.readline()
        return stream

    def head(self) -> list[str]:
        """The first lines, whole."""
        with self.open() as stream:
            text = stream.read(HEAD)
            while len(text) < LONGEST and "\n" not in text.strip("\n") and (more := stream.read(HEAD)):
                text += more
            lines = text.split("\n")
            last = lines.pop()
            if last and not stream.read(1):
                lines.append(last)
        if not lines and last:
            raise ValueError(f"a line of more than {len(text):,} characters: tables have one point per line")
        return lines
