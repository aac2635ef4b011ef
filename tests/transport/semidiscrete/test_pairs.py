"""Streams of pairs: their laws, that processes share them, and that they go on where they were left."""

import math
import pickle
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader

import brenier
from brenier.transport import SemiDiscrete

rng = np.random.default_rng(0)
LINE = np.array([-2.0, -0.5, 0.3, 1.0, 4.0])
B = np.array([0.1, 0.3, 0.2, 0.25, 0.15])


@pytest.fixture(scope="module")
def line() -> SemiDiscrete:
    return SemiDiscrete(LINE, B).fit()


@pytest.fixture(scope="module")
def wide() -> SemiDiscrete:
    """Twenty points in 30 dimensions: enough for families."""
    return SemiDiscrete(rng.normal(size=(20, 30)) * 2).fit(0.03, progress=False)


def first(stream: Any, n: int) -> list[tuple[Any, ...]]:
    return list(islice(iter(stream), n))


def test_pairs_on_the_line_are_those_of_the_quantiles_and_both_laws_are_kept(line: SemiDiscrete) -> None:
    [(x, index)] = first(line.pairs(20_000, 3), 1)
    assert (x.shape, index.shape, index.dtype) == ((20_000, 1), (20_000,), torch.int64)
    assert stats.kstest(x[:, 0].numpy(), "norm").pvalue > 1e-3
    borders = stats.norm.ppf(np.cumsum(B)[:-1])
    np.testing.assert_array_equal(index.numpy(), np.searchsorted(borders, x[:, 0].numpy()))
    assert stats.chisquare(np.bincount(index.numpy(), minlength=5), 20_000 * B).pvalue > 1e-3


def test_points_that_share_a_cell_are_used_by_their_weights() -> None:
    found = SemiDiscrete([1.0, 1.0, -1.0, 1.0, 5.0], [0.1, 0.3, 0.4, 0.2, 0.0]).fit()
    [(x, index)] = first(found.pairs(20_000), 1)
    counts = np.bincount(index.numpy(), minlength=5)
    assert counts[4] == 0
    assert stats.chisquare(counts[:4], [2000, 6000, 8000, 4000]).pvalue > 1e-3
    np.testing.assert_array_equal(index.numpy() == 2, found.cells(x).numpy() == 2)


def test_batches_are_new_and_come_again_by_their_seed(line: SemiDiscrete) -> None:
    one, two = first(line.pairs(8, 1), 2)
    assert not torch.equal(one[0], two[0])
    again = first(brenier.Pairs(line, 8, 1), 2)
    assert torch.equal(two[0], again[1][0])
    assert not torch.equal(one[0], first(line.pairs(8, 2), 1)[0][0])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loader_gives_the_same_batches_in_the_same_order_for_any_number_of_workers(
    line: SemiDiscrete, workers: int
) -> None:
    own = first(line.pairs(4, 7), 5)
    found = first(DataLoader(line.pairs(4, 7), batch_size=None, num_workers=workers), 5)
    for (x, index), (noise, number) in zip(own, found, strict=True):
        assert torch.equal(x, noise)
        assert torch.equal(index, number)


