"""What an evaluation says: whether samples differ from a perfect sampler's, and whether they are enough."""

import math
from typing import TYPE_CHECKING, Literal

from brenier.metrics.distances import ENOUGH

if TYPE_CHECKING:
    import xarray as xr

    from brenier.metrics.copying import Memorisation

WORDS = {  # for metrics that are not called by their names
    "frechet": "Frechet distance",
    "frechet_debiased": "  without its bias",
    "kernel": "kernel distance",
    "w2": "W2",
    "mmr": "mode mixture ratio",
    "stray": "outside all modes",
    "closer": "closer than data are",
    "copied": "copied",
    "ratio": "nearest / second",
}


def against_control(evaluation: "xr.Dataset", metric: str) -> Literal["less", "same", "more"]:
    """How a metric compares with that of a perfect sampler, two standard errors aside; without any, its interval."""
    row = evaluation.sel(metric=metric)
    value, other = float(row["value"]), float(row["control"])
    slack = 2 * math.hypot(float(row["value_se"]), float(row["control_se"]))
    alike = float(row["low"]) <= float(row["control_high"]) and float(row["high"]) >= float(row["control_low"])
    if abs(value - other) <= slack or (slack == 0 and alike):
        return "same"
    return "less" if value < other else "more"


def frechet_needs(evaluation: "xr.Dataset") -> tuple[int, int, int] | None:
    """Features of a Frechet distance that has too few points, how many it has, and how many are enough; else None."""
    about = evaluation.attrs
    features = str(about["features"])
    count = int(features.split()[1]) if features.startswith("pca") else int(about["dim"])
    fewest = min(int(about["n"]), int(about["n_reference"]))
    few = features.startswith(("raw", "pca")) and fewest < ENOUGH * count
    return (count, fewest, ENOUGH * count) if few else None


def copies(memory: "Memorisation") -> bool:
    """Whether samples lie nearer to the data than data do more often than data themselves, by two standard errors."""
    found, control = (near.shares()["closer"] for near in (memory.samples, memory.control))
    return found.value > control.value + 2 * math.hypot(found.value_se, control.value_se)
