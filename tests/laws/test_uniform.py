"""The uniform law against its closed form in 100 digits, autograd and limits."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch

from brenier.laws.uniform import Uniform


def exact(low, high, snr, y):
    """Mean of X, variance of rX, E[rX] - y and log p(y), by the textbook formulas."""
    with mp.workdps(120):
        low, high, r, y = (mp.mpf(v) for v in (low, high, snr, y))
        a, b = r * low - y, r * high - y
        if a > 0 or b < 0:  # the small one of the two tails: no cancellation of 1 - tiny
            near, far = (a, b) if a > 0 else (-b, -a)
            mass = (mp.erfc(near / mp.sqrt(2)) - mp.erfc(far / mp.sqrt(2))) / 2
        else:
            mass = (mp.erf(b / mp.sqrt(2)) - mp.erf(a / mp.sqrt(2))) / 2
        density = [mp.npdf(a), mp.npdf(b)]
        pull = (density[0] - density[1]) / mass
        variance = 1 - (b * density[1] - a * density[0]) / mass - pull**2
        assert variance > 0
        return float((y + pull) / r), float(variance), float(pull), float(mp.log(mass / (b - a)))


@pytest.mark.parametrize("snr", [1e-4, 1e-2, 0.3, 1.0, 5.0, 30.0, 1e3, 1e4])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.25, 0.5)])
def test_interval_keeps_ten_digits_everywhere(low, high, snr):
    points = [0, 0.3, -1, snr, -snr, snr + 3, -snr - 9, snr + 50, 2 * snr + 1e3, -1e5, 1e6, 0.4 * snr, low * snr]
    law = Uniform(low, high)
    y = torch.tensor(points, dtype=torch.float64)[:, None]
    got, score, log_density = law.localize(y, snr), law.score(y, snr), law.log_density(y, snr)
    for i, point in enumerate(points):
        mean, variance, pull, log_p = exact(low, high, snr, point)
        assert float(got.norm[i]) == pytest.approx(variance, rel=1e-10)
        assert float(got.mean[i, 0]) == pytest.approx(mean, rel=1e-10, abs=1e-14)
        assert float(score[i, 0]) == pytest.approx(pull, rel=1e-10, abs=1e-13)
        assert float(log_density[i]) == pytest.approx(log_p, rel=1e-12, abs=1e-12)
    assert law.denoise(y, snr).numpy() == pytest.approx(got.mean.numpy(), rel=1e-15)


@pytest.mark.parametrize("snr", [0.01, 1.0, 20.0])
def test_score_and_curvature_are_derivatives_of_the_log_density(snr):
    law = Uniform([-1, 0, 2], [1, 0.5, 2])
    x = law.sample(5) * snr
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    got, score = law.localize(y, snr), law.score(y, snr)
    for i in range(len(y)):
        gradient = torch.autograd.functional.jacobian(lambda p: law.log_density(p[None], snr)[0], y[i])
        hessian = torch.autograd.functional.hessian(lambda p: law.log_density(p[None], snr)[0], y[i])
        covariance = hessian + torch.eye(3, dtype=torch.float64)
        assert score[i].numpy() == pytest.approx(gradient.numpy(), rel=1e-9, abs=1e-12)
        assert float(got.trace[i]) == pytest.approx(float(covariance.trace()), rel=1e-8, abs=1e-12)
        assert float(got.norm[i]) == pytest.approx(float(torch.linalg.eigvalsh(covariance)[-1]), rel=1e-8, abs=1e-12)


def test_box_is_the_product_of_its_sides():
    box = Uniform([-1, 0, 5], [1, 0.25, 5])
    y = torch.randn((40, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    whole = box.localize(y, 3.0)
    sides = [Uniform(lo, hi).localize(y[:, i : i + 1], 3.0) for i, (lo, hi) in enumerate([(-1, 1), (0, 0.25), (5, 5)])]
    norms = torch.stack([side.norm for side in sides])
    assert bool((whole.norm == norms.amax(0)).all())
    assert whole.trace.numpy() == pytest.approx(norms.sum(0).numpy(), rel=1e-14)
    assert not norms[2].any()
    assert bool((whole.mean[:, 2] == 5).all())
    density = [Uniform(lo, hi).log_density(y[:, i : i + 1], 3.0) for i, (lo, hi) in enumerate([(-1, 1), (0, 0.25)])]
    atom = -((y[:, 2] - 15) ** 2) / 2 - math.log(2 * math.pi) / 2
    assert box.log_density(y, 3.0).numpy() == pytest.approx((density[0] + density[1] + atom).numpy(), rel=1e-12)


def test_limits_of_the_localization():
    law = Uniform(-1, 1)
    y = torch.zeros((1, 1), dtype=torch.float64)
    # Without noise to speak of the posterior is the prior, r^2/3; amid a wide interval it is the noise, 1.
    assert float(law.localize(y, 1e-4).norm) == pytest.approx(1e-8 / 3, rel=1e-8)
    assert float(law.localize(y, 1e3).norm) == pytest.approx(1, rel=1e-14)
    # Far outside it is an exponential law at the end: variance 1/(y - r)^2.
    far = torch.full((1, 1), 1e6, dtype=torch.float64)
    assert float(law.localize(far, 1.0).norm) == pytest.approx(1 / (1e6 - 1) ** 2, rel=1e-8)


@pytest.mark.parametrize("snr", [1e-3, 1.0, 1e3])
def test_float32_agrees_with_float64(snr):
    law = Uniform(-1, 1, dtype=torch.float32)
    y = snr * law.sample(300) + torch.randn((300, 1), generator=torch.Generator().manual_seed(0))
    a, b = law.localize(y, snr), law.to(dtype=torch.float64).localize(y.double(), snr)
    assert a.norm.double().numpy() == pytest.approx(b.norm.numpy(), rel=1e-3 if snr > 100 else 2e-5)
    assert a.mean.double().numpy() == pytest.approx(b.mean.numpy(), abs=2e-6)


def test_samples_are_uniform():
    x = Uniform([-1, 3], [1, 3.5]).sample(50_000, seed=2).numpy()
    assert x.min(0) == pytest.approx([-1, 3], abs=1e-3)
    assert x.max(0) == pytest.approx([1, 3.5], abs=1e-3)
    assert x.mean(0) == pytest.approx([0, 3.25], abs=0.015)
    assert np.cov(x.T) == pytest.approx(np.diag([1 / 3, 1 / 48]), abs=0.01)


def test_scales_are_standard_deviations():
    assert Uniform([-1, 0, 2], [1, 6, 2]).scales() == pytest.approx((1 / math.sqrt(3), math.sqrt(3)))
    assert Uniform(4, 4).scales() == (1, 1)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (1, -1, "low must not exceed high"),
        ([0, 2], [1, 1], "in coordinate 1"),
        (0, math.inf, "high must be finite"),
        (math.nan, 1, "low must be finite"),
        ([0, 0], [1, 1, 1], "as many coordinates"),
    ],
)
def test_bad_ends_are_refused(low, high, message):
    with pytest.raises(ValueError, match=message):
        Uniform(low, high)


def test_bad_queries_are_refused():
    with pytest.raises(ValueError, match="snr must be positive"):
        Uniform(0, 1).localize(torch.zeros((2, 1), dtype=torch.float64), -1.0)
    with pytest.raises(ValueError, match=r"shape \(n, 1\)"):
        Uniform(0, 1).localize(torch.zeros((2, 3), dtype=torch.float64), 1.0)
