"""What the figure of a chain shows is what the chain says."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from brenier import figures
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.run import chain

PANELS = (
    figures.plot_chain_distances,
    figures.plot_chain_rates,
    figures.plot_chain_bounds,
    figures.plot_chain_divergences,
    figures.plot_chain_localization,
)
DISTANCES = ("w2_forward", "w2_backward", "w2_chain", "w2_discretisation")


def run(**options: Any) -> xr.Dataset:
    """Two normal laws around -2 and 1, from 0."""
    law = GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.2, 0.5], name=options.pop("name", "two"))
    return chain(law, options.pop("start", 0.0), progress=False, **{"steps": 4, "eta": 0.2, **options})


@pytest.fixture(scope="module")
def by_quantiles() -> xr.Dataset:
    return run()


@pytest.fixture(scope="module")
def with_error() -> xr.Dataset:
    return run(score_error=0.1, error_band=(0.5, 1.5))


def as_particles(found: xr.Dataset) -> xr.Dataset:
    """The same chain as if its distances came from particles."""
    found = found.drop_vars(["richness", "kl_forward", "kl_backward", "tv_forward", "tv_backward"])
    found = found.assign({f"{name}_se": 0.1 * found[name] for name in DISTANCES})
    return found.assign_attrs(method="particles", n=512)


@pytest.fixture(scope="module")
def by_particles(by_quantiles: xr.Dataset) -> xr.Dataset:
    return as_particles(by_quantiles)


def everywhere(found: xr.Dataset, value: float, *names: str) -> xr.Dataset:
    return found.assign({name: xr.full_like(found[name], value) for name in names})


def standing_still(found: xr.Dataset) -> xr.Dataset:
    """Start at the target, a target that the steps leave alone."""
    found = everywhere(found, 0.0, *DISTANCES, "bound_worst", "bound_star", "bound_sharp")
    return everywhere(everywhere(found, 0.0, "kl_backward", "tv_backward"), math.nan, "rate", "richness")


# Each has several oddities at once where they do not meet in the same panel.
ODD: dict[str, Callable[[xr.Dataset, xr.Dataset], xr.Dataset]] = {
    "particles": lambda plain, error: as_particles(plain),
    "score-error": lambda plain, error: error,
    "score-error-particles": lambda plain, error: as_particles(error).assign_attrs(error_band=[0.0, math.inf]),
    "one-step": lambda plain, error: run(steps=1),
    "standing-still-of-a-long-name": lambda plain, error: standing_still(plain).assign_attrs(
        target="$5 \\frac{_^日本" + "n" * 90, start="m" * 90
    ),
    "infinite-bounds": lambda plain, error: everywhere(plain, math.inf, "rate_worst", "bound_worst", "bound_star"),
    "small": lambda plain, error: plain.assign({name: 3e-7 * plain[name] for name in DISTANCES}),
    "long-time": lambda plain, error: run(steps=2, eta=6.0, beta=3.0),
    "eight-richnesses": lambda plain, error: run(steps=2, perturbations=(1, 1.5, 2, 3, 5, 20, 100, math.inf)),
}


@pytest.fixture(scope="module", params=ODD)
def odd(request: pytest.FixtureRequest, by_quantiles: xr.Dataset, with_error: xr.Dataset) -> xr.Dataset:
    return ODD[request.param](by_quantiles, with_error)


def lines(ax: Axes, name: str) -> list[Any]:
    return [artist for artist in ax.lines if artist.get_gid() == name]


def labels(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_the_distances_are_those_of_the_chain_and_their_markers_point_along(by_quantiles):
    ax = figures.plot_chain_distances(by_quantiles)
    for name, marker in zip(DISTANCES, "><<<", strict=True):
        (curve,) = lines(ax, name)
        values = by_quantiles[name].to_numpy()
        np.testing.assert_array_equal(curve.get_xdata(), by_quantiles["time"])
        np.testing.assert_array_equal(curve.get_ydata(), np.where(values > 0, values, np.nan))
        assert curve.get_marker() == marker
    assert ax.get_yscale() == "log"  # from the point 0 the distance falls far
    assert ax.get_ylim()[0] < float(by_quantiles["w2_chain"].min())


def test_bands_reach_two_standard_errors_and_quantiles_have_none(by_quantiles, by_particles):
    for panel in PANELS:
        assert not panel(by_quantiles).collections
    ax = figures.plot_chain_distances(by_particles)
    (curve,) = lines(ax, "w2_forward")
    band = next(a for a in ax.collections if tuple(a.get_facecolor()[0][:3]) == to_rgba(curve.get_color())[:3])
    top = float((by_particles["w2_forward"] + 2 * by_particles["w2_forward_se"]).max())
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(top)
    # An estimate of 0 has no place on a logarithmic axis; that it may be up to 0.7 is shown.
    zero = by_particles.assign(w2_discretisation=0 * by_particles["w2_discretisation"])
    zero = zero.assign(w2_discretisation_se=xr.full_like(zero["w2_discretisation"], 0.35))
    ax = figures.plot_chain_distances(zero)
    (curve,) = lines(ax, "w2_discretisation")
    assert np.isnan(curve.get_ydata()).all()
    band = next(a for a in ax.collections if tuple(a.get_facecolor()[0][:3]) == to_rgba(curve.get_color())[:3])
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.7)


def test_rates_are_drawn_measured_and_as_theory_has_them_around_zero(by_quantiles):
    ax = figures.plot_chain_rates(by_quantiles)
    for name in ("rate", "rate_worst"):
        np.testing.assert_array_equal(lines(ax, name)[0].get_ydata(), by_quantiles[name])
    for name, dash in (("rate_star", "-"), ("rate_sharp", "--")):
        drawn = lines(ax, name)
        np.testing.assert_array_equal(np.stack([a.get_ydata() for a in drawn], 1), by_quantiles[name])
        assert {artist.get_linestyle() for artist in drawn} == {dash}
        assert len({artist.get_marker() for artist in drawn}) == len(drawn)
    low, high = ax.get_ylim()
    assert low < min(0, float(by_quantiles["rate"].min()))
    assert high > max(0, float(by_quantiles["rate_worst"].max()))
    assert "no change" in labels(ax)
    infinite = figures.plot_chain_rates(by_quantiles.assign(rate_worst=by_quantiles["rate_worst"] + np.inf))
    assert r"worst case, to $\infty$" in labels(infinite)
    assert np.isfinite(infinite.get_ylim()).all()


def test_bounds_start_from_the_gap_and_those_out_of_sight_are_named(by_quantiles):
    ax = figures.plot_chain_bounds(by_quantiles)
    np.testing.assert_array_equal(lines(ax, "w2_chain")[0].get_ydata(), by_quantiles["w2_chain"])
    for name in ("bound_worst", "bound_star", "bound_sharp"):
        for curve in lines(ax, name):
            assert curve.get_ydata()[-1] == pytest.approx(float(by_quantiles["w2_chain"][-1]))
    far = by_quantiles.assign(bound_worst=by_quantiles["bound_worst"].where(by_quantiles["step"] > 0, 4e8))
    ax = figures.plot_chain_bounds(far)
    assert r"worst case, to $4\times10^{8}$" in labels(ax)
    assert ax.get_ylim()[1] < 100 * float(far["w2_chain"].max())


def test_only_what_is_a_bound_is_called_one(by_quantiles, by_particles, with_error):
    assert "bounds" in figures.plot_chain_bounds(by_quantiles).get_title(loc="left")
    for other in (by_particles, with_error, by_quantiles.assign_attrs(mode="sde")):
        assert "estimates" in figures.plot_chain_bounds(other).get_title(loc="left")
    assert "worst seen" in labels(figures.plot_chain_rates(by_particles))


def test_divergences_are_relative_to_the_last_step(by_quantiles):
    ax = figures.plot_chain_divergences(by_quantiles)
    for name in ("w2_backward", "kl_backward", "tv_backward"):
        values = by_quantiles[name].to_numpy()
        np.testing.assert_allclose(lines(ax, name)[0].get_ydata(), values / values[-1])
    assert "no change" in labels(ax)
    # Of a KL that rises ten-thousandfold, the last step is in sight still, and what lies a little below it.
    far = by_quantiles.assign(kl_backward=by_quantiles["kl_backward"] * xr.where(by_quantiles["step"] > 0, 1, 1e5))
    low, high = figures.plot_chain_divergences(far).get_ylim()
    assert low < 0.9 * min(1, float((by_quantiles["tv_backward"] / by_quantiles["tv_backward"][-1]).min()))
    assert high > 1e4
    # What is infinite or has nothing to be compared with is left out.
    atoms = by_quantiles.assign(kl_backward=by_quantiles["kl_backward"].where(by_quantiles["step"] > 0, np.inf))
    drawn = lines(figures.plot_chain_divergences(atoms), "kl_backward")[0].get_ydata()
    assert np.isnan(drawn[0])
    assert np.isfinite(drawn[1:]).all()
    assert not lines(figures.plot_chain_divergences(standing_still(by_quantiles)), "w2_backward")


def test_chains_under_a_potential_show_entropies_there_and_back(by_quantiles):
    found = run(potential="logcosh")
    titles = [ax.get_title(loc="left") for ax in figures.plot_chain(found).axes]
    assert titles[4:] == ["(e) The way there in $W_2$, KL and TV", "(f) The way back in $W_2$, KL and TV"]
    ax = figures.plot_chain_entropies(found)
    known = found["kl_forward"].to_numpy()  # the start is a point: at step 0 it has no relative entropy
    np.testing.assert_allclose(lines(ax, "kl_forward")[0].get_ydata()[1:], known[1:] / known[1])
    assert len(figures.plot_chain(by_quantiles).axes) == 4
    with pytest.raises(ValueError, match="kl_forward"):
        figures.plot_chain_entropies(found.drop_vars("kl_forward"))


def test_the_score_error_is_drawn_with_its_prediction_and_its_band(with_error, by_quantiles):
    ax = figures.plot_chain_error(with_error)
    for name in ("w2_error", "w2_error_predicted"):
        values = with_error[name].to_numpy()
        np.testing.assert_array_equal(lines(ax, name)[0].get_ydata(), np.where(values > 0, values, np.nan))
    assert "predicted to first order" in labels(ax)
    # White errors, and those beyond the line, are only bounded.
    for about in ({"error_kind": "white"}, {"dim": 2}):
        assert "at most, to first order" in labels(figures.plot_chain_error(with_error.assign_attrs(about)))
    (band,) = (patch for patch in ax.patches if patch.get_gid() == "error-band")
    # r = 1.5 and 0.5 lie at t = log(1 + 1/r^2)/2.
    assert band.get_x() == pytest.approx(math.log1p(1 / 1.5**2) / 2)
    assert band.get_x() + band.get_width() == pytest.approx(math.log1p(1 / 0.5**2) / 2)
    with pytest.raises(ValueError, match="score_error"):
        figures.plot_chain_error(by_quantiles)


def test_the_page_shows_what_the_chain_holds(by_quantiles, by_particles, with_error):
    def panels(found: xr.Dataset) -> list[str]:
        return [ax.get_title(loc="left")[4:] for ax in figures.plot_chain(found).axes]

    first = ["Distances, there and back", "Rate on the way back"]
    gap = "Gap on the way back, and its "
    assert panels(by_quantiles) == [*first, gap + "bounds", "The way back in $W_2$, KL and TV"]
    assert panels(by_particles) == [*first, gap + "estimates", "Localization"]
    assert panels(with_error)[4:] == ["Score error of 0.1, smooth", "Localization"]
    title = figures.plot_chain(by_particles).get_suptitle()
    assert title == ("two in 1 dimension, from point 0: 4 steps of 0.2, ODE, 512 particles, ±2 standard errors")


def test_the_top_axis_labels_the_same_noise_levels_by_their_snr(by_quantiles):
    (top,) = figures.plot_chain_rates(by_quantiles.assign_attrs(beta=4.0)).child_axes
    first, *rest = [text.get_text() for text in top.get_xticklabels()]
    assert first == r"$\infty$"
    assert len(rest) >= 3
    np.testing.assert_allclose(top.get_xticks(), [0, *(math.log1p(4 / float(snr) ** 2) / 2 for snr in rest)])


def test_axes_have_labels_and_no_text_or_legend_leaves_the_figure_or_covers_anything(odd, nothing_overlaps):
    figure = figures.plot_chain(odd)
    for ax in figure.axes:
        low, high = ax.get_ylim()
        assert np.isfinite([low, high]).all()
        assert sum(low <= place <= high for place in ax.get_yticks()) >= 2
    nothing_overlaps(figure)


def test_the_same_chain_makes_the_same_bytes(by_particles, same_bytes):
    same_bytes(lambda: figures.plot_chain(by_particles))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_draws_on_the_axes_it_is_given_and_returns_them(by_quantiles, panel):
    ax = Figure().add_subplot()
    assert panel(by_quantiles, ax) is ax
    assert ax.has_data()
    assert ax.get_xlabel()
    assert ax.get_ylabel()


@pytest.mark.parametrize("draw", [figures.plot_chain, figures.plot_chain_error, *PANELS])
def test_what_is_not_a_chain_is_refused_by_the_name_of_what_it_lacks(by_quantiles, draw):
    with pytest.raises(ValueError, match="no variable 'w2_chain'"):
        draw(by_quantiles.drop_vars("w2_chain"))
