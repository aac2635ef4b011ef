from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import brenier as package
from brenier.sampling.comparison import compare

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--steps", "2,4", "--solvers", "euler,euler-maruyama", "--criteria", "karras,log-snr", "-n", 40, "--pilots", 8)


def test_it_saves_what_the_function_returns_and_shows_it_again(brenier: Command, tmp_path: Path) -> None:
    saved, first, second = (tmp_path / name for name in ("c.nc", "first.png", "second.png"))
    made = brenier("compare", "normal", *FEW, "--seed", 3, "-o", saved, "--figure", first)
    assert (made.code, made.err) == (0, "")
    solvers, criteria = ["euler", "euler-maruyama"], ["karras", "log-snr"]
    expected = compare("normal", [2, 4], solvers=solvers, criteria=criteria, n=40, pilots=8, seed=3, progress=False)
    found = xr.load_dataset(saved, engine="h5netcdf")
    xr.testing.assert_equal(found, expected)
    for name, value in expected.attrs.items():
        np.testing.assert_array_equal(found.attrs[name], value, err_msg=name)
    assert brenier("show", saved, "--figure", second) == made
    assert first.read_bytes()[:4] == b"\x89PNG"
    assert first.read_bytes() == second.read_bytes()


def test_the_table_holds_every_cell_with_its_error_and_marks_the_best(brenier: Command) -> None:
    out = brenier("compare", "normal", *FEW).out
    found = compare("normal", [2, 4], solvers=["euler"], criteria=["karras", "log-snr"], n=40, pilots=8, progress=False)
    assert out.startswith("normal: 1 dimension, 40 samples of each grid, sigma from 10 to 0, 8 pilots, seed 0")
    assert "euler (2 steps: 2 evaluations, 4 steps: 4 evaluations)" in out
    rms = found["rms"].sel(solver="euler")
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(("karras", "log-snr"))}
    lines = [line for line in out.splitlines() if line.startswith(("karras", "log-snr"))]
    for criterion in rows:
        first = next(line for line in lines if line.startswith(criterion))
        for steps in (2, 4):
            cell = rms.sel(criterion=criterion, steps=steps)
            error = float(found["rms_se"].sel(solver="euler", criterion=criterion, steps=steps))
            best = float(cell) == float(rms.sel(steps=steps).min())
            mark = r"\*" if best else " "
            assert f"{float(cell):.3f} ±{error:.3f}" + mark.strip("\\") in first
    assert "euler-maruyama (2 steps" in out
    assert "nan" not in out


def test_the_defaults_are_those_of_the_function(brenier: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import inspect

    calls: list[Any] = []

    def asked(*arguments: object, **options: object) -> None:
        calls.append(inspect.signature(compare).bind(*arguments, **options))
        raise ValueError("asked")

    monkeypatch.setattr(package, "compare", asked)
    brenier("compare", "normal").refused("asked")
    (given,) = calls
    defaults = {name: part.default for name, part in inspect.signature(compare).parameters.items()}
    for name, value in given.arguments.items():
        if name not in ("law", "progress"):
            assert tuple(value) == defaults[name] if isinstance(value, list) else value == defaults[name], name
    assert given.arguments["law"].name == "normal"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("norml",), ["'norml'", "did you mean 'normal'?"]),
        (("normal", "--steps", "0"), ["steps", "0"]),
        (("normal", "--steps", "5,,10"), ["--steps", "''"]),
        (("normal", "--steps", "5,5"), ["--steps", "twice"]),
        (("normal", "--steps", "2.5"), ["steps", "2.5"]),
        (("normal", "--solvers", "eular"), ["'eular'", "euler"]),
        (("normal", "--solvers", "euler,"), ["''", "euler"]),
        (("normal", "--solvers", "euler,euler"), ["twice"]),
        (("normal", "--criteria", "karas"), ["'karas'", "karras"]),
        (("normal", "--criteria", "karras", "--sigma-max", "1", "--sigma-min", "2"), ["1", "2"]),
        (("normal", "-n", "0"), ["n must be"]),
        (("normal", "-n", "-5"), ["n must be"]),
        (("normal", "--criteria", "karras", "--pilots", "0"), ["pilots"]),
        (("normal", "--seed", "-1"), ["seed"]),
        (("normal", "-o", "kept.nc"), ["kept.nc", "--force"]),
        (("normal", "-o", "c.json"), ["c.json", ".nc"]),
        (("normal", "--figure", "f.gif"), ["f.gif", ".png or .pdf or .svg"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    (tmp_path / "kept.nc").write_text("kept")
    monkeypatch.chdir(tmp_path)
    output = () if "-o" in arguments or "--figure" in arguments else ("-o", "new.nc", "--figure", "new.png")
    brenier("compare", *arguments, *output).refused(*words)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept.nc", "kept")]
