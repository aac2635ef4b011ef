"""Data as a law, against a float64 brute force and against the mixture of point masses at the same atoms."""

import numpy as np
import pytest
import torch

from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture

SNRS = [1e-4, 0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0]
QUERIES = 16


def brute_force(atoms, weights, y, snr):
    """Mean, norm, trace and effective sample size, in float64 with matrices formed query by query."""
    atoms, y = atoms.double(), y.double()
    logits = weights.double().log() - (y[:, None] - snr * atoms).square().sum(2) / 2
    w = logits.softmax(1)
    mean = w @ atoms
    steps = snr * (atoms - mean[:, None])
    covariance = (w[:, :, None] * steps).mT @ steps
    norm = torch.linalg.eigvalsh(covariance)[:, -1]
    return mean, norm, covariance.diagonal(dim1=1, dim2=2).sum(1), 1 / w.square().sum(1)


def cloud(n, d, seed=0, offset=0.0):
    """Points with unequal spread along the axes, duplicates, unequal weights and a weight of zero."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, d, generator=generator) * torch.linspace(2, 0.1, d) + offset
    points[10:20] = points[30:40]
    weights = torch.rand(n, generator=generator, dtype=torch.float64)
    weights[:3] = 0
    queries = points[torch.randint(3, n, (40,), generator=generator)][:QUERIES]
    return points, weights / weights.sum(), queries, torch.randn(40, d, generator=generator)[:QUERIES]


def relative(got, expected, floor=1e-5):
    """Largest error relative to the value, or to the floor where a value is smaller: a posterior has collapsed."""
    return float(((got.double() - expected.double()).abs() / expected.double().abs().clamp_min(floor)).max())


@pytest.mark.parametrize(("n", "d"), [(200, 1), (200, 3), (300, 20), (400, 100), (400, 200)])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_float32_agrees_with_brute_force_at_every_snr(n, d, offset):
    points, weights, x, z = cloud(n, d, offset=offset)
    target = Empirical(points, weights, tolerance=1e-5, dropped=1e-10)
    path = target.localize_path(x, z, SNRS)
    for k, snr in enumerate(SNRS):
        y = snr * x.double() + z.double()
        mean, norm, trace, ess = brute_force(points, weights, y, snr)
        assert relative(path.norm[k], norm) < 1e-4
        assert relative(path.trace[k], trace) < 1e-4
        assert relative(path.ess[k], ess) < 1e-4
        point = target.localize(y, snr)
        assert relative(point.norm, norm) < 1e-4
        assert relative(point.trace, trace) < 1e-4
        assert float((point.mean - mean).abs().max()) < 1e-4  # of a spread of about 1; float32 ends at 4e-6 near 50
        torch.testing.assert_close(target.denoise(y, snr), point.mean)


@pytest.mark.parametrize(("n", "d"), [(120, 2), (150, 12)])
def test_it_is_the_mixture_of_point_masses_at_its_atoms(n, d):
    points, weights, x, z = cloud(n, d)
    target = Empirical(points, weights, tolerance=1e-6, dropped=1e-10)
    mixture = GaussianMixture(weights, points.double(), 0.0)
    path = target.localize_path(x, z, SNRS)
    for k, snr in enumerate(SNRS):
        exact = mixture.localize(snr * x.double() + z.double(), snr)
        assert relative(path.norm[k], exact.norm) < 1e-4
        assert relative(path.trace[k], exact.trace) < 1e-4


@pytest.mark.parametrize(("n", "d"), [(300, 20), (400, 200)])
def test_the_stated_error_covers_the_true_one(n, d):
    points, weights, x, z = cloud(n, d)
    path = Empirical(points, weights, tolerance=0.01, dropped=1e-10).localize_path(x, z, SNRS)
    assert path.norm_error.max() <= 0.01
    for k, snr in enumerate(SNRS):
        norm = brute_force(points, weights, snr * x.double() + z.double(), snr)[1]
        significant = norm > 1e-5
        if not significant.any():
            continue
        error = 1 - path.norm[k][significant].double() / norm[significant]
        stated = path.norm_error[k][significant].double()
        assert float((error.abs() - stated).amax()) <= 1e-4  # rounding


def test_tight_clusters_far_apart_keep_their_own_scale():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(400, 5, generator=generator, dtype=torch.float64) * 1e-3
    points[200:] += 1
    target = Empirical(points.float(), tolerance=1e-5)
    points = points.float()
    z = torch.randn(20, 5, generator=generator)
    path = target.localize_path(points[:20], z, [300.0, 1000.0])
    for k, snr in enumerate([300.0, 1000.0]):
        y = snr * points[:20].double() + z.double()
        norm = brute_force(points, torch.full((400,), 1 / 400), y, snr)[1]
        assert relative(path.norm[k], norm) < 1e-3  # float32 atoms: 6e-8 of a spread of 1, against steps of 1e-3


@pytest.mark.parametrize("d", [3, 90])
def test_in_float64_the_snr_keeps_its_digits(d):
    """0.1 is no number of float32: its square would be off by 3e-8."""
    points, weights, x, z = cloud(300, d)
    points, x, z = points.double(), x.double(), z.double()
    path = Empirical(points, weights, tolerance=1e-9, dropped=0, dtype=torch.float64).localize_path(x, z, [0.1])
    _, norm, trace, _ = brute_force(points, weights, 0.1 * x + z, 0.1)
    assert relative(path.norm[0], norm) < 2e-9
    assert relative(path.trace[0], trace) < 2e-9


def test_many_points_on_a_line_are_told_apart():
    """float32 would round a place to a hundredth of the distance to the next."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(20_000, 1, generator=generator, dtype=torch.float64)
    z = torch.randn(30, 1, generator=generator, dtype=torch.float64)
    snrs = [3.0, 1e4, 4e4, 1e5]
    path = Empirical(points).localize_path(points[:30], z, snrs)
    for k, snr in enumerate(snrs):
        norm = brute_force(points, torch.full((len(points),), 1 / len(points)), snr * points[:30] + z, snr)[1]
        some = norm > 1e-3
        assert bool(some.any())
        assert relative(path.norm[k][some], norm[some]) < 2e-4
        assert bool(((path.norm[k] / norm - 1).abs() <= path.norm_error[k])[some].all())


