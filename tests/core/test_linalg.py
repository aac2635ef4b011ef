"""Operator norms against dense eigenvalues, in easy and in awkward cases."""

import numpy as np
import pytest
import torch

from brenier.core.linalg import norm_by_krylov, norm_by_squaring, principal_axes


def with_spectrum(eigenvalues, count=5, seed=0):
    """`count` random rotations of one diagonal matrix."""
    values = torch.tensor(eigenvalues, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn((count, len(values), len(values)), generator=generator, dtype=torch.float64))[0]
    return (axes * values) @ axes.mT


SPECTRA = {
    "one": [2.0],
    "separated": [3.0, 1.0, 0.5, 0.1],
    "close": [1.0, 0.999, 0.99, 0.5, 0.0],
    "degenerate": [1.0, 1.0, 1.0, 0.2, 0.1],
    "identity": [1.0] * 6,
    "rank one": [5.0, 0, 0, 0, 0, 0, 0],
    "decaying": [2.0**-i for i in range(20)],
}


def start_for(matrices):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(matrices), 2, matrices.shape[1], generator=generator, dtype=torch.float64).to(matrices.dtype)


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1.0, 1e12, 1e150])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
@pytest.mark.parametrize("more", [0, 10], ids=["few rows", "more rows"])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())
def test_squaring_encloses_the_norm(spectrum, more, tolerance, scale):
    matrices = with_spectrum(spectrum + [0.0] * more) * scale
    exact = torch.linalg.eigvalsh(matrices)[:, -1]
    lower, width, vectors = norm_by_squaring(matrices, tolerance)
    assert {part.dtype for part in (lower, width, vectors)} == {torch.float64}
    assert bool((width <= tolerance).all())
    assert bool((lower <= exact * (1 + 1e-12)).all())
    assert bool((lower * (1 + width) >= exact * (1 - 1e-12)).all())
    quotient = torch.einsum("ni,nij,nj->n", vectors, matrices, vectors) / vectors.square().sum(1)
    assert quotient.numpy() == pytest.approx(lower.numpy(), rel=1e-9)


@pytest.mark.parametrize("more", [0, 10])
def test_squaring_finds_the_leading_direction(more):
    matrices = with_spectrum([3.0, 1.0, 0.5] + [0.0] * more)
    _, _, vectors = norm_by_squaring(matrices, 1e-9)
    leading = torch.linalg.eigh(matrices)[1][:, :, -1]
    cosine = (vectors * leading).sum(1) / vectors.norm(dim=1)
    assert cosine.abs().numpy() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("more", [0, 10])
def test_squaring_of_zero_among_others(more):
    matrices = with_spectrum([1.0, 0.5, 0.1] + [0.0] * more)
    matrices[1] = 0
    lower, width, _ = norm_by_squaring(matrices, 1e-4)
    assert float(lower[1]) == 0
    assert float(width[1]) == 0
    assert lower[[0, 2, 3, 4]].numpy() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("more", [0, 10])
def test_squaring_in_float32(more):
    matrices = with_spectrum(SPECTRA["close"] + [0.0] * more, 50).float()
    exact = torch.linalg.eigvalsh(matrices.double())[:, -1]
    lower, width, _ = norm_by_squaring(matrices, 1e-4)
    assert bool((width <= 1e-4).all())
    assert lower.double().numpy() == pytest.approx(exact.numpy(), rel=1.1e-4)


def test_squaring_in_eighty_dimensions_of_all_sizes():
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn((20, 80, 30), generator=generator, dtype=torch.float64)
    matrices = factors @ factors.mT * torch.logspace(-30, 30, 20, dtype=torch.float64)[:, None, None]
    lower, _, _ = norm_by_squaring(matrices, 1e-6)
    assert lower.numpy() == pytest.approx(torch.linalg.eigvalsh(matrices)[:, -1].numpy(), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-100, 1e-12, 1.0, 1e12, 1e100])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())
def test_krylov_reaches_the_norm_from_below(spectrum, tolerance, scale):
    matrices = with_spectrum(spectrum) * scale
    exact = torch.linalg.eigvalsh(matrices)[:, -1]
    value, error, vectors = norm_by_krylov(
        lambda v, index: v @ matrices[index], start_for(matrices), tolerance=tolerance
    )
    assert bool((error <= tolerance).all())
    assert bool((value <= exact * (1 + 1e-12)).all())
    # The error is measured in the plane of the iteration, not certified: allow it a factor.
    assert value.numpy() == pytest.approx(exact.numpy(), rel=4 * tolerance)
    vector = vectors[:, 0]
    assert vector.norm(dim=1).numpy() == pytest.approx(1, rel=1e-9)
    quotient = torch.einsum("ni,nij,nj->n", vector, matrices, vector)
    assert quotient.numpy() == pytest.approx(value.numpy(), rel=1e-9)


def test_krylov_of_zero_among_others():
    matrices = with_spectrum([1.0, 0.5, 0.1])
    matrices[1] = 0
    value, error, _ = norm_by_krylov(lambda v, index: v @ matrices[index], start_for(matrices), tolerance=1e-6)
    assert float(value[1]) == 0
    assert float(error[1]) == 0
    assert value[[0, 2, 3, 4]].numpy() == pytest.approx(1, rel=4e-6)


def test_krylov_leaves_a_start_that_almost_misses_the_leading_axis():
    """One part in 10^6 of the leading direction is enough; an exact lower eigenvector is outside its contract."""
    matrices = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))[None]
    start = torch.tensor([[[1e-6, 1.0, 1e-6]]], dtype=torch.float64)
    value, _, _ = norm_by_krylov(lambda v, index: v @ matrices[index], start, tolerance=1e-13)
    assert float(value) == pytest.approx(3, rel=1e-9)


def test_krylov_passes_the_operators_it_asks_for():
    """Operators leave one by one: the indices always say which are still at work."""
    matrices = torch.cat([with_spectrum([1.0, 0.99, 0.98, 0.1], 1), with_spectrum([4.0, 0.0, 0.0, 0.0], 1)])
    seen = []

    def apply(vectors, index):
        assert len(vectors) == len(index)
        seen.append(index.tolist())
        return vectors @ matrices[index]

    value, _, _ = norm_by_krylov(apply, start_for(matrices)[:, :1], tolerance=1e-8)
    assert value.numpy() == pytest.approx([1, 4], rel=1e-7)
    assert seen[0] == [0, 1]
    assert seen[-1] == [0]


def test_principal_axes_are_the_two_directions_of_largest_variance():
    axes, share = principal_axes(np.diag([1.0, 4.0, 0.0, 3.0]))
    np.testing.assert_allclose(np.abs(axes), np.eye(4)[:, [1, 3]], atol=1e-15)
    np.testing.assert_allclose(share, [0.5, 0.375])
