"""A profile in a terminal: a table, and one sentence on the bottleneck."""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr
from rich.console import Console

from brenier.core import records
from brenier.probing.bottleneck import bottleneck, disputed, needed
from brenier.reports.tables import (
    ROWS,
    Column,
    distinct,
    number,
    print_tables,
    rounded,
    say,
    scale,
    stdout,
    tables,
    with_errors,
)

ROUNDING = 1e-12  # of a threshold between 0 and 1
CAPTION = (
    "E L: mean localization; P(L>1): share of noisy points where the law is not log-concave; m*: minimal relative "
    "tail, at threshold delta*; zeta*_M: net contraction of errors of richness M, which grow where it is below 0{}"
)

_NO_MOMENT = (
    " The law has no second moment: statements on W2 do not hold for it, so zeta is no rate of contraction here; the "
    "localization exists all the same."
)


def print_report(profile: xr.Dataset, console: Console | None = None, explained: bool = True) -> None:
    """Print what was probed, what columns are where that is wanted, the table over SNRs, and the sentence."""
    console = console or stdout()
    say(headline(profile), console)
    console.print()
    if explained:
        ess = "; ESS: median posterior's data" * bool(profile["ess"].notnull().any())
        console.print(CAPTION.format(ess), markup=False)
    known = records.resolved(profile)
    known = profile if known.sizes["snr"] == 0 else known
    rows = _rows(known)
    hardest = int(np.argmax(known["m_star"].values[rows])) if float(known["m_star"].max()) > 0 else None
    styles = ["bold" if row == hardest else None for row in range(len(rows))]
    for table in tables(columns(known.isel(snr=rows)), console.width, styles):
        console.print(table)
        console.print()
    if len(rows) < profile.sizes["snr"]:
        console.print(f"{len(rows)} of {profile.sizes['snr']} SNRs shown.")
    console.print(sentence(profile), markup=False)


def print_profiles(profiles: Mapping[str, xr.Dataset], console: Console | None = None) -> None:
    """Print the report of each, and a table in which they stand side by side."""
    console = console or stdout()
    for place, profile in enumerate(profiles.values()):
        print_report(profile, console, explained=place == 0)
        console.print()
    say("Side by side; known to: the last SNR probed, or that data resolve", console)
    print_tables(side_by_side(profiles), [None] * len(profiles), console, left=1)


def side_by_side(profiles: Mapping[str, xr.Dataset]) -> list[Column]:
    """The columns of a table with a row for each profile: where it is hard, how hard, from where on, how far known."""
    found = [bottleneck(profile) for profile in profiles.values()]
    hard = [one["m_star"] > 0 for one in found]
    place, sigma, onset = (
        [scale(one[name]) if is_hard else "none" for one, is_hard in zip(found, hard, strict=True)]
        for name in ("snr", "sigma", "hard_low")
    )
    size = [number(one["m_star"]) if is_hard else "0" for one, is_hard in zip(found, hard, strict=True)]
    doubt = [
        _doubt(profile, one) if is_hard else ""
        for profile, one, is_hard in zip(profiles.values(), found, hard, strict=True)
    ]
    known = [
        min(one["resolved_snr"], float(profile["snr"][-1]))
        for one, profile in zip(found, profiles.values(), strict=True)
    ]
    return [
        Column("result", list(profiles)),
        Column("hardest at SNR", place),
        Column("sigma", sigma),
        Column("m*", size, [f"{value}{more}" for value, more in zip(size, doubt, strict=True)]),
        Column("m* > 0 from SNR", onset),
        Column("known to", [scale(value) for value in known]),
    ]


def _doubt(profile: xr.Dataset, found: Mapping[str, float]) -> str:
    """How sure m* is: its bracket or its standard error, where it has one."""
    if "m_star_low" in profile:
        return f" ({_between(profile.sel(snr=found['snr']), 'm_star')})"
    return f" ±{number(found['m_star_se'])}" if found["m_star_se"] > 0 else ""


