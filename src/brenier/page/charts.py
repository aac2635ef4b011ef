"""Curves as the page's script draws them: named series of numbers, with two standard errors or brackets, as JSON.

What is no finite number is null, and leaves a gap.
"""

import math
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import xarray as xr

ERRORS = 2  # standard errors to each side
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
DOTS = 2000  # points of a cloud that are drawn, and places of a curve


class Series(TypedDict):
    """A curve, or marks: its name, places, values, errors, and how it is drawn."""

    name: str
    x: list[Any]
    y: list[Any]  # numbers, or names of rows
    colour: int  # of the page's palette
    dash: str
    low: NotRequired[list[float | None]]
    high: NotRequired[list[float | None]]
    se: NotRequired[list[float | None]]
    off: NotRequired[bool]  # whether it is switched off at first
    bar: NotRequired[bool]  # whether errors are bars, not a band
    symbol: NotRequired[str]  # of marks that no line joins
    size: NotRequired[int]  # of these marks, in pixels
    notes: NotRequired[list[str]]  # what is said of each place beside its value
    shades: NotRequired[list[Any]]  # numbers that colour the marks
    shaded: NotRequired[str]  # what these are
    thin: NotRequired[bool]  # whether it is an outline


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
    across: NotRequired[list[float]]  # of the horizontal axis, at first
    line: NotRequired[float]  # a level that matters
    beyond: NotRequired[float]  # a place that matters
    zones: NotRequired[list[Any]]  # levels from and to, grey
    shade: NotRequired[list[Any]]  # from, to, and what it says
    snr: NotRequired[bool]  # whether the horizontal axis is the SNR that the slider moves along
    rows: NotRequired[list[str]]  # names of rows, from the top, that the vertical axis has in place of numbers
    equal: NotRequired[bool]  # whether both axes have one scale


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


def line(x: Any, y: Any, name: str, colour: int, dash: str = "solid") -> Series:
    """A curve without errors."""
    return {"name": name, "x": numbers(x), "y": numbers(y), "colour": colour, "dash": dash}


def marks(
    places: Any, name: str, colour: int, symbol: str = "circle", *, notes: Sequence[str] | None = None, size: int = 6
) -> Series:
    """Marks at places (x, y) that no line joins, `DOTS` of them at most: then every so many-th, which the name says."""
    x, y = places
    count = len(x)
    step = -(-count // DOTS)
    if step > 1:
        name = f"{name}, {len(range(0, count, step)):,} of {count:,}"
    made: Series = {"name": name, "x": numbers(x[::step]), "y": numbers(y[::step]), "colour": colour, "dash": "solid"}
    made["symbol"], made["size"] = symbol, size
    if notes is not None:
        made["notes"] = list(notes[::step])
    return made


def rows(names: Sequence[str], interval: Any, name: str, place: int) -> Series:
    """A number with its interval, (middle, low, high), for each row of a chart that has rows."""
    middle, low, high = interval
    return {
        "name": name,
        "x": numbers(middle),
        "y": list(names),
        "low": numbers(low),
        "high": numbers(high),
        "colour": place,
        "dash": "solid",
        "symbol": SYMBOLS[place % len(SYMBOLS)],
        "size": 8,
    }


def outline(lines: Sequence[Any], name: str, colour: int, dash: str = "solid", digits: int = 5) -> Series:
    """Lines through places, each an array (n, 2), as one series with gaps, to so many digits."""
    x, y = ([_rough(part, digits) for one in lines for part in (*one[:, axis].tolist(), math.nan)] for axis in (0, 1))
    return {"name": name, "x": x, "y": y, "colour": colour, "dash": dash, "thin": True}


def _rough(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def chart(name: str, title: str, axes: tuple[str, str], curves: list[Series], *logs: str, **further: Any) -> Chart:
    """A panel. `logs`: of "logx" and "logy", the axes that are logarithmic."""
    made: Chart = {"id": name, "title": title, "x": axes[0], "y": axes[1], "series": curves}
    made |= dict.fromkeys(logs, True) | further  # pyright: ignore[reportAssignmentType]
    return made
