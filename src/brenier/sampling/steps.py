"""One step of each sampler, from noise level sigma to a smaller one, in the variable x = X + sigma Z.

The probability flow dx/dsigma = (x - D)/sigma has one unknown, the denoiser D(x; sigma) = E[X | X + sigma Z = x]. With
D held fixed it is solved exactly by x' = D + (sigma'/sigma)(x - D), and the solvers differ in the D that they hold:

    euler               D at the start of the step: DDIM (arXiv:2010.02502)
    heun                the trapezoidal rule in sigma: EDM (arXiv:2206.00364), Algorithm 1 without churn
    dpmpp-2m            D extrapolated in log sigma to the middle of the step: DPM-Solver++(2M) (arXiv:2211.01095)
    dpmpp-2m-sde        the same for the reverse SDE, solved exactly with D held fixed
    euler-maruyama      the reverse SDE dx = 2 sigma score (-dsigma) + sqrt(2 sigma) dW, score held fixed
    annealed-langevin   Langevin steps at each noise level: NCSNv2 (arXiv:2006.09011)

A step to sigma' = 0 ends at D in all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

Denoise: TypeAlias = Callable[[Tensor, float], Tensor]
SolverName: TypeAlias = Literal["euler", "heun", "dpmpp-2m", "dpmpp-2m-sde", "euler-maruyama", "annealed-langevin"]
Points: TypeAlias = Float[Tensor, "n d"]

LANGEVIN = 5  # Langevin steps at each noise level


@dataclass
class Memory:
    """What a sampler carries from step to step.

    Attributes:
        noise: draws standard normal numbers of the shape, dtype and device of x.
        denoised: D at the start of the step before; None at the first.
        sigma: the noise level there.
    """

    noise: Callable[[Tensor], Tensor]
    denoised: Points | None = None
    sigma: float = math.inf


Step: TypeAlias = Callable[[Denoise, Tensor, float, float, Memory], Tensor]


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


def dpmpp_2m(denoise: Denoise, x: Points, sigma: float, after: float, memory: Memory) -> Points:
    """DPM-Solver++(2M), midpoint: the first step and one to 0 are Euler's."""
    return _toward(_midway(denoise, x, sigma, after, memory), x, after / sigma)


def dpmpp_2m_sde(denoise: Denoise, x: Points, sigma: float, after: float, memory: Memory) -> Points:
    """DPM-Solver++(2M) for the reverse SDE."""
    ahead = _toward(_midway(denoise, x, sigma, after, memory), x, (after / sigma) ** 2)
    return ahead if after == 0 else ahead + after * math.sqrt(1 - (after / sigma) ** 2) * memory.noise(x)


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

    def excess(size: float) -> float:
        stationary = 2 / (2 - size)
        return (1 - size) ** (2 * LANGEVIN) * (ratio**2 - stationary) + stationary - 1

    return float(minimize_scalar(excess, bounds=(0, 1), method="bounded").x)  # pyright: ignore[reportAttributeAccessIssue]


def _toward(clean: Points, x: Points, share: float) -> Points:
    return clean + share * (x - clean)


def _midway(denoise: Denoise, x: Points, sigma: float, after: float, memory: Memory) -> Points:
    """D extrapolated in log sigma by half of the step, from where it is known: here, and a step before."""
    clean = denoise(x, sigma)
    ahead = clean
    if memory.denoised is not None and after > 0:
        ratio = math.log(sigma / after) / math.log(memory.sigma / sigma)
        ahead = clean + ratio / 2 * (clean - memory.denoised)
    memory.denoised, memory.sigma = clean, sigma
    return ahead


@dataclass(frozen=True)
class Solver:
    """A sampler.

    Attributes:
        step: from x at sigma to x at sigma'.
        evaluations: of the denoiser in one step to sigma'.
        stochastic: whether it draws noise on the way.
    """

    step: Step
    evaluations: Callable[[float], int]
    stochastic: bool = False


SOLVERS: dict[SolverName, Solver] = {
    "euler": Solver(euler, lambda after: 1),
    "heun": Solver(heun, lambda after: 2 if after > 0 else 1),
    "dpmpp-2m": Solver(dpmpp_2m, lambda after: 1),
    "dpmpp-2m-sde": Solver(dpmpp_2m_sde, lambda after: 1, stochastic=True),
    "euler-maruyama": Solver(euler_maruyama, lambda after: 1, stochastic=True),
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