def headline(profile: xr.Dataset) -> str:
    """What was probed, and how."""
    about = profile.attrs
    dim = int(about["dim"])
    shape = " x ".join(str(side) for side in np.atleast_1d(about.get("event_shape", dim)))
    whose = ", the law behind the data" if "resolved_snr" in profile else ""
    parts = [f"{dim} dimension{'s' * (dim > 1)}" + (f" ({shape})" if " x " in shape else ""), str(about["method"])]
    if about["method"] == "monte-carlo":
        drawn = about.get("queries_from", about["law"])
        drawn = "" if drawn == about["law"] else f" from {drawn}"
        parts.append(f"{int(about['queries'])} queries{drawn}, seed {int(about['seed'])}")
    return f"{about['law']}{whose}: {', '.join(parts)}"


def columns(profile: xr.Dataset) -> list[Column]:
    """The columns of the table, one cell per SNR."""
    at_one = profile.sel(u=1.0, method="nearest")
    result = [
        Column("SNR", distinct(profile["snr"].values)),
        _column("E L", profile, "mean_localization"),
        _column("P(L>1)", at_one, "survival"),
        _column("m*", profile, "m_star"),
        Column("delta*", [number(value if value > ROUNDING else 0.0) for value in profile["delta_star"].values]),
    ]
    result += [
        _column(f"zeta*_{richness:g}", profile.sel(perturbation=richness), "zeta_star")
        for richness in profile["perturbation"].values
    ]
    if "asymmetry" in profile:
        result.append(_column("asymmetry", profile, "asymmetry"))
    if bool(profile["ess"].notnull().any()):
        result.append(Column("ESS", [scale(size) for size in profile["ess"].values]))
    return result


def _column(title: str, profile: xr.Dataset, name: str) -> Column:
    values = profile[name].values
    if f"{name}_se" not in profile:
        return Column(title, [number(value) for value in rounded(values)[0]])
    return Column(title, *with_errors(values, profile[f"{name}_se"].values))


def _rows(profile: xr.Dataset) -> list[int]:
    """All SNRs where they are few, else `ROWS` spread evenly, the one of the largest m* among them."""
    count = profile.sizes["snr"]
    if count <= ROWS:
        return list(range(count))
    rows = {int(row) for row in np.linspace(0, count - 1, ROWS - 1).round()}
    return sorted(rows | {int(np.argmax(profile["m_star"].values))})


def sentence(profile: xr.Dataset) -> str:
    """One true sentence on the bottleneck of a profile, and one on a law without second moment."""
    return _bottleneck(profile) + ("" if profile.attrs.get("square_integrable", 1) else _NO_MOMENT)


def _bottleneck(profile: xr.Dataset) -> str:
    if "resolved_snr" in profile:
        return _behind(profile)
    found = bottleneck(profile)
    grid, m_star = profile["snr"].to_numpy(), profile["m_star"].to_numpy()
    exact = profile.attrs["method"] == "quadrature"
    if not m_star.max() > 0:
        span = f"from SNR {scale(grid[0])} to {scale(grid[-1])}" if len(grid) > 1 else f"at SNR {scale(grid[0])}"
        if exact:
            return f"No bottleneck: the noisy law is log-concave {span} (m* = 0)."
        return f"No bottleneck: {span}, L <= 1 at all {int(profile.attrs['queries'])} queries (m* = 0)."
    size = f"m* = {number(found['m_star'])}"
    if not exact and math.isfinite(found["m_star_se"]):
        size += f" ± {number(found['m_star_se'])}"
    other = f"sigma {scale(found['sigma'])}, OU time {scale(found['time'])}"
    place = f"SNR {scale(found['snr'])} ({other})"
    last = int(m_star.argmax()) == len(grid) - 1
    if len(grid) == 1:
        text = f"At {place}, the only one probed, {size}; probe more SNRs to find the bottleneck"
    elif last or m_star.argmax() == 0:
        text = (
            f"Denoising is hardest at the {'last' if last else 'first'} of the SNRs probed, {place}, with {size}: "
            f"the bottleneck may lie {'above' if last else 'below'} it (give --snr-{'max' if last else 'min'})"
        )
    else:
        within = f"within {scale(found['snr_low'])} to {scale(found['snr_high'])}"
        band = f"from SNR {scale(found['hard_low'])} to {scale(found['hard_high'])}"
        alone = found["hard_low"] == found["hard_high"]
        text = (
            f"Denoising is hardest at SNR {scale(found['snr'])} ({within}; {other}), with {size}; "
            f"m* > 0 is seen {'at no other SNR' if alone else band}"
        )
    return text + _memory(found["snr"], found["collapse_snr"]) + "."


