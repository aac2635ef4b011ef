"""A probe's numbers against exact ones, its error bars against repetition, and its summary against both."""

import numpy as np
import pytest
import torch
import xarray as xr

from brenier import Empirical, GaussianMixture, Uniform, bottleneck, complexity, default_snrs, probe
from brenier.laws.base import Target
from brenier.laws.line.quadrature import localization_quadrature
from brenier.probing.bottleneck import needed

FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1])
POINTS = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))


def rotated(first: float, spread: float) -> GaussianMixture:
    """(A, B) turned by 0.6 rad: A = +-first with equal chances, B normal with variance spread, independent."""
    cos, sin = np.cos(0.6), np.sin(0.6)
    turn = np.array([[cos, -sin], [sin, cos]])
    means = np.array([[-first, 0.0], [first, 0.0]]) @ turn.T
    return GaussianMixture([0.5, 0.5], means, [turn @ np.diag([0.0, spread]) @ turn.T] * 2)


def exact(first: float, spread: float, snr: float, richness: list[float]) -> dict[str, np.ndarray]:
    """The law of L = max(L_A, L_B) of `rotated`, with L_B constant, by quadrature over A."""
    line = GaussianMixture([0.5, 0.5], [-first, first], 0.0)
    other = snr**2 * spread / (1 + snr**2 * spread)
    values, weights, summary = localization_quadrature(line, snr, np.linspace(0, 3, 301), richness)
    joint = np.maximum(values, other)
    return {
        "mean_localization": np.average(joint, weights=weights),
        "survival": complexity.survival(joint, [0.8, 1.0], weights),
        "integrated_tail": complexity.integrated_tail(joint, [0.0, 0.5], weights),
        "m_star": complexity.minimal_relative_tail(joint, weights)[0],
        "zeta_star": complexity.net_contraction(joint, richness, snr, weights),
        "zeta_sharp": complexity.sharp_contraction(joint, richness, snr, weights),
        "mmse": summary["mmse"] + other / snr**2,
    }


def test_monte_carlo_intervals_cover_the_exact_values_as_often_as_they_say(monkeypatch):
    """95% intervals over 200 seeds, for every figure: between 90% and 99% of them hold the truth."""
    monkeypatch.setattr("brenier.probing.profile.REPLICATES", 2)  # none of these intervals comes from the bootstrap
    richness = [1.0, 3.0]
    truth = exact(1.2, 0.5, 1.4, richness)
    target = rotated(1.2, 0.5)
    inside = {name: np.zeros(np.shape(value)) for name, value in truth.items()}
    for seed in range(200):
        profile = probe(target, [1.4], queries=400, perturbations=richness, seed=seed, progress=False)
        for name, value in truth.items():
            got, error = profile[name][0], profile[f"{name}_se"][0]
            if name == "survival":
                got, error = got.sel(u=[0.8, 1.0]), error.sel(u=[0.8, 1.0])
            if name == "integrated_tail":
                got, error = got.sel(delta=[0.0, 0.5]), error.sel(delta=[0.0, 0.5])
            inside[name] += np.abs(got.to_numpy() - value) <= 1.96 * error.to_numpy()
    for name, count in inside.items():
        assert np.all(count >= 180), (name, count)
        assert np.all(count <= 198), (name, count)


def test_monte_carlo_on_the_line_agrees_with_quadrature():
    snrs = [0.3, 1.0, 3.0]
    exact_profile = probe(FOUR, snrs, progress=False)
    sampled = probe(FOUR, snrs, queries=4000, method="monte-carlo", progress=False)
    assert (exact_profile.attrs["method"], sampled.attrs["method"]) == ("quadrature", "monte-carlo")
    for name in ("mean_localization", "m_star", "mmse", "zeta_star", "zeta_sharp"):
        distance = np.abs(sampled[name] - exact_profile[name]) / np.maximum(sampled[f"{name}_se"], 1e-12)
        assert float(distance.max()) < 4.5, name


