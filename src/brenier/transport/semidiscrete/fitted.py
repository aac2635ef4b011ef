"""How the fit of a semi-discrete map went, and how it is kept."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from brenier.core import records

Stopped: TypeAlias = Literal["exact", "tolerance", "minutes", "interrupted"]

SAVED = ("stopped", "tolerance", "samples", "excess", "seed", "averaged")  # the same fit makes the same file


@dataclass(frozen=True)
class Fitted:
    """How a fit went.

    Attributes:
        stopped: "exact" (the closed form on the line, or a single point), "tolerance", "minutes" or "interrupted".
        tolerance: that was asked for.
        samples: draws that it took, measurements included.
        seconds: it took; NaN where the map was read from a file.
        excess: last measured excess total variation; NaN where it was not measured.
        seed: of its draws.
        averaged: draws that the heights are worth, as an average; 0 where they are none.
    """

    stopped: Stopped
    tolerance: float
    samples: int
    seconds: float
    excess: float
    seed: int
    averaged: int = 0


def as_dataset(
    points: Float[Tensor, "N d"], weights: Float[Tensor, " N"], heights: Float[Tensor, " N"], fit: Fitted, **about: Any
) -> xr.Dataset:
    """A fitted map as a dataset."""
    known = asdict(fit)
    return records.dataset(
        "transport",
        {
            "points": (("point", "axis"), points.cpu().numpy()),
            "weights": ("point", weights.numpy()),
            "heights": ("point", heights.cpu().numpy()),
        },
        **about,
        **{f"fit_{name}": known[name] for name in SAVED},
    )


def read_fit(data: xr.Dataset, weights: Float[Tensor, " N"]) -> tuple[Float[Tensor, " N"], Fitted]:
    """The heights in the dataset of a map to points of these weights, and how they were fitted.

    Raises:
        ValueError: they are not numbers for all points that have weight; the fit ended as none does.
    """
    about = data.attrs
    heights = np.asarray(data["heights"].values, dtype=np.float64)
    if heights.shape != (len(weights),) or not np.isfinite(heights[weights.numpy() > 0]).all():
        raise ValueError(f"heights must be {len(weights)} numbers, finite where the weight is not 0")
    if (stopped := about["fit_stopped"]) not in get_args(Stopped):
        raise ValueError(f"no fit ends by {stopped!r}")
    tolerance, excess = float(about["fit_tolerance"]), float(about["fit_excess"])
    samples, seed, averaged = (int(about.get(f"fit_{name}", 0)) for name in ("samples", "seed", "averaged"))
    return torch.from_numpy(heights), Fitted(stopped, tolerance, samples, math.nan, excess, seed, averaged)


def told_in(data: xr.Dataset) -> dict[str, Any]:
    """What the dataset of a map says of labels or conditions, as `SemiDiscrete` takes it."""
    if "conditions" in data:
        return {"conditions": data["conditions"].values, "kappa": float(data.attrs["kappa"])}
    if "labels" not in data:
        return {}
    labels, classes = np.asarray(data["labels"].values), np.asarray(data["class"].values)
    return {"labels": labels if classes.dtype.kind in "iu" else classes.astype(str)[labels]}
