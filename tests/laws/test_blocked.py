import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brenier import Empirical, default_snrs
from brenier.laws.blocked import BlockedEmpirical


def mixture(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -0.6
    centres = rng.standard_normal((10, d)) * scale
    return (4 * (rng.standard_normal((n, d)) * scale + centres[rng.integers(10, size=n)])).astype(np.float32)


def noise(n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(2))


@settings(max_examples=12)
@given(st.sampled_from([1, 2, 5, 70]), st.integers(20, 400), st.integers(1, 400), st.integers(1, 3), st.integers(0, 9))
def test_blocks_change_nothing_beyond_rounding(d: int, n: int, size: int, threads: int, seed: int) -> None:
    data = mixture(n, d, seed).astype(np.float64)
    z, grid = noise(6, d).double(), [0.05, 0.3, 1.0, 4.0]
    whole = Empirical(data, tolerance=1e-5, dtype=torch.float64)
    x = whole.sample(6, seed)
    truth = whole.localize_path(x, z, grid)
    law = BlockedEmpirical.of(data, min(size, n), tolerance=1e-5, dtype=torch.float64)
    try:
        torch.set_num_threads(threads)
        found = law.localize_path(law.sample(6, seed), z, grid)
        mean = law.denoise(x + z, 1.0)
    finally:
        torch.set_num_threads(1)
    for name, least in (("norm", 3e-5), ("trace", 1e-3), ("ess", 1e-6)):
        torch.testing.assert_close(getattr(found, name), getattr(truth, name), rtol=least, atol=1e-7)
    torch.testing.assert_close(mean, whole.denoise(x + z, 1.0), rtol=0, atol=1e-8)
    assert float(found.norm_error.max()) <= 1e-5


def test_many_points_on_a_line_that_are_stored_in_float32_are_told_apart() -> None:
    data = np.random.default_rng(3).normal(size=(20_000, 1)).astype(np.float32)
    whole, law = Empirical(data), BlockedEmpirical.of(data, 3000)
    x, z, grid = whole.sample(16, 1), noise(16, 1).double(), [1.0, 1e3, 1e4, 1e5]
    truth, found = whole.localize_path(x, z, grid), law.localize_path(x, z, grid)
    some = truth.norm > 1e-6
    assert bool(some.any(1).all())
    apart = (found.norm / truth.norm - 1).abs()
    assert bool((apart <= found.norm_error + truth.norm_error)[some].all())
    assert float(found.norm_error.max()) <= 1e-4


@pytest.mark.parametrize(("n", "d"), [(2000, 2), (3000, 20), (2000, 100)])
def test_norms_are_those_of_data_in_memory(n: int, d: int) -> None:
    data = mixture(n, d)
    whole = Empirical(data, tolerance=1e-5)
    grid = default_snrs(whole, 10).tolist()
    x, z = whole.sample(16, 1), noise(16, d)
    truth = whole.localize_path(x, z, grid)
    ends = []
    for size in (n // 7, n):
        law = BlockedEmpirical.of(data, size)
        assert law.scales() == pytest.approx(whole.scales(), rel=0.01)
        torch.testing.assert_close(law.sample(16, 1), x, rtol=1e-6, atol=1e-6)
        found = law.localize_path(x, z, grid)
        assert bool(((found.norm - truth.norm).abs() <= (found.norm_error + 2e-5) * truth.norm + 1e-6).all())
        assert float(found.norm_error.max()) <= 0.01
        torch.testing.assert_close(found.ess, truth.ess, rtol=1e-4, atol=0)
        torch.testing.assert_close(found.trace, truth.trace, rtol=0.02, atol=1e-6)
        ends.append(found)
    torch.testing.assert_close(ends[0].norm, ends[1].norm, rtol=1e-4, atol=1e-6)


def test_where_more_is_asked_than_float32_tells_sums_are_in_float64() -> None:
    data, z = mixture(1500, 2900), noise(2, 2900)
    exact = Empirical(data, tolerance=1e-9, dtype=torch.float64)
    x, grid = exact.sample(2, 1), [0.06, 0.2, 0.4, 0.5]
    truth = exact.localize_path(x, z.double(), grid)
    assert float(truth.norm.min()) > 0.01
    for law in (Empirical(data, tolerance=1e-5), BlockedEmpirical.of(data, 400, tolerance=1e-5)):
        found = law.localize_path(x.float(), z, grid)
        for name in ("norm", "trace", "ess"):  # in float32, 4e-5 off
            torch.testing.assert_close(getattr(found, name).double(), getattr(truth, name), rtol=1e-5, atol=0)


def test_what_is_left_out_is_little_about_the_likeliest_atom_wherever_the_query_is() -> None:
    rng, d = np.random.default_rng(0), 80
    data = np.zeros((400, d))
    data[0, 0] = 100.0  # where the query says it is from; the posterior is near zero
    data[2:] = rng.normal(size=(398, d)) / d**0.5
    x, r = torch.from_numpy(data[:1]), 5.0
    z = -r * x  # so that y = 0
    weights = np.exp(-(r**2) / 2 * np.square(data).sum(1))
    weights /= weights.sum()
    mean = weights @ data
    covariance = (data - mean).T @ ((data - mean) * weights[:, None])
    norm, trace = r**2 * float(np.linalg.norm(covariance, 2)), r**2 * float(np.trace(covariance))
    for law in (Empirical(data, dtype=torch.float64), BlockedEmpirical.of(data, 150, dtype=torch.float64)):
        found = law.localize_path(x, z, [r])
        assert float(found.norm) == pytest.approx(norm, rel=0.01)
        assert float(found.trace) == pytest.approx(trace, rel=0.01)


def test_single_points_are_localized_and_denoised() -> None:
    data = mixture(500, 4)
    whole, law = Empirical(data), BlockedEmpirical.of(data, 60)
    y = whole.sample(7, 3) + noise(7, 4)
    one, other = law.localize(y, 1.0), whole.localize(y, 1.0)
    torch.testing.assert_close(one.norm, other.norm, rtol=0.01, atol=0)
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(law.score(y, 1.0), whole.score(y, 1.0), rtol=1e-4, atol=1e-4)


def test_a_law_far_from_zero_is_moved_there() -> None:
    data = mixture(300, 3).astype(np.float64) + 1e7
    whole, law = Empirical(data), BlockedEmpirical.of(data, 50)
    assert law.dtype == torch.float64
    torch.testing.assert_close(law.origin, whole.origin, rtol=1e-12, atol=0)
    near = law.moved(-law.origin)
    x, z = near.sample(5, 0), noise(5, 3).double()
    truth = whole.moved(-whole.origin).localize_path(x, z, [0.5, 2.0])
    torch.testing.assert_close(near.localize_path(x, z, [0.5, 2.0]).norm, truth.norm, rtol=0.01, atol=1e-9)
    rows = torch.tensor([7, 3])
    torch.testing.assert_close(law.take(rows), torch.from_numpy(data[[7, 3]]), rtol=1e-12, atol=0)


def test_bad_rows_and_arguments_are_refused() -> None:
    data = mixture(100, 3)
    data[[55, 57], 0] = np.nan, np.inf
    dask = pytest.importorskip("dask.array")
    with pytest.raises(ValueError, match="2 values are NaN or infinite in block 5, rows 55, 57"):
        BlockedEmpirical.of(dask.from_array(data, chunks=(10, 3)), 10)
    law = BlockedEmpirical.of(mixture(50, 3))
    with pytest.raises(ValueError, match="leave device out"):
        law.to("meta")
    with pytest.raises(ValueError, match="SNR must be positive"):
        law.denoise(torch.zeros(1, 3), 0.0)
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
        law.denoise(torch.zeros(1, 2), 1.0)
    with pytest.raises(ValueError, match="at least one point"):
        law.localize_path(torch.zeros(0, 3), torch.zeros(0, 3), [1.0])
    with pytest.raises(ValueError, match="tolerance"):
        BlockedEmpirical.of(mixture(50, 3), tolerance=2.0)
    with pytest.raises(ValueError, match="squares overflow"):
        BlockedEmpirical.of(np.array([[1e30, 0], [0, 1]]))


def test_past_the_collapse_norms_are_nothing_and_no_error() -> None:
    data = mixture(1500, 200)
    law, whole = BlockedEmpirical.of(data, 300), Empirical(data)
    x, z = law.sample(12, 0), noise(12, 200)
    grid = [4.0, 6.0, 10.0]  # where the mass that is left is 1e-30 and less, on many atoms
    found, truth = law.localize_path(x, z, grid), whole.localize_path(x, z, grid)
    assert bool(found.norm.isfinite().all())
    torch.testing.assert_close(found.norm, truth.norm, rtol=0.02, atol=1e-6)
