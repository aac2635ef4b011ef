from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brenier import BlockedEmpirical, BlockedSemiDiscrete, SemiDiscrete
from brenier.core.records import read


def points(n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    y = (rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5 + 0.3).astype(np.float32)
    y[7] = y[3]  # which share a cell
    return y


@pytest.mark.parametrize(
    ("n", "d", "source"), [(150, 30, "normal"), (120, 8, "uniform")]
)  # families of combinations, and none
def test_heights_are_those_of_points_in_memory_for_any_blocks(n: int, d: int, source: Any) -> None:
    y = points(n, d)
    b = np.random.default_rng(1).uniform(0.5, 1.5, n)
    b[11] = 0
    b /= b.sum()
    whole = SemiDiscrete(y, b, source=source).fit(0.05, progress=False)
    x = whole.draw(300, 3)
    finer = SemiDiscrete(y, b, source=source).fit(0.04, start=whole, progress=False)
    for size in (17, n):
        other = BlockedSemiDiscrete(BlockedEmpirical.of(y, size), b, source=source).fit(0.05, progress=False)
        assert whole.result is not None
        assert other.result is not None
        assert other.result.samples == whole.result.samples
        assert (other.size, other.heights[11]) == (n - 2, -torch.inf)  # pyright: ignore[reportOptionalSubscript]
        torch.testing.assert_close(other.heights, whole.heights, rtol=0, atol=2e-5)
    again = BlockedSemiDiscrete(other.law, b, source=source).fit(0.04, start=other, progress=False)
    torch.testing.assert_close(again.heights, finer.heights, rtol=0, atol=2e-5)
    assert torch.equal(other.cells(x), whole.cells(x))
    torch.testing.assert_close(other.map(x), whole.map(x))
    torch.testing.assert_close(other.potential(x), whole.potential(x), rtol=0, atol=2e-5)
    score, place = other.top(x, 5)
    torch.testing.assert_close(score, whole.top(x, 5)[0], rtol=0, atol=2e-5)
    assert torch.equal(place, whole.top(x, 5)[1])
    assert other.marginal_error(4000) == whole.marginal_error(4000)
    for name in ("primal", "primal_se", "dual", "dual_se"):
        assert getattr(other.w2(5000), name) == pytest.approx(getattr(whole.w2(5000), name), abs=1e-4)
    assert other.moments()[1] == pytest.approx(whole.moments()[1])
    assert other.moments()[0] == pytest.approx(whole.moments()[0], abs=1e-6)


def test_in_the_plane_a_fit_reaches_its_tolerance() -> None:
    other = BlockedSemiDiscrete(BlockedEmpirical.of(points(100, 2), 30)).fit(0.04, progress=False)
    error = other.marginal_error(2**17)
    assert error.excess <= 0.04 + 3 * error.excess_se


def test_on_the_line_heights_are_exact() -> None:
    y = points(40, 1) + 5
    whole, other = SemiDiscrete(y).fit(), BlockedSemiDiscrete(BlockedEmpirical.of(y, 9)).fit()
    assert other.result is not None
    assert other.result.stopped == "exact"
    torch.testing.assert_close(other.heights, whole.heights, rtol=0, atol=1e-5)


def test_what_is_saved_finds_its_points_again(tmp_path: Path) -> None:
    y = points(60, 6)
    np.save(tmp_path / "y.npy", y)
    fitted = BlockedSemiDiscrete(str(tmp_path / "y.npy")).fit(0.1, progress=False)
    fitted.save(tmp_path / "map.nc")
    with pytest.raises(ValueError, match="exists"):
        fitted.save(tmp_path / "map.nc")
    assert "points" not in read(tmp_path / "map.nc", "blocked transport")
    for data in (None, y, BlockedEmpirical.of(y, 7)):
        found = BlockedSemiDiscrete.load(tmp_path / "map.nc", data)
        assert torch.equal(found.heights, fitted.heights)  # pyright: ignore[reportArgumentType]
        assert np.array_equal(found.map(y[:5]), fitted.map(y[:5]))
    for data, why in ((y + 1e-3 * y**2, "other points than those of"), (y[:50], "60 points, and 'data' has 50")):
        with pytest.raises(ValueError, match=why):
            BlockedSemiDiscrete.load(tmp_path / "map.nc", data)
    with pytest.raises(ValueError, match="holds a blocked transport, and a transport is wanted"):
        SemiDiscrete.load(tmp_path / "map.nc")
    (tmp_path / "y.npy").unlink()
    with pytest.raises(ValueError, match=r"map\.nc': '.*y\.npy' does not exist"):
        BlockedSemiDiscrete.load(tmp_path / "map.nc")


def test_bad_input_is_refused() -> None:
    y = points(60, 6)
    fitted = BlockedSemiDiscrete(y)
    for ask in (lambda: fitted.map(y), fitted.to_dataset, lambda: fitted.fit(resume=True)):
        with pytest.raises(ValueError, match="not been fitted yet"):
            ask()
    with pytest.raises(ValueError, match="tolerance must be"):
        fitted.fit(2.0)
    with pytest.raises(ValueError, match="weights must be 60 numbers"):
        BlockedSemiDiscrete(y, np.ones(3))
    fitted.fit(0.2, progress=False)
    with pytest.raises(ValueError, match="starts from one to the same points"):
        BlockedSemiDiscrete(y[::-1]).fit(start=fitted)
    with pytest.raises(ValueError, match="6"):
        fitted.map(y[:, :5])
    y[33, 2] = np.nan
    dask = pytest.importorskip("dask.array")
    with pytest.raises(ValueError, match=r"block 3, row 33 \(counted from 0\)"):
        BlockedSemiDiscrete(BlockedEmpirical.of(dask.from_array(y, chunks=(10, 6)), 10))
