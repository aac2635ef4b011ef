"""A map for each class, against maps that are fitted to each class alone."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from brenier import RecordedPairs, SemiDiscrete
from brenier.transport.semidiscrete.classes import ByClass

rng = np.random.default_rng(0)
LINE = rng.normal(size=40)
LABELS = np.where(np.arange(40) < 10, 7, np.where(np.arange(40) < 39, -2, 3))  # of 10, 29 and 1 points
B = rng.dirichlet(np.ones(40))


@pytest.fixture(scope="module")
def line() -> ByClass:
    found = SemiDiscrete(LINE, B, labels=LABELS).fit(progress=False)
    assert isinstance(found, ByClass)
    return found


@pytest.fixture(scope="module")
def plane() -> SemiDiscrete:
    return SemiDiscrete(rng.normal(size=(24, 2)), labels=np.arange(24) % 2).fit(0.03, progress=False)


def test_each_class_has_its_own_map_and_its_own_mass(line: ByClass) -> None:
    assert line.classes.tolist() == [-2, 3, 7]
    np.testing.assert_allclose(line.shares, [B[label == LABELS].sum() for label in (-2, 3, 7)])
    x = line.draw(500)
    for label in (-2, 3, 7):
        own = np.flatnonzero(label == LABELS)
        alone = SemiDiscrete(LINE[own], B[own] / B[own].sum()).fit()
        np.testing.assert_array_equal(line.cells(x, label), own[alone.cells(x).numpy()])
        np.testing.assert_array_equal(line.map(x, label), alone.map(x))
        np.testing.assert_allclose(line.potential(x, label), alone.potential(x))
    assert line.size == 40
    assert line.result is not None
    assert line.result.stopped == "exact"


def test_a_class_of_one_point_has_a_constant_map(line: ByClass) -> None:
    assert (line.cells(line.draw(100), 3) == 39).all()
    scores, places = line.top(line.draw(5), 3, 3)
    assert (places == 39).all()
    assert (scores[:, 1:] == -torch.inf).all()
    assert not line.singular(line.draw(5), 0.5, 3).any()


def test_conditions_may_differ_from_x_to_x(line: ByClass) -> None:
    x, condition = line.draw(300), torch.tensor([7, -2, 3]).repeat(100)
    found = line.cells(x, condition)
    for label in (7, -2, 3):
        assert torch.equal(found[condition == label], line.cells(x[condition == label], label))
    np.testing.assert_array_equal(found, line.cells(x.numpy(), condition.numpy()))


def test_pairs_come_with_labels_and_noise_that_does_not_know_them(line: ByClass) -> None:
    [(x, index, label)] = islice(iter(line.pairs(20_000, 1)), 1)
    np.testing.assert_array_equal(label, LABELS[index])
    assert stats.chisquare(np.bincount(index, minlength=40), 20_000 * B).pvalue > 1e-3
    assert torch.equal(line.cells(x, label), index)
    for one in (-2, 7):
        assert stats.kstest(x[label == one, 0].numpy(), "norm").pvalue > 1e-3
    noise, number, kind = next(line.pairs(20, 1).arrays())
    assert all(isinstance(part, np.ndarray) for part in (noise, number, kind))


def test_recorded_pairs_keep_the_labels_and_give_each_datum_its_share(plane: SemiDiscrete, tmp_path: Path) -> None:
    made = plane.record(1000, equal=True, progress=False)
    made.save(tmp_path / "pairs.npz")
    pairs = RecordedPairs(tmp_path / "pairs.npz", batch=1000)
    x, index, label = next(iter(pairs))
    assert set(np.bincount(index, minlength=24)) <= {41, 42}
    np.testing.assert_array_equal(label, index % 2)
    own = plane.cells(x, label)
    assert float((own != index).double().mean()) == pytest.approx(made.moved)
    assert 0 < made.moved < 0.2


def test_what_is_measured_is_of_all_classes(plane: SemiDiscrete) -> None:
    found, parts = plane.marginal_error(40_000), [part.marginal_error(20_000) for part in plane.parts]
    assert found.excess == pytest.approx(np.mean([part.excess for part in parts]), abs=0.01)
    assert found.floor == pytest.approx(np.mean([part.floor for part in parts]), rel=0.05)
    cost, costs = plane.w2(), [part.w2() for part in plane.parts]
    assert cost.primal**2 == pytest.approx(np.mean([part.primal**2 for part in costs]), abs=8 * cost.primal_se)
    one = plane.sample(4000, 3, condition=1)
    assert {tuple(y) for y in one.tolist()} <= {tuple(y) for y in plane.points[1::2].tolist()}
    both = plane.sample(4000, 3)
    assert len(np.unique(both, axis=0)) == 24


@pytest.mark.parametrize("labels", [np.arange(24) % 2, np.array(["no", "yes"])[np.arange(24) % 2]])
def test_a_file_holds_it_whole(plane: SemiDiscrete, tmp_path: Path, labels: Any) -> None:
    made = SemiDiscrete(plane.points, labels=labels).fit(0.03, progress=False)
    made.save(tmp_path / "map.nc")
    found = SemiDiscrete.load(tmp_path / "map.nc")
    assert isinstance(found, ByClass)
    assert found.classes.tolist() == made.classes.tolist()
    x = made.draw(100)
    for label in made.classes.tolist():
        assert torch.equal(found.cells(x, label), plane.cells(x, made.classes.tolist().index(label)))
    assert found.result is not None
    assert made.result is not None
    assert (found.result.stopped, found.result.samples) == (made.result.stopped, made.result.samples)
    assert [part.result.averaged for part in found.parts] == [part.result.averaged for part in made.parts]
    assert torch.equal(next(iter(found.pairs(50)))[2], next(iter(plane.pairs(50)))[2])  # words by their number


def test_a_fit_goes_on_with_the_classes_that_are_not_finished(plane: SemiDiscrete) -> None:
    half = SemiDiscrete(plane.points, labels=np.arange(24) % 2)
    half.parts[0].fit(0.03, seed=99, progress=False)
    half._collect(0.0, 0.03, 0)
    assert half.result.stopped == "interrupted"
    again = SemiDiscrete.from_dataset(half.to_dataset())
    other = SemiDiscrete(plane.points, labels=np.arange(24) % 2).fit(0.03, start=again, resume=True, progress=False)
    assert torch.equal(other.parts[0].heights, half.parts[0].heights)
    assert other.result.stopped == "tolerance"
    assert other.marginal_error(40_000).excess < 0.05
    with pytest.raises(ValueError, match="has other classes, or none"):
        half.fit(start=SemiDiscrete(LINE).fit())


def bad(labels: Any) -> None:
    SemiDiscrete(LINE, labels=labels)


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        (LABELS[1:], ValueError, r"labels must be 40, one for each point, got shape \(39,\)"),
        (np.where(LABELS == 3, np.nan, LABELS), ValueError, "labels: 1 are NaN, first in row 39"),
        (LINE, TypeError, "labels must be whole numbers or words, got float64"),
        (LABELS + 0j, TypeError, "labels must be whole numbers or words"),
    ],
)
def test_labels_that_are_refused(labels: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        bad(labels)


def test_a_class_without_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="class 3 has no weight"):
        SemiDiscrete(LINE, np.where(LABELS == 3, 0.0, 1 / 39), labels=LABELS)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (None, "say condition=, .* the classes of this map are '-2', '3' or '7'|say condition="),
        (5, "there is no class 5: the classes of this map are"),
        ([7, 7], r"one for each of 3 x, got shape \(2,\)"),
        ("seven", "condition must be of the labels"),
        (0.5, "condition must be of the labels"),
    ],
)
def test_conditions_that_are_refused(line: ByClass, condition: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        line.map(line.draw(3), condition)


def test_a_map_without_labels_takes_no_condition() -> None:
    found = SemiDiscrete(LINE).fit()
    with pytest.raises(ValueError, match="was fitted without labels or conditions: leave condition out"):
        found.map(found.draw(3), 1)


def test_families_are_of_maps_without_labels(plane: SemiDiscrete) -> None:
    with pytest.raises(ValueError, match="families are made of maps without labels"):
        plane.pairs(64, family=32)
