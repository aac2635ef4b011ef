"""What is shown of a map is what the map does."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from brenier.transport import SemiDiscrete
from brenier.transport.semidiscrete import images

rng = np.random.default_rng(0)


def with_heights(points: Any, heights: Any = 0.0) -> SemiDiscrete:
    """A map that is known without a fit."""
    found = SemiDiscrete(points)
    found.heights = torch.zeros(len(found.points), dtype=torch.float64) + torch.as_tensor(heights)
    return found


def test_borders_on_the_line_are_the_quantiles() -> None:
    transport = SemiDiscrete(np.array([-2.0, -1.5, 1.0, 1.2]), [0.1, 0.4, 0.2, 0.3]).fit()
    _, cells, facets = images.cells_on_line(transport)
    np.testing.assert_allclose(facets.ends[:, 0, 0], stats.norm.ppf([0.1, 0.5, 0.7]), atol=1e-5)
    np.testing.assert_array_equal(facets.pair, [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(np.unique(cells), [0, 1, 2, 3])
    # Faces of y and z meet at the angle between (y, -1) and (z, -1).
    np.testing.assert_allclose(facets.angle, np.diff(np.arctan([-2.0, -1.5, 1.0, 1.2])))
    np.testing.assert_array_equal(facets.singular(0.5), [False, True, False])
    assert facets.steep == pytest.approx(3 * np.median(facets.angle))


def test_cells_in_the_plane_meet_where_their_scores_are_equal() -> None:
    y = rng.normal(size=(30, 2))
    transport = SemiDiscrete(y).fit(0.05, progress=False)
    found = images.cells_in_plane(transport)
    assert transport.heights is not None
    best = np.sort(found.facets.ends @ y.T + transport.heights.numpy(), axis=2)
    np.testing.assert_allclose(best[..., -1], best[..., -2], atol=0.02)  # to a place of the grid
    assert len(found.facets.pair) > 60
    assert len(np.unique(found.facets.pair, axis=0)) == len(found.facets.pair)


def test_the_projection_keeps_the_largest_variance() -> None:
    y = rng.normal(size=(50, 4)) * [1, 5, 0.1, 3]
    places, share = images.projection(with_heights(y))
    variances = np.linalg.eigvalsh(np.cov(y.T, bias=True))[::-1]
    np.testing.assert_allclose(places.std(0), np.sqrt(variances[:2]), rtol=1e-5)
    np.testing.assert_allclose(share, variances[:2] / variances.sum(), rtol=1e-5)


def test_errors_of_right_masses_spread_as_noise_alone_and_of_wrong_ones_more() -> None:
    """Three points at the corners of a regular triangle have the same masses at the same heights."""
    right, wrong = (images.mass_errors(with_heights(np.eye(3), heights)) for heights in (0.0, [0.0, 0.1, -0.1]))
    widths = [masses.edges[-1] for masses in (right, wrong)]
    assert widths[0] < 4 * math.sqrt(2 / 2**20)
    assert widths[1] > 10 * widths[0]
    for masses in (right, wrong):
        assert masses.draws == 2**20
        assert masses.cells.sum() == 3
    assert right.noise is not None
    cumulative = np.trapezoid(right.noise, right.places) / (right.edges[1] - right.edges[0])
    exact = 3 * (2 * stats.norm.cdf(widths[0] / math.sqrt(2 / 2**20)) - 1)
    assert cumulative == pytest.approx(exact, rel=0.01)
