"""Plans: what grids are like, what they cost, what is refused, and that the error criterion pays."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from brenier.catalog import load_target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.networks.network import NetworkTarget
from brenier.probing.profile import probe
from brenier.sampling import error, planning
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.handmade import HANDMADE
from brenier.sampling.information import INFORMED, needed_snrs
from brenier.sampling.planning import CRITERIA, DETERMINISTIC, noise_range, plan, predict
from brenier.sampling.published import PUBLISHED
from brenier.sampling.schedule import Schedule
from brenier.sampling.steps import SOLVERS

ODE = [name for name, solver in SOLVERS.items() if not solver.stochastic]
SOME = ["euler", "heun", "dpmpp-2m", "unipc-3"]
STOCHASTIC = [name for name, solver in SOLVERS.items() if solver.stochastic]


class Mixture(GaussianMixture):
    """A mixture of diagonal covariances, its denoiser in a few lines."""

    def denoise(self, y, snr):
        total = self.variances + snr**-2
        offset = y[:, None] / snr - self.means
        logits = self.weights.log() - (offset**2 / total + total.log()).sum(2) / 2
        return (logits.softmax(1)[..., None] * (self.means + self.variances / total * offset)).sum(1)


class Exact(nn.Module):
    """E[X | X + sigma Z = x] of a law, counting points."""

    def __init__(self, law):
        super().__init__()
        self.law, self.rows = law, 0

    def forward(self, x, sigma):
        self.rows += len(x)
        return self.law.denoise(x / sigma[0], float(1 / sigma[0]))


def four(scale=1.0, shift=0.0, **options):
    means = scale * torch.tensor([[-4.0], [-2], [2], [4]], dtype=torch.float64) + shift
    return Mixture([0.1, 0.2, 0.4, 0.3], means, scale**2 * np.array([[1.0], [0.5], [0.5], [1]]), **options)


FOUR = four(name="four")
SPACE = Mixture([0.2, 0.8], [[-1.0, 0, 0], [1, 0, 0.3]], [[0.01, 0.1, 0.05], [0.1, 0.02, 0.05]], name="space")
NORMAL = Mixture([1], [[0.0]], [[1.0]], name="normal")
POINTS = Empirical(np.random.default_rng(0).normal(size=(30, 2)), name="points")


def network(law=FOUR, **options):
    options = {"snr_range": (0.02, 40.0), "dtype": torch.float64, "name": "net", **options}
    return NetworkTarget(Exact(law), event_shape=(law.dim,), **options)


def quick(law, steps, solver="dpmpp-2m", criterion="error", **options):
    return plan(law, steps, solver=solver, criterion=criterion, **{"pilots": 4, "progress": False, **options})


def by_hand(sigmas, solver="euler"):
    return Schedule(sigmas, solver, criterion="by hand")


def rms(offsets):
    return float(offsets.square().sum(1).mean().sqrt())


# Grids


@pytest.fixture(scope="module", params=["law", "data", "network"])
def target(request):
    """A law, data or a network, with a profile of it."""
    law = {"law": FOUR, "data": POINTS, "network": network()}[request.param]
    high, low, _ = noise_range(law, None, None)
    data = {"about": "atoms", "queries": 32} if request.param == "data" else {}
    return law, probe(law, needed_snrs(high, low), progress=False, **data)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_grids(target, criterion):
    law, profile = target
    high, low, _ = noise_range(law, None, None)
    solver = "dpmpp-2m-sde" if criterion == "kl" else "heun"
    for steps in (1, 2, 5):
        down = quick(law, steps, solver, criterion, profile=profile)
        part = quick(law, steps, solver, criterion, profile=profile, sigma_max=5, sigma_min=0.3)
        assert down.steps == part.steps == steps
        assert (down.sigmas[0], down.sigmas[-1]) == (pytest.approx(high), 0)
        assert (part.sigmas[0], part.sigmas[-1]) == (5, 0.3)
        assert (down.solver, down.criterion, down.law, down.seed) == (solver, criterion, law.name, 0)
        if criterion in ("error", "ld3", "oss"):
            assert down.sigmas[-2] > low / 4.001
        else:
            assert steps == 1 or down.sigmas[-2] == pytest.approx(low)
        if criterion == "error":
            assert down.evaluations > 0
            assert len(down.predicted_error) == steps
        else:
            few = 1 if criterion in ("ld3", "oss") else 2  # steps that leave no choice
            assert (down.evaluations > 0) == (criterion in PUBLISHED and criterion != "dmn" and steps > few)
            assert down.predicted_error is None


def test_the_range_of_a_law():
    assert noise_range(NORMAL, None, None) == (pytest.approx(10), pytest.approx(0.1), True)
    assert noise_range(network(), None, None) == (pytest.approx(50), pytest.approx(1 / 40), True)


@pytest.fixture(scope="module")
def normal():
    """A profile of the normal law where its grids lie; by quadrature, whatever the seed."""
    return probe(NORMAL, needed_snrs(10, 0.1), seed=7, progress=False)


@pytest.fixture(scope="module")
def once():
    """`probe`, which probes the same law at the same SNRs only once."""
    found = {}

    def call(law, snrs, **options):
        key = (law.name, *snrs)
        if key not in found:
            found[key] = probe(law, snrs, **options)
        return found[key]

    return call


@pytest.mark.parametrize("criterion", INFORMED)
def test_a_profile_is_made_where_none_is_given(normal, once, criterion, monkeypatch):
    monkeypatch.setattr(planning, "probe", once)
    solver = "dpmpp-2m-sde"
    given = quick(NORMAL, 4, solver, criterion, profile=normal)
    made = quick(NORMAL, 4, solver, criterion)
    np.testing.assert_allclose(made.sigmas, given.sigmas, rtol=1e-6)
    assert made.evaluations >= 48
    assert given.evaluations == 0


@pytest.mark.parametrize("name", ["cosine", "linear-beta"])
def test_hand_made_grids_are_in_units_of_the_law_but_for_a_network(name):
    def even(law, unit):
        return np.array(HANDMADE[name](6, 50 / unit, 0.5 / unit)) * unit

    length = FOUR.scales()[1]
    grid = {"criterion": name, "sigma_max": 50, "sigma_min": 0.5}
    np.testing.assert_allclose(quick(FOUR, 5, **grid).sigmas, even(FOUR, length), rtol=1e-9)
    np.testing.assert_allclose(quick(network(), 5, **grid).sigmas, even(FOUR, 1), rtol=1e-9)


def test_seeds():
    plans = [quick(SPACE, 3, seed=seed) for seed in (3, 3, 4)]
    assert plans[0] == plans[1]
    assert plans[0].sigmas != plans[2].sigmas
    assert plans[2].seed == 4


def test_single_precision():
    double, single = (quick(law, 5, pilots=32) for law in (FOUR, FOUR.to(dtype=torch.float32)))
    np.testing.assert_allclose(single.sigmas, double.sigmas, rtol=0.2)
    assert single.end_error == pytest.approx(double.end_error, rel=0.05)
    assert predict(FOUR, [single])[0].end_error == pytest.approx(predict(FOUR, [double])[0].end_error, rel=0.02)


@pytest.fixture(scope="module")
def plain():
    return quick(FOUR, 5, pilots=8)


@pytest.mark.parametrize("scale", [1e6, 1e-6])
def test_the_unit_of_the_data_does_not_matter(plain, scale):
    scaled = quick(four(scale), 5, pilots=8)
    np.testing.assert_allclose(np.array(scaled.sigmas) / scale, plain.sigmas, rtol=1e-6)
    np.testing.assert_allclose(np.array(scaled.predicted_error) / scale, plain.predicted_error, rtol=1e-5)


def test_the_place_of_the_law_does_not_matter(plain):
    far = quick(four(shift=1e4), 5, pilots=8)
    np.testing.assert_allclose(far.sigmas, plain.sigmas, rtol=1e-3)
    assert far.end_error == pytest.approx(plain.end_error, rel=1e-4)


def test_a_point_mass():
    for law in ("point-mass", Empirical([[1.0, 2.0]])):
        for solver in SOME:
            schedule = quick(law, 3, solver)
            assert schedule.end_error == pytest.approx(0, abs=1e-5)
            assert np.all(np.diff(schedule.sigmas) < 0)


# Costs


@pytest.mark.parametrize("known", [(0.02, 40.0), (0.001, 4000.0)], ids=["narrow", "wide"])
@pytest.mark.parametrize("solver", SOME[:3])
@pytest.mark.parametrize("law", [FOUR, SPACE], ids=["line", "space"])
@pytest.mark.parametrize("budget", [512, 3000])
def test_planning_for_a_network_costs_at_most_its_budget(law, solver, known, budget, monkeypatch):
    # The first stage takes time and no evaluations: left out, the second has further to go. And it never has enough.
    monkeypatch.setattr(error, "TRIALS", 0)
    monkeypatch.setattr(error, "ENOUGH", -1.0)
    for steps in (1, 2, 6, 10, 20) if budget == 512 else (2, 8):
        target = network(law, snr_range=known, data=law)
        target.network.rows = 0
        schedule = plan(target, steps, solver=solver, pilots=10_000, budget=budget, progress=False)
        assert target.network.rows <= budget * schedule.evaluations_per_sample
        assert 0 <= target.network.rows - schedule.evaluations <= 32  # that find the mean


def test_a_larger_budget_is_spent_and_leaves_less():
    # Of a network whose errors a few noises do not show: the digits', in 64 dimensions.
    law = load_target("digits-network")
    high = noise_range(law, None, None)[0]
    x = start(law, 512, high, seed=97)
    end = reference(law, x, high, 0.0, 1e-3)
    plans = [plan(law, 8, solver="unipc-3", budget=budget, progress=False) for budget in (512, 4096)]
    assert 4 * plans[0].evaluations < plans[1].evaluations <= 4096 * 8
    left = [rms(integrate(law, x, schedule.sigmas, "unipc-3").x - end) for schedule in plans]
    assert left[1] < left[0]
    assert plans[1].end_error == pytest.approx(left[1], abs=3 * plans[1].end_error_se)


@pytest.mark.parametrize("budget", [0, 511])
def test_a_budget_that_leaves_no_pilots_is_refused(budget):
    with pytest.raises(ValueError, match="budget must be a whole number of at least 512, got"):
        plan(network(), 4, budget=budget, progress=False)


def test_fewer_pilots_cost_less():
    # With 1,000 the cost of 512 samples is what limits them.
    assert quick(network(), 6).evaluations < quick(network(), 6, pilots=1000).evaluations / 2
    costs = [quick(FOUR, 3, pilots=pilots, sigma_min=0.1).evaluations for pilots in (2, 20)]
    assert costs[0] < costs[1] / 3


# What it is for


@pytest.fixture(scope="module")
def fresh():
    """Noise that no plan has seen, and where the flow carries it: at the lowest level, and at 0."""
    x = start(FOUR, 1000, noise_range(FOUR, None, None)[0], seed=99)
    return x, {low: reference(FOUR, x, 1 / 0.1 * FOUR.scales()[1], low, 1e-5) for low in (0.0, 0.1)}


def test_the_deepest_of_several_valleys_is_found(fresh, monkeypatch):
    x, ends = fresh

    def left():
        return rms(integrate(FOUR, x, plan(FOUR, 6, solver="unipc-3", progress=False).sigmas, "unipc-3").x - ends[0.0])

    several = left()
    monkeypatch.setattr(planning, "MANY_VALLEYS", 1)
    assert several < 0.75 * left()


@pytest.mark.parametrize("sigma_min", [None, 0.1])
def test_error_beats_every_grid_made_by_hand(fresh, sigma_min):
    x, ends = fresh

    def left(criterion):
        sigmas = plan(FOUR, 10, solver="dpmpp-2m", criterion=criterion, sigma_min=sigma_min, progress=False).sigmas
        return rms(integrate(FOUR, x, sigmas, "dpmpp-2m").x - ends[sigma_min or 0.0])

    best = min(left(criterion) for criterion in HANDMADE)
    assert left("error") < best / 1.5


@pytest.mark.parametrize(("law", "solver"), [(FOUR, "ipndm-3"), (SPACE, "unipc-2")], ids=["line", "space"])
def test_multistep_solvers_are_planned_for(law, solver):
    x = start(law, 1000, noise_range(law, None, None)[0], seed=98)
    end = reference(law, x, noise_range(law, None, None)[0], 0.0, 1e-4)
    schedule, by_karras = (quick(law, 6, solver, criterion, pilots=16) for criterion in ("error", "karras"))
    left, other = (rms(integrate(law, x, grid.sigmas, solver).x - end) for grid in (schedule, by_karras))
    assert schedule.end_error == pytest.approx(left, rel=0.15)
    assert left < other / 1.5


def test_levels_are_not_so_close_that_a_solver_takes_a_derivative():
    """Left alone, unip-3 would ask for D twice at the first level and extrapolate from the difference."""
    sigmas = plan(FOUR, 5, solver="unip-3", pilots=16, progress=False).sigmas
    gaps = -np.diff(np.log(sigmas[:-1]))
    assert gaps.min() > gaps.max() / 50.1


@pytest.mark.parametrize("solver", [*SOME, "ipndm-4"])
def test_predictions_are_errors_on_fresh_noise(fresh, solver):
    x, ends = fresh
    grids = [
        plan(FOUR, 8, solver=solver, criterion="karras", sigma_min=sigma_min, progress=False)
        for sigma_min in (None, 0.1)
    ]
    for schedule in predict(FOUR, grids):
        measured = rms(integrate(FOUR, x, schedule.sigmas, solver).x - ends[schedule.sigmas[-1]])
        assert sum(schedule.predicted_error) == pytest.approx(measured, rel=0.2)
        assert schedule.sigmas in [grid.sigmas for grid in grids]


def test_error_predicts_what_predict_finds():
    for sigma_min in (None, 0.1):
        schedule = quick(FOUR, 6, sigma_min=sigma_min, pilots=64)
        assert predict(FOUR, [schedule], pilots=64)[0].end_error == pytest.approx(schedule.end_error, rel=1e-3)


def test_predictions_keep_the_rest_and_do_not_depend_on_their_neighbours():
    grids = [by_hand([50, 5, 0.5, 0]), by_hand([50, 1, 0.1], "heun"), by_hand([20, 5, 0.01, 0], "dpmpp-2m")]
    together = predict(SPACE, grids, pilots=16)
    assert together == [predict(SPACE, [grid], pilots=16)[0] for grid in grids]
    assert [(s.sigmas, s.solver, s.criterion) for s in together] == [(s.sigmas, s.solver, s.criterion) for s in grids]
    assert predict(SPACE, []) == []
    assert predict(SPACE, grids[:1], pilots=16, seed=1) != together[:1]


def test_plans_are_held_against_all_grids_by_hand_in_their_units():
    largest = SPACE.scales()[1]
    grids = planning._safe(SPACE, 6, 10.0, 0.01, [0.0])
    assert len(grids) == 4 + 3 * 4  # karras, log-snr, uniform-sigma and ays have no unit
    for grid in grids:
        assert len(grid) == 7
        np.testing.assert_allclose(grid[0], 10.0)
        assert grid[-1] == 0
        assert np.all(np.diff(grid) < 0)
    for unit in (largest / 4, largest / 2, largest):
        own = [unit * sigma for sigma in HANDMADE["cosine"](6, 10.0 / unit, 0.01 / unit)]
        assert any(np.allclose(own, grid[:-1]) for grid in grids)


def test_a_law_that_one_step_solves_is_predicted_to_leave_no_error():
    point = predict("point-mass", [by_hand([10, 1, 0], solver) for solver in ODE], pilots=16)
    assert [schedule.end_error for schedule in point] == pytest.approx([0] * len(ODE), abs=1e-12)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 10000, got 0"),
        ({"steps": 1.5}, "steps must be a whole number from 1 to 10000, got 1.5"),
        ({"steps": True}, "steps must be a whole number from 1 to 10000, got True"),
        ({"pilots": 1}, "pilots must be a whole number from 2 to 65536, got 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"solver": "rk4"}, "no solver 'rk4': it is one of euler, heun, dpmpp-2m"),
        ({"criterion": "best"}, "no criterion 'best': it is one of error, curvature"),
        ({"sigma_max": 5, "sigma_min": 5}, "sigma_min must be below sigma_max: 5 is not below 5"),
        ({"sigma_max": 5, "sigma_min": 6}, "sigma_min must be below sigma_max: 6 is not below 5"),
        ({"sigma_max": 0.01}, "0.0707107, the lowest level that four calls for is not below 0.01"),
        ({"sigma_min": 100}, "sigma_min must be below sigma_max: 100 is not below 28"),
        ({"sigma_min": -1}, "sigma_min must be positive and finite, got -1"),
        ({"sigma_min": 0}, "got 0 .a grid ends at 0 unless sigma_min is given"),
        ({"sigma_min": math.nan}, "sigma_min must be positive and finite, got nan"),
        ({"sigma_max": math.nan}, "sigma_max must be positive and finite, got nan"),
        ({"sigma_max": math.inf}, "sigma_max must be positive and finite, got inf"),
        *[({"solver": name}, f"{name}, being stochastic, does not follow: choose criterion") for name in STOCHASTIC],
        *[({"solver": "euler-maruyama", "criterion": name}, f"criterion .{name}. measures") for name in DETERMINISTIC],
    ],
    ids=str,
)
def test_refusals(arguments, message):
    # Where the annotation alone would stop a bad value, the checker of the tests comes before our own message.
    call = getattr(plan, "__wrapped__", plan)
    with pytest.raises(ValueError, match=message):
        call(**{"law": FOUR, "steps": 3, "progress": False, **arguments})


@pytest.mark.parametrize("sigmas", [[100.0, 1.0, 0.0], [50.0, 1.0, 0.01], [50.0, 1.0, 0.01, 0.0]])
def test_a_network_does_not_predict_beyond_its_noise_levels(sigmas):
    with pytest.raises(ValueError, match=r"not one that net was trained for: it must lie between 0\.02 and 40"):
        predict(network(), [by_hand(sigmas)])


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_there_is_no_predicting_a_stochastic_sampler(solver):
    with pytest.raises(ValueError, match=f"{solver} is stochastic and has no end point to predict a distance from"):
        predict(FOUR, [by_hand([10, 1, 0]), by_hand([10, 1, 0], solver)])


def test_a_profile_of_another_target_is_pointed_out(normal):
    with pytest.warns(UserWarning, match=r"the profile is of 'normal' \(seed 7\), the schedule for 'four'"):
        quick(FOUR, 3, criterion="information", profile=normal, sigma_max=10, sigma_min=0.1)


@pytest.mark.parametrize(
    ("resolved", "words"), [(1.5, r"up to SNR 1\.5, the schedule goes on to 10"), (np.nan, "at no SNR, the")]
)
def test_a_profile_that_cannot_tell_as_far_as_the_schedule_goes_is_pointed_out(normal, resolved, words):
    behind = normal.assign(resolved_snr=((), resolved))
    with pytest.warns(UserWarning, match=f"the profile tells of the law behind the data {words}"):
        quick(NORMAL, 3, criterion="information", profile=behind, sigma_max=5, sigma_min=0.1)


def test_a_profile_that_tells_as_far_is_not(normal):
    behind = normal.assign(resolved_snr=((), 10.0))
    assert quick(NORMAL, 3, criterion="information", profile=behind, sigma_max=5, sigma_min=0.1) == quick(
        NORMAL, 3, criterion="information", profile=normal, sigma_max=5, sigma_min=0.1
    )


def test_data_are_planned_for_by_their_own_profile():
    """They are sampled by their own score, whatever is known of the law behind them."""
    high, low, _ = noise_range(POINTS, None, None)
    atoms = probe(POINTS, needed_snrs(high, low), about="atoms", progress=False)
    given = quick(POINTS, 3, "heun", "information", profile=atoms)
    assert quick(POINTS, 3, "heun", "information").sigmas == given.sigmas
