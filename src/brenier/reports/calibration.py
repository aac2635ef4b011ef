"""A calibration in a terminal: a table, and for each band of SNRs a sentence that says what its verdict means."""

import xarray as xr
from rich.console import Console

from brenier.probing.verdicts import CARRIED, VERDICTS, Band, confirmed, doubt, verdict_bands
from brenier.reports.tables import Column, beside, distinct, number, print_tables, say, scale, stdout

STYLES = {"good": "", "fair": "yellow", "poor": "red", "undecided": "dim"}
CAPTION = (
    "predicted: sigma^2 E tr J; balance, top: predicted over true error, in all directions and in the top one; "
    "halves: how far they differ"
)


def print_calibration(calibration: xr.Dataset, console: Console | None = None) -> None:
    """Print what was calibrated, the table over SNRs, and a sentence for each band with the same verdict."""
    console = console or stdout()
    say(headline(calibration), console)
    console.print()
    console.print(CAPTION, markup=False)
    styles = [STYLES[VERDICTS[int(code)]] or None for code in calibration["verdict"].to_numpy()]
    print_tables(columns(calibration), styles, console)
    for line in sentences(calibration):
        console.print(line, markup=False)


def headline(calibration: xr.Dataset) -> str:
    """What was calibrated, against what, and how."""
    about = calibration.attrs
    dim, queries, points = (int(about[name]) for name in ("dim", "queries", "points"))
    parts = [f"{dim} dimension{'s' * (dim > 1)}", f"{queries} queries"]
    if points < queries:
        parts[-1] += f" from {points} point{'s' * (points > 1)}"
    return f"{about['network']} on {about['law']}: {', '.join(parts)}, seed {int(about['seed'])}"


def columns(calibration: xr.Dataset) -> list[Column]:
    """The columns of the table, one cell per SNR."""

    def numbers(name: str) -> list[str]:
        return [number(value) for value in calibration[name].to_numpy()]

    def column(title: str, name: str) -> Column:
        return Column(title, numbers(name), beside(numbers(name), numbers(f"{name}_se")))

    return [
        Column("SNR", distinct(calibration["snr"].to_numpy())),
        Column("E|X-D|^2", [scale(max(value, 0.0)) for value in calibration["denoising_error"].to_numpy()]),
        Column("predicted", [scale(max(value, 0.0)) for value in calibration["predicted"].to_numpy()]),
        column("balance", "balance"),
        column("top", "directional"),
        column("halves", "dependence"),
        Column("asymm.", numbers("asymmetry")),
        Column("negative", numbers("negative")),
        Column("E L", numbers("mean_localization")),
        Column("verdict", [VERDICTS[int(code)] for code in calibration["verdict"].to_numpy()]),
    ]


def sentences(calibration: xr.Dataset) -> list[str]:
    """One line on the whole, one for each band that is not good, and what the deviations may come from."""
    bands = verdict_bands(calibration)
    count = calibration.sizes["snr"]
    good = int((calibration["verdict"] == 0).sum())
    if good == count:
        where = f"at SNR {scale(bands[0].low)}" if count == 1 else f"at all {count} SNRs, {_span(bands[0])}"
        lines = [f"Good {where}: the error is the one that the Jacobian predicts, where it predicts it."]
    else:
        where = " and ".join(_span(band) for band in bands if band.verdict == "good")
        lines = [f"Good at {good} of {count} SNRs" + (f", {where}." if where else ".")]
    for band in bands:
        if band.verdict == "undecided":
            lines.append(f"Undecided {_span(band)}: {_doubt(calibration, band)}; give more queries.")
        elif band.verdict != "good":
            said = [_meaning(name, value) for name, value in band.worst.items()]
            lines.append(f"{band.verdict.capitalize()} {_span(band)}: {'; '.join(said)}.")
    signs = {value > 0 for band in bands for name, value in band.worst.items() if name in ("balance", "directional")}
    lines += [_CAUSES[above] for above in (False, True) if above in signs]
    return [*lines, _localization(calibration)]


def _span(band: Band) -> str:
    return f"from {scale(band.low)} to {scale(band.high)}" if band.low < band.high else f"at {scale(band.low)}"


def _percent(value: float) -> str:
    return f"{abs(value):.0%}" if abs(value) < 10 else f"{1 + abs(value):.3g} times"


def _meaning(name: str, value: float) -> str:
    return _MEANINGS[name].format(size=_percent(value), side="below" if value < 0 else "above")


_CAUSES = {
    False: "Below: too sure, as after too little training, with memorised data, or told too high a noise level.",
    True: "Above: not sure enough, as after too little training, on data less spread than those it was trained on, or "
    "told too low a noise level.",
}
_MEANINGS = {
    "balance": "the predicted error is up to {size} {side} the true one",
    "directional": "the localization is up to {size} {side} the error in its direction",
    "dependence": "halves of equal predicted error differ by up to {size} of the true one",
    "asymmetry": "up to {size} of the Jacobian is antisymmetric",
    "negative": "up to {size} of the directions have a negative eigenvalue",
}


def _doubt(calibration: xr.Dataset, band: Band) -> str:
    """Why there is no verdict."""
    carried, spread = doubt(calibration, band)
    if carried < CARRIED:
        queries = int(calibration.attrs["queries"])
        return f"the error rests on {carried:.0f} of {queries} queries, and on {CARRIED} it has to"
    return f"the balance is only known to ±{spread:.0%}"


def _localization(calibration: xr.Dataset) -> str:
    """How far the localization itself was checked, two standard errors included."""
    bound = confirmed(calibration)
    if bound >= 10:
        return "The localization is not confirmed at every SNR: see the column top."
    return f"On average the localization is that of the error in its direction within {bound:.0%}."
