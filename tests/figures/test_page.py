"""Pages and the files that they are written to."""

import io
import resource
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from brenier import probe
from brenier.figures import plot_complexity, plot_profile, save_figure
from brenier.figures.axes import panel
from brenier.figures.page import counted, drawn_as, letter_panels, page, plain, short, stacked


def drawn() -> Figure:
    """What has a random name or a stamp where a file has one: clipped curves, hatches, images, letters, formulas."""
    with page(4, 2, r"$\frac{1}{2}$ and more", at=0.98) as figure:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], label="a curve")
        left.axvspan(0.2, 0.4, hatch="//", alpha=0.5)
        left.legend()
        right.imshow(np.eye(3))
    return figure


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_file_is_the_same_at_any_time(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bytes] = []
    for moment in ("0", "1700000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", moment)  # what matplotlib stamps a file with, were it to
        save_figure(drawn(), tmp_path / f"file{suffix}", dpi=50)
        found.append((tmp_path / f"file{suffix}").read_bytes())
    assert found[0] == found[1]


def test_a_stamp_would_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for suffix in (".svg", ".pdf"):
        drawn().savefig(tmp_path / f"file{suffix}")
        assert b"2023" in (tmp_path / f"file{suffix}").read_bytes()


def test_a_page_has_its_size_its_letters_and_its_title_and_leaves_the_settings_alone() -> None:
    before = dict(mpl.rcParams)
    with page(4, 3, "title", at=0.9, legend=7.5) as figure:
        assert (mpl.rcParams["font.size"], mpl.rcParams["legend.fontsize"]) == (9.0, 7.5)
        panels = [figure.add_subplot(1, 2, k) for k in (1, 2)]
        panels[1].set_title("second", loc="left")
        letter_panels(panels)
    assert dict(mpl.rcParams) == before
    assert figure.get_size_inches().tolist() == [4, 3]
    assert figure.get_suptitle() == "title"
    assert [ax.get_title(loc="left") for ax in panels] == ["(a) ", "(b) second"]


def test_stacked_panels_are_where_their_inches_say() -> None:
    height, layout = stacked(3, above=1.0, panel=2.0, between=0.5, below=0.75)
    figure = Figure(figsize=(4, height))
    boxes = [ax.get_position() for ax in figure.subplots(3, 1, gridspec_kw=layout)]
    np.testing.assert_allclose([(1 - boxes[0].y1) * height, boxes[-1].y0 * height], [1.0, 0.75])
    np.testing.assert_allclose([box.height * height for box in boxes], 2.0)
    np.testing.assert_allclose((boxes[0].y0 - boxes[1].y1) * height, 0.5)


def test_words() -> None:
    assert plain("5 $") == r"5 \$"
    assert [short("n" * k) for k in (28, 29)] == ["n" * 28, "n" * 27 + "…"]
    assert [counted(k, "step") for k in (1, 1024)] == ["1 step", "1,024 steps"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_full_disk_is_an_error_of_the_system(suffix: str, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_figure(drawn(), tmp_path / f"file{suffix}", dpi=50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    formatter: Any = getattr(drawn(), "_repr_png_")  # noqa: B009 - what IPython looks for
    image = Image.open(io.BytesIO(formatter()))
    assert image.size == (400, 200)
    assert panel(None, "alone").figure._repr_png_()[:4] == b"\x89PNG"


def test_letters_of_a_pdf_are_of_type_42_whoever_saves_it(tmp_path: Path) -> None:
    figure = plot_complexity(probe("two-points", [0.5, 1.0, 2.0], progress=False)).figure
    save_figure(figure, tmp_path / "ours.pdf")
    figure.savefig(tmp_path / "own.pdf")
    for name in ("ours.pdf", "own.pdf"):
        content = (tmp_path / name).read_bytes()
        assert b"/CIDFontType2" in content
        assert b"/Type3" not in content


def test_a_page_is_black_on_white_in_any_style() -> None:
    found = probe("two-points", [0.5, 1.0, 2.0], progress=False)
    usual = drawn_as(plot_profile(found), ".png", dpi=50)
    with mpl.style.context("dark_background"):
        assert drawn_as(plot_profile(found), ".png", dpi=50) == usual
