"""Laws far from zero: what every verb finds of Y + c is what it finds of Y, and its points are those of Y, moved."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import brenier
from brenier.distances import wasserstein
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.networks.network import NetworkTarget

FAR = {"1e4": (1e4, 1e4), "1e7": (1e7, -1e7), "one": (0.0, 1e8), "map": (5e5, 5.6e6), "stamp": (1.7e9, 0.1)}
SOME = [FAR[name] for name in ("1e7", "one")]


def points(n: int = 120, seed: int = 0) -> Any:
    """Two clusters in the plane, a quarter of the digits that float64 has left at 1e8."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random((n, 1)) < 0.5, rng.normal(size=(n, 2)) * [0.3, 0.1] + [1, 0], rng.normal(size=(n, 2)) / 3)
    return np.round((y - y.mean(0)) * 2**16) / 2**16  # so that nothing is lost on the way to y + c


def mixture(c: Any = (0.0, 0.0), **options: Any) -> GaussianMixture:
    means = np.array([[1.0, 0.5], [-1.0, 0.0]]) + c
    return GaussianMixture([0.4, 0.6], means, [0.09, 0.16], **options)


@pytest.mark.parametrize(("c", "about"), [*((c, "atoms") for c in FAR.values()), (FAR["1e7"], "law")])
def test_a_profile_does_not_know_where_the_data_lie(c: Any, about: Any) -> None:
    near, far = (
        brenier.probe(y, [1, 4], queries=32, about=about, dtype=torch.float64, progress=False)
        for y in (points(), points() + c)
    )
    for name in ("m_star", "mean_localization", "mmse", "ess", "zeta_star"):
        np.testing.assert_allclose(far[name], near[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("unit", [1e6, 1e-6, 1e-9])
def test_a_profile_has_no_unit_wherever_the_data_lie(unit: float) -> None:
    y = points()
    near = brenier.probe(y, [1, 4, 12], queries=64, about="atoms", dtype=torch.float64, progress=False)
    far = brenier.probe(unit * y + 1, np.array([1, 4, 12]) / unit, queries=64, about="atoms", progress=False)
    np.testing.assert_allclose(far["m_star"], near["m_star"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(far["mmse"], near["mmse"] * unit**2, rtol=1e-4)


def test_float32_is_enough_where_data_are_near_and_works_where_it_is_asked_for() -> None:
    assert Empirical(points()).dtype == Empirical(points() + 50).dtype == torch.float32
    assert Empirical(points() + 1e7).dtype == torch.float64
    near, far = (
        brenier.probe(y, [1, 4, 12], queries=64, about="atoms", dtype=torch.float32, progress=False)
        for y in (points(), points() + 1e7)
    )
    np.testing.assert_allclose(far["m_star"], near["m_star"], rtol=1e-4, atol=1e-4)


def test_a_law_far_away_gives_back_its_own_points_and_posterior_means() -> None:
    y, c = points(), np.array([1e8, -3e7])
    far, near = Empirical(y + c), Empirical(y, dtype=torch.float64)
    np.testing.assert_array_equal(far.data, y + c)
    z = np.random.default_rng(1).normal(size=(5, 2))
    noisy = 4 * (y[:5]) + z
    np.testing.assert_allclose(far.denoise(noisy + 4 * c, 4.0) - c, near.denoise(noisy, 4.0), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "c"),
    [
        (lambda c: points(32) + c, (0.0, 1e8)),
        (mixture, (1e7, -1e7)),
        (lambda c: Uniform(c[0] - 1, c[0] + 1), (1e8,)),
    ],
    ids=["data", "mixture", "uniform"],
)
def test_plans_and_samples_move_with_the_law(make: Callable[[Any], Any], c: Any) -> None:
    origin = (0.0,) * len(c)
    plans: list[Any] = [brenier.plan(make(place), 3, pilots=4, seed=1, progress=False) for place in (origin, c)]
    np.testing.assert_allclose(plans[1].end_error, plans[0].end_error, rtol=2e-2)
    grid = brenier.Schedule([5.0, 1.0, 0.2, 0.0], "dpmpp-2m", criterion="by hand")
    near, far = (brenier.sample(make(place), 16, schedule=grid, progress=False) for place in (origin, c))
    assert far.points.dtype == torch.float64
    np.testing.assert_allclose(far.points - torch.tensor(c), near.points, atol=2e-5)
    predicted: list[Any] = [brenier.predict(make(place), [grid], pilots=4)[0].end_error for place in (origin, c)]
    np.testing.assert_allclose(predicted[1], predicted[0], rtol=1e-3)


def test_a_comparison_of_schedules_does_not_know_where_the_law_lies() -> None:
    near, far = (
        brenier.compare(
            points() + c, [3], solvers=["euler", "euler-maruyama"], criteria=["karras"], n=32, pilots=8, progress=False
        )
        for c in (0.0, np.array([1e7, 0.0]))
    )
    for name in ("rms", "median", "w2", "w2_reference"):
        np.testing.assert_allclose(far[name], near[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_chain_far_away_has_the_same_forward_half() -> None:
    """The Euler steps back contain x itself, so that they, unlike the process, depend on where zero is."""
    near, far = (
        brenier.chain(
            GaussianMixture([0.4, 0.6], [1 + c, -1 + c], [0.1, 0.3]),
            GaussianMixture([1], [2 + c], 0.5),
            steps=2,
            progress=False,
        )
        for c in (0.0, 1e8)
    )
    for name in ("w2_forward", "mean_localization", "ratio_star"):
        np.testing.assert_allclose(far[name], near[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("c", SOME)
def test_an_evaluation_does_not_know_where_the_data_lie(c: Any) -> None:
    x, y, train = points(60, 1), points(), points(120, 2)
    found = [
        brenier.evaluate(x + at, y + at, train=train + at, labels=np.arange(len(y)) % 2, progress=False)
        for at in (np.zeros(2), np.asarray(c))
    ]
    for name in ("value", "value_se", "control"):
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-3, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(found[1]["pair_points"] - np.asarray(c), found[0]["pair_points"], atol=1e-6)


def test_copies_far_away_are_copies_and_new_points_are_none() -> None:
    train = points(200)
    fresh = brenier.evaluate(points(100, 1) + 1e7, train + 1e7, progress=False)
    copied = brenier.evaluate(train[:100] + 1e7, train + 1e7, progress=False)
    distance = np.linalg.norm(points(100, 1)[:, None] - train, axis=2)
    distance.sort(axis=1)
    assert float(fresh.value.sel(metric="copied")) == np.mean(distance[:, 0] < distance[:, 1] / 3)
    assert float(copied.value.sel(metric="copied")) == 1


def test_a_function_of_the_users_sees_points_as_they_are() -> None:
    seen: list[float] = []

    def features(x: torch.Tensor) -> torch.Tensor:
        seen.append(float(x.min()))
        return x - 1e7

    brenier.evaluate(points(60, 1) + 1e7, points() + 1e7, features=features, progress=False)
    assert min(seen) > 9e6


@pytest.mark.parametrize("options", [{}, {"assignment": "random", "fresh_noise": True}])
def test_an_expressway_leads_to_where_the_data_lie(options: dict[str, Any]) -> None:
    grid, c = brenier.Schedule([0.5, 0.2, 0.0], "dpmpp-2m", criterion="by hand"), np.array([2e7, -5e7])
    near, far = (
        brenier.Expressway(None, y, schedule=grid, **options).fit(0.1, progress=False) for y in (points(), points() + c)
    )
    assert near.latents is not None
    assert far.latents is not None
    np.testing.assert_allclose(far.latents - torch.tensor(c), near.latents, atol=1e-6)
    if options:
        ends = [way.sample(16, progress=False).points for way in (near, far)]
        np.testing.assert_allclose(ends[1] - torch.tensor(c), ends[0], atol=2e-5)


def test_maps_to_points_far_away_are_the_maps_to_points_near() -> None:
    y, c = points(40), 1e7
    line, moved = (brenier.SemiDiscrete(z[:, :1]).fit(progress=False) for z in (y, y + c))
    x = line.draw(64)
    np.testing.assert_array_equal(moved.map(x) - c, line.map(x))
    normal, far = (
        brenier.MongeAmpere("normal", z, method="gaussian").fit(progress=False) for z in (y, y + np.array([1e8, 0.0]))
    )
    x = normal.draw(8)
    np.testing.assert_allclose(far.map(x) - torch.tensor([1e8, 0.0]), normal.map(x), atol=1e-6)


@pytest.mark.parametrize("method", ["debiased", "exact", "sinkhorn", "sliced", "gelbrich"])
def test_distances_do_not_know_where_the_samples_lie(method: Any) -> None:
    x, y = points(64), points(64, 1) + 0.3
    near, far = (wasserstein.w2(x + c, y + c, method=method) for c in (0.0, np.array([1e8, -1e8])))
    np.testing.assert_allclose([far.value, far.value_se], [near.value, near.value_se], rtol=1e-6)


def test_explicit_laws_far_away_are_in_float64_whatever_was_asked_for() -> None:
    tensor = torch.tensor([[1e8, 1e8], [1e8 + 64, 1e8]], dtype=torch.float32)
    assert GaussianMixture([1, 1], tensor, 1.0).dtype == torch.float64
    assert GaussianMixture([1, 1], tensor - 1e8, 1.0).dtype == torch.float32
    with pytest.warns(UserWarning, match="float32 resolves places to 1e[+]01, the law's smallest length is 0.3"):
        law = mixture((1e8, 1e8), dtype=torch.float32)
    assert law.dtype == torch.float64
    with pytest.warns(UserWarning, match="float64 is used"):
        box = Uniform(1e8, 1e8 + 1, dtype=torch.float32)
    near, far = (brenier.probe(one, [1, 4], progress=False) for one in (Uniform(0.0, 1.0), box))
    np.testing.assert_allclose(far["m_star"], near["m_star"], rtol=1e-7)


def test_a_mixture_is_fitted_where_the_data_lie() -> None:
    y, c = points(), np.array([1e8, 3.0])
    near, far = (GaussianMixture.fit(z, 2, covariance="diagonal") for z in (y, y + c))
    np.testing.assert_allclose(far.means - torch.tensor(c), near.means, atol=1e-6)
    np.testing.assert_allclose(far.variances, near.variances, rtol=1e-6)
    near, far = (brenier.fit_mixture(z, components=2, refits=0, progress=False).law for z in (y, y + c))
    np.testing.assert_allclose(far.means - torch.tensor(c), near.means, atol=1e-6)


def test_a_network_trained_far_away_is_the_network_trained_near(tmp_path: Path) -> None:
    c = np.array([1e7, -2e7])
    nets = [
        brenier.train(y, tmp_path / name, steps=3, batch=32, width=8, depth=1, device="cpu", progress=False)
        for name, y in (("near", points()), ("far", points() + c))
    ]
    y, r = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 2.0
    near, far = nets[0].to(dtype=torch.float64).denoise(y, r), nets[1].denoise(y + r * torch.tensor(c), r)
    np.testing.assert_allclose(far - torch.tensor(c), near, atol=1e-5)
    profiles = [brenier.probe(net.to(dtype=torch.float64), [1.0, 3.0], queries=16, progress=False) for net in nets]
    np.testing.assert_allclose(profiles[1]["mean_localization"], profiles[0]["mean_localization"], rtol=1e-4)
    drawn = brenier.sample(nets[1], 8, steps=2, schedule="karras", progress=False).points
    assert float((drawn - torch.tensor(c)).abs().max()) < 10


def test_any_network_can_be_moved() -> None:
    net = NetworkTarget(lambda x, t: x / (1 + t[:, None] ** 2), event_shape=(2,), snr_range=(0.1, 10.0))
    by = torch.tensor([3.0, -1.0], dtype=torch.float64)
    y = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net.moved(by).denoise(y + 2 * by.float(), 2.0), net.denoise(y, 2.0) + by.float())


LOST = {
    "float32": (np.float32(1e7) + np.round(points() * 3).astype(np.float32), "float32 .* to 1, .*give float64"),
    "nanoseconds": (1_700_000_000_000_000_000 + np.arange(0, 4000, 100), "float64 .* to 2.6e[+]02, .*subtract"),
    "one column": (np.stack([np.arange(64.0), 1e16 + np.arange(64.0)], 1), "float64 .* coordinate 1 .*subtract"),
}


@pytest.mark.parametrize(("values", "message"), LOST.values(), ids=LOST)
def test_points_that_have_lost_their_spread_are_told_of_in_one_line(values: Any, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        brenier.load_target(values)
    with pytest.warns(UserWarning, match=message):
        wasserstein.w2(values.reshape(len(values), -1), values.reshape(len(values), -1))


def test_nothing_is_said_of_points_that_are_resolved() -> None:
    days = np.arange(0, 10**17, 10**15, dtype=np.int64) + 1_700_000_000_000_000_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in (
            days,
            np.ones((9, 2)) * 1e9,
            np.array([0, 1e-15, 1e15], np.float32),
            points() + 1e7,
            np.zeros(3),
        ):
            brenier.load_target(values)
