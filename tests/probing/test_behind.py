"""What data tell about the law behind them, against the law that they were drawn from."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from brenier import Empirical, GaussianMixture, bottleneck, complexity, probe
from brenier.core import records
from brenier.core.random import seeds
from brenier.laws.crossfit import CrossFit
from brenier.laws.line.quadrature import localization_quadrature
from brenier.probing.behind import CROWD, SHARE

BRACKETED = ("mean_localization", "survival", "integrated_tail", "m_star", "zeta_star", "zeta_sharp")
SNRS = np.array([0.4, 0.8, 1.2, 2.0])


def normal(n: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def two_modes(n: int, seed: int = 0) -> np.ndarray:
    """0.7 N(0, I_6), to either side of it by 1.5 along the first axis."""
    points = 0.7 * normal(n, 6, seed)
    points[:, 0] += 1.5 * np.random.default_rng(seed + 100).choice([-1, 1], n)
    return points


def law_of_two_modes(snr: float) -> dict[str, Any]:
    """E L, m* and P(L > 1) of that law: L is the larger of the first coordinate's, by quadrature, and a constant."""
    line = GaussianMixture([0.5, 0.5], [-1.5, 1.5], 0.49)
    values, weights, _ = localization_quadrature(line, snr, np.linspace(0, 3, 301), [])
    joint = np.maximum(values, 0.49 * snr**2 / (1 + 0.49 * snr**2))
    m_star, _ = complexity.minimal_relative_tail(joint, weights)
    above = complexity.survival(joint, [1.0], weights)[0]
    return {"mean_localization": np.average(joint, weights=weights), "m_star": m_star, "survival": above}


def ask(points: Any, snrs: Any = SNRS, **options: Any) -> xr.Dataset:
    return probe(points, snrs, **{"queries": 512, "progress": False, **options})


@pytest.fixture(scope="module")
def modes() -> xr.Dataset:
    return ask(two_modes(4000))


@pytest.fixture(scope="module")
def round_law() -> xr.Dataset:
    return ask(normal(2000), [0.6, 1.2])


@pytest.fixture(scope="module")
def far() -> xr.Dataset:
    """Few points, from all noise to far beyond what they are."""
    return ask(normal(200, 3), [1e-9, 0.3, 1.0, 3.0, 30.0, 1e3, 1e8], queries=256)


@pytest.fixture(scope="module")
def some() -> list[xr.Dataset]:
    """20 sets of 1,200 points of two modes."""
    return [ask(two_modes(1200, seed), [0.8], queries=256, seed=seed).isel(snr=0) for seed in range(20)]


