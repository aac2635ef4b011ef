"""Packages that load nothing until it is used (PEP 562): a stub beside `__init__.py` says where each name lives."""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def names_on_use(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from the imports in its `__init__.pyi`.

    Type checkers and editors read the same stub: a name is said once. "from brenier import figures" makes a room an
    attribute, "from brenier.probing.profile import probe" a function.
    """
    stub = Path(str(sys.modules[package].__file__)).with_suffix(".pyi")
    homes = {
        alias.name: str(node.module)
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            return importlib.import_module(f"{package}.{name}")
        found = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return load, lambda: sorted(homes), list(homes)
