from collections.abc import Callable
from typing import NamedTuple

import pytest

from brenier.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """The command failed with one line on stderr that holds the words."""
        assert (self.code, self.out) == (2, "")
        assert self.err.startswith("brenier: ")
        assert self.err.count("\n") == 1
        for word in words:
            assert word in self.err, self.err


@pytest.fixture
def brenier(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in this process, its output 120 columns wide."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> Result:
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run
