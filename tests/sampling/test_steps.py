"""Every sampler against diffusers' own scheduler, against closed forms on a Gaussian, and against its order."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import schedulers as diffusers_schedulers
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_deis_multistep,
    scheduling_dpmsolver_multistep,
    scheduling_euler_discrete,
    scheduling_heun_discrete,
    scheduling_ipndm,
    scheduling_unipc_multistep,
)

from brenier.catalog import load_target
from brenier.laws.mixture import GaussianMixture
from brenier.sampling.driver import integrate
from brenier.sampling.steps import LANGEVIN, SOLVERS, Memory, evaluations, find_solver, langevin_size

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # in diffusers

LAW = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]])
GRIDS = [[5.0, 3.1, 1.0, 0.6, 0.15, 0.0], [2.0, 1.7, 0.9, 0.8, 0.3, 0.25, 0.1, 0.04, 0.0]]
MEAN, DEVIATION = 0.7, 0.5
GAUSSIAN = GaussianMixture([1], [MEAN], DEVIATION**2)


class Double:
    """torch, but for its float32: diffusers' steps are in float32 whatever they are given."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture
def double(monkeypatch):
    for module in (
        scheduling_ddim,
        scheduling_deis_multistep,
        scheduling_dpmsolver_multistep,
        scheduling_euler_discrete,
        scheduling_heun_discrete,
        scheduling_ipndm,
        scheduling_unipc_multistep,
    ):
        monkeypatch.setattr(module, "torch", Double())


def points(n=50, d=2, seed=0):
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clean(x, sigma):
    return LAW.denoise(x / sigma, 1 / sigma)


def by_diffusers(scheduler, x, preserving, noise=None):
    """Run a scheduler on its own `sigmas`; its variable is x/sqrt(1 + sigma^2) where it preserves variance."""
    scale = (1 + scheduler.sigmas**2).sqrt() if preserving else torch.ones_like(scheduler.sigmas)
    x = x / scale[0]
    for i, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i]
        predicted = (x * scale[i] - clean(x * scale[i], float(sigma))) / sigma
        given = {} if noise is None else {"variance_noise": noise[i]}
        x = scheduler.step(predicted, t, x, **given).prev_sample
    return x * scale[-1]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.usefixtures("double")
