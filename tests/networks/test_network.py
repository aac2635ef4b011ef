"""Networks that are the exact denoiser of a known law, and networks that are none at all."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import brenier
from brenier.networks.network import NetworkTarget

# Networks that nobody trained denoise badly, of which the library warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* misses .* by .* their mean and variance:UserWarning")

LAW = brenier.GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]], name="two blobs", dtype=torch.float64
)


class Exact(nn.Module):
    """E[X | X + sigma Z = x] of a law."""

    def __init__(self, law: brenier.Target) -> None:
        super().__init__()
        self.law = law
        self.largest_batch = 0
        self.calls = 0

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.largest_batch = max(self.largest_batch, len(x))
        self.calls += 1
        s = float(sigma[0])
        return self.law.denoise(x.flatten(1) / s, 1 / s).reshape(x.shape)


def network(law: brenier.Target = LAW, **options: Any) -> NetworkTarget:
    return NetworkTarget(Exact(law), options.pop("data", law), dtype=torch.float64, **options)


def wide(dim: int = 300) -> brenier.GaussianMixture:
    """A mixture in so many dimensions that Jacobians are not formed."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(4, dim, generator=generator, dtype=torch.float64) / dim**0.5 * 3
    variances = 0.05 + torch.rand(4, dim, generator=generator, dtype=torch.float64)
    return brenier.GaussianMixture([0.1, 0.2, 0.3, 0.4], means, variances, name="wide", dtype=torch.float64)


def queries(law: brenier.Target, snr: float, n: int, seed: int = 0) -> Tensor:
    z = torch.randn(n, law.dim, generator=torch.Generator().manual_seed(seed + 77), dtype=torch.float64)
    return snr * law.sample(n, seed) + z


@pytest.mark.parametrize("snr", [0.05, 0.8, 3.0, 20.0])
def test_an_exact_denoiser_has_the_localization_of_its_law(snr: float) -> None:
    y = queries(LAW, snr, 40)
    found, exact = network().localize(y, snr), LAW.localize(y, snr)
    torch.testing.assert_close(found.norm, exact.norm, rtol=1e-4, atol=1e-12)
    torch.testing.assert_close(found.trace, exact.trace)
    torch.testing.assert_close(found.mean, exact.mean)
    torch.testing.assert_close(found.symmetric, found.norm, rtol=1e-4, atol=1e-12)
    assert found.asymmetry is not None
    assert float(found.asymmetry.max()) < 1e-12


@pytest.mark.parametrize("snr", [0.3, 1.0, 3.0])
def test_without_forming_jacobians(snr: float) -> None:
    law = wide()
    y = queries(law, snr, 24)
    target = network(law)
    found, exact = target.jacobian(y, snr), law.localize(y, snr)
    assert bool((found.norm <= exact.norm * (1 + 1e-9)).all())
    assert bool((found.norm >= exact.norm * 0.98).all())
    assert float(found.asymmetry.max()) < 1e-7
    assert found.negative is not None
    assert float(found.negative.max()) == 0
    assert float(((found.trace - exact.trace) / exact.trace).abs().max()) < 0.05
    z = (found.trace - exact.trace).mean() / (found.trace_se.square().sum().sqrt() / len(y))
    assert abs(float(z)) < 4
    path = target.localize_path(law.sample(24, 0), y - snr * law.sample(24, 0), [snr / 2, snr])
    torch.testing.assert_close(path.norm[1], exact.norm, rtol=0.02, atol=0)


def test_batches_bound_what_the_network_sees_at_once() -> None:
    law = wide()
    target = network(law, batch=5)
    y = queries(law, 1.0, 13)
    whole = network(law, batch=13)
    torch.testing.assert_close(target.denoise(y, 1.0), whole.denoise(y, 1.0))
    target.localize(y, 1.0)
    target.localize_path(law.sample(13, 0), y, [0.5, 1.0])
    assert isinstance(target.network, Exact)
    assert target.network.largest_batch == 5


