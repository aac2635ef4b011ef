"""What a comparison of schedules says: how planned ones do against those made by hand, and how true predictions are."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brenier.sampling.handmade import HANDMADE

if TYPE_CHECKING:
    import xarray as xr


class ByHand(NamedTuple):
    """How `error` does by RMS against the schedules made by hand.

    Attributes:
        cells: pairs of a solver and a number of steps.
        good: those in which it is as good as the best schedule made by hand, or within two standard errors.
        best: RMS of the best schedule made by hand of each cell over its own, in the geometric mean.
        karras: the same for karras; NaN if it was not compared.
    """

    cells: int
    good: int
    best: float
    karras: float


class Predicted(NamedTuple):
    """Predicted over measured RMS: the least, the median and the largest of all cells."""

    low: float
    median: float
    high: float


def against_hand(comparison: "xr.Dataset") -> ByHand | None:
    """How `error` does against the schedules made by hand; None where there are not both, or one leaves no error."""
    rms = comparison["rms"].stack(cell=("solver", "steps")).dropna("cell")
    names = [str(name) for name in comparison["criterion"].to_numpy()]
    by_hand = [name for name in names if name in HANDMADE]
    if "error" not in names or not by_hand or not rms.sizes["cell"] or not bool((rms > 0).all()):
        return None
    own, others = rms.sel(criterion="error"), rms.sel(criterion=by_hand)
    slack = 2 * comparison["rms_se"].stack(cell=("solver", "steps")).sel(cell=rms["cell"], criterion="error")
    best = others.min("criterion")
    karras = _mean(others.sel(criterion="karras") / own) if "karras" in by_hand else math.nan
    return ByHand(rms.sizes["cell"], int((own <= best + slack).sum()), _mean(best / own), karras)


def predicted(comparison: "xr.Dataset") -> Predicted | None:
    """How near predictions come to what was measured; None where there are none."""
    ratio = comparison["predicted"].to_numpy() / np.maximum(comparison["rms"].to_numpy(), 1e-300)
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    return Predicted(*np.quantile(ratio, [0, 0.5, 1]).tolist()) if ratio.size else None


def _mean(ratios: "xr.DataArray") -> float:
    return math.exp(float(np.log(ratios).mean()))
