import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brenier.core.reading.read import read_array
from brenier.core.reading.values import check_array

POINTS = np.array([[0.5, -1.25, 3.0], [1e-6, 1e6, 0.0], [0.1, 0.2, 0.3], [7.0, 8.0, 9.0]])


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    return text


def refused(source: object, *words: str, kind: type[Exception] = ValueError) -> None:
    """The source is refused by one line that holds all `words`."""
    with pytest.raises(kind) as caught:
        read_array(source)  # type: ignore[arg-type]
    text = one_line(caught.value)
    for word in words:
        assert word in text, text


# Arrays


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([[True, False]]), np.float32),
        (np.array([[200, 3]], dtype=np.uint8), np.float32),
        (np.array([[-30000, 3]], dtype=np.int16), np.float32),
        (np.array([[16777217, 3]], dtype=np.int32), np.float64),
        (np.array([[2**53, -3]], dtype=np.int64), np.float64),
        (np.array([[0.5, 3]], dtype=np.float16), np.float32),
        (np.array([[0.1, 3]], dtype=">f8"), np.float64),
        (np.array([[0.1, 3]], dtype=np.longdouble), np.float64),
        ([[1, 2], [3, 4]], np.float64),
    ],
)
def test_real_data_of_any_type_keep_every_value(values: object, dtype: type) -> None:
    array = check_array(values)
    assert array.dtype == dtype
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, np.asarray(values).astype(np.float64).astype(dtype))
    np.testing.assert_array_equal(array.astype(np.float64), np.asarray(values, dtype=np.float64))


def test_a_vector_is_points_on_the_line() -> None:
    np.testing.assert_array_equal(check_array([1.0, 2.0, 4.0]), [[1.0], [2.0], [4.0]])


def test_an_array_of_images_keeps_its_shape() -> None:
    images = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(check_array(images), images)


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (np.array([[1 + 2j]]), TypeError, ["complex"]),
        (np.array([[1, None]]), TypeError, ["objects"]),
        (np.array(["a", "b"]), TypeError, ["text"]),
        (np.array(["2020-01-01"], dtype="M8[D]"), TypeError, ["dates"]),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), TypeError, ["records"]),
        (np.float64(3.0), ValueError, ["single number"]),
        (np.zeros((0, 3)), ValueError, ["empty", "(0, 3)"]),
        (np.zeros((3, 0)), ValueError, ["empty", "(3, 0)"]),
        ([[1, 2], [3]], ValueError, ["not an array of numbers"]),
        (np.array([[0, 1], [np.nan, np.inf], [0, -np.inf]]), ValueError, ["3 values are NaN or infinite", "row 1"]),
        (np.array([0, 1, 2, np.nan]), ValueError, ["1 value is NaN or infinite", "row 3"]),
    ],
)
def test_what_is_no_data_is_refused(values: object, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        check_array(values, "points.npy")
    text = one_line(caught.value)
    for word in ("'points.npy'", *words):
        assert word in text, text


# NumPy's formats


def test_npy_returns_what_was_saved(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), POINTS)
    np.save(tmp_path / "f.npy", np.asfortranarray(POINTS.astype(np.float32)))
    np.testing.assert_array_equal(read_array(str(tmp_path / "f.npy")), POINTS.astype(np.float32))


def test_npz_with_one_array_needs_no_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", whatever=POINTS)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npz"), POINTS)


def test_npz_with_several_arrays_names_them(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, train=POINTS, labels=np.arange(4))
    np.testing.assert_array_equal(read_array(f"{file}:train"), POINTS)
    refused(file, "2 arrays", "train", "labels", "a.npz:NAME")
    refused(f"{file}:trian", "'trian'", "train, labels")
    refused(f"{file}:", "train, labels")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(tmp_path / "a.npy", np.array([Bomb(), 1], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([Bomb(), 1], dtype=object))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb()))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x", pickle.dumps(Bomb()))
    refused(tmp_path / "a.npy", "pickled", kind=TypeError)
    refused(tmp_path / "a.npz", "pickled", kind=TypeError)
    refused(tmp_path / "b.npy", "not an .npy file")
    refused(tmp_path / "b.npz", "numpy.save")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_broken_files_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"")
    refused(file, "empty", "a" + suffix)
    file.write_bytes(bytes(range(256)))
    refused(file, "a" + suffix)
    file.unlink()
    refused(file, "does not exist")


def test_truncated_and_corrupt_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8])
    refused(tmp_path / "a.npy", "a.npy")
    np.save(tmp_path / "b.npy", POINTS)
    for damage in (b"(", b"'", b"}"):
        header = (tmp_path / "b.npy").read_bytes().replace(b"{", damage)
        (tmp_path / "c.npy").write_bytes(header)
        refused(tmp_path / "c.npy", "c.npy")
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=1000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[4000] ^= 255
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "a.npz")
    pd.DataFrame(POINTS).set_axis(list("abc"), axis=1).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    refused(tmp_path / "a.parquet", "a.parquet")


def test_a_header_that_promises_more_than_memory_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**50,)})
        stream.write(b"12345678")
    refused(tmp_path / "a.npy", "a.npy")


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    for name in ("a.txt", "a", "a.pkl"):
        (tmp_path / name).write_text("1,2\n")
        refused(tmp_path / name, ".npy", ".csv", ".mat", "suffix")
    refused("a" * 5000, "does not exist")
    refused("a\0b", "does not exist")
