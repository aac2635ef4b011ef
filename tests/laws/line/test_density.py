"""Any law on the line: the table for t(3), Gaussian and uniform twins, affine images, samples, and what is refused."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import brenier
from brenier import complexity
from brenier.laws.line.density import OnTheLine
from brenier.laws.line.quadrature import localization_quadrature, onset
from brenier.reports.profile import sentence

T3 = OnTheLine(lambda x: stats.t.logpdf(x, 3), name="t(3)")
LAPLACE = OnTheLine(lambda x: -abs(x), name="laplace")
NORMAL = OnTheLine(lambda x: -(x**2) / 2, name="normal")


def test_the_table_of_t_with_three_degrees_of_freedom():
    found = np.array([figures(T3, snr) for snr in (0.5, 1, 2, 5)])
    np.testing.assert_allclose(found[:, 0], [0.0200, 0.0702, 0.1316, 0.1721], atol=2e-3)
    np.testing.assert_allclose(found[:, 1], [0.3545, 0.6482, 0.8667, 0.9744], atol=1e-4)
    np.testing.assert_allclose(found[:, 2], [0.0464, 0.1373, 0.2374, 0.299], atol=2e-3)
    np.testing.assert_allclose(found[:, 3], [0.398, 0.068, -0.010, -0.004], atol=2e-3)
    assert figures(T3, 300)[0] == pytest.approx(0.1817, abs=2e-3)  # P(|X| > sqrt 3)
    assert onset(T3, 0.1, 10) == 0  # far out L exceeds 1 at every SNR


def figures(law, snr):
    """P(L > 1), E L, m* and sup[delta - 5h]."""
    values, weights, summary = localization_quadrature(law, snr, [1.0], (5,))
    zeta = complexity.net_contraction(values, np.array([5.0]), snr, weights)
    above = complexity.survival(values, np.array([1.0]), weights)
    least, _ = complexity.minimal_relative_tail(values[None], weights[None])
    return float(above[0]), summary["mean_localization"], float(least[0]), float(zeta[0]) / (1 + snr**2)


def test_a_log_concave_law_has_no_localization_above_1():
    for law in (LAPLACE, NORMAL, OnTheLine(lambda x: x - np.exp(x)), OnTheLine(lambda x: np.log(x) - x, (0, math.inf))):
        for snr in (0.1, 1, 10):
            above, _, least, _ = figures(law, snr)
            assert above == 0
            assert least == 0


def test_laws_with_closed_forms_have_the_same_profile():
    box = OnTheLine(lambda x: 0 * x, (-1, 1))
    for law, name in ((NORMAL, "normal"), (box, "uniform")):
        for snr in (0.2, 8):
            np.testing.assert_allclose(figures(law, snr), figures(brenier.load_target(name), snr), rtol=1e-7, atol=1e-9)
    y, r = np.linspace(-6, 6, 13)[:, None], 2.0
    wide = brenier.GaussianMixture([0.5, 0.5], [-1, 1], 0.01)
    twin = OnTheLine(lambda x: np.logaddexp(-((x - 1) ** 2) / 0.02, -((x + 1) ** 2) / 0.02))
    for method in ("denoise", "score", "log_density"):
        np.testing.assert_allclose(getattr(twin, method)(y, r), getattr(wide, method)(y, r), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(twin.localize(y, r).norm, wide.localize(y, r).norm, rtol=1e-9)
    assert onset(twin, 0.1, 10) == pytest.approx(onset(wide, 0.1, 10), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_a_law_is_as_exact_at_any_scale_and_place(scale, shift):
    law = T3.affine(scale, shift * scale)
    y = np.array([[-30.0], [0.4], [3.0]])
    near, far = T3.localize(y, 2.0), law.localize(y + 2 * shift, 2 / scale)
    np.testing.assert_allclose(far.norm, near.norm, rtol=1e-8)
    assert far.mean is not None
    assert near.mean is not None
    np.testing.assert_allclose(far.mean / scale - shift, near.mean, rtol=1e-7, atol=1e-8)
    assert law.scales() == pytest.approx([scale * length for length in T3.scales()])
    assert float(law.origin) == (shift * scale if shift else 0)


def test_narrow_and_distant_densities_are_found():
    law = OnTheLine(lambda x: -((x - 1e6) ** 2) / 2e-6)
    assert law.scales() == pytest.approx((1e-3, 1e-3), rel=1e-5)
    assert float(law.origin) == pytest.approx(1e6)
    both = OnTheLine(lambda x: np.logaddexp(-(x**2) / 2, -((x - 1000) ** 2) / 2e-6 + math.log(1e3)), at=[1000])
    mean, variance = both.moments()
    assert float(mean) == pytest.approx(500, rel=1e-6)
    assert float(variance) == pytest.approx(500**2 + 0.5, rel=1e-6)
    gap = OnTheLine(lambda x: np.where(x < 0.3, 0.0, np.where(x < 0.7, -np.inf, 1.0)), (0, 1))
    weights = np.array([0.3, 0.3 * math.e])
    assert float(gap.moments()[0]) == pytest.approx(weights @ [0.15, 0.85] / weights.sum(), rel=1e-9)


def test_samples_are_of_the_law():
    for law, scipy in ((T3, stats.t(3)), (OnTheLine(lambda x: -0.5 * np.log(x) - x, (0, math.inf)), stats.gamma(0.5))):
        x = law.sample(4000, 1)
        assert x.shape == (4000, 1)
        assert bool((x == law.sample(4000, 1)).all())
        assert stats.kstest(x[:, 0].numpy(), scipy.cdf).pvalue > 1e-3
    assert T3.sample(0).shape == (0, 1)


def test_distribution_moments_and_density():
    x = torch.tensor([-40.0, -1.0, 0.3, 5.0], dtype=torch.float64)
    clean = T3.distribution(x, torch.full_like(x, 0.5), torch.zeros_like(x))
    np.testing.assert_allclose(clean.log_cdf, stats.t.logcdf(2 * x, 3), rtol=1e-10)
    np.testing.assert_allclose(clean.log_density, stats.t.logpdf(2 * x, 3) + math.log(2), rtol=1e-10)
    noisy = T3.distribution(x, torch.full_like(x, 0.5), torch.full_like(x, 0.2))
    np.testing.assert_allclose(noisy.log_density, T3.log_density(x[:, None] / 0.2, 2.5) - math.log(0.2), rtol=1e-12)
    np.testing.assert_allclose(T3.moments()[1], [[3.0]], rtol=1e-4)  # a variance to which the tail gives much
    density = T3.density()
    assert density is not None
    point = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(density(point).sum(), point)
    assert float(slope) == pytest.approx(-4 * 0.7 / (3 + 0.49), rel=1e-8)


def test_a_law_without_second_moment_says_so():
    for nu, finite in ((1, False), (2, False), (2.1, True)):
        law = OnTheLine(lambda x, nu=nu: -(nu + 1) / 2 * np.log1p(x**2 / nu), name="heavy")
        assert law.square_integrable is finite
        if not finite:
            with pytest.raises(NotImplementedError, match="no second moment"):
                law.moments()
            with pytest.raises(ValueError, match="no second moment"):
                brenier.w2(law, NORMAL)
            with pytest.raises(ValueError, match="no second moment"):
                brenier.chain(law, steps=2, progress=False)
            assert law.density() is None
    profile = brenier.probe(OnTheLine(lambda x: -np.log1p(x**2)), [1], progress=False)
    assert profile.attrs["square_integrable"] == 0
    assert float(profile.onset_snr) == 0
    assert "W2 do not hold" in sentence(profile)
    assert "W2 do not hold" not in sentence(profile.assign_attrs(square_integrable=1))


def test_chains_of_such_laws_are_those_of_their_twins():
    snr = {"steps": 4, "eta": 0.2, "progress": False}
    ours, theirs = (brenier.chain(law, 0, **snr) for law in (NORMAL, "normal"))
    for name in ("w2_forward", "w2_backward", "w2_chain", "kl_chain"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"log_density": lambda x: "a"}, TypeError, "must return numbers, got str"),
        ({"log_density": lambda x: x[:1]}, ValueError, "one number per place"),
        ({"log_density": lambda x: x.no_such}, TypeError, "fails on an array"),
        ({"log_density": lambda x: -x * x, "support": (1, 0)}, ValueError, "from low to high, got 1 to 0"),
        ({"log_density": lambda x: -x * x, "support": (1, math.nan)}, ValueError, "from low to high"),
        ({"log_density": lambda x: -x * x, "support": (0, 1, 2)}, ValueError, "two numbers"),
        ({"log_density": lambda x: -x * x, "support": (0, 1), "at": [2]}, ValueError, "in the support"),
        ({"log_density": lambda x: np.nan * x}, ValueError, "NaN wherever"),
        ({"log_density": lambda x: -np.inf + 0 * x}, ValueError, "-inf wherever"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        OnTheLine(**arguments)
    assert "\n" not in str(caught.value)


def test_points_and_dtypes():
    single = T3.to(dtype=torch.float32)
    found = single.localize([[0.3]], 1.0)
    assert found.norm.dtype == np.float32
    torch_law = OnTheLine(lambda x: -torch.logaddexp(x, -x))
    assert torch_law.scales()[1] == pytest.approx(1.2, abs=0.2)
    with pytest.raises(ValueError, match="shape"):
        T3.localize(np.zeros((2, 2)), 1.0)
    with pytest.raises(ValueError, match="scale must be positive"):
        T3.affine(-1, 0)
