"""What every kind of file of several arrays has in common: names, and that damage is one line."""

import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr
from safetensors.numpy import save_file

from brenier import load_target
from brenier.core.reading.files import split_member
from brenier.core.reading.read import read_array

POINTS = np.random.default_rng(0).normal(size=(4, 3))
WHICH = np.arange(4.0)
Arrays = dict[str, np.ndarray]


def write_hdf5(file: Path, arrays: Arrays) -> None:
    with h5py.File(file, "w") as target:
        for name, values in arrays.items():
            target[name] = values


def write_zipped_hdf5(file: Path, arrays: Arrays) -> None:
    with h5py.File(file, "w") as target:
        for name, values in arrays.items():
            target.create_dataset(name, data=values, compression="gzip", chunks=(2,) * values.ndim)


def write_matlab_hdf5(file: Path, arrays: Arrays) -> None:
    with h5py.File(file, "w", userblock_size=512) as target:
        for name, values in arrays.items():
            target.create_dataset(name, data=values.T).attrs["MATLAB_class"] = np.bytes_("double")
    with file.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file")


def netcdf(engine: str) -> Callable[[Path, Arrays], None]:
    def write(file: Path, arrays: Arrays) -> None:
        variables = {name: ((f"{name}_n", f"{name}_d")[: values.ndim], values) for name, values in arrays.items()}
        xr.Dataset(variables).to_netcdf(file, engine=engine)  # type: ignore[call-overload]

    return write


def write_torch(file: Path, arrays: Arrays, **options: bool) -> None:
    torch.save({name: torch.from_numpy(values) for name, values in arrays.items()}, file, **options)


WRITERS: dict[str, tuple[str, Callable[[Path, Arrays], None]]] = {
    "npz": (".npz", lambda file, arrays: np.savez(file, **arrays)),
    "npz, compressed": (".npz", lambda file, arrays: np.savez_compressed(file, **arrays)),
    "torch": (".pt", write_torch),
    "torch of old": (".pth", lambda file, arrays: write_torch(file, arrays, _use_new_zipfile_serialization=False)),
    "safetensors": (".safetensors", lambda file, arrays: save_file(arrays, file)),
    "hdf5": (".h5", write_hdf5),
    "hdf5, compressed": (".HDF5", write_zipped_hdf5),
    "matlab 4": (".mat", lambda file, arrays: scipy.io.savemat(file, arrays, format="4", oned_as="column")),
    "matlab 5": (".mat", lambda file, arrays: scipy.io.savemat(file, arrays, oned_as="column")),
    "matlab 7": (".mat", lambda file, arrays: scipy.io.savemat(file, arrays, do_compression=True, oned_as="column")),
    "matlab 7.3": (".mat", write_matlab_hdf5),
    "netcdf 3": (".nc", netcdf("scipy")),
    "netcdf 4": (".nc4", netcdf("h5netcdf")),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_an_array_comes_back_bit_for_bit_and_needs_a_name_where_there_are_several(tmp_path: Path, kind: str) -> None:
    suffix, write = WRITERS[kind]
    file = tmp_path / f"a{suffix}"
    write(file, {"x": POINTS})
    np.testing.assert_array_equal(read_array(file), POINTS)
    np.testing.assert_array_equal(read_array(f"{file}:x"), POINTS)
    write(file, {"which": WHICH, "x": POINTS})
    np.testing.assert_array_equal(read_array(f"{file}:x"), POINTS)
    np.testing.assert_array_equal(read_array(f"{file}:which"), WHICH[:, None])
    with pytest.raises(ValueError, match=rf"holds 2 arrays: .* 'a{suffix}:NAME', NAME = (which, x|x, which)$"):
        read_array(file)
    with pytest.raises(ValueError, match=r"holds no array 'X': choose one of (which, x|x, which)$"):
        read_array(f"{file}:X")
    assert load_target(f"{file}:x").name == f"a{suffix}:x"


@pytest.mark.parametrize("kind", WRITERS)
def test_damage_anywhere_is_one_line_or_does_not_matter(tmp_path: Path, kind: str) -> None:
    suffix, write = WRITERS[kind]
    whole, file = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(whole, {"x": POINTS})
    content, rng = whole.read_bytes(), random.Random(0)
    for case in range(40):
        damaged = bytearray(content)
        if case % 2:
            del damaged[rng.randrange(len(content)) :]
        else:
            for _ in range(1 + case % 3):
                damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        message = f"'{file}': an array of numbers"
        try:
            read_array(file)
        except (ValueError, TypeError) as error:
            message = str(error)
        assert message.startswith(f"'{file}'")
        assert "\n" not in message


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_of_another_kind_is_refused_whatever_its_name(tmp_path: Path, kind: str) -> None:
    for content in (b"", b"x", b"a,b\n1,2\n", bytes(range(256)) * 4):
        file = tmp_path / f"a{WRITERS[kind][0]}"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"^'{file}'"):
            read_array(file)


def test_a_name_may_hold_what_a_file_may_not() -> None:
    assert split_member("a/b.h5:group/x") == ("a/b.h5", "group/x")
    assert split_member("b.NC:x:y") == ("b.NC", "x:y")
    assert split_member("a.mat:") == ("a.mat", "")
    assert split_member("a.npy:x") == ("a.npy:x", None)
