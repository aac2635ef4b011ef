"""The equation on a grid against quantile maps, Bures's map, rotations of products and identities."""

import math
import re

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import sqrtm

from brenier.laws.line.quantiles import Quantiles
from brenier.laws.mixture import GaussianMixture
from brenier.transport.mongeampere.grid.equation import Box, Equation
from brenier.transport.mongeampere.grid.solve import find_box, solve_on_grid
from brenier.transport.mongeampere.grid.splines import GridPotential
from brenier.transport.mongeampere.laws import find_marginal
from brenier.transport.mongeampere.marginal import Marginal, standard_normal

NEAR = GaussianMixture([0.4, 0.6], [-1.0, 1.0], [[0.25], [0.36]])  # modes that overlap
APART = GaussianMixture([0.3, 0.7], [-4.0, 2.0], [[0.09], [0.5]])  # a gap with a density of 1e-9
LINE = torch.linspace(-3.5, 3.5, 701, dtype=torch.float64)[:, None]


def quantile_map(law: GaussianMixture, z: np.ndarray) -> np.ndarray:
    """From N(0, 1)."""
    return Quantiles(law, np.ones(1), np.zeros(1))(z)[0]


def rms(error: torch.Tensor) -> float:
    return math.sqrt(float(error.square().sum(1).mean()))


def normal_points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# The right side of the equation


@pytest.mark.parametrize("dim", [1, 2])
def test_the_jacobian_is_that_of_the_rate(dim: int) -> None:
    law = find_marginal(GaussianMixture([0.5, 0.5], np.full((2, dim), 1.0) * [[1], [-1]], 0.4))
    box, image = Box(np.full(dim, -4.0), np.full(dim, 3.0)), Box(np.full(dim, -3.0), np.full(dim, 3.5))
    equation = Equation(standard_normal(dim), law, box, image, 9)
    rng = np.random.default_rng(0)
    psi = equation.start + 0.02 * rng.normal(size=equation.start.shape)
    nodes = equation.nodes(psi)
    _, jacobian = equation.linearise(psi, nodes)
    ahead = rng.normal(size=psi.shape)
    h = 1e-6
    difference = (equation.rate(psi + h * ahead, nodes) - equation.rate(psi - h * ahead, nodes)) / (2 * h)
    np.testing.assert_allclose(jacobian @ ahead, difference, atol=1e-6 * abs(difference).max())
    assert equation.rate(-psi, nodes) is None


@pytest.mark.parametrize("dim", [1, 2])
def test_no_mass_is_lost(dim: int) -> None:
    """The images tile the target's box: with the rates r_i, sum m_i exp(r_i) is the whole of its mass."""
    law = find_marginal(GaussianMixture([0.5, 0.5], np.full((2, dim), 1.0) * [[1], [-1]], 0.4))
    box = find_box(law)
    equation = Equation(standard_normal(dim), law, find_box(standard_normal(dim)), box, 24)
    psi = equation.start + 0.01 * np.random.default_rng(0).normal(size=equation.start.shape)
    rate = equation.rate(psi, equation.nodes(psi))
    assert equation.mass @ np.exp(rate) == pytest.approx(1, abs=1e-5)


def test_the_rate_is_that_of_the_equation() -> None:
    """At the centre of a cell, to second order, for psi = y'Ay/2 + sin(y_1) cos(y_2)/4 inside the box."""
    law = find_marginal(GaussianMixture([1], [[0.5, -0.3]], [[[1.2, 0.3], [0.3, 0.7]]]))
    box, image = Box(np.full(2, -3.0), np.full(2, 3.0)), Box(np.full(2, -5.0), np.full(2, 5.0))
    errors = []
    for cells in (40, 120):  # the centres of the larger cells are those of every third of the smaller ones
        equation = Equation(standard_normal(2), law, box, image, cells)
        y = box.points(cells)
        s, c = np.sin(y), np.cos(y)
        psi = (y**2).sum(1) / 2 + 0.3 * y[:, 0] * y[:, 1] + s[:, 0] * c[:, 1] / 4
        bend = np.stack([c[:, 0] * c[:, 1], -s[:, 0] * s[:, 1]], 1) / 4
        T = y @ [[1, 0.3], [0.3, 1]] + bend
        along, cross = 1 - s[:, 0] * c[:, 1] / 4, 0.3 - c[:, 0] * s[:, 1] / 4
        log_f = law.log_density(torch.from_numpy(T)).numpy()
        log_g = standard_normal(2).log_density(torch.from_numpy(y)).numpy()
        truth = np.log(along**2 - cross**2) + log_f - log_g
        error = (equation.rate(psi, equation.nodes(psi)) - truth).reshape(cells, cells)
        common = slice(6, -6) if cells == 40 else slice(19, -18, 3)
        errors.append(error[common, common].std())  # constants are the factors of laws cut off at their boxes
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(9, rel=0.05)


