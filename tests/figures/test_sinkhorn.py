"""The figure of Sinkhorn's limit shows its numbers."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brenier.figures.sinkhorn import plot_sinkhorn_limit


@pytest.fixture
def limit() -> xr.Dataset:
    epsilon = np.array([0.1, 0.05, 0.025, 0.0125])
    slopes = {"slope": [1.0, 0.98], "slope_low": [0.99, 0.951], "slope_high": [1.01, 1.02]}
    return xr.Dataset(
        {
            "l2": ("epsilon", 0.3 * epsilon),
            "sup": ("epsilon", 2 * epsilon**0.98),
            **{name: ("norm", values) for name, values in slopes.items()},
        },
        {"epsilon": epsilon, "norm": ["l2", "sup"]},
        {"time": 0.5, "reference": "normal", "target": "two $modes"},
    )


def test_errors_are_drawn_with_their_slopes(limit: xr.Dataset) -> None:
    ax = plot_sinkhorn_limit(limit)
    lines = {line.get_gid(): line for line in ax.lines}
    for norm in ("l2", "sup"):
        np.testing.assert_allclose(lines[norm].get_xdata(), limit.epsilon)
        np.testing.assert_allclose(lines[norm].get_ydata(), limit[norm])
    assert ax.get_xscale() == ax.get_yscale() == "log"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0].endswith("slope 1.00 [0.99, 1.01]")
    assert labels[1].endswith("slope 0.98 [0.95, 1.02]")
    assert "$t=0.5$" in ax.get_ylabel()


def test_the_guide_has_slope_one_and_lies_below(limit: xr.Dataset) -> None:
    ax = plot_sinkhorn_limit(limit)
    (guide,) = [line for line in ax.lines if line.get_gid() == "guide"]
    x, y = guide.get_data()
    assert np.log(y[1] / y[0]) / np.log(x[1] / x[0]) == pytest.approx(1)
    assert (y < limit.l2.to_numpy()[[-1, 0]]).all()
    low, high = ax.get_ylim()
    assert low < y.min()
    assert high > limit["sup"].max()


def test_nothing_overlaps(limit: xr.Dataset, nothing_overlaps) -> None:
    figure = Figure(figsize=(5.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    plot_sinkhorn_limit(limit, figure.add_subplot())
    nothing_overlaps(figure)


def test_other_data_are_refused(limit: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="this is not a sinkhorn limit, it has no variable 'sup'"):
        plot_sinkhorn_limit(limit.drop_vars("sup"))
