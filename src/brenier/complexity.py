"""Multi-scale complexity: what a weighted sample of the localization L_r says about denoising at SNR r.

With s(u) = P(L > u) the survival function of L ([LDK24] Definition 4),

    h(delta)  = int_{1-delta}^inf s(u) du = E[(L - (1 - delta))_+]                                   Definition 5
    m(delta)  = h(delta)/delta,   m* = min over (0, 1],   delta* = the largest minimiser              Definition 5
    zeta*_M   = sup over [0, 1] of  [delta - M h(delta)] / (1 - e^-2t)                                Theorem 4
    zeta#_M   = the same over every real delta = (1 - CVaR_{1-1/M}(L)) / (1 - e^-2t)                  the sharp rate

The first two are piecewise linear in delta with their kinks at delta = 1 - L_i, so on a finite sample every minimum and
supremum is read off the sorted sample: exact, without a grid. The last line is Rockafellar and Uryasev's formula: the
supremum over all reals is reached at 1 - delta = VaR_{1-1/M}(L), and the paper's value clips that point to [0, 1].

All functions take `localization` and `weights` of shape (..., n), one sample per leading index, and return float64 of
shape (...) or (..., k) for k thresholds. Weights are non-negative, need not sum to 1, and default to equal.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]


class Sorted(NamedTuple):
    """A weighted sample of L with its zero-weight points dropped from every sum, sorted upwards."""

    values: Array
    weights: Array


def _sorted(localization: ArrayLike, weights: ArrayLike | None) -> Sorted:
    values = np.asarray(localization, dtype=np.float64)
    mass = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.shape != mass.shape:
        raise ValueError(f"weights have shape {mass.shape}, localization has {values.shape}: they must be the same")
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError("the sample of localizations is empty: give at least one query")
    if not np.all(np.isfinite(values)):
        raise ValueError("localization holds values that are not finite")
    if not np.all(np.isfinite(mass)) or np.any(mass < 0) or np.any(mass.sum(-1) <= 0):
        raise ValueError("weights must be finite, non-negative and not all zero")
    # A point of no weight is no part of the law: move it onto the largest point that is, where it changes nothing.
    top = np.max(np.where(mass > 0, values, -np.inf), axis=-1, keepdims=True)
    values = np.where(mass > 0, values, top)
    order = np.argsort(values, axis=-1, kind="stable")
    values = np.take_along_axis(values, order, -1)
    mass = np.take_along_axis(mass, order, -1)
    return Sorted(values, mass / mass.sum(-1, keepdims=True))


def _tail(sample: Sorted, thresholds: Array) -> tuple[Array, Array]:
    """P(L > u) and E[(L - u)_+] at thresholds of shape (..., k)."""
    values, weights = sample
    zero = np.zeros_like(values[..., :1])
    # Sums over the points from i upwards, i = 0..n: small tails keep their relative accuracy.
    mass = np.concatenate([np.cumsum(weights[..., ::-1], -1)[..., ::-1], zero], -1)
    gaps = np.diff(values, axis=-1)
    excess = np.concatenate([np.cumsum((gaps * mass[..., 1:-1])[..., ::-1], -1)[..., ::-1], zero, zero], -1)
    above = _count_not_above(values, thresholds)
    # E[(L - u)_+] is linear between neighbouring points: exact at the next point up, slope -P(L > u) below it.
    upper = np.take_along_axis(values, np.minimum(above, values.shape[-1] - 1), -1)
    survival = np.take_along_axis(mass, above, -1)
    return survival, np.take_along_axis(excess, above, -1) + survival * np.maximum(upper - thresholds, 0)


def _count_not_above(values: Array, thresholds: Array) -> NDArray[np.intp]:
    """How many of the sorted `values` are <= each threshold, row by row."""
    flat_values = values.reshape(-1, values.shape[-1])
    flat = thresholds.reshape(-1, thresholds.shape[-1])
    rows = [np.searchsorted(v, t, side="right") for v, t in zip(flat_values, flat, strict=True)]
    return np.stack(rows).reshape(thresholds.shape)


def _thresholds(levels: ArrayLike, sample: Sorted) -> Array:
    array = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    return np.broadcast_to(array, sample.values.shape[:-1] + array.shape[-1:])


def survival(localization: ArrayLike, u: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """s(u) = P(L > u) at thresholds u of shape (k,) ([LDK24] Definition 4)."""
    sample = _sorted(localization, weights)
    return _tail(sample, _thresholds(u, sample))[0]


def integrated_tail(localization: ArrayLike, delta: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """h(delta) = E[(L - (1 - delta))_+] at delta of shape (k,) ([LDK24] Definition 5)."""
    sample = _sorted(localization, weights)
    return _tail(sample, _thresholds(1 - np.asarray(delta, dtype=np.float64), sample))[1]


def relative_tail(localization: ArrayLike, delta: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """m(delta) = h(delta)/delta at delta of shape (k,), each in (0, 1] ([LDK24] Definition 5)."""
    steps = np.asarray(delta, dtype=np.float64)
    if not np.all((steps > 0) & (steps <= 1)):
        raise ValueError(f"delta must lie in (0, 1], got {delta}")
    return integrated_tail(localization, steps, weights) / np.atleast_1d(steps)


def minimal_relative_tail(localization: ArrayLike, weights: ArrayLike | None = None) -> tuple[Array, Array]:
    """m* = min of h(delta)/delta over (0, 1], and delta*, its largest minimiser ([LDK24] Definition 5).

    The smaller m*, the richer the perturbations (M < 1/m*) that a denoising step still contracts. h is piecewise linear
    with kinks at 1 - L_i, so h/delta is monotone between kinks and its minimum lies at one of them or at delta = 1.
    Where every L_i exceeds 1, h/delta falls up to delta = 1.
    """
    sample = _sorted(localization, weights)
    candidates = np.concatenate([np.zeros_like(sample.values[..., :1]), np.clip(sample.values, 0, 1)], -1)
    tails = _tail(sample, candidates)[1]
    delta = 1 - candidates
    ratio = np.divide(tails, delta, out=np.full_like(tails, np.inf), where=delta > 0)
    least = ratio.min(-1)
    # Rounding may split a tie between neighbouring minimisers: take the largest delta within a few ulp of the minimum.
    tied = ratio <= least[..., None] * (1 + 4e-16)
    return np.asarray(least), np.asarray(np.max(np.where(tied, delta, 0), -1))


def net_contraction(
    localization: ArrayLike, perturbation: ArrayLike, snr: ArrayLike, weights: ArrayLike | None = None, beta: float = 1
) -> Array:
    """zeta*_M = sup over delta in [0, 1] of [delta - M h(delta)]/(1 - e^-2t) ([LDK24] after Theorem 4).

    Args:
        localization: sample of L_r, shape (..., n).
        perturbation: richness M >= 1 of the perturbations ([LDK24] Definition 6), shape (k,); inf is allowed.
        snr: r, of shape (...): 1 - e^-2t = beta/(r^2 + beta).
        weights: shape (..., n).
        beta: inverse temperature of the Ornstein-Uhlenbeck process.

    Returns:
        Shape (..., k). The backward map expands W2^2 at most at rate 2 - 2 zeta*_M (per unit of OU time).
    """
    return _contraction(localization, perturbation, snr, weights, beta, clip=True)


def sharp_contraction(
    localization: ArrayLike, perturbation: ArrayLike, snr: ArrayLike, weights: ArrayLike | None = None, beta: float = 1
) -> Array:
    """zeta#_M = (1 - CVaR_{1-1/M}(L))/(1 - e^-2t): Theorem 4's bound with delta free to be any real number.

    Never below `net_contraction`, above it where VaR_{1-1/M}(L) > 1, and attained in one dimension. M = 1 gives
    1 - E L, M = inf gives 1 - max L (before the division). Arguments and shapes as for `net_contraction`.
    """
    return _contraction(localization, perturbation, snr, weights, beta, clip=False)


def _contraction(
    localization: ArrayLike, perturbation: ArrayLike, snr: ArrayLike, weights: ArrayLike | None, beta: float, clip: bool
) -> Array:
    richness = np.atleast_1d(np.asarray(perturbation, dtype=np.float64))
    if not np.all(richness >= 1):
        raise ValueError(f"a perturbation's richness M must be at least 1, got {perturbation}")
    sample = _sorted(localization, weights)
    quantile = _value_at_risk(sample, richness)
    if clip:
        quantile = np.clip(quantile, 0, 1)
    tail = _tail(sample, quantile)[1]
    # inf * 0 = 0 here: no mass beyond the quantile costs nothing, however rich the perturbation.
    cost = np.where(tail > 0, richness * np.maximum(tail, np.finfo(float).tiny), 0.0)
    scale = 1 + np.asarray(snr, dtype=np.float64) ** 2 / beta
    return (1 - quantile - cost) * scale[..., None]


def value_at_risk(localization: ArrayLike, perturbation: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """VaR_{1-1/M}(L): the smallest u in the sample with P(L > u) <= 1/M, for each M >= 1; shape (..., k)."""
    return _value_at_risk(_sorted(localization, weights), np.atleast_1d(np.asarray(perturbation, dtype=np.float64)))


def _value_at_risk(sample: Sorted, richness: Array) -> Array:
    values, weights = sample
    above = np.concatenate([np.cumsum(weights[..., :0:-1], -1)[..., ::-1], np.zeros_like(values[..., :1])], -1)
    first = np.argmax(above[..., None, :] <= 1 / richness[:, None] * (1 + 1e-12), axis=-1)
    return np.take_along_axis(values, first, -1)
