"""Sets of images: folders and zip archives of them."""

import os
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from brenier.core.memory import check_fits
from brenier.core.reading.arrays import array_in
from brenier.core.reading.files import one_line
from brenier.core.reading.image_files import ImageFiles, image_files
from brenier.core.reading.values import Array

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF


def read_images(source: Path) -> Array:
    """Read the images in a folder or zip archive in the order of their names, pixels scaled from 0..255 to [-1, 1].

    That is x/127.5 - 1, and x/32767.5 - 1 for 16-bit grey. They lie at the top or in subfolders, see `image_files`.
    Bilevel and grey images have one channel, palette images are looked up as RGB; an alpha channel is dropped where it
    is opaque throughout and refused otherwise. One coloured image makes the whole set RGB. Images are turned as their
    EXIF orientation says. Arrays (.npy) in an archive, one per image, are taken as they are, scaled where they are
    uint8.

    Returns:
        float32 of shape (n, height, width) for grey and (n, 3, height, width) for RGB images.

    Raises:
        ValueError: no image, images of mixed size, transparency, more than 8 bits per channel in colour, several
            frames or pages, CMYK and other modes; more than fits into memory.
    """
    with image_files(source) as files, warnings.catch_warnings():
        from PIL import Image

        warnings.simplefilter("error", Image.DecompressionBombWarning)
        arrays = [name for name in files.names if name.lower().endswith(".npy")]
        if 0 < len(arrays) < len(files.names):
            raise ValueError(
                f"{str(source)!r} holds {len(arrays)} arrays (.npy) among images: keep only one kind in it"
            )
        if arrays:
            return _stacked(_all_of(files, _array, _shape))
        images = _all_of(files, _pixels, _size)
        return _scaled(images, any(image.ndim == 3 for image in images))


def size_of_images(source: Path) -> tuple[int, ...]:
    """The shape of what `read_images` returns, from the first image and the headers of others: until one is coloured.

    Raises:
        ValueError: as there, of the first image and of files that are no images; arrays in an archive.
    """
    with image_files(source) as files, warnings.catch_warnings():
        from PIL import Image

        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if any(name.lower().endswith(".npy") for name in files.names):
            raise ValueError(f"{str(source)!r} holds arrays (.npy), which are not read in blocks: give one array")
        with one_line(source / files.names[0]), files.open(files.names[0]) as stream:
            first = _pixels(stream)
        coloured = first.ndim == 3
        for name in files.names[1:]:
            if coloured:
                break
            with one_line(source / name), files.open(name) as stream:
                coloured = _coloured(stream)
    return (len(files.names), *([3] if coloured else []), *first.shape[:2])


def read_some_images(source: Path, start: int, stop: int, shape: tuple[int, ...]) -> Array:
    """The images from `start` up to `stop` of those that `read_images` reads, which has this shape in all.

    Raises:
        ValueError: as there; there are not as many images, or one is of another size.
    """
    with _known_files(source) as (names, opened), warnings.catch_warnings():
        from PIL import Image

        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if len(names) != shape[0]:
            raise ValueError(f"changes while it is read: there were {shape[0]} images and are {len(names)}")
        images: list[NDArray[Any]] = []
        for name in names[start:stop]:
            with one_line(source / name), opened(name) as stream:
                image = _pixels(stream)
                if image.shape[:2] != shape[-2:]:
                    raise ValueError(
                        f"the image is {_size(image)}, others {shape[-1]} x {shape[-2]} pixels: all must have one size"
                    )
                if image.ndim == 3 and len(shape) == 3:
                    raise ValueError("the image is coloured, and others are grey as far as their headers say")
            images.append(image)
    return _scaled(images, len(shape) == 4)


@contextmanager
def _known_files(source: Path) -> Generator[tuple[Sequence[str], Callable[[str], BufferedIOBase]]]:
    """The names of images, and what opens them; a folder is listed once for as long as it does not change."""
    if source.is_dir():
        yield _names(source, source.stat().st_mtime_ns), lambda name: (source / name).open("rb")
        return
    with image_files(source, say=False) as files:
        yield files.names, files.open


@lru_cache(maxsize=4)
def _names(folder: Path, _: int) -> Sequence[str]:
    with image_files(folder, say=False) as files:
        return tuple(files.names)


