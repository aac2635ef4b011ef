"""The image files in a folder or a zip archive, and the labels that come with them."""

import io
import json
import stat
import warnings
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.files import one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
LABELS = "dataset.json"  # beside the images, as in the archives of EDM
LARGEST = 2**28  # bytes that a member of an archive may unpack to
SHOWN = 3  # names of what is left out that a warning has room for


@dataclass(frozen=True)
class ImageFiles:
    """Image files by their names in a folder or archive, in the order of their subfolders, then of their own names."""

    source: Path
    names: list[str]
    labelled: bool  # whether there is a `LABELS`
    open: Callable[[str], BufferedIOBase]

    @property
    def classes(self) -> list[str]:
        """The subfolder that each image is in; "" for none."""
        return [name.rpartition("/")[0] for name in self.names]


@contextmanager
def image_files(source: Path, *, say: bool = True) -> Generator[ImageFiles]:
    """The images in a folder or in a zip archive: all at its top, or all in subfolders of it, such as those of classes.

    What is hidden, deeper down, or of another kind is left out, and a warning says so where `say`. Of an archive
    nothing is written to disk; one folder around everything in it is looked through; links, and names that lead out of
    it, are left out; and arrays (.npy) are images, too.

    Raises:
        ValueError: no images, or images both at the top and in subfolders; a damaged archive.
    """
    if source.is_dir():
        with one_line(source):
            found = _checked(source, *_in_folder(source), lambda name: (source / name).open("rb"), say)
        yield found
        return
    with one_line(source):
        if not zipfile.is_zipfile(source):
            raise ValueError("not a zip archive, in spite of its name")
        archive = zipfile.ZipFile(source)
    with archive:
        with one_line(source):
            members, others = _in_archive(archive)
            found = _checked(source, list(members), others, lambda name: _unpacked(archive, members[name]), say)
        yield found


def holds_images(folder: Path) -> bool:
    """Whether there is an image at the top of a folder or one level down; not all of it is looked through."""
    with suppress(OSError):
        for entry in folder.iterdir():
            inside = entry.is_dir() and not entry.name.startswith(".")
            paths = entry.iterdir() if inside else [entry]
            if any(_is_image(path.relative_to(folder).as_posix(), SUFFIXES) and path.is_file() for path in paths):
                return True
    return False


def image_labels(source: Path) -> NDArray[Any]:
    """The labels of the images in a folder or archive, in their order, shape (n,): integers or text.

    They are those in a dataset.json beside the images, {"labels": [[name, label], ...]} as EDM has it, a label being an
    integer, text, or a vector with a single 1; without one, the names of the subfolders that the images are in.

    Raises:
        ValueError: there are no labels, or not one for each image.
        TypeError: labels of other kinds.
    """
    with image_files(source, say=False) as files, one_line(source):
        if not files.labelled:
            if not files.names[0].count("/"):
                raise ValueError(f"the images have no labels: put them into a subfolder per class, or add {LABELS}")
            return np.array(files.classes)
        with files.open(LABELS) as stream:
            labels = _read_labels(stream)
        missing = [name for name in files.names if name not in labels]
        if missing:
            raise ValueError(f"{LABELS} has no label for {len(missing)} of the images, {missing[0]!r} among them")
        found = [_label(labels[name], name) for name in files.names]
        if len({type(label) for label in found}) > 1:
            raise TypeError(f"the labels in {LABELS} are partly numbers and partly text")
        return np.array(found)


def _checked(
    source: Path, names: list[str], others: list[str], opened: Callable[[str], BufferedIOBase], say: bool
) -> ImageFiles:
    names, labelled = [name for name in names if name != LABELS], LABELS in names
    if not names:
        deeper = next((name.rstrip("/") for name in others if name.rstrip("/").count("/")), None)
        hint = "" if deeper is None else f": {deeper!r} lies too deep, give what it is in"
        raise ValueError(f"no images here or in its subfolders (PNG, JPEG, WebP, TIFF, BMP or GIF){hint}")
    top = next((name for name in names if "/" not in name), None)
    below = next((name for name in names if "/" in name), None)
    if top is not None and below is not None:
        raise ValueError(f"holds images at its top ({top!r}) and in subfolders ({below!r}): keep only one kind in it")
    if say and others:
        shown = ", ".join(map(repr, others[:SHOWN])) + (", ..." if len(others) > SHOWN else "")
        what = "entry is no image" if len(others) == 1 else "entries are no images"
        warnings.warn(f"{str(source)!r}: {len(others)} {what}, and left out: {shown}", UserWarning, stacklevel=2)
    return ImageFiles(source, sorted(names, key=lambda name: name.split("/")), labelled, opened)


def _in_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of images (and of `LABELS`) at the top and one level down, and of all else."""
    names: list[str] = []
    others: list[str] = []
    for entry in sorted(folder.iterdir()):
        inside = entry.is_dir() and not entry.name.startswith(".")
        for path in sorted(entry.iterdir()) if inside else [entry]:
            name = path.relative_to(folder).as_posix()
            if path.is_file() and (_is_image(name, SUFFIXES) or name == LABELS):
                names.append(name)
            else:
                others.append(name + "/" * path.is_dir())
    return names, others


def _in_archive(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """The members that are images (or `LABELS`) at the top and one level down, and the names of all other files."""
    suffixes = (*SUFFIXES, ".npy")
    members = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
    plain = {name: info for name, info in members.items() if _is_plain(name, info)}
    others = [name for name in members if name not in plain]
    tops = {name.partition("/")[0] for name in plain}
    if len(tops) == 1 and any(name.count("/") > 1 and _is_image(name, suffixes) for name in plain):
        plain = {name.partition("/")[2]: info for name, info in plain.items()}
    images = {
        name: info
        for name, info in plain.items()
        if name == LABELS or (name.count("/") <= 1 and _is_image(name, suffixes))
    }
    return images, others + [name for name in plain if name not in images]


def _is_image(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.rpartition("/")[2].startswith(".")


def _is_plain(name: str, info: zipfile.ZipInfo) -> bool:
    """Whether a member is a file inside the archive's own folders, and none of those that systems hide."""
    parts = name.split("/")
    hidden = any(part.startswith(".") for part in parts) or parts[0] == "__MACOSX"
    return not (hidden or parts[0] == "" or ":" in parts[0] or stat.S_ISLNK(info.external_attr >> 16))


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BufferedIOBase:
    if info.file_size > LARGEST:
        raise ValueError(f"unpacks to {info.file_size / 2**20:,.0f} MiB: at most {LARGEST >> 20} MiB are read safely")
    return io.BytesIO(archive.read(info))


def _read_labels(stream: BufferedIOBase) -> dict[str, Any]:
    try:
        pairs = json.loads(stream.read().decode("utf-8"))["labels"]
        if pairs is not None:
            return {str(name).replace("\\", "/"): label for name, label in pairs}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f'{LABELS} is damaged: it must hold {{"labels": [[name, label], ...]}}') from None
    raise ValueError(f"{LABELS} says that the images have no labels")


def _label(label: object, name: str) -> int | str:
    """A label as a class: an integer, text, or the place of the 1 in a vector of zeros."""
    if isinstance(label, list):
        entries = cast(list[object], label)
        if sorted(map(str, entries)) in ([*["0"] * (len(entries) - 1), "1"], [*["0.0"] * (len(entries) - 1), "1.0"]):
            return max(range(len(entries)), key=lambda place: str(entries[place]))
    elif isinstance(label, int | str) and not isinstance(label, bool):
        return label
    raise TypeError(f"the label of {name!r} is {str(label)[:40]}: give an integer, text, or a vector with a single 1")
