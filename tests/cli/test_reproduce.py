from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from brenier import figures
from brenier.references import paper
from brenier.references.paper import multiscale

Command = Callable[..., Any]  # to a `Result` of conftest.py

SUFFIXES = (".nc", ".pdf", ".png")


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves at fewer points than those that are published."""
    monkeypatch.setattr(multiscale, "INTERVALS", 8)


def files(*names: str) -> list[str]:
    return sorted(name + suffix for name in names for suffix in SUFFIXES)


def held(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(name: str) -> None:
        pytest.fail("the long work began")

    monkeypatch.setattr(paper, "numbers", never)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paper of two figures, which are quickly drawn."""
    monkeypatch.setattr(paper, "FIGURES", {name: paper.FIGURES[name] for name in ("fig1", "fig3")})
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: path.write_text(figure.get_suptitle()))


def test_a_figure_is_made_with_its_numbers_and_the_same_bytes_each_time(brenier: Command, tmp_path: Path) -> None:
    tmp_path /= "figures"
    code, out, err = brenier("reproduce", "fig3", "-o", tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'fig3'}: .png, .pdf, .nc")
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(first) == files("fig3")
    assert first["fig3.png"].startswith(b"\x89PNG")
    assert first["fig3.pdf"].startswith(b"%PDF")
    numbers = xr.load_dataset(tmp_path / "fig3.nc", engine="h5netcdf")
    xr.testing.assert_identical(numbers, paper.numbers("fig3"))
    assert brenier("reproduce", "fig3", "-o", tmp_path, "--force")[0] == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("names", [(), ("all",), ("fig1", "all"), ("fig3", "fig1", "fig3")])
def test_figures_are_made_once_and_all_where_none_is_named(
    brenier: Command, tmp_path: Path, names: tuple[str, ...]
) -> None:
    code, out, err = brenier("reproduce", *names, "-o", tmp_path)
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == [str(tmp_path / "fig1"), str(tmp_path / "fig3")]
    assert held(tmp_path) == files("fig1", "fig3")
    for name, law in (("fig1", "Two points"), ("fig3", "point mass")):
        assert law in (tmp_path / f"{name}.png").read_text()


@pytest.mark.usefixtures("few")
def test_quiet_is_quiet(brenier: Command, tmp_path: Path) -> None:
    assert brenier("reproduce", "-o", tmp_path, "--quiet") == (0, "", "")
    assert held(tmp_path) == files("fig1", "fig3")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fig13", "-o", "."), ["no figure 'fig13'", "did you mean 'fig", "fig1 to fig11, all, or atlas"]),
        (("fig1", "figure3", "-o", "."), ["no figure 'figure3'", "did you mean 'fig3'"]),
        (("fig1", "-o", "missing/figures"), ["'missing/figures' does not exist", "make it first"]),
        (("fig1", "-o", "notes.txt"), ["'notes.txt' is a file", "give a folder"]),
        (("fig1", "fig2", "-o", "."), ["'fig2.pdf' exists", "--force"]),
        (("-o", "."), ["'fig2.pdf' exists", "--force"]),
        (("fig1",), ["--output"]),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("kept")
    (tmp_path / "fig2.pdf").write_text("kept")
    brenier("reproduce", *arguments).refused(*words)
    assert held(tmp_path) == ["fig2.pdf", "notes.txt"]
    assert (tmp_path / "fig2.pdf").read_text() == "kept"


@pytest.mark.parametrize(("error", "code"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)])
def test_what_breaks_off_leaves_nothing(
    brenier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def broken(figure: object, path: Path) -> None:
        path.write_text("half")
        if path.suffix == ".pdf":
            raise error

    monkeypatch.setattr(figures, "save_figure", broken)
    assert brenier("reproduce", "fig3", "-o", tmp_path)[:2] == (code, "")
    assert brenier("reproduce", "fig3", "-o", tmp_path / "new")[:2] == (code, "")
    assert held(tmp_path) == []
