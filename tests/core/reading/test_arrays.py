"""Arrays of NumPy's whose headers promise what is not there, or what does not fit."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from brenier.core.reading.arrays import read_npy, read_npz
from brenier.core.reading.read import read_array

POINTS = np.random.default_rng(0).normal(size=(4, 3))


def header(shape: tuple[int, ...], values: bytes = b"12345678", dtype: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + values


def archive(file: Path, content: bytes, declared: int | None = None) -> Path:
    """An archive of one array, compressed; `declared` is what it says of the size of that."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("x.npy", content)
        if declared is not None:
            target.filelist[0].file_size = declared
    return file


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    with (tmp_path / "a.npy").open("wb") as stream:
        np.lib.format.write_array(stream, POINTS, version)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), POINTS)


def test_more_values_than_there_are_is_refused_before_they_get_memory(tmp_path: Path) -> None:
    for shape in ((2**37,), (2,), (2**30, 2**30, 2**30), (10**40, 1)):
        (tmp_path / "a.npy").write_bytes(header(shape))
        with pytest.raises(ValueError, match=r"cut off: shape .* takes .* bytes, and 8 are there"):
            read_npy(tmp_path / "a.npy")
        with pytest.raises(ValueError, match="cut off"):
            read_npz(archive(tmp_path / "a.npz", header(shape)))
    (tmp_path / "a.npy").write_bytes(header((-1, -1)))
    with pytest.raises(ValueError, match="header is damaged"):
        read_npy(tmp_path / "a.npy")


def test_more_than_memory_holds_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "a.npz", header((2**37,)), declared=2**40 + 128)
    with pytest.raises(
        ValueError, match=r"'.*a.npz': an array of shape .* takes 1,024.0 GiB of memory, and .* are free"
    ):
        read_array(bomb)
    hole = tmp_path / "a.npy"
    with hole.open("wb") as stream:
        stream.write(header((2**43,), b"", "|u1"))
        stream.truncate(2**43 + 128)
    assert hole.stat().st_blocks * 512 < 2**20
    with pytest.raises(ValueError, match=r"takes 8,192.0 GiB of memory"):
        read_npy(hole)


def test_folders_and_nameless_entries_in_an_archive_are_no_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as target:
        target.writestr("folder/", b"")
        target.writestr("folder/x.npy", header((1,)))
    assert read_npz(tmp_path / "a.npz").shape == read_npz(tmp_path / "a.npz", "folder/x").shape == (1,)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as target:
        target.writestr("folder/", b"")
    with pytest.raises(ValueError, match="no array"):
        read_npz(tmp_path / "b.npz")


def test_an_array_among_images_promises_no_more_than_there_is_either(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x.npy': cut off: shape .* takes 1,099,511,627,776 bytes, and 8 are there"):
        read_array(archive(tmp_path / "a.zip", header((2**37,))))
