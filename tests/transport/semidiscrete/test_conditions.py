"""Maps with real conditions, against plain transport, a map for each class, and assignment by linear programming."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import brenier
from brenier import RecordedPairs, SemiDiscrete
from brenier.core.random import generator_for
from brenier.transport import skew_test
from brenier.transport.semidiscrete.conditions import ByCondition
from brenier.transport.semidiscrete.portrait import portrait
from brenier.transport.semidiscrete.skew import depends

rng = np.random.default_rng(3)
POINTS = rng.normal(size=(60, 2)) * [1.5, 0.5]
ALONG = POINTS[:, 0] + 100  # far from zero: only differences matter
KIND = (np.arange(60) % 2).astype(float)


@pytest.fixture(scope="module")
def along() -> ByCondition:
    found = SemiDiscrete(POINTS, conditions=ALONG, kappa=2.0).fit(0.03, progress=False)
    assert isinstance(found, ByCondition)
    return found


def drawn(transport: SemiDiscrete, n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return transport.draw_pairs(n, generator_for(seed))


def test_a_small_kappa_is_plain_transport_and_skewed() -> None:
    small = SemiDiscrete(POINTS, conditions=ALONG, kappa=1e-3).fit(0.01, progress=False)
    plain = SemiDiscrete(POINTS).fit(0.01, progress=False)
    x, index = drawn(small, 20_000)
    assert float((plain.cells(x) == index).double().mean()) > 0.96
    assert skew_test(x[:500], ALONG[index[:500]]).p == 1 / 200


def test_a_large_kappa_is_a_map_for_each_value_where_values_repeat() -> None:
    large = SemiDiscrete(POINTS, conditions=KIND, kappa=50.0).fit(0.01, progress=False)
    classes = SemiDiscrete(POINTS, labels=KIND.astype(int)).fit(0.01, progress=False)
    x = large.draw(20_000)
    for kind in (0, 1):
        found = large.cells(x, float(kind))
        assert (found % 2 == kind).all()
        assert float((classes.cells(x, kind) == found).double().mean()) > 0.96


def test_it_pays_what_an_assignment_of_draws_pays(along: ByCondition) -> None:
    """Among 1,920 noises with conditions of the data, 32 to a datum; a plan of so many is nearly the map."""
    x, c = torch.randn(1920, 2, generator=generator_for(5)).double().numpy(), np.repeat(ALONG, 32)
    source = np.column_stack([x, 2 * c])
    target = np.column_stack([POINTS, 2 * ALONG])[np.repeat(np.arange(60), 32)]
    cost = cdist(source, target, "sqeuclidean")
    plan = cost[linear_sum_assignment(cost)].mean()
    y, told = (part.double().numpy() for part in (along.map(torch.from_numpy(x), c), torch.from_numpy(ALONG)))
    paid = ((x - y) ** 2).sum(1) + 4 * (c - told[along.cells(torch.from_numpy(x), c)]) ** 2
    assert paid.mean() == pytest.approx(plan, rel=0.05)
    assert along.w2(2**14).primal ** 2 == pytest.approx(plan, rel=0.1)


def test_pairs_come_with_the_conditions_of_their_data(along: ByCondition) -> None:
    [(x, index, told)] = islice(iter(along.pairs(3000, 2)), 1)
    np.testing.assert_array_equal(told.numpy()[:, 0], ALONG[index])
    counts = np.bincount(index, minlength=60) / 3000
    assert np.abs(counts - 1 / 60).sum() / 2 < 0.03 + 0.5 * np.sqrt(60 / 3000)
    assert abs(float(x.mean())) < 0.1


def test_kappa_is_chosen_so_that_pairs_are_not_skewed_and_the_choice_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("conditions", "portrait"):
        monkeypatch.setattr(f"brenier.transport.semidiscrete.{module}.TESTED", 800)  # for speed
    points = rng.normal(size=(40, 1)) @ [[1.0, 0.3]] + 0.1 * rng.normal(size=(40, 2))
    chosen = SemiDiscrete(points, conditions=points[:, 0]).fit(0.05, progress=False)
    assert isinstance(chosen, ByCondition)
    assert chosen.skew(11).p > 0.01
    low = SemiDiscrete(points, conditions=points[:, 0], kappa=chosen.kappa / 8).fit(0.05, progress=False)
    assert isinstance(low, ByCondition)
    assert low.skew(11).p <= 0.01
    chosen.save(tmp_path / "map.nc")
    text = brenier.summary(portrait(chosen, samples=512, seed=1))
    assert f"kappa {chosen.kappa:.3g}"[:9] in text
    assert "the least whose pairs are not seen to be skewed" in text
    assert "no dependence on the condition is seen" in text
    found = SemiDiscrete.load(tmp_path / "map.nc")
    assert isinstance(found, ByCondition)
    x = chosen.draw(200)
    assert torch.equal(found.cells(x, 0.1), chosen.cells(x, 0.1))
    assert (found.kappa, found.chosen) == (chosen.kappa, True)


@pytest.mark.filterwarnings("error")
def test_a_kappa_that_fails_on_all_points_is_kept_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kappa is chosen on some of the points; what they did not show, the map of all may."""
    monkeypatch.setattr("brenier.transport.semidiscrete.conditions.TESTED", 400)  # for speed
    monkeypatch.setattr("brenier.transport.semidiscrete.conditions.RAISED", 1)
    points = np.random.default_rng(4).normal(size=(40, 2))
    guessed = 1e-2
    monkeypatch.setattr(ByCondition, "_guess", lambda *_: guessed)
    with pytest.warns(UserWarning, match=r"depends on the condition of its datum at kappa 0\.0141, .* larger kappa$"):
        found = SemiDiscrete(points, conditions=points[:, 0]).fit(0.05, progress=False)
    assert isinstance(found, ByCondition)
    assert found.skew().p == 1 / 200
    guessed = 100.0
    SemiDiscrete(points, conditions=points[:, 0]).fit(0.1, progress=False)


