"""Which noise to fly pilots from: where the flow amplifies, rare errors decide.

A few-step sampler's mean square end error is a typical one plus a rare one: a trajectory near a border between basins
ends in another mode. There the flow amplifies differences, d log|dx|/d log sigma = 1 - L in the leading direction, so
that what a difference has grown to at the end says how near to a border a trajectory runs. Scouts, many and coarse, are
asked for that; pilots are drawn among them in proportion to it, with the weights that undo it (unequal probability
sampling without replacement: Horvitz and Thompson, JASA 47, 1952; systematic: Madow, Ann. Math. Stat. 20, 1949).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Target
from brenier.sampling.driver import integrate
from brenier.sampling.objectives import objective_for
from brenier.sampling.pilots import NUDGE, TAIL, Pilots, finish, flow_path
from brenier.sampling.steps import SolverName

TANGENTS = 2  # differences that a scout carries, in directions at random
BLOCK = 2048  # scouts that fly together
LEVELS = 33  # at which they are asked
POWER = 1.5  # of the growth, which the score is
FLOOR = 0.3  # share of pilots that is drawn without regard to amplification


def amplification(law: Target, x: Float[Tensor, "n d"], sigmas: Sequence[float], seed: int = 0) -> Array:
    """Root mean square growth of small differences in directions at random, along the flow from x at sigmas[0].

    Args:
        law: whose flow it is.
        x: shape (n, d).
        sigmas: levels equally spaced in log sigma, descending.
        seed: of the directions.

    Returns:
        Shape (n,): to first order in the spacing of the levels, which ranks them.
    """
    q, step = sigmas[1] / sigmas[0], NUDGE[x.dtype]
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for part in x.split(BLOCK):
        path, clean = flow_path(law, part, sigmas)
        square = torch.zeros(len(part), dtype=torch.float64, device=x.device)
        for _ in range(TANGENTS):
            signs = 2.0 * torch.randint(2, part.shape, generator=generator, dtype=torch.float64) - 1
            tangent, growth = signs.to(x.device) / math.sqrt(law.dim), torch.ones_like(square)
            for sigma, y, known in zip(sigmas[:-1], path, clean, strict=False):
                moved = (y + step * sigma * tangent) / sigma
                pulled = (law.denoise(moved.to(law.dtype), 1 / sigma).double() - known) / (step * sigma)
                tangent = q * tangent + (1 - q) * pulled
                length = tangent.norm(dim=1)
                growth = growth * length
                tangent = tangent / length.clamp_min(1e-300)[:, None]
            square += growth.square()
        found.append((square / TANGENTS).sqrt())
    return torch.cat(found).cpu().numpy()


def scout(
    law: Target, x: Float[Tensor, "n d"], ends: tuple[float, float], pilots: int, held: int, seed: int = 0
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pilots among scouts, and others to hold them against: of each, where they start and their weights.

    Args:
        law: whose flow they follow.
        x: the scouts, at ends[0].
        ends: noise levels between which they fly.
        pilots: how many are wanted.
        held: how many others.
        seed: of the draw.
    """
    levels = np.geomspace(*ends, LEVELS).tolist()
    index, weights = draw(amplification(law, x, levels, seed) ** POWER, pilots + held, seed)
    # In the order of the scores, so that both parts have as many of each kind.
    place = np.arange(len(index)) + 0.5
    share = held / (pilots + held)
    other = torch.from_numpy(np.floor((place + 0.5) * share) > np.floor((place - 0.5) * share))
    parts: list[tuple[Tensor, Tensor]] = []
    for part in (~other, other):
        mass = weights[part] / weights[part].sum()
        parts.append((x[index[part].to(x.device)], mass.to(x.device)))
    return parts[0], parts[1]


def scouted(scouts: int) -> int:
    """Evaluations of the denoiser that so many scouts take, of single points."""
    return scouts * (LEVELS + 1 + TANGENTS * (LEVELS - 1))


def draw(score: Array, count: int, seed: int = 0) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"]]:
    """A sample without replacement, in proportion to a floor and the score, spread evenly over the scores.

    Args:
        score: what a scout is drawn by, non-negative, shape (N,).
        count: how many are drawn; all where there are no more.
        seed: of the draw.

    Returns:
        Their numbers, in the order of the scores, and weights that add up to one: weighted means over the sample
        estimate means over all.
    """
    total = len(score)
    order = np.argsort(score)
    share = FLOOR / total + (1 - FLOOR) * score[order] / max(score.sum(), 1e-300)
    chance, sure = np.minimum(count * share, 1), np.zeros(total, bool)
    while chance.sum() < min(count, total) - 1e-9:  # who is drawn for sure leaves more to others
        sure = chance >= 1
        left = share * ~sure
        chance = np.where(sure, 1, np.minimum((count - sure.sum()) * left / left.sum(), 1))
    edges = np.append(0, chance.cumsum())
    shift = np.random.default_rng(seed).random()
    drawn = np.floor(edges[1:] + shift) > np.floor(edges[:-1] + shift)
    weights = 1 / chance[drawn]
    return torch.from_numpy(order[drawn]), torch.from_numpy(weights / weights.sum())


@dataclass(frozen=True)
class Held:
    """Noise that no grid was chosen by: where it starts, where the flow carries it, and weights that add up to one."""

    start: Float[Tensor, "n d"]
    end: Float[Tensor, "n d"]
    weights: Float[Tensor, " n"]
    evaluations: int

    @classmethod
    def of(
        cls,
        law: Target,
        x: Float[Tensor, "n d"],
        weights: Float[Tensor, " n"],
        sigmas: list[float],
        floor: float | None,
    ) -> Self:
        """Follow the flow from x at sigmas[0]; see `pilots.fly`."""
        path, clean = flow_path(law, x, sigmas)
        beyond = 2 * TAIL - 1 if floor is not None and floor < sigmas[-1] else 0
        return cls(x, finish(law, path[-1], clean[-1], sigmas[-1], floor), weights, len(x) * (len(sigmas) + 1 + beyond))

    def joined(self, pilots: Pilots) -> Self:
        """These and pilots that grids were chosen by, which come after, all with equal weights."""
        start, end = torch.cat([self.start, pilots.start]), torch.cat([self.end, pilots.end])
        even = torch.full_like(self.weights[:1], 1 / len(end)).expand(len(end))
        return replace(self, start=start, end=end, weights=even)

    def safest(
        self, law: Target, grids: Sequence[Array], solver: SolverName, objective: str = "error"
    ) -> tuple[int, Tensor]:
        """Which grid to take, and where it ends.

        The first, unless another leaves less of the objective by more than the standard error of what it leaves less.
        """
        ends = [integrate(law, self.start, grid, solver).x.double() for grid in grids]
        aim = objective_for(objective, self.end, self.weights, ends[0])
        parts = [aim.parts(end) for end in ends]
        gains = [weighted_mean(parts[0] - other, self.weights) for other in parts]
        sure = [gain - error for gain, error in gains]
        best = int(np.argmax(sure)) if max(sure) > 0 else 0
        return best, ends[best]


def weighted_mean(values: Array, weights: Float[Tensor, " n"]) -> tuple[float, float]:
    """A weighted mean and its standard error; the weights add up to one."""
    mass = weights.cpu().numpy()
    mean = float(mass @ values)
    return mean, float(np.sqrt(mass**2 @ (values - mean) ** 2))
