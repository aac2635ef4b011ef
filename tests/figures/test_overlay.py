from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import brenier
from brenier.figures import plot_compared, plot_profiles


@pytest.fixture(scope="module")
def profiles() -> dict[str, xr.Dataset]:
    points = np.random.default_rng(0).normal(size=(40, 2))
    return {
        "exact": brenier.probe("four-gaussians", [0.1, 0.3, 1.0, 3.0], progress=False),
        "data": brenier.probe(points, [0.2, 0.6, 2.0], about="atoms", queries=50, progress=False),
    }


def test_curves_are_the_profiles_and_say_which_is_which(profiles: dict[str, xr.Dataset]) -> None:
    figure = plot_profiles(profiles)
    for ax, name in zip(figure.axes, ("mean_localization", "m_star"), strict=True):
        lines = {line.get_gid(): line for line in ax.lines if line.get_gid() is not None}
        for k, profile in enumerate(profiles.values()):
            line = lines[f"{name}-{k}"]
            np.testing.assert_array_equal(line.get_xdata(), profile["snr"])
            np.testing.assert_array_equal(line.get_ydata(), profile[name])
        legend = ax.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == list(profiles)
        looks = {(to_hex(line.get_color()), line.get_linestyle(), line.get_marker()) for line in lines.values()}
        assert len(looks) == 2
        assert ax.get_xlim()[0] < 0.1
        assert ax.get_xlim()[1] > 3


def test_only_what_was_sampled_has_a_band(profiles: dict[str, xr.Dataset]) -> None:
    ax = plot_compared(profiles, name="m_star")
    assert len(ax.collections) == 1
    low, high = ax.collections[0].get_paths()[0].get_extents().get_points()[:, 1]
    found = profiles["data"]
    assert high == pytest.approx(float((found["m_star"] + 2 * found["m_star_se"]).max()))
    assert low >= 0


@pytest.fixture(scope="module")
def asked_both_ways() -> dict[str, xr.Dataset]:
    points, snrs = np.random.default_rng(0).normal(size=(300, 3)), [0.2, 0.6, 1.5, 8.0, 60.0]
    law, atoms = (brenier.probe(points, snrs, about=about, queries=128, progress=False) for about in ("law", "atoms"))
    return {"law": law, "atoms": atoms}


@pytest.mark.parametrize("name", ["mean_localization", "m_star"])
def test_what_is_not_told_is_left_out_and_what_is_memorised_is_faint(
    asked_both_ways: dict[str, xr.Dataset], name: str
) -> None:
    law, atoms = asked_both_ways.values()
    ax = plot_compared(asked_both_ways, name=name)
    lines = {line.get_gid(): np.asarray(line.get_ydata()) for line in ax.lines}
    resolved, collapse = float(law["resolved_snr"]), brenier.bottleneck(atoms)["collapse_snr"]
    for gid, profile, last in ((f"{name}-0", law, resolved), (f"{name}-1", atoms, collapse)):
        told = profile["snr"].to_numpy() <= last
        assert 0 < told.sum() < 5
        np.testing.assert_array_equal(lines[gid], np.where(told, profile[name], np.nan))
    faint = [gid for gid in lines if str(gid).endswith("-memorised")]
    assert faint == [f"{name}-1-memorised"]
    start = atoms["snr"].to_numpy()[atoms["snr"].to_numpy() <= collapse][-1]  # the two are joined
    np.testing.assert_array_equal(lines[faint[0]], atoms[name].where(atoms["snr"] >= start))
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "law",
        "atoms",
        "hatched: its data cannot tell",
        "faint: memorised (ESS < 2)",
    ]
    strips = {patch.get_gid(): patch for patch in ax.patches}
    assert set(strips) == {f"{name}-0-untold", f"{name}-1-untold"}
    assert all(strip.get_hatch() for strip in strips.values())
    assert strips[f"{name}-0-untold"].get_x() == float(asked_both_ways["law"]["resolved_snr"])


def test_a_bracket_is_drawn_as_wide_as_it_is(asked_both_ways: dict[str, xr.Dataset]) -> None:
    law = asked_both_ways["law"]
    (band,) = plot_compared({"law": law}, name="mean_localization").collections
    told = law.sel(snr=slice(None, float(law["resolved_snr"])))
    low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
    assert low == pytest.approx(float(told["mean_localization_low"].min()))
    assert high == pytest.approx(float(told["mean_localization_high"].max()))


def test_a_list_goes_by_the_targets_names(profiles: dict[str, xr.Dataset]) -> None:
    exact, data = profiles.values()
    legend = plot_profiles([exact, data, exact]).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["four-gaussians (1)", "data", "four-gaussians (3)"]


def test_names_of_any_length_have_their_place(
    profiles: dict[str, xr.Dataset], nothing_overlaps: Callable[[Figure], None]
) -> None:
    nothing_overlaps(plot_profiles({"n" * 20 + f" {k}": profiles["exact"] for k in range(4)}))
    figure = plot_profiles({f"/a/{'very/' * 20}long/path/{k}.nc": profiles["exact"] for k in range(7)})
    nothing_overlaps(figure)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    shown = [text.get_text() for text in legend.get_texts()]
    assert all(name.startswith("…") and len(name) == 50 for name in shown)
    assert [name[-4:] for name in shown] == [f"{k}.nc" for k in range(7)]


def test_same_profiles_same_bytes(
    profiles: dict[str, xr.Dataset], same_bytes: Callable[[Callable[[], Figure]], None]
) -> None:
    same_bytes(lambda: plot_profiles(profiles))


def test_refused(profiles: dict[str, xr.Dataset]) -> None:
    with pytest.raises(ValueError, match="from 1 to 7 profiles"):
        plot_profiles({})
    with pytest.raises(ValueError, match="from 1 to 7 profiles"):
        plot_profiles([profiles["data"]] * 8)
    with pytest.raises(ValueError, match="not a profile, it has no variable 'm_star'"):
        plot_profiles([profiles["data"].drop_vars("m_star")])
    with pytest.raises(ValueError, match="no variable 'ease'"):
        plot_compared(profiles, name="ease")
