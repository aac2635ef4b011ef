"""Laws as they are written, NAME(PARAMETERS): what stands between the brackets, and elliptical laws by their names.

student(3, dim=5)    laplace(dim=5, scale=2)    gennorm(0.8, dim=20)
"""

import ast
import difflib
import inspect
import re
from collections.abc import Callable
from typing import Any

from brenier.laws.base import Target
from brenier.laws.elliptical import Elliptical

ELLIPTICAL: dict[str, Callable[..., Target]] = {
    "student": Elliptical.student,
    "laplace": Elliptical.laplace,
    "gennorm": Elliptical.generalised_normal,
}
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)
_WRITTEN = 'such as "student(3, dim=5)"'


def arguments(text: str, inside: str, example: str) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named numbers, and lists of them, between brackets.

    Raises:
        ValueError: they are none; `text` is the whole, and `example` says how it is written.
    """
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        assert isinstance(call, ast.Call)
        args = [ast.literal_eval(value) for value in call.args]
        kwargs = {str(part.arg): ast.literal_eval(part.value) for part in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise ValueError(f"{text!r}: parameters must be numbers, {example}") from None
    if not all(_numeric(value) for value in (*args, *kwargs.values())):
        raise ValueError(f"{text!r}: parameters must be numbers, {example}")
    return args, kwargs


def elliptical(text: str) -> Target | None:
    """The elliptical law of a name with its parameters; None for what is written otherwise.

    Raises:
        ValueError: one line, for parameters that are missing, unknown or out of range.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in ELLIPTICAL:
        return None
    name, inside = found.groups()
    make = ELLIPTICAL[name]
    args, kwargs = arguments(text, inside, _WRITTEN)
    signature = inspect.signature(make)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        takes = ", ".join(str(part).partition(":")[0] for part in signature.parameters.values())
        raise ValueError(f"{text!r}: {error}: {name} takes {takes}") from None
    try:
        law = make(*args, **kwargs)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{text!r}: {error}") from None
    law.name = text.strip()
    return law


def nearest(text: str) -> str | None:
    """The elliptical law whose name is nearest to what is written with brackets; None for what is not, or not near."""
    found = re.match(r"\s*([A-Za-z_]\w*)\s*\(", text)
    near = difflib.get_close_matches(found[1].lower(), ELLIPTICAL, n=1, cutoff=0.5) if found else []
    return near[0] if near else None


def _numeric(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(_numeric(part) for part in value)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(value, int | float) and not isinstance(value, bool)