def test_the_mean_squared_error_is_that_of_the_denoiser():
    target = rotated(1.0, 0.3)
    profile = probe(target, [0.5, 2.0], queries=4000, progress=False)
    x = target.sample(40_000, seed=11)
    z = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    for k, snr in enumerate([0.5, 2.0]):
        square = (target.denoise(snr * x + z, snr) - x).square().sum(1)
        error = np.hypot(float(square.std()) / 200, float(profile["mmse_se"][k]))
        assert abs(float(square.mean()) - float(profile["mmse"][k])) < 4 * error


def test_the_default_grid_runs_from_all_noise_to_all_resolved():
    for target in (FOUR, Uniform(-1, 1), rotated(1, 0.2), Empirical(POINTS)):
        grid = default_snrs(target)
        assert len(grid) == 32
        about = "atoms" if target.atoms else None
        profile = probe(target, grid[[0, -1]], about=about, queries=200, progress=False)
        assert float(profile["mean_localization"][0]) < 0.011
        smallest, largest = target.scales()
        assert grid[0] == pytest.approx(0.1 / largest)
        assert grid[-1] == pytest.approx(10 / smallest)


def test_given_snrs_are_kept_exactly_in_ascending_order():
    profile = probe("normal", [3.0, 0.1, 1 / 3], progress=False)
    assert profile["snr"].to_numpy().tolist() == [0.1, 1 / 3, 3.0]
    np.testing.assert_array_equal(profile["sigma"], 1 / profile["snr"])
    np.testing.assert_allclose(profile["time"], np.log1p(1 / profile["snr"] ** 2) / 2)


def test_the_bottleneck_of_two_points_is_where_its_complexity_peaks():
    profile = probe("two-points", np.geomspace(0.5, 8, 41), progress=False)
    found = bottleneck(profile)
    assert found["onset_snr"] == pytest.approx(1, abs=1e-6)
    assert found["snr"] == float(profile["snr"][int(profile["m_star"].to_numpy().argmax())])
    assert found["snr_low"] < found["snr"] < found["snr_high"]
    assert found["sigma"] == pytest.approx(1 / found["snr"])
    assert found["hard_low"] > 1 > found["hard_low"] / 1.08
    assert found["half_low"] < found["snr"] < found["half_high"]
    assert np.isnan(found["speciation_snr"])  # E L_r stays below 1: 0.45 at most
    assert float(profile["mean_localization"].max()) < 1
    assert np.isnan(found["collapse_snr"])


def test_a_log_concave_law_has_no_bottleneck():
    found = bottleneck(probe("uniform", progress=False))
    assert np.isnan(found["snr"])
    assert found["onset_snr"] == np.inf


def test_data_speciate_and_collapse_where_their_curves_cross():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(300, 8, generator=generator) * 0.3
    points[:150, 0] += 3
    profile = probe(Empirical(points), about="atoms", queries=400, progress=False)
    found = bottleneck(profile)
    log_r = np.log(profile["snr"].to_numpy())
    mean = np.exp(np.interp(np.log(found["speciation_snr"]), log_r, np.log(profile["mean_localization"])))
    assert mean == pytest.approx(1)
    ess = np.exp(np.interp(np.log(found["collapse_snr"]), log_r, np.log(profile["ess"])))
    assert ess == pytest.approx(2)
    assert found["onset_snr"] < found["speciation_snr"] < found["collapse_snr"]


def test_held_out_queries_are_not_atoms():
    points = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    near, far = (
        probe(Empirical(points), [20.0], about="atoms", queries=300, holdout=share, progress=False)
        for share in (None, 0.2)
    )
    assert (far.attrs["holdout"], far.attrs["atoms"], near.attrs["atoms"]) == (0.2, 400, 400)
    # Past the collapse a query sits on its own atom; a held-out one has none, and its error is a step to a neighbour.
    assert float(far["mmse"][0]) > 0
    assert float(near["mean_localization"][0]) < float(far["mean_localization"][0]) + 1e-9


