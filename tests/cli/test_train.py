import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import brenier as package
from brenier.training.checkpoint import read_progress
from brenier.training.history import read_history

Command = Callable[..., Any]
SMALL = ("--batch", 32, "--width", 8, "--depth", 1, "--device", "cpu")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[object, ...], dict[str, object]]]:
    """What `brenier.train` is called with; it does no work."""
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def record(*arguments: object, **options: object) -> None:
        calls.append((arguments, options))
        raise ValueError("asked")

    monkeypatch.setattr(package, "train", record)
    return calls


def test_it_prints_the_loss_of_each_band(brenier: Command, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    code, out, err = brenier("train", "four-gaussians", "-o", folder, "--steps", 120, *SMALL)
    assert (code, err) == (0, "")
    first, *lines = [line for line in out.splitlines() if line.strip()]
    assert first.startswith(f"{folder}: an MLP for four-gaussians (1), 120 steps in ")
    assert first.endswith(" points/s")
    names, rows = read_history(folder)
    assert [row[0] for row in rows] == [100, 120]
    cells = [line.rsplit(maxsplit=1) for line in lines if line.startswith("SNR")]
    assert [cell[0].strip() for cell in cells] == names
    assert [float(cell[1]) for cell in cells] == pytest.approx(rows[-1][1:], abs=6e-4)


def test_every_option_reaches_training(brenier: Command, asked: list, tmp_path: Path) -> None:
    given = {
        "steps": 7,
        "minutes": 2.5,
        "batch": 4,
        "depth": 3,
        "learning_rate": 0.01,
        "decay": "constant",
        "clip": 2.0,
        "ema": 0.9,
        "noise": "profile.nc",
        "objective": "flow",
        "pairs": "minibatch",
        "plan_size": 3,
        "drop_labels": 0.2,
        "seed": 5,
        "device": "cpu",
        "precision": "float32",
        "checkpoint_every": 11,
    }
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    np.save(tmp_path / "classes.npy", np.arange(3))
    classes = ("--labels", tmp_path / "classes.npy")
    brenier("train", "digits", "-o", tmp_path / "net", "--channels", "8,16", *options, *classes).refused("asked")
    brenier("train", "digits", "-o", tmp_path / "net", "--width", 9, "--resume", "--quiet").refused("asked")
    brenier("train", "digits", "-o", tmp_path / "net", "--force").refused("asked")
    common = {"resume": False, "force": False, "progress": True, "width": None, "channels": None}
    blank = dict.fromkeys(given)
    everything, resumed, forced = (options for _, options in asked)
    assert all(arguments == ("digits", tmp_path / "net") for arguments, _ in asked)
    for call in (everything, resumed, forced):
        call.pop("on_step")
    assert everything.pop("labels").tolist() == [0, 1, 2]
    assert (resumed.pop("labels"), forced.pop("labels")) == (None, None)
    assert everything == common | given | {"channels": (8, 16)}
    assert resumed == common | blank | {"width": 9, "resume": True, "progress": False}
    assert forced == common | blank | {"force": True}


def test_as_json(brenier: Command, tmp_path: Path) -> None:
    code, out, err = brenier("train", "two-points", "-o", tmp_path / "net", "--steps", 2, "--json", *SMALL)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["steps"], found["done"], found["wanted"]) == (2, 2, 2)
    assert all(loss > 0 for loss in found["loss"].values())


def test_quiet_prints_nothing(brenier: Command, tmp_path: Path) -> None:
    assert brenier("train", "two-points", "-o", tmp_path / "net", "--steps", 2, "-q", *SMALL) == (0, "", "")


def test_a_profile_says_where_to_train(brenier: Command, tmp_path: Path) -> None:
    brenier("probe", "two-points", "--snr", "0.5,1,2,4", "-o", tmp_path / "p.nc", "--quiet")
    code, _, err = brenier(
        "train", "two-points", "-o", tmp_path / "net", "--steps", 2, "--noise", tmp_path / "p.nc", *SMALL
    )
    assert (code, err) == (0, "")
    noise = json.loads((tmp_path / "net" / "config.json").read_text())["noise"]
    profile = xr.load_dataset(tmp_path / "p.nc", engine="h5netcdf")
    assert noise["kind"] == "profile"
    assert noise["profile"]["m_star"] == pytest.approx(profile["m_star"].to_numpy()[::-1])


def test_a_run_goes_on_from_where_it_stopped(brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 3)))
    real = package.train

    def interrupted(*arguments: object, on_step: Callable[[int, float], object], **options: object) -> None:
        def stop(step: int, loss: float) -> None:
            on_step(step, loss)
            if step == 4:
                raise KeyboardInterrupt

        real(*arguments, on_step=stop, **options)

    monkeypatch.setattr(package, "train", interrupted)
    code, out, err = brenier("train", tmp_path / "points.npy", "-o", tmp_path / "net", "--steps", 9, *SMALL)
    assert (code, out, err) == (130, "", "stopped at step 4: go on with --resume\n")
    monkeypatch.setattr(package, "train", real)
    assert read_progress(tmp_path / "net") == (4, 9)
    code, out, err = brenier("train", tmp_path / "points.npy", "-o", tmp_path / "net", "--resume", "--device", "cpu")
    assert (code, err) == (0, "")
    assert ", 5 steps in " in out
    assert read_progress(tmp_path / "net") == (9, 9)


