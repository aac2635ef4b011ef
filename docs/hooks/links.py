"""Asks for every page elsewhere that the docs point to: `make links`. Without a network it says so, and is content."""

import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("docs/**/*.md", "*.md", "src/brenier/**/*.py")
LINK = re.compile(r"https?://[^\s<>()\[\]\"'`{}]+")
HERE = re.compile(r"https?://(127\.0\.0\.1|localhost|[^/]*\.?example\.)")
AGENT = "Mozilla/5.0 (X11; Linux x86_64) brenier-docs"
PATIENCE = 20  # seconds
SHY = {401, 403, 405, 406, 418, 429, 503}  # what servers say that do not like to be asked by programs


def links() -> list[str]:
    """All that is pointed to, once."""
    texts = (path.read_text("utf-8") for place in PLACES for path in ROOT.glob(place))
    found = {link.rstrip(".,;:") for text in texts for link in LINK.findall(text)}
    return sorted(link for link in found if not HERE.match(link))


def ask(link: str) -> str | None:
    """What is wrong with a link; None: nothing.

    Raises:
        OSError: nobody answers.
    """
    request = urllib.request.Request(link, headers={"User-Agent": AGENT})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            return None
    except urllib.error.HTTPError as error:
        return None if error.code in SHY else f"{link}: {error.code} {error.reason}"


def answer(link: str) -> tuple[bool, str | None]:
    """Whether anybody answered, and what is wrong."""
    try:
        return True, ask(link)
    except OSError as error:
        return False, f"{link}: {error}"


def main() -> int:
    """Ask for all links, eight at a time; 1 where one is broken."""
    known = links()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, known))
    if not any(answered for answered, _ in answers):
        sys.stdout.write(f"no network: {len(known)} links were not looked at\n")
        return 0
    broken = [wrong for _, wrong in answers if wrong is not None]
    sys.stdout.write(("\n".join(broken) or f"{len(known)} links are good") + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
