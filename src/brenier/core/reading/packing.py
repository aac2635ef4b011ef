"""What attributes say of the numbers beside them, as climate data have it: how they are packed, and what is missing."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.plain import count

_MARKS = ("_FillValue", "missing_value")
_PACKING = (*_MARKS, "scale_factor", "add_offset", "_Unsigned")
_UNWRITTEN = 9.969209968386869e36  # what netCDF puts where nothing was written, in single and in double precision


def unpacked(values: NDArray[Any], attributes: Mapping[str, Any], unwritten: bool = False) -> NDArray[Any]:
    """Values times `scale_factor` plus `add_offset`, which are not there for most arrays.

    Args:
        values: as they are stored.
        attributes: of the array, these and `_FillValue`, `missing_value`, `_Unsigned`, `valid_range`, `valid_min` and
            `valid_max` among them.
        unwritten: whether netCDF's own mark of what was never written counts, too.

    Raises:
        ValueError: values that are marked as missing, or out of the range that is valid.
    """
    import xarray as xr

    if values.dtype.kind not in "iuf":
        return values
    known = {name: np.asarray(attributes[name]) for name in _PACKING if name in attributes}
    packing: dict[str, Any] = {name: value.item() if value.size == 1 else value for name, value in known.items()}
    if unwritten and values.dtype.str[1:] in ("f4", "f8") and "_FillValue" not in packing:
        packing["_FillValue"] = values.dtype.type(_UNWRITTEN)
    found = values
    if packing:
        stored = xr.Dataset({"x": ([f"axis {k}" for k in range(values.ndim)], values, packing)})
        with warnings.catch_warnings(action="ignore"):  # that there are several marks of what is missing
            found = xr.decode_cf(stored, decode_times=False, decode_coords=False)["x"].to_numpy()
    missing = np.isnan(found) & (values == values) if found.dtype.kind == "f" else np.zeros(found.shape, dtype=bool)
    if missing.any():
        marks = " or ".join(
            f"{name} {', '.join(map(str, np.ravel(packing[name])))}" for name in _MARKS if name in packing
        )
        raise ValueError(count(missing, f"missing ({marks})"))
    bounds = [attributes.get("valid_min", -math.inf), attributes.get("valid_max", math.inf)]
    low, high = np.ravel(attributes.get("valid_range", np.hstack(bounds)))
    if "_Unsigned" not in packing and (bad := (values < low) | (values > high)).any():
        raise ValueError(count(bad, f"not valid ({low:g} to {high:g}, as the file says)"))
    return found
