"""One door for figures of every kind."""

import pytest
import xarray as xr
from matplotlib.figure import Figure

import brenier
from brenier.figures import plot, plot_profile, plot_schedule
from brenier.figures.kinds import KINDS
from brenier.sampling.schedule import Schedule
from brenier.transport import SemiDiscrete


def test_a_dataset_is_drawn_by_its_kind() -> None:
    profile = brenier.probe("two-points", snrs=[0.5, 1.5, 3.0], progress=False)
    assert plot(profile).get_suptitle() == plot_profile(profile).get_suptitle()


def test_every_kind_has_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        page = Figure()
        monkeypatch.setitem(KINDS, kind, lambda data, page=page: page)
        assert plot(xr.Dataset(attrs={"kind": kind})) is page


def test_schedules_and_maps_are_drawn_as_they_are() -> None:
    schedule = Schedule((5.0, 1.0, 0.0), "heun", criterion="error")
    assert plot(schedule).get_suptitle() == plot_schedule(schedule).get_suptitle()
    transport = SemiDiscrete([-1.0, 0.5, 2.0]).fit()
    assert plot(transport).get_suptitle() == "optimal transport to 3 points in 1 dimension"


def test_what_has_no_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="no figure of the kind 'densities': there are of profile, chain"):
        plot(xr.Dataset(attrs={"kind": "densities"}))
    with pytest.raises(ValueError, match="no figure of the kind None"):
        plot(xr.Dataset())
    with pytest.raises(TypeError, match="got int"):
        plot(3)