def ends(profile: xr.Dataset, name: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    return profile[f"{name}_low"], profile[name], profile[f"{name}_high"]


# Truth


def test_of_a_round_normal_law_no_bottleneck_is_made_up(round_law: xr.Dataset) -> None:
    truth = round_law["snr"] ** 2 / (1 + round_law["snr"] ** 2)
    low, value, high = ends(round_law, "mean_localization")
    assert bool(((low < truth) & (truth < high)).all())
    assert bool((abs(value / truth - 1) < 0.1).all())
    assert bool((abs(round_law["mmse"] * round_law["snr"] ** 2 / (6 * truth) - 1) < 0.1).all())
    found = bottleneck(round_law)
    assert found["resolved_snr"] == 1.2
    assert np.isnan(found["m_star"])
    assert np.isnan(found["snr"])
    assert found["onset_snr"] == np.inf
    points = bottleneck(ask(normal(2000), [0.6, 1.2], about="atoms"))
    assert points["m_star"] > 0.2  # which the points themselves have
    assert points["resolved_snr"] == np.inf


def test_of_two_modes_the_bottleneck_is_found_with_its_size(modes: xr.Dataset) -> None:
    truth = {snr: law_of_two_modes(snr) for snr in SNRS.tolist()}
    assert truth[1.2]["m_star"] == pytest.approx(0.432, abs=2e-3)
    found = bottleneck(modes)
    assert found["snr"] == 1.2
    assert abs(found["m_star"] - truth[1.2]["m_star"]) < 0.05
    for snr, exact in truth.items():
        row = modes.sel(snr=snr)
        for name in ("mean_localization", "m_star"):
            low, value, high = ends(row, name)
            assert float(low) <= exact[name] <= float(high), (snr, name)
            assert float(value) == pytest.approx(exact[name], abs=0.05), (snr, name)
        assert float(row["survival_low"].sel(u=1)) <= exact["survival"] <= float(row["survival_high"].sel(u=1))
    assert found["onset_snr"] == 0.4  # the last SNR before P(L > 1) > 0
    assert found["hard_low"] == 0.8
    assert truth[0.4]["survival"] == 0 < truth[0.8]["survival"]


@pytest.mark.parametrize("name", ["mean_localization", "m_star"])
def test_brackets_hold_the_truth_as_often_as_they_say(some: list[xr.Dataset], name: str) -> None:
    """Each is an interval of 95% where the data resolve: of 20 at most two miss."""
    exact = law_of_two_modes(0.8)[name]
    told = [row for row in some if float(row["resolved_snr"]) == 0.8]
    assert len(told) >= 15
    missed = [not float(row[f"{name}_low"]) <= exact <= float(row[f"{name}_high"]) for row in told]
    assert sum(missed) <= 2, [float(row[f"{name}_high"]) for row in told]


def test_more_data_tell_more() -> None:
    snrs = np.geomspace(0.3, 6, 9)
    few, more = (ask(two_modes(n), snrs, queries=256) for n in (300, 3000))
    assert float(few["resolved_snr"]) < float(more["resolved_snr"]) < snrs[-1]
    assert bool((more["ess"] > few["ess"]).all())
    for profile in (few, more):
        lost = (profile["bracket_width"] > SHARE) | (profile["ess"] < CROWD)
        resolved = snrs[: int(lost.to_numpy().argmax())]  # all before the first that is not
        assert float(profile["resolved_snr"]) == resolved[-1]
        assert records.resolved(profile)["snr"].to_numpy().tolist() == resolved.tolist()
    spans = [
        float((profile["mean_localization_high"] - profile["mean_localization_low"])[0]) for profile in (few, more)
    ]
    assert spans[1] < spans[0] / 2


def test_where_data_cannot_tell_fewer_queries_are_asked_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    of = CrossFit.crossfit

    def crossfit(self: CrossFit, index: Any, *rest: Any) -> Any:
        asked.append(len(index))
        return of(self, index, *rest)

    monkeypatch.setattr(CrossFit, "crossfit", crossfit)
    points = two_modes(600)
    short, long = (ask(points, snrs, queries=1024) for snrs in ([0.4, 0.8], [0.4, 0.8, 6.0, 30.0]))
    assert asked == [1024, 1024, 256]
    assert float(long["resolved_snr"]) == float(short["resolved_snr"]) > 0
    for name in BRACKETED:
        np.testing.assert_array_equal(short[name], long[name].isel(snr=slice(2)))
    assert bool((long["ess"][2:] < CROWD / 2).all())
    only = ask(points, [6.0, 30.0], queries=512)
    assert asked[3:] == [256]
    assert np.isnan(float(only["resolved_snr"]))


def test_on_the_line_brackets_are_sampling_alone() -> None:
    """There is no direction to choose, and the exact values are those of quadrature."""
    law = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1])
    snrs = [0.3, 0.6, 1.0]
    exact = probe(law, snrs, progress=False)
    found = ask(law.sample(3000, 5), snrs)
    assert float(found["resolved_snr"]) == 1.0
    assert float(found["bracket_width"].max()) < 0.05
    for name in ("mean_localization", "m_star", "zeta_star", "integrated_tail"):
        low, _, high = ends(found, name)
        assert bool(((low <= exact[name] + 1e-9) & (exact[name] <= high + 1e-9)).all()), name


def test_weights_are_those_of_the_law() -> None:
    """Points of two modes, those of one of them with nearly all of the weight: the law of that mode alone."""
    points = two_modes(2000)
    weights = np.where(points[:, 0] > 0, 1.0, 1e-6)
    one = ask(Empirical(points, weights), [0.8, 1.2])
    truth = 0.49 * one["snr"] ** 2 / (1 + 0.49 * one["snr"] ** 2)
    low, value, high = ends(one, "mean_localization")
    assert bool(((low < 1.02 * truth) & (0.98 * truth < high)).all())
    assert bool((abs(value / truth - 1) < 0.1).all())
    assert np.isnan(bottleneck(one)["m_star"])
    assert float(one["m_star_high"].max()) < law_of_two_modes(1.2)["m_star"] / 4


# Form


@pytest.mark.parametrize("name", BRACKETED)
def test_ends_are_in_order_and_in_range(modes: xr.Dataset, round_law: xr.Dataset, far: xr.Dataset, name: str) -> None:
    for profile in (modes, round_law, far):
        low, value, high = ends(profile, name)
        assert low.dims == value.dims == high.dims
        assert bool((low <= value + 1e-12).all())
        assert bool((value <= high + 1e-12).all())
        assert bool((profile[f"{name}_se"] >= 0).all())
        if not name.startswith("zeta"):
            assert bool((low >= 0).all())
        if name == "survival":
            assert bool((high <= 1).all())


def test_all_follows_from_the_weighted_sample(modes: xr.Dataset) -> None:
    values, weights = modes["localization"].to_numpy(), modes["query_weight"].to_numpy()
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(modes["mean_localization"], (values * weights).sum(1))
    np.testing.assert_allclose(modes["m_star"], complexity.minimal_relative_tail(values, weights)[0])
    np.testing.assert_allclose(modes["survival"], complexity.survival(values, modes["u"], weights), atol=1e-12)
    draws = modes["m_star_replicate"]
    near = modes["snr"] > 0.5
    np.testing.assert_allclose(draws.std("replicate")[near], modes["m_star_se"][near], rtol=0.35)
    np.testing.assert_allclose(draws.mean("replicate")[near], modes["m_star"][near], atol=0.03)
    assert bool((modes["effective_dimension"] >= 1).all())
    assert bool((modes["effective_dimension"] <= 6).all())
    assert float(modes["effective_dimension"][0]) == pytest.approx(
        float(modes["mmse"][0] * 0.4**2 / modes["mean_localization"][0]), rel=0.02
    )


