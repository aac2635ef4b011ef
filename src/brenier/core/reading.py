"""Reading numeric data from files.

`read_array` reads every kind of data file into one array of shape (n, *event_shape), one point per row, checked by
`check_array`. Nothing is ever unpickled.

Every problem with a file is a `ValueError` (a `TypeError` where the values have the wrong type) of one line that names
the file, says what is wrong with it, and what would be right.
"""

import json
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Array: TypeAlias = NDArray[np.floating[Any]]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_MEMBER = re.compile(r"(?P<file>.*?\.npz):(?P<name>.*)", re.IGNORECASE | re.DOTALL)


def exists(path: Path) -> bool:
    """Whether there is a file or folder at `path`; False for what cannot be a path, such as too long a name."""
    try:
        return path.exists()
    except OSError:
        return False


def split_member(source: str) -> tuple[str, str | None]:
    """Split "file.npz:name" into the file and the name of an array in it; the name is None where there is none."""
    match = None if exists(Path(source)) else _MEMBER.fullmatch(source)
    return (source, None) if match is None else (match["file"], match["name"])


def read_array(source: str | os.PathLike[str]) -> Array:
    """Read the points in a data file, shape (n, *event_shape), float32 or float64.

    Args:
        source: a file by its suffix, or a folder of images:
            `.npy`; `.npz`, as "file.npz:name" where it holds several arrays;
            `.csv`, separated by commas, with a header or without, every column numeric;
            `.parquet`, every column numeric;
            a folder of PNG and JPEG images, see `read_images`.

    Raises:
        ValueError, TypeError: see `check_array`; also where the file is missing, unreadable or of another kind.
    """
    text = os.fspath(source)
    file, name = split_member(text)
    path = Path(file)
    if not exists(path):
        raise ValueError(f"{text!r} does not exist: give the path of a data file or of a folder of images")
    if path.is_dir():
        return read_images(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(_READERS)
        raise ValueError(f"{text!r} has no suffix that says how to read it: give {kinds}, or a folder of images")
    with _one_line(path):
        if path.stat().st_size == 0:
            raise ValueError("the file is empty: it must hold at least one point")
        array = _read_npz(path, name) if name is not None else reader(path)
    return check_array(array, text)


# What the readers raise on corrupt, truncated or encrypted files.
_CORRUPT = (ValueError, TypeError, EOFError, OverflowError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)


@contextmanager
def _one_line(path: Path) -> Generator[None, None, None]:
    """Turn whatever a reader raises into one line that names the file."""
    try:
        yield
    except MemoryError:
        raise ValueError(f"{str(path)!r}: the array does not fit into memory") from None
    except OSError as error:
        raise ValueError(f"{str(path)!r}: cannot be read: {line(error.strerror or error)}") from None
    except _CORRUPT as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{str(path)!r}: {line(error)}") from None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{str(file)!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{str(file)!r} is damaged: it is not JSON") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(file)!r} is damaged: it must hold a JSON object")
    return cast(dict[str, Any], content)


def line(message: object) -> str:
    """A message as one line."""
    return " ".join(str(message).split())