# In time


def test_between_normal_laws_time_is_that_of_riccati() -> None:
    """psi(t) = a(t) y^2/2 with a' = 1/s0 - a^2/s: a = sqrt(s/s0) tanh(t/sqrt(s s0) + artanh(a(0)/sqrt(s/s0)))."""
    law, times = find_marginal(GaussianMixture([1], [0.0], 2.0)), [0.3, 1.0]
    _, history = solve_on_grid(standard_normal(1), law, 600, times, box=([-6], [6]), image=([-6], [6]))
    y = history.y1.to_numpy()
    for time, potential in zip(times, history.potential.to_numpy(), strict=True):
        a = math.sqrt(2) * math.tanh(time / math.sqrt(2) + math.atanh(1 / math.sqrt(2)))
        error = potential - a * y**2 / 2
        central = abs(y) < 3
        assert np.ptp(error[central]) < 2e-5 * np.ptp(potential[central])
    assert history.time[-1] == 1


def test_steps_are_of_third_order() -> None:
    """Tolerances a hundred times tighter take 100^(1/3) = 4.6 times the steps, and keep what they promise."""
    solved = {}
    for accuracy in (1e-3, 1e-5, 1e-7):
        _, history = solve_on_grid(standard_normal(1), find_marginal(NEAR), 32, [0.5], accuracy=accuracy)
        solved[accuracy] = history.potential.to_numpy()[0], history.sizes["time"]
    truth, steps = solved[1e-7]
    for accuracy in (1e-3, 1e-5):
        assert abs(solved[accuracy][0] - truth)[4:-4].max() < 10 * accuracy * truth.std()
    assert steps / solved[1e-5][1] == pytest.approx(100 ** (1 / 3), rel=0.25)


def test_kl_falls_to_nothing() -> None:
    """It is the gradient flow of the divergence in the mirror of psi (Deb et al.)."""
    _, history = solve_on_grid(standard_normal(1), find_marginal(NEAR), 256, accuracy=1e-4)
    kl = history.kl.to_numpy()
    assert kl[0] > 0.1
    assert (np.diff(kl[history.cells == 256]) < 1e-9).all()
    assert kl[-1] < 1e-8
    assert history.residual[-1] <= 1e-4
    assert (np.diff(history.time) >= 0).all()
    assert (history.least_curvature > 0).all()


# On the line


@pytest.mark.parametrize("law", [NEAR, APART])
@pytest.mark.parametrize("cells", [100, 512])
def test_slopes_at_faces_are_quantiles(law: GaussianMixture, cells: int) -> None:
    found, _ = solve_on_grid(standard_normal(1), find_marginal(law), cells, tolerance=1e-7)
    faces = torch.linspace(float(found.low), float(found.high), cells + 1, dtype=torch.float64)[:, None]
    faces = faces[faces[:, 0].abs() < 3.5]
    image = found.gradient(faces)
    mass = law.distribution(image, torch.ones_like(image), torch.zeros_like(image)).log_cdf[:, 0].exp().numpy()
    np.testing.assert_allclose(mass, stats.norm.cdf(faces[:, 0]), atol=3e-7)  # twice what the boxes leave out


def test_on_the_line_smooth_maps_are_right_to_second_order() -> None:
    truth = torch.from_numpy(quantile_map(NEAR, LINE[:, 0].numpy()))[:, None]
    errors = []
    for cells in (64, 128):
        found, _ = solve_on_grid(standard_normal(1), find_marginal(NEAR), cells)
        errors.append(rms(found.gradient(LINE) - truth))
    assert errors[1] < 2e-3
    assert errors[0] / errors[1] > 3


