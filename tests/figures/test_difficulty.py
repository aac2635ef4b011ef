import numpy as np
import pytest
import xarray as xr

from brenier.figures.difficulty import (
    plot_difficulty,
    plot_difficulty_against_error,
    plot_difficulty_ranks,
    plot_difficulty_ways,
    plot_hard_points,
)
from brenier.sampling.difficulty import difficulty


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return difficulty("four-gaussians", n=60, steps=3, solver="euler", schedule="karras", progress=False)


def test_the_page_has_a_panel_for_each_question(found: xr.Dataset):
    titles = [ax.get_title(loc="left")[:3] for ax in plot_difficulty(found).axes]
    assert titles[:4] == ["(a)", "(b)", "(c)", "(d)"]
    unchecked = found.drop_vars([*[name for name in found.variables if "measure" in found[name].dims], "error"])
    assert len(plot_difficulty(unchecked).axes) == 2


def test_the_ways_are_means_of_the_hardest_and_easiest_tenth(found: xr.Dataset):
    ax = plot_difficulty_ways(found)
    order = np.argsort(found["rank"].to_numpy())
    line = next(line for line in ax.lines if line.get_label() == "hardest tenth")
    np.testing.assert_allclose(line.get_ydata(), found["localization"].to_numpy()[:, order[:6]].mean(1))


def test_every_point_is_a_dot_and_the_worst_are_set_off(found: xr.Dataset):
    lines = plot_difficulty_against_error(found).lines
    assert [len(line.get_xdata()) for line in lines] == [54, 6]
    assert min(lines[1].get_ydata()) >= max(lines[0].get_ydata())


def test_the_correlations_are_those_of_the_dataset(found: xr.Dataset):
    ax = plot_difficulty_ranks(found)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xdata(), found["rho"])


def test_points_of_the_line_the_plane_and_of_more_have_a_picture(found: xr.Dataset):
    ax = plot_hard_points(found)
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], found["points"][:, 0])
    cloud = np.random.default_rng(0).normal(size=(30, 3))
    for d in (2, 3):
        more = difficulty(cloud[:, :d], n=20, steps=2, solver="euler", schedule="karras", check=False, progress=False)
        ax = plot_hard_points(more)
        assert len(ax.collections if d == 2 else ax.lines) > 0


def test_images_are_shown_with_their_axes():
    images = np.random.default_rng(0).normal(size=(30, 4, 4, 3))
    many = difficulty(images, n=20, steps=2, solver="euler", schedule="karras", check=False, shown=2, progress=False)
    ax = plot_hard_points(many)
    assert ax.images[0].get_array().shape == (5 * 5 - 1, 5 * 5 - 1, 3)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["point", "mean", "axis 1", "axis 2", "axis 3"]


def test_another_dataset_is_refused(found: xr.Dataset):
    with pytest.raises(ValueError, match="holds a profile, and a difficulty is wanted"):
        plot_difficulty(found.assign_attrs(kind="profile"))
