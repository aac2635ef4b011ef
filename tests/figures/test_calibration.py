"""What the figure of a calibration shows is what the calibration says."""

from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor, nn

import brenier
from brenier.figures import calibration as panels
from brenier.figures.calibration import plot_calibration
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.networks.network import NetworkTarget
from brenier.probing.calibration import calibrate
from brenier.probing.verdicts import VERDICTS, deviations

# Networks that are wrong on purpose denoise badly, of which the library warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* misses .* by .* their mean and variance:UserWarning")

DRAW = (
    panels.plot_verdicts,
    panels.plot_denoising_error,
    panels.plot_balance,
    panels.plot_halves,
    panels.plot_symmetry,
)
LAW = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 0.1)


class Turned(nn.Module):
    """The posterior mean of LAW for another noise level, slightly turned: good in some ways, bad in others."""

    def __init__(self, factor: float = 1.2, angle: float = 0.2) -> None:
        super().__init__()
        self.factor = factor
        self.turn = torch.tensor([[1.0, angle], [-angle, 1.0]], dtype=torch.float64)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        told = self.factor * float(sigma[0])
        return LAW.denoise(x / told, 1 / told) @ self.turn


def network(name: str = "network", data: object = LAW, **options: float) -> NetworkTarget:
    return NetworkTarget(Turned(**options), data, dtype=torch.float64, name=name)


@pytest.fixture(scope="module")
def wrong() -> xr.Dataset:
    return calibrate(network(), snrs=np.geomspace(0.1, 20, 9), queries=1000, progress=False)


LONG = "$5 \\frac{_^ " + "n" * 90
# Each has several oddities at once where they do not meet in the same panel.
ODD = {
    "exact": lambda: calibrate(
        network(factor=1.0, angle=0.0), snrs=np.geomspace(0.1, 10, 7), queries=200, progress=False
    ),
    "one-snr": lambda: calibrate(network(), snrs=[1.0], queries=200, progress=False),
    "two-snrs": lambda: calibrate(network(), snrs=[1.0, 1.1], queries=200, progress=False),
    "many-snrs": lambda: calibrate(network(), snrs=np.geomspace(1e-2, 100, 30), queries=50, progress=False),
    "two-queries": lambda: calibrate(network(), snrs=[0.5, 1.0, 2.0], queries=2, progress=False),
    "far-off": lambda: calibrate(network(factor=0.1), snrs=[0.05, 0.5, 5.0], queries=200, progress=False),
    "long-names": lambda: calibrate(
        network(LONG, Empirical(LAW.sample(20, 1).numpy(), name=LONG)), snrs=[0.5, 1.0], queries=100, progress=False
    ),
    "one-point": lambda: calibrate(network(data=np.ones((1, 2))), snrs=[0.5, 1.0], queries=40, progress=False),
    "no-error": lambda: calibrate(exact_point(), snrs=[0.5, 2.0], progress=False),
}


@cache
def odd(name: str) -> xr.Dataset:
    return ODD[name]()


def exact_point() -> NetworkTarget:
    """The posterior mean of a point mass at 0."""
    return NetworkTarget(lambda x, sigma: 0 * x, brenier.load_target("point-mass"), dtype=torch.float64)


def line(ax: Axes, name: str) -> np.ndarray:
    (found,) = (artist for artist in ax.lines if artist.get_gid() == name)
    return np.asarray(found.get_xydata())


