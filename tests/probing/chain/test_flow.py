"""The Langevin process against one that is solved in closed form, against its equilibrium, and without noise."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp

from brenier.laws.line.quantiles import Quantiles
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.flow import Flow, Noiseless, carried, proximal
from brenier.probing.chain.langevin import reach
from brenier.probing.chain.potential import read_potential
from brenier.probing.chain.start import start_law

POINT = GaussianMixture([1], [0.0], 0.0)
X = np.linspace(-6, 6, 49)


def flow(law, potential, steps, eta, beta=1.0):
    return Flow(law, potential, steps, eta, beta, reach(law, law, potential, steps * eta, beta))


@pytest.mark.parametrize(("steps", "eta"), [(5, 0.02), (2, 0.25)])
def test_a_drift_whose_process_is_known(steps, eta):
    # dX = 2 tanh(X) dt + sqrt(2) dB, f = -2 log cosh: f'^2/4 - f''/2 is 1 everywhere, so that from y the law at time t
    # is N(y + 2t, 2t) and N(y - 2t, 2t) with weights e^y and e^-y.
    found = flow(POINT, read_potential("logcosh(-2)"), steps, eta)
    time = steps * eta
    means = np.array([-2 * time, 2 * time])
    terms = -((X[:, None] - means) ** 2) / (4 * time)
    weight = 1 / (1 + np.exp(-2 * X))
    score = (means[0] + np.ptp(means) * weight - X) / (2 * time)
    bend = -1 / (2 * time) + np.ptp(means) ** 2 * weight * (1 - weight) / (2 * time) ** 2
    level = found.at(steps, X)
    density = logsumexp(terms, axis=1) - math.log(2) - math.log(4 * math.pi * time) / 2
    middle = abs(X) < 5 * math.sqrt(2 * time) + 2 * time
    for a, b, size in zip(level, (density, score, bend), (1, 10, 10), strict=True):
        np.testing.assert_allclose(a[middle], b[middle], rtol=0, atol=2e-6 * size)
    z = np.linspace(-6, 6, 25)
    exact = Quantiles(GaussianMixture([0.5, 0.5], means, 2 * time), np.ones(1), np.zeros(1))(z)[0]
    np.testing.assert_allclose(found.curves(z)[-1], exact, rtol=0, atol=1e-6)


def test_the_equilibrium_stays():
    potential = read_potential("double-well")
    law = start_law("equilibrium", POINT, 2.0, potential)
    found = flow(law, potential, 3, 0.1, 2.0)
    z = np.linspace(-6, 6, 41)
    curves = found.curves(z)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    assert math.sqrt((curves[3] - curves[0]) ** 2 @ weights) < 1e-6
    total = quad(lambda x: math.exp(-((x * x - 1) ** 2) / 2), -6, 6)[0]
    x = curves[0, abs(z) < 4]
    level = found.at(2, x)
    np.testing.assert_allclose(level.log_density, -((x**2 - 1) ** 2) / 2 - math.log(total), atol=1e-5)
    np.testing.assert_allclose(level.score, -2 * (x**3 - x), rtol=1e-5, atol=1e-5)


def test_wide_laws_under_a_steep_drift_keep_their_mass():
    found = flow(GaussianMixture([0.5, 0.5], [-4, 4], 1.0), read_potential("quartic"), 4, 0.05)
    x = np.linspace(-8, 8, 3001)
    for k in (1, 4):
        assert np.trapezoid(np.exp(found.at(k, x).log_density), x) == pytest.approx(1, abs=1e-6)


def test_without_noise_places_follow_the_drift():
    quartic, x = read_potential("quartic"), np.linspace(-3, 3, 13)
    np.testing.assert_allclose(carried(quartic, x, 0.7), x / np.sqrt(1 + 1.4 * x**2), rtol=0, atol=1e-12)
    y = proximal(quartic, x, 0.7)
    np.testing.assert_allclose(y + 0.7 * y**3, x, rtol=0, atol=1e-13)
    law = GaussianMixture([1], [0], 1.0)
    flowed = Noiseless(law, quartic, 2, 0.35, implicit=False).curves(x)
    np.testing.assert_allclose(flowed[2], x / np.sqrt(1 + 1.4 * x**2), rtol=0, atol=1e-9)


def test_what_needs_too_many_nodes_is_refused():
    with pytest.raises(ValueError, match=r"nodes at a noise of .* make eta larger"):
        flow(GaussianMixture([0.5, 0.5], [0, 400], 1.0), read_potential("logcosh"), 1, 1e-3)
    with pytest.raises(ValueError, match="no unique minimiser"):
        proximal(read_potential("double-well"), X, 2.0)
