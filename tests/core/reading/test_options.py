import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brenier import Reading, load_target
from brenier.core.reading.read import read_array

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.normal(size=(6, 4)), columns=["id", "mass", "a, b", "speed"])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    FRAME.to_parquet(tmp_path / "t.parquet")
    return tmp_path / "t.csv"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_read_in_the_order_in_which_they_are_named(table: Path, suffix: str) -> None:
    file = table.with_suffix(suffix)
    wanted = ["speed", "a, b"]
    np.testing.assert_array_equal(read_array(file, Reading(columns=wanted)), FRAME[wanted])
    np.testing.assert_array_equal(read_array(file, Reading(drop=["id"])), FRAME.drop(columns="id"))
    law = load_target(file, reading=Reading(columns=wanted))
    np.testing.assert_allclose(law.point_masses()[0].numpy(), FRAME[wanted], atol=1e-6)


def test_columns_without_a_name_are_called_by_their_number(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False, header=False)
    np.testing.assert_array_equal(read_array(tmp_path / "t.csv", Reading(columns=["3", "1"])), FRAME.iloc[:, [3, 1]])


def test_rows_take_the_shape_that_is_asked_for(tmp_path: Path) -> None:
    flat = RNG.normal(size=(5, 12))
    np.save(tmp_path / "flat.npy", flat)
    np.save(tmp_path / "grey.npy", flat.reshape(5, 3, 4))
    np.testing.assert_array_equal(read_array(tmp_path / "flat.npy", Reading(shape=(3, 2, 2))), flat.reshape(5, 3, 2, 2))
    with_channel = read_array(tmp_path / "grey.npy", Reading(shape=[1, 3, 4]))
    np.testing.assert_array_equal(with_channel, flat.reshape(5, 1, 3, 4))
    assert load_target(tmp_path / "flat.npy", reading=Reading(shape=(4, 3))).event_shape == (4, 3)
    for name, shape, words in (
        ("flat", (5, 2), "12 numbers"),
        ("grey", (4, 3), r"\(3, 4\)"),
        ("grey", (12,), "is asked"),
    ):
        with pytest.raises(ValueError, match=words):
            read_array(tmp_path / f"{name}.npy", Reading(shape=shape))


def test_standardized_coordinates_have_mean_0_and_deviation_1_even_far_out(tmp_path: Path) -> None:
    points = RNG.normal(size=(50, 3)) * [1, 1e-3, 1e6] + [1e9, -5, 0]
    other = RNG.normal(size=(20, 3))
    np.save(tmp_path / "x.npy", points)
    np.save(tmp_path / "y.npy", other)
    found = read_array(tmp_path / "x.npy", Reading(standardize=True))
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-12)
    by = read_array(tmp_path / "y.npy", Reading(standardize=points))
    np.testing.assert_allclose(by, (other - points.mean(0)) / points.std(0), rtol=1e-9)
    with pytest.raises(ValueError, match=r"y.npy' holds points of shape \(3,\), .* shape \(2,\)"):
        read_array(tmp_path / "y.npy", Reading(standardize=points[:, :2]))


def test_a_constant_coordinate_is_only_shifted_and_said_to_be_constant(tmp_path: Path) -> None:
    points = np.column_stack([np.arange(4.0), np.full(4, 0.1)])
    np.save(tmp_path / "x.npy", points)
    with pytest.warns(UserWarning, match="coordinate 1 is constant"):
        found = read_array(tmp_path / "x.npy", Reading(standardize=True))
    np.testing.assert_allclose(found, np.column_stack([(points[:, 0] - 1.5) / np.sqrt(1.25), np.zeros(4)]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"columns": "a,b"}, "list of names"),
        ({"columns": ["a", "a"]}, "twice"),
        ({"columns": []}, "one or more"),
        ({"columns": ["a"], "drop": ["b"]}, "one of them"),
        ({"separator": ";;"}, "one character"),
        ({"separator": ""}, "one character"),
        ({"decimal": "x"}, "decimal"),
        ({"decimal": ",", "separator": ","}, "differ"),
        ({"shape": 3}, "list of whole numbers"),
        ({"shape": ("a",)}, "list of whole numbers"),
        ({"shape": (3, 0)}, "from 1 on"),
        ({"shape": (2.5,)}, "from 1 on"),
        ({"shape": ()}, "from 1 on"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        inspect.unwrap(Reading.__init__)(object.__new__(Reading), **given)  # whatever the annotations say


def test_options_that_say_nothing_about_a_file_are_refused(table: Path) -> None:
    np.save(table.parent / "x.npy", FRAME)
    for source, reading, words in (
        ("x.npy", Reading(columns=["a"]), "columns says how tables are read"),
        ("x.npy", Reading(decimal=","), "decimal says how tables of text are read"),
        ("t.parquet", Reading(separator=";"), "separator says how tables of text"),
        ("t.csv", Reading(drop=["no"]), "no column 'no'"),
    ):
        with pytest.raises(ValueError, match=words):
            read_array(table.parent / source, reading)
    for law in ("normal", [[1.0]], load_target("normal")):
        with pytest.raises(ValueError, match="standardize says how points are read"):
            load_target(law, reading=Reading(standardize=True))