@pytest.mark.parametrize("target", ["four-gaussians", rotated(1, 0.2), Empirical(torch.ones(40, 70).cumsum(0))])
def test_same_seed_same_profile_bit_for_bit(target):
    one, two = (probe(target, [0.01, 1.0], queries=100, seed=5, progress=False) for _ in range(2))
    xr.testing.assert_identical(one, two)
    if one.attrs["method"] == "monte-carlo":
        other = probe(target, [0.01, 1.0], queries=100, seed=6, progress=False)
        assert not np.array_equal(other["localization"], one["localization"])


def test_a_single_query_has_no_standard_error():
    profile = probe(rotated(1, 0.2), [1.0], queries=1, progress=False)
    assert np.isnan(float(profile["mean_localization_se"][0]))
    assert np.isfinite(float(profile["mean_localization"][0]))


def test_infinite_richness_is_the_worst_case():
    profile = probe("normal", [2.0], perturbations=[np.inf], progress=False)
    # [LDK24] Example 2 with sigma = 1: zeta_inf = 1/(1 + e^-2t (1 - 1)) = 1.
    assert float(profile["zeta_star"][0, 0]) == pytest.approx(1)
    sampled = probe(rotated(1, 0.2), [2.0], queries=50, perturbations=[np.inf], progress=False)
    assert float(sampled["zeta_sharp"][0, 0]) == pytest.approx((1 - float(sampled["sup_localization"][0])) * 5)


def test_temperature_changes_the_time_and_the_rate_of_a_step_but_not_the_law():
    cold, warm = (probe("two-points", [1.5], beta=beta, progress=False) for beta in (4.0, 1.0))
    np.testing.assert_array_equal(cold["localization"], warm["localization"])
    assert float(cold["time"][0]) == pytest.approx(np.log1p(4 / 2.25) / 2)
    ratio = float(cold["zeta_star"][0, 1] / warm["zeta_star"][0, 1])
    assert ratio == pytest.approx((1 + 2.25 / 4) / (1 + 2.25))


