"""Sinkhorn's iteration against closed forms between normal laws and exact transport."""

import math
import re

import numpy as np
import ot
import pytest
import torch

from brenier.distances.couplings import by_simplex
from brenier.transport import Entropic, sinkhorn


def line(reach: float, variance: float, count: int = 240) -> tuple[torch.Tensor, torch.Tensor]:
    """A grid, and the density of N(0, variance) on it."""
    points = torch.linspace(-reach, reach, count, dtype=torch.float64)
    return points[:, None], torch.exp(-points.square() / (2 * variance))


def cloud(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Between normal laws


def test_between_normal_laws_iterates_are_quadratics_with_a_known_recursion() -> None:
    (y, a), (x, b) = line(8, 1.0), line(12, 2.0)
    epsilon, curvature = 0.2, 1.0
    found = sinkhorn(
        y, x, reg=2 * epsilon, reference_weights=a, target_weights=b, iterations=7, start=y[:, 0].square() / 2
    )
    for _ in range(7):
        curvature = 1 / (1 / (curvature + epsilon) + epsilon / 2)
    central = y[y[:, 0].abs() < 4]
    error = found.potential(central) - curvature * central[:, 0].square() / 2
    assert float(error.max() - error.min()) < 1e-8
    torch.testing.assert_close(found.map(central), curvature * central, atol=1e-8, rtol=0)
    assert found.iterations == 7
    assert found.marginal_error > 1e-2


def test_an_iteration_is_a_step_of_the_equation() -> None:
    """Of psi = a y^2/2 between N(0, 1) and N(0, 2), to first order in epsilon: a' = 1 - a^2/2 at a = 1/2."""
    (y, a), (x, b) = line(8, 1.0, 700), line(12, 2.0, 700)
    defects = []
    for epsilon in (0.02, 0.01):
        found = sinkhorn(
            y, x, reg=2 * epsilon, reference_weights=a, target_weights=b, iterations=1, start=y[:, 0].square() / 4
        )
        slope = float(found.map(torch.ones(1, 1, dtype=torch.float64)))
        defects.append(slope - (0.5 + epsilon * (1 - 0.5**2 / 2)))
    assert defects[0] / defects[1] == pytest.approx(4, rel=0.05)


def test_the_entropic_optimum_between_normal_laws() -> None:
    """Janati et al., arXiv:2006.02572: the coupling has covariance sqrt(s0 s + (epsilon/2)^2) - epsilon/2."""
    (y, a), (x, b) = line(8, 1.0), line(12, 2.0)
    epsilon = 0.3
    found = sinkhorn(y, x, reg=2 * epsilon, reference_weights=a, target_weights=b, tolerance=1e-10)
    covariance = math.sqrt(2 + epsilon**2 / 4) - epsilon / 2
    plan = found.plan()
    assert float(y[:, 0] @ plan @ x[:, 0]) == pytest.approx(covariance, rel=1e-8)
    place = torch.tensor([[0.7]], dtype=torch.float64)
    assert float(found.map(place)) == pytest.approx(0.7 * covariance, rel=1e-8)
    assert float(found.inverse(place)) == pytest.approx(0.7 * covariance / 2, rel=1e-8)
    kl = -math.log(1 - covariance**2 / 2) / 2
    assert found.value() == pytest.approx(1 + 2 - 2 * covariance + 2 * epsilon * kl, rel=1e-8)


# Between samples


def test_the_value_is_that_of_the_coupling_and_of_pot() -> None:
    y, x = cloud(30, 2, 0), 2 * cloud(40, 2, 1)
    a, b = cloud(30, 1, 2)[:, 0].square() + 0.5, cloud(40, 1, 3)[:, 0].square() + 0.5
    found = sinkhorn(y, x, reg=1.0, reference_weights=a, target_weights=b, tolerance=1e-11)
    plan, cost = found.plan(), torch.cdist(y, x).square()
    a, b = a / a.sum(), b / b.sum()
    torch.testing.assert_close(plan.sum(1), a)
    torch.testing.assert_close(plan.sum(0), b)
    kl = float((plan * (plan / (a[:, None] * b)).log()).sum())
    assert found.value() == pytest.approx(float((plan * cost).sum()) + kl, rel=1e-8)
    peer = ot.sinkhorn(a.numpy(), b.numpy(), cost.numpy(), 1.0, numItermax=10_000, stopThr=1e-12)
    np.testing.assert_allclose(plan.numpy(), peer, atol=1e-9)


def test_the_map_is_the_gradient_of_the_potential_and_both_extend_the_sample() -> None:
    y, x = cloud(30, 2, 0), 2 * cloud(40, 2, 1)
    found = sinkhorn(y, x, reg=1.0)
    torch.testing.assert_close(found.potential(y), found.psi)
    torch.testing.assert_close(found.map(y), found.plan() @ x * 30)
    fresh = cloud(10, 2, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(found.potential(fresh).sum(), fresh)
    torch.testing.assert_close(found.map(fresh.detach()), gradient)
    assert found.map(y.float()).dtype == torch.float64
    again = sinkhorn(y.numpy(), x.tolist(), reg=1.0)
    np.testing.assert_array_equal(again.map(y.numpy()), found.map(y))


def test_for_a_small_epsilon_it_is_exact_transport() -> None:
    y, x = cloud(20, 2, 0), cloud(20, 2, 1) + 1
    uniform = np.full(20, 1 / 20)
    cost, *_ = by_simplex(y.numpy(), uniform, x.numpy(), uniform)
    found = sinkhorn(y, x, reg=0.006, anneal=2.0, tolerance=1e-5)
    assert found.value() == pytest.approx(cost, abs=0.006 * math.log(20))
    assert found.marginal_error <= 1e-5


def test_warm_starts_go_on_where_they_left_off() -> None:
    y, x = cloud(30, 2, 0), 2 * cloud(40, 2, 1)
    whole = sinkhorn(y, x, reg=0.2, iterations=9)
    half = sinkhorn(y, x, reg=0.2, iterations=4)
    again = sinkhorn(y, x, reg=0.2, iterations=5, start=half.psi)
    torch.testing.assert_close(again.psi, whole.psi)
    torch.testing.assert_close(again.phi, whole.phi)
    assert again.marginal_error == pytest.approx(whole.marginal_error)


def test_annealing_takes_fewer_iterations() -> None:
    y, x = cloud(40, 2, 0), 2 * cloud(40, 2, 1)
    cold = sinkhorn(y, x, reg=0.2, tolerance=1e-4)
    warm = sinkhorn(y, x, reg=0.2, tolerance=1e-4, anneal=4.0)
    assert warm.iterations < 0.8 * cold.iterations
    assert warm.value() == pytest.approx(cold.value(), rel=1e-6)


# What is refused


def test_what_does_not_fit_is_refused() -> None:
    y, x = cloud(5, 2, 0), cloud(6, 2, 1)
    broken = x.clone()
    broken[2, 0] = math.nan
    for arguments, options, message in (
        ((y[:, 0], x), {}, "reference has shape (5,): points are the rows"),
        ((y, broken), {}, "target holds values that are not finite"),
        ((y, x[:, :1]), {}, "the reference is in 2 dimensions and the target in 1"),
        ((cloud(8000, 1, 0), cloud(8000, 1, 0)), {}, "make too large a coupling"),
        ((y, x), {"reg": 0.0}, "reg and tolerance must be positive and finite, got 0.0"),
        ((y, x), {"reference_weights": torch.zeros(5)}, "the weights of the reference must be 5 positive finite"),
        ((y, x), {"target_weights": torch.ones(5)}, "the weights of the target must be 6 positive finite numbers"),
        ((y, x), {"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
        ((y, x), {"start": torch.zeros(6)}, "start must hold 5 finite numbers"),
        ((y, x), {"anneal": 0.05}, "anneal is a reg above 0.1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            sinkhorn(*arguments, **{"reg": 0.1, **options})
    with pytest.raises(RuntimeError, match="stopped after 20 steps with marginal error"):
        sinkhorn(y, x, reg=2e-3, most=20)


def test_a_result_is_frozen() -> None:
    found = sinkhorn(cloud(5, 2, 0), cloud(6, 2, 1), reg=1.0)
    assert isinstance(found, Entropic)
    with pytest.raises(AttributeError):
        found.psi = found.phi  # type: ignore[misc]


# Far from zero


@pytest.mark.parametrize("where", [1e5, (3e8, 0.0, -1e6)])
def test_samples_far_from_zero_are_coupled_as_at_zero(where: float | tuple[float, ...]) -> None:
    by = torch.tensor(where, dtype=torch.float64).expand(3)
    y, x, start = cloud(40, 3, 0), 2 * cloud(30, 3, 1), cloud(40, 1, 2)[:, 0]
    y, x = (y * 2**10).round() / 2**10, (x * 2**10).round() / 2**10  # which move without rounding
    near = sinkhorn(y, x, reg=0.5, start=start)
    gone = sinkhorn(y + by, x - 2 * by, reg=0.5, start=start - 2 * y @ by)
    assert gone.iterations == near.iterations
    torch.testing.assert_close(gone.plan(), near.plan(), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(gone.map(y + by) + 2 * by, near.map(y), rtol=0, atol=1e-6)
    torch.testing.assert_close(gone.inverse(x - 2 * by) - by, near.inverse(x), rtol=0, atol=1e-6)
    apart = y.mean(0) - x.mean(0)
    assert gone.value() == pytest.approx(near.value() + float((2 * apart + 3 * by) @ (3 * by)), rel=1e-12)
    along = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None] * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    rise, flat = gone.potential(along + by), near.potential(along) - 2 * along @ by
    torch.testing.assert_close(rise - rise[0], flat - flat[0], rtol=1e-12, atol=1e-6)
