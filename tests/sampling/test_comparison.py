"""On Gaussian laws every solver's step multiplies x - m by a number: errors are known in closed form."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from brenier.laws.mixture import GaussianMixture
from brenier.networks.network import NetworkTarget
from brenier.sampling import comparison
from brenier.sampling.comparison import compare

MEAN, SPREAD = 1.5, 0.7
QUICK = {"n": 300, "pilots": 16, "progress": False}


def normal(dim: int = 1) -> GaussianMixture:
    return GaussianMixture([1.0], [[MEAN] * dim], [SPREAD**2], name="normal law")


def euler_slope(sigmas: Sequence[float]) -> float:
    """x' - m = (share + (1 - share) s^2/(s^2 + sigma^2)) (x - m)."""
    slope = 1.0
    for sigma, after in pairwise(sigmas):
        slope *= after / sigma + (1 - after / sigma) * SPREAD**2 / (SPREAD**2 + sigma**2)
    return slope


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return compare(
        normal(), [2, 5], solvers=["euler", "heun", "euler-maruyama"], criteria=["karras", "uniform-sigma"], **QUICK
    )


def test_errors_are_those_of_the_closed_form(found: xr.Dataset) -> None:
    high = found.attrs["sigma_max"]
    exact = SPREAD / math.hypot(SPREAD, high)
    noise = []
    for criterion in found["criterion"].values:
        for steps in found["steps"].values:
            cell = found.sel(criterion=criterion, steps=steps, solver="euler")
            expected = abs(euler_slope(cell["sigmas"].values[: steps + 1].tolist()) - exact) * high
            # Every distance is |z| times this: the mean square and the median of |z| are 1 and 0.6745.
            assert abs(float(cell["rms"]) - expected) < 4 * float(cell["rms_se"])
            assert abs(float(cell["median"]) - 0.6744898 * expected) < 4 * float(cell["median_se"])
            assert float(cell["rms_se"]) == pytest.approx(float(cell["rms"]) / math.sqrt(2 * QUICK["n"]), rel=0.2)
            assert float(cell["median_se"]) == pytest.approx(expected / 0.6356 / math.sqrt(QUICK["n"]) / 2, rel=0.5)
            noise.append(float(cell["rms"]) / expected)
    np.testing.assert_allclose(noise, noise[0], rtol=1e-4)  # the same noise in every cell


def test_on_the_line_w2_of_increasing_maps_is_the_rms(found: xr.Dataset) -> None:
    ode = found.sel(solver=["euler", "heun"])
    np.testing.assert_allclose(ode["w2"], ode["rms"], rtol=1e-9)
    assert float(found["w2_reference"]) < 4 * float(found["w2_reference_se"]) < 1


def test_stochastic_solvers_are_judged_by_w2_alone(found: xr.Dataset) -> None:
    noisy = found.sel(solver="euler-maruyama")
    for name in ("rms", "rms_se", "median", "median_se", "predicted"):
        assert noisy[name].isnull().all()
    assert noisy["w2"].notnull().all()
    assert noisy["w2_se"].notnull().all()
    # Its output is normal with this mean and variance.
    cell = noisy.sel(criterion="uniform-sigma", steps=2)
    high, after = cell["sigmas"].values[:2]
    gain, share = SPREAD**2 / (SPREAD**2 + high**2), (after / high) ** 2
    variance = (gain + share * (1 - gain)) ** 2 * high**2 + high**2 - after**2
    deviation = math.sqrt(variance) * SPREAD**2 / (SPREAD**2 + after**2)
    assert abs(float(cell["w2"]) - abs(deviation - SPREAD)) < 4 * float(cell["w2_se"])


def test_evaluations_and_levels_are_those_of_the_grids(found: xr.Dataset) -> None:
    np.testing.assert_array_equal(found["evaluations"], [[2, 5], [3, 9], [2, 5]])
    assert found["sigmas"].dims == ("criterion", "solver", "steps", "level")
    for steps in (2, 5):
        levels = found["sigmas"].sel(steps=steps).values
        assert np.isnan(levels[..., steps + 1 :]).all()
        assert (np.diff(levels[..., : steps + 1]) < 0).all()
        assert (levels[..., steps] == 0).all()
        np.testing.assert_allclose(levels[..., 0], found.attrs["sigma_max"], rtol=1e-12)


def test_a_grid_may_end_above_zero() -> None:
    low = 0.5
    found = compare(normal(), [4], solvers=["euler"], criteria=["log-snr"], sigma_max=20.0, sigma_min=low, **QUICK)
    levels = found["sigmas"].values.ravel()
    assert levels[0] == pytest.approx(20)
    assert levels[-1] == pytest.approx(low)
    exact = math.hypot(SPREAD, low) / math.hypot(SPREAD, 20)
    expected = abs(euler_slope(levels.tolist()) - exact) * 20
    assert abs(found["rms"].item() - expected) < 4 * found["rms_se"].item()


