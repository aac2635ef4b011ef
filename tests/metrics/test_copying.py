"""Copies are found, and fresh draws behave as stochastic geometry says."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from brenier.metrics import Nearness, memorisation


def uniform(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_copies_and_near_copies() -> None:
    train = uniform(100, 5, 0)
    found = memorisation(train[10:60].clone(), train)
    shares = found.samples.shares()
    assert [shares[name].value for name in ("closer", "copied", "ratio")] == [1, 1, 0]
    assert found.samples.index.tolist() == list(range(10, 60))
    mixed = torch.cat([uniform(30, 5, 1), train[:2] + 1e-6])
    assert sorted(memorisation(mixed, train).closest(2)) == [30, 31]


def test_by_brute_force() -> None:
    train, x = uniform(40, 3, 0), uniform(30, 3, 1)
    found = memorisation(x, train, max_memory=500 / 2**30)
    between, own = np.sort(cdist(x, train), 1), np.sort(cdist(train, train), 1)[:, 1]
    index = cdist(x, train).argmin(1)
    np.testing.assert_allclose(found.samples.distance, between[:, 0])
    np.testing.assert_allclose(found.samples.second, between[:, 1])
    np.testing.assert_allclose(found.samples.own, own[index])
    assert found.samples.shares()["closer"].value == np.mean(between[:, 0] < own[index])
    assert found.samples.shares()["copied"].value == np.mean(between[:, 0] < between[:, 1] / 3)
    assert found.samples.shares()["ratio"].value == pytest.approx(np.median(between[:, 0] / between[:, 1]))
    # Leave one out: each point as the only sample of a sampler that was trained on the others.
    assert found.method == "leave-one-out"
    for row in range(40):
        rest = torch.cat([train[:row], train[row + 1 :]])
        alone = memorisation(train[row : row + 1], rest)
        assert float(alone.samples.closeness[0]) == pytest.approx(float(found.control.closeness[row]))


@pytest.mark.parametrize(("d", "mutual"), [(1, 2 / 3), (2, 6 * math.pi / (8 * math.pi + 3 * math.sqrt(3)))])
def test_fresh_draws_do_as_the_controls_and_as_poisson_points(d: int, mutual: float) -> None:
    """P(mutual nearest neighbours) is known, and (d1/d2)^d is uniform."""
    x, train = uniform(2000, d, 0), uniform(3000, d, 1)
    found = memorisation(x, train, held_out=uniform(2000, d, 2))
    assert found.method == "held-out"
    apart = memorisation(x, train)
    for shares in (found.samples.shares(), found.control.shares(), apart.control.shares()):
        for name, expected in (("closer", mutual), ("copied", 3.0**-d), ("ratio", 2 ** (-1 / d))):
            assert abs(shares[name].value - expected) < 4 * shares[name].value_se, name


def test_equal_training_points_count_as_one() -> None:
    train = uniform(50, 3, 0)
    twice = torch.cat([train, train])
    x = torch.cat([train[:10], uniform(10, 3, 1)])
    plain, found = memorisation(x, train), memorisation(x, twice)
    assert found.samples.shares() == plain.samples.shares()
    assert found.control.shares() == plain.control.shares()
    assert bool((found.samples.own > 0).all())


def test_held_out_points_that_are_training_points_are_no_control() -> None:
    train, other = uniform(100, 3, 0), uniform(30, 3, 1)
    mixed = torch.cat([train.float().double(), other])
    found = memorisation(other, train, held_out=mixed)
    assert (found.method, len(found.control.distance)) == ("held-out", 30)
    assert memorisation(other, train, held_out=train).method == "leave-one-out"
    assert memorisation(other, train, held_out=torch.cat([train, other[:19]])).method == "leave-one-out"


@pytest.mark.parametrize("kind", [np.asarray, list])
def test_what_is_found_is_of_the_kind_of_the_samples(kind: Callable[[np.ndarray], object]) -> None:
    x, train, held = uniform(20, 2, 0), uniform(30, 2, 1), uniform(25, 2, 2)
    expected = memorisation(x, train, held_out=held)
    found = memorisation(kind(x.numpy()), kind(train.numpy()), held_out=kind(held.numpy()))
    for name in ("samples", "control"):
        for field in dataclasses.fields(Nearness):
            value = getattr(getattr(found, name), field.name)
            assert isinstance(value, np.ndarray)
            np.testing.assert_array_equal(value, getattr(getattr(expected, name), field.name))
        assert getattr(found, name).shares() == getattr(expected, name).shares()
    assert found.closest(5) == expected.closest(5)
    assert isinstance(memorisation(x, train.numpy()).samples.distance, torch.Tensor)


def test_refused() -> None:
    x = uniform(5, 2, 0)
    with pytest.raises(ValueError, match="train holds 2 different points: memorisation needs 3"):
        memorisation(x, x[[0, 1, 1, 0]])
    with pytest.raises(ValueError, match="samples have 2 numbers each, train 3"):
        memorisation(x, uniform(5, 3, 0))
    with pytest.raises(ValueError, match="held-out points have 1 numbers each"):
        memorisation(x, x, held_out=uniform(5, 1, 0))
    with pytest.raises(ValueError, match="0 points in samples are too few"):
        memorisation(x[:0], x)
    with pytest.raises(ValueError, match="not finite"):
        memorisation(x, x * math.nan)
