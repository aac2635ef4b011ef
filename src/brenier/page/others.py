"""What is no profile on the page: the report's sentences and tables, three numbers, panels, pictures, and a CSV."""

import io
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from brenier.core.records import table
from brenier.metrics.verdicts import WORDS
from brenier.page.charts import Chart
from brenier.page.curves import CHARTS
from brenier.page.pictures import Detail, Picture, Strip, drawing, strip
from brenier.reports import show
from brenier.reports.markup import Block, Recorder
from brenier.reports.tables import number, scale

WIDTH = 150  # columns of tables, which scroll on the page
LARGE = 200_000  # numbers: a table of more is no thing to copy
METRICS = ("w2", "mmr", "closer", "frechet", "precision", "recall")  # of an evaluation, those that matter first
CONCLUDE = ("evaluation", "audit")  # whose last sentence tells most
SHARES = ("excess", "balance")  # of a calibration

Fact = tuple[str, str, str]  # what, its value, and a remark


class Section(NamedTuple):
    """A result on the page.

    Attributes:
        head: its name, sentence, numbers and the places of its panels, as HTML.
        pictures: what comes then, in as much detail as there is room for.
        tail: its report.
        charts: what is drawn in the panels.
        strips: images that a slider moves.
        csv: its table; "" where it has none, or one too large to copy.
    """

    head: str
    pictures: list[Picture]
    tail: str
    charts: list[Chart]
    strips: list[Strip]
    csv: str

    def html(self, detail: Detail) -> str:
        """The whole of it."""
        return self.head + "".join(one(detail) for one in self.pictures) + self.tail


def block(result: Any, name: str, place: int) -> Section:
    """A result that is no profile, on the page."""
    data = result.to_dataset() if hasattr(result, "to_dataset") else result
    kind = data.attrs["kind"]
    console = Recorder(file=io.StringIO(), width=WIDTH, highlight=False)
    show(result, console=console)
    head, *rest = console.blocks
    last = max((k for k, one in enumerate(rest) if one.table is not None), default=-1)
    said = [one for one in rest[last + 1 :] if not one.text.endswith(" shown.")]
    lead = said[-1 if kind in CONCLUDE else 0] if said else head
    cards = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>"
        for what, value, remark in FACTS.get(kind, lambda *_: [])(data, console.blocks)[:3]
    )
    body = "".join(one.html(f"{kind} of {name}") for one in console.blocks if one is not lead)
    drawn = CHARTS[kind](data, place) if kind in CHARTS else []
    boxes = "".join(panel(chart) for chart in drawn)
    copy = copyable(data)
    images, strips = strip(data, place)
    pictures = [images] if images else []
    if kind == "transport" and drawn and data.sizes["axis"] == 2:  # whose cells have colours that no panel has
        pictures += drawing(result, lead.text)
    head_html = (
        f'<section class="other" aria-labelledby="other-{place}"><h2 id="other-{place}">{escape(name)} '
        f'<span class="kind">{escape(kind)}</span></h2><p class="lead">{escape(lead.text)}</p>'
        f'<dl class="facts">{cards}</dl><div class="panels">{boxes}</div>'
    )
    tail = (
        f'<div class="report"><h3>In numbers</h3>{button(f"csv-{place}", name) if copy else ""}{body}</div></section>'
    )
    return Section(head_html, pictures, tail, drawn, strips, copy)


def panel(chart: Chart) -> str:
    """The place of a chart on the page, before it is drawn."""
    name = escape(chart["id"])
    return (
        f'<figure class="panel"><figcaption>{escape(chart["title"])}{button(name, chart["title"])}</figcaption>'
        f'<div class="plot" id="{name}" role="img" aria-label="{escape(chart["title"])}"></div>'
        f'<div class="legend" data-of="{name}"></div></figure>'
    )


def button(name: str, what: str) -> str:
    """The button that copies what has this id."""
    label = f"Copy CSV of {what}"
    return f'<button type="button" class="copy" data-copies="{name}" aria-label="{escape(label)}">Copy CSV</button>'


def copyable(result: Any) -> str:
    """The table of a result as CSV; "" where it has none, or one that is too large."""
    data = result.to_dataset() if hasattr(result, "to_dataset") else result
    if sum(variable.size for variable in data.variables.values()) > LARGE and data.attrs["kind"] != "profile":
        return ""
    return table(data).to_csv(index=False)


# The three numbers


def _schedule(data: xr.Dataset, _: list[Block]) -> list[Fact]:
    sigmas = data["sigma"].to_numpy()
    facts = [
        ("Steps", str(len(sigmas) - 1), f"{data.attrs.get('solver', '')} by {data.attrs.get('criterion', '')}"),
        ("Noise levels", f"{scale(sigmas[0])} to {scale(sigmas[-1]) if sigmas[-1] > 0 else '0'}", "sigma"),
    ]
    if "predicted_error" in data:
        facts.append(("Predicted end error", scale(float(data["predicted_error"].sum())), "in the unit of the data"))
    return facts


