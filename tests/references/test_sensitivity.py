"""Theorem 4's sharp form, measured: the adversarial perturbation attains it, no other one beats it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brenier import complexity
from brenier.laws.line.quadrature import localization_quadrature
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.process import marginal
from brenier.references.sensitivity import perturbation_rate, richest_field

TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")


def allowed(law, time, richness, beta=1.0):
    """2 - 2 zeta*_M and 2 - 2 zeta#_M."""
    alpha, sigma = marginal(time, beta)
    values, weights, _ = localization_quadrature(law, alpha / sigma, np.empty(0), [richness])
    rates = (complexity.net_contraction, complexity.sharp_contraction)
    return tuple(float(2 - 2 * rate(values, [richness], alpha / sigma, weights, beta)[0]) for rate in rates)


@pytest.mark.parametrize(
    ("richness", "rate", "published"), [(2, 1.2188, None), (5, 2.5420, None), (20, 2.9306, 4.2131)]
)
def test_the_adversarial_perturbation_attains_the_sharp_rate(richness, rate, published):
    measured, found = perturbation_rate(TWO, 0.3, richest_field(TWO, 0.3, richness))
    paper, sharp = allowed(TWO, 0.3, richness)
    assert found == pytest.approx(richness, rel=2e-3)
    assert measured == pytest.approx(rate, rel=2e-3)
    assert measured == pytest.approx(sharp, rel=2e-3)
    assert paper >= sharp - 1e-9
    if published is not None:
        assert paper == pytest.approx(published, rel=1e-4)
        assert paper > 1.4 * measured


def test_it_does_so_at_other_temperatures():
    time, beta = 0.2, 2.5
    measured, _ = perturbation_rate(TWO, time, richest_field(TWO, time, 4, beta), beta=beta)
    assert measured == pytest.approx(allowed(TWO, time, 4, beta)[1], rel=2e-3)


numbers = st.floats(-1, 1)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0.1, 1), st.floats(-3, 3), st.floats(0, 1.5)), min_size=2, max_size=4),
    st.floats(0.05, 1.0),
    st.lists(st.tuples(numbers, st.floats(0, 6), st.floats(0, 6.3)), min_size=1, max_size=5),
    st.floats(0, 3),
)
def test_no_admissible_perturbation_beats_the_sharp_rate(components, time, waves, cut):
    weights, means, deviations = zip(*components, strict=True)
    law = GaussianMixture(list(weights), list(means), [s**2 for s in deviations])

    def field(x):
        # Waves, cut off smoothly far out, so that their richness is finite; sometimes pressed flat or to one side.
        total = sum(a * np.cos(w * x + p) for a, w, p in waves) + 1e-3
        return np.tanh((1 + cut) * total) / (1 + np.exp(4 * (abs(x) - 2 - cut)))

    measured, richness = perturbation_rate(law, time, field, size=1e-5, eta=1e-5)
    _, sharp = allowed(law, time, richness * (1 + 1e-9))
    # Steps of 1e-5 leave errors of that order, times squares of rates.
    assert measured <= sharp + 1e-4 * (1 + sharp**2)


def test_a_field_that_moves_nothing():
    with pytest.raises(ValueError, match="zero everywhere"):
        perturbation_rate(TWO, 0.3, np.zeros_like)


def test_richness_one_is_a_translation():
    measured, richness = perturbation_rate(TWO, 0.5, np.ones_like)
    assert richness == pytest.approx(1)
    assert measured == pytest.approx(allowed(TWO, 0.5, 1)[1], rel=1e-3)
    assert math.isfinite(measured)
