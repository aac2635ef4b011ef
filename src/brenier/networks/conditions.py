"""What a network is told beside a noisy point: its condition, and how strongly it is to follow it.

A network that was trained with conditions c, left out now and then, has two denoisers, D(x; c) and D(x) without one.
Classifier-free guidance of weight w (arXiv:2207.12598; there w - 1) follows

    D_w(x) = D(x) + w (D(x; c) - D(x)):

w = 0 is the denoiser without a condition, w = 1 that with it. All predictions that `conventions` knows are affine in D,
at a point and a noise level, so that the same holds of what the network returns. For other w, D_w is the posterior mean
of no law: it is followed, planned for and differentiated as what it is.

Several conditions stand for as many laws, all as likely: row i of whatever is denoised goes with condition i modulo
their number. Who denoises part of the rows takes multiples of it (`Target.period`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from jaxtyping import Int
from torch import Tensor

from brenier.core.points import as_tensor

SHOWN = 8  # numbers of a condition that are named
FOR_ALL = ("img_ids", "txt_ids")  # places in an image or a text, whose first axis is no condition's


@dataclass(frozen=True)
class Conditions:
    """Keyword arguments of a network.

    Attributes:
        given: with the condition. Tensors have an axis of conditions first: of size 1 for all rows, or `count`.
        without: without one, of size 1; None where that is not known.
        weight: of guidance, w.
        count: of conditions.
    """

    given: Mapping[str, Any]
    without: Mapping[str, Any] | None
    weight: float
    count: int

    @classmethod
    def of(cls, given: Mapping[str, Any] | None, without: Mapping[str, Any] | None = None, weight: float = 1.0) -> Self:
        """Numbers become tensors of one condition, lists and arrays of as many as they are long.

        Raises:
            ValueError: numbers of conditions that differ, a weight without the network's way to be asked without one.
            TypeError: not keyword arguments, or no number.
        """
        for name, part in (("condition", given), ("unconditional", without)):
            if part is not None and not hasattr(part, "items"):
                raise TypeError(f"{name} must be a dict of the network's arguments, got {type(part).__name__}")
        if not math.isfinite(weight):
            raise ValueError(f"guidance must be a finite number, got {weight!r}")
        if weight != 1 and not given:
            raise ValueError("guidance strengthens a condition: give condition")
        if weight != 1 and without is None:
            raise ValueError("guidance needs to know how to ask the network without a condition: give unconditional")
        with_it = {key: _tensors(value, key) for key, value in (given or {}).items()}
        sizes = {key: size for key, value in with_it.items() for size in _sizes(value, key) if size > 1}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{size} of {key}" for key, size in sizes.items())
            raise ValueError(f"there must be as many conditions of each kind, got {shown}")
        alone = None if without is None else {key: _tensors(value, key) for key, value in without.items()}
        if many := [key for key, value in (alone or {}).items() if max(_sizes(value, key), default=1) > 1]:
            raise ValueError(f"unconditional must be one for all, got several {many[0]}")
        return cls(with_it, alone, float(weight), max(sizes.values(), default=1))

    @property
    def classes(self) -> Int[Tensor, " m"] | None:
        """Those that are asked for in turn; None where the condition is no class."""
        found = self.given.get("class_labels")
        if not isinstance(found, Tensor) or found.ndim != 1 or found.is_floating_point():
            return None
        return found.cpu().long()

    @property
    def guided(self) -> bool:
        """Whether what is followed is the posterior mean of no law."""
        return self.weight not in (0, 1)

    @property
    def name(self) -> str:
        """In words, as far as words tell conditions apart; empty where they do not."""
        parts = [_words(key, value) for key, value in self.given.items()]
        guidance = f"guidance {self.weight:g}" if self.weight != 1 else ""
        return ", ".join(filter(None, [*parts, guidance]))

    def ask(self, network: Callable[..., Any], x: Tensor, t: Tensor, first: int = 0) -> Any:
        """What the network returns of x (n, ...) and t (n,); rows are counted from `first`."""
        if self.weight == 1:
            return network(x, t, **self._rows(self.given, x, first))
        alone = network(x, t, **self._rows(self.without or {}, x, first))
        if self.weight == 0:
            return alone
        return alone + self.weight * (network(x, t, **self._rows(self.given, x, first)) - alone)

    def _rows(self, parts: Mapping[str, Any], x: Tensor, first: int) -> dict[str, Any]:
        return {key: self._row(value, key, x, first) for key, value in parts.items()}

    def _row(self, value: Any, key: str, x: Tensor, first: int) -> Any:
        """A condition for as many points as there are in x, on their device and in their dtype."""
        if isinstance(value, Mapping):
            return self._rows(cast(Mapping[str, Any], value), x, first)
        if not isinstance(value, Tensor):
            return value
        value = value.to(x.device, x.dtype if value.is_floating_point() else value.dtype)
        if key in FOR_ALL or not value.ndim:
            return value
        if len(value) == 1:
            return value.expand(len(x), *value.shape[1:])
        return value[torch.arange(first, first + len(x), device=x.device) % len(value)]


def _tensors(value: Any, key: str) -> Any:
    """A condition with its numbers in tensors; what is no number stays what it is."""
    if isinstance(value, Mapping):
        return {name: _tensors(part, name) for name, part in cast(Mapping[str, Any], value).items()}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        value = [value]
    found = value if isinstance(value, Tensor) else as_tensor(value, key)
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise ValueError(f"condition {key} holds values that are not finite")
    return found


def _sizes(value: Any, key: str) -> list[int]:
    """Numbers of conditions in a value."""
    if isinstance(value, Mapping):
        return [size for name, part in cast(Mapping[str, Any], value).items() for size in _sizes(part, name)]
    return [len(value)] if isinstance(value, Tensor) and value.ndim and key not in FOR_ALL else []


def _words(key: str, value: Any) -> str:
    if isinstance(value, Tensor) and value.ndim <= 1 and value.numel() <= SHOWN:
        return f"{key}={','.join(f'{number:g}' for number in value.flatten().tolist())}"
    return f"{len(value)} {key}" if max(_sizes(value, key), default=1) > 1 else ""