def test_levels_may_be_given_as_sigmas():
    xr.testing.assert_identical(
        probe("two-points", sigmas=[2.0, 0.5], progress=False), probe("two-points", [0.5, 2.0], progress=False)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"snrs": [0.0, 1.0]}, "every SNR must be positive and finite"),
        ({"snrs": [np.inf]}, "every SNR must be positive and finite"),
        ({"snrs": []}, "at least one number"),
        ({"snrs": [1.0, 1.0]}, "given twice"),
        ({"snrs": [1.0], "sigmas": [1.0]}, "give one of them"),
        ({"queries": 0}, "queries must be a whole number"),
        ({"perturbations": [0.5]}, "at least 1"),
        ({"perturbations": []}, "at least 1"),
        ({"beta": 0.0}, "beta must be positive"),
        ({"seed": -1}, "seed must be"),
        ({"max_memory": 0.0}, "max_memory must be positive"),
        ({"holdout": 0.2}, "holdout needs data"),
        ({"law": Empirical(torch.randn(10, 2)), "about": "atoms", "holdout": 1.5}, "must lie in"),
        (
            {"law": Empirical(torch.randn(40, 2)), "holdout": 0.2},
            r"or ask with about='atoms' \(--about",
        ),
        ({"law": Empirical(torch.randn(10, 2))}, "has 10 distinct points: .* needs at least 32"),
        ({"law": Empirical(torch.ones(500, 2))}, "has 1 distinct point: "),
        ({"about": "atoms"}, "about='atoms' needs data"),
        ({"law": Empirical(torch.randn(10, 2)), "method": "quadrature"}, "use monte-carlo"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    target: Target = arguments.get("law", FOUR)
    rest = {name: value for name, value in arguments.items() if name != "law"}
    # Where the annotation alone would stop a bad value, the checker of the tests comes before our own message.
    call = getattr(probe, "__wrapped__", probe)
    with pytest.raises(ValueError, match=message):
        call(target, progress=False, **rest)


def test_a_dataset_that_is_no_profile_is_refused():
    with pytest.raises(ValueError, match="not a profile"):
        bottleneck(xr.Dataset({"x": 1.0}))


def behind(resolved: float, **values: list[float]) -> xr.Dataset:
    """A profile about the law behind data, with two modes or what is given of it."""
    known = {
        "m_star": [0.0, 0.2, 0.5, 0.3, 0.9],
        "m_star_low": [0.0, 0.1, 0.4, 0.2, 0.0],
        "delta_star": [1.0, 0.9, 0.8, 0.7, 0.6],
        "mean_localization": [0.1, 0.4, 0.8, 1.6, 3.0],
        "ess": [1000.0, 500.0, 200.0, 100.0, 1.0],
        "bracket_width": [0.01, 0.05, 0.1, 0.2, 2.0],
        "effective_dimension": [4.0, 4.0, 3.0, 2.0, 1.0],
    } | values
    variables: dict = {name: ("snr", each) for name, each in known.items()}
    variables |= {"resolved_snr": ((), resolved), "onset_snr": ((), 0.5)}
    return xr.Dataset(variables, {"snr": [0.5, 1.0, 2.0, 4.0, 8.0]}, {"kind": "profile", "beta": 1.0, "atoms": 1000})


def test_the_bottleneck_behind_data_is_sought_where_they_can_tell():
    found = bottleneck(behind(4.0))
    assert (found["snr"], found["m_star"], found["resolved_snr"]) == (2.0, 0.5, 4.0)
    assert (found["hard_low"], found["hard_high"]) == (1.0, 4.0)
    assert (found["half_low"], found["half_high"]) == (2.0, 4.0)
    assert found["speciation_snr"] == pytest.approx(2 * 2 ** (np.log(1.25) / np.log(2)))
    assert np.isnan(found["collapse_snr"])  # which is past what they resolve
    last = bottleneck(behind(1.0))
    assert (last["snr"], last["hard_high"]) == (1.0, 1.0)
    assert np.isnan(last["speciation_snr"])


def test_behind_data_m_star_counts_where_its_bracket_is_above_zero():
    found = bottleneck(behind(4.0, m_star_low=[0.0, 0.0, 0.0, 0.2, 0.0]))
    assert (found["snr"], found["m_star"], found["hard_low"]) == (4.0, 0.3, 4.0)
    none = bottleneck(behind(4.0, m_star_low=[0.0] * 5))
    assert np.isnan(none["snr"])
    assert none["resolved_snr"] == 4.0


def test_where_nothing_is_resolved_nothing_is_hard():
    found = bottleneck(behind(np.nan))
    for name in ("snr", "m_star", "hard_low", "half_high", "resolved_snr", "speciation_snr", "collapse_snr", "time"):
        assert np.isnan(found[name]), name
    assert found["onset_snr"] == 0.5


def test_other_profiles_are_resolved_throughout():
    assert bottleneck(probe("two-points", [1.5], progress=False))["resolved_snr"] == np.inf


def test_how_many_data_would_be_needed():
    """n_e in proportion to (width/0.2)^2 and to the effective dimension, 64 at least; N in proportion to n_e."""
    assert needed(behind(2.0)) == (4.0, pytest.approx(1000 * max(64, 2 * 0.5**2 * 200 / 3) / 100))
    wide = behind(4.0, bracket_width=[0.01, 0.05, 0.1, 0.2, 2.0], ess=[1000, 500, 400, 300, 3])
    assert needed(wide) == (8.0, pytest.approx(1000 * (1 / 2 * 300) / 3))
    assert needed(behind(np.nan, bracket_width=[0.4] * 5))[0] == 0.5
    assert needed(behind(np.nan, bracket_width=[0.4] * 5))[1] == pytest.approx(1000 * 4)


def test_data_are_needed_past_what_is_resolved():
    """On a coarse grid, too, where the last SNR resolved is the nearest to twice itself."""
    profile = behind(4.0).isel(snr=[0, 3, 4]).assign_coords(snr=[0.5, 4.0, 400.0])
    assert needed(profile)[0] == 400.0
    assert needed(behind(8.0))[0] == 8.0
