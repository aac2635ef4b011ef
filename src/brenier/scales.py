"""Noise levels in every parametrisation, converted to and from the signal-to-noise ratio.

One coordinate orders all noise levels inside brenier: the SNR r >= 0 of Y_r = r X + Z. The others convert here:

    OU time t, temperature 1/beta    X_t = e^-t X_0 + sqrt((1 - e^-2t)/beta) Z    r = e^-t / sqrt((1 - e^-2t)/beta)
    EDM / VE sigma                   x = X + sigma Z                              r = 1/sigma
    (alpha, sigma)                   x = alpha X + sigma Z                        r = alpha/sigma
    DDPM alpha-bar                   x = sqrt(ab) X + sqrt(1 - ab) Z              r = sqrt(ab/(1 - ab))

WARNING. This SNR is a ratio of lengths, alpha/sigma, and not of their squares: `compute_snr` of diffusers, and "SNR" in
most papers on training losses (min-SNR, VDM), is r^2 = alpha^2/sigma^2. Take its square root before giving it to
brenier; what those call log-SNR is 2 log r.

Every function takes a number or an array and returns the same kind. Source: [LDK24] (4.2), EDM (arXiv:2206.00364).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Real: TypeAlias = NDArray[np.float64] | np.float64


def _positive(value: ArrayLike, name: str) -> Real:
    array = np.asarray(value, dtype=np.float64)
    if not np.all(array > 0):
        raise ValueError(f"{name} must be positive, got {value}")
    return array[()]


def snr_from_time(time: ArrayLike, beta: float = 1.0) -> Real:
    """SNR of the Ornstein-Uhlenbeck process at time t > 0 ([LDK24] (4.2))."""
    return np.sqrt(_positive(beta, "beta") / np.expm1(2 * _positive(time, "time")))


def time_from_snr(snr: ArrayLike, beta: float = 1.0) -> Real:
    """Ornstein-Uhlenbeck time at which the SNR is r: log(1 + beta/r^2)/2."""
    return np.log1p(_positive(beta, "beta") / _positive(snr, "snr") ** 2) / 2


def snr_from_sigma(sigma: ArrayLike) -> Real:
    """SNR of x = X + sigma Z."""
    return 1 / _positive(sigma, "sigma")


def sigma_from_snr(snr: ArrayLike) -> Real:
    """Noise level sigma of x = X + sigma Z, in the unit of the data."""
    return 1 / _positive(snr, "snr")


def snr_from_alpha_sigma(alpha: ArrayLike, sigma: ArrayLike) -> Real:
    """SNR of x = alpha X + sigma Z: alpha/sigma, the square root of what diffusers' `compute_snr` returns."""
    return _positive(alpha, "alpha") / _positive(sigma, "sigma")


def snr_from_alpha_bar(alpha_bar: ArrayLike) -> Real:
    """SNR of DDPM's x = sqrt(ab) X + sqrt(1 - ab) Z, 0 < ab < 1: sqrt(ab/(1 - ab)).

    The square root of what diffusers' `compute_snr` returns, which is ab/(1 - ab).
    """
    return np.sqrt(_positive(alpha_bar, "alpha_bar") / _positive(1 - np.asarray(alpha_bar), "1 - alpha_bar"))


def alpha_bar_from_snr(snr: ArrayLike) -> Real:
    """DDPM's alpha-bar at SNR r: r^2/(1 + r^2)."""
    return 1 / (1 + _positive(snr, "snr") ** -2.0)
