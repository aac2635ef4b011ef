"""The law of L_r by quadrature against the paper's numbers, closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr

from brenier import complexity
from brenier.laws.line.quadrature import localization_quadrature, onset, supremum
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform

POINT = GaussianMixture([1], [0], 0, name="point-mass")
NORMAL = GaussianMixture([1], [0], 1, name="normal")
TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")
SPIKE = GaussianMixture([0.5, 0.5], [0, 0], [0, 1], name="spike-slab")
FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")
UNIFORM = Uniform(-1, 1)
LEVELS = np.linspace(0, 2, 81)
SNRS = np.geomspace(0.05, 50, 9)


def figures(target, snr, levels=LEVELS, perturbations=(1, 2, 5, 20)):
    values, weights, summary = localization_quadrature(target, snr, levels, perturbations)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    richness = np.array(perturbations, dtype=float)
    least, delta = complexity.minimal_relative_tail(values[None], weights[None])
    return {
        "s": complexity.survival(values, levels, weights),
        "h": complexity.integrated_tail(values, 1 - levels, weights),
        "m": float(least[0]),
        "delta": float(delta[0]),
        "zeta": complexity.net_contraction(values, richness, snr, weights),
        "sharp": complexity.sharp_contraction(values, richness, snr, weights),
        **summary,
    }


@pytest.mark.parametrize(
    ("target", "snr", "survival", "tail", "least", "delta", "best"),
    [
        (TWO, 1.5, 0.1792, 0.2394, 0.4216, 0.829, -0.6359),
        (TWO, 3, 0.0078, 0.0282, 0.0369, 0.975, 0.8132),
        (SPIKE, 2, 0.1641, 0.1789, 0.3251, 0.240, -0.0995),
        (FOUR, 1, 0.0944, 0.2634, 0.4063, 0.261, -0.2215),
        (UNIFORM, 2, 0, 0.1106, 0, 0.226, 0.2372),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_table_of_worked_examples(target, snr, survival, tail, least, delta, best):
    got = figures(target, snr, np.array([0.5, 1.0]))
    assert got["s"][1] == pytest.approx(survival, abs=5e-5)
    assert got["h"][0] == pytest.approx(tail, abs=5e-5)
    assert got["m"] == pytest.approx(least, abs=5e-5)
    assert got["delta"] == pytest.approx(delta, abs=5e-4)
    assert got["zeta"][2] / (1 + snr**2) == pytest.approx(best, abs=5e-5)


def test_figure_1_of_the_paper():
    expected = {1 / math.sqrt(2): (0, 0, 0, 0), 1.5: (0.13, 0.24, 0.18, 0.27), 3: (0.02, 0.03, 0.01, 0.01)}
    for snr, numbers in expected.items():
        got = figures(TWO, snr, np.array([0.5, 1.0]))
        assert [got["h"][1], got["h"][0], got["s"][1], got["s"][0]] == pytest.approx(numbers, abs=0.005)
    assert figures(TWO, 0.71, np.array([0.5]))["s"][0] == pytest.approx(0.079, abs=5e-4)


@pytest.mark.parametrize(
    ("target", "expected", "digits"),
    [(TWO, 1, 1e-6), (SPIKE, 1.5003, 5e-5), (FOUR, 0.42775, 5e-6), (UNIFORM, math.inf, 0), (NORMAL, math.inf, 0)],
    ids=lambda value: getattr(value, "name", None),
)
def test_onset_of_worked_examples(target, expected, digits):
    assert onset(target, 0.05, 50) == pytest.approx(expected, abs=digits)


@pytest.mark.parametrize("low", [0.2, 3.0])
def test_onset_of_two_points_is_the_inverse_of_their_distance(low):
    # With `low` above the onset the search has to go on below it.
    assert onset(GaussianMixture([1, 1], [2, 3], 0), low, 100) == pytest.approx(2, rel=1e-6)


def test_spike_and_slab_approaches_one_half():
    assert figures(SPIKE, 1000)["m"] == pytest.approx(0.5037, abs=5e-5)


@pytest.mark.parametrize("snr", SNRS)
def test_normal_law_has_constant_localization(snr):
    for deviation in (0.3, 1.0, 4.0):
        value = (deviation * snr) ** 2 / ((deviation * snr) ** 2 + 1)
        got = figures(GaussianMixture([1], [0.7], deviation**2), snr, np.append(LEVELS, value))
        assert got["s"][:-1] == pytest.approx((value > LEVELS).astype(float), abs=1e-12)
        assert got["s"][-1] == pytest.approx(0, abs=1e-12)
        assert got["h"][:-1] == pytest.approx(np.maximum(value - LEVELS, 0), abs=1e-12)
        assert (got["m"], got["delta"]) == pytest.approx((0, 1 - value), abs=1e-12)
        assert got["sharp"] == pytest.approx((1 - value) * (1 + snr**2), rel=1e-9)
        assert got["mmse"] == pytest.approx(value / snr**2, rel=1e-12)


@pytest.mark.parametrize("snr", [1e-4, 0.05, 1, 50, 1e4])
def test_point_mass_is_always_localized(snr):
    got = figures(POINT, snr)
    assert not got["s"].any()
    assert (got["m"], got["delta"], got["mean_localization"], got["sup_localization"]) == (0, 1, 0, 0)


def two_points_survival(a, u):
    """[LDK24] (5.1), (5.2)."""
    if u >= a**2:
        return 0.0
    root = math.sqrt(a**2 - u)
    log_ratio = math.log((a + root) ** 2 / u) / (2 * a) if u > 0 else math.inf
    # P(|Y| < log_ratio) as a difference of upper tails, which keeps its digits at high SNR.
    return float(ndtr(log_ratio - a) - ndtr(-log_ratio - a))


@pytest.mark.parametrize("snr", SNRS)
def test_two_points_follow_the_closed_form(snr):
    levels = np.concatenate([LEVELS[1:], [snr**2 * f for f in (0.01, 0.3, 0.9, 0.999)]])
    got = figures(TWO, snr, levels)
    survival = np.array([two_points_survival(snr, u) for u in levels])
    tail = [quad(lambda u: two_points_survival(snr, u), u, snr**2, limit=200)[0] if u < snr**2 else 0 for u in levels]
    assert got["s"] == pytest.approx(survival, abs=1e-9)
    assert got["h"] == pytest.approx(np.array(tail), abs=1e-7)
    assert got["sup_localization"] == pytest.approx(snr**2, rel=1e-9)
    if snr <= 1:
        assert (got["m"], got["delta"]) == pytest.approx((0, 1 - snr**2), abs=1e-9)
    else:

        def condition(u):
            area = quad(lambda v: two_points_survival(snr, v), u, snr**2, limit=200, epsabs=1e-13)[0]
            return area - (1 - u) * two_points_survival(snr, u)

        if snr < 4:
            u = brentq(condition, 1e-9, 1 - 1e-9, xtol=1e-12)
            assert got["delta"] == pytest.approx(1 - u, abs=1e-6)
            assert got["m"] == pytest.approx(two_points_survival(snr, u), abs=1e-9)


def uniform_localization(snr, y):
    """[LDK24] Example 3, written out; good for a small |y|."""
    density = lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    a, b = -snr - y, snr - y
    mass = ndtr(b) - ndtr(a)
    return 1 - (b * density(b) - a * density(a)) / mass - ((density(b) - density(a)) / mass) ** 2


@pytest.mark.parametrize("snr", np.geomspace(0.5, 50, 5))
def test_uniform_follows_the_closed_form(snr):
    # L falls in |y|: the level at y has the survival P(|Y| < y).
    points = np.array([0.2, 0.7, 0.95]) * snr
    levels = np.array([uniform_localization(snr, y) for y in points])
    got = figures(UNIFORM, snr, levels)
    density = lambda y: (ndtr(y + snr) - ndtr(y - snr)) / (2 * snr)  # noqa: E731
    for i, (y, u) in enumerate(zip(points, levels, strict=True)):
        if 1 - u > 1e-6:  # below, L is too flat for the level to say where y is
            assert got["s"][i] == pytest.approx(2 * quad(density, 0, y)[0], abs=1e-7)
            tail = 2 * quad(lambda v: density(v) * (uniform_localization(snr, v) - u), 0, y)[0]  # noqa: B023
            assert got["h"][i] == pytest.approx(tail, abs=1e-9)
    assert got["sup_localization"] == pytest.approx(uniform_localization(snr, 0), abs=1e-12)
    assert got["m"] == 0
    assert got["delta"] == pytest.approx(1 - uniform_localization(snr, 0), abs=1e-12)


@pytest.mark.parametrize("snr", [0.05, 50, 1e3, 1e4])
def test_uniform_is_log_concave_at_every_scale(snr):
    got = figures(UNIFORM, snr)
    assert got["s"][LEVELS >= 1] == pytest.approx(0, abs=0)
    assert got["m"] == 0
    assert got["sup_localization"] < 1


def brute(weights, means, variances, snr, count=100_001):
    """L on a fine grid of y with its probabilities, by the formulas written out."""
    v = 1 + snr**2 * variances
    reach = 12 * np.sqrt(v)
    y = np.linspace((snr * means - reach).min(), (snr * means + reach).max(), count)
    gain = snr**2 * variances / v
    residual = y[:, None] - snr * means
    log_p = np.log(weights / weights.sum()) - residual**2 / (2 * v) - np.log(2 * np.pi * v) / 2
    p = np.exp(log_p)
    total = p.sum(1)
    w = p / np.maximum(total, 1e-300)[:, None]
    centre = snr * means + gain * residual
    mean = (w * centre).sum(1)
    localization = w @ gain + (w * (centre - mean[:, None]) ** 2).sum(1)
    mass = total * (y[1] - y[0])
    assert abs(mass.sum() - 1) < 1e-6
    return localization, mass / mass.sum()


def brute_figures(localization, mass, perturbations):
    order = np.argsort(localization)[::-1]
    values, weight = localization[order], mass[order]
    mass_above, moment_above = np.append(0, np.cumsum(weight)), np.append(0, np.cumsum(weight * values))

    def tail(u):
        count = np.searchsorted(-values, -u)
        return moment_above[count] - u * mass_above[count]

    delta = np.linspace(0, 1, 40_001)
    h = tail(1 - delta)
    u = np.linspace(0, values[0], 80_001)
    zeta = [np.max(delta - m * h) for m in perturbations]
    sharp = [np.max(1 - u - m * tail(u)) for m in perturbations]
    ratio = h[1:] / delta[1:]
    return ratio.min(), delta[1:][np.argmin(ratio)], np.array(zeta), np.array(sharp), tail


mixtures = st.integers(1, 5).flatmap(
    lambda k: st.tuples(
        st.lists(st.floats(0.05, 1), min_size=k, max_size=k),
        st.lists(st.floats(-3, 3), min_size=k, max_size=k),
        st.lists(st.sampled_from([0.0, 0.01, 0.2, 1.0, 4.0]), min_size=k, max_size=k),
    )
)


@settings(max_examples=20)
@given(mixtures, st.floats(-1.3, 1.3))
def test_any_mixture_agrees_with_a_brute_grid(parameters, log_snr):
    weights, means, variances = map(np.array, parameters)
    snr, perturbations = 10**log_snr, (1, 2, 5, 20)
    localization, mass = brute(weights, means, variances, snr)
    least, _, zeta, sharp, tail = brute_figures(localization, mass, perturbations)
    got = figures(GaussianMixture(weights, means, variances), snr)
    scale = 1 + snr**2
    assert got["h"] == pytest.approx(tail(LEVELS), abs=1e-5)
    assert got["mean_localization"] == pytest.approx(float(localization @ mass), abs=1e-5)
    assert got["sup_localization"] >= localization.max() * (1 - 1e-9)
    assert got["m"] == pytest.approx(least, abs=1e-4)
    assert got["zeta"] / scale == pytest.approx(zeta, abs=1e-3)
    assert got["sharp"] / scale == pytest.approx(sharp, abs=1e-3)
    # delta* itself is ill-posed where h/delta is flat: what it must do is reach the minimum.
    if got["delta"] > 1e-6 and least > 1e-6:
        reached = tail(np.array([1 - got["delta"]]))[0] / got["delta"]
        assert reached == pytest.approx(least, abs=1e-4)


@settings(max_examples=20)
@given(mixtures, st.floats(-1.3, 1.3))
def test_proposition_5_on_any_mixture(parameters, log_snr):
    """m(delta) >= 0 vanishes for some delta iff P(L > 1) = 0 at it; m(1) = E L; m* <= E L."""
    target = GaussianMixture(*parameters)
    values, weights, summary = localization_quadrature(target, 10**log_snr, LEVELS)
    least = complexity.minimal_relative_tail(values[None], weights[None])[0][0]
    assert 0 <= least <= summary["mean_localization"] * (1 + 1e-12)
    assert complexity.relative_tail(values, np.ones(1), weights)[0] == pytest.approx(summary["mean_localization"])
    assert (least == 0) == (summary["sup_localization"] < 1)


@pytest.mark.parametrize("snr", [0.3, 2.0, 30.0])
def test_proposition_4_trace_of_the_curvature_is_minus_the_fisher_information(snr):
    """E L - 1 = E (log p)'' = -E |(log p)'|^2."""
    for target in (TWO, SPIKE, FOUR, UNIFORM):
        mean = localization_quadrature(target, snr, LEVELS)[2]["mean_localization"]
        y = torch.linspace(-14 * snr - 12, 14 * snr + 12, 50_001, dtype=torch.float64)[:, None]
        fisher = (target.score(y, snr).square().sum(1) * target.log_density(y, snr).exp()).sum() * (y[1] - y[0])
        assert mean - 1 == pytest.approx(-float(fisher), abs=1e-9)


