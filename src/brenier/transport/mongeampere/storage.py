"""Potentials as datasets and files."""

import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
import xarray as xr

from brenier.core import records
from brenier.transport.mongeampere.grid.splines import GridPotential
from brenier.transport.mongeampere.laws import MODES, find_marginal, pair
from brenier.transport.mongeampere.learned import DEFAULT
from brenier.transport.mongeampere.marginal import Marginal, image, standard_normal, unknown
from brenier.transport.mongeampere.potentials import KINDS, Framed, Potential, Standardised
from brenier.transport.mongeampere.record import Fitted, Stopped
from brenier.transport.mongeampere.whitening import Affine, Triangular

ABOUT = ("title", "points", "w2_floor", "brenier_version", "torch_version")  # of a history
AXES = {"shift": "term", "log_scale": "linear_term"}  # of the coefficients of a triangular map
FAMILIES: dict[str, type[Potential]] = {**KINDS, "grid": GridPotential}


def potential_dataset(potential: Potential) -> xr.Dataset:
    """The numbers of a potential, over axes of their own; `read_potential` makes it again."""
    inner = potential.inner if isinstance(potential, Standardised | Framed) else potential
    family = next(name for name, known in FAMILIES.items() if type(inner) is known)
    data = xr.Dataset(attrs={"family": family, "standardised": int(inner is not potential)})
    for name, value in inner.arrays().items():
        array = value.numpy()
        data[f"{family}_{name}"] = (tuple(f"{family}_{name}_{k}" for k in range(array.ndim)), array)
    if isinstance(potential, Standardised):
        data["centre"] = ("axis", potential.centre.numpy())
        data["target_centre"] = ("axis", potential.target_centre.numpy())
        data.attrs |= {"unit": potential.unit, "target_unit": potential.target_unit}
    if isinstance(potential, Framed):
        for name, value in potential.whitening.arrays().items():
            data[name] = (("axis",) if value.ndim == 1 else ("axis", AXES.get(name, "column")), value.numpy())
    return data


@dataclass(frozen=True)
class Saved:
    """What a file holds of a flow, beside the numbers of its potential.

    Attributes:
        psi: the potential.
        history: what was measured on the way; None for a closed form.
        result: how the fit went.
        reference, target: names of the laws.
        method, drive, noise, units, standardised: see `MongeAmpere`.
    """

    psi: Potential
    history: xr.Dataset | None
    result: Fitted
    reference: str
    target: str
    method: str
    drive: str
    noise: float
    units: int
    standardised: bool

    def laws(self, reference: Any, target: Any, place: str) -> tuple[Marginal, Marginal]:
        """The laws of the map, as far as they are given or follow from the file.

        Raises:
            ValueError: other laws than those of the map.
        """
        if reference is None and self.reference == "normal":
            reference = standard_normal(self.psi.dim)
        elif isinstance(self.psi, Framed):
            reference = image(self.reference, self.psi.whitening)
        elif self.reference == MODES and target is not None:
            reference, target = pair(MODES, target, self.psi.dim)
        found: list[Marginal] = []
        for role, name, given in (("reference", self.reference, reference), ("target", self.target, target)):
            law = unknown(name, self.psi.dim) if given is None else find_marginal(given, self.psi.dim)
            if law.name != name:
                raise ValueError(f"{place} has {role} {name!r}, and now it is {law.name!r}")
            found.append(law)
        return found[0], found[1]


def read_map(data: xr.Dataset, place: str = "the dataset") -> Saved:
    """What `MongeAmpere.to_dataset` said.

    Args:
        data: the dataset.
        place: what to call it in messages.

    Raises:
        ValueError: something else is in it.
    """
    psi, about = read_potential(data, place), data.attrs
    if about["stopped"] not in get_args(Stopped):
        raise ValueError(f"{place}: no fit ends by {about['stopped']!r}")
    axes = {"step", "time", "saved"} & set(data.dims)
    history = data[[name for name in data.data_vars if axes & set(data[name].dims)]]
    history.attrs = {name: about[name] for name in ABOUT if name in about}
    history.attrs["kind"] = "history" if "step" in axes else "grid solution"
    arrays = psi.arrays()
    units = next((len(arrays[name]) for name in ("offsets", "theta") if name in arrays), 1)
    return Saved(
        psi,
        history if axes else None,
        Fitted(about["stopped"], int(about["steps"]), math.nan),
        str(about["reference"]),
        str(about["target"]),
        str(about["method"]),
        str(about.get("drive", "auto")),
        float(about.get("noise", DEFAULT.noise)),
        units,
        bool(about["standardised"]),
    )


def read_potential(data: xr.Dataset, place: str = "the dataset") -> Potential:
    """The potential in what `MongeAmpere.to_dataset` made.

    Args:
        data: the dataset.
        place: what to call it in messages.

    Raises:
        ValueError: something else is in it.
    """
    records.check(data, "flow", place=place)
    family = data.attrs.get("family")
    if family not in FAMILIES:
        raise ValueError(f"{place} holds no map of this kind: give what `brenier flow -o` saved")
    arrays: dict[str, Any] = {
        str(name).removeprefix(f"{family}_"): torch.from_numpy(np.array(data[name].values))
        for name in data.data_vars
        if str(name).startswith(f"{family}_")
    }
    try:
        potential = FAMILIES[family](**arrays)
        if "target_unit" in data.attrs:
            m0, m = (torch.from_numpy(data[name].values) for name in ("centre", "target_centre"))
            potential = Standardised(potential, m0, float(data.attrs["unit"]), m, float(data.attrs["target_unit"]))
        elif "root" in data:
            potential = Framed(potential, Affine(*(torch.from_numpy(data[name].values) for name in ("centre", "root"))))
        elif "shift" in data:
            numbers = (torch.from_numpy(data[name].values) for name in ("shift", "log_scale"))
            potential = Framed(potential, Triangular(*numbers))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{place} is no whole map: {error}") from None
    return potential
