"""Chains between explicit laws on the line against closed forms, known values, and integrals done another way."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.probing.chain.process import ScoreError, backward_map, marginal, score_at
from brenier.probing.chain.quantiles import account_by_quantiles, densities_by_quantiles
from brenier.probing.chain.start import start_law
from brenier.probing.chain.walk import Walk, localize_by_quadrature

TWO = GaussianMixture([0.5, 0.5], [-1, 1], 0, name="two-points")
SPIKE = GaussianMixture([0.5, 0.5], [0, 0], [0, 1], name="spike-slab")
FOUR = GaussianMixture([0.1, 0.2, 0.4, 0.3], [-4, -2, 2, 4], [1, 0.5, 0.5, 1], name="four-gaussians")


@functools.cache
def account(law, start, steps=100, eta=0.01, beta=1.0):
    walk = Walk(law, steps, eta, beta)
    found, _ = account_by_quantiles(walk, start_law(start, law, beta))
    return walk, {name: values for name, (_, values) in found.items()}


@pytest.mark.parametrize(
    ("law", "steps", "backward", "chain"),
    [(TWO, 100, 0.0802, 0.00765), (SPIKE, 100, 0.0668, 0.0415), (FOUR, 100, 1.157, 1.147), (FOUR, 300, 0.2405, 0.2323)],
    ids=["two-points", "spike-slab", "four-gaussians", "four-gaussians-300"],
)
def test_known_distances_from_the_origin(law, steps, backward, chain):
    _, found = account(law, 0.0, steps)
    assert found["w2_backward"][0] == pytest.approx(backward, rel=0.01)
    assert found["w2_chain"][0] == pytest.approx(chain, rel=0.01)
    assert found["w2_backward"][-1] == found["w2_chain"][-1] == found["w2_forward"][-1]
    if steps == 300:
        assert found["w2_chain"][-1] == pytest.approx(0.0606, rel=0.01)  # the way back expands almost fourfold


def gaussian_chain(m, s2, nu_mean, nu_s2, steps, eta, beta):
    """Means and deviations of mu_k, mubar_k, nu_k, nubar_k for Gaussians: every map is affine."""
    levels = [marginal(k * eta, beta) for k in range(steps + 1)]
    mu, nu = (
        np.array([(a * mean, math.sqrt(a**2 * var + s**2)) for a, s in levels])
        for mean, var in ((m, s2), (nu_mean, nu_s2))
    )
    mubar, nubar = mu.copy(), nu.copy()
    for k in range(steps, 0, -1):
        variance = mu[k, 1] ** 2
        slope = 1 + eta - eta / (beta * variance)
        shift = eta * mu[k, 0] / (beta * variance)
        for bar in (mubar, nubar):
            bar[k - 1] = slope * bar[k, 0] + shift, slope * bar[k, 1]
    return mu, nu, mubar, nubar


@pytest.mark.parametrize(("m", "s2", "beta"), [(0, 0.25, 1), (1, 4, 1), (-2, 1, 1), (0.5, 0, 1), (1, 2, 3)])
@pytest.mark.parametrize(("nu_mean", "nu_s2"), [(0, 0), (1, 2.5)])
def test_gaussian_chains_in_closed_form(m, s2, beta, nu_mean, nu_s2):
    law, start = (GaussianMixture([1], [mean], float(var)) for mean, var in ((m, s2), (nu_mean, nu_s2)))
    steps, eta = 40, 0.02
    _, found = account(law, start, steps, eta, beta)
    mu, nu, mubar, nubar = gaussian_chain(m, s2, nu_mean, nu_s2, steps, eta, beta)
    for name, a, b in (
        ("forward", mu, nu),
        ("backward", mu, nubar),
        ("chain", mubar, nubar),
        ("discretisation", mu, mubar),
    ):
        np.testing.assert_allclose(found[f"w2_{name}"], np.hypot(*(a - b).T), rtol=1e-9, atol=1e-12)
    k = np.arange(1, steps + 1)
    ratio = found["w2_chain"][:-1] / found["w2_chain"][1:]
    if beta == 1:  # math.md section 6, [LDK24] introduction with e^{2 k eta}
        np.testing.assert_allclose(ratio, 1 + eta * (s2 - 1) / (np.exp(2 * k * eta) + s2 - 1), rtol=1e-6)
    # Corollary 1: the Hessian of log p_{mu_k} is -1/var I, and the bound of Theorem 2 is an equality for every nu.
    np.testing.assert_allclose(ratio, 1 + eta * (1 - 1 / (beta * mu[1:, 1] ** 2)), rtol=1e-9)
    for name, p, q in (("forward", mu, nu), ("backward", mu, nubar)):
        smooth = (p[:, 1] > 0) & (q[:, 1] > 0)
        gap, (sp, sq) = p[smooth, 0] - q[smooth, 0], (part[smooth, 1] for part in (p, q))
        expected = np.log(sq / sp) + (sp**2 + gap**2) / (2 * sq**2) - 0.5
        np.testing.assert_allclose(found[f"kl_{name}"][smooth], expected, rtol=1e-6, atol=1e-9)
        assert np.all(np.isinf(found[f"kl_{name}"][~smooth]) | (p[~smooth] == q[~smooth]).all(1))


def test_corollary_1_holds_for_any_start():
    law, eta = GaussianMixture([1], [1], 4.0), 0.03
    _, found = account(law, FOUR, 20, eta)
    variance = np.array([marginal(k * eta)[0] ** 2 * 4 + marginal(k * eta)[1] ** 2 for k in range(21)])
    ratio = found["w2_chain"][:-1] / found["w2_chain"][1:]
    np.testing.assert_allclose(ratio, 1 + eta * (1 - 1 / variance[1:]), rtol=1e-6)
    # The rate of W2^2 tends to 2 (kappa - zeta/beta) as eta does: at eta = 0.03 it is eta times its square off.
    rate, limit = (ratio**2 - 1) / eta, 2 * (1 - 1 / variance[1:])
    np.testing.assert_allclose(rate, limit + eta * (limit / 2) ** 2, rtol=1e-6)


def test_forward_contraction_of_dirac_pairs():
    _, found = account(GaussianMixture([1], [2], 0.0), -1.0, 50, 0.02)
    np.testing.assert_allclose(found["w2_forward"], 3 * np.exp(-0.02 * np.arange(51)), rtol=1e-12)


@pytest.mark.parametrize("law", [TWO, FOUR, Uniform(-1, 1)], ids=lambda law: law.name)
def test_forward_chains_contract(law):
    _, found = account(law, 0.5, 12, 0.075)
    assert np.all(found["w2_forward"][1:] / found["w2_forward"][:-1] <= math.exp(-0.075) * (1 + 1e-9))
    for name in ("tv_forward", "kl_forward"):
        assert np.all(np.diff(found[name][1:]) <= 1e-9)  # data processing


def test_relative_entropy_stays_while_w2_grows():
    # The maps are bijections: KL between what they carry back is what it was. mu_k differs from mubar_k by the steps.
    _, fine = account(FOUR, 0.0, 300)
    _, coarse = account(FOUR, 0.0, 150, 0.02)
    top = fine["kl_backward"][-1]
    assert coarse["kl_backward"][-1] == pytest.approx(top, rel=1e-6)
    for time in (0.4, 1.2):
        off = [abs(found["kl_backward"][round(time / eta)] - top) for found, eta in ((fine, 0.01), (coarse, 0.02))]
        assert 0.4 < off[0] / off[1] < 0.6  # of first order in the step
    assert fine["w2_chain"][0] > 3 * fine["w2_chain"][-1]


@pytest.mark.parametrize("law", [SPIKE, FOUR], ids=lambda law: law.name)
def test_divergences_against_integrals_over_x(law):
    steps, eta, k = 15, 0.04, 10
    walk, found = account(law, 1.0, steps, eta)
    x, dense = densities_by_quantiles(walk, start_law(1.0, law), 6001)
    p, q = dense["forward_target"][k], dense["forward_start"][k]
    assert np.trapezoid(np.maximum(p - q, 0), x) == pytest.approx(found["tv_forward"][k], abs=1e-3)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where((p > 0) & (q > 0), p * np.log(p / q), 0)
    assert np.trapezoid(terms, x) == pytest.approx(found["kl_forward"][k], rel=2e-2)
    q = dense["backward_start"][k]
    assert np.trapezoid(np.maximum(p - q, 0), x) == pytest.approx(found["tv_backward"][k], abs=1e-3)
    for name in dense:
        mass = np.trapezoid(dense[name][1:], x, axis=1)
        assert mass[2:] == pytest.approx(1, abs=2e-3)  # 99.9% of the mass is shown


def test_backward_densities_are_those_of_the_carried_particles():
    walk = Walk(FOUR, 12, 0.075)
    x, dense = densities_by_quantiles(walk, start_law(0.5, FOUR), 4001)
    particles = walk.noised(
        torch.full((200_000, 1), 0.5, dtype=torch.float64),
        torch.randn((200_000, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        12,
    )
    for k in range(12, 0, -1):
        particles = backward_map(FOUR, particles, k * 0.075, 0.075)
    share, edges = np.histogram(particles.numpy(), bins=40, range=(-3, 6))
    cumulative = np.concatenate(
        [[0], np.cumsum((dense["backward_start"][0][1:] + dense["backward_start"][0][:-1]) / 2 * np.diff(x))]
    )
    expected = np.diff(np.interp(edges, x, cumulative))
    error = np.sqrt(np.maximum(expected, 1e-5) / 200_000)
    assert np.all(abs(share / 200_000 - expected) < 5 * error + 1e-4)


def test_point_masses_at_the_start_of_the_way():
    _, found = account(SPIKE, 0.0, 3, 0.01)
    # delta_0 has half of the law's mass in common with it, and no density for the slab.
    assert found["tv_forward"][0] == pytest.approx(0.5, abs=1e-12)
    assert math.isinf(found["kl_forward"][0])
    two = GaussianMixture([0.3, 0.7], [-1, 1], 0.0)
    _, found = account(TWO, two, 3, 0.01)
    assert found["tv_forward"][0] == pytest.approx(0.2, abs=1e-12)
    assert found["kl_forward"][0] == pytest.approx(0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.7), abs=1e-12)
    assert found["w2_forward"][0] == pytest.approx(math.sqrt(0.2 * 4), rel=1e-9)
    # nubar_0 has a density: a law of points is all out of its reach, half of spike and slab at least.
    assert found["tv_backward"][0] == pytest.approx(1, abs=1e-12)
    assert math.isinf(found["kl_backward"][0])


def test_a_uniform_law_against_a_gaussian():
    _, found = account(Uniform(-1, 1), "normal", 20, 0.02)
    inside = stats.norm.cdf(1) - stats.norm.cdf(-1)
    assert found["tv_forward"][0] == pytest.approx(1 - inside, abs=1e-5)  # the uniform density is the larger one inside
    assert found["kl_forward"][0] == pytest.approx(-math.log(2) + math.log(2 * math.pi) / 2 + 1 / 6, rel=1e-6)
    assert found["w2_forward"][0] == pytest.approx(math.sqrt(4 / 3 - 2 / math.sqrt(math.pi)), rel=1e-8)
    # At step 5, by adaptive integration over x.
    a, s = marginal(0.1)

    def p(x):
        return (stats.norm.cdf((x + a) / s) - stats.norm.cdf((x - a) / s)) / (2 * a)

    expected = quad(lambda x: p(x) * (math.log(p(x)) - stats.norm.logpdf(x)), -4, 4, points=[-a, a], epsabs=1e-12)[0]
    assert found["kl_forward"][5] == pytest.approx(expected, rel=1e-6)


def test_equal_laws_stay_equal():
    _, found = account(FOUR, FOUR, 5, 0.1)
    for name in ("w2_forward", "w2_chain", "kl_forward", "tv_forward"):
        assert np.all(abs(found[name]) < 1e-12)
    np.testing.assert_allclose(found["w2_backward"], found["w2_discretisation"], rtol=1e-12)


def walk_with_error(law, size, band=None, steps=30, eta=0.04, seed=3):
    walk = Walk(law, steps, eta)
    local = localize_by_quadrature(walk, np.array([1.0]), lambda share: None) if steps < 20 else None
    trace = local.mean if local else np.full(steps, 0.3)
    x = law.sample(4096, 1)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    walk.set_error(ScoreError(size, "smooth", band, seed), trace, lambda k: walk.noised(x, z, k))
    return walk


def with_error(law, size, band=None):
    walk = walk_with_error(law, size, band)
    found, _ = account_by_quantiles(walk, start_law("equilibrium", law))
    return walk, {name: values for name, (_, values) in found.items()}


@pytest.mark.parametrize("band", [None, (0.8, 2.0)])
def test_a_small_smooth_score_error_is_amplified_as_predicted(band):
    for size, relative in ((1e-4, 1e-3), (1e-2, 0.1)):  # off by the square of the error, as to first order it is
        walk, found = with_error(FOUR, size, band)
        assert abs(found["w2_error"][0] / found["w2_error_predicted"][0] - 1) < relative
        assert found["w2_error"][0] > 0
        assert found["w2_error"][-1] == 0
        if band is not None:
            before = found["w2_error"][walk.snr < band[0]]
            assert np.all(before[1:] == 0)


def test_the_error_has_the_size_asked_for():
    law, steps = FOUR, 10
    walk = walk_with_error(law, 0.05, steps=steps, eta=0.1)
    x = law.sample(100_000, 5)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for k in (1, 5, 10):
        at = walk.noised(x, z, k)
        wrong, right = walk.score_error(at, k)[0], score_at(law, at, k * 0.1)
        assert float((wrong.square().mean() / right.square().mean()).sqrt()) == pytest.approx(0.05, rel=0.06)


def test_an_error_so_large_that_a_step_folds():
    with pytest.raises(ValueError, match=r"step \d+ of 30 folds, its map's slope falls to -.*eta must be below"):
        with_error(FOUR, 100.0)


def test_results_do_not_depend_on_the_mesh_it_began_with(monkeypatch):
    _, found = account(TWO, 0.3, 8, 0.05)
    monkeypatch.setattr("brenier.probing.chain.quantiles.REACH", 8.7)
    _, again = account.__wrapped__(TWO, 0.3, 8, 0.05)
    for name in ("w2_forward", "w2_backward", "w2_chain", "w2_discretisation", "kl_forward", "tv_forward"):
        np.testing.assert_allclose(again[name], found[name], rtol=1e-6, atol=1e-8)
