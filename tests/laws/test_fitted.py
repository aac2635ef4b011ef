"""Mixtures fitted to draws of known ones, against these; and what must not change the choice."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch

from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.laws.fitted import MixtureFit, fit_mixture
from brenier.laws.mixture import GaussianMixture

TURNED = [[2.0, 1.2, 0.0], [1.2, 1.0, 0.3], [0.0, 0.3, 0.5]]
KNOWN = {
    "two spheres": (GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [2.0, 1.0]], [0.25, 1.0]), 2, "spherical"),
    "a normal": (GaussianMixture([1.0], [[3.0, 0.0, -1.0]], [TURNED]), 1, "full"),
    "three along the axes": (
        GaussianMixture([1, 1, 1], [[-5, 0], [5, 0], [0, 5]], [[0.1, 2.0], [1.0, 0.1], [3.0, 0.2]]),
        3,
        "diag",
    ),
    "one matrix": (
        GaussianMixture([1, 2], [[-3, 0, 0], [3, 0, 0]], [TURNED, TURNED]),
        2,
        "tied",
    ),
    "on the line": (GaussianMixture([2, 1], [-3, 3], [1.0, 0.04]), 2, "spherical"),
}


def fit(data, **options) -> MixtureFit:
    return fit_mixture(data, progress=False, **options)


def two_modes(n=200, seed=0):
    return KNOWN["two spheres"][0].sample(n, seed)


def points_held_out(data, monkeypatch, **options):
    """The points that a fit judged its candidates by, and the fit."""
    from sklearn.mixture import GaussianMixture as Estimator

    judged = []
    score = Estimator.score_samples

    def spy(self, points):
        judged.append(points)
        return score(self, points)

    monkeypatch.setattr(Estimator, "score_samples", spy)
    found = fit(data, **options)
    assert all(np.array_equal(points, judged[0]) for points in judged)
    return judged[0], found


@pytest.mark.parametrize("case", KNOWN)
def test_a_known_mixture_is_found_again(case):
    law, size, kind = KNOWN[case]
    found = fit(law.sample(2000, seed=1), refits=2)
    assert (found.components, found.covariance_type) == (size, kind)
    assert (found.law.name, found.refits[1].name) == (
        f"mixture of {size} for data",
        f"mixture of {size} for data, refit 2",
    )
    order = found.law.means[:, 0].argsort()
    true = law.means[:, 0].argsort()
    assert found.law.means[order].numpy() == pytest.approx(law.means[true].numpy(), abs=0.25)
    assert found.law.weights[order].numpy() == pytest.approx(law.weights[true].numpy(), abs=0.04)
    for fitted in (found.law, *found.refits):
        for got, expected in zip(fitted.moments(), law.moments(), strict=True):
            assert got.numpy() == pytest.approx(expected.numpy(), abs=0.15 * law.scales()[1] ** 2)
    # On fresh points the truth is better, and not by much; what was held out said so within its error.
    fresh = law.sample(4000, seed=2)
    lost = law.density()(fresh) - found.law.density()(fresh)
    assert -3 * float(lost.std()) / math.sqrt(len(fresh)) < float(lost.mean()) < 0.03
    expected = float(found.law.density()(fresh).mean())
    assert abs(found.held_out - expected) < 4 * found.held_out_se


@pytest.mark.parametrize("seed", range(2))
def test_no_candidate_is_better_than_the_truth(seed, monkeypatch):
    law, _, _ = KNOWN["three along the axes"]
    data = law.sample(600, seed)
    out, found = points_held_out(data, monkeypatch, seed=seed, refits=0)
    centre, unit = data.mean(0), float(data.var(0, correction=0).mean().sqrt())
    true = law.density()(torch.from_numpy(out) * unit + centre)
    assert len(true) == 120
    error = float(true.std()) / math.sqrt(len(true))
    assert found.held_out == pytest.approx(float(true.mean()), abs=error)
    assert max(tried.held_out for tried in found.candidates) < float(true.mean()) + error
    assert found.held_out_se == pytest.approx(error, rel=0.2)


def test_refits_differ_from_the_law_by_its_standard_error():
    data = GaussianMixture([1.0], [[0.0, 0.0]], 1.0).sample(1000, seed=3)
    found = fit(data, components=1, covariance_types=["spherical"], refits=40)
    off = torch.stack([refit.means[0] - found.law.means[0] for refit in found.refits])
    assert float(off.square().mean().sqrt()) == pytest.approx(1 / math.sqrt(1000), rel=0.25)
    assert len({tuple(refit.means.flatten().tolist()) for refit in found.refits}) == 40


def test_the_law_is_fitted_to_all_points():
    data = two_modes(300)
    found = fit(data, components=1, covariance_types=["full"], refits=0)
    assert found.points == 300
    assert found.law.means[0].numpy() == pytest.approx(data.mean(0).numpy(), abs=1e-12)
    covariance = torch.cov(data.T, correction=0) + found.floor * torch.eye(2)
    assert found.law.components.covariances()[0].numpy() == pytest.approx(covariance.numpy(), abs=1e-10)


@pytest.mark.parametrize("scale", [2.0**-300, 1e-6, 1e6, 2.0**300])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_units_change_the_likelihood_by_the_jacobian_and_nothing_else(scale, shift):
    data = two_modes(120)
    first, second = (fit(x, components=[1, 2, 4], refits=1) for x in (data, (data + shift) * scale))
    assert [c[:2] for c in first.candidates] == [c[:2] for c in second.candidates]
    assert (first.components, first.covariance_type) == (second.components, second.covariance_type)
    jacobian = 2 * math.log(scale)
    assert second.held_out == pytest.approx(first.held_out - jacobian, abs=1e-7)
    assert second.held_out_se == pytest.approx(first.held_out_se, rel=1e-6)
    for a, b in ((first.law, second.law), (first.refits[0], second.refits[0])):
        assert (b.means / scale - shift).numpy() == pytest.approx(a.means.numpy(), abs=1e-7)
        assert (b.variances / scale**2).numpy() == pytest.approx(a.variances.numpy(), rel=1e-6)


def test_copies_of_a_point_stay_on_one_side(monkeypatch):
    data = two_modes(60).repeat_interleave(torch.arange(60) % 4 + 1, dim=0)
    out, found = points_held_out(data, monkeypatch, refits=0)
    assert len(out) == len(np.unique(out, axis=0)) == 12
    # A copy is fitted to, or judged by, never both: each model's data lack the points held out.
    assert found.points == len(data)
    assert max(tried.components for tried in found.candidates) <= 48 // 10


def test_twice_the_data_say_no_more_than_once():
    data = two_modes(100)
    once, twice = fit(data, refits=0), fit(torch.cat([data, data]), refits=0)
    assert (once.components, once.covariance_type) == (twice.components, twice.covariance_type)
    assert twice.held_out == pytest.approx(once.held_out, abs=1e-6)
    assert twice.held_out_se == pytest.approx(once.held_out_se, rel=1e-6)


def test_constant_coordinates_are_given_the_floor():
    data = torch.cat([torch.full((300, 1), 0.1).double(), two_modes(300), torch.full((300, 1), -7.0)], 1)
    found = fit(data)
    assert found.components == 2
    for law in (found.law, *found.refits):
        assert law.means[:, [0, 3]].numpy() == pytest.approx(np.tile(data[0, [0, 3]], (2, 1)), abs=1e-12)
        covariance = law.components.covariances()
        assert covariance[:, 0, 0].numpy() == pytest.approx(found.floor, rel=1e-6)
        assert covariance[:, 3, 3].numpy() == pytest.approx(found.floor, rel=1e-6)
    assert found.floor == pytest.approx(1e-6 * float(two_modes(300).var(0, correction=0).mean()))


def test_rounded_data_are_resolved_no_finer_than_they_are_rounded():
    rounded = (two_modes(400) * 4).round() / 4
    found = fit(rounded.float() / 7, refits=0)
    assert found.floor == pytest.approx((0.25 / 7) ** 2 / 12, rel=1e-3)
    assert found.components == 2
    assert float(found.law.variances.min()) > found.floor


def test_the_same_seed_gives_the_same_fit():
    data = two_modes(150)
    first, second, other = (fit(data, components=[1, 2, 5], seed=seed) for seed in (4, 4, 5))
    assert first.candidates == second.candidates
    assert torch.equal(first.law.means, second.law.means)
    assert all(torch.equal(a.means, b.means) for a, b in zip(first.refits, second.refits, strict=True))
    assert first.candidates != other.candidates


@pytest.mark.parametrize("kind", ["list", "array", "tensor", "law"])
def test_data_may_be_whatever_makes_an_empirical_law(kind):
    array = two_modes(60).numpy().reshape(60, 2, 1)
    given = {"list": array.tolist, "array": lambda: array, "tensor": lambda: torch.from_numpy(array)}
    data = given[kind]() if kind in given else Empirical(array, name="pairs", dtype=torch.float64)
    found = fit(data, components=2, refits=1)
    assert found.law.name == ("mixture of 2 for pairs" if kind == "law" else "mixture of 2 for data")
    assert found.law.event_shape == found.refits[0].event_shape == (2, 1)
    assert found.law.dtype == torch.float64
    assert isinstance(found.law, Target)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.components = 3


def test_numbers_of_components_and_types_that_are_asked_for_are_tried():
    found = fit(two_modes(200), components=[5, 2], covariance_types=["spherical", "full"], refits=0)
    assert [tried[:2] for tried in found.candidates] == [(2, "full"), (5, "full"), (2, "spherical"), (5, "spherical")]
    assert found.components == 2
    line = fit(torch.randn(100, generator=torch.Generator().manual_seed(0)), components=1, refits=0)
    assert [tried[:2] for tried in line.candidates] == [(1, "spherical"), (1, "tied")]
    assert line.covariance_type == "spherical"


def test_a_climb_ends_with_its_second_failure():
    found = fit(KNOWN["a normal"][0].sample(500), covariance_types=["full"], refits=0)
    assert [tried.components for tried in found.candidates] == [1, 2, 3]


def test_matrices_are_not_tried_in_many_dimensions():
    data = torch.randn(60, 300, generator=torch.Generator().manual_seed(0))
    found = fit(data, refits=0)
    assert {tried.covariance_type for tried in found.candidates} == {"diag", "spherical"}
    assert (found.components, found.covariance_type) == (1, "spherical")
    with pytest.raises(ValueError, match="of type full are fitted in up to 256 dimensions, points have 300"):
        fit(data, covariance_types=["full"])


def test_of_very_many_points_some_are_drawn(monkeypatch):
    monkeypatch.setattr("brenier.laws.fitted._POINTS", 150)
    found = fit(two_modes(400), refits=1)
    assert found.points == 150
    assert found.components == 2


def test_a_fit_that_does_not_converge_says_so_and_warns_nobody(monkeypatch):
    monkeypatch.setattr("brenier.laws.fitted._STEPS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit(two_modes(200), components=[1, 8])
    assert {tried.converged for tried in found.candidates if tried.components == 1} == {True}
    assert {tried.converged for tried in found.candidates if tried.components == 8} == {False}


def test_weights_are_refused():
    data = two_modes(50)
    with pytest.raises(ValueError, match="scikit-learn's mixtures take none"):
        fit(Empirical(data, torch.arange(50) + 1))
    assert fit(Empirical(data, torch.full((50,), 3.0)), refits=0).points == 50


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (two_modes(19), {}, "19 distinct points: a mixture is chosen from at least 20"),
        (two_modes(10).repeat(10, 1), {}, "10 distinct points"),
        (torch.zeros(100, 3), {}, "1 distinct points"),
        (two_modes(50), {"holdout": 0.01}, "leaves 50 of 50 distinct points to fit to and 0"),
        (two_modes(50), {"holdout": 1.0}, "holdout must lie in"),
        (two_modes(50), {"floor": 0.0}, "floor must lie in"),
        (two_modes(50), {"components": 5}, "too few for components=5"),
        (two_modes(50), {"components": 0}, "components must be a whole number"),
        (two_modes(50), {"components": []}, "components must be a whole number"),
        (two_modes(50), {"covariance_types": ["round"]}, "covariance_types must be some of full, tied"),
        (two_modes(50), {"covariance_types": []}, "covariance_types must be some of"),
        (two_modes(50), {"refits": -1}, "refits must be"),
        (two_modes(50), {"seed": -1}, "seed must be"),
        (two_modes(50) * 1e200, {}, "has no square in float64"),
        (two_modes(50) * math.nan, {}, "NaN or infinity"),
    ],
)
def test_what_is_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        fit(data, **options)


def test_a_law_that_is_no_data_is_refused():
    with pytest.raises(TypeError, match="draw from it"):
        fit(KNOWN["a normal"][0])
