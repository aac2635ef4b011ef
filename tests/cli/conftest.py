from collections.abc import Callable
from typing import NamedTuple

import pytest

from brenier.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def brenier(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in this process, its output 120 columns wide."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> Result:
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run
