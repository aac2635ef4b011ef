import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from brenier.sampling.expressway import Expressway
from brenier.sampling.schedule import Schedule
from brenier.transport import SemiDiscrete
from brenier.transport.mongeampere import MongeAmpere, learned

Command = Callable[..., Any]  # to a `Result` of conftest.py
LAW = '{"type": "gaussian-mixture", "weights": [1, 1], "means": [[-3, 0], [3, 0]], "covariances": [0.1, 0.1]}'
FEW = ("--steps", 3, "--criterion", "karras", "--handover", 1)
CHECKED = ("--network", "law.json", *map(str, FEW))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and a law, as the working directory."""
    (tmp_path / "law.json").write_text(LAW)
    generator = np.random.default_rng(0)
    points = generator.normal(size=(60, 2)) * 0.3 + np.outer(generator.choice([-3, 3], 60), [1, 0])
    np.save(tmp_path / "points.npy", points.astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "points.npy"


def test_it_saves_what_the_class_draws(brenier: Command, data: Path) -> None:
    code, out, err = brenier(
        "express", "points.npy", "--network", "law.json", *FEW, "-n", 80, "--seed", 3, "-o", "x.npy"
    )
    assert (code, err) == (0, "")
    way = Expressway("law.json", "points.npy", handover=1.0, steps=3, schedule="karras", seed=3).fit(
        seed=3, progress=False
    )
    expected = way.sample(80, 3, progress=False)
    np.testing.assert_array_equal(np.load("x.npy"), expected.events.numpy())
    lines = out.splitlines()
    assert lines[0].startswith("law.json from 60 points of points.npy: 80 samples of shape 2, seed 3, ")
    assert lines[1] == "Handover at SNR 1 (sigma 1): as given."
    assert lines[2].startswith("Transport: cells are off the weights by a total variation of ")
    assert "the fit ended by tolerance after" in lines[2]
    assert lines[3] == "Then 3 steps of dpmpp-2m by karras: 3 evaluations of the denoiser each; the map takes none."
    assert lines[4].startswith("Copies: ")
    assert "nearer to a datum than that is to others, of the data themselves" in lines[4]


def test_a_network_that_is_told_classes_starts_from_latents_of_the_class(brenier: Command, data: Path) -> None:
    points = np.load(data)
    labels = np.where(points[:, 0] > 0, "right", "left")
    Path("labels.txt").write_text("\n".join(labels) + "\n")
    small = ("--steps", 150, "--batch", 128, "--width", 16, "--depth", 1, "--device", "cpu")
    brenier("train", "points.npy", "-o", "net", "--labels", "labels.txt", "--drop-labels", 0.2, *small)
    told = ("--network", "net", "--labels", "labels.txt", "--handover", 0.5, "--steps", 3, "--criterion", "karras")
    result = brenier("express", "points.npy", *told, "-n", 60, "-o", "both.npy", "--tolerance", 0.1)
    assert result.err == ""
    both = np.load("both.npy")[:, 0]
    assert (both[0::2] < 0).mean() > 0.9
    assert (both[1::2] > 0).mean() > 0.9
    asked = ("--condition", "class_labels=1", "--guidance", 1.5, "--assignment", "random")
    out = brenier("express", "points.npy", *told, *asked, "-n", 60, "-o", "right.npy").out
    assert (np.load("right.npy")[:, 0] > 0).mean() > 0.9
    assert f"from {np.sum(labels == 'right')} points of points.npy" in out
    refused = brenier("express", "points.npy", "--network", "net", "--handover", 0.5, "-o", "x.npy")
    assert refused.code == 2
    assert "latents are of none: give labels" in refused.err
    assert not Path("x.npy").exists()


def test_what_is_measured_is_printed(brenier: Command, data: Path) -> None:
    options = ("--network", "law.json", "--steps", 2, "--handover", 1000, "-n", 200)
    out = brenier("express", "points.npy", *options, "--tolerance", 0.01, "-o", "x.npy").out
    error = float(out.split("total variation of ")[1].split(" ")[0])
    assert error <= 0.02
    assert "Copies: 100.0% of the samples" in out
    assert ": more: copies." in out


def test_the_handover_is_chosen_and_explained(brenier: Command, data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = brenier("express", "points.npy", "--network", "law.json", *FEW[:4], "-o", "x.npy").out
    way = Expressway("law.json", "points.npy", steps=3, schedule="karras", assignment="random")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = way.fit(progress=False).handover
    assert found is not None
    assert out.splitlines()[1].endswith(f": {found.reason}.")
    assert "points of points.npy are behind a noisy one" in found.reason


def test_controls(brenier: Command, data: Path) -> None:
    options = ("--network", "law.json", *FEW, "-n", 20, "--assignment", "random", "--fresh-noise")
    out = brenier("express", "points.npy", *options, "-o", "x.npy").out
    assert "Latents drawn at random: no transport." in out
    way = Expressway("law.json", data, handover=1.0, steps=3, schedule="karras", assignment="random", fresh_noise=True)
    np.testing.assert_array_equal(np.load("x.npy"), way.fit(progress=False).sample(20, progress=False).points.numpy())


def test_a_saved_map_is_gone_on_with(brenier: Command, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("express", "points.npy", "--network", "law.json", *FEW, "-n", 5)
    assert brenier(*options, "-o", "x.npy", "--map", "map.nc", "-q") == (0, "", "")
    saved = SemiDiscrete.load("map.nc")
    way = Expressway("law.json", "points.npy", handover=1.0, schedule="karras", assignment="random")
    latents = way.fit(progress=False).latents
    assert latents is not None
    torch.testing.assert_close(saved.points.double(), latents.double(), rtol=1e-6, atol=1e-6)
    given: list[SemiDiscrete] = []
    fit = SemiDiscrete.fit
    monkeypatch.setattr(
        SemiDiscrete, "fit", lambda self, *rest, **named: (given.append(named["start"]), fit(self, *rest, **named))[1]
    )
    assert brenier(*options, "-o", "y.npy", "--start", "map.nc", "-q").code == 0
    torch.testing.assert_close(given[0].heights, saved.heights, rtol=0, atol=0)


def test_a_schedule_decides_where_and_how(brenier: Command, data: Path) -> None:
    Schedule((0.5, 0.2, 0), "heun", criterion="mine", law="law.json").to_json("grid.json")
    options = ("--network", "law.json", "--schedule", "grid.json", "-n", 5, "-o", "x.npy")
    out = brenier("express", "points.npy", *options).out
    assert "Handover at SNR 2 (sigma 0.5): where the schedule starts." in out
    assert "Then 2 steps of heun by mine: 3 evaluations of the denoiser each" in out


def test_without_a_network_a_warning_says_that_data_are_copied(brenier: Command, data: Path) -> None:
    with pytest.warns(UserWarning, match="denoiser of points.npy itself, which copies it"):
        assert brenier("express", "points.npy", *FEW, "-n", 5, "-o", "x.npy").code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert brenier("express", "points.npy", *FEW, "-n", 5, "-o", "y.npy", "--quiet") == (0, "", "")


def test_a_monge_ampere_map_is_saved_and_judged(brenier: Command, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "FIRST", 1)
    options = ("--network", "law.json", *FEW, "-n", 20, "--assignment", "monge-ampere", "--minutes", 1e-9)
    code, out, err = brenier("express", "points.npy", *options, "-o", "x.npy", "--map", "map.nc")
    assert (code, err) == (0, "")
    assert np.load("x.npy").shape == (20, 2)
    saved = xr.load_dataset("map.nc", engine="h5netcdf")
    assert MongeAmpere.load("map.nc").sample(3).shape == (3, 2)
    assert out.splitlines()[2].startswith("Monge-Ampère map: W2 to the latents ")
    assert float(out.split("latents ")[1].split(" ")[0]) == pytest.approx(saved.attrs["w2"], rel=0.01)
    assert "took 1 step and ended by --minutes" in out
    assert "points.npy diffused in 2 dimensions, from normal" in brenier("show", "map.nc").out


def test_images_keep_their_shape(brenier: Command, data: Path) -> None:
    options = ("--network", "digits-network", *FEW, "-n", 4, "--assignment", "random", "-q")
    assert brenier("express", "digits", *options, "-o", "x.npy").code == 0
    assert np.load("x.npy").shape == (4, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pointz.npy", *CHECKED), ["'pointz.npy' does not exist", "points.npy"]),
        (("points.npy", *CHECKED, "-n", "0"), ["-n", "0"]),
        (("points.npy", *CHECKED, "--steps", "0"), ["steps"]),
        (("points.npy", "--network", "law.jsn"), ["law.json"]),
        (
            ("points.npy", "--network", "digits-network"),
            ["points of points.npy have shape (2,), those of digits-network (8, 8)"],
        ),
        (("law.json", *CHECKED), ["law.json is a law", "points"]),
        (("digits", "--network", "digits-network", "--handover", "999"), ["trained for SNRs", "999"]),
        (("points.npy", *CHECKED, "--handover", "soon"), ["--handover 'soon'", "auto"]),
        (("points.npy", *CHECKED, "--handover", "-1"), ["handover", "-1"]),
        (("points.npy", *CHECKED, "--handover", "nan"), ["handover", "nan"]),
        (("points.npy", *CHECKED, "--solver", "eular"), ["'eular'"]),
        (("points.npy", *CHECKED, "--criterion", "karas"), ["'karas'"]),
        (("points.npy", *CHECKED, "--assignment", "sinkhorn"), ["--assignment"]),
        (("points.npy", *CHECKED, "--assignment", "monge-ampere", "--start", "map.nc"), ["--start", "monge-ampere"]),
        (("points.npy", *CHECKED, "--assignment", "random", "--start", "map.nc"), ["--assignment random", "--start"]),
        (("points.npy", *CHECKED, "--tolerance", "0"), ["tolerance"]),
        (("points.npy", *CHECKED, "--tolerance", "1e-9"), ["noise floor"]),
        (("points.npy", *CHECKED, "--minutes", "0"), ["minutes"]),
        (("points.npy", *CHECKED, "--start", "points.npy"), ["points.npy"]),
        (("points.npy", *CHECKED, "--schedule", "s.json"), ["--criterion", "--schedule"]),
        (("points.npy", *CHECKED, "--map", "map.npy"), ["map.npy", ".nc"]),
        (("points.npy", *CHECKED, "--device", "warp"), ["'warp'"]),
        (("points.npy", *CHECKED, "-o", "points.npy"), ["points.npy", "--force"]),
        (("points.npy", *CHECKED, "-o", "x.npz"), ["x.npz", ".npy"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, data: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    before = {path: path.read_bytes() for path in data.parent.iterdir()}
    output = () if "-o" in arguments else ("-o", "new.npy")
    brenier("express", *arguments, *output).refused(*words)
    assert {path: path.read_bytes() for path in data.parent.iterdir()} == before


def test_all_files_or_none(brenier: Command, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(data: xr.Dataset, **how: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    before = sorted(data.parent.iterdir())
    options = ("--network", "law.json", *FEW, "-n", 5, "-o", "x.npy", "--map", "map.nc")
    brenier("express", "points.npy", *options).refused("No space left on device")
    assert sorted(data.parent.iterdir()) == before
