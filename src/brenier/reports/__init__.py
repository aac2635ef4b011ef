"""What was computed, in tables and sentences. Nothing here computes."""

import io
import json
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from brenier.reports.markup import Summary

_PRINT = {
    "profile": "profile.print_report",
    "chain": "chain.print_chain",
    "calibration": "calibration.print_calibration",
    "comparison": "schedule.print_comparison",
    "transport": "transport.print_transport",
    "blocked transport": "transport.print_transport",
    "coupling": "coupling.print_coupling",
    "flow": "flow.print_flow",
    "evaluation": "evaluation.print_evaluation",
    "audit": "audit.print_audit",
    "difficulty": "difficulty.print_difficulty",
    "atlas": "atlas.print_atlas",
    "schedule": "schedule.print_schedule",
}
_TIMED = ("transport", "blocked transport", "flow", "schedule")


def show(result: Any, *, seconds: float | None = None, console: "Console | None" = None) -> None:
    """Print a result as tables and sentences.

    Args:
        result: a dataset that a verb of brenier returned or that was read again, a `Schedule`, or a fitted map.
        seconds: what a plan or a fit took, to be told with it.
        console: where to. Default: standard output, as wide as the terminal.
    """
    data = result.to_dataset() if hasattr(result, "to_dataset") else result
    kind = getattr(data, "attrs", {}).get("kind")
    if kind not in _PRINT:
        known = f"a {kind}" if kind else f"what says no kind, a {type(result).__name__},"
        raise ValueError(f"{known} has no report: give a result that is a {', '.join(_PRINT)}")
    module, function = _PRINT[kind].split(".")
    report = getattr(import_module(f"brenier.reports.{module}"), function)
    report(result if kind == "schedule" else data, **({"seconds": seconds} if kind in _TIMED else {}), console=console)


def to_json(result: Any) -> str:
    """The numbers of a result as JSON: its kind, what it was made from, the units, and a row for each SNR, step, ...

    The rows are those of `brenier.table`; a flow in closed form has none. A profile has its `bottleneck` beside. What
    is no finite number is null.

    Args:
        result: as for `show`; or several by name, which are one object then.

    Raises:
        ValueError, TypeError: as `brenier.table` does.
    """
    found = {name: _content(one) for name, one in result.items()} if isinstance(result, dict) else _content(result)
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def _content(result: Any) -> dict[str, Any]:
    """What the JSON of a result holds."""
    from brenier.core.kinds import RECORDS
    from brenier.core.records import table

    data = result.to_dataset() if hasattr(result, "to_dataset") else result
    kind = data.attrs.get("kind")
    rows: list[dict[str, Any]] = []
    units: dict[str, str] = {}
    if kind not in RECORDS or any(dim in data.dims for dim in RECORDS[kind].rows):
        frame = table(data)
        rows = [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
        units = frame.attrs["units"]
    about = {str(name): _plain(value) for name, value in data.attrs.items() if name != "kind"}
    found: dict[str, Any] = {"kind": kind, "attributes": about, "units": units}
    if kind == "profile":
        from brenier.probing.bottleneck import bottleneck

        found["bottleneck"] = {name: _plain(value) for name, value in bottleneck(data).items()}
    return found | {"rows": rows}


def _plain(value: Any) -> Any:
    """A value as JSON knows it; of a list of one the one, as netCDF has it."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value] if len(value) != 1 else _plain(value[0])
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary(result: Any, *, width: int = 120) -> "Summary":
    """The tables and sentences that the command line prints for a result.

    Args:
        result: as for `show`.
        width: columns that tables may take.

    Returns:
        Text of at most `width` columns, which a notebook shows as HTML.

    Raises:
        ValueError: the result is of no kind that has a report.
    """
    from brenier.reports.markup import Recorder, Summary

    text = io.StringIO()
    console = Recorder(file=text, width=width, highlight=False)
    show(result, console=console)
    return Summary(text.getvalue(), "\n".join(block.html() for block in console.blocks))
