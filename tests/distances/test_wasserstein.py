"""Distances between samples against closed forms, other programs and the identities that W2 obeys."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brenier.distances.distance import Distance
from brenier.distances.wasserstein import debiased_w2, exact_w2, gelbrich, sinkhorn_divergence, sliced_w2, sorted_w2, w2
from brenier.laws.mixture import GaussianMixture

EVERY = [debiased_w2, exact_w2, gelbrich, sinkhorn_divergence, sliced_w2]
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 9)


def points(n, d, seed, dtype=torch.float64):
    return torch.randn((n, d), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def psd(d, seed):
    factor = points(d, d, seed)
    return factor @ factor.T / d


def mean_square(x):
    return float(x.square().sum(1).mean())


# What a distance says of itself.


def test_far_from_zero_the_error_is_that_of_a_square_root():
    distance = Distance.from_squared(4.0, 1e-4, method="", n=1)
    assert distance.value == 2
    assert distance.value_se == pytest.approx(1e-4 / 4, rel=1e-4)


@given(st.floats(-10, 10), st.floats(1e-3, 10))
def test_zero_is_covered_by_the_value_where_it_is_by_the_square(squared, error):
    distance = Distance.from_squared(squared, error, method="", n=1)
    gap = distance.value - 2 * distance.value_se
    assert gap == 0 or (gap > 0) == (squared > 2 * error) or abs(squared - 2 * error) < 1e-9
    assert distance.value + 2 * distance.value_se >= math.sqrt(max(squared + 2 * error, 0)) * (1 - 1e-12)


def test_the_unit_carries_through():
    plain, scaled = (Distance.from_squared(0.5, 0.1, method="", n=1, scale=scale) for scale in (1.0, 1e3))
    assert scaled.value == pytest.approx(1e3 * plain.value)
    assert scaled.value_se == pytest.approx(1e3 * plain.value_se)
    assert scaled.squared == pytest.approx(1e6 * plain.squared)
    assert scaled.squared_se == pytest.approx(1e6 * plain.squared_se)


# Samples as they are.


def test_sorted_by_hand():
    """A quarter of the mass has one step to go."""
    x = torch.tensor([[0.0], [1.0]])
    found = sorted_w2(x, x.flip(0), x_weights=[0.25, 0.75], y_weights=[2, 2])
    assert found.squared == pytest.approx(0.25)
    assert found.value == pytest.approx(0.5)
    assert found.method == "sorted"


@settings(max_examples=50)
@given(sizes, sizes, seeds)
def test_sorted_is_what_pot_finds_on_the_line(n, m, seed):
    x, y = points(n, 1, seed), points(m, 1, seed + 1)
    a, b = points(n, 1, seed + 2)[:, 0].exp(), points(m, 1, seed + 3)[:, 0].exp()
    expected = ot.emd2_1d(x[:, 0].numpy(), y[:, 0].numpy(), (a / a.sum()).numpy(), (b / b.sum()).numpy())
    assert sorted_w2(x, y, x_weights=a, y_weights=b).squared == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert exact_w2(x, y, x_weights=a, y_weights=b).squared == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_sorted_approaches_the_integral_of_quantiles():
    """Uniform on [0, 1] against exponential: int (u + log(1 - u))^2 du = 1/3 - 3/2 + 2 = 5/6."""
    u = (torch.arange(20000, dtype=torch.float64)[:, None] + 0.5) / 20000
    assert sorted_w2(u, -torch.log1p(-u)).squared == pytest.approx(5 / 6, abs=1e-3)


@settings(max_examples=50)
@given(sizes, st.integers(1, 4), seeds)
def test_a_convex_gradient_is_optimal(n, d, seed):
    x, matrix, shift = points(n, d, seed), psd(d, seed + 1), points(1, d, seed + 2)
    y = x @ matrix + shift
    assert exact_w2(x, y).squared == pytest.approx(mean_square(x - y), rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(sizes, sizes, sizes, seeds)
def test_it_is_a_metric(n, m, k, seed):
    x, y, z = points(n, 2, seed), points(m, 2, seed + 1), points(k, 2, seed + 2)
    assert exact_w2(x, y).value == pytest.approx(exact_w2(y, x).value, rel=1e-9)
    assert exact_w2(x, x.flip(0)).value == pytest.approx(0, abs=1e-7)
    assert exact_w2(x, z).value <= exact_w2(x, y).value + exact_w2(y, z).value + 1e-9


def test_over_a_rotated_product_it_adds_up():
    first, second = [points(4, 1, seed) for seed in (0, 1)], [points(4, 1, seed) for seed in (2, 3)]
    rotation = torch.linalg.qr(points(2, 2, 4))[0]
    x, y = (torch.cartesian_prod(pair[0][:, 0], pair[1][:, 0]) @ rotation for pair in (first, second))
    parts = [sorted_w2(a, b).squared for a, b in zip(first, second, strict=True)]
    assert exact_w2(x, y).squared == pytest.approx(sum(parts), rel=1e-9)


@pytest.mark.parametrize("distance", [sorted_w2, exact_w2, sinkhorn_divergence])
def test_points_of_no_weight_are_no_part_of_a_law(distance):
    x, y = points(6, 1, 0), points(5, 1, 1)
    more = torch.cat([x, torch.full((2, 1), 1e3, dtype=torch.float64)])
    weights = torch.tensor([1.0, 1, 2, 1, 1, 1, 0, 0], dtype=torch.float64)
    expected = distance(x, y, x_weights=weights[:6])
    assert distance(more, y, x_weights=weights).squared == pytest.approx(expected.squared, rel=1e-9)


def test_repeated_points_are_weights():
    x, counts = points(5, 2, 0), torch.tensor([1, 3, 2, 1, 4])
    y = points(7, 2, 1)
    expected = exact_w2(x, y, x_weights=counts).squared
    assert exact_w2(x.repeat_interleave(counts, 0), y).squared == pytest.approx(expected, rel=1e-9)
    assert sorted_w2(x[:, :1], x[:, :1].repeat_interleave(counts, 0), x_weights=counts).squared == 0


def test_the_bar_of_a_sample_is_that_of_its_potentials():
    """Between a point and a sample the influence of x is |x - p|^2."""
    x, p = points(500, 3, 0), torch.ones((1, 3), dtype=torch.float64)
    squares = (x - p).square().sum(1)
    for distance in (exact_w2, debiased_w2):
        found = distance(x, p)
        assert found.squared == pytest.approx(float(squares.mean()), rel=1e-9)
        assert found.squared_se == pytest.approx(float(squares.std()) / math.sqrt(500), rel=1e-9)
        assert found.value_se == pytest.approx(found.squared_se / (2 * found.value), rel=0.05)


# Laws behind samples.


def test_two_points_are_as_far_apart_as_they_are():
    x = torch.tensor([[1.0, 2.0]])
    y = torch.tensor([[4.0, 6.0]])
    for distance in (debiased_w2, exact_w2, gelbrich):
        found = distance(x, y.expand(5, 2))
        assert found.value == pytest.approx(5, rel=1e-6)
        assert found.value_se == pytest.approx(0, abs=1e-6)


def test_a_sample_is_no_distance_from_itself():
    x = points(300, 3, 0)
    assert abs(debiased_w2(x, x).squared) < 1e-12
    assert abs(gelbrich(x, x).squared) < 1e-12
    few = x[:50]
    tolerance = 1e-4 * 0.05 * 2 * mean_square(few)  # marginal error times epsilon
    assert abs(sinkhorn_divergence(few, few).squared) < tolerance


def test_paired_samples_tell_small_distances():
    """y = 1.01 x: the noise of the one is that of the other."""
    x = points(300, 4, 0)
    found = debiased_w2(x, 1.01 * x)
    assert found.value == pytest.approx(0.01 * math.sqrt(mean_square(x)), rel=0.05)
    assert found.value_se < 0.05 * found.value


@pytest.mark.parametrize("distance", [debiased_w2, gelbrich, sliced_w2])
@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8])
def test_the_unit_and_the_origin_do_not_matter(distance, scale):
    x, y = points(100, 3, 0), 2 * points(100, 3, 1)
    plain, moved = distance(x, y), distance(x * scale + 3 * scale, y * scale + 3 * scale)
    assert moved.value == pytest.approx(scale * plain.value, rel=1e-7)
    assert moved.value_se == pytest.approx(scale * plain.value_se, rel=1e-6)


def test_rotations_do_not_matter():
    x, y = points(100, 3, 0), points(100, 3, 1) @ psd(3, 2)
    rotation = torch.linalg.qr(points(3, 3, 3))[0]
    for distance in (debiased_w2, gelbrich):
        plain, turned = distance(x, y), distance(x @ rotation, y @ rotation)
        assert turned.squared == pytest.approx(plain.squared, rel=1e-7)
        assert turned.squared_se == pytest.approx(plain.squared_se, rel=1e-7)


def test_a_larger_sample_is_cut_to_the_smaller_one():
    x, y = points(100, 2, 0), points(260, 2, 1) + 2
    found = debiased_w2(x, y)
    assert found.n == 100
    assert abs(found.value - math.sqrt(8)) < 3 * found.value_se


@pytest.mark.parametrize("n", [2, 3, 5, 8, 17])
def test_few_points_give_a_wide_bar_and_no_error(n):
    for d in (1, 2):
        found = debiased_w2(points(n, d, 0), points(n, d, 1))
        assert math.isfinite(found.value)
        assert found.value_se > 0


@pytest.mark.parametrize("d", [1, 2])
def test_laws_of_few_values(d):
    """Fair coins against loaded ones: W2^2 = 0.3 * 2^2, with ties everywhere."""
    generator = torch.Generator().manual_seed(0)
    x, y = ((torch.rand((1024, d), generator=generator) < share).double() * 2 - 1 for share in (0.5, 0.8))
    x[:, 1:] = y[:, 1:] = 1.0
    found = debiased_w2(x, y)
    assert abs(found.squared - 1.2) < 2 * found.squared_se


def test_the_method_is_named():
    x, y = points(100, 2, 0), points(100, 2, 1)
    assert debiased_w2(x, y).method == "exact, 8 batches of 12, affine control variate"
    assert debiased_w2(x, y, batch=5).method == "exact, 20 batches of 5, affine control variate"
    assert debiased_w2(x[:, :1], y[:, :1]).method == "sorted, floor from halves, affine control variate"
    assert debiased_w2(x[:1], y).method == "exact, one law is a point"


# The others.


@settings(max_examples=30)
@given(st.integers(1, 3), seeds)
def test_gelbrich_is_exact_for_convex_quadratic_maps(d, seed):
    x, matrix, shift = points(40, d, seed), psd(d, seed + 1), points(1, d, seed + 2)
    y = x @ matrix + shift
    assert gelbrich(x, y).squared == pytest.approx(mean_square(x - y), rel=1e-6, abs=1e-9)


def test_gelbrich_between_gaussians():
    """Bures: for commuting covariances, the squared differences of standard deviations."""
    scales = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    errors = []
    for seed in range(20):
        found = gelbrich(points(400, 3, 2 * seed), points(400, 3, 2 * seed + 1) * scales)
        errors.append((found.squared - 1.25) / found.squared_se)
    assert np.sum(np.abs(errors) < 2) >= 16  # of 20 at 95%: fewer, once in 400 times
    assert abs(np.mean(errors)) < 3 / math.sqrt(20)


def test_gelbrich_is_a_lower_bound():
    x, y = points(200, 2, 0) ** 3, points(200, 2, 1)
    assert gelbrich(x, y).value < exact_w2(x, y).value


@pytest.mark.parametrize("reg", [None, 4.0])
def test_the_sinkhorn_divergence_of_a_shift_is_the_shift(reg):
    x, shift = points(40, 2, 0), torch.tensor([1.0, -0.5], dtype=torch.float64)
    assert sinkhorn_divergence(x, x + shift, reg=reg).squared == pytest.approx(1.25, rel=1e-4)


def test_the_sinkhorn_divergence_lies_between_transport_and_means():
    x, y = points(12, 2, 0), 2 * points(12, 2, 1) + 1
    scale = float(torch.cdist(x, y).square().mean())
    sharp, blunt = (sinkhorn_divergence(x, y, reg=share * scale).squared for share in (0.01, 1e3))
    assert sharp == pytest.approx(exact_w2(x, y).squared, rel=0.02)
    assert blunt == pytest.approx(float((x.mean(0) - y.mean(0)).square().sum()), rel=0.02)


def test_the_sinkhorn_divergence_is_that_of_pot_for_its_reg():
    x, y = points(30, 2, 0), points(20, 2, 1) + 1

    def value(u, v):
        return float(ot.solve(torch.cdist(u, v).square().numpy(), reg=2.0, reg_type="KL", tol=1e-10).value)

    expected = value(x, y) - (value(x, x) + value(y, y)) / 2
    assert sinkhorn_divergence(x, y, reg=2.0).squared == pytest.approx(expected, rel=1e-3)
    usual = float(torch.cdist(x, y).square().mean()) / 20
    assert sinkhorn_divergence(x, y).squared == pytest.approx(sinkhorn_divergence(x, y, reg=usual).squared, rel=1e-6)


def test_the_sinkhorn_divergence_of_one_point_from_itself():
    x = torch.ones((3, 2), dtype=torch.float64)
    assert sinkhorn_divergence(x, x[:1]).value == 0


def test_sliced_equals_w2_for_shifts_and_scalings_and_covers_it():
    shift = torch.tensor([1.0, 0.0, -1.0, 2.0], dtype=torch.float64)
    errors = []
    for seed in range(12):
        x, y = points(200, 4, 2 * seed), 1.5 * points(200, 4, 2 * seed + 1) + shift
        found = sliced_w2(x, y, projections=64, seed=seed)
        errors.append((found.squared - (6 + 4 * 0.25)) / found.squared_se)
    assert np.sum(np.abs(errors) < 2) >= 9  # of 12 at 95%: fewer, once in 400 times
    assert abs(np.mean(errors)) < 3 / math.sqrt(12)


def test_sliced_has_no_floor():
    found = sliced_w2(points(200, 8, 0), points(200, 8, 1), projections=64)
    assert abs(found.squared) < 2 * found.squared_se


def test_sliced_is_a_lower_bound():
    """On a line at cosine c to the first axis, standard deviations are 1 and sqrt(1 + 24 c^2), c uniform on [0, 1]."""
    c = (torch.arange(10**5, dtype=torch.float64) + 0.5) / 10**5
    truth = 3 * float((torch.sqrt(1 + 24 * c**2) - 1).square().mean())
    assert truth < (5 - 1) ** 2
    x, y = points(400, 3, 0), points(400, 3, 1) * torch.tensor([5.0, 1.0, 1.0], dtype=torch.float64)
    found = sliced_w2(x, y)
    assert abs(found.squared - truth) < 2 * found.squared_se


# Which one, and what is refused.


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("auto", "affine control variate"),
        ("debiased", "affine control variate"),
        ("exact", "exact"),
        ("sinkhorn", "Sinkhorn"),
        ("sliced", "sliced"),
        ("gelbrich", "Gelbrich"),
    ],
)
def test_the_method_asked_for_is_used(method, name):
    x, y = points(64, 2, 0), points(48, 2, 1) + 1
    found = w2(x, y, method=method, seed=3)
    assert name in found.method
    assert found == w2(x, y, method=method, seed=3)
    assert found.value == pytest.approx(math.sqrt(2), abs=0.6)


def test_on_the_line_it_sorts():
    x, y = points(2**15, 1, 0), 2 * points(2**15, 1, 1)
    found = w2(x, y)
    assert found.n == 2**15
    assert found.method.startswith("sorted")
    assert abs(found.value - 1) < 3 * found.value_se < 0.05
    assert w2(x, y, method="sorted").method == "sorted"


def test_many_points_are_cut_to_enough(monkeypatch):
    monkeypatch.setattr("brenier.distances.wasserstein._ENOUGH", 64)
    x = points(200, 2, 0)
    assert w2(x, points(100, 2, 1)).n == 64
    assert abs(w2(x, x).squared) < 1e-12  # rows keep their partners


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_work_is_done_in_double_precision(dtype):
    x, y = points(50, 2, 0, dtype), points(50, 2, 1, dtype)
    assert w2(x, y) == w2(x.double(), y.double())


@pytest.mark.parametrize("distance", [*EVERY, sorted_w2, w2])
def test_arrays_lists_and_tensors_are_the_same(distance):
    d = 1 if distance is sorted_w2 else 2
    x, y = points(12, d, 0), points(9, d, 1)
    expected = distance(x, y)
    assert distance(x.numpy(), y.numpy()) == distance(x.tolist(), y) == expected
    whole = [[k] * d for k in range(8)]
    assert distance(whole, y) == distance(np.array(whole), y) == distance(torch.tensor(whole).double(), y)


@pytest.mark.parametrize("distance", [sorted_w2, exact_w2, sinkhorn_divergence])
def test_weights_are_taken_as_points_are(distance):
    x, y, a = points(5, 1, 0), points(4, 1, 1), [1, 0, 3, 2, 1]
    found = [distance(x, y, x_weights=kind(a), y_weights=[1.0] * 4) for kind in (list, np.array, torch.tensor)]
    assert found[0] == found[1] == found[2] == distance(x, y, x_weights=a)


@pytest.mark.parametrize("distance", [*EVERY, sorted_w2, w2])
def test_bad_points_are_refused(distance):
    d = 1 if distance is sorted_w2 else 2
    x, y = points(6, d, 0), points(6, d, 1)
    for bad in (float("nan"), float("inf")):
        broken = y.clone()
        broken[3, 0] = bad
        with pytest.raises(ValueError, match="y holds values that are not finite, first in row 3"):
            distance(x, broken)
    with pytest.raises(ValueError, match=r"x has shape \(6, \d\) and y \(6, 3\): both must have the same number"):
        distance(x, points(6, 3, 1))
    with pytest.raises(ValueError, match=r"x has shape \(6,\): points are the rows"):
        distance(x[:, 0], y)
    with pytest.raises(ValueError, match="0 points in y are too few"):
        distance(x, y[:0])
    with pytest.raises(TypeError):
        distance(x, y.to(torch.complex128))


@pytest.mark.parametrize("distance", [sorted_w2, exact_w2, sinkhorn_divergence])
def test_bad_weights_are_refused(distance):
    x, y = points(3, 1, 0), points(2, 1, 1)
    with pytest.raises(ValueError, match=r"weights of x have shape \(2,\): 3 points"):
        distance(x, y, x_weights=torch.ones(2))
    for weights in ([1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="the weights of y must be finite and not negative"):
            distance(x, y, y_weights=weights)
    with pytest.raises(ValueError, match="all the weights of y are zero"):
        distance(x, y, y_weights=[0, 0])


def test_what_does_not_fit_is_refused():
    x, y = points(5, 2, 0), points(5, 2, 1)
    with pytest.raises(ValueError, match="for laws on the line"):
        sorted_w2(x, y)
    with pytest.raises(ValueError, match="too large a problem: use w2"):
        exact_w2(points(8000, 1, 0), points(8000, 1, 1))
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        debiased_w2(x, y, batch=0)
    with pytest.raises(ValueError, match="at least 2 projections, got 1"):
        sliced_w2(x, y, projections=1)
    with pytest.raises(ValueError, match=r"reg must be positive and finite, got 0\.0"):
        sinkhorn_divergence(x, y, reg=0.0)
    with pytest.raises((ValueError, TypeError)):
        w2(x, y, method="emd")


# Laws.


def test_explicit_laws_on_the_line_are_integrated():
    a, b = GaussianMixture([1], [0], 1.0), GaussianMixture([0.5, 0.5], [-1, 1], 0.0)
    found = w2(a, b)
    assert found.method == "quantile quadrature"
    assert found.value_se == 0
    assert found.value == pytest.approx(math.sqrt(2 - 2 * math.sqrt(2 / math.pi)), rel=1e-9)


def test_other_laws_are_sampled():
    a, b = GaussianMixture([1], [[0.0, 0]], 1.0), GaussianMixture([1], [[3.0, 0]], 4.0)
    for found in (w2(a, b), w2(a, b.sample(1000, 5)), w2(a.sample(1000, 6), b)):
        assert "affine control variate" in found.method
        assert abs(found.squared - 11) < 3 * found.squared_se
    line = GaussianMixture([1], [0], 1.0)
    assert abs(w2(line, line, method="debiased").squared) < 0.01


def test_quantiles_are_those_of_laws():
    with pytest.raises(ValueError, match="give two explicit laws on the line, or another method"):
        w2(points(5, 1, 0), points(5, 1, 1), method="quantiles")
    plane = GaussianMixture([1], [[0.0, 0]], 1.0)
    with pytest.raises(ValueError, match="no explicit distribution on the line: use samples"):
        w2(plane, plane, method="quantiles")
