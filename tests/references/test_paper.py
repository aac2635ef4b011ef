"""The paper's figures show what closed forms and independent integrals say."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from scipy import integrate, optimize
from scipy.stats import norm

from brenier.figures import save_figure
from brenier.references import paper
from brenier.references.paper import diffusions, multiscale
from brenier.scales import snr_from_time, time_from_snr

QUADRATURE = 1e-9  # stated for survival and integrated tails by `localization_quadrature`, with room
STARS = 1e-6  # the same for m*, delta*, zeta*


@pytest.fixture(scope="module")
def coarse() -> Iterator[None]:
    """Curves at fewer points than those that are published."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiscale, "INTERVALS", 8)
        patch.setattr(multiscale, "LEVELS", 15)
        for name, example in multiscale.EXAMPLES.items():
            every_third = tuple(snrs[::-3][::-1] for snrs in example.snrs)  # the largest among them
            patch.setitem(multiscale.EXAMPLES, name, dataclasses.replace(example, snrs=every_third))
        yield


@pytest.fixture(scope="module")
def by_name(coarse: None) -> dict[str, xr.Dataset]:
    return {f"fig{k}": paper.numbers(f"fig{k}") for k in (1, 2, 3, 4, 5, 6, 8, 10)}


def survival_of_two_points(u, r: float):
    """[LDK24] (5.1) and (5.2) for mu = 1, with log((r + q)/(r - q)) = 2 artanh(q/r)."""
    u = np.asarray(u)
    q = np.sqrt(np.maximum(r**2 - u, 0))
    with np.errstate(divide="ignore"):
        half = np.arctanh(q / r) / r
    return np.where(u < r**2, norm.cdf(half + r) + norm.cdf(half - r) - 1, 0.0)


def tail_of_two_points(delta: float, r: float) -> float:
    """h(delta) = int_{1-delta}^{r^2} s(u) du, with u = r^2 - v^2, which takes the root's corner away."""
    top = np.sqrt(max(r**2 - 1 + delta, 0))
    return integrate.quad(lambda v: 2 * v * float(survival_of_two_points(r**2 - v**2, r)), 0, top, epsabs=1e-11)[0]


# Figure 1


def test_figure_1_shades_the_mass_it_reports(by_name):
    data = by_name["fig1"]
    edge, y = data["edge"].fillna(0).to_numpy(), data["y"].to_numpy()
    r = data["snr"].to_numpy()[:, None]
    mass = norm.cdf(edge - r) - norm.cdf(-edge - r)  # each of the two points gives half of it, by symmetry
    np.testing.assert_allclose(data["survival"], mass, atol=QUADRATURE)
    np.testing.assert_allclose(data["density"], (norm.pdf(y - r) + norm.pdf(y + r)) / 2, rtol=1e-12)


def test_figure_1_has_the_papers_numbers(by_name):
    data = by_name["fig1"]
    np.testing.assert_allclose(data["snr"], [1 / np.sqrt(2), 1.5, 3])
    np.testing.assert_allclose(data["survival"], [[0, 0], [0.18, 0.27], [0.01, 0.01]], atol=0.005)
    np.testing.assert_allclose(data["integrated_tail"], [[0, 0], [0.13, 0.24], [0.02, 0.03]], atol=0.005)


# Figures 2 to 6, 8 and 10


@pytest.mark.parametrize("name", ["fig2", "fig6"])
def test_survival_of_two_points_is_the_papers_formula(by_name, name):
    data = by_name[name]
    for r in data["snr"].to_numpy():
        expected = survival_of_two_points(data["u"], r)
        # Where r^2 is a level to rounding, the survival falls to 0 like a square root: an error e in u makes sqrt(e).
        np.testing.assert_allclose(data["survival"].sel(snr=r), expected, atol=1e-7)


def test_the_point_mass_has_the_papers_formulas(by_name):
    data = by_name["fig3"]
    np.testing.assert_array_equal(data["m_star"], 0)
    np.testing.assert_array_equal(data["delta_star"], 1)
    np.testing.assert_allclose(data["zeta_star"][:, 0], -1 / np.expm1(-2 * data["time"]), rtol=1e-12)