@pytest.mark.parametrize("dim", [2, 6])
def test_w2_and_its_sliced_bound_are_the_rms_where_space_is_only_scaled(dim: int) -> None:
    found = compare(normal(dim), [3], solvers=["euler"], criteria=["karras"], **QUICK)
    high = found.attrs["sigma_max"]
    exact = SPREAD / math.hypot(SPREAD, high)
    expected = abs(euler_slope(found["sigmas"].values.ravel().tolist()) - exact) * high * math.sqrt(dim)
    assert found["w2"].item() <= found["rms"].item() * (1 + 1e-9) if dim == 2 else found.attrs["w2_method"] != "exact"
    assert abs(found["w2"].item() - expected) < 4 * found["w2_se"].item() < 0.2 * expected
    assert abs(found["rms"].item() - expected) < 4 * found["rms_se"].item()


def test_points_that_change_places_are_seen_by_the_rms_alone() -> None:
    """Half of the points trade places with a twin in another mode, 10 away in 8 dimensions."""
    generator = torch.Generator().manual_seed(0)
    goal = torch.randn((400, 8), generator=generator, dtype=torch.float64)
    goal[::2, 0] += 10
    swapped = goal.clone()
    swapped[:200] = swapped[:200].reshape(100, 2, 8).flip(1).reshape(200, 8)
    assert comparison._to_goal(swapped, goal)["rms"] > 7
    assert comparison._to_twin(swapped, goal)["w2"] == pytest.approx(0, abs=1e-6)
    moved = goal + torch.tensor([1.0] + [0] * 7, dtype=torch.float64)
    found = comparison._to_twin(moved, goal)
    assert abs(found["w2"] - 1) < 4 * found["w2_se"]


def test_the_same_seed_gives_the_same_and_pilots_share_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    start = comparison.start

    def record(law: object, n: int, sigma: float, seed: int) -> Tensor:
        seeds.append(seed)
        return start(law, n, sigma, seed)

    monkeypatch.setattr(comparison, "start", record)
    first, second, other = (
        compare(normal(), [2], solvers=["euler"], criteria=["karras"], seed=seed, **QUICK) for seed in (1, 1, 2)
    )
    xr.testing.assert_identical(first, second)
    assert first["rms"].item() != other["rms"].item()
    assert not {1, 2} & set(seeds)


def test_a_network_without_data_is_compared_with_itself() -> None:
    def network(x: Tensor, t: Tensor) -> Tensor:
        return MEAN + SPREAD**2 / (SPREAD**2 + t[:, None] ** 2) * (x - MEAN)

    law = NetworkTarget(network, event_shape=(2,), snr_range=(0.02, 100), dtype=torch.float64)
    found = compare(law, [3], solvers=["euler", "euler-maruyama"], criteria=["karras"], **QUICK)
    assert found["w2"].sel(solver="euler").notnull().all()
    assert found["w2"].sel(solver="euler-maruyama").isnull().all()
    assert math.isnan(float(found["w2_reference"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": [0]}, "steps"),
        ({"steps": []}, "steps must be one number or more"),
        ({"steps": [5, 5]}, "each given once"),
        ({"solvers": ["eular"]}, "no solver 'eular'"),
        ({"solvers": []}, "at least one solver"),
        ({"criteria": ["karas"]}, "no criterion 'karas'"),
        ({"criteria": ["karras", "karras"]}, "none twice"),
        ({"n": 1}, "n must be"),
        ({"sigma_max": 1.0, "sigma_min": 2.0}, "sigma_m"),
        ({"seed": -1}, "seed"),
    ],
)
def test_refused(options: dict[str, object], words: str) -> None:
    given = {"steps": [2], "solvers": ["euler"], "criteria": ["karras"], **QUICK, **options}
    with pytest.raises(ValueError, match=words):
        compare(normal(), **given)


def test_another_objective_is_predicted_beside_what_is_measured() -> None:
    made = compare(normal(), [3], solvers=["euler"], criteria=["error", "karras"], objective="typical", **QUICK)
    cell, hand = (made.sel(solver="euler", steps=3, criterion=name) for name in ("error", "karras"))
    doubt = math.hypot(float(cell["median_se"]), float(cell["predicted_objective_se"]))
    assert abs(float(cell["predicted_objective"] - cell["median"])) < 3 * doubt
    assert np.isnan(float(hand["predicted_objective"]))
    assert made.attrs["objective"] == "typical"
