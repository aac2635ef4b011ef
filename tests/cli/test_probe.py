import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import brenier as package
from brenier.cli import outputs

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--queries", 9, "--snrs", 2)


def row(table: str, snr: str) -> list[str]:
    return next(line.split() for line in table.splitlines() if line.split()[:1] == [snr])


@pytest.fixture
def points(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 3)))
    return tmp_path / "points.npy"


@pytest.fixture
def unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        pytest.fail("the long work began")

    monkeypatch.setattr(package, "probe", never)


# What it prints and saves


def test_the_table_holds_the_worked_examples_of_the_paper(brenier: Command) -> None:
    code, out, err = brenier("probe", "two-points", "--snr", "3,1.5", "--perturbation", "5")
    assert (code, err) == (0, "")
    # P(L > 1), m*, delta*, and zeta*_5 = sup[delta - 5 h] (1 + r^2).
    assert row(out, "1.5")[2:] == ["0.179", "0.422", "0.829", f"{-0.63588 * 3.25:.3f}"]
    assert row(out, "3")[2:5] == ["0.008", "0.037", "0.975"]
    assert [line.split()[0] for line in out.splitlines() if re.match(r" *[0-9]", line)] == ["1.5", "3"]


def test_snrs_are_kept_exactly_and_sorted(brenier: Command, points: Path) -> None:
    saved = points.with_name("p.nc")
    assert brenier("probe", points, "--queries", 9, "--snr", "3,0.1,1e-3", "-o", saved)[0] == 0
    profile = xr.load_dataset(saved, engine="h5netcdf")
    assert profile["snr"].values.tolist() == [0.001, 0.1, 3.0]


def test_a_grid_is_geometric_between_its_ends(brenier: Command, points: Path) -> None:
    saved = points.with_name("p.nc")
    grid = ("--snr-min", 0.5, "--snr-max", 2, "--snrs", 3)
    assert brenier("probe", points, "--queries", 9, *grid, "-o", saved)[0] == 0
    profile = xr.load_dataset(saved, engine="h5netcdf")
    np.testing.assert_allclose(profile["snr"], [0.5, 1, 2], rtol=1e-14)


def test_an_end_that_is_not_given_is_the_laws_own(brenier: Command, points: Path) -> None:
    saved = points.with_name("p.nc")
    own = package.default_snrs(package.load_target(points))
    assert brenier("probe", points, "--queries", 9, "--snr-min", 0.5, "--snrs", 4, "-o", saved)[0] == 0
    profile = xr.load_dataset(saved, engine="h5netcdf")
    np.testing.assert_allclose(profile["snr"], np.geomspace(0.5, float(own[-1]), 4), rtol=1e-12)


def test_the_options_reach_the_profile(brenier: Command, points: Path) -> None:
    numbers = ("--snr", "1,2", "--perturbation", "3,inf", "--queries", 30, "--beta", 2, "--holdout", 0.25, "--seed", 5)
    saved = points.with_name("p.nc")
    options = ("--about", "atoms", "--dtype", "float64", "--max-memory", 0.5, "-o", saved)
    assert brenier("probe", points, *numbers, *options)[0] == 0
    profile = xr.load_dataset(saved, engine="h5netcdf")
    expected = package.probe(
        package.load_target(points, dtype=torch.float64),
        [1.0, 2.0],
        queries=30,
        perturbations=(3.0, np.inf),
        beta=2.0,
        about="atoms",
        holdout=0.25,
        seed=5,
        progress=False,
    )
    for name in expected.data_vars:
        np.testing.assert_allclose(profile[name], expected[name], rtol=1e-9, err_msg=str(name))
    np.testing.assert_array_equal(profile["perturbation"], [3, np.inf])
    np.testing.assert_allclose(profile["time"], np.log1p(2 / profile["snr"] ** 2) / 2)


