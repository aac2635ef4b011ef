"""What the figures of transport show is what the maps do."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from brenier.figures.transport import (
    plot_cells,
    plot_image,
    plot_line_map,
    plot_line_potential,
    plot_masses,
    plot_points,
    plot_transport,
)
from brenier.transport import SemiDiscrete
from brenier.transport.semidiscrete import images

rng = np.random.default_rng(0)
SQUARE = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
PAIRS = np.array([[3.0, 0.1], [3.0, -0.1], [-3.0, 0.1], [-3.0, -0.1]])


def with_heights(points: Any, weights: Any = None, source: Any = "normal", heights: Any = 0.0) -> SemiDiscrete:
    """A map that is known without a fit."""
    found = SemiDiscrete(points, weights, source=source)
    found.heights = torch.zeros(len(found.points), dtype=torch.float64) + torch.as_tensor(heights)
    return found


def artist(ax: Axes, name: str) -> Any:
    (found,) = [part for part in ax.get_children() if part.get_gid() == name]
    return found


# On the line


def test_the_map_on_the_line_steps_at_the_quantiles() -> None:
    y = np.array([-2.0, -1.5, 1.0, 1.2])
    transport = SemiDiscrete(y, [0.1, 0.4, 0.2, 0.3]).fit()
    steps = artist(plot_line_map(transport, threshold=0.5), "map").get_data()
    np.testing.assert_allclose(steps.edges[1:-1], stats.norm.ppf([0.1, 0.5, 0.7]), atol=1e-5)
    np.testing.assert_allclose(steps.values, y)
    (jump,) = artist(plot_line_map(transport, threshold=0.5), "singular").get_segments()
    np.testing.assert_allclose(jump, [[0, -1.5], [0, 1]], atol=1e-5)


def test_the_potential_on_the_line_is_drawn_with_its_kinks() -> None:
    transport = SemiDiscrete([-2.0, -1.5, 1.0, 1.2]).fit()
    ax = plot_line_potential(transport, threshold=0.5)
    x, u = artist(ax, "potential").get_data()
    scores = x[:, None] * transport.points[:, 0].double().numpy() + transport.heights.numpy()
    np.testing.assert_allclose(u, scores.max(1), atol=1e-5)
    np.testing.assert_allclose(artist(ax, "singular").get_xdata(), [0], atol=1e-5)


# In the plane


def test_edges_of_the_cells_are_where_scores_are_equal() -> None:
    """Of four points in a square the cells are the quadrants; their edges run along the axes to the window's border."""
    ax = plot_cells(with_heights(SQUARE), threshold=math.pi)
    edges = {tuple(np.abs(edge).max(0).round(2)) for edge in artist(ax, "edges").get_segments()}
    assert edges == {(0, 3), (3, 0)}
    assert not artist(ax, "singular").get_segments()
    colours = artist(ax, "cells").get_array()
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 4
    for k, (x, y) in enumerate(SQUARE):
        row, column = (int((1 + value / 2) / 2 * len(colours)) for value in (y, x))
        assert (colours[row, column] == colours[row - 20, column - 20]).all(), k


def test_singular_edges_part_the_pairs() -> None:
    ax = plot_cells(with_heights(PAIRS), threshold=1.0)
    for edge in artist(ax, "singular").get_segments():
        np.testing.assert_allclose(edge[:, 0], 0, atol=1e-6)
    assert "°" in ax.get_legend().get_texts()[-1].get_text()
    assert len(artist(plot_cells(with_heights(PAIRS), threshold=0.0), "singular").get_segments()) == 4


def test_the_image_of_a_grid_joins_neighbours_and_jumps_in_red() -> None:
    ax = plot_image(with_heights(PAIRS), threshold=1.0)
    for line in artist(ax, "grid").get_segments():
        np.testing.assert_allclose(np.abs(np.diff(line, axis=0)), [[0, 0.2]], atol=1e-6)
    jumps = artist(ax, "jumps").get_segments()
    assert {float(np.abs(jump[1, 0] - jump[0, 0])) for jump in jumps} == {6.0}
    np.testing.assert_array_equal(artist(ax, "points").get_offsets(), PAIRS)


