"""Laws behind values that scatter, against the laws that the values were made from."""

import numpy as np
import pytest
import torch
from torch import Tensor

from brenier.probing.deconvolution import POINTS, mixing_weights, support

RNG = np.random.default_rng


def scattered(truth: np.ndarray, freedom: float, seed: int = 0) -> Tensor:
    """L chi^2_nu/nu at each L: what an estimated variance with relative variance 2/nu looks like."""
    return torch.from_numpy(truth * RNG(seed).chisquare(freedom, len(truth)) / freedom)


def found(values: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    grid = support(values)
    return grid, mixing_weights(values, torch.full_like(values, noise), grid)


def spread(grid: Tensor, weights: Tensor) -> float:
    centre = (grid * weights).sum()
    return float(((grid - centre).square() * weights).sum().sqrt())


@pytest.mark.parametrize("freedom", [200, 40])
def test_two_points_come_back_with_their_weights_and_their_tail(freedom: int) -> None:
    few, count = 0.3, 4000
    truth = np.where(RNG(1).uniform(size=count) < few, 2.0, 0.5)
    share = (truth == 2.0).mean()
    values = scattered(truth, freedom)
    grid, weights = found(values, 2 / freedom)
    above = float(weights[grid > 1].sum())
    assert above == pytest.approx(share, abs=3 * np.sqrt(few * (1 - few) / count))
    tail = float(((grid - 1).clamp_min(0) * weights).sum())
    error = 3 * 2.0 * np.sqrt(2 / freedom) / np.sqrt(few * count)  # of the mean of values about 2, in relation
    assert tail == pytest.approx(share, rel=error + 0.02)
    for place, within in ((0.5, grid < 1), (2.0, grid > 1)):
        part = weights * within
        assert float((grid * part).sum() / part.sum()) == pytest.approx(place, rel=0.02)
        assert spread(grid[within], part[within] / part.sum()) < 0.35 * place * np.sqrt(2 / freedom)


def test_a_constant_comes_back_as_one_and_has_no_tail() -> None:
    values = scattered(np.full(2000, 0.8), 20)
    grid, weights = found(values, 0.1)
    assert float((grid * weights).sum()) == pytest.approx(0.8, rel=4 * np.sqrt(0.1 / 2000))
    assert spread(grid, weights) < 0.25 * float(values.std())
    assert float((values - 1).clamp_min(0).mean()) > 0.03  # which as they are they have
    assert float(((grid - 1).clamp_min(0) * weights).sum()) < 1e-3


def test_values_without_noise_are_their_own_law() -> None:
    values = torch.from_numpy(np.geomspace(0.1, 10, POINTS))[torch.from_numpy(RNG(0).permutation(POINTS))]
    grid, weights = found(values, 0.0)
    torch.testing.assert_close(grid, values.sort().values)
    torch.testing.assert_close(weights, torch.full_like(grid, 1 / POINTS), rtol=1e-3, atol=0)


def test_the_grid_runs_from_the_least_to_the_largest() -> None:
    values = torch.from_numpy(RNG(0).lognormal(size=(3, 500)))
    grid = support(values)
    assert grid.shape == (3, POINTS)
    assert bool((grid.diff() >= 0).all())
    torch.testing.assert_close(grid[:, [0, -1]], torch.stack([values.amin(1), values.amax(1)], 1))
    assert support(values, 7).shape == (3, 7)


def test_counts_are_repetitions() -> None:
    values = scattered(np.ones(60), 10)
    times = torch.from_numpy(RNG(2).integers(0, 5, 60))
    noise, grid = torch.full_like(values, 0.2), support(values)
    counted = mixing_weights(values, noise, grid, counts=times.double())
    repeated = mixing_weights(values.repeat_interleave(times), noise.repeat_interleave(times), grid)
    torch.testing.assert_close(counted, repeated, rtol=1e-3, atol=1e-5)


def test_problems_along_leading_axes_are_apart() -> None:
    values = torch.stack([scattered(np.full(200, place), 30, seed) for seed, place in enumerate((0.1, 1.0, 40.0))])
    noise, grid = torch.full_like(values, 1 / 15), support(values)
    together = mixing_weights(values, noise, grid)
    for k in range(3):
        torch.testing.assert_close(together[k], mixing_weights(values[k], noise[k], grid[k]), rtol=1e-3, atol=1e-6)


def test_each_value_counts_by_its_own_noise() -> None:
    """One that is known well outweighs many about which nothing is known."""
    values = torch.tensor([1.0] + [3.0] * 50, dtype=torch.float64)
    noise = torch.tensor([1e-4] + [4.0] * 50, dtype=torch.float64)
    grid = torch.tensor([1.0, 3.0], dtype=torch.float64)
    blurred = mixing_weights(values, noise, grid)
    sharp = mixing_weights(values, torch.full_like(noise, 1e-4), grid)
    torch.testing.assert_close(sharp, torch.tensor([1 / 51, 50 / 51], dtype=torch.float64), rtol=1e-4, atol=0)
    assert float(blurred[0]) > 2 * float(sharp[0])


def test_a_start_near_the_end_needs_fewer_steps() -> None:
    values = scattered(np.where(np.arange(800) % 4 == 0, 2.0, 0.5), 40)
    grid = support(values)
    noise = torch.full_like(values, 0.05)
    long = mixing_weights(values, noise, grid, steps=600)
    again = mixing_weights(values, noise, grid, start=long, steps=5)
    assert float((again - long).abs().sum()) < 0.02
    assert float((mixing_weights(values, noise, grid, steps=5) - long).abs().sum()) > 0.2


@pytest.mark.parametrize("unit", [1e-250, 1e-30, 1e30, 1e250])
def test_no_unit_is_special(unit: float) -> None:
    values = scattered(np.where(np.arange(300) % 3 == 0, 2.0, 0.5), 40)
    grid, weights = found(values, 0.05)
    scaled, same = found(unit * values, 0.05)
    torch.testing.assert_close(scaled, unit * grid, rtol=1e-12, atol=0)
    torch.testing.assert_close(same, weights, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([0.7], 0.7),
        ([0.0], 0.0),
        ([0.0] * 9, 0.0),
        ([2.0] * 9, 2.0),
        ([0.0, 0.0, 0.0, 4.0], 1.0),
        ([1e-30, 1.0], 0.5),
        ([0.0, 1e200], 5e199),
        ([0.0, 1e-290], 5e-291),
    ],
    ids=str,
)
def test_zeros_ties_and_single_values_have_weights_that_are_finite(values: list[float], mean: float) -> None:
    given = torch.tensor(values, dtype=torch.float64)
    for noise in (0.0, 0.05):
        grid, weights = found(given, noise)
        assert bool((grid > 0).all())
        assert bool((weights >= 0).all())
        assert float(weights.sum()) == pytest.approx(1)
        assert float((grid * weights).sum()) == pytest.approx(mean, rel=0.05 if noise else 0.02, abs=1e-288)
