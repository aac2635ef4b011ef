"""One figure for each kind of result."""

from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from brenier.figures.audit import plot_audit
from brenier.figures.calibration import plot_calibration
from brenier.figures.chain import plot_chain
from brenier.figures.comparison import plot_comparison
from brenier.figures.coupling import plot_coupling
from brenier.figures.difficulty import plot_difficulty
from brenier.figures.evaluation import plot_evaluation
from brenier.figures.flow import plot_flow
from brenier.figures.profile import plot_profile
from brenier.figures.schedule import plot_schedule
from brenier.figures.transport import plot_transport
from brenier.sampling.schedule import Schedule
from brenier.transport import MongeAmpere, SemiDiscrete

KINDS: dict[str, Callable[[xr.Dataset], Figure]] = {
    "profile": plot_profile,
    "chain": plot_chain,
    "calibration": plot_calibration,
    "comparison": plot_comparison,
    "evaluation": plot_evaluation,
    "transport": plot_transport,
    "coupling": plot_coupling,
    "flow": plot_flow,
    "audit": plot_audit,
    "difficulty": plot_difficulty,
}


def plot(result: object) -> Figure:
    """Draw any result: the page that its kind has.

    Args:
        result: a dataset that says its kind, as all do that brenier returns or saves; a schedule; a fitted map.

    Returns:
        A figure on the Agg canvas, unknown to pyplot. Write it with `save_figure`.

    Raises:
        ValueError: there is no figure of this kind; the map has not been fitted.
        TypeError: it is no result at all.
    """
    match result:
        case Schedule():
            return plot_schedule(result)
        case SemiDiscrete():
            return plot_transport(result)
        case MongeAmpere():
            return plot_flow(result)
        case xr.Dataset():
            kind = result.attrs.get("kind")
            if kind not in KINDS:
                raise ValueError(f"there is no figure of the kind {kind!r}: there are of {', '.join(KINDS)}")
            return KINDS[kind](result)
        case _:
            raise TypeError(f"a dataset, a schedule or a map can be drawn, got {type(result).__name__}")
