import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brenier import RecordedPairs, SemiDiscrete
from brenier.transport.semidiscrete.recorded import Recording

Command = Callable[..., Any]  # to a `Result` of conftest.py


@pytest.fixture
def plane(tmp_path: Path) -> Path:
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    SemiDiscrete(points).fit(0.05, progress=False).save(tmp_path / "map.nc")
    return tmp_path / "map.nc"


def test_it_saves_the_pairs_of_the_map(brenier: Command, plane: Path) -> None:
    saved = plane.with_name("pairs.npz")
    code, out, err = brenier("pairs", plane, "-n", 2000, "--seed", 5, "-o", saved)
    assert (code, err) == (0, "")
    made, own = Recording.load(saved), SemiDiscrete.load(plane).record(2000, 5, progress=False)
    np.testing.assert_array_equal(made.index, own.index)
    assert (made.seed, made.equal) == (5, False)
    assert "map.nc: 20 points in 2 dimensions, from the normal law, seed 5" in out
    assert "pairs per second" in out
    low, high = np.bincount(own.index).min(), np.bincount(own.index).max()
    assert f"{low} to {high}" in out
    assert "moved" not in out
    RecordedPairs(saved).check(SemiDiscrete.load(plane).points)


def test_as_json(brenier: Command, plane: Path) -> None:
    saved = plane.with_name("pairs.npz")
    code, out, err = brenier("pairs", plane, "-n", 2000, "--equal", "-o", saved, "--json")
    assert (code, err) == (0, "")
    found, own = json.loads(out), Recording.load(saved)
    assert (found["pairs"], found["bytes"], found["least_uses"]) == (2000, saved.stat().st_size, 100)
    assert found["moved"] == own.moved


def test_equal_use_is_told_with_its_price(brenier: Command, plane: Path) -> None:
    saved = plane.with_name("pairs.npz")
    out = brenier("pairs", plane, "-n", 2000, "--equal", "-o", saved).out
    made = Recording.load(saved)
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert rows["uses of a datum"].split()[-1] == "100"
    assert f"{100 * made.moved:.3g}%" in rows["noises moved"]
    assert f"costs {100 * made.lost:.2g}% of what the map gains" in rows["noises moved"]
    assert brenier("pairs", plane, "-n", 9, "-o", saved, "--force", "--quiet") == (0, "", "")


def test_what_is_refused(brenier: Command, plane: Path) -> None:
    saved = plane.with_name("pairs.npz")
    brenier("pairs", plane, "-n", 0, "-o", saved).refused("-n must be a whole number of at least 1, got 0")
    brenier("pairs", plane, "-o", plane.with_name("pairs.nc")).refused("must end in .npz")
    brenier("pairs", plane.with_name("none.nc"), "-o", saved).refused("does not exist")
    brenier("pairs", plane, "-o", saved, "--device", "cuda:7").refused("is not available here")
    assert not saved.exists()
