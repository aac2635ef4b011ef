"""A sampler in the loop of somebody else: it says where it needs the denoiser, is told, and goes on.

A solver calls the denoiser in the middle of its step. Other libraries call the network first, and then the solver, once
for every value. So a step is begun anew with each value that it is told, on those that it was told before, until it
asks for another or is done: its algebra is repeated, the network is not, and every solver will do.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from brenier.sampling.driver import check_grid
from brenier.sampling.steps import Memory, Points, find_solver


class Turn(NamedTuple):
    """One evaluation of the denoiser.

    Attributes:
        step: of the grid, counted from 0, that it belongs to.
        sigma: the noise level.
        first: whether the step begins with it.
    """

    step: int
    sigma: float
    first: bool


class _AsksError(Exception):
    """The denoiser is needed at a point and a level."""

    def __init__(self, points: Tensor, sigma: float) -> None:
        super().__init__()
        self.points, self.sigma = points, sigma


def turns(sigmas: Sequence[float], solver: str) -> list[Turn]:
    """The evaluations of a sampler on its way down a grid, found by going it with a single number."""
    found: list[Turn] = []
    walk = Walk(sigmas, solver)
    walk.begin(0)
    x = torch.zeros(1, 1, dtype=torch.float64)
    while walk.step < len(sigmas) - 1:
        step, first = walk.step, not walk.told
        sigma = walk.asks(x)
        found.append(Turn(step, sigma, first))
        x = walk.tell(x, x, torch.zeros_like)
    return found


class Walk:
    """A sampler on its way down a grid.

    Args:
        sigmas: the noise levels, descending.
        solver: which sampler.

    Attributes:
        step: that it is in.
        told: what the denoiser has said in this step.
    """

    def __init__(self, sigmas: Sequence[float], solver: str) -> None:
        self.sigmas, self._solver = check_grid(sigmas), find_solver(solver)
        self.begin(0)

    def begin(self, step: int) -> None:
        """Start at a level of the grid, with nothing remembered."""
        self.step, self.told = step, list[Tensor]()
        self._memory = Memory(noise=torch.zeros_like)
        self._drawn: list[Tensor] = []
        self._start: Tensor | None = None

    def asks(self, x: Points) -> float:
        """The level at which the denoiser is needed now, at the point where the walk is; x for a step that begins."""
        asked = self._try(x if self._start is None else self._start, torch.zeros_like, keep=False)
        assert isinstance(asked, _AsksError)  # a step that is done has begun the next one
        return asked.sigma

    def tell(self, x: Points, clean: Points, draw: Callable[[Tensor], Tensor]) -> Points:
        """Go on with D = `clean` there.

        Args:
            x: where the walk is, shape (n, d): a step that begins, begins with it.
            clean: D there.
            draw: standard normal numbers of this shape, for a solver that needs them.

        Returns:
            Where D is needed next; after the last step the end.
        """
        if self._start is None:
            self._start = x
        self.told.append(clean)
        found = self._try(self._start, draw, keep=True)
        return found.points if isinstance(found, _AsksError) else found

    def _try(self, start: Points, draw: Callable[[Tensor], Tensor], keep: bool) -> "Points | _AsksError":
        """The step on what it was told: what it asks for, or its end."""
        drawn, told = iter([*self._drawn]), iter(self.told)

        def noise(like: Tensor) -> Tensor:
            known = next(drawn, None)
            if known is None:
                known = draw(like)
                if keep:
                    self._drawn.append(known)
            return known

        def denoise(points: Tensor, sigma: float) -> Tensor:
            known = next(told, None)
            if known is None:
                raise _AsksError(points, sigma)
            return known

        sigma, after = [*pairwise(self.sigmas)][self.step]
        beyond = [*self.sigmas[2:], float("inf")][self.step]
        memory = replace(self._memory, noise=noise, beyond=beyond)
        try:
            end = self._solver.step(denoise, start, sigma, after, memory)
        except _AsksError as asked:
            return asked
        self._memory, self._drawn = memory, []
        self.step, self.told, self._start = self.step + 1, [], None
        return end
