import io
import math
import re

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import brenier
from brenier.reports.profile import print_profiles, print_report, sentence, side_by_side
from brenier.reports.tables import number, scale


@pytest.fixture(scope="module")
def data_profile() -> xr.Dataset:
    points = np.random.default_rng(0).normal(size=(60, 4))
    return brenier.probe(points, about="atoms", queries=80, progress=False)


@pytest.fixture(scope="module")
def two_points() -> xr.Dataset:
    return brenier.probe("two-points", [0.25, 0.5, 1.5, 4.0, 8.0], progress=False)


def printed(profile: xr.Dataset, width: int) -> str:
    stream = io.StringIO()
    print_report(profile, Console(file=stream, width=width))
    return stream.getvalue()


def cells(text: str, title: str) -> list[str]:
    """The column under `title`, without standard errors."""
    lines = iter(text.replace("E L", "E_L").splitlines())
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


def test_standard_errors_stand_beside_their_figures_where_they_fit(
    data_profile: xr.Dataset, two_points: xr.Dataset
) -> None:
    text = printed(data_profile, 120)
    for m, se in zip(data_profile["m_star"].values, data_profile["m_star_se"].values, strict=True):
        assert f"{number(m)} ±{number(se)}" in text
    assert "±" not in printed(two_points, 120)


def test_snrs_that_differ_look_different() -> None:
    text = printed(
        brenier.probe([0.0, 1.0, 3.0], [1.00001, 1.00002, 2.0], about="atoms", queries=9, progress=False), 80
    )
    assert cells(text, "SNR") == ["1.00001", "1.00002", "2"]


def test_of_many_snrs_a_few_are_shown_the_hardest_among_them() -> None:
    profile = brenier.probe([-1.0, 1.0], np.geomspace(0.5, 20, 90), about="atoms", queries=50, progress=False)
    text = printed(profile, 80)
    rows = cells(text, "m*")
    assert len(rows) <= 41
    assert number(float(profile["m_star"].max())) in rows
    assert f"{len(rows)} of 90 SNRs shown" in text


# The sentence


def test_a_log_concave_law_has_no_bottleneck(two_points: xr.Dataset) -> None:
    text = sentence(brenier.probe("uniform", [0.1, 10.0], progress=False))
    assert text == "No bottleneck: the noisy law is log-concave from SNR 0.1 to 10 (m* = 0)."
    # Two points -1 and 1 under noise have one mode up to the SNR 1.
    text = sentence(two_points.isel(snr=slice(0, 2)))
    assert text == "No bottleneck: the noisy law is log-concave from SNR 0.25 to 0.5 (m* = 0)."


def test_queries_cannot_show_that_a_law_is_log_concave(data_profile: xr.Dataset) -> None:
    text = sentence(data_profile.isel(snr=[0]))
    assert text.startswith("No bottleneck: at SNR ")
    assert text.endswith(", L <= 1 at all 80 queries (m* = 0).")


def test_a_bottleneck_is_named_with_its_place_and_size(two_points: xr.Dataset) -> None:
    assert sentence(two_points) == (
        "Denoising is hardest at SNR 1.5 (within 0.5 to 4; sigma 0.667, OU time 0.184), with m* = 0.422; "
        "m* > 0 is seen from SNR 1.5 to 8."
    )
    alone = two_points.assign(m_star=("snr", [0.0, 0.0, 0.5, 0.0, 0.0]))
    assert sentence(alone).endswith("with m* = 0.500; m* > 0 is seen at no other SNR.")


def test_a_bottleneck_at_the_edge_of_the_grid_is_called_so(two_points: xr.Dataset) -> None:
    above = sentence(two_points.isel(snr=slice(0, 3)))
    assert "last of the SNRs probed, SNR 1.5 (sigma 0.667, OU time 0.184), with m* = 0.422" in above
    assert "may lie above it (give --snr-max)" in above
    below = sentence(two_points.isel(snr=slice(2, 5)))
    assert "first of the SNRs probed, SNR 1.5 (" in below
    assert "may lie below it (give --snr-min)" in below
    alone = sentence(two_points.isel(snr=[2]))
    assert alone.startswith("At SNR 1.5 (")
    assert "probe more SNRs" in alone


