"""Sampling: what it defaults to, what it draws, and what it warns of."""

import math

import pytest
import torch

from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.networks.flow import FlowTarget
from brenier.sampling.driver import integrate, start
from brenier.sampling.sample import sample, straightness_of
from brenier.sampling.schedule import Schedule

GRID = (10.0, 3.0, 1.0, 0.3, 0.0)
SCHEDULE = Schedule(GRID, "heun", criterion="by hand", law="normal")


def test_the_sampler_runs_along_the_schedule():
    found = sample("normal", 20, schedule=SCHEDULE, seed=3, trajectory=True, progress=False)
    law = GaussianMixture([1], [0], 1.0)
    run = integrate(law, start(law, 20, 10.0, 3), GRID, "heun", 3, trajectory=True)
    assert torch.equal(found.points, run.x)
    assert torch.equal(found.trajectory, run.trajectory)
    assert (found.solver, found.evaluations, found.schedule) == ("heun", 7, SCHEDULE)
    again = sample(
        "normal", 20, steps=4, solver="heun", schedule=SCHEDULE, seed=3, sigma_max=10.0, batch=7, progress=False
    )
    torch.testing.assert_close(again.points, found.points)
    assert again.trajectory is None


def test_many_steps_draw_from_the_law():
    n, steps = 5000, 120
    sigmas = [*torch.logspace(1.5, -2.5, steps, dtype=torch.float64).tolist(), 0.0]
    law = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]], name="two blobs")
    for solver in ("dpmpp-2m", "dpmpp-2m-sde"):
        x = sample(law, n, schedule=Schedule(sigmas, solver, criterion="by hand"), seed=1, progress=False).points
        share = float((x[:, 0] < 0).double().mean())
        exact = law.sample(100_000, 2)
        expected = float((exact[:, 0] < 0).double().mean())
        assert share == pytest.approx(expected, abs=4 * math.sqrt(0.25 / n))
        assert x.std(0).tolist() == pytest.approx(exact.std(0).tolist(), rel=4 / math.sqrt(2 * n))


def test_points_in_their_own_shape():
    law = Uniform(torch.zeros(6), torch.ones(6), event_shape=(2, 3), name="box")
    found = sample(law, 4, schedule=Schedule(GRID, "euler", criterion="by hand"), progress=False)
    assert found.events.shape == (4, 2, 3)
    assert torch.equal(found.events.flatten(1), found.points)
    assert sample(law, 0, schedule=Schedule(GRID, "euler", criterion="by hand"), progress=False).events.shape == (
        0,
        2,
        3,
    )


@pytest.mark.parametrize(("solver", "criterion"), [(None, "log-snr"), ("heun", "karras")])
def test_a_criterion_plans(solver, criterion):
    found = sample("two-points", 5, steps=6, solver=solver, schedule=criterion, sigma_max=7.0, progress=False)
    assert found.schedule.criterion == criterion
    assert found.schedule.solver == found.solver == (solver or "dpmpp-2m")
    assert (found.schedule.steps, found.schedule.sigmas[0]) == (6, 7.0)


@pytest.mark.parametrize(
    ("solver", "criterion"), [(None, "error"), ("euler-maruyama", "kl"), ("annealed-langevin", "log-snr")]
)
def test_by_default_ten_steps_are_planned(solver, criterion):
    found = sample("normal", 400, solver=solver, progress=False)
    assert (found.schedule.steps, found.schedule.criterion) == (10, criterion)
    assert found.schedule.solver == found.solver == (solver or "dpmpp-2m")
    assert float(found.points.mean()) == pytest.approx(0, abs=4 * 1.2 / math.sqrt(400))


def test_schedules_of_another_kind_are_warned_of():
    with pytest.warns(UserWarning, match="the schedule was made for heun, not for dpmpp-2m-sde"):
        found = sample("normal", 3, solver="dpmpp-2m-sde", schedule=SCHEDULE, progress=False)
    assert found.solver == "dpmpp-2m-sde"
    assert found.evaluations == 4
    with pytest.warns(UserWarning, match="the schedule was made for normal, not for two-points"):
        sample("two-points", 3, schedule=SCHEDULE, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5}, "the schedule has 4 steps, not 5: leave steps out"),
        ({"sigma_max": 5.0}, "the schedule starts at 10, not at 5: leave sigma_max out"),
        ({"solver": "ddim"}, "no solver 'ddim'"),
        ({"n": -1}, "n must be a whole number of at least 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
        ({"law": "norml"}, "no target 'norml'"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sample(**({"law": "normal", "n": 3, "schedule": SCHEDULE, "progress": False} | change))


def flow(**options):
    """x -> 2 x + 1, by straight paths ((1 + t) x + t)."""
    return FlowTarget(
        lambda x, t: (x + 1) / (1 + t[:, None]), event_shape=(2,), dtype=torch.float64, name="stretch", **options
    )


def test_a_flow_is_followed_from_noise_along_its_times():
    found = sample(flow(), 6, times=[0, 0.2, 1], seed=3, trajectory=True, progress=False)
    torch.testing.assert_close(found.points, 2 * found.trajectory[0] + 1)
    torch.testing.assert_close(found.trajectory[1], 1.2 * found.trajectory[0] + 0.2)
    assert (found.times, found.schedule, found.steps) == ((0, 0.2, 1), None, 2)
    assert (found.solver, found.evaluations) == ("euler", 2)
    again = sample(flow(), 6, times=[0, 0.2, 1], seed=3, batch=4, progress=False)
    torch.testing.assert_close(again.points, found.points)
    assert again.trajectory is None
    assert sample(flow(), 6, seed=3, progress=False).times == pytest.approx([k / 10 for k in range(11)])
    assert sample(flow(), 0, progress=False).points.shape == (0, 2)
    big = sample(flow(), 4000, steps=1, solver="midpoint", progress=False).points
    assert big.mean(0).tolist() == pytest.approx([1, 1], abs=4 * 2 / math.sqrt(4000))
    assert big.std(0).tolist() == pytest.approx([2, 2], rel=4 / math.sqrt(8000))
    assert straightness_of(flow()).share < 1e-20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"times": [0, 0.5, 0.2, 1]}, "times of a flow must increase, got 0.2 after 0.5"),
        ({"times": [0, 2]}, r"must lie in \[0, 1\]"),
        ({"times": [0.1, 1]}, "must go from 0, noise, to 1, data, got 0.1 to 1"),
        ({"times": [0, 0.9]}, "must go from 0, noise, to 1, data, got 0 to 0.9"),
        ({"times": [0, 0.5, 1], "steps": 3}, "there are 2 steps between these times, not 3"),
        ({"times": [0, 1], "solver": "dpmpp-2m"}, "times are a flow's own, by its own solvers"),
        ({"times": [0, 1], "schedule": "karras"}, "times are a flow's own, by its own solvers"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"law": "normal", "times": [0, 1]}, "times are those of a flow, and normal is none"),
    ],
)
def test_what_a_flow_does_not_take(options, words):
    with pytest.raises(ValueError, match=words):
        sample(**({"law": flow(), "n": 3, "progress": False} | options))