def _comparison(data: xr.Dataset, _: list[Block]) -> list[Fact]:
    facts: list[Fact] = []
    for name, what in (("rms", "Least RMS"), ("w2", "Least W2 to the law")):
        cells = data[name].stack(cell=("criterion", "solver", "steps")).dropna("cell")
        if cells.sizes["cell"]:
            best = cells.isel(cell=int(np.argmin(cells.to_numpy())))
            criterion, solver, steps = best["cell"].item()
            error = float(data[f"{name}_se"].sel(criterion=criterion, solver=solver, steps=steps))
            facts.append((what, f"{number(float(best))} ± {number(error)}", f"{criterion}, {solver}, {steps} steps"))
    return [
        *facts,
        ("Samples of each grid", f"{int(data.attrs['n']):,}", f"{data.sizes['criterion']} ways to place steps"),
    ]


def _evaluation(data: xr.Dataset, _: list[Block]) -> list[Fact]:
    known = [str(name) for name in data["metric"].to_numpy()]
    facts: list[Fact] = []
    for name in [name for name in METRICS if name in known]:
        row = data.sel(metric=name)
        if np.isfinite(float(row["value"])):
            control = float(row["control"])
            remark = f"a perfect sampler: {number(control)}" if np.isfinite(control) else ""
            value = f"{number(float(row['value']))} ± {number(float(row['value_se']))}"
            facts.append((WORDS.get(name, name), value, remark))
    return facts


def _chain(data: xr.Dataset, _: list[Block]) -> list[Fact]:
    there, back = float(data["w2_forward"][0]), float(data["w2_backward"][0])
    grown = float(data["ratio_chain"])
    return [
        ("W2 before", number(there), "of target and start"),
        ("W2 after", number(back), "of target and the denoised start"),
        ("Error, there and back", f"times {number(grown)}", "W2 of the two denoised laws over the start's"),
    ]


def _rows(*names: str) -> Callable[[xr.Dataset, list[Block]], list[Fact]]:
    """Rows of the report's table of facts."""

    def facts(_: xr.Dataset, blocks: list[Block]) -> list[Fact]:
        found: dict[str, Fact] = {}
        for one in blocks:
            if one.table is not None and len(one.table.columns) == 3:
                for name, value, remark in zip(*(column.cells for column in one.table.columns), strict=True):
                    found[str(name)] = (str(name), str(value), str(remark))
        return [found[name] for name in names if name in found]

    return facts


def _audit(data: xr.Dataset, _: list[Block]) -> list[Fact]:
    return [
        ("Calls of the network", str(data.sizes["call"]), str(data.attrs["asked"])),
        ("Begins with", f"{float(data['begins']):.4g}", "times the noise of its first level"),
        ("Ends at sigma", scale(max(float(data["end"]), 0.0)) if float(data["end"]) > 0 else "0", ""),
    ]


def _difficulty(data: xr.Dataset, _: list[Block]) -> list[Fact]:
    order = np.argsort(data["rank"].to_numpy())
    facts: list[Fact] = []
    for what, k in (("Hardest point", order[0]), ("Easiest point", order[-1])):
        one = data.isel(sample=int(k))
        most = f"most at SNR {scale(float(one['hardest_snr']))}"
        facts.append((what, f"no. {int(k)}", f"integral of L {number(float(one['integral_localization']))}, {most}"))
    if "rho" in data:
        rho = float(data["rho"].sel(measure="integral_localization"))
        facts.append(("Correlation with the error", number(rho), "Spearman's, of the integral of L"))
    else:
        facts.append(("Points", f"{data.sizes['sample']:,}", f"{data.attrs['solver']}, {data.attrs['steps']} steps"))
    return facts


def _calibration(data: xr.Dataset, _: list[Block]) -> list[Fact]:
    worst = data.isel(snr=int(np.argmax(data["excess"].to_numpy())))
    excess, balance = (f"{number(float(worst[name]))} ± {number(float(worst[f'{name}_se']))}" for name in SHARES)
    return [
        ("Largest excess", excess, f"at SNR {scale(float(worst['snr']))}"),
        ("Balance there", balance, "predicted over true error: 1 is right"),
        ("Asymmetry there", number(float(worst["asymmetry"])), "0 for a posterior"),
    ]


FACTS: dict[str, Callable[[xr.Dataset, list[Block]], list[Fact]]] = {
    "schedule": _schedule,
    "comparison": _comparison,
    "evaluation": _evaluation,
    "chain": _chain,
    "audit": _audit,
    "calibration": _calibration,
    "difficulty": _difficulty,
    "transport": _rows("excess total variation", "W2 by the map", "of independent pairs"),
    "coupling": _rows("excess total variation", "mean squared distance", "skew"),
    "flow": _rows("KL(rho | target)", "W2 to the target", "least curvature"),
}
