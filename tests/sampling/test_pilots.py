"""Pilot trajectories against the flow in closed form, their predictions against the solvers' own errors."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from brenier.catalog import load_target
from brenier.laws.mixture import GaussianMixture
from brenier.networks.network import NetworkTarget
from brenier.sampling.driver import integrate
from brenier.sampling.endpoint import reference
from brenier.sampling.pilots import AXES, fly, windows
from brenier.sampling.steps import SOLVERS, Memory

ODE = ["euler", "heun", "dpmpp-2m"]
LONGER = ["dpmpp-3m", "unip-3", "deis-3", "ipndm-4"]  # memories
CORRECTED = ["unipc-2", "unipc-3"]
HIGH, LOW = 20.0, 0.05
GRID = [20.0, 11.0, 4.0, 3.1, 1.3, 0.7, 0.2, 0.05]
MEAN, LENGTHS = torch.tensor([0.3, -2.0, 0.0]).double(), torch.tensor([1.0, 0.4, 3.0]).double()


class Mixture(GaussianMixture):
    """A mixture of diagonal covariances, its denoiser in a few lines."""

    def denoise(self, y, snr):
        total = self.variances + snr**-2
        offset = y[:, None] / snr - self.means
        logits = self.weights.log() - (offset**2 / total + total.log()).sum(2) / 2
        return (logits.softmax(1)[..., None] * (self.means + self.variances / total * offset)).sum(1)


FOUR = Mixture([0.1, 0.2, 0.4, 0.3], [[-4.0], [-2], [2], [4]], [[1.0], [0.5], [0.5], [1]])
PLANE = Mixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]])


@cache
def gaussian(dim):
    return Mixture([1], MEAN[None, :dim], (LENGTHS**2)[None, :dim])


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


def test_trajectories_on_a_gaussian_law_are_of_third_order():
    x, high = noisy(3, 20, 5.0), 5.0
    ends = [fly(gaussian(3), x, levels(n, high), stride=(n - 1) // 4).end for n in (65, 129, 257)]
    errors = [float((end - exact(x, high, LOW)).abs().max()) for end in ends]
    assert errors[0] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("law", [FOUR, load_target("two-points")], ids=["four-gaussians", "two-points"])
def test_trajectories_on_the_line_keep_their_quantile(law):
    x = torch.linspace(-40, 40, 41, dtype=torch.float64)[:, None]

    def cdf(points, sigma):
        one = torch.ones_like(points[:, 0])
        return law.distribution(points[:, 0], one, sigma * one).log_cdf.exp()

    end = fly(law, x, levels(257), stride=64).end
    torch.testing.assert_close(cdf(end, LOW), cdf(x, HIGH), rtol=0, atol=1e-4)


def test_grids_that_end_at_zero_end_on_the_atoms():
    x = noisy(1, 40)
    end = fly(load_target("two-points"), x, levels(129), LOW, stride=32).end
    torch.testing.assert_close(end, torch.sign(x), rtol=0, atol=1e-6)


def errors(x, grid, solver):
    """Local errors on the Gaussian law times their growth down to `LOW`, (steps, n, d)."""
    dim, law = x.shape[1], gaussian(x.shape[1])

    def denoise(points, sigma):
        return law.denoise(points / sigma, 1 / sigma)

    path = [exact(x, HIGH, sigma) for sigma in GRID]
    ends = [*path, denoise(path[-1], LOW)]
    held = [denoise(x, sigma) for x, sigma in zip(path, GRID, strict=True)]
    if solver.startswith(("deis", "ipndm")):
        held = [(x - clean) / sigma for x, clean, sigma in zip(path, held, GRID, strict=True)]
    found = []
    for i, (sigma, after) in enumerate(pairwise(grid)):
        past = tuple(zip(grid[:i], held[:i], strict=True))[::-1]
        memory = Memory(torch.randn_like, past, beyond=grid[i + 2] if i + 2 < len(grid) else math.inf)
        local = SOLVERS[solver].step(denoise, path[i], sigma, after, memory) - ends[i + 1]
        found.append(local * growth(dim, max(after, LOW), LOW))
    return torch.stack(found)


@pytest.mark.parametrize("to_zero", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_contributions_on_a_gaussian_law(dim, to_zero):
    x, grid = noisy(dim, 6), [*GRID, 0.0] if to_zero else GRID
    coarse, fine = (fly(gaussian(dim), x, levels(2 * n - 1), LOW if to_zero else None, stride=2) for n in (33, 65))
    for solver in [*ODE, *LONGER]:
        along = torch.einsum("pnd,knd->kpn", coarse.probes, errors(x, grid, solver)).flatten(1).numpy()
        off = [rms(pilots.contributions(grid, solver) - along) / rms(along) for pilots in (coarse, fine)]
        assert off[0] < 0.02
        assert off[1] < off[0] / 3  # the adjoint is of second order


def test_random_probes_are_unbiased():
    n = 4000
    x = noisy(1, 1).expand(n, 3) * torch.tensor([1.0, -0.5, 0.2]).double()
    pilots = fly(gaussian(3), x, levels(257), stride=8)
    found = pilots.contributions(GRID, "euler").sum(0) ** 2
    error = errors(x[:1], GRID, "euler").sum(0)[0]
    # <v, e>^2 of random signs v has mean |e|^2 and variance 2 (|e|^4 - sum e^4).
    square = float(error @ error)
    deviation = math.sqrt(2 * (square**2 - float((error**4).sum())))
    assert abs(found.mean() - square) < 4 * deviation / math.sqrt(n) + 0.01 * square
    assert found.std() == pytest.approx(deviation, rel=0.1)


def test_probes_are_axes_on_the_plane_and_seeded_signs_above():
    pilots = fly(gaussian(2), noisy(2, 5), levels(9))
    assert pilots.probes[:, 3].tolist() == np.eye(AXES).tolist()
    signs = [fly(gaussian(3), noisy(3, 40), levels(9), seed=seed).probes for seed in (0, 0, 1)]
    assert signs[0].abs().unique().tolist() == [1]
    assert torch.equal(signs[0], signs[1])
    assert not torch.equal(signs[0], signs[2])


@pytest.mark.parametrize(("law", "to_zero"), [(FOUR, True), (PLANE, False)], ids=["line", "plane"])
def test_contributions_add_up_to_the_error_of_small_steps(law, to_zero):
    x = noisy(law.dim, 32)
    pilots = fly(law, x, levels(257), LOW if to_zero else None, stride=4)

    def off(count, solver):
        grid = [*levels(count), *([0.0] if to_zero else [])]
        error = pilots.project(integrate(law, x, grid, solver).x)
        return rms(pilots.contributions(grid, solver).sum(0) - error) / rms(error)

    for solver in [*ODE, *LONGER, *CORRECTED]:
        offs = [off(count, solver) for count in (17, 33, 65)]
        assert offs[1] < 0.8 * offs[0]
        assert offs[2] < max(min(0.65 * offs[1], 0.25), 0.03)  # what the pilots themselves are off


def test_errors_grow_as_the_flow_carries_them():
    x = noisy(2, 6, seed=1)
    pilots = fly(PLANE, x, levels(257), stride=4)
    end = reference(PLANE, x, HIGH, LOW, 1e-5)
    for sigma in (3.0, 0.5):
        after = 0.9 * sigma
        here = reference(PLANE, x, HIGH, sigma, 1e-5)
        stepped = integrate(PLANE, here, [sigma, after], "euler").x
        moved = (reference(PLANE, stepped, after, LOW, 1e-5) - end).T.flatten().numpy()
        found = pilots.steps(windows([sigma, after]), "euler")[0]
        assert rms(found - moved) < 0.02 * rms(moved)


def test_a_pilot_does_not_know_the_others():
    x = noisy(2, 3)
    alone, together = fly(PLANE, x, levels(33)), fly(PLANE, x[[0, 1, 0, 2]], levels(33))
    found = together.contributions(GRID, "heun").reshape(-1, 2, 4)
    expected = alone.contributions(GRID, "heun").reshape(-1, 2, 3)[..., [0, 1, 0, 2]]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("solver", ODE)
def test_thinned_tables_predict_the_same(solver):
    pilots = fly(PLANE, noisy(2, 10), levels(9), LOW)
    grid = [*GRID, 0.0]
    few = pilots.thinned(7).contributions(grid, solver)
    np.testing.assert_allclose(few, pilots.contributions(grid, solver)[:, ::3], rtol=1e-10, atol=1e-14)
    assert pilots.thinned(100).contributions(grid, solver).shape == (8, 20)


def test_single_precision():
    x = noisy(1, 64)
    double, single = (fly(FOUR.to(dtype=kind), x.to(kind), levels(65), LOW) for kind in (torch.float64, torch.float32))
    assert single.start.dtype == torch.float32
    torch.testing.assert_close(single.end, double.end, rtol=0, atol=1e-4)
    for solver in ODE:
        found, expected = (pilots.contributions([*GRID, 0.0], solver) for pilots in (single, double))
        assert rms(found - expected) < 0.03 * rms(expected)


def test_one_growth_for_all_is_exact_where_all_errors_grow_alike():
    law, x = Mixture([1], [[0.3, -2.0]], [[1.0, 1.0]]), noisy(2, 10)
    full, alike = (fly(law, x, levels(257), stride=4, alike=alike) for alike in (None, 4))
    for solver in ODE:
        expected = full.contributions(GRID, solver)
        assert rms(alike.contributions(GRID, solver) - expected) < 1e-2 * rms(expected)
    assert alike.evaluations < full.evaluations


@pytest.mark.parametrize("alike", [None, 3])
@pytest.mark.parametrize("floor", [None, LOW, LOW / 10])
@pytest.mark.parametrize("dim", [2, 3])
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
