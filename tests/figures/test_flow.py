"""What the figures of Monge-Ampère maps show is what the maps do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from brenier.figures import (
    plot_flow,
    plot_flow_density,
    plot_flow_image,
    plot_flow_map,
)
from brenier.laws.mixture import GaussianMixture
from brenier.transport.mongeampere import Fitted, MongeAmpere, images
from brenier.transport.mongeampere.portrait import portrait
from brenier.transport.mongeampere.potentials import Quadratic

rng = np.random.default_rng(0)
LINE = GaussianMixture([1.0], [1.0], [4.0], name="line")
PLANE = GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], [0.25, 0.25], name="plane")


def history(steps: int, halved: bool = False, **columns: Any) -> xr.Dataset:
    """What a fit would have measured."""
    k = np.arange(1, steps + 1)
    found = {"eta": 0.2 / k, "halvings": np.where(halved & (k == 2), 1, 0), **columns}
    data = {name: ("step", np.broadcast_to(values, steps)) for name, values in found.items()}
    return xr.Dataset(data, {"step": k}, {"w2_floor": 0.3})


def flow(
    target: Any, A: Any, b: Any, past: xr.Dataset | None = None, reference: Any = "normal", stopped: str = "steps"
) -> MongeAmpere:
    """A map y -> Ay + b that is known without a fit."""
    found = MongeAmpere(reference, target, method="linear", dim=len(b))
    found.psi = Quadratic(torch.tensor(A, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    found.history = past
    found.result = Fitted(stopped, 0 if past is None else past.sizes["step"], 1.0)  # type: ignore[arg-type]
    return found


def artist(ax: Axes, name: str) -> Any:
    (found,) = [part for part in ax.get_children() if part.get_gid() == name]
    return found


# On the line


def test_the_map_and_the_quantiles_on_the_line() -> None:
    ax = plot_flow_map(flow(LINE, [[3.0]], [0.5]))
    y, mapped = artist(ax, "map").get_data()
    np.testing.assert_allclose(mapped, 3 * y + 0.5)
    y, exact = artist(ax, "quantiles").get_data()
    seen = np.isfinite(exact)
    np.testing.assert_allclose(exact[seen], 1 + 2 * y[seen], atol=2e-3)
    assert stats.norm.sf(y[seen].max()) == pytest.approx(1e-5, rel=0.1)
    np.testing.assert_allclose(ax.get_xlim(), stats.norm.ppf([1e-5, 1 - 1e-5]), atol=0.01)


def test_densities_on_the_line() -> None:
    ax = plot_flow_density(flow(LINE, [[3.0]], [0.5]))
    x, density = artist(ax, "image").get_data()
    np.testing.assert_allclose(density, stats.norm.pdf(x, 0.5, 3), atol=1e-12)
    edge = artist(ax, "target").get_paths()[0].vertices
    np.testing.assert_allclose(edge[:, 1].max(), stats.norm.pdf(0) / 2, rtol=1e-4)
    np.testing.assert_allclose(edge[edge[:, 1].argmax(), 0], 1, atol=0.05)


def test_a_density_up_to_a_factor_is_scaled() -> None:
    def log_density(x: torch.Tensor) -> torch.Tensor:
        return 7 - (x[:, 0] - 1) ** 2 / 8

    ax = plot_flow_density(flow(log_density, [[3.0]], [0.5]))
    edge = artist(ax, "target").get_paths()[0].vertices
    np.testing.assert_allclose(edge[:, 1].max(), stats.norm.pdf(0) / 2, rtol=1e-3)


def test_data_on_the_line_are_histograms() -> None:
    points = rng.normal(1, 2, size=4000)
    ax = plot_flow_density(flow(points, [[2.0]], [1.0]))
    heights, edges, _ = artist(ax, "target").get_data()
    assert heights @ np.diff(edges) == pytest.approx(1)
    middle = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(heights, stats.norm.pdf(middle, 1, 2), atol=0.05)
    labels = [handle.get_label() for handle in plot_flow_map(flow(points, [[2.0]], [1.0])).get_lines()]
    assert "quantiles to quantiles" not in labels
    pushed = plot_flow_density(flow(LINE, [[2.0]], [0.0], reference=points))
    heights, edges, _ = artist(pushed, "image").get_data()
    np.testing.assert_allclose(heights, stats.norm.pdf((edges[1:] + edges[:-1]) / 2, 2, 4), atol=0.04)


# In the plane and beyond

A, B = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -1.0])


def test_the_image_of_a_polar_grid_and_of_points() -> None:
    data = portrait(flow(PLANE, A.tolist(), B.tolist()))
    reference = data["reference_points"].to_numpy()
    ax = plot_flow_image(data)
    np.testing.assert_allclose(artist(ax, "image of the reference").get_offsets(), reference @ A + B)
    np.testing.assert_allclose(artist(ax, "target").get_offsets(), data["target_points"])
    np.testing.assert_allclose(artist(ax, "grid").get_segments(), images.polar_grid(data))


def test_contours_of_a_density_that_cannot_be_sampled() -> None:
    data = portrait(flow(lambda x: -x.square().sum(1) / 2, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    lines = artist(plot_flow_image(data), "target")
    np.testing.assert_allclose(lines.levels, images.contour_levels(data))
    assert "50% and 90% of its mass" in plot_flow_image(data).get_legend().get_texts()[1].get_text()


def test_in_space_the_principal_axes_of_the_target_are_shown() -> None:
    points = rng.normal(size=(3000, 3)) * [1, 3, 2] + 5
    data = portrait(flow(points, np.eye(3).tolist(), [5.0, 5.0, 5.0]))
    ax = plot_flow_image(data)
    drawn = np.asarray(artist(ax, "target").get_offsets())
    np.testing.assert_allclose(drawn.std(0), [3, 2], rtol=0.1)
    assert abs(np.corrcoef(drawn[:, 0], data["target_points"].to_numpy()[:, 1])[0, 1]) > 0.99
    np.testing.assert_allclose(np.asarray(artist(ax, "image of the reference").get_offsets()).std(0), 1, rtol=0.1)
    assert 0.6 < float(ax.get_xlabel().split("(")[1].split("%")[0]) / 100 < 0.7  # 9/14


# Whole figures


def learned(steps: int) -> xr.Dataset:
    return history(steps, halved=True, kl=rng.normal(size=steps), kl_se=0.3, w2=1.0)


def held(steps: int) -> xr.Dataset:
    columns = {"held_kl": ("step", np.full(steps, 2.0)), "held_kl_se": ("step", np.ones(steps))}
    return learned(steps).assign(columns).drop_vars("w2")


# Each has several oddities at once where they do not meet.
ODD: dict[str, Callable[[], Any]] = {
    "line-without-history": lambda: flow(LINE, [[2.0]], [1.0], stopped="closed form"),
    "line-of-data": lambda: flow(rng.normal(size=30), [[2.0]], [1.0], learned(2)),
    "one-step": lambda: flow(PLANE, A.tolist(), B.tolist(), learned(1)),
    "diverged": lambda: flow(PLANE, A.tolist(), B.tolist(), learned(30), stopped="diverged"),
    "huge": lambda: flow(rng.normal(size=(50, 2)) * 1e12, (A * 1e12).tolist(), (B * 1e12).tolist(), learned(1000)),
    "tiny": lambda: flow(rng.normal(size=(50, 2)) * 1e-12, (A * 1e-12).tolist(), (B * 1e-12).tolist()),
    "space": lambda: flow(rng.normal(size=(40, 3)), np.eye(3).tolist(), [0.0] * 3, history(9, displacement=0.1)),
    "function": lambda: flow(lambda x: -x.abs().sum(1) - x.square().sum(1), A.tolist(), B.tolist(), held(5)),
    "line-of-a-long-name": lambda: portrait(flow(LINE, [[2.0]], [1.0], learned(40))).assign_attrs(
        target="$5_^" + "n" * 90
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_nothing_overlaps(name: str, nothing_overlaps: Callable[[Figure], None]) -> None:
    nothing_overlaps(plot_flow(ODD[name]()))


@pytest.mark.parametrize(
    ("stopped", "words"), [("steps", "ended after 2 steps"), ("diverged", "diverged after 2 steps, the last good map")]
)
def test_the_title_says_how_it_ended(stopped: str, words: str) -> None:
    figure = plot_flow(flow(LINE, [[2.0]], [1.0], learned(2), stopped=stopped))
    assert figure.get_suptitle() == f"line: Monge-Ampère map in 1 dimension, linear by density, {words}"


def test_same_map_same_bytes(same_bytes: Callable[[Callable[[], Figure]], None]) -> None:
    data = portrait(flow(PLANE, A.tolist(), B.tolist(), learned(5)))
    same_bytes(lambda: plot_flow(data))


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match="not a flow, it does not say its family"):
        plot_flow(xr.Dataset())
    with pytest.raises(ValueError, match="has not been fitted"):
        plot_flow(MongeAmpere("normal", LINE, method="linear"))
    bare = flow(LINE, [[2.0]], [1.0])
    with pytest.raises(ValueError, match="not a flow, it has no variable 'reference_points'"):
        plot_flow(bare.to_dataset())
    with pytest.raises(ValueError, match="on the line, and the figure is of two"):
        plot_flow_image(bare)
    for plot in (plot_flow_map, plot_flow_density):
        with pytest.raises(ValueError, match="in 2 dimensions, and the figure is of one"):
            plot(flow(PLANE, A.tolist(), B.tolist()))
