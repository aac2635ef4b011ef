"""Where a profile is hard: the bottleneck, the onset, the hard band, speciation and collapse."""

import numpy as np
import xarray as xr

from brenier.core import records
from brenier.probing.profile import Array
from brenier.scales import sigma_from_snr, time_from_snr


def bottleneck(profile: xr.Dataset) -> dict[str, float]:
    """Where a profile is hard: the SNR of the largest m*, the onset, the hard band, speciation and collapse.

    Args:
        profile: what `probe` returned.

    Returns:
        `snr`, `m_star`, `delta_star` at the largest m*, with `m_star_se` (0 for quadrature) and the interval `snr_low`
        to `snr_high`: the SNRs where m* is largest in the middle 95% of bootstrap resamples, widened to the next SNR
        of the grid on both sides, since the maximum may lie between two. `onset_snr`: r*, inf if P(L > 1) = 0
        throughout. `hard_low` to `hard_high`: the probed SNRs with m* > 0; `half_low` to `half_high`: those with m* of
        at least half its maximum, without a gap. `speciation_snr`: E L_r first reaches 1. `collapse_snr`: the
        median effective sample size first falls below 2. The last two are interpolated in log r. What does not occur
        is NaN. The SNRs `snr`, `onset`, `speciation` and `collapse` also come as `*_time` and `*_sigma` (plain `time`
        and `sigma` for the bottleneck).
    """
    records.check(profile, "profile", ("snr", "m_star", "delta_star", "mean_localization", "onset_snr"))
    r = profile["snr"].to_numpy().astype(float)
    m = profile["m_star"].to_numpy().astype(float)
    beta = float(profile.attrs["beta"])
    names = ["snr", "snr_low", "snr_high", "m_star", "m_star_se", "delta_star"]
    names += ["hard_low", "hard_high", "half_low", "half_high"]
    found: dict[str, float] = dict.fromkeys(names, np.nan)
    if m.max() > 1e-15:  # below that is rounding, and the vanishing weight that carries a supremum
        k = int(m.argmax())
        low, high = _interval(profile, k)
        hard = np.flatnonzero(m > 1e-15)
        half = np.flatnonzero(m < m[k] / 2)
        found |= {
            "snr": float(r[k]),
            "snr_low": float(r[max(low - 1, 0)]),
            "snr_high": float(r[min(high + 1, len(r) - 1)]),
            "m_star": float(m[k]),
            "m_star_se": float(profile["m_star_se"][k]) if "m_star_se" in profile else 0.0,
            "delta_star": float(profile["delta_star"][k]),
            "hard_low": float(r[hard[0]]),
            "hard_high": float(r[hard[-1]]),
            "half_low": float(r[max(half[half < k], default=-1) + 1]),
            "half_high": float(r[min(half[half > k], default=len(r)) - 1]),
        }
    found["onset_snr"] = float(profile["onset_snr"])
    found["speciation_snr"] = _crossing(r, np.log(np.maximum(profile["mean_localization"].to_numpy(), 1e-300)), 0.0)
    found["collapse_snr"] = _crossing(r, -np.log(profile["ess"].to_numpy()), -np.log(2.0))
    for name in ("", "onset_", "speciation_", "collapse_"):
        snr = found[f"{name}snr"]
        known = np.isfinite(snr)
        found[f"{name}time"] = float(time_from_snr(snr, beta)) if known else np.nan
        found[f"{name}sigma"] = float(sigma_from_snr(snr)) if known else np.nan
    return found


def _interval(profile: xr.Dataset, k: int) -> tuple[int, int]:
    """Indices of the SNRs between which m* is largest in 95% of the bootstrap resamples."""
    if "m_star_replicate" not in profile:
        return k, k
    places = np.sort(profile["m_star_replicate"].to_numpy().argmax(1))
    cut = int(0.025 * len(places))
    return min(k, int(places[cut])), max(k, int(places[-1 - cut]))


def _crossing(r: Array, values: Array, level: float) -> float:
    """First r at which `values`, interpolated in log r, rises to the level; NaN if it never does, or began above it."""
    above = np.flatnonzero(values >= level)
    if len(above) == 0 or above[0] == 0:
        return np.nan
    k = int(above[0])
    share = (level - values[k - 1]) / (values[k] - values[k - 1])
    return float(np.exp(np.log(r[k - 1]) + share * np.log(r[k] / r[k - 1])))
