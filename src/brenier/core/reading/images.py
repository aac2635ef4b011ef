"""Folders of images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.files import one_line
from brenier.core.reading.values import Array

SUFFIXES = (".png", ".jpg", ".jpeg")


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
    with one_line(folder):
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
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

    with one_line(path):
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
