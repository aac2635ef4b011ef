"""A map for each class of the data, as one: noise that is to make a given class is carried to the points of that class.

A map that ignores labels carries some noises to one class and some to another: given the label, noise is no longer
normal, and a network that samples with a fixed label starts from the wrong law ("skew"). With the optimal map to each
class apart, noise and label are independent, and the paths of each class are as straight as they can be.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.checks import whole_number
from brenier.core.points import Numbers, arrays_too, as_labels
from brenier.core.random import seeds
from brenier.core.reading.files import choices
from brenier.transport.cost import Cost
from brenier.transport.semidiscrete.fitted import Fitted, Stopped
from brenier.transport.semidiscrete.map import SemiDiscrete
from brenier.transport.semidiscrete.measures import MarginalError
from brenier.transport.semidiscrete.sources import Sampler

WORST: tuple[Stopped, ...] = ("interrupted", "minutes", "tolerance", "exact")  # what a fit of several parts ended by
RARE = 512  # draws that the masses of a class are counted from at least


class ByClass(SemiDiscrete, by="labels"):
    """What `SemiDiscrete(points, labels=...)` makes; conditions are labels, one for all x or one for each.

    Attributes:
        labels: the label of each point, shape (N,), int64: as given where labels are whole numbers, else its number
            among `classes`.
        classes: the labels that there are, in order.
        shares: weight of each class, shape (classes,).
        parts: the map of each class.

    Raises:
        ValueError: labels of another number, or of which one is missing; a class without weight.
        TypeError: labels that are neither whole numbers nor words.
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
        if conditions is not None or kappa is not None:
            raise ValueError("labels make a map for each class, conditions one for all: give one of them")
        super().__init__(points, weights, source=source)
        known = as_labels(labels, len(self.points))
        self.classes, code = np.unique(known, return_inverse=True)
        self._code = torch.from_numpy(code.ravel().astype(np.int64))
        self.labels: Tensor | None = self._code
        if self.classes.dtype.kind != "U":
            self.labels = torch.from_numpy(known)
        self.shares = torch.zeros(len(self.classes), dtype=torch.float64).index_add_(0, self._code, self.weights)
        if bool((self.shares == 0).any()):
            raise ValueError(f"class {self.classes[int(self.shares.argmin())]} has no weight: leave its points out")
        self._rows = [torch.nonzero(self._code == k)[:, 0] for k in range(len(self.classes))]
        self.parts = [
            SemiDiscrete(self.points[rows.to(self.points.device)], self.weights[rows] / share, source=source)
            for rows, share in zip(self._rows, self.shares, strict=True)
        ]

    @property
    def size(self) -> int:
        """The number of cells, of all classes."""
        return sum(part.size for part in self.parts)

    @property
    def cell_of(self) -> NDArray[np.intp]:
        """Of each point the number of its cell, that of the first point that shares it; -1 without weight; (N,)."""
        found = np.full(len(self.points), -1)
        for rows, part in zip(self._rows, self.parts, strict=True):
            own = part.cell_of
            found[rows.numpy()] = np.where(own >= 0, rows.numpy()[own], -1)
        return found

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
        """Find the heights of each class, one after another: see `SemiDiscrete.fit`.

        Args:
            tolerance: of each class, so that all together are off by no more.
            minutes: for all; what one class leaves is for those that follow.
            seed: of all random numbers.
            start: a fitted map with the same classes.
            resume: whether the fits of `start` go on: of the classes that it had not finished.
            checkpoint: as there.
            progress: as there.

        Raises:
            ValueError: as there; a map to start from with other classes.
        """
        seed, begun = whole_number(seed, "seed", 0), time.monotonic()
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        others = self._parts_of(self if start is None else start, start is not None)

        def save() -> None:
            self._collect(begun, tolerance, seed)
            if checkpoint is not None:
                checkpoint()

        try:
            for k, (part, other) in enumerate(zip(self.parts, others, strict=True)):
                done = other.result
                finished = done is not None and (
                    done.stopped == "exact" or (done.stopped == "tolerance" and done.tolerance <= tolerance)
                )
                if resume and finished:
                    part._averaged(other)  # refuses other points
                    part.heights, part.result = other.heights, done
                    continue
                left = None if minutes is None else max(minutes - (time.monotonic() - begun) / 60, 1e-3)
                part.fit(
                    tolerance,
                    minutes=None if left is None else left / (len(self.parts) - k),
                    seed=seeds(seed, k)[0],
                    start=other if done is not None and done.samples > 0 else None,
                    resume=resume and done is not None and done.samples > 0,
                    checkpoint=save,
                    progress=progress,
                )
        finally:
            self._collect(begun, tolerance, seed)
        return self

    @arrays_too()
    def cells(self, x: Float[Tensor, "n d"], condition: Any = None) -> Int[Tensor, " n"]:
        """The number of the point, one of the class asked for, that each x is carried to, shape (n,)."""
        found = torch.empty(len(x), dtype=torch.long, device=self.points.device)
        for part, rows, at in self._each(x, condition):
            found[at] = rows[part.cells(x[at])]
        return found

    @arrays_too()
    def top(
        self, x: Float[Tensor, "n d"], k: int, condition: Any = None
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The k largest scores of the class asked for at each x, descending, and the numbers of their points.

        Where a class has fewer than k cells, what is missing has the score -inf and the last point again.

        Raises:
            ValueError: there are not k cells.
        """
        k = whole_number(k, "k", 1, self.size)
        scores = torch.full((len(x), k), -torch.inf, dtype=torch.float64, device=self.points.device)
        places = torch.empty(len(x), k, dtype=torch.long, device=self.points.device)
        for part, rows, at in self._each(x, condition):
            there = min(k, part.size)
            found, own = part.top(x[at], there)
            scores[at[:, None], torch.arange(there)] = found
            places[at] = rows[own][:, torch.arange(k).clamp(max=there - 1)]
        return scores, places

    def draw_labels(self, n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """n labels by the weights of the classes."""
        share = torch.rand(n, generator=generator, dtype=torch.float64)
        code = torch.searchsorted(self.shares.cumsum(0), share, right=True).clamp(max=len(self.classes) - 1)
        return code if self.classes.dtype.kind == "U" else torch.from_numpy(self.classes.astype(np.int64))[code]

    def draw_pairs(self, n: int, generator: torch.Generator, family: int = 1) -> tuple[Tensor, Tensor]:
        """n points of the source, shape (n, d), and the number of the datum of each, shape (n,), classes by weight."""
        if family != 1:
            raise ValueError("families are made of maps without labels: leave family out")
        x, labels = self.draw(n, generator), self.draw_labels(n, generator)
        shares = torch.rand(n, generator=generator, dtype=torch.float64)
        found = torch.empty(n, dtype=torch.long, device=self.points.device)
        for part, rows, at in self._each(x, labels):
            found[at] = rows[part.data(x[at], shares[at.cpu()])]
        return x, found

    def sample(self, n: int, seed: int = 0, condition: Any = None) -> Float[Tensor, "n d"]:
        """n independent points of the image: of the class asked for, or of all by their weights."""
        x = self.draw(n, seed)
        return self.map(x, self.draw_labels(n, torch.Generator().manual_seed(seed)) if condition is None else condition)

    def marginal_error(self, samples: int = 2**20, seed: int = 1) -> MarginalError:
        """Hold the masses of the cells against the weights, by draws for each class: see `SemiDiscrete`."""
        number = whole_number(samples, "samples", 512)
        found = [
            part.marginal_error(max(RARE, round(number * share)), seeds(seed, k)[0])
            for k, (part, share) in enumerate(zip(self.parts, self.shares.tolist(), strict=True))
        ]
        return MarginalError.joined(found, self.shares.numpy())

    def w2(self, samples: int = 2**17, seed: int = 1) -> Cost:
        """The root of the mean of W2^2 over the classes, by their weights: see `Cost`."""
        number = whole_number(samples, "samples", 2)
        found = [
            part.w2(max(2, round(number * share)), seeds(seed, k)[0])
            for k, (part, share) in enumerate(zip(self.parts, self.shares.tolist(), strict=True))
        ]
        return Cost.joined(found, self.shares.numpy())

    def to_dataset(self) -> xr.Dataset:
        """Points, weights, heights and labels, with how the fit of each class went, as a dataset."""
        found = super().to_dataset()
        assert self.labels is not None
        fits = [part.result or _unfitted(0.0, 0) for part in self.parts]
        return found.assign(
            {"labels": ("point", self.labels.numpy()), "class": ("class", self.classes)}
            | {f"class_{name}": ("class", [vars(fit)[name] for fit in fits]) for name in KEPT}
        )

    def _adopt(self, data: xr.Dataset) -> None:
        super()._adopt(data)
        assert self.result is not None
        assert self.heights is not None
        for k, (rows, part) in enumerate(zip(self._rows, self.parts, strict=True)):
            part.heights = self.heights[rows.to(self.heights.device)]
            own = {name: data[f"class_{name}"].values[k].item() for name in KEPT}
            part.result = Fitted(**{**vars(self.result), **own})

    def _collect(self, begun: float, tolerance: float, seed: int) -> None:
        """The heights of all classes, 0 where there are none yet, and how their fits went."""
        fits = [part.result or _unfitted(tolerance, seed) for part in self.parts]
        stopped = [fit.stopped for fit in fits]
        heights = torch.zeros(len(self.points), dtype=torch.float64)
        for rows, part in zip(self._rows, self.parts, strict=True):
            if part.heights is not None:
                heights[rows] = part.heights.cpu()
        self.heights = heights.to(self.points.device)
        self.result = Fitted(
            next(end for end in WORST if end in stopped),
            tolerance,
            sum(fit.samples for fit in fits),
            time.monotonic() - begun,
            float(self.shares.numpy() @ np.array([fit.excess for fit in fits])),
            seed,
            sum(fit.averaged for fit in fits),
        )

    def _parts_of(self, other: SemiDiscrete, needed: bool) -> list[SemiDiscrete]:
        if not isinstance(other, ByClass) or not np.array_equal(other.classes, self.classes):
            raise ValueError("the map to start from has other classes, or none")
        if needed and other.result is None:
            raise ValueError("the map to start from has not been fitted yet")
        return other.parts

    def _each(self, x: Tensor, condition: Any) -> Iterator[tuple[SemiDiscrete, Tensor, Tensor]]:
        """Of each class asked for: its map, the numbers of its points, and which x it is asked for."""
        self._checked(x, None)
        code = self._codes(condition, len(x))
        for k in code.unique().tolist():
            yield self.parts[k], self._rows[k].to(self.points.device), torch.nonzero(code == k)[:, 0].to(x.device)

    def _codes(self, condition: Any, n: int) -> Int[Tensor, " n"]:
        """Numbers among the classes; those of words may be given, too."""
        known = f"the classes of this map are {choices([str(name) for name in self.classes])}"
        if condition is None:
            raise ValueError(f"this map is one for each class: say condition=, one for all x or one for each; {known}")
        given = np.asarray(condition.cpu() if isinstance(condition, Tensor) else condition)
        if given.shape not in ((), (n,)):
            raise ValueError(f"condition must be one label, or one for each of {n} x, got shape {given.shape}")
        classes = self.classes if given.dtype.kind == self.classes.dtype.kind else np.arange(len(self.classes))
        if given.dtype.kind not in "iuU" or (given.dtype.kind == "U" and self.classes.dtype.kind != "U"):
            raise ValueError(f"condition must be of the labels, got {given.dtype}: {known}")
        code = np.searchsorted(classes, given).clip(max=len(classes) - 1)
        if (wrong := np.atleast_1d(classes[code] != given)).any():
            raise ValueError(f"there is no class {np.atleast_1d(given)[wrong][0]}: {known}")
        return torch.from_numpy(np.broadcast_to(code, n).astype(np.int64))


KEPT = ("stopped", "samples", "excess", "averaged")  # of the fit of each class, in a file


def _unfitted(tolerance: float, seed: int) -> Fitted:
    return Fitted("interrupted", tolerance, 0, 0.0, float("nan"), seed)