def test_ranks_share_the_stream(line: SemiDiscrete) -> None:
    whole = first(line.pairs(4, 7), 6)
    parts = [first(line.pairs(4, 7, rank=rank, world=3), 2) for rank in range(3)]
    for place, (x, _) in enumerate(whole):
        assert torch.equal(x, parts[place % 3][place // 3][0])


def test_it_goes_on_where_its_state_was_taken(line: SemiDiscrete) -> None:
    whole = first(line.pairs(4, 7), 5)
    begun = line.pairs(4, 7)
    first(begun, 3)
    assert torch.equal(first(begun, 1)[0][0], whole[3][0])  # a second loop, too
    other = line.pairs(4, 7)
    other.load_state_dict({**begun.state_dict(), "done": 3})
    loader = DataLoader(other, batch_size=None, num_workers=2)
    for (x, _), (y, _) in zip(whole[3:], first(loader, 2), strict=True):
        assert torch.equal(x, y)
    assert begun.state_dict()["done"] == 4


@pytest.mark.parametrize("change", [{"batch": 5}, {"seed": 8}, {"world": 2}, {"family": 32}])
def test_a_state_of_another_stream_is_refused(line: SemiDiscrete, change: dict[str, int]) -> None:
    pairs = line.pairs(4, 7)
    with pytest.raises(ValueError, match=f"the state is of pairs with {next(iter(change))}"):
        pairs.load_state_dict({**pairs.state_dict(), **change})


def test_arrays_are_the_same_batches(line: SemiDiscrete) -> None:
    (x, index), (noise, number) = first(line.pairs(4), 1)[0], next(line.pairs(4).arrays())
    assert isinstance(noise, np.ndarray)
    np.testing.assert_array_equal(noise, x)
    np.testing.assert_array_equal(number, index)


def test_pairs_survive_pickling_as_spawned_workers_need(line: SemiDiscrete) -> None:
    again = pickle.loads(pickle.dumps(line.pairs(4, 7)))  # noqa: S301 - our own bytes
    assert torch.equal(first(again, 1)[0][0], first(line.pairs(4, 7), 1)[0][0])


def test_they_know_their_data(line: SemiDiscrete) -> None:
    line.pairs(4).check(LINE.astype(np.float32))
    with pytest.raises(ValueError, match=r"2 of 5 data differ .* give the data that the map was fitted to"):
        line.pairs(4).check(LINE[[0, 2, 1, 3, 4]])


# Families


def test_a_family_has_the_laws_of_independent_pairs_and_the_map_of_each(wide: SemiDiscrete) -> None:
    stream = first(wide.pairs(320, 1, family=64), 100)
    x, index = (torch.cat(parts) for parts in zip(*stream, strict=True))
    assert torch.equal(index, wide.cells(x))
    one = torch.stack([noise[5] for noise, _ in stream])  # one member of a family each: independent
    assert stats.kstest(one.flatten().numpy(), "norm").pvalue > 1e-3
    # The mean of a coordinate over a batch of families is 0: for each draw there is its negative.
    assert abs(torch.stack([noise.mean(0) for noise, _ in stream])).max() < 1e-5
    counts, masses = np.bincount(index.numpy(), minlength=20), np.full(20, 0.05)
    assert (abs(counts / len(index) - masses) < 0.02).all()


def test_a_family_lies_in_few_dimensions(wide: SemiDiscrete) -> None:
    [(x, _)] = first(wide.pairs(64, family=64), 1)
    assert int(torch.linalg.matrix_rank(x)) == 16


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be"),
        ({"family": 48}, "family must be a multiple of 32"),
        ({"family": 96}, "family must be a multiple of 32 that divides the batch of 64"),
        ({"rank": 1}, "rank must be 0 where world is 1"),
        ({"rank": 2, "world": 2}, "rank must be a whole number from 0 to 1"),
        ({"world": 0}, "world must be"),
    ],
)
def test_what_is_refused(wide: SemiDiscrete, options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wide.pairs(**{"batch": 64, **options})


def test_families_need_many_dimensions_and_the_normal_law(line: SemiDiscrete) -> None:
    with pytest.raises(ValueError, match="in at least 24 dimensions, and these are of the normal law in 1"):
        line.pairs(64, family=32)


def test_a_map_that_is_not_fitted_has_no_pairs() -> None:
    with pytest.raises(ValueError, match="not been fitted"):
        SemiDiscrete(LINE).pairs(4)


def test_a_map_of_one_point_pairs_it_with_everything() -> None:
    [(x, index)] = first(SemiDiscrete(np.ones((1, 3))).fit().pairs(100), 1)
    assert (index == 0).all()
    assert abs(float(x.mean())) < 5 / math.sqrt(300)
