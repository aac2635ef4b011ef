"""The law that a chain starts from."""

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core.reading.plain import plain
from brenier.laws.alike import in_order
from brenier.laws.base import Target
from brenier.laws.line.density import OnTheLine
from brenier.laws.mixture import GaussianMixture
from brenier.probing.chain.gaussian import quadratic_in
from brenier.probing.chain.potential import Potential

Start: TypeAlias = LawLike | float | int


def start_law(start: Start, law: Target, beta: float = 1.0, potential: Potential | None = None) -> Target:
    """The law that a chain starts from.

    Args:
        start: a number or d numbers (a point), also as text ("0", "1,-2"); "normal"; "equilibrium"; a law; samples
            (n, d); or what `load_target` takes.
        law: that of the chain, for the dimension, the dtype and the device.
        beta: inverse temperature, for the equilibrium.
        potential: of the process, for the equilibrium e^(-beta f); None for x^2/2.

    Raises:
        ValueError: the start has another dimension than the law, or is not known; the process has no equilibrium.
    """
    dim = law.dim
    if isinstance(start, str):
        words = start.strip().lower()
        if words == "equilibrium" and potential is not None:
            return _equilibrium(potential, law, beta)
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


def _equilibrium(potential: Potential, law: Target, beta: float) -> Target:
    """e^(-beta f), or without noise the point where f is smallest."""
    if potential.quadratic is not None:
        hessian, centre = quadratic_in(potential, law.dim)
        values, axes = np.linalg.eigh(hessian)
        if values[0] <= 0:
            raise ValueError(f"the potential {potential.name} has no equilibrium: give another start")
        covariance = torch.from_numpy((axes / (beta * values)) @ axes.T)
        mean = torch.from_numpy(centre.copy())[None]
        return GaussianMixture(
            [1.0],
            mean,
            covariance[None],
            name="equilibrium",
            event_shape=law.event_shape,
            dtype=law.dtype,
            device=law.device,
        )
    if math.isinf(beta):
        return _gaussian(torch.tensor([_lowest(potential)], dtype=torch.float64), 0.0, "equilibrium", law)
    try:
        return OnTheLine(lambda x: potential.log_weight(x, beta), name="equilibrium").to(law.device, law.dtype)
    except ValueError:
        raise ValueError(
            f"the potential {potential.name} has no equilibrium, e^(-beta f) has no finite integral: give another start"
        ) from None


def _lowest(potential: Potential) -> float:
    """Where the potential is smallest, by Newton's method from the best place of a grid."""
    grid = np.concatenate([-np.geomspace(1e-6, 1e3, 2000)[::-1], [0.0], np.geomspace(1e-6, 1e3, 2000)])
    values = -potential.log_weight(grid, 1.0)
    best = int(values.argmin())
    tied = grid[values <= values[best] + 1e-6 * max(abs(values[best]), 1e-3)]
    if best in (0, len(grid) - 1) or float(np.ptp(tied)) > 0.2 * max(abs(grid[best]), 1.0):
        raise ValueError(f"the potential {potential.name} has no single lowest place: give another start")
    low, high = grid[best - 1], grid[best + 1]
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if float(potential.slope(np.array([middle]))[0]) < 0 else (low, middle)
    return float((low + high) / 2)


def _gaussian(mean: Tensor, variance: float, name: str, law: Target) -> GaussianMixture:
    return GaussianMixture([1.0], mean[None], [variance], name=name, dtype=law.dtype, device=law.device)
