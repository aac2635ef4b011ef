import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad

import brenier
from brenier.laws.mixed import Mixture
from brenier.laws.mixture import GaussianMixture

Y = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("snr", [0.3, 1.0, 6.0])
def test_normal_components_and_point_masses_make_the_gaussian_mixture(snr: float) -> None:
    law = Mixture([0.5, 0.2, 0.3], [0.0, scipy.stats.norm(2, 0.5), GaussianMixture([1], [-1.0], 1.0)])
    same = GaussianMixture([0.5, 0.2, 0.3], [0.0, 2.0, -1.0], [0.0, 0.25, 1.0])
    ours, theirs = law.localize(Y, snr), same.localize(Y, snr)
    np.testing.assert_allclose(ours.norm, theirs.norm, rtol=1e-9)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(law.log_density(Y, snr), same.log_density(Y, snr), rtol=1e-10)
    np.testing.assert_allclose(law.score(Y, snr), same.score(Y, snr), rtol=1e-9, atol=1e-12)
    at, one = torch.linspace(-3, 3, 9, dtype=torch.float64), torch.ones(9, dtype=torch.float64)
    for sigma in (0.0, 0.7):
        found, expected = (part.distribution(at, one, sigma * one) for part in (law, same))
        np.testing.assert_allclose(found.log_cdf, expected.log_cdf, rtol=1e-9, atol=1e-12)
    for found, expected in zip(law.point_masses(), same.point_masses(), strict=True):
        np.testing.assert_allclose(found, expected)
    for found, expected in zip(law.moments(), same.moments(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_skewed_and_a_heavy_component_are_those_of_quadrature() -> None:
    parts, snr = [scipy.stats.gamma(1.5), scipy.stats.t(3, loc=-2)], 1.7
    law = Mixture([1, 3], parts)
    found = law.localize(Y, snr)
    for k in (4, 16, 25):
        y = float(Y[k])

        def integral(power: int, y: float = y) -> float:
            def term(x: float) -> float:
                density = 0.25 * parts[0].pdf(x) + 0.75 * parts[1].pdf(x)
                return density * math.exp(-((y - snr * x) ** 2) / 2) * x**power

            middle = y / snr
            cuts = sorted({middle - 6, min(max(middle - 6, 0.0), middle + 6), middle, middle + 6})
            return sum(quad(term, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in itertools.pairwise(cuts))

        mass, first, second = (integral(power) for power in range(3))
        mean = first / mass
        np.testing.assert_allclose(float(found.mean[k]), mean, rtol=1e-8)
        np.testing.assert_allclose(float(found.norm[k]), snr**2 * (second / mass - mean**2), rtol=1e-7)


def test_a_spike_in_a_heavy_tail_is_probed_without_random_numbers() -> None:
    law = Mixture([0.5, 0.5], [0.0, scipy.stats.t(3)])
    profile = brenier.probe(law, [0.5, 50.0], progress=False)
    assert profile.attrs["method"] == "quadrature"
    drawn = brenier.probe(law, [0.5, 50.0], method="monte-carlo", queries=8192, seed=1, progress=False)
    assert bool((abs(profile.mean_localization - drawn.mean_localization) < 4 * drawn.mean_localization_se).all())
    assert bool((abs(profile.m_star - drawn.m_star) < 4 * drawn.m_star_se).all())


def test_draws_scales_and_places_are_the_law_s() -> None:
    law = Mixture([0.3, 0.7], [1.0, scipy.stats.laplace(-1, 0.5)])
    x = law.sample(20_000, 3)[:, 0].numpy()
    assert abs((x == 1).mean() - 0.3) < 0.015
    assert scipy.stats.kstest(x[x != 1], scipy.stats.laplace(-1, 0.5).cdf).pvalue > 1e-3
    smallest, largest = law.scales()
    assert 0.1 < smallest < 0.5
    assert largest == pytest.approx((1 + 1 + 0.5 * math.log(2 * 0.158655 / 0.7) * -1) / 2, rel=1e-3)
    far = Mixture([0.3, 0.7], [1.0 + 1e6, scipy.stats.laplace(1e6 - 1, 0.5)])
    near = far.moved(-far.origin)
    y = Y + 2 * (law.origin - (law.origin if law.origin.any() else 0))
    shift = float(far.origin) - 1e6
    np.testing.assert_allclose(near.localize(y - 2 * shift, 2.0).norm, law.localize(y, 2.0).norm, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "laws", "words"),
    [
        ([1.0], [], "one law per weight"),
        ([0.0], [0.0], "not all zero"),
        ([1.0], [brenier.Elliptical.student(3, 2)], "has 2 dimensions"),
        ([1.0], [brenier.Elliptical.student(3, 1)], "no explicit distribution"),
        ([1.0], [scipy.stats.poisson(2)], "is discrete"),
    ],
)
def test_what_is_no_mixture_is_refused(weights: list[float], laws: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Mixture(weights, laws)
