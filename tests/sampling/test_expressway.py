import copy
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import brenier
from brenier.distances.wasserstein import debiased_w2, exact_w2
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.metrics import memorisation
from brenier.networks.network import NetworkTarget
from brenier.sampling import handover
from brenier.sampling.driver import integrate
from brenier.sampling.endpoint import reference
from brenier.sampling.expressway import Expressway
from brenier.sampling.handover import Handover, final_steps, find_handover
from brenier.sampling.schedule import Schedule
from brenier.scales import snr_from_alpha_bar
from brenier.transport import SemiDiscrete
from brenier.transport.mongeampere import learned, model
from brenier.transport.semidiscrete import fitting

QUICK: dict[str, Any] = {"steps": 4, "schedule": "karras"}


@pytest.fixture(scope="module")
def ring() -> GaussianMixture:
    angle = np.arange(8) * np.pi / 4
    return GaussianMixture(np.ones(8), 4 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.04, name="ring")


@pytest.fixture(scope="module")
def points(ring: GaussianMixture) -> Empirical:
    return Empirical(ring.sample(400, seed=11), name="points", dtype=torch.float64)


@pytest.fixture(scope="module")
def way(ring: GaussianMixture, points: Empirical) -> Expressway:
    return Expressway(ring, points, handover=1.0, **QUICK).fit(0.05, progress=False)


def drawn(way: Expressway, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x, rows = way.draw(n, seed)
    assert rows is not None
    return x, rows


# Latents


def test_latents_are_the_data_and_noise_of_the_handovers_level(points: Empirical) -> None:
    data = points.data.repeat(10, 1)
    way = Expressway(None, data, handover=2.5, assignment="random", **QUICK).fit(progress=False)
    assert way.latents is not None
    noise = 2.5 * (way.latents - data).numpy().ravel()
    assert stats.kstest(noise, "norm").pvalue > 0.01
    assert abs(float(np.corrcoef(noise, data.numpy().ravel())[0, 1])) < 4 / math.sqrt(len(noise))


@pytest.mark.parametrize("assignment", ["transport", "random"])
def test_every_latent_comes_as_often_as_its_weight(ring: GaussianMixture, assignment: str) -> None:
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1])
    data = Empirical(ring.sample(4, 1), weights, dtype=torch.float64)
    way = Expressway(ring, data, handover=1.0, assignment=assignment, **QUICK).fit(0.002, progress=False)
    x, rows = drawn(way, 20_000)
    assert way.latents is not None
    torch.testing.assert_close(x, way.latents[rows])
    counts = torch.bincount(rows, minlength=4).double()
    assert float((counts / len(x) - weights).abs().max()) < 0.002 + 4 * math.sqrt(0.25 / len(x))


def test_both_assignments_have_the_same_latents(ring: GaussianMixture, points: Empirical, way: Expressway) -> None:
    control = Expressway(ring, points, handover=1.0, assignment="random", **QUICK).fit(progress=False)
    assert control.latents is not None
    torch.testing.assert_close(control.latents, way.latents, rtol=0, atol=0)
    assert control.transport is None


