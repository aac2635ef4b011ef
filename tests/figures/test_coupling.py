"""What the figure of a coupling shows is what the report holds."""

import numpy as np
import pytest
import xarray as xr

import brenier
from brenier.figures import plot, plot_coupling, plot_detours, plot_pair_costs


@pytest.fixture(scope="module")
def coupling() -> xr.Dataset:
    transport = brenier.SemiDiscrete(np.random.default_rng(0).normal(size=(12, 1))).fit()
    return brenier.coupling_report(transport, batches=(4, 16), samples=2**12, progress=False)


def test_the_page_has_two_panels(coupling: xr.Dataset) -> None:
    figure = plot(coupling)
    assert [ax.get_title(loc="left")[:3] for ax in figure.axes] == ["(a)", "(b)"]
    assert "12 points in 1 dimension" in figure.get_suptitle()


def test_curves_are_the_numbers(coupling: xr.Dataset) -> None:
    lines = {line.get_gid(): line for line in (*plot_pair_costs(coupling).lines, *plot_detours(coupling).lines)}
    for name in ("cost", "detour"):
        np.testing.assert_array_equal(np.asarray(lines[name].get_xdata()), coupling["batch"])
        np.testing.assert_array_equal(np.asarray(lines[name].get_ydata()), coupling[name])
    for name in ("map_cost", "independent_cost"):
        assert set(np.asarray(lines[name].get_ydata()).tolist()) == {float(coupling[name])}
    x, y = (np.log(np.asarray(part, dtype=float)) for part in lines["guide"].get_data())
    assert np.diff(y) / np.diff(x) == pytest.approx([-0.25])


def test_what_is_no_coupling_is_refused(coupling: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="measured without minibatch plans"):
        plot_coupling(coupling.isel(batch=[]))
    with pytest.raises(ValueError, match="a profile"):
        plot_coupling(coupling.assign_attrs(kind="profile"))
