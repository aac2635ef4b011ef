"""What the figure of a profile shows is what the profile says."""

import importlib
import sys
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import brenier
from brenier import figures
from brenier.laws.empirical import Empirical

PANELS = (
    figures.plot_survival,
    figures.plot_complexity,
    figures.plot_contraction,
    figures.plot_localization,
    figures.plot_ess,
)


@pytest.fixture(scope="module")
def by_quadrature() -> xr.Dataset:
    return brenier.probe("two-points", snrs=np.geomspace(0.2, 8, 12), progress=False)


def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 3)) * np.asarray([3.0, 1.0, 0.2])


@pytest.fixture(scope="module")
def by_monte_carlo() -> xr.Dataset:
    return brenier.probe(points(), about="atoms", queries=200, progress=False)


@pytest.fixture(scope="module")
def behind() -> xr.Dataset:
    """Of the law behind data, from all noise to where they cannot tell."""
    two = points()[np.arange(240) % 60] + 0.3 * np.random.default_rng(1).normal(size=(240, 3))
    return brenier.probe(two, np.geomspace(0.05, 40, 8), queries=128, progress=False)


def in_place_of(profile: xr.Dataset, **values: float) -> xr.Dataset:
    """The profile with some of its variables set to one value throughout."""
    return profile.assign({name: xr.full_like(profile[name], value) for name, value in values.items()})


def odd_points(**options: Any) -> xr.Dataset:
    return brenier.probe(points(), progress=False, **{"about": "atoms", "queries": 50, **options})


# Each has several oddities at once where they do not meet in the same panel.
ODD = {
    "one-snr": lambda: brenier.probe("spike-slab", snrs=[1.0], progress=False),
    "one-snr-monte-carlo": lambda: odd_points(snrs=[1.0]),
    "two-snrs": lambda: brenier.probe("two-points", snrs=[0.8, 2.0], progress=False),
    "snrs-a-hair-apart": lambda: brenier.probe(
        "two-points", [2, 2.0001], queries=50, method="monte-carlo", progress=False
    ),
    "eight-decades": lambda: brenier.probe(
        "spike-slab", np.geomspace(1e-4, 1e4, 9), queries=50, method="monte-carlo", progress=False
    ),
    "log-concave": lambda: brenier.probe("normal", snrs=np.geomspace(0.1, 10, 5), progress=False),
    "no-localization": lambda: brenier.probe("point-mass", snrs=np.geomspace(0.1, 10, 5), progress=False),
    "one-atom": lambda: brenier.probe(np.ones((1, 2)), about="atoms", queries=20, progress=False),
    "one-query-one-richness": lambda: odd_points(queries=1, perturbations=(2,)),
    "eight-richnesses-of-a-long-name": lambda: brenier.probe(
        Empirical(points(), name="$5 \\frac{_^日本 " + "n" * 90),
        about="atoms",
        queries=50,
        perturbations=(1, 1.5, 2, 3, 5, 20, 100, 1e6),
        progress=False,
    ),
    "held-out-with-infinite-zeta": lambda: in_place_of(odd_points(holdout=0.25), zeta_star=-np.inf),
}


def behind_points(**options: Any) -> xr.Dataset:
    cloud = np.random.default_rng(2).normal(size=(300, 3)) * np.asarray([3.0, 1.0, 0.2])
    return brenier.probe(cloud, progress=False, **{"snrs": np.geomspace(0.03, 40, 9), "queries": 64, **options})


ODD |= {
    "law-behind": behind_points,
    "law-behind-with-a-model": lambda: behind_points(
        model=brenier.GaussianMixture([1.0], [[0.0, 0, 0]], 1.0, name="$m \\frac{_" + "n" * 60)
    ),
    "law-behind-to-times-in-powers-of-ten": lambda: behind_points(
        snrs=np.geomspace(0.05, 50, 7), model=brenier.GaussianMixture([1.0], [[0.0, 0, 0]], 1.0)
    ),
    "law-behind-at-one-snr-not-resolved": lambda: behind_points(snrs=[30.0]),
    "law-behind-all-resolved": lambda: behind_points(snrs=[0.05, 0.1, 0.2]),
    "law-behind-the-first-resolved": lambda: behind_points(snrs=[0.05, 50.0, 100.0]),
}


@cache
def odd(name: str) -> xr.Dataset:
    return ODD[name]()


def line(ax: Axes, name: str) -> np.ndarray:
    (found,) = (artist for artist in ax.lines if artist.get_gid() == name)
    return np.asarray(found.get_xydata())


