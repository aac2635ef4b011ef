"""What stands in one column of a paper is as legible as on a page."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import brenier
from brenier import figures
from brenier.figures.axes import SMALLEST, _broken, is_narrow

PANELS = ("plot_survival", "plot_complexity", "plot_contraction", "plot_localization")


def column(columns: int = 1) -> tuple[Figure, list]:
    """Panels of 3.3 inches, side by side."""
    figure = Figure(figsize=(3.3 * columns, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


@pytest.fixture(scope="module")
def profile() -> xr.Dataset:
    return brenier.probe(np.random.default_rng(0).normal(size=(64, 3)), queries=64, about="atoms", progress=False)


@pytest.mark.parametrize("name", PANELS)
@pytest.mark.parametrize("columns", [1, 2])
def test_panels_of_a_profile_fit_one_column(
    profile: xr.Dataset, name: str, columns: int, nothing_overlaps: Callable[[Figure], None]
) -> None:
    figure, panels = column(columns)
    for ax in panels:
        getattr(figures, name)(profile, ax)
    nothing_overlaps(figure)
    width, height = figure.canvas.get_width_height()
    for ax in panels:
        place = ax.get_window_extent()
        assert place.width > 0.65 * width / columns
        assert place.height > 0.35 * height
        assert {label.get_fontsize() for label in ax.get_xticklabels()} == {SMALLEST}


def test_the_size_of_letters_is_left_alone_where_there_is_room(profile: xr.Dataset) -> None:
    ax = figures.plot_complexity(profile)
    assert not is_narrow(ax)
    assert ax.get_title(loc="left") == "Complexity"
    assert {label.get_fontsize() for label in ax.get_xticklabels()} == {mpl.rcParams["font.size"]}


def test_long_lines_are_broken_between_words_and_formulas_stay_whole() -> None:
    text = "distance to the flow's end (unit of the data)"
    lines = _broken(text, 1.5, 7.5).split("\n")
    assert " ".join(lines) == text
    assert max(map(len, lines)) <= 72 * 1.5 / (0.55 * 7.5)
    assert _broken(_broken(text, 1.5, 7.5), 1.5, 7.5).split("\n") == lines
    formula = r"net contraction $\zeta^*_M$, $\zeta^\sharp_M$"
    assert _broken(formula, 1.6, 7.5) == formula