def test_euler_is_ddim(grid):
    scheduler = diffusers_schedulers.DDIMScheduler(len(grid) - 1, clip_sample=False)
    scheduler.set_timesteps(len(grid) - 1)
    scheduler.sigmas = torch.tensor(grid, dtype=torch.float64)  # for this test: DDIM has alpha-bars only
    scheduler.alphas_cumprod = (1 / (1 + scheduler.sigmas**2)).flip(0)[1:]
    found = integrate(LAW, points(), grid, "euler").x
    torch.testing.assert_close(found, by_diffusers(scheduler, points(), True), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.usefixtures("double")
def test_euler_and_heun_are_those_of_edm(grid):
    for solver, name in (("euler", "EulerDiscreteScheduler"), ("heun", "HeunDiscreteScheduler")):
        scheduler = getattr(diffusers_schedulers, name)()
        scheduler.set_timesteps(len(grid) - 1)
        inside = 1 if solver == "euler" else 2
        twice = [grid[0], *[sigma for sigma in grid[1:-1] for _ in range(inside)], grid[-1]]
        scheduler.sigmas = torch.tensor(twice, dtype=torch.float64)
        found = integrate(LAW, points(), grid, solver)
        assert found.evaluations == len(scheduler.timesteps)
        torch.testing.assert_close(found.x, by_diffusers(scheduler, points(), False), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("grid", [*GRIDS, GRIDS[0][:-1]], ids=["to-0", "long", "to-sigma-min"])
@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-2m-sde"])
@pytest.mark.usefixtures("double")
def test_dpm_solver_is_that_of_its_authors(solver, grid):
    scheduler = diffusers_schedulers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++" if solver == "dpmpp-2m" else "sde-dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=False,
        final_sigmas_type="zero" if grid[-1] == 0 else "sigma_min",
    )
    scheduler.set_timesteps(len(grid) - 1)
    scheduler.sigmas = torch.tensor(grid, dtype=torch.float64)
    noise = [points(seed=k) for k in range(1, len(grid))]
    draws, memory, x = iter(noise), Memory(lambda like: next(draws)), points()
    for sigma, after in pairwise(grid):
        x = SOLVERS[solver].step(clean, x, sigma, after, memory)
    given = noise if SOLVERS[solver].stochastic else None
    torch.testing.assert_close(x, by_diffusers(scheduler, points(), True, given), rtol=1e-11, atol=1e-11)


MULTISTEP = {  # by diffusers: class and options
    "dpmpp-3m": ("DPMSolverMultistep", {"solver_order": 3}),
    "dpmpp-2m": ("UniPCMultistep", {"solver_order": 2, "disable_corrector": [*range(20)]}),
    "unip-3": ("UniPCMultistep", {"solver_order": 3, "disable_corrector": [*range(20)]}),
    "unipc-2": ("UniPCMultistep", {"solver_order": 2}),
    "unipc-3": ("UniPCMultistep", {"solver_order": 3}),
    "deis-2": ("DEISMultistep", {"solver_order": 2}),
    "deis-3": ("DEISMultistep", {"solver_order": 3}),
}


@pytest.mark.parametrize("solver", MULTISTEP)
@pytest.mark.usefixtures("double")
def test_multistep_solvers_are_those_of_diffusers(solver):
    name, options = MULTISTEP[solver]
    draw = np.random.default_rng(3)
    drawn = [np.sort(draw.uniform(0.02, 5.0, steps))[::-1].tolist() for steps in (1, 2, 3, 4, 7, 14)]
    for grid in (*GRIDS, *([*levels, 0.0] for levels in drawn), GRIDS[1][:-1], *drawn[1:]):
        to_0 = grid[-1] == 0
        if to_0 and solver.startswith("deis"):
            continue  # it ends at the lowest level of its table
        ends = {} if solver.startswith("deis") else {"final_sigmas_type": "zero" if to_0 else "sigma_min"}
        make = getattr(diffusers_schedulers, f"{name}Scheduler")
        scheduler = make(lower_order_final=to_0, **ends, **options)
        scheduler.set_timesteps(len(grid) - 1)
        scheduler.sigmas = torch.tensor(grid, dtype=torch.float64)
        found = integrate(LAW, points(), grid, solver)
        assert found.evaluations == len(grid) - 1
        torch.testing.assert_close(found.x, by_diffusers(scheduler, points(), True), rtol=1e-9, atol=1e-9)


def test_single_precision():
    single = LAW.to(dtype=torch.float32)
    for solver in MULTISTEP.keys() | {"ipndm-4"}:
        found = integrate(single, points(), GRIDS[1], solver).x
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), integrate(LAW, points(), GRIDS[1], solver).x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.usefixtures("double")
def test_ipndm_is_that_of_diffusers(order):
    for grid in (GRIDS[1][:-1], GRIDS[0][:2]):
        sigmas = torch.tensor(grid, dtype=torch.float64)
        scheduler = diffusers_schedulers.IPNDMScheduler()
        scheduler.set_timesteps(len(grid) - 1)
        scheduler.alphas, scheduler.betas = 1 / (1 + sigmas**2).sqrt(), sigmas / (1 + sigmas**2).sqrt()
        x = points() / (1 + sigmas[0] ** 2).sqrt()
        for i, t in enumerate(scheduler.timesteps):
            scheduler.ets = scheduler.ets[max(len(scheduler.ets) - order + 1, 0) :]  # it knows order 4 only
            x0 = clean(x * (1 + sigmas[i] ** 2).sqrt(), grid[i])
            eps = (x - scheduler.alphas[i] * x0) / scheduler.betas[i]
            x = scheduler.step(scheduler.alphas[i] * eps - scheduler.betas[i] * x0, t, x).prev_sample
        ours = integrate(LAW, points(), grid, f"ipndm-{order}").x
        torch.testing.assert_close(ours, x * (1 + sigmas[-1] ** 2).sqrt(), rtol=1e-11, atol=1e-11)


