"""MATLAB's arrays in their own shape, from each of its formats."""

import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from brenier.core.reading.read import read_array

POINTS = np.random.default_rng(0).normal(size=(4, 3))
SPARSE = scipy.sparse.random(5, 4, 0.4, random_state=0, format="csc")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])
def test_every_class_of_numbers(tmp_path: Path, dtype: str, compressed: bool) -> None:
    x = np.arange(-3, 21).reshape(2, 3, 4).astype(dtype)
    scipy.io.savemat(tmp_path / "a.mat", {"x": x}, do_compression=compressed)
    found = read_array(tmp_path / "a.mat")
    np.testing.assert_array_equal(found, x.astype(np.float64))
    assert found.flags["C_CONTIGUOUS"] or found.shape == x.shape


def test_numbers_that_matlab_stores_as_shorter_ones_are_what_they_were(tmp_path: Path) -> None:
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    # A double array whose values are kept as uint8, its name in the short form, everything in the other byte order.
    parts = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 2, 3))
    parts += struct.pack(">HH4s", 1, 1, b"x") + element(2, bytes([1, 2, 3, 4, 5, 255]))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H2s", 0x100, b"MI")
    (tmp_path / "a.mat").write_bytes(head + element(14, parts))
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat"), [[1, 3, 5], [2, 4, 255]])
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "a.mat")["x"], [[1, 3, 5], [2, 4, 255]])


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_sparse_arrays_are_made_dense(tmp_path: Path, options: dict) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"x": SPARSE}, **options)
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat"), SPARSE.toarray())
    scipy.io.savemat(tmp_path / "b.mat", {"x": scipy.sparse.csc_matrix((10**6, 10**6))}, **options)
    with pytest.raises(ValueError, match=r"sparse, and as a dense array it takes .* GiB"):
        read_array(tmp_path / "b.mat")


def test_what_is_no_array_of_numbers_is_not_offered(tmp_path: Path) -> None:
    file = tmp_path / "a.mat"
    cell = np.array([1, "b"], dtype=object)
    scipy.io.savemat(file, {"x": POINTS, "text": "abc", "struct": {"a": 1}, "cell": cell, "i": POINTS * 1j})
    with pytest.raises(ValueError, match=r"holds 2 arrays: .* NAME = x, i"):
        read_array(file)
    with pytest.raises(ValueError, match="holds no array 'text': choose one of x, i"):
        read_array(f"{file}:text")
    with pytest.raises(TypeError, match="complex"):
        read_array(f"{file}:i")
    np.testing.assert_array_equal(read_array(f"{file}:x"), POINTS)


def test_version_7_3_is_hdf5_with_axes_in_the_other_order(tmp_path: Path) -> None:
    file = tmp_path / "a.mat"
    with h5py.File(file, "w", userblock_size=512) as target:

        def put(name: str, values: np.ndarray, kind: str) -> h5py.Dataset:
            dataset = target.create_dataset(name, data=values)
            dataset.attrs["MATLAB_class"] = np.bytes_(kind)
            return dataset

        put("images", np.arange(24.0).reshape(4, 3, 2), "double")  # 2 x 3 x 4 in MATLAB
        put("flags", np.array([[1, 0]], dtype=np.uint8), "logical")
        put("s/field", POINTS.T, "single")
        put("text", np.array([[97, 98]], dtype=np.uint16), "char")
        put("none", np.array([0, 3], dtype=np.uint64), "double").attrs["MATLAB_empty"] = np.uint8(1)
        put("i", np.zeros((2, 1), dtype=[("real", float), ("imag", float)]), "double")
        put("#refs#/a", POINTS, "double")
        group = target.create_group("sparse")
        group.attrs.update({"MATLAB_class": np.bytes_("double"), "MATLAB_sparse": np.uint64(5)})
        for name, values in (("data", SPARSE.data), ("ir", SPARSE.indices), ("jc", SPARSE.indptr)):
            group[name] = values
    images = read_array(f"{file}:images")
    assert images.shape == (2, 3, 4)
    assert images[1, 2, 3] == 23
    assert images[1, 0, 0] == 1
    np.testing.assert_array_equal(read_array(f"{file}:flags"), [[1], [0]])
    np.testing.assert_array_equal(read_array(f"{file}:s/field"), POINTS)
    np.testing.assert_array_equal(read_array(f"{file}:sparse"), SPARSE.toarray())
    for name, kind, words in (
        ("text", ValueError, "no array 'text': choose one of flags, i, images, none, s/field, sparse$"),
        ("none", ValueError, r"is empty, shape \(0, 3\)"),
        ("i", TypeError, "complex"),
    ):
        with pytest.raises(kind, match=words):
            read_array(f"{file}:{name}")
    with h5py.File(tmp_path / "b.mat", "w") as target:
        target["x"] = POINTS
    with pytest.raises(ValueError, match=r"MATLAB did not write: give it the suffix .h5"):
        read_array(tmp_path / "b.mat")


def test_a_shape_that_claims_more_than_there_is_or_fits_is_refused(tmp_path: Path) -> None:
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    def variable(shape: tuple[int, int]) -> bytes:
        parts = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", *shape)) + element(1, b"x")
        return element(14, parts + element(9, bytes(16)))

    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x100, b"IM")
    for shape, words in (
        ((2**20, 2**17), "1,024.0 GiB"),
        ((100, 1), "100 values, and 2 are there"),
        ((-1, 2), "shape"),
    ):
        for content in (variable(shape), element(15, zlib.compress(variable(shape)))):
            (tmp_path / "a.mat").write_bytes(head + content)
            with pytest.raises(ValueError, match=words):
                read_array(tmp_path / "a.mat")
