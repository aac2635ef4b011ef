import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from brenier.laws.mixture import GaussianMixture

WEIGHTS, MEANS = [0.3, 0.7], [[0.0, 1.0], [2.0, -1.0]]
KINDS = {
    "isotropic": [0.5, 2.0],
    "diagonal": [[0.5, 1.0], [2.0, 0.1]],
    "full": [[[1.0, 0.5], [0.5, 2.0]], [[0.3, 0.0], [0.0, 0.1]]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_against_the_normal_laws_of_scipy(kind: str) -> None:
    law = GaussianMixture(WEIGHTS, MEANS, KINDS[kind])
    matrices = [np.asarray(c) * np.eye(2) if np.ndim(c) < 2 else np.asarray(c) for c in KINDS[kind]]
    parts = [multivariate_normal(mean, matrix) for mean, matrix in zip(MEANS, matrices, strict=True)]
    np.testing.assert_allclose(law.components.covariances(), matrices, atol=1e-15)
    x = law.sample(20, 0)
    probabilities, squares = law.components.locate(x)
    density = np.stack([weight * part.pdf(x) for weight, part in zip(WEIGHTS, parts, strict=True)], 1)
    np.testing.assert_allclose(probabilities, density / density.sum(1, keepdims=True), rtol=1e-12)
    peaks = [part.logpdf(part.mean) for part in parts]
    expected = [2 * (peak - part.logpdf(x)) for peak, part in zip(peaks, parts, strict=True)]
    np.testing.assert_allclose(squares, np.stack(expected, 1), atol=1e-12)


def test_moments_are_those_of_the_whole() -> None:
    """E X = sum p_i mu_i, and Cov X = sum p_i (S_i + mu_i mu_i') - E X E X'."""
    mean, covariance = GaussianMixture(WEIGHTS, MEANS, KINDS["full"]).components.moments()
    p, mu, s = (np.asarray(part) for part in (WEIGHTS, MEANS, KINDS["full"]))
    np.testing.assert_allclose(mean, p @ mu)
    second = np.einsum("k,kij->ij", p, s) + (mu.T * p) @ mu
    np.testing.assert_allclose(covariance, second - np.outer(p @ mu, p @ mu))


def test_nothing_lies_within_what_is_flat() -> None:
    components = GaussianMixture([1, 1], [0.0, 1.0], [0.0, 1.0]).components
    assert components.flat
    with pytest.raises(ValueError, match="no variance in some direction: nothing lies within it"):
        components.locate(torch.zeros(2, 1))
