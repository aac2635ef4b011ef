"""The end points of the probability flow against closed forms: Gaussians, and monotone maps on the line."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

from brenier.catalog import load_target
from brenier.laws.mixture import GaussianMixture
from brenier.networks.network import NetworkTarget
from brenier.sampling import endpoint as module
from brenier.sampling.driver import start
from brenier.sampling.endpoint import fine, follow, reference

WEIGHTS, MEANS, VARIANCES = [0.1, 0.2, 0.4, 0.3], [-4.0, -2.0, 2.0, 4.0], [1.0, 0.5, 0.5, 1.0]


def along_the_line(weights, means, variances, x, high, low):
    """F_low^-1(F_high(x)) of a mixture: the flow keeps the order of points, and so it is the monotone map."""

    def cdf(at, sigma):
        return sum(
            w * norm.cdf(at, m, math.sqrt(v + sigma**2)) for w, m, v in zip(weights, means, variances, strict=True)
        )

    return np.array([brentq(lambda t, at=at: cdf(t, low) - cdf(at, high), -60, 60, xtol=1e-14) for at in x])


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("low", [0.0, 0.3])
def test_a_gaussian(tolerance, low):
    deviations = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    mean = torch.tensor([5.0, -1.0, 0.0], dtype=torch.float64)
    law = GaussianMixture([1], mean[None], deviations.square()[None])
    x = start(law, 200, 30.0)
    exact = mean + torch.sqrt((deviations**2 + low**2) / (deviations**2 + 900)) * (x - mean)
    error = torch.linalg.vector_norm(reference(law, x, 30.0, low, tolerance) - exact, dim=1)
    assert float(error.max()) <= 3 * tolerance


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("low", [0.0, 0.2])
def test_four_gaussians_go_by_the_monotone_map(tolerance, low):
    law = load_target("four-gaussians")
    x = start(law, 40, 30.0)
    exact = along_the_line(WEIGHTS, MEANS, VARIANCES, x[:, 0], 30.0, low)
    found = reference(law, x, 30.0, low, tolerance)[:, 0].numpy()
    assert np.abs(found - exact).max() <= tolerance * law.scales()[1]


@pytest.mark.parametrize("low", [0.0, 0.2])
def test_many_steps_stand_for_the_flow_of_a_network(low):
    law = load_target("digits-network")
    x = start(law, 64, 10.0)
    apart = torch.linalg.vector_norm(fine(law, x, 10.0, low) - reference(law, x, 10.0, low, 1e-4), dim=1)
    assert float(apart.max()) <= 1e-3 * law.scales()[1]


def test_two_points_separate():
    law = load_target("two-points")
    x = np.array([-20.0, -3.0, -1e-1, 1e-2, 1.0, 8.0])
    exact = along_the_line([0.5, 0.5], [-1, 1], [0, 0], x, 10.0, 0.2)
    found = reference(law, torch.from_numpy(x)[:, None], 10.0, 0.2)[:, 0].numpy()
    assert np.abs(found - exact).max() <= 1e-6
    near = torch.tensor([[-8.0], [-1e-2], [-1e-6], [1e-9], [1e-3], [4.0]], dtype=torch.float64)
    torch.testing.assert_close(reference(law, near, 10.0), near.sign(), rtol=0, atol=1e-6)


def test_a_law_with_edges():
    # Where a density ends, D is off by about sigma, not sigma^2: the last level has to be low enough for that.
    law = load_target("uniform")
    x = torch.cat([start(law, 200, 5.0), torch.tensor([[-25.0], [-20], [-16], [17], [19], [30]], dtype=torch.float64)])
    upper, lower = ((x + 1) / 5).numpy(), ((x - 1) / 5).numpy()
    # The mean of Phi over [lower, upper], by its antiderivative.
    share = sum(s * (v * norm.cdf(v) + norm.pdf(v)) for s, v in ((1, upper), (-1, lower))) / (2 / 5)
    exact = torch.from_numpy(2 * share - 1)
    for tolerance in (1e-3, 1e-6):
        error = (reference(law, x, 5.0, tolerance=tolerance) - exact).abs()
        assert float(error.max()) <= tolerance * law.scales()[1]


def test_a_hard_trajectory_does_not_hide_among_easy_ones():
    law = load_target("two-points")
    exact = along_the_line([0.5, 0.5], [-1, 1], [0, 0], np.array([0.1]), 10.0, 0.3)
    crowd = torch.zeros((20_000, 1), dtype=torch.float64)  # they stay in the middle, without any error
    crowd[0] = 0.1
    assert float(reference(law, crowd, 10.0, 0.3, 1e-3)[0, 0]) == pytest.approx(exact[0], abs=1e-3)


def test_coordinates_that_know_nothing_of_each_other():
    law = GaussianMixture([0.3, 0.7], [[-1.0, 0], [1, 0]], [[0.1, 0.4], [0.2, 0.4]])
    x = start(law, 30, 10.0)
    first = along_the_line([0.3, 0.7], [-1, 1], [0.1, 0.2], x[:, 0], 10.0, 0.1)
    second = math.sqrt((0.4 + 0.1**2) / (0.4 + 10.0**2)) * x[:, 1]
    found = reference(law, x, 10.0, 0.1, 1e-5)
    error = torch.linalg.vector_norm(found - torch.stack([torch.from_numpy(first), second], 1), dim=1)
    assert float(error.max()) <= 1e-5 * law.scales()[1]


def test_single_precision():
    digits = load_target("digits")
    x = start(digits, 12, 15.0)
    single = follow(digits, x, 15.0, 0.5, tolerance=1e-8)  # less than it can give
    double = follow(digits.to(dtype=torch.float64), x, 15.0, 0.5, tolerance=1e-6)
    assert single.x.dtype == torch.float32
    assert single.evaluations < double.evaluations
    error = torch.linalg.vector_norm(single.x.double() - double.x, dim=1)
    assert float(error.max()) <= 1e-4 * digits.scales()[1]


def test_a_network_ends_at_its_own_smallest_level():
    class Exact(nn.Module):
        def forward(self, x, sigma):
            return law.denoise(x / sigma[0], float(1 / sigma[0]))

    law = GaussianMixture([0.5, 0.5], [[-1.0, 0], [1, 1]], 0.1)
    for dtype in (torch.float64, torch.float32):
        known = {"event_shape": (2,), "snr_range": (1 / 9.7, 17.3), "dtype": dtype}
        network = NetworkTarget(Exact(), **known)
        x = start(network, 8, 9.7)
        ahead = reference(law, x.double(), 9.7, 1 / 17.3, 1e-6)
        found = reference(network, x, 9.7)
        expected = law.denoise(17.3 * ahead, 17.3).to(dtype)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 if dtype == torch.float64 else 1e-4)


def test_short_ways():
    law = GaussianMixture([1], [0.5], 1.0)
    x = start(law, 5, 1e-8)
    torch.testing.assert_close(reference(law, x, 1e-8), law.denoise(x / 1e-8, 1e8))
    assert reference(law, x[:0], 10.0).shape == (0, 1)
    y = start(law, 5, 1.0)
    exact = 0.5 + math.sqrt((1 + 0.998**2) / 2) * (y - 0.5)
    torch.testing.assert_close(reference(law, y, 1.0, 0.998), exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize("fault", [math.nan, 1.0])
def test_what_cannot_be_followed(monkeypatch, fault):
    monkeypatch.setattr(module, "STEPS", 30)
    law, generator = GaussianMixture([1], [0], 1.0, name="noisy"), torch.Generator().manual_seed(0)

    def denoise(y, snr):
        return fault * torch.randn(y.shape, generator=generator, dtype=y.dtype)

    monkeypatch.setattr(law, "denoise", denoise)
    message = r"flow of noisy cannot be followed to tolerance 1e-06 \(.*\): a larger tolerance may do"
    with pytest.raises(ValueError, match=message):
        reference(law, torch.zeros(4, 1, dtype=torch.float64), 10.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma_max": 0.5, "sigma_min": 0.5}, "noise levels must descend, got 0.5 after 0.5"),
        ({"sigma_min": -1.0}, "noise levels must be positive, the last may be 0"),
        ({"sigma_max": math.nan}, "noise levels must be finite"),
        ({"tolerance": 0.0}, "tolerance must lie between 1e-10 and 0.1, got 0"),
        ({"tolerance": math.nan}, "tolerance must lie between"),
        ({"x": torch.zeros(2, 2)}, r"points of normal must have shape \(n, 1\)"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        reference(load_target("normal"), **({"x": torch.zeros(2, 1), "sigma_max": 10.0} | change))
