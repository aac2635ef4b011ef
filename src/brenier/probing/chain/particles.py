"""A chain by particles: any law, any dimension, maps or stochastic steps. Its distances are estimates with error bars.

mu_k, mubar_k and nubar_k are sampled independently of each other, each with its own draw that it keeps over all steps:
what changes from step to step is the law, not the draw.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.random import seeds
from brenier.core.records import Variables
from brenier.core.work import one_thread
from brenier.distances.distance import Distance
from brenier.distances.wasserstein import w2
from brenier.laws.base import Target
from brenier.probing.chain.process import score_at
from brenier.probing.chain.walk import Walk, draw

Mode = Literal["ode", "sde"]


def account_by_particles(
    walk: Walk, nu: Target, mode: Mode, count: int, seed: int, advance: Callable[[float], None]
) -> tuple[Variables, str]:
    """Distances along the chain with their standard errors; and how they were estimated, in words."""
    state = seeds(seed, count=7)
    mu, start, *above = (
        draw(law, count, i) for law, i in zip((walk.law, nu, walk.law, nu, walk.law), state, strict=False)
    )
    noise = torch.Generator().manual_seed(state[5])
    mubar, nubar, pair = (walk.noised(x, z, walk.steps) for x, z in above)
    wrong = None if walk.error is None else _Displacement(walk, mode, pair, state[6])
    found: dict[str, list[Distance]] = {}
    plain: dict[str, list[float]] = {}
    for k in range(walk.steps, -1, -1):
        here, there = walk.noised(*mu, k), walk.noised(*start, k)
        pairs = {"forward": (here, there), "backward": (here, nubar), "chain": (mubar, nubar)}
        pairs["discretisation"] = (here, mubar)
        if wrong is not None:
            pairs["error"] = (mubar, wrong.exact)
            plain.setdefault("displacement", []).append(wrong.displacement())
            plain.setdefault("w2_error_predicted", []).append(wrong.predicted())
        with one_thread():
            for name, (a, b) in pairs.items():
                found.setdefault(f"w2_{name}", []).append(w2(a, b))
        if k > 0:
            both = step_back(walk, torch.cat([mubar, nubar]), k, mode, noise)
            mubar, nubar = both[:count], both[count:]
            if wrong is not None:
                wrong.advance(k)
        advance(1 / (walk.steps + 1))
    variables: Variables = {name: (("step",), np.array(values[::-1])) for name, values in plain.items()}
    for name, distances in found.items():
        variables[name] = (("step",), np.array([distance.value for distance in distances[::-1]]))
        variables[f"{name}_se"] = (("step",), np.array([distance.value_se for distance in distances[::-1]]))
    return variables, found["w2_chain"][0].method


def step_back(
    walk: Walk, x: Float[Tensor, "n d"], k: int, mode: Mode, noise: torch.Generator, exact: bool = False
) -> Float[Tensor, "n d"]:
    """One step from k to k - 1: the map of [LDK24] (3.2), or the reverse diffusion; `exact`: by the right score."""
    score = score_at(walk.law, x, float(walk.time[k]), walk.beta, walk.pull)
    if not exact:
        score = score + walk.score_error(x, k, noise)[0]
    if mode == "ode":
        return x + walk.eta * (walk.pull * x + score / walk.beta)
    kick = torch.randn(x.shape, generator=noise, dtype=torch.float64).to(x)
    return x + walk.eta * (walk.pull * x + 2 * score / walk.beta) + math.sqrt(2 * walk.eta / walk.beta) * kick


class _Displacement:
    """Particles that go back by the exact score, the same ones by the wrong score, and what is expected of the two.

    A displacement grows at most by the largest eigenvalue of the step's Jacobian, and on the line by its slope.
    """

    def __init__(self, walk: Walk, mode: Mode, x: Float[Tensor, "n d"], seed: int) -> None:
        self.exact, self.wrong = x, x
        self._walk, self._seed = walk, seed
        self._mode: Mode = mode
        self._signed = torch.zeros_like(x[:, 0])
        self._square = torch.zeros_like(x[:, 0])

    def displacement(self) -> float:
        """Root mean square distance between the two: an upper bound on W2 between their laws."""
        return math.sqrt(float((self.wrong - self.exact).square().sum(1).mean()))

    def predicted(self) -> float:
        """The same, to first order in the error."""
        return math.sqrt(float((self._signed.square() + self._square).mean()))

    def advance(self, k: int) -> None:
        """One step from k to k - 1, with the same noise for both."""
        walk, factor = self._walk, 1 if self._mode == "ode" else 2
        slope = walk.back_with_slope(self.exact, k)[1]
        flat = walk.eta / (walk.beta * float(walk.sigma[k]) ** 2)  # of a place without localization
        slope = slope if self._mode == "ode" else 2 * slope - 1 - walk.eta * walk.pull
        lowest = torch.full_like(slope, 1 + walk.eta * walk.pull - factor * flat)
        growth = slope if walk.law.dim == 1 else torch.maximum(slope.abs(), lowest.abs())
        noise = torch.Generator().manual_seed(self._seed + k)
        error = walk.score_error(self.exact, k, noise)[0] * (factor * walk.eta / walk.beta)
        white = walk.error is not None and walk.error.kind == "white"
        size = error.square().sum(1)
        if white:  # independent of what came before
            self._square = growth.square() * self._square + size
        else:
            self._signed = growth * self._signed + (error[:, 0] if walk.law.dim == 1 else size.sqrt())
        after = []
        for x, exact in ((self.exact, True), (self.wrong, False)):
            noise = torch.Generator().manual_seed(self._seed + k)
            if exact:
                walk.score_error(x, k, noise)  # drawn and left, so that both get the same kick
            after.append(step_back(walk, x, k, self._mode, noise, exact))
        self.exact, self.wrong = after
