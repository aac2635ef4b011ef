"""The floor comes off: estimates cover the truth where it is known, and the maps behind them are what they claim."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from brenier.distances.couplings import by_any
from brenier.distances.debiasing import _extrapolate, _gaussian_maps, _lean, _Statistic, covariance, debiased


def square_root(matrix):
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.sqrt(np.maximum(values, 0))) @ axes.T


def bures(s, t):
    """Squared W2 between N(0, S) and N(0, T)."""
    root = square_root(s)
    return np.trace(s) + np.trace(t) - 2 * np.trace(square_root(root @ t @ root))


def matrix_with(eigenvalues, seed):
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return (axes * np.asarray(eigenvalues)) @ axes.T


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_linear_maps_carry_covariances_both_ways(d, seed):
    rng = np.random.default_rng(seed)
    s, t = (matrix_with(np.exp(rng.uniform(-2, 2, d)), seed + k) for k in range(2))
    forth, back = _gaussian_maps(s, t)
    assert forth @ s @ forth == pytest.approx(t, rel=1e-9, abs=1e-9)
    assert back @ t @ back == pytest.approx(s, rel=1e-9, abs=1e-9)
    for matrix in (forth, back):
        assert matrix == pytest.approx(matrix.T, rel=1e-9, abs=1e-9)
        assert np.linalg.eigvalsh(matrix).min() > 0


def test_flat_directions_stay_flat():
    s, t = matrix_with([1.0, 2.0, 0.0], 0), np.eye(3)
    forth, back = _gaussian_maps(s, t)
    assert back @ t @ back == pytest.approx(s, abs=1e-7)
    image = forth @ s @ forth
    assert np.linalg.eigvalsh(image) == pytest.approx([0, 1, 1], abs=1e-7)
    assert np.linalg.eigvalsh(forth).min() > -1e-7
    nothing, collapse = _gaussian_maps(np.zeros((3, 3)), t)
    assert not nothing.any()
    assert not collapse.any()


@pytest.mark.parametrize("d", [2, 5])
def test_a_linear_image_lies_where_the_module_says(d):
    """W2^2(mu, A#mu) = E|X - A X|^2, here for the law of a sample itself: x_i -> A x_i is its optimal coupling."""
    x = np.random.default_rng(d).normal(size=(80, d)) ** 3
    image = x @ matrix_with(np.linspace(0, 2, d), 1)
    assert by_any(x, image)[0] == pytest.approx(np.square(x - image).sum(1).mean(), rel=1e-12)


LAWS = {
    "equal": (np.eye, np.eye, 0.0),
    "shifted": (np.eye, np.eye, 1.5),
    "scaled": (np.eye, lambda d: 0.25 * np.eye(d), 0.0),
    "unlike": (
        lambda d: matrix_with(np.linspace(0.2, 2, d), 1),
        lambda d: matrix_with(np.linspace(0.2, 2, d), 2),
        0.0,
    ),
}


@pytest.mark.parametrize("d", [1, 2, 8])
@pytest.mark.parametrize("name", LAWS)
def test_error_bars_cover_the_distance_of_gaussians(name, d):
    """Of 12 estimates, at 95% each, fewer than 9 cover once in 450 times; and their mean is off by less than a bar."""
    first, second, shift = LAWS[name]
    s, t = first(d), second(d)
    truth = bures(s, t) + shift**2
    errors, bars = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(128, d)) @ square_root(s), rng.normal(size=(128, d)) @ square_root(t)
        y[:, 0] += shift
        found = debiased(x, y, 128)
        errors.append(found.squared - truth)
        bars.append(found.squared_se)
    assert np.sum(np.abs(errors) <= 2 * np.array(bars)) >= 9
    assert abs(np.mean(errors)) < np.mean(bars)
    # Nor are bars wide for nothing: up to 1.5 times the scatter, which 12 numbers give to within a factor of 0.6.
    assert np.mean(bars) < 2.5 * np.std(errors)


def test_in_sixty_four_dimensions_the_floor_is_gone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 512, 64))
    plain = by_any(x[:128], y[:128])[0]
    found = debiased(x, y, 128)
    assert plain > 80
    assert abs(found.squared) < 2 * found.squared_se < 2


def two_bumps_from_normal(u):
    """Quantiles of (N(-1.5, 1/4) + N(1.5, 1/4))/2."""
    grid = np.linspace(-6, 6, 200001)
    return np.interp(u, (ndtr((grid - 1.5) / 0.5) + ndtr((grid + 1.5) / 0.5)) / 2, grid)


@pytest.mark.parametrize("d", [1, 3])
def test_a_law_in_two_parts_against_a_normal_one(d):
    """A rotated product: W2^2 adds up over its factors, of which one differs."""
    u = (np.arange(10**6) + 0.5) / 10**6
    truth = np.square(two_bumps_from_normal(u) - ndtri(u)).mean()
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    covered = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 256, d))
        x[:, 0] = two_bumps_from_normal(rng.uniform(size=256))
        found = debiased(x @ rotation, y @ rotation, 128)
        covered += abs(found.squared - truth) <= 2 * found.squared_se
    assert covered >= 7  # of ten at 95% each, six or fewer cover once in a thousand times


def test_the_larger_of_two_real_floors_counts_less():
    """f = 1 and g = 2 without scatter between points: the mean of order -4 is [(1 + 1/16)/2]^(-1/4)."""
    spread = np.outer([5.0, 1.0, 2.0], np.full(100, 0.01))
    assert _lean(spread).value == pytest.approx(5 - (17 / 32) ** -0.25, rel=1e-12)
    noise = np.random.default_rng(0).normal(size=(2, 100))
    spread[1:] += noise - noise.mean(1, keepdims=True)  # a difference of 1 is now far below its standard error
    assert _lean(spread).value == pytest.approx(5 - 1.5, rel=1e-12)


def test_extrapolation_removes_a_bias_of_order_one_half():
    """D(m) = 3 - 2/sqrt(m): from m = 100 and 25 to 3, half of the correction on the bar."""
    shares = np.zeros(10)
    squared, variance = _extrapolate(_Statistic(2.8, shares), _Statistic(2.6, shares))
    assert squared == pytest.approx(3.0, rel=1e-12)
    assert math.sqrt(variance) == pytest.approx(0.1, rel=1e-12)


def test_extrapolation_leaves_noise_alone():
    rng = np.random.default_rng(0)
    large, small = (_Statistic(value, rng.normal(size=100)) for value in (2.8, 2.6))
    squared, variance = _extrapolate(large, small)
    assert squared == 2.8
    assert variance == pytest.approx(100 * np.var(large.shares, ddof=1), rel=1e-12)


def test_covariance_is_of_the_rows():
    x = np.random.default_rng(0).normal(size=(30, 3)) + 5
    assert covariance(x) == pytest.approx(np.cov(x.T, bias=True), rel=1e-12)
