"""Profiles on the page: what moves with the slider along the SNR, and the curves that it moves along.

One profile has a colour for each quantity; several have one colour each, and their quantities differ by dashes.
"""

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from brenier.core import records
from brenier.page.charts import Chart, Series, numbers, series
from brenier.probing.bottleneck import bottleneck
from brenier.reports.markup import table_html
from brenier.reports.profile import columns, headline, sentence
from brenier.reports.tables import grid, number, scale

SAME = 1e-6  # of an SNR: what two profiles have in common
COMPLEXITY = {"m_star": "m*", "delta_star": "delta*", "model_m_star": "the model's m*"}
DASHES = ("solid", "dash", "dot", "dashdot")


def facts(profile: xr.Dataset) -> list[tuple[str, str, str]]:
    """The three numbers that matter: where it is hard, how hard, and from where to where; each with a remark."""
    found = bottleneck(profile)
    hard = bool(found["m_star"] > 0)
    within = f"within {scale(found['snr_low'])} to {scale(found['snr_high'])}, sigma {scale(found['sigma'])}"
    doubt = f"± {number(found['m_star_se'])}" if hard and found["m_star_se"] > 0 else ""
    if hard and "m_star_low" in profile:
        row = profile.sel(snr=found["snr"])
        doubt = f"{number(float(row['m_star_low']))} to {number(float(row['m_star_high']))}"
    band = f"{scale(found['hard_low'])} to {scale(found['hard_high'])}" if hard else "none"
    memory = found["collapse_snr"]
    remark = f"single data points past {scale(memory)}" if np.isfinite(memory) else ""
    if np.isfinite(found["resolved_snr"]):
        remark = f"the data tell up to {scale(found['resolved_snr'])}"
    return [
        ("Hardest at SNR", scale(found["snr"]) if hard else "none", within if hard else ""),
        ("m* there", number(found["m_star"]) if hard else "0", doubt),
        ("SNRs with m* > 0", band, remark),
    ]


def block(profile: xr.Dataset, name: str, place: int) -> str:
    """Name, sentence and numbers of one profile, as HTML."""
    cards = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>"
        for what, value, remark in facts(profile)
    )
    return (
        f'<section class="profile" aria-labelledby="name-{place}"><h2 id="name-{place}"><span class="swatch" '
        f'data-colour="{place}"></span>{escape(name)}</h2><p class="lead">{escape(sentence(profile))}</p>'
        f'<dl class="facts">{cards}</dl><p class="note">{escape(headline(profile))}</p></section>'
    )


def table_block(profile: xr.Dataset, name: str, place: int) -> str:
    """The table of one profile, a row for each SNR, as HTML."""
    found = columns(profile)
    titles = [column.title for column in found]
    cells = [column.plain if column.detailed is None else column.detailed for column in found]
    styles = [None if known else "dim" for known in _known(profile)]
    return table_html(grid(titles, list(zip(*cells, strict=True)), styles), f"Table of {name}", f"row-{place}-")


