"""Normal laws under quadratic potentials: against the line, against ODEs, and Proposition 1 in more dimensions."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.stats import multivariate_normal, norm
from torch.distributions import MultivariateNormal, kl_divergence

from brenier import Potential, chain
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.gaussian import Normal, account_of_normals, kl_of_normals, tv_of_normals, w2_of_normals

HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.3]])
CENTRE = np.array([1.0, -1.0, 0.0])
LAW = Normal(np.array([1.0, 0.0, 2.0]), np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 2.0]]))
START = Normal(np.zeros(3), np.eye(3))


def law_of(normal, name="normal"):
    return GaussianMixture([1], normal.mean[None], normal.covariance[None], name=name)


def test_moments_solve_the_lyapunov_equation():
    beta, time = 2.0, 0.7

    def drift(_, state):
        mean, covariance = state[:3], state[3:].reshape(3, 3)
        change = -HESSIAN @ covariance - covariance @ HESSIAN + 2 / beta * np.eye(3)
        return np.concatenate([-HESSIAN @ (mean - CENTRE), change.ravel()])

    ends = []
    for normal in (LAW, START):
        end = solve_ivp(
            drift, (0, time), np.concatenate([normal.mean, normal.covariance.ravel()]), rtol=1e-11, atol=1e-12
        )
        ends.append(Normal(end.y[:3, -1], end.y[3:, -1].reshape(3, 3)))
    found, bounds = account_of_normals(LAW, START, (HESSIAN, CENTRE), 1, time, beta, "flow")
    assert found["w2_forward"][1][1] == pytest.approx(w2_of_normals(*ends), rel=1e-8)
    assert bounds == pytest.approx(np.linalg.eigvalsh(HESSIAN)[[0, 2]])


@pytest.mark.parametrize("beta", [2.0, math.inf])
def test_proposition_1_holds_in_more_dimensions(beta):
    found, _ = account_of_normals(LAW, START, (HESSIAN, CENTRE), 4, 0.3, beta, "jko")
    assert np.all(found["w2_discretisation"][1] < 1e-12)


@pytest.mark.parametrize("forward", ["flow", "jko"])
def test_on_the_line_it_is_what_quadrature_finds(forward):
    law, start = (GaussianMixture([1], [mean], variance) for mean, variance in ((1.0, 2.0), (-0.5, 0.3)))
    f = Potential(lambda x: 0.7 * (x - 1) ** 2, lambda x: np.full_like(x, 1.4), convexity=(1.4, 1.4))
    options = {"steps": 2, "eta": 0.1, "beta": 1.5, "forward": forward, "progress": False}
    by_quadrature, closed = (chain(law, start, potential=p, **options) for p in (f, "quadratic(1.4, 1)"))
    for name in ("w2_forward", "w2_chain", "w2_backward", "rate_worst", "contraction", "kl_forward", "kl_backward"):
        np.testing.assert_allclose(by_quadrature[name], closed[name], rtol=2e-5, atol=1e-7)


def test_relative_entropy_is_torchs_and_bijections_leave_it_alone():
    first, second = (MultivariateNormal(*(torch.from_numpy(part) for part in law)) for law in (LAW, START))
    assert kl_of_normals(LAW, START) == pytest.approx(float(kl_divergence(first, second)), rel=1e-10)
    found, _ = account_of_normals(LAW, START, (HESSIAN, CENTRE), 4, 0.05, 2.0, "flow")
    np.testing.assert_allclose(found["kl_chain"][1], found["kl_chain"][1][-1], rtol=1e-9)
    assert found["kl_forward"][1][0] == pytest.approx(kl_of_normals(LAW, START))
    flat = Normal(np.zeros(3), np.diag([1.0, 1.0, 0.0]))
    assert kl_of_normals(LAW, flat) == kl_of_normals(flat, LAW) == math.inf
    assert math.isnan(kl_of_normals(flat, flat))


@pytest.mark.parametrize("forward", ["flow", "jko"])
def test_theorems_1_and_2_in_more_dimensions(forward):
    f = Potential.of_quadratic(HESSIAN, CENTRE)
    found = chain(law_of(LAW), law_of(START), potential=f, steps=5, eta=0.1, forward=forward, progress=False)
    w2 = found.w2_chain.to_numpy()
    assert np.all(found.w2_forward <= found.bound_forward * (1 + 1e-12))
    assert np.all(w2[:-1] <= w2[1:] * (1 + 0.1 * found.rate_sharp[1:, 0].to_numpy() / 2) * (1 + 1e-12))
    assert np.all(found.rate_sharp[1:, 0] <= found.rate_worst[1:] + 1e-12)
    same = chain(law_of(LAW), "equilibrium", potential=f, steps=400, eta=0.1, progress=False)
    assert float(same.w2_forward[-1]) <= float(same.bound_forward[-1]) < 1e-3


def test_distances_of_close_and_of_flat_laws():
    near = Normal(LAW.mean, LAW.covariance * (1 + 1e-9) ** 2)
    assert w2_of_normals(LAW, near) == pytest.approx(1e-9 * math.sqrt(np.trace(LAW.covariance)), rel=1e-6)
    point, line = Normal(np.zeros(2), np.zeros((2, 2))), Normal(np.ones(2), np.diag([4.0, 0.0]))
    assert w2_of_normals(point, line) == pytest.approx(math.sqrt(6))


def test_steps_without_a_minimiser_and_maps_that_fold_are_refused():
    with pytest.raises(ValueError, match=r"eta must be below 0\.5"):
        account_of_normals(START, LAW, (-2 * np.eye(3), CENTRE), 1, 0.6, 1.0, "jko")
    with pytest.raises(ValueError, match="folds on its way back"):
        account_of_normals(
            Normal(np.zeros(1), np.zeros((1, 1))),
            Normal(np.ones(1), np.eye(1)),
            (-3 * np.eye(1), np.zeros(1)),
            1,
            0.9,
            1.0,
            "flow",
        )


@pytest.mark.parametrize("shift", [1e-3, 0.5, 6.0])
def test_total_variation_of_shifted_normal_laws(shift):
    a, b = (Normal(np.array([0.3, place, -1.0]), np.diag([1.0, 4.0, 0.1])) for place in (0.0, 2 * shift))
    assert tv_of_normals(a, b) == pytest.approx(2 * norm.cdf(shift / 2) - 1, rel=1e-6)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 2.0), (1.0, 0.5), (0.0, 1.001), (0.3, 20.0)])
def test_total_variation_along_one_axis_by_quadrature(mean, deviation):
    expected = quad(
        lambda x: abs(norm.pdf(x) - norm.pdf(x, mean, deviation)) / 2, -200, 200, points=range(-6, 7), limit=900
    )
    a, b = Normal(np.array([0.0, mean]), np.diag([1.0, deviation**2])), Normal(np.zeros(2), np.eye(2))
    assert tv_of_normals(a, b) == pytest.approx(tv_of_normals(b, a), rel=1e-9)
    assert tv_of_normals(a, b) == pytest.approx(expected[0], abs=1e-6)


def test_total_variation_of_normal_laws_in_the_plane():
    mean, covariance = np.array([1.0, 0.5]), np.array([[2.0, 0.3], [0.3, 0.5]])
    x = np.stack(np.meshgrid(*[np.arange(-12, 12, 0.03)] * 2), -1)
    gap = multivariate_normal(mean, covariance).pdf(x) - multivariate_normal(np.zeros(2)).pdf(x)
    found = tv_of_normals(Normal(mean, covariance), Normal(np.zeros(2), np.eye(2)))
    assert found == pytest.approx(0.03**2 * np.abs(gap).sum() / 2, abs=1e-5)
    flat = Normal(mean, np.diag([1.0, 0.0]))
    assert tv_of_normals(flat, Normal(mean, covariance)) == 1
    assert math.isnan(tv_of_normals(flat, flat))
