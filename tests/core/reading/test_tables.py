import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brenier.core.reading.options import Reading
from brenier.core.reading.read import read_array

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 3)) * [1, 100, 1e-3]
WHOLE = RNG.integers(0, 256, (50, 6))


def refused(source: object, *words: str, kind: type[Exception] = ValueError, reading: Reading | None = None) -> None:
    """The source is refused by one line that holds all `words`."""
    with pytest.raises(kind) as caught:
        read_array(source, reading)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes, name: str = "a.csv", encoding: str = "utf-8") -> Path:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return tmp_path / name

    return write


# What every text may look like, and the numbers in it

XY = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("1,2\n3,4\n", XY),
        ("x,y\n1,2\n3,4\n", XY),
        ("\ufeffx,y\r\n1,2\r\n3,4", XY),
        ("height\n1.5\n-2e3\n", [[1.5], [-2000.0]]),
        ("1\n0\n1\n", [[1], [0], [1]]),
        ('"a","b"\n1, 2\n', [[1, 2]]),
        ("3,4\n", [[3, 4]]),
        ("0.1,123456789.123456789\n", [[0.1, 123456789.123456789]]),
        ("100000000000000000000000\n1\n", [[1e23], [1]]),
        # truth
        ("a,b\nTrue,1\nFalse,2\n", [[1, 1], [0, 2]]),
        ("True,1\nFalse,2\n", [[1, 1], [0, 2]]),
        ("a,b\nTRUE,1\nfalse,2\n", [[1, 1], [0, 2]]),
        # separators
        ("1;2\n3;4\n", XY),
        ("x\ty\n1\t2\n3\t4\n", XY),
        ("1 2\n3 4\n", XY),
        ("  1.0   2.0\n 3.0   4.0  \n", XY),
        ("x|y\n1|2\n3|4\n", XY),
        ("sep=;\nx;y\n1;2\n3;4\n", XY),
        ('"a;b","c"\n1,2\n3,4\n', XY),
        # separators at the ends of lines
        ("x,y,\n1,2,\n3,4,\n", XY),
        ("1,2,\n3,4,\n", XY),
        ("x,y\n1,2,\n3,4,\n", XY),
        ("x;y;;\n1;2;;\n3;4;;\n", XY),
        ("x,y,\n1,2\n3,4\n", XY),
        # decimal commas
        ("x;y\n1,5;2\n-3,25;4\n", [[1.5, 2], [-3.25, 4]]),
        ("1,5\t2,5\n3,5\t4,5\n", [[1.5, 2.5], [3.5, 4.5]]),
        ("1,5 2,5\n3,5 4,5\n", [[1.5, 2.5], [3.5, 4.5]]),
        ('x,y\n"1,5",2\n"3,25",4\n', [[1.5, 2], [3.25, 4]]),
        ("x;y\n1,5e3;2\n,5;4\n", [[1500, 2], [0.5, 4]]),
        # groups of thousands
        ('x,y\n"1,234.5",2\n"12,345,678",4\n', [[1234.5, 2], [12345678, 4]]),
        ("x;y\n1 234,5;2\n3;4\n", [[1234.5, 2], [3, 4]]),
        ("x;y\n1.234,5;2\n3;4.000\n", [[1234.5, 2], [3, 4000]]),
        ("x;y\n1'234.5;2\n3;4\n", [[1234.5, 2], [3, 4]]),
        ("x;y\n1\u202f234\u202f567;2.5\n3;4\n", [[1234567, 2.5], [3, 4]]),
        ("x;y\n\u22121,5;2\n3;4\n", [[-1.5, 2], [3, 4]]),
        # numbers
        ("x,y\n1e5,2.\n+3,.4\n", [[1e5, 2], [3, 0.4]]),
        ("x,y\n007,1E+05\n3,1e-300\n", [[7, 1e5], [3, 1e-300]]),
        # comments, blank lines, ends of lines
        ("# made by hand\nx,y\n1,2\n# half way\n\n3,4\n", XY),
        ("# x y\n1 2\n3 4\n", XY),
        ("x,y\n1,2\r\n3,4\r", XY),
        ("\n\nx,y\n\n1,2\n3,4\n\n\n", XY),
        ("x,y\n1,2 # note\n3,4\n", XY),
        ('x,"two\nlines"\n1,2\n3,4\n', XY),
        ("H\u00f6he \u00b0C,y\n1,2\n3,4\n", XY),
        # names that are there twice, names over words that are left out elsewhere
        ("x,x\n1,2\n3,4\n", XY),
    ],
)
def test_a_table_in_text_holds_one_point_per_row(
    written: Callable[..., Path], text: str, points: list[list[float]]
) -> None:
    np.testing.assert_array_equal(read_array(written(text)), points)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_text_is_read_in_its_encoding(written: Callable[..., Path], encoding: str) -> None:
    text = "gr\u00f6\u00dfe,\u00e9\n" + "\n".join("1.5,2.5" for _ in range(9))
    np.testing.assert_array_equal(read_array(written(text, encoding=encoding)), [[1.5, 2.5]] * 9)
    found = read_array(written(text, encoding=encoding), Reading(columns=["gr\u00f6\u00dfe"]))
    np.testing.assert_array_equal(found, [[1.5]] * 9)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv.gz", "a.TSV.GZ", "a.b.csv.gz"])
