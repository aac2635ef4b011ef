"""Criteria of other papers: against brute force on few levels, and closed forms on a Gaussian."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad

from brenier.laws.mixture import GaussianMixture
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.handmade import HANDMADE
from brenier.sampling.pilots import flow_path
from brenier.sampling.planning import plan
from brenier.sampling.published import (
    FINE,
    PUBLISHED,
    Ends,
    bound,
    deviations,
    dmn,
    influence,
    ld3,
    oss,
    shortest,
)
from brenier.sampling.steps import SOLVERS

ODE = [name for name, solver in SOLVERS.items() if not solver.stochastic]
PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0], [1, 0.5]], [[0.01, 0.1], [0.1, 0.02]], name="plane")
NORMAL = GaussianMixture([1], [[0.0, 0, 0]], [[0.25, 0.25, 0.25]], name="normal")
HIGH, LOW = 10.0, 0.05


def noise(law, count=64, sigma=HIGH):
    return start(law, count, sigma, seed=3)


def squared(law, x, sigmas, solver, end):
    return float((integrate(law, x, sigmas, solver).x - end).square().sum(1).mean())


@pytest.mark.parametrize("later", [1.0, 1.15])
def test_shortest_paths_are_the_best_of_all(later):
    cost = np.random.default_rng(0).normal(size=(9, 9))  # deviations may be negative
    for steps in (1, 2, 4, 8):

        def total(path):
            return sum(later**k * cost[step] for k, step in enumerate(itertools.pairwise(path)))

        best = min(([0, *inner, 8] for inner in itertools.combinations(range(1, 8), steps - 1)), key=total)
        assert shortest(cost, steps, later) == best


def test_deviations_are_distances_from_the_chord():
    sigmas = np.geomspace(HIGH, LOW, 7).tolist()
    path, clean = flow_path(PLANE, noise(PLANE, 3), sigmas)
    found = deviations(path, clean, sigmas)

    def off(points):
        """Height of a triangle over the chord: twice its area over its base."""
        base, side = (path[0] - path[-1]).numpy(), (points - path[-1]).numpy()
        return np.abs(base[:, 0] * side[:, 1] - base[:, 1] * side[:, 0]) / np.linalg.norm(base, axis=1)

    for k, j in ((0, 1), (2, 5), (3, 6)):
        reached = integrate(PLANE, path[k], [sigmas[k], sigmas[j]], "euler").x
        assert found[k, j] == pytest.approx((off(reached) - off(path[j])).mean(), abs=1e-9)


def test_gits_on_the_line_counts_local_errors():
    line = GaussianMixture([1], [[0.0]], [[0.25]], name="line")
    x = noise(line)

    def slope(a, b):  # of the flow and of Euler's step, x being multiplied by
        return math.hypot(0.5, b) / math.hypot(0.5, a), (0.25 + a * b) / (0.25 + a * a)

    def cost(a, b):
        exact, euler = slope(a, b)
        return abs(euler - exact) * slope(HIGH, a)[0]

    levels = np.geomspace(HIGH, LOW, FINE)
    best = min(levels[1:-1], key=lambda s: cost(HIGH, s) + 1.15 * cost(s, LOW))
    found, spent = PUBLISHED["gits"](line, x, 2, Ends(HIGH, LOW), "euler")
    np.testing.assert_allclose(found, [HIGH, best, LOW])
    assert spent == len(x) * (FINE + 1)


@pytest.mark.parametrize("solver", ODE)
def test_weights_are_those_of_the_solver(solver):
    """Where D is one point, whatever the noise, samplers are exact; the end is linear in what evaluations say."""
    sigmas = HANDMADE["karras"](6, HIGH, LOW)
    weights, levels = influence(sigmas, solver)
    assert weights.sum() == pytest.approx(1 - LOW / HIGH)
    assert levels[0] == HIGH
    if solver == "euler":
        np.testing.assert_allclose(weights, LOW * np.diff(1 / np.array(sigmas)))


def test_dmn_is_even_in_log_sigma_for_euler_and_least_for_others():
    x, ends = noise(NORMAL), Ends(HIGH, LOW)
    np.testing.assert_allclose(dmn(NORMAL, x, 4, ends, "euler")[0], HANDMADE["log-snr"](5, HIGH, LOW), rtol=1e-3)
    found, spent = dmn(NORMAL, x, 3, ends, "dpmpp-2m")
    assert spent == 0
    assert bound(found, "dpmpp-2m") < min(bound(place(4, HIGH, LOW), "dpmpp-2m") for place in HANDMADE.values())


def test_score_optimal_steps_have_equal_work():
    """For N(0, c^2) the score is -x/(c^2 + sigma^2): work goes as 2 sigma^2/(c^2 + sigma^2)^1.5 d sigma."""
    found, spent = PUBLISHED["score-optimal"](NORMAL, noise(NORMAL, 256), 6, Ends(HIGH, LOW), "euler")
    work = [quad(lambda s: s**2 / (0.25 + s**2) ** 1.5, b, a)[0] for a, b in itertools.pairwise(found)]
    np.testing.assert_allclose(work, np.mean(work), rtol=0.02)
    assert spent == 2 * 256 * FINE


@pytest.mark.parametrize("ends", [Ends(HIGH, LOW), Ends(HIGH, LOW, LOW / 4, LOW / 32)], ids=["low", "zero"])
def test_oss_of_two_steps_is_the_best_level(ends):
    x = noise(PLANE, 16)
    low = ends.lowest or LOW
    last = 0.0 if ends.lowest else LOW
    levels = np.geomspace(HIGH, low, FINE).tolist()
    path, _ = flow_path(PLANE, x, levels)
    end = reference(PLANE, x, HIGH, 0.0, 1e-6) if ends.lowest else path[-1]
    inner = min(levels[1:-1], key=lambda s: squared(PLANE, x, [HIGH, s, last], "euler", end))
    found, spent = oss(PLANE, x, 2, ends, "heun")
    np.testing.assert_allclose(found, [HIGH, inner] if ends.lowest else [HIGH, inner, LOW])
    assert spent >= len(x) * (2 * FINE - 2)


@pytest.mark.parametrize("criterion", ["gits", "oss", "score-optimal"])
def test_there_are_levels_for_more_steps_than_usual(criterion, monkeypatch):
    monkeypatch.setattr("brenier.sampling.published.FINE", 5)
    assert plan(NORMAL, 7, criterion=criterion, solver="euler", pilots=2, progress=False).steps == 7


def test_oss_takes_the_closest_state_at_each_level():
    """The recursion, written for one trajectory of a law on the line in numbers."""
    x = noise(NORMAL, 1)
    levels = np.geomspace(HIGH, LOW, FINE)
    goals = np.hypot(0.5, levels) / np.hypot(0.5, HIGH)
    states = {0: (1.0, [0])}
    for step in range(1, 5):
        after = {}
        for k, (state, path) in states.items():
            for j in [FINE - 1] if step == 4 else range(k + 1, FINE - 4 + step):
                reached = state * (0.25 + levels[k] * levels[j]) / (0.25 + levels[k] ** 2)
                if j not in after or abs(reached - goals[j]) < abs(after[j][0] - goals[j]):
                    after[j] = reached, [*path, j]
        states = after
    found, _ = oss(NORMAL, x, 4, Ends(HIGH, LOW), "euler")
    np.testing.assert_allclose(found, levels[states[FINE - 1][1]], rtol=1e-9)


@pytest.mark.parametrize("ends", [Ends(HIGH, LOW), Ends(HIGH, LOW, LOW / 4, LOW / 32)], ids=["low", "zero"])
def test_ld3_finds_the_best_level(ends):
    flat = GaussianMixture([1], [[0.0, 0]], [[1.0, 0.04]], name="flat")
    x, last = noise(flat, 16), 0.0 if ends.lowest else LOW
    end = reference(flat, x, HIGH, last, 1e-6)
    (_, inner, *_), _ = ld3(flat, x, 2, ends, "dpmpp-2m")
    assert inner != pytest.approx(math.sqrt(HIGH * LOW), rel=0.01)  # where it starts
    levels = np.geomspace(HIGH, ends.lowest or LOW, 42)[1:-1]
    found, *others = (squared(flat, x, [HIGH, s, last], "dpmpp-2m", end) for s in (inner, *levels))
    assert found <= min(others)


def test_no_more_evaluations_than_are_said(monkeypatch):
    rows = 0
    denoise = GaussianMixture.denoise

    def count(law, y, snr):
        nonlocal rows
        rows += len(y)
        return denoise(law, y, snr)

    monkeypatch.setattr(GaussianMixture, "denoise", count)
    for criterion in ("gits", "ld3", "oss", "score-optimal"):
        rows = 0
        said = plan(PLANE, 3, solver="heun", criterion=criterion, pilots=3, progress=False).evaluations
        assert 0 <= rows - said <= 32  # that find the mean
