"""What was measured at every step of a flow, as a labelled dataset."""

import math

import xarray as xr

from brenier.core import records
from brenier.core.kinds import RECORDS
from brenier.transport.mongeampere.flow import Iterate

SCALED = ("displacement", "w2")  # lengths: in the unit of the data, and not of standardised laws


def row(step: Iterate) -> dict[str, float]:
    """What is known of a step, by name."""
    known = {"eta": step.eta, "halvings": step.halvings, "displacement": step.displacement, "curvature": step.curvature}
    return {"step": step.number, **known, **step.figures}


def history(rows: list[dict[str, float]], floor: float, unit: float) -> xr.Dataset:
    """A variable for everything that was measured, NaN at steps where it was not."""
    names = [name for name in RECORDS["history"].labels if name != "step" and any(name in row for row in rows)]
    columns = {
        name: ("step", [row.get(name, math.nan) * (unit if name in SCALED else 1.0) for row in rows]) for name in names
    }
    steps = [int(row["step"]) for row in rows]
    return records.dataset("history", columns, {"step": steps}, w2_floor=floor * unit)
