"""What a calibration says: deviations in standard errors, and the verdicts of each noise level, by purpose."""

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brenier.core import records

if TYPE_CHECKING:
    import xarray as xr

Array: TypeAlias = NDArray[np.float64]

FAIR, POOR = 0.10, 0.20  # of an error in squares: 5% and 10% in its root
CARRIED = 16  # queries that have to carry the error
VERDICTS = ("good", "fair", "poor", "undecided")
SIGNIFICANT = 5.0
CHECKS = ("excess", "balance", "directional", "dependence", "asymmetry", "negative")
# Which checks matter for what, and why: `calibration`'s docstring. The first of each has to be known for it to be good.
PURPOSES = {"sampling": ("excess",), "probing": ("balance", *(name for name in CHECKS if name != "balance"))}


class Band(NamedTuple):
    """Adjacent SNRs with the same verdict for one purpose.

    Attributes:
        low, high: the first and the last SNR.
        verdict: one of `VERDICTS`.
        worst: each check of the purpose that deviates, with its largest deviation, sign included.
    """

    low: float
    high: float
    verdict: str
    worst: dict[str, float]


def verdict_bands(calibration: "xr.Dataset", purpose: str) -> list[Band]:
    """The verdicts of `calibrate` for one of `PURPOSES`, from low to high SNR, adjacent ones that agree joined."""
    found = deviations(calibration)
    snr, verdict, levels = (calibration[name].to_numpy() for name in ("snr", f"verdict_{purpose}", "level"))
    bands: list[Band] = []
    for code, group in groupby(range(len(snr)), key=lambda k: int(verdict[k])):
        rows = np.asarray(list(group))
        worst: dict[str, float] = {}
        for name, level in zip(CHECKS, levels, strict=True):
            flagged = rows[np.isin(level[rows], [1, 2])]
            if len(flagged) and name in PURPOSES[purpose]:
                value = found[name][0][flagged]
                worst[name] = float(value[np.argmax(np.abs(value))])
        bands.append(Band(float(snr[rows[0]]), float(snr[rows[-1]]), VERDICTS[code], worst))
    return bands


def doubt(calibration: "xr.Dataset", band: Band, purpose: str) -> tuple[float, float]:
    """Of a band: the fewest queries that carry the error, and two standard errors of the first check, at most."""
    rows = (calibration["snr"] >= band.low) & (calibration["snr"] <= band.high)
    part = calibration.isel(snr=np.flatnonzero(rows.to_numpy()))
    return float(part["carried"].min()), 2 * float(part[f"{PURPOSES[purpose][0]}_se"].max())


def confirmed(calibration: "xr.Dataset", check: str) -> float:
    """How far one of `CHECKS` deviates at most, two standard errors included; inf: not known."""
    value, error = deviations(calibration)[check]
    bound = np.abs(value) + 2 * error
    return float(bound.max()) if np.isfinite(bound).all() else np.inf


def deviations(calibration: "xr.Dataset") -> dict[str, tuple[Array, Array]]:
    """Each of `CHECKS` as a relative deviation, 0 for an exact posterior, with its standard error, over SNRs."""
    verdicts = [f"verdict_{purpose}" for purpose in PURPOSES]
    records.check(calibration, "calibration", ("snr", *CHECKS, "level", *verdicts))
    return _deviations({str(name): values.to_numpy() for name, values in calibration.variables.items()})


def _deviations(found: Mapping[str, NDArray[Any]]) -> dict[str, tuple[Array, Array]]:
    def read(name: str) -> Array:
        return found[name].astype(np.float64)

    return {
        "excess": (np.maximum(read("excess"), 0), read("excess_se")),
        "balance": (read("balance") - 1, read("balance_se")),
        "directional": (read("directional") - 1, read("directional_se")),
        "dependence": (read("dependence"), read("dependence_se")),
        "asymmetry": (read("asymmetry") / 2, read("asymmetry_se") / 2),
        "negative": (read("negative"), read("negative_se")),
    }


def judge(found: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int8], dict[str, NDArray[np.int8]]]:
    """Level of each check, and the verdict for each purpose, at each SNR: the rule in `calibration`'s docstring."""
    carried = found["carried"] >= CARRIED
    levels: list[NDArray[np.int8]] = []
    for name, (value, error) in _deviations(found).items():
        size, usable = np.abs(value), carried | (name in ("asymmetry", "negative"))
        certain = usable & (size > SIGNIFICANT * error)  # False where the error is not known
        known = usable & (size + 2 * error <= POOR)
        level = np.where(certain & (size > POOR), 2, np.where(certain & (size > FAIR), 1, np.where(known, 0, 3)))
        levels.append(level.astype(np.int8))
    level = np.stack(levels)
    verdicts: dict[str, NDArray[np.int8]] = {}
    for purpose, names in PURPOSES.items():
        first, *others = (level[CHECKS.index(name)] for name in names)
        flagged = np.stack([np.where(one == 3, 0, one) for one in (first, *others)]).max(0)
        verdicts[purpose] = np.where(flagged > 0, flagged, first).astype(np.int8)
    return level, verdicts
