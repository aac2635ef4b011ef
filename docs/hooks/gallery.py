"""Runs the gallery, docs/gallery/*.py, while the site is built, and makes a page of each: no number can be stale.

A script is a question: the first line of its docstring is the title, the rest the introduction. It is a whole program,
which anyone can run; what it prints and the .png files that it writes stand under it. One that fails ends the build.
"""

import ast
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

FOLDER = "gallery"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "100"}


@dataclass(frozen=True)
class Example:
    """A script, and what came of it: its figures by name."""

    name: str
    title: str
    introduction: str
    code: str
    output: str
    figures: dict[str, bytes]

    def page(self) -> str:
        """As Markdown."""
        shown = "".join(f"\n![{self.title} {name}]({self.name}-{name})\n" for name in self.figures)
        printed = f"\nIt prints:\n\n```text\n{self.output.rstrip()}\n```\n" if self.output.strip() else ""
        return f"# {self.title}\n\n{self.introduction}\n\n```python\n{self.code}\n```\n{printed}{shown}"


def scripts(docs: Path) -> list[Path]:
    """The scripts, in the order of their names."""
    return sorted((docs / FOLDER).glob("*.py"))


def run(script: Path) -> Example:
    """Run a script in an empty folder.

    Raises:
        PluginError: it failed; the message holds what it said.
    """
    text = script.read_text("utf-8")
    about = ast.get_docstring(ast.parse(text))
    if about is None:
        raise PluginError(f"{script.name} has no docstring, which is what its page begins with")
    title, _, introduction = about.partition("\n")
    code = text.split('"""\n', 2)[-1].strip()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            env=os.environ | ONE_THREAD,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PluginError(f"{script.name} failed:\n{done.stderr}")
        figures = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.png"))}
    return Example(script.stem, title.strip(), introduction.strip(), code, done.stdout, figures)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run the scripts, two at a time, and add their pages, their figures and a page of all."""
    found = scripts(Path(config.docs_dir))
    with ThreadPoolExecutor(2) as pool:
        examples = list(pool.map(run, found))
    for script in found:
        files.remove(files.src_uris[f"{FOLDER}/{script.name}"])
    for example in examples:
        files.append(File.generated(config, f"{FOLDER}/{example.name}.md", content=example.page()))
        for name, figure in example.figures.items():
            files.append(File.generated(config, f"{FOLDER}/{example.name}-{name}", content=figure))
    files.append(File.generated(config, f"{FOLDER}/index.md", content=index(examples)))
    return files


def index(examples: list[Example]) -> str:
    """The page of all examples: each with its first figure."""
    head = (
        "# Gallery\n\nOne question each, answered by a whole program. All of them ran when these pages were made: what "
        'they print and draw is what brenier printed and drew then.\n\n<div class="gallery" markdown>\n'
    )
    cards = [
        f"\n<div markdown>\n\n**[{example.title}]({example.name}.md)**\n"
        + (
            f"\n[![]({example.name}-{next(iter(example.figures))})]({example.name}.md)\n"
            if example.figures
            else f"\n{' '.join(example.introduction.partition('. ')[0].split()).rstrip('.')}.\n"
        )
        + "\n</div>\n"
        for example in examples
    ]
    return head + "".join(cards) + "\n</div>\n"
