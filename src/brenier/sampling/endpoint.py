"""Where the probability flow itself ends: what the errors of few-step samplers are measured against.

In log sigma the flow is dx/dlog sigma = x - D(x; sigma). Its Jacobian is I - Cov[X | x]/sigma^2, and sigma falls: there
is no stiffness. Dormand and Prince's method of order 8, from torchdiffeq, follows it with steps that keep
the error of each below a tenth of the tolerance in the worst of all trajectories. (At tolerances from 1e-4 on down, its
method of order 5 takes more evaluations to leave the same error.)

The last level above 0 is sigma = tolerance times the law's smallest length: from there x_0 is within a few sigma, and
the flow ends at D. A network ends at the smallest level that it was trained for, at D there: what lies below it, it
does not know.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchdiffeq import odeint

from brenier.core.work import progress_bar
from brenier.laws.base import Target
from brenier.sampling.driver import Run, check_grid, check_points, integrate
from brenier.sampling.steps import Denoise

FINE = 256  # steps that stand for the flow of a network
STEPS = 2000  # of the adaptive solver, taken or refused; where it needs more, it is lost in rounding
ROUNDING = 32  # errors of a denoiser, in units of its dtype's rounding


def fine(
    law: Target, x: Float[Tensor, "n d"], sigma_max: float, sigma_min: float = 0.0, steps: int = FINE
) -> Float[Tensor, "n d"]:
    """End points of a network's flow by so many steps of UniPC-3, even in log sigma: what a network can be asked.

    A network is not smooth, and an adaptive solver takes thousands of evaluations to follow it: 256 steps are within
    0.005 of where it ends after 2,148, 0.003 in root mean square (24 points, a U-Net of digits; images have norm 8).
    """
    floor = sigma_min or _floor(law, 0.0)
    sigmas = np.geomspace(sigma_max, floor, steps).tolist() if floor < sigma_max else [sigma_max]
    return integrate(law, x, [*sigmas, 0.0] if sigma_min == 0 else sigmas, "unipc-3").x


def _floor(law: Target, tolerance: float) -> float:
    """The last level above 0."""
    smallest, _ = law.scales()
    if not law.learned:
        return tolerance * smallest
    finest = law.snr_range[1]
    return 1 / finest if math.isfinite(finest) else smallest / 10


def reference(
    law: Target,
    x: Float[Tensor, "n d"],
    sigma_max: float,
    sigma_min: float = 0.0,
    tolerance: float = 1e-6,
    progress: bool = False,
) -> Float[Tensor, "n d"]:
    """End points of the probability flow: what `follow` finds, without its account."""
    return follow(law, x, sigma_max, sigma_min, tolerance, progress).x


def follow(
    law: Target,
    x: Float[Tensor, "n d"],
    sigma_max: float,
    sigma_min: float = 0.0,
    tolerance: float = 1e-6,
    progress: bool = False,
) -> Run:
    """Follow the probability flow from sigma_max to sigma_min, by an adaptive solver.

    Args:
        law: whose denoiser is followed, in the law's dtype; x itself is in float64 on the way.
        x: noisy points at `sigma_max`, shape (n, d).
        sigma_max: noise level to start from, in the unit of the data.
        sigma_min: noise level to end at; 0: as far down as there is (see above).
        tolerance: error of every trajectory, in units of the law's largest length, from 1e-10 to 0.1. The denoiser's
            rounding sets a limit, 320 eps |D|/length: about 1e-4 in float32, and less is not asked for. Close to the
            border between two modes, where the flow itself multiplies errors, it may be missed by a factor.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        x at `sigma_min`, in the law's dtype, and the evaluations of the denoiser that it took, per sample.

    Raises:
        ValueError: an argument is out of range, or the flow cannot be followed to the tolerance.
    """
    high, low = check_grid([sigma_max, sigma_min])
    if not 1e-10 <= tolerance <= 0.1:
        raise ValueError(f"tolerance must lie between 1e-10 and 0.1, got {tolerance:g}")
    y = check_points(law, x)
    if len(y) == 0:
        return Run(y, 0)
    _, largest = law.scales()
    floor = low or _floor(law, tolerance)
    count = 0

    def denoise(points: Tensor, sigma: float) -> Tensor:
        nonlocal count
        count += 1
        return law.denoise((points / sigma).to(law.dtype), 1 / sigma).double()

    y = y.double()
    with torch.no_grad(), progress_bar(f"following the flow of {law.name}", progress) as advance:
        if floor < high:
            size = max(float(torch.linalg.vector_norm(denoise(y, high), dim=1).max()), largest)
            allowed = max(tolerance * largest / 10, ROUNDING * torch.finfo(law.dtype).eps * size)
            try:
                y = _solve(denoise, y, high, floor, allowed, advance)
            except AssertionError as error:  # torchdiffeq's way to say so
                raise ValueError(
                    f"the probability flow of {law.name} cannot be followed to tolerance {tolerance:g} "
                    f"({str(error).splitlines()[0][:80]}): a larger tolerance may do"
                ) from error
        if low == 0:
            y = denoise(y, min(floor, high))
    return Run(y.to(law.dtype), count)


def _solve(
    denoise: Denoise, x: Tensor, high: float, low: float, allowed: float, advance: Callable[[float], None]
) -> Tensor:
    """x carried from `high` to `low`, with an error of at most `allowed` in every step and row."""
    length, reached = math.log(high / low), 0.0

    def slope(time: Tensor, points: Tensor) -> Tensor:
        nonlocal reached
        now = float(time)
        advance(max(now - reached, 0) / length)
        reached = max(now, reached)
        return denoise(points, high * math.exp(-now)) - points

    ends = torch.tensor([0.0, length], dtype=torch.float64, device=x.device)
    options: dict[str, Any] = {
        "norm": lambda error: torch.linalg.vector_norm(error, dim=1).amax(),
        "first_step": min(0.1, length),
        "step_t": ends[1:],  # a step ends there, and none goes beyond: a network may not know what is there
        "max_num_steps": STEPS,
    }
    path = odeint(slope, x, ends, rtol=0.0, atol=allowed, method="dopri8", options=options)
    assert isinstance(path, Tensor)  # not a tuple, since x is none
    return path[-1]
