"""Gaussian mixtures against brute force written out per query, autograd, arbitrary precision and known limits."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture as Estimator
from torch import Tensor

from brenier.laws.mixture import GaussianMixture

SNRS = [1e-4, 0.1, 1.0, 7.0, 100.0, 1e4]


def brute(weights, means, matrices, y, snr):
    """log p, posterior mean of X and Cov[rX | y] of one query: dense float64 matrices, inverted and summed."""
    d = len(y)
    logs, centres, covariances = [], [], []
    for weight, mean, matrix in zip(weights, means, matrices, strict=True):
        total = snr**2 * matrix + np.eye(d)
        inverse = np.linalg.inv(total)
        residual = y - snr * mean
        logs.append(
            math.log(weight)
            - residual @ inverse @ residual / 2
            - np.linalg.slogdet(total)[1] / 2
            - d / 2 * math.log(2 * math.pi)
        )
        gain = np.eye(d) - inverse
        covariances.append(gain)
        centres.append(snr * mean + gain @ residual)
    top = max(logs)
    log_density = top + math.log(sum(math.exp(v - top) for v in logs))
    w = np.exp(np.array(logs) - log_density)
    centres = np.array(centres)
    mean = w @ centres
    covariance = sum(wi * c for wi, c in zip(w, covariances, strict=True))
    covariance = covariance + (centres - mean).T @ (w[:, None] * (centres - mean))
    return log_density, mean / snr, covariance


def example(kind, d, seed=0, count=4):
    """Weights, means, covariances in the shape of `kind`, and the same as dense matrices."""
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet(np.ones(count))
    means = generator.standard_normal((count, d))
    if kind == "isotropic":
        covariances = generator.random(count) ** 2
        matrices = np.array([v * np.eye(d) for v in covariances])
    elif kind == "diagonal":
        covariances = generator.random((count, d)) ** 2
        matrices = np.array([np.diag(v) for v in covariances])
    elif kind == "point":
        covariances = 0
        matrices = np.zeros((count, d, d))
    else:
        rank = max(1, d // 2) if kind == "rank-deficient" else d
        factors = generator.standard_normal((count, d, rank)) / math.sqrt(d)
        covariances = matrices = factors @ factors.transpose(0, 2, 1)
    return weights, means, covariances, matrices


def queries(target, snr, count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((count, target.dim), generator=generator, dtype=target.dtype)
    return snr * target.sample(count, seed) + noise


@pytest.mark.parametrize("d", [1, 2, 7, 70])
@pytest.mark.parametrize("kind", ["point", "isotropic", "diagonal", "full", "rank-deficient"])
@pytest.mark.parametrize("snr", [0.1, 1.0, 5.0])
def test_posterior_agrees_with_dense_matrices(kind, d, snr):
    weights, means, covariances, matrices = example(kind, d)
    target = GaussianMixture(weights, means, covariances)
    y = queries(target, snr)
    got = target.localize(y, snr)
    log_density = target.log_density(y, snr)
    score = target.score(y, snr)
    for i, point in enumerate(y.numpy()):
        log_p, mean, covariance = brute(weights, means, matrices, point, snr)
        assert float(log_density[i]) == pytest.approx(log_p, rel=1e-10)
        assert got.mean[i].numpy() == pytest.approx(mean, rel=1e-9, abs=1e-10)
        assert score[i].numpy() == pytest.approx(snr * mean - point, rel=1e-9, abs=1e-9)
        assert float(got.trace[i]) == pytest.approx(np.trace(covariance), rel=1e-9, abs=1e-11)
        norm = float(np.linalg.eigvalsh(covariance)[-1])
        # The norm is a lower bound, within its stated error.
        error = 1e-10 if got.norm_error is None else float(got.norm_error[i])
        assert error <= 1e-6
        assert float(got.norm[i]) <= norm * (1 + 1e-9) + 1e-11
        assert float(got.norm[i]) == pytest.approx(norm, rel=max(error, 1e-9) * 1.01, abs=1e-11)
    assert target.denoise(y, snr) == pytest.approx(got.mean)


@pytest.mark.parametrize("kind", ["point", "isotropic", "diagonal", "full", "rank-deficient"])
def test_norm_without_assembling_covariances(kind, monkeypatch):
    """What laws in more than 256 dimensions do, in 12, against the certified norm."""
    target = GaussianMixture(*example(kind, 12)[:3])
    for snr in (0.1, 1.0, 5.0):
        y = queries(target, snr, 20)
        monkeypatch.setattr("brenier.laws.mixture._ASSEMBLED", 256)
        certified = target.localize(y, snr).norm.numpy()
        monkeypatch.setattr("brenier.laws.mixture._ASSEMBLED", 1)
        assert target.localize(y, snr).norm.numpy() == pytest.approx(certified, rel=1e-4, abs=1e-13)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", ["point", "isotropic", "diagonal", "full", "rank-deficient"])
def test_score_and_curvature_are_derivatives_of_the_log_density(kind, d):
    """Score = grad log p, and Cov[rX | y] = I + Hess log p (Propositions 2 and 3)."""
    weights, means, covariances, _ = example(kind, d)
    target = GaussianMixture(weights, means, covariances)
    for snr in (0.3, 2.0):
        y = queries(target, snr, 4)
        got, score = target.localize(y, snr), target.score(y, snr)
        for i in range(len(y)):

            def log_p(point: Tensor) -> Tensor:
                return target.log_density(point[None], snr)[0]  # noqa: B023

            gradient = torch.autograd.functional.jacobian(log_p, y[i])
            hessian = torch.autograd.functional.hessian(log_p, y[i])
            assert score[i].numpy() == pytest.approx(gradient.numpy(), rel=1e-9, abs=1e-10)
            covariance = torch.eye(d, dtype=torch.float64) + hessian
            assert float(got.trace[i]) == pytest.approx(float(covariance.trace()), rel=1e-9)
            assert float(got.norm[i]) == pytest.approx(float(torch.linalg.eigvalsh(covariance)[-1]), rel=2e-6)


@pytest.mark.parametrize("snr", [0.2, 1.0, 4.0])
def test_proposition_4_in_three_dimensions(snr):
    """E tr Hess log p = -E |grad log p|^2, that is E tr Cov - d = -E |score|^2, within Monte-Carlo error."""
    target = GaussianMixture(*example("full", 3)[:3])
    y = queries(target, snr, 10_000, seed=5)
    difference = target.localize(y, snr).trace - 3 + target.score(y, snr).square().sum(1)
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / math.sqrt(len(y))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 6.0]))
def test_posterior_follows_rotations_and_shifts(seed, snr):
    weights, means, covariances, matrices = example("full", 4, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 4)))[0]
    shift = np.random.default_rng(seed + 1).standard_normal(4)
    first = GaussianMixture(weights, means, covariances)
    second = GaussianMixture(weights, means @ rotation.T + shift, rotation @ matrices @ rotation.T)
    y = queries(first, snr, 5)
    turned = y @ torch.from_numpy(rotation.T) + snr * torch.from_numpy(shift)
    a, b = first.localize(y, snr), second.localize(turned, snr)
    assert b.norm.numpy() == pytest.approx(a.norm.numpy(), rel=3e-6)
    assert b.trace.numpy() == pytest.approx(a.trace.numpy(), rel=1e-8)
    expected = a.mean.numpy() @ rotation.T + shift
    assert b.mean.numpy() == pytest.approx(expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("snr", [0.5, 2.0, 20.0])
def test_product_law_has_the_largest_coordinate_as_its_norm(snr):
    """Two independent coordinates, each a two-component mixture: four components in the plane."""
    p, q = ([0.3, 0.7], [-1.0, 1.0], [0.0, 0.25]), ([0.5, 0.5], [0.0, 2.0], [0.5, 0.0])
    weights = [a * b for a in p[0] for b in q[0]]
    means = [[a, b] for a in p[1] for b in q[1]]
    variances = [[a, b] for a in p[2] for b in q[2]]
    plane = GaussianMixture(weights, means, variances)
    y = queries(plane, snr, 50)
    lines = [GaussianMixture(*law).localize(y[:, i : i + 1], snr).norm for i, law in enumerate((p, q))]
    got = plane.localize(y, snr)
    assert got.norm.numpy() == pytest.approx(torch.maximum(*lines).numpy(), rel=2e-6, abs=1e-14)
    assert got.trace.numpy() == pytest.approx((lines[0] + lines[1]).numpy(), rel=1e-9, abs=1e-14)


def exact_line(weights, means, variances, y, snr):
    """Mean of X, variance of rX and score at one query, in 400 digits."""
    with mp.workdps(400):
        y, r = mp.mpf(y), mp.mpf(snr)
        total = [1 + r**2 * mp.mpf(v) for v in variances]
        residual = [y - r * mp.mpf(m) for m in means]
        w = [
            mp.mpf(p) * mp.exp(-(e**2) / (2 * v)) / mp.sqrt(v) for p, e, v in zip(weights, residual, total, strict=True)
        ]
        w = [x / mp.fsum(w) for x in w]
        centre = [y - e / v for e, v in zip(residual, total, strict=True)]
        mean = mp.fdot(w, centre)
        spread = mp.fsum(x * ((c - mean) ** 2 + 1 - 1 / v) for x, c, v in zip(w, centre, total, strict=True))
        return (
            float(mean / r),
            float(spread),
            float(-mp.fsum(x * e / v for x, e, v in zip(w, residual, total, strict=True))),
        )


LINES = {
    "two points": ([0.5, 0.5], [-1.0, 1.0], [0.0, 0.0]),
    "spike and slab": ([0.5, 0.5], [0.0, 0.0], [0.0, 1.0]),
    "three widths": ([0.2, 0.3, 0.5], [-1.0, 0.25, 3.0], [0.5, 0.0, 0.01]),
}


@pytest.mark.parametrize("snr", SNRS)
@pytest.mark.parametrize("law", LINES.values(), ids=LINES.keys())
def test_line_keeps_its_digits_at_any_snr_and_far_out(law, snr):
    target = GaussianMixture(*law)
    points = [0.0, 0.3, -2.0, 0.7 * snr, -snr, snr + 4, 3 * snr - 1, 1e3, -1e6, 1e6]
    y = torch.tensor(points, dtype=torch.float64)[:, None]
    got, score = target.localize(y, snr), target.score(y, snr)
    for i, point in enumerate(points):
        mean, variance, slope = exact_line(*law, point, snr)
        # Log odds of size q carry a relative error of a few ulp, and so q ulp in the weights.
        lost = 1e-10 if snr <= 100 else 1e-7
        assert float(got.norm[i]) == pytest.approx(variance, rel=lost, abs=1e-290)
        assert float(got.mean[i, 0]) == pytest.approx(mean, rel=lost, abs=1e-12)
        assert float(score[i, 0]) == pytest.approx(slope, rel=lost, abs=1e-11)


@pytest.mark.parametrize("snr", SNRS)
@pytest.mark.parametrize("kind", ["point", "isotropic", "diagonal", "full"])
def test_float32_agrees_with_float64(kind, snr):
    """Same law, same queries, all representable in float32. In float32, y itself says where it is to 6e-8 |y|."""
    weights, means, covariances, _ = example(kind, 3, count=8)
    small = GaussianMixture(weights, means, covariances, dtype=torch.float32)
    large = small.to(dtype=torch.float64)
    y = queries(small, snr, 200)
    a, b = small.localize(y, snr), large.localize(y.double(), snr)
    size = float(b.norm.max())
    lost = 1e-4 if snr <= 100 else 3e-3
    assert a.norm.double().numpy() == pytest.approx(b.norm.numpy(), rel=lost, abs=max(lost * size, 1e-30))
    assert a.mean.double().numpy() == pytest.approx(b.mean.numpy(), rel=lost, abs=1e-4)


@pytest.mark.parametrize("snr", [0.1, 1.0, 30.0])
def test_effective_size_counts_equal_atoms_once(snr):
    atoms = GaussianMixture([1, 2, 3], [[0.0, 1], [0, 1], [2, 1]], 0)
    merged = GaussianMixture([3, 3], [[0.0, 1], [2, 1]], 0)
    y = queries(merged, snr, 20)
    a, b = atoms.localize(y, snr), merged.localize(y, snr)
    assert a.ess is not None
    assert b.ess is not None
    assert a.ess.numpy() == pytest.approx(b.ess.numpy(), rel=1e-12)
    assert a.norm.numpy() == pytest.approx(b.norm.numpy(), rel=1e-9, abs=1e-300)
    log_odds = 2 * snr * (y[:, 0] - snr)
    w = torch.sigmoid(log_odds)
    assert b.ess.numpy() == pytest.approx((1 / (w**2 + (1 - w) ** 2)).numpy(), rel=1e-10)
    assert GaussianMixture([1, 1], [0, 1], [0, 1]).localize(y[:, :1], snr).ess is None


def test_blocks_do_not_change_the_numbers(monkeypatch):
    target = GaussianMixture(*example("full", 70, count=3)[:3])
    y = queries(target, 2.0, 9)
    whole = target.localize(y, 2.0)
    monkeypatch.setattr("brenier.laws.mixture._BLOCK", 1)
    single = target.localize(y, 2.0)
    assert single.norm.numpy() == pytest.approx(whole.norm.numpy(), rel=1e-9)
    assert single.mean.numpy() == pytest.approx(whole.mean.numpy(), rel=1e-12)


def test_one_point_is_known_exactly():
    target = GaussianMixture([2.5], [[1e6, -3.0, 0.0]], 0)
    for snr in SNRS:
        got = target.localize(queries(target, snr), snr)
        assert not got.norm.any()
        assert not got.trace.any()
        assert bool((got.mean == torch.tensor([1e6, -3, 0])).all())
        assert bool((got.ess == 1).all())


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_localization_has_no_unit(unit):
    weights, means, covariances, _ = example("full", 3)
    a = GaussianMixture(weights, means, covariances)
    b = GaussianMixture(weights, unit * means, unit**2 * covariances)
    y = queries(a, 2.0)
    first, second = a.localize(y, 2.0), b.localize(y, 2.0 / unit)
    assert second.norm.numpy() == pytest.approx(first.norm.numpy(), rel=1e-6)
    assert second.mean.numpy() / unit == pytest.approx(first.mean.numpy(), rel=1e-9)
    assert np.array(b.scales()) / unit == pytest.approx(np.array(a.scales()), rel=1e-6)


def test_weights_are_normalised_and_zero_weights_change_nothing():
    a = GaussianMixture([1, 3, 0], [0.0, 1.0, 50.0], [1.0, 0.5, 0.0])
    b = GaussianMixture([0.25, 0.75], [0.0, 1.0], [1.0, 0.5])
    y = queries(b, 2.0)
    assert bool((a.localize(y, 2.0).norm == b.localize(y, 2.0).norm).all())
    assert a.scales() == b.scales()
    assert bool((a.sample(1000) < 20).all())


def test_covariances_of_every_shape_say_the_same():
    forms = [0.5, [0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [np.eye(2) / 2, 0.5], [torch.eye(2) / 2, [0.5, 0.5]]]
    laws = [GaussianMixture([1, 1], [[0, 0], [1, 2]], form) for form in forms]
    y = queries(laws[0], 1.5)
    for law in laws[1:]:
        assert law.localize(y, 1.5).norm.numpy() == pytest.approx(laws[0].localize(y, 1.5).norm.numpy(), rel=1e-6)
        assert law.log_density(y, 1.5).numpy() == pytest.approx(laws[0].log_density(y, 1.5).numpy(), rel=1e-12)


@pytest.mark.parametrize("kind", ["point", "isotropic", "diagonal", "full", "rank-deficient"])
def test_samples_have_the_moments_of_the_law(kind):
    weights, means, covariances, matrices = example(kind, 3)
    target = GaussianMixture(weights, means, covariances)
    x = target.sample(60_000, seed=3).numpy()
    mean = weights @ means
    covariance = np.einsum("k,kij->ij", weights, matrices) + (weights * (means - mean).T) @ (means - mean)
    scale = math.sqrt(np.trace(covariance))
    assert x.mean(0) == pytest.approx(mean, abs=5 * scale / math.sqrt(len(x)))
    assert np.cov(x.T) == pytest.approx(covariance, abs=10 * scale**2 / math.sqrt(len(x)))
    assert bool((target.sample(10, seed=3) == target.sample(10, seed=3)).all())
    assert not bool((target.sample(10, seed=3) == target.sample(10, seed=4)).all())


@pytest.mark.parametrize("covariance", ["full", "diagonal", "isotropic"])
def test_fit_recovers_well_separated_components(covariance):
    law = GaussianMixture([0.3, 0.7], [[-3, 0], [3, 1]], 0.25)
    data = law.sample(4000).reshape(-1, 2, 1)
    fitted = GaussianMixture.fit(data, 2, covariance=covariance)
    assert fitted.event_shape == (2, 1)
    order = fitted.means[:, 0].argsort()
    assert fitted.weights[order].numpy() == pytest.approx([0.3, 0.7], abs=0.03)
    assert fitted.means[order].numpy() == pytest.approx(np.array([[-3, 0], [3, 1]]), abs=0.06)
    assert fitted.variances.numpy() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_mixture_from_sklearn_has_its_density(kind, dim):
    data = GaussianMixture([1, 1, 2], 4 * np.eye(3)[:, :dim], [0.5, 1, 2]).sample(300).numpy()
    estimator = Estimator(3, covariance_type=kind, random_state=0).fit(data)
    law = GaussianMixture.from_sklearn(estimator, event_shape=(dim, 1))
    snr = 1e6  # the noise adds 1e-12 to variances
    density = law.log_density(snr * data, snr) + dim * math.log(snr)
    assert law.event_shape == (dim, 1)
    np.testing.assert_allclose(density, estimator.score_samples(data), rtol=1e-8)


def test_what_sklearn_has_not_fitted_is_refused():
    with pytest.raises(ValueError, match="the GaussianMixture has not been fitted yet: call fit first"):
        GaussianMixture.from_sklearn(Estimator(2))
    with pytest.raises(TypeError, match="a fitted GaussianMixture of scikit-learn is needed, got int"):
        GaussianMixture.from_sklearn(3)


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (([1], [0], 0), (1, 1)),
        (([1], [5], 4), (2, 2)),
        (([1, 1], [-1, 1], 0), (1, 1)),
        (([1, 1, 2], [-1, 1, 1], 0), (math.sqrt(0.75), math.sqrt(0.75))),
        (([1, 1], [0, 0], [0, 1]), (math.sqrt(0.5), math.sqrt(0.5))),
        (([1, 1], [-10, 10], 0.01), (0.1, math.sqrt(100.01))),
        (([1, 1], [0, 0.001], 1), (1, math.sqrt(1 + 0.0005**2))),
        (([1, 1], [[0, 0], [0, 0.02]], [[1, 0], [1, 0]]), (0.01, 1)),
    ],
)
def test_scales_are_the_lengths_in_the_law(law, expected):
    assert GaussianMixture(*law).scales() == pytest.approx(expected, rel=1e-5)


def test_another_dtype_is_the_same_law():
    law = GaussianMixture([0.2, 0.8], [[0, 1], [2, 3]], [[[1, 0.5], [0.5, 1]], [[2, 0], [0, 1]]])
    small = law.to(dtype=torch.float32)
    assert small.dtype == small.sample(3).dtype == torch.float32
    assert law.dtype == law.sample(3).dtype == torch.float64
    y = queries(law, 1.0)
    expected = law.localize(y, 1.0).norm.numpy()
    assert small.localize(y.float(), 1.0).norm.numpy() == pytest.approx(expected, rel=1e-4)
    assert GaussianMixture([1], torch.zeros(1, 3), 1).dtype == torch.float32


def envelope_switches(weights, means, variances, snr):
    """Where the heaviest component changes, found by looking at a fine grid."""
    v = 1 + snr**2 * np.array(variances)
    y = np.linspace(-100, 100, 200_001)
    logs = [
        math.log(p) - math.log(s) / 2 - (y - snr * m) ** 2 / (2 * s) for p, m, s in zip(weights, means, v, strict=True)
    ]
    heaviest: NDArray[np.intp] = np.argmax(logs, axis=0)
    return y[1:][heaviest[1:] != heaviest[:-1]]


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_breakpoints_hold_every_change_of_the_heaviest_component(seed):
    generator = np.random.default_rng(seed)
    weights, means = generator.random(5) + 1e-3, 3 * generator.standard_normal(5)
    variances = generator.choice([0.0, 0.1, 1.0, 3.0], 5)
    points = GaussianMixture(weights, means, variances).breakpoints(1.5)
    assert points is not None
    assert bool((points[1:] > points[:-1]).all())
    for place in envelope_switches(weights, means, variances, 1.5):
        assert float((points - place).abs().min()) < 2e-3


BAD = [
    (([-1, 2], [0, 1], 1), "non-negative"),
    (([0, 0], [0, 1], 1), "not all zero"),
    (([], [], 1), "weights"),
    (([math.nan, 1], [0, 1], 1), "weights must be finite"),
    (([1, 1], [0, math.inf], 1), "means must be finite"),
    (([1, 1], [0, 1, 2], 1), "means must have shape"),
    (([1, 1], [[[0]], [[1]]], 1), "means must have shape"),
    (([1, 1], [0, 1], [1]), "one entry per component"),
    (([1, 1], [0, 1], [1, -1]), "negative variance"),
    (([1, 1], [0, 1], -1), "negative variance"),
    (([1, 1], [0, 1], [1, math.nan]), "must be finite"),
    (([1], [[0, 1]], [[1, 1, 1]]), "covariance 0 must be"),
    (([1], [[0, 1]], [[[1, 2], [2, 1]]]), "positive semi-definite"),
    (([1], [[0, 1]], [[[1, 0], [0, -1]]]), "positive semi-definite"),
    (([1], [[0, 1]], [[[1, 0.5], [0.2, 1]]]), "not symmetric"),
]


@pytest.mark.parametrize(("law", "message"), BAD)
def test_bad_parameters_are_refused_in_one_line(law, message):
    with pytest.raises(ValueError, match=message) as caught:
        GaussianMixture(*law)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("means", [np.array([1j, 2]), np.array(["a", "b"]), np.array([None, 1]), torch.zeros(2) * 1j])
def test_means_that_are_no_real_numbers_are_refused(means):
    with pytest.raises(TypeError, match="means must be real numbers"):
        GaussianMixture([1, 1], means, 1)


def test_bad_queries_are_refused():
    law = GaussianMixture([1], [[0, 0]], 1)
    with pytest.raises(ValueError, match="snr must be positive"):
        law.localize(torch.zeros(3, 2, dtype=torch.float64), 0.0)
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        law.denoise(torch.zeros(3, 1, dtype=torch.float64), 1.0)
    with pytest.raises(ValueError, match="components must lie"):
        GaussianMixture.fit(np.zeros((3, 2)), 4)
    with pytest.raises(ValueError, match="overflow"):
        GaussianMixture([1], [1e200], 1, dtype=torch.float32)