def test_memory_is_told_from_the_law(data_profile: xr.Dataset, two_points: xr.Dataset) -> None:
    found = brenier.bottleneck(data_profile)
    collapsed = f"past SNR {scale(found['collapse_snr'])} posteriors sit on single points of the data (median ESS < 2)"
    assert found["snr"] < found["collapse_snr"]
    assert f"; {collapsed}, which is memory" in sentence(data_profile)
    # The same profile with the bottleneck in the collapsed range.
    last = data_profile.assign(m_star=("snr", np.linspace(0, 1, data_profile.sizes["snr"])))
    assert f"; but {collapsed}, so this tells of these points, not of the law" in sentence(last)
    assert "single points" not in sentence(two_points)


# The sentence on the law behind data


def behind(resolved: float, **values: float | list[float]) -> xr.Dataset:
    """A profile of 1,000 points about the law behind them, at five SNRs, or what is given of it."""
    known: dict[str, float | list[float]] = {
        "m_star": [0.0, 0.2, 0.5, 0.3, 0.9],
        "m_star_low": [0.0, 0.1, 0.4, 0.2, 0.0],
        "m_star_high": [0.05, 0.3, 0.6, 0.4, 2.0],
        "delta_star": [1.0, 0.9, 0.8, 0.7, 0.6],
        "mean_localization": [0.1, 0.4, 0.8, 1.6, 3.0],
        "mean_localization_low": [0.1, 0.3, 0.7, 1.4, 0.0],
        "mean_localization_high": [0.1, 0.5, 0.9, 1.8, 9.0],
        "ess": [1000, 500, 200, 100, 1],
        "bracket_width": [0.01, 0.05, 0.1, 0.2, 2.0],
        "effective_dimension": [4, 4, 4, 4, 4],
        "onset_snr": 0.5,
    }
    variables = {name: ("snr", each) if isinstance(each, list) else each for name, each in (known | values).items()}
    about = {"kind": "profile", "law": "points", "dim": 4, "beta": 1.0, "atoms": 1000, "method": "monte-carlo"}
    return xr.Dataset(variables | {"resolved_snr": resolved}, {"snr": [0.5, 1.0, 2.0, 4.0, 8.0]}, about)


def modelled(profile: xr.Dataset, means: list[float], stars: list[float]) -> xr.Dataset:
    """The profile with a model beside it whose E L is within 10% and whose m* is within 0.1."""
    m, s = np.asarray(means), np.asarray(stars)
    new = {
        "model_mean_localization": m,
        "model_mean_localization_low": 0.9 * m,
        "model_mean_localization_high": 1.1 * m,
    }
    new |= {"model_m_star": s, "model_m_star_low": np.maximum(s - 0.1, 0), "model_m_star_high": s + 0.1}
    return profile.assign({name: ("snr", each) for name, each in new.items()}).assign_attrs(model="the model")


