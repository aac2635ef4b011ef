"""A denoiser is calibrated where it is the posterior mean of the law, and every way to be something else shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import brenier
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.networks.network import NetworkTarget
from brenier.probing.calibration import FAIR, POOR, calibrate, default_queries
from brenier.probing.verdicts import PURPOSES, VERDICTS, deviations, verdict_bands

# Networks that are wrong on purpose denoise badly, of which the library warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* misses .* by .* their mean and variance:UserWarning")

Denoise = Callable[[Tensor, float], Tensor]


class Network(nn.Module):
    """D(x, sigma) as a network told sigma."""

    def __init__(self, denoise: Denoise) -> None:
        super().__init__()
        self.denoise = denoise

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.denoise(x, float(sigma[0]))


def posterior(law: Target) -> Denoise:
    return lambda x, sigma: law.denoise(x / sigma, 1 / sigma)


def network(denoise: Denoise, data: object, **options: object) -> NetworkTarget:
    return NetworkTarget(Network(denoise), data, dtype=torch.float64, **options)  # pyright: ignore[reportArgumentType]


def calibrated(denoise: Denoise, law: object, snrs: object = None, queries: int | None = None, seed: int = 0):
    return calibrate(network(denoise, law), snrs=snrs, queries=queries, seed=seed, progress=False)  # pyright: ignore[reportArgumentType]


def rotated() -> GaussianMixture:
    """Three elongated components in eight dimensions, along no axis."""
    generator = np.random.default_rng(5)
    axes = np.linalg.qr(generator.normal(size=(8, 8)))[0]
    spread = [np.linspace(0.05, 1, 8) ** power for power in (1, 2, 3)]
    return GaussianMixture(
        [0.2, 0.3, 0.5], 2 * generator.normal(size=(3, 8)), np.stack([axes * row @ axes.T for row in spread])
    )


BIMODAL = GaussianMixture([0.5, 0.5], [-2.0, 2.0], [0.25, 0.25])
FOUR = GaussianMixture([0.1, 0.2, 0.3, 0.4], [[-2.0, -2], [-2, 2], [2, -2], [2, 2]], 0.1)
NORMAL = GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
LAWS = {
    "1-d": BIMODAL,
    "2-d": FOUR,
    "8-d": rotated(),
    "16-d": GaussianMixture([0.5, 0.5], np.stack([np.full(16, 0.5), np.full(16, -0.5)]), 0.25),
}


def verdicts(calibration: xr.Dataset, purpose: str = "probing") -> list[str]:
    return [VERDICTS[code] for code in calibration[f"verdict_{purpose}"].to_numpy()]


def levels(calibration: xr.Dataset, check: str) -> list[str]:
    return [VERDICTS[code] for code in calibration["level"].sel(check=check).to_numpy()]


# Exact posteriors


@pytest.mark.parametrize("name", LAWS)
def test_an_exact_denoiser_is_good_everywhere(name):
    law = LAWS[name]
    queries = 4096 if law.dim <= 2 else 1024
    found = calibrated(posterior(law), law, np.geomspace(*brenier.default_snrs(law)[[0, -1]], 6), queries)
    assert verdicts(found) == verdicts(found, "sampling") == ["good"] * 6
    for value, error in deviations(found).values():
        assert np.all(np.abs(value) <= 5 * error + 1e-6)
    assert float(found["asymmetry"].max()) < 1e-6
    assert float(found["negative"].max()) == 0
    for purpose in PURPOSES:
        assert verdict_bands(found, purpose) == [(found["snr"][0], found["snr"][-1], "good", {})]


def test_both_errors_are_the_minimum_mean_squared_error_of_the_law():
    snrs = [0.2, 0.7, 1.5, 4.0]
    exact = brenier.probe(BIMODAL, snrs, method="quadrature", progress=False)
    found = calibrated(posterior(BIMODAL), BIMODAL, snrs)
    for name in ("denoising_error", "predicted"):
        assert np.all(np.abs(found[name] - exact["mmse"]) < 4 * found[f"{name}_se"])
    difference = found["mean_localization"] - exact["mean_localization"]
    assert np.all(np.abs(difference) < 4 * found["mean_localization_se"])


def test_errors_of_a_linear_denoiser_are_those_of_its_formula():
    # D = a x on N(0, I_2): E|X - D|^2 = 2 ((1 - a)^2 + a^2 sigma^2), J = a I.
    snrs = np.asarray([0.3, 1.0, 3.0])
    found = calibrated(lambda x, sigma: 0.3 * x, NORMAL, snrs)
    expected = 2 * (0.7**2 + 0.3**2 / snrs**2)
    assert np.all(np.abs(found["denoising_error"] - expected) < 4 * found["denoising_error_se"])
    np.testing.assert_allclose(found["predicted"], 2 * 0.3 / snrs**2, rtol=1e-12)
    # The noise in it is known: what is left is the draw of X, with variance 2 (1 - a)^4 in either dimension.
    assert found["denoising_error_se"].to_numpy() == pytest.approx(np.sqrt(2 * 2 * 0.7**4 / 8192), rel=0.1)
    ratio = found["predicted"].to_numpy() / expected
    assert np.all(np.abs(found["balance"] - ratio) < 4 * found["balance_se"])
    assert np.all(np.abs(found["directional"] - ratio) < 4 * found["directional_se"])
    np.testing.assert_allclose(found["mean_localization"], 0.3)


@pytest.mark.parametrize(("name", "snr"), [("1-d", 4.0), ("2-d", 0.4)])
def test_standard_errors_are_the_spread_over_seeds(name, snr):
    model = network(posterior(LAWS[name]), LAWS[name])
    scores = []
    for seed in range(60):
        found = calibrate(model, snrs=[snr], queries=400, seed=seed, progress=False)
        ratios = [float((found[check][0] - 1) / found[f"{check}_se"][0]) for check in ("balance", "directional")]
        scores.append([*ratios, *(found["contrast"] / found["contrast_se"]).to_numpy()[0]])
    scores = np.asarray(scores)
    # Of 60 normal deviates the standard deviation has one of 0.09, and the mean one of 0.13.
    assert np.all(np.abs(scores.std(0) - 1) < 0.3)
    assert np.all(np.abs(scores.mean(0)) < 0.4)


def test_standard_errors_from_few_points_are_those_of_drawing_the_points():
    model = network(posterior(FOUR), None, event_shape=(2,))
    balance, stated = [], []
    for seed in range(40):
        points = Empirical(FOUR.sample(40, seed).numpy(), dtype=torch.float64)
        found = calibrate(model, points, snrs=[0.3], queries=400, progress=False)
        assert found.attrs["points"] == 40
        balance.append(float(found["balance"][0]))
        stated.append(float(found["balance_se"][0]))
    assert np.std(balance) == pytest.approx(np.mean(stated), rel=0.3)
    # As if the queries were of as many points, it would be several times too small.
    alone = calibrate(model, FOUR, snrs=[0.3], queries=400, progress=False)
    assert float(alone["balance_se"][0]) < np.std(balance) / 2


# Wrong denoisers


@pytest.mark.parametrize("name", ["1-d", "2-d", "8-d"])
def test_a_ripple_of_the_denoiser_spoils_the_jacobian_alone(name):
    law = LAWS[name]

    def rippled(x: Tensor, sigma: float) -> Tensor:  # by 2% of the noise, with slopes up to 1.2
        return posterior(law)(x, sigma) + 0.02 * sigma * torch.sin(60 * x / sigma)

    found = calibrated(rippled, law, [0.5, 2.0, 8.0])
    assert verdicts(found, "sampling") == ["good"] * 3
    assert levels(found, "balance") == ["good"] * 3  # by Stein's lemma: on average the slopes go with the height
    assert verdicts(found, "probing") == ["poor"] * 3
    assert verdict_bands(found, "sampling")[0].worst == {}


def test_a_sampler_does_not_see_such_a_ripple():
    exact, rippled = (
        brenier.sample(
            network(
                lambda x, sigma, size=size: posterior(FOUR)(x, sigma) + size * sigma * torch.sin(60 * x / sigma), FOUR
            ),
            200,
            steps=40,
            solver="euler",
            schedule="karras",
            seed=1,
            progress=False,
        )
        for size in (0.0, 0.02)
    )
    assert float((exact.points - rippled.points).abs().median()) < 0.02


def test_a_shifted_denoiser_is_poor_for_either_purpose():
    found = calibrated(lambda x, sigma: posterior(FOUR)(x, sigma) + 0.4, FOUR, [2.0, 10.0])
    assert verdicts(found, "sampling") == verdicts(found, "probing") == ["poor"] * 2
    # Of the error E|X - D|^2 the square of the shift, and no more, can be saved.
    shift = 2 * 0.4**2 / found["denoising_error"]
    assert np.all(np.abs(found["excess"] - shift) < 4 * found["excess_se"])


def test_the_excess_is_the_share_of_the_error_of_the_denoiser():
    # D = a x on N(0, I_2), where (x - E x)/(1 + sigma^2) is best: it is a correction of the kind that is tried.
    snrs = np.asarray([0.3, 1.0, 3.0])
    found = calibrated(lambda x, sigma: 0.3 * x, NORMAL, snrs)
    best = 2 / (1 + snrs**2)
    excess = 1 - best / (2 * (0.7**2 + 0.3**2 / snrs**2))
    assert np.all(np.abs(found["excess"] - excess) < 4 * found["excess_se"] + 1e-3)


def test_a_balance_off_at_high_noise_is_next_to_no_error():
    found = calibrated(lambda x, sigma: posterior(FOUR)(x, 1.2 * sigma), FOUR, [0.05, 0.1])
    assert levels(found, "balance") == ["poor"] * 2
    assert verdicts(found, "sampling") == ["good"] * 2
    assert float(found["excess"].max()) < 0.01


def test_a_shrunken_denoiser_is_too_sure():
    found = calibrated(lambda x, sigma: 0.85 * posterior(FOUR)(x, sigma), FOUR, [0.1, 0.5, 2.0, 10.0])
    assert np.all(found["balance"] < 0.9)
    assert all(verdict in ("fair", "poor") for verdict in verdicts(found))
    assert verdicts(found)[2:] == ["poor", "poor"]
    # At high noise the error hardly changes, the Jacobian does in proportion.
    assert float(found["balance"][0]) == pytest.approx(0.85, abs=0.02)


@pytest.mark.parametrize(("factor", "sign"), [(1.2, -1), (0.8, 1)])
def test_a_noise_level_told_wrong_shows_which_way(factor, sign):
    snrs = np.asarray([0.1, 0.5, 1.0, 2.0])
    gaussian = calibrated(lambda x, sigma: posterior(NORMAL)(x, factor * sigma), NORMAL, snrs)
    k = 1 / (1 + (factor / snrs) ** 2)
    expected = k / snrs**2 / ((1 - k) ** 2 + (k / snrs) ** 2)
    np.testing.assert_allclose(gaussian["balance"], expected, atol=4 * float(gaussian["balance_se"].max()))
    assert np.all(sign * (gaussian["balance"][:3] - 1) > 0.1)
    mixture = calibrated(lambda x, sigma: posterior(FOUR)(x, factor * sigma), FOUR, [0.1, 0.2, 2.0])
    assert verdicts(mixture) == ["poor"] * 3
    assert np.all(sign * (mixture["balance"] - 1) > 0.1)


@pytest.mark.parametrize("name", ["1-d", "2-d"])
def test_the_best_linear_denoiser_balances_and_errs_in_the_wrong_places(name):
    law = LAWS[name]
    mean = law.weights @ law.means
    centred = law.means - mean
    covariance = centred.T @ (law.weights[:, None] * centred) + law.variances[0] * torch.eye(law.dim)

    def wiener(x: Tensor, sigma: float) -> Tensor:
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(law.dim))
        return mean + (x - mean) @ gain.double()

    found = calibrated(wiener, law, [0.5, 0.9])
    assert levels(found, "balance") == ["good"] * 2
    assert levels(found, "directional") == ["good"] * 2
    assert levels(found, "dependence") == ["poor"] * 2
    assert verdicts(found) == ["poor"] * 2


def test_no_denoising_balances_and_is_found_out():
    found = calibrated(lambda x, sigma: 1.0 * x, FOUR, [0.1, 0.5])
    np.testing.assert_allclose(found["balance"], 1, atol=1e-6)
    assert levels(found, "dependence") == ["poor"] * 2


def test_a_rotation_of_the_jacobian_is_asymmetry():
    turn = torch.tensor([[1.0, 0.5], [-0.5, 1.0]], dtype=torch.float64)
    found = calibrated(lambda x, sigma: posterior(NORMAL)(x, sigma) @ turn, NORMAL, [0.2])
    # ||J - J^T||/||J|| = 1/sqrt(2.5)
    assert float(found["asymmetry"][0]) == pytest.approx(np.sqrt(2 / 2.5), rel=1e-6)
    assert levels(found, "asymmetry") == ["poor"]
    assert verdict_bands(found, "probing")[0].worst["asymmetry"] == pytest.approx(np.sqrt(2 / 2.5) / 2, rel=1e-6)


def test_directions_that_it_turns_round_are_negative():
    found = calibrated(
        lambda x, sigma: posterior(NORMAL)(x, sigma) * torch.tensor([1.0, -1.0], dtype=torch.float64), NORMAL, [0.5]
    )
    assert float(found["negative"][0]) == 0.5
    assert levels(found, "negative") == ["poor"]
    assert float(found["predicted"][0]) == pytest.approx(0, abs=1e-12)


def test_memorised_data_show_on_held_out_points_alone():
    points = FOUR.sample(100, 3)
    memory = posterior(GaussianMixture(np.ones(100), points.numpy(), 0.0))
    snrs = [0.3, 5.0, 15.0]
    held_out = calibrated(memory, FOUR, snrs)
    assert verdicts(held_out) == ["good", "poor", "poor"]
    assert np.all(held_out["balance"][1:] < 0.8)
    own = calibrated(memory, Empirical(points.numpy(), dtype=torch.float64), snrs)
    assert "poor" not in verdicts(own)
    assert "fair" not in verdicts(own)


def test_the_exact_denoiser_of_a_wider_law_is_not_sure_enough():
    wide = GaussianMixture([1.0], [[0.0, 0.0]], 4.0)
    found = calibrated(posterior(wide), NORMAL, [0.2])
    # J = 4/(4 + 25), the error is (1 - J)^2 + 25 J^2.
    assert float(found["balance"][0]) == pytest.approx(25 * 4 / 29 / ((25 / 29) ** 2 + 25 * (4 / 29) ** 2), rel=0.02)
    assert verdicts(found) == ["poor"]


def test_the_wrong_direction_is_found_where_the_trace_is_right():
    # J = diag(0.8, 0.2) in place of I/2, at sigma = 1: the trace is right; the error is 2 (0.34) in all.
    gain = torch.tensor([0.8, 0.2], dtype=torch.float64)
    found = calibrated(lambda x, sigma: gain * x, NORMAL, [1.0])
    # In the first direction: 0.2^2 + 0.8^2 = 0.68, predicted 0.8.
    assert float(found["directional"][0]) == pytest.approx(0.8 / 0.68, abs=4 * float(found["directional_se"][0]))
    assert levels(found, "directional") == ["fair"]


# What cannot be told


def test_few_queries_leave_it_undecided():
    found = calibrated(posterior(BIMODAL), BIMODAL, [0.2, 5.0], 20)
    assert verdicts(found) == verdicts(found, "sampling") == ["undecided"] * 2
    assert np.all(np.abs(found["balance"] - 1) + 2 * found["balance_se"] > POOR)


def test_rare_events_leave_it_undecided():
    law = brenier.load_target("two-points")
    for seed in range(5):
        found = calibrated(posterior(law), law, [4.5], 2000, seed)  # one sign in 300,000 is taken for the other
        assert verdicts(found) == verdicts(found, "sampling") == ["undecided"]
        assert float(found["carried"][0]) < 16


def test_a_point_mass_is_good_without_an_error():
    law = brenier.load_target("point-mass")
    found = calibrated(posterior(law), law, [0.1, 10.0], 50)
    assert verdicts(found) == ["good"] * 2
    assert float(found["denoising_error"].max()) == 0


def test_a_single_point_of_data_says_nothing():
    found = calibrated(lambda x, sigma: x / 2, np.ones((1, 2)), [1.0], 50)
    assert verdicts(found) == verdicts(found, "sampling") == ["undecided"]
    assert np.isnan(found["balance_se"]).all()


# The call


def test_large_dimensions_go_by_products():
    law = GaussianMixture([1.0], np.zeros((1, 300)), 1.0)
    found = calibrate(network(lambda x, sigma: x / (1 + sigma**2), law), snrs=[0.5, 2.0], progress=False)
    assert found.attrs["queries"] == default_queries(network(lambda x, sigma: x, law)) == 32
    assert verdicts(found) == ["good"] * 2
    np.testing.assert_allclose(found["mean_localization"], [0.2, 0.8], rtol=1e-6)


def test_default_snrs_are_those_of_the_data_within_the_networks_range():
    model = network(posterior(BIMODAL), BIMODAL, snr_range=(0.1, 5.0))
    found = calibrate(model, queries=20, progress=False)
    np.testing.assert_allclose(found["snr"], np.geomspace(0.1, 5, 16), rtol=1e-6)
    own = brenier.default_snrs(BIMODAL)
    found = calibrate(network(posterior(BIMODAL), None, event_shape=(1,)), BIMODAL, queries=20, progress=False)
    np.testing.assert_allclose(found["snr"], np.geomspace(own[0], own[-1], 16), rtol=1e-6)


def test_the_same_seed_gives_the_same_and_draws_do_not_depend_on_the_grid():
    first, again = (calibrated(posterior(FOUR), FOUR, [0.5, 2.0], 100, 3) for _ in range(2))
    xr.testing.assert_identical(first, again)
    xr.testing.assert_equal(calibrated(posterior(FOUR), FOUR, [2.0], 100, 3), first.isel(snr=[1]))
    assert not calibrated(posterior(FOUR), FOUR, [0.5, 2.0], 100, 4)["denoising_error"].equals(first["denoising_error"])


def test_blocks_of_queries_make_no_difference():
    whole = calibrated(posterior(FOUR), FOUR, [1.0], 100)
    parts = calibrate(network(posterior(FOUR), FOUR, batch=7), snrs=[1.0], queries=100, progress=False)
    for name in ("denoising_error", "balance", "directional", "contrast_se"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-9)


def test_it_survives_a_file(tmp_path: Path):
    found = calibrated(posterior(FOUR), FOUR, [0.5, 2.0], 100)
    found.to_netcdf(tmp_path / "c.nc", engine="h5netcdf")
    back = xr.load_dataset(tmp_path / "c.nc", engine="h5netcdf")
    xr.testing.assert_equal(back, found)
    for purpose in PURPOSES:
        assert verdict_bands(back, purpose) == verdict_bands(found, purpose)
        assert back[f"verdict_{purpose}"].attrs["flag_meanings"] == "good fair poor undecided"
    assert (back.attrs["fair"], back.attrs["poor"]) == (FAIR, POOR)


def test_data_replace_those_of_the_network():
    found = calibrate(network(posterior(NORMAL), NORMAL), FOUR, snrs=[0.3], queries=200, progress=False)
    assert found.attrs["law"] == FOUR.name
    assert verdicts(found) == ["poor"]


BAD = {
    "no-data": (lambda: calibrate(network(posterior(NORMAL), None, event_shape=(2,))), "comes without data: give data"),
    "other-shape": (lambda: calibrate(network(posterior(NORMAL), NORMAL), BIMODAL), "one shape"),
    "outside": (
        lambda: calibrate(network(posterior(NORMAL), NORMAL, snr_range=(0.1, 10.0)), snrs=[1, 20]),
        "20 is not one that network was trained for: it must lie between 0.1 and 10",
    ),
    "no-queries": (lambda: calibrated(posterior(NORMAL), NORMAL, [1.0], 1), "queries must be a whole number from 2"),
    "seed": (lambda: calibrated(posterior(NORMAL), NORMAL, [1.0], 50, -1), "seed must be a whole number"),
    "snrs": (lambda: calibrated(posterior(NORMAL), NORMAL, [1.0, -1.0]), "must be positive and finite"),
    "half": (
        lambda: verdict_bands(calibrated(posterior(NORMAL), NORMAL, [1.0], 50).drop_vars("balance"), "probing"),
        "not a calibration, it has no variable 'balance'",
    ),
    "before-there-were-two-verdicts": (
        lambda: deviations(calibrated(posterior(NORMAL), NORMAL, [1.0], 50).drop_vars("verdict_sampling")),
        "not a calibration, it has no variable 'verdict_sampling': give what `brenier calibrate` makes",
    ),
    "profile": (
        lambda: deviations(brenier.probe("point-mass", [1.0], queries=2, method="monte-carlo", progress=False)),
        "holds a profile, and a calibration is wanted",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name):
    call, words = BAD[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_law_is_no_network():
    with pytest.raises(TypeError, match="normal is not a network: calibrate takes a NetworkTarget or a saved network"):
        calibrate("normal")