def test_normal_laws_have_the_papers_formulas(by_name):
    data = by_name["fig4"]
    r, t, variance = data["snr_at_time"], data["time"], data["deviation"] ** 2
    np.testing.assert_allclose(r, snr_from_time(t))
    # Of L = 1 - delta*, rounding leaves an error of 1e-16: relative to delta* it is largest at high SNR.
    np.testing.assert_array_equal(data["m_star"], 0)
    np.testing.assert_allclose(data["delta_star"], 1 / (variance * r**2 + 1), rtol=1e-12)
    expected = 1 / (1 + np.exp(-2 * t) * (variance - 1))
    np.testing.assert_allclose(
        data["zeta_star"].squeeze("perturbation"), expected.transpose("deviation", "time"), 1e-12
    )
    step = data["snr"] ** 2 / (data["snr"] ** 2 + 1)
    np.testing.assert_array_equal(data["survival"], (data["u"] < step).transpose("snr", "u"))


def test_the_uniform_law_contracts_by_its_curvature_at_zero(by_name):
    data = by_name["fig5"]
    r = data["snr_at_time"].to_numpy()
    # The largest posterior variance is that at y = 0, of a normal law cut to [-r, r].
    gap = 2 * r * norm.pdf(r) / (2 * norm.cdf(r) - 1)
    np.testing.assert_array_equal(data["m_star"], 0)
    np.testing.assert_allclose(data["delta_star"], gap, atol=QUADRATURE)
    np.testing.assert_allclose(data["zeta_star"][:, 0], gap * (1 + r**2), atol=QUADRATURE * (1 + r.max() ** 2))


def test_two_points_have_the_stars_of_their_integrated_tail(by_name):
    data = by_name["fig6"]
    assert float(data["onset_snr"]) == pytest.approx(1, abs=1e-6)
    for k in (1, 4):  # before the onset on the way back, and after it
        one = data.isel(time=k)
        r = float(one["snr_at_time"])
        worst = 1 - min(r**2, 1)  # up to here h = 0 and h/delta = 0
        least = optimize.minimize_scalar(
            lambda delta, r=r: tail_of_two_points(delta, r) / delta, bounds=(max(worst, 1e-3), 1), method="bounded"
        )
        assert float(one["m_star"]) == pytest.approx(least.fun if r > 1 else 0, abs=STARS)
        for m in (2.0, 20.0):
            best = optimize.minimize_scalar(
                lambda delta, m=m, r=r: m * tail_of_two_points(delta, r) - delta,
                bounds=(0, 1),
                method="bounded",
                options={"xatol": 1e-8},
            )
            rate = -min(best.fun, m * tail_of_two_points(1, r) - 1, m * tail_of_two_points(0, r))
            assert float(one["zeta_star"].sel(perturbation=m)) == pytest.approx(rate * (1 + r**2), abs=1e-5)


@pytest.mark.parametrize(("name", "first"), [("fig6", 1.0), ("fig8", 1.5003), ("fig10", 0.42775)])
def test_complexity_sets_in_at_the_onset(by_name, name, first):
    data = by_name[name]
    assert float(data["onset_snr"]) == pytest.approx(first, rel=2e-5)
    assert float(time_from_snr(float(data["onset_snr"]))) in data["time"]
    before = data["snr_at_time"] > float(data["onset_snr"])  # on the way back, m* falls to 0 at the onset
    assert bool((data["m_star"][before] > 0).all())
    # At the onset itself an excess of rounding's size over a delta of that size is no number to speak of.
    after = data["snr_at_time"] < float(data["onset_snr"]) * (1 - 1e-5)
    np.testing.assert_array_equal(data["m_star"][after], 0)


def test_four_gaussians_have_the_survival_found_independently(by_name):
    # P(L > 1) at r = 1, as a separate program found it.
    assert float(by_name["fig10"]["survival"].sel(snr=1.0, u=1.0)) == pytest.approx(0.0944, abs=5e-5)


# Figures 7, 9 and 11


