import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from brenier.probing.association import associate


def draw(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    first = random.normal(size=n)
    control = random.normal(size=n) + 0.5 * first
    return np.stack([first, control, np.zeros(n)]), first + 0.7 * random.normal(size=n)


def test_correlations_are_those_of_scipy_and_lie_in_their_intervals():
    numbers, outcome = draw(0)
    found = associate(numbers, outcome)
    for j in (0, 1):
        np.testing.assert_allclose(found.rho[0, j], spearmanr(numbers[j], outcome).statistic, atol=1e-12)
        assert found.rho[1, j] < found.rho[0, j] < found.rho[2, j]
    np.testing.assert_allclose(found.lead[0, 1], found.rho[0, 0] - abs(found.rho[0, 1]), atol=1e-12)


def test_a_partial_correlation_is_that_of_the_residuals_of_the_ranks():
    numbers, outcome = draw(1)
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (numbers[0], outcome, numbers[1])]
    slope = [np.polyfit(ranks[2], ranks[k], 1) for k in (0, 1)]
    rest = [ranks[k] - np.polyval(slope[k], ranks[2]) for k in (0, 1)]
    expected = np.corrcoef(*rest)[0, 1]
    found = associate(numbers, outcome)
    np.testing.assert_allclose(found.partial[0, 1], expected, atol=1e-12)
    np.testing.assert_allclose(found.partial_all[0], expected, atol=1e-12)  # the constant control is none


def test_the_area_is_mann_and_whitneys_for_the_worst_tenth():
    numbers, outcome = draw(2)
    worst = outcome >= np.sort(outcome)[-20]
    expected = mannwhitneyu(numbers[0][worst], numbers[0][~worst]).statistic / (20 * 180)
    np.testing.assert_allclose(associate(numbers, outcome).auc[0, 0], expected, atol=1e-12)


def test_what_does_not_vary_or_is_the_same_goes_with_nothing():
    numbers, outcome = draw(3)
    found = associate(np.stack([numbers[0], numbers[0], numbers[2]]), outcome)
    assert np.isnan(found.rho[:, 2]).all()
    assert np.isnan(found.partial[:, 1]).all()
    assert (found.lead[:, 1] == 0).all()  # the same order is no lead


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Spearman's correlation of normal numbers is 6/pi asin(rho/2)."""
    rho = 1 / np.sqrt(1 + 0.7**2)
    truth = 6 / np.pi * np.arcsin(rho / 2)
    held = 0
    for seed in range(10):
        found = associate(*draw(seed, 100), seed=seed)
        held += found.rho[1, 0] <= truth <= found.rho[2, 0]
    assert held >= 8  # 9.5 expected; fewer than 8 by chance once in 100


def test_few_points_are_refused():
    with pytest.raises(ValueError, match="19 points are too few for correlations: give at least 20"):
        associate(np.zeros((1, 19)), np.zeros(19))