def labels(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_survival_curves_are_those_of_the_profile(by_monte_carlo):
    ax = figures.plot_survival(by_monte_carlo)
    (curves,) = (artist for artist in ax.collections if isinstance(artist, LineCollection))
    drawn = np.stack(curves.get_segments())
    np.testing.assert_array_equal(drawn[:, :, 0], np.broadcast_to(by_monte_carlo["u"], drawn.shape[:2]))
    np.testing.assert_array_equal(drawn[:, :, 1], by_monte_carlo["survival"])
    np.testing.assert_array_equal(curves.get_array(), by_monte_carlo["snr"])


def test_survival_colours_rise_in_luminance_with_the_logarithm_of_the_snr(by_quadrature):
    curves = next(a for a in figures.plot_survival(by_quadrature).collections if isinstance(a, LineCollection))
    luminance = curves.to_rgba(by_quadrature["snr"].to_numpy())[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) > 0)
    assert luminance[-1] < 0.8  # still to be seen on white
    middle = np.sqrt(by_quadrature["snr"][0] * by_quadrature["snr"][-1])
    assert float(curves.norm(float(middle))) == pytest.approx(0.5)


def test_the_dashed_survival_curve_is_the_one_at_the_bottleneck(by_quadrature):
    ax = figures.plot_survival(by_quadrature)
    (dashed,) = (artist for artist in ax.lines if artist.get_linestyle() == "--")
    snr = brenier.bottleneck(by_quadrature)["snr"]
    np.testing.assert_array_equal(dashed.get_ydata(), by_quadrature["survival"].sel(snr=snr))


@pytest.mark.parametrize("name", ["m_star", "delta_star"])
def test_complexity_curves_are_those_of_the_profile_with_bands_of_two_standard_errors(by_monte_carlo, name):
    ax = figures.plot_complexity(by_monte_carlo)
    drawn = line(ax, name)
    np.testing.assert_array_equal(drawn[:, 0], by_monte_carlo["snr"])
    np.testing.assert_array_equal(drawn[:, 1], by_monte_carlo[name])
    colour = next(artist for artist in ax.lines if artist.get_gid() == name).get_color()
    band = next(a for a in ax.collections if tuple(a.get_facecolor()[0][:3]) == to_rgba(colour)[:3])
    edge = band.get_paths()[0].vertices
    highest = by_monte_carlo[name] + 2 * by_monte_carlo[f"{name}_se"]
    assert edge[:, 1].max() == pytest.approx(float(highest.clip(0, 1 if name == "delta_star" else None).max()))


def test_quadrature_draws_no_bands(by_quadrature):
    for panel in PANELS[1:]:
        assert not panel(by_quadrature).collections


def test_the_marks_sit_where_bottleneck_says(by_quadrature, by_monte_carlo):
    for profile in (by_quadrature, by_monte_carlo):
        found = brenier.bottleneck(profile)
        ax = figures.plot_complexity(profile)
        assert line(ax, "bottleneck")[:, 0] == pytest.approx([found["snr"]] * 2)
        assert line(ax, "onset")[:, 0] == pytest.approx([found["onset_snr"]] * 2)
        (interval,) = (patch for patch in ax.patches if patch.get_gid() == "interval")
        assert interval.get_x() == pytest.approx(found["snr_low"])
        assert interval.get_x() + interval.get_width() == pytest.approx(found["snr_high"])
    ax = figures.plot_ess(by_monte_carlo)
    assert line(ax, "collapse")[:, 0] == pytest.approx([found["collapse_snr"]] * 2)
    for panel in PANELS[1:]:
        ax = panel(by_monte_carlo)
        (hatched,) = (patch for patch in ax.patches if patch.get_gid() == "memorised")
        assert hatched.get_x() == pytest.approx(found["collapse_snr"])
        assert hatched.get_x() + hatched.get_width() == pytest.approx(ax.get_xlim()[1])


@pytest.mark.parametrize("panel", PANELS[1:])
def test_what_data_cannot_tell_of_their_law_is_hatched_from_the_last_that_they_can(behind, panel):
    resolved = float(behind["resolved_snr"])
    ax = panel(behind)
    assert float(behind["snr"][0]) < resolved < float(behind["snr"][-1])
    (hatched,) = (patch for patch in ax.patches if patch.get_gid() in ("untold", "memorised"))
    assert hatched.get_gid() == "untold"
    assert hatched.get_hatch()
    assert hatched.get_x() == pytest.approx(resolved)
    assert hatched.get_x() + hatched.get_width() == pytest.approx(ax.get_xlim()[1])
    assert "240 data cannot tell" in labels(ax)