RIGHT = [0.1, 0.4, 0.8, 1.6, 2.5]
PLACE = "The law behind the data is hardest to denoise at SNR 2 (sigma 0.5, OU time 0.112)"
INSIDE = f"{PLACE}, with m* = 0.500 (0.400 to 0.600)"
BEYOND = "past SNR 4, 1,000 points cannot tell, and about 100,000 would be needed at SNR 8"
AFTER = "past SNR 2, 1,000 points cannot tell, and more SNRs or queries would say how many would be needed"
STARS = [0.0, 0.1, 0.4, 0.7, 0.2]
MODEL = "the model is hardest at SNR 4, with m* = 0.700 (0.600 to 0.800)"
SEEN = f"{INSIDE}; m* > 0 is seen from SNR 1 on"
NONE = "No bottleneck in the law behind the data is seen up to SNR"
UNTOLD = "1,000 points cannot tell where the law behind them is hard to denoise: about 4,000 would be needed at SNR 0.5"
WIDE, FLAT = {"bracket_width": [0.4] * 5}, {"m_star_low": [0.0] * 5, "onset_snr": np.inf}
OFF = "but its E L is outside what the data allow"
GROWING = (
    "The law behind the data grows hard to denoise up to SNR 2 (sigma 0.5, OU time 0.112), the last that they resolve, "
    "with m* = 0.500 (0.400 to 0.600): the bottleneck may lie above it"
)
SENTENCES = {
    "nothing-resolved": (behind(np.nan, **WIDE), f"{UNTOLD}."),
    "no-bottleneck": (behind(4.0, **FLAT), f"{NONE} 4 (m* at most 0.600); {BEYOND}."),
    "no-bottleneck-all-resolved": (behind(8.0, **FLAT), f"{NONE} 8 (m* at most 2.000)."),
    "inside": (behind(4.0), f"{SEEN}; {BEYOND}."),
    "inside-all-resolved": (behind(8.0, m_star=[0, 0.2, 0.5, 0.3, 0.1]), f"{SEEN}."),
    "at-the-last-resolved": (behind(2.0), f"{GROWING}; {AFTER}."),
    "model-agrees": (
        modelled(behind(4.0), RIGHT, STARS),
        f"{SEEN}; {BEYOND}; {MODEL}, and agrees with the data where they can tell.",
    ),
    "model-without-a-bottleneck": (
        modelled(behind(8.0, **FLAT), RIGHT, [0.0] * 5),
        f"{NONE} 8 (m* at most 2.000); the model has no bottleneck, and agrees with the data where they can tell.",
    ),
    "model-where-nothing-is-resolved": (modelled(behind(np.nan, **WIDE), [9.0] * 5, STARS), f"{UNTOLD}; {MODEL}."),
    "model-off-at-one": (
        modelled(behind(4.0), [0.1, 0.4, 0.2, 1.6, 99.0], STARS),
        f"{SEEN}; {BEYOND}; {MODEL}, {OFF} at SNR 2.",
    ),
    "model-off-at-several": (
        modelled(behind(4.0), [0.1, 0.7, 0.2, 3.0, 99.0], STARS),
        f"{SEEN}; {BEYOND}; {MODEL}, {OFF} at 3 SNRs from 1 to 4.",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence_on_the_law_behind_data(case: str) -> None:
    profile, text = SENTENCES[case]
    assert sentence(profile) == text


@pytest.fixture(scope="module")
def told() -> xr.Dataset:
    points = np.random.default_rng(0).normal(size=(300, 3))
    normal = brenier.GaussianMixture([1.0], [[0.0, 0.0, 0.0]], 1.0, name="normal")
    return brenier.probe(points, np.geomspace(0.1, 10, 9), queries=64, model=normal, progress=False)


def test_the_report_on_the_law_behind_data_ends_where_they_cannot_tell(told: xr.Dataset) -> None:
    resolved = float(told["resolved_snr"])
    text = printed(told, 120)
    assert text.startswith("data, the law behind the data: 3 dimensions, monte-carlo, 64 queries, seed 0\n")
    kept = told["snr"].to_numpy()[told["snr"].to_numpy() <= resolved]
    assert 1 < len(kept) < 9
    assert cells(text, "SNR") == [scale(value) for value in kept]
    assert f"{len(kept)} of 9 SNRs shown." in text
    # Where none is resolved all are shown: the sentence says what they are worth.
    none = printed(told.assign(resolved_snr=((), np.nan)), 120)
    assert len(cells(none, "SNR")) == 9
    assert "300 points cannot tell" in none


@pytest.mark.parametrize("width", [40, 100])
def test_several_profiles_stand_side_by_side(told: xr.Dataset, two_points: xr.Dataset, width: int) -> None:
    stream = io.StringIO()
    normal = brenier.probe("normal", [0.5, 2.0], progress=False)
    print_profiles({"told": told, "two": two_points, "normal": normal}, Console(file=stream, width=width))
    text = stream.getvalue()
    assert text.count("E L: mean localization") == 1  # columns are explained once
    beside = text[text.index("Side by side") :].replace("hardest at SNR", "hardest").replace("m* > 0 from SNR", "from")
    assert max(len(line) for line in beside.splitlines()[1:]) <= width
    found = brenier.bottleneck(two_points)
    assert cells(beside, "sigma")[1:] == [scale(found["sigma"]), "none"]
    assert cells(beside, "from")[1:] == [scale(found["hard_low"]), "none"]
    ends = [scale(float(told["resolved_snr"])), "8", "2"]
    assert [line.split()[-1] for line in beside.splitlines() if re.match("told|two|normal", line)][-3:] == ends


def test_side_by_side_there_are_brackets_of_data_and_errors_of_estimates(data_profile: xr.Dataset) -> None:
    found = brenier.bottleneck(data_profile)
    sizes = side_by_side({"data": behind(4.0), "atoms": data_profile})[3]
    estimate = f"{number(found['m_star'])} ±{number(found['m_star_se'])}"
    assert sizes.detailed == ["0.500 (0.400 to 0.600)", estimate]


def test_every_sentence_is_one_line_that_ends(
    data_profile: xr.Dataset, two_points: xr.Dataset, told: xr.Dataset
) -> None:
    collapsed = told.isel(snr=[-1]).assign(resolved_snr=((), np.nan))
    for profile in (data_profile, two_points, told, collapsed, *(profile for profile, _ in SENTENCES.values())):
        text = sentence(profile)
        assert "\n" not in text
        assert "nan" not in text
        assert text.endswith(".")