def test_the_same_seed_gives_the_same_numbers() -> None:
    law = wide()
    y = queries(law, 1.0, 6)
    first, again, other = (network(law).jacobian(y, 1.0, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.trace, again.trace)
    assert torch.equal(first.norm, again.norm)
    assert not torch.equal(first.trace, other.trace)


def test_a_probe_of_a_network_is_that_of_its_law() -> None:
    of_network = brenier.probe(network(), queries=64, progress=False)
    of_law = brenier.probe(LAW, of_network["snr"].values, queries=64, progress=False)
    for name in ("m_star", "mean_localization", "mmse"):
        np.testing.assert_allclose(of_network[name], of_law[name], rtol=1e-3, atol=1e-6)
    scale = 1 + of_law["snr"] ** 2  # zeta is 1 - CVaR times this
    np.testing.assert_allclose(of_network["zeta_sharp"] / scale, of_law["zeta_sharp"] / scale, atol=1e-4)
    assert float(of_network["asymmetry"].max()) < 1e-9
    np.testing.assert_allclose(of_network["mean_symmetric"], of_network["mean_localization"], rtol=1e-4)
    assert of_network.attrs["queries_from"] == "two blobs"
    assert of_network["asymmetry"].attrs["units"] == "1"


def test_a_chain_of_a_network_is_that_of_its_law() -> None:
    options: dict[str, Any] = {"steps": 3, "eta": 0.05, "n": 32, "progress": False}
    of_network = brenier.chain(network(), **options)
    of_law = brenier.chain(LAW, **options)
    for name in ("w2_backward", "mean_localization", "bound_sharp"):
        np.testing.assert_allclose(of_network[name], of_law[name], rtol=1e-3)


def test_queries_by_the_networks_own_chain() -> None:
    """2,000 samples of the chain against the law: moments, and the share of each mode."""
    target = network(data=None, event_shape=(2,), snr_range=(0.02, 100.0))
    x = target.sample(2000, seed=1)
    assert torch.equal(x, target.sample(2000, seed=1))
    exact = LAW.sample(200_000, 5)
    for power in (1, 2):
        spread = exact.pow(power).std(0) / 2000**0.5
        assert bool(((x.pow(power).mean(0) - exact.pow(power).mean(0)).abs() < 4 * spread + 0.01).all())
    profile = brenier.probe(target, queries=50, progress=False)
    assert profile.attrs["queries_from"] == "the network's own chain"
    assert float(profile["snr"].min()) == pytest.approx(0.02)
    assert float(profile["snr"].max()) == pytest.approx(100)


def test_an_image_network_sees_images() -> None:
    seen: list[tuple[int, ...]] = []

    def halve(x: Tensor, t: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return x / 2

    target = NetworkTarget(halve, event_shape=(3, 4, 4), snr_range=(0.1, 10))
    found = target.localize(torch.randn(5, 48), 1.0)
    torch.testing.assert_close(found.norm, torch.full((5,), 0.5))
    torch.testing.assert_close(found.trace, torch.full((5,), 24.0))
    assert {shape[1:] for shape in seen} == {(3, 4, 4)}


def test_with_data_and_to() -> None:
    target = network()
    other = target.with_data(np.array([[0.0, 1.0], [2.0, 3.0]]))
    assert {tuple(row) for row in other.sample(50).tolist()} == {(0.0, 1.0), (2.0, 3.0)}
    assert target.data is not None
    assert target.data.name == LAW.name
    single = NetworkTarget(Linear(), LAW)
    double = single.to(dtype=torch.float64)
    assert double.dtype == torch.float64
    assert double.data is not None
    assert double.data.dtype == torch.float64
    assert single.dtype == torch.float32
    y = torch.randn(3, 2)
    torch.testing.assert_close(double.denoise(y.double(), 1.0), single.denoise(y, 1.0).double())
    assert single.to() is single


class Linear(nn.Module):
    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        nn.init.constant_(self.layer.bias, bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(x)


def test_grey_images_with_and_without_a_channel() -> None:
    target = NetworkTarget(lambda x, t: x / 2, np.zeros((4, 5, 5)), event_shape=(1, 5, 5))
    assert target.event_shape == (1, 5, 5)
    assert target.with_data(np.zeros((4, 25))).event_shape == (1, 5, 5)
    with pytest.raises(ValueError, match=r"have shape \(5, 6\), those of network \(1, 5, 5\)"):
        target.with_data(np.zeros((4, 5, 6)))


def test_the_callers_module_keeps_its_dtype() -> None:
    module = Linear()
    assert NetworkTarget(module, LAW, dtype=torch.float64).dtype == torch.float64
    assert module.layer.weight.dtype == torch.float32
    assert NetworkTarget(module, LAW).network is module


def test_a_module_is_used_in_evaluation_mode() -> None:
    dropout = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dropout

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.inner(x)

    target = NetworkTarget(Noisy(), LAW)
    y = torch.randn(4, 2)
    assert torch.equal(target.denoise(y, 1.0), target.denoise(y, 1.0))


# What is refused


def refused(message: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        NetworkTarget(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_bad_arguments() -> None:
    refused("give event_shape or data", Linear())
    refused("have shape \\(2,\\), those of network \\(3,\\)", Linear(), LAW, event_shape=(3,))
    refused("event_shape must be one or more positive sizes", Linear(), event_shape=(0,))
    refused("tolerance must lie in", Linear(), LAW, tolerance=0.0)
    refused("batch must be a whole number", Linear(), LAW, batch=0)
    refused("snr_range must run from low to high", Linear(), LAW, snr_range=(2.0, 1.0))
    refused("is a network itself", Linear(), network())
    refused('sigma_data goes with prediction="edm"', Linear(), LAW, sigma_data=0.5)
    refused('sigma_data goes with prediction="edm"', Linear(), LAW, prediction="edm", time="edm")
    refused('"v" is defined for a variance-preserving chain', Linear(), LAW, prediction="v", time="sigma")
    refused('"velocity" is defined for the straight path', Linear(), LAW, prediction="velocity", time="ou")
    refused('"edm" is defined for X \\+ sigma Z', Linear(), LAW, prediction="edm", time="flow", sigma_data=0.5)
    refused('time="ddpm" needs alpha_bars', Linear(), LAW, time="ddpm")
    refused(
        "goes beyond what the network's step",
        Linear(),
        LAW,
        time="ddpm",
        alpha_bars=[0.9, 0.5, 0.1],
        snr_range=(0.1, 9),
    )


def test_a_network_of_another_shape() -> None:
    refused("does not take points of shape \\(3,\\)", Linear(), event_shape=(3,))
    refused(
        "returned shape \\(2, 2\\), it must be that of its input, \\(2, 4\\)",
        lambda x, t: x[:, :2],
        event_shape=(4,),
    )
    refused("must return a tensor", lambda x, t: (x, x), event_shape=(4,))


def test_networks_that_are_none() -> None:
    refused("does not take points of shape \\(2,\\): .*positional arguments", nn.Linear(2, 2), event_shape=(2,))
    refused("too narrow for a Jacobian", Linear(), LAW, dtype=torch.float16)
    with pytest.raises(ValueError, match="too narrow"):
        NetworkTarget(Linear(), LAW).to(dtype=torch.bfloat16)


def test_half_precision_modules_are_copied_to_single() -> None:
    module = Linear().half()
    target = NetworkTarget(module, LAW)
    assert target.dtype == torch.float32
    assert module.layer.weight.dtype == torch.float16


def test_rows_that_see_each_other_and_chance() -> None:
    refused("itself alone", lambda x, t: x - x.mean(0), event_shape=(3,))
    refused("itself alone", lambda x, t: x * torch.rand(()), event_shape=(3,))


def test_a_jacobian_that_is_not_finite_names_the_snr() -> None:
    target = NetworkTarget(lambda x, t: torch.sqrt(torch.relu(x)), event_shape=(300,), snr_range=(0.1, 10))
    y = -torch.ones(2, 300)
    assert bool(torch.isfinite(target.denoise(y, 2.0)).all())
    with pytest.raises(ValueError, match="has a Jacobian with NaN or infinite values at SNR 2"):
        target.localize(y, 2.0)


def test_a_callable_that_stays_behind() -> None:
    layer = nn.Linear(2, 2)
    target = NetworkTarget(lambda x, t: layer(x), event_shape=(2,))
    with pytest.raises(ValueError, match=r"does not take points .*same dtype"):
        target.to(dtype=torch.float64)


def test_the_chain_starts_around_the_data() -> None:
    """Two modes far from 0: a chain that started around 0 would reach the nearer one only."""
    law = brenier.GaussianMixture([0.5, 0.5], [[98.0], [102.0]], [0.1, 0.1], dtype=torch.float64)
    x = network(law, data=None, event_shape=(1,), snr_range=(0.03, 30.0)).sample(1000, seed=2)
    share = float((x > 100).double().mean())
    assert abs(share - 0.5) < 4 * 0.5 / 1000**0.5
    assert float((x - 100).abs().min()) > 0.3


def test_a_network_without_gradient() -> None:
    @torch.no_grad()
    def closed(x: Tensor, t: Tensor) -> Tensor:
        return x / 2

    refused("no gradient in its input", closed, event_shape=(4,))
    refused("no gradient in its input", lambda x, t: x.detach() / 2, event_shape=(4,))
    # The prediction of the noise would still leave x itself in the posterior mean.
    refused("no gradient in its input", closed, event_shape=(4,), prediction="epsilon", time="ou")


@pytest.mark.parametrize("dim", [4, 300])
def test_nan_names_the_snr(dim: int) -> None:
    def breaks(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[:, None] < 0.5, math.nan, 1.0) * x

    target = NetworkTarget(breaks, event_shape=(dim,), snr_range=(0.1, 10))
    y = torch.randn(3, dim)
    assert bool(torch.isfinite(target.denoise(y, 1.0)).all())
    for call in (target.denoise, target.localize, target.jacobian):
        with pytest.raises(ValueError, match="NaN or infinite values at SNR 4, for 3 of 3 points"):
            call(y, 4.0)
    with pytest.raises(ValueError, match="NaN or infinite values at SNR"):
        brenier.probe(target.with_data(torch.randn(10, dim)), [1.0, 4.0], queries=5, progress=False)


def test_snrs_beyond_the_training() -> None:
    target = network(snr_range=(0.1, 10.0))
    for snr in (0.05, 11.0):
        with pytest.raises(ValueError, match=r"must lie between 0\.1 and 10"):
            target.localize(torch.zeros(1, 2, dtype=torch.float64), snr)
    with pytest.raises(ValueError, match="not one that network was trained for"):
        brenier.probe(target, [0.01], progress=False)
    with pytest.raises(ValueError, match="points must have shape \\(n, 2\\)"):
        target.denoise(torch.zeros(1, 3, dtype=torch.float64), 1.0)
    with pytest.raises(ValueError, match="no queries"):
        target.jacobian(torch.zeros(0, 2, dtype=torch.float64), 1.0)


def test_an_snr_rounded_out_of_the_training_is_its_end() -> None:
    """The point x = y/r stays, the network is told the level at the end of its range."""
    target, whole = network(snr_range=(0.1, 10.0)), network()
    x = LAW.sample(4, 3) + 0.5
    for snr, end in ((0.09995, 0.1), (10.009, 10.0)):
        torch.testing.assert_close(target.denoise(snr * x, snr), whole.denoise(end * x, end), rtol=1e-12, atol=0)
        found, exact = target.localize(snr * x, snr), whole.localize(end * x, end)
        torch.testing.assert_close(found.trace, exact.trace, rtol=1e-9, atol=0)
        torch.testing.assert_close(found.mean, exact.mean, rtol=1e-12, atol=0)
    assert brenier.calibrate(target, sigmas=[10.009, 1.0], queries=20, progress=False).sizes["snr"] == 2
    known = {"time": "ddpm", "alpha_bars": [0.9, 0.5, 0.1], "snr_range": (0.3331, 3.001)}
    near = network(data=None, event_shape=(2,), **known)
    assert near.snr_range == pytest.approx((1 / 3, 3.0), rel=1e-12)


def test_levels_that_nobody_knows() -> None:
    target = network(data=None, event_shape=(2,))
    with pytest.raises(ValueError, match="needs its noise levels: give data or snr_range"):
        target.sample(3)
    with pytest.raises(ValueError, match="give data or snr_range"):
        target.scales()
    with pytest.raises(ValueError, match="resolve nothing of two blobs"):
        network(snr_range=(1e5, 1e6)).scales()


def test_names_are_no_data_below_the_catalog() -> None:
    for call in (network, network().with_data):
        with pytest.raises(TypeError, match=r"^'digits' is a name.*: give brenier.load_target\(\"digits\"\)$"):
            call(data="digits")


def test_data_belong_to_networks() -> None:
    with pytest.raises(ValueError, match="is no network"):
        brenier.load_target("digits", data="digits")


def test_data_are_put_in_the_order_of_the_network() -> None:
    images = np.random.default_rng(0).normal(size=(6, 3, 4, 5))
    last = np.moveaxis(images, 1, -1)
    law = brenier.load_target(images, dtype=torch.float64)
    with pytest.warns(UserWarning, match="channels of data come last"):
        found = NetworkTarget(Exact(law), last, event_shape=(3, 4, 5), dtype=torch.float64)
    with pytest.warns(UserWarning, match="channels of data come last"):
        again = network(law).with_data(last)
    for target in (found, again):
        assert target.data is not None
        np.testing.assert_allclose(target.data.point_masses()[0], images.reshape(6, -1), atol=1e-6)
        assert target.event_shape == (3, 4, 5)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.body(torch.cat([x, sigma[:, None]], 1))


@pytest.mark.parametrize("how", ["whole", "in place", "a part", "a function"])
def test_what_was_compiled_is_taken_as_it_was(how: str) -> None:
    def broken(graph: Any, examples: Any) -> Any:
        raise RuntimeError("derivatives do not go through")

    original = Small().double()
    compiled, inner = Small().double(), Small().double()
    for other in (compiled, inner):
        other.load_state_dict(original.state_dict())
    if how == "whole":
        compiled = torch.compile(compiled, backend=broken)
    elif how == "in place":
        compiled.compile(backend=broken)
    elif how == "a part":
        compiled.body = torch.compile(compiled.body, backend=broken)
    else:
        compiled = torch.compile(inner.forward, backend=broken)
    options = {"event_shape": (2,), "snr_range": (0.1, 100.0), "dtype": torch.float64}
    with pytest.warns(UserWarning, match="is taken as it was before torch.compile") as told:
        law = NetworkTarget(compiled, **options)
    assert len(told) == 1
    y = torch.randn((5, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(law.localize(y, 2.0).norm, NetworkTarget(original, **options).localize(y, 2.0).norm)


@pytest.mark.parametrize(("dim", "count"), [(2, 2048), (64, 128), (128, 64), (200, 64)])
def test_queries_cost_as_many_passes_in_any_dimension(dim: int, count: int) -> None:
    law = NetworkTarget(lambda x, sigma: x / (1 + sigma[:, None] ** 2), event_shape=(dim,), snr_range=(0.1, 10.0))
    assert law.default_queries == count