def test_same_seed_same_profile() -> None:
    one, two, other = (ask(normal(200, 3), [0.5, 1.0], queries=128, seed=seed) for seed in (3, 3, 4))
    xr.testing.assert_identical(one, two)
    assert not np.array_equal(one["mean_localization"], other["mean_localization"])


def test_units_change_nothing() -> None:
    points = normal(300, 3)
    one = ask(points, [0.5, 1.5], queries=128)
    two = ask(1e3 * points - 4e3, [0.5e-3, 1.5e-3], queries=128)
    for name in ("mean_localization", "m_star", "survival_low", "mean_localization_high", "ess"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(two["mmse"], 1e6 * one["mmse"], rtol=1e-3)


def test_far_beyond_nothing_is_told_and_nothing_is_lost(far: xr.Dataset) -> None:
    for name, values in far.data_vars.items():
        if values.dtype.kind == "f" and name != "onset_snr":
            assert bool(np.isfinite(values).all()), name
    assert float(far["resolved_snr"]) in (0.3, 1.0)
    beyond = probe(normal(200, 3), [1e3, 1e8], queries=64, progress=False)
    assert np.isnan(float(beyond["resolved_snr"]))
    assert records.resolved(beyond).sizes["snr"] == 0
    found = bottleneck(beyond)
    assert np.isnan(found["m_star"])
    assert np.isnan(found["resolved_snr"])


@pytest.mark.parametrize("queries", [1, 2, 17, 700])
def test_queries_may_be_few_or_more_than_the_points(queries: int) -> None:
    profile = ask(normal(100, 3), [0.2, 0.5], queries=queries)
    assert profile.attrs["queries"] == queries
    for name in BRACKETED:
        low, value, high = ends(profile, name)
        assert bool(((low <= value + 1e-12) & (value <= high + 1e-12)).all()), name
    if queries > 100:
        truth = profile["snr"] ** 2 / (1 + profile["snr"] ** 2)
        low, _, high = ends(profile, "mean_localization")
        assert bool(((low < truth) & (truth < high)).all())


def test_one_heavy_point_may_have_all_the_queries() -> None:
    """They are all of its group, which is then left out of every one."""
    weights = np.full(100, 1e-9)
    weights[7] = 1.0
    profile = ask(Empirical(normal(100, 3), weights), [0.5, 50.0], queries=64)
    for name in BRACKETED:
        assert bool(np.isfinite(profile[name]).all()), name
    assert bool(np.isfinite(profile["mmse_se"]).all())


@pytest.mark.parametrize("dim", [1, 40])
def test_other_dimensions(dim: int) -> None:
    spread = np.where(np.arange(dim) < 3, 1.0, 0.1)
    profile = ask(normal(1000, dim) * spread, [0.3, 0.6], queries=256)
    truth = profile["snr"] ** 2 / (1 + profile["snr"] ** 2)
    low, _, high = ends(profile, "mean_localization")
    assert bool(((low < truth) & (truth < high)).all())
    assert float(profile["resolved_snr"]) == 0.6
    assert np.isnan(bottleneck(profile)["m_star"])


# The other question


def test_about_atoms_they_are_localized_as_they_are() -> None:
    law = Empirical(normal(50, 3))
    profile = probe(law, [0.5, 2.0], about="atoms", queries=40, seed=9, progress=False)
    first, second, *_ = seeds(9, count=4)
    x = law.sample(40, first)
    z = torch.randn(40, 3, generator=torch.Generator().manual_seed(second), dtype=torch.float64)
    path = law.localize_path(x, z.to(x), [0.5, 2.0])
    norm = path.norm.double().numpy()
    np.testing.assert_array_equal(profile["localization"], norm)
    np.testing.assert_array_equal(profile["mean_localization"], (norm * np.full_like(norm, 1 / 40)).sum(1))
    assert "resolved_snr" not in profile
    assert not [name for name in profile.data_vars if str(name).endswith(("_low", "_high"))]
    assert records.resolved(profile) is profile


def test_the_profile_says_what_was_asked(modes: xr.Dataset) -> None:
    assert modes.attrs["about"] == "law"
    assert probe([[0.0], [1.0]], [1.0], about="atoms", progress=False).attrs["about"] == "atoms"
    assert probe("normal", [1.0], progress=False).attrs["about"] == "law"
    xr.testing.assert_identical(
        ask(normal(64, 2), [1.0], queries=16), ask(normal(64, 2), [1.0], queries=16, about="law")
    )
