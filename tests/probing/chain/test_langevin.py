"""Chains under a potential: Theorems 1 to 3, the Ornstein-Uhlenbeck process as a special case, and no noise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brenier import Potential, chain
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.flow import Flow
from brenier.probing.chain.langevin import reach
from brenier.probing.chain.potential import read_potential

FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")
NORMAL = GaussianMixture([1], [0.5], 0.5, name="normal law")


def run(law, start, potential, **options):
    return chain(law, start, **{"steps": 3, "eta": 0.05, "progress": False} | options, potential=potential)


def check_theorems(found, eta, *, implicit):
    """Theorem 1 there; on the way back no step parts the laws by more than its slope does, nor beyond Theorem 2."""
    low, _ = found.attrs["convexity"]
    assert np.all(found.contraction[1:] >= low - 1e-5)
    assert np.all(found.w2_forward <= found.bound_forward * (1 + 1e-6))
    w2 = found.w2_chain.to_numpy()
    for name in ("rate_local", "rate_worst"):
        assert np.all(w2[:-1] <= w2[1:] * (1 + eta * found[name].to_numpy()[1:] / 2) * (1 + 1e-6))
    assert np.all(found.rate_sharp.isel(perturbation=-1)[1:] <= found.rate_worst[1:] + 1e-9)
    assert np.all(found.rate_local[1:] <= found.rate_worst[1:] + 1e-9)
    assert np.all(found.rate_sharp[1:] <= found.rate_star[1:] + 1e-9)
    if implicit:
        assert np.all(found.w2_discretisation < 1e-6)  # Proposition 1


@pytest.mark.parametrize("forward", ["flow", "jko"])
@settings(max_examples=3, deadline=None)
@given(
    weight=st.floats(0.2, 0.8),
    place=st.floats(0.3, 2),
    variance=st.floats(0.2, 1.5),
    start=st.floats(-1, 1),
    bump=st.floats(-1.5, 1.5),
    beta=st.floats(0.6, 2),
)
def test_theorems_1_and_2_on_random_laws_and_potentials(forward, weight, place, variance, start, bump, beta):
    law = GaussianMixture([weight, 1 - weight], [-place, place], variance)
    f = Potential(
        lambda x: x**2 / 2 - bump * np.cos(x),
        lambda x: 1 + bump * np.cos(x),
        slope=lambda x: x + bump * np.sin(x),
        convexity=(1 - abs(bump), 1 + abs(bump)),
    )
    found = run(law, GaussianMixture([1], [start], 0.8), f, beta=beta, forward=forward, steps=2)
    check_theorems(found, 0.05, implicit=forward == "jko")


def test_a_potential_without_upper_curvature_bounds_where_the_laws_lie():
    found = run(FOUR, 0.0, "quartic")
    check_theorems(found, 0.05, implicit=False)
    assert found.attrs["convexity"] == [0, math.inf]
    assert np.all(np.isinf(found.rate_worst[1:]))
    assert np.all(np.isfinite(found.rate_sharp[1:]))
    assert "snr" not in found


@pytest.mark.parametrize("forward", ["flow", "jko"])
def test_normal_laws_attain_theorem_2(forward):
    h, eta, beta = 1.7, 0.05, 2.0
    found = run(NORMAL, GaussianMixture([1], [-1], 2.0), f"quadratic({h}, 1)", eta=eta, beta=beta, forward=forward)
    expected = (1 + eta * found.rate_worst[1:] / 2) ** 2
    np.testing.assert_allclose(1 + eta * found.rate[1:], expected, rtol=1e-8)
    np.testing.assert_allclose(found.rate_sharp[1:, 0], found.rate_worst[1:], rtol=1e-8)


@pytest.mark.parametrize("forward", ["flow", "jko"])
def test_dirac_pairs_attain_theorem_1(forward):
    found = run(GaussianMixture([1], [-0.7], 0.0), 1.9, "quadratic(2)", forward=forward)
    np.testing.assert_allclose(found.w2_forward, found.bound_forward, rtol=1e-9)
    np.testing.assert_allclose(found.contraction[1:], 2, rtol=1e-8)


@pytest.mark.parametrize("options", [{}, {"beta": 2.5}, {"mode": "sde", "n": 64}, {"score_error": 0.05}])
def test_the_ornstein_uhlenbeck_process_is_quadratic_1_bit_for_bit(options):
    plain = chain(FOUR, 0.0, steps=3, eta=0.1, progress=False, **options)
    named = chain(FOUR, 0.0, steps=3, eta=0.1, progress=False, potential="quadratic(1)", **options)
    for name in plain.variables:
        np.testing.assert_array_equal(plain[name], named[name])
    assert "potential" not in plain.attrs


def test_the_flow_of_x_squared_as_a_function_is_the_ornstein_uhlenbeck_process():
    f = Potential(lambda x: x**2 / 2, np.ones_like, slope=lambda x: x, convexity=(1, 1))
    plain, found = (run(FOUR, NORMAL, potential) for potential in (None, f))
    for name in ("w2_forward", "w2_backward", "w2_chain", "w2_discretisation"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.rate_sharp[1:], plain.rate_sharp[1:], rtol=1e-4)
    np.testing.assert_allclose(found.rate_star[1:], plain.rate_star[1:], rtol=1e-4)
    np.testing.assert_allclose(found.rate_worst[1:], plain.rate_worst[1:], rtol=1e-4)


def test_theorem_3_denoising_what_was_diffused_errs_by_the_square_of_the_step():
    f, time = read_potential("logcosh"), 0.3
    flow = Flow(FOUR, f, 1, time, 1.0, reach(FOUR, FOUR, f, time, 1.0))
    z = np.linspace(-4, 4, 121)
    x = flow.curves(z)[1]
    level, etas, errors = flow.at(1, x), [0.002, 0.004, 0.008], []
    for eta in etas:
        there = x - eta * (f.slope(x) + level.score)
        # The score of f# mu at f(x), by change of variables: (s - f''/f')/f'.
        first, second = np.gradient(there, x, edge_order=2), np.gradient(np.gradient(there, x), x)
        back = there + eta * (f.slope(there) + (level.score - second / first) / first)
        errors.append(math.sqrt((back - x)[5:-5] ** 2 @ np.exp(-(z[5:-5] ** 2) / 2)))
    assert np.polyfit(np.log(etas), np.log(errors), 1)[0] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("forward", ["flow", "jko"])
def test_without_noise_there_is_no_net_gain(forward):
    pair = [GaussianMixture([1], [place], 0.0) for place in (0.5, 1.5)]
    for potential in ("quartic", "logcosh", "quadratic(2)"):
        errors = []
        for steps in (20, 40):
            found = run(*pair, potential, beta=math.inf, forward=forward, steps=steps, eta=0.8 / steps)
            assert float(found.w2_forward[-1]) < 1
            errors.append(abs(float(found.ratio_chain) - 1))
        # The implicit step is undone exactly, the flow to first order in eta.
        assert errors[1] < 1e-9 if forward == "jko" else errors[1] == pytest.approx(errors[0] / 2, rel=0.2)


def test_beta_infinite_is_known_to_the_default_process():
    found = chain(GaussianMixture([1], [1.0], 0.0), 3.0, steps=4, eta=0.1, beta=math.inf, progress=False)
    np.testing.assert_allclose(found.w2_forward, 2 * np.exp(-0.1 * np.arange(5)))
    np.testing.assert_allclose(found.w2_chain, float(found.w2_forward[-1]) * 1.1 ** np.arange(4, -1, -1))


PLANE = GaussianMixture([1], [[1.0, 0]], [[[0.5, 0.1], [0.1, 1.0]]], name="plane")


@pytest.mark.parametrize(
    ("law", "start", "options", "message"),
    [
        (FOUR, 0.0, {"potential": "quartik"}, "did you mean 'quartic'"),
        (FOUR, 0.0, {"potential": "quartic", "mode": "sde"}, "mode sde is for the Ornstein-Uhlenbeck"),
        (FOUR, 0.0, {"potential": "quartic", "score_error": 0.1}, "a score error is for"),
        (FOUR, 0.0, {"potential": "quartic", "method": "particles"}, "particles is for"),
        (FOUR, 0.0, {"potential": "quartic", "beta": 0.0}, "beta must be positive"),
        (PLANE, "normal", {"potential": "quartic"}, "in 2 dimensions a potential must be quadratic .* quartic"),
        (PLANE, np.ones((5, 2)), {"potential": "quadratic(2)"}, "both laws normal, and data is not"),
        (np.arange(9.0), 0.0, {"potential": "quartic"}, "data is no explicit law on the line"),
        (FOUR, "equilibrium", {"potential": "quadratic(-1)"}, "has no equilibrium"),
        (FOUR, "equilibrium", {"potential": "logcosh(-1)"}, "has no equilibrium"),
        (FOUR, "equilibrium", {"potential": "double-well", "beta": math.inf}, "no single lowest place"),
        (PLANE, "normal", {"potential": Potential.of_quadratic([1.0, 2, 3])}, "of 3 dimensions, the law has 2"),
        (
            FOUR,
            0.0,
            {"potential": Potential(lambda x: np.where(abs(x) < 3, x**2, np.nan), lambda x: 2 + 0 * x)},
            "must be finite where the chain's laws lie",
        ),
    ],
)
def test_bad_arguments(law, start, options, message):
    with pytest.raises(ValueError, match=message):
        run(law, start, options.pop("potential"), **options)
