"""Whatever holds numbers is read as what it holds, or refused in one line."""

import collections
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
import xarray as xr

from brenier import SemiDiscrete, load_target, w2
from brenier.core.points import as_tensor
from brenier.core.reading import plain as module
from brenier.core.reading.plain import plain
from brenier.core.reading.values import check_array
from brenier.metrics import precision_recall
from brenier.transport import MongeAmpere

POINTS = np.array([[0.0, -1.25], [0.0, 30.0], [0.5, 0.0]])
SINGLE = torch.tensor(POINTS, dtype=torch.float32)

with warnings.catch_warnings(action="ignore"):  # of torch, that these are young
    ROWS = torch.tensor(POINTS).to_sparse_csr()
    WHOLE = torch.masked.masked_tensor(torch.tensor(POINTS), torch.ones(3, 2, dtype=torch.bool))
    HOLED = torch.masked.masked_tensor(torch.ones(2, 2), torch.tensor([[True, True], [False, True]]))
    SCALED = torch.quantize_per_tensor(torch.tensor([[0.5, -1.0], [2.0, 0.25]]), 0.25, 3, torch.qint8)
    EMPTY = torch.sparse_coo_tensor(torch.zeros(2, 0), [], (10**7, 10**7))
    NESTED = torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(3, 2)])
    JAGGED = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)


class Interface:
    __array_interface__ = POINTS.__array_interface__


class Lent:
    """An array of another library: nothing but DLPack."""

    def __dlpack__(self, **options: object) -> object:
        return POINTS.__dlpack__(**options)  # type: ignore[arg-type]

    def __dlpack_device__(self) -> tuple[int, int]:
        return POINTS.__dlpack_device__()


class ByItself:
    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return POINTS


def anndata(x: object) -> object:
    return collections.namedtuple("AnnData", "X obs")(x, pd.DataFrame())  # type: ignore[arg-type]


class Backed:
    """A sparse matrix on disk."""

    def to_memory(self) -> object:
        return scipy.sparse.csr_matrix(POINTS)


@pytest.mark.parametrize(
    "values",
    [
        np.ma.array(POINTS),
        np.ma.array(POINTS, mask=np.zeros_like(POINTS)),
        [np.ma.array(row) for row in POINTS],
        pd.DataFrame(POINTS),
        pd.DataFrame(POINTS).convert_dtypes(),
        pd.DataFrame(POINTS, dtype="Float64"),
        pd.DataFrame(POINTS).astype(pd.SparseDtype(float)),
        pa.table({"a": POINTS[:, 0], "b": POINTS[:, 1]}),
        xr.DataArray(POINTS, dims=("n", "d")),
        scipy.sparse.csr_matrix(POINTS),
        scipy.sparse.coo_array(POINTS),
        scipy.sparse.lil_matrix(POINTS),
        anndata(POINTS),
        anndata(scipy.sparse.csc_matrix(POINTS)),
        anndata(Backed()),
        Interface(),
        Lent(),
        ByItself(),
        np.asmatrix(POINTS),
        POINTS.astype(">f8"),
        POINTS.tolist(),
        list(map(tuple, POINTS)),
        torch.tensor(POINTS),
        torch.tensor(POINTS).to_sparse(),
        ROWS,
        torch.tensor(POINTS, requires_grad=True),
        (torch.tensor(-1j * POINTS).conj()).imag,
        list(torch.tensor(POINTS, requires_grad=True)),
        WHOLE,
    ],
)
def test_points_in_any_dress_are_the_points(values: object) -> None:
    np.testing.assert_array_equal(check_array(values), POINTS)
    np.testing.assert_array_equal(as_tensor(values), POINTS)  # type: ignore[arg-type]


def test_kinds_that_numpy_lacks_keep_every_value() -> None:
    for dtype in (torch.bfloat16, torch.float8_e5m2):
        values = torch.tensor([[0.5, -3.0], [1.25, 6.0]]).to(dtype)
        np.testing.assert_array_equal(plain(values, "x"), values.double())
    np.testing.assert_array_equal(plain(SCALED, "x"), [[0.5, -1.0], [2.0, 0.25]])
    twice = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2), check_invariants=True)
    np.testing.assert_array_equal(plain(twice, "x"), [[0, 3], [0, 0]])