def labels(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_cells_have_the_colour_and_hatch_of_their_level(wrong):
    ax = panels.plot_verdicts(wrong)
    verdicts = np.stack([wrong["verdict_sampling"], wrong["verdict_probing"]])
    table = np.vstack([verdicts, wrong["level"]])
    assert len(np.unique(table)) >= 3
    cells = {patch.get_gid(): patch for patch in ax.patches if patch.get_gid()}
    assert len(cells) == table.size
    for (row, column), code in np.ndenumerate(table):
        cell = cells[f"{row}-{column}"]
        assert cell.get_facecolor()[:3] == to_rgb(panels.SHADES[VERDICTS[code]])
        assert cell.get_hatch() == panels.HATCHES[VERDICTS[code]]
        assert cell.get_x() < wrong["snr"][column] < cell.get_x() + cell.get_width()
    assert [text.get_text() for text in ax.texts] == [VERDICTS[code][0] for code in verdicts.ravel()]
    assert labels(ax) == list(VERDICTS)


def test_rows_are_named_in_the_order_of_the_checks(wrong):
    names = [text.get_text() for text in panels.plot_verdicts(wrong).get_yticklabels()]
    assert list(panels.ROWS) == list(wrong["check"].to_numpy())
    assert names == ["sampling", "probing", *panels.ROWS.values()]


@pytest.mark.parametrize("name", ["denoising_error", "predicted"])
def test_errors_are_in_units_of_the_noise(wrong, name):
    drawn = line(panels.plot_denoising_error(wrong), name)
    np.testing.assert_array_equal(drawn[:, 0], wrong["snr"])
    np.testing.assert_allclose(drawn[:, 1], wrong[name] / (2 * wrong["sigma"] ** 2))


@pytest.mark.parametrize("name", ["balance", "directional"])
def test_ratios_are_those_of_the_calibration_with_bands_of_two_standard_errors(wrong, name):
    ax = panels.plot_balance(wrong)
    np.testing.assert_allclose(line(ax, name)[:, 1], wrong[name])
    artist = next(artist for artist in ax.lines if artist.get_gid() == name)
    colour = to_rgb(artist.get_color())
    band = next(a for a in ax.collections if tuple(a.get_facecolor()[0][:3]) == pytest.approx(colour))
    edge = band.get_paths()[0].vertices[:, 1]
    assert edge.max() == pytest.approx(float((wrong[name] + 2 * wrong[f"{name}_se"]).max()))
    assert edge.min() == pytest.approx(float((wrong[name] - 2 * wrong[f"{name}_se"]).min()))


def test_ratios_beyond_the_axis_are_marked_at_its_edge():
    found = odd("far-off")
    assert float(found["balance"].max()) > 1 + panels.WIDE
    ax = panels.plot_balance(found)
    marks = [np.asarray(artist.get_xydata()) for artist in ax.lines if artist.get_gid() == "beyond"]
    beyond = found["snr"][found["balance"] > ax.get_ylim()[1]]
    assert any(np.array_equal(points[:, 0], beyond) for points in marks)
    assert all(np.isin(points[:, 1], ax.get_ylim()).all() for points in marks)


def test_halves_are_those_of_each_feature(wrong):
    ax = panels.plot_halves(wrong)
    for feature in wrong["feature"].to_numpy():
        np.testing.assert_array_equal(line(ax, feature)[:, 1], wrong["contrast"].sel(feature=feature))
    np.testing.assert_array_equal(line(ax, "excess")[:, 1], deviations(wrong)["excess"][0])


@pytest.mark.parametrize("name", ["asymmetry", "negative"])
def test_shares_are_the_deviations(wrong, name):
    drawn = line(panels.plot_symmetry(wrong), name)
    np.testing.assert_array_equal(drawn[:, 1], deviations(wrong)[name][0])


def test_zones_begin_where_verdicts_change(wrong):
    # Even for a calibration made with other limits than today's.
    other = wrong.assign_attrs(fair=0.03, poor=0.3)
    assert labels(panels.plot_halves(other))[-2:] == ["beyond 3%: fair", "beyond 30%: poor"]


@pytest.mark.parametrize("name", ODD)
def test_any_calibration_can_be_drawn(name, nothing_overlaps):
    nothing_overlaps(plot_calibration(odd(name)))


def test_the_figure_names_network_and_law_and_numbers():
    title = plot_calibration(odd("long-names")).get_suptitle().replace("\n", " ")
    assert title.startswith(r"Calibration of \$5 \frac{_^ nnn")
    assert r"n… on \$5 \frac{_^ nnn" in title
    assert title.endswith("2 dimensions, 100 queries from 20 points, bands ±2 standard errors")


def test_the_same_calibration_makes_the_same_bytes(wrong, same_bytes):
    same_bytes(lambda: plot_calibration(wrong))


@pytest.mark.parametrize("draw", [plot_calibration, *DRAW])
def test_what_is_no_calibration_is_refused(draw):
    profile = brenier.probe("point-mass", [1.0], queries=2, method="monte-carlo", progress=False)
    with pytest.raises(ValueError, match="holds a profile, and a calibration is wanted"):
        draw(profile)
