"""The derivatives that the error criterion descends by, against difference quotients of whole runs."""

import numpy as np
import pytest
import torch

from brenier.laws.mixture import GaussianMixture
from brenier.sampling.error import _prediction_slopes, _Sampler, by_runs, cost_of_runs
from brenier.sampling.pilots import fly

PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]])
SOLVERS = ["euler", "heun", "dpmpp-2m", "unipc-3", "ipndm-4"]
GRID = np.array([20.0, 9.0, 4.0, 2.0, 1.1, 0.5, 0.2, 0.07])


@pytest.fixture(scope="module", params=[False, True], ids=["to-sigma-min", "to-0"])
def flown(request):
    x = 20 * torch.randn((6, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = np.geomspace(20, 0.05, 65).tolist()
    return fly(PLANE, x, levels, 0.05 if request.param else None, stride=2), [*GRID, 0.0] if request.param else GRID


def quotients(function, sigmas, small=1e-4):
    """Of `function` by the logarithms of the inner levels."""
    columns = []
    for i in range(1, len(sigmas) - 1):
        moved = np.array([sigmas, sigmas])
        moved[:, i] *= np.exp([small, -small])
        columns.append((function(moved[0]) - function(moved[1])) / (2 * small))
    return np.stack(columns, 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_slopes_of_the_prediction(flown, solver):
    pilots, sigmas = flown
    expected = quotients(lambda sigmas: pilots.contributions(sigmas, solver).sum(0), sigmas)
    found = _prediction_slopes(pilots, np.asarray(sigmas), solver)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_slopes_of_the_sampler_start_from_what_it_remembers(flown, solver):
    pilots, sigmas = flown
    sampler = _Sampler(PLANE, pilots, solver)
    expected = quotients(lambda sigmas: sampler.error(sigmas)[0], sigmas)
    found = sampler.slopes(np.asarray(sigmas))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_few_runs_leave_less_than_the_best_start_at_no_more_than_their_cost(flown, solver):
    pilots, sigmas = flown
    inner, last = np.array(sigmas[1:-1]), 0.0 if pilots.to_zero else pilots.sigmas[-1]
    starts = [[sigmas[0], *(factor * inner).tolist(), last] for factor in (1.0, 1.2)]
    found, hand = by_runs(PLANE, pilots, solver, starts)
    sampler = _Sampler(PLANE, pilots, solver)
    left = sampler.error(found.sigmas)[1]
    begun = min(sampler.error(np.asarray(start))[1] for start in starts)
    assert sampler.error(hand)[1] == pytest.approx(begun, rel=1e-6)
    assert left < begun
    assert found.evaluations <= cost_of_runs(solver, starts[0]) * len(pilots.start)
