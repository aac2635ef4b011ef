"""Figures 1 to 11 of [LDK24] (arXiv:2411.01629): every panel, with the numbers behind it, all without random numbers.

Complexity is computed by quadrature or in closed form, laws along a chain through their quantile functions, so the
curves have none of the sampling error of the published ones. `numbers` computes what a figure shows, `draw` draws it:

    data = paper.numbers("fig6")
    save_figure(paper.draw("fig6", data), "fig6.pdf")

The atlas, a gallery of laws that is ours, is made in the same way, and has errors where laws are not on the line.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from brenier.core import records
from brenier.core.kinds import Kind
from brenier.core.work import one_thread
from brenier.references import atlas
from brenier.references.paper import diffusions, multiscale, panels, regions

__all__ = ["FIGURES", "PaperFigure", "check_names", "draw", "numbers"]


@dataclass(frozen=True)
class PaperFigure:
    """One figure of the paper: what it shows, how its numbers are computed, how they are drawn."""

    caption: str
    compute: Callable[[], xr.Dataset]
    draw: Callable[[xr.Dataset], Figure]
    kind: Kind = "paper figure"


def _example(name: str, caption: str) -> PaperFigure:
    return PaperFigure(caption, partial(multiscale.compute, name), partial(panels.draw, name))


def _chain(target: str, caption: str) -> PaperFigure:
    return PaperFigure(caption, partial(diffusions.compute, target), diffusions.draw)


FIGURES: dict[str, PaperFigure] = {
    "fig1": PaperFigure("two points: where Y_r is not log-concave", regions.compute, regions.draw),
    "fig2": _example("fig2", "two points: survival s_r(u) at low and high SNR"),
    "fig3": _example("fig3", "point mass: m*, delta* and net contraction"),
    "fig4": _example("fig4", "normal laws: survival, m*, delta* and net contraction"),
    "fig5": _example("fig5", "uniform law: survival, m*, delta* and net contraction"),
    "fig6": _example("fig6", "two points: survival, m*, delta* and net contraction"),
    "fig7": _chain("two-points", "two points: diffused and denoised, from delta_0"),
    "fig8": _example("fig8", "spike and slab: survival, m*, delta* and net contraction"),
    "fig9": _chain("spike-slab", "spike and slab: diffused and denoised, from delta_0"),
    "fig10": _example("fig10", "four Gaussians: survival, m*, delta* and net contraction"),
    "fig11": _chain("four-gaussians", "four Gaussians: diffused and denoised, from delta_0"),
    "atlas": PaperFigure("a gallery of laws: m*, bottleneck and onset of each", atlas.compute, atlas.draw, "atlas"),
}


def numbers(name: str) -> xr.Dataset:
    """What a figure shows, as a dataset with units; `FIGURES` lists the names.

    Raises:
        ValueError: there is no figure of this name.
    """
    (name,) = check_names([name])
    figure = FIGURES[name]
    with one_thread():
        data = figure.compute()
    return records.describe(data, figure.kind, title=f"{name}: {figure.caption}")


def draw(name: str, data: xr.Dataset) -> Figure:
    """Draw a figure from what `numbers` computed for it, or from a file of that; write it with `save_figure`.

    Raises:
        ValueError: there is no figure of this name.
    """
    (name,) = check_names([name])
    return FIGURES[name].draw(data)


def check_names(names: Sequence[str]) -> list[str]:
    """The figures named, each once, in the paper's order; all of the paper's if none is named, or "all" is.

    Raises:
        ValueError: a name is neither a figure's nor "all"; the message has the nearest that is.
    """
    for name in names:
        if name not in FIGURES and name != "all":
            near = difflib.get_close_matches(name.lower(), [*FIGURES, "all"], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"no figure {name!r}: {hint}give fig1 to fig11, all, or atlas")
    whole = not names or "all" in names
    return [name for name in FIGURES if name in names or (whole and FIGURES[name].kind == "paper figure")]
