"""A chain in a terminal: distances and rates over a few of its steps, and sentences on what the round trip did.

A sentence says "grows" or "shrinks" only where the difference exceeds two standard errors.
"""

import math

import numpy as np
import xarray as xr
from rich.console import Console

from brenier.probing.chain.growth import SMALL, Measured, contrast, fastest, gap, measured, values
from brenier.reports.tables import GAP, Column, beside, number, print_tables, say, scale, stdout

ROWS = 12
TINY = 1e-14  # relative growth of a step that is no more than its last digits
DISTANCES = {
    "W2(mu,nu)": "w2_forward",
    "W2(mu,nu')": "w2_backward",
    "W2(mu',nu')": "w2_chain",
    "W2(mu,mu')": "w2_discretisation",
}


def print_chain(chain: xr.Dataset, console: Console | None = None) -> None:
    """Print what was run, the distances and the rates over the steps, and the sentences."""
    console = console or stdout()
    say(headline(chain), console)
    console.print()
    rows = _rows(chain)
    quickest = fastest(chain)
    styles = ["bold" if step == quickest else None for step in rows]
    distances = "mu, nu: target and start, diffused; mu', nu': denoised back from the last step"
    clock = "time" if "potential" in chain.attrs else "OU time"
    rates = f"growth rate of W2(mu',nu')^2 per unit of {clock}, and those of theory: worst case, zeta*_M, sharp"
    for caption, columns in (
        (distances, distance_columns(chain, rows, console.width)),
        (rates, rate_columns(chain, rows)),
    ):
        console.print(caption, markup=False)
        print_tables(columns, styles, console)
    if len(rows) < chain.sizes["step"]:
        console.print(f"{len(rows)} of {chain.sizes['step']} steps shown.")
    for text in sentences(chain):
        console.print(text, markup=False)


def headline(chain: xr.Dataset) -> str:
    """What was run, and how its distances were had."""
    about = chain.attrs
    dim, steps = int(about["dim"]), int(about["steps"])
    shape = " x ".join(str(side) for side in np.atleast_1d(about.get("event_shape", dim)))
    parts = [f"{dim} dimension{'s' * (dim > 1)}" + (f" ({shape})" if " x " in shape else "")]
    parts += [
        f"{steps} step{'s' * (steps > 1)} of {about['eta']:g}",
        str(about["mode"]).upper(),
        str(about["distance"]),
    ]
    if about["beta"] != 1:
        parts.insert(2, f"beta {about['beta']:g}")
    if "potential" in about:
        parts.insert(1, f"potential {about['potential']}")
    if about["score_error"] > 0:
        low, high = np.asarray(about["error_band"], dtype=float)
        band = "" if low == 0 and math.isinf(high) else f" at SNRs from {scale(low)} to {scale(high)}"
        parts.append(f"{about['error_kind']} score error of {about['score_error']:.3g}{band}")
    if about["method"] == "particles":
        parts.append(f"seed {int(about['seed'])}")
    return f"{about['law']} from {about['start']}: {', '.join(parts)}"


def _rows(chain: xr.Dataset) -> list[int]:
    """Steps to show: 0, some spread evenly over the logarithm of the time, and the fastest."""
    steps = chain.sizes["step"] - 1
    spread = {int(step) for step in np.geomspace(1, steps, ROWS).round()}
    return sorted({0, fastest(chain)} | spread)


def distance_columns(chain: xr.Dataset, rows: list[int], width: int) -> list[Column]:
    """The four distances, with their standard errors where these fit the width."""
    places = _places(chain, rows)
    plain: list[Column] = []
    detailed: list[Column] = []
    for title, name in DISTANCES.items():
        found = measured(chain, name)
        pairs = [found[row] for row in rows]
        cells = [scale(pair.value) for pair in pairs]
        errors = [scale(pair.se, 2) if 0 < pair.se < math.inf else "" for pair in pairs]
        plain.append(Column(title, cells))
        detailed.append(Column(title, beside(cells, errors)))
    fits = sum(column.width() + GAP for column in places + detailed) - GAP <= width
    return places + (detailed if fits else plain)


def rate_columns(chain: xr.Dataset, rows: list[int]) -> list[Column]:
    """The rates: measured, in the worst case, and of the smallest and the largest richness M."""
    rate = values(chain, "rate")[rows]
    worst = "worst case" if _exact(chain) else "worst seen"
    found = {"rate": np.where(abs(rate) * chain.attrs["eta"] < TINY, 0, rate)}
    found[worst] = values(chain, "rate_worst")[rows]
    if "rate_local" in chain:
        found["where laws lie"] = values(chain, "rate_local")[rows]
    bounded = bool(np.isfinite(values(chain, "rate_worst")[1:]).any())
    kinds = (("zeta*", "rate_star"),) * bounded + (("sharp", "rate_sharp"),)
    for place, richness in _shown_richness(chain):
        for title, name in kinds:
            found[f"{title}_{richness:g}"] = values(chain, name)[rows, place]
    return _places(chain, rows) + [Column(title, [number(v) for v in cells]) for title, cells in found.items()]


