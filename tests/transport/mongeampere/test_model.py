import math

import numpy as np
import pytest
import torch
import xarray as xr

import brenier
from brenier import GaussianMixture
from brenier.distances.wasserstein import exact_w2
from brenier.transport.mongeampere import MongeAmpere, find_marginal, gaussian_map, learned, model
from brenier.transport.mongeampere.trail import Trail

MIXTURE = GaussianMixture([0.4, 0.6], [-1.0, 1.5], [0.25, 0.5])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quantile_map(y):
    """From N(0, 1) to MIXTURE by bisection on the distribution functions."""
    normal = torch.distributions.Normal(0.0, 1.0)
    parts = torch.distributions.Normal(MIXTURE.means[:, 0], MIXTURE.variances[:, 0].sqrt())
    low, high = torch.full_like(y, -20.0), torch.full_like(y, 20.0)
    for _ in range(80):
        middle = (low + high) / 2
        below = (parts.cdf(middle[:, None]) @ MIXTURE.weights) < normal.cdf(y)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@pytest.fixture(scope="module")
def linear():
    return MongeAmpere("normal", MIXTURE, method="linear").fit(progress=False)


def test_the_limit_of_the_linear_method_is_the_quantile_map(linear):
    y = torch.linspace(-2.5, 2.5, 101, dtype=torch.float64)
    off = linear.map(y[:, None])[:, 0] - quantile_map(y)
    weight = torch.exp(-y.square() / 2)
    assert float(((weight * off.square()).sum() / weight.sum()).sqrt()) < 0.01
    assert float(linear.history["kl"][-1]) < 0.001
    assert float(linear.history["w2"][-1]) < 1.5 * linear.history.attrs["w2_floor"] + 0.05


def test_the_inverse_undoes_the_map(linear):
    y = draw(200, 1, seed=3)
    torch.testing.assert_close(linear.inverse(linear.map(y)), y, rtol=0, atol=1e-6)


def test_the_density_of_the_image_integrates_to_one_and_is_the_targets(linear):
    x = torch.linspace(-3.5, 4.5, 801, dtype=torch.float64)[:, None]
    density = linear.log_density(x).exp()
    assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1, abs=3e-3)
    exact = find_marginal(MIXTURE).log_density(x).exp()
    assert float(torch.trapezoid((density - exact).abs(), x[:, 0])) < 0.06


def test_the_average_is_a_mixture_of_the_iterates():
    flow = MongeAmpere("normal", MIXTURE, method="linear", units=30).fit(3, rule="constant", eta=0.3, progress=False)
    average, iterates = flow.sample(40_000, 1, iterate="average")[:, 0], flow._trail.potentials
    assert len(iterates) == 3
    y = draw(40_000, 1, seed=2)
    for power in (1, 2):
        expected = sum(float((flow._frame().outward(psi).gradient(y) ** power).mean()) for psi in iterates) / 3
        assert float((average**power).mean()) == pytest.approx(expected, abs=0.05)
    first, last = (flow._frame().outward(psi).gradient(y) for psi in (iterates[0], iterates[-1]))
    assert float((first - last).abs().mean()) > 0.05


def test_a_map_survives_a_file(linear, tmp_path):
    linear.save(tmp_path / "map.nc")
    found = MongeAmpere.load(tmp_path / "map.nc")
    x = linear.sample(20, 4)
    for name in ("map", "potential", "inverse", "log_density"):
        torch.testing.assert_close(getattr(found, name)(x), getattr(linear, name)(x))
    assert torch.equal(found.sample(5, 2), linear.sample(5, 2))
    assert (found.target.name, found.method, found.drive) == ("gaussian-mixture", "linear", "density")
    assert (found.result.stopped, found.result.steps) == (linear.result.stopped, linear.result.steps)
    xr.testing.assert_identical(found.to_dataset(), linear.to_dataset())
    assert math.isnan(found.w2(64).dual)
    with pytest.raises(ValueError, match="a file does not hold the laws"):
        found.fit(1, progress=False)
    again = MongeAmpere.load(tmp_path / "map.nc", target=MIXTURE)
    assert again.w2(64) == linear.w2(64)
    assert again.fit(1, start=tmp_path / "map.nc", progress=False).result.steps == 1
    with pytest.raises(ValueError, match=r"map.nc' has target 'gaussian-mixture', and now it is 'four-gaussians'"):
        MongeAmpere.load(tmp_path / "map.nc", target="four-gaussians")
    with pytest.raises(ValueError, match="exists"):
        linear.save(tmp_path / "map.nc")


