"""Numbers that options take: lists, noise levels, and grids of SNRs."""

from typing import TYPE_CHECKING, Any

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


def given_levels(
    snr: str | None, sigma: str | None, low: float | None, high: float | None, count: int | None
) -> dict[str, Any]:
    """`snrs` or `sigmas` as the verbs take them, from --snr or --sigma; neither where neither is given.

    Raises:
        ValueError: a field is not a number or given twice, or both are given, or a grid is asked for, too.
    """
    if snr is not None and sigma is not None:
        raise ValueError("--snr and --sigma say the same, sigma = 1/SNR: give one of them")
    for option, text in (("--snr", snr), ("--sigma", sigma)):
        if text is not None and (low, high, count) != (None, None, None):
            raise ValueError(f"{option} gives the levels themselves: leave out --snr-min, --snr-max and --snrs")
    if snr is not None:
        return {"snrs": sorted(read_numbers(snr, "--snr"))}
    return {} if sigma is None else {"sigmas": sorted(read_numbers(sigma, "--sigma"), reverse=True)}


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
