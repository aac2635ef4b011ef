"""JKO steps against Proposition 1, against closed forms and against the free energy that they minimise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.probing.chain.potential import Potential, read_potential
from brenier.probing.chain.proximal import Proximal

TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")
FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")
NORMAL = GaussianMixture([1], [0.5], 2.0)
SPIKE = GaussianMixture([0.5, 0.5], [0, 0], [0.0, 1.0], name="spike-slab")
Z = np.linspace(-5.5, 5.5, 200)


def off(law, potential, eta, beta=1.0):
    """How far the backward map is from the optimal map back, at places with all but 4e-8 of the mass."""
    steps = Proximal(law, potential, 1, eta, beta)
    before, after = steps.curves(Z)
    back = after + eta * (potential.slope(after) + steps.at(1, after).score / beta)
    return np.abs(back - before)


@pytest.mark.parametrize("eta", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("name", ["quadratic(2)", "quartic", "logcosh"])
@pytest.mark.parametrize("law", [NORMAL, FOUR], ids=["normal", "four-gaussians"])
def test_proposition_1_the_backward_map_is_the_optimal_one(law, name, eta):
    assert off(law, read_potential(name), eta).max() < 1e-6


@pytest.mark.parametrize(("law", "eta"), [(TWO, 0.01), (TWO, 1.0), (SPIKE, 0.3), (Uniform(-1, 1), 0.3)])
def test_proposition_1_from_point_masses_and_compact_laws(law, eta):
    assert off(law, read_potential("double-well(0.5)"), eta, beta=2.0).max() < 1e-6


@settings(max_examples=4, deadline=None)
@given(
    weights=st.lists(st.floats(0.2, 1), min_size=2, max_size=3),
    spread=st.floats(0.3, 2),
    bump=st.floats(-0.3, 1),
    eta=st.floats(0.02, 0.8),
    beta=st.floats(0.5, 3),
)
def test_proposition_1_on_random_laws_and_potentials(weights, spread, bump, eta, beta):
    law = GaussianMixture(weights, np.linspace(-2, 2, len(weights)), spread**2)
    f = Potential(lambda x: x**2 / 2 - bump * np.cos(x), lambda x: 1 + bump * np.cos(x))
    assert off(law, f, eta, beta).max() < 1e-6


def energy(steps, potential, eta, beta, nudge):
    """The free energy that a step minimises, of its law moved by a smooth map x + nudge(x)."""
    z, weights = np.polynomial.legendre.leggauss(400)
    z, weights = 8 * z, 8 * weights * np.exp(-32 * z**2) / math.sqrt(2 * math.pi)
    before, after = steps.curves(z)
    moved = after + nudge(after)
    stretch = 1 + (nudge(after + 1e-5) - nudge(after - 1e-5)) / 2e-5
    entropy = steps.at(1, after).log_density - np.log(stretch)
    return ((moved - before) ** 2 / (2 * eta) + potential.value(moved) + entropy / beta) @ weights


@pytest.mark.parametrize("name", ["quartic", "logcosh"])
def test_no_law_nearby_has_less_energy(name):
    f, eta, beta = read_potential(name), 0.2, 1.5
    steps = Proximal(FOUR, f, 1, eta, beta)
    least = energy(steps, f, eta, beta, np.zeros_like)
    for rate in (0.5, 1.0, 3.0):
        up, down = (energy(steps, f, eta, beta, lambda x, s=s, rate=rate: s * np.sin(rate * x)) for s in (0.02, -0.02))
        assert min(up, down) > least
        assert up - down == pytest.approx(0, abs=0.05 * (up + down - 2 * least))  # the first variation vanishes


def test_normal_laws_in_closed_form():
    eta, beta, h = 0.4, 2.0, 1.5
    steps = Proximal(NORMAL, read_potential(f"quadratic({h}, 1)"), 3, eta, beta)
    mean, deviation = 0.5, math.sqrt(2)
    curves = steps.curves(Z)
    for k in range(1, 4):
        mean = (mean + eta * h) / (1 + eta * h)
        # (1 + eta h) s - eta/(beta s) = the deviation before
        deviation = (deviation + math.sqrt(deviation**2 + 4 * (1 + eta * h) * eta / beta)) / (2 * (1 + eta * h))
        np.testing.assert_allclose(curves[k], mean + deviation * Z, rtol=0, atol=1e-9)
        np.testing.assert_allclose(steps.at(k, curves[k]).bend, -1 / deviation**2, rtol=1e-6)


def test_densities_of_many_steps_integrate_to_one_and_tend_to_the_equilibrium():
    f = read_potential("quartic")
    steps = Proximal(SPIKE, f, 12, 0.5, 1.0)
    x = np.linspace(-5, 5, 2001)
    density = np.exp(steps.at(12, x).log_density)
    total = quad(lambda t: math.exp(-(t**4) / 4), -8, 8)[0]
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(density, np.exp(-(x**4) / 4) / total, atol=2e-3)


def test_from_points_the_first_step_has_the_density_of_the_theory_and_short_ones_that_follow_are_refused():
    """On either side of the middle exp(-beta ((x - y)^2/(2 eta) + f)), by symmetry, of mass 1/2."""
    eta = 0.01
    steps = Proximal(TWO, read_potential("quadratic(1)"), 1, eta, 1.0)
    x = np.linspace(0.55, 1.4, 200)
    spread, mean = math.sqrt(eta / (1 + eta)), 1 / (1 + eta)
    density = -(((x - mean) / spread) ** 2) / 2 - math.log(2 * spread * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(steps.at(1, x).log_density, density, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"gap of 2 a step leaves exp\(-50\) of the density .* a larger eta, or the"):
        Proximal(TWO, read_potential("quadratic(1)"), 2, eta, 1.0)


def test_a_step_without_a_unique_minimiser_is_refused():
    with pytest.raises(ValueError, match=r"no unique minimiser .* eta must be below 0.5"):
        Proximal(NORMAL, read_potential("double-well(2)"), 1, 0.6, 1.0)
