import io
import math
import re

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import brenier
from brenier.cli.report import number, print_report, scale, sentence


@pytest.fixture
def data_profile() -> xr.Dataset:
    points = np.random.default_rng(0).normal(size=(60, 4))
    return brenier.probe(points, queries=80, progress=False)


def printed(profile: xr.Dataset, width: int) -> str:
    stream = io.StringIO()
    print_report(profile, Console(file=stream, width=width))
    return stream.getvalue()


def cells(text: str, title: str) -> list[str]:
    """The column under `title`, without standard errors."""
    lines = iter(text.splitlines())
    header = next(line for line in lines if title in line.split())
    found: list[str] = []
    next(lines)
    for line in lines:
        if not line.strip():
            break
        fields = re.sub(r" ±\S+", "", line).split()
        found.append(fields[header.split().index(title)])
    return found


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (3e-8, "3e-08"),
        (0.0004, "4e-04"),
        (0.0006, "0.001"),
        (-0.12345, "-0.123"),
        (9.9996, "10.00"),
        (99.996, "100.0"),
        (999.96, "1000"),
        (123456.0, "1.23e+05"),
        (math.nan, "-"),
        (-math.inf, "-inf"),
    ],
)
def test_only_zero_looks_like_zero(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0625, "0.0625"), (0.25, "0.25"), (1234.5, "1234"), (2e6, "2e+06"), (3e-5, "3e-05"), (50.0, "50")],
)
def test_scales_have_three_digits(value: float, text: str) -> None:
    assert scale(value) == text


# The table


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_its_width_and_drops_no_column(data_profile: xr.Dataset, width: int) -> None:
    text = printed(data_profile, width)
    assert max(len(line) for line in text.splitlines()) <= width
    for title in ("SNR", "E", "P(L>1)", "m*", "delta*", "zeta*_1", "zeta*_2", "zeta*_5", "zeta*_20", "ESS"):
        assert title in text.split()
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_holds_the_profile(data_profile: xr.Dataset, width: int) -> None:
    text = printed(data_profile, width)
    assert cells(text, "zeta*_5") == [number(v) for v in data_profile["zeta_star"].sel(perturbation=5).values]
    assert cells(text, "ESS") == [scale(v) for v in data_profile["ess"].values]


def test_standard_errors_stand_beside_their_figures_where_they_fit(data_profile: xr.Dataset) -> None:
    pairs = zip(data_profile["m_star"].values, data_profile["m_star_se"].values, strict=True)
    for line in (f"{number(m)} ±{number(se)}" for m, se in pairs):
        assert line in printed(data_profile, 120)
    exact = brenier.probe("two-points", [0.5, 1.0], progress=False)
    assert "±" not in printed(exact, 120)


def test_snrs_that_differ_look_different() -> None:
    text = printed(brenier.probe("normal", [1.00001, 1.00002, 2.0], progress=False), 80)
    assert cells(text, "SNR") == ["1.00001", "1.00002", "2"]


def test_of_many_snrs_a_few_are_shown_the_hardest_among_them() -> None:
    profile = brenier.probe("two-points", np.geomspace(0.5, 20, 90), progress=False)
    text = printed(profile, 80)
    rows = cells(text, "m*")
    assert len(rows) <= 41
    assert number(float(profile["m_star"].max())) in rows
    assert f"{len(rows)} of 90 SNRs shown" in text


# The sentence


def test_a_log_concave_law_has_no_bottleneck() -> None:
    for name in ("normal", "uniform", "point-mass"):
        text = sentence(brenier.probe(name, [0.1, 1.0, 10.0], progress=False))
        assert text == "No bottleneck: the noisy law is log-concave from SNR 0.1 to 10 (m* = 0)."


def test_a_bottleneck_is_named_with_its_place_and_size() -> None:
    profile = brenier.probe("two-points", [0.5, 1.5, 2.0, 2.5, 8.0], progress=False)
    hardest = int(profile["m_star"].argmax())
    assert hardest == 1
    text = sentence(profile)
    assert text.startswith("Denoising is hardest at SNR 1.5 (sigma 0.667, OU time 0.184)")
    assert "m* = 0.422" in text


def test_a_bottleneck_at_the_edge_of_the_grid_is_called_so() -> None:
    above = sentence(brenier.probe("spike-slab", [1.0, 10.0, 100.0], progress=False))
    assert "last of the SNRs probed, SNR 100" in above
    assert "--snr-max" in above
    below = sentence(brenier.probe("two-points", [2.0, 4.0, 8.0], progress=False))
    assert "first of the SNRs probed, SNR 2" in below
    assert "--snr-min" in below
    alone = sentence(brenier.probe("two-points", [2.0], progress=False))
    assert alone.startswith("At SNR 2")
    assert "probe more SNRs" in alone


def test_memory_is_told_from_the_law(data_profile: xr.Dataset) -> None:
    text = sentence(data_profile)
    collapse = brenier.bottleneck(data_profile)["collapse_snr"]
    assert f"past SNR {scale(collapse)} posteriors sit on single points" in text
    exact = sentence(brenier.probe("two-points", progress=False))
    assert "single points" not in exact


def test_every_sentence_is_one_line_that_ends(data_profile: xr.Dataset) -> None:
    for profile in (data_profile, brenier.probe("four-gaussians", progress=False)):
        text = sentence(profile)
        assert "\n" not in text
        assert "nan" not in text
        assert text.endswith(".")
