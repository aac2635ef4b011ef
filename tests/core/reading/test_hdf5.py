"""Arrays in HDF5: by the way to them, and nothing that lies elsewhere."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse

from brenier.core.reading.read import read_array

POINTS = np.random.default_rng(0).normal(size=(4, 3))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "other.h5", "w") as target:
        target["x"] = POINTS
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as target:
        target["group/deep/x"] = POINTS
        target["big endian"] = POINTS.astype(">f4")
        target["flags"] = np.array([True, False])
        target["text"] = ["a", "b"]
        target["complex"] = np.ones(2, dtype=complex)
        target["records"] = np.zeros(2, dtype=[("a", int), ("b", float)])
        target["number"] = 3.0
        target["nothing"] = h5py.Empty("f8")
        target["ragged"] = np.array([np.ones(1), np.ones(2)], dtype=h5py.vlen_dtype(float))
        target.create_dataset("huge", shape=(2**37,), dtype="f8", chunks=(1024,))
        target.create_dataset("elsewhere", shape=(8,), dtype="u1", external=[("/etc/passwd", 0, 8)])
        target["soft"] = h5py.SoftLink("/group/deep/x")
        target["outside"] = h5py.ExternalLink("other.h5", "x")
        layout = h5py.VirtualLayout((4, 3), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (4, 3))
        target.create_virtual_dataset("virtual", layout)
    return path


def test_an_array_is_named_by_the_way_to_it(file: Path) -> None:
    np.testing.assert_array_equal(read_array(f"{file}:group/deep/x"), POINTS)
    np.testing.assert_array_equal(read_array(f"{file}:/group/deep/x"), POINTS)
    found = read_array(f"{file}:big endian")
    np.testing.assert_array_equal(found, POINTS.astype(np.float32))
    assert found.dtype.isnative
    np.testing.assert_array_equal(read_array(f"{file}:flags"), [[1], [0]])


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("text", TypeError, "holds text"),
        ("complex", TypeError, "complex numbers"),
        ("records", TypeError, "records of a, b"),
        ("ragged", TypeError, "Python objects"),
        ("number", ValueError, "single number"),
        ("nothing", ValueError, "is empty"),
        ("huge", ValueError, "takes 1,024.0 GiB of memory"),
        ("elsewhere", ValueError, "lie in other files"),
        ("virtual", ValueError, "lie in other files"),
        ("soft", ValueError, "no array 'soft'"),
        ("outside", ValueError, "no array 'outside'"),
        ("group", ValueError, "no array 'group'"),
    ],
)
def test_what_is_no_array_of_numbers_in_the_file_is_refused(
    file: Path, name: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=rf"a.h5:{name}'.*{words}"):
        read_array(f"{file}:{name}")


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix])
def test_anndata_on_disk_is_its_x(tmp_path: Path, make: type) -> None:
    values = np.where(POINTS > 0, POINTS, 0)
    sparse = make(values)
    with h5py.File(tmp_path / "a.h5ad", "w") as target:
        group = target.create_group("X")
        group.attrs["encoding-type"] = f"{sparse.format}_matrix"
        group.attrs["shape"] = sparse.shape
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(sparse, part)
        target["obs/age"] = np.arange(4)
        target["layers/counts"] = POINTS
    np.testing.assert_array_equal(read_array(tmp_path / "a.h5ad"), values)
    np.testing.assert_array_equal(read_array(f"{tmp_path / 'a.h5ad'}:layers/counts"), POINTS)
    with h5py.File(tmp_path / "a.h5ad", "r+") as target:
        target["X/indices"][0] = 7
    with pytest.raises(ValueError, match="ind"):
        read_array(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as target:
        target["X/indptr"][...] = [0] + [2**30] * (len(sparse.indptr) - 2) + [0]
    with pytest.raises(ValueError, match="end before they begin"):
        read_array(tmp_path / "a.h5ad")
