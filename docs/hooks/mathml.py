"""Turns formulas into MathML while the site is built, so that no page needs a script or a font from elsewhere."""

import html
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

# What pymdownx.arithmatex leaves behind: \( ... \) in a span, \[ ... \] in a div, with the characters of HTML escaped.
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<block>.*?)\\\])</\1>', re.DOTALL
)


def on_page_content(content: str, **_: object) -> str:
    """Replace every formula in a rendered page."""
    return FORMULA.sub(_to_mathml, content)


def _to_mathml(match: re.Match[str]) -> str:
    kind = "inline" if match["block"] is None else "block"
    formula = html.unescape(match[kind]).strip()
    found = convert(formula, display=kind)
    if "\\" in found:
        raise PluginError(f"a formula has what does not become MathML: {formula}")
    return found