@pytest.mark.parametrize(
    ("panel", "names"),
    [
        (figures.plot_complexity, ["m_star", "delta_star"]),
        (figures.plot_contraction, ["zeta_star", "zeta_sharp"]),
        (figures.plot_localization, ["mean_localization"]),
    ],
)
def test_curves_of_the_law_behind_data_end_where_they_cannot_tell(behind, panel, names):
    resolved = float(behind["resolved_snr"])
    ax = panel(behind)
    for name in names:
        drawn = [artist for artist in ax.lines if artist.get_gid() == name]
        values = behind[name].to_numpy().reshape(behind.sizes["snr"], -1)
        for k, artist in enumerate(drawn):
            x, y = np.asarray(artist.get_xdata()), np.asarray(artist.get_ydata())
            told = x <= resolved * 1.01
            np.testing.assert_array_equal(y[told], values[: told.sum(), k])
            assert np.isnan(y[~told]).all()
            assert told.any()
    assert "sup_localization" not in [artist.get_gid() for artist in ax.lines]


def test_brackets_are_drawn_from_end_to_end(behind):
    ax = figures.plot_complexity(behind)
    colour = next(artist for artist in ax.lines if artist.get_gid() == "m_star").get_color()
    told = behind.sel(snr=slice(None, float(behind["resolved_snr"])))
    shaded = [a for a in ax.collections if tuple(a.get_facecolor()[0][:3]) == to_rgba(colour)[:3]]
    highest = max(path.vertices[:, 1].max() for a in shaded for path in a.get_paths())
    assert highest == pytest.approx(float(told["m_star_high"].max()))


def test_the_survival_curves_of_the_law_behind_data_are_those_that_are_told(behind):
    (curves,) = (a for a in figures.plot_survival(behind).collections if isinstance(a, LineCollection))
    told = behind.sel(snr=slice(None, float(behind["resolved_snr"])))
    np.testing.assert_array_equal(curves.get_array(), told["snr"])
    np.testing.assert_array_equal(np.stack(curves.get_segments())[:, :, 1], told["survival"])


def test_a_model_is_drawn_to_the_end():
    profile = odd("law-behind-with-a-model")
    assert float(profile["resolved_snr"]) < float(profile["snr"][-1])
    for panel, name in ((figures.plot_complexity, "m_star"), (figures.plot_localization, "mean_localization")):
        drawn = line(panel(profile), f"model_{name}")
        np.testing.assert_array_equal(drawn[:, 0], profile["snr"])
        np.testing.assert_array_equal(drawn[:, 1], profile[f"model_{name}"])


def test_where_all_is_resolved_nothing_is_hatched_and_where_nothing_is_all():
    for panel in PANELS[1:]:
        assert not [patch for patch in panel(odd("law-behind-all-resolved")).patches if patch.get_gid() == "untold"]
        ax = panel(odd("law-behind-at-one-snr-not-resolved"))
        (hatched,) = (patch for patch in ax.patches if patch.get_gid() == "untold")
        assert (hatched.get_x(), hatched.get_x() + hatched.get_width()) == pytest.approx(ax.get_xlim())


def test_speciation_is_marked_where_the_mean_localization_reaches_one():
    profile = brenier.probe(10 * points(), about="atoms", queries=200, holdout=0.25, progress=False)
    speciation = brenier.bottleneck(profile)["speciation_snr"]
    assert np.isfinite(speciation)
    assert line(figures.plot_localization(profile), "speciation")[:, 0] == pytest.approx([speciation] * 2)


def test_an_explicit_law_of_two_points_memorises_nothing():
    profile = brenier.probe("two-points", queries=100, method="monte-carlo", progress=False)
    assert float(profile["ess"].min()) < 2
    assert not any(patch.get_gid() == "memorised" for patch in figures.plot_complexity(profile).patches)


def test_a_maximum_at_the_end_of_the_grid_is_not_called_the_bottleneck(by_quadrature):
    rising = by_quadrature.sel(snr=slice(None, 1.3))
    assert float(rising["m_star"].max()) > 0
    assert any("largest" in text and "at the end" in text for text in labels(figures.plot_complexity(rising)))
    assert not any("bottleneck" in text for text in labels(figures.plot_complexity(rising)))
    assert any("bottleneck" in text for text in labels(figures.plot_complexity(by_quadrature)))


def test_contraction_draws_each_richness_published_and_sharp(by_quadrature):
    ax = figures.plot_contraction(by_quadrature)
    for name, dash in (("zeta_star", "-"), ("zeta_sharp", "--")):
        drawn = [artist for artist in ax.lines if artist.get_gid() == name]
        assert {artist.get_linestyle() for artist in drawn} == {dash}
        np.testing.assert_array_equal(np.stack([a.get_ydata() for a in drawn], 1), by_quadrature[name])
        assert len({artist.get_marker() for artist in drawn}) == len(drawn)
    low, high = ax.get_ylim()
    assert low < float(by_quadrature["zeta_star"].min())
    assert high > float(by_quadrature["zeta_star"].max())