def test_points_without_weight_are_not_drawn_and_areas_are_weights() -> None:
    transport = with_heights(SQUARE, [0.2, 0.5, 0.0, 0.3], heights=np.array([0, 0, -np.inf, 0]))
    dots = artist(plot_image(transport), "points")
    np.testing.assert_array_equal(dots.get_offsets(), SQUARE[[0, 1, 3]])
    sizes = dots.get_sizes()
    np.testing.assert_allclose(sizes / sizes[0], [1, 2.5, 1.5])


# Elsewhere


def test_points_in_space_are_seen_along_their_principal_axes() -> None:
    transport = with_heights(rng.normal(size=(50, 4)) * [1, 5, 0.1, 3])
    ax, (places, share) = plot_points(transport), images.projection(transport)
    np.testing.assert_allclose(artist(ax, "points").get_offsets(), places)
    assert f"({share[0]:.0%} of the variance)" in ax.get_xlabel()


def test_errors_of_masses_stand_before_the_noise_of_the_draws() -> None:
    transport = with_heights(np.eye(3), heights=np.array([0.0, 0.1, -0.1]))
    ax, masses = plot_masses(transport), images.mass_errors(transport)
    np.testing.assert_array_equal(artist(ax, "cells").get_data().values, masses.cells)
    np.testing.assert_array_equal(artist(ax, "noise").get_data(), [masses.places, masses.noise])


# Whole figures

# Each has several oddities at once where they do not meet.
ODD: dict[str, Callable[[], Any]] = {
    "line-of-a-long-name": lambda: (
        SemiDiscrete(rng.normal(size=20)).fit().to_dataset().assign_attrs(target="$5_^" + "n" * 90)
    ),
    "uniform-line": lambda: SemiDiscrete(rng.normal(size=500), source="uniform").fit(),
    "one-on-the-line": lambda: SemiDiscrete([3.0]).fit(),
    "plane": lambda: with_heights(rng.normal(size=(40, 2)), rng.dirichlet(np.ones(40))),
    "one-in-the-plane": lambda: SemiDiscrete([[3.0, 1.0]]).fit(),
    "on-a-line-in-the-plane": lambda: with_heights(np.outer(np.arange(5.0), [1, 2]), source="uniform"),
    "huge": lambda: with_heights(SQUARE * 1e200),
    "tiny": lambda: with_heights(SQUARE * 1e-200),
    "duplicates-with-a-source-of-their-own": lambda: with_heights(
        np.concatenate([SQUARE, SQUARE]), source=lambda n, g: 5 + torch.rand(n, 2, generator=g)
    ),
    "space": lambda: with_heights(rng.normal(size=(40, 3))),
    "one-in-space": lambda: SemiDiscrete([[3.0, 1.0, 2.0]]).fit(),
}


@pytest.mark.parametrize("name", ODD)
def test_nothing_overlaps(name: str, nothing_overlaps: Callable[[Figure], None]) -> None:
    nothing_overlaps(plot_transport(ODD[name]()))


def test_both_panels_call_the_same_singular() -> None:
    left, right = plot_transport(SemiDiscrete(rng.normal(size=30) ** 3).fit()).axes
    jumps, kinks = artist(left, "singular").get_segments(), artist(right, "singular").get_xdata()
    assert len(jumps) == len(kinks) > 0


def test_same_map_same_bytes(same_bytes: Callable[[Callable[[], Figure]], None]) -> None:
    transport = with_heights(rng.normal(size=(40, 2)))
    same_bytes(lambda: plot_transport(transport))


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match="not a transport, it has no variable 'points'"):
        plot_transport(xr.Dataset())
    with pytest.raises(ValueError, match="has not been fitted"):
        plot_transport(SemiDiscrete(SQUARE))
    own = SemiDiscrete([[1.0]], source=lambda n, g: torch.rand(n, 1, generator=g)).fit()
    with pytest.raises(ValueError, match="source of yours"):
        plot_transport(own.to_dataset())
    for plot in (plot_line_map, plot_line_potential):
        with pytest.raises(ValueError, match="in 2 dimensions, and the figure is of one"):
            plot(with_heights(SQUARE))
    for plot in (plot_cells, plot_image):
        with pytest.raises(ValueError, match="in 1 dimensions, and the figure is of two"):
            plot(with_heights([1.0, 2.0]))
    with pytest.raises(ValueError, match="no second axis"):
        plot_points(with_heights([1.0, 2.0]))