def test_columns_of_pandas_are_numbers_whatever_they_are_kept_as() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": pd.array([3, 4], dtype="Int8")})
    np.testing.assert_array_equal(check_array(table), [[1, 1, 3], [2, 0, 4]])
    np.testing.assert_array_equal(check_array(table["c"]), [[3], [4]])
    np.testing.assert_array_equal(check_array(table["c"].array), [[3], [4]])
    np.testing.assert_array_equal(plain(pd.Series([1, None], dtype="Int64"), "x"), [1, np.nan])


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (np.ma.masked_equal([[1, 2], [-9999, 4], [-9999, 5]], -9999), ValueError, ["2 values are masked", "row 1"]),
        (np.ma.array([1.0, 2.0], mask=[False, True]), ValueError, ["1 value is masked", "row 1"]),
        ([1.0, np.ma.masked], ValueError, ["masked"]),
        ([np.ma.array([1, 2]), np.ma.array([3, 4], mask=[0, 1])], ValueError, ["1 value is masked"]),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), ValueError, ["1 value is NaN", "row 1"]),
        (pa.table({"a": [1.0, None]}), ValueError, ["1 value is NaN", "row 1"]),
        (pd.DataFrame({"a": [1.0], "b": ["red"]}), TypeError, ["'b'", "'red'"]),
        (pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}), TypeError, ["'when'", "datetime"]),
        (xr.DataArray([[1.0], [np.nan]]), ValueError, ["NaN", "row 1"]),
        (xr.Dataset({"train": ("n", [1.0]), "test": ("n", [2.0])}), TypeError, ["Dataset", "train, test"]),
        ({"train": POINTS}, TypeError, ["dict", "train"]),
        ((x for x in [1.0]), TypeError, ["generator", "list"]),
        (map(float, "12"), TypeError, ["map", "list"]),
        ({1.0, 2.0}, TypeError, ["set", "list"]),
        (object(), TypeError, ["type object"]),
        (anndata(None), ValueError, ["X", "nothing"]),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), TypeError, ["records of a, b"]),
        (np.zeros(2, dtype="V2"), TypeError, ["raw bytes"]),
        (torch.zeros(2, 2, dtype=torch.complex64).conj(), TypeError, ["complex"]),
        (torch.zeros(2, 3, device="meta"), ValueError, ["meta", "no values"]),
        (NESTED, ValueError, ["nested", "several shapes"]),
        (JAGGED, ValueError, ["nested", "several shapes"]),
        ([torch.ones(2), torch.ones(3)], ValueError, ["not an array"]),
        (HOLED, ValueError, ["1 value is masked", "row 1"]),
        (torch.tensor(2.0), ValueError, ["single number"]),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_in_one_line(
    values: object, kind: type[Exception], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        check_array(values)
    text = str(caught.value)
    assert "\n" not in text
    for word in ("'data", *words):
        assert word in text, text


def test_what_does_not_fit_as_a_dense_array_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    row = scipy.sparse.csr_matrix((10**7, 10**7))
    for values in (row, anndata(row), EMPTY):
        with pytest.raises(ValueError, match=r"sparse, and as a dense array it takes .* GiB of memory, and"):
            check_array(values)
    monkeypatch.setattr("brenier.core.memory.free_memory", lambda: 40)
    assert module.plain(scipy.sparse.csr_matrix((5, 1)), "x").shape == (5, 1)
    with pytest.raises(ValueError, match="shape \\(6, 1\\), is sparse"):
        module.plain(scipy.sparse.csr_matrix((6, 1)), "x")
    with pytest.raises(ValueError, match="'data' in float32 takes"):
        check_array(np.zeros(11, dtype=np.int8))


@pytest.mark.parametrize("values", [SINGLE.to_sparse(), scipy.sparse.csr_array(POINTS), pd.DataFrame(POINTS)])
def test_everything_that_takes_points_takes_them_in_any_dress(values: object) -> None:
    many = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    dressed = many.to_sparse() if isinstance(values, torch.Tensor) else type(values)(many.numpy())  # type: ignore[call-arg]
    np.testing.assert_allclose(load_target(values).point_masses()[0], SINGLE, atol=1e-5)  # type: ignore[arg-type]
    np.testing.assert_array_equal(SemiDiscrete(values).points, POINTS)  # type: ignore[arg-type]
    assert MongeAmpere("normal", values).dim == 2
    assert w2(dressed, many + 1) == w2(many, many + 1)
    assert precision_recall(dressed, many + 1) == precision_recall(many, many + 1)
    law = load_target("two-points")
    np.testing.assert_array_equal(law.denoise(many[:, :1].to_sparse(), 1.0), law.denoise(many[:, :1], 1.0))


@pytest.mark.parametrize(
    "take",
    [
        load_target,
        SemiDiscrete,
        lambda x: MongeAmpere("normal", x),
        lambda x: w2(x, POINTS),
        lambda x: precision_recall(x, POINTS),
        lambda x: load_target("normal").denoise(x, 1.0),
    ],
)
@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.ma.masked_less(POINTS, 0), "masked"),
        (torch.zeros(20, 2, device="meta"), "meta"),
        (NESTED, "nested"),
    ],
)
def test_everything_that_takes_points_refuses_what_are_none(take: object, values: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        take(values)  # type: ignore[operator]