def _scaled(images: Sequence[NDArray[Any]], coloured: bool) -> Array:
    """Pixels as points."""
    points = np.empty((len(images), *([3] if coloured else []), *images[0].shape[:2]), dtype=np.float32)
    for row, image in enumerate(images):
        points[row] = np.moveaxis(image, -1, 0) if image.ndim == 3 else image
        points[row] /= np.float32(np.iinfo(image.dtype).max / 2)
    points -= 1
    return points


def _coloured(stream: BufferedIOBase) -> bool:
    """Whether an image will be one of three channels, by its header."""
    from PIL import Image

    try:
        with Image.open(cast(IO[bytes], stream), formats=FORMATS) as image:
            return image.mode not in ("1", "L", "LA", "La", "I") and not image.mode.startswith("I;16")
    except (Image.UnidentifiedImageError, SyntaxError):
        raise ValueError("not an image in PNG, JPEG, WebP, TIFF, BMP or GIF, in spite of its name") from None


def _all_of(
    files: ImageFiles, read: Callable[[BufferedIOBase], NDArray[Any]], described: Callable[[NDArray[Any]], str]
) -> list[NDArray[Any]]:
    """Every image as an array, all of one size as `described` has it."""
    images: list[NDArray[Any]] = []
    for name in files.names:
        with one_line(files.source / name), files.open(name) as stream:
            image = read(stream)
            if images and described(image) != described(images[0]):
                first = f"{files.names[0]!r} is {described(images[0])}"
                raise ValueError(f"the image is {described(image)}, but {first}: all must have one size")
        if not images:
            with one_line(files.source):
                check_fits(
                    len(files.names) * image.size * (image.itemsize + 4), f"an array of {len(files.names)} images"
                )
        images.append(image)
    return images


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels"


def _shape(image: NDArray[Any]) -> str:
    return f"of shape {image.shape}"


def _array(stream: BufferedIOBase) -> NDArray[Any]:
    """An image as numpy saved it."""
    size = stream.seek(0, os.SEEK_END)
    return array_in(stream, size)


def _stacked(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    points = np.stack(arrays)
    return points.astype(np.float32) / np.float32(127.5) - np.float32(1) if points.dtype == np.uint8 else points


def _pixels(stream: BufferedIOBase) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """An image as it is shown, shape (height, width) if it is grey and (height, width, 3) if it is coloured."""
    from PIL import Image, ImageOps

    try:
        with Image.open(cast(IO[bytes], stream), formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a camera's JPEG, whose further pictures are previews
                raise ValueError(f"the file holds {frames} frames or pages: save every one as an image of its own")
            bits, mode, kind = _bits(image, stream), image.mode, image.format
            with _unheard() if kind == "TIFF" else nullcontext():
                image.load()
            image = ImageOps.exif_transpose(image)
    except (Image.UnidentifiedImageError, SyntaxError):
        raise ValueError("not an image in PNG, JPEG, WebP, TIFF, BMP or GIF, in spite of its name") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError("the image has too many pixels to be read safely") from None
    if bits == 16 and (mode.startswith("I;16") or (mode, kind) == ("I", "PNG")) and "transparency" not in image.info:
        return np.asarray(image).astype(np.uint16)
    if bits > 8:
        raise ValueError(
            f"the image has {bits} bits per channel: only grey is read so, make it 8 bits or an .npy array"
        )
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


@contextmanager
def _unheard() -> Generator[None]:
    """What libtiff says of damage to the stream of errors itself goes nowhere: Pillow raises, too, and we say it."""
    try:
        heard = os.dup(2)
    except OSError:  # the process has no stream of errors
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(heard, 2)
        os.close(heard)
        os.close(nowhere)


def _bits(image: Any, stream: BufferedIOBase) -> int:
    """Bits per channel in the file: of colours Pillow keeps the upper 8, and says nothing."""
    if image.format == "TIFF":
        bits = int(max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))))
        if bits == 16 and image.tag_v2.get(PHOTOMETRIC) == 0:
            raise ValueError("the image counts 16-bit grey from white: save it with black as 0")
        return bits
    if image.format == "PNG":
        place = stream.tell()
        stream.seek(24)
        depth = stream.read(1)[0]  # IHDR comes first
        stream.seek(place)
        return depth
    return 8
