"""Which noise levels a scheduler of diffusers really visits: read off what it makes of a network that is known exactly.

Every scheduler is linear in what it is given. The network here is the exact one of a law that is the single point m: D
is m, whatever it sees and is told. Coordinate 0 of a sample carries m, coordinate 1 the noise that it begins with, and
each draw of a scheduler's own has a coordinate to itself. So one run, without randomness, tells for each call

    seen = a m + b_1 z_1 + b_2 z_2 + ...,    executed sigma = |b|/|a|,

what the level of its input is, beside the level that belongs to the time that it is told. For this law all solvers
are exact: what differs is the scheduler's doing. The run begins with the right sample of the first level that is told;
what a pipeline begins with instead, noise alone, is told apart (`begins`).

Further coordinates stand for the calls: at the k-th, D is 1 in the k-th of them. What is there are the weights of the
calls in what is seen later, and by them solvers differ.
"""

import copy
import inspect
import math
import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from brenier.networks.conventions import edm_coefficients
from brenier.networks.diffusers.scheduler import Convention, is_one_of, quiet

BACKWARD = {"DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"}
UNDRIVEN = {
    "RePaintScheduler": "fills in an image that it is given",
    "ScoreSdeVeScheduler": "steps in a way of its own, which its pipeline asks for",
    "CosineDPMSolverMultistepScheduler": "draws its noise by torchsde",
    "DPMSolverSDEScheduler": "draws its noise by torchsde",
}
SHAPE = (1, 1, 1)  # of a sample, before its coordinates
PER_CALL = 4  # draws of noise, at most, for each call of the network
FAILURES = (ValueError, TypeError, AttributeError, IndexError, KeyError, RuntimeError, AssertionError)


@dataclass(frozen=True)
class Trace:
    """What a network was given on the way.

    Attributes:
        times: that it was told.
        told: noise levels that these times belong to, in x = X + sigma Z; inf: no signal, NaN: no time of its own.
        executed: noise levels of what it saw.
        size: what x was multiplied by, over what the network is meant to see it multiplied by.
        end: noise level of what came out.
        begins: deviation of what a pipeline begins with, as the network sees it, over that of the first level.
        weights: how much D at each call (column) weighs in x at each call (row).
    """

    times: list[float]
    told: list[float]
    executed: list[float]
    size: list[float]
    end: float
    begins: float
    weights: list[list[float]]


def check_driven(scheduler: object) -> None:
    """Refuse a scheduler that no loop of a pipeline drives from noise to points.

    Raises:
        ValueError: it is one of those; the message says why.
    """
    title = type(scheduler).__name__
    if is_one_of(scheduler, BACKWARD):
        raise ValueError(f"{title} goes from points to noise: give the scheduler that its pipeline samples with")
    for name, reason in UNDRIVEN.items():
        if is_one_of(scheduler, {name}):
            raise ValueError(f"{title} {reason}: which levels it visits cannot be read off")


def trace(
    scheduler: object, read: Convention, arguments: Mapping[str, Any], multiplies: bool = True, scales: bool = True
) -> Trace:
    """Run a copy of a scheduler.

    Args:
        scheduler: of diffusers.
        read: what it says of its network.
        arguments: for `set_timesteps`.
        multiplies: whether its pipeline multiplies noise by `init_noise_sigma`.
        scales: whether it calls `scale_model_input`.

    Raises:
        ValueError: the scheduler is none that can be driven, or fails.
    """
    check_driven(scheduler)
    walker: Any = copy.deepcopy(scheduler)
    try:
        with quiet():
            walker.set_timesteps(**arguments)
            times = [float(t) for t in walker.timesteps]
            return _run(walker, read, times, multiplies, scales)
    except FAILURES as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(f"{type(scheduler).__name__} cannot be driven with {_shown(arguments)}: {line}") from error


