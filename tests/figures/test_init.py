"""The face of the figures: all names at once, and nothing loaded until one is used."""

import importlib
import sys

import pytest

from brenier import figures


def test_every_name_is_there_and_completed() -> None:
    assert {"plot", "plot_profile", "plot_flow", "save_figure"} < set(figures.__all__)
    assert dir(figures) == sorted(figures.__all__)
    for name in figures.__all__:
        assert getattr(figures, name).__name__ == name


def test_nothing_is_loaded_until_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("brenier.figures")]:
        monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module("brenier.figures")
    assert not [name for name in sys.modules if name.startswith("brenier.figures.")]
    assert fresh.save_figure.__module__ == "brenier.figures.page"
    assert "brenier.figures.page" in sys.modules
    assert "brenier.figures.profile" not in sys.modules


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'plot_nothing'"):
        _ = figures.plot_nothing  # pyright: ignore[reportAttributeAccessIssue]
