"""A calibration in a terminal: a table, and for each purpose and band of SNRs what its verdict means."""

import xarray as xr
from rich.console import Console

from brenier.probing.verdicts import CARRIED, PURPOSES, VERDICTS, Band, confirmed, doubt, verdict_bands
from brenier.reports.tables import Column, distinct, number, print_tables, say, scale, stdout, with_errors

STYLES = {"good": "", "fair": "yellow", "poor": "red", "undecided": "dim"}
CAPTION = (
    "predicted: sigma^2 E tr J; excess: share of the error that a correction saves; balance, top: predicted over true "
    "error, in all directions and the top one; halves: how far they differ. Sampling: the excess counts, probing: all"
)


def print_calibration(calibration: xr.Dataset, console: Console | None = None) -> None:
    """Print what was calibrated, the table over SNRs in the colours of the verdicts for sampling, and sentences."""
    console = console or stdout()
    say(headline(calibration), console)
    console.print()
    console.print(CAPTION, markup=False)
    styles = [STYLES[VERDICTS[int(code)]] or None for code in calibration["verdict_sampling"].to_numpy()]
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
        return Column(title, *with_errors(calibration[name].to_numpy(), calibration[f"{name}_se"].to_numpy()))

    return [
        Column("SNR", distinct(calibration["snr"].to_numpy())),
        Column("E|X-D|^2", [scale(max(value, 0.0)) for value in calibration["denoising_error"].to_numpy()]),
        Column("predicted", [scale(max(value, 0.0)) for value in calibration["predicted"].to_numpy()]),
        column("excess", "excess"),
        column("balance", "balance"),
        column("top", "directional"),
        column("halves", "dependence"),
        Column("asymm.", numbers("asymmetry")),
        Column("negative", numbers("negative")),
        Column("E L", numbers("mean_localization")),
        *(
            Column(purpose, [VERDICTS[int(code)] for code in calibration[f"verdict_{purpose}"].to_numpy()])
            for purpose in PURPOSES
        ),
    ]


def sentences(calibration: xr.Dataset) -> list[str]:
    """One line on the whole, one for each purpose and band that is not good, and what deviations may come from."""
    bands = {purpose: verdict_bands(calibration, purpose) for purpose in PURPOSES}
    where = {purpose: _where(calibration, found) for purpose, found in bands.items()}
    if all(band.verdict == "good" for found in bands.values() for band in found):
        both, place = " and ".join(PURPOSES), where["sampling"]
        lines = [f"Good for {both} {place}: the error is the one that the Jacobian predicts, where it predicts it."]
    else:
        lines = [f"Good {'; '.join(f'for {purpose} {place}' for purpose, place in where.items())}."]
    for purpose, found in bands.items():
        for band in found:
            if band.verdict == "undecided":
                why = f"{_doubt(calibration, band, purpose)}; give more queries"
            else:
                why = "; ".join(_meaning(name, value) for name, value in band.worst.items())
            if band.verdict != "good":
                lines.append(f"{band.verdict.capitalize()} for {purpose} {_span(band)}: {why}.")
    signs = {
        value > 0
        for band in bands["probing"]
        for name, value in band.worst.items()
        if name in ("balance", "directional")
    }
    lines += [_CAUSES[above] for above in (False, True) if above in signs]
    saved = confirmed(calibration, "excess")
    if saved < 1:
        lines.append(f"Simple corrections of the denoiser save at most {saved:.0%} of its error; others are not tried.")
    return [*lines, _localization(calibration)]


def _where(calibration: xr.Dataset, bands: list[Band]) -> str:
    """At how many SNRs the verdict is good, and at which."""
    count, spans = calibration.sizes["snr"], [band for band in bands if band.verdict == "good"]
    snr = calibration["snr"].to_numpy()
    good = sum(int(((snr >= band.low) & (snr <= band.high)).sum()) for band in spans)
    if good == count == 1:
        return f"at SNR {scale(bands[0].low)}"
    share = f"all {count}" if good == count else f"{good} of {count}"
    return f"at {share} SNRs" + (f", {' and '.join(_span(band) for band in spans)}" if spans else "")


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
    "excess": "a simple correction of the denoiser saves up to {size} of its error",
    "balance": "the predicted error is up to {size} {side} the true one",
    "directional": "the localization is up to {size} {side} the error in its direction",
    "dependence": "halves of equal predicted error differ by up to {size} of the true one",
    "asymmetry": "up to {size} of the Jacobian is antisymmetric",
    "negative": "up to {size} of the directions have a negative eigenvalue",
}


def _doubt(calibration: xr.Dataset, band: Band, purpose: str) -> str:
    """Why there is no verdict."""
    carried, spread = doubt(calibration, band, purpose)
    if carried < CARRIED:
        queries = int(calibration.attrs["queries"])
        return f"the error rests on {carried:.0f} of {queries} queries, and on {CARRIED} it has to"
    return f"the {PURPOSES[purpose][0]} is only known to ±{spread:.0%}"


def _localization(calibration: xr.Dataset) -> str:
    """How far the localization itself was checked, two standard errors included."""
    bound = confirmed(calibration, "directional")
    if bound >= 10:
        return "The localization is not confirmed at every SNR: see the column top."
    return f"On average the localization is that of the error in its direction within {bound:.0%}."
