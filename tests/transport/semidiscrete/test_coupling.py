"""Coupling reports, against closed forms for two atoms and against POT."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp

import brenier
from brenier.laws.flow import straightness
from brenier.transport import SemiDiscrete
from brenier.transport.semidiscrete.coupling import independent_cost, independent_straightness

LIGHT = {"samples": 2**12, "progress": False}


@pytest.fixture(scope="module")
def rings() -> tuple[np.ndarray, np.ndarray]:
    """Two classes side by side in the plane, 30 points each."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    return rng.normal(size=(60, 2)) * 0.5 + np.where(labels, 1.5, -1.5)[:, None] * [1, 0], labels


def test_of_two_atoms_all_is_known() -> None:
    """Atoms -1 and 1: Bin(k, 1/2) noises are on the right, others so many data; the difference is paired wrongly."""
    found = brenier.coupling_report(
        SemiDiscrete([-1.0, 1.0]).fit(), batches=(4, 16, 64, 256, 1024), samples=2**14, progress=False
    )
    k = found["batch"].to_numpy()
    wrong = [np.abs(np.arange(2 * n + 1) - n) @ stats.binom.pmf(np.arange(2 * n + 1), 2 * n, 0.5) / n for n in k]
    exact = 2 * np.sqrt(wrong)
    assert (abs(found["detour"] - exact) < 4 * found["detour_se"]).all()
    assert found.attrs["slope_low"] < -0.25 < found.attrs["slope_high"]
    assert found.attrs["slope_high"] - found.attrs["slope_low"] < 0.15
    assert float(found["independent_cost"]) == 2
    assert float(found["map_cost"]) == pytest.approx(
        2 - 2 * math.sqrt(2 / math.pi), abs=4 * float(found["map_cost_se"])
    )
    assert abs(float(found["cost"][-1]) - float(found["map_cost"])) < 4 * float(found["cost_se"][-1])
    assert "skew_p" not in found.attrs


@pytest.mark.parametrize("labels", [None, [0, 1]])
def test_independent_pairs_of_two_atoms_make_a_flow_whose_bend_is_known(labels: list[int] | None) -> None:
    """v = (tanh(t x/(1 - t)^2) - x)/(1 - t) for atoms -1 and 1; within classes all paths are straight."""
    transport = SemiDiscrete([-1.0, 1.0], labels=labels).fit()
    found, error = independent_straightness(transport)
    if labels is not None:
        assert found == pytest.approx(0, abs=1e-12)
        return
    times, x = np.linspace(0, 1, 33), stats.norm.ppf((np.arange(400) + 0.5) / 400)

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        return (np.tanh(t * y / (1 - t) ** 2) - y) / (1 - t)

    path = solve_ivp(velocity, (0, times[-2]), x, t_eval=times[:-1], rtol=1e-8, atol=1e-10).y.T
    exact = straightness(torch.from_numpy(np.vstack([path, np.sign(x)]))[:, :, None], times.tolist())
    assert abs(found - exact.value) < 4 * error
    assert found > 10 * error


def test_plans_are_those_of_pot(rings: tuple[np.ndarray, np.ndarray]) -> None:
    transport = SemiDiscrete(rings[0]).fit(0.05, progress=False)
    found = brenier.coupling_report(transport, batches=(32,), **LIGHT)
    rng = np.random.default_rng(1)
    costs = [
        ot.emd2([], [], ot.dist(rng.normal(size=(32, 2)), rings[0][rng.integers(60, size=32)])) for _ in range(200)
    ]
    error = math.hypot(float(found["cost_se"][0]), float(np.std(costs)) / math.sqrt(200))
    assert abs(float(found["cost"][0]) - np.mean(costs)) < 4 * error
    assert np.isnan(found.attrs["slope"])


def test_plain_transport_to_classes_is_skewed_and_a_map_for_each_is_not(rings: tuple[np.ndarray, np.ndarray]) -> None:
    """At 2,000 pairs, and 1%."""
    points, labels = rings
    plain, own = SemiDiscrete(points).fit(0.05, progress=False), SemiDiscrete(points, labels=labels)
    skewed = brenier.coupling_report(plain, labels, batches=(), **LIGHT)
    assert skewed.attrs["skew_p"] < 0.01
    assert skewed.attrs["skew_correlation"] > 0.3
    right = brenier.coupling_report(own.fit(0.05, progress=False), batches=(16,), **LIGHT)
    assert right.attrs["skew_p"] > 0.01
    assert abs(right.attrs["skew_correlation"]) < 0.005
    assert right.attrs["skew_pairs"] == 2000
    assert float(skewed["map_cost"]) < float(right["map_cost"]) < float(right["independent_cost"])
    assert float(right["cost"][0]) < float(right["independent_cost"])
    coordinate = brenier.coupling_report(plain, points[:, 0], batches=(), pairs=200, **LIGHT)
    assert coordinate.attrs["skew_p"] < 0.01


@pytest.mark.parametrize("source", ["normal", "uniform", "own"])
def test_the_cost_of_independent_pairs_is_that_of_draws(source: str) -> None:
    rng = np.random.default_rng(0)

    def own(n: int, generator: torch.Generator) -> torch.Tensor:
        return 1 + 2 * torch.randn(n, 3, generator=generator)

    transport = SemiDiscrete(
        rng.normal(size=(5, 3)) + 1, rng.dirichlet(np.ones(5)), source=own if source == "own" else source
    )
    cost, error = independent_cost(transport)
    x = transport.draw(100_000, 3).double()
    y = transport.points[torch.multinomial(transport.weights, 100_000, replacement=True)]
    each = (x - y).square().sum(1)
    assert abs(cost - float(each.mean())) < 4 * math.hypot(error, float(each.std()) / math.sqrt(100_000))


def test_a_report_is_told_in_words(rings: tuple[np.ndarray, np.ndarray]) -> None:
    transport = SemiDiscrete(rings[0]).fit(0.05, progress=False)
    found = brenier.coupling_report(transport, rings[1], batches=(4, 16), **LIGHT)
    text = brenier.summary(found)
    assert "noise depends on the condition" in text
    assert f"{found.attrs['skew_correlation']:.4f}" in text
    assert "of the map's gain" in text
    assert brenier.table(found)["batch"].tolist() == [4, 16]


def test_what_is_refused(rings: tuple[np.ndarray, np.ndarray]) -> None:
    transport = SemiDiscrete(rings[0]).fit(0.2, progress=False)
    with pytest.raises(ValueError, match=r"condition must be 60, one for each datum, got shape \(59,\)"):
        brenier.coupling_report(transport, rings[1][1:])
    with pytest.raises(ValueError, match="NaN"):
        brenier.coupling_report(transport, np.full(60, np.nan))
    with pytest.raises(ValueError, match="batches must be a whole number of at least 2, got 1"):
        brenier.coupling_report(transport, batches=(1,))
    with pytest.raises(ValueError, match="not been fitted"):
        brenier.coupling_report(SemiDiscrete(rings[0]))
