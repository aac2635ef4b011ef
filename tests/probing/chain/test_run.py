"""The account of a chain: what theory allows, beside what was measured; and what is refused."""

import inspect
import math

import numpy as np
import pytest
import xarray as xr

from brenier import chain, complexity
from brenier.laws.line.quadrature import localization_quadrature
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.run import densities

TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")
FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")
PLANE = GaussianMixture([0.5, 0.5], [[-1.0, 0], [1, 0]], 0.1, name="plane")


@pytest.fixture(scope="module")
def run():
    return chain(FOUR, 0.0, steps=10, eta=0.1, progress=False)


def test_rates_are_those_of_the_localization(run):
    k = 4
    snr = float(run.snr[k])
    assert snr == pytest.approx(1 / math.sqrt(math.expm1(2 * 0.4)))
    values, weights, about = localization_quadrature(FOUR, snr, np.empty(0), [1, 2, 5, 20])
    for name, rate in (("star", complexity.net_contraction), ("sharp", complexity.sharp_contraction)):
        expected = 2 - 2 * rate(values, [1.0, 2, 5, 20], snr, weights)
        np.testing.assert_allclose(run[f"rate_{name}"][k], expected, rtol=1e-9)
    assert float(run.rate_worst[k]) == pytest.approx(2 - 2 * (1 - about["sup_localization"]) / -math.expm1(-0.8))


def test_what_was_measured_is_within_what_is_allowed(run):
    assert np.all(run.w2_chain <= run.bound_worst * (1 + 1e-9))
    assert np.all(run.rate[1:] <= run.rate_worst[1:] + 0.1 * (run.rate_worst[1:] / 2) ** 2)
    assert np.all(run.rate_sharp[1:] <= run.rate_star[1:] + 1e-9)
    assert np.all(run.rate_sharp[1:] <= run.rate_worst[1:] + 1e-9)
    assert np.all(run.rate_star.diff("perturbation")[1:] >= -1e-9)
    assert float(run.ratio_chain) <= float(run.ratio_worst) * (1 + 1e-9)


def test_definitions_of_the_account(run):
    w2 = run.w2_chain.to_numpy()
    np.testing.assert_allclose(run.rate[1:], ((w2[:-1] / w2[1:]) ** 2 - 1) / 0.1, rtol=1e-12)
    assert math.isnan(float(run.rate[0]))
    assert float(run.ratio) == float(run.w2_backward[0] / run.w2_forward[0])
    for name in ("worst", "star", "sharp"):
        zeta = 1 - run[f"rate_{name}"][1:] / 2
        np.testing.assert_allclose(run[f"ratio_{name}"], np.exp(-0.1 * zeta.sum("step")), rtol=1e-12)
        np.testing.assert_allclose(run[f"bound_{name}"][0], w2[-1] * np.exp(0.1 * (1 - zeta).sum("step")), rtol=1e-12)
        np.testing.assert_allclose(run[f"bound_{name}"][-1], w2[-1])
    np.testing.assert_allclose(run.kl_chain, run.kl_forward[-1], rtol=1e-6)
    np.testing.assert_allclose(run.tv_chain, run.tv_forward[-1], atol=1e-3)
    assert np.all(run.richness >= 1 - 1e-3)
    assert math.isinf(float(run.snr[0]))
    np.testing.assert_allclose(run.time, 0.1 * np.arange(11))


@pytest.mark.parametrize("beta", [1, 2.5])
def test_gaussian_targets_attain_theorem_2(beta):
    s2, eta = 4.0, 0.01
    ds = chain(GaussianMixture([1], [1], s2), FOUR, steps=6, eta=eta, beta=beta, progress=False)
    variance = s2 * np.exp(-2 * ds.time[1:]) + -np.expm1(-2 * ds.time[1:]) / beta
    limit = 2 - 2 / (beta * variance)
    np.testing.assert_allclose(ds.rate_worst[1:], limit, rtol=1e-6)
    np.testing.assert_allclose(ds.rate[1:], limit + eta * (limit / 2) ** 2, rtol=1e-5)


def test_attributes_hold_what_was_run(run):
    about = run.attrs
    assert (about["law"], about["start"], about["method"]) == ("four-gaussians", "point 0", "quantiles")
    assert (about["steps"], about["eta"], about["n"], about["mode"]) == (10, 0.1, 0, "ode")
    assert about["distance"].startswith("quantile quadrature, ")
    assert run.sizes == {"step": 11, "perturbation": 4}


def test_particles_when_there_are_no_maps_or_no_formulas():
    for arguments in ({"mode": "sde"}, {"score_error": 0.1, "error_kind": "white"}, {"method": "particles"}):
        ds = chain(FOUR, 0.0, steps=2, n=64, progress=False, **arguments)
        assert ds.attrs["method"] == "particles"
        assert ds.attrs["n"] == 64
        assert "w2_chain_se" in ds
        assert "kl_forward" not in ds
    ds = chain(np.random.default_rng(0).normal(size=(40, 2)), "normal", steps=2, n=64, progress=False)
    assert ds.attrs["method"] == "particles"
    assert ds.attrs["dim"] == 2


