"""What the figure of a history shows is what was measured."""

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brenier.figures import plot_history


def history(steps: int, halved: bool = False, **columns: Any) -> xr.Dataset:
    """What a fit would have measured."""
    k = np.arange(1, steps + 1)
    found = {"eta": 0.2 / k, "halvings": np.where(halved & (k == 2), 1, 0), **columns}
    data = {name: ("step", np.broadcast_to(values, steps)) for name, values in found.items()}
    return xr.Dataset(data, {"step": k}, {"w2_floor": 0.3})


def artist(ax: Axes, name: str) -> Any:
    (found,) = [part for part in ax.get_children() if part.get_gid() == name]
    return found


def test_the_history_is_drawn_as_it_was() -> None:
    w2 = [math.nan, 1.0, math.nan, 0.5]
    past = history(4, halved=True, kl=[4.0, 2.0, 1.0, 0.1], kl_se=0.02, w2=w2)
    kl, distance, eta = plot_history(past)
    np.testing.assert_allclose(artist(kl, "kl").get_ydata(), [4, 2, 1, 0.1])
    assert kl.get_yscale() == "log"
    (shade,) = kl.collections
    reach = shade.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([reach.min(), reach.max()], [0.06, 4.04], rtol=0.2)
    np.testing.assert_allclose(np.transpose(artist(distance, "w2").get_data()), [[2, 1], [4, 0.5]])
    np.testing.assert_allclose(artist(distance, "floor").get_ydata(), 0.3)
    np.testing.assert_allclose(artist(eta, "eta").get_ydata(), past["eta"])
    np.testing.assert_allclose(artist(eta, "halved").get_xdata(), [2])
    assert (kl.get_ylabel(), distance.get_ylabel()) == ("KL", "$W_2$")


def test_kl_on_held_points_has_bars() -> None:
    past = history(3, kl=[4.0, 2.0, 0.1], kl_se=0.02, held_kl=[math.nan, 2.5, 0.2], held_kl_se=0.05)
    ax = plot_history(past)[0]
    np.testing.assert_allclose(np.transpose(artist(ax, "held_kl").get_data()), [[2, 2.5], [3, 0.2]])
    bars = np.array(ax.collections[-1].get_segments())
    np.testing.assert_allclose(bars[:, :, 1], [[2.4, 2.6], [0.1, 0.3]])


def test_kl_up_to_a_constant_has_no_zero() -> None:
    past = history(3, kl=[40.0, 2.0, 1.0], kl_se=0.02).assign_attrs(kl_constant=1)
    ax = plot_history(past)[0]
    assert (ax.get_yscale(), ax.get_ylabel()) == ("linear", "KL + constant")
    assert len(ax.get_lines()) == 1
    below = history(3, kl=[0.2, -0.01, 0.01], kl_se=0.02)
    assert len(plot_history(below)[0].get_lines()) == 2  # a line at 0


def test_with_neither_kl_nor_w2_it_is_the_steps_that_are_shown() -> None:
    moved, _ = plot_history(history(3, displacement=[0.2, 0.05, 0.01]))
    np.testing.assert_allclose(artist(moved, "displacement").get_ydata(), [1.0, 0.5, 0.15])
    assert len(plot_history(history(3, displacement=0.1, w2=1.0))) == 2


def test_a_grid_has_a_history_of_its_own() -> None:
    time = np.array([0.0, 0.1, 0.5, 3.0])
    past = xr.Dataset(
        {"kl": ("time", [1.0, 0.5, 0.1, 0.0]), "residual": ("time", [1, 0.1, 1e-3, 1e-5])}, {"time": time}
    )
    kl, residual, step = plot_history(past)
    np.testing.assert_allclose(artist(kl, "kl").get_xdata(), [0, 1, 2, 3])
    assert residual.get_yscale() == "log"
    np.testing.assert_allclose(artist(step, "time_step").get_ydata(), np.diff(time))


def test_what_is_no_history_is_refused() -> None:
    with pytest.raises(ValueError, match="not a history of a flow"):
        plot_history(xr.Dataset())
    with pytest.raises(ValueError, match="has 2 quantities, kl, eta: give as many axes"):
        plot_history(history(3, kl=1.0), [Figure().add_subplot()])
