import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.networks.noise_levels import FlowTimes, NoiseLevels, levels_of

# m* over three decades, with a gap where it vanishes
PROFILE = xr.Dataset(
    {"m_star": ("snr", [0.0, 0.2, 0.5, 0.0, 0.0, 0.1, 0.0])}, {"snr": [0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 100.0]}
)
PLAIN = NoiseLevels(-0.5, 1.2)
HARD = PLAIN.with_profile(PROFILE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_for_the_data_that_edm_speaks_of_it_is_edms_distribution() -> None:
    levels = NoiseLevels.of_law(GaussianMixture([1.0], [0.0], [0.25]), 0.5)
    assert (levels.mean, levels.std) == pytest.approx((-1.2, 1.2))


def test_it_reaches_the_scales_of_an_explicit_law() -> None:
    law = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1e-6])
    low, high = NoiseLevels.of_law(law, 1.2).interval(0.95)
    assert low == pytest.approx(1e-3 / 2)
    assert high == pytest.approx(1.2 * math.exp(-1.2 + 1.96 * 1.2) * 2, rel=1e-3)


def test_it_reaches_the_widest_direction_and_no_neighbours_of_data() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(400, 200)) * 0.01 + rng.normal(size=(400, 1)) * np.ones(200)
    law, deviation = Empirical(data), float(data.std())
    low, high = NoiseLevels.of_law(law, deviation).interval(0.95)
    assert low == pytest.approx(deviation * math.exp(-1.2 - 1.96 * 1.2) * 2, rel=1e-3)
    assert high == pytest.approx(2 * law.scales()[1])
    assert high > 10 * deviation


@pytest.mark.parametrize("levels", [PLAIN, HARD])
def test_the_density_is_the_derivative_of_the_distribution(levels: NoiseLevels) -> None:
    ends = np.array([-6.0, *levels.nodes, 5.0])
    for low, high in pairwise(np.sort(ends)):
        mass, _ = integrate.quad(lambda t: float(levels.density(np.exp(np.array([t])))[0]), low, high, epsabs=1e-12)
        assert mass == pytest.approx(levels.cdf(math.exp(high)) - levels.cdf(math.exp(low)), abs=1e-9)
    assert levels.cdf(1e-9) == pytest.approx(0, abs=1e-9)
    assert levels.cdf(1e9) == pytest.approx(1)


def test_half_of_it_is_log_normal_and_half_follows_the_profile() -> None:
    sigma = np.array([1 / 0.3, 1.0, 0.3, 1 / 30])
    area = float(np.trapezoid(PROFILE["m_star"], np.log(PROFILE["snr"])))
    between = 0.1 * math.log(100 / 30) / math.log(100 / 10)  # linear in log sigma
    normal = stats.norm(-0.5, 1.2).pdf(np.log(sigma))
    assert HARD.density(sigma) == pytest.approx(normal / 2 + np.array([0.2, 0.5, 0.0, between]) / area / 2)
    assert PLAIN.density(sigma) == pytest.approx(normal)


@given(share=st.floats(0.001, 0.999), hard=st.booleans())
def test_quantiles_invert_the_distribution(share: float, hard: bool) -> None:
    levels = HARD if hard else PLAIN
    assert levels.cdf(levels.quantile(share)) == pytest.approx(share, abs=1e-9)


def test_the_interval_holds_its_share() -> None:
    low, high = HARD.interval(0.9)
    assert (HARD.cdf(low), HARD.cdf(high)) == pytest.approx((0.05, 0.95))
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\)"):
        HARD.interval(1.0)


@pytest.mark.parametrize("levels", [PLAIN, HARD])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_samples_are_stratified(levels: NoiseLevels, n: int) -> None:
    """Each half puts one sample into each of its parts: the empirical distribution is off by 1.5/n at most."""
    sigma = levels.sample(n, generator()).sort().values.double().tolist()
    shares = np.array([levels.cdf(level) for level in sigma])
    below = np.arange(n) / n
    assert np.abs(shares - below - 0.5 / n).max() <= 1.5 / n + 1e-5


@pytest.mark.parametrize("levels", [PLAIN, HARD])
def test_a_single_sample_has_the_whole_distribution(levels: NoiseLevels) -> None:
    draws = [levels.cdf(float(levels.sample(1, generator(seed))[0])) for seed in range(400)]
    assert stats.kstest(draws, "uniform").pvalue > 0.001


