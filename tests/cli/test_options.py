import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import brenier as library
from brenier.cli import COMMANDS

Command = Callable[..., Any]  # to a `Result` of conftest.py
NO_DATA = {"audit", "pairs", "reproduce", "report", "show", "laws"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for name, n in (("x", 60), ("y", 70), ("t", 80)):
        columns = {"id": 7 * np.arange(n) + 3.5, "a": rng.normal(size=n), "b, c": 1e4 * rng.normal(size=n) + 1e5}
        pd.DataFrame(columns).to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def points(name: str, *columns: str) -> np.ndarray:
    return pd.read_csv(f"{name}.csv")[list(columns)].to_numpy()


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - NO_DATA))
def test_every_command_that_takes_data_is_told_how_to_read_them(brenier: Command, command: str) -> None:
    out = brenier(command, "--help").out
    assert "Reading files" in out
    for option in ("--columns", "--drop", "--separator", "--decimal", "--header", "--shape", "--standardize"):
        assert option in out


def frechet(**given: Any) -> float:
    found = library.evaluate(given["x"], given["y"], train=given["t"], progress=False)
    return float(found["value"].sel(metric="frechet"))


def saved(file: str) -> float:
    return float(json.loads(Path(file).read_text())["metrics"]["frechet"]["value"])


def test_all_files_of_a_command_are_read_so(brenier: Command, files: Path) -> None:
    given = ("evaluate", "x.csv", "--reference", "y.csv", "--train", "t.csv", "--force", "-q", "-o", "e.json")
    assert brenier(*given, "--columns", 'a,"b, c"').code == 0
    expected = frechet(**{name: points(name, "a", "b, c") for name in "xyt"})
    assert saved("e.json") == pytest.approx(expected, rel=1e-5)
    assert brenier(*given, "--drop", "id", "--standardize").code == 0
    y = points("y", "a", "b, c")
    expected = frechet(**{name: (points(name, "a", "b, c") - y.mean(0)) / y.std(0) for name in "xyt"})
    assert saved("e.json") == pytest.approx(expected, rel=1e-4)


def test_columns_may_be_named_one_by_one(brenier: Command, files: Path) -> None:
    given = ("evaluate", "x.csv", "--reference", "y.csv", "--train", "t.csv", "--force", "-q", "-o", "e.json")
    assert brenier(*given, "--drop", "id", "--drop", '"b, c"').code == 0
    assert saved("e.json") == pytest.approx(frechet(**{name: points(name, "a") for name in "xyt"}), rel=1e-5)


def test_an_array_beside_a_table_has_no_columns_to_choose(brenier: Command, files: Path) -> None:
    np.save("x.npy", points("x", "a"))
    found = brenier("evaluate", "x.npy", "--reference", "y.csv", "--columns", "a", "-q", "-o", "e.json")
    assert (found.code, found.err) == (0, "")
    assert saved("e.json") == pytest.approx(
        frechet(x=points("x", "a"), y=points("y", "a"), t=points("y", "a")), rel=1e-5
    )


def test_an_array_is_standardized_by_the_columns_that_are_read(brenier: Command, files: Path) -> None:
    np.save("x.npy", points("x", "b, c", "a"))
    given = ("--reference", "y.csv", "--columns", '"b, c",a', "--standardize", "-q", "-o", "e.json")
    assert brenier("evaluate", "x.npy", *given).code == 0
    y = points("y", "b, c", "a")
    x, y = ((values - y.mean(0)) / y.std(0) for values in (points("x", "b, c", "a"), y))
    assert saved("e.json") == pytest.approx(frechet(x=x, y=y, t=y), rel=1e-4)


def test_weights_have_columns_of_their_own(brenier: Command, files: Path) -> None:
    pd.DataFrame({"w": np.arange(1.0, 61)}).to_csv("w.csv", index=False)
    found = brenier(
        *("transport", "x.csv", "--columns", "a", "--weights", "w.csv", "--tolerance", 0.3, "--samples", 512),
        *("-o", "m.nc", "-q"),
    )
    assert (found.code, found.err) == (0, "")
    with xr.open_dataset("m.nc") as saved:
        np.testing.assert_allclose(
            np.sort(saved["points"].to_numpy().ravel()), np.sort(points("x", "a").ravel()), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("probe", "normal", "--columns", "a"), ["columns", "'normal'", "leave it out"]),
        (("probe", "x.csv", "--columns", "a,nope"), ["x.csv", "'nope'", "id, a"]),
        (("probe", "x.csv", "--shape", "3,a"), ["--shape", "3,32,32"]),
        (("probe", "x.csv", "--shape", "5"), ["3 numbers", "(5,)"]),
        (("probe", "x.csv", "--decimal", ";"), ["decimal"]),
        (("evaluate", "x.csv", "--reference", "normal", "--standardize"), ["--standardize", "'normal'"]),
        (("chain", "normal", "--from", "x.csv", "--standardize"), ["--standardize", "'normal'"]),
        (("flow", "normal", "--separator", ";", "-o", "m.nc"), ["--separator", "'normal'"]),
        (("chain", "normal", "--from", "0", "--columns", "a"), ["--columns", "'normal' or '0'"]),
    ],
)
def test_what_says_nothing_is_refused(
    brenier: Command, files: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    brenier(*arguments).refused(*words)


def test_words_are_classes(brenier: Command, files: Path) -> None:
    kinds = np.where(points("y", "a")[:, 0] > 0, "more", "less")
    pd.DataFrame({"a": points("y", "a")[:, 0], "kind": kinds}).to_csv("y.csv", index=False)
    given = ("evaluate", "x.csv", "--reference", "y.csv", "--columns", "a", "--labels", "y.csv:kind", "-q")
    found = brenier(*given, "-o", "e.json")
    assert (found.code, found.err) == (0, "")
    expected = library.evaluate(points("x", "a"), points("y", "a"), labels=kinds, progress=False)
    mixture = json.loads(Path("e.json").read_text())["metrics"]["mmr"]["value"]
    assert mixture == pytest.approx(float(expected["value"].sel(metric="mmr")), rel=1e-5)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--shape", "a,b", "'a,b': give whole numbers and commas between them, such as 3,32,32"),
        ("--about", "me", "'me' is not one of 'law', 'atoms'."),
        ("--dtype", "int8", "'int8' is not one of 'float32', 'float64'."),
    ],
)
def test_a_value_that_is_none_is_said_in_our_words(brenier: Command, option: str, value: str, said: str) -> None:
    assert brenier("probe", "digits", option, value).err == f"brenier: Invalid value for '{option}': {said}\n"
