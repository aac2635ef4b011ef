"""Arrays in netCDF files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from brenier.core.kinds import RECORDS
from brenier.core.reading.hdf5 import arrays_in, opened, values_of
from brenier.core.reading.members import by_others, check_size, chosen, data_among
from brenier.core.reading.packing import unpacked


def read_netcdf(path: Path, name: str | None = None) -> NDArray[Any]:
    """The variable of this name, "a/b" for b in the group a, unpacked.

    No name is needed where there is one that is no coordinate.

    Raises:
        ValueError: a result of brenier's own, without a name; values that are missing.
    """
    import h5py

    return (_read_hdf5 if h5py.is_hdf5(path) else _read)(path, name)


def _read(path: Path, name: str | None) -> NDArray[Any]:
    import xarray as xr

    with path.open("rb") as stream:
        if stream.read(3) != b"CDF":
            raise ValueError("not a netCDF file, in spite of its name, or cut off")
    with by_others("scipy"), xr.open_dataset(path, engine="scipy", decode_cf=False) as data:
        _refuse_results(data.attrs, name, path)
        about = {str(key): variable.attrs for key, variable in data.variables.items()}
        name = chosen(data_among(about, {str(key) for key in data.coords}, name), name, path.name)
        variable = data.variables[name]
        check_size(variable.shape, variable.dtype.itemsize)
        return unpacked(variable.to_numpy(), variable.attrs, unwritten=True)


def _read_hdf5(path: Path, name: str | None) -> NDArray[Any]:
    with opened(path) as file:
        _refuse_results(file.attrs, name, path)
        arrays = arrays_in(file)
        about = {key: dict(item.attrs) for key, item in arrays.items()}
        scales = {key for key, known in about.items() if known.get("CLASS") == b"DIMENSION_SCALE"}
        name = name if name is None else name.strip("/")
        name = chosen(data_among(about, scales, name), name, path.name)
        return unpacked(values_of(arrays[name]), about[name], unwritten=True)


def _refuse_results(attributes: Mapping[str, Any], name: str | None, path: Path) -> None:
    kind = attributes.get("kind")
    if name is None and isinstance(kind, str) and kind in RECORDS:
        raise ValueError(f"holds a saved {kind}, a result and no data: see it with `brenier show {path.name}`")
