"""What carries points down a grid: where it starts, its random numbers, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from brenier.catalog import load_target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.networks.network import NetworkTarget
from brenier.sampling.driver import integrate, start
from brenier.sampling.steps import SOLVERS

LAW = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]], name="two blobs")
GRID = [10.0, 2.0, 0.5, 0.1, 0.0]
STOCHASTIC = [name for name, solver in SOLVERS.items() if solver.stochastic]


class Exact(nn.Module):
    def __init__(self, law):
        super().__init__()
        self.law = law

    def forward(self, x, sigma):
        return self.law.denoise(x / sigma[0], float(1 / sigma[0]))


def network(law, **options):
    return NetworkTarget(Exact(law), event_shape=(law.dim,), dtype=torch.float64, name="net", **options)


def centre(law):
    """What points start around: at a noise level this small, nothing is added to it."""
    return start(law, 1, 1e-30)[0]


@pytest.mark.parametrize(
    ("name", "mean"),
    [("point-mass", 0), ("normal", 0), ("uniform", 0), ("two-points", 0), ("spike-slab", 0), ("four-gaussians", 1.2)],
)
def test_points_start_around_the_mean_of_a_law(name, mean):
    assert float(centre(load_target(name))) == pytest.approx(mean, rel=1e-14, abs=1e-15)


def test_points_start_around_the_mean_of_data():
    digits = load_target("digits")
    torch.testing.assert_close(centre(digits), digits.data.double().mean(0).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("far", [1e3, 1e6, -1e9])
def test_laws_far_from_the_origin(far):
    mixture = GaussianMixture([0.1, 0.2, 0.7], [[far - 1, 0], [far, 2 * far], [far + 3, 1]], [0.0, 0.3, 1.0])
    expected = mixture.weights @ mixture.means
    torch.testing.assert_close(centre(mixture), expected, rtol=4e-16, atol=1e-15)
    assert float(centre(Uniform(far, far + 1))) == pytest.approx(far + 0.5, rel=1e-15)
    assert float(centre(Empirical([far, far + 1, far + 5], dtype=torch.float64))) == pytest.approx(far + 2, rel=1e-15)


def test_points_of_a_network_start_around_its_own_mean():
    target = network(GaussianMixture([1], [[40.0, -3.0]], 2.0), snr_range=(0.1, 10.0))
    assert centre(target).tolist() == pytest.approx([40, -3], rel=1e-14)


def test_the_law_of_the_start():
    x = start(LAW, 50_000, 4.0, seed=3)
    z = (x - LAW.weights @ LAW.means) / 4
    assert bool((z.mean(0).abs() < 4 / math.sqrt(50_000)).all())
    assert z.var(0).tolist() == pytest.approx([1, 1], abs=4 * math.sqrt(2 / 50_000))
    assert abs(float((z[:, 0] * z[:, 1]).mean())) < 4 / math.sqrt(50_000)
    assert torch.equal(x, start(LAW, 50_000, 4.0, seed=3))
    assert not torch.equal(x, start(LAW, 50_000, 4.0, seed=4))
    assert start(LAW, 0, 4.0).shape == (0, 2)
    torch.testing.assert_close(start(LAW.to(dtype=torch.float32), 9, 4.0, 3), start(LAW, 9, 4.0, 3).float())


@pytest.mark.parametrize("solver", SOLVERS)
def test_batches_decide_nothing(solver):
    x = start(LAW, 23, GRID[0])
    whole = integrate(LAW, x, GRID, solver, seed=2)
    parts = integrate(LAW, x, GRID, solver, seed=2, batch=5)
    torch.testing.assert_close(parts.x, whole.x, rtol=1e-12, atol=1e-12)
    assert parts.evaluations == whole.evaluations


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_the_seed_decides(solver):
    x = start(LAW, 8, GRID[0])
    a, b, c = (integrate(LAW, x, GRID, solver, seed).x for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_noise_of_steps_is_independent_of_the_start_and_of_each_other():
    n, point = 40_000, load_target("point-mass")
    x = start(point, n, 3.0, seed=7)
    path = integrate(point, x, [3.0, 2.0, 1.0], "euler-maruyama", seed=7, trajectory=True).trajectory
    first = path[1] - path[0] * (2 / 3) ** 2
    second = path[2] - path[1] / 4
    for a, b in ((x, first), (x, second), (first, second)):
        assert abs(float(np.corrcoef(a[:, 0], b[:, 0])[0, 1])) < 4 / math.sqrt(n)


def test_trajectories():
    x = start(LAW, 6, GRID[0])
    run = integrate(LAW, x, GRID, "heun", trajectory=True)
    assert run.trajectory.shape == (5, 6, 2)
    assert torch.equal(run.trajectory[0], x)
    assert torch.equal(run.trajectory[-1], run.x)
    assert torch.equal(run.trajectory[2], integrate(LAW, x, GRID[:3], "heun").x)
    assert integrate(LAW, x, GRID).trajectory is None


@pytest.mark.parametrize("law", [LAW, network(LAW, snr_range=(0.01, 100.0))], ids=["law", "network"])
def test_no_points(law):
    run = integrate(law, torch.zeros(0, 2), GRID, "heun", trajectory=True)
    assert run.x.shape == (0, 2)
    assert run.evaluations == 7
    assert run.trajectory.shape == (5, 0, 2)


def test_points_take_the_targets_dtype():
    single = LAW.to(dtype=torch.float32)
    x = start(LAW, 10, GRID[0])
    found = integrate(single, x, GRID)
    assert found.x.dtype == torch.float32
    torch.testing.assert_close(found.x.double(), integrate(LAW, x, GRID).x, rtol=1e-4, atol=1e-5)


def test_an_interruption_passes_through(monkeypatch):
    law = GaussianMixture([1], [0], 1.0)

    def interrupted(y, snr):
        raise KeyboardInterrupt

    monkeypatch.setattr(law, "denoise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        integrate(law, torch.zeros(2, 1, dtype=torch.float64), GRID, progress=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 3)}, r"points of two blobs must have shape \(n, 2\), got \(3, 3\)"),
        ({"x": torch.tensor([[0.0, 0], [math.nan, 0]])}, "points must be finite, 1 of 2 are not"),
        ({"sigmas": [1.0]}, "a grid of noise levels has at least two, got 1"),
        ({"sigmas": [2.0, 1.0, 1.0]}, "noise levels must descend, got 1 after 1 at step 2"),
        ({"sigmas": [1.0, 2.0]}, "noise levels must descend, got 2 after 1 at step 1"),
        ({"sigmas": [1.0, 0.0, -1.0]}, "noise levels must be positive, the last may be 0, got -1"),
        ({"sigmas": [math.inf, 1.0]}, "noise levels must be finite, got inf"),
        ({"sigmas": [1.0, math.nan]}, "noise levels must be finite, got nan"),
        ({"solver": "ddim"}, "no solver 'ddim': it is one of euler"),
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        integrate(LAW, **({"x": torch.zeros(2, 2), "sigmas": GRID} | change))


@pytest.mark.parametrize(("n", "sigma"), [(-1, 1.0), (2, 0.0), (2, math.nan), (2, math.inf)])
def test_starts_refused(n, sigma):
    with pytest.raises(ValueError, match=r"n must be a whole number|noise levels must"):
        start(LAW, n, sigma)


def test_a_network_refuses_levels_that_it_does_not_know():
    target = network(LAW, snr_range=(0.1, 5.0))
    for grid in ([20.0, 1.0], [10.0, 1.0, 0.1, 0.0]):
        with pytest.raises(ValueError, match=r"is not one that net was trained for: it must lie between 0.1 and 5"):
            integrate(target, torch.zeros(2, 2, dtype=torch.float64), grid)
