import io
import os
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from brenier.core.reading.read import read_array

RNG = np.random.default_rng(0)


def refused(source: Path, *words: str) -> None:
    """The source is refused by one line that holds all `words`."""
    with pytest.raises(ValueError, match=re.escape(source.name)) as caught:
        read_array(source)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def png_16(pixels: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits per channel, written by hand: Pillow writes none in colour."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


GREY = np.array([[0, 51, 255], [10, 20, 30]], dtype=np.uint8)
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def save(folder: Path, name: str, pixels: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / name)
    return folder


def to_points(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What an image is to be read as: the channel first, on [-1, 1]."""
    return (pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)) / 127.5 - 1


def test_grey_images_are_scaled_to_plus_minus_one(tmp_path: Path) -> None:
    save(tmp_path, "b.png", GREY)
    save(tmp_path, "a.PNG", 255 - GREY)
    (tmp_path / "labels.csv").write_text("cat\n")
    (tmp_path / ".hidden.png").write_text("not an image")
    (tmp_path / "more").mkdir()
    with pytest.warns(UserWarning, match="2 entries are no images, and left out: '.hidden.png', 'labels.csv'"):
        points = read_array(tmp_path)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, np.stack([255 - GREY, GREY]) / 127.5 - 1, atol=1e-7)
    assert points.min() == -1
    assert points.max() == 1


def test_coloured_images_put_the_channel_first(tmp_path: Path) -> None:
    save(tmp_path, "a.png", RGB)
    save(tmp_path, "b.png", GREY)
    expected = np.stack([np.moveaxis(RGB, -1, 0), np.stack([GREY] * 3)])
    np.testing.assert_allclose(read_array(tmp_path), expected / 127.5 - 1, atol=1e-7)


def test_jpeg_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a.jpeg", quality=100, subsampling=0)
    points = read_array(tmp_path)
    assert points.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(points.mean((0, 2, 3)), [1, -1, -1], atol=0.03)


def test_palette_bilevel_and_opaque_images_are_what_they_show(tmp_path: Path) -> None:
    opaque = np.dstack([RGB, np.full_like(GREY, 255)])
    save(tmp_path / "opaque", "a.png", opaque)
    np.testing.assert_allclose(read_array(tmp_path / "opaque")[0], np.moveaxis(RGB, -1, 0) / 127.5 - 1, atol=1e-7)
    (tmp_path / "palette").mkdir()
    Image.fromarray(RGB).quantize(6).save(tmp_path / "palette" / "a.png")
    np.testing.assert_allclose(read_array(tmp_path / "palette")[0], np.moveaxis(RGB, -1, 0) / 127.5 - 1, atol=0.02)
    save(tmp_path / "bilevel", "a.png", GREY > 25)
    np.testing.assert_array_equal(read_array(tmp_path / "bilevel")[0], np.where(GREY > 25, 1, -1))


def test_images_that_are_no_data_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "size", "a.png", GREY)
    save(tmp_path / "size", "b.png", GREY.T)
    refused(tmp_path / "size", "b.png", "2 x 3", "'a.png' is 3 x 2", "one size")
    see_through = np.dstack([RGB, GREY])
    refused(save(tmp_path / "alpha", "a.png", see_through), "a.png", "transparent")
    (tmp_path / "cmyk").mkdir()
    Image.new("CMYK", (2, 2)).save(tmp_path / "cmyk" / "a.jpg")
    refused(tmp_path / "cmyk", "CMYK", "RGB")
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "no images", "PNG, JPEG")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "a.png").write_text("not an image")
    refused(tmp_path / "fake", "a.png", "not an image in PNG")
    (tmp_path / "fake" / "a.png").write_bytes(b"")
    refused(tmp_path / "fake", "a.png", "not an image in PNG")
    save(tmp_path / "cut", "a.png", np.random.default_rng(0).integers(0, 255, (50, 50), dtype=np.uint8))
    (tmp_path / "cut" / "a.png").write_bytes((tmp_path / "cut" / "a.png").read_bytes()[:1500])
    refused(tmp_path / "cut", "a.png")


# Depth


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_16_bits_keeps_all_of_them(tmp_path: Path, name: str) -> None:
    deep = np.array([[0, 1, 65535], [255, 256, 32768]], dtype=np.uint16)
    save(tmp_path, name, deep)
    np.testing.assert_allclose(read_array(tmp_path)[0], deep / 65535 * 2 - 1, rtol=0, atol=1e-7)
    save(tmp_path, "b.png", GREY)  # beside one of 8 bits, each on its own scale
    np.testing.assert_allclose(read_array(tmp_path)[1], GREY / 255 * 2 - 1, rtol=0, atol=1e-7)
    assert abs(read_array(tmp_path)[0, 0, 1] + 1 - 2 / 65535) < 1e-7


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_of_16_bits_is_refused_and_not_cut(tmp_path: Path, channels: int) -> None:
    (tmp_path / "a.png").write_bytes(png_16(np.full((2, 3, channels), 255, dtype=np.uint16)))
    refused(tmp_path, "a.png", "16 bits per channel", "8 bits")


def tiff(pixels: NDArray[np.uint16], bits: int, photometric: int) -> bytes:
    """An uncompressed TIFF, little-endian, written by hand."""
    colours = 1 if pixels.ndim == 2 else pixels.shape[2]
    height, width = pixels.shape[:2]
    place, content = 8 + 2 + 9 * 12 + 4, pixels.astype("<u2").tobytes()
    widths = place + len(content)
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, colours, bits if colours == 1 else widths)]
    entries += [(259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, place), (277, 3, 1, colours)]
    entries += [(278, 3, 1, height), (279, 4, 1, len(content))]
    table = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8) + table + content + struct.pack("<3H", bits, bits, bits)


def test_a_damaged_tiff_is_refused_without_a_word_of_its_library(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.tiff", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tiff").read_bytes())
    content[400:440] = bytes(range(40))
    (tmp_path / "a.tiff").write_bytes(content)
    refused(tmp_path, "a.tiff", "decoder error")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_the_depth_of_tiff_counts_too(tmp_path: Path) -> None:
    deep = np.array([[0, 1, 65535], [255, 256, 32768]], dtype=np.uint16)
    (tmp_path / "a.tiff").write_bytes(tiff(deep, 16, 1))
    np.testing.assert_allclose(read_array(tmp_path)[0], deep / 65535 * 2 - 1, rtol=0, atol=1e-7)
    (tmp_path / "a.tiff").write_bytes(tiff(deep, 16, 0))
    refused(tmp_path, "a.tiff", "from white")
    (tmp_path / "a.tiff").write_bytes(tiff(np.stack([deep] * 3, -1), 16, 2))
    refused(tmp_path, "a.tiff", "16 bits per channel")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "a.tiff")
    refused(tmp_path, "a.tiff", "32 bits")


# Formats


@pytest.mark.parametrize("name", ["a.webp", "a.WEBP", "a.tif", "a.TIFF", "a.bmp", "a.Png"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "colour"])
def test_formats_without_loss_hold_the_same_pixels(tmp_path: Path, name: str, pixels: NDArray[np.uint8]) -> None:
    exact: dict[str, Any] = {"lossless": True, "exact": True} if "webp" in name.lower() else {}
    Image.fromarray(pixels).save(tmp_path / name, **exact)
    coloured = (
        pixels if pixels.ndim == 3 or "webp" not in name.lower() else np.stack([GREY] * 3, -1)
    )  # WebP has no grey
    np.testing.assert_allclose(read_array(tmp_path)[0], to_points(coloured), atol=1e-7)


def test_a_gif_is_what_its_palette_shows(tmp_path: Path) -> None:
    Image.fromarray(RGB).quantize(256).save(tmp_path / "a.gif")
    np.testing.assert_allclose(read_array(tmp_path)[0], to_points(RGB), atol=0.02)


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_several_frames_or_pages_are_refused(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    refused(tmp_path, name, "3 frames or pages")


def test_a_name_does_not_say_what_an_image_is(tmp_path: Path) -> None:
    save(tmp_path, "a.png", RGB)
    (tmp_path / "a.png").rename(tmp_path / "a.webp")
    np.testing.assert_allclose(read_array(tmp_path)[0], to_points(RGB), atol=1e-7)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_images_are_turned_as_their_exif_says(tmp_path: Path, orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exact: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(RGB).save(tmp_path / name, exif=exif, **exact)
    turned = {  # what the standard says of rows and columns
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.swapaxes(0, 1),
        6: RGB[::-1].swapaxes(0, 1),
        7: RGB[::-1, ::-1].swapaxes(0, 1),
        8: RGB[:, ::-1].swapaxes(0, 1),
    }[orientation]
    np.testing.assert_allclose(read_array(tmp_path)[0], to_points(turned), atol=1e-7)
    with Image.open(tmp_path / name) as image:
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(image)), turned)


def test_a_photograph_lies_as_it_was_taken(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = Image.fromarray(np.repeat(np.repeat(RGB, 16, 0), 16, 1))
    tall.save(tmp_path / "a.JPG", exif=exif, quality=100, subsampling=0)
    assert read_array(tmp_path).shape == (1, 3, 48, 32)


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "a.png", GREY)
    for limit in (5, 2):  # of which Pillow warns, and which it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        refused(tmp_path, "a.png", "too many pixels")


def test_more_images_than_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "a.png", GREY)
    (tmp_path / "b.png").write_bytes(b"never read")
    monkeypatch.setattr("brenier.core.memory.free_memory", lambda: 59)
    refused(tmp_path, "an array of 2 images takes", "of memory")  # 2 images of 6 pixels, as one byte and as four
    monkeypatch.setattr("brenier.core.memory.free_memory", lambda: 60)
    refused(tmp_path, "b.png", "not an image")


# Folders and archives


def test_subfolders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    save(tmp_path / "dog", "1.png", GREY)
    save(tmp_path / "cat", "2.png", GREY // 2)
    save(tmp_path / "cat", "10.png", GREY // 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = read_array(tmp_path)
    np.testing.assert_allclose(points, np.stack([GREY // 4, GREY // 2, GREY]) / 127.5 - 1, atol=1e-7)


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_an_archive_is_read_as_the_folder_that_it_holds(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for row in (2, 0, 3, 1):
            archive.writestr(f"{row // 2:05d}/img{row:08d}.png", png(images[row]))
        archive.writestr("dataset.json", '{"labels": null}')
    np.testing.assert_allclose(read_array(tmp_path / "data.zip"), np.moveaxis(images, -1, 1) / 127.5 - 1, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays_in_an_archive_are_taken_as_they_are(tmp_path: Path, dtype: type) -> None:
    latents = RNG.integers(0, 256, (3, 4, 2, 5)).astype(dtype)
    with zipfile.ZipFile(tmp_path / "data.ZIP", "w") as archive:
        for row, latent in enumerate(latents):
            stream = io.BytesIO()
            np.save(stream, latent)
            archive.writestr(f"00000/img{row:08d}.npy", stream.getvalue())
    expected = latents / 127.5 - 1 if dtype is np.uint8 else latents
    np.testing.assert_allclose(read_array(tmp_path / "data.ZIP"), expected, atol=1e-7)
    with zipfile.ZipFile(tmp_path / "data.ZIP", "a") as archive:
        archive.writestr("00000/img00000009.png", png(GREY))
    refused(tmp_path / "data.ZIP", "3 arrays (.npy) among images")


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(b"no archive")
    refused(file, "not a zip archive")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "")
    refused(file, "no images")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", png(RNG.integers(0, 256, (30, 30), dtype=np.uint8)))
    content = bytearray(file.read_bytes())
    content[400] ^= 255
    file.write_bytes(content)
    refused(file, "a.png", "CRC")


def test_a_member_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(3 * 2**20))
    monkeypatch.setattr("brenier.core.reading.image_files.LARGEST", 2 * 2**20)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    refused(file, "a.png", "unpacks to 3 MiB")
