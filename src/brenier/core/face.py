"""Packages that load nothing until it is used (PEP 562): a stub beside `__init__.py` says where each name lives."""

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module


def names_on_use(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package, from the imports in its `__init__.pyi`.

    Type checkers and editors read the same stub: a name is said once. "from brenier import figures" makes a room an
    attribute, "from brenier.probing.profile import probe" a function.
    """

    @cache
    def homes() -> dict[str, str]:
        import ast
        from pathlib import Path

        stub = Path(str(sys.modules[package].__file__)).with_suffix(".pyi")
        return {
            alias.name: str(node.module)
            for node in ast.parse(stub.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def load(name: str) -> object:
        if name == "__all__":
            return list(homes())
        if name.startswith("__") or name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes()[name]
        if home == package:
            return import_module(f"{package}.{name}")
        found = getattr(import_module(home), name)
        setattr(sys.modules[package], name, found)
        return found

    return load, lambda: sorted(homes())
