import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import brenier
from brenier.references.density import output_density, output_kl
from brenier.sampling.driver import integrate
from brenier.sampling.steps import LANGEVIN, langevin_size

M, S = 0.4, 0.8
GRID = [6.0, 2.5, 1.0, 0.5, 0.3]


def normal() -> brenier.GaussianMixture:
    return brenier.GaussianMixture([1.0], [M], S**2, name="normal")


def kl_of_normals(m: float, v: float, n: float, w: float) -> float:
    return (math.log(w / v) + (v + (m - n) ** 2) / w - 1) / 2


def variance_after(solver: str, v: float) -> tuple[float, float]:
    """Mean and variance of the sampler's output for N(M, S^2), all steps being affine; from variance v."""
    mean, past, cross, last = M, 0.0, 0.0, None  # of D before, and its covariance with x
    for a, b in pairwise(GRID):
        gain = S**2 / (S**2 + a**2)
        if solver == "euler-maruyama":
            keep = (b / a) ** 2 + (1 - (b / a) ** 2) * gain
            v = keep**2 * v + a**2 - b**2
        elif solver == "annealed-langevin":
            size, gain = langevin_size(a / b), S**2 / (S**2 + b**2)
            for _ in range(LANGEVIN):
                v = (1 - size * (1 - gain)) ** 2 * v + 2 * size * b**2
        else:
            q = (b / a) ** 2
            half = 0.0 if last is None else math.log(a / b) / math.log(last / a) / 2
            here, before = q + (1 - q) * (1 + half) * gain, -(1 - q) * half
            after = here**2 * v + before**2 * past + 2 * here * before * cross + b**2 * (1 - q)
            past, cross = gain**2 * v, gain * (here * v + before * cross)
            v, last = after, a
    return mean, v


@pytest.mark.parametrize("solver", ["euler-maruyama", "dpmpp-2m-sde", "annealed-langevin"])
def test_a_gaussian_stays_one(solver: str) -> None:
    mean, variance = variance_after(solver, S**2 + GRID[0] ** 2)
    found = output_density(normal(), GRID, solver)
    spacing = found.x[1] - found.x[0]
    assert (found.density * found.x).sum() * spacing == pytest.approx(mean, rel=1e-7)
    assert (found.density * (found.x - mean) ** 2).sum() * spacing == pytest.approx(variance, rel=1e-6)
    exact = S**2 + GRID[-1] ** 2
    assert found.kl == pytest.approx(kl_of_normals(M, exact, mean, variance), rel=1e-5)
    assert found.reverse_kl == pytest.approx(kl_of_normals(mean, variance, M, exact), rel=1e-5)
    assert output_kl(normal(), GRID, solver) == found.kl


@pytest.mark.parametrize("solver", ["euler-maruyama", "dpmpp-2m-sde"])
def test_moments_are_those_of_samples(solver: str) -> None:
    law = brenier.GaussianMixture([0.7, 0.3], [-1.0, 1.0], [0.04, 0.09])
    found = output_density(law, GRID, solver)
    n = 40_000
    x = law.sample(n, 1) + GRID[0] * torch.randn((n, 1), generator=torch.Generator().manual_seed(2)).double()
    points = integrate(law, x, GRID, solver, seed=3).x[:, 0].numpy()
    spacing = found.x[1] - found.x[0]
    for function in (lambda x: x, lambda x: x**2, lambda x: (x > 0.0).astype(float)):
        values = function(points)
        expected = (found.density * function(found.x)).sum() * spacing
        assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(n) + spacing


def test_finer_steps_leave_less() -> None:
    law = brenier.load_target("spike-slab")
    few, many = (output_kl(law, np.geomspace(7, 0.2, n + 1).tolist(), "euler-maruyama") for n in (8, 16))
    assert 0 < many < few


def test_refusals() -> None:
    with pytest.raises(ValueError, match="draws no noise"):
        output_kl(normal(), GRID, "euler")
    with pytest.raises(ValueError, match="positive"):
        output_kl(normal(), [1.0, 0.0])
    with pytest.raises(ValueError, match="no explicit law"):
        output_kl(brenier.GaussianMixture([1.0], [[0.0, 0.0]], 1.0), GRID)