@pytest.mark.parametrize("d", [3, 80])
def test_memory_changes_nothing_beyond_rounding(d):
    points, weights, x, z = cloud(300, d)
    large = Empirical(points, weights).localize_path(x, z, SNRS)
    small = Empirical(points, weights, max_memory=2e5 / 2**30).localize_path(x, z, SNRS)
    assert Empirical(points, weights, max_memory=2e5 / 2**30)._rows() < 10
    torch.testing.assert_close(small.norm, large.norm, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(small.trace, large.trace, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(small.ess, large.ess)


@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e30])
def test_the_localization_has_no_unit(scale):
    points, weights, x, z = cloud(200, 4)
    one = Empirical(points, weights).localize_path(x, z, [0.5, 2.0])
    other = Empirical(points.double() * scale, weights).localize_path(
        x.double() * scale, z.double(), [0.5 / scale, 2.0 / scale]
    )
    torch.testing.assert_close(other.norm, one.norm, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(other.ess, one.ess, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "data",
    [[3.7], [[0.1, -5e6]], np.full((100_000, 1), 0.1), np.full((500, 3), 1e6), np.ones((90, 70), dtype=bool)],
    ids=["one-number", "one-point", "many-identical", "large", "boolean"],
)
def test_identical_points_have_no_localization(data):
    target = Empirical(data)
    path = target.localize_path(target.sample(5), torch.randn(5, target.dim), [1e-3, 1.0, 1e3])
    assert path.norm.abs().max() == 0
    assert path.trace.abs().max() == 0
    assert target.scales() == (1, 1)
    torch.testing.assert_close(target.denoise(torch.zeros(1, target.dim), 1.0), target.data[:1])


@pytest.mark.parametrize(("n", "d"), [(2, 1), (40, 3), (80, 70), (500, 70)])
def test_equally_likely_atoms_are_all_counted(n, d):
    """At r = 1e-4 every atom has the same weight, and Cov[rX | y] is r^2 times the data's covariance."""
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    found = Empirical(points, tolerance=1e-4).localize(torch.zeros(3, d), 1e-4)
    covariance = torch.cov(points.double().T, correction=0).reshape(d, d)
    assert found.norm.double() * 1e8 == pytest.approx(float(torch.linalg.matrix_norm(covariance, 2)), rel=1e-3)
    assert found.ess == pytest.approx(n, rel=1e-3)
    assert float(found.norm_error.max()) <= 1e-3


def test_constant_columns_change_nothing():
    points, weights, x, z = cloud(200, 3)
    wider = torch.cat([points, torch.full((200, 2), 0.3)], 1)
    path = Empirical(points, weights, tolerance=1e-5).localize_path(x, z, SNRS)
    other = Empirical(wider, weights, tolerance=1e-5).localize_path(
        torch.cat([x, torch.full((QUERIES, 2), 0.3)], 1), torch.cat([z, torch.randn(QUERIES, 2)], 1), SNRS
    )
    torch.testing.assert_close(other.norm, path.norm, rtol=1e-4, atol=1e-6)


def test_integers_are_numbers():
    counts = np.arange(12).reshape(6, 2) % 5
    torch.testing.assert_close(Empirical(counts).data, torch.tensor(counts, dtype=torch.float32))


def test_images_keep_their_shape():
    target = Empirical(np.random.default_rng(0).random((5, 4, 3, 2)))
    assert (target.event_shape, target.dim) == ((4, 3, 2), 24)


def test_samples_follow_the_weights():
    target = Empirical([0.0, 1.0, 2.0], [0.2, 0.3, 0.5])
    counts = torch.bincount(target.sample(20_000, seed=3)[:, 0].round().long(), minlength=3)
    assert counts.double() / 20_000 == pytest.approx(np.array([0.2, 0.3, 0.5]), abs=0.015)  # four standard errors


def test_a_split_parts_the_atoms():
    points = torch.arange(50.0)[:, None]
    law, held = Empirical(points).split(0.2, seed=1)
    assert (len(law), len(held)) == (40, 10)
    both = torch.cat([law.data, held]).sort(dim=0)[0]
    torch.testing.assert_close(both, points)


def test_scales_are_the_gap_between_neighbours_and_the_spread():
    """A 2-D lattice of pitch 0.5: neighbours at 0.5, variance (n^2 - 1) pitch^2/12 along each axis."""
    side = torch.arange(20) * 0.5
    smallest, largest = Empirical(torch.cartesian_prod(side, side)).scales()
    assert smallest == pytest.approx(0.5, rel=1e-5)
    assert largest == pytest.approx(np.sqrt(399 / 12) * 0.5, rel=1e-3)


def test_moving_to_another_precision_moves_nothing():
    points, weights, _, _ = cloud(50, 3)
    wide = Empirical(points, weights).to(dtype=torch.float64)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.data.float(), Empirical(points, weights).data)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Empirical(np.zeros((0, 3))), ValueError, "at least one point"),
        (lambda: Empirical(np.zeros((3, 0))), ValueError, "at least one point"),
        (lambda: Empirical(np.float64(3)), ValueError, "at least one point"),
        (lambda: Empirical([[0.0, np.nan], [1, 2]]), ValueError, "1 of 2 points hold NaN or infinity"),
        (lambda: Empirical([[0.0], [np.inf]]), ValueError, "the first is number 1"),
        (lambda: Empirical(np.array([1j, 2])), TypeError, "real numbers"),
        (lambda: Empirical(np.array(["a", "b"])), TypeError, "real numbers"),
        (lambda: Empirical(np.array([None, 1], dtype=object)), TypeError, "real numbers"),
        (lambda: Empirical([1.0, 2.0], [1, -1]), ValueError, "not negative"),
        (lambda: Empirical([1.0, 2.0], [0, 0]), ValueError, "all weights are zero"),
        (lambda: Empirical([1.0, 2.0], [1, 1, 1]), ValueError, r"need shape \(2,\)"),
        (lambda: Empirical([1.0, 2.0], [1, np.nan]), ValueError, "finite"),
        (lambda: Empirical([1.0, 2.0], tolerance=0.0), ValueError, "tolerance"),
        (lambda: Empirical([1.0, 2.0], dropped=1.0), ValueError, "dropped"),
        (lambda: Empirical([1.0, 2.0], max_memory=0.0), ValueError, "max_memory"),
        (lambda: Empirical([[1.0, 2.0]], event_shape=(3,)), ValueError, "event_shape"),
        (lambda: Empirical([1.0, 2.0]).localize(torch.zeros(1, 1), 0.0), ValueError, "SNR"),
        (lambda: Empirical([1.0, 2.0]).localize(torch.zeros(1, 2), 1.0), ValueError, r"shape \(n, 1\)"),
        (lambda: Empirical([1.0, 2.0]).localize(torch.zeros(0, 1), 1.0), ValueError, "no queries"),
        (lambda: Empirical([1.0, 2.0]).split(0.1), ValueError, "at least one of each"),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
