import pytest
import torch

from brenier.transport.mongeampere.conjugate import conjugate, inverse
from brenier.transport.mongeampere.potentials import ConvexNetwork, Quadratic


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cluster_map(temperature):
    """From N(0, I) to eight clusters on a circle, all but a jump between them at low temperature."""
    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    slopes = 3 * torch.stack([angle.cos(), angle.sin()], 1)
    zero, factors = torch.zeros((), dtype=torch.float64), torch.zeros(8, 1, 2, dtype=torch.float64)
    log = torch.tensor(temperature, dtype=torch.float64).log()
    return ConvexNetwork(0.2 * torch.eye(2).double(), zero.expand(2), slopes, zero.expand(8), factors, zero + 1, log)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
def test_the_inverse_undoes_the_map(temperature):
    potential, y = cluster_map(temperature), draw(300, 2)
    found = inverse(potential, potential.gradient(y))
    torch.testing.assert_close(potential.gradient(found), potential.gradient(y), rtol=0, atol=1e-8)
    torch.testing.assert_close(found, y, rtol=0, atol=1e-6)


def test_the_conjugate_of_a_quadratic_in_closed_form():
    A = torch.tensor([[2.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    b, x = draw(2, seed=1), draw(6, 2, seed=2)
    potential = Quadratic(A, b)
    expected = (((x - b) @ torch.linalg.inv(A)) * (x - b)).sum(1) / 2
    torch.testing.assert_close(conjugate(potential, x, inverse(potential, x)), expected)


def test_fenchel_and_young():
    potential, x = cluster_map(0.3), 2 * draw(50, 2, seed=3)
    at = conjugate(potential, x, inverse(potential, x))
    for seed in range(4):
        other = draw(50, 2, seed=seed)
        assert bool((at + potential.value(other) >= (x * other).sum(1) - 1e-12).all())


def test_points_out_of_the_maps_range_are_counted():
    flat = cluster_map(0.5)
    flat.A = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.warns(UserWarning, match="1 of 2 points have no inverse"):
        inverse(flat, torch.tensor([[0.1, 0.2], [9.0, 0.0]], dtype=torch.float64))


def test_no_points():
    assert inverse(cluster_map(1.0), torch.zeros(0, 2, dtype=torch.float64)).shape == (0, 2)
