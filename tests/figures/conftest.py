import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from brenier.figures import save_figure


def extents(figure: Figure) -> tuple[list[Bbox], list[Bbox]]:
    """Where every text and legend of a figure is drawn, and where its panels are, in pixels."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    texts = [*figure.texts]
    legends = []
    for ax in figure.axes:
        for one in (ax, *ax.child_axes):
            texts += [one.title, one._left_title, one.yaxis.label]
            for axis, (low, high) in ((one.xaxis, sorted(one.get_xlim())), (one.yaxis, sorted(one.get_ylim()))):
                # A twin leaves the x axis to the other; a top axis has no y axis of its own.
                if axis.get_visible() and not (one is not ax and axis is one.yaxis):
                    places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                    texts += [axis.label, *(text for place, text in places if low <= place <= high)]
        if ax.get_legend() is not None:
            legends.append(ax.get_legend().get_window_extent(renderer))
    texts = list(dict.fromkeys(texts))
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_visible() and text.get_text()]
    return boxes + legends, [ax.get_window_extent(renderer) for ax in figure.axes]


@pytest.fixture
def nothing_overlaps() -> Callable[[Figure], None]:
    """Assert that no text or legend of a figure leaves it, or covers a panel or another."""

    def check(figure: Figure) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a long name may have letters that the font lacks
            boxes, panels = extents(figure)
        width, height = figure.canvas.get_width_height()
        inner = [box.padded(-0.5) for box in boxes]
        for k, box in enumerate(boxes):
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height
            assert not any(inner[k].overlaps(panel) for panel in panels)
            assert not any(inner[k].overlaps(other) for other in inner[:k])

    return check


@pytest.fixture
def same_bytes(tmp_path: Path) -> Callable[[Callable[[], Figure]], None]:
    """Assert that a figure drawn twice makes the same file twice.

    An SVG holds all that is drawn, to the last place. That no format adds a date or a random name is `test_page`'s.
    """

    def check(draw: Callable[[], Figure]) -> None:
        for name in ("a.svg", "b.svg"):
            save_figure(draw(), tmp_path / name)
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()

    return check
