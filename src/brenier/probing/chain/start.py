"""The law that a chain starts from."""

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core.reading.plain import plain
from brenier.laws.alike import in_order
from brenier.laws.base import Target
from brenier.laws.mixture import GaussianMixture

Start: TypeAlias = LawLike | float | int


def start_law(start: Start, law: Target, beta: float = 1.0) -> Target:
    """The law that a chain starts from.

    Args:
        start: a number or d numbers (a point), also as text ("0", "1,-2"); "normal"; "equilibrium"; a law; samples
            (n, d); or what `load_target` takes.
        law: that of the chain, for the dimension, the dtype and the device.
        beta: inverse temperature, for the equilibrium.

    Raises:
        ValueError: the start has another dimension than the law, or is not known.
    """
    dim = law.dim
    if isinstance(start, str):
        words = start.strip().lower()
        if words in ("normal", "equilibrium"):
            name, variance = ("N(0, I)", 1.0) if words == "normal" else ("equilibrium", 1 / beta)
            return _gaussian(torch.zeros(dim), variance, name, law)
        point = _read_point(start)
        found = load_target(start, dtype=law.dtype, device=law.device) if point is None else None
        start = start if point is None else point
    elif isinstance(start, Target):
        found = start
    else:
        array = plain(start, "the start")
        found = load_target(array, dtype=law.dtype, device=law.device) if array.ndim > 1 else None
        start = array.tolist()
    if found is None:
        point = np.atleast_1d(np.asarray(start, dtype=np.float64))
        if len(point) not in {1, dim} or not np.all(np.isfinite(point)):
            raise ValueError(
                f"the start is a point of {len(point)} coordinates, {law.name} has {dim} dimension"
                f"{'s' * (dim > 1)}: give one finite number, or {dim}"
            )
        name = "point " + ",".join(f"{c:g}" for c in point[:4]) + ",..." * (len(point) > 4)
        return _gaussian(torch.from_numpy(np.broadcast_to(point, (dim,)).copy()), 0.0, name, law)
    return in_order(found, law.event_shape, law.name).to(device=law.device, dtype=law.dtype)


def _read_point(text: str) -> list[float] | None:
    try:
        return [float(field) for field in text.split(",")]
    except ValueError:
        return None


def _gaussian(mean: Tensor, variance: float, name: str, law: Target) -> GaussianMixture:
    return GaussianMixture([1.0], mean[None], [variance], name=name, dtype=law.dtype, device=law.device)
