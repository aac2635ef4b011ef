"""One step of each sampler, from noise level sigma to a smaller one, in the variable x = X + sigma Z.

The probability flow dx/dsigma = (x - D)/sigma has one unknown, the denoiser D(x; sigma) = E[X | X + sigma Z = x]. With
D held fixed it is solved exactly by x' = D + (sigma'/sigma)(x - D), and the solvers differ in the D that they hold:

    euler               D at the start of the step: DDIM (arXiv:2010.02502)
    heun                the trapezoidal rule in sigma: EDM (arXiv:2206.00364), Algorithm 1 without churn
    dpmpp-2m            D extrapolated in log sigma to the middle of the step: DPM-Solver++(2M) (arXiv:2211.01095)
    dpmpp-3m            likewise from three levels: DPM-Solver++(3M)
    unip-3              the mean over the step of D extrapolated from three levels: UniP (arXiv:2302.04867)
    unipc-2, unipc-3    likewise from two or three levels, and every step once more with the D at its end: UniPC
    deis-2, deis-3      the mean of eps = (x - D)/sigma, extrapolated likewise: DEIS in log rho (arXiv:2204.13902)
    ipndm-2, -3, -4     eps by the weights of Adams and Bashforth: iPNDM (the same; PNDM is arXiv:2202.09778)
    dpmpp-2m-sde        dpmpp-2m for the reverse SDE, solved exactly with D held fixed
    euler-maruyama      the reverse SDE dx = 2 sigma score (-dsigma) + sqrt(2 sigma) dW, score held fixed
    annealed-langevin   Langevin steps at each noise level: NCSNv2 (arXiv:2006.09011)

A step to sigma' = 0 ends at D in all of them. How levels are weighed that solvers remember: see `multistep`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from brenier.sampling.multistep import Multistep, exact, half_curved, uniform

Denoise: TypeAlias = Callable[[Tensor, float], Tensor]
SolverName: TypeAlias = Literal[
    "euler",
    "heun",
    "dpmpp-2m",
    "dpmpp-3m",
    "unip-3",
    "unipc-2",
    "unipc-3",
    "deis-2",
    "deis-3",
    "ipndm-2",
    "ipndm-3",
    "ipndm-4",
    "dpmpp-2m-sde",
    "euler-maruyama",
    "annealed-langevin",
]
Points: TypeAlias = Float[Tensor, "n d"]

LANGEVIN = 5  # Langevin steps at each noise level


@dataclass
class Memory:
    """What a sampler carries from step to step.

    Attributes:
        noise: draws standard normal numbers of the shape, dtype and device of x.
        past: levels at which steps before started, and D or eps there, latest first.
        start: x where the step before started, as corrected; None at the first.
        beyond: the level that the step after this one goes to; inf where this one is the last.
    """

    noise: Callable[[Tensor], Tensor]
    past: tuple[tuple[float, Points], ...] = ()
    start: Points | None = None
    beyond: float = math.inf


Step: TypeAlias = Callable[[Denoise, Tensor, float, float, Memory], Tensor]


def walk(step: Step, denoise: Denoise, x: Points, sigmas: Sequence[float], memory: Memory) -> Iterator[Points]:
    """x at every level of a grid after the first."""
    for (sigma, after), beyond in zip(pairwise(sigmas), [*sigmas[2:], math.inf], strict=True):
        memory.beyond = beyond
        x = step(denoise, x, sigma, after, memory)
        yield x


def euler(denoise: Denoise, x: Points, sigma: float, after: float, _memory: Memory) -> Points:
    """DDIM's step: D held at its value at the start."""
    return _toward(denoise(x, sigma), x, after / sigma)


def heun(denoise: Denoise, x: Points, sigma: float, after: float, _memory: Memory) -> Points:
    """EDM's step: Euler's, corrected by the slope at its end."""
    clean = denoise(x, sigma)
    ahead = _toward(clean, x, after / sigma)
    if after == 0:
        return ahead
    slope = (x - clean) / sigma + (ahead - denoise(ahead, after)) / after
    return x + (after - sigma) / 2 * slope


def multistep(method: Multistep) -> Step:
    """The step of a linear multistep method."""

    def step(denoise: Denoise, x: Points, sigma: float, after: float, memory: Memory) -> Points:
        clean = denoise(x, sigma)
        if after == 0:
            return clean
        if method.corrects and memory.start is not None:
            (before, past), *earlier = memory.past
            held = _mean(method, past, earlier, before, sigma, clean)
            x = _toward(held, memory.start, sigma / before)
        memory.start = x
        if not method.noise:
            return _toward(_extrapolated(method, clean, sigma, after, memory), x, after / sigma)
        return x + (after - sigma) * _extrapolated(method, (x - clean) / sigma, sigma, after, memory)

    return step


def dpmpp_2m_sde(denoise: Denoise, x: Points, sigma: float, after: float, memory: Memory) -> Points:
    """DPM-Solver++(2M) for the reverse SDE."""
    clean = denoise(x, sigma)
    if after == 0:
        return clean
    ahead = _toward(_extrapolated(DPMPP_2M, clean, sigma, after, memory), x, (after / sigma) ** 2)
    return ahead + after * math.sqrt(1 - (after / sigma) ** 2) * memory.noise(x)


