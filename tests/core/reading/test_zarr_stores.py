"""Zarr stores, versions 2 and 3: what xarray and zarr write of them, and what may run code."""

import json
import random
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr

import brenier
from brenier.core.reading.read import read_array

POINTS = np.random.default_rng(0).normal(size=(10, 3))
Version: TypeAlias = Literal[2, 3]
VERSIONS = pytest.mark.parametrize("version", [2, 3])


def write(store: Path, version: Version, points: np.ndarray = POINTS, **encoding: Any) -> Path:
    """As xarray does, with a coordinate."""
    data = xr.Dataset({"x": (("n", "d"), points)}, {"n": np.arange(len(points))})
    data.to_zarr(store, zarr_format=version, consolidated=False, encoding={"x": encoding})
    return store


@VERSIONS
def test_the_variable_that_is_no_coordinate_is_read(tmp_path: Path, version: Version) -> None:
    store = write(tmp_path / "a.zarr", version)
    np.testing.assert_array_equal(read_array(store), POINTS)
    np.testing.assert_array_equal(read_array(f"{store}:n")[:, 0], np.arange(10))
    law = brenier.load_target(str(store))
    assert law.dim == 3


@VERSIONS
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8", "bool", "float16", ">f8"])
def test_arrays_of_every_kind(tmp_path: Path, version: Version, dtype: str) -> None:
    values = (10 * POINTS).round().astype(dtype)
    zarr.create_array(tmp_path / "a", data=values, zarr_format=version)
    np.testing.assert_array_equal(read_array(tmp_path / "a"), values.astype("f8"))


@VERSIONS
def test_groups_within_groups(tmp_path: Path, version: Version) -> None:
    group = zarr.open_group(tmp_path / "store", zarr_format=version, mode="w")
    group.create_array("g/h/x", data=POINTS)
    group.create_array("y", data=POINTS[:, :2])
    with pytest.raises(ValueError, match=r"holds 2 arrays: choose one as 'store:NAME', NAME = g/h/x, y"):
        read_array(tmp_path / "store")
    for place in ("store:g/h/x", "store/g:h/x", "store/g/h/x"):
        np.testing.assert_array_equal(read_array(tmp_path / place), POINTS)


@VERSIONS
@pytest.mark.parametrize(
    "encoding",
    [{"dtype": "i2", "scale_factor": 0.01, "add_offset": 3.0, "_FillValue": -999}, {"_FillValue": -9.0}, {}],
)
def test_values_are_unpacked_as_xarray_does(tmp_path: Path, version: Version, encoding: dict[str, Any]) -> None:
    store = write(tmp_path / "a.zarr", version, **encoding)
    with xr.open_zarr(store, consolidated=False) as data:
        np.testing.assert_allclose(read_array(store), data["x"].to_numpy(), rtol=1e-15)


@VERSIONS
@pytest.mark.parametrize("mark", [-9.0, -999])
def test_what_is_marked_as_missing_is_refused(tmp_path: Path, version: Version, mark: float) -> None:
    points = POINTS.copy()
    points[4, 1] = np.nan
    store = write(tmp_path / "a.zarr", version, points, _FillValue=mark, dtype="i4" if mark == -999 else "f4")
    with pytest.raises(ValueError, match=rf"1 value is missing \(_FillValue {mark}\), first in row 4"):
        read_array(store)


def test_chunks_and_shards(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=POINTS, chunks=(2, 3), shards=(4, 3))
    np.testing.assert_array_equal(read_array(tmp_path / "a.zarr"), POINTS)


def test_chunks_that_are_all_fill_values_are_not_stored_and_are_read(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(4, 2), chunks=(2, 2), dtype="f8", fill_value=0.0)
    array[2:] = 1.0
    np.testing.assert_array_equal(read_array(tmp_path / "a.zarr"), np.repeat([0.0, 1.0], 2)[:, None] * np.ones(2))


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_nothing_is_unpickled(tmp_path: Path, place: str) -> None:
    store = tmp_path / "a.zarr"
    zarr.create_array(store, data=np.zeros((2, 2)), zarr_format=2)
    meta = json.loads((store / ".zarray").read_text())
    meta |= {"compressor": None, "filters": None, "dtype": "|O" if place == "filters" else "<f8", "fill_value": None}
    meta[place] = {"id": "pickle", "protocol": 5} if place == "compressor" else [{"id": "pickle", "protocol": 5}]
    (store / ".zarray").write_text(json.dumps(meta))
    (store / "0.0").write_bytes(numcodecs.Pickle().encode(np.array([Bomb(tmp_path / "harm")], dtype=object)))
    with pytest.raises(ValueError, match="has the codec 'pickle', and not all codecs are safe to run"):
        read_array(store)
    assert not (tmp_path / "harm").exists()


def test_a_codec_inside_a_shard_is_seen(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    zarr.create_array(store, data=POINTS, chunks=(2, 3), shards=(4, 3))
    text = (store / "zarr.json").read_text().replace('"zstd"', '"numcodecs.pickle"')
    (store / "zarr.json").write_text(text)
    with pytest.raises(ValueError, match="has the codec 'pickle'"):
        read_array(store)


def test_a_codec_that_is_but_a_name_is_seen(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    zarr.create_array(store, data=POINTS)
    meta = json.loads((store / "zarr.json").read_text())
    meta["codecs"] = ["bytes", "numcodecs.pickle"]
    (store / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="has the codec 'pickle'"):
        read_array(store)


def test_a_chunk_larger_than_memory_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=POINTS, chunks=(10, 3))
    meta = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    meta["chunk_grid"]["configuration"]["chunk_shape"] = [10**7, 10**5]
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"a\.zarr': an array of shape \(10000000, 100000\)"):
        read_array(tmp_path / "a.zarr")


def test_an_array_larger_than_memory_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(10**9, 10**6), dtype="f8", chunks=(1, 10**6))
    with pytest.raises(ValueError, match=r"a\.zarr': an array of shape \(1000000000, 1000000\)"):
        read_array(tmp_path / "a.zarr")


def test_stores_without_an_array(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    (tmp_path / "b.zarr").write_bytes(b"x")
    for name in ("a.zarr", "b.zarr"):
        with pytest.raises(ValueError, match=rf"{name}': the file holds no array"):
            read_array(tmp_path / name)


@VERSIONS
def test_damage_is_one_line(tmp_path: Path, version: Version) -> None:
    draw = random.Random(version)
    for trial in range(30):
        store = write(tmp_path / f"{trial}.zarr", version)
        files = sorted(file for file in (store / "x").rglob("*") if file.is_file())
        file = draw.choice(files)
        content = bytearray(file.read_bytes())
        for _ in range(3):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(content[: draw.randrange(len(content))] if trial % 2 else content)
        try:
            read_array(store)
        except (ValueError, TypeError) as error:
            assert str(error).count("\n") == 0  # noqa: PT017
            assert str(store) in str(error)  # noqa: PT017
