"""What the figures of schedules show is what the schedules say."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import brenier
from brenier.figures import plot_schedule, plot_schedule_error
from brenier.figures import plot_schedule_steps as plot_steps
from brenier.sampling.schedule import Schedule

SIGMAS = (20.0, 5.0, 1.0, 0.4, 0.05, 0.0)
SHARES = (0.01, 0.2, 0.05, 0.4, 0.1)


def made(sigmas: tuple[float, ...] = SIGMAS, **options: Any) -> Schedule:
    return Schedule(sigmas, options.pop("solver", "heun"), criterion=options.pop("criterion", "error"), **options)


@pytest.fixture(scope="module")
def profile() -> xr.Dataset:
    return brenier.probe("two-points", np.geomspace(0.02, 50, 9), progress=False)


def artist(ax: Axes, name: str) -> Any:
    (found,) = [part for part in ax.get_children() if part.get_gid() == name]
    return found


def test_steps_per_decade_and_levels_are_those_of_the_grid() -> None:
    ax = plot_steps(made())
    steps = artist(ax, "density").get_data()
    np.testing.assert_allclose(steps.edges, [0.05, 0.2, 1, 2.5, 20])
    np.testing.assert_allclose(steps.values, 1 / np.log10([4, 5, 2.5, 8]))
    places = [segment[0, 0] for segment in artist(ax, "levels").get_segments()]
    np.testing.assert_allclose(places[:-1], 1 / np.array(SIGMAS[:-1]))
    assert places[-1] > 20  # sigma = 0 stands behind the last positive level, and says so on both axes
    labels = [label.get_text() for label in ax.get_xticklabels()]
    above = [label.get_text() for label in ax.child_axes[0].get_xticklabels()]
    assert (labels[-1], above[-1]) == (r"$\infty$", "0")
    assert ax.get_xlim()[0] < 0.05
    assert ax.get_xlim()[1] > places[-1]


def test_ticks_of_both_axes_stand_where_their_numbers_are() -> None:
    for sigmas in (SIGMAS, (30.0, 2.0, 0.1), (3.0, 0.0)):
        ax = plot_steps(made(sigmas))
        last = -1 if sigmas[-1] == 0 else None
        for axis, power in ((ax, 1), (ax.child_axes[0], -1)):
            numbers = [float(label.get_text()) for label in axis.get_xticklabels()[:last]]
            assert numbers
            np.testing.assert_allclose(axis.get_xticks()[:last], np.array(numbers) ** power, rtol=0.01)


def test_a_grid_that_ends_above_zero_has_no_gap() -> None:
    ax = plot_steps(made((10.0, 1.0, 0.1)))
    assert not [part for part in ax.get_children() if part.get_gid() == "to-zero"]
    np.testing.assert_allclose([segment[0, 0] for segment in artist(ax, "levels").get_segments()], [0.1, 1, 10])


def test_the_profile_stands_behind_the_steps(profile: xr.Dataset) -> None:
    figure = plot_schedule(made(), profile)
    front, behind = figure.axes
    assert behind.get_zorder() < front.get_zorder()
    for line in behind.lines:
        np.testing.assert_array_equal(line.get_xdata(), profile["snr"])
        np.testing.assert_array_equal(line.get_ydata(), profile[line.get_gid()])
    assert {line.get_gid() for line in behind.lines} == {"mean_localization", "m_star"}
    assert behind.get_ylim()[1] >= float(profile["mean_localization"].max())


def test_bars_are_the_shares_over_their_steps() -> None:
    ax = plot_schedule_error(made(predicted_error=SHARES))
    bars = [part for part in ax.patches if part.get_gid() == "share"]
    np.testing.assert_allclose([bar.get_height() for bar in bars], SHARES)
    np.testing.assert_allclose([bar.get_x() for bar in bars], 1 / np.array(SIGMAS[:-1]))
    assert "0.76" in ax.get_title(loc="left")
    assert plot_schedule_error(made(predicted_error=(0.5, -0.2, 0.1, 0.1, 0.1))).get_ylim()[0] < -0.2
    assert len(plot_schedule(made()).axes) == 1
    with pytest.raises(ValueError, match="predicts no error"):
        plot_schedule_error(made())


# Each has several oddities at once where they do not meet in the same panel.
ODD: dict[str, Callable[[xr.Dataset], Figure]] = {
    "plain": lambda profile: plot_schedule(made(law="law")),
    "profile-and-errors": lambda profile: plot_schedule(made(predicted_error=SHARES), profile),
    "one-step": lambda profile: plot_schedule(made((7.0, 0.0), predicted_error=(0.5,)), profile),
    "one-step-above-zero": lambda profile: plot_schedule(made((7.0, 0.5), predicted_error=(0.5,)), profile),
    "no-error-of-a-long-name": lambda profile: plot_schedule(
        made(predicted_error=(0.0,) * 5, law="$5_^" + "n" * 90, criterion="m" * 90)
    ),
    "tiny": lambda profile: plot_schedule(made(tuple(1e-6 * s for s in SIGMAS), predicted_error=(1e-9,) * 5)),
    "huge": lambda profile: plot_schedule(made(tuple(1e6 * s for s in SIGMAS), predicted_error=(3e7,) * 5)),
    "many-steps": lambda profile: plot_schedule(made((*np.geomspace(80, 0.002, 1000).tolist(), 0.0)), profile),
}


@pytest.mark.parametrize("name", ODD)
def test_nothing_overlaps(name: str, profile: xr.Dataset, nothing_overlaps: Callable[[Figure], None]) -> None:
    nothing_overlaps(ODD[name](profile))


def test_same_data_same_bytes(profile: xr.Dataset, same_bytes: Callable[[Callable[[], Figure]], None]) -> None:
    same_bytes(lambda: plot_schedule(made(predicted_error=SHARES), profile))


def test_what_is_no_profile_is_refused(profile: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="not a profile, it has no variable 'm_star'"):
        plot_schedule(made(), profile.drop_vars("m_star"))
