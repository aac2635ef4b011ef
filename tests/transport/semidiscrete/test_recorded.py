"""Recorded pairs: what is kept makes the same pairs again, in other orders, and each datum has its share."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brenier import RecordedPairs, SemiDiscrete
from brenier.transport.semidiscrete.recorded import Recording

rng = np.random.default_rng(0)
PLANE = rng.normal(size=(30, 2)) * 2


@pytest.fixture(scope="module")
def plane() -> SemiDiscrete:
    return SemiDiscrete(PLANE, np.arange(30) / 435).fit(0.03, progress=False)


def epoch(pairs: RecordedPairs, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    found = list(islice(iter(pairs), -(-n // pairs.size)))
    x, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return x[:n], index[:n]


def test_what_is_read_again_is_what_the_map_pairs(plane: SemiDiscrete, tmp_path: Path) -> None:
    made = plane.record(1000, 4, progress=False)
    made.save(tmp_path / "pairs.npz")
    pairs = RecordedPairs(tmp_path / "pairs.npz", batch=100)
    x, index = epoch(pairs, 1000)
    assert torch.equal(index, plane.cells(x))
    own, number = (torch.cat(parts) for parts in zip(*islice(iter(plane.pairs(256, 4)), 4), strict=True))
    rows = x[torch.argsort(x[:, 0])]
    torch.testing.assert_close(rows, own[:1000][torch.argsort(own[:1000, 0])], rtol=0, atol=0)  # each once
    np.testing.assert_array_equal(made.index, number[:1000])
    again = plane.record(1000, 4, progress=False)
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "pairs.npz").read_bytes()


@pytest.mark.parametrize("batch", [100, 256, 3000])
def test_every_epoch_has_all_pairs_in_an_order_of_its_own(plane: SemiDiscrete, batch: int) -> None:
    pairs = RecordedPairs(plane.record(2300, progress=False), batch)
    both = epoch(pairs, 4600)[0]
    one, two = both[:2300], both[2300:]
    assert torch.equal(one.sort(0).values, two.sort(0).values)
    assert not torch.equal(one, two)
    other = epoch(RecordedPairs(pairs.recording, batch, seed=1), 2300)[0]
    assert torch.equal(other.sort(0).values, one.sort(0).values)
    state = RecordedPairs(pairs.recording, batch)
    state.load_state_dict({**pairs.state_dict(), "done": 3})
    assert torch.equal(next(iter(state))[0], pairs.at(3)[0])


@pytest.mark.parametrize("n", [20, 600, 5000])
def test_each_datum_has_its_share_and_what_that_costs_is_told(plane: SemiDiscrete, n: int) -> None:
    equal, plain = (plane.record(n, equal=equal, progress=False) for equal in (True, False))
    share = n * plane.weights.numpy()
    assert (abs(np.bincount(equal.index, minlength=30) - share) < 1).all()
    x = torch.cat([equal.noise(block) for block in range(-(-n // 256))])[:n].double().numpy()
    assert equal.moved == (equal.index != plain.index).mean()
    assert equal.moved > 0
    mean = np.bincount(equal.index, minlength=30) @ PLANE / n

    def gain(index: np.ndarray) -> float:
        return float((x * PLANE[index]).sum(1).mean() - x.mean(0) @ mean)

    assert equal.lost == pytest.approx(1 - gain(equal.index) / gain(plain.index), abs=1e-4)
    assert (plain.equal, plain.moved, plain.lost) == (False, 0, 0)


def test_points_that_share_a_cell_have_their_shares() -> None:
    found = SemiDiscrete([1.0, 1.0, -1.0, 1.0, 5.0], [0.1, 0.3, 0.4, 0.2, 0.0]).fit()
    made = found.record(1000, equal=True, progress=False)
    assert np.bincount(made.index, minlength=5).tolist() == [100, 300, 400, 200, 0]
    x = torch.cat([made.noise(block) for block in range(4)])[:1000, 0].numpy()
    assert x[made.index == 2].max() < x[made.index != 2].min()


def test_a_source_of_ones_own_has_to_be_given_again(tmp_path: Path) -> None:
    def wide(n: int, generator: torch.Generator) -> torch.Tensor:
        return 3 * torch.randn(n, 1, generator=generator)

    def other(n: int, generator: torch.Generator) -> torch.Tensor:
        return 2 * torch.randn(n, 1, generator=generator)

    found = SemiDiscrete([-1.0, 2.0], source=wide).fit(0.05, progress=False)
    found.record(10, progress=False).save(tmp_path / "pairs.npz")
    assert float(next(iter(RecordedPairs(tmp_path / "pairs.npz", source=wide)))[0].std()) > 2
    with pytest.raises(ValueError, match="a source of yours: give that function, too"):
        RecordedPairs(tmp_path / "pairs.npz")
    with pytest.raises(ValueError, match="do not make the same noise here"):
        RecordedPairs(tmp_path / "pairs.npz", source=other)


def test_other_data_are_refused(plane: SemiDiscrete, tmp_path: Path) -> None:
    plane.record(10, progress=False).save(tmp_path / "pairs.npz")
    pairs = RecordedPairs(tmp_path / "pairs.npz")
    pairs.check(PLANE.astype(np.float32))
    with pytest.raises(ValueError, match="30 of 30 data differ"):
        pairs.check(PLANE + 0.1)


def broken(path: Path, **changed: Any) -> Path:
    held = {**np.load(path), **changed}
    np.savez(path, **{name: value for name, value in held.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sketch": None}, "holds no pairs"),
        ({"index": np.zeros((3, 2), int)}, "its index is none"),
        ({"index": np.zeros(0, int)}, "holds no pairs"),
        ({"index": np.zeros(3)}, "holds no pairs"),
        ({"index": np.array([0, 30])}, "numbers of data must be from 0 to 29"),
        ({"seed": np.array("none")}, "its seed is none"),
        ({"source": np.array(["normal"], object)}, "holds no pairs"),
    ],
)
def test_files_that_hold_something_else(plane: SemiDiscrete, tmp_path: Path, changed: Any, said: str) -> None:
    plane.record(10, progress=False).save(tmp_path / "pairs.npz")
    with pytest.raises(ValueError, match=said):
        Recording.load(broken(tmp_path / "pairs.npz", **changed))


def test_files_that_are_none(plane: SemiDiscrete, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist: give what `brenier pairs` saved"):
        Recording.load(tmp_path / "pairs.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "plain.npy", PLANE)
    plane.record(1000, progress=False).save(tmp_path / "whole.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:900])
    for name in ("text.npz", "plain.npy", "half.npz"):
        with pytest.raises(ValueError, match="holds no pairs"):
            Recording.load(tmp_path / name)
    with pytest.raises(ValueError, match="exists"):
        plane.record(5, progress=False).save(tmp_path / "text.npz")


@pytest.mark.parametrize("n", [0, -1])
def test_how_many_must_be_a_number(plane: SemiDiscrete, n: Any) -> None:
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        plane.record(n)
