import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import brenier
from brenier import metrics
from brenier.metrics.evaluation import METRICS, evaluate, to_table
from brenier.metrics.features import extract


def points(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


@pytest.fixture(scope="module")
def held_out() -> xr.Dataset:
    """A fresh sample, so a perfect sampler."""
    return evaluate(points(300, 3, 0), points(300, 3, 1), train=points(400, 3, 2), progress=False)


def test_it_holds_what_the_metrics_return(held_out: xr.Dataset) -> None:
    x, y, train = (points(n, 3, seed).double() for n, seed in ((300, 0), (300, 1), (400, 2)))
    plain, debiased = metrics.frechet_distance(x, y)
    expected = {"frechet": plain, "frechet_debiased": debiased, "kernel": metrics.kernel_distance(x, y)}
    expected |= metrics.precision_recall(x, y)._asdict()
    memory = metrics.memorisation(x, train, held_out=y)
    expected |= memory.samples.shares()
    for name, estimate in expected.items():
        found = [float(held_out[field].sel(metric=name)) for field in ("value", "value_se", "low", "high")]
        assert found == pytest.approx(list(estimate), rel=1e-4, abs=1e-6), name
    for name, estimate in memory.control.shares().items():
        assert float(held_out["control"].sel(metric=name)) == pytest.approx(estimate.value, rel=1e-4)
    distance = brenier.distances.wasserstein.debiased_w2(x, y)
    assert float(held_out["value"].sel(metric="w2")) == pytest.approx(distance.value, rel=1e-3, abs=1e-6)
    assert held_out.attrs["memorisation_control"] == "held-out"
    assert [name for name in METRICS if name not in ("mmr", "stray")] == held_out["metric"].to_numpy().tolist()


def test_a_perfect_sampler_is_as_good_as_its_control(held_out: xr.Dataset) -> None:
    for name in held_out["metric"].to_numpy():
        row = held_out.sel(metric=name)
        assert abs(float(row["value"] - row["control"])) < 4 * math.hypot(
            float(row["value_se"]), float(row["control_se"])
        )


def test_copies_of_the_training_data_are_called_so() -> None:
    train = points(400, 6, 0)
    found = evaluate(train[:200], points(200, 6, 1), train=train, progress=False)
    assert found["value"].sel(metric=["closer", "copied", "ratio"]).to_numpy().tolist() == [1, 1, 0]
    assert float(found["control_high"].sel(metric="closer")) < 0.7
    assert float(found["control_high"].sel(metric="copied")) < 0.1
    assert found["pair_train"].to_numpy().tolist() == found["pair_sample"].to_numpy().tolist()
    np.testing.assert_array_equal(found["pair_points"][:, 0], found["pair_points"][:, 1])


def test_a_collapsed_sampler_is_evaluated_like_any_other() -> None:
    y = points(100, 2, 0)
    with pytest.warns(UserWarning, match="only 1 of 60 points in samples differ"):
        found = evaluate(y[:1].repeat(60, 1), y, progress=False)["value"]
    assert bool(np.isfinite(found).all())
    assert float(found.sel(metric="recall")) == pytest.approx(0.01)
    assert float(found.sel(metric="copied")) == 1


def test_the_same_again_and_another_seed(held_out: xr.Dataset) -> None:
    state = torch.get_rng_state()
    again = evaluate(points(300, 3, 0), points(300, 3, 1), train=points(400, 3, 2), progress=False)
    xr.testing.assert_identical(again, held_out)
    assert bool((torch.get_rng_state() == state).all())


def test_what_is_compared_is_read_from_what_is_given(tmp_path: Path) -> None:
    digits = brenier.load_target("digits")
    assert isinstance(digits, brenier.Empirical)
    images = digits.data[:200].reshape(-1, 8, 8)
    np.save(tmp_path / "some.npy", images.numpy())
    found = evaluate(str(tmp_path / "some.npy"), "digits", progress=False)
    assert found.attrs["classifier"] == found.attrs["train"] == "digits"
    assert found.attrs["event_shape"] == [8, 8]
    assert float(found["value"].sel(metric="copied")) == 1
    assert float(found["control"].sel(metric="mmr")) < 0.02
    law = evaluate(points(100, 1, 0)[:, 0].numpy(), "normal", progress=False)
    assert (law.attrs["n_reference"], law.attrs["train"], law.attrs["classifier"]) == (100, "", "")
    assert "copied" not in law["metric"]
    assert np.isnan(law["control"]).all()


def test_a_mixture_tells_its_own_modes_apart_and_labels_those_of_data() -> None:
    mixture = brenier.GaussianMixture([1, 1], [[-3.0, 0.0], [3.0, 0.0]], 0.25)
    x = torch.cat([mixture.sample(90, 3), 1e-3 * points(10, 2, 0)])
    found = evaluate(x, mixture, progress=False)["value"].sel(metric=["mmr", "stray"])
    assert found.to_numpy().tolist() == pytest.approx([0.1, 0.1], abs=0.015)
    y = mixture.sample(200, 1)
    fitted = evaluate(x, y, labels=(y[:, 0] > 0).numpy(), progress=False)
    assert float(fitted["value"].sel(metric="mmr")) == pytest.approx(0.1, abs=0.015)
    assert "accuracy 1.000 out of fold" in fitted.attrs["classifier"]


@pytest.mark.parametrize("kind", [np.asarray, list])
def test_arrays_lists_and_tensors_are_the_same(kind: Callable[[np.ndarray], object]) -> None:
    x, y = points(60, 2, 0), points(55, 2, 1)
    found = evaluate(kind(x.numpy()), kind(y.numpy()), train=kind(y.numpy()), progress=False)
    xr.testing.assert_identical(found, evaluate(x, y, train=y, progress=False))


def test_features_are_of_distances_and_not_of_copies() -> None:
    x, y = points(100, 4, 0), points(100, 4, 1)
    module = nn.Linear(4, 2)
    found, raw = (evaluate(x, y, features=which, progress=False) for which in (module, "raw"))
    seen, _ = extract(x, y, features=module)
    expected = metrics.frechet_distance(seen(x.double()), seen(y.double()))[0]
    assert float(found["value"].sel(metric="frechet")) == pytest.approx(expected.value, rel=1e-4)
    same = ["w2", "closer", "copied", "ratio"]
    xr.testing.assert_equal(found["value"].sel(metric=same), raw["value"].sel(metric=same))
    assert found.attrs["features"] == "Linear"


def test_the_table_is_json(held_out: xr.Dataset) -> None:
    table = json.loads(json.dumps(to_table(held_out), allow_nan=False))
    assert table["metrics"]["recall"]["value"] == float(held_out["value"].sel(metric="recall"))
    assert table["n_train"] == 400
    assert len(table["closest_pairs"]) == 12
    assert table["closest_pairs"][0]["sample"] == int(held_out["pair_sample"][0])
    alone = to_table(evaluate(points(60, 1, 0), "normal", progress=False))
    assert alone["closest_pairs"] == []
    assert alone["metrics"]["frechet"]["control"] is None


def test_refused() -> None:
    x = points(100, 2, 0)
    for samples, reference, train, words in (
        (x[:49], x, None, "49 points in samples are too few: at least 50"),
        (x, x[:49], None, "49 points in reference are too few: at least 50"),
        (x, points(100, 3, 0), None, r"points of samples have shape \(2,\), those of reference \(3,\)"),
        (x, x, points(100, 3, 0), r"points of train have shape \(3,\), those of samples \(2,\)"),
        (points(60, 64, 0), points(90, 64, 1), None, "64 features needs more than 64 points.*there are 60"),
        (x, x, "normal", "train must be the points"),
        (x * math.nan, x, None, "NaN or infinite"),
        ("normal", x, None, "samples are points"),
        (x, torch.zeros(100, 2), None, "1 different points"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate(samples, reference, train=train, progress=False)
    for options, words in (
        ({"k": 50}, "at least 102 are needed to split in halves that have 50 neighbours"),
        ({"labels": [0, 1]}, "one for each"),
        ({"labels": [0, 1] * 50, "classifier": "digits"}, "leave one of them out"),
        ({"classifier": "cifar"}, "no classifier 'cifar'"),
        ({"classifier": "digits"}, "8 x 8 pixels"),
        ({"classifier": lambda rows: torch.ones(len(rows), 2) / 2, "threshold": 0.7}, "lambda"),
        ({"features": "inception"}, "no features"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate(x, points(100, 2, 1), progress=False, **options)
    with pytest.raises(ValueError, match="labels belong to points"):
        evaluate(x, brenier.GaussianMixture([1, 1], [[0.0, 0], [1, 1]], 1.0), labels=[0], progress=False)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_images_with_channels_last_are_held_against_those_with_channels_first(place: int) -> None:
    first = [points(90, 3 * 4 * 5, seed).reshape(90, 3, 4, 5) for seed in range(3)]
    turned = [one.movedim(1, -1) if k == place else one for k, one in enumerate(first)]
    expected = evaluate(first[0], first[1], train=first[2], progress=False)
    with pytest.warns(UserWarning, match="channels of"):
        found = evaluate(turned[0], turned[1], train=turned[2], progress=False)
    both = [each[["value", "control"]].drop_sel(metric="w2") for each in (found, expected)]
    xr.testing.assert_allclose(*both, rtol=1e-3, atol=1e-6)
    if place != 1:  # random directions are those of the reference's order
        sliced = [float(each["value"].sel(metric="w2")) for each in (found, expected)]
        assert sliced[0] == pytest.approx(sliced[1], rel=1e-6)
    assert found["pair_sample"].to_numpy().tolist() == expected["pair_sample"].to_numpy().tolist()


def test_values_of_another_scale_are_said() -> None:
    x, y = points(60, 20, 0).tanh(), points(60, 20, 1).tanh()
    with pytest.warns(UserWarning, match="values of samples go from .* of reference .*: bring both to one scale"):
        evaluate((x + 1) * 127.5, y, progress=False)
    with pytest.warns(UserWarning, match="values of train go from"):
        evaluate(x, y, train=(points(60, 20, 2).tanh() + 1) * 127.5, progress=False)
