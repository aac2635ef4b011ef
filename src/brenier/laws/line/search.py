"""What users give as a density on the line: checked, and where its mass is."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from brenier.core.checks import Array
from brenier.laws.base import FAR
from brenier.laws.line.panels import LogDensity, Panels, panels_of

_DECADES = np.concatenate([10.0 ** np.arange(-12, -2), np.geomspace(1e-2, 1e3, 101), 10.0 ** np.arange(4, 13)])


def read_support(support: Sequence[float]) -> tuple[float, float]:
    """The ends of a support.

    Raises:
        ValueError: they are not two numbers from low to high.
    """
    try:
        low, high = (float(end) for end in support)
    except (TypeError, ValueError):
        raise ValueError(f"support must be two numbers, (low, high), got {support!r}") from None
    if not low < high:
        raise ValueError(f"support must go from low to high, got {low:g} to {high:g}")
    return low, high


def read_function(function: Callable[[Any], Any], what: str = "log_density") -> LogDensity:
    """A user's function of places as one of arrays (n,), whether it takes arrays or tensors; `what` it is called.

    Raises:
        TypeError: it is no function, or takes neither.
        ValueError: it does not return a number for each place.
    """
    if not callable(function):
        raise TypeError(f"{what} must be a function of x, got {type(function).__name__}")
    probe = np.array([0.25, 0.5])
    tensors = False
    try:
        with np.errstate(all="ignore"):
            function(probe)
    except Exception as error:  # noqa: BLE001 - whatever a user's function raises
        tensors = True
        try:
            function(torch.from_numpy(probe))
        except Exception:  # noqa: BLE001
            raise TypeError(f"{what}(x) fails on an array x of shape (n,): {error}") from error

    def asked(x: Array) -> Array:
        with np.errstate(all="ignore"), torch.no_grad():
            found: Any = function(torch.from_numpy(x) if tensors else x)
        try:
            values = np.asarray(found, dtype=float)
        except (TypeError, ValueError):
            raise TypeError(f"{what} must return numbers, got {type(found).__name__}") from None
        if values.shape != x.shape:
            raise ValueError(f"{what} must return one number per place, shape {x.shape}, got {values.shape}")
        return values

    return asked


def coordinate(log_density: LogDensity, low: float, high: float, at: Sequence[float] = ()) -> tuple[float, float]:
    """Place and length of a coordinate for a law: its origin is an end of the support where that is near its mass.

    Beside 0 numbers lie densest, and an end may be a pole.

    Raises:
        ValueError: a place of `at` is not in the support; see `panels.panels_of`.
    """
    for place in at:
        if not low <= place <= high:
            raise ValueError(f"at must lie in the support, from {low:g} to {high:g}, got {place:g}")
    centre, unit = _middle(log_density, low, high, at)
    unit = math.ldexp(1.0, round(math.log2(unit)))
    for end in (low, high):
        if math.isfinite(end) and abs(centre - end) <= FAR * unit:
            return end, unit
    return (0.0 if abs(centre) <= FAR * unit and low <= 0 <= high else centre), unit


def resolved(log_density: LogDensity, low: float, high: float, at: Sequence[float] = (), blur: float = 0.0) -> Panels:
    """The panels of a law, made about its median with half the distance of its quartiles as a unit."""
    return panels_of(log_density, low, high, *_middle(log_density, low, high, at, blur), at, blur)


def _middle(
    log_density: LogDensity, low: float, high: float, at: Sequence[float], blur: float = 0.0
) -> tuple[float, float]:
    """Median and half the distance of the quartiles, of panels about a mode."""
    mode, width = _mode(log_density, low, high, at)
    found = panels_of(log_density, low, high, mode, width, at, blur)
    share = np.concatenate([[0], np.cumsum(np.exp(found.log_mass))])
    ends = np.concatenate([found.left, found.right[-1:]])
    lower, middle, upper = np.interp([0.25, 0.5, 0.75], share / share[-1], ends)
    unit = float(upper - lower) / 2
    # The panels beside a pole may hold more than a quarter each.
    return float(middle), unit if unit > 0 else width


def _mode(log_density: LogDensity, low: float, high: float, at: Sequence[float]) -> tuple[float, float]:
    """The highest place that a search finds, and a length over which the density falls from there."""
    places = [np.asarray(at, dtype=float)]
    if math.isfinite(low) and math.isfinite(high):
        places.append(low + (high - low) * (np.arange(1, 400) / 400))
        for end, sign in ((low, 1), (high, -1)):
            places.append(end + sign * (high - low) * np.ldexp(1.0, -np.arange(2, 50)))
    elif math.isfinite(low) or math.isfinite(high):
        end, sign = (low, 1) if math.isfinite(low) else (high, -1)
        places.append(end + sign * max(abs(end), 1.0) * _DECADES)
        places.append(end + sign * _DECADES)
    else:
        places += [_DECADES, -_DECADES, np.zeros(1)]
    x = np.unique(np.concatenate(places))
    x = x[(x > low) & (x < high)]
    values = log_density(x)
    known = np.isfinite(values)
    if not known.any():
        what = "NaN" if np.isnan(values).any() else "inf" if (values == math.inf).any() else "-inf"
        raise ValueError(f"log_density is {what} wherever it was looked for: give a place with mass as at=[x]")
    x, values = x[known], values[known]
    best = int(values.argmax())
    mode, height = float(x[best]), float(values[best])
    beside = float(x[max(best - 1, 0)]), float(x[min(best + 1, len(x) - 1)])

    from scipy.optimize import minimize_scalar  # slow to import

    def depth(place: float) -> float:
        value = float(log_density(np.array([place]))[0])
        return -value if math.isfinite(value) else -height + 1e3

    found: Any = minimize_scalar(
        depth, bounds=beside, method="bounded", options={"xatol": 1e-10 * (beside[1] - beside[0])}
    )
    if -found.fun > height:
        mode, height = float(found.x), -float(found.fun)
    distance = max(abs(mode), 1e-3) * np.ldexp(1.0, np.arange(-40, 100))
    widths: list[float] = []
    for sign in (1, -1):
        there = mode + sign * distance
        inside = (there > low) & (there < high)
        fallen = ~(log_density(there[inside]) > height - 1)
        if fallen.any():
            widths.append(float(distance[inside][fallen.argmax()]))
    if widths:
        return mode, max(widths)
    ends = [abs(end - mode) for end in (low, high) if math.isfinite(end)]
    return mode, max(ends, default=max(abs(mode), 1.0))