def test_euler_maruyama_is_the_predictor_of_score_sde():
    grid = GRIDS[0]
    scheduler = diffusers_schedulers.ScoreSdeVeScheduler()
    scheduler.timesteps = torch.arange(len(grid) - 1)
    scheduler.discrete_sigmas = torch.tensor(grid[:-1], dtype=torch.float64).flip(0)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    memory = Memory(lambda like: torch.randn(like.shape, generator=generators[0], dtype=like.dtype))
    x = expected = points()
    for k, (sigma, after) in enumerate(pairwise(grid)):
        x = SOLVERS["euler-maruyama"].step(clean, x, sigma, after, memory)
        score = (clean(expected, sigma) - expected) / sigma**2
        place = (len(grid) - 2 - k + 0.5) / (len(grid) - 2)
        step = scheduler.step_pred(score, place, expected, generators[1])
        expected = step.prev_sample if after > 0 else step.prev_sample_mean
    torch.testing.assert_close(x, expected, rtol=1e-11, atol=1e-11)


def flow(x, high, low):
    """The exact flow of the Gaussian."""
    return MEAN + math.sqrt((DEVIATION**2 + low**2) / (DEVIATION**2 + high**2)) * (x - MEAN)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpmpp-2m", 2), ("unipc-2", 3)])
def test_order_on_the_exact_flow_of_a_gaussian(solver, order):
    x, high, low = points(20, 1), 5.0, 0.1
    errors = [
        float((integrate(GAUSSIAN, x, np.geomspace(high, low, steps + 1), solver).x - flow(x, high, low)).abs().max())
        for steps in (32, 64, 128)
    ]
    assert -np.diff(np.log2(errors)) == pytest.approx(order, abs=0.1)


ORDERS = {"dpmpp-2m": 2, "dpmpp-3m": 2, "unip-3": 3, "unipc-2": 3, "unipc-3": 4}
ORDERS |= {"deis-2": 2, "deis-3": 3, "ipndm-2": 2, "ipndm-3": 3, "ipndm-4": 4}


@pytest.mark.parametrize("solver", ORDERS)
def test_order_of_a_step_from_an_exact_past(solver):
    """Error h^(order + 1) of one step; with a corrector, once the next step has corrected it."""
    method, step = SOLVERS[solver].multistep, SOLVERS[solver].step

    def error(h):
        past = np.arange(-method.order, 3) * h
        sigmas = (1 - past if method.adams else np.exp(-past)).tolist()
        path = [flow(points(20, 1), 2.0, sigma) for sigma in sigmas]
        known = [GAUSSIAN.denoise(x / sigma, 1 / sigma) for x, sigma in zip(path, sigmas, strict=True)]
        if method.noise:
            known = [(x - clean) / sigma for x, clean, sigma in zip(path, known, sigmas, strict=True)]
        *before, here, after, beyond = sigmas
        memory = Memory(torch.randn_like, tuple(zip(before, known[:-3], strict=True))[::-1], beyond=beyond)
        found = step(lambda x, sigma: GAUSSIAN.denoise(x / sigma, 1 / sigma), path[-3], here, after, memory)
        if method.corrects:
            step(lambda x, sigma: GAUSSIAN.denoise(x / sigma, 1 / sigma), found, after, beyond, memory)
            found = memory.start
        return float((found - path[-2]).abs().max())

    assert math.log2(error(0.04) / error(0.02)) == pytest.approx(ORDERS[solver] + 1, abs=0.3)