def _behind(profile: xr.Dataset) -> str:
    """The sentence on the law behind data: what they tell, up to where, and what a model says."""
    found, count = bottleneck(profile), int(profile.attrs["atoms"])
    resolved, known = found["resolved_snr"], records.resolved(profile)
    beyond, more = needed(profile)
    wanted = f"about {float(f'{more:.1g}'):,.0f} would be needed at SNR {scale(beyond)}"
    if not more > count:  # the grid is too coarse, or queries are too few, to say how the bracket grows
        wanted = "more SNRs or queries would say how many would be needed"
    if not known.sizes["snr"]:
        text = f"{count:,} points cannot tell where the law behind them is hard to denoise: {wanted}"
        return f"{text}{_model(profile)}."
    if not found["m_star"] > 0:
        text = f"No bottleneck in the law behind the data is seen up to SNR {scale(resolved)}"
        text += f" (m* at most {number(float(known['m_star_high'].max()))})"
    else:
        row = profile.sel(snr=found["snr"])
        size = f"m* = {number(found['m_star'])} ({_between(row, 'm_star')})"
        other = f"sigma {scale(found['sigma'])}, OU time {scale(found['time'])}"
        place = f"SNR {scale(found['snr'])} ({other})"
        if found["snr"] == resolved:
            text = (
                f"The law behind the data grows hard to denoise up to {place}, the last that they resolve, with {size}"
            )
            text += ": the bottleneck may lie above it"
        else:
            text = f"The law behind the data is hardest to denoise at {place}, with {size}"
        if found["snr"] != resolved and np.isfinite(found["onset_snr"]):
            text += f"; m* > 0 is seen from SNR {scale(found['hard_low'])} on"
    if resolved < float(profile["snr"][-1]):
        text += f"; past SNR {scale(resolved)}, {count:,} points cannot tell, and {wanted}"
    return f"{text}{_model(profile)}."


def _model(profile: xr.Dataset) -> str:
    """What the model says, and whether it agrees with the data where they can tell."""
    if "model_m_star" not in profile:
        return ""
    m_star = profile["model_m_star"].to_numpy()
    row = profile.isel(snr=int(m_star.argmax()))
    said = f"{profile.attrs['model']} is hardest at SNR {scale(float(row['snr']))}, with m* = "
    said += f"{number(float(row['model_m_star']))} ({_between(row, 'model_m_star')})"
    if not m_star.max() > 0:
        said = f"{profile.attrs['model']} has no bottleneck"
    off = disputed(profile)
    if not records.resolved(profile).sizes["snr"]:
        return f"; {said}"
    if not off:
        return f"; {said}, and agrees with the data where they can tell"
    span = (
        f"at SNR {scale(off[0])}" if len(off) == 1 else f"at {len(off)} SNRs from {scale(off[0])} to {scale(off[-1])}"
    )
    return f"; {said}, but its E L is outside what the data allow {span}"


def _between(row: xr.Dataset, name: str) -> str:
    return " to ".join(number(float(row[f"{name}_{end}"])) for end in ("low", "high"))


def _memory(snr: float, collapse: float) -> str:
    """What the collapse of the posterior onto single points means for the bottleneck."""
    if not math.isfinite(collapse):
        return ""
    text = f"past SNR {scale(collapse)} posteriors sit on single points of the data (median ESS < 2)"
    if snr >= collapse:
        return f"; but {text}, so this tells of these points, not of the law behind them"
    return f"; {text}, which is memory, not the law behind them"
