"""Runs tutorials while the site is built: what a page quotes is what the program says, and its figures are fresh.

Blocks of `console` and `python` run in their order, in one folder for each page; a block after `<!-- not run -->` does
not, commands after `<!-- status 1 -->` must end with that, and a block with the title of a file is written there. Every
quotation and every block of `text` must be in what they printed, but for where lines are broken; "..." stands for
anything. A block of `text` that is nothing else is filled with what the block before it printed, for numbers that
depend on the processor. A figure that is drawn takes the place of the one in docs/. A stale page ends the build, which
says what was printed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = (
    *("flow", "network", "pipeline", "atlas", "expressway"),
    *("probe", "chain", "plan", "hard-samples", "tails"),
)
BLOCK = re.compile(
    r"""^(?:<!-- (not run|status 1) -->\n+)?```(console|python|text)(?: title="([\w.]+)")?\n(.*?)^```""",
    re.MULTILINE | re.DOTALL,
)
QUOTE = re.compile(r"(?:^> .*\n?)+", re.MULTILINE)
FILLED = "...\n"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "120", "MPLBACKEND": "Agg"}
SESSION = r"""
import json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    exec(compile(json.loads(line), "the page", "exec"), names)
    print("\0", flush=True)
"""
TEXTS: dict[str, str] = {}  # of pages that ran, by the names of their files


@dataclass(frozen=True)
class Run:
    """What came of a page: its text with what is filled in, all that was printed, and its figures by name."""

    name: str
    text: str
    printed: str
    figures: dict[str, bytes]
    seconds: float


def commands(body: str) -> list[str]:
    """Of a block of `console`."""
    lines = body.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def console(body: str, folder: Path, status: int) -> str:
    """What commands print.

    Raises:
        PluginError: one did not end with this status.
    """
    printed = ""
    for line in commands(body):
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != status:
            raise PluginError(f"{line}\nfailed:\n{done.stderr}")
        printed += done.stdout
    return printed


@contextmanager
def session(folder: Path) -> Generator[tuple[subprocess.Popen[str], IO[str]]]:
    """One Python for the blocks of a page, so that each knows the names of those before; and what it complains of."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as complaints,
        subprocess.Popen(
            [sys.executable, "-c", SESSION],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        yield process, complaints


def python(body: str, process: subprocess.Popen[str], complaints: IO[str]) -> str:
    """What a block prints.

    Raises:
        PluginError: it failed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(body) + "\n")
    process.stdin.flush()
    printed = ""
    for line in process.stdout:
        if line == "\0\n":
            return printed
        printed += line
    complaints.seek(0)
    raise PluginError(f"{body}\nfailed:\n{complaints.read()}")


def environment() -> dict[str, str]:
    """That of the build, with one thread, and the commands of this Python first."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | ONE_THREAD | {"PATH": paths}


def quoted(page: str) -> list[str]:
    """What a page says that the program printed."""
    quotes = [re.sub(r"^> ?", "", one, flags=re.MULTILINE) for one in QUOTE.findall(page)]
    return quotes + [body for mark, kind, _, body in BLOCK.findall(page) if kind == "text" and mark != "not run"]


def stale(page: str, printed: str) -> list[str]:
    """Of what a page quotes, what was not printed; "..." stands for anything."""
    plain = " ".join(printed.split())
    missing: list[str] = []
    for one in quoted(page):
        parts = [" ".join(part.replace("\\*", "*").split()) for part in one.split("...")]
        if not re.search(".*?".join(map(re.escape, parts)), plain):
            missing.append(one.strip())
    return missing


def run(path: Path) -> Run:
    """Run a page in an empty folder.

    Raises:
        PluginError: a block failed, or the page quotes what was not printed.
    """
    page, begun = path.read_text("utf-8"), time.monotonic()
    printed, last, text, end = "", "", "", 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with session(folder) as (process, complaints):
            for block in BLOCK.finditer(page):
                mark, kind, title, body = block.groups()
                text += page[end : block.start(4)]
                end = block.end(4)
                if kind == "text" and body == FILLED:
                    if not last.strip():
                        raise PluginError(f"{path.name} is to be filled with what was printed, and nothing was")
                    body = "\n".join(line.rstrip() for line in last.strip("\n").splitlines()) + "\n"
                elif title:
                    (folder / title).write_text(body, "utf-8")
                elif kind != "text" and mark != "not run":
                    try:
                        last = (
                            console(body, folder, 1 if mark else 0)
                            if kind == "console"
                            else python(body, process, complaints)
                        )
                    except PluginError as error:
                        raise PluginError(f"{path.name}: {error}") from None
                    printed += last + "\n"
                text += body
        figures = {one.name: one.read_bytes() for one in folder.rglob("*.png")}
    missing = stale(page, printed)
    if missing:
        raise PluginError(f"{path.name} quotes\n\n{missing[0]}\n\nbut what was printed is\n\n{printed}")
    return Run(path.stem, text + page[end:], printed, figures, time.monotonic() - begun)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the tutorials, two at a time, and put their figures in the place of those in docs/."""
    pages = [Path(config.docs_dir) / "tutorials" / f"{name}.md" for name in PAGES]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(run, pages))
    known = files.src_uris
    for one in runs:
        TEXTS[f"tutorials/{one.name}.md"] = one.text
        for name, figure in one.figures.items():
            if name in known:
                files.remove(known[name])
                files.append(File.generated(config, name, content=figure))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """The text of a page that ran, with what is filled in."""
    return TEXTS.get(page.file.src_uri, markdown)
