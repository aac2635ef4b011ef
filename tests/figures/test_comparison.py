"""What the figure of a comparison shows is what the comparison says."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from brenier.figures import plot_compared_errors, plot_comparison

NAMES = ("error", "curvature", "information", "information-rescaled", "kl")
BY_HAND = ("karras", "log-snr", "cosine", "linear-beta", "uniform-sigma")


def compared(
    names: tuple[str, ...] = NAMES + BY_HAND, steps: tuple[int, ...] = (5, 10, 20), **attrs: Any
) -> xr.Dataset:
    """Errors that fall as 1/steps, each criterion a tenth above the one before; a stochastic solver has W2 alone."""
    shape = (len(names), 3, len(steps))
    error = np.broadcast_to(1 / np.array(steps), shape) * 1.1 ** np.arange(len(names))[:, None, None]
    rms = error * np.array([1, 1, math.nan])[:, None]
    w2 = error * np.array([0.5, 0.5, 1])[:, None]
    w2[-1, -1, -1] = 0  # cannot be told from 0
    dims = ("criterion", "solver", "steps")
    found = {"rms": rms, "rms_se": rms / 50, "w2": w2, "w2_se": np.full(shape, 0.002)}
    return xr.Dataset(
        {
            **{name: (dims, values) for name, values in found.items()},
            "evaluations": (dims[1:], np.outer([1, 2, 1], steps)),
        },
        {"criterion": list(names), "solver": ["euler", "heun", "euler-maruyama"], "steps": list(steps)},
        {"law": "law", "dim": 2, "n": 100, "w2_method": "sliced", **attrs},
    )


def artist(ax: Axes, name: str) -> Any:
    (found,) = [part for part in ax.get_children() if part.get_gid() == name]
    return found


def test_curves_are_the_errors_against_the_evaluations() -> None:
    data = compared()
    for name in ("rms", "w2"):
        ax = plot_compared_errors(data, solver="heun", name=name)
        for criterion in data["criterion"].values:
            line = artist(ax, f"{name}-{criterion}")
            np.testing.assert_array_equal(line.get_ydata(), data[name].sel(solver="heun", criterion=criterion))
            np.testing.assert_allclose(line.get_xdata(), [10, 20, 40], rtol=0.07)  # side by side
        assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "20", "40"]
    widths = {line.get_gid(): line.get_linewidth() for line in ax.lines if line.get_gid()}
    assert widths["w2-error"] > 1.5 * max(width for name, width in widths.items() if name != "w2-error")
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.lines if line.get_gid()}
    assert len(looks) == 10


def test_bars_reach_two_standard_errors_and_what_is_below_the_axis_is_hollow() -> None:
    data = compared()
    ax = plot_compared_errors(data, solver="euler-maruyama", name="w2")
    bars = np.concatenate([part.get_segments() for part in ax.collections])
    values = data["w2"].sel(solver="euler-maruyama").values.ravel()
    np.testing.assert_allclose(bars[:, 1, 1], np.maximum(values + 0.004, ax.get_ylim()[0]))
    np.testing.assert_allclose(bars[:-1, 0, 1], values[:-1] - 0.004)
    hollow = [line for line in ax.lines if line.get_gid() is None and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in hollow] == [[ax.get_ylim()[0]]]
    assert not plot_compared_errors(data, solver="euler-maruyama").lines


ODD: dict[str, Callable[[], xr.Dataset]] = {
    "plain": compared,
    "one-of-each": lambda: compared(("error",), (7,)).isel(solver=[0]),
    "stochastic-only": lambda: compared(BY_HAND).sel(solver=["euler-maruyama"]),
    "many-counts-of-a-long-law": lambda: compared(
        steps=(4, 5, 6, 7, 8, 9, 10, 12, 15, 100), target="$5_^" + "n" * 90
    ).isel(solver=[0, 2]),
    "no-data": lambda: compared().isel(solver=[1]).assign(w2=xr.full_like(compared()["w2"][:, [1]], math.nan)),
}


@pytest.mark.parametrize("name", ODD)
def test_nothing_overlaps(name: str, nothing_overlaps: Callable[[Figure], None]) -> None:
    nothing_overlaps(plot_comparison(ODD[name]()))


def test_what_is_no_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="it has no variable 'rms'"):
        plot_comparison(compared().drop_vars("rms"))
    with pytest.raises(ValueError, match="no variable 'median'"):
        plot_compared_errors(compared(), solver="heun", name="median")
