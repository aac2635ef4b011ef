import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import brenier as package
from brenier.catalog import load_target
from brenier.sampling.schedule import Schedule

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--steps", 4, "--criterion", "karras")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Four steps, of which the prediction is 0.1 + 0.2 + 0.3 + 0.2."""
    schedule = Schedule(
        (20, 4, 1, 0.2, 0),
        "heun",
        criterion="error",
        predicted_error=(0.1, 0.2, 0.3, 0.2),
        law="normal",
        seed=7,
        evaluations=12345,
    )
    schedule.to_json(tmp_path / "s.json")
    return tmp_path / "s.json"


def record(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `plan` is called with; it does no work."""
    calls: list[tuple[Any, ...]] = []

    def asked(*arguments: object, **options: object) -> None:
        calls.append((*arguments, options))
        raise ValueError("asked")

    monkeypatch.setattr(package, "plan", asked)
    return calls


# What it prints and saves


def test_it_saves_the_schedule_that_the_function_returns(brenier: Command, tmp_path: Path) -> None:
    law = load_target("normal")
    options = ("--solver", "heun", "--sigma-max", 30, "--sigma-min", 0.1, "--seed", 3)
    code, out, err = brenier("plan", "normal", *FEW, *options, "-o", tmp_path / "s.json")
    assert (code, err) == (0, "")
    found = Schedule.from_json(tmp_path / "s.json")
    expected = package.plan(
        law, 4, solver="heun", criterion="karras", sigma_max=30.0, sigma_min=0.1, seed=3, progress=False
    )
    assert found == expected
    assert found.sigmas[::4] == pytest.approx((30, 0.1))
    assert out.startswith("normal: 4 steps of heun by karras")
    assert "8 evaluations of the denoiser per sample" in out


def test_a_saved_schedule_shows_its_levels_and_its_prediction(brenier: Command, saved: Path) -> None:
    code, out, err = brenier("show", saved, "--figure", saved.with_name("f.png"))
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if line.strip()[:1] in "1234" and line.strip()]
    assert rows == [
        ["1", "20", "4", "0.1", "12%"],
        ["2", "4", "1", "0.2", "25%"],
        ["3", "1", "0.2", "0.3", "38%"],
        ["4", "0.2", "0", "0.2", "25%"],
    ]
    assert "Predicted end error 0.8, with 7 evaluations of the denoiser per sample" in out
    assert "planning took 12,345 evaluations in all." in out
    assert saved.with_name("f.png").read_bytes()[:4] == b"\x89PNG"


def test_another_objective_is_said_beside_the_end_error(brenier: Command, saved: Path) -> None:
    law = {"objective": "law", "predicted_objective": 0.35, "predicted_objective_se": 0.02}
    saved.write_text(json.dumps(json.loads(saved.read_text()) | law))
    out = brenier("show", saved).out
    assert "4 steps of heun by error, objective law, seed 7" in out
    assert "Predicted end error 0.8, sliced W2 to the law 0.35 ± 0.02, with" in " ".join(out.split())


def test_of_a_long_schedule_both_ends_are_shown(brenier: Command, tmp_path: Path) -> None:
    Schedule([*np.geomspace(80, 0.1, 500), 0], "euler", criterion="log-snr").to_json(tmp_path / "s.json")
    out = brenier("show", tmp_path / "s.json").out
    rows = [line.split() for line in out.splitlines()]
    first, *_, last = [row for row in rows if len(row) == 3 and row[0].isdigit()]
    assert (first[0], last[0], last[2]) == ("1", "500", "0")
    assert "40 of 500 steps shown." in out
    assert "No prediction of the error" in out


def test_every_option_reaches_the_plan(brenier: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert brenier("probe", "two-points", "--snrs", 3, "-o", tmp_path / "p.nc", "--quiet").code == 0
    calls = record(monkeypatch)
    options = ("--steps", 7, "--solver", "euler", "--criterion", "kl", "--sigma-max", 9, "--sigma-min", 0.5)
    more = (
        "--profile",
        tmp_path / "p.nc",
        "--pilots",
        33,
        "--budget",
        600,
        "--seed",
        5,
        "--dtype",
        "float32",
        "--quiet",
    )
    brenier("plan", "two-points", *options, *more, "--objective", "law").refused("asked")
    ((law, steps, named),) = calls
    assert (law.name, str(law.dtype), steps) == ("two-points", "torch.float32", 7)
    xr.testing.assert_equal(named.pop("profile"), xr.load_dataset(tmp_path / "p.nc", engine="h5netcdf"))
    expected = {
        "solver": "euler",
        "criterion": "kl",
        "sigma_max": 9,
        "sigma_min": 0.5,
        "pilots": 33,
        "seed": 5,
        "budget": 600,
    }
    assert named == expected | {"objective": "law", "progress": False}


def test_the_same_seed_makes_the_same_files(brenier: Command, tmp_path: Path) -> None:
    for name in "ab":
        files = ("-o", tmp_path / f"{name}.json", "--figure", tmp_path / f"{name}.svg")
        assert brenier("plan", "two-points", *FEW, *files).code == 0
    for suffix in (".json", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_quiet_prints_nothing_and_force_replaces(brenier: Command, saved: Path) -> None:
    before = saved.read_bytes()
    brenier("plan", "normal", *FEW, "-o", saved).refused("s.json", "--force")
    assert saved.read_bytes() == before
    assert brenier("plan", "normal", *FEW, "-o", saved, "--force", "--quiet") == (0, "", "")
    assert Schedule.from_json(saved).criterion == "karras"


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("norml",), ["'norml'", "did you mean 'normal'?"]),
        (("normal", "--steps", "0"), ["steps"]),
        (("normal", "--steps", "-3"), ["steps"]),
        (("normal", "--steps", "1.5"), ["--steps"]),
        (("normal", "--solver", "eular"), ["'eular'", "euler"]),
        (("normal", "--criterion", "karas"), ["'karas'", "karras"]),
        (("normal", "--sigma-max", "1", "--sigma-min", "2", "--criterion", "karras"), ["2", "1"]),
        (("normal", "--sigma-max", "1", "--sigma-min", "1", "--criterion", "karras"), ["1"]),
        (("normal", "--sigma-max", "0", "--criterion", "karras"), ["0"]),
        (("normal", "--sigma-max", "nan", "--criterion", "karras"), ["nan"]),
        (("normal", "--sigma-min", "-1", "--criterion", "karras"), ["-1"]),
        (("normal", "--pilots", "0"), ["pilots"]),
        (("normal", "--profile", "missing.nc"), ["missing.nc", "does not exist"]),
        (("normal", "--profile", "kept.json"), ["kept.json", "not a netCDF file"]),
        (("normal", "--seed", "-1"), ["seed"]),
        (("normal", "--device", "warp"), ["'warp'", "cpu"]),
        (("normal", "-o", "missing/s.json"), ["missing", "does not exist"]),
        (("normal", "-o", "kept.json"), ["kept.json", "--force"]),
        (("normal", "-o", "s.nc"), ["s.nc", ".json"]),
        (("normal", "--figure", "f.gif"), ["f.gif", ".png or .pdf or .svg"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    (tmp_path / "kept.json").write_text("kept")
    monkeypatch.chdir(tmp_path)
    output = () if "-o" in arguments or "--figure" in arguments else ("-o", "new.json", "--figure", "new.png")
    brenier("plan", *arguments, *output).refused(*words)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept.json", "kept")]


def test_outputs_and_profiles_are_checked_before_the_work(
    brenier: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = record(monkeypatch)
    brenier("plan", "normal", "-o", tmp_path / "s.npy").refused(".json")
    xr.Dataset(attrs={"kind": "comparison"}).to_netcdf(tmp_path / "c.nc", engine="h5netcdf")
    brenier("plan", "normal", "--profile", tmp_path / "c.nc").refused(
        "c.nc", "holds a comparison, and a profile is wanted"
    )
    assert not calls


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"sigmas": [1, 2, 3]}, "descend"),
        ({"sigmas": [1, 1, 0]}, "descend"),
        ({"sigmas": [1, 0, -1]}, "the last may be 0"),
        ({"sigmas": [float("inf"), 1]}, "finite"),
        ({"sigmas": [1]}, "at least two"),
        ({"solver": "eular"}, "eular"),
        ({"sigmas": None}, "sigmas"),
        ("not JSON", "not JSON"),
    ],
)
def test_what_is_no_schedule_is_not_shown(brenier: Command, saved: Path, content: Any, word: str) -> None:
    whole = json.loads(saved.read_text())
    saved.write_text(
        content if isinstance(content, str) else json.dumps({**whole, **content}).replace("Infinity", "1e999")
    )
    brenier("show", saved).refused("s.json", word)


def test_schedules_are_shown_one_by_one(brenier: Command, saved: Path) -> None:
    brenier("show", saved, saved).refused("s.json", "only profiles are shown together")
