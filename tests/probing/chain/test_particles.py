"""Chains by particles against closed forms, against quantiles, and against themselves turned around."""

import itertools
import math

import numpy as np
import pytest
import torch

from brenier.distances.distance import Distance
from brenier.distances.wasserstein import w2
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.particles import account_by_particles, step_back
from brenier.probing.chain.process import ScoreError, marginal
from brenier.probing.chain.quantiles import account_by_quantiles
from brenier.probing.chain.start import start_law
from brenier.probing.chain.walk import Walk, draw

TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")
FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")
NAMES = ("forward", "backward", "chain", "discretisation")


def account(law, start, steps, eta, mode="ode", count=1024, seed=0, error=None):
    walk = Walk(law, steps, eta)
    if error is not None:
        x, z = draw(law, 4096, 9)
        trace = np.array(
            [law.localize(walk.noised(x, z, k) / walk.sigma[k], walk.snr[k]).trace.mean() for k in range(1, steps + 1)]
        )
        walk.set_error(error, trace, lambda k: walk.noised(x, z, k))
    found, _ = account_by_particles(walk, start_law(start, law), mode, count, seed, lambda share: None)
    return {name: values for name, (_, values) in found.items()}


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def agree(found, expected, standard_errors=3.0):
    for name in NAMES:
        off = abs(found[f"w2_{name}"] - expected[f"w2_{name}"])
        assert np.all(off <= standard_errors * found[f"w2_{name}_se"]), name


@pytest.mark.parametrize("d", [2, 8, 64])
def test_gaussian_chains_in_closed_form(d):
    variances, steps, eta = np.linspace(0.2, 4, d), 4, 0.25
    mean = np.zeros(d)
    mean[0] = 2
    turn = rotation(d)
    law = GaussianMixture([1], (turn @ mean)[None], [turn @ np.diag(variances) @ turn.T])
    levels = [marginal(k * eta) for k in range(steps + 1)]
    mu = [(a * mean, np.sqrt(a**2 * variances + s**2)) for a, s in levels]
    nu = [(np.zeros(d), np.ones(d))] * (steps + 1)
    mubar, nubar = [mu[-1]], [nu[-1]]
    for k in range(steps, 0, -1):
        slope, shift = 1 + eta - eta / mu[k][1] ** 2, eta * mu[k][0] / mu[k][1] ** 2
        for bar in (mubar, nubar):
            bar.insert(0, (slope * bar[0][0] + shift, slope * bar[0][1]))
    pairs = {"forward": (mu, nu), "backward": (mu, nubar), "chain": (mubar, nubar), "discretisation": (mu, mubar)}
    # All covariances are diagonal in the same axes: W2^2 = |difference of means|^2 + |difference of deviations|^2.
    expected = {
        f"w2_{name}": np.array(
            [math.hypot(*np.linalg.norm(np.subtract(p, q), axis=1)) for p, q in zip(a, b, strict=True)]
        )
        for name, (a, b) in pairs.items()
    }
    found = account(law, "normal", steps, eta)
    agree(found, expected)
    # And the error bar says something: the forward distance is known to a tenth, or better.
    assert np.all(found["w2_forward_se"][:2] < 0.1 * found["w2_forward"][:2])


@pytest.mark.parametrize("d", [2, 6])
def test_a_rotated_product_gives_the_answer_on_the_line(d):
    # Two points along the first axis, the same Gaussian as the start along the others, then everything turned.
    turn, steps, eta = rotation(d, 1), 4, 0.1
    spread = np.diag([0.0] + [0.5] * (d - 1))
    means = np.zeros((2, d))
    means[:, 0] = -1, 1
    covariance = turn @ spread @ turn.T
    law = GaussianMixture([0.5, 0.5], means @ turn.T, [covariance, covariance])
    start = GaussianMixture([1], np.zeros((1, d)), [covariance])
    line, _ = account_by_quantiles(Walk(TWO, steps, eta), start_law(0.0, TWO))
    found = account(law, start, steps, eta)
    exact = {name: np.asarray(values) for name, (_, values) in line.items()}
    for name in ("w2_forward", "w2_backward", "w2_chain"):
        assert np.all(abs(found[name] - exact[name]) <= 3 * found[f"{name}_se"] + 0.02 * exact[name])
    # The steps alone: the other axes are Gaussian, and their maps are not exact either.
    slope, variances = 1.0, []
    for k in range(steps, 0, -1):
        alpha, sigma = marginal(k * eta)
        variances.append(alpha**2 * 0.5 + sigma**2)
        slope *= 1 + eta - eta / variances[-1]
    other = (d - 1) * (slope * math.sqrt(variances[0]) - math.sqrt(0.5)) ** 2
    expected = math.sqrt(exact["w2_discretisation"][0] ** 2 + other)
    assert abs(found["w2_discretisation"][0] - expected) <= 3 * found["w2_discretisation_se"][0]


def test_rotation_changes_nothing_but_the_draw():
    d, turn = 5, rotation(5, 2)
    means = np.random.default_rng(3).normal(size=(3, d)) * 2
    plain = GaussianMixture([0.5, 0.3, 0.2], means, [0.3, 0.1, 0.6])
    turned = GaussianMixture([0.5, 0.3, 0.2], means @ turn.T, [0.3, 0.1, 0.6])
    a, b = (account(law, "normal", 3, 0.2, count=1024, seed=seed) for seed, law in enumerate((plain, turned)))
    for name in NAMES:
        error = np.hypot(a[f"w2_{name}_se"], b[f"w2_{name}_se"])
        assert np.all(abs(a[f"w2_{name}"] - b[f"w2_{name}"]) <= 3 * error)