def test_files_that_hold_no_map(tmp_path):
    (tmp_path / "text.nc").write_text("no")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    said = {"text.nc": "is not a netCDF file", "other.nc": "does not say what it holds", "none.nc": "does not exist"}
    for name, message in said.items():
        with pytest.raises(ValueError, match=message):
            MongeAmpere.load(tmp_path / name)


def test_the_gaussian_method_is_the_closed_form():
    data = draw(500, 3) @ torch.diag(torch.tensor([1.0, 2.0, 0.5])).double() + 1
    found = MongeAmpere("normal", data, method="gaussian").fit()
    pushed = found.map(draw(20_000, 3, seed=5))
    torch.testing.assert_close(pushed.mean(0), data.mean(0), atol=0.06, rtol=0)
    assert found.result.stopped == "closed form"
    torch.testing.assert_close(found.psi.A, gaussian_map(find_marginal("normal", 3), find_marginal(data)).A)


def test_huge_and_tiny_scales_and_shifts_change_nothing():
    usual = MongeAmpere("normal", MIXTURE, method="linear", units=20).fit(8, progress=False)
    for scale, shift in ((1e-6, 0.0), (1e6, 1e8)):
        other = GaussianMixture(MIXTURE.weights, scale * MIXTURE.means + shift, scale**2 * MIXTURE.variances[:, 0])
        found = MongeAmpere("normal", other, method="linear", units=20).fit(8, progress=False)
        y = draw(50, 1, seed=2)
        torch.testing.assert_close((found.map(y) - shift) / scale, usual.map(y), rtol=1e-4, atol=1e-4)


def test_points_alone_are_learned_by_a_classifier(monkeypatch):
    """Algorithm 1 in the plane: after a short run, nearer to held-out points than the affine map is."""
    monkeypatch.setattr(model, "SETTLED", 6)
    law = GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], [0.25, 0.25])
    found = MongeAmpere("normal", law.sample(4000, 0), units=12).fit(6, points=256, progress=False)
    held = law.sample(400, 9)
    affine = MongeAmpere("normal", law.sample(4000, 0), method="gaussian").fit()
    assert exact_w2(found.sample(400, 3), held).value < 0.7 * exact_w2(affine.sample(400, 3), held).value
    assert found.drive == "classifier"
    late = found._trail.potentials[3:]
    least, most = (torch.stack([one.amplitude for one in late]).aminmax()[k] for k in range(2))
    assert least < found.psi.inner.amplitude < most, "the mean of the last half"
    assert {"kl", "reverse_kl", "loss", "calibration", "w2", "dual"} <= set(found.history)
    assert float(found.history["curvature"].min()) > 0


def test_an_unnormalised_density_is_enough():
    """Algorithm 2 on a normal law with a factor: the map is affine."""
    mean = torch.tensor([1.0, -1.0], dtype=torch.float64)

    def log_density(x):
        return -((x - mean) @ torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64) * (x - mean)).sum(1) / 2 + 5

    found = MongeAmpere("normal", log_density, method="linear", dim=2, units=5).fit(200, progress=False)
    covariance = torch.linalg.inv(torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64))
    pushed = found.sample(4, 0) - mean
    normal = GaussianMixture([1.0], mean[None], covariance[None])
    exact = MongeAmpere("normal", normal, method="gaussian").fit().sample(4, 0) - mean
    torch.testing.assert_close(pushed, exact, rtol=0, atol=2e-3)  # averages over 8,192 points
    assert "w2" not in found.history


