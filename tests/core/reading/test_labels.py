from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from brenier.core.reading.options import Reading
from brenier.core.reading.read import read_labels

WORDS = ["cat", "dog", "cat", "great dane", "dog", "great dane"]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "a.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("text", "name", "labels"),
    [
        ("\n".join(WORDS), "a.csv", WORDS),
        ("label\n" + "\n".join(WORDS) + "\n", "a.csv", WORDS),
        (",label\n" + "".join(f"{k},{word}\n" for k, word in enumerate(WORDS)), "a.csv", WORDS),
        ("\n".join(WORDS) + "\n\n", "a.txt", WORDS),
        ("label\n0\n1\n1\n", "a.csv", [0, 1, 1]),
        ("0\n1\n0\n", "a.csv", [0, 1, 0]),
        ("7\n1\n2\n", "a.csv", [7, 1, 2]),
        ("0.5\n1\n0.5\n", "a.txt", [0.5, 1, 0.5]),
        ("3\n-1\n3\n", "a.txt", [3, -1, 3]),
        ("class 1\nclass 2\nclass 1\n", "a.csv", ["class 1", "class 2", "class 1"]),
        ("a;b\nb;a\na;b\n", "a.txt", ["a;b", "b;a", "a;b"]),
        ("True\nFalse\nTrue\n", "a.csv", [1, 0, 1]),
        ("a\n1\na\n", "a.csv", ["a", "1", "a"]),
        ("\u7532\n\u4e59\n\u7532\n", "a.txt", ["\u7532", "\u4e59", "\u7532"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*numbers the rows")
def test_labels_are_numbers_or_words_one_for_each_point(
    written: Callable[..., Path], text: str, name: str, labels: list[Any]
) -> None:
    found = read_labels(written(text, name))
    assert found.tolist() == labels
    assert (found.dtype.kind == "U") == isinstance(labels[0], str)


def test_one_column_of_a_table_is_chosen_by_its_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(6) / 3, "kind": WORDS, "n": [1, 2, 1, 2, 1, 2]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.astype({"kind": "category"}).to_parquet(tmp_path / "a.parquet")
    pa.ipc.new_file(str(tmp_path / "a.arrow"), (found := pa.Table.from_pandas(table)).schema).write_table(found)
    for suffix in ("csv", "parquet"):
        assert read_labels(f"{tmp_path}/a.{suffix}:kind").tolist() == WORDS
        assert read_labels(f"{tmp_path}/a.{suffix}:n").tolist() == [1, 2, 1, 2, 1, 2]
        with pytest.raises(ValueError, match=f"holds 3 columns: choose one as 'a.{suffix}:NAME', NAME = x, kind, n"):
            read_labels(tmp_path / f"a.{suffix}")
        with pytest.raises(ValueError, match="holds no column 'no'"):
            read_labels(f"{tmp_path}/a.{suffix}:no")


def test_arrays_of_text_are_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(WORDS))
    np.savez(tmp_path / "a.npz", x=np.zeros(6), y=np.array(WORDS))
    np.save(tmp_path / "n.npy", np.array([[1], [2], [1]]))
    assert read_labels(tmp_path / "a.npy").tolist() == WORDS
    assert read_labels(f"{tmp_path}/a.npz:y").tolist() == WORDS
    assert read_labels(tmp_path / "n.npy").tolist() == [1, 2, 1]
    np.save(tmp_path / "o.npy", np.array(WORDS, dtype=object), allow_pickle=True)
    with pytest.raises(TypeError, match="pickled"):
        read_labels(tmp_path / "o.npy")


def test_what_is_told_of_the_file_is_taken(written: Callable[..., Path]) -> None:
    file = written("cat\ndog\ncat\ndog\n")
    assert read_labels(file, Reading(header=True)).tolist() == ["dog", "cat", "dog"]
    file = written("new\ncat\ncat\n")
    assert read_labels(file).tolist() == ["cat", "cat"]
    assert read_labels(file, Reading(header=False, columns=["x"])).tolist() == ["new", "cat", "cat"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("label\ncat\nNA\ncat\n", "row 1"), ("a\n\nb\n", "row 1"), ("label\n1\nnan\n1\n", "row 1")],
)
def test_a_point_without_a_label_is_refused(written: Callable[..., Path], text: str, words: str) -> None:
    file = written(text, "a.txt" if text.startswith("a") else "a.csv")
    with pytest.raises(ValueError, match=f"{words}.*no label"):
        read_labels(file)
    with pytest.raises(ValueError, match="does not exist"):
        read_labels("gone.csv")


def test_a_file_that_is_missing_is_no_column_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"kind": WORDS}).to_parquet(tmp_path / "a.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^'labels\.txt' does not exist"):
        read_labels("labels.txt")
