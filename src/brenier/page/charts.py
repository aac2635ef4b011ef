"""Curves as the page's script draws them: named series of numbers, with two standard errors or brackets, as JSON.

What is no finite number is null, and leaves a gap.
"""

import math
from typing import Any, NotRequired, TypedDict

import numpy as np
import xarray as xr

ERRORS = 2  # standard errors to each side


class Series(TypedDict):
    """A curve: its name, places, values, errors, and how it is drawn."""

    name: str
    x: list[Any]
    y: list[float | None]
    colour: int  # of the page's palette
    dash: str
    low: NotRequired[list[float | None]]
    high: NotRequired[list[float | None]]
    se: NotRequired[list[float | None]]
    off: NotRequired[bool]  # whether it is switched off at first
    bar: NotRequired[bool]  # whether errors are bars, not a band


class Chart(TypedDict):
    """A panel: its title, axes and curves."""

    id: str
    title: str
    x: str
    y: str
    series: list[Series]
    logx: NotRequired[bool]
    logy: NotRequired[bool]
    range: NotRequired[list[float]]  # of the vertical axis, at first
    line: NotRequired[float]  # a level that matters
    shade: NotRequired[list[Any]]  # from, to, and what it says
    snr: NotRequired[bool]  # whether the horizontal axis is the SNR that the slider moves along


def numbers(values: Any) -> list[Any]:
    """An array of any shape as JSON has it."""
    values = np.asarray(values).tolist()
    return _plain(values) if isinstance(values, list) else [_plain(values)]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def series(
    data: xr.Dataset, x: str, y: str, name: str, colour: int, dash: str = "solid", *, off: bool = False
) -> Series:
    """One variable against another, with the errors that the dataset holds."""
    made: Series = {"name": name, "x": numbers(data[x]), "y": numbers(data[y]), "colour": colour, "dash": dash}
    if f"{y}_low" in data and f"{y}_high" in data:
        made["low"], made["high"] = numbers(data[f"{y}_low"]), numbers(data[f"{y}_high"])
    elif f"{y}_se" in data:
        made["se"] = numbers(data[f"{y}_se"])
    if off:
        made["off"] = True
    return made
