"""`brenier calibrate`: what it prints, saves and refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import brenier as package
from brenier.laws.mixture import GaussianMixture
from brenier.probing.calibration import calibrate
from brenier.training.train import train

Command = Callable[..., tuple[int, str, str]]
LAW = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 0.1)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was hardly trained."""
    folder = tmp_path_factory.mktemp("trained") / "net"
    train(np.asarray(LAW.sample(200, 1)), folder, steps=3, batch=16, width=8, depth=1, device="cpu", progress=False)
    return folder


@pytest.fixture
def points(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", LAW.sample(50, 2).numpy())
    return tmp_path / "points.npy"


def test_it_prints_and_saves_what_the_function_returns(brenier: Command, net: Path, points: Path) -> None:
    saved, drawn = points.with_name("c.nc"), points.with_name("c.png")
    options = ("--data", points, "--snr", "2,0.5", "--queries", 100, "--seed", 3, "-o", saved, "--figure", drawn)
    code, out, err = brenier("calibrate", net, *options)
    assert (code, err) == (0, "")
    assert "on points.npy: 2 dimensions, 100 queries from " in out
    expected = calibrate(package.load_target(net), points, snrs=[0.5, 2.0], queries=100, seed=3, progress=False)
    xr.testing.assert_allclose(xr.load_dataset(saved, engine="h5netcdf"), expected)
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_makes_the_same_file_and_show_reads_it(brenier: Command, net: Path, points: Path) -> None:
    contents = []
    for name in ("a", "b"):
        saved = points.with_name(f"{name}.nc")
        options = ("--data", points, "--snr-min", 0.5, "--snr-max", 2, "--snrs", 3, "--queries", 40, "-o", saved)
        code, out, _ = brenier("calibrate", net, *options)
        assert code == 0
        contents.append(saved.read_bytes())
    assert contents[0] == contents[1]
    np.testing.assert_allclose(xr.load_dataset(saved, engine="h5netcdf")["snr"], [0.5, 1, 2])
    assert brenier("show", saved) == (0, out, "")


def test_quiet_prints_nothing(brenier: Command, net: Path, points: Path) -> None:
    assert brenier("calibrate", net, "--data", points, "--snr", 1, "--queries", 40, "-q") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("normal", "--snr", 1), "normal is not a network"),
        (("{net}", "--snr", 1), "give data"),
        (("{net}", "--data", "normal"), "one shape"),
        (("{net}", "--data", "{net}"), "is a network itself"),
        (("{net}", "--data", "{points}", "--snr", "1", "--snrs", 3), "leave out --snr-min"),
        (("{net}", "--data", "{points}", "--snr", "1,x"), "'x' is not a number"),
        (("{net}", "--data", "{points}", "--snr", "1e9"), "was trained for"),
        (("{net}", "--data", "{points}", "--queries", 1), "queries must be a whole number from 2"),
        (("{net}", "--data", "{points}", "-o", "c.txt"), "must end in .nc"),
        (("{net}", "--data", "{points}", "--figure", "{points}"), "must end in .png"),
        (("nowhere/net",), "does not exist"),
    ],
)
def test_bad_input_is_one_line(
    brenier: Command, net: Path, points: Path, arguments: tuple[object, ...], words: str
) -> None:
    before = sorted(points.parent.iterdir())
    filled = [str(argument).format(net=net, points=points) for argument in arguments]
    code, out, err = brenier("calibrate", *filled)
    assert (code, out) == (2, "")
    assert err.startswith("brenier: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(points.parent.iterdir()) == before


def test_a_file_that_exists_is_kept_without_force(brenier: Command, net: Path, points: Path) -> None:
    saved = points.with_name("c.nc")
    saved.write_bytes(b"mine")
    options = ("--data", points, "--snr", 1, "--queries", 40, "-o", saved)
    assert brenier("calibrate", net, *options)[0] == 2
    assert saved.read_bytes() == b"mine"
    assert brenier("calibrate", net, *options, "--force")[0] == 0
    assert xr.load_dataset(saved, engine="h5netcdf").sizes["snr"] == 1
