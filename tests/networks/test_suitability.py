"""Networks that know a law exactly, shown what is and what is not drawn from it."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

import brenier
from brenier.laws.empirical import Empirical
from brenier.networks.network import NetworkTarget
from brenier.networks.suitability import warn_of_data

DIGITS = brenier.load_target("digits").point_masses()[0]


@pytest.fixture(scope="module")
def net() -> brenier.Target:
    return brenier.load_target("digits-network")


@pytest.mark.parametrize(
    "points",
    [
        (DIGITS + 1) * 127.5,
        (DIGITS + 1) * 8,
        (DIGITS + 1) / 2,
        -DIGITS,
        DIGITS.reshape(-1, 8, 8).mT.reshape(-1, 64),
        (DIGITS - DIGITS.mean(0)) / DIGITS.std(0).clamp_min(0.1),
        DIGITS + 2,
    ],
    ids=["255", "16", "0..1", "negative", "transposed", "standardized", "shifted"],
)
def test_a_network_that_knows_other_data_is_found_out(net: brenier.Target, points: Tensor) -> None:
    shown = Empirical(points).sample(256, 0)
    low, high = (f"{float(end):.3g}" for end in (shown.min(), shown.max()))
    with pytest.warns(UserWarning, match="digits-network misses other by .* was it trained on such data") as said:
        net.with_data(Empirical(points, name="other"))
    assert len(said) == 1
    assert f"they go from {low} to {high}, what it returns from" in str(said[0].message)


def test_the_data_that_it_was_trained_on_are_its_own(net: brenier.Target) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.with_data(brenier.load_target("digits"))
        net.with_data(Empirical(DIGITS[:40]))
        net.with_data(Empirical(DIGITS[:1]))  # a point has no spread to tell by


@pytest.mark.parametrize(
    "law",
    [
        brenier.GaussianMixture([1.0], [0.0], [1.0]),
        brenier.GaussianMixture([0.999, 0.001], [0.0, 50.0], [1e-4, 1e-4]),
        brenier.GaussianMixture([0.5, 0.5], [[-1e3, 0.0], [1e3, 1e-3]], [[1.0, 1e-8], [1.0, 1e-8]]),
        Empirical(np.random.default_rng(0).standard_cauchy((500, 3))),
    ],
    ids=["normal", "outliers", "ill-conditioned", "heavy tails"],
)
def test_an_exact_denoiser_is_never_doubted(law: brenier.Target) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_data(law.denoise, law, (0.0, math.inf), "exact")


def test_by_how_much_it_misses() -> None:
    """At x = c in d coordinates with spread 1, a network that returns 0 errs by 1 + c^2, the linear one by c^2 less."""
    data = torch.randn(20_000, 200, generator=torch.Generator().manual_seed(0)) + 30
    with pytest.warns(UserWarning, match="zero misses data by") as said:
        NetworkTarget(lambda x, t: 0 * x, data, event_shape=(200,), name="zero", snr_range=(1.0, 1.0 + 1e-9))
    times = float(str(said[0].message).split(" by ")[1].split()[0])
    assert times == pytest.approx(math.sqrt((1 + 30**2) / 0.5), rel=0.02)  # half of the variance is left at SNR 1
