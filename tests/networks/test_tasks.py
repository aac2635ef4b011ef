import threading
from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import brenier
from brenier import FlowTarget, load_target, plan, sample
from brenier.core.blocks import cluster
from brenier.networks.network import NetworkTarget

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of ports, of loops that end while they are closed, of the network


@pytest.fixture(scope="module")
def workers() -> Generator[Any, None, None]:
    """Two workers as threads of this process, which need no time to start."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as local:
        yield local


@pytest.fixture
def client(workers: Any) -> Generator[Any, None, None]:
    with distributed.Client(workers, set_as_default=False) as client:
        yield client


class Shrinking(nn.Module):
    """A smooth denoiser of points in any dimension, which knows who called it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim, generator=torch.Generator().manual_seed(0)) / dim**0.5)
        self.callers: set[str] = set()

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.callers.add(threading.current_thread().name)
        away = 0.0 if label is None else label.float()[:, None]
        return (torch.tanh(x @ self.weight) + 0.5 * x + away) / (1 + t[:, None])


def law(dim: int = 5, **options: Any) -> NetworkTarget:
    return NetworkTarget(Shrinking(dim), event_shape=(dim,), snr_range=(0.05, 50.0), **options)


def shared(of: NetworkTarget, client: Any, ask: Any) -> tuple[Any, Any]:
    """What a law says here, and with workers; these were asked."""
    network: Any = of.network
    alone = ask(of)
    network = getattr(network, "network", network)
    network.callers.clear()
    with client.as_current():
        found = ask(of)
    assert any("Dask" in name for name in network.callers)
    return alone, found


def points(n: int, d: int, seed: int = 1) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_posterior_means_are_those_of_one_process(client: Any) -> None:
    alone, found = shared(law(), client, lambda of: of.denoise(points(50, 5), 0.7))
    torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-6)


def test_rows_keep_their_conditions(client: Any) -> None:
    of = law(condition={"label": [0, 1, 2]})
    alone, found = shared(of, client, lambda of: of.denoise(points(50, 5), 0.7))
    torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-6)
    assert float((found[0] - found[1]).abs().max()) > 0.1


@pytest.mark.parametrize("dim", [5, 150])  # Jacobians that are formed, and such that are not
def test_localizations_are_those_of_one_process(client: Any, dim: int) -> None:
    x, z, grid = points(40, dim), points(40, dim, 2), [0.2, 1.0, 4.0]
    shares: list[float] = []

    def ask(of: NetworkTarget) -> brenier.Localization:
        shares.clear()
        return of.localize_path(x, z, grid, shares.append)

    alone, found = shared(law(dim), client, ask)
    assert sum(shares) == pytest.approx(1)
    for name in ("norm", "trace", "norm_error", "symmetric", "asymmetry", "trace_se"):
        torch.testing.assert_close(getattr(found, name), getattr(alone, name), rtol=1e-5, atol=1e-6)
    whole, parts = shared(law(dim, batch=16), client, lambda of: of.jacobian(x, 1.0, seed=3))
    for name in ("mean", "norm", "trace", "negative"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-6)


def test_plans_and_points_are_those_of_one_process(client: Any) -> None:
    alone, found = shared(law(), client, lambda of: plan(of, 4, pilots=64, progress=False))
    assert found.sigmas == pytest.approx(alone.sigmas, rel=1e-3)
    one, other = shared(law(batch=10), client, lambda of: of.sample(40, 5))
    torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", ["heun", "dpmpp-2m-sde"])
def test_samples_are_those_of_one_process(client: Any, solver: str) -> None:
    options: dict[str, Any] = {"solver": solver, "schedule": "karras", "steps": 4, "progress": False}
    one, other = shared(law(), client, lambda of: sample(of, 40, **options))
    torch.testing.assert_close(other.points, one.points, rtol=1e-5, atol=1e-5)


def test_flows_are_followed_by_workers(client: Any) -> None:
    of = FlowTarget(Shrinking(5), event_shape=(5,), coupled=True, batch=7)
    one, other = shared(of, client, lambda of: sample(of, 40, steps=3, progress=False).points)
    torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_what_a_network_raises_comes_through(client: Any) -> None:
    class Broken(Shrinking):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
            return super().forward(x, t) / (t[:, None] > 0.1)

    of = NetworkTarget(Broken(5), event_shape=(5,))
    with client.as_current(), pytest.raises(ValueError, match="network returned NaN or infinite values at SNR 100"):
        of.denoise(points(50, 5), 100.0)


def test_processes_of_their_own_have_the_network() -> None:
    of, unsendable = load_target("digits-network"), law()
    y = points(40, 64)
    alone = of.denoise(y, 1.0)
    unsendable.network.held = threading.Lock()  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    with cluster.connected(1) as client:
        torch.testing.assert_close(of.denoise(y, 1.0), alone, rtol=1e-5, atol=1e-5)
        moved = of.moved(torch.zeros(64, dtype=torch.float64))
        first = of.tasks._sent[client.id].key  # pyright: ignore[reportAttributeAccessIssue]
        moved.denoise(y, 1.0)
        assert moved.tasks._sent[client.id].key == first  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(ValueError, match=r"^network cannot be sent to workers: "):
            unsendable.denoise(points(50, 5), 1.0)
