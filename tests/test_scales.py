"""Noise levels: every parametrisation describes the same noisy variable."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brenier import scales

positive = st.floats(1e-4, 1e4)


@given(positive, st.floats(0.1, 10))
def test_time_and_snr_are_inverse(snr, beta):
    time = scales.time_from_snr(np.float64(snr), np.float64(beta))
    assert scales.snr_from_time(time, np.float64(beta)) == pytest.approx(snr, rel=1e-9)


@given(st.floats(1e-3, 8), st.floats(0.1, 10))
def test_snr_of_the_process_is_signal_over_noise(time, beta):
    """X_t = e^-t X_0 + sqrt((1 - e^-2t)/beta) Z."""
    signal, noise = math.exp(-time), math.sqrt((1 - math.exp(-2 * time)) / beta)
    assert scales.snr_from_time(np.float64(time), np.float64(beta)) == pytest.approx(signal / noise, rel=1e-9)


@given(positive)
def test_contraction_factor_of_theorem_4(snr):
    """1 - e^-2t = 1/(r^2 + 1) at beta = 1."""
    time = scales.time_from_snr(np.float64(snr))
    assert -math.expm1(-2 * time) == pytest.approx(1 / (snr**2 + 1), rel=1e-7)


@given(positive)
def test_sigma_and_alpha_bar_are_inverse(snr):
    value = np.float64(snr)
    assert scales.snr_from_sigma(scales.sigma_from_snr(value)) == pytest.approx(snr, rel=1e-14)
    alpha_bar = scales.alpha_bar_from_snr(value)
    assert 0 < alpha_bar < 1
    assert scales.snr_from_alpha_bar(alpha_bar) == pytest.approx(snr, rel=1e-6)
    alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    assert scales.snr_from_alpha_sigma(alpha, sigma) == pytest.approx(snr, rel=1e-6)


def test_known_values():
    assert scales.alpha_bar_from_snr(np.float64(1)) == pytest.approx(0.5)
    assert scales.sigma_from_snr(np.float64(4)) == 0.25
    assert scales.time_from_snr(np.float64(1)) == pytest.approx(math.log(2) / 2)
    assert scales.snr_from_time(np.float64(1e-20)) == pytest.approx(1 / math.sqrt(2e-20), rel=1e-12)


def test_arrays_keep_their_shape():
    snrs = np.geomspace(0.1, 10, 6).reshape(2, 3)
    assert scales.time_from_snr(snrs).shape == (2, 3)
    assert scales.snr_from_time(scales.time_from_snr(snrs)) == pytest.approx(snrs)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_levels_that_are_not_positive_are_refused(bad):
    functions = [
        scales.snr_from_time,
        scales.time_from_snr,
        scales.snr_from_sigma,
        scales.sigma_from_snr,
        scales.snr_from_alpha_bar,
        scales.alpha_bar_from_snr,
    ]
    for function in functions:
        with pytest.raises(ValueError, match="must be positive"):
            function(np.float64(bad))
    with pytest.raises(ValueError, match="must be positive"):
        scales.snr_from_alpha_bar(np.float64(1.0))
