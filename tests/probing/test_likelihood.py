"""The integral over denoising errors against densities in closed form."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from brenier import Empirical, GaussianMixture, load_target
from brenier.laws.base import Target
from brenier.probing.likelihood import log_likelihood

MEANS = np.array([[2.0, 0.0], [-1.0, 1.5], [0.0, -1.0]])
VARIANCES, WEIGHTS = np.array([0.5, 0.3, 1.0]), np.array([0.5, 0.3, 0.2])
LAW = GaussianMixture(WEIGHTS, MEANS, VARIANCES)


def exact(points: np.ndarray, sigma: float) -> np.ndarray:
    densities = [
        stats.multivariate_normal(m, v + sigma**2).logpdf(points) for m, v in zip(MEANS, VARIANCES, strict=True)
    ]
    return special.logsumexp(np.array(densities), b=WEIGHTS[:, None], axis=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_of_a_law_s_own_denoiser_and_points_it_is_the_log_likelihood(seed: int) -> None:
    points = LAW.sample(4000, seed + 5)
    mean, error, sigma = log_likelihood(LAW, Empirical(points, dtype=torch.float64), 4000, seed=seed)
    noise = np.random.default_rng(seed).normal(size=points.shape)
    truth = exact(points.numpy() + sigma * noise, sigma)
    assert error < 0.2
    assert abs(mean - truth.mean()) < 3 * np.hypot(error, truth.std() / np.sqrt(len(truth)))


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.5)])
def test_another_denoiser_finds_them_less_likely(scale: float, shift: float) -> None:
    other = GaussianMixture(WEIGHTS, scale * MEANS + shift, scale**2 * VARIANCES)
    points = Empirical(LAW.sample(4000, 3), dtype=torch.float64)
    mean, error, sigma = log_likelihood(other, points, 4000)
    truth = exact(LAW.sample(4000, 3).numpy(), sigma)
    assert mean < truth.mean() - 3 * error


def test_units_add_their_jacobian() -> None:
    points = LAW.sample(1000, 4)
    first = log_likelihood(LAW, Empirical(points, dtype=torch.float64), 500)
    wide = GaussianMixture(WEIGHTS, 100 * MEANS, 1e4 * VARIANCES)
    second = log_likelihood(wide, Empirical(100 * points, dtype=torch.float64), 500)
    assert second[0] == pytest.approx(first[0] - 2 * np.log(100), abs=1e-6)
    assert second[1:] == pytest.approx((first[1], 100 * first[2]), rel=1e-6)


def test_a_network_finds_its_digits_likelier_than_shuffled_ones() -> None:
    network, digits = load_target("digits-network"), load_target("digits")
    assert isinstance(network, Target)
    points = digits.sample(256, 0)
    shuffled = points[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    mean, error, sigma = log_likelihood(network, Empirical(points), 256)
    assert sigma == pytest.approx(1 / network.snr_range[1])
    assert mean > log_likelihood(network, Empirical(shuffled), 256)[0] + 10 * error
