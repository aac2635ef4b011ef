"""Cross-fitted localizations against a float64 brute force, and what they have to be blind to."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from brenier.laws.crossfit import FOLDS, GROUPS, LEAST, SOME, CrossFit
from brenier.laws.empirical import Empirical

Array = NDArray[np.float64]
SPREAD = np.array([3.0, 0.7, 0.5])
SNR = 0.8  # where the leading direction stands out of the others in every posterior


def cloud(n: int, spread: Array = SPREAD, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, len(spread))) * spread


def folded(points: Array, weights: Array | None = None, **options: float) -> CrossFit:
    law = Empirical(points, weights, dtype=torch.float64, tolerance=1e-7, **options)  # type: ignore[arg-type]
    return CrossFit.of(law, seed=3)


def noise(n: int, dim: int, seed: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, dim)))


def groups_of(law: CrossFit) -> NDArray[np.int64]:
    """The group of each atom, which is that of the query made of it."""
    return law.crossfit(torch.arange(len(law)), noise(len(law), law.dim), [1.0]).group.numpy()


def covariance(points: Array, weights: Array) -> Array:
    share = weights / weights.sum()
    off = points - share @ points
    return (off * share[:, None]).T @ off


def leading(points: Array, weights: Array) -> Array:
    return np.linalg.eigh(covariance(points, weights))[1][:, -1]


class Pooled:
    """Variance within parts of the atoms, each along a direction of its own, pooled."""

    def __init__(self, points: Array, weights: Array, parts: list[tuple[NDArray[np.bool_], Array]]) -> None:
        self.within = self.short = self.mass = 0.0
        for part, direction in parts:
            a, w = points[part] @ direction, weights[part]
            off = (a - w @ a / w.sum()) ** 2
            self.within += w @ off
            self.short += (2 * w**2 @ off - (w @ off / w.sum()) * (w @ w)) / w.sum()
            self.mass += w.sum()

    @property
    def plain(self) -> float:
        return self.within / self.mass

    @property
    def gain(self) -> float:
        return 1 + max(0.0, self.short) / self.within


def brute_force(
    points: Array, chances: Array, group: NDArray[np.int64], own: int, y: Array, snr: float
) -> dict[str, float | Array]:
    """All that is asked of one posterior, from matrices of the atoms of one group after the other."""
    w = chances * np.exp(-((y - snr * points) ** 2).sum(1) / 2) * (group != own)
    w /= w.sum()
    fold = group // (GROUPS // FOLDS)
    directions = [leading(points[fold != k], w[fold != k]) for k in range(FOLDS)]
    parts = [(fold == k, directions[k]) for k in range(FOLDS)]
    pooled, ess, r2 = Pooled(points, w, parts), 1 / (w @ w), snr**2
    form = pooled.plain * pooled.gain * r2
    left = [Pooled(points, w, [(p & (group != g), v) for p, v in parts]).plain for g in range(GROUPS)]
    without = np.array(left) * pooled.gain
    kept = np.delete(without, own) * r2
    whole = covariance(points, w)
    more = 1 + (pooled.gain - 1) / FOLDS
    norm = np.linalg.eigvalsh(whole)[-1] * r2 * more
    halves = [leading(points[side], w[side]) for side in (fold < FOLDS // 2, fold >= FOLDS // 2)]
    dim = points.shape[1]
    trace = np.trace(whole) * r2
    traces = [np.trace(covariance(points[group != g], w[group != g])) * r2 for g in range(GROUPS)]
    apart: list[float] = []
    for pair in ((0, 1), (2, 3)):
        crossed = [(fold == k, leading(points[fold == j], w[fold == j])) for k, j in (pair, pair[::-1])]
        half = Pooled(points, w, crossed)
        apart.append(half.plain * r2)
    return {
        "floor": pooled.plain * r2,
        "form": form,
        "ceiling": max(form, (form * norm) ** 0.5),
        "agreement": ((halves[0] @ halves[1]) ** 2 - 1 / dim) / (1 - 1 / dim),
        "ess": ess,
        "trace": trace * more,
        "noise": np.var(kept) * (len(kept) - 1) / kept.mean() ** 2,
        "disagreement": ((apart[0] - apart[1]) / 2 / form) ** 2,
        "form_without": without * r2,
        "trace_without": np.array(traces) * more,
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_they_are_what_brute_force_says(weighted: bool) -> None:
    points = cloud(900)
    chances = np.random.default_rng(2).uniform(0.2, 2, 900) if weighted else np.ones(900)
    law = folded(points, chances)
    group, index, z = groups_of(law), torch.arange(0, 900, 75), noise(12, 3)
    found = law.crossfit(index, z, [SNR])
    atoms, weights = law.data.numpy(), law.weights.double().numpy()
    for q, i in enumerate(index.tolist()):
        expected = brute_force(atoms, weights, group, int(group[i]), SNR * atoms[i] + z[q].numpy(), SNR)
        for name, value in expected.items():
            if name == "disagreement" and q % SOME:
                assert torch.isnan(found.disagreement[0, q])
            else:
                # Differences of variances feel to first order that directions are found in float32.
                near = 1e-5 if name in ("noise", "disagreement") else 1e-6
                np.testing.assert_allclose(getattr(found, name)[..., 0, q], value, rtol=near, err_msg=name)


def test_on_the_line_there_is_one_direction() -> None:
    """The form is the variance within folds, pooled, and what it is too small by to first order."""
    points = cloud(400, np.array([1.5]))
    law = folded(points)
    group, index, z = groups_of(law), torch.arange(0, 400, 40), noise(10, 1)
    found = law.crossfit(index, z, [0.5, 2.0])
    atoms = law.data.numpy()[:, 0]
    for k, snr in enumerate((0.5, 2.0)):
        for q, i in enumerate(index.tolist()):
            w = np.exp(-((snr * atoms[i] + z[q].numpy() - snr * atoms) ** 2) / 2) * (group != group[i])
            w /= w.sum()
            within, short = 0.0, 0.0
            for fold in range(FOLDS):
                part = w * (group // (GROUPS // FOLDS) == fold)
                off = (atoms - part @ atoms / part.sum()) ** 2 * snr**2
                within += part @ off
                short += (2 * part**2 @ off - (part @ off / part.sum()) * (part @ part)) / part.sum()
            np.testing.assert_allclose(found.floor[k, q], within, rtol=1e-9)
            np.testing.assert_allclose(found.form[k, q], within + max(short, 0), rtol=1e-9)
    assert bool((found.agreement == 1).all())


def test_a_query_sees_nothing_of_its_own_group() -> None:
    points = cloud(320)
    law, z, index = folded(points), noise(20, 3), torch.arange(7, 320, 16)
    group, found = groups_of(law), law.crossfit(index, z, [0.3, SNR, 3.0])
    for own in (0, 9):
        moved = law.data.numpy().copy()
        others = (group == own) & ~np.isin(np.arange(320), index.numpy())
        moved[others] = moved[others][:, ::-1] * 1.3 + 0.2
        again = CrossFit(moved, dtype=torch.float64, tolerance=1e-7)
        again._ends = law._ends  # the same groups
        changed = again.crossfit(index, z, [0.3, SNR, 3.0])
        same = (found.group == own).numpy()
        assert same.any()
        for name in ("floor", "form", "ceiling", "agreement", "ess", "trace", "noise"):
            old, new = (getattr(one, name).numpy() for one in (found, changed))
            np.testing.assert_allclose(new[:, same], old[:, same], rtol=1e-5, atol=1e-12, err_msg=name)
        assert not np.allclose(changed.floor[:, ~same], found.floor[:, ~same], rtol=1e-3)


def test_groups_are_of_equal_size_and_equal_points_are_one_atom() -> None:
    points = np.repeat(cloud(100), 3, axis=0)[np.random.default_rng(0).permutation(300)]
    points[points == points[0, 0]] = 0.0
    points[-1] = -points[0]
    points[-1, 0] = -0.0  # which is a zero
    law = folded(points)
    distinct = np.unique(law.data.numpy().round(9) + 0.0, axis=0)
    assert len(law) == len(distinct)
    assert float(law.weights.max()) == pytest.approx(3 / 300)
    sizes = np.bincount(groups_of(law), minlength=GROUPS)
    assert sizes.max() - sizes.min() <= 1
    assert groups_of(folded(cloud(100))).tolist() == sorted(groups_of(folded(cloud(100))).tolist())


def test_other_seeds_make_other_groups() -> None:
    law = Empirical(cloud(64))
    one, two, three = (CrossFit.of(law, seed).data for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_weights_are_repetitions() -> None:
    """A point of weight k and k equal points are the same."""
    points, times = cloud(200), np.random.default_rng(5).integers(1, 4, 200)
    weighted, repeated = folded(points, times.astype(float)), folded(np.repeat(points, times, axis=0))
    z = noise(12, 3)
    picks = [
        int(np.flatnonzero((law.data.numpy().round(9) == points[k].round(9)).all(1))[0])
        for law in (weighted, repeated)
        for k in range(12)
    ]
    one = weighted.crossfit(torch.tensor(picks[:12]), z, [0.4, 1.5])
    two = repeated.crossfit(torch.tensor(picks[12:]), z, [0.4, 1.5])
    assert torch.equal(one.group, two.group)
    torch.testing.assert_close(one.floor, two.floor, rtol=1e-6, atol=0)
    torch.testing.assert_close(one.agreement, two.agreement, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.ess, two.ess, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("unit", "shift"), [(1.0, 40.0), (3e-5, 0.0), (7e4, -1e5)])
def test_other_units_and_origins_change_nothing(unit: float, shift: float) -> None:
    points, index, z = cloud(300), torch.arange(0, 300, 20), noise(15, 3)
    plain = folded(points).crossfit(index, z, [0.4, SNR, 4.0])
    other = folded(unit * points + shift).crossfit(index, z, [snr / unit for snr in (0.4, SNR, 4.0)])
    assert torch.equal(plain.group, other.group)
    for name in ("floor", "form", "ceiling", "ess", "trace"):
        one, two = getattr(plain, name), getattr(other, name)
        torch.testing.assert_close(one[:2], two[:2], rtol=1e-6, atol=0, msg=name)
        torch.testing.assert_close(one[2], two[2], rtol=1e-4, atol=0, msg=name)  # directions are hardly told apart


def test_memory_changes_nothing_beyond_rounding() -> None:
    points, index, z = cloud(500), torch.arange(0, 500, 4), noise(125, 3)
    wide, narrow = (folded(points, max_memory=size).crossfit(index, z, [SNR, 3.0]) for size in (1.0, 2e-4))
    for name in ("floor", "form", "ceiling", "ess", "trace", "noise", "form_without", "trace_without"):
        torch.testing.assert_close(getattr(narrow, name), getattr(wide, name), rtol=1e-7, atol=1e-12, msg=name)


def mean(found: Tensor) -> list[float]:
    return found.mean(1).tolist()


def test_up_to_as_many_dimensions_as_directions_are_sought_in_the_form_has_no_bias() -> None:
    """Of a round normal law L = r^2/(1 + r^2) everywhere, and no two halves of the data agree on a direction."""
    law = CrossFit.of(Empirical(cloud(2000, np.ones(32))), 0)
    snrs = np.array([0.1, 0.2, 0.3])
    found = law.crossfit(law.draw(128, 0), noise(128, 32).float(), snrs.tolist())
    truth = snrs**2 / (1 + snrs**2)
    assert mean(found.form) == pytest.approx(truth.tolist(), rel=0.02)
    assert mean(found.trace) == pytest.approx((32 * truth).tolist(), rel=0.02)
    assert mean(found.agreement) == pytest.approx([0, 0, 0], abs=0.02)
    assert bool((found.floor <= found.form).all())
    assert bool((found.floor.mean(1) < found.form.mean(1)).all())
    assert min(mean(found.ceiling)[1:] / truth[1:]) > 1.2  # the plug-in, the half of which this has, is far above


def test_in_more_dimensions_directions_are_sought_where_the_data_are_wide() -> None:
    spread = np.where(np.arange(60) < 5, 1.0, 0.05)
    law = CrossFit.of(Empirical(cloud(2000, spread)), 0)
    snrs = np.array([0.3, 0.6])
    found = law.crossfit(law.draw(128, 0), noise(128, 60).float(), snrs.tolist())
    assert mean(found.form) == pytest.approx((snrs**2 / (1 + snrs**2)).tolist(), rel=0.03)
    truth = ((snrs[:, None] * spread) ** 2 / (1 + (snrs[:, None] * spread) ** 2)).sum(1)
    assert mean(found.trace) == pytest.approx(truth.tolist(), rel=0.03)


def test_in_more_dimensions_the_floor_has_no_bias_upwards() -> None:
    law = CrossFit.of(Empirical(cloud(500, np.ones(100))), 0)
    found = law.crossfit(law.draw(32, 0), noise(32, 100).float(), [0.05])
    assert float(found.floor.mean()) < 1.02 * 0.05**2 / (1 + 0.05**2)


@pytest.mark.parametrize("dim", [1, 3, 40])
def test_far_past_the_collapse_all_is_finite(dim: int) -> None:
    law = CrossFit.of(Empirical(cloud(64, np.ones(dim))), 0)
    found = law.crossfit(torch.arange(64), noise(64, dim).float(), [1e-6, 30.0, 1e3, 1e7])
    for name in ("floor", "form", "ceiling", "agreement", "ess", "trace", "noise", "form_without", "trace_without"):
        values = getattr(found, name)
        assert bool(values.isfinite().all()), name
        assert name == "agreement" or bool((values >= 0).all()), name
        assert float(values.max()) < 1e16, name
    assert bool(found.disagreement[:, ::SOME].isfinite().all())
    assert bool((found.floor <= found.form).all())
    assert bool((found.form <= found.ceiling).all())


def test_draws_are_spread_as_the_weights_say() -> None:
    weights = np.random.default_rng(0).uniform(0, 2, 100)
    law = folded(cloud(100), weights)
    index = law.draw(1000, seed=4)
    counts = np.bincount(index.numpy(), minlength=100)
    assert np.abs(counts - 1000 * law.weights.numpy()).max() <= 1
    assert torch.equal(index, law.draw(1000, seed=4))
    assert int(law.draw(1, seed=0)) < 100
    assert len(law.draw(7, seed=0).unique()) == 7


@pytest.mark.parametrize("distinct", [1, 31])
def test_too_few_distinct_points_are_refused_with_their_number(distinct: int) -> None:
    law = Empirical(np.repeat(cloud(distinct), 4, axis=0), name="cloud")
    with pytest.raises(ValueError, match=f"cloud has {distinct} distinct point") as caught:
        CrossFit.of(law)
    assert f"at least {LEAST}" in str(caught.value)
    assert "about='atoms'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(set(groups_of(CrossFit.of(Empirical(cloud(LEAST)))).tolist())) == GROUPS


def test_large_data_in_single_precision_lose_nothing_where_a_fold_has_no_weight() -> None:
    points = np.random.default_rng(0).normal(size=(1400, 3000)).astype(np.float32)
    law = CrossFit.of(Empirical(points))
    assert all(kind.dtype == torch.float32 for kind in law._coordinates)
    z = torch.randn(24, 3000, generator=torch.Generator().manual_seed(0))
    found = law.crossfit(law.draw(24), z, [1.0, 20.0])
    for name in ("floor", "form", "ceiling", "agreement", "ess", "trace", "noise", "form_without", "trace_without"):
        assert bool(torch.isfinite(getattr(found, name)).all()), name