def test_the_map_is_the_transport_of_the_source(way: Expressway) -> None:
    # Monotone: <x - x', T(x) - T(x')> >= 0, which random latents violate half of the time.
    assert way.transport is not None
    x = way.transport.draw(300, seed=3)
    y = way.transport.map(x).double()
    products = ((x[:, None] - x) * (y[:, None] - y)).sum(2)
    assert float(products.min()) > -1e-4
    other = y[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    assert float((((x[:, None] - x) * (other[:, None] - other)).sum(2) < 0).double().mean()) > 0.4


def test_fresh_noise_keeps_the_datum_and_changes_the_noise(ring: GaussianMixture, points: Empirical) -> None:
    options = {"handover": 2.0, "assignment": "random", **QUICK}
    fixed = Expressway(ring, points, **options).fit(progress=False)
    fresh = Expressway(ring, points, fresh_noise=True, **options).fit(progress=False)
    (x, rows), (y, same) = drawn(fixed, 20_000), drawn(fresh, 20_000)
    assert torch.equal(rows, same)
    assert len(x.unique(dim=0)) == len(points)
    assert len(y.unique(dim=0)) == len(y)
    assert stats.kstest(2 * (y - points.data[rows]).numpy().ravel(), "norm").pvalue > 0.01


# Samples


def test_few_steps_from_a_noisy_handover_give_the_law(ring: GaussianMixture) -> None:
    # Fresh noise makes the latents draws of X + sigma Z for 2,000 X: what is left is the error of 2,000 points.
    data = Empirical(ring.sample(2000, 5), dtype=torch.float64)
    way = Expressway(ring, data, handover=0.5, steps=20, schedule="karras", fresh_noise=True).fit(0.1, progress=False)
    samples = way.sample(1500, seed=2, progress=False)
    found = debiased_w2(samples.points, ring.sample(1500, 9))
    assert found.value < 0.35  # the components are 3.1 apart; the data, as they were drawn, are off by 0.2 themselves
    start = Expressway(ring, data, handover=0.5, steps=1, schedule="karras", fresh_noise=True, assignment="random")
    coarse = start.fit(progress=False).sample(1500, seed=2, progress=False)
    assert debiased_w2(coarse.points, ring.sample(1500, 9)).value > 2 * found.value


def test_a_handover_next_to_the_data_copies_them(ring: GaussianMixture, points: Empirical) -> None:
    train = points.data

    def nearest(snr: float) -> Tensor:
        way = Expressway(ring, points, handover=snr, steps=6, schedule="log-snr" if snr < 40 else None, seed=4)
        samples = way.fit(0.05, progress=False).sample(500, seed=4, progress=False).points
        return memorisation(samples, train).samples.closeness

    assert float((nearest(1e4) < 0.05).double().mean()) > 0.95
    assert float((nearest(0.5) < 0.05).double().mean()) < 0.05


def test_without_a_law_the_samples_are_the_data(points: Empirical) -> None:
    way = Expressway(None, points, handover=1.0, steps=20, schedule="karras").fit(0.05, progress=False)
    samples = way.sample(200, progress=False).points
    nearest = torch.cdist(samples, points.data).min(1).values
    spread = torch.cdist(points.data, points.data).fill_diagonal_(math.inf).min(1).values
    assert float(nearest.median()) < 1e-3 * float(spread.median())


def test_the_map_costs_no_evaluation(ring: GaussianMixture, points: Empirical, way: Expressway) -> None:
    calls: list[int] = []

    class Counted(GaussianMixture):
        def denoise(self, y: Tensor, snr: float) -> Tensor:
            calls.append(len(y))
            return super().denoise(y, snr)

    law = Counted(ring.weights, ring.means, 0.04, name="ring")
    counted = Expressway(law, points, handover=1.0, **QUICK).fit(start=way.transport, progress=False)
    calls.clear()
    samples = counted.sample(50, progress=False)
    assert calls == [50] * 4
    assert samples.evaluations == 4
    heun = Expressway(law, points, handover=1.0, solver="heun", assignment="random", **QUICK).fit(progress=False)
    assert heun.sample(3, progress=False).evaluations == 7


def test_the_seeds_decide_everything(ring: GaussianMixture, points: Empirical, way: Expressway) -> None:
    again = Expressway(ring, points, handover=1.0, **QUICK).fit(0.05, progress=False)
    one, other = (each.sample(64, seed=5, progress=False).points for each in (way, again))
    assert torch.equal(one, other)
    assert not torch.equal(one, way.sample(64, seed=6, progress=False).points)
    changed = Expressway(ring, points, handover=1.0, assignment="random", seed=1, **QUICK).fit(progress=False)
    assert not torch.equal(changed.latents, way.latents)  # pyright: ignore[reportArgumentType]


def test_batches_change_nothing(way: Expressway) -> None:
    whole, parts = (way.sample(33, batch=size, progress=False).points for size in (None, 7))
    torch.testing.assert_close(whole, parts, rtol=1e-10, atol=1e-10)


def test_no_samples_are_no_samples(way: Expressway) -> None:
    assert way.sample(0, progress=False).points.shape == (0, 2)


def test_images_keep_their_shape() -> None:
    law = Expressway("digits-network", handover=1.0, assignment="random", **QUICK).fit(progress=False)
    samples = law.sample(3, progress=False)
    assert samples.events.shape == (3, 8, 8)
    assert law.data.name == "digits"


def test_noise_levels_go_from_the_handover_to_zero(ring: GaussianMixture, points: Empirical) -> None:
    for options in ({}, {"solver": "euler-maruyama"}, {"schedule": "karras"}, {"solver": "annealed-langevin"}):
        way = Expressway(ring, points, handover=2.0, steps=3, assignment="random", **options).fit(progress=False)
        assert way.schedule is not None
        assert (way.schedule.sigmas[0], way.schedule.sigmas[-1], way.schedule.steps) == (0.5, 0.0, 3)


def test_steps_are_planned_on_noisy_data(ring: GaussianMixture, points: Empirical) -> None:
    # Pilots around the mean of the ring would be where no noisy point is.
    way = Expressway(ring, points, handover=0.6, steps=5, assignment="random").fit(progress=False)
    assert way.schedule is not None
    assert way.schedule.criterion == "error"
    blind = brenier.plan(ring, 5, sigma_max=1 / 0.6, progress=False)
    x = (
        points.sample(4000, 3)
        + torch.randn(4000, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64) / 0.6
    )
    goal = reference(ring, x, 1 / 0.6, tolerance=1e-4)  # of a law of size 3; errors are 0.04

    def error(schedule: Schedule) -> float:
        end = integrate(ring, x, schedule.sigmas, schedule.solver).x
        return float((end - goal).square().sum(1).mean().sqrt())

    assert error(way.schedule) < 0.7 * error(blind)
    assert way.schedule.end_error == pytest.approx(error(way.schedule), rel=0.25)


def test_a_schedule_of_ones_own_decides_the_handover(ring: GaussianMixture, points: Empirical) -> None:
    schedule = Schedule((0.8, 0.3, 0.0), "euler", criterion="by hand", law="ring")
    way = Expressway(ring, points, assignment="random", schedule=schedule).fit(progress=False)
    assert way.handover is not None
    assert way.handover.snr == pytest.approx(1.25)
    assert way.sample(2, progress=False).schedule == schedule


def test_a_map_of_ones_own(ring: GaussianMixture, points: Empirical, way: Expressway) -> None:
    mapped = Expressway(ring, points, handover=1.0, assignment=way.transport, **QUICK).fit(progress=False)
    shifted = Expressway(ring, points, handover=1.0, assignment=lambda x: x + 3, **QUICK).fit(progress=False)
    assert mapped.transport is None
    x, rows = way.draw(100, 3)
    y, none = mapped.draw(100, 3)
    assert rows is not None
    assert none is None
    torch.testing.assert_close(y, x)  # the same draws of the source, through the same map
    assert float(shifted.draw(4000)[0].mean()) == pytest.approx(3, abs=0.06)
    with pytest.raises(ValueError, match="shape"):
        Expressway(ring, points, handover=1.0, assignment=lambda x: x[:, :1], **QUICK).fit(progress=False).draw(5)


def test_a_monge_ampere_map_leads_to_what_the_latents_are_like(
    ring: GaussianMixture, points: Empirical, way: Expressway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "FIRST", 1)
    monkeypatch.setattr(model, "POINTS", 512)
    smooth = Expressway(ring, points, handover=1.0, assignment="monge-ampere", **QUICK)
    with pytest.raises(ValueError, match="a saved transport is no start for a Monge-Ampère flow"):
        smooth.fit(start=way.transport, progress=False)
    with pytest.raises(ValueError, match="the flow has not been fitted yet"):
        smooth.draw(3)
    smooth.fit(minutes=1e-9, progress=False)
    assert smooth.transport is None
    assert smooth.flow is not None
    assert smooth.flow.result is not None
    assert (smooth.flow.result.stopped, smooth.flow.reference.name) == ("minutes", "normal")
    x, rows = smooth.draw(2000, 3)
    assert rows is None
    assert smooth.latents is not None
    spread = float(smooth.latents.var(0).mean())
    torch.testing.assert_close(x.mean(0), smooth.latents.mean(0), rtol=0, atol=0.15 * math.sqrt(spread))
    assert float(x.var(0).mean()) == pytest.approx(spread, rel=0.25)
    own = Expressway(ring, points, handover=1.0, assignment=smooth.flow, **QUICK).fit(progress=False)
    torch.testing.assert_close(own.draw(2000, 3)[0], x)  # the same draws of the source, through the same map
    assert smooth.sample(5, progress=False).points.shape == (5, 2)
    images = Expressway("digits-network", handover=1.0, assignment="monge-ampere", **QUICK)
    images.fit(minutes=1e-9, progress=False)
    assert images.sample(2, progress=False).events.shape == (2, 8, 8)


# The handover


@pytest.fixture(scope="module")
def many(ring: GaussianMixture) -> Empirical:
    return Empirical(ring.sample(4000, 2), name="many", dtype=torch.float64)


@pytest.fixture(scope="module")
def found(ring: GaussianMixture, many: Empirical) -> Handover:
    return find_handover(ring, many, progress=False)


def test_it_is_past_the_hard_band_where_data_are_many(ring: GaussianMixture, many: Empirical, found: Handover) -> None:
    profile = brenier.probe(ring, queries=512, progress=False)
    hard = brenier.bottleneck(profile)
    assert hard["snr"] < found.snr < found.crowded
    assert float(profile["m_star"].sel(snr=found.snr, method="nearest")) < 0.6 * hard["m_star"]
    ess = brenier.probe(many, [found.snr, found.crowded, 2 * found.crowded], queries=256, progress=False)["ess"]
    assert float(ess[0]) > 10
    assert float(ess[1]) == pytest.approx(10, rel=0.25)
    assert float(ess[2]) < 10
    assert found.reason.startswith("past the hard band of ring, and while 10 or more of the 4,000 points of many")


def test_where_data_are_few_copies_decide(ring: GaussianMixture) -> None:
    data = Empirical(ring.sample(20, 2), name="few", dtype=torch.float64)
    with pytest.warns(UserWarning, match="hard band of ring ends only at SNR .* before samples become copies"):
        found = find_handover(ring, data, progress=False)
    assert found.snr == found.crowded < found.hard


def test_a_profile_may_be_given(ring: GaussianMixture, many: Empirical, found: Handover) -> None:
    other = brenier.probe(GaussianMixture(ring.weights, ring.means / 2, 0.01), queries=256, progress=False)
    assert find_handover(ring, many, profile=other, progress=False).snr > 1.5 * found.snr


def test_without_a_hard_band_it_is_where_the_noise_is_as_large_as_the_law() -> None:
    law = GaussianMixture([1.0], [[0.0, 0.0]], 9.0, name="wide")
    found = find_handover(law, Empirical(law.sample(3000, 1), name="points"), progress=False)
    assert math.isnan(found.hard)
    assert found.snr == pytest.approx(1 / 3)
    assert found.reason.startswith("where the noise is as large as wide")


def test_duplicates_are_no_crowd(ring: GaussianMixture) -> None:
    one = ring.sample(100, 2)
    twice = Empirical(one.repeat(20, 1), dtype=torch.float64)
    found, single = (find_handover(ring, data, progress=False) for data in (twice, Empirical(one, dtype=torch.float64)))
    assert found.crowded == pytest.approx(single.crowded, rel=1e-6)
    assert found.snr == single.snr


def test_an_automatic_handover_is_one_that_the_network_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "QUERIES", 64)
    law = brenier.load_target("digits-network")
    assert isinstance(law, NetworkTarget)
    assert law.data is not None
    narrow = copy.copy(law)
    narrow._snr_range = (0.1, 0.5)
    data = Empirical(law.data.data[:400], name="some digits")
    with pytest.warns(UserWarning, match="copies"):
        assert find_handover(narrow, data, progress=False).snr == 0.5


