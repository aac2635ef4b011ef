"""Optimal couplings against independent solvers, and their potentials against linear programming duality."""

import math
import warnings

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from brenier.distances import couplings
from brenier.distances.couplings import by_any, by_entropy, by_simplex, by_sorting

sizes = st.integers(1, 12)


def samples(n, m, d, seed, coarse=False):
    """Two weighted samples; coarse ones have ties in their points and in their cumulated weights."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    a, b = rng.integers(1, 4, n).astype(float), rng.integers(1, 4, m).astype(float)
    if coarse:
        x, y = np.round(x), np.round(y)
    return x, a / a.sum(), y, b / b.sum()


def assert_optimal(x, a, y, b, cost, f, g):
    """Feasible potentials that reach the cost prove it to be the minimum."""
    costs = cdist(x, y, "sqeuclidean")
    room = 1e-12 * (1 + costs.max())
    assert bool((f[:, None] + g <= costs + room).all())
    assert a @ f + b @ g == pytest.approx(cost, abs=room)
    assert a @ f == pytest.approx(b @ g, abs=room)


@given(sizes, sizes, st.integers(0, 2**32 - 1), st.booleans())
def test_sorting_solves_the_problem_on_the_line(n, m, seed, coarse):
    problem = samples(n, m, 1, seed, coarse)
    cost, f, g = by_sorting(*problem)
    assert_optimal(*problem, cost, f, g)
    x, a, y, b = problem
    assert cost == pytest.approx(ot.emd2_1d(x[:, 0], y[:, 0], a, b), abs=1e-12)


@given(sizes, sizes, st.integers(0, 2**32 - 1), st.booleans())
def test_the_simplex_solves_the_problem_in_the_plane(n, m, seed, coarse):
    problem = samples(n, m, 2, seed, coarse)
    assert_optimal(*problem, *by_simplex(*problem))


def test_with_equal_weights_it_is_an_assignment():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.normal(size=(60, 5))
    costs = cdist(x, y, "sqeuclidean")
    assert by_any(x, y)[0] == pytest.approx(costs[linear_sum_assignment(costs)].mean(), rel=1e-12)


def test_equal_levels_reached_in_different_steps_leave_no_sliver_of_mass():
    x = np.linspace(0, 1e6, 3)[:, None]
    y, b = np.repeat(x, [1, 2, 3], axis=0), np.full(6, 1 / 6)
    assert by_sorting(x, np.array([1.0, 2.0, 3.0]) / 6, y, b)[0] == 0


def test_an_unsolved_problem_is_an_error(monkeypatch):
    solve = ot.emd
    monkeypatch.setattr(ot, "emd", lambda a, b, costs, numItermax, log: solve(a, b, costs, numItermax=3, log=log))
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="between 30 and 30 points was not solved"):
        warnings.simplefilter("ignore")
        by_any(rng.normal(size=(30, 3)), rng.normal(size=(30, 3)))


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 30.0])
def test_entropic_transport_between_two_points_and_themselves(epsilon):
    """The coupling puts q = e^(-4/epsilon) times as much mass across as along: OT = -epsilon log[(1 + q)/2]."""
    x, a = np.array([[-1.0], [1.0]]), np.array([0.5, 0.5])
    f, g = by_entropy(x, a, x, a, epsilon)
    assert a @ f + a @ g == pytest.approx(-epsilon * math.log((1 + math.exp(-4 / epsilon)) / 2), abs=1e-5)


def test_entropic_potentials_satisfy_both_marginals():
    x, a, y, b = samples(7, 9, 3, seed=4)
    epsilon = 0.5
    f, g = by_entropy(x, a, y, b, epsilon)
    coupling = a[:, None] * b * np.exp((f[:, None] + g - cdist(x, y, "sqeuclidean")) / epsilon)
    assert abs(coupling.sum(1) - a).sum() < 1e-4
    assert coupling.sum(0) == pytest.approx(b, rel=1e-9)


def test_an_iteration_that_does_not_converge_is_an_error(monkeypatch):
    monkeypatch.setattr(couplings, "_STEPS", 20)
    with pytest.raises(RuntimeError, match="did not converge in 20 steps"):
        by_entropy(*samples(9, 9, 2, seed=1), 1e-4)
