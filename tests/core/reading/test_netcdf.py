"""Arrays in netCDF files, unpacked, and told apart from coordinates and from results of our own."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from brenier import probe
from brenier.core.reading.read import read_array
from brenier.core.writing import write_dataset

POINTS = np.random.default_rng(0).normal(size=(4, 3))
ENGINES = ("scipy", "h5netcdf")


@pytest.mark.parametrize("engine", ENGINES)
def test_coordinates_are_no_data_unless_they_are_named(tmp_path: Path, engine: str) -> None:
    file = tmp_path / "a.nc"
    bounds = {"lat_bounds": (("d", "side"), np.zeros((3, 2)))}
    data = xr.Dataset({"x": (("n", "d"), POINTS)} | bounds, {"n": np.arange(4.0), "lat": ("d", np.arange(3.0))})
    data["lat"].attrs["bounds"] = "lat_bounds"
    data.to_netcdf(file, engine=engine)
    np.testing.assert_array_equal(read_array(file), POINTS)
    np.testing.assert_array_equal(read_array(f"{file}:lat"), [[0], [1], [2]])
    np.testing.assert_array_equal(read_array(f"{file}:n"), [[0], [1], [2], [3]])


@pytest.mark.parametrize("engine", ENGINES)
def test_packed_variables_are_read_as_xarray_reads_them(tmp_path: Path, engine: str) -> None:
    file = tmp_path / "a.nc"
    packing = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 100.0, "_FillValue": -9999}
    data = xr.Dataset({"t": ("n", [101.5, 98.0]), "u": ("n", [101.5, np.nan])})
    data.to_netcdf(file, engine=engine, encoding={"t": packing, "u": packing})
    np.testing.assert_array_equal(read_array(f"{file}:t"), [[101.5], [98.0]])
    with pytest.raises(ValueError, match=r"a.nc:u': 1 value is missing \(_FillValue -9999\), first in row 1"):
        read_array(f"{file}:u")


def test_groups_are_part_of_the_name(tmp_path: Path) -> None:
    file = tmp_path / "a.nc"
    xr.Dataset({"x": (("n", "d"), POINTS)}).to_netcdf(file, engine="h5netcdf", group="one/two")
    np.testing.assert_array_equal(read_array(file), POINTS)
    np.testing.assert_array_equal(read_array(f"{file}:one/two/x"), POINTS)


def test_a_result_of_our_own_is_said_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "p.nc"
    profile = probe("normal", snrs=[1.0], progress=False)
    write_dataset(profile, file)
    with pytest.raises(
        ValueError, match=r"holds a saved profile, a result and no data: see it with `brenier show p.nc`"
    ):
        read_array(file)
    np.testing.assert_array_equal(read_array(f"{file}:snr"), [[1.0]])
