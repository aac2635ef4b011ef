import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

Command = Callable[..., Any]  # to a `Result` of conftest.py
COMMANDS = ("probe", "chain", "plan", "sample", "compare", "show", "laws", "reproduce")


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "brenier", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"brenier {version('brenier')}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_names_every_command(brenier: Command, arguments: tuple[str, ...]) -> None:
    code, out, err = brenier(*arguments)
    assert (code, err) == (0, "")
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(brenier: Command, command: str) -> None:
    code, out, err = brenier(command, "--help")
    assert (code, err) == (0, "")
    assert f"brenier {command}" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("prob",), "probe"),
        (("--nonsense",), "--nonsense"),
        (("probe",), "LAW"),
        (("probe", "normal", "--querys", "3"), "--queries"),
        (("probe", "normal", "--queries", "many"), "--queries"),
        (("probe", "normal", "--method", "guess"), "quadrature"),
        (("probe", "normal", "--dtype", "float16"), "float32"),
        (("probe", "normal", "digits"), "digits"),
        (("show",), "FILE"),
        (("laws", "digits"), "digits"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(brenier: Command, arguments: tuple[str, ...], word: str) -> None:
    brenier(*arguments).refused(word)
