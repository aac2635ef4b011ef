import json
from collections.abc import Callable

import pytest

from brenier.catalog import BUILT_IN, FILE_KINDS


@pytest.mark.parametrize("width", [80, 120])
def test_every_law_and_every_kind_of_file_is_listed(
    brenier: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, err = brenier("laws")
    assert (code, err) == (0, "")
    first_words = [line.split()[0] for line in out.splitlines() if line.strip()]
    for name in (*BUILT_IN, *FILE_KINDS):
        assert name in first_words
    assert max(len(line) for line in out.splitlines()) <= width


def test_as_json(brenier: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = brenier("laws", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(BUILT_IN) <= set(found["laws"])
    assert set(found["files"]) == set(FILE_KINDS)
