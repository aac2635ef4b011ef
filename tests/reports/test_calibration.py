"""What is printed of a calibration: its numbers, and what its verdicts mean."""

import io
import re

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

# Networks that are wrong on purpose denoise badly, of which the library warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* misses .* by .* their mean and variance:UserWarning")

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


def test_the_table_holds_the_numbers_of_the_calibration() -> None:
    found = of(1.2, [0.2, 2.0])
    rows = [line.split() for line in printed(found).splitlines() if line.split()[:1] in (["0.2"], ["2"])]
    for row, k in zip(rows, range(2), strict=True):
        one = found.isel(snr=k)
        assert row[1] == f"{float(one['denoising_error']):.3g}"
        assert row[3:5] == [f"{float(one['excess']):.3f}", f"±{float(one['excess_se']):.3f}"]
        assert row[5:7] == [f"{float(one['balance']):.3f}", f"±{float(one['balance_se']):.3f}"]
        assert row[7] == f"{float(one['directional']):.3f}"
        assert row[-2:] == [VERDICTS[int(one[name])] for name in ("verdict_sampling", "verdict_probing")]


def test_a_good_network_gets_one_sentence() -> None:
    found = of(1.0, [0.2, 1.0, 5.0], 4000)
    lines = report.sentences(found)
    assert lines[0].startswith("Good for sampling and probing at all 3 SNRs, from 0.2 to 5: ")
    assert len(lines) == 3
    bound = float((abs(found["directional"] - 1) + 2 * found["directional_se"]).max())
    assert f"within {bound:.0%}" in lines[2]
    saved = float((found["excess"].clip(0) + 2 * found["excess_se"]).max())
    assert f"at most {saved:.0%} of its error" in lines[1]


@pytest.mark.parametrize(("factor", "side", "cause"), [(1.5, "below", "too high"), (0.7, "above", "too low")])
def test_a_wrong_noise_level_is_said_to_be_one(factor: float, side: str, cause: str) -> None:
    found = of(factor, [0.1, 0.2])
    first, second, third, *_ = report.sentences(found)
    assert first == "Good for sampling at all 2 SNRs, from 0.1 to 0.2; for probing at 0 of 2 SNRs."
    worst = verdict_bands(found, "probing")[0].worst["balance"]
    said = f"Poor for probing from 0.1 to 0.2: the predicted error is up to {abs(worst):.0%} {side} the true one"
    assert second.startswith(said)
    assert third.startswith(f"{side.capitalize()}: ")
    assert f"told {cause} a noise level" in third


def test_what_a_sampler_and_a_probe_suffer_from_is_said_for_each() -> None:
    found = calibrate(
        NetworkTarget(lambda x, sigma: Exact(1.0)(x, sigma) + 0.4, LAW), snrs=[2.0, 5.0], queries=1000, progress=False
    )
    first, sampling, probing, *_ = report.sentences(found)
    assert first == "Good for sampling at 0 of 2 SNRs; for probing at 0 of 2 SNRs."
    assert re.match(r"Poor for sampling from 2 to 5: a simple correction of the denoiser saves up to \d+%", sampling)
    assert "the predicted error is up to" not in sampling
    assert re.match(r"Poor for probing from 2 to 5: .*; the predicted error is up to \d+% below", probing)


def test_what_is_undecided_says_why() -> None:
    few = report.sentences(of(1.0, [0.2], 30))
    assert few[1].startswith("Undecided for sampling at 0.2: the excess is only known to ±")
    assert few[2].startswith("Undecided for probing at 0.2: the balance is only known to ±")
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
    for title in ("SNR", "E|X-D|^2", "balance", "top", "halves", "asymm.", "negative", "sampling", "probing"):
        assert title in text