@pytest.mark.parametrize("law", [TWO, FOUR], ids=lambda law: law.name)
def test_particles_on_the_line_agree_with_quantiles(law):
    exact, _ = account_by_quantiles(Walk(law, 10, 0.1), start_law(0.3, law))
    found = account(law, 0.3, 10, 0.1, count=2**13)
    agree(found, {name: np.asarray(values) for name, (_, values) in exact.items()}, 3.5)


def test_data_are_taken_back_to_data():
    atoms = 3 * np.random.default_rng(0).normal(size=(50, 3))
    found = account(Empirical(atoms), "equilibrium", 10, 0.1, count=256)
    assert found["w2_backward"][0] < 0.5 * found["w2_forward"][0]


def test_euler_maruyama_of_a_gaussian():
    variance, steps, eta, n = 4.0, 10, 0.05, 100_000
    law = GaussianMixture([1], [0], variance)
    walk, noise = Walk(law, steps, eta), torch.Generator().manual_seed(0)
    x = walk.noised(*draw(law, n, 1), steps)
    expected = walk.alpha[-1] ** 2 * variance + walk.sigma[-1] ** 2
    for k in range(steps, 0, -1):
        mu = walk.alpha[k] ** 2 * variance + walk.sigma[k] ** 2
        x = step_back(walk, x, k, "sde", noise)
        expected = (1 + eta - 2 * eta / mu) ** 2 * expected + 2 * eta
    assert float(x.var()) == pytest.approx(expected, abs=4 * expected * math.sqrt(2 / n))
    assert float(x.mean()) == pytest.approx(0, abs=4 * math.sqrt(expected / n))


@pytest.mark.parametrize("law", [FOUR, GaussianMixture([0.5, 0.5], [[-1.0, 0], [1, 1]], 0.2)], ids=["line", "plane"])
def test_marginals_of_the_sde_and_of_the_ode_agree(law):
    steps, eta, n = 200, 0.002, 2**12  # steps so short that their own errors, of order eta, are below those of sampling
    walk, noise = Walk(law, steps, eta), torch.Generator().manual_seed(0)
    ends = []
    for mode, seed in (("ode", 1), ("sde", 2)):
        x = walk.noised(*draw(law, n, seed), steps)
        for k in range(steps, 0, -1):
            x = step_back(walk, x, k, mode, noise)
        ends.append(x)
    ends.append(law.sample(n, 3))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        distance = w2(ends[a], ends[b])
        assert distance.squared <= 3 * distance.squared_se


@pytest.fixture
def errors_alone(monkeypatch):
    """Of the five distances at every step only the last is found, that of the score's error: the others are NaN."""
    wanted = itertools.cycle([False] * len(NAMES) + [True])
    unknown = Distance(math.nan, math.nan, math.nan, math.nan, "none", 0)
    monkeypatch.setattr("brenier.probing.chain.particles.w2", lambda a, b: w2(a, b) if next(wanted) else unknown)


@pytest.mark.parametrize("kind", ["smooth", "white"])
@pytest.mark.parametrize("mode", ["ode", "sde"])
@pytest.mark.usefixtures("errors_alone")
def test_small_errors_on_the_line_displace_as_predicted(kind, mode):
    found = account(FOUR, 0.0, 20, 0.05, mode, count=2**13, error=ScoreError(1e-3, kind, None, 4))
    assert found["displacement"][-1] == found["w2_error_predicted"][-1] == 0
    share = found["displacement"][:-1] / found["w2_error_predicted"][:-1]
    assert share == pytest.approx(1, abs=1e-3 if kind == "smooth" else 0.05)
    assert np.all(found["w2_error"] <= found["displacement"] + 3 * found["w2_error_se"])


@pytest.mark.usefixtures("errors_alone")
def test_in_more_dimensions_the_prediction_is_an_upper_bound():
    law = GaussianMixture([0.5, 0.5], np.array([[-2.0] * 6, [2.0] * 6]), 0.3)
    for kind in ("smooth", "white"):
        found = account(law, "normal", 4, 0.2, count=256, error=ScoreError(1e-3, kind))
        share = found["displacement"][:-1] / found["w2_error_predicted"][:-1]
        assert np.all(share <= 1 + 1e-3 if kind == "smooth" else share <= 1.05)


def test_points_and_noise_are_independent():
    # A stream of random numbers used for both would show in their products.
    x, z = draw(GaussianMixture([1], [[0.0] * 4], 1.0), 20_000, 7)
    assert float((x.mT @ z / 20_000).abs().max()) < 5 / math.sqrt(20_000)
    for shift in range(1, 5):
        assert abs(float((x.flatten()[shift:] * z.flatten()[:-shift]).mean())) < 5 / math.sqrt(80_000)
        assert abs(float((z.flatten()[shift:] * x.flatten()[:-shift]).mean())) < 5 / math.sqrt(80_000)


def test_the_seed_decides():
    a, b, c = (account(FOUR, 0.0, 2, 0.1, "sde", count=64, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["w2_chain"], c["w2_chain"])
