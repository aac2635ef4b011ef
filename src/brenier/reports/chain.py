"""A chain in a terminal: distances and rates over a few of its steps, and sentences on what the round trip did.

A sentence says "grows" or "shrinks" only where the difference exceeds two standard errors; those of two steps are
added as if independent, which is on the safe side: the particles are the same ones.
"""

import math
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.console import Console

from brenier.reports.tables import GAP, Column, number, say, scale, stdout, tables

Array: TypeAlias = NDArray[np.float64]

ROWS = 12
ROUNDING = 1e-9  # relative: differences below it are those of the arithmetic
SMALL = 0.005  # relative: "1.00-fold" would say nothing
TINY = 1e-14  # relative growth of a step that is no more than its last digits
DISTANCES = {
    "W2(mu,nu)": "w2_forward",
    "W2(mu,nu')": "w2_backward",
    "W2(mu',nu')": "w2_chain",
    "W2(mu,mu')": "w2_discretisation",
}


class Measured(NamedTuple):
    """A number and its standard error: 0 where it is exact, infinite where it is not known."""

    value: float
    se: float = 0.0

    def __str__(self) -> str:
        known = self.se > 0 and math.isfinite(self.se)
        return f"{scale(self.value)} ± {scale(self.se, 2)}" if known else scale(self.value)

    def over(self, other: "Measured") -> "Measured":
        """Their ratio, with its error to first order."""
        ratio = self.value / other.value
        return Measured(ratio, math.hypot(self.se, ratio * other.se) / other.value)

    def differs(self, other: "Measured") -> bool:
        """Whether they are apart by more than two standard errors, or by more than rounding where there are none."""
        slack = max(2 * math.hypot(self.se, other.se), ROUNDING * max(self.value, other.value))
        return abs(self.value - other.value) > slack


def print_chain(chain: xr.Dataset, console: Console | None = None) -> None:
    """Print what was run, the distances and the rates over the steps, and the sentences."""
    console = console or stdout()
    say(headline(chain), console)
    console.print()
    rows = _rows(chain)
    fastest = _fastest(chain)
    styles = ["bold" if step == fastest else None for step in rows]
    distances = "mu, nu: target and start, diffused; mu', nu': denoised back from the last step"
    rates = "growth rate of W2(mu',nu')^2 per unit of OU time, and those of theory: worst case, zeta*_M, sharp"
    for caption, columns in (
        (distances, distance_columns(chain, rows, console.width)),
        (rates, rate_columns(chain, rows)),
    ):
        console.print(caption, markup=False)
        for table in tables(columns, console.width, styles):
            console.print(table)
            console.print()
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
    fastest = _fastest(chain)
    return sorted({0} | spread | ({fastest} if fastest else set[int]()))


def _fastest(chain: xr.Dataset) -> int:
    """The step at which the denoised laws part fastest, by more than its error; 0 if they never do."""
    rate = np.nan_to_num(_values(chain, "rate"), nan=-np.inf, posinf=-np.inf)
    step = int(rate.argmax())
    if not rate[step] * chain.attrs["eta"] > ROUNDING:
        return 0
    return step if _at(chain, "w2_chain", step - 1).differs(_at(chain, "w2_chain", step)) else 0


def distance_columns(chain: xr.Dataset, rows: list[int], width: int) -> list[Column]:
    """The four distances, with their standard errors where these fit the width."""
    places = _places(chain, rows)
    plain: list[Column] = []
    detailed: list[Column] = []
    for title, name in DISTANCES.items():
        pairs = [_at(chain, name, row) for row in rows]
        cells = [scale(pair.value) for pair in pairs]
        errors = [f" ±{scale(pair.se, 2)}" if 0 < pair.se < math.inf else "" for pair in pairs]
        room = max(map(len, errors))
        plain.append(Column(title, cells))
        detailed.append(Column(title, [f"{v}{e:<{room}}" for v, e in zip(cells, errors, strict=True)]))
    fits = sum(column.width() + GAP for column in places + detailed) - GAP <= width
    return places + (detailed if fits else plain)


def rate_columns(chain: xr.Dataset, rows: list[int]) -> list[Column]:
    """The rates: measured, in the worst case, and of the smallest and the largest richness M."""
    rate = _values(chain, "rate")[rows]
    worst = "worst case" if _exact(chain) else "worst seen"
    found = {"rate": np.where(abs(rate) * chain.attrs["eta"] < TINY, 0, rate)}
    found[worst] = _values(chain, "rate_worst")[rows]
    for place, richness in _shown_richness(chain):
        for title, name in (("zeta*", "rate_star"), ("sharp", "rate_sharp")):
            found[f"{title}_{richness:g}"] = _values(chain, name)[rows, place]
    return _places(chain, rows) + [Column(title, [number(v) for v in values]) for title, values in found.items()]


