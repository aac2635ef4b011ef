"""Every route to the norm of a posterior's covariance, against float64 eigensolvers."""

import numpy as np
import pytest
import torch

from brenier.laws.empirical import Empirical

SNRS = [0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0]


def clusters(n, d, count, seed):
    """Normal clusters of width 0.3 about normal centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, d))
    return torch.from_numpy(centres[rng.integers(count, size=n)] + 0.3 * rng.standard_normal((n, d))).float()


def exact(points, y, snr):
    """Norms and traces in float64, matrix by matrix."""
    points, y = points.double(), y.double()
    weights = (-(y[:, None] - snr * points).square().sum(2) / 2).softmax(1)
    matrices = torch.stack([torch.cov(points.T, aweights=w, correction=0) * snr**2 for w in weights])
    return torch.linalg.eigvalsh(matrices)[:, -1], matrices.diagonal(dim1=1, dim2=2).sum(1)


@pytest.mark.parametrize("memory", [1.0, 2e-3])
@pytest.mark.parametrize(
    ("n", "d", "count"), [(40, 8, 1), (3000, 8, 10), (3000, 64, 200), (2000, 90, 1), (2000, 90, 10), (900, 300, 10)]
)
def test_the_stated_errors_cover(n, d, count, memory):
    points = clusters(n, d, count, seed=d)
    x, z = points[:8], torch.randn(8, d, generator=torch.Generator().manual_seed(1))
    path = Empirical(points, max_memory=memory).localize_path(x, z, SNRS)
    assert path.norm_error.max() <= 0.01
    for k, snr in enumerate(SNRS):
        norm, trace = exact(points, snr * x.double() + z.double(), snr)
        seen = norm > 1e-5
        error = (path.norm[k].double() / norm - 1).abs()[seen]
        assert bool((error <= path.norm_error[k][seen] + 1e-3).all())
        torch.testing.assert_close(path.trace[k][seen].double(), trace[seen], rtol=0.02, atol=0)


@pytest.mark.parametrize("d", [64, 90, 300])
@pytest.mark.parametrize("count", [1, 100, 600])
def test_atoms_at_the_query_have_mass_though_no_second_moment(d, count):
    """One point many times over among thousands of others: its distance is 0, and it may hold most of the posterior."""
    generator = torch.Generator().manual_seed(d)
    same = torch.randn(1, d, generator=generator).expand(count, d)
    points = torch.cat([same, torch.randn(3000, d, generator=generator) * 0.5])
    x, z = points[:2], torch.randn(2, d, generator=generator)
    snrs = [0.1, 0.3, 0.5, 0.8, 4.0]
    path = Empirical(points).localize_path(x, z, snrs)
    assert path.norm.isfinite().all()
    for k, snr in enumerate(snrs):
        norm, _ = exact(points, snr * x.double() + z.double(), snr)
        error = (path.norm[k].double() - norm).abs()
        assert bool((error <= (path.norm_error[k] + 1e-3) * norm + 1e-5).all())


def test_wide_data_go_through_more_leading_directions():
    """More than 1,024 dimensions, whose spectrum falls off like that of images."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.standard_normal((400, 1100)) * 8 / np.arange(1, 1101) ** 0.7).float()
    x, z = points[:4], torch.randn(4, 1100, generator=torch.Generator().manual_seed(1))
    snrs = [0.05, 0.2, 0.5]
    path = Empirical(points).localize_path(x, z, snrs)
    assert path.norm_error.max() <= 0.01
    for k, snr in enumerate(snrs):
        norm, _ = exact(points, snr * x.double() + z.double(), snr)
        seen = norm > 1e-5
        error = (path.norm[k].double() / norm - 1).abs()[seen]
        assert bool((error <= path.norm_error[k][seen] + 1e-3).all())


def test_workers_change_nothing_beyond_rounding():
    points = clusters(3000, 90, 10, seed=0)
    x, z = points[:8], torch.randn(8, 90, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = Empirical(points).localize_path(x, z, SNRS)
        torch.set_num_threads(3)
        three = Empirical(points).localize_path(x, z, SNRS)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(three.norm, one.norm, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(three.trace, one.trace, rtol=1e-4, atol=1e-6)


def test_narrow_posteriors_on_all_atoms_keep_their_digits():
    """Nearly all mass on one atom, others all as far from it: in float32 sums over atoms would be rounding."""
    points = torch.randn(1500, 300, generator=torch.Generator().manual_seed(3))
    x, z = points[:8], torch.randn(8, 300, generator=torch.Generator().manual_seed(4))
    snrs = [0.3, 0.35, 0.4]
    path = Empirical(points).localize_path(x, z, snrs)
    assert path.norm_error.max() <= 0.01
    for k, snr in enumerate(snrs):
        norm, _ = exact(points, snr * x.double() + z.double(), snr)
        seen = norm > 1e-12
        assert bool(seen.any())
        assert bool(((path.norm[k].double() / norm - 1).abs() <= path.norm_error[k] + 0.02)[seen].all())
