"""`brenier.report`: one page for any results, in one file that needs no network.

The page holds the numbers as JSON, plotly's script, and a script that ties the panels together. A policy in its head
lets the browser run these two and nothing else, load nothing, and send nothing, whatever the names in a file are.
"""

import base64
import hashlib
import json
import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from brenier.core import records
from brenier.core.writing import atomic_path, check_output
from brenier.page import others, profiles
from brenier.page.charts import Chart
from brenier.page.pictures import Detail, Picture, seen

SUFFIXES = (".html", ".htm")
MOST = 6_000_000  # bytes of a page, past which samples of L are left out, images made small, and left out, then CSV
LONGEST = 200_000  # characters of a table that can be copied where there is little room
LESS: tuple[Detail, ...] = ("small", "none")


@dataclass(frozen=True, repr=False)
class Page:
    """A page that a browser opens.

    Attributes:
        html: the whole of it.
    """

    html: str

    def __repr__(self) -> str:
        return f"<page of {len(self.html.encode()) / 1e6:.1f} MB: .save('report.html')>"

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{escape(self.html)}" style="width:100%;height:48rem;border:0"></iframe>'

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the page to a file, whole or not at all.

        Args:
            path: where to (.html).
            force: whether to replace what exists.

        Returns:
            The path.

        Raises:
            ValueError: it has another ending, exists, or cannot be written.
        """
        target = check_output(path, SUFFIXES, force)
        with atomic_path(target, force) as draft:
            draft.write_bytes(self.html.encode())
        return target


def report(results: Any, *, title: str | None = None) -> Page:
    """One page for any results: what they say, in sentences, numbers, tables and panels that move together.

    Several profiles are compared in the same panels, under one slider along the SNR.

    Args:
        results: what a verb of brenier returned or `brenier.core.records.read` read; several by the names to give
            them, or in a list, under the names of their laws.
        title: of the page. Default: from the names.

    Returns:
        The page. `page.save("report.html")` writes it, a notebook shows it.

    Raises:
        ValueError: no result, one of which there is no report, or more numbers than a page may weigh.
    """
    named = _named(results)
    compared = {name: one for name, one in named.items() if _kind(one) == "profile"}
    for profile in compared.values():
        records.check(profile, "profile")
    content: dict[str, Any] = {"charts": [], "strips": []}
    explored = _profiles(compared, content) if compared else lambda detail: ""
    csv: dict[str, str] = {f"table-{k}": others.copyable(one) for k, one in enumerate(compared.values())}
    sections: list[others.Section] = []
    for place, (name, one) in enumerate((name, one) for name, one in named.items() if name not in compared):
        section = others.block(one, name, place)
        sections.append(section)
        content["charts"] += section.charts
        content["strips"] += section.strips
        csv |= {f"csv-{place}": section.csv} if section.csv else {}
    content["csv"] = csv
    named_as = title or _title(named)

    def made(detail: Detail) -> str:
        return _assembled(named_as, [explored(detail), *(section.html(detail) for section in sections)], content)

    page = made("full")
    if len(page.encode()) > MOST and compared:
        for one in content["explorer"]["profiles"]:
            one["localization"] = None
            one.pop("weight", None)
        page = made("full")
    for detail in LESS:
        if len(page.encode()) > MOST:
            page = made(detail)
            content["csv"] = {name: text for name, text in csv.items() if len(text) <= LONGEST}
    if len(page.encode()) > MOST:
        content["csv"] = {}
        page = made("none")
    if len(page.encode()) > MOST:
        weights = dict(zip(compared, map(_weight, content.get("explorer", {}).get("profiles", [])), strict=True))
        others_named = (name for name in named if name not in compared)
        weights |= {
            name: len(section.html("none")) + _weight(section.charts)
            for name, section in zip(others_named, sections, strict=True)
        }
        raise ValueError(_too_much(len(page.encode()), weights))
    return Page(page)


def _weight(content: Any) -> int:
    return len(json.dumps(content, separators=(",", ":")))


def _too_much(size: int, weights: Mapping[str, int]) -> str:
    """Why there is no page, and what would make one."""
    heaviest = max(weights, key=lambda name: weights[name])
    remedy = f"leave out {heaviest!r}" if len(weights) > 1 else f"make {heaviest!r} anew with fewer SNRs, steps or rows"
    return (
        f"the page would weigh {size / 1e6:.1f} MB without its images, and a page has {MOST / 1e6:.0f} MB at most: "
        f"{remedy}, which takes {weights[heaviest] / 1e6:.1f} MB of it"
    )


def _profiles(compared: Mapping[str, Any], content: dict[str, Any]) -> Picture:
    """The profiles as HTML; what the script needs of them is added to the content."""
    charts: list[Chart] = [chart for chart in profiles.charts(compared) if chart["series"]]
    blocks = "".join(profiles.block(one, name, k) for k, (name, one) in enumerate(compared.items()))
    panels = "".join(others.panel(chart) for chart in charts)
    tables = "".join(
        f'<section class="table"><h3 id="table-{k}">Table: {escape(name)}</h3>{others.button(f"table-{k}", name)}'
        f"{profiles.table_block(one, name, k)}</section>"
        for k, (name, one) in enumerate(compared.items())
    )
    moved: list[Chart] = [
        {"id": "survival", "title": "Survival of L at this SNR", "x": "u", "y": "P(L > u)", "series": []},
        {"id": "sample", "title": "Sample of L at this SNR", "x": "L", "y": "share", "series": []},
    ]
    views = [seen(one, name, k) for k, (name, one) in enumerate(compared.items())]
    content["charts"] += charts
    content["strips"] += [one for _, moves in views for one in moves]
    content["explorer"] = profiles.explorer(compared)

    def shown(detail: Detail) -> str:
        pictures = "".join(one(detail) for one, _ in views if one is not None)
        panes = "".join(others.panel(chart) for chart in moved)
        parts = {"blocks": blocks, "moved": panes, "panels": panels, "tables": tables}
        return _resource("explorer.html").substitute(parts, views=pictures and f'<div class="sights">{pictures}</div>')

    return shown


def _assembled(title: str, body: Sequence[str], content: Mapping[str, Any]) -> str:
    plotly = files("brenier.resources").joinpath("plotly/plotly-basic.min.js").read_text(encoding="utf-8")
    own = _resource("page.js").template
    inside = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return _resource("page.html").substitute(
        title=escape(title),
        policy=" ".join(f"'sha256-{_digest(script)}'" for script in (plotly, own)),
        style=_resource("page.css").template,
        body="\n".join(body),
        version=escape(version("brenier")),
        data=inside.replace("<", "\\u003c"),  # so that no name ends the script that holds it
        plotly=plotly,
        script=own,
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _resource(name: str) -> string.Template:
    return string.Template(files("brenier.page").joinpath(name).read_text(encoding="utf-8"))


def _named(results: Any) -> dict[str, Any]:
    """The results by their names."""
    if isinstance(results, Mapping) and not hasattr(results, "attrs"):
        named = {str(name): one for name, one in results.items()}
    else:
        given = list(results) if isinstance(results, list | tuple) else [results]
        names = [_name(one) for one in given]
        twice = {name for name in names if names.count(name) > 1}
        labels = [f"{name} ({k})" if name in twice else name for k, name in enumerate(names, 1)]
        named = dict(zip(labels, given, strict=True))
    if not named:
        raise ValueError("a report is of at least one result: give what a verb of brenier returned")
    for name, one in named.items():
        if _kind(one) is None:
            raise ValueError(f"{name!r} is no result but a {type(one).__name__}: give what a verb of brenier returned")
    return named


def _kind(result: Any) -> str | None:
    data = result.to_dataset() if hasattr(result, "to_dataset") else result
    return getattr(data, "attrs", {}).get("kind")


def _name(result: Any) -> str:
    about = getattr(result, "attrs", {})
    return str(about.get("law") or getattr(result, "law", None) or about.get("title") or _kind(result))


def _title(named: Mapping[str, Any]) -> str:
    first, *rest = named
    return f"{first} and {len(rest)} more" if len(rest) > 2 else ", ".join(named)