def _places(chain: xr.Dataset, rows: list[int]) -> list[Column]:
    return [
        Column("step", [str(row) for row in rows]),
        Column("time", [scale(value) for value in _values(chain, "time")[rows]]),
        Column("SNR", [scale(value) for value in _values(chain, "snr")[rows]]),
    ]


def _shown_richness(chain: xr.Dataset) -> list[tuple[int, float]]:
    """The smallest and the largest richness, with their places."""
    richness = _values(chain, "perturbation")
    return [(place, float(richness[place])) for place in sorted({int(richness.argmin()), int(richness.argmax())})]


def sentences(chain: xr.Dataset) -> list[str]:
    """What the round trip did, the gap on the way back, what theory allows, and what the steps and the score cost."""
    parts = (_round_trip, _gap, _theory, _discretisation, _entropy, _score_error)
    return [text for text in (part(chain) for part in parts) if text]


def _round_trip(chain: xr.Dataset) -> str:
    """How far from the target the start is, before and after."""
    before, after = _at(chain, "w2_forward", 0), _at(chain, "w2_backward", 0)
    if not before.differs(Measured(0.0)):
        same = "cannot be told from the target" if before.se else "is the target"
        return f"The start {same} (W2 = {before}); diffused and denoised it lies at W2 = {after} from it."
    if after.differs(before):
        verdict = "closer to the target" if after.value < before.value else "farther from the target"
    else:
        verdict = "no closer and no farther" + (", within two standard errors" if before.se or after.se else "")
    ratio = after.over(before)
    return f"Diffusing and denoising takes the start from W2 = {before} to {after}, by the ratio {ratio}: {verdict}."


def _gap(chain: xr.Dataset) -> str:
    """What the way back does to the distance of the two denoised laws, and at which noise levels."""
    steps = chain.sizes["step"] - 1
    gaps = [_at(chain, "w2_chain", step) for step in range(steps + 1)]
    first, last = gaps[0], gaps[-1]
    apart = [gap.differs(Measured(0.0)) for gap in gaps]
    if not any(apart):
        size = "within two standard errors of 0" if any(gap.se for gap in gaps) else "0"
        return f"The two denoised laws cannot be told apart: W2(mu',nu') is {size} throughout."
    change = f"from {last} to {first}"
    ratio = scale(first.value / last.value) if apart[0] and apart[-1] else ""
    if not first.differs(last):
        change = f"changes by {'less than two standard errors' if last.se or first.se else 'rounding'}, {change}"
    elif ratio and abs(first.value / last.value - 1) < SMALL:
        change = f"changes by less than {SMALL:.1%}, {change}"
    elif first.value > last.value:
        change = f"grows{f' {ratio}-fold' if ratio else ''}, {change}"
    else:
        change = f"shrinks{f' to {ratio} of itself' if ratio else ''}, {change}"
    text = f"On the way back the gap between the two denoised laws, W2(mu',nu'), {change}"
    if not all(apart):
        return f"{text}."
    rise = _rise(gaps)
    if rise is None:
        never = all(near.value <= far.value * (1 + ROUNDING) for near, far in pairwise(gaps))
        limit = f"{SMALL:.1%} and two standard errors" if last.se else f"{SMALL:.1%}"
        return f"{text}; {'it never grows' if never else f'no growth on the way exceeds {limit}'}."
    low, high, half_low, half_high = rise
    if (low, high) != (steps, 0):
        fold = scale(gaps[high].value / gaps[low].value)
        text += f"; it grows most, {fold}-fold, from {_span(chain, low, high)}"
    if (half_low, half_high) != (low, high):
        text += f"; half of that growth (in logarithms) falls on {_span(chain, half_low, half_high)}"
    return f"{text}."


