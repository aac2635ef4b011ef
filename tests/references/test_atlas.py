import numpy as np
import pytest
import scipy.stats
import xarray as xr

import brenier
from brenier.references import atlas, paper


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> xr.Dataset:
    chosen = {"modes": ("two, equal",), "points and densities": ("two points", "1 : 19 points")}
    groups = {name: tuple(e for e in atlas.GROUPS[name] if e.name in names) for name, names in chosen.items()}
    groups["far"] = (atlas.Entry("t", lambda: brenier.Elliptical.student(3, 2), 256),)
    monkeypatch.setattr(atlas, "GROUPS", groups)
    monkeypatch.setattr(atlas, "SNRS", np.array([0.5, 1.5, 3.0]))
    return paper.numbers("atlas")


def test_its_numbers_are_the_closed_forms_and_the_profiles(few: xr.Dataset) -> None:
    assert few["name"].values.tolist() == ["two, equal", "two points", "1 : 19 points", "t"]
    points = few.isel(entry=1)
    np.testing.assert_allclose(points.m_star, [0, 0.4216, 0.0369], atol=1e-4)
    np.testing.assert_allclose(points.survival_at_one, [0, 0.1792, 0.0078], atol=1e-4)
    assert float(points.onset_snr) == pytest.approx(1, abs=1e-6)
    assert (float(points.bottleneck_snr), float(points.bottleneck_m_star)) == pytest.approx((1.5, 0.4216), abs=1e-4)
    # Modes of deviation 1/2 at +-3/2: at y = 0, L = r^2/4/(1 + r^2/4) + (3 r/2)^2/(1 + r^2/4)^2 is 1 at r^2 = 1/2.
    assert float(few.isel(entry=0).onset_snr) == pytest.approx(0.5**0.5, abs=1e-6)
    profile = brenier.probe(brenier.Elliptical.student(3, 2), atlas.SNRS, queries=256, progress=False)
    np.testing.assert_array_equal(few.isel(entry=3).m_star, profile.m_star)
    np.testing.assert_array_equal(few.isel(entry=3).m_star_se, profile.m_star_se)
    assert few.dim.values.tolist() == [1, 1, 1, 2]
    assert few.attrs["kind"] == "atlas"
    assert all({"long_name", "units"} <= set(variable.attrs) for variable in few.data_vars.values())


def test_every_law_has_a_panel_with_its_curves(few: xr.Dataset) -> None:
    whole = xr.concat([few] * atlas.COLUMNS, "entry").sortby("group")
    figure = paper.draw("atlas", whole)
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.get_title(loc="left")}
    assert set(panels) == set(few["name"].values.tolist())
    for name, ax in panels.items():
        drawn = next(line for line in ax.lines if line.get_label().startswith("complexity"))
        (k,) = np.flatnonzero(few["name"].values == name)
        np.testing.assert_array_equal(drawn.get_ydata(), few.m_star[k])


def test_every_group_fills_a_row_and_every_law_is_made_once() -> None:
    names = [(group, entry.name) for group, entries in atlas.GROUPS.items() for entry in entries]
    assert len(set(names)) == len(names)
    assert all(len(entries) == atlas.COLUMNS for entries in atlas.GROUPS.values())
    assert "atlas" not in paper.check_names(["all"])
    assert paper.check_names(["atlas"]) == ["atlas"]


@pytest.mark.parametrize("df", [1, 3])
def test_complexity_of_a_density_tends_to_a_number_of_its_own(df: int) -> None:
    """min over c of E (c + (log p)'')_+/c, as L_r = 1 + (log p)''/r^2 + ... where noise is small."""
    x = scipy.stats.t(df).ppf((np.arange(200_000) + 0.5) / 200_000)
    bend = -(df + 1) * (df - x**2) / (df + x**2) ** 2
    limit = min(np.maximum(c + bend, 0).mean() / c for c in np.geomspace(1e-3, 10, 200))
    found = brenier.probe(f"scipy:t({df})", [300.0], progress=False).m_star
    assert float(found[0]) == pytest.approx(limit, rel=2e-3)
