import pytest
import torch

from brenier.transport.mongeampere.potentials import (
    ConvexNetwork,
    Features,
    Framed,
    Quadratic,
    Standardised,
    detached,
    fit_quadratic,
)
from brenier.transport.mongeampere.whitening import Affine, Triangular


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def definite(d):
    W = draw(d, d, seed=9)
    return W @ W.T + 0.1 * torch.eye(d, dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def network(d):
    return ConvexNetwork(
        definite(d), draw(d), draw(6, d, seed=1), draw(6, seed=2), draw(6, 2, d, seed=3), number(0.7), number(-0.5)
    )


def every_potential(d):
    features = Features(definite(d), draw(d), draw(5, d, seed=1), number(0.8), draw(5, seed=2))
    wrapped = Standardised(network(d), draw(d, seed=4), 2.0, draw(d, seed=5), 0.3)
    return [Quadratic(definite(d), draw(d)), network(d), features, wrapped]


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", range(4))
def test_gradient_and_hessian_are_autograds(d, kind):
    potential, y = every_potential(d)[kind], draw(4, d, seed=7).requires_grad_(True)
    (gradient,) = torch.autograd.grad(potential.value(y).sum(), y)
    torch.testing.assert_close(potential.gradient(y).detach(), gradient)
    for row, hessian in zip(y.detach(), potential.hessian(y.detach()), strict=True):
        expected = torch.autograd.functional.hessian(lambda v: potential.value(v[None])[0], row)
        torch.testing.assert_close(hessian, expected)


@pytest.mark.parametrize(
    "whitening",
    [
        Affine(draw(3, seed=4), torch.linalg.cholesky(definite(3))),
        Triangular(*(draw(*free.shape, seed=5) * free / 3 for free in Triangular.free(3))),
    ],
    ids=["affine", "triangular"],
)
def test_a_framed_map_has_the_jacobian_and_the_determinant_that_it_says(whitening):
    potential, y = Framed(network(3), whitening), draw(4, 3, seed=7)
    for row, jacobian, logs in zip(y, potential.hessian(y), potential.log_determinant(y), strict=True):
        expected = torch.autograd.functional.jacobian(lambda v: potential.gradient(v[None])[0], row)
        torch.testing.assert_close(jacobian, expected)
        torch.testing.assert_close(logs, torch.linalg.det(expected).log())
    torch.testing.assert_close(potential.outward(potential.inward(y)), y)


@pytest.mark.parametrize("d", [1, 3])
def test_a_network_is_convex_wherever_one_looks(d):
    y = 5 * draw(500, d, seed=8)
    flat = ConvexNetwork(0 * definite(d), *list(network(d).arrays().values())[1:])
    assert flat.least_curvature(y) > -1e-12


def test_the_mean_of_networks_has_their_mean_parameters_and_is_convex():
    one, two = network(3), ConvexNetwork(*(0.9 * value for value in network(3).arrays().values()))
    mean = ConvexNetwork.mean([one, two], [1.0, 3.0])
    torch.testing.assert_close(mean.slopes, 0.25 * one.slopes + 0.75 * two.slopes)
    assert mean.least_curvature(3 * draw(200, 3, seed=8)) > 0


def test_value_and_gradient_at_once_are_those_apart():
    potential, y = network(3), draw(9, 3, seed=6)
    value, gradient = potential.both(y)
    torch.testing.assert_close(value + potential.quadratic.value(y), potential.value(y))
    torch.testing.assert_close(gradient + potential.quadratic.gradient(y), potential.gradient(y))


def test_log_determinants_are_slogdets_and_nan_where_it_is_not_convex():
    y = draw(20, 3, seed=7)
    for potential in every_potential(3):
        hessian = potential.hessian(y)
        good = torch.linalg.eigvalsh(hessian)[:, 0] > 0
        found = potential.log_determinant(y)
        torch.testing.assert_close(found[good], torch.linalg.slogdet(hessian[good])[1])
        assert bool(found[~good].isnan().all())
    assert not bool(good.all()) or every_potential(3)[2].least_curvature(y) < 0


def test_a_network_starts_as_the_quadratic_that_it_is_given():
    quadratic, y = Quadratic(definite(2), draw(2)), draw(10, 2, seed=1)
    start = ConvexNetwork.start(quadratic, 4, 2, draw(4, 2, seed=2))
    torch.testing.assert_close(start.gradient(y), quadratic.gradient(y))


@pytest.mark.parametrize("d", [1, 4])
def test_the_quadratic_fit_finds_a_quadratic_and_else_the_least_squares_symmetric_one(d):
    y, exact = draw(30, d, seed=3), Quadratic(definite(d), draw(d))
    weights = draw(30, seed=4).abs()
    found = fit_quadratic(y, exact.gradient(y), weights)
    torch.testing.assert_close(found.A, exact.A)
    torch.testing.assert_close(found.b, exact.b)
    t = torch.sin(2 * y)
    best = fit_quadratic(y, t, weights)
    least = (weights[:, None] * (best.gradient(y) - t) ** 2).sum()
    for seed in range(5):
        change = draw(d, d, seed=seed)
        other = Quadratic(best.A + 0.1 * (change + change.T), best.b + 0.1 * draw(d, seed=seed + 9))
        assert (weights[:, None] * (other.gradient(y) - t) ** 2).sum() > least


def test_a_detached_copy_shares_nothing():
    potential = network(2)
    copy = detached(potential)
    copy.slopes += 1
    assert float((potential.slopes - copy.slopes).abs().max()) == 1
