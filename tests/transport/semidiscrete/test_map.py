"""Semi-discrete transport against closed forms, brute force, fine grids and the symmetries of the problem."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

from brenier.distances.wasserstein import exact_w2
from brenier.transport import SemiDiscrete
from brenier.transport.semidiscrete import fitting

rng = np.random.default_rng(0)
PLANE = rng.normal(size=(12, 2))
UNEQUAL = np.array([0.3, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05, 0.03, 0.01, 0.005, 0.004, 0.001])


def fit(points: Any, weights: Any = None, source: Any = "normal", tolerance: float = 0.04, **options: Any):
    return SemiDiscrete(points, weights, source=source).fit(tolerance, progress=False, **options)


def normal_on_the_line(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 1, generator=generator)


@pytest.fixture(scope="module")
def plane() -> SemiDiscrete:
    """Twelve points in the plane with unequal weights, fitted."""
    return fit(PLANE, UNEQUAL)


def brute_force(transport: SemiDiscrete, x: torch.Tensor) -> np.ndarray:
    """All scores <x, y_i> + h_i, shape (n, N)."""
    return x.double().numpy() @ transport.points.double().numpy().T + transport.heights.numpy()


# On the line


@pytest.mark.parametrize("source", ["normal", "uniform"])
def test_on_the_line_cells_have_the_masses_asked_for(source: str) -> None:
    """From the heights alone: neighbours' scores are equal at the law's quantiles of the summed weights."""
    y, b = rng.normal(size=40), rng.dirichlet(np.full(40, 0.5))
    found = fit(y, b, source=source)
    assert found.result.stopped == "exact"
    order = np.argsort(y)
    borders = -np.diff(found.heights.numpy()[order]) / np.diff(y[order])
    law = stats.norm if source == "normal" else stats.uniform
    masses = np.diff(law.cdf(np.concatenate([[-np.inf], borders, [np.inf]])))
    np.testing.assert_allclose(masses, b[order], rtol=1e-4, atol=1e-9)
    assert b @ found.heights.numpy() == pytest.approx(0, abs=1e-12)


def test_ascent_on_the_line_finds_the_closed_form() -> None:
    """Masses off by 0.003 move borders by about 0.01, and heights by that times the gaps."""
    y = np.linspace(-2, 2, 6) ** 3
    exact = fit(y)
    found = fit(y, source=normal_on_the_line, tolerance=0.003)
    assert found.result.stopped == "tolerance"
    np.testing.assert_allclose(found.heights, exact.heights, atol=0.01 * float(np.diff(y).max()))


def test_w2_on_the_line_is_the_distance_of_quantiles() -> None:
    y = np.sort(rng.normal(size=50)) * 2
    found = fit(y).w2(2**17)
    edges = stats.norm.ppf(np.arange(51) / 50)
    density = stats.norm.pdf(edges)
    means = 50 * (density[:-1] - density[1:])  # of the normal law in each cell
    exact = math.sqrt(1 + (y**2).mean() - 2 * (y * means).mean())
    assert abs(found.primal - exact) < 4 * found.primal_se
    assert abs(found.dual - exact) < 4 * found.dual_se


# In the plane


def test_cells_in_the_plane_have_the_masses_asked_for_on_a_fine_grid(plane: SemiDiscrete) -> None:
    edge = np.linspace(-6, 6, 1501)
    middle = (edge[1:] + edge[:-1]) / 2
    share = np.diff(stats.norm.cdf(edge))
    x = torch.from_numpy(np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2))
    won = brute_force(plane, x).argmax(1)
    masses = np.bincount(won, np.outer(share, share).ravel(), minlength=12)
    assert np.abs(masses - UNEQUAL).sum() / 2 < 0.04
    chi_square = float(((masses - UNEQUAL) ** 2 / UNEQUAL).sum())
    assert chi_square < 1.5 * 2 * math.pi * 0.04**2
    found = plane.marginal_error(2**18)
    assert abs(found.chi_square - chi_square) < 4 * found.chi_square_se + 1e-4


def test_a_uniform_source_in_the_plane() -> None:
    found = fit(PLANE, UNEQUAL, source="uniform")
    at = (np.arange(1000) + 0.5) / 1000
    x = torch.from_numpy(np.stack(np.meshgrid(at, at), -1).reshape(-1, 2))
    masses = np.bincount(brute_force(found, x).argmax(1), minlength=12) / 1e6
    assert np.abs(masses - UNEQUAL).sum() / 2 < 0.04


def test_w2_in_the_plane_is_that_of_the_linear_programme(plane: SemiDiscrete) -> None:
    cost = plane.w2(2**16)
    x = plane.draw(1500, seed=5).double()
    discrete = exact_w2(x, plane.points.double(), y_weights=plane.weights)
    assert abs(cost.primal - discrete.value) < 4 * math.hypot(cost.primal_se, discrete.value_se)
    assert abs(cost.dual - cost.primal) < 4 * cost.primal_se


def test_of_wrong_heights_the_dual_value_is_below_the_right_one(plane: SemiDiscrete) -> None:
    right = plane.w2(2**16)
    wrong = SemiDiscrete(PLANE, UNEQUAL)
    wrong.heights = plane.heights + torch.from_numpy(rng.normal(size=12))
    found = wrong.w2(2**16)
    assert found.dual < right.dual - 4 * math.hypot(found.dual_se, right.dual_se)


def test_to_more_samples_of_a_normal_law_the_map_tends_to_the_linear_one() -> None:
    """N(0, I) to samples of N(m, S^2): x -> S x + m, W2^2 = |m|^2 + |S - 1|^2, errors falling about as log N/N.

    The samples are made to have just these moments, or their own would hide the rest.
    """
    scale, shift = np.array([2.0, 0.5]), np.array([1.0, 0.0])
    exact = float((shift**2).sum() + ((scale - 1) ** 2).sum())
    z = np.random.default_rng(3).normal(size=(1000, 2))
    errors, gaps = [], []
    for count in (100, 1000):
        y = z[:count] - z[:count].mean(0)
        y = y @ np.linalg.inv(np.linalg.cholesky(np.cov(y.T, bias=True))).T * scale + shift
        found = fit(y)
        x = found.draw(2**16, seed=2).double()
        errors.append(float((found.map(x) - x * torch.from_numpy(scale) - torch.from_numpy(shift)).square().mean()))
        cost = found.w2(2**18)
        gaps.append(cost.dual**2 - exact)
        assert gaps[-1] > -4 * 2 * cost.dual * cost.dual_se
    assert gaps[1] < 0.3 * gaps[0]
    assert 0.08 < errors[1] / errors[0] < 0.25


# What the map is


def test_top_and_potential_are_the_largest_scores(plane: SemiDiscrete) -> None:
    x = plane.draw(500, seed=3)
    scores = brute_force(plane, x)
    values, places = plane.top(x, 4)
    order = np.argsort(-scores, axis=1)[:, :4]
    np.testing.assert_allclose(values, np.take_along_axis(scores, order, 1), atol=1e-5)
    np.testing.assert_array_equal(places, order)
    np.testing.assert_allclose(plane.potential(x), scores.max(1), atol=1e-5)
    np.testing.assert_array_equal(plane.cells(x), scores.argmax(1))
    np.testing.assert_array_equal(plane.map(x), PLANE[scores.argmax(1)])


def test_the_map_is_the_gradient_of_the_potential(plane: SemiDiscrete) -> None:
    x = plane.draw(200, seed=4).requires_grad_()
    (slope,) = torch.autograd.grad(plane.potential(x).sum(), x)
    np.testing.assert_allclose(slope, plane.map(x.detach()), atol=1e-5)
    np.testing.assert_array_equal(plane.map(x), plane.map(x.detach()))


def test_arrays_and_lists_are_as_good_as_tensors(plane: SemiDiscrete) -> None:
    x = plane.draw(50, seed=3)
    for call in (plane.map, plane.potential, plane.cells, plane.dihedral_angle, lambda x: plane.singular(x, 1.0)):
        expected = call(x)
        assert isinstance(expected, torch.Tensor)
        for given in (x.numpy(), x.tolist()):
            found = call(given)
            assert isinstance(found, np.ndarray)
            np.testing.assert_array_equal(found, expected)
    values, places = plane.top(x.numpy(), 3)
    np.testing.assert_array_equal(values, plane.top(x, 3)[0])
    np.testing.assert_array_equal(places, plane.top(x, 3)[1])


def test_samples_are_the_images_of_draws(plane: SemiDiscrete) -> None:
    np.testing.assert_array_equal(plane.sample(40, 7), plane.map(plane.draw(40, 7)))


def test_no_points_are_carried_to_no_points(plane: SemiDiscrete) -> None:
    x = torch.zeros(0, 2)
    assert plane.map(x).shape == (0, 2)
    assert plane.potential(x).shape == (0,)
    assert plane.top(x, 3)[1].shape == (0, 3)


# Symmetries


def test_shifted_points_have_the_same_heights(plane: SemiDiscrete) -> None:
    """<x, y + c> = <x, y> + <x, c>: all scores change by as much. Powers of two are shifted without rounding."""
    points = np.round(PLANE * 64) / 64
    first, second = fit(points, UNEQUAL), fit(points + np.array([4.0, -8.0]), UNEQUAL)
    np.testing.assert_allclose(second.heights, first.heights, atol=1e-6)
    x = plane.draw(100)
    np.testing.assert_array_equal(first.cells(x), second.cells(x))


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e20, 1e150])
def test_heights_scale_with_the_points(plane: SemiDiscrete, scale: float) -> None:
    found = fit(PLANE * scale, UNEQUAL)
    np.testing.assert_allclose(found.heights.numpy() / scale, plane.heights, rtol=1e-5, atol=1e-5)
    error = found.marginal_error(2**16)
    assert error.excess < 0.06
    if scale < 1:  # the points are as good as one
        assert found.w2(2**14).primal == pytest.approx(math.sqrt(2), abs=0.05)


def test_a_shifted_source_moves_the_heights_by_its_mean() -> None:
    """E max <x + m, y_i> + h_i: h_i - <m, y_i> solves the shifted problem."""
    m = torch.tensor([1.0, -2.0])
    plain = fit(PLANE, source=lambda n, g: torch.randn(n, 2, generator=g), tolerance=0.02)
    moved = fit(PLANE, source=lambda n, g: torch.randn(n, 2, generator=g) + m, tolerance=0.02)
    expected = plain.heights.numpy() - PLANE @ m.numpy()
    np.testing.assert_allclose(moved.heights, expected - expected.mean(), atol=0.06)


# Borders of what can be asked


def test_one_point_takes_all() -> None:
    found = fit([[3.0, 4.0]])
    assert found.result.stopped == "exact"
    assert found.heights.tolist() == [0.0]
    x = found.draw(10)
    np.testing.assert_array_equal(found.map(x), np.broadcast_to([3.0, 4.0], (10, 2)))
    cost = found.w2(2**16)
    assert abs(cost.primal - math.sqrt(27)) < 4 * cost.primal_se
    assert found.marginal_error(2**12).excess == 0


def test_two_points_part_at_the_quantile() -> None:
    """The border is <x, y_1 - y_0> = h_0 - h_1, and <x, y_1 - y_0>/|y_1 - y_0| is N(0, 1)."""
    y, share = np.array([[0.0, 1.0, 2.0], [2.0, -1.0, 0.0]]), 0.3
    found = fit(y, [share, 1 - share], tolerance=0.005)
    length = float(np.linalg.norm(y[1] - y[0]))
    border = (found.heights[0] - found.heights[1]).item() / length
    assert stats.norm.cdf(border) == pytest.approx(share, abs=0.015)


def test_duplicates_share_the_mass_of_one_cell() -> None:
    y = np.concatenate([PLANE[:4], PLANE[:1], PLANE[:1]])
    b = np.array([0.1, 0.2, 0.3, 0.2, 0.15, 0.05])
    found, merged = fit(y, b), SemiDiscrete(PLANE[:4], [0.3, 0.2, 0.3, 0.2])
    assert found.size == 4
    np.testing.assert_array_equal(found.heights[[0, 4, 5]], found.heights[0])
    merged.heights = found.heights[:4]
    assert merged.marginal_error(2**16).excess < 0.05
    assert set(found.cells(found.draw(1000)).tolist()) == {0, 1, 2, 3}


def test_points_that_single_precision_cannot_tell_apart_share_a_cell() -> None:
    """Heights alone would have to part them, and could not."""
    y = np.concatenate([PLANE, PLANE[:2] + 1e-10])
    with pytest.warns(UserWarning, match="single precision cannot tell apart"):
        found = fit(y, minutes=1)
    assert found.size == 12
    assert found.result.stopped == "tolerance"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SemiDiscrete(np.concatenate([PLANE, PLANE[:2]]))


def test_points_without_weight_get_no_mass() -> None:
    b = np.full(12, 1 / 11)
    b[5] = 0
    found = fit(PLANE, b)
    assert found.heights[5] == -math.inf
    assert 5 not in found.cells(found.draw(5000))
    without = fit(np.delete(PLANE, 5, 0))
    np.testing.assert_allclose(np.delete(found.heights.numpy(), 5), without.heights, atol=1e-9)


def test_clusters_far_apart_converge() -> None:
    """Gaps between the scores of cells differ by orders of magnitude; steps that fit the wide ones empty the others."""
    angle = np.arange(6) * np.pi / 3
    generator = np.random.default_rng(0)
    y = 4 * np.stack([np.cos(angle), np.sin(angle)], 1)[generator.integers(6, size=90)]
    found = fit(y + 0.1 * generator.normal(size=(90, 2)), tolerance=0.05, minutes=2)
    assert found.result.stopped == "tolerance"
    assert found.marginal_error(2**17).excess < 0.06


def test_many_dimensions_by_combined_draws() -> None:
    found = fit(np.random.default_rng(1).normal(size=(60, 64)), tolerance=0.05)
    error = found.marginal_error(2**17)
    assert found.result.stopped == "tolerance"
    assert error.excess < 0.05 + 3 * error.excess_se


# How good it says it is


def wrong_on_the_line() -> tuple[SemiDiscrete, np.ndarray]:
    """A map whose heights are off, and the masses that its cells have."""
    found = fit(np.array([-1.5, -0.5, 0.25, 2.0]), [0.2, 0.3, 0.3, 0.2])
    found.heights = found.heights + torch.tensor([0.0, 0.06, -0.04, 0.02])
    borders = -np.diff(found.heights.numpy()) / np.diff(found.points[:, 0].numpy())
    return found, np.diff(stats.norm.cdf(np.concatenate([[-np.inf], borders, [np.inf]])))


def test_marginal_error_of_a_map_that_is_off() -> None:
    found, masses = wrong_on_the_line()
    b = found.weights.numpy()
    variation, chi_square = np.abs(masses - b).sum() / 2, float(((masses - b) ** 2 / b).sum())
    assert variation > 0.01
    runs = [found.marginal_error(2**15, seed) for seed in range(40)]
    for name, exact in (("chi_square", chi_square), ("excess", variation)):
        values = np.array([getattr(run, name) for run in runs])
        errors = np.array([getattr(run, f"{name}_se") for run in runs])
        covered = np.abs(values - exact) < 2 * errors
        assert covered.mean() >= 0.8, name
        assert values.std() == pytest.approx(math.sqrt((errors**2).mean()), rel=0.4), name
    assert np.mean([run.chi_square for run in runs]) == pytest.approx(chi_square, rel=0.05)


def test_marginal_error_of_an_exact_map_is_noise() -> None:
    found = fit(rng.normal(size=200))
    runs = [found.marginal_error(2**14, seed) for seed in range(25)]
    variation = np.array([run.total_variation for run in runs])
    assert variation.mean() == pytest.approx(runs[0].floor, rel=0.02)
    assert variation.std() == pytest.approx(runs[0].total_variation_se, rel=0.4)
    chi_square = np.array([run.chi_square for run in runs])
    assert abs(chi_square.mean()) < 4 * chi_square.std() / 5
    assert (chi_square < 0).any()


def test_the_error_of_w2_is_its_spread(plane: SemiDiscrete) -> None:
    runs = [plane.w2(2**11, seed) for seed in range(40)]
    for name in ("primal", "dual"):
        values = np.array([getattr(run, name) for run in runs])
        errors = np.array([getattr(run, f"{name}_se") for run in runs])
        assert values.std() == pytest.approx(errors.mean(), rel=0.35)


# Going on, and stopping


def test_the_same_seed_makes_the_same_map_on_any_number_of_threads() -> None:
    first = fit(PLANE, UNEQUAL, seed=7)
    torch.set_num_threads(3)
    try:
        again = fit(PLANE, UNEQUAL, seed=7)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(first.heights, again.heights)
    assert first.result.samples == again.result.samples
    assert not torch.equal(first.heights, fit(PLANE, UNEQUAL, seed=8).heights)


def test_a_fit_goes_on_from_where_another_ended() -> None:
    """A start at the answer takes only draws for the average, none to get there."""
    y = np.random.default_rng(2).normal(size=(100, 8)) * np.linspace(0.2, 2, 8)
    before = fit(y, tolerance=0.05)
    after = SemiDiscrete(y).fit(0.05, seed=1, start=before, progress=False)
    assert after.result.stopped == "tolerance"
    assert float((after.heights - before.heights).abs().max()) < 0.2
    same = SemiDiscrete(y)
    same.heights = before.heights
    assert torch.equal(same.fit(0.05, seed=1, progress=False).heights, after.heights)


def test_a_fit_starts_from_a_map_to_some_of_the_points() -> None:
    y = np.random.default_rng(2).normal(size=(400, 2))
    coarse = fit(y[:100], tolerance=0.05)
    fine = SemiDiscrete(y).fit(0.05, start=coarse, progress=False)
    assert fine.result.stopped == "tolerance"
    assert fine.marginal_error(2**16).excess < 0.06


def test_ctrl_c_keeps_the_heights_and_a_fit_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fitting.ascend
    seen: list[np.ndarray] = []

    def interrupted(*arguments: Any) -> Any:
        for state in real(*arguments):
            seen.append(state.heights)
            yield state
            if len(seen) == 3:
                raise KeyboardInterrupt

    transport = SemiDiscrete(PLANE, UNEQUAL)
    monkeypatch.setattr(fitting, "ascend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        transport.fit(0.04, progress=False)
    monkeypatch.undo()
    assert transport.result.stopped == "interrupted"
    ratio = transport.heights.numpy() / (seen[-1] - UNEQUAL @ seen[-1])
    np.testing.assert_allclose(ratio, ratio[0])  # the unit
    kept = transport.heights
    assert transport.fit(0.04, progress=False).result.stopped == "tolerance"
    assert not torch.equal(transport.heights, kept)


def test_minutes_end_a_fit_that_would_take_longer() -> None:
    found = fit(np.random.default_rng(0).normal(size=(50, 3)), tolerance=1e-4, minutes=1e-5)
    assert found.result.stopped == "minutes"
    assert bool(torch.isfinite(found.heights).all())


# Files


def test_what_is_saved_is_what_is_loaded(plane: SemiDiscrete, tmp_path: Path) -> None:
    plane.save(tmp_path / "map.nc")
    found = SemiDiscrete.load(tmp_path / "map.nc")
    for name in ("points", "weights", "heights"):
        assert torch.equal(getattr(found, name), getattr(plane, name))
    for name in ("stopped", "tolerance", "samples", "excess", "seed"):
        assert getattr(found.result, name) == getattr(plane.result, name)
    x = plane.draw(100)
    assert torch.equal(found.cells(x), plane.cells(x))
    with pytest.raises(ValueError, match="exists"):
        plane.save(tmp_path / "map.nc")
    plane.save(tmp_path / "map.nc", force=True)
    plane.save(tmp_path / "other.nc")
    assert (tmp_path / "map.nc").read_bytes() == (tmp_path / "other.nc").read_bytes()


def test_a_map_from_a_source_of_ones_own_is_loaded_with_it(tmp_path: Path) -> None:
    found = fit([-1.0, 1.0], source=normal_on_the_line)
    found.save(tmp_path / "map.nc")
    with pytest.raises(ValueError, match=r"map.nc.*source of yours"):
        SemiDiscrete.load(tmp_path / "map.nc")
    again = SemiDiscrete.load(tmp_path / "map.nc", source=normal_on_the_line)
    assert torch.equal(again.draw(5), found.draw(5))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data.drop_vars("heights"), "it has no variable 'heights'"),
        (lambda data: data.assign(heights=data.heights * math.nan), "heights must be 12 numbers"),
        (lambda data: data.assign(heights=("other", np.zeros(3))), "heights must be 12 numbers"),
        (lambda data: data.assign(weights=-data.weights), "must not be negative"),
        (lambda data: data.assign(points=data.points * math.inf), "NaN or infinite"),
        (lambda data: data.drop_attrs(), "does not say what it holds"),
        (lambda data: data.assign_attrs(fit_stopped="never"), "'never'"),
    ],
)
def test_damaged_maps_are_refused_in_one_line(plane: SemiDiscrete, tmp_path: Path, damage: Any, said: str) -> None:
    data: xr.Dataset = damage(plane.to_dataset())
    data.to_netcdf(tmp_path / "map.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=f"map.nc.*{said}"):
        SemiDiscrete.load(tmp_path / "map.nc")


def test_files_that_are_no_maps_are_refused(plane: SemiDiscrete, tmp_path: Path) -> None:
    plane.save(tmp_path / "map.nc")
    (tmp_path / "cut.nc").write_bytes((tmp_path / "map.nc").read_bytes()[:1000])
    (tmp_path / "text.nc").write_text("no netCDF")
    said = {"cut.nc": "is not a netCDF file", "text.nc": "is not a netCDF file", "gone.nc": "does not exist"}
    for name, message in (said | {".": "is a folder"}).items():
        with pytest.raises(ValueError, match=f"{message}: give what `brenier transport -o` saved"):
            SemiDiscrete.load(tmp_path / name)


# What it refuses


@pytest.mark.parametrize(
    ("points", "weights", "said"),
    [
        (PLANE, np.full(11, 1 / 11), "12 numbers, one for each point"),
        (PLANE, np.full((12, 2), 1 / 24), "12 numbers, one for each point"),
        (PLANE, [-0.5, *[1.5 / 11] * 11], r"negative, got -0.5 for point 0"),
        (PLANE, [math.nan] * 12, "'weights'.*NaN"),
        (PLANE, [0.0] * 12, "positive, finite sum"),
        (PLANE * math.nan, None, "'points'.*NaN"),
        (np.zeros((0, 2)), None, "'points' is empty"),
    ],
)
def test_bad_points_and_weights(points: Any, weights: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SemiDiscrete(points, weights)


def test_weights_are_brought_to_the_sum_1_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="the weights sum to 12: they are brought to 1"):
        found = SemiDiscrete(PLANE, np.ones(12))
    np.testing.assert_allclose(found.weights, 1 / 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SemiDiscrete(PLANE, np.float32(UNEQUAL))  # rounding is no reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tolerance": 0.0}, "tolerance must be between 0 and 1"),
        ({"tolerance": math.nan}, "tolerance must be between 0 and 1"),
        ({"tolerance": 1e-7}, r"1e-07 is below the noise floor: .* 12 cells leave a total variation of 5e-06"),
        ({"minutes": 0.0}, "minutes must be positive"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"start": SemiDiscrete(PLANE)}, "has not been fitted"),
        ({"start": SemiDiscrete([0.0, 1.0]).fit()}, "in 1 dimensions, this one in 2"),
    ],
)
def test_bad_arguments_of_a_fit(options: dict[str, Any], said: str) -> None:
    transport = SemiDiscrete(PLANE)
    with pytest.raises(ValueError, match=said):
        transport.fit(progress=False, **options)
    assert transport.heights is None


def test_bad_arguments_of_a_map(plane: SemiDiscrete) -> None:
    x = plane.draw(3)
    for call in (plane.map, plane.cells, plane.potential):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 2\)"):
            call(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="x holds values that are not finite, first in row 0"):
        plane.map(x * math.nan)
    for k in (0, 13):
        with pytest.raises(ValueError, match="k must be a whole number"):
            plane.top(x, k)
    with pytest.raises(ValueError, match="samples must be"):
        plane.marginal_error(100)
    fresh = SemiDiscrete(PLANE)
    for call in (lambda: fresh.map(x), fresh.marginal_error, fresh.w2, fresh.to_dataset):
        with pytest.raises(ValueError, match="has not been fitted yet"):
            call()