def test_many_scales_at_once_are_resolved():
    """A distant light component makes a tall, thin and unlikely peak of L: sup L is exact there too."""
    target = GaussianMixture([1 - 1e-12, 1e-12], [0, 1], 0)
    for snr in (10.0, 1e3, 1e4):
        assert supremum(target, snr) == pytest.approx(snr**2 / 4, rel=1e-7)


def test_many_components():
    generator = np.random.default_rng(0)
    weights, means, variances = generator.random(50), 5 * generator.standard_normal(50), generator.random(50) ** 4
    for snr in (0.2, 3.0):
        localization, mass = brute(weights, means, variances, snr, 40_001)
        got = figures(GaussianMixture(weights, means, variances), snr)
        least, _, zeta, sharp, tail = brute_figures(localization, mass, (1, 2, 5, 20))
        assert got["m"] == pytest.approx(least, abs=1e-5)
        assert got["h"] == pytest.approx(tail(LEVELS), abs=1e-6)
        assert got["zeta"] / (1 + snr**2) == pytest.approx(zeta, abs=1e-4)
        assert got["sharp"] / (1 + snr**2) == pytest.approx(sharp, abs=1e-3)


def test_laws_without_an_explicit_line_density_are_refused():
    with pytest.raises(ValueError, match="one-dimensional"):
        localization_quadrature(GaussianMixture([1], [[0, 0]], 1), 1.0, [1.0])
