import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from brenier.networks.architectures import (
    Denoiser,
    Mlp,
    UNet,
    Velocity,
    build,
    default_kind,
    flow_loss,
    weighted_loss,
)

Map = Callable[[torch.Tensor], torch.Tensor]


def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights everywhere: the layers that start at zero hide the rest."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return network


def mlp(dim: int = 3) -> nn.Module:
    return stirred(Mlp((dim,), width=16, depth=2))


def unet(*shape: int) -> nn.Module:
    return stirred(UNet(shape, channels=(8, 16), depth=1))


def points(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_before_training_it_is_the_best_linear_denoiser_of_isotropic_data() -> None:
    centre, deviation = torch.tensor([1.0, -2.0, 0.5]), 1.5
    denoiser = Denoiser(Mlp((3,)), centre, deviation)
    x, sigma = points(4, 3), torch.tensor([0.01, 0.7, 3.0, 100.0])
    gain = deviation**2 / (deviation**2 + sigma[:, None] ** 2)
    assert torch.allclose(denoiser(x, sigma), centre + gain * (x - centre), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_preconditioning_is_that_of_edm(shape: tuple[int, ...]) -> None:
    """Against Table 1 of arXiv:2206.00364, written down for the centred variable."""
    s, centre = 0.5, 0.3 * points(*shape, seed=2)
    network = stirred(Mlp(shape, 16, 2))
    x, sigma = points(5, *shape), torch.tensor([0.02, 0.3, 1.0, 4.0, 30.0])
    for i, level in enumerate(sigma.tolist()):
        c_skip = s**2 / (level**2 + s**2)
        c_out = level * s / math.sqrt(level**2 + s**2)
        c_in = 1 / math.sqrt(level**2 + s**2)
        c_noise = torch.tensor([math.log(level / s) / 4])
        away = x[i : i + 1] - centre
        expected = centre + c_skip * away + c_out * network(c_in * away, c_noise)
        assert torch.allclose(Denoiser(network, centre, s)(x, sigma)[i], expected[0], rtol=1e-4, atol=1e-5)


def test_the_loss_is_edms_weighted_error() -> None:
    s, x, z, sigma = 0.5, points(6, 3), points(6, 3, seed=4), torch.logspace(-2, 1, 6)
    denoiser = Denoiser(mlp(), torch.zeros(3), s)
    loss = weighted_loss(denoiser, x, z, sigma, torch.tensor(s))
    error = (denoiser(x + sigma[:, None] * z, sigma) - x).square().mean(1)
    weight = (sigma**2 + s**2) / (sigma * s) ** 2
    assert torch.allclose(loss, weight * error, rtol=1e-5)


def test_it_knows_no_unit() -> None:
    """Data moved and rescaled are denoised to the moved and rescaled."""
    network, centre, x, sigma = mlp(), points(3, seed=5), points(4, 3), torch.logspace(-1, 1, 4)
    small = Denoiser(network, centre, 0.7)(x, sigma)
    large = Denoiser(network, 8 * centre + 1, 8 * 0.7)(8 * x + 1, 8 * sigma)
    assert torch.allclose(large, 8 * small + 1, rtol=1e-5, atol=1e-5)


def tangents(network: nn.Module, shape: tuple[int, ...]) -> tuple[Map, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A denoiser at two noise levels, points, a direction v, and its derivative along v by central differences."""
    denoiser = Denoiser(network, torch.zeros(shape), 1.0).double()
    x, v = points(2, *shape).double(), points(2, *shape, seed=6).double()
    step = 1e-5

    def denoise(y: torch.Tensor) -> torch.Tensor:
        return denoiser(y, torch.tensor([0.3, 2.0], dtype=torch.float64))

    return denoise, x, v, ((denoise(x + step * v) - denoise(x - step * v)) / (2 * step)).detach()


# What torch itself loads with the first forward derivative says so.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_forward_derivatives_of_the_mlp_agree_with_differences() -> None:
    denoise, x, v, difference = tangents(mlp(), (3,))
    assert torch.allclose(torch.func.jvp(denoise, (x,), (v,))[1], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("network", "shape"), [(mlp(), (3,)), (unet(16, 16), (16, 16)), (unet(3, 17, 18), (3, 17, 18))]
)
def test_reverse_derivatives_agree_with_differences(network: nn.Module, shape: tuple[int, ...]) -> None:
    """J^T u, and J v as the derivative of J^T u by u: reverse mode twice."""
    denoise, x, v, difference = tangents(network, shape)
    u = points(2, *shape, seed=7).double().requires_grad_()
    x.requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        (pulled,) = torch.autograd.grad(denoise(x), x, u, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, u, v)
    assert torch.allclose((pulled * v).sum(), (u * difference).sum(), rtol=1e-7)
    assert torch.allclose(pushed, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("network", "shape"), [(mlp(), (3,)), (unet(16, 20), (16, 20))])
def test_every_row_is_denoised_by_itself(network: nn.Module, shape: tuple[int, ...]) -> None:
    denoiser = Denoiser(network, torch.zeros(shape), 1.0)
    x, sigma = points(3, *shape), torch.tensor([0.1, 1.0, 5.0])
    alone = torch.cat([denoiser(x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    assert torch.allclose(denoiser(x, sigma), alone, rtol=1e-4, atol=1e-5)


def test_the_noise_level_reaches_every_block() -> None:
    for network, shape in ((mlp(), (3,)), (unet(16, 16), (16, 16))):
        x = points(1, *shape).expand(2, *shape)
        first, second = network(x, torch.tensor([-0.2, 0.2]))
        assert float((first - second).detach().abs().max()) > 0.01


def test_a_unet_at_the_start_returns_zero() -> None:
    network = UNet((17, 19), channels=(8, 8), depth=1)
    assert bool((network(points(2, 17, 19), torch.zeros(2)) == 0).all())


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((2,), "mlp"),
        ((64,), "mlp"),
        ((8, 8), "mlp"),
        ((15, 40), "mlp"),
        ((16, 16), "unet"),
        ((3, 32, 32), "unet"),
        ((1, 28, 28), "unet"),
        ((3, 8, 8), "mlp"),
        ((16, 16, 16), "mlp"),
    ],
)
def test_images_that_can_be_halved_get_a_unet(shape: tuple[int, ...], kind: str) -> None:
    assert default_kind(shape) == kind


def test_a_network_is_built_from_its_config() -> None:
    network = build({"kind": "mlp", "width": 24, "depth": 3}, (2, 2))
    assert isinstance(network, Mlp)
    assert [weight.shape[0] for weight in network.state_dict().values() if weight.ndim == 2].count(24) == 1 + 2 * 3
    assert isinstance(build({"kind": "unet", "channels": [8, 8], "depth": 1}, (16, 16)), UNet)
    assert network(torch.zeros(5, 2, 2), torch.zeros(5)).shape == (5, 2, 2)
    assert np.isfinite(network(torch.zeros(5, 2, 2), torch.full((5,), 3.0)).detach().numpy()).all()


class Angled(nn.Module):
    """A network that is told log(sigma/s)/4, told the angle of (1 - t, s t) instead: tan a = s t/(1 - t)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        return self.network(x, -angle.tan().log() / 4)


def test_a_velocity_is_preconditioned_as_a_denoiser() -> None:
    """v = (D(x/t; (1 - t)/t) - x)/(1 - t), with the same inner network."""
    network, centre, s = mlp(), torch.tensor([1.0, -2.0, 0.5]), 1.5
    x, t = points(4, 3), torch.tensor([0.05, 0.4, 0.7, 0.98])
    denoised = Denoiser(network, centre, s)(x / t[:, None], (1 - t) / t)
    expected = (denoised - x) / (1 - t[:, None])
    assert torch.allclose(Velocity(Angled(network), centre, s)(x, t), expected, rtol=1e-3, atol=1e-4)


def test_before_training_a_velocity_is_that_of_isotropic_data_and_its_ends_are_finite() -> None:
    centre, s = torch.tensor([1.0, -2.0, 0.5]), 1.5
    velocity, x = Velocity(Mlp((3,)), centre, s), points(2, 3)
    ends = velocity(x, torch.tensor([0.0, 1.0]))
    assert torch.allclose(ends[0], centre - x[0])  # E[X] - x at the noise
    assert torch.allclose(ends[1], x[1])  # x - E[Z] at the data


def test_the_loss_of_a_flow_over_even_angles_is_its_error_over_even_times() -> None:
    s, n = 0.3, 4001
    velocity = Velocity(mlp(), torch.zeros(3), s)
    x, y = (points(1, 3, seed=seed).expand(n, 3) for seed in (3, 4))
    sigma = torch.tensor(s)
    angle = torch.linspace(0, math.pi / 2, n, dtype=torch.float64)
    t = (angle.sin() / (angle.sin() + s * angle.cos())).float()
    by_angle = torch.trapezoid(flow_loss(velocity, x, y, t, sigma).double(), angle) * 2 / math.pi
    t = torch.linspace(0, 1, n)
    place = t[:, None]
    error = (velocity((1 - place) * x + place * y, t) - (y - x)).square().mean(1)
    by_time = torch.trapezoid(error.double(), t.double()) * 2 / (math.pi * s)
    assert float(by_angle.detach()) == pytest.approx(float(by_time.detach()), rel=1e-3)


@pytest.mark.parametrize("shape", [(3,), (16, 16)])
def test_a_network_with_classes_is_told_them(shape: tuple[int, ...]) -> None:
    made = Mlp(shape, 16, 2, classes=3) if len(shape) == 1 else UNet(shape, (8, 16), 1, classes=3)
    velocity, x = Velocity(stirred(made), torch.zeros(shape), 0.5), points(2, *shape)
    t, labels = torch.tensor([0.3, 0.6]), torch.tensor([0, 2])
    both = velocity(x, t, class_labels=labels)
    for k in range(2):
        alone = velocity(x[k : k + 1], t[k : k + 1], class_labels=labels[k : k + 1])
        assert torch.allclose(alone[0], both[k], atol=1e-5)
    assert not torch.allclose(velocity(x, t, class_labels=labels.flip(0)), both, atol=1e-3)
    with pytest.raises(ValueError, match="it has classes: give class_labels"):
        velocity(x, t)
