import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from brenier import __main__, cli
from brenier.core.writing import atomic_paths

Command = Callable[..., Any]  # to a `Result` of conftest.py
COMMANDS = ("probe", "chain", "plan", "sample", "compare", "audit", "show", "laws", "reproduce")


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "brenier", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"brenier {version('brenier')}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command(brenier: Command, arguments: tuple[str, ...]) -> None:
    code, out, err = brenier(*arguments)
    assert (code, err) == (0, "")
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_in_which_flags_have_no_type(brenier: Command, command: str) -> None:
    code, out, err = brenier(command, "--help")
    assert (code, err) == (0, "")
    assert f"brenier {command}" in out
    assert "bool" not in out
    assert brenier(command, "-h") == (code, out, err)


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


# Ctrl-C

AT_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background
MODULE = sys.argv.pop(1)
from brenier.__main__ import run
sys.exit(run())
"""


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_at_an_import_is_status_130_and_no_traceback(module: str) -> None:
    arguments = [sys.executable, "-c", AT_IMPORT, module, "probe", "normal", "--snr", "1"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_leaving_at_an_import_leaves_no_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    with pytest.raises(ValueError, match="cannot be written"), atomic_paths(tmp_path / "a.nc", tmp_path / "b.nc"):
        assert len(list(tmp_path.iterdir())) == 2
        __main__.leave()
        assert (statuses, list(tmp_path.iterdir())) == ([130], [])
    with atomic_paths(tmp_path / "a.nc"):
        pass
    __main__.leave()
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


WRITING = """
import os, signal, sys
from brenier import __main__, cli
from brenier.core.writing import atomic_path
def main():
    with atomic_path(sys.argv[1]) as draft:
        draft.write_text("half")
        if sys.argv[2] == "forked" and os.fork() != 0:
            os.wait()
            print(draft.exists(), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
cli.main = main
__main__.run()
"""


@pytest.mark.parametrize(("how", "said"), [("plain", ""), ("forked", "True\n")])
def test_sigterm_ends_a_command_as_ever_and_leaves_no_drafts(tmp_path: Path, how: str, said: str) -> None:
    arguments = [sys.executable, "-c", WRITING, str(tmp_path / "a.nc"), how]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, said, "")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler), sys.unraisablehook
    yield
    signal.signal(signal.SIGINT, before[0])
    sys.unraisablehook = before[1]


@pytest.mark.parametrize("how", ["raised", "as another error", "swallowed"])
def test_ctrl_c_is_status_130_whatever_comes_of_it(monkeypatch: pytest.MonkeyPatch, handlers: None, how: str) -> None:
    def work() -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if how == "as another error":
                raise RuntimeError("half an import") from None
            if how == "raised":
                raise
        return 0

    monkeypatch.setattr(cli, "main", work)
    assert __main__.run() == 130
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_other_errors_and_ignored_interrupts_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, handlers: None) -> None:
    def broken() -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "main", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        __main__.run()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(cli, "main", lambda: signal.raise_signal(signal.SIGINT) or 0)
    assert __main__.run() == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize(("said", "so"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, handlers: None, said: str | None, so: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", said)
    monkeypatch.setattr(cli, "main", lambda: 0)
    assert __main__.run() == 0
    assert os.environ["OMP_WAIT_POLICY"] == so