def test_the_same_seed_gives_the_same_map(monkeypatch):
    monkeypatch.setattr(learned, "FIRST", 1)
    data = draw(300, 2)
    runs = [MongeAmpere("normal", data, units=4).fit(2, seed=3, points=64, progress=False) for _ in range(2)]
    assert torch.equal(runs[0].sample(5), runs[1].sample(5))


def test_a_fit_goes_on_from_another():
    first = MongeAmpere("normal", MIXTURE, method="linear", units=20).fit(60, progress=False)
    on = MongeAmpere("normal", MIXTURE, method="linear", units=20).fit(5, start=first, progress=False)
    assert float(on.history["kl"][0]) < 1.5 * float(first.history["kl"][-1]) + 1e-3
    with pytest.raises(ValueError, match="same dimension, by the same method"):
        MongeAmpere("normal", MIXTURE).fit(1, start=first, progress=False)


def test_a_normal_law_is_its_own_laplace_approximation():
    """Scales a thousand to one and a mean far off: the first step finds nothing to do."""
    root = torch.tensor([[1e-3, 0, 0], [0.4, 1.0, 0], [-3.0, 20.0, 7.0]], dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(torch.tensor([50.0, 0.0, -2.0], dtype=torch.float64), scale_tril=root)
    flow = MongeAmpere("laplace", law.log_prob, dim=3, drive="density").fit(3, points=64, progress=False)
    torch.testing.assert_close(flow.reference.mean, law.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flow.reference.covariance, law.covariance_matrix, rtol=1e-6, atol=1e-9)
    y = law.sample((20,))
    torch.testing.assert_close(flow.map(y), y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(flow.log_density(y), law.log_prob(y), rtol=1e-5, atol=1e-5)


def test_a_mode_may_be_far_away():
    flow = MongeAmpere("laplace", lambda x: -(x - 1e6).square().sum(1) / 2e-6, dim=2)
    torch.testing.assert_close(flow.reference.mean, torch.full((2,), 1e6, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(flow.reference.covariance, 1e-6 * torch.eye(2, dtype=torch.float64))


def skewed(z):
    """With its mode at the origin, where its Hessian is -I."""
    return (z - z.exp()).sum(1) - z[:, 0].square() * z[:, 1].square() / 4


@pytest.mark.parametrize("method", ["linear", "neural"])
def test_a_laplace_reference_knows_no_units(method, tmp_path):
    root = torch.tensor([[1e-4, 0.0], [3.0, 50.0]], dtype=torch.float64)
    centre = torch.tensor([1e-3, -300.0], dtype=torch.float64)

    def stretched(x):
        return skewed(torch.linalg.solve_triangular(root, (x - centre).T, upper=False).T)

    kind = {"units": 8, "dim": 2, "drive": "density"}
    one = MongeAmpere("laplace", skewed, method=method, **kind).fit(3, points=256, progress=False)
    other = MongeAmpere("laplace", stretched, method=method, **kind).fit(3, points=256, progress=False)
    y = draw(50, 2, seed=3)
    assert float((one.map(y) - y).abs().max()) > 0.05
    there = centre + y @ root.T
    expected = centre + one.map(y) @ root.T
    torch.testing.assert_close(other.map(there), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other.inverse(other.map(there)), there, rtol=1e-6, atol=1e-8)
    logs = one.log_density(one.map(y)) - float(root.diagonal().log().sum())
    torch.testing.assert_close(other.log_density(expected), logs, rtol=1e-4, atol=1e-4)
    other.save(tmp_path / "map.nc")
    torch.testing.assert_close(MongeAmpere.load(tmp_path / "map.nc").map(there), other.map(there))


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (lambda x: x.sum(1), {}, "no mode with a curvature"),
        (lambda x: -x.square().sum(1), {"method": "grid"}, 'for "linear" and "neural"'),
        (lambda x: -x.square().sum(1), {"standardise": False}, "standardised"),
        (draw(9, 2), {}, "data can be sampled"),
        (lambda x: -(x - 0.3).abs().sum(1) - 0.1 * x.square().sum(1), {}, "no mode with a curvature"),
        (lambda x: -x.square().sqrt().sum(1) - x.square().sum(1), {}, "no mode with a curvature"),
    ],
)
def test_laplace_where_it_cannot_be(target, options, said):
    with pytest.raises(ValueError, match=said):
        MongeAmpere("laplace", target, dim=2, **options)


def test_divergence_keeps_the_last_good_map():
    def log_density(x):
        return torch.where(x[:, 0] > 1.5, torch.nan, -8 * (x[:, 0] - 3) ** 2)

    narrow = find_marginal(GaussianMixture([1.0], [0.0], [0.01]))
    flow = MongeAmpere(narrow, log_density, units=3, dim=1, standardise=False)
    with pytest.warns(UserWarning, match="the flow diverged, the last good map is kept: step .* not finite"):
        flow.fit(50, points=256, progress=False)
    assert flow.result.stopped == "diverged"
    assert 0 < flow.result.steps < 50
    assert bool(torch.isfinite(flow.sample(10)).all())


def test_a_first_step_that_fails_is_an_error():
    flow = MongeAmpere("normal", lambda x: torch.where(x[:, 0] > 0.1, torch.nan, 0.0) * x[:, 0], method="linear", dim=1)
    with pytest.raises(ValueError, match="not finite"):
        flow.fit(3, progress=False)


def test_ctrl_c_keeps_what_there_is(monkeypatch):
    flow = MongeAmpere("normal", MIXTURE, method="linear", units=10)
    kept = Trail.add

    def interrupt(trail, step):
        kept(trail, step)
        if step.number == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trail, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        flow.fit(50, progress=False)
    assert flow.result.stopped == "interrupted"
    assert flow.result.steps == 3
    assert flow.map(draw(2, 1)).shape == (2, 1)


def test_minutes_end_a_fit():
    flow = MongeAmpere("normal", MIXTURE, method="linear", units=10).fit(10_000, minutes=1e-4, progress=False)
    assert flow.result.stopped == "minutes"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("normal", MIXTURE), {"method": "newton"}, "no method 'newton': it is one of gaussian"),
        (("normal", MIXTURE), {"drive": "magic"}, "no drive 'magic'"),
        (("normal", draw(9, 2)), {"drive": "density"}, "data has no density"),
        (("normal", lambda x: -x.square().sum(1)), {}, "give dim"),
        (("normal", lambda x: -x.square().sum(1)), {"dim": 2, "drive": "classifier"}, "cannot be sampled"),
        ((draw(9, 2), draw(9, 3)), {}, "data is in 3 dimensions, the other law in 2"),
        ((lambda x: -x.square().sum(1), MIXTURE), {"dim": 1}, "cannot be sampled, and the map starts from samples"),
        (("normal", "two-points"), {}, "components without a density"),
        (("normal", "uniform"), {}, "no smooth density and no points"),
        (("normal", MIXTURE), {"noise": 0.0}, "noise must be positive"),
        (("normal", lambda x: x.detach().sum(1)), {"dim": 2}, "cannot be differentiated"),
        (("normal", lambda x: x.square()), {"dim": 2}, "must return a tensor of shape"),
        (("normal", lambda x: x.square().sum(1).log()), {"dim": 2}, "not finite at the origin"),
    ],
)
def test_bad_laws_and_options(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        MongeAmpere(*arguments, **options)


def test_bad_arguments_of_a_fit_and_of_points():
    flow = MongeAmpere("normal", MIXTURE, method="linear", units=3)
    with pytest.raises(ValueError, match="call fit first"):
        flow.map(draw(2, 1))
    for options in ({"steps": 0}, {"minutes": 0.0}, {"eta": -1.0}, {"rule": "none"}, {"points": 1}):
        with pytest.raises(ValueError, match=r"must|no step rule"):
            flow.fit(**options, progress=False)
    flow.fit(2, progress=False)
    with pytest.raises(ValueError, match=r"shape \(n, 1\)"):
        flow.map(draw(2, 2))
    with pytest.raises(ValueError, match="finite"):
        flow.map(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="iterate is"):
        flow.sample(3, iterate="first")


def test_a_single_point_has_no_map():
    with pytest.raises(ValueError, match="single point"):
        MongeAmpere("normal", np.ones((5, 2)), units=2).fit(1, progress=False)


def test_no_points_asked_for(linear):
    assert linear.sample(0).shape == (0, 1)
    assert linear.sample(0, iterate="average").shape == (0, 1)


def test_a_law_of_the_house_is_taken_by_name():
    found = MongeAmpere("normal", "four-gaussians", method="linear", units=20).fit(5, progress=False)
    assert found.dim == 1
    assert float(found.history["kl"][-1]) < float(found.history["kl"][0])
    assert brenier.load_target("four-gaussians").name == found.target.name


def test_normal_takes_the_dimension_of_the_other_law():
    back = MongeAmpere(draw(300, 2), "normal", method="gaussian").fit()
    assert back.dim == 2
    assert MongeAmpere("normal", "normal", method="gaussian").dim == 1
    assert MongeAmpere("normal", "normal", method="gaussian", dim=3).fit().map(draw(4, 3)).shape == (4, 3)


def test_a_map_from_data_is_loaded_with_them(tmp_path):
    """The affine map between 300 points and the normal law."""
    data = draw(300, 2) * 2
    flow = MongeAmpere(data, "normal", method="gaussian").fit()
    flow.save(tmp_path / "map.nc")
    found = MongeAmpere.load(tmp_path / "map.nc")
    assert torch.equal(found.map(data), flow.map(data))
    with pytest.raises(ValueError, match="a file does not hold its reference, data: give it to `load`"):
        found.sample(3)
    with pytest.raises(ValueError, match="data has no density"):
        found.log_density(data)
    assert torch.equal(MongeAmpere.load(tmp_path / "map.nc", reference=data).sample(3), flow.sample(3))


def test_w2_between_normal_laws():
    """From N(0, I) to N(m, S^2): |m|^2 + |S - 1|^2, by the map and by the potential."""
    scale, shift = torch.tensor([2.0, 0.5]), torch.tensor([1.0, 0.0])
    law = GaussianMixture([1.0], shift[None].double(), scale.double().square()[None])
    flow = MongeAmpere("normal", law, method="gaussian").fit()
    exact, cost = math.sqrt(2.25), flow.w2()
    assert abs(cost.primal - exact) < 4 * cost.primal_se
    assert abs(cost.dual - exact) < 4 * cost.dual_se
    flow.psi = type(flow.psi)(flow.psi.A + 1, flow.psi.b)
    wrong = flow.w2()
    assert wrong.dual < exact - 2 * wrong.dual_se


def test_arrays_and_lists_are_as_good_as_tensors(linear):
    x = linear.sample(9, 5)
    for call in (linear.map, linear.potential, linear.inverse, linear.log_density):
        for given in (x.numpy(), x.tolist()):
            found = call(given)
            assert isinstance(found, np.ndarray)
            np.testing.assert_array_equal(found, call(x))


def test_images_of_both_laws_are_in_one_order():
    images = draw(40, 3, 4, 5)
    with pytest.warns(UserWarning, match="channels of data come last"):
        flow = MongeAmpere(images, images.movedim(1, -1), method="gaussian")
    torch.testing.assert_close(flow.target.mean, images.flatten(1).mean(0), rtol=0, atol=1e-6)
    assert flow.target.event_shape == (3, 4, 5)