def check_array(values: object, name: str = "data") -> Array:
    """Check that `values` are data, and return them as an array of shape (n, *event_shape), one point per row.

    A one-dimensional array holds n points in one dimension. Integers and booleans are data; they, and anything wider
    than float32, come back as float64 unless float32 holds every value of their type.

    Raises:
        TypeError: complex numbers, text, dates, records or Python objects.
        ValueError: a single number, no points, ragged rows, NaN or infinite values.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name!r}: not an array of numbers, one point per row: {line(error)}") from None
    wrong = {"c": "complex numbers", "O": "Python objects", "S": "text", "U": "text", "T": "text", "V": "records"}
    if array.dtype.kind not in "buif":
        kind = wrong.get(array.dtype.kind, "dates or times")
        raise TypeError(f"{name!r} holds {kind} (dtype {array.dtype}): data must be real numbers")
    if array.ndim == 0:
        raise ValueError(f"{name!r} is a single number: data must have one point per row, shape (n,) or (n, d)")
    if array.size == 0:
        raise ValueError(f"{name!r} is empty, shape {array.shape}: data must hold at least one point")
    dtype = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    array = array.astype(dtype, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        count = int(bad.sum())
        row = int(np.argmax(bad.reshape(len(array), -1).any(1)))
        many = "1 value is" if count == 1 else f"{count} values are"
        raise ValueError(
            f"{name!r}: {many} NaN or infinite, first in row {row} (counted from 0): remove or fill in such rows"
        )
    return array[:, None] if array.ndim == 1 else array


def _read_npy(path: Path) -> NDArray[Any]:
    with path.open("rb") as stream:
        magic = stream.read(6)
        if magic != b"\x93NUMPY":
            raise ValueError("not an .npy file, in spite of its name: write it with numpy.save")
        stream.seek(0)
        return _loaded(lambda: np.lib.format.read_array(stream, allow_pickle=False))


def _read_npz(path: Path, name: str | None = None) -> NDArray[Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError("not an .npz file, in spite of its name: write it with numpy.savez")
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        if not names:
            raise ValueError("the archive holds no array")
        if name is None and len(names) > 1:
            raise ValueError(f"holds {len(names)} arrays: choose one as '{path.name}:NAME', NAME = {_choices(names)}")
        if name is not None and name not in names:
            raise ValueError(f"holds no array {name!r}: choose one of {_choices(names)}")
        return _loaded(lambda: archive[names[0] if name is None else name])


def _choices(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")


def _loaded(load: Callable[[], object]) -> NDArray[Any]:
    try:
        array = load()
    except (SyntaxError, tokenize.TokenError):
        raise ValueError("the header of the array is damaged") from None
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise TypeError("holds pickled Python objects, which are never loaded: save an array of numbers") from None
    if not isinstance(array, np.ndarray):
        raise ValueError("not an array in NumPy's format: write it with numpy.save or numpy.savez")
    return array


def _read_csv(path: Path) -> NDArray[Any]:
    import pandas as pd

    def read(header: int | None, **options: Any) -> "pd.DataFrame":
        return pd.read_csv(path, header=header, encoding="utf-8-sig", **options)

    try:
        first = read(None, nrows=1, dtype=str, keep_default_na=False)
        names = [str(field).strip() for field in first.iloc[0]]
        if len(names) == 1 and re.search(r"[;\t ]", names[0]):
            raise ValueError(f"the first line is one field, {names[0][:40]!r}: separate the numbers by commas")
        header = None if all(name == "" or _is_number(name) for name in names) else 0
        if header == 0 and "" in names:
            position = names.index("") + 1
            raise ValueError(f"column {position} has no name (row numbers, perhaps): leave it out, or name it")
        frame = read(header, low_memory=False)
        if names == [str(column) for column in range(len(names))] and len(frame) > 1:
            # 0, 1, 2, ... above fractions are column names, which pandas writes for an array without any.
            named = read(0, low_memory=False)
            frame = named if any(dtype.kind == "f" for dtype in named.dtypes) else frame
    except UnicodeDecodeError:
        raise ValueError("not text in UTF-8: write a .csv of numbers separated by commas") from None
    except pd.errors.EmptyDataError:
        raise ValueError("the file is empty: it must hold at least one point") from None
    except pd.errors.ParserError as error:
        raise ValueError(f"not a table: {line(error).removeprefix('Error tokenizing data. C error: ')}") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(f"the rows have more fields than the {len(names)} names in the header")
    return _numbers(frame)


def _is_number(field: object) -> bool:
    try:
        float(str(field))
    except ValueError:
        return str(field).lower() in ("true", "false")
    return True


def _read_parquet(path: Path) -> NDArray[Any]:
    import pandas as pd

    with path.open("rb") as stream:
        if stream.read(4) != b"PAR1":
            raise ValueError("not a Parquet file, in spite of its name")
    return _numbers(pd.read_parquet(path))


def _numbers(frame: "pd.DataFrame") -> NDArray[Any]:
    """The columns of a table as one array, shape (rows, columns); a missing entry is NaN."""
    if frame.shape[1] == 0:
        raise ValueError("the table has no columns")
    dtype = np.float32 if all(kind == np.float32 for kind in frame.dtypes) else np.float64
    return np.stack([_column(label, column).astype(dtype) for label, column in frame.items()], axis=1)


def _column(label: object, column: "pd.Series") -> NDArray[Any]:
    import pandas as pd

    if getattr(column.dtype, "kind", "O") in "buif":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if column.dtype != object and not isinstance(column.dtype, pd.StringDtype):
        raise TypeError(f"column {label!r} is not numeric but {column.dtype}: leave it out, or make it numbers")
    # Numbers beyond 64 bits and booleans with gaps come as objects: what can be read as a number is one.
    for row, entry in enumerate(column):
        if not (isinstance(entry, bool | int | float | Decimal) or pd.isna(entry) is True or _is_number(entry)):
            raise TypeError(f"column {label!r} is not numeric: {str(entry)[:40]!r} in row {row} (counted from 0)")
    entries = [np.nan if pd.isna(entry) is True else entry for entry in column]
    return np.asarray(pd.to_numeric(pd.Series(entries, dtype=object)), dtype=np.float64)


def read_images(folder: Path) -> Array:
    """Read the PNG and JPEG images in a folder, in the order of their names, pixels scaled by x/127.5 - 1 to [-1, 1].

    Subfolders, hidden files and files of other kinds are left aside. Bilevel and grey images have one channel, palette
    images are looked up as RGB; an alpha channel is dropped where it is opaque throughout and refused otherwise. One
    coloured image makes the whole folder RGB. Pixels are taken as stored (an EXIF orientation is not applied).

    Returns:
        float32 of shape (n, height, width) for grey and (n, 3, height, width) for RGB images.

    Raises:
        ValueError: no image, images of mixed size, transparency, more than 8 bits per channel, CMYK and other modes.
    """
    with _one_line(folder):
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
        if not paths:
            raise ValueError("no PNG or JPEG images in this folder (its subfolders are not read)")
    first = _pixels(paths[0])
    height, width = first.shape[:2]
    pixels = np.empty((len(paths), height, width, 3), dtype=np.uint8)
    coloured = False
    for row, path in enumerate(paths):
        image = _pixels(path)
        if image.shape[:2] != (height, width):
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise ValueError(
                f"{str(path)!r} is {size} pixels, but {paths[0].name!r} is {width} x {height}: all must have one size"
            )
        coloured |= image.ndim == 3
        pixels[row] = image if image.ndim == 3 else image[:, :, None]
    points = np.moveaxis(pixels, -1, 1) if coloured else pixels[..., 0]
    scaled = points.astype(np.float32, order="C")
    scaled /= np.float32(127.5)
    scaled -= 1
    return scaled


def _pixels(path: Path) -> NDArray[np.uint8]:
    """An image as uint8, shape (height, width) if it is grey and (height, width, 3) if it is coloured."""
    from PIL import Image

    with _one_line(path):
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                image.load()
        except (Image.UnidentifiedImageError, SyntaxError):
            raise ValueError("not a PNG or JPEG image, in spite of its name") from None
        except Image.DecompressionBombError:
            raise ValueError("the image has too many pixels to be read safely") from None
        if image.has_transparency_data:
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if alpha.min() < 255:
                raise ValueError("the image has transparent pixels: put it on a background first")
            image = image.convert("L" if image.mode in ("L", "LA", "La", "1") else "RGB")
        if image.mode == "P":
            image = image.convert("RGB")
        if image.mode == "1":
            image = image.convert("L")
        if image.mode not in ("L", "RGB"):
            raise ValueError(f"the image has mode {image.mode}: convert it to 8-bit grey or RGB")
        return np.asarray(image)


_READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
