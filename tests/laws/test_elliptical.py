import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad

import brenier
from brenier.laws.elliptical import Elliptical


@pytest.mark.parametrize("snr", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(
    ("law", "same"),
    [
        (Elliptical.student(3, 1, location=0.5, scale=4.0), "scipy:t(3, loc=0.5, scale=2)"),
        (Elliptical.laplace(1, scale=2.0), "scipy:laplace"),
    ],
    ids=["t", "laplace"],
)
def test_on_the_line_it_is_the_law_by_quadrature(law: Elliptical, same: str, snr: float):
    line = brenier.load_target(same)
    y = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None] * max(1.0, snr)
    ours, theirs = law.localize(y, snr), line.localize(y, snr)
    np.testing.assert_allclose(ours.norm, theirs.norm, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(law.log_density(y, snr), line.log_density(y, snr), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1.5, [0.5, 1.0, 2.0], [[1.0, 0.5, 0.0], [0.5, 2.0, 0.3], [0.0, 0.3, 0.7]]])
def test_a_multivariate_t_is_within_the_errors_of_monte_carlo(scale):
    law, snr = Elliptical.student(4, 3, scale=scale), 0.8
    shape = np.atleast_2d(scale) if np.ndim(scale) == 2 else np.diag(np.broadcast_to(scale, 3))
    x = scipy.stats.multivariate_t.rvs(np.zeros(3), shape, df=4, size=400_000, random_state=1)
    for y in ([0.5, -1.0, 0.3], [3.0, 1.0, -2.0]):
        weight = np.exp(-((np.array(y) - snr * x) ** 2).sum(1) / 2)
        weight /= weight.sum()
        mean = weight @ x
        covariance = snr**2 * np.einsum("n,ni,nj->ij", weight, x - mean, x - mean)
        error = 4 / math.sqrt(1 / (weight**2).sum())
        found = law.localize(torch.tensor([y], dtype=torch.float64), snr)
        assert np.abs(found.mean[0].numpy() - mean).max() < error
        assert abs(float(found.norm) - np.linalg.norm(covariance, 2)) < 2 * error
        assert abs(float(found.trace) - np.trace(covariance)) < 4 * error


def test_the_localization_is_the_derivative_of_the_denoiser():
    law, snr = Elliptical.student(3, 4, scale=[1.0, 2.0, 0.5, 3.0]), 1.3
    y = torch.tensor([[1.0, -2.0, 0.5, 4.0]], dtype=torch.float64)
    step = 1e-5 * torch.eye(4, dtype=torch.float64)
    jacobian = snr * (law.denoise(y + step, snr) - law.denoise(y - step, snr)) / 2e-5
    found = law.localize(y, snr)
    np.testing.assert_allclose(float(found.norm), np.linalg.norm(jacobian, 2), rtol=1e-6)
    np.testing.assert_allclose(float(found.trace), np.trace(jacobian), rtol=1e-6)


def test_density_moments_and_draws_are_those_of_scipy():
    law, shape = Elliptical.student(5, 2, location=[1.0, 0.0], scale=[1.0, 4.0]), np.diag([1.0, 4.0])
    x = law.sample(20_000, 1)
    expected = scipy.stats.multivariate_t.logpdf(x[:50].numpy(), [1.0, 0.0], shape, df=5)
    np.testing.assert_allclose(law.density()(x[:50]), expected, rtol=1e-6)
    mean, covariance = law.moments()
    np.testing.assert_allclose(mean, [1.0, 0.0])
    np.testing.assert_allclose(covariance, shape * 5 / 3, rtol=1e-6)
    radius = ((x.numpy() - [1.0, 0.0]) ** 2 / [1.0, 4.0]).sum(1) / 2
    assert scipy.stats.kstest(radius, scipy.stats.f(2, 5).cdf).pvalue > 1e-3


def test_a_radial_laplace_law_integrates_to_one():
    density = Elliptical.laplace(3).density()

    def shell(radius: float) -> float:
        point = torch.tensor([[radius, 0.0, 0.0]], dtype=torch.float64)
        return 4 * math.pi * radius**2 * float(density(point).exp())

    assert quad(shell, 0, 40, limit=200)[0] == pytest.approx(1, abs=1e-6)


def test_what_has_no_second_moment_says_so_and_is_probed():
    law = Elliptical.student(1.5, 3)
    assert not law.square_integrable
    with pytest.raises(NotImplementedError, match="no second moment"):
        law.moments()
    profile = brenier.probe(law, [0.5, 2.0], queries=256, progress=False)
    assert bool((profile["mean_localization"] > 0).all())
    far = Elliptical.student(3, 2, location=1e6)
    assert float(far.moved(-far.origin).location.abs().max()) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Elliptical.student(0, 2), "df must be positive"),
        (lambda: Elliptical.student(0.05, 2), "spreads over more than"),
        (lambda: Elliptical.student(3, 0), "dim must be a whole number"),
        (lambda: Elliptical.laplace(2, scale=[1.0, -1.0]), "positive definite"),
        (lambda: Elliptical.laplace(2, scale=[1.0, 2.0, 3.0]), "scale must be a number"),
        (lambda: Elliptical.laplace(2, location=[1.0, 2.0, 3.0]), "location must be"),
    ],
)
def test_wrong_arguments_are_refused(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.7, 2.0])
def test_a_generalised_normal_law_on_the_line_is_that_of_scipy(exponent: float):
    law, line = Elliptical.generalised_normal(exponent, 1), brenier.load_target(f"scipy:gennorm({exponent})")
    for snr in (0.3, 3.0):
        y = torch.linspace(-3 - 6 * snr, 3 + 6 * snr, 25, dtype=torch.float64)[:, None]
        ours, theirs = law.localize(y, snr), line.localize(y, snr)
        np.testing.assert_allclose(ours.norm, theirs.norm, rtol=1e-10)
        np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-10, atol=1e-12)
    assert scipy.stats.kstest(law.sample(5000, 1)[:, 0], scipy.stats.gennorm(exponent).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("exponent", "dim"), [(0.6, 3), (1.3, 50)])
def test_a_generalised_normal_law_has_the_moments_of_its_radius(exponent: float, dim: int):
    law = Elliptical.generalised_normal(exponent, dim, scale=4.0)
    mean, covariance = law.moments()
    second = 4 * math.gamma((dim + 2) / exponent) / math.gamma(dim / exponent)  # E |x|^2, |x/2|^b ~ gamma(d/b)
    np.testing.assert_allclose(covariance, second / dim * np.eye(dim), rtol=1e-10)
    np.testing.assert_allclose(mean, np.zeros(dim))
    squares = law.sample(20_000, 3).square().sum(1)
    assert abs(float(squares.mean()) - second) < 4 * float(squares.std()) / math.sqrt(20_000)


def test_the_density_of_a_generalised_normal_law_falls_as_its_power():
    law = Elliptical.generalised_normal(0.8, 3, scale=[1.0, 4.0, 0.25])
    x = law.sample(20, 1)
    q = (x.square() / torch.tensor([1.0, 4.0, 0.25])).sum(1)
    log_density = law.density()(x)
    np.testing.assert_allclose(log_density - log_density[0], q[0] ** 0.4 - q**0.4, atol=1e-7)


@pytest.mark.parametrize(("exponent", "words"), [(2.5, "no mixture of normal laws"), (1.97, "take 2"), (0, "near 0")])
def test_a_generalised_normal_law_that_is_no_mixture_is_refused(exponent: float, words: str):
    with pytest.raises(ValueError, match=words):
        Elliptical.generalised_normal(exponent, 2)
