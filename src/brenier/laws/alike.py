"""Two sets of points that are held against each other: of one shape, in one order, on one scale."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.laws.base import Target

CHANNELS = (1, 3, 4)  # of images: grey, RGB, and RGB with a fourth
ROWS = 256  # points whose values tell a scale
UNLIKE = 6.0  # ratio of two spreads that no two sets of one kind have
PIXELS = 16  # numbers of a point above which 0 to 1 and -1 to 1 are two scales, and not two laws


def in_order(law: Target, shape: Sequence[int], whose: str) -> Target:
    """The law with its points in the order of points of `shape`, which are `whose`; see `order_of`."""
    order = order_of(law.event_shape, shape, law.name, whose)
    return law if order is None else law.arranged(order, shape)


def order_of(shape: Sequence[int], other: Sequence[int], name: str, whose: str) -> Int[Tensor, " d"] | None:
    """The order in which the values of points of `shape` are those of points of the `other` shape; None: as they are.

    Axes of length 1 make no difference. Channels of images that come last in one and first in the other are turned
    where 1, 3 or 4 of them are told from the pixels by their number. Of flat points nothing tells the order: they are
    taken to be in the other's, as is all that this library flattens.

    Raises:
        ValueError: another number of values, or shapes of which it is not clear how one becomes the other.

    Warns:
        UserWarning: points are to be turned, or flat ones are taken for images with channels.
    """
    mine, theirs = (tuple(size for size in each if size != 1) for each in (shape, other))
    if mine == theirs:
        return None
    shape, other = tuple(shape), tuple(other)
    if math.prod(mine) == math.prod(theirs):
        if min(len(mine), len(theirs)) <= 1:
            if max(len(mine), len(theirs)) > 2:
                flat, formed = (name, f"{other} of {whose}") if len(mine) <= 1 else (whose, f"{shape} of {name}")
                _say(f"points of {flat} are flat: they are taken in the order of {formed}")
            return None
        if _turned(mine) == theirs:
            _say(f"channels of {name} come last, {shape}, of {whose} first, {other}: the former are turned")
            return _moved(mine, -1, 0)
        if _turned(theirs) == mine:
            _say(f"channels of {name} come first, {shape}, of {whose} last, {other}: the former are turned")
            return _moved(mine, 0, -1)
    raise ValueError(f"points of {name} have shape {shape}, those of {whose} {other}: give both in one shape")


def channels_first(law: Target) -> Target:
    """The law with the channels of its images first, as networks take them; itself, where they do not come last.

    Warns:
        UserWarning: they were turned.
    """
    turned = _turned(law.event_shape)
    if turned is None or law.event_shape[0] in CHANNELS:
        return law
    _say(f"channels of {law.name} come last, {law.event_shape}: turned to {turned}, as networks take images")
    return law.arranged(_moved(law.event_shape, -1, 0), turned)


def _turned(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape with its last axis first, where that one can be channels, and no other is as long."""
    *sides, channels = shape
    return (channels, *sides) if len(sides) > 1 and channels in CHANNELS and channels not in sides else None


def _moved(shape: tuple[int, ...], source: int, destination: int) -> Int[Tensor, " d"]:
    """Where the values of points of `shape` are, in the order that they have when an axis is moved."""
    return torch.arange(math.prod(shape)).reshape(shape).movedim(source, destination).flatten()


def warn_of_scales(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], name: str, other: str) -> None:
    """Say where two sets of points cannot be on one scale, such as 0 to 255 and -1 to 1.

    Warns:
        UserWarning: spreads differ by a factor of `UNLIKE`, or one has values from 0 to 1, the other from -1 to 1.
    """
    values = [points[:ROWS].cpu().double().numpy() for points in (x, y)]
    if not all(np.isfinite(each).all() for each in values):
        return
    ends = [np.quantile(each, [0.01, 0.99]) for each in values]
    spreads = [float(high - low) for low, high in ends]
    if min(spreads) <= 0:
        return
    kinds = {_kind(end) for end in ends}
    if max(spreads) > UNLIKE * min(spreads) or (x.shape[1] >= PIXELS and kinds == {"0..1", "-1..1"}):
        told = [f"from {each.min():.4g} to {each.max():.4g}" for each in values]
        hint = REMEDIES.get(frozenset(kinds), "")
        _say(f"values of {name} go {told[0]}, of {other} {told[1]}: bring both to one scale{hint}")


REMEDIES = {
    frozenset({"0..255", "-1..1"}): ", x/127.5 - 1 takes 0..255 to -1..1",
    frozenset({"0..255", "0..1"}): ", x/255 takes 0..255 to 0..1",
    frozenset({"0..1", "-1..1"}): ", 2x - 1 takes 0..1 to -1..1",
}


def _kind(ends: NDArray[Any]) -> str:
    """The scale that pixels usually have whose values lie between these ends, but for a few."""
    low, high = (float(end) for end in ends)
    if low >= -0.1 and high > 0.5:
        return "0..1" if high <= 1.1 else "0..255" if 16 < high <= 260 else ""
    return "-1..1" if -1.2 <= low < -0.5 and high <= 1.2 else ""


def _say(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