def test_suffixes_of_text_are_read_alike(written: Callable[..., Path], name: str) -> None:
    text = pd.DataFrame(POINTS, columns=list("xyz")).to_csv(index=False, sep="\t").encode()
    np.testing.assert_array_equal(
        read_array(written(gzip.compress(text) if "gz" in name.lower() else text, name)), POINTS
    )


def test_damaged_archives_are_refused(written: Callable[..., Path]) -> None:
    whole = gzip.compress(b"1.5,2.5\n" * 10_000)
    refused(written(whole[: len(whole) // 2], "a.csv.gz"), "a.csv.gz")
    refused(written(bytes(range(256)), "a.csv.gz"), "not text")


def test_tables_that_memory_does_not_hold_are_refused_before_they_are_read(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brenier.core.memory.free_memory", lambda: 1e6)
    bomb = gzip.compress(b"0,0\n" * 50_000)
    assert len(bomb) < 1000
    pd.DataFrame({"x": np.zeros(200_000)}).to_parquet(file := written("", "a.parquet"))
    for source in (written(bomb, "a.csv.gz"), written("0,0\n" * 50_000), file):
        refused(source, "the table takes", "are free")
    assert len(read_array(written("0,0\n" * 1000))) == 1000


# Names above numbers


def frame(names: Any, points: np.ndarray) -> str:
    return pd.DataFrame(points, columns=names).to_csv(index=False)


@pytest.mark.parametrize(
    ("names", "points"),
    [
        (range(3), POINTS),
        (range(1, 4), POINTS),
        (range(6), WHOLE),  # whole numbers above whole numbers
        (range(28 * 28), RNG.integers(0, 256, (5, 28 * 28))),
        (range(400, 700, 10), RNG.uniform(0, 1, (20, 30))),  # wavelengths
        (np.round(np.linspace(350.5, 999.25, 50), 2), RNG.uniform(0, 1, (20, 50))),
        (range(2019, 2024), RNG.normal(50, 10, (20, 5))),  # years
        (range(2000, 2024), RNG.integers(0, 5000, (20, 24))),
        ([1, 5, 9, 40, 77, 120, 200, 350], RNG.normal(size=(10, 8))),
        (range(-10, 11, 5), RNG.normal(size=(30, 5))),
    ],
)
def test_numbers_above_columns_are_names_where_no_point_is_like_them(
    written: Callable[..., Path], names: Any, points: np.ndarray
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether it is said depends on how few rows there are
        np.testing.assert_array_equal(read_array(written(frame(names, points))), points)
    point = read_array(written(frame(names, points)), Reading(header=False))
    np.testing.assert_allclose(point[0], list(names))
    np.testing.assert_array_equal(point[1:], points)


@pytest.mark.parametrize(
    "points",
    [
        POINTS,
        np.round(POINTS, 1),
        WHOLE,
        np.arange(40.0).reshape(10, 4),
        np.sort(RNG.normal(size=(20, 9)), axis=1),
        np.cumsum(RNG.uniform(size=(30, 3)), axis=0),
        RNG.standard_cauchy((30, 4)),
        RNG.integers(0, 2, (30, 8)),
        RNG.normal(size=(30, 1)),
        RNG.integers(0, 9, (30, 1)),
        np.linspace(0, 1, 11)[:, None],
        np.vstack([[1e6, 1e6], RNG.normal(size=(20, 2))]),  # an outlier
    ],
)
def test_points_without_names_are_all_points(written: Callable[..., Path], points: np.ndarray) -> None:
    text = pd.DataFrame(points).to_csv(index=False, header=False)
    np.testing.assert_array_equal(read_array(written(text)), points)


def test_no_row_of_random_points_is_taken_for_names(written: Callable[..., Path]) -> None:
    rng = np.random.default_rng(1)
    for trial in range(60):
        shape = int(rng.integers(2, 40)), int(rng.integers(1, 12))
        points = rng.normal(size=shape) if trial % 2 else rng.integers(0, int(rng.integers(2, 300)), shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read_array(written(pd.DataFrame(points).to_csv(index=False, header=False)))
        np.testing.assert_array_equal(found, points)


@pytest.mark.parametrize(
    ("text", "as_names"),
    [
        ("0,1\n0.5,0.25\n1.5,1\n", True),
        ("0,1\n1,0\n1,1\n", False),
        ("2020,2021\n3,5\n4,1\n2,2\n", True),
        ("2020\n" + "".join(f"{k % 7}.5\n" for k in range(40)), True),
    ],
)
def test_a_line_that_may_be_either_is_said_to_be_read_as_one(
    written: Callable[..., Path], text: str, as_names: bool
) -> None:
    file = written(text)
    with pytest.warns(UserWarning, match="as names: --no-header" if as_names else "as a point: --header"):
        found = read_array(file)
    np.testing.assert_array_equal(found, read_array(file, Reading(header=as_names)))
    assert len(found) == text.count("\n") - as_names


def test_words_beside_numbers_are_no_names_where_words_stand_below(written: Callable[..., Path]) -> None:
    rows = "".join(f"p{k},{x},{y}\n" for k, (x, y) in enumerate(POINTS[:, :2]))
    np.testing.assert_array_equal(read_array(written(rows), Reading(drop=["0"])), POINTS[:, :2])
    file = written("name,2019,2020\n" + rows)
    np.testing.assert_array_equal(read_array(file, Reading(drop=["name"])), POINTS[:, :2])


def test_a_missing_value_does_not_make_names_of_a_point(written: Callable[..., Path]) -> None:
    for first in ("NA,2", ",2", "nan,2"):
        refused(written(f"{first}\n3,4\n5,6\n"), "column '0'", "NaN or missing in 1 row, first in row 0")


def test_lines_of_units_and_of_further_names_are_left_out(written: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match="no numbers, 'kg, m/s'"):
        np.testing.assert_array_equal(read_array(written("mass,speed\nkg,m/s\n1,2\n3,4\n")), XY)
    with pytest.warns(UserWarning, match="no numbers, 'kg'"):
        np.testing.assert_array_equal(read_array(written("mass;share\n kg ;\n1;2\n3;4\n")), XY)
    two = pd.DataFrame(POINTS[:, :2], columns=pd.MultiIndex.from_product([["a"], ["x", "y"]]))
    with pytest.warns(UserWarning, match="'x, y'"):
        np.testing.assert_array_equal(read_array(written(two.to_csv(index=False))), POINTS[:, :2])


def test_names_in_a_comment_are_those_of_columns(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.csv", POINTS, header="x y z")
    np.testing.assert_array_equal(read_array(tmp_path / "a.csv", Reading(columns=["z", "x"])), POINTS[:, [2, 0]])


# Row numbers


@pytest.mark.parametrize("index", [range(40), range(1, 41), RNG.permutation(40), range(0, 400, 10)])
def test_what_pandas_calls_its_rows_is_no_coordinate(written: Callable[..., Path], index: Any) -> None:
    table = pd.DataFrame(POINTS, columns=list("xyz"), index=index)
    with pytest.warns(UserWarning, match="column 0 has no name and numbers the rows"):
        np.testing.assert_array_equal(read_array(written(table.to_csv())), POINTS)
    again = table.to_csv().replace(",x", "Unnamed: 0,x", 1)
    with pytest.warns(UserWarning, match="numbers the rows"):
        np.testing.assert_array_equal(read_array(written(again)), POINTS)


def test_numbers_above_and_beside_an_array_are_neither(written: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match="numbers the rows"):
        np.testing.assert_array_equal(read_array(written(pd.DataFrame(POINTS).to_csv())), POINTS)


@pytest.mark.parametrize("name", ["id", "index", "Row"])
def test_named_row_numbers_are_left_out_unless_they_are_asked_for(written: Callable[..., Path], name: str) -> None:
    table = pd.DataFrame(POINTS, columns=list("xyz"))
    table.insert(0, name, range(1, 41))
    file = written(table.to_csv(index=False))
    with pytest.warns(UserWarning, match="counts the rows: it is left out"):
        np.testing.assert_array_equal(read_array(file), POINTS)
    np.testing.assert_array_equal(read_array(file, Reading(columns=[name, "y"])), table[[name, "y"]])
    np.testing.assert_array_equal(read_array(file, Reading(drop=[name])), POINTS)
    table[name] = RNG.normal(size=40)
    np.testing.assert_array_equal(read_array(written(table.to_csv(index=False))), table)


def test_a_number_sign_above_row_numbers_is_no_comment(written: Callable[..., Path]) -> None:
    text = pd.DataFrame(POINTS, columns=list("xyz")).to_csv()
    with pytest.warns(UserWarning, match="numbers the rows"):
        np.testing.assert_array_equal(read_array(written("#" + text), Reading(drop=["y"])), POINTS[:, [0, 2]])


def test_a_first_column_that_counts_the_rows_is_kept_and_said(written: Callable[..., Path]) -> None:
    table = np.column_stack([np.arange(40), POINTS])
    text = pd.DataFrame(table, columns=list("txyz")).astype({"t": int}).to_csv(index=False)
    for given in (text, text.partition("\n")[2]):
        with pytest.warns(UserWarning, match="counts the rows, and is read as a coordinate"):
            np.testing.assert_array_equal(read_array(written(given)), table)


@pytest.mark.filterwarnings("error")
def test_a_few_columns_that_have_all_the_say_are_named(written: Callable[..., Path]) -> None:
    points = np.random.default_rng(1).normal(size=(200, 3))
    table = pd.DataFrame(points * [1, 20, 1], columns=list("xyz"))
    file = written(table.to_csv(index=False))
    with pytest.warns(UserWarning, match=r"1 of 3 columns, 'y', holds 99% of the variance: if its unit is the reason"):
        np.testing.assert_array_equal(read_array(file), table)
    for reading in (Reading(standardize=True), Reading(columns=["y"]), Reading(drop=["y"])):
        read_array(file, reading)
    read_array(written(table.assign(y=table["y"] / 5).to_csv(index=False)))
    read_array(written(table[:40].to_csv(index=False)))  # too few to say


def test_other_columns_without_a_name_are_refused_with_a_remedy(written: Callable[..., Path]) -> None:
    rows = "".join(f"{x},{y}\n" for x, y in POINTS[:, :2])
    file = written(",y\n" + rows)
    refused(file, "column 0 has no name", "--drop '0'")
    np.testing.assert_array_equal(read_array(file, Reading(drop=["0"])), POINTS[:, 1:2])
    np.testing.assert_array_equal(read_array(file, Reading(columns=["0", "y"])), POINTS[:, :2])
    refused(written("x,\n" + rows), "column 1 has no name")


def test_row_names_as_r_writes_them_are_left_out(written: Callable[..., Path]) -> None:
    rows = "".join(f'"{k}" {x} {y}\n' for k, (x, y) in enumerate(POINTS[:, :2], 1))
    with pytest.warns(UserWarning, match="numbers the rows"):
        np.testing.assert_array_equal(read_array(written('"x" "y"\n' + rows)), POINTS[:, :2])
    refused(written("x\n0,5\n1,5\n2,5\n"), "2 fields", "1 names", "decimal marks")


# What is refused


@pytest.mark.parametrize(
    ("text", "words", "kind"),
    [
        ("x,y\n1,2\n3,red\n", ["'y'", "'red'", "row 1", "--drop 'y'"], TypeError),
        ("x,y\n1,2020-01-01\n", ["'y'", "2020-01-01", "--drop"], TypeError),
        ("x,y\n1,1+2j\n", ["'y'", "1+2j"], TypeError),
        (
            'x,"a, b",c,d\nP1,yes,1,\nP2,no,3,4\n',
            ["'x' is not numeric", "likewise 'a, b' (--drop 'x,\"a, b\"')"],
            TypeError,
        ),
        ("x,y,z\n1,,\n2,3,4\n5,,1\n", ["'y'", "in 2 rows", "likewise 'z' (--drop 'y,z')"], ValueError),
        ("x,y\n1,0x1F\n", ["'y'", "0x1F"], TypeError),
        ("x,y\n1,1_000\n", ["'y'", "1_000"], TypeError),
        ("x,y\n1,12%\n", ["'y'", "'12%'", "0.12"], TypeError),
        ("x,y\n1,$5\n", ["'y'", "'$5'"], TypeError),
        ("x,y\n1,yes\n2,no\n", ["'y'", "'yes'"], TypeError),
        ('x,y\n1,"1,5"\n2.5,3\n', ["'y'", "'1,5'", "',' is the decimal mark"], TypeError),
        ("hello\nworld\n", ["'hello'", "'world'"], TypeError),
        ("x,y\n1,\n3,4\n", ["'y'", "NaN or missing in 1 row,", "row 0"], ValueError),
        ("x,y\n1,NA\n3,4\n-,\n", ["'x'", "'-'"], TypeError),
        ("1,2\n3,NA\ninf,4\n", ["column '0'", "infinite", "row 2"], ValueError),
        ("x\n1e400\n", ["'x'", "infinite"], ValueError),
        ("1,2\n3\n", ["column '1'", "NaN or missing", "row 1"], ValueError),
        ("x,y,z\n1,2\n3,4\n", ["2 fields", "3 names"], ValueError),
        ("1,2\n3,4,5\n", ["line 2 has 3 fields", "those before it 2"], ValueError),
        ("x,y\n1,2\n3,4\n5,6,7\n", ["line 4 has 3 fields"], ValueError),
        ("x,y\n3,4,5\n", ["3 fields", "2 names"], ValueError),
        ("x,y\n", ["empty"], ValueError),
        ("\n\n", ["empty"], ValueError),
        ("# only a comment\n", ["empty"], ValueError),
        ('x,y\n"1,234",2\n"5,678",3\n', ["'5,678'", "decimal mark"], ValueError),
        ('x,"y\n1,2\n3,4\n', ["a.csv"], ValueError),
        ("1\x002,3\n", ["not text"], ValueError),
    ],
)
def test_text_that_is_no_table_of_numbers_is_refused(
    written: Callable[..., Path], text: str, words: list[str], kind: type[Exception]
) -> None:
    refused(written(text), "a.csv", *words, kind=kind)


def test_marks_that_are_given_settle_what_is_unclear(written: Callable[..., Path]) -> None:
    file = written('x,y\n"1,234",2\n"5,678",3\n')
    np.testing.assert_array_equal(read_array(file, Reading(decimal=",")), [[1.234, 2], [5.678, 3]])
    np.testing.assert_array_equal(read_array(file, Reading(decimal=".")), [[1234, 2], [5678, 3]])
    file = written("x;y\n1.234;2\n5.678;3\n")
    with pytest.warns(UserWarning, match=r"1\.234|5\.678"):
        np.testing.assert_array_equal(read_array(file), [[1.234, 2], [5.678, 3]])
    np.testing.assert_array_equal(read_array(file, Reading(decimal=",")), [[1234, 2], [5678, 3]])
    np.testing.assert_array_equal(read_array(written("x\n0,5\n1,5\n"), Reading(separator=";")), [[0.5], [1.5]])
    np.testing.assert_array_equal(read_array(written("1:2\n3:4\n"), Reading(separator=":")), XY)


def test_a_decimal_comma_far_below_is_found(written: Callable[..., Path]) -> None:
    file = written("x;y\n" + "1;2\n" * 3000 + "1,5;2\n")
    np.testing.assert_array_equal(read_array(file)[-2:], [[1, 2], [1.5, 2]])


def test_a_table_of_too_many_columns_is_refused(written: Callable[..., Path]) -> None:
    refused(written("1," * 200_000 + "1\n"), "100,000 columns", ".npy")
    refused(written("1" * 9_000_000 + "\n"), "a.csv")


# Arrow


def save(table: Any, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return path
    kind = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, kind(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return path


FILES = ["a.parquet", "a.feather", "a.arrow", "stream.arrow"]


@pytest.mark.parametrize("name", FILES)
def test_tables_of_arrow_return_what_was_saved(tmp_path: Path, name: str) -> None:
    columns = {"a": [1, 2], "b": [0.5, 1e-300], "c": [True, False], "d": pd.array(["1.5", "-2"], dtype="string")}
    file = save(pa.table(columns), tmp_path / name)
    np.testing.assert_array_equal(read_array(file), [[1, 0.5, 1, 1.5], [2, 1e-300, 0, -2]])
    found = read_array(save(pa.table({"x": pa.array([1, 2], pa.float32())}), tmp_path / name))
    assert found.dtype == np.float32
    numbers = [pa.array([3, 4], kind) for kind in (pa.uint8(), pa.float16(), pa.decimal128(5, 2), pa.uint64())]
    file = save(pa.table(numbers, names=list("abcd")), tmp_path / name)
    np.testing.assert_array_equal(read_array(file), [[3] * 4, [4] * 4])


def test_what_pandas_writes_is_read_back(tmp_path: Path) -> None:
    table = pd.DataFrame(POINTS, columns=list("xyz"), index=[f"p{k}" for k in range(40)])
    table.to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_array(tmp_path / "a.parquet"), POINTS)
    table.reset_index(drop=True).to_feather(tmp_path / "a.feather")
    np.testing.assert_array_equal(read_array(tmp_path / "a.feather"), POINTS)
    table.set_index("x").to_parquet(tmp_path / "b.parquet")
    with pytest.warns(UserWarning, match="labels of rows, x, are left out"):
        np.testing.assert_array_equal(read_array(tmp_path / "b.parquet"), POINTS[:, 1:])
    np.testing.assert_array_equal(read_array(tmp_path / "b.parquet", Reading(columns=list("xyz"))), POINTS)
    table["id"] = range(40)
    table.to_parquet(tmp_path / "c.parquet")
    with pytest.warns(UserWarning, match="'id' counts the rows"):
        np.testing.assert_array_equal(read_array(tmp_path / "c.parquet"), POINTS)


@pytest.mark.parametrize("name", FILES)
def test_lists_of_one_length_are_coordinates(tmp_path: Path, name: str) -> None:
    images = RNG.normal(size=(20, 2, 3)).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), 6)
    nested = pa.array(images.tolist(), pa.list_(pa.list_(pa.float32())))
    for column in (flat, pa.array(images.reshape(20, 6).tolist(), pa.list_(pa.float32())), nested):
        found = read_array(save(pa.table({"x": column}), tmp_path / name))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, images.reshape(20, 6))
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    both = save(pa.table({"t": pa.array(np.arange(20.0) / 2), "x": tensor}), tmp_path / name)
    np.testing.assert_array_equal(read_array(both), np.column_stack([np.arange(20) / 2, images.reshape(20, 6)]))
    np.testing.assert_array_equal(read_array(both, Reading(columns=["x"], shape=(2, 3))), images)
    part = save(pa.table({"x": flat}).slice(5, 10), tmp_path / name)
    np.testing.assert_array_equal(read_array(part), images.reshape(20, 6)[5:15])


def test_columns_of_one_name_are_each_read(tmp_path: Path) -> None:
    file = save(pa.table([pa.array(POINTS[:, 0]), pa.array(POINTS[:, 1])], names=["x", "x"]), tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_array(file), POINTS[:, :2])
    refused(file, "2 columns 'x'", reading=Reading(columns=["x"]))


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in (1, 0):
        pd.DataFrame(POINTS[20 * part : 20 * part + 20]).to_parquet(tmp_path / "data" / f"part-{part}.parquet")
    (tmp_path / "data" / "_SUCCESS").write_text("")
    np.testing.assert_array_equal(read_array(tmp_path / "data"), POINTS)
    pd.DataFrame({"other": [1.0]}).to_parquet(tmp_path / "data" / "part-2.parquet")
    refused(tmp_path / "data", "data", "chema")


@pytest.mark.parametrize(
    ("columns", "words", "kind"),
    [
        ({"x": [1.0, 2.0], "y": ["a", "b"]}, ["'y'", "'a'", "--drop 'y'"], TypeError),
        ({"x": pd.Categorical(["1", "2"])}, ["'x'", "categories"], TypeError),
        ({"x": pd.to_datetime(["2020-01-01", "2020-01-02"])}, ["'x'", "timestamp"], TypeError),
        ({"x": [{"a": 1}, {"a": 2}]}, ["'x'", "struct"], TypeError),
        ({"x": [[1.0, 2.0], [3.0]]}, ["'x'", "1 to 2 entries"], ValueError),
        ({"x": [[1.0, 2.0], None]}, ["'x'", "missing"], ValueError),
        ({"x": [[1.0, np.nan], [3.0, 4.0]]}, ["'x'", "NaN or missing", "row 0"], ValueError),
        ({"x": [["a"], ["b"]]}, ["'x'", "'a'"], TypeError),
        ({"x": pd.array([1, None], dtype="Int64")}, ["'x'", "NaN or missing in 1 row,", "row 1"], ValueError),
        ({"x": np.zeros(0)}, ["empty"], ValueError),
        ({"x": [None, None]}, ["'x'", "missing in 2 rows"], ValueError),
        ({}, ["no columns"], ValueError),
    ],
)
def test_parquet_that_is_no_table_of_numbers_is_refused(
    tmp_path: Path, columns: dict[str, object], words: list[str], kind: type[Exception]
) -> None:
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "a.parquet", *words, kind=kind)


@pytest.mark.parametrize("name", FILES)
def test_damaged_tables_of_arrow_are_refused(tmp_path: Path, name: str) -> None:
    whole = save(pa.table({"x": POINTS[:, 0]}), tmp_path / name).read_bytes()
    for cut in (4, len(whole) // 3, len(whole) - 20):
        (tmp_path / name).write_bytes(whole[:cut])
        if name != "stream.arrow" or cut < len(whole) - 20:
            refused(tmp_path / name, name)
    for other in (b"", b"x,y\n1,2\n", b"FEA1" + bytes(40)):
        (tmp_path / name).write_bytes(other)
        refused(tmp_path / name, name)
