"""Transport that listens to real conditions: from noise and a condition to the data that have conditions near it.

The law of (x, c), noise and an independent condition, is carried to the points (y_i, c_i) at the least mean of

    |x - y|^2 + kappa^2 |c - c_i|^2,

which is semi-discrete transport to the points (y_i, kappa c_i) from the law of (x, kappa c), conditions drawn from the
data's own: one problem, of N cells in d + k dimensions, whatever kappa. As kappa falls to 0 it becomes plain transport,
which ignores conditions and is skewed. As kappa grows, noise becomes independent of the datum's condition, and each
condition is left with the data that have nearly this one: where conditions repeat, these are classes; where all differ,
it is one datum, and pairs are independent. Of all kappa that the skew test passes the least gains most.

C2OT (arXiv:2503.10636) does this in minibatches, with kappa by the share of data that a noise may be given. Minibatches
are the way for conditions of more data than can be fitted.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.checks import whole_number
from brenier.core.points import Numbers, arrays_too, as_points
from brenier.core.random import generator_for
from brenier.core.reading.values import check_array
from brenier.transport.cost import Cost
from brenier.transport.semidiscrete.map import FRESH, KINDS, SemiDiscrete
from brenier.transport.semidiscrete.measures import MarginalError
from brenier.transport.semidiscrete.skew import Skew, depends, skew_test
from brenier.transport.semidiscrete.sources import Sampler

FIRST, RATIO, TRIALS = 0.25, math.sqrt(2), 18  # of kappa: in units of the spread of points over that of conditions
SOME, ROUGH = 500, 0.05  # points that kappa is chosen on first, and the tolerance of their maps
PATIENCE, RAISED = 0.5, 4  # minutes that one of them may take; times that kappa is raised if that was too little
TESTED, EXCHANGES = 2000, 99  # pairs of a skew test; exchanges while kappa is chosen: the p above which it will do
STRICTER = 2  # times as many pairs are tested there, so that what is barely seen there is not seen later


class ByCondition(SemiDiscrete, by="conditions"):
    """What `SemiDiscrete(points, conditions=...)` makes; conditions of x are rows of real numbers, or one for all.

    Attributes:
        conditions: of the points, shape (N, k), float64; `labels` are the same, and pairs come with their data's.
        kappa: the weight of conditions, as given, or as chosen by `fit`; NaN before.
        chosen: whether it was chosen.
        joint: the map from noise and conditions to points and conditions; None while there is no kappa.

    Raises:
        ValueError: conditions of another number, NaN, or all the same; kappa is not positive.
        TypeError: conditions that are no real numbers.
    """

    def __init__(
        self,
        points: Numbers,
        weights: Numbers | None = None,
        *,
        source: str | Sampler = "normal",
        labels: Any = None,
        conditions: Any = None,
        kappa: float | None = None,
    ) -> None:
        super().__init__(points, weights, source=source)
        if labels is not None:
            raise ValueError("labels make a map for each class, conditions one for all: give one of them")
        given = check_array(conditions, "conditions").astype(np.float64)
        if len(given) != len(self.points):
            raise ValueError(f"conditions must be {len(self.points):,}, one for each point, got {len(given):,}")
        if kappa is not None and not 0 < kappa < math.inf:
            raise ValueError(f"kappa must be positive and finite, got {kappa}: it weighs conditions against points")
        self.conditions = torch.from_numpy(given.reshape(len(given), -1))
        if bool((self.conditions == self.conditions[0]).all()):
            raise ValueError("all points have the same condition: leave conditions out")
        self.labels, self._middle = self.conditions, self.weights @ self.conditions
        self.kappa, self.chosen = math.nan if kappa is None else float(kappa), kappa is None
        self.joint: SemiDiscrete | None = None if kappa is None else self._with(self.kappa)

    @property
    def size(self) -> int:
        """The number of cells."""
        return super().size if self.joint is None else self.joint.size

    @property
    def cell_of(self) -> NDArray[np.intp]:
        """Of each point the number of its cell, that of the first point that shares it; -1 without weight; (N,)."""
        return self._found().cell_of

    def fit(
        self,
        tolerance: float = 0.02,
        *,
        minutes: float | None = None,
        seed: int = 0,
        start: SemiDiscrete | None = None,
        resume: bool = False,
        checkpoint: Callable[[], object] | None = None,
        progress: bool = True,
    ) -> Self:
        """Choose kappa, where it was not given, and find the heights: see `SemiDiscrete.fit`.

        Args:
            tolerance: as there.
            minutes: as there; choosing kappa counts.
            seed: as there.
            start: a fitted map with conditions, whose kappa is taken where none was given.
            resume: as there.
            checkpoint: as there.
            progress: as there.

        Warns:
            UserWarning: pairs are skewed at the kappa that was chosen, which is kept.

        Raises:
            ValueError: as there; a map to start from without conditions.
        """
        seed, begun = whole_number(seed, "seed", 0), time.monotonic()
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        if start is not None and not isinstance(start, ByCondition):
            raise ValueError("the map to start from has no conditions")
        known = None if start is None else start._found()
        choose = self.joint is None and start is None
        if self.joint is None and start is not None:
            self._take(start.kappa)
        if choose:
            self._take(self._guess(max(tolerance, ROUGH), seed))

        def save() -> None:
            self._collect(begun)
            if checkpoint is not None:
                checkpoint()

        raised = 0
        while True:
            joint = self._found(fitted=False)
            left = None if minutes is None else max(minutes - (time.monotonic() - begun) / 60, 1e-3)
            try:
                joint.fit(
                    tolerance, minutes=left, seed=seed, start=known, resume=resume, checkpoint=save, progress=progress
                )
            finally:
                if joint.heights is not None:
                    self._collect(begun)
            assert joint.result is not None
            if not choose or self._passes(seed, raised):
                return self
            if raised == RAISED or joint.result.stopped == "minutes":
                warnings.warn(
                    f"noise depends on the condition of its datum at kappa {self.kappa:.3g}, the last that was tried, "
                    "and what is told a condition would start from the wrong law: give a larger kappa",
                    stacklevel=2,
                )
                return self
            known, raised = joint, raised + 1
            self._take(self.kappa * RATIO)

    def skew(self, seed: int = 0) -> Skew:
        """Whether noise depends on the condition of its datum, by 2,000 pairs: see `skew_test`."""
        x, index = self.draw_pairs(TESTED, generator_for(seed, 0xCA))
        return skew_test(x, self.conditions[index.cpu()], seed=seed)

    @arrays_too()
    def cells(self, x: Float[Tensor, "n d"], condition: Any = None) -> Int[Tensor, " n"]:
        """The number of the point that each x is carried to, told its condition, shape (n,)."""
        return self._found().cells(self._beside(x, condition))

    @arrays_too()
    def top(
        self, x: Float[Tensor, "n d"], k: int, condition: Any = None
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The k largest scores <x, y_i> + kappa^2 <c, c_i> + h_i at each x, descending, and their points' numbers.

        Conditions are counted from their mean.

        Raises:
            ValueError: there are not k cells.
        """
        return self._found().top(self._beside(x, condition), k)

    def draw_pairs(self, n: int, generator: torch.Generator, family: int = 1) -> tuple[Tensor, Tensor]:
        """n points of the source, shape (n, d), and the number of the datum of each, shape (n,)."""
        if family != 1:
            raise ValueError("families are made of maps without conditions: leave family out")
        x, index = self._found().draw_pairs(n, generator)
        return x[:, : self.dim], index

    def data(self, x: Float[Tensor, "n d"], shares: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Refused: which datum is that of x depends on a condition.

        Raises:
            ValueError: always.
        """
        raise ValueError("a map with conditions pairs noise and data by draw_pairs, or by cells with condition=")

    def sample(self, n: int, seed: int = 0, condition: Any = None) -> Float[Tensor, "n d"]:
        """n independent points of the image: told one condition, or those of the data by their weights."""
        if condition is not None:
            return self.map(self.draw(n, seed), condition)
        _, index = self.draw_pairs(n, torch.Generator().manual_seed(whole_number(seed, "seed", 0)))
        return self.points[index]

    def marginal_error(self, samples: int = FRESH, seed: int = 1) -> MarginalError:
        """Hold the masses of the cells against the weights, on fresh independent draws, also of conditions."""
        return self._found().marginal_error(samples, seed)

    def w2(self, samples: int = 2**17, seed: int = 1) -> Cost:
        """W2 between (x, kappa c) and the points (y, kappa c): see `Cost`."""
        return self._found().w2(samples, seed)

    def to_dataset(self) -> xr.Dataset:
        """Points, weights, heights and conditions, with kappa and how the fit went, as a dataset."""
        found = super().to_dataset()
        own = {"kappa": self.kappa, "kappa_chosen": int(self.chosen)}
        return found.assign(conditions=(("point", "coordinate"), self.conditions.numpy())).assign_attrs(own)

    def _adopt(self, data: xr.Dataset) -> None:
        super()._adopt(data)
        self._take(float(data.attrs["kappa"]))
        self.chosen = bool(data.attrs.get("kappa_chosen", 0))
        joint = self._found(fitted=False)
        joint.heights, joint.result = self.heights, self.result

    def _collect(self, begun: float) -> None:
        joint = self._found()
        assert joint.result is not None
        self.heights, self.result = joint.heights, replace(joint.result, seconds=time.monotonic() - begun)

    @property
    def _unit(self) -> float:
        """Of kappa: the spread of points over that of conditions."""
        return (_spread(self.points, self.weights) or 1.0) / _spread(self.conditions, self.weights)

    def _take(self, kappa: float) -> None:
        self.kappa, self.joint = kappa, self._with(kappa)

    def _guess(self, tolerance: float, seed: int) -> float:
        """The least kappa on a grid at which pairs with some of the points are not skewed, by halving the grid."""
        rows = np.arange(len(self.points))
        if len(rows) > SOME:
            masses = self.weights.numpy()
            size = min(SOME, np.count_nonzero(masses))
            rows = np.random.default_rng((seed, 0xCA)).choice(rows, size, replace=False, p=masses)
        some, conditions = self.points[torch.from_numpy(rows).to(self.points.device)], self.conditions[rows]
        source = self.source if self.source in KINDS else self._source.draw
        low, high, last = 0, TRIALS, None
        while low < high:
            middle = (low + high) // 2
            kappa = FIRST * RATIO**middle * self._unit
            few = ByCondition(some, source=source, conditions=conditions, kappa=kappa)
            last = few.fit(tolerance, minutes=PATIENCE, seed=seed, start=last, progress=False)
            low, high = (low, middle) if few._passes(seed, middle) else (middle + 1, high)
        return FIRST * RATIO**low * self._unit

    def _passes(self, seed: int, trial: int) -> bool:
        """Whether no dependence of noise on the condition is seen."""
        x, index = self.draw_pairs(STRICTER * TESTED, generator_for(seed, 0xCA, trial))
        told = self.conditions[index.cpu()].numpy()
        return not depends(x.double().cpu().numpy(), told, exchanges=EXCHANGES, seed=seed)

    def _with(self, kappa: float) -> SemiDiscrete:
        """The map between noise and data that have conditions beside them, of weight kappa."""
        beside = (kappa * (self.conditions - self._middle)).to(self.points.device)
        source = partial(_drawn, self._source.draw, beside.float().cpu(), self.weights)
        return SemiDiscrete(torch.cat([self.points.double(), beside], 1), self.weights, source=source)

    def _found(self, fitted: bool = True) -> SemiDiscrete:
        if self.joint is None or (fitted and self.joint.heights is None):
            raise ValueError("the map has not been fitted yet: call fit first")
        return self.joint

    def _beside(self, x: Tensor, condition: Any) -> Float[Tensor, "n wide"]:
        """x with its conditions beside it, in the unit of the scores."""
        as_points(x, "x", dim=self.dim, least=0, note=", as the points have")
        k = self.conditions.shape[1]
        if condition is None:
            raise ValueError(f"this map has conditions of {k}: say condition=, one for all x or one for each")
        given = condition.detach().cpu().numpy() if isinstance(condition, Tensor) else np.asarray(condition)
        if given.shape not in ((), (k,), (len(x), k)) and not (k == 1 and given.shape == (len(x),)):
            raise ValueError(f"condition must be ({k},), one for all x, or ({len(x)}, {k}), got shape {given.shape}")
        c = torch.as_tensor(given, dtype=torch.float64).reshape(-1, k).expand(len(x), k)
        if not bool(torch.isfinite(c).all()):
            raise ValueError("condition holds values that are not finite")
        return torch.cat([x.double(), (self.kappa * (c - self._middle)).to(x.device)], 1)


def _drawn(draw: Sampler, beside: Tensor, weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Noise, and conditions of the data by their weights beside it; noise is drawn first."""
    x = draw(n, generator)
    share = torch.rand(n, generator=generator, dtype=torch.float64)
    rows = torch.searchsorted(weights.cumsum(0), share, right=True).clamp(max=len(weights) - 1)
    return torch.cat([x, beside[rows]], 1)


def _spread(rows: Tensor, weights: Tensor) -> float:
    """Root mean squared distance from the mean."""
    rows = rows.double().cpu()
    return math.sqrt(float(weights @ (rows - weights @ rows).square().sum(1)))
