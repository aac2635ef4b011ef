"""Neighbourhoods by brute force, in expectation, and when repeated."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from brenier.metrics import expected_coverage, precision_recall
from brenier.metrics.neighbours import _shares, _Weighted, nearest


def points(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=50)
@given(
    *(st.integers(6, 20), st.integers(6, 20), st.integers(1, 5), st.integers(1, 4), st.integers(0, 999)),
    st.sampled_from([1e-9, 1e-6, 0.25]),
)
def test_shares_by_brute_force(n: int, m: int, k: int, d: int, seed: int, memory: float) -> None:
    x, y = points(n, d, seed), points(m, d, seed + 1) + 100
    x += 100.5
    own_x, own_y = (np.sort(cdist(z, z), 1)[:, k] for z in (x, y))
    between = cdist(x, y)
    by_y, by_x = between <= own_y, between <= own_x[:, None]
    expected = [by_y.any(1).mean(), by_x.any(0).mean(), by_y.sum(1).mean() / k, by_y.any(0).mean()]
    assert _shares(once(x), once(y), k, memory).tolist() == pytest.approx(expected)


def once(x: torch.Tensor) -> _Weighted:
    return _Weighted(x, torch.ones(len(x), dtype=torch.int64))


@settings(max_examples=20)
@given(st.integers(12, 30), st.integers(12, 30), st.integers(1, 5), st.integers(1, 3), st.integers(0, 999))
def test_of_points_that_repeat_others_by_brute_force(n: int, m: int, k: int, d: int, seed: int) -> None:
    x, y = (points(size, d, seed + part).mul(1.5).round() for part, size in enumerate((n, m)))

    def balls(rows: list[tuple[float, ...]]) -> dict[tuple[float, ...], float]:
        """Of each point the distance from its k-th nearest different one, or the farthest."""
        own = {row: sorted(math.dist(row, other) for other in set(rows) if other != row) for row in rows}
        return {row: (distances[:k] or [0.0])[-1] for row, distances in own.items()}

    u, v = (list(map(tuple, z.tolist())) for z in (x + 0.0, y + 0.0))
    by_u, by_v = balls(u), balls(v)
    hits = [sum(math.dist(one, other) <= radius + 1e-9 for other, radius in by_v.items()) for one in u]
    recalled = [any(math.dist(one, other) <= radius + 1e-9 for other, radius in by_u.items()) for one in v]
    covered = [any(math.dist(one, other) <= by_v[other] + 1e-9 for one in u) for other in v]
    density = np.mean(hits) / max(min(k, len(by_v) - 1), 1)
    with warnings.catch_warnings(action="ignore"):
        found = precision_recall(x, y, k=k)
    assert [one.value for one in found] == pytest.approx(
        [np.mean([hit > 0 for hit in hits]), np.mean(recalled), density, np.mean(covered)]
    )


def test_a_set_that_is_repeated_is_what_it_was() -> None:
    x, y = points(40, 2, 0), points(50, 2, 1)
    expected = precision_recall(x, y)
    assert min(expected.precision.value, expected.density.value, expected.coverage.value) > 0.5
    shuffled = torch.cat([y, y, y[torch.randperm(50)]], 0).repeat(2, 1)
    with pytest.warns(UserWarning, match="only 50 of 300 points in reference differ: [a-z ]+$"):
        found = precision_recall(x, shuffled)
    for one, other in zip(found, expected, strict=True):
        assert (one.value, one.value_se) == pytest.approx((other.value, other.value_se))
    with pytest.warns(UserWarning, match="only 40 of 80 points in samples differ"):
        assert precision_recall(x.repeat(2, 1), y).density.value == pytest.approx(expected.density.value)


@pytest.mark.parametrize("step", [0.2, 0.5])
def test_rounding_a_reference_changes_little(step: float) -> None:
    x, y = points(400, 1, 0), points(400, 1, 1)
    with pytest.warns(UserWarning, match="points in reference differ"):
        found = precision_recall(x, (y / step).round() * step)
    assert found.precision.value > 0.95
    assert found.coverage.value > 0.95
    assert found.density.value == pytest.approx(1, abs=0.35)


def test_with_fewer_different_points_than_neighbours_all_are_neighbours() -> None:
    x, y = points(20, 1, 0), torch.tensor([[-1.0], [1.0]]).repeat(10, 1)
    message = "only 2 of 20 points in reference differ: .* with 1 neighbours each instead of 5"
    with pytest.warns(UserWarning, match=message):
        found = precision_recall(x, y)
    inside = (x.abs() <= 3).double().mean()  # of either ball, of radius 2
    assert found.precision.value == pytest.approx(float(inside))
    assert found.coverage.value == 1


def test_copies_are_precise_and_complete() -> None:
    x = points(60, 3, 0)
    found = precision_recall(x, x.flip(0))
    assert (found.precision.value, found.recall.value, found.coverage.value) == (1, 1, 1)
    # Each point lies in its own ball and, closed balls reaching their k-th neighbour, k others in it on average.
    assert found.density.value == pytest.approx((5 + 1) / 5)


def test_far_apart_nothing_is_shared_and_a_collapsed_sampler_recalls_nothing() -> None:
    x, y = points(60, 3, 0), points(60, 3, 1)
    assert [one.value for one in precision_recall(x + 100, y)] == [0, 0, 0, 0]
    with pytest.warns(UserWarning, match="only 1 of 60 points in samples differ"):
        found = precision_recall(torch.zeros(60, 3) + y[0], y)
    assert (found.precision.value, found.recall.value) == (1, pytest.approx(1 / 60))
    assert found.coverage.value < 0.3


def test_between_equal_laws_density_is_1_and_coverage_as_the_formula_says_within_errors_that_are_right() -> None:
    n, k, runs = 60, 3, 40
    found = [precision_recall(points(n, 2, 2 * i), points(n, 2, 2 * i + 1), k=k) for i in range(runs)]
    for name, expected in (("density", 1.0), ("coverage", expected_coverage(n, k))):
        values = np.array([getattr(one, name).value for one in found])
        errors = np.array([getattr(one, name).value_se for one in found])
        assert abs(values.mean() - expected) < 3 * values.std(ddof=1) / math.sqrt(runs)
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(ddof=1), rel=0.4)
    assert expected_coverage(10**6, 5) == pytest.approx(1 - 2**-5, rel=1e-5)


def test_arrays_lists_and_tensors_are_the_same() -> None:
    x, y = points(20, 2, 0), points(25, 2, 1)
    assert precision_recall(x.numpy(), y.numpy()) == precision_recall(x.tolist(), y) == precision_recall(x, y)


def test_nearest_distances_are_those_of_differences() -> None:
    x, y = points(40, 6, 0) + 1e6, points(50, 6, 1) + 1e6
    y[7] = x[3]
    expected = np.sort(cdist(x, y), 1)[:, :3]
    for memory in (1e-9, 0.25):
        distance, index = nearest(x, y, 3, memory)
        np.testing.assert_allclose(distance, expected, rtol=1e-9)
        np.testing.assert_allclose(distance[:, 0], (x - y[index[:, 0]]).norm(dim=1))
        assert (float(distance[3, 0]), int(index[3, 0])) == (0, 7)
    np.testing.assert_allclose(nearest(x, None, 2)[0], np.sort(cdist(x, x), 1)[:, 1:3], rtol=1e-9)


def test_refused() -> None:
    x = points(11, 2, 0)
    with pytest.raises(ValueError, match="11 points in samples are too few: at least 12 are needed to split in halves"):
        precision_recall(x, points(50, 2, 1))
    with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
        precision_recall(x, x, k=0)
    with pytest.raises(ValueError, match="11 nearest neighbours need at least 12 points"):
        nearest(x, None, 11)
