"""Figures of what brenier computes, drawn with matplotlib.

`plot` draws any result. `plot_profile`, `plot_chain` and the like draw one kind on a page of panels; every panel is a
function of its own that takes the same result and an optional `ax`, and returns the axes. `plot_profiles` lays several
profiles over each other. `save_figure` writes a page to a file.
Nothing here shows a window, touches pyplot or changes matplotlib's settings: what comes back is yours to alter or save.
matplotlib is loaded when something is drawn.
"""

import ast
import importlib
from pathlib import Path
from typing import Any

# The stub, which editors and type checkers read, says where each name lives.
_HOMES = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
