"""What the README and the documentation tell people to type exists: every command, option and name."""

import ast
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import brenier
from brenier.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*.py"))
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(kind: str) -> list[tuple[str, str]]:
    return [
        (page.name, body) for page in PAGES for found, body in BLOCK.findall(page.read_text("utf-8")) if found == kind
    ]


def commands() -> list[str]:
    lines = [line for _, body in examples("console") for line in body.replace("\\\n", " ").splitlines()]
    return sorted({line.removeprefix("$ ").split("  #")[0].strip() for line in lines if line.startswith("$ brenier ")})


def test_there_are_examples():
    assert len(commands()) > 40
    assert len(examples("python")) > 15


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_docs_is_one_that_the_program_takes(line: str):
    _, name, *rest = shlex.split(line)
    group = typer.main.get_group(app)
    with group.make_context("brenier", [name, *rest]) as context:
        command = group.get_command(context, name)
        assert command is not None, name
        command.make_context(name, rest, parent=context)  # parses the options; nothing runs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_two_commands_of_a_page_write_the_same_file(page: Path):
    """What exists is kept unless `--force`: the second would be refused to whoever types one after the other."""
    bodies = "".join(body for kind, body in BLOCK.findall(page.read_text("utf-8")) if kind == "console")
    written = [
        name
        for line in bodies.replace("\\\n", " ").splitlines()
        if line.startswith("$ brenier ") and not {"--force", "--resume"} & set(line.split())
        for name in re.findall(r" (?:-o|--figure|--map|--samples|--table) (\S+)", line)
    ]
    assert len(written) == len(set(written)), sorted(written)


@pytest.mark.parametrize(
    ("page", "body"), [*examples("python"), *((script.name, script.read_text("utf-8")) for script in SCRIPTS)]
)
def test_an_example_in_python_imports_and_calls_what_there_is(page: str, body: str):
    modules = {"brenier": importlib.import_module("brenier")}
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "brenier":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                modules[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{page}: {ast.unparse(node)}"


def test_every_page_is_reached_from_the_first() -> None:
    link = re.compile(r"\]\(([^)#\s:]+\.md)(?:#[^)]*)?\)")
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")}
    seen: set[Path] = set()
    waiting = [(ROOT / "docs" / "index.md").resolve()]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        found = {(page.parent / target).resolve() for target in link.findall(page.read_text("utf-8"))}
        waiting += [one for one in found & pages if one not in seen]
    assert sorted(page.name for page in pages - seen) == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda page: page.name)
def test_a_page_of_the_reference_opens_with_a_sentence_and_an_example(page: Path) -> None:
    text = page.read_text("utf-8")
    title, first, *_ = text.split("\n\n")
    assert title.startswith("# ")
    assert re.match(r"[`A-Z]", first)
    assert text.index("\n```") < text.find("\n::: ") % len(text)  # -1: none, so anywhere


def load_hook(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses ask for it
    spec.loader.exec_module(module)
    return module


PAGE = """# A page

```console
$ echo "m* = 0.25, at SNR 2"
```

> m* = 0.25,
> at SNR 2

<!-- not run -->

```console
$ false
```

```python
print("a number: 7 of 8")
```

```text
a number: ... of 8
```

```python
number = 7
print(number)
```

<!-- status 1 -->

```console
$ echo "not so   good"; false
```

```text
...
```

```python
print(number + 1)
```
"""


def test_a_tutorial_that_quotes_what_is_not_printed_is_stale(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    hook = load_hook("tutorials")
    path = tmp_path / "page.md"
    path.write_text(PAGE, "utf-8")
    found = hook.run(path)
    assert " ".join(found.printed.split()) == "m* = 0.25, at SNR 2 a number: 7 of 8 7 not so good 8"
    page = path.read_text("utf-8")
    assert found.text == page.replace("```text\n...\n", "```text\nnot so   good\n")
    assert hook.stale(page, "m* = 0.26, at SNR 2 a number: 9 of 8") == ["m* = 0.25,\nat SNR 2"]
    path.write_text(page.replace("0.25,\n> at", "0.26,\n> at"), "utf-8")
    with pytest.raises(hook.PluginError, match=r"quotes\n\nm\* = 0\.26"):
        hook.run(path)
    path.write_text("```console\n$ false\n```\n", "utf-8")
    with pytest.raises(hook.PluginError, match="failed"):
        hook.run(path)
    path.write_text("```python\nprint(1)\nprint(2 / 0)\n```\n", "utf-8")
    with pytest.raises(hook.PluginError, match=r"page\.md: (?s:.*)failed:(?s:.*)ZeroDivisionError"):
        hook.run(path)
    path.write_text("```console\n$ true\n```\n\n```text\n...\n```\n", "utf-8")
    with pytest.raises(hook.PluginError, match="nothing was"):
        hook.run(path)
    path.write_text("```console\n$ mkdir out\n$ printf drawn > out/figure.png\n```\n", "utf-8")
    assert hook.run(path).figures == {"figure.png": b"drawn"}


def test_links_are_looked_at_and_let_be_without_a_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = load_hook("links")
    monkeypatch.setattr(hook, "links", lambda: ["https://a.org/x", "https://b.org/y"])

    def offline(request: Any, timeout: float) -> None:
        raise hook.urllib.error.URLError("no name")

    monkeypatch.setattr(hook.urllib.request, "urlopen", offline)
    assert hook.main() == 0
    assert capsys.readouterr().out == "no network: 2 links were not looked at\n"

    def partly(request: Any, timeout: float) -> Any:
        code = 404 if request.full_url == "https://a.org/x" else 403
        raise hook.urllib.error.HTTPError(request.full_url, code, "gone", None, None)

    monkeypatch.setattr(hook.urllib.request, "urlopen", partly)
    assert hook.main() == 1
    assert capsys.readouterr().out == "https://a.org/x: 404 gone\n"


def test_messages_that_the_docs_explain_are_those_of_the_program():
    said = re.sub(r'"\s*f?"', "", "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py")))
    messages = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "errors.md").read_text("utf-8"), re.MULTILINE)
    assert len(messages) > 10
    for message in messages:
        pattern = ".{1,80}".join(re.escape(part.strip()) for part in message.split("..."))
        assert re.search(pattern, said), message


def test_the_loops_for_flow_matching_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, as they stand, on a rough map of the digits."""
    data = brenier.load_target("digits").data
    transport = brenier.SemiDiscrete(data).fit(0.2, progress=False)
    monkeypatch.chdir(tmp_path)
    transport.save("map.nc")
    transport.record(1000, progress=False).save("pairs.npz")
    space: dict[str, Any] = {}
    for body in (body for page, body in examples("python") if page == "pairs.md"):
        exec(body, space)
    assert space["loss"].isfinite()
    assert abs(space["weights"]).max() > 0
    assert space["again"].done == 1000
    assert len(space["label"]) == 128
    assert space["report"].attrs["skew_p"] < 0.01