def test_same_seed_same_result(tmp_path):
    files = [bytes(chain(PLANE, steps=2, n=64, seed=3, progress=False).to_netcdf(engine="h5netcdf")) for _ in range(2)]
    assert files[0] == files[1]


def test_a_chain_of_a_law_from_itself():
    ds = chain(FOUR, FOUR, steps=2, progress=False)
    assert np.all(ds.w2_forward == 0)
    assert math.isnan(float(ds.ratio))
    assert np.all(np.isnan(ds.rate))


def test_one_step_and_one_point():
    ds = chain(GaussianMixture([1], [3], 0.0), -1.0, steps=1, eta=0.5, progress=False)
    np.testing.assert_allclose(ds.w2_forward, [4, 4 * math.exp(-0.5)])
    slope = 1 + 0.5 - 0.5 / -math.expm1(-1)
    np.testing.assert_allclose(ds.w2_chain, [4 * math.exp(-0.5) * slope, 4 * math.exp(-0.5)])


def test_a_very_long_step_does_not_fold():
    ds = chain(TWO, 0.0, steps=2, eta=5.0, progress=False)
    assert np.all(np.isfinite(ds.w2_chain))


def test_densities_are_labelled_and_integrate_to_one():
    ds = densities(FOUR, "normal", steps=4, eta=0.1, points=2001)
    assert ds.sizes == {"step": 5, "x": 2001}
    for name in ("forward_target", "forward_start", "backward_target", "backward_start"):
        np.testing.assert_allclose(ds[name].integrate("x"), 1, atol=3e-3)
    assert np.all(np.isnan(densities(TWO, 0.0, steps=1, eta=0.1).forward_target[0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": -3}, "at least 1, got -3"),
        ({"eta": 0.0}, "eta must be positive and finite, got 0.0"),
        ({"eta": -0.1}, "eta must be positive and finite"),
        ({"eta": math.nan}, "eta must be positive and finite"),
        ({"eta": 4.0}, "reaches time 400, where nothing of the target is left in float64: the largest eta is 3.5"),
        ({"eta": 2.0, "mode": "sde", "steps": 3}, "step 1 of the reverse SDE unstable: it must be below 1.915"),
        ({"eta": 1e-320}, "too short a step for float64: give at least 1e-12"),
        ({"beta": 0.0}, "beta must be positive"),
        ({"start": [1.0, 2.0]}, "a point of 2 coordinates, four-gaussians has 1 dimension"),
        ({"start": PLANE}, r"points of plane have shape \(2,\), those of four-gaussians \(1,\)"),
        ({"perturbations": [0.5]}, "at least 1"),
        ({"perturbations": []}, "perturbations must be numbers"),
        ({"n": 1}, "n must be a whole number from 2"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"method": "quantiles", "mode": "sde"}, "a stochastic step is no map: use particles"),
        ({"method": "quantiles", "score_error": 0.1, "error_kind": "white"}, "a white error is no map: use particles"),
        ({"score_error": -0.1}, "at least 0, got -0.1"),
        ({"score_error": 0.1, "error_band": (2.0, 1.0)}, "from low to high"),
        ({"score_error": 300.0, "steps": 5}, r"step \d of 5 folds, its map's slope falls to .* eta must be below"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        chain(FOUR, **{"steps": 100, "eta": 0.01, "progress": False, **arguments})


def test_quantiles_need_a_formula():
    with pytest.raises(ValueError, match="is no explicit law on the line: use particles"):
        chain(PLANE, method="quantiles", progress=False)


def test_variables_say_what_they_are_and_keep_it_in_files(run, tmp_path):
    by_particles = chain(PLANE, steps=1, n=64, score_error=0.1, progress=False)
    assert by_particles.w2_chain_se.attrs == {
        "long_name": "standard error of W2(mubar, nubar), on the way back",
        "units": "unit of the data",
    }
    for number, data in enumerate((run, by_particles, densities(FOUR, "normal", steps=1))):
        (tmp_path / f"{number}.nc").write_bytes(bytes(data.to_netcdf(engine="h5netcdf")))
        read = xr.load_dataset(tmp_path / f"{number}.nc", engine="h5netcdf")
        for name, variable in data.variables.items():
            assert set(variable.attrs) == {"long_name", "units"}
            assert read[name].variable.identical(variable)


def test_whole_numbers_may_come_as_floats():
    # Past the tests' own check of types, as users are.
    unchecked, unchecked_densities = inspect.unwrap(chain), inspect.unwrap(densities)
    found = unchecked(FOUR, 0.0, steps=2.0, n=64.0, seed=3.0, method="particles", progress=False)
    xr.testing.assert_identical(found, chain(FOUR, 0.0, steps=2, n=64, seed=3, method="particles", progress=False))
    assert unchecked_densities(FOUR, "normal", steps=2.0).sizes["step"] == 3
    for wrong in (1.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"steps must be a whole number of at least 1, got {wrong}"):
            unchecked(FOUR, 0.0, steps=wrong)
        with pytest.raises(ValueError, match="seed must be a whole number"):
            unchecked(FOUR, 0.0, seed=wrong)