def test_data_are_asked_about_their_law_unless_told_otherwise(brenier: Command, points: Path) -> None:
    saved, options = points.with_name("p.nc"), ("--queries", 30, "--snr", "0.2,0.5", "--force")
    for chosen, about in ((("--about", "law"), "law"), ((), "law"), (("--about", "atoms"), "atoms")):
        result = brenier("probe", points, *options, *chosen, "-o", saved)
        assert result.code == 0
        assert ("the law behind the data" in result.out) == (about == "law")
        profile = xr.load_dataset(saved, engine="h5netcdf")
        assert profile.attrs["about"] == about
        expected = package.probe(package.load_target(points), [0.2, 0.5], queries=30, about=about, progress=False)
        xr.testing.assert_allclose(profile, expected)
    assert brenier("probe", points, *options, "-o", saved)[1] == brenier("show", saved)[1]


def test_a_model_is_shown_beside(brenier: Command, points: Path) -> None:
    files = ("-o", points.with_name("p.nc"), "--figure", points.with_name("p.png"))
    normal = points.with_name("normal.json")
    normal.write_text('{"type": "gaussian-mixture", "weights": [1], "means": [[0, 0, 0]], "covariances": [1]}')
    for model in ("mixture", normal):
        result = brenier("probe", points, "--queries", 30, "--snr", "0.2,0.5", "--model", model, *files, "--force")
        assert result.code == 0, result.err
        profile = xr.load_dataset(points.with_name("p.nc"), engine="h5netcdf")
        assert {"model_m_star", "model_m_star_low", "model_mean_localization_high"} <= set(profile.data_vars)
        assert profile.attrs["model"] in " ".join(result.out.split())


def test_the_same_seed_makes_the_same_files(brenier: Command, points: Path) -> None:
    folder = points.parent
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        files = ("-o", folder / f"{name}.nc", "--figure", folder / f"{name}.pdf")
        assert brenier("probe", points, "--snrs", 2, "--queries", 20, "--seed", seed, *files)[0] == 0
        if name == "a":
            time.sleep(1.1)  # a time stamp in a file would differ
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    for suffix in (".nc", ".pdf"):
        assert content[f"a{suffix}"] == content[f"b{suffix}"]
        assert content[f"a{suffix}"] != content[f"c{suffix}"]


def test_a_saved_profile_holds_what_the_function_returns(brenier: Command, tmp_path: Path) -> None:
    assert brenier("probe", "spike-slab", "--snr", 1, "-o", tmp_path / "p.nc")[0] == 0
    profile = xr.load_dataset(tmp_path / "p.nc", engine="h5netcdf")
    returned = package.probe("spike-slab", [1.0], progress=False)
    xr.testing.assert_equal(profile, returned)
    for name, value in returned.attrs.items():
        np.testing.assert_array_equal(profile.attrs[name], value, err_msg=name)


