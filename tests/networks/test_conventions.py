"""Every convention, given the exact denoiser of a mixture, gives the mixture's localization; scales invert."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from brenier.laws.mixture import GaussianMixture
from brenier.networks.conventions import (
    PREDICTIONS,
    check_prediction,
    ddpm_scale,
    describe,
    edm_coefficients,
    edm_scale,
    flow_scale,
    known_snr,
    log_sigma_scale,
    noise_scale,
    ou_scale,
    posterior_mean,
    sigma_scale,
)
from brenier.networks.network import NetworkTarget

BARS = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
BETA = 2.5
SIGMA_DATA = 0.7
SNRS = [0.05, 0.6, 12.0]


def table(t: float) -> tuple[float, float]:
    """Between two steps, log(alpha-bar/(1 - alpha-bar)) on the straight line through both."""
    below = min(int(t), len(BARS) - 2)
    logit = np.log(BARS[below : below + 2] / (1 - BARS[below : below + 2]))
    bar = 1 / (1 + math.exp(-(logit[0] + (t - below) * (logit[1] - logit[0]))))
    return math.sqrt(bar), math.sqrt(1 - bar)


# Time: (alpha, sigma) that t stands for, written out again, in the direction in which a network would read it.
LEVELS = {
    "sigma": lambda t: (1.0, t),
    "log-sigma": lambda t: (1.0, math.exp(t)),
    "edm": lambda t: (1.0, math.exp(4 * t)),
    "ou": lambda t: (math.exp(-t), math.sqrt((1 - math.exp(-2 * t)) / BETA)),
    "ou, beta 1": lambda t: (math.exp(-t), math.sqrt(1 - math.exp(-2 * t))),
    "ddpm": table,
    "flow": lambda t: (1 - t, t),
}
DEFINED = {
    "x0": set(LEVELS),
    "epsilon": set(LEVELS),
    "score": set(LEVELS),
    "v": {"ou, beta 1", "ddpm"},
    "velocity": {"flow"},
    "edm": {"sigma", "log-sigma", "edm"},
}
PAIRS = [(prediction, time) for prediction, times in DEFINED.items() for time in sorted(times)]
UNDEFINED = [(p, time) for p in PREDICTIONS for time in LEVELS if time not in DEFINED[p]]


def options(time: str) -> dict:
    extra = {"ddpm": {"alpha_bars": BARS}, "ou": {"beta": BETA}}
    return {"time": time.partition(",")[0], **extra.get(time, {})}


class Mixture(nn.Module):
    """E[X | X + sigma Z = x] of sum_i w_i N(mu_i, s_i^2 I), from the densities; apart from `GaussianMixture`."""

    def __init__(self, shape):
        super().__init__()
        generator = np.random.default_rng(4)
        dim = math.prod(shape)
        self.shape, self.weights, self.variances = shape, [0.2, 0.5, 0.3], [0.05, 0.4, 0.0]
        self.means = torch.from_numpy(1.5 * generator.standard_normal((3, dim)))

    def law(self):
        return GaussianMixture(self.weights, self.means, self.variances, event_shape=self.shape)

    def denoise(self, x, sigma):
        logs, means = [], []
        for weight, mean, variance in zip(self.weights, self.means, self.variances, strict=True):
            total = variance + sigma**2
            away = x - mean
            logs.append(math.log(weight) - away.square().sum(1) / (2 * total) - x.shape[1] / 2 * math.log(total))
            means.append(mean + variance / total * away)
        weights = torch.stack(logs).softmax(0)
        return torch.einsum("kn,knd->nd", weights, torch.stack(means))


class Exact(Mixture):
    """The denoiser of the mixture, dressed in a convention."""

    def __init__(self, shape, prediction, time):
        super().__init__(shape)
        self.prediction, self.time = prediction, time

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert x.shape[1:] == self.shape
        assert t.shape == (len(x),)
        assert x.dtype == t.dtype == torch.float64
        alpha, sigma = LEVELS[self.time](float(t[0]))
        flat = x.flatten(1)
        if self.prediction == "edm":
            flat = flat * math.sqrt(sigma**2 + SIGMA_DATA**2)
        clean = self.denoise(flat / alpha, sigma / alpha)
        noise = (flat - alpha * clean) / sigma
        output = {
            "x0": clean,
            "epsilon": noise,
            "v": alpha * noise - sigma * clean,
            "score": -noise / sigma,
            "velocity": noise - clean,
            "edm": (clean - SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2) * flat)
            * math.sqrt(sigma**2 + SIGMA_DATA**2)
            / (sigma * SIGMA_DATA),
        }[self.prediction]
        return output.reshape(x.shape)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)])
@pytest.mark.parametrize(("prediction", "time"), PAIRS)
def test_every_convention_gives_the_mixture(prediction, time, shape):
    network = Exact(shape, prediction, time)
    law = network.law()
    target = NetworkTarget(
        network,
        prediction=prediction,
        event_shape=shape,
        sigma_data=SIGMA_DATA if prediction == "edm" else None,
        dtype=torch.float64,
        **options(time),
    )
    for snr in SNRS:
        y = snr * law.sample(20, 1) + torch.randn(20, law.dim, generator=torch.Generator().manual_seed(2)).double()
        found, exact = target.localize(y, snr), law.localize(y, snr)
        torch.testing.assert_close(found.mean, exact.mean, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(found.trace, exact.trace, rtol=1e-7, atol=1e-9)
        # A norm is found to 1e-4, an eigenvalue to rounding.
        torch.testing.assert_close(found.norm, exact.norm, rtol=2e-4, atol=1e-9)
        torch.testing.assert_close(found.symmetric, exact.norm, rtol=3e-6, atol=1e-9)
        assert float((found.asymmetry * found.norm).max()) < 1e-8
        torch.testing.assert_close(target.denoise(y, snr), exact.mean, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("prediction", "time"), UNDEFINED)
def test_a_prediction_that_its_noisy_variable_does_not_define_is_refused(prediction, time):
    with pytest.raises(ValueError, match=rf'^prediction "{prediction}" is defined for .*alpha = .* at SNR') as caught:
        check_prediction(prediction, noise_scale(**options(time)))
    assert "\n" not in str(caught.value)


# Scales


SCALES = {
    "sigma": sigma_scale(),
    "log-sigma": log_sigma_scale(),
    "edm": edm_scale(),
    "ou": ou_scale(BETA),
    "ou, beta 1": ou_scale(),
    "ddpm": ddpm_scale(BARS),
    "flow": flow_scale(),
}


@pytest.mark.parametrize("time", SCALES)
@given(share=st.floats(0, 1))
def test_time_gives_back_the_level(time, share):
    scale = SCALES[time]
    low, high = max(scale.low, 1e-3), min(scale.high, 1e3)
    snr = float(np.clip(low * (high / low) ** share, low, high))
    alpha, sigma, t = scale.level(snr)
    assert alpha / sigma == pytest.approx(snr, rel=1e-9)
    assert LEVELS[time](t) == pytest.approx((alpha, sigma), rel=1e-7)


@pytest.mark.parametrize("time", SCALES)
def test_time_falls_with_snr(time):
    scale = SCALES[time]
    snrs = np.geomspace(max(scale.low, 1e-3), min(scale.high, 1e3), 200)
    assert np.all(np.diff([scale.level(float(snr))[2] for snr in snrs]) < 0)


def test_a_table_is_read_at_its_steps():
    scale = ddpm_scale(torch.from_numpy(BARS))
    snrs = np.sqrt(BARS / (1 - BARS))
    assert scale.low == pytest.approx(snrs[-1])
    assert scale.high == pytest.approx(snrs[0])
    for step in (0, 1, 500, 999):
        alpha, sigma, t = scale.level(float(snrs[step]))
        assert (alpha**2, sigma**2, t) == pytest.approx((BARS[step], 1 - BARS[step], step), rel=1e-9, abs=1e-9)


def test_steps_without_signal_are_left_aside():
    scale = ddpm_scale([0.9, 0.5, 0.1, 0.0])
    assert scale.name == "step 0 to 2"
    assert scale.low == pytest.approx(1 / 3)
    assert scale.level(1 / 3)[2] == pytest.approx(2)


def test_flow_is_told_its_multiple():
    assert flow_scale(1000).level(3.0) == pytest.approx((0.75, 0.25, 250))


def test_edm_coefficients_keep_unit_variance():
    # X of variance sigma_data^2: input and target of the raw network then have variance 1 (EDM, (114) and (115)).
    for sigma in (0.01, 0.5, 80.0):
        skip, out, into = edm_coefficients(sigma, SIGMA_DATA)
        assert into**2 * (SIGMA_DATA**2 + sigma**2) == pytest.approx(1)
        assert ((1 - skip) ** 2 * SIGMA_DATA**2 + skip**2 * sigma**2) / out**2 == pytest.approx(1)


@pytest.mark.parametrize("bars", [[0.5], [0.9, 0.0], [0.5, 0.9], [1.0, 0.5], [0.5, -0.1], [[0.9, 0.1]]])
def test_a_table_that_is_none_is_refused(bars):
    with pytest.raises(ValueError, match=r"^alpha_bars must") as caught:
        ddpm_scale(bars)
    assert "\n" not in str(caught.value)


def test_other_errors_are_one_line():
    with pytest.raises(ValueError, match=r'^time="ddpm" needs alpha_bars'):
        noise_scale("ddpm")
    with pytest.raises(ValueError, match=r'^alpha_bars belong to time="ddpm", not to time="flow"'):
        noise_scale("flow", BARS)
    for beta in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^beta must be positive and finite"):
            ou_scale(beta)
    with pytest.raises(ValueError, match=r"^prediction must be one of x0, epsilon, .* got 'noise'"):
        check_prediction("noise", sigma_scale())
    with pytest.raises(ValueError, match="is no estimate"):
        posterior_mean("edm", torch.zeros(1), torch.zeros(1), 1.0, 1.0)


@pytest.mark.parametrize(
    ("sigma", "known"),
    [
        (14.615, 14.6146),
        (14.629, 14.6146),  # 0.1%
        (14.63, None),
        (5.0, 5.0),
        (0.029, 0.029167),  # three decimals
        (0.0288, None),  # 1.3%
        (0.0, None),
        (math.inf, None),
        (math.nan, None),
    ],
)
def test_sigmas_rounded_to_three_decimals(sigma, known):
    found = known_snr(1 / sigma if sigma else math.inf, 1 / 14.6146, 1 / 0.029167)
    assert found == (None if known is None else pytest.approx(1 / known, rel=1e-12))


def test_a_range_without_ends_knows_every_snr():
    assert known_snr(1e-9, 0.0, math.inf) == 1e-9
    assert known_snr(0.0, 0.0, math.inf) is None


@pytest.mark.parametrize(
    ("prediction", "scale", "options", "words"),
    [
        ("epsilon", ddpm_scale(BARS), {}, "epsilon from sqrt(ab) X + sqrt(1 - ab) Z, told 258 at SNR 1"),
        ("velocity", flow_scale(1000), {}, "velocity from (1 - s) X + s Z, told 500 at SNR 1"),
        (
            "edm",
            edm_scale(),
            {"sigma_data": 0.5, "sign": -1},
            "-edm with sigma_data 0.5 from X + sigma Z, told 0 at SNR 1",
        ),
        ("x0", sigma_scale(), {}, "x0 from X + sigma Z, told 1 at SNR 1"),
        ("x0", ou_scale(2.5), {}, "x0 from 0.535 X + 0.535 Z, told 0.626 at SNR 1"),
        ("x0", ddpm_scale([0.1, 0.05]), {}, "x0 from sqrt(ab) X + sqrt(1 - ab) Z, told 0 at SNR 0.333"),
    ],
)
def test_conventions_in_words(prediction, scale, options, words):
    assert describe(prediction, scale, **options) == words
