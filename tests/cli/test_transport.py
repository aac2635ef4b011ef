from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from brenier.core import work
from brenier.transport import SemiDiscrete
from brenier.transport.semidiscrete import fitting
from brenier.transport.semidiscrete import map as semidiscrete

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--tolerance", 0.05, "--samples", 20_000)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "plane.npy", rng.normal(size=(20, 2)).astype(np.float32))
    np.save(tmp_path / "some.npy", np.load(tmp_path / "plane.npy")[:10])
    np.save(tmp_path / "line.npy", rng.normal(size=9).astype(np.float32))
    np.save(tmp_path / "images.npy", rng.normal(size=(15, 2, 3)).astype(np.float32))
    np.save(tmp_path / "weights.npy", np.arange(20) / 190)
    np.save(tmp_path / "below.npy", np.arange(20) / 190 - 0.01)
    (tmp_path / "labels.txt").write_text("".join(f"{'even' if k % 2 == 0 else 'odd'}\n" for k in range(20)))
    (tmp_path / "few.txt").write_text("a\nb\n")
    np.save(tmp_path / "gap.npy", np.full(20, np.nan))
    return tmp_path


def read(path: Path) -> xr.Dataset:
    return xr.load_dataset(path, engine="h5netcdf")


def rows(out: str) -> dict[str, str]:
    """What stands beside each name of the table."""
    parts = [line.split("  ", 1) for line in out.splitlines()[2:]]
    return {part[0]: " ".join(part[1].split()) for part in parts if len(part) == 2}


# What it prints and saves


def test_it_saves_the_map_that_fit_finds_with_its_measured_error(brenier: Command, files: Path) -> None:
    options = ("--weights", files / "weights.npy", "--source", "uniform", "--seed", 3)
    saved, figure = files / "map.nc", files / "f.png"
    code, out, err = brenier("transport", files / "plane.npy", *FEW, *options, "-o", saved, "--figure", figure)
    assert (code, err) == (0, "")
    found = SemiDiscrete.load(saved)
    again = SemiDiscrete(found.points, found.weights, source="uniform").fit(0.05, seed=3, progress=False)
    np.testing.assert_allclose(found.points, np.load(files / "plane.npy"), atol=1e-6)
    np.testing.assert_allclose(found.weights, np.load(files / "weights.npy"))
    np.testing.assert_array_equal(found.heights, again.heights)
    assert found.result.stopped == "tolerance"
    about = read(saved).attrs
    error, cost = found.marginal_error(20_000, 3), found.w2(seed=3)
    for name in ("total_variation", "floor", "excess", "excess_se", "chi_square", "chi_square_se", "samples"):
        assert about[name] == getattr(error, name), name
    for name in ("primal", "primal_se", "dual", "dual_se"):
        assert about[f"w2_{name}"] == getattr(cost, name), name
    assert (about["seed"], about["target"], about["cells"], about["source"]) == (3, "plane.npy", 19, "uniform")
    assert "fresh independent draws" in about["measured"]
    table = rows(out)
    assert table["cells"] == "19"
    assert table["draws of the fit"] == f"{found.result.samples:,}"
    assert table["it ended"] == "at the tolerance of 0.05"
    assert table["excess total variation"].startswith(f"{error.excess:.4f}"[:5])
    assert f"{error.samples:,} fresh draws" in table["excess total variation"]
    for side, name in (("map", "primal"), ("heights", "dual")):
        value, _, bar = table[f"W2 by the {side}"].split()[:3]
        assert float(value) == pytest.approx(getattr(cost, name), rel=1e-3)
        assert float(bar) == pytest.approx(getattr(cost, f"{name}_se"), rel=0.06)
    assert float(table["seconds"]) >= 0
    assert figure.read_bytes()[:4] == b"\x89PNG"


def test_with_conditions_it_saves_a_map_that_goes_by_them(brenier: Command, files: Path) -> None:
    np.save(files / "along.npy", np.load(files / "plane.npy")[:, 0])
    saved, figure = files / "map.nc", files / "f.png"
    result = brenier(
        *("transport", files / "plane.npy", *FEW, "--conditions", files / "along.npy", "--kappa", 2),
        *("-o", saved, "--figure", figure),
    )
    assert rows(result.out)["conditions"] == "1 number of weight kappa 2: as given"
    assert "on 2,000 pairs" in rows(result.out)["skew"]
    found = SemiDiscrete.load(saved)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels[:, 0], np.load(files / "along.npy"))
    x = found.draw(50)
    own = SemiDiscrete(found.points, conditions=found.labels, kappa=2.0).fit(0.05, progress=False)
    assert (found.cells(x, 0.3) == own.cells(x, 0.3)).all()
    assert figure.stat().st_size > 1000


