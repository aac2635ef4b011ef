"""Keeps the asterisks of m*, delta*, zeta* and r* in docstrings from being read as emphasis."""

import re
from typing import Any

import griffe

STARRED = re.compile(r"\b(m|delta|zeta|r)\*(?!\w)")


class StarredNames(griffe.Extension):
    """Replaces the asterisk after these names by the operator of the same looks."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute, when its members are known."""
        if obj.docstring is not None:
            obj.docstring.value = STARRED.sub("\\1\N{ASTERISK OPERATOR}", obj.docstring.value)
