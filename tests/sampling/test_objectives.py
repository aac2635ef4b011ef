"""What a planned grid makes small, against closed forms and other ways to compute it."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from brenier.laws.mixture import GaussianMixture
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.objectives import OBJECTIVES, MedianDistance, RootMeanSquare, SlicedDistance, objective_for
from brenier.sampling.planning import plan
from brenier.sampling.schedule import Schedule

PLANE = GaussianMixture([0.4, 0.35, 0.25], [[-2.0, 0.5], [1.5, 1.0], [0.5, -2.0]], [0.05, 0.2, 0.1])


def draw(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, end = torch.randn((2, n, d), generator=generator, dtype=torch.float64)
    weights = 0.2 + torch.rand(n, generator=generator, dtype=torch.float64)
    return x, end, weights / weights.sum()


def even(n):
    return torch.full((n,), 1 / n, dtype=torch.float64)


def test_on_the_line_the_law_is_compared_by_transport() -> None:
    x, end, weights = draw(7, 1)
    cost = (x - end.T).square().numpy().ravel()
    rows = np.kron(np.eye(7), np.ones(7)), np.kron(np.ones(7), np.eye(7))
    least = linprog(cost, A_eq=np.concatenate(rows), b_eq=np.tile(weights, 2)).fun
    aim = SlicedDistance(end, weights)
    assert aim.value(x)[0] == pytest.approx(math.sqrt(least), rel=1e-9)
    assert weights.numpy() @ aim.parts(x) == pytest.approx(least, rel=1e-9)
    alike = SlicedDistance(end, even(7))
    apart = np.sort(x[:, 0]) - np.sort(end[:, 0])
    assert np.square(alike.residual(x)).sum() == pytest.approx(np.square(apart).mean(), rel=1e-12)
    assert alike.value(x)[0] ** 2 == pytest.approx(np.square(apart).mean(), rel=1e-12)


@pytest.mark.parametrize("d", [2, 4, 16])
def test_a_shift_moves_a_law_by_its_length(d: int) -> None:
    _, end, weights = draw(40, d)
    shift = torch.linspace(-1, 2, d, dtype=torch.float64)
    for aim in (SlicedDistance(end, weights), RootMeanSquare(end, weights)):
        value, error = aim.value(end + shift)
        assert value == pytest.approx(float(shift.norm()), rel=1e-9)
        assert error == pytest.approx(0, abs=1e-7)
        assert np.square(aim.residual(end + shift)).sum() == pytest.approx(float(shift @ shift), rel=1e-9)


def test_points_that_trade_places_leave_their_law() -> None:
    _, end, _ = draw(50, 3)
    assert SlicedDistance(end, even(50)).value(end.flip(0))[0] == pytest.approx(0, abs=1e-7)
    assert RootMeanSquare(end, even(50)).value(end.flip(0))[0] > 1


def test_the_typical_error_counts_switches_once() -> None:
    _, end, weights = draw(41, 2)
    away = torch.linspace(0.5, 1.5, 41, dtype=torch.float64)
    x = end + torch.stack([away, 0 * away], 1)
    aim = MedianDistance(end, even(41), x)
    assert aim.value(x)[0] == pytest.approx(1.0)
    far = x.clone()
    far[-1] += 1e6
    assert aim.value(far)[0] == pytest.approx(1.0)
    assert np.square(aim.residual(far)).sum() - np.square(aim.residual(x)).sum() < 1 / 41
    square = (away.square() / (away.square() + 4.0)).numpy()  # twice the median is the width
    np.testing.assert_allclose(aim.parts(x), square)
    other = MedianDistance(end, weights, x)
    assert np.square(other.residual(x)).sum() == pytest.approx(weights.numpy() @ other.parts(x), rel=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_slopes_are_those_of_difference_quotients(name: str) -> None:
    x, end, weights = draw(30, 3)
    aim = objective_for(name, end, weights, x)
    change = torch.randn((2, 30, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    small = 1e-6
    expected = [(aim.residual(x + small * each) - aim.residual(x - small * each)) / (2 * small) for each in change]
    np.testing.assert_allclose(aim.slopes(x, change), np.stack(expected, 1), rtol=1e-5, atol=1e-8)


@pytest.fixture(scope="module")
def fresh():
    """Every grid of two steps, by brute force on noise that planning has not seen: where each ends, and the flow."""
    x = start(PLANE, 1000, 20.0, seed=5)
    grids = [(20.0, sigma, 0.05) for sigma in np.geomspace(10, 0.1, 40)]
    return x, reference(PLANE, x, 20.0, 0.05, tolerance=1e-4), [integrate(PLANE, x, g, "euler").x for g in grids]


def measured(name, end, goal):
    """Each point's part in what an objective is, computed another way."""
    apart = (end - goal).norm(dim=1)
    if name != "law":
        return apart if name == "typical" else apart.square()
    angles = (torch.arange(90) + 0.5) * math.pi / 90
    lines = torch.stack([angles.cos(), angles.sin()]).to(end)
    return 2 * ((end @ lines).sort(0).values - (goal @ lines).sort(0).values).square().mean(1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_steps_are_those_of_brute_force(fresh, name: str) -> None:
    x, goal, ends = fresh
    made = plan(PLANE, 2, solver="euler", objective=name, sigma_max=20.0, sigma_min=0.05, pilots=64, progress=False)
    found = measured(name, integrate(PLANE, x, made.sigmas, "euler").x, goal)
    middle = torch.Tensor.median if name == "typical" else torch.Tensor.mean
    best = min(float(middle(measured(name, end, goal))) for end in ends)
    error = float(found.std()) / math.sqrt(len(x))
    assert float(middle(found)) < best + 2 * error
    assert made.objective == name
    if name == "error":
        assert made.predicted_objective is None
    else:
        value = math.sqrt(float(found.mean())) if name == "law" else float(found.median())
        spread = error / (2 * value) if name == "law" else 1.25 * error
        assert abs(made.predicted_objective - value) < 3 * math.hypot(spread, made.predicted_objective_se)
    assert Schedule.from_json(made.to_json()) == made


def test_refused() -> None:
    with pytest.raises(ValueError, match="no objective 'rms': it is one of error, typical, law"):
        plan(PLANE, 2, objective="rms", progress=False)
    with pytest.raises(ValueError, match="objective 'law' is for criterion \"error\", 'karras' knows none"):
        plan(PLANE, 2, criterion="karras", objective="law", progress=False)
