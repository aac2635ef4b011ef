"""Libraries that come with an extra of the package: `pip install "brenier[zarr]"`."""

from importlib import import_module
from typing import Any


def library(name: str, extra: str, what: str) -> Any:
    """The module of this name, imported.

    Args:
        name: of the module.
        extra: of the package that brings it along.
        what: what needs it, in the plural.

    Raises:
        ValueError: it cannot be imported; the message names the extra.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ValueError(f"{what} need {package}: pip install 'brenier[{extra}]' ({error})") from None