def _places(chain: xr.Dataset, rows: list[int]) -> list[Column]:
    return [
        Column("step", [str(row) for row in rows]),
        Column("time", [scale(value) for value in values(chain, "time")[rows]]),
        *([Column("SNR", [scale(value) for value in values(chain, "snr")[rows]])] if "snr" in chain else []),
    ]


def _shown_richness(chain: xr.Dataset) -> list[tuple[int, float]]:
    """The smallest and the largest richness, with their places."""
    richness = values(chain, "perturbation")
    return [(place, float(richness[place])) for place in sorted({int(richness.argmin()), int(richness.argmax())})]


def sentences(chain: xr.Dataset) -> list[str]:
    """What the round trip did, the gap on the way back, what theory allows, and what the steps and the score cost."""
    parts = (_way_there, _round_trip, _gap, _theory, _discretisation, _entropy, _score_error)
    return [text for text in (part(chain) for part in parts) if text]


def _way_there(chain: xr.Dataset) -> str:
    """How fast the two laws approach each other under a potential, beside Theorem 1."""
    if "contraction" not in chain:
        return ""
    rate = values(chain, "contraction")[1:]
    rate = rate[np.isfinite(rate)]
    low, _ = np.asarray(chain.attrs["convexity"], dtype=float)
    promised = f"Theorem 1 promises at least lambda = {number(low)}{_of(chain)}"
    if not rate.size:
        return f"{promised}; the two laws cannot be told apart."
    return (
        f"On the way there W2(mu,nu) contracts at rates from {number(rate.min())} to {number(rate.max())}; {promised}."
    )


def _of(chain: xr.Dataset) -> str:
    """Of what the bounds of f'' are."""
    return "" if chain.attrs["convexity_of"] == "whole space" else ", the least f'' where the laws lie"


def _round_trip(chain: xr.Dataset) -> str:
    """How far from the target the start is, before and after."""
    before, after = measured(chain, "w2_forward")[0], measured(chain, "w2_backward")[0]
    if not before.differs(Measured(0.0)):
        same = "cannot be told from the target" if before.se else "is the target"
        return f"The start {same} (W2 = {_text(before)}); diffused and denoised it lies at W2 = {_text(after)} from it."
    if after.differs(before):
        verdict = "closer to the target" if after.value < before.value else "farther from the target"
    else:
        verdict = "no closer and no farther" + (", within two standard errors" if before.se or after.se else "")
    ratio = _text(after.over(before))
    ends = f"from W2 = {_text(before)} to {_text(after)}"
    return f"Diffusing and denoising takes the start {ends}, by the ratio {ratio}: {verdict}."


def _gap(chain: xr.Dataset) -> str:
    """What the way back does to the distance of the two denoised laws, and at which noise levels."""
    found = gap(chain)
    if found.seen == "nowhere":
        size = "0" if found.exact else "within two standard errors of 0"
        return f"The two denoised laws cannot be told apart: W2(mu',nu') is {size} throughout."
    ratio = "" if math.isnan(found.factor) else scale(found.factor)
    unsure = "less than two standard errors" if found.last.se or found.first.se else "rounding"
    change = {
        "none": f"changes by {unsure}",
        "small": f"changes by less than {SMALL:.1%}",
        "grows": f"grows {ratio}-fold" if ratio else "grows",
        "shrinks": f"shrinks to {ratio} of itself" if ratio else "shrinks",
    }[found.change]
    text = f"On the way back the gap between the two denoised laws, W2(mu',nu'), {change}"
    text += f", from {_text(found.last)} to {_text(found.first)}"
    if found.seen == "somewhere":
        return f"{text}."
    if found.rise is None:
        limit = f"{SMALL:.1%} and two standard errors" if found.last.se else f"{SMALL:.1%}"
        return f"{text}; {'it never grows' if found.falls else f'no growth on the way exceeds {limit}'}."
    low, high, half_low, half_high, factor = found.rise
    if (low, high) != (chain.sizes["step"] - 1, 0):
        text += f"; it grows most, {scale(factor)}-fold, from {_span(chain, low, high)}"
    if (half_low, half_high) != (low, high):
        text += f"; half of that growth (in logarithms) falls on {_span(chain, half_low, half_high)}"
    return f"{text}."