def test_the_last_steps_of_a_chain() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.cumprod(1 - betas)
    sigmas = 1 / snr_from_alpha_bar(bars)
    assert final_steps(10, sigmas[::-1]) == pytest.approx(float(snr_from_alpha_bar(bars[9])))
    assert final_steps(3, [8, 4, 2, 1, 0]) == 0.25
    with pytest.raises(ValueError, match="count must be a whole number from 1 to 4, got 5"):
        final_steps(5, [8, 4, 2, 1, 0])


# Fits that go on, and odd data


def test_an_interrupted_fit_goes_on(ring: GaussianMixture, points: Empirical, monkeypatch: pytest.MonkeyPatch) -> None:

    whole = fitting.ascend
    begun: list[Any] = []

    def broken(cells: Any, masses: Any, heights: Any, *rest: Any) -> Any:
        begun.append(heights.copy())
        for state in whole(cells, masses, heights, *rest):
            yield state
            if len(begun) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "ascend", broken)
    way = Expressway(ring, points, handover=1.0, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        way.fit(1e-3, progress=False)
    assert way.transport is not None
    assert way.transport.result is not None
    assert way.transport.result.stopped == "interrupted"
    latents, kept = way.latents, way.transport.heights
    way.fit(0.02, progress=False)
    assert way.latents is latents
    assert way.transport.result.stopped == "tolerance"
    scale = np.polyfit(begun[1], kept, 1)[0]  # heights are kept in the unit of the data
    np.testing.assert_allclose(scale * (begun[1] - begun[1].mean()), kept - kept.mean(), atol=1e-5)


def test_one_datum_and_equal_data(ring: GaussianMixture) -> None:
    one = Expressway(ring, [[4.0, 0.0]], handover=1.0, **QUICK).fit(progress=False)
    assert len(one.sample(5, progress=False).points.unique(dim=0)) == 1
    same = Expressway(ring, np.full((30, 2), 4.0), handover=1.0, **QUICK).fit(0.02, progress=False)
    assert same.latents is not None
    assert len(same.latents.unique(dim=0)) == 30
    with pytest.raises(ValueError, match="all points of data are the same"):
        Expressway(ring, np.full((30, 2), 4.0)).fit(progress=False)


# What it refuses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"handover": 0}, "handover must be .auto. or an SNR, positive and finite, got 0"),
        ({"handover": "soon"}, "got 'soon'"),
        ({"handover": math.nan}, "got nan"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"solver": "eular"}, "no solver 'eular'"),
        ({"schedule": "karas"}, "no criterion 'karas'"),
        ({"source": "cauchy"}, "no source 'cauchy'"),
        ({"assignment": "sinkhorn"}, "no assignment 'sinkhorn'.*monge-ampere"),
        ({"assignment": lambda x: x, "fresh_noise": True}, "fresh_noise.* a map of your own"),
        ({"assignment": "monge-ampere", "fresh_noise": True}, "fresh_noise.* a Monge-Ampère map"),
        ({"assignment": "monge-ampere", "source": "uniform"}, "starts from the normal law"),
        ({"seed": -1}, "seed"),
        ({"data": np.zeros((5, 3))}, "points of data have shape \\(3,\\), those of ring \\(2,\\)"),
        ({"data": None}, "ring is a law, and what is diffused are points"),
        ({"data": "normal"}, "normal is a law, and what is diffused are points"),
        ({"data": "digits-network"}, "digits-network is a network, and what is diffused"),
        ({"schedule": Schedule((1.0, 0.0), "euler", criterion="x"), "steps": 2}, "has 1 steps, not 2"),
        (
            {"schedule": Schedule((1.0, 0.0), "euler", criterion="x"), "solver": "heun"},
            "made for euler, not for 'heun'",
        ),
        ({"schedule": Schedule((1.0, 0.0), "euler", criterion="x"), "handover": 2.0}, "starts at SNR 1, not at 2"),
    ],
)
def test_what_does_not_go_together(ring: GaussianMixture, points: Empirical, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Expressway(ring, **{"data": points, **options})


def test_more_that_is_refused(ring: GaussianMixture, points: Empirical) -> None:
    with pytest.raises(ValueError, match="give a law or a network to follow, or data"):
        Expressway(None)
    with pytest.raises(TypeError, match="assignment must be a name, a function or have a method map, got int"):
        Expressway(ring, points, assignment=3)
    with pytest.raises(ValueError, match=r"trained for SNRs from 0\.07516 to 125: a handover at 200 is none"):
        Expressway("digits-network", handover=200)
    with pytest.raises(ValueError, match="not been fitted"):
        Expressway(ring, points).sample(3, progress=False)
    with pytest.raises(ValueError, match="noise floor"):
        Expressway(ring, points, handover=1.0, **QUICK).fit(1e-9, progress=False)
    with pytest.warns(UserWarning, match="made for normal, not for ring"):
        Expressway(ring, points, schedule=Schedule((1.0, 0.0), "euler", criterion="x", law="normal"))


def test_a_network_without_data_needs_some() -> None:
    law = brenier.load_target("digits-network")
    assert isinstance(law, NetworkTarget)
    with pytest.raises(ValueError, match="digits-network has no data of its own"):
        Expressway(law.with_data(None))


def test_random_latents_give_the_same_law(way: Expressway, ring: GaussianMixture, points: Empirical) -> None:
    # What the transport chooses is which draw of the source goes where, not what comes out.
    control = Expressway(ring, points, handover=1.0, assignment="random", **QUICK).fit(progress=False)
    x, y = (each.sample(2000, seed, progress=False).points for each, seed in ((way, 1), (control, 2)))
    z = control.sample(2000, 3, progress=False).points
    assert exact_w2(x, y).value < 1.3 * exact_w2(z, y).value


def test_a_source_of_ones_own(ring: GaussianMixture) -> None:
    def circle(n: int, generator: torch.Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(n, generator=generator)
        return torch.stack([angle.cos(), angle.sin()], 1)

    way = Expressway(ring, ring.sample(40, 11), handover=1.0, source=circle, **QUICK).fit(0.1, progress=False)
    assert isinstance(way.transport, SemiDiscrete)
    assert way.transport.source == "sampler"
    assert way.sample(10, progress=False).points.shape == (10, 2)


def test_data_are_put_in_the_order_of_the_law() -> None:
    images = np.random.default_rng(0).normal(size=(30, 3, 4, 5))
    law = Empirical(images, name="law")
    with pytest.warns(UserWarning, match="channels of data come last"):
        way = Expressway(law, np.moveaxis(images, 1, -1))
    np.testing.assert_allclose(way.data.data, images.reshape(30, -1), atol=1e-6)
    with pytest.warns(UserWarning, match="values of data go from .* of law .*: bring both to one scale"):
        Expressway(law, images * 50)
    with pytest.raises(ValueError, match=r"points of data have shape \(60,\), those of ring \(2,\)"):
        Expressway(GaussianMixture([1], np.zeros((1, 2)), 1.0, name="ring"), images.reshape(30, -1))


# Classes


class Pulled(torch.nn.Module):
    """A denoiser that is told a class: its posterior mean for classes at -2, 0 and 2 on the line, a little wide."""

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor) -> Tensor:
        centre = 2.0 * (class_labels - 1)[:, None]
        return centre + 0.01 / (0.01 + sigma[:, None] ** 2) * (x - centre)


LABELS = np.repeat(["a", "b", "c"], 30)


def told(**condition: Any) -> NetworkTarget:
    return NetworkTarget(Pulled(), event_shape=(1,), snr_range=(0.1, 100), dtype=torch.float64, **condition)


@pytest.fixture(scope="module")
def line() -> np.ndarray:
    return np.repeat([-2.0, 0.0, 2.0], 30)[:, None] + 0.1 * np.random.default_rng(4).normal(size=(90, 1))


@pytest.mark.parametrize("assignment", ["transport", "random"])
@pytest.mark.parametrize("fresh", [False, True])
def test_latents_are_of_the_class_that_a_row_is_asked_for(line: np.ndarray, assignment: str, fresh: bool) -> None:
    network = told(condition={"class_labels": [2, 0]})
    options: dict[str, Any] = {"labels": LABELS, "handover": 2.0, "assignment": assignment, "fresh_noise": fresh}
    way = Expressway(network, line, **options, **QUICK).fit(0.05, progress=False)
    assert len(way.data) == 60
    x, rows = drawn(way, 400)
    points = way.data.data[rows, 0]
    assert bool((points[0::2] > 1).all())
    assert bool((points[1::2] < -1).all())
    counts = torch.bincount(rows[0::2] - 30, minlength=30)
    assert stats.chisquare(counts).pvalue > 1e-3
    deviation = float((2 * (x - way.data.data[rows])).std())
    assert deviation == pytest.approx(1, abs=0.3 if not fresh else 0.1)
    found = way.sample(400, progress=False).points[:, 0]
    assert float((found[0::2] - 2).abs().max()) < 0.6
    assert float((found[1::2] + 2).abs().max()) < 0.6


def test_the_transport_of_a_class_is_that_to_its_latents_alone(line: np.ndarray) -> None:
    network = told(condition={"class_labels": 1})
    way = Expressway(network, line, labels=LABELS, handover=2.0, **QUICK).fit(0.05, progress=False)
    assert way.latents is not None
    assert way.transport is not None
    alone = SemiDiscrete(way.latents).fit(progress=False)
    x = alone.draw(200)
    assert torch.equal(way.transport.map(x, 1), alone.map(x))


def test_the_handover_suits_the_smallest_crowd_of_the_classes(line: np.ndarray) -> None:
    few = np.concatenate([line, line[60:] + 0.01, line[60:] - 0.01])
    labels = np.concatenate([LABELS, LABELS[60:], LABELS[60:]])
    both = told(condition={"class_labels": [1, 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the hard band goes on, or does not
        found = Expressway(both, few, labels=labels, **QUICK).fit(0.2, progress=False).handover
        single = [
            find_handover(both, Empirical(few[labels == name], dtype=torch.float64), progress=False).snr
            for name in "bc"
        ]
    assert found is not None
    assert found.snr == pytest.approx(min(single))


@pytest.mark.parametrize(
    ("condition", "options", "said"),
    [
        ([0, 1], {}, "is asked for 2 conditions in turn, and latents are of none: give labels"),
        ([0, 1], {"labels": LABELS[1:]}, r"labels must be 90, one for each point, got shape \(89,\)"),
        ([0, 1, 2], {"labels": np.linspace(0, 1, 90)}, "labels must be whole numbers or words"),
        ([0, 1, 2], {"labels": (LABELS == "a").astype(int)}, r"is asked for class 2 \(counted from 0\), and there are"),
        ([0, 1], {"labels": LABELS, "assignment": "monge-ampere"}, "this map makes points of none: leave them out"),
    ],
)
def test_labels_that_are_refused(line: np.ndarray, condition: list[int], options: dict[str, Any], said: str) -> None:
    network = told(condition={"class_labels": condition})
    with pytest.raises((ValueError, TypeError), match=said):
        Expressway(network, line, **options, **QUICK)


def test_a_network_without_classes_takes_no_labels(ring: GaussianMixture, points: Empirical) -> None:
    with pytest.raises(ValueError, match="ring is told no classes: leave labels out"):
        Expressway(ring, points, labels=np.zeros(400, int), **QUICK)