def _run(walker: Any, read: Convention, times: list[float], multiplies: bool, scales: bool) -> Trace:
    told = [read.sigma(t) for t in times]
    found: list[tuple[float, float]] = []  # a, |b| of what the network saw
    weights: list[list[float]] = []
    own = slice(-len(times), None)  # coordinates of the calls
    size = 2 + (PER_CALL + 1) * len(times)
    # A copy, as some schedulers move to their first step when they are asked to scale.
    scale = _scaled(copy.deepcopy(walker), torch.ones(*SHAPE, 1), walker.timesteps[0], scales)
    first = _frame(read, told[0])
    sample = torch.zeros(*SHAPE, size, dtype=torch.float64)
    sample[..., 0], sample[..., 1] = first[0] / float(scale), first[1] / float(scale)
    begins = (float(getattr(walker, "init_noise_sigma", 1.0)) if multiplies else 1.0) * float(scale) / first[1]
    old: Any = None
    with _own_noise(walker):
        for k, t in enumerate(walker.timesteps):
            seen = _scaled(walker, sample, t, scales)
            found.append(_parts(seen, own))
            weights.append(_weights(seen, own))
            point = torch.zeros_like(seen)
            point[..., 0] = point[..., own][..., k] = 1.0
            sample, old = _stepped(walker, _output(read, seen, point, _level(*found[-1])), k, sample, old)
    executed = [_level(*parts) for parts in found]
    return Trace(
        times,
        told,
        executed,
        size=[_size(read, *parts) for parts in found],
        end=_level(*_parts(sample, own)),
        begins=begins,
        weights=weights,
    )


def _scaled(walker: Any, sample: Tensor, t: Tensor, scales: bool) -> Tensor:
    return walker.scale_model_input(sample, t) if scales and hasattr(walker, "scale_model_input") else sample


def _parts(sample: Tensor, own: slice) -> tuple[float, float]:
    """How much of the point there is, and of noise of all kinds; coordinates of the calls are neither."""
    row = sample.double().flatten().clone()
    signal, row[0], row[own] = abs(float(row[0])), 0.0, 0.0
    return signal, float(row.norm())


def _weights(sample: Tensor, own: slice) -> list[float]:
    """How much each call weighs, in x: the point itself has weight 1 there. In noise alone none does."""
    row = sample.double().flatten()
    return (row[own] / (row[0] or 1.0)).tolist()


def _size(read: Convention, signal: float, noise: float) -> float:
    """How large a sample is, over what it should be at its level."""
    meant = math.hypot(*_frame(read, _level(signal, noise)))
    return math.hypot(signal, noise) / meant


def _level(signal: float, noise: float) -> float:
    return noise / signal if signal > 0 else math.nan if math.isnan(signal) else math.inf


def _frame(read: Convention, sigma: float) -> tuple[float, float]:
    """What the network is meant to see of X and of Z at this level."""
    if not math.isfinite(sigma):
        return (0.0, 1.0) if math.isinf(sigma) else (math.nan, math.nan)
    factor = read.seen(sigma)[0]
    return factor, factor * sigma


def _output(read: Convention, seen: Tensor, point: Tensor, sigma: float) -> Tensor:
    """What the network of this point predicts from what it sees, at the level that this has."""
    if read.sigma_data is not None:
        skip, out, into = edm_coefficients(sigma, read.sigma_data)
        return read.sign * (point - skip / into * seen) / out
    alpha, noise = _frame(read, sigma)
    drawn = (seen - alpha * point) / noise
    kinds = {"x0": point, "epsilon": drawn, "v": alpha * drawn - noise * point, "velocity": drawn - point}
    return read.sign * kinds[read.prediction]


def _stepped(walker: Any, output: Tensor, k: int, sample: Tensor, old: Any) -> tuple[Tensor, Any]:
    """The sample after a step, called as the pipelines of this scheduler do."""
    t, known = walker.timesteps[k], inspect.signature(walker.step).parameters
    if "old_pred_original_sample" in known:  # CogVideoX
        before = walker.timesteps[k - 1] if k > 0 else None
        after, old = walker.step(output, old, t, before, sample, return_dict=False)
        return after, old
    options: dict[str, Any] = {}
    if "prev_timestep" in known and k + 1 < len(walker.timesteps):  # unCLIP
        options["prev_timestep"] = walker.timesteps[k + 1]
    return walker.step(output, t, sample, **options).prev_sample, old


@contextmanager
def _own_noise(walker: Any) -> Generator[None]:
    """While it lasts, each draw of noise that the scheduler makes is the unit vector of the next coordinate."""
    coordinate = 1

    def draw(shape: Any, *_: Any, dtype: torch.dtype | None = None, **others: Any) -> Tensor:
        nonlocal coordinate
        del others
        coordinate += 1
        drawn = torch.zeros(tuple(shape), dtype=dtype or torch.float32)
        drawn[..., coordinate] = 1.0
        return drawn

    with ExitStack() as stack:
        for module in {sys.modules[base.__module__] for base in type(walker).__mro__}:
            if hasattr(module, "randn_tensor"):
                stack.enter_context(patch.object(module, "randn_tensor", draw))
        yield


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value if isinstance(value, int | float) else '...'}" for name, value in arguments.items()
    )
