"""Where a network computes: its device and its dtype."""

import copy
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

Network: TypeAlias = Callable[..., Tensor]


def check_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype, if it is wide enough."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype {dtype} is too narrow for a Jacobian: choose torch.float32 or torch.float64")
    return dtype


def placed(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network itself where it is on the device and in the dtype, else a copy that is."""
    parts = parameters(network)
    if all(part.device == device and (part.dtype == dtype or not part.is_floating_point()) for part in parts):
        return network
    return copy.deepcopy(network).to(device, dtype)


def parameters(network: Network) -> Sequence[Tensor]:
    """Parameters and buffers; none of a callable that is no module."""
    return [*network.parameters(), *network.buffers()] if isinstance(network, nn.Module) else []
