from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brenier as library
from brenier.core import records
from brenier.transport import SemiDiscrete

Command = Callable[..., Any]  # to a `Result` of conftest.py
FEW = ("--batches", "4,16", "--samples", 4096)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    points = np.random.default_rng(0).normal(size=(12, 1))
    SemiDiscrete(points).fit().save("map.nc")
    (tmp_path / "labels.txt").write_text("".join(f"{int(x > 0)}\n" for x in points[:, 0]))
    np.save("points.npy", points)
    return tmp_path


def test_it_prints_and_saves_what_the_report_finds(brenier: Command, saved: Path) -> None:
    result = brenier("coupling", "map.nc", *FEW, "--labels", "labels.txt", "-o", "c.nc", "--figure", "c.png")
    assert (result.code, result.err) == (0, "")
    kinds = np.loadtxt("labels.txt", dtype=int)
    found = library.coupling_report(SemiDiscrete.load("map.nc"), kinds, batches=(4, 16), samples=4096, progress=False)
    held = records.read("c.nc", "coupling")
    np.testing.assert_array_equal(held["cost"], found["cost"])
    assert held.attrs["skew_p"] == found.attrs["skew_p"]
    assert "noise depends on the condition" in result.out
    assert f"{float(found['independent_straightness']):.3f}"[:4] in result.out
    assert Path("c.png").stat().st_size > 1000
    assert brenier("show", "c.nc").out == result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.nc",), ["'none.nc' does not exist"]),
        (("map.nc", "--batches", "1"), ["batches must be a whole number of at least 2, got 1"]),
        (("map.nc", "--batches", "2.5"), ["--batches must be a whole number"]),
        (("map.nc", "--labels", "few.txt"), ["labels must be 12, one for each point, got shape (2,)"]),
        (("map.nc", "--labels", "labels.txt", "--conditions", "points.npy"), ["give one of them"]),
        (("map.nc", "--conditions", "gap.npy"), ["NaN"]),
    ],
)
def test_what_is_refused(brenier: Command, saved: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    Path("few.txt").write_text("a\nb\n")
    np.save("gap.npy", np.full(12, np.nan))
    brenier("coupling", *arguments, "-o", "c.nc").refused(*words)
    assert not Path("c.nc").exists()
