"""Arrays in HDF5 files, and what is written as such: AnnData, netCDF 4, MATLAB 7.3."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.members import by_others, check_size, chosen
from brenier.core.reading.packing import unpacked
from brenier.core.reading.plain import plain

if TYPE_CHECKING:
    import h5py


def read_hdf5(path: Path, name: str | None = None) -> NDArray[Any]:
    """The dataset of this name, "a/b" for b in the group a; the only one where no name is given."""
    with opened(path) as file:
        arrays = arrays_in(file)
        item = arrays[chosen(list(arrays), name if name is None else name.strip("/"), path.name)]
        return _sparse(item) if _is_sparse(item) else unpacked(values_of(item), dict(item.attrs))


@contextmanager
def array_in_file(path: Path, name: str | None = None) -> Generator[tuple[Any, dict[str, Any], str], None, None]:
    """The dataset of this name, to be read in ranges; its attributes, and its name.

    Raises:
        ValueError: it is sparse, or its values lie in other files.
        TypeError: text.
    """
    with opened(path) as file:
        arrays = arrays_in(file)
        name = chosen(list(arrays), name if name is None else name.strip("/"), path.name)
        item = arrays[name]
        if _is_sparse(item):
            raise ValueError("a sparse array, which is not read in blocks: store it dense")
        _check_plain(item)
        yield item, dict(item.attrs), name


def read_anndata(path: Path, name: str | None = None) -> NDArray[Any]:
    """The matrix X of an .h5ad file, or the array of this name."""
    return read_hdf5(path, "X" if name is None else name)


@contextmanager
def opened(path: Path) -> "Generator[h5py.File, None, None]":
    """An HDF5 file, to be read."""
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError("not an HDF5 file, in spite of its name, or cut off")
    with by_others("h5py"), h5py.File(path, "r") as file:
        yield file


def arrays_in(file: "h5py.File", also: "Callable[[Any], bool] | None" = None) -> dict[str, Any]:
    """The datasets in a file by their names, and groups that stand for an array; what links lead to is left out."""
    import h5py

    stands = _is_sparse if also is None else also
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        inside = name.rpartition("/")[0] in found
        if not inside and (isinstance(item, h5py.Dataset) or stands(item)):
            found[name] = item

    file.visititems(visit)
    return found


def values_of(dataset: Any) -> NDArray[Any]:
    """The values in a dataset, as they are stored.

    Raises:
        ValueError: they lie in another file, or do not fit into memory.
        TypeError: text.
    """
    _check_plain(dataset)
    if dataset.shape is None:
        return np.empty(0)
    check_size(dataset.shape, dataset.dtype.itemsize)
    return np.asarray(dataset[()])


def _check_plain(dataset: Any) -> None:
    """Refuse values that lie in other files, and text."""
    import h5py

    if dataset.is_virtual or dataset.external:
        raise ValueError("the values of this array lie in other files, which are not read: copy them into one")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        raise TypeError("holds text: data must be real numbers")


def _is_sparse(item: Any) -> bool:
    return str(item.attrs.get("encoding-type")) in ("csr_matrix", "csc_matrix") and "indptr" in item


def _sparse(group: Any) -> NDArray[Any]:
    """A sparse matrix as AnnData writes it."""
    from scipy import sparse

    make = sparse.csr_matrix if str(group.attrs["encoding-type"]) == "csr_matrix" else sparse.csc_matrix
    parts = tuple(values_of(group[part]) for part in ("data", "indices", "indptr"))
    return plain(make(parts, shape=tuple(map(int, group.attrs["shape"]))), "the array")
