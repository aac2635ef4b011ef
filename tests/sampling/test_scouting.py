"""Pilots among scouts: unbiased, where rare errors are, and predictions that hold on noise that nobody saw."""

import math

import numpy as np
import pytest
import torch

from brenier import GaussianMixture, plan, predict
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.scouting import LEVELS, Held, amplification, draw, scout, scouted, weighted_mean

SIGMAS = np.geomspace(20.0, 0.05, 33).tolist()


def modes(dim: int, count: int, seed: int) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    means = 2.5 * rng.normal(size=(count, dim))
    return GaussianMixture(rng.dirichlet(np.ones(count)), means, rng.uniform(0.02, 0.2, count))


def test_the_draw_is_unbiased_whatever_the_score() -> None:
    rng = np.random.default_rng(0)
    score, values = rng.exponential(size=400) ** 4, rng.normal(size=400)
    means = []
    for seed in range(600):
        index, weights = draw(score, 60, seed)
        assert abs(len(index) - 60) <= 1
        assert len(set(index.tolist())) == len(index)
        assert float(weights.sum()) == pytest.approx(1)
        means.append(weighted_mean(values[index], weights)[0])
    assert abs(np.mean(means) - values.mean()) < 4 * np.std(means) / math.sqrt(600) + 0.01  # a ratio's bias: O(1/60)


def test_large_scores_are_drawn_for_sure_and_none_not_at_all() -> None:
    score = np.array([1e6, 1e6, *[1.0] * 98])
    for seed in range(20):
        index, weights = draw(score, 30, seed)
        assert {0, 1} <= set(index.tolist())
        assert float(weights.min() / weights.max()) < 0.35
    index, weights = draw(np.zeros(50), 10, 0)
    assert len(index) == 10
    assert float(weights.max()) == pytest.approx(0.1)


@pytest.mark.parametrize("count", [5, 6, 100])
def test_of_few_all_are_drawn(count: int) -> None:
    index, weights = draw(np.arange(5.0), count)
    assert sorted(index.tolist()) == list(range(5))
    assert weights.tolist() == pytest.approx([0.2] * 5)


def test_amplification_is_that_of_a_normal_law() -> None:
    law = GaussianMixture([1.0], [[1.0, 0.0, 2.0]], 0.5)
    x = start(law, 50, 20.0)
    exact = math.sqrt((0.5 + 0.05**2) / (0.5 + 20.0**2))  # the flow scales about the mean
    errors = [abs(amplification(law, x, np.geomspace(20.0, 0.05, n).tolist()) / exact - 1).max() for n in (33, 65, 129)]
    assert errors[0] < 0.1
    assert errors[2] < errors[1] / 1.7 < errors[0] / 2.8


def test_amplification_is_largest_near_the_border() -> None:
    law = GaussianMixture([0.5, 0.5], [[2.0, 0, 0, 0], [-2.0, 0, 0, 0]], 0.01)
    x = start(law, 2000, 20.0)
    score = amplification(law, x, SIGMAS)
    near = x[:, 0].abs().numpy()
    assert near[np.argsort(score)[-20:]].max() < np.quantile(near, 0.05)


def test_two_parts_are_disjoint_and_each_stands_for_all() -> None:
    law = modes(3, 6, 0)
    x = start(law, 1000, 20.0)
    (one, weights), (two, others) = scout(law, x, (20.0, 0.05), 100, 200)
    assert (len(one) - 100, len(two) - 200) in ((0, 0), (0, 1), (1, 0), (-1, 0), (0, -1), (1, -1), (-1, 1))
    assert not {tuple(row) for row in one.tolist()} & {tuple(row) for row in two.tolist()}
    for part, mass in ((one, weights), (two, others)):
        assert float(mass.sum()) == pytest.approx(1)
        centre = mass @ part
        spread = (mass @ (part - centre).square()).sqrt()
        np.testing.assert_allclose(spread, 20.0, rtol=0.35)


def test_the_first_grid_is_taken_unless_another_is_surely_better() -> None:
    law = modes(3, 4, 1)
    x = start(law, 200, 20.0)
    held = Held.of(law, x, torch.full((200,), 1 / 200, dtype=torch.float64), np.geomspace(20, 0.05, 129).tolist(), None)
    coarse, fine = np.geomspace(20, 0.05, 5), np.geomspace(20, 0.05, 17)
    assert held.safest(law, [fine, coarse], "heun")[0] == 0
    best, end = held.safest(law, [coarse, fine], "heun")
    assert best == 1
    square, error = weighted_mean((end - held.end).square().sum(1).numpy(), held.weights)
    exact = reference(law, x, 20.0, 0.05)
    squares = (integrate(law, x, fine, "heun").x - exact).square().sum(1)
    assert square == pytest.approx(float(squares.mean()), rel=0.02)
    assert error == pytest.approx(float(squares.std()) / math.sqrt(200), rel=0.02)
    assert held.safest(law, [fine, fine], "heun")[0] == 0


def test_rare_switches_are_predicted() -> None:
    law = modes(3, 9, 3)
    made = plan(law, 12, sigma_max=20.0, sigma_min=0.05, progress=False)
    hand = plan(law, 12, criterion="karras", sigma_max=20.0, sigma_min=0.05, progress=False)
    x = start(law, 4000, 20.0, seed=9)
    exact = reference(law, x, 20.0, 0.05, tolerance=1e-5)
    for schedule in (made, *predict(law, [hand])):
        squares = (integrate(law, x, schedule.sigmas, schedule.solver).x - exact).square().sum(1)
        rms = float(squares.mean().sqrt())
        doubt = math.hypot(float(squares.std()) / math.sqrt(len(x)) / 2 / rms, schedule.end_error_se)
        assert abs(schedule.end_error - rms) < 3 * doubt


def test_scouts_cost_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    law, rows = GaussianMixture([1.0], [[1.0, 0.0, 2.0]], 0.5), 0
    denoise = GaussianMixture.denoise

    def count(law: GaussianMixture, y: torch.Tensor, snr: float) -> torch.Tensor:
        nonlocal rows
        rows += len(y)
        return denoise(law, y, snr)

    monkeypatch.setattr(GaussianMixture, "denoise", count)
    amplification(law, start(law, 50, 20.0), np.geomspace(20.0, 0.05, LEVELS).tolist())
    assert 0 <= rows - scouted(50) <= 32  # that find the mean
