"""Flows whose paths are known: how solvers follow them, and how bent they are."""

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from brenier.laws.flow import EVALUATIONS, SOLVERS, check_times, even_times, find_solver, follow, straightness

MEAN, DEVIATION = 2.0, 3.0
X = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def size(t: float) -> float:
    """Deviation of (1 - t) Z + t X for independent Z ~ N(0, 1) and X ~ N(mean, deviation^2)."""
    return math.hypot(1 - t, DEVIATION * t)


def gaussian(x: Tensor, t: float) -> Tensor:
    """E[X - Z | x]: the flow whose paths are t mean + size(t) x_0."""
    return MEAN + (DEVIATION**2 * t - (1 - t)) / size(t) ** 2 * (x - t * MEAN)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_step_is_exact_where_paths_are_straight(solver: str) -> None:
    shift = torch.tensor([1.0, -2.0], dtype=torch.float64)
    (found,) = follow(lambda x, t: shift.expand_as(x), X, [0.0, 1.0], solver)
    torch.testing.assert_close(found, X + shift)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_solvers_have_their_order_and_evaluations(solver: str, order: int) -> None:
    """On dx/dt = x cos t, whose solution is x exp(sin t)."""
    exact, errors = X * math.exp(math.sin(1)), []
    for steps in (64, 128):
        *_, last = follow(lambda x, t: x * math.cos(t), X, even_times(steps), solver)
        errors.append(float((last - exact).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    calls = 0

    def counted(x: Tensor, t: float) -> Tensor:
        nonlocal calls
        calls += 1
        return gaussian(x, t)

    path = list(follow(counted, X, [0, 0.1, 0.5, 1], solver))
    assert len(path) == 3
    assert calls == 3 * EVALUATIONS[solver]


def test_straightness_is_an_integral_over_the_paths() -> None:
    times = even_times(400)
    path = torch.stack([t * MEAN + size(t) * X for t in times])
    found = straightness(path, times)

    def speed(t: float) -> float:
        return (DEVIATION**2 * t - (1 - t)) / size(t)

    bent = quad(lambda t: (speed(t) - (DEVIATION - 1)) ** 2, 0, 1)[0] * X.square().sum(1)
    moved = (MEAN + (DEVIATION - 1) * X).square().sum(1) + bent
    assert found.value == pytest.approx(float(bent.mean()), rel=1e-3)
    assert found.value_se == pytest.approx(float(bent.std()) / math.sqrt(len(X)), rel=1e-3)
    assert found.share == pytest.approx(float(bent.sum() / moved.sum()), rel=1e-3)
    straight = straightness(torch.stack([X, X + 0.3, X + 1]), [0, 0.3, 1])
    assert straight.value == pytest.approx(0, abs=1e-24)
    assert straightness(torch.stack([X, X]), [0, 1]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([0.0], "at least two times, got 1"),
        ([0.0, 0.5, 0.5, 1.0], "must increase, got 0.5 after 0.5 at step 2"),
        ([0.0, 0.7, 0.2, 1.0], "must increase, got 0.2 after 0.7"),
        ([-0.1, 1.0], r"must lie in \[0, 1\], from noise to data, got -0.1"),
        ([0.0, 1.5], r"must lie in \[0, 1\]"),
        ([0.0, math.nan], r"must lie in \[0, 1\]"),
    ],
)
def test_a_schedule_goes_forward_within_0_and_1(times: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_times(times)
    with pytest.raises(ValueError, match=words):
        list(follow(gaussian, X, times))


def test_what_is_refused_beside() -> None:
    with pytest.raises(ValueError, match="no solver 'dpmpp-2m' for flows: it is euler, heun or midpoint"):
        find_solver("dpmpp-2m")
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        even_times(0)
    with pytest.raises(ValueError, match="two paths or more, a point per time"):
        straightness(X[None], [0, 1])
    with pytest.raises(ValueError, match="two paths or more, a point per time"):
        straightness(torch.stack([X, X])[:, :1], [0, 1])
