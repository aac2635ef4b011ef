"""Hand-made noise levels: the formulas in closed form, and as diffusers has them."""

import math

import numpy as np
import pytest
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler
from scipy import stats

from brenier.sampling.handmade import AYS, HANDMADE, ays, beta, cosine, karras, linear_beta, sd3_shift


def cosine_time(sigma):
    """t of alpha-bar 1/(1 + sigma^2) = f(t)/f(0)."""
    first = math.cos(0.008 / 1.008 * math.pi / 2)
    return 1.008 * math.acos(first / math.sqrt(1 + sigma**2)) * 2 / math.pi - 0.008


def linear_time(sigma):
    """t of exp(-0.1 t - 9.95 t^2) = 1/(1 + sigma^2)."""
    return (math.sqrt(0.01 + 4 * 9.95 * math.log(1 + sigma**2)) - 0.1) / (2 * 9.95)


COORDINATES = {
    "karras": lambda sigma: sigma ** (1 / 7),
    "log-snr": math.log,
    "cosine": cosine_time,
    "linear-beta": linear_time,
    "uniform-sigma": lambda sigma: sigma,
    "sd3-shift": lambda sigma: sigma / 3 / (1 + sigma / 3),
}


@pytest.mark.parametrize("name", COORDINATES)
def test_levels_are_even_in_their_own_coordinate(name):
    sigmas = HANDMADE[name](9, 60.0, 0.03)
    steps = np.diff([COORDINATES[name](sigma) for sigma in sigmas])
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-9)
    assert (sigmas[0], sigmas[-1]) == (60.0, 0.03)


@pytest.mark.parametrize("name", HANDMADE)
@pytest.mark.parametrize(("high", "low"), [(1e8, 1e-8), (1e-6, 1e-7), (3e7, 2e7), (1e160, 1.0)])
def test_levels_descend_at_any_scale(name, high, low):
    sigmas = HANDMADE[name](12, high, low)
    assert np.all(np.diff(sigmas) < 0)
    assert (len(sigmas), sigmas[0], sigmas[-1]) == (12, high, low)


@pytest.mark.parametrize("name", HANDMADE)
def test_one_and_two_levels_are_the_ends(name):
    assert HANDMADE[name](1, 5.0, 0.1) == [5.0]
    assert HANDMADE[name](2, 5.0, 0.1) == [5.0, 0.1]


@pytest.mark.parametrize("name", ["karras", "log-snr", "uniform-sigma", "ays"])
def test_most_do_not_mind_the_unit_of_the_data(name):
    plain, scaled = HANDMADE[name](7, 20.0, 0.1), HANDMADE[name](7, 2000.0, 10.0)
    np.testing.assert_allclose(scaled, 100 * np.array(plain), rtol=1e-12)


def test_beta_takes_quantiles_of_the_linear_time():
    times = np.array([linear_time(sigma) for sigma in beta(9, 60.0, 0.03)])
    shares = (times - times[-1]) / (times[0] - times[-1])
    np.testing.assert_allclose(shares, stats.beta(0.6, 0.6).ppf(np.linspace(1, 0, 9)), atol=1e-9)


def test_ays_is_its_table_and_straight_between():
    np.testing.assert_allclose(ays(11, AYS[0], AYS[-1]), AYS, rtol=1e-12)
    np.testing.assert_allclose(ays(21, AYS[0], AYS[-1])[1::2], np.sqrt(np.multiply(AYS[1:], AYS[:-1])), rtol=1e-12)


def test_sd3_shift_is_the_shift_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=np.linspace(0.9, 0.1, 9))  # before the shift
    times = scheduler.sigmas[:-1].numpy().astype(float)
    sigmas = times / (1 - times)
    np.testing.assert_allclose(sigmas, sd3_shift(9, float(sigmas[0]), float(sigmas[-1])), rtol=1e-5)


def test_small_noise_is_quadratic_in_cosine_and_linear_time():
    # Below the onset 0.0125 of the cosine, and below beta_min/beta_max of the linear one, sigma^2 is linear in t.
    for make in (cosine, linear_beta):
        squares = np.square(make(5, 4e-5, 1e-5))
        np.testing.assert_allclose(np.diff(squares), np.diff(squares).mean(), rtol=1e-4)


@pytest.mark.parametrize(("rho", "high", "low"), [(7.0, 80.0, 0.002), (3.0, 14.6, 0.03)])
def test_karras_is_diffusers(rho, high, low):
    scheduler = EDMEulerScheduler(sigma_min=low, sigma_max=high, rho=rho)
    scheduler.set_timesteps(10)
    np.testing.assert_allclose(scheduler.sigmas[:-1].numpy(), karras(10, high, low, rho), rtol=1e-6)


def test_log_snr_is_diffusers_exponential():
    scheduler = EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, sigma_schedule="exponential")
    scheduler.set_timesteps(10)
    np.testing.assert_allclose(scheduler.sigmas[:-1].numpy(), HANDMADE["log-snr"](10, 50.0, 0.01), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [("cosine", {"beta_schedule": "squaredcos_cap_v2"}), ("linear-beta", {"beta_start": 1e-5, "beta_end": 2e-3})],
)
def test_cosine_and_linear_beta_are_the_tables_of_ddpm(name, options):
    # Step t of T stands for the time (t + 1)/T; with T = 10000 the product of 1 - beta is close to its integral.
    table = DPMSolverMultistepScheduler(num_train_timesteps=10_000, **options).sigmas.numpy()
    steps = np.arange(8999, 999, -1000)
    sigmas = HANDMADE[name](len(steps), float(table[steps[0]]), float(table[steps[-1]]))
    np.testing.assert_allclose(table[steps], sigmas, rtol=2e-3)


@pytest.mark.parametrize(
    ("count", "high", "low", "message"),
    [
        (0, 2.0, 1.0, "count must be a whole number of at least 1, got 0"),
        (3, 1.0, 1.0, "must fall from high to low, both positive and finite, got 1.0 to 1.0"),
        (3, 1.0, 2.0, "got 1.0 to 2.0"),
        (3, 1.0, 0.0, "got 1.0 to 0.0"),
        (3, math.inf, 1.0, "got inf to 1.0"),
        (3, math.nan, 1.0, "got nan to 1.0"),
    ],
)
@pytest.mark.parametrize("name", HANDMADE)
def test_refused(name, count, high, low, message):
    with pytest.raises(ValueError, match=message):
        HANDMADE[name](count, high, low)


def test_karras_needs_a_positive_rho():
    with pytest.raises(ValueError, match="rho must be positive and finite, got 0"):
        karras(5, 2.0, 1.0, rho=0.0)
