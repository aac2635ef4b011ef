import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from brenier import GaussianMixture
from brenier.transport.mongeampere import find_marginal, gaussian_flow, gaussian_map


def normal_law(d, seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(d, 2 * d, generator=generator, dtype=torch.float64)
    S = spread**2 * (W @ W.T / (2 * d) + 0.2 * torch.eye(d, dtype=torch.float64))
    return find_marginal(GaussianMixture([1.0], torch.randn(1, d, generator=generator, dtype=torch.float64), S[None]))


@pytest.mark.parametrize("d", [1, 2, 7])
def test_the_map_pushes_one_normal_law_onto_the_other(d):
    first, second = normal_law(d, 0), normal_law(d, 1, 3.0)
    found = gaussian_map(first, second)
    torch.testing.assert_close(found.A @ first.covariance @ found.A, second.covariance)
    torch.testing.assert_close(found.gradient(first.mean[None])[0], second.mean)


def test_the_map_is_the_formula_with_scipys_roots():
    first, second = normal_law(4, 2), normal_law(4, 3)
    root = np.real(sqrtm(first.covariance.numpy()))
    inverse = np.linalg.inv(root)
    expected = inverse @ np.real(sqrtm(root @ second.covariance.numpy() @ root)) @ inverse
    np.testing.assert_allclose(gaussian_map(first, second).A.numpy(), expected, rtol=1e-8, atol=1e-10)


def test_the_iteration_comes_to_the_map():
    first, second = normal_law(3, 4), normal_law(3, 5)
    last = list(gaussian_flow(first, second, [0.2] * 400))[-1]
    torch.testing.assert_close(last.A, gaussian_map(first, second).A, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(last.b, gaussian_map(first, second).b, rtol=1e-9, atol=1e-9)


def test_one_step_on_the_line_by_hand():
    target = find_marginal(GaussianMixture([1.0], [3.0], [4.0]))
    (step,) = gaussian_flow(find_marginal("normal", 1), target, [0.1])
    assert float(step.A) == pytest.approx(1 - 0.1 * (1 / 4 - 1))
    assert float(step.b) == pytest.approx(-0.1 * (0 - 3) / 4)


def test_a_step_that_folds_is_refused_with_its_number():
    target = find_marginal(GaussianMixture([1.0], [0.0], [0.01]))
    with pytest.raises(ValueError, match=r"step 0 of size 0.1 .* smaller"):
        list(gaussian_flow(find_marginal("normal", 1), target, [0.1]))


def test_a_law_that_does_not_spread_is_refused():
    flat = find_marginal(np.array([[0.0, 1.0], [1.0, 1.0], [3.0, 1.0]]))
    with pytest.raises(ValueError, match="does not spread in every direction"):
        gaussian_map(find_marginal("normal", 2), flat)


def test_densities_of_laws_against_closed_forms():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    law = find_marginal(GaussianMixture([0.25, 0.75], [-1.0, 2.0], [1.0, 0.25]))
    one = 0.25 * torch.exp(-((x + 1) ** 2) / 2) + 0.75 * 2 * torch.exp(-((x - 2) ** 2) * 2)
    torch.testing.assert_close(law.log_density(x), (one[:, 0] / math.sqrt(2 * math.pi)).log())
    assert float(law.mean) == pytest.approx(1.25)
    assert float(law.covariance) == pytest.approx(0.25 + 0.1875 + 0.25 * 2.25**2 + 0.75 * 0.75**2)