def test_minus_infinity_is_marked_at_the_lower_edge_where_it_occurs(by_monte_carlo):
    gone = by_monte_carlo["snr"] > 1
    profile = by_monte_carlo.assign(zeta_star=by_monte_carlo["zeta_star"].where(~gone, -np.inf))
    ax = figures.plot_contraction(profile)
    marks = next(artist for artist in ax.lines if artist.get_gid() == "minus-infinity")
    np.testing.assert_array_equal(marks.get_xdata(), profile["snr"][gone])
    assert r"$-\infty$" in labels(ax)
    assert np.isfinite(ax.get_ylim()).all()


def test_the_top_axes_label_the_same_noise_levels_in_sigma_and_ou_time(by_quadrature):
    beta = 4.0
    profile = by_quadrature.assign_attrs(beta=beta)
    for panel, snr in (
        (figures.plot_complexity, lambda sigma: 1 / sigma),
        (figures.plot_contraction, lambda time: np.sqrt(beta / (np.exp(2 * time) - 1))),
    ):
        ax = panel(profile)
        (top,) = ax.child_axes
        values = np.asarray([float(text.get_text()) for text in top.get_xticklabels()])
        assert len(values) >= 3
        np.testing.assert_allclose(top.get_xticks(), snr(values))


def test_a_law_that_is_log_concave_throughout_has_no_bottleneck_in_its_figure():
    profile = odd("log-concave")
    ax = figures.plot_complexity(profile)
    assert any("zero throughout" in text for text in labels(ax))
    assert not any("bottleneck" in text for text in labels(ax))
    assert len(figures.plot_survival(profile).lines) == 1  # the line u = 1


def test_an_ess_that_is_nan_throughout_gets_no_axis(by_quadrature):
    assert by_quadrature["ess"].isnull().all()
    assert "sample size" not in " ".join(ax.get_ylabel() for ax in figures.plot_profile(by_quadrature).axes)
    assert np.isfinite(figures.plot_ess(by_quadrature).get_ylim()).all()


def test_the_title_says_what_was_probed_and_how(by_quadrature):
    def title(profile: xr.Dataset) -> str:
        return figures.plot_profile(profile).get_suptitle()

    assert title(by_quadrature) == "two-points in 1 dimension: quadrature"
    assert (
        title(odd("law-behind")) == "the law behind data in 3 dimensions: Monte Carlo, 64 queries, bands: 95% brackets"
    )
    held = title(odd("held-out-with-infinite-zeta"))
    assert held == "data in 3 dimensions: Monte Carlo, 50 queries from the 25% held out, bands ±2 standard errors"


@pytest.mark.parametrize("name", ODD)
def test_no_text_or_legend_leaves_the_figure_or_covers_a_panel_or_another(name, nothing_overlaps):
    nothing_overlaps(figures.plot_profile(odd(name)))


def test_the_same_profile_makes_the_same_bytes(by_monte_carlo, same_bytes):
    same_bytes(lambda: figures.plot_profile(by_monte_carlo))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_draws_on_the_axes_it_is_given_and_returns_them(by_monte_carlo, panel):
    ax = Figure().add_subplot()
    assert panel(by_monte_carlo, ax) is ax
    assert ax.has_data()
    assert ax.get_xlabel()
    assert ax.get_ylabel()


@pytest.mark.parametrize("draw", [figures.plot_profile, *PANELS])
def test_what_is_not_a_profile_is_refused_by_the_name_of_what_it_lacks(by_quadrature, draw):
    with pytest.raises(ValueError, match="no variable 'm_star'"):
        draw(by_quadrature.drop_vars("m_star"))


def test_drawing_changes_no_settings_and_leaves_pyplot_alone(by_monte_carlo, tmp_path, monkeypatch):
    def settings() -> dict[str, Any]:  # all but the backend: to read that one makes matplotlib import pyplot
        return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}

    for name in [name for name in sys.modules if name == "matplotlib.pyplot" or name.startswith("brenier.figures.")]:
        monkeypatch.delitem(sys.modules, name)  # whatever a module imports, it imports again
    before = settings()
    fresh = importlib.import_module("brenier.figures.profile")
    page = importlib.import_module("brenier.figures.page")
    fresh.plot_survival(by_monte_carlo)
    page.save_figure(fresh.plot_profile(by_monte_carlo), tmp_path / "figure.png", dpi=50)
    assert settings() == before
    assert "matplotlib.pyplot" not in sys.modules
    assert (tmp_path / "figure.png").stat().st_size > 0
