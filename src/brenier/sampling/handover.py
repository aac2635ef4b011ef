"""Where an expressway hands over from its map to the sampler."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from brenier.core import records
from brenier.core.checks import whole_number
from brenier.laws.base import Target
from brenier.laws.crossfit import LEAST
from brenier.laws.empirical import Empirical
from brenier.probing.bottleneck import bottleneck
from brenier.probing.profile import probe
from brenier.sampling.driver import check_grid

CROWD = 10.0  # data behind a noisy point, in the median, down to which it is nobody's copy
QUERIES = 256  # of a probe that a handover is chosen by


@dataclass(frozen=True)
class Handover:
    """Where the map hands over to the sampler.

    Attributes:
        snr: r = 1/sigma.
        reason: why there, as a clause.
        hard: SNR at which the hard band ends; NaN where that was not asked, or there is none.
        crowded: largest SNR at which `CROWD` data or more are behind a noisy point, in the median; NaN where that was
            not asked.
    """

    snr: float
    reason: str
    hard: float = math.nan
    crowded: float = math.nan

    @property
    def sigma(self) -> float:
        """The noise level, in the unit of the data."""
        return 1 / self.snr


def final_steps(count: int, sigmas: Iterable[float]) -> float:
    """The SNR at which the last `count` steps of a chain begin: DPM-OT's handover, for a number M of steps.

    Args:
        count: M, the positive noise levels that are still to be visited.
        sigmas: all noise levels of the chain in x = X + sigma Z, descending; a last 0 does not count. For DDPM's
            alpha-bars, `scales` converts: sigma = 1/snr_from_alpha_bar(alpha_bar).

    Raises:
        ValueError: the chain is not one, or has not that many levels.
    """
    positive = [sigma for sigma in check_grid(sigmas) if sigma > 0]
    return 1 / positive[-whole_number(count, "count", 1, len(positive))]


def find_handover(
    law: Target, data: Empirical, *, profile: xr.Dataset | None = None, seed: int = 0, progress: bool = True
) -> Handover:
    """Choose the SNR of the handover: past the hard band, while many data are still behind a noisy point.

    - The hard band ends where m* falls below half of its maximum. It is read from the profile that is given, else from
      that of an explicit law, else from what the data tell about the law behind them, as far as they resolve it; of
      fewer than 32 distinct points, from their own profile as far as they are crowded. Where there is none, the SNR at
      which the noise is as large as the law stands in its place: 1/largest length.
    - The data are crowded up to the SNR at which the median effective sample size of their posteriors falls below
      `CROWD`, or the square root of their number if that is less. From there on, and certainly past the collapse SNR
      where it falls below 2, a noisy datum tells which one it was made of, and what starts from it ends near it.

    The handover is where the hard band ends: further on there is nothing to gain but copies. Where the data cease to be
    crowded before that, it is there, and a warning says so: a hard step is made up for by more steps, a copy is not.

    Args:
        law: the law or network that is sampled.
        data: what is diffused.
        profile: of the law, by `probe`.
        seed: of the probes.
        progress: show their bars on stderr, where that is a terminal.

    Raises:
        ValueError: the data are a single point.

    Warns:
        UserWarning: the hard band does not end while the data are crowded.
    """
    single = data.distinct()
    if len(single) == 1:
        raise ValueError(f"all points of {data.name} are the same, and have no SNR to choose: give the handover's")
    own = probe(single, about="atoms", queries=QUERIES, views=0, seed=seed, progress=progress)
    least = min(CROWD, math.sqrt(len(single)))
    crowded = _last_above(own["snr"].to_numpy(), own["ess"].to_numpy(), least)
    whose = law.name
    if profile is None and (law.atoms or law.learned):
        few, whose = own.sel(snr=slice(None, max(crowded, float(own["snr"][0])))), data.name
        profile = few if len(single) < LEAST else probe(single, queries=QUERIES, views=0, seed=seed, progress=progress)
    elif profile is None:
        profile = probe(law, queries=QUERIES, views=0, seed=seed, progress=progress)
    hard = _band_end(profile)
    if math.isnan(hard) and float(profile.get("resolved_snr", math.inf)) < float(profile["snr"][-1]):
        hard = math.inf  # it may begin past what the data resolve
    many = f"{least:.2g} or more of the {len(data):,} points of {data.name} are behind a noisy one"
    low = 1 / law.scales()[1] if math.isnan(hard) else hard
    if low <= crowded:
        band = f"past the hard band of {whose}" if low == hard else f"where the noise is as large as {whose}"
        return Handover(within(low, law), f"{band}, and while {many}", hard, crowded)
    until = "does not end before" if math.isinf(low) else f"ends only at SNR {low:.3g}, past"
    band = f"the hard band of {whose} {until} SNR {crowded:.3g}, the last at which {many}"
    warnings.warn(f"{band}: handing over there, before samples become copies", stacklevel=3)
    return Handover(within(crowded, law), f"the last SNR at which {many}", hard, crowded)


def _last_above(r: NDArray[np.float64], values: NDArray[np.float64], level: float) -> float:
    """Where a curve that starts above the level first falls below it, in log-log; the last r if it never does."""
    below = np.flatnonzero(values < level)
    if len(below) == 0 or below[0] == 0:
        return float(r[-1 if len(below) == 0 else 0])
    k = int(below[0])
    share = math.log(values[k - 1] / level) / math.log(values[k - 1] / values[k])
    return float(r[k - 1] * (r[k] / r[k - 1]) ** share)


def _band_end(profile: xr.Dataset) -> float:
    """The first SNR past the bottleneck with m* below half of its maximum; inf beyond the profile, NaN without m*."""
    last = bottleneck(profile)["half_high"]
    if math.isnan(last):
        return last
    past = records.resolved(profile)["snr"].to_numpy()
    past = past[past > last]
    return float(past[0]) if len(past) else math.inf


def within(snr: float, law: Target) -> float:
    """The nearest SNR that a network was trained for; any, for other laws."""
    return min(max(snr, law.snr_range[0]), law.snr_range[1])
