"""Whether samples are copies of training points.

For a sample x let y be its nearest training point, d1 = |x - y|, d2 the distance from x to its second nearest, and d0
that from y to its own nearest other training point:

    closer   share of the samples with d1 < d0: nearer to a training point than training points are to each other
    copied   share with d1 < d2/3                     (Yoon et al., 2023; Gu et al., arXiv:2310.02664)
    ratio    d1/d2, in the median                     (0 for a copy; near 1 in high dimension)

Fresh draws of the law are no copies, and `closer` is far from 0 for them: it is the chance that two points are each
other's nearest neighbours, 2/3 on the line, 0.62 in the plane and 1/2 in the limit of many dimensions (Schilling, Ann.
Probab. 14, 1986). Nor is `copied`, in few dimensions: (d1/d2)^d is uniform where the density is, and `copied` 3^-d.
So each number stands beside the same one for points that a perfect sampler would have drawn: held-out data, or, where
there are none, each training point among the others.

Equal training points count as one: else d0 = d2 = 0 at a duplicate, and its copies would be no copies.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from brenier.core.checks import check_memory
from brenier.core.points import arrays_too, as_tensor
from brenier.metrics.estimates import Estimate, median, points_of, share
from brenier.metrics.neighbours import MAX_MEMORY, nearest

COPIED = 1 / 3
LEAST = 20  # held-out points that make a control
_EQUAL = 1e-6  # of the spread of the training data: what float32 may have done to the same point


@dataclass(frozen=True)
class Nearness:
    """Where points lie among training points: tensors, or arrays where the points came as those.

    Attributes:
        index: row of the nearest training point, shape (n,).
        distance: d1, distance to it, in the unit of the data.
        second: d2, distance to the second nearest.
        own: d0, distance from the nearest training point to its own nearest other.
        closeness: d1/d0: 0 for a copy.
    """

    index: Int[Tensor, " n"]
    distance: Float[Tensor, " n"]
    second: Float[Tensor, " n"]
    own: Float[Tensor, " n"]
    closeness: Float[Tensor, " n"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "closeness", self.distance / self.own)

    def shares(self) -> dict[str, Estimate]:
        """`closer`, `copied` and the median of `ratio`, with errors that take the training data as they are."""
        distance, second, own = map(as_tensor, (self.distance, self.second, self.own))
        n = len(distance)
        return {
            "closer": share(float((distance < own).double().mean()), n),
            "copied": share(float((distance < COPIED * second).double().mean()), n),
            "ratio": median(distance / second),
        }


@dataclass(frozen=True)
class Memorisation:
    """Samples among training points, and what a perfect sampler would have drawn among them.

    Attributes:
        samples: where the samples lie.
        control: where held-out data lie, or the training points among each other.
        method: "held-out" or "leave-one-out".
    """

    samples: Nearness
    control: Nearness
    method: str

    def closest(self, count: int) -> list[int]:
        """Rows of the samples of smallest d1/d0, ascending."""
        return as_tensor(self.samples.closeness).argsort(stable=True)[:count].tolist()


@arrays_too(3)
def memorisation(
    samples: Tensor, train: Tensor, *, held_out: Tensor | None = None, max_memory: float = MAX_MEMORY
) -> Memorisation:
    """Where samples lie among the points that their sampler was trained on.

    Args:
        samples: shape (n, d), n >= 1.
        train: shape (N, d), at least three different points.
        held_out: other points of the same law, shape (m, d). Those that are training points, to float32 rounding, are
            left out; with fewer than 20 others the control is leave-one-out.
        max_memory: GiB of a block.

    Raises:
        ValueError: values that are not finite, shapes that do not fit, fewer than three different training points.
    """
    check_memory(max_memory)
    x, y = points_of(samples, train, ("samples", "train"))
    first = np.sort(np.unique(y.cpu().numpy(), axis=0, return_index=True)[1])
    if len(first) < 3:
        raise ValueError(f"train holds {len(first)} different points: memorisation needs 3, to tell near from far")
    rows = torch.from_numpy(first).to(y.device)
    y = y[rows]
    to_others, others = nearest(y, None, 2, max_memory)
    found = _nearness(x, y, rows, to_others[:, 0], max_memory)
    if held_out is not None:
        z = points_of(held_out, y, ("held-out points", "train"))[0]
        control = _nearness(z, y, rows, to_others[:, 0], max_memory)
        spread = float((y - y.mean(0)).square().sum(1).mean().sqrt())
        new = is_new(control, spread)
        if int(new.sum()) >= LEAST:
            parts = (control.index, control.distance, control.second, control.own)
            return Memorisation(found, Nearness(*(part[new] for part in parts)), "held-out")
    return Memorisation(found, _among_each_other(to_others, others, rows), "leave-one-out")


def is_new(found: Nearness, spread: float) -> Bool[Tensor, " n"]:
    """Which points are no training points, as far as float32 tells: the spread is that of the latter."""
    return as_tensor(found.distance) > _EQUAL * spread


def _nearness(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    rows: Int[Tensor, " m"],
    own: Float[Tensor, " m"],
    max_memory: float,
) -> Nearness:
    distance, index = nearest(x, y, 2, max_memory)
    return Nearness(rows[index[:, 0]], distance[:, 0], distance[:, 1], own[index[:, 0]])


def _among_each_other(distance: Float[Tensor, "m 2"], index: Int[Tensor, "m 2"], rows: Int[Tensor, " m"]) -> Nearness:
    """Each point as a sample among all others: it does not count as the nearest of its nearest."""
    near = index[:, 0]
    mutual = index[near, 0] == torch.arange(len(near), device=near.device)
    own = torch.where(mutual, distance[near, 1], distance[near, 0])
    return Nearness(rows[near], distance[:, 0], distance[:, 1], own)
