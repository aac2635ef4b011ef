"""Flows whose velocity is known, with independent pairs and with coupled ones."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import brenier
from brenier.networks.architectures import Mlp, Velocity
from brenier.networks.flow import FlowTarget

LAW = brenier.GaussianMixture(
    [0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[0.1, 0.3], [0.2, 0.05]], name="two blobs", dtype=torch.float64
)


class Exact(nn.Module):
    """E[X - Z | (1 - t) Z + t X = x] of a law, for t below 1."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        now = float(t[0])
        if now == 0:
            return LAW.moments()[0].expand_as(x) - x
        clean = LAW.denoise(x / (1 - now), now / (1 - now))
        return (clean - x) / (1 - now)


def exact(**options: Any) -> FlowTarget:
    return FlowTarget(Exact(), LAW, coupled=False, dtype=torch.float64, **options)


def stretched(by: Tensor) -> FlowTarget:
    """x -> A x by straight paths, ((1 - t) I + t A) x: one step of Euler's is exact."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        eye, now = torch.eye(len(by), dtype=by.dtype), t[0]
        return torch.linalg.solve((1 - now) * eye + now * by, x.T).T @ (by - eye).T

    return FlowTarget(velocity, event_shape=(len(by),), dtype=torch.float64, name="stretched")


def noise(n: int, dim: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("snr", [0.1, 1.0, 5.0])
def test_a_flow_of_independent_pairs_is_a_denoiser(snr: float) -> None:
    y = snr * LAW.sample(20, 1) + noise(20, 2)
    found, true = exact().localize(y, snr), LAW.localize(y, snr)
    torch.testing.assert_close(found.mean, true.mean)
    torch.testing.assert_close(found.norm, true.norm, rtol=1e-4, atol=1e-12)
    torch.testing.assert_close(found.trace, true.trace)
    assert brenier.bottleneck(brenier.probe(exact(), [0.5, 1.0, 2.0], queries=64, progress=False)) is not None


def test_it_ends_in_the_law() -> None:
    found = brenier.sample(exact(), 4000, times=np.linspace(0, 1, 41) ** 0.7, solver="euler", progress=False)
    assert found.times is not None
    assert (found.schedule, found.solver, found.evaluations, found.steps, len(found.times)) == (
        None,
        "euler",
        40,
        40,
        41,
    )
    distance = brenier.w2(found.points, LAW)
    assert distance.value < 0.02 + 2 * distance.value_se
    fresh = exact().with_data(None)
    assert fresh.drawn_from is None
    with pytest.raises(ValueError, match="give data or snr_range"):
        fresh.scales()


def test_it_draws_by_running_where_there_are_no_data() -> None:
    flow = stretched(torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64))
    points = flow.sample(6000, 2)
    covariance = torch.cov(points.T)
    torch.testing.assert_close(covariance, torch.tensor([[4.25, 1.5], [1.5, 1.25]]).double(), rtol=0, atol=0.3)
    assert torch.equal(points, flow.sample(6000, 2))
    assert not torch.equal(points, flow.sample(6000, 3))
    assert flow.sample(0).shape == (0, 2)


def test_velocity_is_the_networks_whatever_the_kind_of_points() -> None:
    flow, x = exact(batch=3), noise(8, 2)
    expected = Exact()(x, torch.full((8,), 0.25))
    torch.testing.assert_close(flow.velocity(x, 0.25), expected)
    found = flow.velocity(x.numpy(), 0.25)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected.numpy())


VERBS: list[Callable[[FlowTarget], object]] = [
    lambda law: brenier.probe(law, progress=False),
    lambda law: brenier.probe(law, [1.0], progress=False),
    lambda law: brenier.calibrate(law, progress=False),
    lambda law: brenier.plan(law, 4, progress=False),
    lambda law: brenier.chain(law, progress=False),
    lambda law: brenier.compare(law, progress=False),
    lambda law: brenier.sample(law, 5, solver="dpmpp-2m", progress=False),
    lambda law: brenier.sample(law, 5, schedule="karras", progress=False),
    lambda law: law.denoise(torch.zeros(1, 2), 1.0),
    lambda law: law.score(torch.zeros(1, 2), 1.0),
    lambda law: law.localize(torch.zeros(1, 2), 1.0),
    lambda law: law.jacobian(torch.zeros(1, 2), 1.0),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("data", [None, LAW])
def test_a_coupled_flow_is_no_posterior_mean(verb: Callable[[FlowTarget], object], data: Any) -> None:
    flow = FlowTarget(Exact(), data, event_shape=(2,), name="coupled")
    words = (
        "coupled is a flow whose noise was coupled to its data: its velocity is no posterior mean.*independent pairs"
    )
    with pytest.raises(ValueError, match=words) as caught:
        verb(flow)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dim", [3, 140])
def test_the_jacobian_of_the_end_is_that_of_the_map(dim: int) -> None:
    """By forming it in 3 dimensions, by products in 140."""
    generator = torch.Generator().manual_seed(1)
    turned = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    values = torch.linspace(0.2, 1.0, dim, dtype=torch.float64)
    values[-1] = 3.0
    flow = stretched(turned @ torch.diag(values) @ turned.T)
    x = noise(2, dim)
    found = flow.end_jacobian(x, [0, 1], "euler")
    torch.testing.assert_close(found.mean, flow.end(x, [0, 1]))
    assert found.norm.tolist() == pytest.approx([3.0, 3.0], rel=0.02)
    assert (found.trace - values.sum()).abs().max() <= 4 * float(found.trace_se.max()) + 1e-9
    assert float(found.asymmetry.max()) < 1e-9


def test_the_jacobian_of_many_steps_agrees_with_differences() -> None:
    torch.manual_seed(0)
    inner = Velocity(Mlp((3,), 16, 2), torch.tensor([1.0, 0.0, -1.0]), 0.7)
    with torch.no_grad():
        for weight in inner.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    flow = FlowTarget(inner.double(), event_shape=(3,))
    x, h = noise(4, 3), 1e-6
    found = flow.end_jacobian(x)
    times = [k / 32 for k in range(33)]
    columns = [
        (flow.end(x + h * e, times, "midpoint") - flow.end(x - h * e, times, "midpoint")) / (2 * h)
        for e in torch.eye(3)
    ]
    matrices = torch.stack(columns, 2)
    torch.testing.assert_close(found.norm, torch.linalg.matrix_norm(matrices, 2), rtol=1e-4, atol=0)
    torch.testing.assert_close(found.trace, matrices.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-6, atol=1e-8)


def test_a_flow_far_from_zero_moves_with_its_data() -> None:
    far = torch.tensor([1e6, -2e6], dtype=torch.float64)
    flow, moved = exact(), FlowTarget(Exact(), LAW.moved(far), coupled=False, origin=far)
    x, times = noise(5, 2), [0, 0.3, 0.8, 1]
    torch.testing.assert_close(moved.end(x, times) - far, flow.end(x, times), rtol=0, atol=1e-8)
    ours, theirs = (brenier.sample(law, 9, times=times, progress=False).points for law in (moved, flow))
    torch.testing.assert_close(ours - far, theirs, rtol=0, atol=1e-8)
    again = flow.moved(far).velocity(x + 0.5 * far, 0.5)
    torch.testing.assert_close(again, flow.velocity(x, 0.5) + far, rtol=0, atol=1e-8)


def test_what_is_refused() -> None:
    flow = exact()
    with pytest.raises(ValueError, match=r"points must have shape \(n, 2\), got \(3, 1\)"):
        flow.velocity(torch.zeros(3, 1, dtype=torch.float64), 0.5)
    with pytest.raises(ValueError, match=r"shape \(n, 2\), n >= 1, got \(0, 2\)"):
        flow.end_jacobian(torch.zeros(0, 2, dtype=torch.float64))
    with pytest.raises(TypeError):
        FlowTarget(3, event_shape=(2,))  # pyright: ignore[reportArgumentType]
    broken = FlowTarget(lambda x, t: x * math.inf, event_shape=(2,))
    with pytest.raises(ValueError, match=r"returned NaN or infinite values at t = 0, for 4 points"):
        brenier.sample(broken, 4, progress=False)
