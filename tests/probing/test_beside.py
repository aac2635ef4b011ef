"""A model of the law behind data, profiled beside them."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from brenier import GaussianMixture, fit_mixture, load_target, probe
from brenier.probing.beside import CURVES
from brenier.probing.bottleneck import disputed
from brenier.probing.likelihood import log_likelihood

MEANS = [[1.5, 0.0, 0.0], [-1.5, 0.0, 0.0]]
LAW = GaussianMixture([0.5, 0.5], MEANS, 0.49, name="true")
DOUBLED = GaussianMixture([0.5, 0.5], 2 * np.asarray(MEANS), 4 * 0.49, name="doubled")
SNRS = [0.4, 0.8, 1.2, 2.0, 8.0]
POINTS = LAW.sample(1500, 3).numpy()


def beside(model: Any, **options: Any) -> xr.Dataset:
    return probe(POINTS, SNRS, model=model, **{"queries": 256, "progress": False, **options})


@pytest.fixture(scope="module")
def mixture() -> xr.Dataset:
    return beside("mixture")


@pytest.fixture(scope="module")
def true() -> xr.Dataset:
    return beside(LAW)


def test_a_mixture_is_fitted_and_its_refits_say_what_it_leaves_open(mixture: xr.Dataset) -> None:
    fit = fit_mixture(load_target(POINTS), progress=False)
    assert mixture.attrs["model"] == fit.law.name
    assert mixture.attrs["model_held_out"] == fit.held_out
    assert mixture.attrs["model_held_out_se"] == fit.held_out_se
    exact = probe(LAW, SNRS, queries=1024, progress=False)
    for name in CURVES:
        low, value, high = (mixture[f"model_{name}{end}"] for end in ("_low", "", "_high"))
        assert low.dims == ("snr",)
        assert bool(((low <= value) & (value <= high)).all())
        assert bool((low < high).any())
        assert float(abs(value - exact[name]).max()) < 0.1
    assert float(mixture["snr"][-1]) > float(mixture["resolved_snr"])  # where only the model says anything
    assert disputed(mixture) == []


def test_a_law_is_a_model_with_two_standard_errors_to_each_side(true: xr.Dataset) -> None:
    own = probe(LAW, SNRS, queries=1024, method="monte-carlo", progress=False)
    for name in CURVES:
        np.testing.assert_array_equal(true[f"model_{name}"], own[name])
        np.testing.assert_allclose(true[f"model_{name}_high"], own[name] + 2 * own[f"{name}_se"])
        np.testing.assert_allclose(true[f"model_{name}_low"], (own[name] - 2 * own[f"{name}_se"]).clip(0))
    assert true.attrs["model"] == "true"
    assert "model_held_out" not in true.attrs


def test_a_model_changes_nothing_of_what_the_data_tell(mixture: xr.Dataset, true: xr.Dataset) -> None:
    plain = probe(POINTS, SNRS, queries=256, progress=False)
    for profile in (mixture, true):
        rest = profile.drop_vars([name for name in profile.data_vars if str(name).startswith("model_")])
        xr.testing.assert_equal(rest, plain)


def test_a_model_on_the_line_may_be_given_by_name() -> None:
    points = load_target("four-gaussians").sample(400, 0).numpy()
    profile = probe(points, [0.3, 0.6], queries=128, model="four-gaussians", progress=False)
    assert profile.attrs["model"] == "four-gaussians"
    assert disputed(profile) == []


def test_a_network_is_a_model_whose_queries_are_the_data() -> None:
    digits, network = load_target("digits"), load_target("digits-network")
    profile = probe(digits, [0.2], queries=64, model="digits-network", progress=False)
    own = probe(network.with_data(digits), [0.2], queries=network.default_queries, progress=False)
    np.testing.assert_allclose(profile["model_mean_localization"], own["mean_localization"], rtol=1e-5)
    said = tuple(profile.attrs[f"model_held_out{end}"] for end in ("", "_se", "_sigma"))
    assert said == log_likelihood(network.with_data(digits), digits, 512)


def test_a_wrong_model_is_disputed_where_the_data_can_tell(true: xr.Dataset) -> None:
    assert disputed(true) == []
    wrong = beside(DOUBLED)
    resolved = float(wrong["resolved_snr"])
    assert resolved >= 1.2
    off = disputed(wrong)
    assert {0.4, 0.8} <= set(off)
    assert max(off) <= resolved
    nothing = wrong.assign(resolved_snr=((), np.nan))
    assert disputed(nothing) == []


@pytest.mark.parametrize(
    ("law", "options"), [(LAW, {}), ("normal", {}), (POINTS, {"about": "atoms"}), ("digits-network", {"queries": 2})]
)
def test_what_is_no_law_behind_data_takes_no_model(law: Any, options: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"a model says what data cannot tell about their law: .* is not asked for that"
    ):
        probe(law, [1.0], model="mixture", progress=False, **options)


def test_a_model_of_other_dimensions_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brenier.probing.profile.look_behind", None)
    with pytest.raises(ValueError, match=r"^normal lives in 1 dimensions and data in 3: it is no model of it$"):
        probe(POINTS, SNRS, model="normal", progress=False)
