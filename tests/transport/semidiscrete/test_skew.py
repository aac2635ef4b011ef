"""The skew test: its p-value without dependence, its power where there is some, its effect against a closed form."""

import numpy as np
import pytest
import torch
from scipy import stats

from brenier.transport import skew_test


@pytest.mark.parametrize("real", [False, True])
def test_without_dependence_p_is_uniform(real: bool) -> None:
    found: list[float] = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        condition = rng.normal(size=40) if real else rng.integers(3, size=40)
        found.append(skew_test(rng.normal(size=(40, 3)), condition, permutations=49, seed=seed).p)
    jittered = np.array(found) - np.random.default_rng(0).random(120) / 50  # p is one of 50 numbers
    assert stats.kstest(jittered, "uniform").pvalue > 0.01


def test_a_dependence_without_a_shift_of_means_is_seen() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=400)
    x = rng.normal(size=(400, 2)) * np.where(kind, 1.6, 0.6)[:, None]
    found = skew_test(x, kind)
    assert found.p == 1 / 200
    assert found.correlation > 0.02
    words = skew_test(x, np.array(["a", "b"])[kind])
    assert words == found
    assert skew_test(x, torch.from_numpy(kind)) == found
    assert skew_test(x, kind.astype(float)).p == 1 / 200  # the same distances, the other way of exchanging


def test_the_correlation_is_that_of_normal_variables() -> None:
    """Of two normal variables of correlation r (Székely, Rizzo, Bakirov, Theorem 7)."""
    rng, r = np.random.default_rng(1), 0.6
    x = rng.normal(size=2000)
    y = r * x + np.sqrt(1 - r**2) * rng.normal(size=2000)
    above = r * np.arcsin(r) + np.sqrt(1 - r**2) - r * np.arcsin(r / 2) - np.sqrt(4 - r**2) + 1
    exact = above / (1 + np.pi / 3 - np.sqrt(3))
    found = skew_test(x[:, None], y, permutations=9)
    assert found.correlation == pytest.approx(exact, abs=0.03)
    assert found.pairs == 2000


def test_conditions_that_are_all_the_same_are_no_dependence() -> None:
    found = skew_test(np.random.default_rng(0).normal(size=(20, 2)), np.zeros(20, int))
    assert (found.p, found.correlation) == (1, 0)


@pytest.mark.parametrize(
    ("n", "condition", "said"),
    [
        (3, np.zeros(3, int), "3 points in noise are too few: at least 4"),
        (9000, np.zeros(9000, int), "9,000 pairs are too many for the skew test"),
        (5, np.zeros(4, int), r"condition must be 5, one for each noise, got shape \(4,\)"),
        (5, np.array([1, 2, np.nan, 3, 4]), "condition.*NaN"),
    ],
)
def test_what_is_refused(n: int, condition: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        skew_test(np.ones((n, 2)), condition)