def test_a_factor_of_the_density_does_not_matter() -> None:
    law = find_marginal(NEAR)
    loose = Marginal("loose", 1, lambda x: law.log_density(x) + 50, False, None, None, None)
    image = find_box(law)
    corners = image.low.tolist(), image.high.tolist()
    plain, _ = solve_on_grid(standard_normal(1), law, 64, image=corners)
    scaled, history = solve_on_grid(standard_normal(1), loose, 64, image=corners)
    torch.testing.assert_close(plain.gradient(LINE), scaled.gradient(LINE))
    assert abs(history.kl[-1]) < 1e-6


# In the plane


def test_between_normal_laws_it_is_the_map_of_bures() -> None:
    mean, covariance = np.array([1.0, -1.0]), np.array([[1.5, 0.8], [0.8, 1.0]])
    found, _ = solve_on_grid(standard_normal(2), find_marginal(GaussianMixture([1], [mean], [covariance])), 24)
    y = normal_points(4000, 2)
    truth = torch.from_numpy(mean + y.numpy() @ sqrtm(covariance).real)
    assert rms(found.gradient(y) - truth) < 2e-4
    assert found.least_curvature(y) == pytest.approx(np.linalg.eigvalsh(sqrtm(covariance))[0], rel=1e-3)


def test_of_products_it_is_the_product_even_across_gaps() -> None:
    """Two gaps, along the axes: each component is the map of the line with as many cells."""
    means = [[x, y] for x in (-4.0, 2.0) for y in (-1.0, 1.0)]
    covariances = [[v, w] for v in (0.09, 0.5) for w in (0.25, 0.36)]
    law = find_marginal(GaussianMixture([0.12, 0.18, 0.28, 0.42], means, covariances))
    found, _ = solve_on_grid(standard_normal(2), law, 24, tolerance=1e-6)
    y = normal_points(2000, 2)
    corners = (found.low, found.high), (found.image_low, found.image_high)
    for k, part in enumerate((APART, NEAR)):
        box, image = (([float(low[k])], [float(high[k])]) for low, high in corners)
        single, _ = solve_on_grid(standard_normal(1), find_marginal(part), 24, tolerance=1e-6, box=box, image=image)
        assert rms(found.gradient(y)[:, k : k + 1] - single.gradient(y[:, k : k + 1])) < 2e-3


def test_turned_by_an_angle_it_is_the_turned_map() -> None:
    """Two modes at an angle, whose gap crosses the cells: right away from the jump, where the mass must be, at it."""
    turn = torch.tensor([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]], dtype=torch.float64)
    means = torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=torch.float64) @ turn.T
    law = find_marginal(GaussianMixture([0.5, 0.5], means, 0.25))
    found, history = solve_on_grid(standard_normal(2), law, 32)
    z = normal_points(20000, 2)
    across = quantile_map(GaussianMixture([0.5, 0.5], [-2.0, 2.0], 0.25), z[:, 0].numpy())
    truth = torch.stack([torch.from_numpy(across), z[:, 1] / 2], 1) @ turn.T
    error = found.gradient(z @ turn.T) - truth
    assert rms(error[z[:, 0].abs() > 0.6]) < 0.02
    assert rms(error) < 0.3  # cells are 0.33 wide, and the jump 2.4
    assert abs(history.kl[-1]) < 1e-3


# The spline


def spline(dim: int) -> GridPotential:
    rng = np.random.default_rng(1)
    low, high = (torch.full((dim,), end, dtype=torch.float64) for end in (-2.0, 3.0))
    image = torch.arange(1.0, dim + 1, dtype=torch.float64)
    return GridPotential(torch.from_numpy(rng.normal(size=(7,) * dim)), low, high, -image, 2 * image)


@pytest.mark.parametrize("dim", [1, 2])
def test_derivatives_are_those_of_the_value(dim: int) -> None:
    found = spline(dim)
    y = (4 * normal_points(200, dim)).requires_grad_()  # a third of them beyond the box
    (gradient,) = torch.autograd.grad(found.value(y).sum(), y)
    torch.testing.assert_close(found.gradient(y.detach()), gradient)
    h = 1e-6
    for k in range(dim):
        step = h * torch.eye(dim, dtype=torch.float64)[k]
        column = (found.gradient(y.detach() + step) - found.gradient(y.detach() - step)) / (2 * h)
        torch.testing.assert_close(found.hessian(y.detach())[:, :, k], column, atol=1e-7, rtol=1e-6)


