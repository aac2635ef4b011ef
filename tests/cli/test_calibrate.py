"""`brenier calibrate`: what it prints, saves and refuses."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console
from torch import Tensor, nn

import brenier as package
from brenier.laws.mixture import GaussianMixture
from brenier.networks.network import NetworkTarget
from brenier.probing.calibration import calibrate
from brenier.probing.verdicts import VERDICTS, verdict_bands
from brenier.reports import calibration as report
from brenier.training.train import train

Command = Callable[..., tuple[int, str, str]]
LAW = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 0.1)


class Exact(nn.Module):
    """The posterior mean of LAW, as if the noise level were `factor` times what it is."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        told = self.factor * float(sigma[0])
        return LAW.denoise((x / told).double(), 1 / told).to(x)


def of(factor: float, snrs: list[float], queries: int = 1000) -> xr.Dataset:
    return calibrate(NetworkTarget(Exact(factor), LAW, name="net"), snrs=snrs, queries=queries, progress=False)


def printed(calibration: xr.Dataset, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    report.print_calibration(calibration, console)
    return console.export_text()


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


# The report


def test_the_table_holds_the_numbers_of_the_calibration() -> None:
    found = of(1.2, [0.2, 2.0])
    rows = [line.split() for line in printed(found).splitlines() if line.split()[:1] in (["0.2"], ["2"])]
    for row, k in zip(rows, range(2), strict=True):
        one = found.isel(snr=k)
        assert row[1] == f"{float(one['denoising_error']):.3g}"
        assert row[3:5] == [f"{float(one['balance']):.3f}", f"±{float(one['balance_se']):.3f}"]
        assert row[5] == f"{float(one['directional']):.3f}"
        assert row[-1] == VERDICTS[int(one["verdict"])]


def test_a_good_network_gets_one_sentence() -> None:
    found = of(1.0, [0.2, 1.0, 5.0], 4000)
    lines = report.sentences(found)
    assert lines[0].startswith("Good at all 3 SNRs, from 0.2 to 5: ")
    assert len(lines) == 2
    bound = float((abs(found["directional"] - 1) + 2 * found["directional_se"]).max())
    assert f"within {bound:.0%}" in lines[1]


@pytest.mark.parametrize(("factor", "side", "cause"), [(1.5, "below", "too high"), (0.7, "above", "too low")])
def test_a_wrong_noise_level_is_said_to_be_one(factor: float, side: str, cause: str) -> None:
    found = of(factor, [0.1, 0.2])
    first, second, third, *_ = report.sentences(found)
    assert first == "Good at 0 of 2 SNRs."
    worst = verdict_bands(found)[0].worst["balance"]
    assert second.startswith(f"Poor from 0.1 to 0.2: the predicted error is up to {abs(worst):.0%} {side} the true one")
    assert third.startswith(f"{side.capitalize()}: ")
    assert f"told {cause} a noise level" in third


def test_what_is_undecided_says_why() -> None:
    assert "the balance is only known to ±" in report.sentences(of(1.0, [0.2], 30))[1]
    assert "of 10 queries, and on 16 it has to" in report.sentences(of(1.0, [0.2], 10))[1]
    law = package.load_target("two-points")
    network = NetworkTarget(lambda x, sigma: law.denoise((x / sigma[0]).double(), 1 / float(sigma[0])).to(x), law)
    rare = calibrate(network, snrs=[4.5], queries=2000, progress=False)
    assert re.search(r"the error rests on \d of 2000 queries", report.sentences(rare)[1])


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_fits_into_the_terminal(width: int) -> None:
    text = printed(of(1.2, [0.2, 2.0]), width)
    table = [line for line in text.splitlines()[1:] if not line.startswith("net")]
    assert max(len(line.rstrip()) for line in table) <= width
    for title in ("SNR", "E|X-D|^2", "balance", "top", "halves", "asymm.", "negative", "verdict"):
        assert title in text


# The command


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
        (("{net}", "--data", "normal"), "the network takes"),
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
