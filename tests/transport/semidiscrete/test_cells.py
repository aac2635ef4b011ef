import math

import numpy as np
import pytest
import torch
from scipy import stats

from brenier.transport.semidiscrete.cells import Cells, Tally
from brenier.transport.semidiscrete.measures import total_variation_floor
from brenier.transport.semidiscrete.sources import find_source


def line_masses(y, h):
    """Masses of the cells under N(0, 1), from where the scores of neighbours cross."""
    edges = -np.diff(h) / np.diff(y)
    assert (np.diff(edges) > 0).all(), "every cell must be there"
    return np.diff(stats.norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]])))


Y = np.array([-1.5, -0.2, 0.4, 2.0])
H = np.array([-0.5, 0.3, 0.2, -1.4])
MASSES = line_masses(Y, H)


def cells_on_the_line():
    return Cells(torch.as_tensor(Y, dtype=torch.float32)[:, None], find_source("normal", 1))


def points(count, dim, seed=0):
    y = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return y - y.mean(0)


def test_masses_on_the_line_are_those_between_the_crossings():
    tally = cells_on_the_line().tally(H, 800, (0,))
    standard = np.sqrt(MASSES * (1 - MASSES) / tally.samples)
    assert (abs(tally.masses - MASSES) < 4 * standard).all()


def test_winners_are_the_largest_scores():
    y, x, h = points(50, 7), points(300, 7, 1), torch.linspace(-1, 1, 50)
    expected = (x.double() @ y.double().T + h.double()).argmax(1)
    assert (Cells(y, find_source("normal", 7)).winners(x, h) == expected).all()


def test_chi_square_is_unbiased_and_its_error_is_one():
    b = np.array([0.2, 0.3, 0.3, 0.2])
    exact = float(((MASSES - b) ** 2 / b).sum())
    cells = cells_on_the_line()
    tallies = [cells.tally(H, 32, (seed,)) for seed in range(60)]
    found = np.array([tally.chi_square(b) for tally in tallies])
    errors = np.array([tally.chi_square_error(b) for tally in tallies])
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(60)
    assert found.std() == pytest.approx(math.sqrt((errors**2).mean()), rel=0.35)


def test_chi_square_of_right_masses_is_around_zero():
    cells = cells_on_the_line()
    found = np.array([cells.tally(H, 32, (seed,)).chi_square(MASSES) for seed in range(40)])
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(40)
    assert (found < 0).any()


@pytest.mark.parametrize("dim", [24, 60])
def test_combined_draws_fall_into_cells_as_often_as_independent_ones(dim):
    y = points(40, dim) * torch.linspace(0.5, 1.5, 40)[:, None]
    h = -y.double().norm(dim=1).numpy()
    cells = Cells(y, find_source("normal", dim))
    assert cells.linear
    combined = cells.tally(h, 600, (1,))
    plain = cells.tally(h, 600, (2,), independent=True)
    b = plain.masses + 1e-6
    spread = np.sqrt(b * (1 / plain.samples + combined.inflation(b / b.sum()) / combined.samples))
    assert (abs(combined.masses - plain.masses) < 5 * spread).all()
    assert plain.inflation(b / b.sum()) == pytest.approx(1, abs=0.05)
    assert 1 <= combined.inflation(b / b.sum()) < 3


def test_families_shrink_where_they_are_alike_and_grow_where_they_are_not():
    cells = Cells(points(40, 200), find_source("normal", 200))
    tally = cells.tally(np.zeros(40), 100, (0,))
    b = np.full(40, 1 / 40)
    like = Tally(tally.blocks, tally.squares * 3, tally.families, tally.size)
    before = cells.size
    cells.adapt(like, b)
    assert cells.size < before


def test_draws_do_not_depend_on_the_number_of_workers():
    cells = Cells(points(30, 30), find_source("normal", 30))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = cells.tally(np.zeros(30), 20, (5,))
        torch.set_num_threads(2)
        together = cells.tally(np.zeros(30), 20, (5,))
    finally:
        torch.set_num_threads(threads)
    assert (alone.blocks == together.blocks).all()
    assert not (cells.tally(np.zeros(30), 20, (6,)).blocks == alone.blocks).all()


def test_merged_tallies_are_those_of_all_draws():
    cells = cells_on_the_line()
    one, two = cells.tally(H, 16, (0,)), cells.tally(H, 16, (1,))
    both = one.merge(two)
    assert both.samples == one.samples + two.samples
    assert (both.masses * both.samples == one.masses * one.samples + two.masses * two.samples).all()


@pytest.mark.parametrize(("count", "samples"), [(3, 10), (50, 400), (1000, 1000)])
def test_the_floor_is_the_mean_total_variation_of_right_masses(count, samples):
    rng = np.random.default_rng(0)
    b = rng.dirichlet(np.ones(count))
    seen = abs(rng.multinomial(samples, b, size=4000) / samples - b).sum(1) / 2
    assert abs(total_variation_floor(b, samples) - seen.mean()) < 4 * seen.std() / math.sqrt(4000)


def test_the_floor_of_many_draws_is_that_of_normal_errors():
    b = np.full(1797, 1 / 1797)
    assert total_variation_floor(b, 1e6) == pytest.approx(math.sqrt(1796 / (2 * math.pi * 1e6)), rel=1e-3)


def test_chi_square_of_too_few_families_is_refused():
    with pytest.raises(ValueError, match="at least three families"):
        cells_on_the_line().tally(H, 2, (0,)).chi_square(MASSES)
