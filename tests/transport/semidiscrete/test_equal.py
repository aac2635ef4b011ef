"""Equal use against the exact plan between the noises and the data."""

import numpy as np
import ot
import pytest

from brenier.transport.semidiscrete.equal import apportioned, equal_use


def listed(scores: np.ndarray, k: int):
    """The k largest scores of each row, as falls, with their cells; and what searches for more."""
    order = np.argsort(-scores, 1)
    falls = scores.max(1, keepdims=True) - np.take_along_axis(scores, order, 1)

    def search(rows: np.ndarray, cells: np.ndarray):
        near = np.argsort(-scores[np.ix_(rows, cells)], 1)[:, np.minimum(np.arange(k), len(cells) - 1)]
        at = cells[near]
        return scores[rows].max(1, keepdims=True) - np.take_along_axis(scores[rows], at, 1), at

    return falls[:, :k], order[:, :k], search


@pytest.mark.parametrize("k", [1, 3, 12])
def test_each_cell_is_used_as_often_as_it_should_be_at_nearly_the_least_price(k: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(240, 12))
    capacity = apportioned(rng.dirichlet(np.ones(12)), 240, rng)
    cell, fall = equal_use(*listed(scores, k)[:2], capacity, listed(scores, k)[2])
    np.testing.assert_array_equal(np.bincount(cell, minlength=12), capacity)
    np.testing.assert_allclose(fall, scores.max(1) - scores[np.arange(240), cell], atol=1e-12)
    plan = ot.emd(np.full(240, 1 / 240), capacity / 240, scores.max(1, keepdims=True) - scores)
    least = 240 * (plan * (scores.max(1, keepdims=True) - scores)).sum()
    assert least - 1e-9 <= fall.sum() < 1.35 * least


def test_no_more_move_than_have_to() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(500, 20))
    before = np.bincount(scores.argmax(1), minlength=20)
    cell, fall = equal_use(*listed(scores, 20)[:2], np.full(20, 25), listed(scores, 20)[2])
    moved = cell != scores.argmax(1)
    assert moved.sum() == np.abs(before - 25).sum() / 2
    assert (fall[~moved] == 0).all()


def test_uses_are_apportioned_by_largest_remainders() -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(apportioned(np.array([0.5, 0.3, 0.2, 0.0]), 11, rng), [6, 3, 2, 0])  # 5.5, 3.3, 2.2
    equal = apportioned(np.full(7, 1 / 7), 24, rng)
    assert equal.sum() == 24
    assert set(equal.tolist()) == {3, 4}
    few = apportioned(np.full(9, 1 / 9), 4, rng)
    assert sorted(few.tolist()) == [0] * 5 + [1] * 4