def explorer(profiles: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """What the slider moves: for each place of it an SNR, and for each profile the row nearest to that."""
    grid = np.sort(np.concatenate([profile["snr"].to_numpy().astype(float) for profile in profiles.values()]))
    grid = grid[np.append(True, np.diff(np.log(grid)) > SAME)]
    first = next(iter(profiles.values()))
    hardest = bottleneck(first)["snr"]
    start = len(grid) // 2 if np.isnan(hardest) else int(np.abs(np.log(grid / hardest)).argmin())
    return {
        "grid": grid.tolist(),
        "start": start,
        "profiles": [
            _moved(profile, name, grid, place) for place, (name, profile) in enumerate(profiles.items())
        ],
    }  # fmt: skip


def _known(profile: xr.Dataset) -> list[bool]:
    """For each SNR whether the profile tells of its law there."""
    return (profile["snr"] <= float(profile.get("resolved_snr", np.inf))).to_numpy().tolist()


def _moved(profile: xr.Dataset, name: str, grid: Any, place: int) -> dict[str, Any]:
    snr = profile["snr"].to_numpy().astype(float)
    made: dict[str, Any] = {
        "name": name,
        "colour": place,
        "at": [int(np.abs(np.log(snr / r)).argmin()) for r in grid],
        "known": _known(profile),
        "u": numbers(profile["u"]),
        "sampled": str(profile.attrs["method"]) == "monte-carlo" and "resolved_snr" not in profile,
    }
    for variable in ("snr", "sigma", "time", "survival", "survival_se", "survival_low", "survival_high"):
        if variable in profile:
            made[variable] = numbers(profile[variable])
    made["localization"] = packed(profile["localization"])
    weights = profile["query_weight"].to_numpy() if "query_weight" in profile else np.ones(1)
    if not np.all(weights == weights.flat[0]):
        made["weight"] = packed(profile["query_weight"])
    return made


def packed(values: xr.DataArray) -> str:
    """Numbers as the page keeps many of them: float32, little-endian, base64."""
    return base64.b64encode(values.to_numpy().astype("<f4").tobytes()).decode()


def charts(profiles: Mapping[str, xr.Dataset]) -> list[Chart]:
    """The curves over the SNR."""
    single = len(profiles) == 1
    return [
        _chart(profiles, single, "complexity", "Complexity", "m*, delta*", COMPLEXITY),
        _chart(
            profiles,
            single,
            "localization",
            "Localization",
            "L",
            {
                "mean_localization": "E L",
                "sup_localization": "largest L",
                "model_mean_localization": "E L of the model",
            },
            logy=True,
            line=1.0,
        ),
        _contraction(profiles, single),
        _chart(profiles, single, "ess", "Effective sample size", "data points (median)", {"ess": "ESS"}, logy=True),
    ]


def _chart(
    profiles: Mapping[str, xr.Dataset],
    single: bool,
    name: str,
    title: str,
    y: str,
    quantities: Mapping[str, str],
    **further: Any,
) -> Chart:
    made: list[Series] = []
    for place, (called, profile) in enumerate(profiles.items()):
        known = told(profile)
        for k, (variable, label) in enumerate(quantities.items()):
            if variable not in profile or not bool(profile[variable].notnull().any()):
                continue
            if variable == "sup_localization" and "resolved_snr" in profile:
                continue
            label = label if single else f"{called}: {label}"
            part = profile if variable.startswith("model_") else known
            made.append(
                series(part, "snr", variable, label, k if single else place, DASHES[k], off=not single and k > 0)
            )
    chart: Chart = {"id": name, "title": title, "x": "SNR r", "y": y, "series": made, "logx": True, "snr": True}
    chart |= further  # pyright: ignore[reportAssignmentType]
    return _shaded(chart, profiles) if single else chart


def _contraction(profiles: Mapping[str, xr.Dataset], single: bool) -> Chart:
    made: list[Series] = []
    for place, (called, profile) in enumerate(profiles.items()):
        known = told(profile)
        for k, richness in enumerate(profile["perturbation"].to_numpy().tolist()):
            part = known.sel(perturbation=richness)
            before = "" if single else f"{called}: "
            colour = k if single else place
            for variable, label, dash in (("zeta_star", "zeta*", "solid"), ("zeta_sharp", "sharp zeta", "dash")):
                off = variable == "zeta_sharp" or not (single or k == 0)
                if not single and variable == "zeta_sharp":
                    continue
                made.append(series(part, "snr", variable, f"{before}{label}, M = {richness:g}", colour, dash, off=off))
    chart: Chart = {
        "id": "contraction",
        "title": "Net contraction",
        "x": "SNR r",
        "y": "zeta",
        "series": made,
        "logx": True,
        "snr": True,
        "range": [-3.0, 1.1],
        "line": 0.0,
    }
    return _shaded(chart, profiles) if single else chart


def told(profile: xr.Dataset) -> xr.Dataset:
    """The SNRs at which the profile tells of its law; all, where there is none."""
    part = records.resolved(profile)
    return part if part.sizes["snr"] else profile


def _shaded(chart: Chart, profiles: Mapping[str, xr.Dataset]) -> Chart:
    """Where the one profile tells of single points, or of nothing."""
    (profile,) = profiles.values()
    found = bottleneck(profile)
    last = float(profile["snr"][-1])
    if np.isfinite(found["resolved_snr"]) and found["resolved_snr"] < last:
        chart["shade"] = [found["resolved_snr"], last, "the data cannot tell"]
    elif np.isfinite(found["collapse_snr"]) and int(profile.attrs.get("atoms", 0)):
        chart["shade"] = [found["collapse_snr"], last, "memorised (ESS < 2)"]
    return chart
