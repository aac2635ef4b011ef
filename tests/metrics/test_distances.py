"""Frechet and kernel distances against closed forms, and their errors against what they do when repeated."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from brenier.metrics import frechet_distance, kernel_distance


def points(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_frechet_distance_of_samples_as_they_are() -> None:
    """Against the formula with a matrix square root."""
    x, y = points(200, 4, 0) @ points(4, 4, 1) + 1e4, points(150, 4, 2) + 1e4 + 1
    s, t = (np.cov(z.numpy().T) for z in (x, y))
    shift = float((x.mean(0) - y.mean(0)).square().sum())
    expected = shift + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert frechet_distance(x, y)[0].value == pytest.approx(expected, rel=1e-6)


def test_between_gaussians_it_is_the_closed_form_within_its_error() -> None:
    shift, scale = 0.5, torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    expected = 3 * shift**2 + float((scale - 1).square().sum())
    found = frechet_distance(points(4000, 3, 0) * scale + shift, points(4000, 3, 1))[1]
    assert abs(found.value - expected) < 3 * found.value_se
    assert found.value_se < 0.1 * expected


def test_between_equal_laws_the_plain_one_shows_its_bias_and_the_other_none() -> None:
    n, d = 400, 8
    bias = d * (d + 1) / (2 * n) + 2 * d / n
    both = [frechet_distance(points(n, d, 2 * k), points(n, d, 2 * k + 1)) for k in range(40)]
    plain, debiased = (np.array([pair[side].value for pair in both]) for side in (0, 1))
    spread = float(np.std(debiased, ddof=1))
    assert plain.mean() == pytest.approx(bias, rel=0.1)
    assert abs(debiased.mean()) < 3 * spread / math.sqrt(40)
    assert np.sqrt(np.mean([pair[1].value_se ** 2 for pair in both])) == pytest.approx(spread, rel=0.4)


def test_sorted_rows_change_nothing_but_the_groups() -> None:
    """Classes in a period of 20 would each make a group of the jackknife of their own."""
    x = points(400, 2, 0) + 10 * (torch.arange(400) % 20)[:, None]
    y = points(400, 2, 1) + 10 * (torch.arange(400) % 20)[:, None]
    order = torch.randperm(400, generator=torch.Generator().manual_seed(5))
    found, shuffled = frechet_distance(x, y)[1], frechet_distance(x[order], y, seed=3)[1]
    assert found.value_se == pytest.approx(shuffled.value_se, rel=0.5)


def kernel_by_hand(x: torch.Tensor, y: torch.Tensor) -> float:
    def k(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    own = [(k(z, z).sum() - k(z, z).diagonal().sum()) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return float(own[0] + own[1] - 2 * k(x, y).sum() / (n * m))


def test_the_kernel_distance_is_the_u_statistic_of_all_points() -> None:
    """Its mean over subsets is, but for their choice: the spread of subsets, over the root of their number."""
    x, y = points(300, 3, 0) + 0.5, points(300, 3, 1)
    found = kernel_distance(x, y)
    assert abs(found.value - kernel_by_hand(x, y)) < 4 * found.value_se / math.sqrt(32)
    state = torch.get_rng_state()
    assert kernel_distance(x, y) == found
    assert kernel_distance(x, y, seed=1) != found
    assert bool((torch.get_rng_state() == state).all())


def test_the_kernel_distance_of_normal_laws_in_one_dimension() -> None:
    """E k(x, x') = sum_j binom(3, j) (E x^j)^2: moments differ by 1, 1 and 1 + 3 for N(1, 1) against N(0, 1)."""
    expected = 3 * 1**2 + 3 * 1**2 + (1 + 3) ** 2
    found = [kernel_distance(points(500, 1, 2 * k) + 1, points(500, 1, 2 * k + 1)) for k in range(30)]
    values = np.array([one.value for one in found])
    assert abs(values.mean() - expected) < 3 * values.std(ddof=1) / math.sqrt(30)
    assert np.mean([one.value_se for one in found]) == pytest.approx(values.std(ddof=1), rel=0.4)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_arrays_lists_and_tensors_are_the_same(distance: Callable[..., object]) -> None:
    x, y = points(30, 2, 0), points(25, 2, 1)
    assert distance(x.numpy(), y.numpy()) == distance(x.tolist(), y) == distance(x, y)


def test_refused() -> None:
    x = points(64, 64, 0)
    with pytest.raises(ValueError, match=r"of 64 features needs more than 64 points.*from 640 on: there are 64.*pca"):
        frechet_distance(x, points(700, 64, 1))
    with pytest.raises(ValueError, match="more than 2 points"):
        frechet_distance(points(2, 1, 0), points(9, 1, 0))
    with pytest.raises(ValueError, match="samples have 64 numbers each, reference 3"):
        frechet_distance(x, points(9, 3, 0))
    with pytest.raises(ValueError, match="3 points in reference are too few: at least 4"):
        kernel_distance(points(9, 2, 0), points(3, 2, 0))
    with pytest.raises(ValueError, match="not finite"):
        kernel_distance(x * math.inf, x)
