"""Where a profile is hard: the bottleneck, the onset, the hard band, speciation and collapse."""

import numpy as np
import xarray as xr

from brenier.core import records
from brenier.probing.behind import CROWD, SHARE
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
        is NaN. Of the law behind data only what they resolve is looked at, up to `resolved_snr`, and m* is above 0
        where its bracket is; `resolved_snr` is inf for other profiles. The SNRs `snr`, `onset`, `speciation` and
        `collapse` also come as `*_time` and `*_sigma` (plain `time` and `sigma` for the bottleneck).
    """
    records.check(profile, "profile", ("snr", "m_star", "delta_star", "mean_localization", "onset_snr"))
    beta, resolved = float(profile.attrs["beta"]), float(profile.get("resolved_snr", np.inf))
    profile = records.resolved(profile)
    r, m = (profile[name].to_numpy().astype(float) for name in ("snr", "m_star"))
    hard = np.flatnonzero((profile["m_star_low"].to_numpy() if "m_star_low" in profile else m) > 1e-15)
    names = ["snr", "snr_low", "snr_high", "m_star", "m_star_se", "delta_star"]
    names += ["hard_low", "hard_high", "half_low", "half_high"]
    found: dict[str, float] = dict.fromkeys(names, np.nan)
    if len(hard):  # up to 1e-15 it is rounding, and the vanishing weight that carries a supremum
        k = int(hard[m[hard].argmax()])
        low, high = _interval(profile, k)
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
    found["resolved_snr"] = resolved
    found["onset_snr"] = float(profile["onset_snr"])
    found["speciation_snr"] = _crossing(r, np.log(np.maximum(profile["mean_localization"].to_numpy(), 1e-300)), 0.0)
    found["collapse_snr"] = _crossing(r, -np.log(profile["ess"].to_numpy()), -np.log(2.0))
    for name in ("", "onset_", "speciation_", "collapse_"):
        snr = found[f"{name}snr"]
        known = np.isfinite(snr) and snr > 0
        nothing = np.inf if snr == 0 else np.nan
        found[f"{name}time"] = float(time_from_snr(snr, beta)) if known else nothing
        found[f"{name}sigma"] = float(sigma_from_snr(snr)) if known else nothing
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


def needed(profile: xr.Dataset) -> tuple[float, float]:
    """An SNR past what data resolve of their law, and about how many data would resolve it there.

    The bracket is about c sqrt(d/n_e) wide, with d the effective dimension and n_e the effective sample size, which
    grows with the number of data; c is read off where they resolve the law last. Asked for is twice that SNR.

    Returns:
        The SNR past the last one resolved that is nearest to twice it (the first where none is), and the number.
    """
    r, width, ess, dim = (profile[name].to_numpy() for name in ("snr", "bracket_width", "ess", "effective_dimension"))
    resolved = float(profile["resolved_snr"])
    last = 0 if np.isnan(resolved) else int(np.argmin(abs(r - resolved)))
    beyond = 0
    if not np.isnan(resolved):
        beyond = max(int(np.argmin(abs(np.log(r / (2 * resolved))))), min(last + 1, len(r) - 1))
    crowd = max(CROWD, dim[beyond] * (width[last] / SHARE) ** 2 * ess[last] / dim[last])
    return float(r[beyond]), float(profile.attrs["atoms"]) * crowd / ess[beyond]


def disputed(profile: xr.Dataset) -> list[float]:
    """The SNRs that the data resolve at which the model's E L, with all it leaves open, is outside their bracket."""
    part = records.resolved(profile)
    name = "mean_localization"
    off = (part[f"model_{name}_low"] > part[f"{name}_high"]) | (part[f"model_{name}_high"] < part[f"{name}_low"])
    return part["snr"].to_numpy()[off.to_numpy()].tolist()
