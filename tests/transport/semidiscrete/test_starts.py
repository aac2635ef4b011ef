import numpy as np
import pytest
import torch
from scipy import integrate, stats

from brenier.transport.semidiscrete.cells import Cells
from brenier.transport.semidiscrete.sources import find_source
from brenier.transport.semidiscrete.starts import best_start, cell_means, extended, extreme_values, line_heights, linear


def cells_of(y, source="normal"):
    return Cells(torch.as_tensor(y, dtype=torch.float32), find_source(source, y.shape[1]))


@pytest.mark.parametrize(("source", "law"), [("normal", stats.norm()), ("uniform", stats.uniform())])
def test_heights_on_the_line_give_every_cell_its_weight(source, law):
    rng = np.random.default_rng(1)
    y, b = rng.normal(size=9), rng.dirichlet(np.ones(9))
    h = line_heights(y, b, source)

    def mass(i):
        def leads(x):
            return law.pdf(x) * ((x * y + h).argmax() == i)

        order = np.argsort(y)
        k = int(np.flatnonzero(order == i)[0])
        edges = -np.diff(h[order]) / np.diff(y[order])
        ends = np.concatenate([[law.ppf(1e-12)], edges, [law.isf(1e-12)]])
        return integrate.quad(leads, ends[k] + 1e-12, ends[k + 1] - 1e-12)[0]

    assert [mass(i) for i in range(9)] == pytest.approx(b, abs=1e-7)


def test_heights_on_the_line_keep_their_digits_in_both_tails():
    y, b = np.array([0.0, 1.0, 2.0]), np.array([1e-30, 1 - 2e-30, 1e-30])
    edge = stats.norm.isf(1e-30)
    assert line_heights(y, b, "normal") == pytest.approx([0, edge, 0], abs=1e-9)


def test_extreme_values_are_right_for_points_in_orthogonal_directions():
    # Scores of orthogonal points of one length are independent and of one law: equal heights are exact.
    y = np.eye(40)
    tally = cells_of(y).tally(extreme_values(cells_of(y), np.full(40, 1 / 40), 0), 300, (0,))
    assert abs(tally.chi_square(np.full(40, 1 / 40))) < 4 * tally.chi_square_error(np.full(40, 1 / 40))


def test_extreme_values_of_a_source_of_ones_own_take_its_moments():
    y = np.random.default_rng(0).normal(size=(5, 3))
    shifted = Cells(
        torch.as_tensor(y, dtype=torch.float32),
        find_source(lambda n, g: 2 * torch.randn(n, 3, generator=g) + torch.tensor([1.0, 0, 0]), 3),
    )
    b = np.full(5, 0.2)
    expected = -y[:, 0] + 2 * np.linalg.norm(y, axis=1) * stats.norm.ppf(0.2)
    assert extreme_values(shifted, b, 0) == pytest.approx(expected, abs=0.25)  # of 2,048 draws


def test_the_linear_start_is_the_conjugate_of_the_map_between_normal_laws():
    y = np.random.default_rng(0).normal(size=(4000, 2)) @ np.array([[2.0, 0.5], [0.5, 1.0]])
    y -= y.mean(0)
    h = linear(cells_of(y), np.full(4000, 1 / 4000), 0)
    values, vectors = np.linalg.eigh(np.cov(y.T))
    back = (vectors / np.sqrt(values)) @ vectors.T
    exact = -np.einsum("nd,de,ne->n", y, back, y) / 2
    centred = h - h.mean() - (exact - exact.mean())
    assert centred.std() < 0.1 * exact.std()  # the source's moments are those of 2,048 draws


def test_heights_extended_to_their_own_points_are_themselves():
    rng = np.random.default_rng(2)
    y = rng.normal(size=(30, 2))
    cells = cells_of(y)
    h = linear(cells, np.full(30, 1 / 30), 0)
    hit, means = cell_means(cells, h, 0)
    places = torch.as_tensor(y)
    found = extended(places[hit], h[hit], means)(places[hit]).numpy()
    # A tangent at a point of its own cell's mean: the conjugate is convex, no other tangent lies above it there.
    assert found == pytest.approx(h[hit], abs=1e-6)


def test_heights_extended_to_other_points_are_between_cells_of_their_neighbours():
    """u(x) = |x|^2/2 has the conjugate |y|^2/2; tangents at a fine grid come near it from below, heights from above."""
    side = np.linspace(-2, 2, 25)
    grid = torch.as_tensor(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
    new = torch.as_tensor(np.random.default_rng(0).uniform(-2, 2, (50, 2)))
    found = extended(grid, -(grid**2).sum(1).numpy() / 2, grid)(new).numpy()
    exact = -(new**2).sum(1).numpy() / 2
    assert (found >= exact - 1e-12).all()
    assert (found - exact).max() < (side[1] - side[0]) ** 2 / 4 + 1e-12  # half the square of half a diagonal


def test_the_best_start_is_the_one_with_the_right_masses():
    y = np.array([[-1.0], [0.2], [2.0]])
    b = np.array([0.2, 0.5, 0.3])
    right = line_heights(y[:, 0], b, "normal")
    wrong = right + np.array([0, 0.4, 0])
    assert best_start(cells_of(y), b, [wrong, right], (0,)) is right
