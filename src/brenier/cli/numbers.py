"""Numbers that options take: lists, and grids of SNRs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brenier.laws.base import Target


def read_numbers(text: str, option: str) -> list[float]:
    """The numbers in "1,2,5", which must differ.

    Raises:
        ValueError: a field is not a number, or a number is given twice.
    """
    numbers: list[float] = []
    for field in text.split(","):
        try:
            number = float(field)
        except ValueError:
            raise ValueError(f"{option} {text!r}: {field!r} is not a number: separate numbers by commas") from None
        if number in numbers:
            raise ValueError(f"{option} {text!r} holds {field.strip()} twice: give each number once")
        numbers.append(number)
    return numbers


def given_snrs(snr: str | None, low: float | None, high: float | None, count: int | None) -> list[float] | None:
    """The SNRs in --snr, sorted; None without it.

    Raises:
        ValueError: a field is not a number or given twice, or a grid is asked for, too.
    """
    if snr is None:
        return None
    if (low, high, count) != (None, None, None):
        raise ValueError("--snr gives the SNRs themselves: leave out --snr-min, --snr-max and --snrs")
    return sorted(read_numbers(snr, "--snr"))


def snr_grid(law: "Target", low: float | None, high: float | None, count: int) -> list[float]:
    """A geometric grid; an end that is not given is that of the law's own grid."""
    import numpy as np

    from brenier.laws.levels import default_snrs

    if count < 2:
        raise ValueError(f"--snrs {count}: a grid has at least 2 SNRs (for a single one, give --snr)")
    for option, value in (("--snr-min", low), ("--snr-max", high)):
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"{option} {value}: an SNR must be positive and finite")
    own = default_snrs(law, count)
    if low is None and high is None:
        return [float(r) for r in own]
    low, high = float(own[0]) if low is None else low, float(own[-1]) if high is None else high
    if not low < high:
        raise ValueError(f"the SNR grid would run from {low:g} to {high:g}: give --snr-min below --snr-max")
    return [float(r) for r in np.geomspace(low, high, count)]