def _theory(chain: xr.Dataset) -> str:
    """What the rates of theory add up to over the chain, and how much of a promise that is."""
    if math.isinf(float(chain["ratio_worst"])):
        return _unbounded(chain)
    worst = scale(float(chain["ratio_worst"]))
    star, sharp = values(chain, "ratio_star"), values(chain, "ratio_sharp")
    shown = _shown_richness(chain)
    listed = " and ".join(f"{scale(star[k])} at M = {m:g} (sharp: {scale(sharp[k])})" for k, m in shown)
    if not _exact(chain):
        subject = "Corollary 2" if chain.attrs["mode"] == "ode" else "Corollary 2, which is about the ODE's maps,"
        return (
            f"{subject} puts the ratio at {worst} or less by the largest curvature over the points sampled, and "
            f"for small errors of richness M at {listed}: estimates and no guarantees, since other points may be worse."
        )
    text = f"Corollary 2 holds W2(mu',nu') at the end to {worst} times the start's distance in the worst case"
    if chain.attrs["score_error"] > 0:
        text = f"With an exact score, {text}"
    elif math.isfinite(found := float(chain["ratio_chain"])):
        text += f" (found: {scale(found)})"
    richness = values(chain, "richness") if "richness" in chain else np.empty(0)
    richness = richness[np.isfinite(richness)]
    here = f"; the error here has M from {scale(richness.min())} to {scale(richness.max())}" if richness.size else ""
    return f"{text}, and, to first order in eta, small errors of richness M to {listed}{here}."


def _unbounded(chain: xr.Dataset) -> str:
    """What theory allows where f'' has no upper bound."""
    text = "f'' has no upper bound, so that Theorem 2 has none either"
    if "rate_local" in chain:
        rate, local = (values(chain, name)[1:] for name in ("rate", "rate_local"))
        step = int(local.argmax()) + 1
        text += (
            f"; over the stretch where the laws lie W2(mu',nu')^2 may grow at the rate {number(local.max())} at most"
        )
        text += f" (step {step}; found there: {number(rate[step - 1])})"
    return f"{text}."


def _discretisation(chain: xr.Dataset) -> str:
    """How far the target itself ends from where it began, since the steps are finite."""
    alone, total = measured(chain, "w2_discretisation")[0], measured(chain, "w2_backward")[0]
    causes = ["the finite steps"]
    causes += ["the score's error"] if chain.attrs["score_error"] > 0 else []
    text = f"{' and '.join(causes)} alone take the target W2 = {_text(alone)} away from itself"
    text = text[0].upper() + text[1:]
    if not alone.differs(Measured(0.0)):
        return f"{text}, no more than {'two standard errors' if alone.se else 'rounding'}."
    if total.value == 0 or not measured(chain, "w2_forward")[0].differs(Measured(0.0)):
        return f"{text}."
    if not alone.differs(total):
        return f"{text}, as much as the start's final distance{' within two standard errors' if alone.se else ''}."
    if alone.value > total.value:
        return f"{text}, more than the start's final distance of {_text(total)}."
    return f"{text}, {scale(100 * alone.over(total).value)}% of the start's final distance (they need not add up)."


def _entropy(chain: xr.Dataset) -> str:
    """The contrast of relative entropy and transport, where W2 grows and relative entropy does not, or less."""
    found = contrast(chain)
    if found is None:
        return ""
    last, first, kl, w2 = found
    entropy, distance = values(chain, "kl_backward"), values(chain, "w2_backward")
    verb = f"grows {scale(kl)}-fold" if kl > 1 else f"falls to {scale(kl)} of itself"
    return (
        f"From {_span(chain, last, first)}, KL(mu|nu') {verb}, from {scale(entropy[last])} to {scale(entropy[first])} "
        f"nats, while W2(mu,nu') grows {scale(w2)}-fold, from {scale(distance[last])} to {scale(distance[first])}."
        + (
            " Between mu' and nu', KL is the same at every step: the maps are bijections."
            if "kl_chain" in chain
            else ""
        )
    )


def _score_error(chain: xr.Dataset) -> str:
    """What the error of the score adds up to."""
    if "w2_error" not in chain:
        return ""
    found, predicted = measured(chain, "w2_error")[0], scale(float(chain["w2_error_predicted"][0]))
    exact = chain.attrs["dim"] == 1 and chain.attrs["error_kind"] == "smooth"
    about = f"predicted to first order: {predicted}" if exact else f"to first order, it can be up to {predicted}"
    return f"The score's error moves the denoised target by W2 = {_text(found)}; {about}."


def _exact(chain: xr.Dataset) -> bool:
    """Whether the worst case is that of the law, not of a sample."""
    return chain.attrs["method"] == "quantiles"


def _text(found: Measured) -> str:
    """With its standard error, where there is one and it is known."""
    return f"{scale(found.value)} ± {scale(found.se, 2)}" if 0 < found.se < math.inf else scale(found.value)


def _span(chain: xr.Dataset, low: int, high: int) -> str:
    """From one step to another, by SNR and time."""
    time = values(chain, "time")
    if "snr" not in chain:
        return f"time {scale(time[low])} to {scale(time[high])}"
    snr = values(chain, "snr")
    end = "the data" if high == 0 else scale(snr[high])
    return f"SNR {scale(snr[low])} to {end} (time {scale(time[low])} to {scale(time[high])})"
