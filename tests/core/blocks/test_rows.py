import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr

from brenier.core.blocks.blocks import Blocks
from brenier.core.blocks.rows import can_be_read, file_rows, is_lazy, rows_of
from brenier.core.reading.options import Reading
from brenier.core.reading.read import read_array

da = pytest.importorskip("dask.array")
ROWS = np.random.default_rng(0).normal(size=(103, 6)).astype(np.float32)


def npy(folder: Path) -> Any:
    np.save(folder / "a.npy", ROWS)
    return str(folder / "a.npy")


def fortran(folder: Path) -> Any:
    np.save(folder / "f.npy", np.asfortranarray(ROWS))
    return folder / "f.npy"


def in_zarr(folder: Path) -> Any:
    zarr.open_array(folder / "a.zarr", mode="w", shape=ROWS.shape, chunks=(20, 4), dtype="f4")[:] = ROWS
    return folder / "a.zarr"


def in_hdf5(folder: Path) -> Any:
    with h5py.File(folder / "a.h5", "w") as file:
        file["group/x"] = ROWS
    return f"{folder / 'a.h5'}:group/x"


def parquet(folder: Path) -> Any:
    pd.DataFrame(ROWS, columns=list("abcdef")).to_parquet(folder / "a.parquet", row_group_size=17)
    return folder / "a.parquet"


def parts(folder: Path) -> Any:
    (folder / "parts").mkdir()
    for k in range(2):
        part = pd.DataFrame(ROWS[k * 50 : 50 if k == 0 else None], columns=list("abcdef"))
        part.to_parquet(folder / "parts" / f"{k}.parquet", row_group_size=30)
    return folder / "parts"


KINDS: list[Callable[[Path], Any]] = [
    *(npy, fortran, in_zarr, in_hdf5, parquet, parts),
    lambda _: ROWS,
    lambda _: torch.from_numpy(ROWS),
    lambda _: da.from_array(ROWS, chunks=(23, 4)),
    lambda _: xr.DataArray(da.from_array(ROWS, chunks=(23, 4)), dims=("point", "coordinate")),
]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_rows_are_the_same_wherever_they_lie(make: Callable[[Path], Any], size: int, tmp_path: Path) -> None:
    blocks = Blocks(rows_of(make(tmp_path)), size)
    assert blocks.shape == ROWS.shape
    assert blocks.dtype == np.float32
    assert blocks.sizes().sum() == len(ROWS)
    assert blocks.sizes().max() <= max(size, 1)
    found = blocks.map_reduce(lambda block, shared, asked: [block.values], lambda a, b: a + b)
    assert np.array_equal(np.concatenate(found), ROWS)
    wanted = [100, 3, 3, 57, 0]
    assert np.array_equal(blocks.take(wanted), ROWS[wanted])


def test_points_keep_their_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", ROWS.reshape(-1, 2, 3))
    assert rows_of(tmp_path / "images.npy").shape == (103, 2, 3)
    assert file_rows(npy(tmp_path), Reading(shape=(3, 2))).shape == (103, 3, 2)
    np.save(tmp_path / "line.npy", ROWS[:, 0])
    assert rows_of(tmp_path / "line.npy").shape == (103, 1)


def test_packed_values_are_unpacked(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file["x"] = np.arange(30, dtype=np.int16).reshape(10, 3)
        file["x"].attrs["scale_factor"] = 0.5
    found = Blocks(rows_of(tmp_path / "packed.h5"), 4).take([9])
    assert np.array_equal(found, [[13.5, 14.0, 14.5]])


def test_tables_in_blocks_are_read_by_column(tmp_path: Path) -> None:
    rows = file_rows(str(parquet(tmp_path)), Reading(columns=("c", "a")))
    assert np.array_equal(rows.read(20, 40), ROWS[20:40, [2, 0]])


def test_unknown_chunk_sizes_are_refused() -> None:
    lazy = da.from_array(ROWS, chunks=(23, 6))
    with pytest.raises(ValueError, match=r"chunk sizes are unknown.*compute_chunk_sizes"):
        rows_of(lazy[lazy[:, 0] > 0])


def test_what_cannot_be_read_in_blocks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    assert not can_be_read(str(tmp_path / "a.csv"))
    with pytest.raises(ValueError, match=r"cannot be read in blocks: give \.npy"):
        rows_of(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="does not exist"):
        rows_of(tmp_path / "none.npy")
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    with pytest.raises(TypeError, match="real numbers"):
        rows_of(tmp_path / "words.npy")
    with pytest.raises(ValueError, match="takes 4"):
        file_rows(npy(tmp_path), Reading(shape=(2, 2)))
    assert not is_lazy(ROWS)


def test_parquet_files_of_several_widths_are_refused(tmp_path: Path) -> None:
    pd.DataFrame(ROWS[:, :3], columns=list("abc")).to_parquet(tmp_path / "0.parquet")
    pd.DataFrame(ROWS[:, :2], columns=list("ab")).to_parquet(tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=f"'{tmp_path}'"):
        Blocks(rows_of(tmp_path), 50).take([5, 150])


def images(folder: Path, coloured: int | None) -> Path:
    """Seven images in two subfolders, grey but for one."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for k in range(7):
        (folder / f"c{k % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (3, 4, 3) if k == coloured else (3, 4), dtype=np.uint8)
        image.fromarray(pixels).save(folder / f"c{k % 2}" / f"{k}.png")
    return folder


@pytest.mark.parametrize("coloured", [None, 0, 5])
@pytest.mark.parametrize("zipped", [False, True])
def test_images_are_decoded_in_blocks(tmp_path: Path, coloured: int | None, zipped: bool) -> None:
    source: Any = images(tmp_path / "images", coloured)
    if zipped:
        source = shutil.make_archive(str(tmp_path / "images"), "zip", source)
    whole = read_array(source)
    blocks = Blocks(rows_of(source), 3)
    assert blocks.shape == whole.shape
    found = np.concatenate(blocks.map_reduce(values_of, lambda a, b: a + b))
    assert np.array_equal(found, whole.reshape(7, -1))
    assert np.array_equal(blocks.take([6, 0]), whole.reshape(7, -1)[[6, 0]])


def values_of(block: Any, shared: Any, asked: Any) -> Any:
    return [block.values]


def test_images_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    source = images(tmp_path / "images", None)
    assert can_be_read(str(source))
    assert not can_be_read(str(tmp_path / "c0"))
    blocks = Blocks(rows_of(source), 3)
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((3, 5), np.uint8)).save(source / "c1" / "3.png")
    with pytest.raises(ValueError, match=r"c1/3\.png.*is 5 x 3 pixels, others 4 x 3 pixels: all must have one size"):
        blocks.map_reduce(values_of, lambda a, b: a + b)
    image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(source / "c1" / "3.png")
    with pytest.raises(ValueError, match=r"c1/3\.png.*coloured, and others are grey"):
        blocks.map_reduce(values_of, lambda a, b: a + b)
    (source / "c1" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="not an image"):
        rows_of(source)
