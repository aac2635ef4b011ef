"""What was measured at every step of a flow, as a labelled dataset."""

import math

import xarray as xr

from brenier.transport.mongeampere.flow import Iterate
from brenier.transport.mongeampere.judge import POINTS

FIGURES: dict[str, tuple[str, int]] = {
    "eta": ("step size for standardised laws", 0),
    "halvings": ("halvings that kept the potential convex", 0),
    "displacement": ("root mean square of the step", 1),
    "curvature": ("least eigenvalue of Hess psi for standardised laws", 0),
    "kl": ("KL(rho || target), up to the constant of an unnormalised density", 0),
    "kl_error": ("standard error of kl", 0),
    "held_kl": ("KL(rho || target) on points that no step has seen", 0),
    "held_kl_error": ("standard error of held_kl", 0),
    "reverse_kl": ("KL(target || rho) by the classifier", 0),
    "loss": ("loss of the classifier or score", 0),
    "calibration": ("calibration error of the classifier", 0),
    "w2": (f"W2 between {POINTS} points of each law", 1),
    "dual": ("Kantorovich's dual for standardised laws", 0),
}


def row(step: Iterate) -> dict[str, float]:
    """What is known of a step, by name."""
    known = {"eta": step.eta, "halvings": step.halvings, "displacement": step.displacement, "curvature": step.curvature}
    return {"step": step.number, **known, **step.figures}


def history(rows: list[dict[str, float]], floor: float, unit: float) -> xr.Dataset:
    """A variable for everything that was measured, NaN at steps where it was not."""
    data = xr.Dataset(coords={"step": ("step", [int(row["step"]) for row in rows])})
    for name, (long_name, power) in FIGURES.items():
        if any(name in row for row in rows):
            values = [row.get(name, math.nan) * unit**power for row in rows]
            data[name] = ("step", values, {"long_name": long_name})
    data.attrs["w2_floor"] = floor * unit
    return data
