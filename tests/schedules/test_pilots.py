"""Pilot trajectories against the flow in closed form, their predictions against the solvers' own errors."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from brenier.samplers.driver import integrate
from brenier.samplers.reference import reference
from brenier.samplers.steps import SOLVERS, Memory
from brenier.schedules.pilots import AXES, fly
from brenier.targets.catalog import load_target
from brenier.targets.mixture import GaussianMixture
from brenier.targets.network import NetworkTarget

ODE = ["euler", "heun", "dpmpp-2m"]
HIGH, LOW = 20.0, 0.05
GRID = [20.0, 11.0, 4.0, 3.1, 1.3, 0.7, 0.2, 0.05]
FOUR = load_target("four-gaussians")
PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]], name="two blobs")
MEAN, LENGTHS = torch.tensor([0.3, -2.0, 0.0]).double(), torch.tensor([1.0, 0.4, 3.0]).double()


def gaussian(dim):
    return GaussianMixture([1], MEAN[None, :dim], (LENGTHS**2)[None, :dim])


def levels(count, high=HIGH, low=LOW):
    return np.geomspace(high, low, count).tolist()


def noisy(dim, n, high=HIGH, seed=0):
    return high * torch.randn((n, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def growth(dim, sigma, after):
    """By what an error at `sigma` has grown at `after`, along each axis of the Gaussian law."""
    return torch.sqrt((LENGTHS**2 + after**2) / (LENGTHS**2 + sigma**2))[:dim]


def exact(x, sigma, after):
    """The flow of the Gaussian law."""
    mean = MEAN[: x.shape[1]]
    return mean + growth(x.shape[1], sigma, after) * (x - mean)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("dim", [1, 3])
def test_trajectories_on_a_gaussian_law_are_of_third_order(dim):
    x = noisy(dim, 20)
    errors = [float((fly(gaussian(dim), x, levels(n)).end - exact(x, HIGH, LOW)).abs().max()) for n in (65, 129, 257)]
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("name", ["four-gaussians", "two-points"])
def test_trajectories_on_the_line_keep_their_quantile(name):
    law, x = load_target(name), torch.linspace(-40, 40, 41, dtype=torch.float64)[:, None]

    def cdf(points, sigma):
        one = torch.ones_like(points[:, 0])
        return law.distribution(points[:, 0], one, sigma * one).log_cdf.exp()

    end = fly(law, x, levels(513)).end
    torch.testing.assert_close(cdf(end, LOW), cdf(x, HIGH), rtol=0, atol=1e-4)


def test_grids_that_end_at_zero_end_on_the_atoms():
    x = noisy(1, 40)
    end = fly(load_target("two-points"), x, levels(129), LOW).end
    torch.testing.assert_close(end, torch.sign(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("to_zero", [False, True])
@pytest.mark.parametrize("solver", ODE)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_contributions_on_a_gaussian_law(dim, solver, to_zero):
    law, x = gaussian(dim), noisy(dim, 6)
    grid = [*GRID, 0.0] if to_zero else GRID
    path = [exact(x, HIGH, sigma) for sigma in GRID]
    clean = law.denoise(path[-1] / LOW, 1 / LOW)
    ends = [*path, clean] if to_zero else path
    pull = LENGTHS[:dim] ** 2 / (LENGTHS[:dim] ** 2 + LOW**2) if to_zero else 1.0

    def denoise(points, sigma):
        return law.denoise(points / sigma, 1 / sigma)

    expected = []
    for i, (sigma, after) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        memory = Memory(noise=torch.randn_like)
        if i > 0:
            memory.denoised, memory.sigma = denoise(path[i - 1], grid[i - 1]), grid[i - 1]
        error = SOLVERS[solver].step(denoise, path[i], sigma, after, memory) - ends[i + 1]
        expected.append(error * growth(dim, after, LOW) * pull if after > 0 else error)

    def off(count):
        pilots = fly(law, x, levels(4 * count - 3), LOW if to_zero else None, stride=4)
        along = torch.einsum("pnd,knd->kpn", pilots.probes, torch.stack(expected)).flatten(1).numpy()
        return rms(pilots.contributions(grid, solver) - along) / rms(along)

    coarse, fine = off(33), off(65)
    assert coarse < 0.02
    assert fine < coarse / 3  # the adjoint is of second order


def test_random_probes_are_unbiased():
    n = 4000
    x = noisy(1, 1).expand(n, 3) * torch.tensor([1.0, -0.5, 0.2]).double()
    pilots = fly(gaussian(3), x, levels(65))
    found = pilots.contributions(GRID, "euler").sum(0)
    error = (integrate(gaussian(3), x[:1], GRID, "euler").x - exact(x[:1], HIGH, LOW))[0].numpy()
    square = float(error @ error)
    # <v, e>^2 of random signs v has mean |e|^2 and variance 2 (|e|^4 - sum e^4).
    deviation = math.sqrt(2 * (square**2 - np.sum(error**4)) / n)
    assert abs(np.mean(found**2) - square) < 4 * deviation + 0.01 * square
    assert deviation < 0.02 * square
    assert np.std(found**2) == pytest.approx(deviation * math.sqrt(n), rel=0.1)


def test_probes_are_axes_on_the_plane_and_seeded_signs_above():
    pilots = fly(gaussian(2), noisy(2, 5), levels(9))
    assert pilots.probes[:, 3].tolist() == np.eye(AXES).tolist()
    signs = [fly(gaussian(3), noisy(3, 40), levels(9), seed=seed).probes for seed in (0, 0, 1)]
    assert signs[0].abs().unique().tolist() == [1]
    assert torch.equal(signs[0], signs[1])
    assert not torch.equal(signs[0], signs[2])


@pytest.mark.parametrize("to_zero", [False, True])
@pytest.mark.parametrize("solver", ODE)
@pytest.mark.parametrize("law", [FOUR, PLANE], ids=["line", "plane"])
def test_contributions_add_up_to_the_error_of_small_steps(law, solver, to_zero):
    x = noisy(law.dim, 64)
    pilots = fly(law, x, levels(513), LOW if to_zero else None, stride=4)

    def off(count):
        grid = [*levels(count), *([0.0] if to_zero else [])]
        error = pilots.project(integrate(law, x, grid, solver).x)
        return rms(pilots.contributions(grid, solver).sum(0) - error) / rms(error)

    offs = [off(count) for count in (9, 17, 33, 65)]
    assert offs[-1] < 0.1
    assert offs[-1] < offs[0] / 4


def test_errors_grow_as_the_flow_carries_them():
    x, high = noisy(2, 12, seed=1), GRID[0]
    pilots = fly(PLANE, x, levels(513), stride=4)
    end = reference(PLANE, x, high, LOW, 1e-9)
    for sigma in (10.0, 1.0, 0.3):
        after = 0.99 * sigma
        here = reference(PLANE, x, high, sigma, 1e-9)
        stepped = integrate(PLANE, here, [sigma, after], "euler").x
        moved = (reference(PLANE, stepped, after, LOW, 1e-9) - end).T.flatten().numpy()
        found = pilots.steps(np.array([np.inf]), np.array([sigma]), np.array([after]), "euler")[0]
        assert rms(found - moved) < 0.02 * rms(moved)


def test_a_pilot_does_not_know_the_others():
    x = noisy(2, 3)
    alone, together = fly(PLANE, x, levels(33)), fly(PLANE, x[[0, 1, 0, 2]], levels(33))
    found = together.contributions(GRID, "heun").reshape(-1, 2, 4)
    expected = alone.contributions(GRID, "heun").reshape(-1, 2, 3)[..., [0, 1, 0, 2]]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("solver", ODE)
def test_thinned_tables_predict_the_same(solver):
    pilots = fly(PLANE, noisy(2, 10), levels(17), LOW)
    grid = [*GRID, 0.0]
    few = pilots.thinned(7).contributions(grid, solver)
    np.testing.assert_allclose(few, pilots.contributions(grid, solver)[:, ::3], rtol=1e-12)
    assert pilots.thinned(100).contributions(grid, solver).shape == (8, 20)


@pytest.mark.parametrize("solver", ODE)
def test_single_precision(solver):
    x = noisy(1, 64)
    double, single = fly(FOUR, x, levels(65), LOW), fly(FOUR.to(dtype=torch.float32), x.float(), levels(65), LOW)
    assert single.start.dtype == torch.float32
    torch.testing.assert_close(single.end, double.end, rtol=0, atol=1e-4)
    found, expected = (pilots.contributions([*GRID, 0.0], solver) for pilots in (single, double))
    assert rms(found - expected) < 0.03 * rms(expected)


@pytest.mark.parametrize("solver", ODE)
def test_one_growth_for_all_is_exact_where_all_errors_grow_alike(solver):
    law, x = GaussianMixture([1], [[0.3, -2.0]], 1.0), noisy(2, 10)
    full, alike = (fly(law, x, levels(129), alike=alike) for alike in (None, 4))
    expected = full.contributions(GRID, solver)
    assert rms(alike.contributions(GRID, solver) - expected) < 1e-2 * rms(expected)
    assert alike.evaluations < full.evaluations


@pytest.mark.parametrize("alike", [None, 3])
@pytest.mark.parametrize("floor", [None, LOW, LOW / 10])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_evaluations_are_counted(dim, floor, alike):
    class Counting(nn.Module):
        rows = 0

        def forward(self, x, sigma):
            self.rows += len(x)
            return gaussian(dim).denoise(x / sigma[0], float(1 / sigma[0]))

    network = Counting()
    law = NetworkTarget(network, event_shape=(dim,), dtype=torch.float64)
    network.rows = 0
    assert fly(law, noisy(dim, 5), levels(17), floor, 2, alike).evaluations == network.rows