def euler_maruyama(denoise: Denoise, x: Points, sigma: float, after: float, memory: Memory) -> Points:
    """Euler-Maruyama for the reverse SDE, time counted in sigma^2; the last step to 0 adds no noise."""
    ahead = _toward(denoise(x, sigma), x, (after / sigma) ** 2)
    return ahead if after == 0 else ahead + math.sqrt(sigma**2 - after**2) * memory.noise(x)


def annealed_langevin(denoise: Denoise, x: Points, sigma: float, after: float, memory: Memory) -> Points:
    """`LANGEVIN` steps x + c sigma'^2 score + sqrt(2 c) sigma' z at the level sigma' stepped to; at 0, D."""
    if after == 0:
        return denoise(x, sigma)
    size = langevin_size(sigma / after)
    for _ in range(LANGEVIN):
        x = x + size * (denoise(x, after) - x) + math.sqrt(2 * size) * after * memory.noise(x)
    return x


def langevin_size(ratio: float) -> float:
    """Step size c in units of sigma'^2, after a level `ratio` times as noisy (NCSNv2, Technique 4).

    Where the law is a point, x starts with variance ratio^2 and ends, after n steps, with
    (1 - c)^2n (ratio^2 - v) + v, v = 2/(2 - c), in units of sigma'^2; c brings that closest to 1.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    def excess(size: float) -> float:
        stationary = 2 / (2 - size)
        return (1 - size) ** (2 * LANGEVIN) * (ratio**2 - stationary) + stationary - 1

    found: Any = minimize_scalar(excess, bounds=(0, 1), method="bounded")
    return float(found.x)


def _toward(clean: Points, x: Points, share: float) -> Points:
    return clean + share * (x - clean)


def _extrapolated(method: Multistep, here: Points, sigma: float, after: float, memory: Memory) -> Points:
    """The mean over a step of what is held, by its values here and at levels before; they are remembered."""
    known = memory.past[: int(method.orders(len(memory.past), memory.beyond)) - 1]
    memory.past = ((sigma, here), *memory.past)[: method.order - (not method.corrects)]
    return _mean(method, here, known, sigma, after)


def _mean(
    method: Multistep,
    here: Points,
    known: Sequence[tuple[float, Points]],
    sigma: float,
    after: float,
    ahead: Points | None = None,
) -> Points:
    """The mean over a step of what is held, by its value here, at levels before, and where it is known ahead."""
    times = [math.log(before / sigma) for before, _ in known]
    values = [value for _, value in known] if ahead is None else [ahead, *(value for _, value in known)]
    mean = here
    weights = method.weights(times, math.log(sigma / after), ahead is not None)
    for weight, value in zip(weights, values, strict=True):
        mean = mean + float(weight) * (value - here)
    return mean


@dataclass(frozen=True)
class Solver:
    """A sampler.

    Attributes:
        step: from x at sigma to x at sigma'.
        evaluations: of the denoiser in one step to sigma'.
        stochastic: whether it draws noise on the way.
        multistep: how it weighs levels, where it is a linear multistep method.
    """

    step: Step
    evaluations: Callable[[float], int] = lambda after: 1
    stochastic: bool = False
    multistep: Multistep | None = None


def _linear(method: Multistep) -> Solver:
    return Solver(multistep(method), multistep=method)


DPMPP_2M = Multistep(2)
SOLVERS: dict[SolverName, Solver] = {
    "euler": Solver(euler, multistep=Multistep(1)),
    "heun": Solver(heun, lambda after: 2 if after > 0 else 1),
    "dpmpp-2m": _linear(DPMPP_2M),
    "dpmpp-3m": _linear(Multistep(3, half_curved)),
    "unip-3": _linear(Multistep(3)),
    "unipc-2": _linear(Multistep(2, corrects=True)),
    "unipc-3": _linear(Multistep(3, corrects=True)),
    "deis-2": _linear(Multistep(2, exact, noise=True)),
    "deis-3": _linear(Multistep(3, exact, noise=True)),
    "ipndm-2": _linear(Multistep(2, uniform, noise=True, adams=True)),
    "ipndm-3": _linear(Multistep(3, uniform, noise=True, adams=True)),
    "ipndm-4": _linear(Multistep(4, uniform, noise=True, adams=True)),
    "dpmpp-2m-sde": Solver(dpmpp_2m_sde, stochastic=True),
    "euler-maruyama": Solver(euler_maruyama, stochastic=True),
    "annealed-langevin": Solver(annealed_langevin, lambda after: LANGEVIN if after > 0 else 1, stochastic=True),
}


def find_solver(name: object) -> Solver:
    """The sampler of this name.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(name, str) or name not in SOLVERS:
        raise ValueError(f"no solver {name!r}: it is one of {', '.join(SOLVERS)}")
    return SOLVERS[name]


def evaluations(solver: str, sigmas: Sequence[float]) -> int:
    """Evaluations of the denoiser per sample along a grid of noise levels."""
    return sum(find_solver(solver).evaluations(after) for after in sigmas[1:])