def test_dependence_is_seen_as_often_as_it_should_be() -> None:
    """Of independent pairs in 2 of 100 at most, as p is 1/100 and a part is tested, too; the bound is three errors."""
    own = np.random.default_rng(0)
    seen = [depends(own.normal(size=(64, 2)), own.normal(size=(64, 1)), exchanges=99, seed=k) for k in range(200)]
    assert np.mean(seen) < 0.02 + 3 * np.sqrt(0.02 / 200)
    x = own.normal(size=(64, 2))
    assert depends(x, x[:, :1], exchanges=99)


def test_recorded_pairs_keep_conditions(along: ByCondition, tmp_path: Path) -> None:
    along.record(600, progress=False).save(tmp_path / "pairs.npz")
    x, index, told = next(iter(RecordedPairs(tmp_path / "pairs.npz", batch=600)))
    np.testing.assert_array_equal(told.numpy()[:, 0], ALONG[index])
    assert len(x) == 600
    with pytest.raises(ValueError, match="equal use is of maps without conditions"):
        along.record(600, equal=True, progress=False)


def test_a_fit_goes_on(along: ByCondition) -> None:
    again = SemiDiscrete.from_dataset(along.to_dataset())
    other = SemiDiscrete(POINTS, conditions=ALONG).fit(0.02, start=again, resume=True, progress=False)
    assert isinstance(other, ByCondition)
    assert other.kappa == 2.0
    assert other.result is not None
    assert along.result is not None
    assert other.result.averaged > along.result.averaged
    with pytest.raises(ValueError, match="the map to start from has no conditions"):
        other.fit(start=SemiDiscrete(POINTS[:, :1]).fit())


def test_a_coupling_report_tells_its_cost_without_that_of_conditions(along: ByCondition) -> None:
    found = brenier.coupling_report(along, batches=(16,), samples=2**13, pairs=300, progress=False)
    x, index = drawn(along, 20_000, 8)
    paid = (x.double() - along.points[index]).square().sum(1)
    error = float(paid.std()) / 141 + float(found["map_cost_se"])
    assert abs(float(found["map_cost"]) - float(paid.mean())) < 4 * error
    assert float(found["map_cost"]) < float(found["cost"][0]) < float(found["independent_cost"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conditions": ALONG[1:]}, "conditions must be 60, one for each point, got 59"),
        ({"conditions": np.where(KIND > 0, np.nan, 0)}, "conditions.*NaN"),
        ({"conditions": np.ones(60)}, "all points have the same condition"),
        ({"conditions": ALONG, "kappa": 0.0}, "kappa must be positive and finite, got 0.0"),
        ({"conditions": ALONG, "kappa": -1.0}, "kappa must be positive"),
        ({"conditions": ALONG, "labels": KIND.astype(int)}, "give one of them"),
        ({"kappa": 1.0}, "kappa is the weight of conditions: give these, too"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SemiDiscrete(POINTS, **options)


def test_conditions_that_are_refused(along: ByCondition) -> None:
    x = along.draw(3)
    for condition, said in (
        (None, "say condition="),
        ([1.0, 2.0], r"condition must be \(1,\), one for all x, or \(3, 1\), got shape \(2,\)"),
        (np.nan, "not finite"),
    ):
        with pytest.raises(ValueError, match=said):
            along.map(x, condition)
    with pytest.raises(ValueError, match="leave family out"):
        along.pairs(64, family=32)
    with pytest.raises(ValueError, match="not been fitted"):
        SemiDiscrete(POINTS, conditions=ALONG).map(x, 1.0)
