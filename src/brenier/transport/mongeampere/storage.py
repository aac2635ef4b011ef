"""Potentials as datasets and files."""

import os
from typing import Any

import numpy as np
import torch
import xarray as xr

from brenier.core import records
from brenier.transport.mongeampere.grid.splines import GridPotential
from brenier.transport.mongeampere.potentials import KINDS, Framed, Potential, Standardised

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
        data["centre"] = ("axis", potential.centre.numpy())
        data["root"] = (("axis", "column"), potential.root.numpy())
    return data


def load_potential(path: str | os.PathLike[str]) -> tuple[Potential, xr.Dataset]:
    """The potential in a file that `MongeAmpere.save` or `brenier flow` wrote, and all of the file.

    Its `gradient` is the map, for sources that were drawn elsewhere.

    Raises:
        ValueError: no such file, or something else in it.
    """
    data = records.read(path, "flow")
    return read_potential(data, repr(os.fspath(path))), data


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
            centre, root = (torch.from_numpy(data[name].values) for name in ("centre", "root"))
            potential = Framed(potential, centre, root)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{place} is no whole map: {error}") from None
    return potential