def gaussian_moments(solver, grid, mean, variance):
    """Mean and variance of x at the end, by the sampler's formula: on a Gaussian, D - MEAN = k (x - MEAN)."""
    slope = [DEVIATION**2 / (DEVIATION**2 + sigma**2) for sigma in grid]
    first = np.array([mean - MEAN, 0.0])  # of x and of x a step before
    second = np.diag([variance, 0.0])
    for i, (sigma, after) in enumerate(pairwise(grid)):
        share, k = (after / sigma) ** 2, slope[i]
        if solver == "annealed-langevin":
            size = langevin_size(sigma / after)
            factor, noise = 1 - size * (1 - slope[i + 1]), 2 * size * after**2
            noise *= sum(factor ** (2 * j) for j in range(LANGEVIN))
            row = np.array([factor**LANGEVIN, 0.0])
        else:
            ratio = 0.0
            if solver == "dpmpp-2m-sde" and i > 0:
                ratio = math.log(sigma / after) / math.log(grid[i - 1] / sigma)
            noise = sigma**2 - after**2 if solver == "euler-maruyama" else after**2 * (1 - share)
            row = np.array([share + (1 - share) * (1 + ratio / 2) * k, -(1 - share) * ratio / 2 * slope[i - 1]])
        turn = np.array([row, [1.0, 0.0]])
        first, second = turn @ first, turn @ second @ turn.T + np.diag([noise, 0.0])
    return MEAN + first[0], second[0, 0]


@pytest.mark.parametrize("solver", [name for name, solver in SOLVERS.items() if solver.stochastic])
@pytest.mark.parametrize("grid", [[3.0, 1.2], [3.0, 2.0, 0.9, 0.5, 0.2]], ids=["a step", "four steps"])
def test_moments_on_a_gaussian(solver, grid):
    n, mean, deviation = 40_000, 2.5, 3.3
    x = mean + deviation * points(n, 1, seed=4) / 3
    ends = integrate(GAUSSIAN, x, grid, solver, seed=5).x
    mean, variance = gaussian_moments(solver, grid, mean, deviation**2)
    assert float(ends.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / n))
    assert float(ends.var()) == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / n))


@pytest.mark.parametrize("ratio", [1.05, 1.5, 4.0, 30.0])
def test_langevin_steps_leave_the_variance_nearest_to_its_level(ratio):
    sizes = np.linspace(0, 1, 20_001)
    variance = np.full_like(sizes, ratio**2)
    for _ in range(LANGEVIN):
        variance = (1 - sizes) ** 2 * variance + 2 * sizes
    assert langevin_size(ratio) == pytest.approx(sizes[np.abs(variance - 1).argmin()], abs=2e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_last_step_to_0_ends_at_the_denoiser(solver):
    point = load_target("point-mass")
    assert bool((integrate(point, points(9, 1), [10, 0], solver).x == 0).all())
    assert bool((integrate(point, points(9, 1), GRIDS[0], solver).x == 0).all())
    torch.testing.assert_close(integrate(LAW, points(), [2, 0], solver).x, clean(points(), 2.0), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("solver", "to_0", "above"),
    [("euler", 5, 4), ("heun", 9, 8), ("dpmpp-2m-sde", 5, 4), ("annealed-langevin", 4 * LANGEVIN + 1, 4 * LANGEVIN)],
)
def test_evaluations(solver, to_0, above):
    for grid, expected in ((GRIDS[0], to_0), (GRIDS[0][:-1], above)):
        assert evaluations(solver, grid) == integrate(LAW, points(), grid, solver).evaluations == expected


@pytest.mark.parametrize("name", ["ddim", "", None, ["heun"]])
def test_solvers_that_are_not_there(name):
    with pytest.raises(ValueError, match=r"no solver .*: it is one of euler, heun, dpmpp-2m"):
        find_solver(name)