def stand_in(target: str, **options: float) -> xr.Dataset:
    """Closed forms: N(0, 0.3^2) and a point at 0.5, whose chains back end in other normal laws."""
    time = np.linspace(0, 1, 101)
    x = np.linspace(-3, 3, 241)
    decay, spread = np.exp(-time), np.sqrt(-np.expm1(-2 * time))
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = {
            "forward_target": norm.pdf(x, 0, np.sqrt(0.09 * decay**2 + spread**2)[:, None]),
            "forward_start": norm.pdf(x, 0.5 * decay[:, None], spread[:, None]),
            "backward_target": norm.pdf(x, 0, (0.31 + 0.6 * time)[:, None]),
            "backward_start": norm.pdf(x, 0.1, (0.25 + 0.6 * time)[:, None]),
        }
    rows["forward_start"][0] = np.nan
    coordinates = {"step": np.arange(101), "time": ("step", time), "x": x}
    return xr.Dataset({k: (("step", "x"), v) for k, v in rows.items()}, coordinates, {"law": target})


@pytest.fixture(scope="module")
def chain() -> xr.Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusions, "densities", stand_in)
        return paper.numbers("fig7")


@pytest.fixture(scope="module")
def drawn_chain(chain: xr.Dataset) -> Figure:
    return paper.draw("fig7", chain)


def test_a_normal_law_does_not_move_and_takes_the_start_nowhere():
    # N(0, 1) is at equilibrium: its maps back are the identity, and nubar stays what nu was at the end.
    data = diffusions.compute("normal")
    x, late = data["x"], data.isel(step=slice(1, None))
    spread = np.sqrt(-np.expm1(-2 * late["time"]))
    standard = xr.DataArray(norm.pdf(x), dims="x")
    np.testing.assert_allclose(data["forward_target"], np.broadcast_to(standard, data["forward_target"].shape), 1e-10)
    np.testing.assert_allclose(late["forward_start"], norm.pdf(x, 0, spread.to_numpy()[:, None]), rtol=1e-9)
    assert bool(data["forward_start"][0].isnull().all())
    # Backward densities are interpolated in the logarithm between nodes at most 0.08 apart: 0.08^2/8 times a curvature
    # of at most 1/spread^2 < 1.2 is 1e-3.
    inside = abs(x) < 3
    np.testing.assert_allclose(data["backward_target"][:, inside], data["forward_target"][:, inside], rtol=1e-3)
    last = data["forward_start"][-1, inside]
    np.testing.assert_allclose(data["backward_start"][:, inside], np.broadcast_to(last, (101, last.size)), rtol=1e-3)


def test_point_masses_are_among_the_numbers(chain):
    np.testing.assert_array_equal(chain["atom"], [-1, 1])
    np.testing.assert_array_equal(chain["atom_mass"], [0.5, 0.5])


def test_half_violins_have_the_start_to_the_left_and_the_target_to_the_right(chain, drawn_chain):
    forward, backward = drawn_chain.axes[:2]
    for ax, way, order in ((forward, "forward", diffusions.TIMES), (backward, "backward", None)):
        times = order or diffusions.TIMES[::-1]
        assert [label.get_text() for label in ax.get_xticklabels()] == [f"{time:g}" for time in times]
        halves = [part for part in ax.collections if isinstance(part, FillBetweenPolyCollection)]
        assert [float(part.get_gid()) for part in halves] == list(np.repeat(times, 2))
        for place, time in enumerate(times):
            for half, side, law in zip(halves[2 * place : 2 * place + 2], (-1, 1), ("start", "target"), strict=True):
                density = chain[f"{way}_{law}"][round(100 * time)].to_numpy()
                drawn = {(round(y, 9), round(side * (x - place), 9)) for x, y in half.get_paths()[0].vertices}
                expected = np.round(diffusions.WIDTH * density / density.max(), 9)
                assert set(zip(np.round(chain["x"].to_numpy(), 9), expected, strict=True)) <= drawn


