"""Quantile functions of explicit laws on the line against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from scipy.special import ndtr

from brenier.laws.empirical import Empirical
from brenier.laws.line.quantiles import REACH, Quantiles, normal_score, quantile_w2, resolve
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.probing.chain.process import marginal

TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")
SPIKE = GaussianMixture([0.5, 0.5], [0, 0], [0, 1], name="spike-slab")
FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")
Z = np.linspace(-REACH, REACH, 181)


def one(law, alpha=1.0, sigma=0.0):
    return Quantiles(law, np.array([alpha]), np.array([sigma]))


def test_quantiles_of_a_gaussian_are_linear():
    x = one(GaussianMixture([1], [2], 9.0), 0.5, 2.0)(Z)[0]
    np.testing.assert_allclose(x, 1 + math.sqrt(9 / 4 + 4) * Z, rtol=1e-13, atol=1e-13)


def test_quantiles_of_laws_without_noise():
    np.testing.assert_array_equal(one(TWO)(np.array([-3.0, -1e-9, 1e-9, 3]))[0], [-1, -1, 1, 1])
    np.testing.assert_allclose(one(Uniform(-1, 3))(Z)[0], -1 + 4 * ndtr(Z), atol=2e-14)
    # The spike: quantile levels between Phi(0)/2 and (1 + Phi(0))/2, i.e. 1/4 and 3/4, are at 0.
    z = stats.norm.ppf(np.array([0.1, 0.24, 0.26, 0.74, 0.76, 0.9]))
    expected = [stats.norm.ppf(0.2), stats.norm.ppf(0.48), 0, 0, stats.norm.ppf(0.52), stats.norm.ppf(0.8)]
    np.testing.assert_allclose(one(SPIKE)(z)[0], expected, atol=1e-12)
    assert one(TWO).jumps() == pytest.approx([0], abs=1e-14)


@pytest.mark.parametrize("law", [TWO, SPIKE, FOUR, Uniform(-1, 1)], ids=lambda law: law.name)
@pytest.mark.parametrize("time", [0.01, 0.2, 1, 5])
def test_quantiles_invert_the_distribution_in_both_tails(law, time):
    alpha, sigma = marginal(time)
    curve = one(law, alpha, sigma)
    x = curve(Z)[0]
    assert np.all(np.diff(x) > 0)
    found = normal_score(curve.distribution(x, np.zeros(len(x), dtype=int)))
    # Where there is hardly any mass, a step of x by one rounding is a step of z: nowhere here beyond 1e-9.
    np.testing.assert_allclose(found, Z, atol=1e-9)


@pytest.mark.parametrize("law", [FOUR, Uniform(-1, 1), Uniform(0, 1e-3)], ids=lambda law: law.name)
@pytest.mark.parametrize(("alpha", "sigma"), [(0.9, 0.1), (0.5, 0.8), (0.01, 1.0), (0.99, 0.02)])
def test_distribution_against_direct_integration(law, alpha, sigma):
    if isinstance(law, Uniform):
        low, high = alpha * float(law.low), alpha * float(law.high)

        def cdf(x):
            breaks = [v for v in (x - sigma, x, x + sigma) if low < v < high]
            return quad(lambda u: ndtr((x - u) / sigma), low, high, points=breaks or None, epsabs=1e-15)[0] / (
                high - low
            )

    else:
        deviation = np.sqrt(alpha**2 * law.variances[:, 0].numpy() + sigma**2)

        def cdf(x):
            return float(law.weights.numpy() @ ndtr((x - alpha * law.means[:, 0].numpy()) / deviation))

    for x in np.linspace(-1.5, 1.5, 7):
        at = law.distribution(*(torch.tensor([float(v)], dtype=torch.float64) for v in (x, alpha, sigma)))
        assert math.exp(float(at.log_cdf)) == pytest.approx(cdf(x), abs=1e-12)
        assert math.exp(float(at.log_cdf)) + math.exp(float(at.log_sf)) == pytest.approx(1, abs=1e-14)
        y = torch.tensor([[x / sigma]], dtype=torch.float64)
        expected = float(law.log_density(y, alpha / sigma)) - math.log(sigma)
        assert float(at.log_density) == pytest.approx(expected, rel=1e-11, abs=1e-11)


def test_tails_of_a_blurred_uniform_law_keep_their_digits():
    # For x far out, P(alpha X + sigma Z > x) is an integral of positive terms: here by brute force in logarithms.
    law, u = Uniform(-1, 1), np.linspace(-1, 1, 200001)
    for alpha, sigma in ((0.9, 0.1), (0.02, 1.0)):
        x = alpha + 8 * sigma
        terms = stats.norm.logsf((x - alpha * u) / sigma)
        expected = np.log(np.trapezoid(np.exp(terms - terms.max()), u) / 2) + terms.max()
        at = law.distribution(*(torch.tensor([float(v)], dtype=torch.float64) for v in (x, alpha, sigma)))
        assert float(at.log_sf) == pytest.approx(expected, rel=1e-8)


@settings(max_examples=25)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 3), st.floats(0, 3))
def test_w2_of_gaussians(m1, m2, s1, s2):
    a, b = (GaussianMixture([1], [m], s**2) for m, s in ((m1, s1), (m2, s2)))
    assert quantile_w2(a, b) == pytest.approx(math.hypot(m1 - m2, s1 - s2), rel=1e-9, abs=1e-9)


def test_w2_against_known_values():
    assert quantile_w2(TWO, GaussianMixture([1], [0], 0.0)) == pytest.approx(1, abs=1e-12)
    # W2^2(two points, N(0, 1)) = 2 - 2 E|Z|; W2^2(Uniform(-1, 1), N(0, 1)) = 4/3 - 2 E[Z (2 Phi(Z) - 1)].
    assert quantile_w2(TWO, GaussianMixture([1], [0], 1.0)) == pytest.approx(math.sqrt(2 - 2 * math.sqrt(2 / math.pi)))
    expected = math.sqrt(4 / 3 - 2 / math.sqrt(math.pi))
    assert quantile_w2(Uniform(-1, 1), GaussianMixture([1], [0], 1.0)) == pytest.approx(expected, rel=1e-10)
    assert quantile_w2(FOUR, FOUR) == 0
    # Point masses of other weights: by hand, levels 0.2 to 0.5 move by 3.
    a, b = GaussianMixture([0.2, 0.8], [0, 3], 0.0), GaussianMixture([0.5, 0.5], [0, 3], 0.0)
    assert quantile_w2(a, b) == pytest.approx(math.sqrt(0.3 * 9), rel=1e-12)


def test_w2_at_extreme_scales():
    for scale in (1e-8, 1e8):
        a = GaussianMixture([0.5, 0.5], [-scale, scale], 0.0)
        b = GaussianMixture([1], [0], scale**2)
        assert quantile_w2(a, b) / scale == pytest.approx(math.sqrt(2 - 2 * math.sqrt(2 / math.pi)), rel=1e-9)


def test_data_have_no_quantile_function_here():
    with pytest.raises(ValueError, match="no explicit distribution on the line: use samples"):
        quantile_w2(Empirical(np.zeros((3, 1))), TWO)


def test_a_mesh_resolves_jumps_kinks_and_steep_rises():
    def curves(z):
        return (np.stack([np.tanh((z - 0.3) / 1e-4), np.abs(z + 1), np.sign(z - math.pi / 7)]),)

    mesh, (values,) = resolve(curves, np.linspace(-REACH, REACH, 7), lambda v: np.full(3, 1e-8))
    assert mesh.weights.sum() == pytest.approx(1, abs=1e-14)
    assert np.all(np.diff(mesh.z) > 0)
    mean_abs = 2 * stats.norm.pdf(1) + 2 * ndtr(1) - 1
    assert values @ mesh.weights == pytest.approx(
        [
            quad(
                lambda z: math.tanh((z - 0.3) / 1e-4) * stats.norm.pdf(z),
                -9,
                9,
                points=[0.2999, 0.3, 0.3001],
                epsabs=1e-13,
                limit=200,
            )[0],
            mean_abs,
            1 - 2 * ndtr(math.pi / 7),
        ],
        abs=1e-9,
    )
