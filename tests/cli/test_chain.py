import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import brenier as package
from brenier.cli import outputs

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--steps", 2, "--eta", 0.2)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """N(0.5, 4)."""
    law = {"type": "gaussian-mixture", "weights": [1], "means": [0.5], "covariances": [4]}
    (tmp_path / "wide.json").write_text(json.dumps(law))
    return tmp_path / "wide.json"


@pytest.fixture
def points(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 3)))
    return tmp_path / "points.npy"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[object, ...], dict[str, object]]]:
    """What `brenier.chain` is called with; it does no work."""
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def record(*arguments: object, **options: object) -> None:
        calls.append((arguments, options))
        raise ValueError("asked")

    monkeypatch.setattr(package, "chain", record)
    return calls


# What it prints and saves


def test_it_prints_the_closed_form_of_a_gaussian_chain(brenier: Command, wide: Path) -> None:
    code, out, err = brenier("chain", wide, "--from", "-1", "--steps", 1, "--eta", 0.25)
    assert (code, err) == (0, "")
    assert out.startswith("wide.json from point -1: 1 dimension, 1 step of 0.25, ODE, ")
    # One step from t = 1/4: mean e^-t m, variance v = e^-2t s^2 + 1 - e^-2t, and back by the slope 1 + eta (1 - 1/v).
    decay = math.exp(-0.25)
    spread, width = math.sqrt(decay**2 * 4 + 1 - decay**2), math.sqrt(1 - decay**2)
    slope = 1 + 0.25 * (1 - 1 / spread**2)
    mean = slope * decay * 0.5 + 0.25 / spread**2 * decay * 0.5
    before = math.hypot(1.5, 2)
    after = math.hypot(mean - slope * decay * 1.5 - 0.5, slope * width - 2)
    assert f"from W2 = {before:.3g} to {after:.3g}, by the ratio {after / before:.3g}: closer" in out
    apart = math.hypot(decay * 1.5, spread - width)
    assert f"grows {slope:.3g}-fold, from {apart:.3g} to {slope * apart:.3g}" in " ".join(out.split())


@pytest.mark.parametrize("start", [("--from", "-1"), ("--from=-1",), ("--from", "-1e0")])
def test_a_negative_start_is_a_number_and_no_option(brenier: Command, asked: list, start: tuple[str, ...]) -> None:
    brenier("chain", "normal", *start).refused("asked")
    assert float(asked[0][0][1]) == -1


@pytest.mark.parametrize("start", [("--from", "-1,2,-0.5"), ("--from=-1,2,-0.5",)])
def test_a_vector_may_begin_with_a_minus_sign(brenier: Command, asked: list, start: tuple[str, ...]) -> None:
    brenier("chain", "normal", *start).refused("asked")
    assert asked[0][0][1] == "-1,2,-0.5"


def test_particles_start_from_a_vector(brenier: Command, points: Path) -> None:
    saved = points.with_name("c.nc")
    code, out, err = brenier("chain", points, "--from", "-1,2,-0.5", "--steps", 1, "-n", 20, "-o", saved)
    assert (code, err) == (0, "")
    assert out.startswith("points.npy from point -1,2,-0.5: 3 dimensions, 1 step of 0.01, ODE, ")
    assert "estimates and no guarantees" in " ".join(out.split())
    # W2 from a point is known from moments: E|X - x|^2, here over 20 draws of the 40 points.
    found = xr.load_dataset(saved, engine="h5netcdf")
    expected = math.sqrt(((np.load(points) - [-1, 2, -0.5]) ** 2).sum(1).mean())
    assert abs(float(found["w2_forward"][0]) - expected) < 4 * float(found["w2_forward_se"][0])


def test_every_option_reaches_the_chain(brenier: Command, asked: list) -> None:
    numbers = ("--steps", 7, "--eta", 0.2, "--perturbation", "3,inf", "--beta", 2, "-n", 90, "--seed", 5)
    error = ("--score-error", 0.3, "--error-kind", "white", "--error-band", "0.5,2")
    how = ("--mode", "sde", "--method", "particles", "--dtype", "float32", "--device", "cpu", "--from", "uniform")
    how += ("--potential", "quadratic(2)", "--forward", "flow")
    brenier("chain", "two-points", *numbers, *error, *how, "--quiet").refused("asked")
    ((arguments, options),) = asked
    law, start = arguments
    assert (law.name, str(law.dtype), str(law.device), start) == ("two-points", "torch.float32", "cpu", "uniform")
    assert options == {
        "steps": 7,
        "eta": 0.2,
        "mode": "sde",
        "perturbations": [3, math.inf],
        "beta": 2,
        "potential": "quadratic(2)",
        "forward": "flow",
        "n": 90,
        "method": "particles",
        "score_error": 0.3,
        "error_kind": "white",
        "error_band": (0.5, 2),
        "seed": 5,
        "progress": False,
    }


def test_the_defaults_are_those_of_the_function(brenier: Command, wide: Path) -> None:
    saved = wide.with_name("c.nc")
    assert brenier("chain", wide, *FEW, "-o", saved)[0] == 0
    found = xr.load_dataset(saved, engine="h5netcdf")
    expected = package.chain(str(wide), steps=2, eta=0.2, progress=False)
    xr.testing.assert_equal(found, expected)
    for name, value in expected.attrs.items():
        np.testing.assert_array_equal(found.attrs[name], value, err_msg=name)


def test_the_same_seed_makes_the_same_files(brenier: Command, points: Path) -> None:
    folder = points.parent
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        files = ("-o", folder / f"{name}.nc", "--figure", folder / f"{name}.svg")
        assert brenier("chain", points, "--steps", 1, "-n", 20, "--seed", seed, *files)[0] == 0
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    for suffix in (".nc", ".svg"):
        assert content[f"a{suffix}"] == content[f"b{suffix}"]
        assert content[f"a{suffix}"] != content[f"c{suffix}"]


def test_a_saved_chain_shows_as_when_it_was_made(brenier: Command, wide: Path) -> None:
    saved, first, second = (wide.with_name(name) for name in ("c.nc", "first.png", "second.png"))
    made = brenier("chain", wide, "--from", 3, *FEW, "--score-error", 0.1, "-o", saved, "--figure", first)
    assert made[0] == 0
    assert brenier("show", saved, "--figure", second) == made
    assert first.read_bytes()[:4] == b"\x89PNG"
    assert first.read_bytes() == second.read_bytes()


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("norml",), ["'norml'", "did you mean 'normal'?"]),
        (("nothing.npy",), ["'nothing.npy' does not exist"]),
        (("normal", "--from", "nothing.npy"), ["'nothing.npy' does not exist"]),
        (("normal", "--from", "norml"), ["'norml'"]),
        (("normal", "--from", "1,2"), ["2 coordinates", "1 dimension"]),
        (("normal", "--from", "nan"), ["finite"]),
        (("normal", "--from", "plane.npy"), ["shape (2,)", "give both in one shape"]),
        (("plane.npy", "--from", "1,2,3"), ["3 coordinates", "2 dimensions"]),
        (("normal", "--eta", "0"), ["eta"]),
        (("normal", "--eta", "-0.1"), ["eta"]),
        (("normal", "--eta", "nan"), ["eta"]),
        (("normal", "--steps", "0"), ["steps"]),
        (("normal", "--steps", "1.5"), ["--steps"]),
        (("normal", "--steps", "9999999"), ["eta"]),
        (("normal", "--beta", "0"), ["beta"]),
        (("normal", "--mode", "guess"), ["--mode", "sde"]),
        (("normal", "--method", "guess"), ["--method", "quantiles"]),
        (("plane.npy", "--method", "quantiles"), ["quantiles", "particles"]),
        (("normal", "--method", "quantiles", "--mode", "sde"), ["quantiles", "particles"]),
        (("plane.npy", "-n", "1"), ["n must be"]),
        (("normal", "--perturbation", "0.5"), ["perturbation", "0.5"]),
        (("normal", "--perturbation", "1,,2"), ["--perturbation", "''"]),
        (("normal", "--perturbation", "2,1,2.0"), ["--perturbation", "twice"]),
        (("normal", "--perturbation", "nan"), ["perturbation"]),
        (("normal", "--score-error", "-1"), ["error", "-1"]),
        (("normal", "--score-error", "nan"), ["error", "nan"]),
        (("normal", "--score-error", "0.1", "--error-kind", "pink"), ["--error-kind", "white"]),
        (("normal", "--score-error", "0.1", "--error-band", "2,1"), ["2 to 1"]),
        (("normal", "--score-error", "0.1", "--error-band", "1"), ["--error-band '1'", "LOW,HIGH"]),
        (("normal", "--score-error", "0.1", "--error-band", "1,2,3"), ["--error-band", "LOW,HIGH"]),
        (("normal", "--score-error", "0.1", "--error-band", "1,x"), ["--error-band", "'x'"]),
        (("normal", "--error-band", "1,2"), ["--error-band", "--score-error"]),
        (("normal", "--seed", "-1"), ["seed"]),
        (("normal", "--device", "warp"), ["'warp'", "cpu"]),
        (("normal", "-o", "missing/c.nc"), ["missing", "does not exist"]),
        (("normal", "-o", "kept.nc"), ["kept.nc", "--force"]),
        (("normal", "-o", "c.npy"), ["c.npy", ".nc"]),
        (("normal", "--figure", "f.gif"), ["f.gif", ".png or .pdf or .svg"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    np.save(tmp_path / "plane.npy", np.zeros((3, 2)))
    (tmp_path / "kept.nc").write_text("kept")
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    output = () if "-o" in arguments or "--figure" in arguments else ("-o", "new.nc", "--figure", "new.png")
    brenier("chain", *arguments, *output).refused(*words)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "output", [("-o", "missing/c.nc"), ("-o", "c.npy"), ("--figure", "f.gif"), ("--figure", "missing/f.png")]
)
def test_outputs_are_checked_before_the_work(brenier: Command, asked: list, output: tuple[str, str]) -> None:
    brenier("chain", "normal", *output).refused()
    assert not asked


def test_an_existing_output_is_replaced_only_by_force(brenier: Command, wide: Path) -> None:
    saved = wide.with_name("c.nc")
    saved.write_text("old")
    brenier("chain", wide, *FEW, "-o", saved).refused("c.nc", "--force")
    assert saved.read_text() == "old"
    assert brenier("chain", wide, *FEW, "-o", saved, "--force", "--quiet") == (0, "", "")
    assert xr.load_dataset(saved, engine="h5netcdf").attrs["law"] == "wide.json"


def test_if_one_output_fails_there_is_none(brenier: Command, wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(data: xr.Dataset, path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_figure", full)
    files = ("-o", wide.with_name("c.nc"), "--figure", wide.with_name("f.png"))
    brenier("chain", wide, *FEW, *files).refused("No space left on device")
    assert list(wide.parent.iterdir()) == [wide]
