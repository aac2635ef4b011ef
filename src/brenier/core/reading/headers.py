"""Whether the first line of a table names its columns, where it may as well be a point.

Text above numbers is names. A line of numbers may be either: a point, or 0, 1, 2, ..., wavelengths, years, which
libraries write above arrays. Its odds of being names are multiplied from what points and names are like:

    written otherwise     whole numbers above fractions: as improbable for a point as they are below, in every column
    at equal distances    one step from each to the next, or many in order, and no point below like them
    counted               from 0 on
    out of range          beyond all values of every column that is not sorted; more so by more than their range
    fractions             are no names unless they are sorted, and no point is
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PRIOR = 0.02
SIGN = 3.0  # times the prior: something speaks for names
CERTAIN = 100.0  # odds
MOST = 1e6  # of what one kind of evidence may say


def odds_of_names(first: Sequence[str], rows: Sequence[Sequence[str]], values: NDArray[np.float64]) -> float:
    """The odds that the first line of a table of numbers is names; 0 where it certainly is a point.

    Args:
        first: the fields of that line.
        rows: those of lines below, as many in each.
        values: the numbers that they write, shape (1 + rows, columns), NaN where there is none.
    """
    names, below = values[0], values[1:]
    if not len(below) or np.isnan(names).any() or len(np.unique(names)) < len(names):
        return 0.0
    whole = [_is_whole(field) for field in first]
    if not all(whole) and (len(names) < 3 or not _is_sorted(np.diff(names)) or _like(names, below)):
        return 0.0
    odds = PRIOR * _order(names, below)
    if all(whole):
        fields = np.array([[_is_whole(field) for field in row] for row in rows])
        known = np.isfinite(below)
        shares = ((fields & known).sum(0) + 1) / (known.sum(0) + 1)
        odds *= min(MOST, float(1 / np.maximum(np.prod(shares), 1 / MOST)))
    return odds * _range(names, below)


Values = NDArray[np.float64]


def _is_whole(field: str) -> bool:
    return field.strip().lstrip("+-").isdecimal()


def _order(names: Values, below: Values) -> float:
    """What the distances of the names say."""
    steps = np.diff(names)
    if not len(steps):
        return 3.0 if names[0] == 0 else 1.0
    alike = _is_even(steps)
    one_up = alike and steps[0] == 1
    counted = 5.0 if one_up and names[0] == 0 else 1.0
    if len(names) < 4:
        return counted * (10.0 if alike and len(names) == 3 else 3.0 if one_up else 1.0)
    if not (alike or (_is_sorted(steps) and len(names) >= 8)):
        return 1.0
    like = _like(names, below)
    return counted * min(1000.0, len(below) / like if like else np.inf)


def _like(names: Values, below: Values) -> int:
    """How many of the points below are at equal distances, or sorted, as the names are."""
    as_names = _is_even if _is_even(np.diff(names)) else _is_sorted
    return sum(map(as_names, np.diff(below)))


def _is_even(steps: Values) -> bool:
    return bool(np.allclose(steps, steps[0], rtol=1e-6, atol=0))


def _is_sorted(steps: Values) -> bool:
    return bool((steps > 0).all() or (steps < 0).all())


def _range(names: Values, below: Values) -> float:
    """What the values below say: whether they are like the names."""
    low, high = np.nanmin(below, 0), np.nanmax(below, 0)
    steps = np.diff(below, axis=0)
    trend = (steps >= 0).all(0) | (steps <= 0).all(0)  # a point before the first may lie beyond such a column
    if trend.all() or len(below) < 3:
        return 1.0
    names, low, high = names[~trend], low[~trend], high[~trend]
    if ((low <= names) & (names <= high)).any():
        inside = ((low <= names) & (names <= high)).all()
        return 0.3 if inside and bool((below[:, ~trend] == names).any(0).all()) else 1.0
    width = high - low
    far = int(((names < low - width) | (names > high + width)).sum())
    return min(MOST, (len(below) + 1) / 2 * 3.0 ** min(far, 4))