def test_the_box_goes_to_the_box_and_beyond_the_map_goes_on() -> None:
    found = spline(2)
    edge = torch.tensor([[-2.0, 0.3], [-2.0, 1.7], [0.4, 3.0], [-2.0, 3.0]], dtype=torch.float64)
    faces = found.gradient(edge)
    torch.testing.assert_close(faces[[0, 1, 3], 0], torch.full((3,), -1.0, dtype=torch.float64))
    torch.testing.assert_close(faces[[2, 3], 1], torch.full((2,), 4.0, dtype=torch.float64))
    ratio = torch.tensor([3 / 5, 6 / 5], dtype=torch.float64)
    corner = torch.tensor([[3.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(found.gradient(corner + 1) - found.gradient(corner), ratio[None])


def test_its_arrays_make_it_again() -> None:
    found = spline(2)
    y = normal_points(50, 2)
    torch.testing.assert_close(GridPotential(**found.arrays()).value(y), found.value(y))


# Boxes, and what is refused


def test_a_box_holds_all_but_a_tail() -> None:
    box = find_box(standard_normal(1), 1e-6)
    reach = -stats.norm.ppf(1e-6)
    assert box.low[0] == pytest.approx(-reach, abs=0.01)
    assert box.high[0] == pytest.approx(reach, abs=0.01)
    far = Marginal("far", 2, lambda x: -((x - 300) / 2).square().sum(1) / 2, False, None, None, None)
    np.testing.assert_allclose(find_box(far, 1e-6).width, 4 * reach, rtol=0.02)


def test_what_does_not_fit_is_refused() -> None:
    line, plane = standard_normal(1), standard_normal(2)
    points = find_marginal(torch.randn(9, 1))
    flat = Marginal("flat", 1, lambda x: -x[:, 0].abs() * 1e-9, False, None, None, None)
    broken = Marginal(
        "broken", 1, lambda x: torch.where(x[:, 0] > 2, torch.nan, -(x[:, 0] ** 2)), False, None, None, None
    )
    for reference, target, options, message in (
        (line, points, {}, "has no density, and a grid needs one"),
        (line, plane, {}, "normal is in 1 dimensions and normal in 2"),
        (standard_normal(3), standard_normal(3), {}, "a grid is for 1 or 2 dimensions, and normal is in 3"),
        (line, flat, {}, "the density of flat does not decay: give the box"),
        (line, broken, {}, "the log density of broken is not finite at"),
        (line, line, {"points": 3}, "points must be a whole number from 4"),
        (line, line, {"times": [2.0, 1.0]}, "times must be positive and rising, got [2.0, 1.0]"),
        (line, line, {"tolerance": 0.0}, "tolerance and accuracy must be positive"),
        (line, line, {"box": ([1.0], [-1.0])}, "box must be two corners (low, high) of 1 numbers each"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            solve_on_grid(reference, target, **options)


def test_a_reference_with_a_gap_is_crossed() -> None:
    """psi is nearly flat where the reference has no mass: on finer cells it is not convex as it is."""
    reference = find_marginal(GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 1.0]], 0.3))
    found, history = solve_on_grid(reference, find_marginal(GaussianMixture([1], [[0.5, -1.0]], 0.4)), 32)
    assert history.residual[-1] <= 1e-4
    assert history.cells[0] == 16
    y = reference.draw(20000, torch.Generator().manual_seed(0))
    image = found.gradient(y)
    np.testing.assert_allclose(image.mean(0), [0.5, -1.0], atol=0.02)
    np.testing.assert_allclose(np.cov(image.numpy().T), 0.4 * np.eye(2), atol=0.02)


def test_a_halt_is_an_error_not_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brenier.transport.mongeampere.grid.solve._STEPS", 3)
    with pytest.raises(RuntimeError, match=r"the equation came to a halt at time .* try another number of points"):
        solve_on_grid(standard_normal(1), find_marginal(NEAR), 64)
