import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import genpareto
from torch import Tensor

from brenier.laws.mixture import GaussianMixture
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.mongeampere.evidence import Evidence, pareto_fit, tail_shape, why_not
from brenier.transport.mongeampere.portrait import portrait
from brenier.transport.mongeampere.potentials import Features, Quadratic

CONSTANT = math.log(7.0)


def scaled(x: Tensor) -> Tensor:
    """7 times the density of N((1, -1), diag(4, 1/4))."""
    z = (x - torch.tensor([1.0, -1.0], dtype=torch.float64)) / torch.tensor([2.0, 0.5], dtype=torch.float64)
    return CONSTANT - z.square().sum(1) / 2 - math.log(2 * math.pi)


def bent(x: Tensor) -> Tensor:
    """A banana whose integral is pi: x_1 ~ N(0, 1), x_2 given it N(x_1^2/4, 1/4)."""
    return -(x[:, 0] ** 2 + ((x[:, 1] - x[:, 0] ** 2 / 4) / 0.5) ** 2) / 2


def cauchy(x: Tensor) -> Tensor:
    return -torch.log1p(x[:, 0] ** 2)


@pytest.fixture(scope="module")
def gaussian() -> MongeAmpere:
    target = GaussianMixture([1.0], [[1.0, -1.0]], [[4.0, 0.25]])
    return MongeAmpere("normal", target, method="gaussian").fit(progress=False)


def test_an_exact_map_has_the_constant_whatever_the_points(gaussian: MongeAmpere):
    found = gaussian.log_evidence(1000)
    assert abs(found.value) <= 2 * found.se + 1e-12
    assert found.holds
    assert found.ess > 500  # half of the points are elsewhere


def test_the_constant_of_a_function_is_found_inside_its_errors():
    flow = MongeAmpere("laplace", scaled, dim=2, method="linear").fit(4, progress=False)
    inside = 0
    for seed in range(10):
        found = flow.log_evidence(4000, seed)
        assert abs(found.value - CONSTANT) < 0.05
        inside += abs(found.value - CONSTANT) < 2 * found.se
    assert inside >= 8


def test_the_evidence_of_a_banana_holds_though_the_map_is_rough():
    flow = MongeAmpere("normal", bent, dim=2, method="linear", units=60).fit(6, points=1024, progress=False)
    found = [flow.log_evidence(4000, seed) for seed in range(10)]
    assert all(one.holds for one in found)
    assert sum(abs(one.value - math.log(math.pi)) < 2 * one.se for one in found) >= 8


def test_a_map_that_lies_over_itself_counts_nothing_twice():
    flow = MongeAmpere("normal", lambda x: -x.square().sum(1) / 2, dim=2, method="linear")
    eye = torch.eye(2, dtype=torch.float64)
    flow.psi = Features(eye, eye[0] - eye[0], eye[:1] / 2, eye[0, 0] * 0.5, 0.6 * eye[0, :1])
    found = flow.log_evidence(2**17)
    assert 0.01 < found.folded < 0.1
    assert abs(found.value - math.log(2 * math.pi)) < 3 * found.se
    twice = math.log(2 * math.pi) + math.log1p(found.folded)  # without what is not convex
    assert found.value < twice - 3 * found.se


def test_a_map_that_turns_space_inside_out_has_the_evidence_all_the_same():
    flow = MongeAmpere("normal", lambda x: -x.square().sum(1) / 2, dim=2, method="linear")
    flow.psi = Quadratic(torch.diag(torch.tensor([1.0, -1.1], dtype=torch.float64)), torch.zeros(2).double())
    found = flow.log_evidence(4000)
    assert abs(found.value - math.log(2 * math.pi)) < 3 * found.se
    assert found.folded == 0


def test_a_tail_that_the_map_does_not_reach_is_refused():
    flow = MongeAmpere("laplace", cauchy, dim=1, method="linear").fit(1, progress=False)
    with pytest.warns(UserWarning, match=r"the evidence of cauchy is refused: the Pareto shape k of the weights is"):
        found = flow.log_evidence()
    assert math.isnan(found.value)
    with pytest.warns(
        UserWarning, match=r'; try for one mode the reference "triangular", .* or take NUTS for one, nested'
    ):
        flow.log_evidence()
    assert found.pareto_k > 0.7


def test_weights_make_averages_those_of_the_target(gaussian: MongeAmpere):
    other = GaussianMixture([1.0], [[1.5, -1.0]], [[3.0, 0.25]])
    shifted = MongeAmpere("normal", other, method="gaussian")
    shifted.psi, shifted.result = gaussian.psi, gaussian.result
    x, w = shifted.sample(20_000, 3), shifted.weights(20_000, 3)
    assert float(w.sum()) == pytest.approx(1)
    error = 2 / math.sqrt(5000)
    assert abs(float(w @ x[:, 0]) - 1.5) < 3 * error
    assert abs(float(x[:, 0].mean()) - 1.0) < 3 * error


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.2])
def test_the_fit_of_a_pareto_law_is_that_of_scipy(k: float):
    x = genpareto.rvs(k, scale=2.0, size=3000, random_state=1)
    found, scale = pareto_fit(x)
    best: Any = genpareto.fit(x, floc=0)
    assert found == pytest.approx(best[0], abs=0.01)
    assert scale == pytest.approx(best[2], rel=0.02)


def test_the_tail_of_weights_has_the_shape_of_its_power():
    random = np.random.default_rng(0)
    for k in (0.3, 0.9):
        found = [tail_shape(random.pareto(1 / k, size=20_000)) for _ in range(10)]
        assert np.mean(found) == pytest.approx(k, abs=0.1)
    assert tail_shape(np.ones(100)) == -math.inf


def test_a_portrait_has_the_evidence_and_the_report_says_it(gaussian: MongeAmpere):
    from brenier.reports import summary

    found = portrait(gaussian)
    assert abs(found.attrs["log_z"]) <= 2 * found.attrs["log_z_se"] + 1e-12
    assert "log Z" in summary(found)
    assert "t of moved points" in summary(found)
    assert found.attrs["weights_unseen"] == 0
    refused = summary(found.assign_attrs(log_z=math.nan, log_z_refused="no weight holds"))
    assert "refused" in refused
    assert "no weight holds" in refused


def test_what_has_no_density_has_no_weights():
    points = np.random.default_rng(0).normal(size=(50, 2))
    flow = MongeAmpere("normal", points, method="gaussian").fit(progress=False)
    with pytest.raises(ValueError, match="has no density, and weights are a ratio of densities"):
        flow.log_evidence()


def test_few_points_are_refused(gaussian: MongeAmpere):
    with pytest.raises(ValueError, match="10 points are too few"):
        gaussian.log_evidence(10)


def test_a_map_whose_own_points_say_something_else_is_refused():
    known = {"value": 1.0, "se": 0.01, "ess": 900.0, "pareto_k": 0.4, "tail": 0.1, "folded": 0.0, "n": 1000}
    assert why_not(Evidence(own=1.02, own_se=0.01, **known)) is None
    assert "own points say 0.9 ± 0.01" in str(why_not(Evidence(own=0.9, own_se=0.01, **known)))
    assert "own points say 1.1 ± 0.5" in str(why_not(Evidence(own=1.1, own_se=0.5, **known)))
