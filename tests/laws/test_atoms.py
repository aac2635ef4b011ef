"""Sums over atoms: they merge in any order, and covariances come out without being formed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brenier.laws.atoms import SKETCH, SecondMoments, Subspace, Sums, covariance_norm, random_start


def normalised(generator, n, count):
    return torch.rand(n, count, generator=generator, dtype=torch.float64).softmax(1)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 99), st.floats(0, 400))
def test_sums_over_blocks_merge_to_the_sums_over_all_in_any_order(sizes, seed, spread):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, sum(sizes), generator=generator, dtype=torch.float64) * spread
    atoms = torch.randn(sum(sizes), 4, generator=generator, dtype=torch.float64)
    whole = Sums.of(logits, atoms)
    parts = [Sums.of(part, block) for part, block in zip(logits.split(sizes, 1), atoms.split(sizes), strict=True)]
    left = parts[0]
    for part in parts[1:]:
        left = left.merge(part)
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = part.merge(right)
    for merged in (left, right):
        torch.testing.assert_close(merged.peak, whole.peak)
        torch.testing.assert_close(merged.mass, whole.mass)
        torch.testing.assert_close(merged.square, whole.square)
        torch.testing.assert_close(merged.first, whole.first)
    weights = logits.softmax(1)
    torch.testing.assert_close(whole.first / whole.mass[:, None], weights @ atoms)
    torch.testing.assert_close(whole.mass**2 / whole.square, 1 / weights.square().sum(1))


@pytest.mark.parametrize("budget", [0, 2**30])
def test_covariances_by_second_moments_are_the_weighted_covariances(budget):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(5000, 6, generator=generator, dtype=torch.float64)
    weights = normalised(generator, 7, 5000)
    got, blurred = SecondMoments(atoms, budget).covariance(weights)
    for k in range(7):
        torch.testing.assert_close(got[k], torch.cov(atoms.T, aweights=weights[k], correction=0))
    assert not blurred.any()


def test_a_covariance_far_smaller_than_the_second_moment_is_reported_as_blurred():
    steps = torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.full((2, 100), 0.01, dtype=torch.float64)
    for size, dtype, told in ((3e-3, torch.float64, False), (1e-4, torch.float64, True), (1e-3, torch.float32, True)):
        atoms = 1 + size * steps
        found, blurred = SecondMoments(atoms, 2**20, dtype).covariance(weights)
        assert bool((blurred == told).all())
        if not told:
            torch.testing.assert_close(found[0], torch.cov(atoms.T, correction=0), rtol=1e-8, atol=1e-8 * size**2)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_covariance_norms_are_those_of_the_matrix_wherever_it_lies(offset):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(5000, 90, generator=generator, dtype=torch.float64) + offset  # two chunks
    weights = normalised(generator, 3, 5000)
    start = random_start(weights, atoms - offset, torch.randn(4, 5000, generator=generator, dtype=torch.float64))
    about = torch.full((3, 90), offset, dtype=torch.float64)
    value, error, vectors = covariance_norm(weights, atoms, start, 1e-8, about)
    for k in range(3):
        covariance = torch.cov(atoms.T, aweights=weights[k], correction=0)
        assert float(value[k]) == pytest.approx(float(torch.linalg.eigvalsh(covariance)[-1]), rel=1e-8)
        assert float((covariance @ vectors[k, 0] - value[k] * vectors[k, 0]).norm()) <= 1e-3 * float(value[k])
    assert error.max() <= 1e-8


def test_random_starts_have_the_covariance_of_the_atoms():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(50, 3, generator=generator, dtype=torch.float64) + 5
    weights = normalised(generator, 2, 50)
    start = random_start(weights, atoms, torch.randn(20_000, 50, generator=generator, dtype=torch.float64))
    for k in range(2):
        exact = torch.cov(atoms.T, aweights=weights[k], correction=0)
        torch.testing.assert_close(start[k].T @ start[k] / 20_000, exact, rtol=0, atol=0.05 * float(exact.trace()))


def test_the_leading_subspace_is_the_data_s_and_the_sketch_measures_the_rest():
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0, 6, 200, dtype=torch.float64).neg().exp()
    atoms = torch.randn(900, 200, generator=generator, dtype=torch.float64) * scale
    atoms -= atoms.mean(0)
    space = Subspace.of(atoms, atoms.square().sum(1))
    torch.testing.assert_close(space.basis.T @ space.basis, torch.eye(100, dtype=torch.float64))
    outside = atoms - space.atoms @ space.basis.T
    torch.testing.assert_close(outside.square().sum(1), space.outside)
    assert outside.square().sum() <= 1.05 * torch.linalg.svdvals(atoms)[100:].square().sum()  # nearly the best there is
    u = torch.randn(400, 900, generator=generator, dtype=torch.float64)
    ratio = (u @ space.sketch).square().sum(1) / (u @ outside).square().sum(1)
    assert ratio.mean() == pytest.approx(1, abs=0.15)  # one sketch for all u: its errors are shared
    assert ratio.std() <= 1.2 * (2 / SKETCH) ** 0.5
    assert ratio.sub(1).abs().max() < 4.5 * (2 / SKETCH) ** 0.5


def test_the_norm_outside_is_not_underestimated():
    generator = torch.Generator().manual_seed(1)
    atoms = torch.randn(600, 150, generator=generator, dtype=torch.float64)
    atoms -= atoms.mean(0)
    space = Subspace.of(atoms, atoms.square().sum(1))
    outside = atoms - space.atoms @ space.basis.T
    for spread in (0.1, 1.0, 3.0):
        weights = (spread * torch.randn(30, 600, generator=generator, dtype=torch.float64)).softmax(1)
        bound = space.norm_outside(weights, weights @ space.sketch)
        for k in range(30):
            covariance = torch.cov(outside.T, aweights=weights[k], correction=0)
            assert torch.linalg.matrix_norm(covariance, 2) <= bound[k]
