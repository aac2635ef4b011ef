import json
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brenier.sampling.sample import sample
from brenier.sampling.schedule import Schedule

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--steps", 3, "--criterion", "karras")


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    Schedule((20, 4, 1, 0.2, 0), "heun", criterion="by hand", law="normal").to_json(tmp_path / "grid.json")
    return tmp_path / "grid.json"


def test_it_saves_what_the_function_draws(brenier: Command, grid: Path) -> None:
    saved = grid.with_name("x.npy")
    code, out, err = brenier("sample", "normal", "-n", 300, "--schedule", grid, "--seed", 4, "-o", saved)
    assert (code, err) == (0, "")
    expected = sample("normal", 300, schedule=Schedule.from_json(grid), seed=4, progress=False)
    np.testing.assert_array_equal(np.load(saved), expected.events.numpy())
    assert np.load(saved).dtype == np.float64
    assert out.startswith("normal: 300 samples of shape 1 by 4 steps of heun, seed 4: 7 evaluations of the denoiser")
    assert "W2 to the law: " in out


def test_it_plans_where_there_is_no_schedule(brenier: Command, tmp_path: Path) -> None:
    saved = tmp_path / "x.npy"
    assert brenier("sample", "normal", "-n", 5, *FEW, "--solver", "euler", "-o", saved, "--quiet") == (0, "", "")
    expected = sample("normal", 5, steps=3, solver="euler", schedule="karras", progress=False)
    np.testing.assert_array_equal(np.load(saved), expected.events.numpy())


def test_images_keep_their_shape_and_few_say_nothing_of_the_law(brenier: Command, tmp_path: Path) -> None:
    out = brenier("sample", "digits", "-n", 3, *FEW, "--batch", 2, "-o", tmp_path / "x.npy").out
    assert np.load(tmp_path / "x.npy").shape == (3, 8, 8)
    assert "3 samples of shape 8 x 8" in out
    assert "W2" not in out


def test_the_same_seed_makes_the_same_file(brenier: Command, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ("-n", 20, *FEW, "--solver", "euler-maruyama", "--seed", seed, "--quiet")
        assert brenier("sample", "two-points", *options, "-o", tmp_path / f"{name}.npy").code == 0
    a, b, c = ((tmp_path / f"{name}.npy").read_bytes() for name in "abc")
    assert a == b != c


def test_a_schedule_of_another_law_is_used_with_a_warning(brenier: Command, grid: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = ("-n", 4, "--schedule", grid, "-o", grid.with_name("x.npy"))
        brenier_with_warning = pytest.warns(UserWarning, match="made for normal, not for two-points")
        with brenier_with_warning:
            assert brenier("sample", "two-points", *options).code == 0
        assert brenier("sample", "two-points", *options, "--force", "--quiet") == (0, "", "")


def test_a_warning_is_one_line(brenier: Command, grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def show(*warning: Any) -> None:
        sys.stderr.write(warnings.formatwarning(*warning[:4]))  # what Python does, and pytest hinders

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        monkeypatch.setattr(warnings, "showwarning", show)
        found = brenier("sample", "two-points", "-n", 4, "--schedule", grid, "-o", grid.with_name("x.npy"))
    assert found.err == "brenier: warning: the schedule was made for normal, not for two-points\n"
    assert warnings.formatwarning("x", UserWarning, "file.py", 1, "").startswith("file.py:1: UserWarning")


def test_force_replaces(brenier: Command, grid: Path) -> None:
    saved = grid.with_name("x.npy")
    saved.write_text("old")
    brenier("sample", "normal", "-n", 4, "--schedule", grid, "-o", saved).refused("x.npy", "--force")
    assert saved.read_text() == "old"
    assert brenier("sample", "normal", "-n", 4, "--schedule", grid, "-o", saved, "--force").code == 0
    assert np.load(saved).shape == (4, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("norml",), ["'norml'", "did you mean 'normal'?"]),
        (("normal", "-n", "0"), ["-n", "0"]),
        (("normal", "-n", "-5"), ["-n", "-5"]),
        (("normal", "-n", "1.5"), ["-n"]),
        (("normal", "--steps", "0"), ["steps"]),
        (("normal", "--solver", "eular"), ["'eular'", "euler"]),
        (("normal", "--criterion", "karas"), ["'karas'", "karras"]),
        (("normal", "--batch", "0", *map(str, FEW)), ["batch"]),
        (("normal", "--schedule", "grid.json", "--criterion", "karras"), ["--criterion", "--schedule"]),
        (("normal", "--schedule", "grid.json", "--steps", "5"), ["4 steps", "5"]),
        (("normal", "--schedule", "missing.json"), ["missing.json"]),
        (("normal", "--schedule", "."), ["'.'"]),
        (("normal", "--schedule", "up.json"), ["up.json", "descend"]),
        (("normal", "--schedule", "infinite.json"), ["infinite.json", "finite"]),
        (("normal", "--schedule", "text.json"), ["text.json", "not JSON"]),
        (("normal", "--seed", "-1"), ["seed"]),
        (("normal", "-o", "missing/x.npy"), ["missing", "does not exist"]),
        (("normal", "-o", "x.npz"), ["x.npz", ".npy"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, grid: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    whole = json.loads(grid.read_text())
    for name, sigmas in (("up", "[0, 1, 2]"), ("infinite", "[1e999, 1]")):
        grid.with_name(f"{name}.json").write_text(json.dumps({**whole, "sigmas": "?"}).replace('"?"', sigmas))
    grid.with_name("text.json").write_text("text")
    monkeypatch.chdir(grid.parent)
    before = {path: path.read_bytes() for path in grid.parent.iterdir()}
    output = () if "-o" in arguments else ("-o", "new.npy")
    brenier("sample", *arguments, *output).refused(*words)
    assert {path: path.read_bytes() for path in grid.parent.iterdir()} == before


def test_samples_need_a_place(brenier: Command) -> None:
    brenier("sample", "normal").refused("--output")


def test_a_full_disk_leaves_nothing(brenier: Command, grid: Path) -> None:
    limits, saved = resource.getrlimit(resource.RLIMIT_FSIZE), grid.with_name("x.npy")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        brenier("sample", "normal", "-n", 4000, "--schedule", grid, "-o", saved).refused("x.npy", "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(grid.parent.iterdir()) == [grid]
