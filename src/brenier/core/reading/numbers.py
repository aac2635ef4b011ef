"""Numbers as people write them: with a decimal point or comma, and thousands in groups."""

import math
import re
from collections.abc import Iterable

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "#na", "-nan", "nat"})
_GAPS = " \u00a0\u2009\u202f'\u2019"  # between thousands, beside the mark that is not decimal


def _pattern(decimal: str) -> re.Pattern[str]:
    group, point = ("," if decimal == "." else r"\."), re.escape(decimal)
    whole = rf"(?:[1-9]\d{{0,2}}(?P<gap>[{group}{_GAPS}])\d{{3}}(?:(?P=gap)\d{{3}})*|\d+)"
    return re.compile(rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?", re.ASCII)


_PATTERNS = {decimal: _pattern(decimal) for decimal in ".,"}
_WORDS = {"true": 1.0, "false": 0.0, "inf": math.inf, "infinity": math.inf}


def to_number(text: str, decimal: str = ".") -> float | None:
    """The number that a text writes with this decimal mark; NaN for a missing one, None where it is no number."""
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    if _PATTERNS[decimal].fullmatch(text):
        digits = re.sub(rf"[{_GAPS}{',' if decimal == '.' else '.'}]", "", text)
        return float(digits.replace(decimal, "."))
    word = text.lower()
    if word in MISSING:
        return math.nan
    found = _WORDS.get(word.lstrip("+-"))
    return -found if found is not None and word.startswith("-") else found


def is_number(text: str) -> bool:
    """Whether a text writes a number with either decimal mark, or a missing one."""
    return to_number(text) is not None or to_number(text, ",") is not None


def decimal_marks(texts: Iterable[str]) -> tuple[set[str], str | None]:
    """The decimal marks that some text cannot be read without; and a text that reads differently with either."""
    certain: set[str] = set()
    either: str | None = None
    for text in texts:
        if "," in text or "." in text:
            by_point, by_comma = to_number(text), to_number(text, ",")
            if by_point is not None and by_comma is None:
                certain.add(".")
            elif by_point is None and by_comma is not None:
                certain.add(",")
            elif by_point is not None and by_point != by_comma:
                either = text
    return certain, either
