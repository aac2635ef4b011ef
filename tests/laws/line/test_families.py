"""Distributions of scipy.stats as laws: by name, frozen, truncated; and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from brenier.catalog import load_target
from brenier.laws.line.density import OnTheLine
from brenier.laws.line.families import named, of_distribution


@pytest.mark.parametrize(
    ("text", "frozen"),
    [
        ("scipy:t(3)", stats.t(3)),
        ("scipy:gamma(2, scale=3)", stats.gamma(2, scale=3)),
        ("scipy:beta(a=0.5, b=2, loc=1)", stats.beta(0.5, 2, loc=1)),
        ("scipy:laplace(1e6, 1e-3)", stats.laplace(1e6, 1e-3)),
        ("scipy:norm", stats.norm),
        *([("scipy:norm()", stats.Normal())] if hasattr(stats, "Normal") else []),  # since scipy 1.15
    ],
)
def test_a_name_and_a_frozen_distribution_are_one_law(text, frozen):
    by_name, given = load_target(text), load_target(frozen)
    assert isinstance(by_name, OnTheLine)
    assert isinstance(given, OnTheLine)
    assert by_name.name == text
    np.testing.assert_allclose(by_name.scales(), given.scales(), rtol=1e-6)
    mean, variance = by_name.moments()
    own = frozen() if frozen is stats.norm else frozen
    assert float(mean) == pytest.approx(float(own.mean()), rel=1e-7, abs=1e-9)
    expected = own.variance() if own is not stats.norm and not hasattr(own, "var") else own.var()
    assert float(variance) == pytest.approx(float(expected), rel=1e-4)


def test_truncated_laws_are_the_conditional_ones():
    law = named("scipy:norm(1, 2)[0, inf]")
    twin = of_distribution(stats.truncnorm(-0.5, math.inf, loc=1, scale=2))
    y = np.array([[-2.0], [0.5], [7.0]])
    assert isinstance(law, OnTheLine)
    np.testing.assert_allclose(law.localize(y, 1.3).norm, twin.localize(y, 1.3).norm, rtol=1e-8)
    tail = of_distribution(stats.norm(), (8, math.inf))
    assert float(tail.moments()[0][0]) == pytest.approx(stats.truncnorm(8, math.inf).mean(), rel=1e-8)


def test_an_end_that_scipy_does_not_tell_is_found():
    # pearson3(-2) is the law of 1 - E, E exponential, and scipy gives it the whole line.
    law, twin = load_target("scipy:pearson3(-2)"), load_target("scipy:expon")
    y = torch.tensor([[-1.0], [0.4], [2.0]], dtype=torch.float64)
    np.testing.assert_allclose(law.localize(2 - y, 2.0).norm, twin.localize(y, 2.0).norm, rtol=1e-9)


def test_histograms_and_kernel_densities():
    x = np.random.default_rng(0).normal(size=200)
    histogram = load_target(stats.rv_histogram(np.histogram(x, bins=7)))
    edges, shares = np.histogram(x, bins=7)[1], np.histogram(x, bins=7)[0] / 200
    assert float(histogram.moments()[0][0]) == pytest.approx(shares @ (edges[1:] + edges[:-1]) / 2, rel=1e-8)
    kernel = stats.gaussian_kde(x[:20])
    y = np.array([[0.0], [1.0]])
    law = load_target(kernel)
    spread = float(kernel.covariance[0, 0])
    expected = [np.mean(stats.norm.pdf(v, 2 * x[:20], math.sqrt(1 + 4 * spread))) for v in y[:, 0]]
    np.testing.assert_allclose(np.exp(law.log_density(y, 2.0)), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("text", "variance"),
    [
        ("scipy:cosine()", math.pi**2 / 3 - 2),  # log(1 + cos x) has no digits at the ends
        ("scipy:jf_skew_t(8, 4)", stats.jf_skew_t(8, 4).var()),  # scipy's has none past -1e7
        ("scipy:levy_stable(1.5, 0.3)", math.inf),  # scipy's tails are rough to 1e-6 there
    ],
)
def test_functions_that_lose_their_digits_far_out(text, variance):
    law = load_target(text)
    assert isinstance(law, OnTheLine)
    assert law.square_integrable == math.isfinite(variance)
    if law.square_integrable:
        assert float(law.moments()[1]) == pytest.approx(variance, rel=1e-9)
    frozen = eval(text.replace("scipy:", "stats."), {"stats": stats})
    x = torch.tensor([-1.5, 0.2, 2.9], dtype=torch.float64)
    found = law.distribution(x, torch.ones(3), torch.zeros(3)).log_density
    np.testing.assert_allclose(found, frozen.logpdf(x.numpy()), rtol=1e-7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scipy:cauch", "did you mean 'cauchy'"),
        ("scipy:student(3)", "no continuous distribution 'student'"),
        ("scipy:poisson(3)", "discrete: .* mixture of point masses"),
        ("scipy:multivariate_normal", "no continuous distribution"),
        ("scipy:t", "takes the parameters df"),
        ("scipy:t(3, 4, 5, 6)", "takes the parameters df"),
        ("scipy:t(3", "is not how a distribution"),
        ("scipy:t(a)", "parameters must be numbers"),
        ("scipy:t(__import__('os'))", "parameters must be numbers"),
        ("scipy:gamma(-1)", "out of range"),
        ("scipy:t(3, scale=0)", "out of range"),
        ("scipy:t(nan)", "must be numbers"),
        ("scipy:t(3)[5, 2]", "from low to high"),
        ("scipy:t(3)[5]", "two numbers"),
        ("scipy:gamma(2)[-3, -1]", "nothing between -3 and -1"),
        ("scipy:vonmises(2)", "on the circle: vonmises_line"),
    ],
)
def test_bad_names_are_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        load_target(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (stats.binom(3, 0.5), "mixture of point masses"),
        *([(stats.Binomial(n=3, p=0.5), "mixture of point masses")] if hasattr(stats, "Binomial") else []),
        (stats.t, "needs its parameters df"),
        (stats.t([3, 4]), "one number"),
        (stats.multivariate_normal([0, 0]), "no distribution on the line"),
    ],
)
def test_other_distributions_are_refused_in_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        load_target(given)
