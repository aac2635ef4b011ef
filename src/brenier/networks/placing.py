"""Where a network computes, its device and its dtype, and the shape of its points."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from brenier.core.checks import whole_number
from brenier.laws.base import Target

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


def uncompiled(network: Network) -> Network:
    """The network without `torch.compile`, of its parts too: it has the same parameters.

    Warns:
        UserWarning: it was compiled.
    """
    original = _original(network)
    if original is not network:
        name = type(original).__name__ if isinstance(original, nn.Module) else "the network"
        warnings.warn(
            f"{name} is taken as it was before torch.compile, which the derivatives of torch.func do not go through",
            stacklevel=3,
        )
    return original


def _original(network: Network) -> Network:
    network = getattr(network, "_orig_mod", getattr(network, "_torchdynamo_orig_callable", network))
    if not isinstance(network, nn.Module):
        return network
    module: Any = network  # whose private names tell all of its parts, and what compiled it in place
    known: dict[str, Any] = {name: part for name, part in module._modules.items() if part is not None}
    parts: dict[str, Any] = {name: _original(part) for name, part in known.items()}
    changed = any(parts[name] is not part for name, part in known.items())
    if changed or module._compiled_call_impl is not None:
        module = copy.copy(module)  # without what compiled it
        module._modules = {**module._modules, **parts}
    return module


def parameters(network: Network) -> Sequence[Tensor]:
    """Parameters and buffers; none of a callable that is no module."""
    return [*network.parameters(), *network.buffers()] if isinstance(network, nn.Module) else []


def shape_of(given: Sequence[int] | None, data: Target | None) -> tuple[int, ...]:
    """The shape of a point, as given or that of the data.

    Raises:
        ValueError: neither is, or it is none.
    """
    if given is None:
        if data is None:
            raise ValueError("the shape of a point is not known: give event_shape or data")
        return data.event_shape
    try:
        shape = tuple(whole_number(size, "size", 1) for size in given)
    except (TypeError, ValueError):
        shape = ()
    if not shape:
        raise ValueError(f"event_shape must be one or more positive sizes, such as (3, 32, 32), got {given}")
    return shape