def test_heat_maps_hold_the_densities_and_time_runs_back_in_the_backward_ones(chain, drawn_chain):
    images = {image.get_gid(): (ax, image) for ax in drawn_chain.axes for image in ax.images}
    assert set(images) == set(diffusions.NAMES)
    for name, (ax, image) in images.items():
        np.testing.assert_array_equal(image.get_array().filled(np.nan), chain[name].T)
        left, right = ax.get_xlim()
        assert (left < right) == name.startswith("forward")
        assert image.get_extent() == pytest.approx([-0.005, 1.005, -3.0125, 3.0125])


# Every figure


def curves(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_xydata()) for line in figure.axes[panel].lines}


def test_curves_are_the_numbers(by_name):
    data = by_name["fig6"]
    figure = paper.draw("fig6", data)
    for panel, low in enumerate((True, False)):
        part = data["survival"][(data["snr"] <= 1) == low]
        drawn = curves(figure, panel)
        for r, row in zip(part["snr"].to_numpy(), part, strict=True):
            np.testing.assert_array_equal(drawn[f"$r={r:.4g}$"].T, [data["u"], row])
    drawn = curves(figure, 2)
    for label, name in (("$m^*$", "m_star"), (r"$\delta^*$", "delta_star"), ("$r(t)$", "snr_at_time")):
        np.testing.assert_array_equal(drawn[label].T, [data["time"], data[name]])
    drawn = curves(figure, 3)
    for m, column in zip(data["perturbation"].to_numpy(), data["zeta_star"].T, strict=True):
        np.testing.assert_array_equal(drawn[f"$M={m:g}$"].T, [data["time"], column])
    np.testing.assert_array_equal(drawn[r"$M=20$, sharp rate $\zeta^\sharp_M$"].T[1], data["zeta_sharp"][:, -1])


@pytest.mark.parametrize("name", [name for name in paper.FIGURES if name != "atlas"])
def test_every_panel_is_lettered_and_labelled(by_name, chain, drawn_chain, name):
    figure = drawn_chain if name == "fig7" else paper.draw(name, by_name.get(name, chain))
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    letters = [ax.get_title(loc="left")[:4] for ax in panels]
    assert letters == [f"({letter}) " for letter in "abcdefgh"[: len(panels)]]
    assert len(panels) == {"fig1": 3, "fig2": 2, "fig3": 2, "fig4": 3, "fig5": 3}.get(
        name, 8 if name not in by_name else 4
    )
    assert all(ax.get_xlabel() for ax in panels)
    assert all(ax.get_ylabel() for ax in panels[:1])


def test_numbers_come_back_from_a_file_and_make_the_same_bytes(by_name, chain, tmp_path: Path):
    for data in (chain, by_name["fig1"]):
        first, again = (bytes(data.to_netcdf(engine="h5netcdf")) for _ in range(2))
        assert first == again
        (tmp_path / "data.nc").write_bytes(first)
        read = xr.load_dataset(tmp_path / "data.nc", engine="h5netcdf")
        xr.testing.assert_identical(read, data)
    for name, numbers in (("a.svg", data), ("b.svg", read)):
        save_figure(paper.draw("fig1", numbers), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_numbers_say_what_they_are(by_name, chain):
    for name, data in {**by_name, "fig7": chain}.items():
        assert data.attrs["title"].startswith(f"{name}: ")
        assert data.attrs["source"].endswith("arXiv:2411.01629")
        for variable in (*data.data_vars.values(), *(data[dim] for dim in data.dims if dim != "step")):
            assert {"long_name", "units"} <= set(variable.attrs)


def test_names_are_ordered_and_each_is_made_once():
    assert paper.check_names([]) == paper.check_names(["all"]) == [f"fig{k}" for k in range(1, 12)]
    assert paper.check_names(["fig10", "fig2", "fig10"]) == ["fig2", "fig10"]


@pytest.mark.parametrize(("wrong", "near"), [("figure7", "fig7"), ("Fig1", "fig1"), ("al", "all"), ("fig12", "fig")])
def test_an_unknown_name_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"no figure '{wrong}': did you mean '{near}"):
        paper.numbers(wrong)


def test_a_name_like_none_is_refused():
    with pytest.raises(ValueError, match=r"^no figure 'xyz': give fig1 to fig11, all, or atlas$"):
        paper.check_names(["fig1", "xyz"])
