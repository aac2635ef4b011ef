"""Runs tutorials while the site is built: what a page quotes is what the program says, and its figures are fresh.

Blocks of `console` and `python` run in their order, in one folder for each page; a block after `<!-- not run -->` does
not. Every quotation and every block of `text` must be in what they printed, but for where lines are broken; a figure
that a command draws takes the place of the one in docs/. A stale page ends the build, which says what was printed.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

PAGES = ("atlas", "expressway", "probe", "chain", "plan", "hard-samples", "tails")  # the others train
BLOCK = re.compile(r"^(<!-- not run -->\n+)?```(console|python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUOTE = re.compile(r"(?:^> .*\n?)+", re.MULTILINE)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "120", "MPLBACKEND": "Agg"}


@dataclass(frozen=True)
class Run:
    """What came of a page: all that was printed, and its figures by name."""

    name: str
    printed: str
    figures: dict[str, bytes]
    seconds: float


def steps(page: str) -> list[list[str]]:
    """The processes of a page, in their order: a command each, or Python with what stands before."""
    found: list[list[str]] = []
    code = ""
    for skipped, kind, body in BLOCK.findall(page):
        if skipped:
            continue
        if kind == "console":
            lines = body.replace("\\\n", " ").splitlines()
            found += [["bash", "-c", line.removeprefix("$ ")] for line in lines if line.startswith("$ ")]
        elif kind == "python":
            code += body
            found.append([sys.executable, "-c", code])
    return found


def quoted(page: str) -> list[str]:
    """What a page says that the program printed."""
    quotes = [re.sub(r"^> ?", "", one, flags=re.MULTILINE) for one in QUOTE.findall(page)]
    return quotes + [body for skipped, kind, body in BLOCK.findall(page) if kind == "text" and not skipped]


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
    printed = ""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:
        for command in steps(page):
            done = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | ONE_THREAD | {"PATH": paths},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise PluginError(f"{path.name}: {command[-1]}\nfailed:\n{done.stderr}")
            printed += done.stdout + "\n"
        figures = {one.name: one.read_bytes() for one in Path(folder).rglob("*.png")}
    missing = stale(page, printed)
    if missing:
        raise PluginError(f"{path.name} quotes\n\n{missing[0]}\n\nbut what was printed is\n\n{printed}")
    return Run(path.stem, printed, figures, time.monotonic() - begun)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the tutorials, two at a time, and put their figures in the place of those in docs/."""
    pages = [Path(config.docs_dir) / "tutorials" / f"{name}.md" for name in PAGES]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(run, pages))
    known = files.src_uris
    for one in runs:
        for name, figure in one.figures.items():
            if name in known:
                files.remove(known[name])
                files.append(File.generated(config, name, content=figure))
    return files