def test_quiet_is_quiet(brenier: Command, points: Path) -> None:
    saved = points.with_name("p.nc")
    assert brenier("probe", points, *FEW, "--quiet", "-o", saved) == (0, "", "")
    assert saved.exists()


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digit",), ["'digit'", "did you mean 'digits'?"]),
        (("nothing.npy",), ["'nothing.npy' does not exist"]),
        (("nan.npy",), ["nan.npy", "1 value is NaN", "row 2"]),
        (("empty.npy",), ["empty.npy", "empty"]),
        (("blank.csv",), ["blank.csv", "empty"]),
        (("complex.npy",), ["complex.npy", "complex"]),
        (("objects.npy",), ["objects.npy", "pickled"]),
        (("text.npy",), ["text.npy", "text"]),
        (("number.npy",), ["number.npy", "single number"]),
        (("broken.parquet",), ["broken.parquet", "Parquet"]),
        (("several.npz",), ["several.npz", "a, b"]),
        (("several.npz:c",), ["several.npz", "'c'", "a, b"]),
        (("words.csv",), ["words.csv", "'red'"]),
        (("notes.txt",), ["notes.txt", ".npy"]),
        (("images",), ["b.png", "2 x 3", "3 x 2"]),
        (("negative.json",), ["negative.json", "weights"]),
        (("broken.json",), ["broken.json", "not JSON"]),
        (("fine.npy", "--snr", "0"), ["SNR"]),
        (("fine.npy", "--snr", "-1,2"), ["SNR"]),
        (("fine.npy", "--snr", "nan"), ["SNR"]),
        (("fine.npy", "--snr", "inf"), ["SNR"]),
        (("normal", "--snr", "1,two"), ["--snr", "'two'"]),
        (("normal", "--snr", ""), ["--snr"]),
        (("normal", "--snr", "1,2,1.0"), ["--snr", "twice"]),
        (("normal", "--snr", "1", "--snrs", "3"), ["--snr", "--snrs"]),
        (("normal", "--snr-min", "0"), ["--snr-min"]),
        (("normal", "--snr-max", "inf"), ["--snr-max"]),
        (("normal", "--snr-min", "3", "--snr-max", "2"), ["3 to 2"]),
        (("normal", "--snrs", "1"), ["--snrs 1"]),
        (("fine.npy", "--queries", "0"), ["quer"]),
        (("normal", "--perturbation", "0.5"), ["perturbation", "0.5"]),
        (("normal", "--perturbation", "1,,2"), ["--perturbation", "''"]),
        (("normal", "--perturbation", "nan"), ["perturbation"]),
        (("normal", "--beta", "0"), ["beta"]),
        (("fine.npy", "--holdout", "1"), ["holdout"]),
        (("fine.npy", "--holdout", "-0.1"), ["holdout"]),
        (("normal", "--holdout", "0.2"), ["holdout"]),
        (("fine.npy", "--method", "quadrature"), ["quadrature"]),
        (("fine.npy",), ["fine.npy has 10 distinct points", "at least 32", "about='atoms'"]),
        (("many.npy", "--holdout", "0.2"), ["leave holdout out", "about='atoms'"]),
        (("normal", "--about", "atoms"), ["about='atoms' needs data", "normal has no atoms"]),
        (("normal", "--model", "mixture"), ["a model says what data cannot tell", "normal"]),
        (("many.npy", "--about", "atoms", "--model", "mixture"), ["a model says what data cannot tell"]),
        (("many.npy", "--snr", "0.1", "--model", "mixtur"), ["'mixtur'"]),
        (("fine.npy", "--seed", "-1"), ["seed"]),
        (("normal", "--device", "warp"), ["'warp'", "cpu"]),
        (("fine.npy", "--max-memory", "0"), ["memory"]),
        (("normal", "-o", "missing/p.nc"), ["missing", "does not exist"]),
        (("normal", "-o", "kept.nc", "--force", "--figure", "missing/f.png"), ["missing"]),
        (("normal", "-o", "kept.nc"), ["kept.nc", "--force"]),
        (("normal", "-o", "p.npy"), ["p.npy", ".nc"]),
        (("normal", "-o", "images", "--force"), [".nc"]),
        (("normal", "--figure", "f.gif"), ["f.gif", ".png or .pdf or .svg"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    bad_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    output = () if "-o" in arguments or "--figure" in arguments else ("-o", "new.nc", "--figure", "new.png")
    brenier("probe", *arguments, *output).refused(*words)
    assert contents(tmp_path) == before


def bad_files(folder: Path) -> None:
    arrays: dict[str, Any] = {
        "nan": [0, 1, np.nan, 3],
        "empty": np.zeros((0, 2)),
        "complex": [1j],
        "objects": np.array([1, None]),
        "text": ["a"],
        "number": 3.0,
        "fine": np.arange(10.0),
        "many": np.arange(40.0),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=name == "objects")
    np.savez(folder / "several.npz", a=[1], b=[2])
    for name, text in {
        "blank.csv": "",
        "words.csv": "x\n1\nred\n",
        "broken.parquet": "PAR",
        "notes.txt": "1\n",
        "kept.nc": "kept",
        "broken.json": "{",
        "negative.json": '{"type": "gaussian-mixture", "weights": [1, -1], "means": [0, 1], "covariances": [1, 1]}',
    }.items():
        (folder / name).write_text(text)
    (folder / "images").mkdir()
    Image.new("L", (3, 2)).save(folder / "images" / "a.png")
    Image.new("L", (2, 3)).save(folder / "images" / "b.png")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize(
    "output", [("-o", "missing/p.nc"), ("-o", "p.npy"), ("--figure", "f.gif"), ("--figure", "missing/f.png")]
)
def test_outputs_are_checked_before_the_work(brenier: Command, output: tuple[str, str]) -> None:
    brenier("probe", "normal", *output).refused()


def test_an_existing_output_is_replaced_only_by_force(brenier: Command, points: Path) -> None:
    saved = points.with_name("p.nc")
    saved.write_text("old")
    brenier("probe", points, *FEW, "-o", saved).refused("p.nc", "--force")
    assert saved.read_text() == "old"
    assert brenier("probe", points, *FEW, "-o", saved, "--force")[0] == 0
    assert xr.load_dataset(saved, engine="h5netcdf").attrs["law"] == "points.npy"


def test_if_one_output_fails_there_is_none(brenier: Command, points: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(profile: xr.Dataset, path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_figure", full)
    files = ("-o", points.with_name("p.nc"), "--figure", points.with_name("f.png"))
    brenier("probe", points, *FEW, *files).refused("No space left on device")
    assert list(points.parent.iterdir()) == [points]


@pytest.mark.parametrize("when", ["working", "writing"])
def test_an_interrupt_leaves_nothing_and_exits_130(
    brenier: Command, points: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    if when == "working":
        monkeypatch.setattr(package, "probe", interrupt)
    else:
        monkeypatch.setattr(outputs, "write_figure", interrupt)
    files = ("-o", points.with_name("p.nc"), "--figure", points.with_name("f.png"))
    code, out, _ = brenier("probe", points, *FEW, *files)
    assert (code, out) == (130, "")
    assert list(points.parent.iterdir()) == [points]


def test_control_c_stops_a_long_run(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(20000, 64)))
    # Where tests run in the background, their children would ignore the signal.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; import sys; from brenier.cli import main; print(flush=True); sys.exit(main())"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        [*command, "probe", "points.npy", "--queries", "100000", "-o", "p.nc"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            assert run.stdout is not None
            run.stdout.readline()  # everything is imported: the run begins
            time.sleep(1)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    assert "Traceback" not in err
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["points.npy"]


def test_larger_files_are_used_in_blocks(brenier: Command, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(400, 3))
    np.save(tmp_path / "a.npy", rows)
    asked = ("probe", tmp_path / "a.npy", *FEW, "--about", "atoms", "-o")
    assert brenier(*asked, tmp_path / "whole.nc").code == 0
    assert brenier(*asked, tmp_path / "blocks.nc", "--max-memory", 1e-6).code == 0
    whole, blocks = (xr.load_dataset(tmp_path / f"{name}.nc") for name in ("whole", "blocks"))
    assert np.allclose(whole["localization"], blocks["localization"], rtol=0.01)
    assert "dropped_mass" in blocks.attrs
    assert "dropped_mass" not in whole.attrs
    for words in (("--about", "law"), ("--holdout", 0.5), ("--model", tmp_path / "a.npy"), ("--standardize",)):
        brenier("probe", tmp_path / "a.npy", *FEW, "--max-memory", 1e-6, *words).refused("is used in blocks", "memory")
    rows[[397, 399], 1] = np.nan
    np.save(tmp_path / "a.npy", rows)
    brenier(*asked, tmp_path / "bad.nc", "--max-memory", 1e-6).refused("block 0, rows 397, 399 (counted from 0)")
    assert not (tmp_path / "bad.nc").exists()


def test_a_scheduler_that_does_not_answer_is_refused(brenier: Command, points: Path) -> None:
    pytest.importorskip("distributed")
    brenier("probe", points, *FEW, "--scheduler", "nonsense").refused("scheduler 'nonsense'", "dask scheduler")
    brenier("probe", points, *FEW, "--scheduler", "nonsense", "--workers", 2).refused("give one of them")


def test_workers_are_refused_where_they_have_nothing_to_do(brenier: Command) -> None:
    for command in (("probe", "normal"), ("plan", "digits"), ("sample", "normal", "-o", "a.npy")):
        brenier(*command, "--workers", 2).refused("--workers and --scheduler are for", "leave them out")
    brenier("transport", "no.npy", "--workers", 2, "-o", "a.nc").refused("no.npy", "does not exist")
