import numpy as np
import pytest
import torch

from brenier import BlockedEmpirical, evaluate
from brenier.metrics import streams
from brenier.metrics.copying import memorisation
from brenier.metrics.distances import frechet_distance, frechet_of_moments
from brenier.metrics.streams import memorisation_in_blocks, moments, some_of


def data(n: int, d: int, seed: int = 0) -> torch.Tensor:
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    points[n // 2] = points[1]  # rows that are the same count once
    points[n - 1] = points[1]
    return points.double()


@pytest.mark.parametrize("size", [23, 100, 300])
@pytest.mark.parametrize("rounded", [False, True])
def test_neighbours_are_those_of_data_in_memory_for_any_blocks(size: int, rounded: bool) -> None:
    train, x, held = data(300, 3), data(80, 3, 1), data(60, 3, 2)
    x[:3], held[:2] = train[1], train[5]  # copies
    if rounded:
        train, x, held = (2 * part.mul(4).round() for part in (train, x, held))  # where many are the same
    law, origin = BlockedEmpirical.of(train.numpy(), size, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for others in (held, None):
        one = memorisation(x, train, held_out=others)
        other = memorisation_in_blocks(x, law, origin, held_out=others)
        assert other.method == one.method
        for mine, theirs in ((other.samples, one.samples), (other.control, one.control)):
            torch.testing.assert_close(mine.distance, theirs.distance)
            if not rounded:  # else some are as near as others
                torch.testing.assert_close(mine.second, theirs.second)
                torch.testing.assert_close(mine.own, theirs.own)
                assert torch.equal(mine.index, theirs.index)


def test_moments_are_those_of_all_rows() -> None:
    y, x = data(500, 4) + 3, data(200, 4, 1)
    law = BlockedEmpirical.of(y.numpy(), 60)
    mean, covariance = moments(law)
    torch.testing.assert_close(mean, y.mean(0))
    torch.testing.assert_close(covariance, torch.cov(y.T, correction=0))
    plain, debiased = frechet_of_moments(x, mean, covariance, len(y))
    whole = frechet_distance(x, y)
    assert plain.value == pytest.approx(whole[0].value, rel=1e-3)
    assert abs(debiased.value - whole[1].value) < 2 * whole[1].value_se
    with pytest.raises(ValueError, match="needs more than 4 points"):
        frechet_of_moments(x[:4], mean, covariance, len(y))


def test_few_rows_are_all_taken_and_of_many_some(monkeypatch: pytest.MonkeyPatch) -> None:
    law = BlockedEmpirical.of(data(300, 2).numpy(), 70)
    assert some_of(law, 10, 0).tolist() == list(range(300))
    monkeypatch.setattr(streams, "SOME", 100)
    some = some_of(law, 50, 3)
    assert len(some) == 100
    assert len(some_of(law, 200, 3)) == 200
    assert np.array_equal(some, some_of(law, 50, 3))
    assert torch.equal(streams.rows_of_law(law, some), data(300, 2)[some])


def test_an_evaluation_against_data_in_blocks_is_that_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, train = (np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in (150, 240, 400))
    whole = evaluate(x, y, train=train, progress=False)
    law, learned = BlockedEmpirical.of(y, 50), BlockedEmpirical.of(train, 90)
    found = evaluate(x, law, train=learned, progress=False)
    for name in ("value", "value_se", "control", "closeness", "control_closeness", "pair_points"):
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-5, atol=1e-6)
    assert found.attrs["n_train"] == 400
    monkeypatch.setattr(streams, "SOME", 160)
    some = evaluate(x, law, progress=False)
    assert (some.attrs["n_reference"], some.attrs["n_reference_in_blocks"]) == (160, 240)
    alone = evaluate(x, y, progress=False)["value"]
    for name in ("closer", "copied", "ratio"):  # of all rows
        assert float(some["value"].sel(metric=name)) == pytest.approx(float(alone.sel(metric=name)))
    assert float(some["value"].sel(metric="frechet")) == pytest.approx(
        float(whole["value"].sel(metric="frechet")), rel=0.05
    )


def test_principal_components_and_labels_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, spread = np.random.default_rng(0), np.array([5.0, 3, 2, 1, 0.5, 0.2])
    labels = np.arange(600) % 2
    y = (rng.normal(size=(600, 6)) * spread + 6 * labels[:, None]).astype(np.float32)
    x = (rng.normal(size=(60, 6)) * spread + 6 * labels[:60, None]).astype(np.float32)
    law = BlockedEmpirical.of(y, 70)
    whole = evaluate(x, y, features="pca", labels=labels, progress=False)
    same = evaluate(x, law, features="pca", labels=labels, progress=False)
    np.testing.assert_allclose(same["value"], whole["value"], rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(streams, "SOME", 200)
    some = evaluate(x, law, features="pca", labels=[("cat", "dog")[k] for k in labels], progress=False)
    assert some.attrs["features"] == whole.attrs["features"] == "pca, 6 components"
    plain = evaluate(x, law, progress=False)["value"]  # all components: the same distances
    for name in ("frechet", "frechet_debiased"):
        assert float(some["value"].sel(metric=name)) == pytest.approx(float(plain.sel(metric=name)), rel=1e-6)
    frechet = (float(one["value"].sel(metric="frechet")) for one in (some, whole))
    assert next(frechet) == pytest.approx(next(frechet), rel=0.02)
    assert "accuracy" in some.attrs["classifier"]
    assert float(some["value"].sel(metric="mmr")) == pytest.approx(float(whole["value"].sel(metric="mmr")), abs=0.05)
    with pytest.raises(ValueError, match="labels must be 600, one for each point"):
        evaluate(x, law, labels=labels[:200], progress=False)


def test_three_different_points_are_needed() -> None:
    law = BlockedEmpirical.of(np.repeat([[0.0, 1.0], [1.0, 0.0]], 40, 0), 7)
    with pytest.raises(ValueError, match="fewer than 3 different points"):
        memorisation_in_blocks(data(20, 2), law, torch.zeros(2))