def test_the_same_seed_draws_the_same_levels() -> None:
    assert torch.equal(HARD.sample(64, generator(3)), HARD.sample(64, generator(3)))
    assert not torch.equal(HARD.sample(64, generator(3)), HARD.sample(64, generator(4)))


@pytest.mark.parametrize("levels", [PLAIN, HARD])
def test_it_survives_json(levels: NoiseLevels) -> None:
    assert NoiseLevels.from_config(json.loads(json.dumps(levels.config()))) == levels


def test_the_order_of_a_profile_does_not_matter() -> None:
    assert PLAIN.with_profile(PROFILE.isel(snr=slice(None, None, -1))) == HARD


def test_past_what_data_resolve_m_star_does_not_count() -> None:
    behind = PROFILE.assign(m_star=("snr", [0.0, 0.2, 0.5, 0.1, 3.0, 4.0, np.nan]), resolved_snr=((), 2.0))
    assert PLAIN.with_profile(behind) == PLAIN.with_profile(behind.isel(snr=slice(0, 4)).drop_vars("resolved_snr"))
    assert PLAIN.with_profile(behind).nodes[0] == -math.log(2.0)
    assert PLAIN.with_profile(PROFILE.assign(resolved_snr=((), 100.0))) == HARD


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (PROFILE.assign(resolved_snr=((), 0.1)), "resolves no more than a single SNR"),
        (PROFILE.assign(resolved_snr=((), np.nan)), "resolves no more than a single SNR"),
        (PROFILE.isel(snr=[2]).assign(resolved_snr=((), 1.0)), "holds a single SNR"),
        (PROFILE.isel(snr=[0, 3]).assign(resolved_snr=((), 2.0)), "m. = 0 throughout"),
        (PROFILE.drop_vars("m_star"), "no variable 'm_star'"),
        (PROFILE.isel(snr=[2]), "single SNR"),
        (PROFILE * 0, "m. = 0 throughout"),
        (PROFILE * np.nan, "not finite"),
        (-PROFILE, "negative"),
    ],
)
def test_what_is_no_profile_is_refused(profile: xr.Dataset, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PLAIN.with_profile(profile)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": math.inf}, "finite mean"),
        ({"std": 0}, "positive std"),
        ({"std": math.nan}, "positive std"),
        ({"profile": {"log_sigma": [0, math.inf], "m_star": [1, 1]}}, "finite and increasing"),
        ({"profile": {"log_sigma": [0, 0], "m_star": [1, 1]}}, "finite and increasing"),
        ({"profile": {"log_sigma": [0, 1], "m_star": [0, 0]}}, "not all 0"),
        ({"profile": {"log_sigma": [0, 1], "m_star": [1, -1]}}, "numbers >= 0"),
        ({"profile": {"log_sigma": [0, 1], "m_star": [1]}}, "as many"),
    ],
)
def test_a_damaged_config_is_refused(changes: dict[str, Any], message: str) -> None:
    good = {"mean": 0.0, "std": 1.0, "profile": {"log_sigma": [0, 1], "m_star": [1, 0]}}
    assert NoiseLevels.from_config(NoiseLevels.from_config(good).config()).heights == (1.0, 0.0)
    with pytest.raises(ValueError, match=message):
        NoiseLevels.from_config(good | changes)


def test_times_of_a_flow_are_even_in_the_angle() -> None:
    times = FlowTimes(0.4)
    t = times.sample(4000, torch.Generator().manual_seed(0)).double()
    assert float(t.min()) >= 0
    assert float(t.max()) <= 1
    angle = torch.atan2(0.4 * t, 1 - t).sort().values * 2 / math.pi
    assert (angle - (torch.arange(4000) + 0.5) / 4000).abs().max() < 2 / 4000  # one from each part
    for share in (0.1, 0.5, 0.9):
        below = float(((1 - t) / t < times.quantile(share)).double().mean())
        assert below == pytest.approx(share, abs=1e-3)
    low, high = times.interval(0.5)
    assert (low, high) == pytest.approx((times.quantile(0.25), times.quantile(0.75)))
    order = (t[1:] - t[:-1]).sign()
    assert 0.4 < float((order > 0).double().mean()) < 0.6  # and come in no order


def test_levels_are_known_by_their_config() -> None:
    for levels in (FlowTimes(0.4), PLAIN, HARD):
        assert levels_of(levels.config()) == levels
    for deviation in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="deviation must be positive and finite"):
            levels_of({"kind": "flow", "deviation": deviation})
