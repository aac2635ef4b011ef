"""A network's work as tasks over the workers of a cluster: rows in parts, each on one thread.

Where a `distributed.Client` is active, its workers compute what is asked of many rows - posterior means, Jacobians,
velocities - part by part; the network is sent to each of them once. All that is random is drawn here, or from a seed
for rows that stay together, so that results are those of one process to rounding, however many workers there are.
"""

import copy
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from brenier.core.blocks import cluster
from brenier.core.reading.files import line

LEAST = 8  # rows of a part: to send fewer takes longer than most networks do
PARTS = 2  # per thread of the workers, so that none waits long for the last one

_ONE = threading.Lock()  # which kernels attention takes is said for a process, and not for a thread


@dataclass(frozen=True)
class _Sent:
    """A network on its way to a worker."""

    network: Any


class Tasks:
    """Where the parts of what is asked of one network are computed: here, or by the workers of the active client."""

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self._network = network
        self._sent: dict[str, Any] = {}  # by client

    def cut(self, rows: int, unit: int = 1) -> Sequence[Int[Tensor, " m"]]:
        """The numbers of rows in parts, of multiples of `unit` rows; one part of all where there are no workers."""
        every = torch.arange(rows)
        client = cluster.active()
        if client is None or rows == 0:
            return [every]
        size = max(LEAST, -(-rows // (PARTS * cluster.threads_of(client))))
        return every.split(-(-size // unit) * unit)

    def each(
        self,
        law: Any,
        method: str,
        asked: Sequence[tuple[Any, ...]],
        advance: Callable[[float], None] = lambda share: None,
    ) -> list[Any]:
        """What a method of the network's law says to each of some arguments.

        Raises:
            ValueError: the network cannot be sent to workers; what the method raises; the cluster is gone.
        """
        client = cluster.active() if len(asked) > 1 else None
        if client is None:
            return [getattr(law, method)(*one) for one in asked]
        bare = copy.copy(law)
        bare.network = bare.data = bare.tasks = None
        found: list[Any] = [None] * len(asked)

        def done(place: int, result: Any) -> None:
            found[place] = result
            advance(1 / len(asked))

        def tell(again: bool) -> Any:
            return self._told(client, law.name, again)

        cluster.each(client, tell, _on_worker, [(bare, method, one) for one in asked], done)
        return found

    def _told(self, client: Any, name: str, again: bool) -> Any:
        """The network as workers have it, who are sent it unless they have."""
        known = self._sent.get(client.id)
        if known is not None and not again and known.status in ("finished", "pending"):
            return known
        try:
            self._sent[client.id] = client.scatter(_Sent(self._network), hash=False)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ValueError(f"{name} cannot be sent to workers: {line(error)[:150]}") from None
        return self._sent[client.id]


def _on_worker(sent: _Sent, law: Any, method: str, arguments: tuple[Any, ...]) -> Any:
    """One part: the law with the network that was sent, asked."""
    with _ONE:
        law, network = copy.copy(law), sent.network
        if isinstance(network, nn.Module) and law.device.type != "cpu":
            network.to(law.device)
        law.network = network
        return getattr(law, method)(*arguments)
