import pytest
import torch

from brenier.networks import jacobian


def matrices(spectrum: torch.Tensor, skew: float, count: int = 12, seed: int = 0) -> torch.Tensor:
    """Random matrices with eigenvalues as given, plus a perturbation that is not symmetric."""
    generator = torch.Generator().manual_seed(seed)
    d = len(spectrum)
    q = torch.linalg.qr(torch.randn(count, d, d, generator=generator, dtype=torch.float64))[0]
    noise = torch.randn(count, d, d, generator=generator, dtype=torch.float64)
    return q @ torch.diag(spectrum.double()) @ q.mT + skew * noise / d**0.5


def by_products(a: torch.Tensor, tolerance: float = 0.02, seed: int = 1) -> jacobian.Jacobian:
    generator = torch.Generator().manual_seed(seed)
    n, d = a.shape[:2]
    start = torch.randn(n, d, generator=generator, dtype=a.dtype)
    signs = (2 * torch.randint(2, (jacobian.PROBES, n, d), generator=generator) - 1).to(a)
    return jacobian.from_products(
        torch.zeros(n, d, dtype=a.dtype),
        lambda v: (a @ v[:, :, None])[..., 0],
        lambda u: (a.mT @ u[:, :, None])[..., 0],
        start,
        signs,
        tolerance,
        spectrum=True,
    )


SPECTRA = {
    "decaying": 0.9 / torch.arange(1, 101.0),
    "one outlier": torch.cat([torch.tensor([1.0]), 0.8 * torch.ones(20), 0.1 * torch.ones(79)]),
    "a cluster on top": torch.cat([torch.ones(3), 0.98 * torch.ones(5), 0.3 * torch.linspace(0, 1, 92)]),
    "without a gap": torch.linspace(1, 0, 100),
    "expanding": torch.cat([torch.tensor([9.0]), torch.linspace(1, 0, 99)]),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("skew", [0.0, 0.05])
def test_norm_from_products_is_the_largest_singular_value(name: str, skew: float) -> None:
    a = matrices(SPECTRA[name], skew)
    found, exact = by_products(a), torch.linalg.matrix_norm(a, 2)
    assert bool((found.norm <= exact * (1 + 1e-12)).all())
    assert bool((found.norm >= exact * (1 - 0.02)).all())
    assert bool((found.norm_error <= 0.02).all())
    image = (a @ found.direction[:, :, None])[..., 0]
    torch.testing.assert_close(image.norm(dim=1), found.norm)
    torch.testing.assert_close(found.direction.norm(dim=1), torch.ones(len(a), dtype=a.dtype))


def test_norm_to_a_tighter_tolerance() -> None:
    a = matrices(SPECTRA["without a gap"], 0.0)
    found = by_products(a, tolerance=1e-3)
    assert bool((found.norm / torch.linalg.matrix_norm(a, 2) > 1 - 1e-3).all())


@pytest.mark.parametrize("skew", [0.0, 0.1])
def test_trace_is_unbiased_and_its_error_is_the_right_size(skew: float) -> None:
    a = matrices(torch.linspace(1, 0, 60), skew, count=400)
    found = by_products(a)
    exact = a.diagonal(dim1=1, dim2=2).sum(1)
    difference = found.trace - exact
    root = float(found.trace_se.square().mean().sqrt())
    assert abs(float(difference.mean())) < 4 * root / 20
    assert float(difference.square().mean().sqrt()) == pytest.approx(root, rel=0.2)  # 400 differences: 3.5% each


def test_symmetric_value_and_asymmetry_and_negative_share() -> None:
    spectrum = torch.cat([torch.linspace(1, 0.5, 40), torch.linspace(-0.3, -0.5, 40)])
    a = matrices(spectrum, 0.05, count=200)
    found = by_products(a)
    exact = jacobian.from_dense(torch.zeros(200, 80, dtype=a.dtype), a, spectrum=True)
    torch.testing.assert_close(exact.norm, torch.linalg.matrix_norm(a, 2), rtol=1e-4, atol=0)
    assert bool((found.symmetric <= exact.symmetric + 1e-12).all())
    torch.testing.assert_close(found.symmetric, exact.symmetric, rtol=0.03, atol=0)
    skew = torch.linalg.matrix_norm(a - a.mT) / torch.linalg.matrix_norm(a)
    torch.testing.assert_close(exact.asymmetry, skew)
    # The squares of 200 single-vector estimates, of relative deviation about sqrt(2/80) each.
    assert float(found.asymmetry.square().mean() / skew.square().mean()) == pytest.approx(
        1, abs=4 * (2 / 80 / 200) ** 0.5
    )
    assert found.negative is not None
    assert exact.negative is not None
    assert float(exact.negative.mean()) == 0.5
    assert float(found.negative.mean()) == pytest.approx(0.5, abs=4 * float(found.negative.std()) / 200**0.5)


def test_a_symmetric_positive_jacobian_has_no_fault() -> None:
    a = matrices(SPECTRA["decaying"], 0.0)
    for found in (by_products(a), jacobian.from_dense(torch.zeros(12, 100, dtype=a.dtype), a, spectrum=True)):
        assert float(found.asymmetry.max()) < 1e-12
        assert found.negative is not None
        assert float(found.negative.max()) == 0
        torch.testing.assert_close(found.symmetric, found.norm, rtol=0.02, atol=0)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_huge_and_tiny_jacobians(scale: float) -> None:
    a = matrices(SPECTRA["without a gap"], 0.05, count=4)
    small, large = by_products(a), by_products(scale * a)
    torch.testing.assert_close(large.norm, scale * small.norm)
    torch.testing.assert_close(large.asymmetry, small.asymmetry)


def test_a_jacobian_of_zeros() -> None:
    zero = torch.zeros(3, 300, 300)
    for found in (by_products(zero), jacobian.from_dense(torch.zeros(3, 300), zero, spectrum=True)):
        for name in ("norm", "trace", "trace_se", "symmetric", "asymmetry", "negative"):
            assert getattr(found, name).tolist() == [0, 0, 0], name


def test_rank_one_and_nilpotent() -> None:
    """J = e_1 e_2^T: norm 1, trace 0, symmetric part +-1/2, as asymmetric as can be without being skew."""
    a = torch.zeros(2, 260, 260, dtype=torch.float64)
    a[:, 0, 1] = 1
    for found in (by_products(a), jacobian.from_dense(torch.zeros(2, 260, dtype=a.dtype), a, spectrum=True)):
        torch.testing.assert_close(found.norm, torch.ones(2, dtype=a.dtype))
    assert found.symmetric.tolist() == pytest.approx([0.5, 0.5])
    assert found.asymmetry.tolist() == pytest.approx([2**0.5, 2**0.5])