def _rise(gaps: list[Measured]) -> tuple[int, int, int, int] | None:
    """The steps low > high between which the gap grows by the largest factor, and the fewest that hold half of it.

    None if it grows nowhere by more than `SMALL` and its error. Half of it: in the logarithm.
    """
    value, error = np.array(gaps[::-1]).T  # in the order of the way back
    log = np.log(value)
    growth = log[None, :] - log[:, None]
    slack = np.maximum(2 * np.hypot(error[None, :], error[:, None]), ROUNDING * value)
    counts = np.triu((value[None, :] - value[:, None] > slack) & (growth > math.log1p(SMALL)))
    if not counts.any():
        return None
    largest = float(growth[counts].max())

    def shortest(enough: NDArray[np.bool_]) -> tuple[int, int]:
        return min(((int(i), int(j)) for i, j in np.argwhere(enough)), key=lambda pair: (pair[1] - pair[0], pair))

    start, end = shortest(counts & (growth >= largest * (1 - ROUNDING)))
    inside = np.zeros_like(counts)
    inside[start : end + 1, start : end + 1] = np.triu(np.ones((end - start + 1,) * 2, dtype=bool), 1)
    first, final = shortest(inside & (growth >= largest / 2 * (1 - ROUNDING)))
    last = len(gaps) - 1
    return last - start, last - end, last - first, last - final


def _theory(chain: xr.Dataset) -> str:
    """What the rates of theory add up to over the chain, and how much of a promise that is."""
    worst = scale(float(chain["ratio_worst"]))
    star, sharp = _values(chain, "ratio_star"), _values(chain, "ratio_sharp")
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
    richness = _values(chain, "richness")
    richness = richness[np.isfinite(richness)]
    here = f"; the error here has M from {scale(richness.min())} to {scale(richness.max())}" if richness.size else ""
    return f"{text}, and, to first order in eta, small errors of richness M to {listed}{here}."


def _discretisation(chain: xr.Dataset) -> str:
    """How far the target itself ends from where it began, since the steps are finite."""
    alone, total = _at(chain, "w2_discretisation", 0), _at(chain, "w2_backward", 0)
    causes = ["the finite steps"]
    causes += ["the score's error"] if chain.attrs["score_error"] > 0 else []
    text = f"{' and '.join(causes)} alone take the target W2 = {alone} away from itself"
    text = text[0].upper() + text[1:]
    if not alone.differs(Measured(0.0)):
        return f"{text}, no more than {'two standard errors' if alone.se else 'rounding'}."
    if total.value == 0 or not _at(chain, "w2_forward", 0).differs(Measured(0.0)):
        return f"{text}."
    if not alone.differs(total):
        return f"{text}, as much as the start's final distance{' within two standard errors' if alone.se else ''}."
    if alone.value > total.value:
        return f"{text}, more than the start's final distance of {total}."
    return f"{text}, {scale(100 * alone.value / total.value)}% of the start's final distance (they need not add up)."


def _entropy(chain: xr.Dataset) -> str:
    """The contrast of relative entropy and transport, where W2 grows and relative entropy does not, or less."""
    if "kl_backward" not in chain:
        return ""
    entropy, distance = _values(chain, "kl_backward"), _values(chain, "w2_backward")
    finite = np.flatnonzero(np.isfinite(entropy))
    last = len(entropy) - 1
    if len(finite) == 0 or not (finite[0] < last and 0 < entropy[last] < math.inf and distance[last] > 0):
        return ""
    first = int(finite[0])
    kl, w2 = entropy[first] / entropy[last], distance[first] / distance[last]
    if not (kl < w2 and w2 > 1 + SMALL):
        return ""
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
    found, predicted = _at(chain, "w2_error", 0), scale(float(chain["w2_error_predicted"][0]))
    exact = chain.attrs["dim"] == 1 and chain.attrs["error_kind"] == "smooth"
    about = f"predicted to first order: {predicted}" if exact else f"to first order, it can be up to {predicted}"
    return f"The score's error moves the denoised target by W2 = {found}; {about}."


def _exact(chain: xr.Dataset) -> bool:
    """Whether the worst case is that of the law, not of a sample."""
    return chain.attrs["method"] == "quantiles"


def _span(chain: xr.Dataset, low: int, high: int) -> str:
    """From one step to another, by SNR and time."""
    snr, time = _values(chain, "snr"), _values(chain, "time")
    end = "the data" if high == 0 else scale(snr[high])
    return f"SNR {scale(snr[low])} to {end} (time {scale(time[low])} to {scale(time[high])})"


def _at(chain: xr.Dataset, name: str, step: int) -> Measured:
    error = float(_values(chain, f"{name}_se")[step]) if f"{name}_se" in chain else 0.0
    value = float(_values(chain, name)[step])
    return Measured(value, math.inf if math.isnan(error) else error if error > ROUNDING * value else 0.0)


def _values(chain: xr.Dataset, name: str) -> Array:
    return chain[name].to_numpy().astype(np.float64)
