"""Clean points to train on: fresh ones from an explicit law, rows from data; and their mean and deviation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.laws.base import Target
from brenier.laws.empirical import Empirical

Labelled: TypeAlias = tuple[Float[Tensor, "n *shape"], Int[Tensor, " n"] | None]

BLOCK = 2**12  # points turned into float64 at a time
SINGLE = 1e-3  # deviation that a flow is given where its data are a single point
SAMPLED = 2**16  # points of an explicit law that its mean and deviation are estimated from


@dataclass(frozen=True)
class Moments:
    """Mean of a law (of its event shape) and root mean square deviation of a coordinate, in the unit of the data.

    Preconditioning needs no more than two digits of them: for an explicit law they come from a sample, seed 0.
    """

    centre: Float[Tensor, "*shape"]
    deviation: float

    @classmethod
    def of(cls, law: Target, single: float | None = None) -> Self:
        """Those of data exactly, those of an explicit law from `SAMPLED` points.

        Args:
            law: whose.
            single: what to take for the deviation of a single point.

        Raises:
            ValueError: the law is a single point, and `single` is not given.
        """
        if isinstance(law, Empirical):
            points, weights = law.data, law.weights.double()
        else:
            points = law.sample(SAMPLED, 0)
            weights = points.new_full((len(points),), 1 / len(points), dtype=torch.float64)
        blocks = list(zip(points.split(BLOCK), weights.split(BLOCK), strict=True))
        centre = torch.stack([mass @ part.double() for part, mass in blocks]).sum(0)
        squares = [mass @ (part - centre).square().mean(1) for part, mass in blocks]
        deviation = math.sqrt(float(torch.stack(squares).sum()))
        if not deviation > 1e-6 * float(points.abs().amax()):
            if single is None:
                raise ValueError(f"{law.name} is a single point: there is nothing to train")
            deviation = single
        return cls(centre.reshape(law.event_shape).float().cpu(), deviation)


class Points:
    """Batches of clean points of a law, float32, of its event shape, on the device of the training.

    Args:
        law: whose.
        device: of the training.
        labels: the class of each point of data, from 0, shape (N,); None where there are none.
    """

    def __init__(self, law: Target, device: torch.device, labels: Int[Tensor, " N"] | None = None) -> None:
        self._labels = None if labels is None else labels.to(device)
        self._shape = law.event_shape
        self._device, self._name = device, law.name
        self.dim = law.dim
        if isinstance(law, Empirical):
            self._rows: Tensor | None = law.data.to(device, torch.float32)
            equal = bool((law.weights == law.weights[0]).all())
            self._mass = None if equal else law.weights.to(device, torch.float64).cumsum(0)
        else:
            self._rows = None
            self._law = law

    @property
    def labelled(self) -> bool:
        """Whether points have classes."""
        return self._labels is not None

    def batch(self, n: int, seed: int) -> Labelled:
        """n points, drawn with replacement, and their classes."""
        if self._rows is None:
            return self._law.sample(n, seed).to(self._device, torch.float32).reshape(n, *self._shape), None
        generator = torch.Generator(self._device).manual_seed(seed)
        if self._mass is None:
            index = torch.randint(len(self._rows), (n,), generator=generator, device=self._device)
        else:
            share = torch.rand(n, generator=generator, device=self._device, dtype=torch.float64)
            index = torch.searchsorted(self._mass, share * self._mass[-1], right=True)
            index = index.clamp(max=len(self._rows) - 1)
        return self.take(index)

    def take(self, index: Int[Tensor, " n"]) -> Labelled:
        """The points of these numbers, of data, and their classes.

        Raises:
            ValueError: there is no point of a number.
        """
        assert self._rows is not None  # pairs are of data, which is checked where they are given
        count = len(self._rows)
        if bool((outside := (index < 0) | (index >= count)).any()):
            raise ValueError(
                f"pairs name point {int(index[outside][0])}: {self._name} has points 0 to {count - 1}, in the order of "
                "its rows"
            )
        index = index.to(self._device)
        labels = None if self._labels is None else self._labels[index]
        return self._rows[index].reshape(len(index), *self._shape), labels

    def like(self, noise: Float[Tensor, "n d"], shape: Sequence[int]) -> Float[Tensor, "n *shape"]:
        """Noise for points that were given in `shape`, in the order that they are trained in: channels first."""
        events = noise.to(self._device, torch.float32).reshape(len(noise), *shape)
        return events if self._shape == tuple(shape) else events.movedim(-1, 1)