def test_with_labels_it_saves_a_map_for_each_class(brenier: Command, files: Path) -> None:
    labels, saved, figure = files / "labels.txt", files / "map.nc", files / "f.png"
    code, out, err = brenier(
        "transport", files / "plane.npy", *FEW, "--labels", labels, "-o", saved, "--figure", figure
    )
    assert (code, err) == (0, "")
    assert rows(out)["classes"] == "2 of 10 points, a map for each"
    found = SemiDiscrete.load(saved)
    again = SemiDiscrete(found.points, labels=np.arange(20) % 2).fit(0.05, progress=False)
    np.testing.assert_array_equal(found.heights, again.heights)
    x = found.draw(50)
    np.testing.assert_array_equal(found.cells(x, "odd"), again.cells(x, 1))
    assert figure.read_bytes()[:4] == b"\x89PNG"
    shown = brenier("show", saved)
    assert (shown.code, shown.err) == (0, "")
    assert rows(shown.out)["classes"] == "2 of 10 points, a map for each"


def test_on_the_line_it_is_exact(brenier: Command, files: Path) -> None:
    found = brenier("transport", files / "line.npy", *FEW, "-o", files / "map.nc")
    assert (found.code, found.err) == (0, "")
    assert rows(found.out)["it ended"] == "in closed form"
    assert "9 points in 1 dimension, from the normal law" in found.out


def test_a_saved_map_shows_as_when_it_was_made_but_for_the_seconds(brenier: Command, files: Path) -> None:
    made = brenier("transport", files / "images.npy", *FEW, "-o", files / "map.nc", "--figure", files / "a.svg")
    shown = brenier("show", files / "map.nc", "--figure", files / "b.svg")
    assert shown.code == 0
    without = [line.rstrip() for line in made.out.splitlines() if not line.startswith("seconds")]
    assert [line.rstrip() for line in shown.out.splitlines()] == without
    assert (files / "a.svg").read_bytes() == (files / "b.svg").read_bytes()
    np.testing.assert_array_equal(read(files / "map.nc").attrs["event_shape"], [2, 3])


def test_the_same_seed_makes_the_same_file(brenier: Command, files: Path) -> None:
    for name in "ab":
        assert brenier("transport", files / "plane.npy", *FEW, "-o", files / f"{name}.nc", "--quiet") == (0, "", "")
    assert (files / "a.nc").read_bytes() == (files / "b.nc").read_bytes()
    brenier("transport", files / "plane.npy", *FEW, "-o", files / "a.nc").refused("a.nc", "--force")
    assert brenier("transport", files / "plane.npy", *FEW, "-o", files / "a.nc", "--force", "--seed", 1).code == 0
    assert (files / "a.nc").read_bytes() != (files / "b.nc").read_bytes()


def test_it_starts_from_a_saved_map_to_some_of_the_points(brenier: Command, files: Path) -> None:
    assert brenier("transport", files / "some.npy", *FEW, "-o", files / "some.nc").code == 0
    assert brenier("transport", files / "plane.npy", *FEW, "-o", files / "m.nc", "--start", files / "some.nc").code == 0
    points = SemiDiscrete.load(files / "m.nc").points
    start = SemiDiscrete.load(files / "some.nc")
    expected = SemiDiscrete(points).fit(0.05, start=start, progress=False)
    np.testing.assert_array_equal(SemiDiscrete.load(files / "m.nc").heights, expected.heights)


def test_minutes_are_said_to_have_ended_it(brenier: Command, files: Path) -> None:
    options = ("--tolerance", 1e-4, "--minutes", 1e-6, "--samples", 20_000)
    out = brenier("transport", files / "plane.npy", *options, "-o", files / "map.nc").out
    assert rows(out)["it ended"] == "by --minutes, before the tolerance of 0.0001"


# Ctrl-C


