import re
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]  # to a `Result` of conftest.py


@pytest.fixture
def saved(brenier: Command, tmp_path: Path) -> Path:
    assert brenier("probe", "two-points", "--snr", "0.5,1,2", "-o", tmp_path / "two.nc", "--quiet").code == 0
    return tmp_path / "two.nc"


def test_a_page_of_several_kinds(brenier: Command, saved: Path, tmp_path: Path) -> None:
    plan = tmp_path / "steps.json"
    brenier("plan", "normal", "--steps", 3, "--criterion", "karras", "-o", plan, "--quiet")
    page = tmp_path / "page.html"
    assert brenier("report", saved, plan, "-o", page) == (0, "", "")
    text = page.read_text()
    assert "<h1>two, steps</h1>" in text
    assert re.search("normal: 3 steps of .* by karras", text)


def test_what_is_refused_leaves_no_file(brenier: Command, saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    brenier("report", saved, tmp_path / "none.nc", "-o", page).refused("none.nc", "does not exist")
    brenier("report", saved, saved, "-o", page).refused("is given twice")
    brenier("report", saved, "-o", tmp_path / "page.pdf").refused("must end in .html")
    brenier("report", saved).refused("--output")
    assert [one.name for one in tmp_path.iterdir()] == ["two.nc"]


def test_a_page_is_replaced_with_force_alone(brenier: Command, saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    brenier("report", saved, "-o", page).refused("exists", "--force")
    assert page.read_text() == "mine"
    assert brenier("report", saved, "-o", page, "--force", "--title", "Two").code == 0
    assert "<title>Two</title>" in page.read_text()


def test_the_page_is_opened(brenier: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert brenier("report", saved, "-o", tmp_path / "page.html", "--open").code == 0
    assert opened == [(tmp_path / "page.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    brenier("report", saved, "-o", tmp_path / "b.html", "--open").refused("no browser", "b.html", "is written")