def test_it_says_that_the_clock_stopped_it(brenier: Command, tmp_path: Path) -> None:
    code, out, _ = brenier("train", "two-points", "-o", tmp_path / "net", "--steps", 9, "--minutes", 1e-9, *SMALL)
    assert code == 0
    assert "The clock stopped it at step 1 of 9: go on with --resume." in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--steps", 0), "steps must be a whole number of at least 1, got 0"),
        (("--channels", "8,x"), "--channels: 'x' is not a whole number"),
        (("--channels", "8,9"), "multiples of 8"),
        (("--decay", "linear"), "linear"),
        (("--minutes", -1), "minutes must be positive"),
        (("--resume",), "does not exist"),
        (("--noise", "none.nc"), "'none.nc' does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    brenier: Command, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    brenier("train", "two-points", "-o", tmp_path / "net", *options).refused(words)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_network_is_kept(brenier: Command, tmp_path: Path) -> None:
    brenier("train", "two-points", "-o", tmp_path / "net", "--steps", 2, "-q", *SMALL)
    brenier("train", "two-points", "-o", tmp_path / "net", "--steps", 3, *SMALL).refused("exists", "--resume")
    assert read_progress(tmp_path / "net") == (2, 2)
    assert brenier("train", "two-points", "-o", tmp_path / "net", "--steps", 3, "--force", "-q", *SMALL)[0] == 0
    assert read_progress(tmp_path / "net") == (3, 3)


def test_a_flow_is_trained_on_pairs_of_a_map_sampled_and_evaluated(brenier: Command, tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    np.save(tmp_path / "other.npy", 2 * data)
    assert brenier("transport", tmp_path / "data.npy", "-o", tmp_path / "map.nc", "--tolerance", 0.1, "-q").code == 0
    flow = ("--objective", "flow", "--pairs", tmp_path / "map.nc", "--steps", 30, *SMALL)
    code, out, err = brenier("train", tmp_path / "data.npy", "-o", tmp_path / "net", *flow)
    assert (code, err) == (0, "")
    assert "a flow by an MLP for data.npy (2), 30 steps in" in out
    brenier("train", tmp_path / "other.npy", "-o", tmp_path / "no", *flow).refused(
        "fitted to other points than other.npy"
    )
    brenier("train", tmp_path / "data.npy", "-o", tmp_path / "no", *flow[:3], tmp_path / "none.nc").refused(
        "does not exist"
    )
    assert not (tmp_path / "no").exists()
    assert brenier("pairs", tmp_path / "map.nc", "-n", 500, "-o", tmp_path / "pairs.npz", "-q").code == 0
    flow = ("--objective", "flow", "--pairs", tmp_path / "pairs.npz", "--steps", 2, *SMALL)
    assert brenier("train", tmp_path / "data.npy", "-o", tmp_path / "recorded", *flow).code == 0
    brenier("train", tmp_path / "other.npy", "-o", tmp_path / "no", *flow).refused("60 of 60 data differ")
    words = "net is a flow whose noise was coupled to its data"
    brenier("probe", tmp_path / "net").refused(words)
    brenier("calibrate", tmp_path / "net").refused(words)
    drawn = ("-n", 300, "--data", tmp_path / "data.npy", "-o", tmp_path / "x.npy")
    out = brenier("sample", tmp_path / "net", "--times", "0,0.3,1", "--solver", "heun", *drawn).out
    assert "300 samples of shape 2 by 2 steps of heun, seed 0: 4 evaluations of the velocity each" in out
    assert "Straightness: int E|v - (x1 - x0)|^2 dt = " in out
    assert "W2 to the data data.npy: " in out
    expected = package.sample(tmp_path / "net", 300, times=[0, 0.3, 1], solver="heun", progress=False)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected.events.numpy())
    assert brenier("evaluate", tmp_path / "x.npy", "--reference", tmp_path / "data.npy", "-q").code == 0


def test_a_network_with_classes_is_asked_for_one(brenier: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.array([[-2.0], [3.0]] * 5))
    (tmp_path / "labels.txt").write_text("low\nup\n" * 5)
    flow = ("--objective", "flow", "--labels", tmp_path / "labels.txt", "--steps", 60, *SMALL)
    assert brenier("train", tmp_path / "data.npy", "-o", tmp_path / "net", *flow, "-q").code == 0
    drawn = ("sample", tmp_path / "net", "-n", 20, "-q", "-o", tmp_path / "x.npy")
    assert brenier(*drawn, "--condition", "class_labels=1").code == 0
    assert np.load(tmp_path / "x.npy").mean() > 1
    brenier(*drawn, "--force", "--condition", "class_labels=2").refused("with class_labels=2")
    brenier(*drawn, "--force", "--guidance", 2).refused("was never trained without labels: train it with --drop-labels")