def test_ctrl_c_saves_the_map_so_far_and_start_goes_on(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fitting.ascend

    def interrupted(*arguments: Any) -> Any:
        yield next(real(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "ascend", interrupted)
    code, out, err = brenier(
        "transport", files / "plane.npy", *FEW, "-o", files / "map.nc", "--figure", files / "f.png"
    )
    monkeypatch.undo()
    assert (code, out) == (130, "")
    assert err.count("\n") == 1
    assert "'" + str(files / "map.nc") + "' holds the map so far" in err
    assert "--resume" in err
    assert not (files / "f.png").exists()
    assert read(files / "map.nc").attrs["fit_stopped"] == "interrupted"
    shown = brenier("show", files / "map.nc")
    assert rows(shown.out)["it ended"] == "by Ctrl-C, before the tolerance of 0.05"
    assert rows(shown.out)["excess total variation"] == "not measured"
    on = brenier("transport", files / "plane.npy", *FEW, "-o", files / "map.nc", "--resume")
    assert (on.code, on.err) == (0, "")
    assert read(files / "map.nc").attrs["fit_stopped"] == "tolerance"


def test_a_killed_fit_resumes_from_its_checkpoint(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what the draws so far are worth: less is left to do than from the start."""
    real, draws = fitting.ascend, list[int]()

    def killed(*arguments: Any) -> Any:
        for state in real(*arguments):
            yield state
            if state.share > 0.5:
                draws.append(state.averaged)
                raise SystemExit

    options = ("--tolerance", 0.02, "--samples", 20_000, "-o", files / "map.nc")
    monkeypatch.setattr(work, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(fitting, "ascend", killed)
    with pytest.raises(SystemExit):
        brenier("transport", files / "plane.npy", *options)
    monkeypatch.undo()
    about = read(files / "map.nc").attrs
    assert (about["fit_stopped"], about["target"]) == ("interrupted", "plane.npy")
    assert about["fit_averaged"] == draws[0] > 0
    brenier("transport", files / "plane.npy", *options).refused("exists")
    brenier("transport", files / "some.npy", *options, "--resume").refused("to other points")
    brenier("transport", files / "plane.npy", *options, "--resume", "--source", "uniform").refused("another source")
    weighted = ("--weights", files / "weights.npy")
    brenier("transport", files / "plane.npy", *options, "--resume", *weighted).refused("other weights")
    assert brenier("transport", files / "plane.npy", *options, "--resume", "-q") == (0, "", "")
    found = read(files / "map.nc").attrs
    assert found["fit_stopped"] == "tolerance"
    assert found["excess"] < 0.02 + 3 * found["excess_se"]
    whole = SemiDiscrete.load(files / "map.nc")
    again = SemiDiscrete(whole.points).fit(0.02, progress=False)
    assert found["fit_averaged"] > about["fit_averaged"]
    assert found["fit_samples"] < again.result.samples
    assert float((whole.heights - again.heights).abs().max()) < 0.05


def test_ctrl_c_before_there_is_a_map_leaves_no_file(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(semidiscrete, "guess", interrupted)
    assert brenier("transport", files / "plane.npy", *FEW, "-o", files / "map.nc") == (130, "", "")
    assert not (files / "map.nc").exists()


def test_ctrl_c_while_it_is_measured_saves_the_fitted_map(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(SemiDiscrete, "marginal_error", interrupted)
    found = brenier("transport", files / "plane.npy", *FEW, "-o", files / "map.nc")
    assert found.code == 130
    assert read(files / "map.nc").attrs["fit_stopped"] == "tolerance"


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.npy",), ["gone.npy", "does not exist"]),
        (("digit",), ["did you mean 'digits'"]),
        (("normal",), ["normal is a law", "give data"]),
        (("gap.npy",), ["gap.npy", "NaN"]),
        (("plane.npy", "--weights", "gone.npy"), ["gone.npy", "does not exist"]),
        (("plane.npy", "--weights", "line.npy"), ["weights must be 20 numbers", "(9,)"]),
        (("plane.npy", "--weights", "plane.npy"), ["weights must be 20 numbers", "(20, 2)"]),
        (("plane.npy", "--weights", "below.npy"), ["negative", "-0.01", "point 0"]),
        (("plane.npy", "--weights", "gap.npy"), ["gap.npy", "NaN"]),
        (("plane.npy", "--source", "cauchy"), ["--source", "uniform"]),
        (("plane.npy", "--tolerance", "0"), ["tolerance must be between 0 and 1"]),
        (("plane.npy", "--conditions", "weights.npy", "--kappa", "0"), ["kappa must be positive and finite, got 0.0"]),
        (("plane.npy", "--conditions", "gap.npy"), ["NaN"]),
        (("plane.npy", "--kappa", "1"), ["kappa is the weight of conditions: give these, too"]),
        (("plane.npy", "--labels", "few.txt"), ["labels must be 20, one for each point, got shape (2,)"]),
        (("plane.npy", "--tolerance", "1e-7"), ["1e-07 is below the noise floor", "20 cells"]),
        (("plane.npy", "--minutes", "-1"), ["minutes must be positive"]),
        (("plane.npy", "--samples", "100"), ["--samples", "at least 512"]),
        (("plane.npy", "--start", "gone.nc"), ["gone.nc", "brenier transport -o"]),
        (("plane.npy", "--start", "plane.npy"), ["plane.npy", "brenier transport -o"]),
        (("images.npy", "--start", "kept.nc"), ["in 2 dimensions, this one in 6"]),
        (("plane.npy", "--device", "tpu"), ["'tpu'"]),
        (("plane.npy", "-o", "kept.nc"), ["kept.nc", "--force"]),
        (("plane.npy", "-o", "m.json"), ["m.json", ".nc"]),
        (("plane.npy", "--figure", "f.gif"), ["f.gif"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    assert brenier("transport", files / "some.npy", *FEW, "-o", files / "kept.nc", "--quiet").code == 0
    monkeypatch.chdir(files)
    before = {path: path.read_bytes() for path in files.iterdir()}
    output = () if "-o" in arguments else ("-o", "new.nc")
    brenier("transport", *arguments, *output).refused(*words)
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_weights_that_do_not_sum_to_one_are_brought_there_with_a_warning(brenier: Command, files: Path) -> None:
    np.save(files / "counts.npy", np.arange(20))
    options = ("--weights", files / "counts.npy", "-o", files / "map.nc")
    with pytest.warns(UserWarning, match="the weights sum to 190: they are brought to 1"):
        assert brenier("transport", files / "plane.npy", *FEW, *options).code == 0
    assert float(read(files / "map.nc")["weights"].sum()) == pytest.approx(1)
    assert brenier("transport", files / "plane.npy", *FEW, *options, "--force", "--quiet") == (0, "", "")


def test_what_only_looks_like_a_map_is_refused(brenier: Command, files: Path) -> None:
    assert brenier("transport", files / "some.npy", *FEW, "-o", files / "map.nc", "--quiet").code == 0
    read(files / "map.nc").drop_vars("weights").to_netcdf(files / "cut.nc", engine="h5netcdf")
    brenier("show", files / "cut.nc").refused("cut.nc", "not a transport, it has no variable 'weights'")


def test_points_in_blocks_are_carried_to_where_they_lie(brenier: Command, files: Path) -> None:
    in_blocks = ("transport", files / "images.npy", *FEW, "--max-memory", 1e-9, "-o", files / "map.nc")
    assert brenier(*in_blocks).code == 0
    assert brenier("transport", files / "images.npy", *FEW, "-o", files / "whole.nc").code == 0
    found, whole = read(files / "map.nc"), read(files / "whole.nc")
    assert "points" not in found
    assert found.attrs["points_file"] == str(files / "images.npy")
    np.testing.assert_allclose(found["heights"], whole["heights"], atol=1e-5)
    for name in ("excess", "w2_primal", "w2_dual", "independent"):
        assert found.attrs[name] == pytest.approx(whole.attrs[name], abs=1e-4)
    one, other = (brenier("show", files / name).out for name in ("map.nc", "whole.nc"))
    assert one == other
    assert brenier(*in_blocks, "--resume").code == 0
    before = (files / "map.nc").read_bytes()
    for words in (("--labels", files / "labels.txt"), ("--figure", files / "a.png")):
        brenier(*in_blocks, "--force", *words).refused("used in blocks, which take no", words[0], "--max-memory")
    brenier(*in_blocks, "--force", "--start", files / "whole.nc").refused("holds a transport, and a blocked transport")
    brenier("show", files / "map.nc", "--figure", files / "a.png").refused("no figure of the kind 'blocked transport'")
    brenier("transport", "digits", "-o", files / "b.nc", "--workers", 1).refused(
        "--workers and --scheduler are for data"
    )
    assert (files / "map.nc").read_bytes() == before
