"""Figures of what brenier computes, drawn with matplotlib.

Every panel is a function that takes a profile or a chain and an optional `ax` and returns the axes; `plot_profile` and
`plot_chain` join them; `plot_profiles` lays several profiles over each other. `plot_schedule` and `plot_comparison`
draw where a sampler's steps go, and what errors they leave; `plot_transport` draws a transport map, `plot_flow` one
that a Monge-Ampère flow found.
Nothing here shows a window, touches pyplot or changes matplotlib's settings: what comes back is yours to alter or save.
"""

import warnings
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from brenier.figures.calibration import plot_calibration
from brenier.figures.chain import (
    plot_chain,
    plot_chain_bounds,
    plot_chain_distances,
    plot_chain_divergences,
    plot_chain_error,
    plot_chain_localization,
    plot_chain_rates,
)
from brenier.figures.evaluation import plot_closeness, plot_evaluation, plot_pairs, plot_shares
from brenier.figures.mongeampere import plot_flow, plot_flow_density, plot_flow_image, plot_flow_map, plot_history
from brenier.figures.overlay import plot_compared, plot_profiles
from brenier.figures.profile import (
    plot_complexity,
    plot_contraction,
    plot_ess,
    plot_localization,
    plot_profile,
    plot_survival,
)
from brenier.figures.schedule import (
    plot_compared_errors,
    plot_comparison,
    plot_schedule,
    plot_schedule_error,
    plot_schedule_steps,
)
from brenier.figures.sinkhorn import plot_sinkhorn_limit
from brenier.figures.transport import (
    plot_cells,
    plot_image,
    plot_line_map,
    plot_line_potential,
    plot_masses,
    plot_points,
    plot_transport,
)

__all__ = [
    "plot_calibration",
    "plot_cells",
    "plot_chain",
    "plot_chain_bounds",
    "plot_chain_distances",
    "plot_chain_divergences",
    "plot_chain_error",
    "plot_chain_localization",
    "plot_chain_rates",
    "plot_closeness",
    "plot_compared",
    "plot_compared_errors",
    "plot_comparison",
    "plot_complexity",
    "plot_contraction",
    "plot_ess",
    "plot_evaluation",
    "plot_flow",
    "plot_flow_density",
    "plot_flow_image",
    "plot_flow_map",
    "plot_history",
    "plot_image",
    "plot_line_map",
    "plot_line_potential",
    "plot_localization",
    "plot_masses",
    "plot_pairs",
    "plot_points",
    "plot_profile",
    "plot_profiles",
    "plot_schedule",
    "plot_schedule_error",
    "plot_schedule_steps",
    "plot_shares",
    "plot_sinkhorn_limit",
    "plot_survival",
    "plot_transport",
    "save_figure",
]

_UNDATED = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def save_figure(figure: Figure, path: str | Path, dpi: float = 200) -> None:
    """Write a figure to a .png, .pdf or .svg file. The same figure makes the same bytes: no dates, no random names.

    Args:
        figure: what to write.
        path: where to; the suffix says in which format. An existing file is replaced.
        dpi: dots per inch of a .png, and of what is drawn as dots in the other two.

    Raises:
        ValueError: matplotlib cannot write files of this suffix.
    """
    metadata = _UNDATED.get(Path(path).suffix.lower())
    with mpl.rc_context({"svg.hashsalt": "brenier"}), warnings.catch_warnings():
        # A law may be named in any script: what the font lacks is drawn as a box, which says as much as the warning.
        warnings.filterwarnings("ignore", r"Glyph .* missing", UserWarning)
        figure.savefig(path, dpi=dpi, metadata=metadata)
