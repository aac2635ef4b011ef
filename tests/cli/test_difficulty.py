import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import brenier as package
from brenier.sampling.difficulty import difficulty

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--steps", 3, "--solver", "euler", "--criterion", "karras", "-n", 40)
SAME: dict[str, Any] = {"steps": 3, "solver": "euler", "schedule": "karras", "n": 40, "progress": False}


def test_it_saves_what_the_function_returns_and_shows_it_again(brenier: Command, tmp_path: Path) -> None:
    saved, first, second = (tmp_path / name for name in ("d.nc", "first.png", "second.png"))
    made = brenier("difficulty", "digits", *FEW, "--seed", 3, "-o", saved, "--figure", first)
    assert (made.code, made.err) == (0, "")
    expected = difficulty("digits", seed=3, **SAME)
    found = xr.load_dataset(saved, engine="h5netcdf")
    xr.testing.assert_equal(found, expected)
    assert brenier("show", saved, "--figure", second) == made
    assert first.read_bytes() == second.read_bytes()


def test_the_tables_hold_the_hardest_first_and_the_correlations(brenier: Command) -> None:
    out, found = brenier("difficulty", "four-gaussians", *FEW).out, difficulty("four-gaussians", **SAME)
    assert out.startswith(
        "four-gaussians in 1 dimension: 40 points, the sampler's own points, euler, 3 steps by karras"
    )
    hardest = int(np.argmin(found["rank"].to_numpy()))
    line = next(line for line in out.splitlines() if line.split()[:1] == ["1"])
    assert line.split()[1] == f"{hardest}"
    assert f"{float(found['integral_localization'][hardest]):.3f}" in line
    assert f"{float(found['rho'].sel(measure='max_localization')):.2f} [" in out
    assert "nan" not in out


def test_a_file_of_points_and_no_check(brenier: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.linspace(-4, 4, 9))
    made = brenier("difficulty", "four-gaussians", "--data", tmp_path / "points.npy", "--no-check", *FEW)
    assert made.code == 0
    assert "9 points, data that were given, 8 noises each to sigma" in made.out
    assert "The error was not measured." in made.out


def test_the_defaults_are_those_of_the_function(brenier: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def asked(*arguments: object, **options: object) -> None:
        calls.append(inspect.signature(difficulty).bind(*arguments, **options))
        raise ValueError("asked")

    monkeypatch.setattr(package, "difficulty", asked)
    brenier("difficulty", "normal").refused("asked")
    given, parameters = calls[0].arguments, inspect.signature(difficulty).parameters
    for name, value in given.items():
        if name not in ("law", "progress"):
            assert value == parameters[name].default, name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no-such-law",), ("no target 'no-such-law'",)),
        (("normal", "--samples", "none.npy"), ("none.npy", "does not exist")),
        (("normal", "--solver", "euler-maruyama"), ("draws noise on the way",)),
        (("normal", "--snr", "a"), ("--snr", "not a number")),
    ],
)
def test_wrong_input_is_one_line_and_no_file(
    brenier: Command, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    brenier("difficulty", *arguments, "-o", tmp_path / "d.nc").refused(*words)
    assert list(tmp_path.iterdir()) == []
