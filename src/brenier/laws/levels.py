"""Grids of noise levels, as SNRs r = alpha/sigma: those that a law calls for, and those that are asked for."""

import numpy as np
from numpy.typing import ArrayLike

from brenier.core.checks import Array
from brenier.laws.base import Target


def default_snrs(law: Target, count: int = 32) -> Array:
    """A geometric grid of SNRs, from all noise to all resolved.

    With the law's smallest and largest length (`Target.scales`), from r = 0.1/largest, where L_r is about 0.01 at most
    in every direction, to r = 10/smallest, where the noise is a tenth of the smallest feature: a standard deviation or
    half the distance of two means of a mixture, a side of a box, the median distance between neighbours in data.
    """
    if count < 1:
        raise ValueError(f"the number of SNRs must be at least 1, got {count}")
    smallest, largest = law.scales()
    return np.geomspace(0.1 / largest, 10 / smallest, count)


def given_snrs(snrs: ArrayLike | None, sigmas: ArrayLike | None) -> Array | None:
    """The SNRs asked for, sorted: as `snrs`, or as noise levels `sigmas` = 1/r; None where neither is given.

    Raises:
        ValueError: both are given; they are not positive, finite and different.
    """
    if sigmas is None:
        return None if snrs is None else check_snrs(snrs)
    if snrs is not None:
        raise ValueError("snrs and sigmas = 1/snrs say the same: give one of them")
    levels = np.asarray(sigmas, dtype=np.float64)
    bad = ~((levels > 0) & np.isfinite(levels))
    if bad.any():
        raise ValueError(f"every sigma must be positive and finite, got {np.atleast_1d(levels)[np.atleast_1d(bad)][0]}")
    return check_snrs(1 / levels)


def check_snrs(snrs: ArrayLike) -> Array:
    """The SNRs, sorted; a ValueError where they are not positive, finite and different."""
    grid = np.sort(np.atleast_1d(np.asarray(snrs, dtype=np.float64)))
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"snrs must be a list of at least one number, got shape {np.shape(snrs)}")
    if not np.all((grid > 0) & np.isfinite(grid)):
        raise ValueError(f"every SNR must be positive and finite, got {grid[~((grid > 0) & np.isfinite(grid))][0]}")
    if np.any(np.diff(grid) == 0):
        raise ValueError(f"the SNR {grid[:-1][np.diff(grid) == 0][0]:g} is given twice")
    return grid
