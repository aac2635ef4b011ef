from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

from brenier.figures import plot_closeness, plot_evaluation, plot_pairs, plot_shares
from brenier.metrics import evaluate


def made(shape: tuple[int, ...]) -> xr.Dataset:
    generator = torch.Generator().manual_seed(0)
    x, y, train = (torch.rand(80, *shape, generator=generator) for _ in range(3))
    x[:5] = train[10:15] + 1e-3
    return evaluate(x, y, train=train, progress=False)


@pytest.fixture(scope="module")
def evaluations() -> dict[str, xr.Dataset]:
    return {
        name: made(shape)
        for name, shape in {"grey": (5, 6), "colour": (3, 4, 4), "last": (4, 4, 3), "plane": (2,), "rows": (4,)}.items()
    }


@pytest.mark.parametrize("name", ["grey", "colour", "last", "plane", "rows"])
def test_nothing_overlaps(
    evaluations: dict[str, xr.Dataset], name: str, nothing_overlaps: Callable[[Figure], None]
) -> None:
    nothing_overlaps(plot_evaluation(evaluations[name]))


def test_without_training_data_there_are_only_shares(nothing_overlaps: Callable[[Figure], None]) -> None:
    x = np.random.default_rng(0).normal(size=60)
    figure = plot_evaluation(evaluate(x, "four-gaussians", progress=False))
    assert len(figure.axes) == 1
    nothing_overlaps(figure)
    with pytest.raises(ValueError, match="no variable 'closeness'"):
        plot_closeness(evaluate(x, "normal", progress=False))


def test_shares_and_their_intervals_are_where_they_should_be(evaluations: dict[str, xr.Dataset]) -> None:
    found = evaluations["plane"]
    ax = plot_shares(found)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["precision", "recall", "density", "coverage", "closer than data are", "copied"]
    names = ["precision", "recall", "density", "coverage", "closer", "copied"]
    lines = {line.get_gid(): line for line in ax.lines}
    for side in ("value", "control"):
        np.testing.assert_array_equal(lines[side].get_xdata(), found[side].sel(metric=names))
    first = ax.collections[0].get_segments()[0]
    assert first[:, 0] == pytest.approx([float(found[end].sel(metric="precision")) for end in ("low", "high")])


def test_closeness_is_the_distribution_of_the_samples(evaluations: dict[str, xr.Dataset]) -> None:
    found = evaluations["grey"]
    lines = {line.get_gid(): line for line in plot_closeness(found).lines}
    for name in ("closeness", "control_closeness"):
        x, y = lines[name].get_data()
        assert np.interp(1.0, x, y) == pytest.approx(float((found[name] < 1).mean()), abs=1 / 80)


def test_a_picture_of_the_closest_pairs(evaluations: dict[str, xr.Dataset]) -> None:
    grey = plot_pairs(evaluations["grey"])
    canvas = grey.images[0].get_array()
    assert canvas is not None
    points = evaluations["grey"]["pair_points"].to_numpy()
    low, high = points.min(), points.max()
    np.testing.assert_allclose(canvas[:5, :6], (points[0, 0].reshape(5, 6) - low) / (high - low))
    np.testing.assert_allclose(canvas[-5:, -6:], (points[-1, 1].reshape(5, 6) - low) / (high - low))
    ticks = [text.get_text() for text in grey.get_xticklabels()]
    assert ticks == [f"{distance:.3g}" for distance in evaluations["grey"]["pair_distance"].to_numpy()]
    assert set(evaluations["grey"]["pair_sample"].to_numpy()[:5]) == set(range(5))
    colour = plot_pairs(evaluations["colour"]).images[0].get_array()
    assert colour is not None
    assert colour.shape[2] == 3
    plane = plot_pairs(evaluations["plane"])
    np.testing.assert_array_equal(
        np.transpose(next(line.get_data() for line in plane.lines if line.get_label() == "sample")),
        evaluations["plane"]["pair_points"][:, 0],
    )
    heights = [bar.get_height() for bar in plot_pairs(evaluations["rows"]).patches]
    np.testing.assert_array_equal(heights, evaluations["rows"]["pair_closeness"])


def test_same_evaluation_same_bytes(
    evaluations: dict[str, xr.Dataset], same_bytes: Callable[[Callable[[], Figure]], None]
) -> None:
    same_bytes(lambda: plot_evaluation(evaluations["plane"]))


def test_refused() -> None:
    with pytest.raises(ValueError, match="not an evaluation"):
        plot_evaluation(xr.Dataset())
