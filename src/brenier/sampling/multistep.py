"""Linear multistep methods: how much the denoiser's values at several levels weigh in a step from sigma to sigma'.

Along the probability flow D and eps = (x - D)/sigma obey

    d(x/sigma) = D d(1/sigma),    dx = eps dsigma,

so that a step is solved exactly by x' = D* + (sigma'/sigma)(x - D*) with D* the mean of D over the step, evenly in
1/sigma, and by x' = x + (sigma' - sigma) eps* with eps* that of eps, evenly in sigma. In s, the logarithm of what is
even, from 0 at the start of the step to g at its end, the means of powers are

    m_0 = 1,    m_k = g^k/(1 - e^-g) - k m_k-1.

A method takes the mean of the polynomial in s through its values at s_0 = 0, which is here, and at levels visited
before: weights v_j with sum_j v_j s_j^k = m_k. Methods differ in what they hold, D or eps, at how many levels, and in
the means:

    dpmpp-2m         D at 2 levels      m_1 = g/2: the value in the middle of the step. UniP-2 is the same method
    dpmpp-3m         D at 3             half of m_2, as its authors have it, which leaves it of order 2
    unip-3           D at 3             as above; with two levels, as dpmpp-2m
    unipc-2, -3      D at 2, 3          likewise, and then once more through the value at the end of the step as well,
                                        which the next step evaluates anyway: UniC
    deis-2, -3       eps at 2, 3        as above; what DEIS calls log rho is log sigma here
    ipndm-2 to -4    eps at 2, 3, 4     m_k = g^k/(k + 1), and s_j = -j g as if all steps were alike: the weights of
                                        Adams and Bashforth

The first steps know fewer levels and are of lower order. The last one to 0 ends at D, and the one before it is of order
2 at most, but for iPNDM. Nothing is lowered where a grid ends at a positive level. diffusers has the same with its
`lower_order_final=True` for grids to 0 (DPMSolverMultistepScheduler up to 14 steps; from 15 on it keeps the order of
the last but one) and False for others. Its IPNDMScheduler, of order 4, extrapolates on the step to 0, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from brenier.core.checks import Array

Numbers: TypeAlias = float | Array  # of one step, or of each of many
Counts: TypeAlias = int | np.int64 | NDArray[np.int64]
Means: TypeAlias = Callable[[Numbers, int], list[Numbers]]


def exact(g: Numbers, count: int) -> list[Numbers]:
    """Means of s, s^2, ... for s from 0 to g, evenly in e^s."""
    found: list[Numbers] = [1.0]
    for k in range(1, count + 1):
        found.append(-(g**k) / np.expm1(-g) - k * found[-1])
    return found[1:]


def midpoint(g: Numbers, count: int) -> list[Numbers]:
    """The same, but for a straight line: its value in the middle."""
    return [g / 2] if count == 1 else exact(g, count)


def half_curved(g: Numbers, count: int) -> list[Numbers]:
    """`midpoint`, with half of the second mean."""
    first, *higher = midpoint(g, count)
    return [first, *(mean / 2 for mean in higher)]


def uniform(g: Numbers, count: int) -> list[Numbers]:
    """Means for s from 0 to g, evenly in s."""
    return [g**k / (k + 1) for k in range(1, count + 1)]


@dataclass(frozen=True)
class Multistep:
    """A linear multistep method.

    Attributes:
        order: number of levels, with the one here.
        means: of s, s^2, ... over a step.
        noise: whether it holds eps, and not D.
        adams: whether levels are taken to be evenly spaced, and the last but one step keeps its order.
        corrects: whether a step is done again once the value at its end is known.
    """

    order: int
    means: Means = midpoint
    noise: bool = False
    adams: bool = False
    corrects: bool = False

    def orders(self, known: Counts, beyond: Numbers) -> Counts:
        """Of steps that know so many levels before, and that are followed by one to the level `beyond`."""
        last = self.order if self.adams else min(self.order, 2)
        return np.minimum(known + 1, np.where(np.equal(beyond, 0), last, self.order))

    def weights(self, before: Sequence[Numbers], length: Numbers, ahead: bool = False) -> list[Numbers]:
        """Weights v_j of values at other levels: the mean is value + sum_j v_j (value_j - value).

        Args:
            before: log(sigma_j/sigma) of the levels visited before, latest first.
            length: log(sigma/sigma') of the step.
            ahead: whether the value at sigma' is known, too; its weight then comes first.
        """
        sign = 1 if self.noise else -1
        g = -sign * length
        nodes = [-(j + 1) * g for j in range(len(before))] if self.adams else [sign * t for t in before]
        if ahead:
            nodes.insert(0, g)
        found: list[Numbers] = []
        for j, node in enumerate(nodes):  # the mean of s/s_j times the product of (s - s_i)/(s_j - s_i), i != j
            means, scale = self.means(g, len(nodes)), node
            for other in nodes[:j] + nodes[j + 1 :]:
                means = [higher - other * lower for lower, higher in pairwise(means)]
                scale = scale * (node - other)
            found.append(means[0] / scale)
        return found
