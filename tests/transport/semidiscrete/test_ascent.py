import math

import numpy as np
import pytest
import torch

from brenier.transport.semidiscrete.ascent import FEW, Average, ascend
from brenier.transport.semidiscrete.cells import Cells
from brenier.transport.semidiscrete.gaps import mean_gaps
from brenier.transport.semidiscrete.sources import find_source
from brenier.transport.semidiscrete.starts import line_heights


def test_the_average_leaves_out_the_beginning():
    average = Average()
    for k in range(400):
        average.add(10, np.array([100.0 if k < 40 else 1.0, 2.0]))
    assert average.draws == 4000
    assert average.value() == pytest.approx([1, 2])  # the first tenth lies in the eighth that is left out


def test_the_average_of_a_line_is_at_the_middle_of_what_is_kept():
    average = Average()
    for k in range(1000):
        average.add(1, np.array([float(k)]))
    assert average.value()[0] == pytest.approx((1000 / 8 + 1000) / 2, abs=1000 / 8 / 2)


def test_on_the_line_the_ascent_finds_the_closed_form():
    rng = np.random.default_rng(0)
    y, b = np.sort(rng.normal(size=6)), rng.dirichlet(np.full(6, 3.0))
    cells = Cells(torch.as_tensor(y, dtype=torch.float32)[:, None], find_source("normal", 1))
    for state in ascend(cells, b, np.zeros(6), 0.0003, (0,)):
        found = state.heights
    exact = line_heights(y, b, "normal")
    assert found - b @ found == pytest.approx(exact - b @ exact, abs=1e-3 * np.ptp(exact))


@pytest.mark.parametrize("dim", [2, FEW, FEW + 1, 30])
def test_the_ascent_stops_where_it_says(dim):
    generator = torch.Generator().manual_seed(dim)
    y = torch.randn(60, dim, generator=generator)
    y -= y.mean(0)
    b = np.random.default_rng(0).dirichlet(np.full(60, 5.0))
    cells = Cells(y, find_source("normal", dim))
    for state in ascend(cells, b, np.zeros(60), 0.02, (0,)):
        last = state
    assert last.measured is not None
    assert last.measured.chi_square(b) <= 2 * math.pi * 0.02**2
    fresh = cells.tally(last.heights, 4000, (9,), independent=True)
    assert fresh.chi_square(b) < 1.5 * 2 * math.pi * 0.02**2


def test_the_laplacian_of_pairs_is_the_derivative_of_the_masses():
    """On the line dw_i/dh_j is known: a density at a border over the distance of the points."""
    y = np.array([-1.5, -0.2, 0.4, 2.0])
    h = line_heights(y, np.array([0.2, 0.3, 0.3, 0.2]), "normal")
    cells = Cells(torch.as_tensor(y, dtype=torch.float32)[:, None], find_source("normal", 1))
    pairs, _ = mean_gaps(cells, h, 400_000, (0,))
    borders = -np.diff(h) / np.diff(y)
    rates = np.exp(-(borders**2) / 2) / math.sqrt(2 * math.pi) / np.diff(y)
    exact = np.diag(np.append(rates, 0) + np.append(0, rates)) - np.diag(rates, 1) - np.diag(rates, -1)
    found = pairs.laplacian(np.full(4, 0.05)).toarray()
    assert found == pytest.approx(exact, abs=0.03)
    assert abs(found.sum(1)).max() < 1e-12
