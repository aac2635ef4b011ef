"""How a fit went, and what was measured at every step of a flow, as a labelled dataset."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import xarray as xr

from brenier.core import records
from brenier.core.kinds import RECORDS
from brenier.transport.mongeampere.flow import Iterate

Stopped: TypeAlias = Literal["closed form", "steady", "steps", "tolerance", "minutes", "interrupted", "diverged"]

SCALED = ("displacement", "w2")  # lengths: in the unit of the data, and not of standardised laws


@dataclass(frozen=True)
class Fitted:
    """How a fit went.

    Attributes:
        stopped: "closed form", "steady" (no step makes it better), "steps", "tolerance", "minutes", "interrupted" or
            "diverged".
        steps: that were taken.
        seconds: it took; NaN where the map was read from a file.
        reason: for "diverged", why; else empty.
    """

    stopped: Stopped
    steps: int
    seconds: float
    reason: str = ""


def row(step: Iterate) -> dict[str, float]:
    """What is known of a step, by name."""
    known = {"eta": step.eta, "halvings": step.halvings, "displacement": step.displacement, "curvature": step.curvature}
    return {"step": step.number, **known, **step.figures}


def rows(history: xr.Dataset | None, unit: float) -> list[dict[str, float]]:
    """What `history` was made from."""
    if history is None or "step" not in history.dims:
        return []
    known = {str(name): values / (unit if name in SCALED else 1.0) for name, values in history.data_vars.items()}
    return [
        {"step": float(step)} | {name: float(values[k]) for name, values in known.items() if not math.isnan(values[k])}
        for k, step in enumerate(history["step"].to_numpy())
    ]


def history(rows: list[dict[str, float]], floor: float, unit: float) -> xr.Dataset:
    """A variable for everything that was measured, NaN at steps where it was not."""
    names = [name for name in RECORDS["history"].labels if name != "step" and any(name in row for row in rows)]
    columns = {
        name: ("step", [row.get(name, math.nan) * (unit if name in SCALED else 1.0) for row in rows]) for name in names
    }
    steps = [int(row["step"]) for row in rows]
    return records.dataset("history", columns, {"step": steps}, w2_floor=floor * unit)
