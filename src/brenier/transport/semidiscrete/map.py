"""Semi-discrete optimal transport: from a law with a density to finitely many points.

For the quadratic cost the optimal map from nu to sum b_i delta_{y_i} is the gradient of Brenier's potential, a maximum
of finitely many affine functions (Aurenhammer, Hoffmann, Aronov, Algorithmica 20, 1998; arXiv:2307.11308, Section 3),

    u(x) = max_i <x, y_i> + h_i,        x -> y_i where i attains it,        nu(cell i) = b_i,

and the heights h, unique up to a constant, minimise E u(X) - <b, h>. `ascent` finds them; here are the problem, its
map, and how good a solution is, measured on draws that the fit has not seen.
"""

import os
import time
from collections.abc import Callable
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core import records
from brenier.core.checks import Array, whole_number
from brenier.core.points import Numbers, arrays_too, as_points
from brenier.core.random import seeds
from brenier.core.reading.values import check_array
from brenier.core.work import usable_device
from brenier.core.writing import atomic_path, write_dataset
from brenier.transport.cost import Cost
from brenier.transport.semidiscrete.ascent import FEW, check_tolerance
from brenier.transport.semidiscrete.cells import BLOCKS, Cells
from brenier.transport.semidiscrete.distinct import Distinct, check_weights
from brenier.transport.semidiscrete.facets import check_threshold, leading_angle, regular
from brenier.transport.semidiscrete.fitted import Fitted, as_dataset, read_fit, told_in
from brenier.transport.semidiscrete.fitting import fit_heights
from brenier.transport.semidiscrete.measures import MarginalError, cost_of
from brenier.transport.semidiscrete.pairs import Pairs
from brenier.transport.semidiscrete.recorded import Recording
from brenier.transport.semidiscrete.sources import Sampler, find_source
from brenier.transport.semidiscrete.starts import best_start, carried, guess, line_heights

FRESH = 2**20  # draws that a map is judged by
PART = 4096  # of them at a time
KINDS = ("normal", "uniform")


class SemiDiscrete:
    """Transport from a source to weighted points, for the quadratic cost.

    Args:
        points: y, shape (N, d); an array, or a tensor (on the device on which to compute).
        weights: b, shape (N,). Default: equal. They are brought to the sum 1, with a warning where they were not there.
            A point of weight 0 gets no cell, its height is -inf. Points that are the same share one cell: all have its
            height, and `cells` names the first; so, with a warning, do points that differ by less than single precision
            of their spread.
        labels: a class for each point, shape (N,), whole numbers or words: there is then a map for each class, `map`
            and others take `condition=`, and pairs come with labels; see `ByClass`.
        conditions: real numbers for each point, shape (N, k), instead: the map listens to these; see `ByCondition`.
        kappa: the weight of these conditions. Default: chosen by `fit`.
        source: "normal", N(0, I); "uniform", on [0, 1]^d; or a function that takes n and a `torch.Generator` and
            returns points of shape (n, d).

    Attributes:
        points: as given, shape (N, d), float32 or float64.
        weights: shape (N,), sum 1, float64.
        source: its name.
        heights: shape (N,), float64, with weighted mean 0; None before `fit`.
        result: how the last fit went; None before.
        labels: the class or conditions of each point; None for a map without.

    Raises:
        ValueError: no points, NaN, negative weights, weights of another number or without any above 0.
    """

    labels: Tensor | None = None
    _told: ClassVar[dict[str, type["SemiDiscrete"]]] = {}  # those of labels and of conditions, which know this one

    def __init_subclass__(cls, by: str) -> None:
        SemiDiscrete._told[by] = cls

    def __new__(cls, *_: Any, **named: Any) -> Self:
        """As `pathlib.Path` does: with labels or conditions, one of the class for these."""
        by = next((name for name in SemiDiscrete._told if named.get(name) is not None), None)
        return cast(Self, object.__new__(cls if by is None else SemiDiscrete._told[by]))

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
        if kappa is not None and conditions is None:
            raise ValueError("kappa is the weight of conditions: give these, too")
        device = points.device if isinstance(points, Tensor) else torch.device("cpu")
        array = check_array(points, "points")
        rows = array.reshape(len(array), -1)
        b = check_weights(weights, len(rows))
        self.points, self.weights = torch.from_numpy(rows).to(device), torch.from_numpy(b)
        self._source = find_source(source, self.dim)
        self.source = self._source.name
        self.heights: Float[Tensor, " N"] | None = None
        self.result: Fitted | None = None
        self._distinct = Distinct.of(rows, b)
        self._points = torch.from_numpy(self._distinct.scaled).to(device)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.points.shape[1])

    @property
    def cell_of(self) -> NDArray[np.intp]:
        """Of each point the number of its cell, that of the first point that shares it; -1 without weight; (N,)."""
        own = self._distinct
        return np.where(own.cell >= 0, own.first[own.cell], -1)

    @property
    def size(self) -> int:
        """The number of cells: of different points of positive weight."""
        return len(self._distinct.masses)

    def fit(
        self,
        tolerance: float = 0.02,
        *,
        minutes: float | None = None,
        seed: int = 0,
        start: "SemiDiscrete | None" = None,
        resume: bool = False,
        checkpoint: Callable[[], object] | None = None,
        progress: bool = True,
    ) -> Self:
        """Find the heights. On the line, with a known source, in closed form.

        Args:
            tolerance: of the measured total variation between masses and weights, in excess of sampling noise, where
                the fit stops.
            minutes: after which it stops, too. Default: none.
            seed: of all random numbers.
            start: a fitted map to these points, or to some of them or others nearby, to start from. Default: this map,
                where it was fitted before, else a guess.
            resume: whether the fit of `start` goes on, and what it has averaged counts: for a fit that was interrupted.
            checkpoint: what to call about every minute, when the heights so far are in place to be saved.
            progress: show a bar on stderr, where that is a terminal.

        Returns:
            Itself; `result` says how it went. After Ctrl-C the heights so far are kept, and another `fit` goes on.

        Raises:
            ValueError: an argument is out of range, or the tolerance is below what any number of draws could tell;
                a fit to resume of another map.
        """
        seed = whole_number(seed, "seed", 0)
        check_tolerance(tolerance)
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        begun = time.monotonic()
        masses = self._distinct.masses
        averaged = self._averaged(self if start is None else start) if resume else 0
        if self.size == 1 or (self.dim == 1 and self.source in KINDS):
            line = self._places()[:, 0] / self._distinct.unit
            self._keep(np.zeros(1) if self.size == 1 else line_heights(line, masses, self.source))
            self.result = Fitted("exact", tolerance, 0, time.monotonic() - begun, 0.0, seed)
            return self
        check_tolerance(tolerance, self.size)
        cells = Cells(self._points, self._source, seed)

        def keep(heights: Array, how: Fitted) -> None:
            self._keep(heights)
            self.result = how

        fit_heights(
            cells,
            masses,
            lambda: self._start(cells, start, seed),
            tolerance,
            seed=seed,
            averaged=averaged,
            begun=begun,
            minutes=minutes,
            keep=keep,
            checkpoint=checkpoint,
            progress=progress,
        )
        return self

    @arrays_too()
    def potential(self, x: Float[Tensor, "n d"], condition: Any = None) -> Float[Tensor, " n"]:
        """Brenier's potential u(x) = max_i <x, y_i> + h_i, shape (n,), in float64."""
        return self.top(x, 1, condition)[0][:, 0]

    @arrays_too()
    def cells(self, x: Float[Tensor, "n d"], condition: Any = None) -> Int[Tensor, " n"]:
        """The number of the point that each x is carried to, shape (n,)."""
        won = self._scorer().winners(self._checked(x, condition).detach(), self._inner())
        return torch.from_numpy(self._distinct.first).to(won.device)[won]

    @arrays_too()
    def map(self, x: Float[Tensor, "n d"], condition: Any = None) -> Float[Tensor, "n d"]:
        """The point that each x is carried to, shape (n, d): the gradient of the potential."""
        return self.points[self.cells(x, condition).to(self.points.device)]

    @arrays_too()
    def top(
        self, x: Float[Tensor, "n d"], k: int, condition: Any = None
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The k largest scores <x, y_i> + h_i at each x, descending, and the numbers of their points.

        Raises:
            ValueError: there are not k cells.
        """
        k = whole_number(k, "k", 1, self.size)
        x = self._checked(x, condition)
        values, places = self._scorer().top(x, self._inner(), k)
        common = x.double() @ torch.from_numpy(self._distinct.centre).to(x.device)
        scores = self._distinct.unit * values.double() + common[:, None]
        return scores, torch.from_numpy(self._distinct.first).to(x.device)[places]

    @arrays_too()
    def dihedral_angle(self, x: Float[Tensor, "n d"], k: int = 2, condition: Any = None) -> Float[Tensor, " n"]:
        """The angle at which the faces of the two leading cells at x meet, or the largest to the k - 1 that follow.

        Args:
            x: shape (n, d).
            k: leading cells to look at.
            condition: the class or the condition, where the map knows some.

        Returns:
            Angles in radians, from 0 to pi, shape (n,), float64; see `facets`.

        Raises:
            ValueError: k is below 2, or there are not k cells; x of another dimension.
        """
        _, places = self.top(x, whole_number(k, "k", 2), condition)
        return torch.cat([leading_angle(self.points[part].double()) for part in places.split(PART)])

    @arrays_too()
    def singular(self, x: Float[Tensor, "n d"], threshold: float, condition: Any = None) -> Bool[Tensor, " n"]:
        """Whether the two leading cells at x meet at an angle above the threshold: whether the map jumps nearby.

        Raises:
            ValueError: the threshold is not an angle from 0 to pi; there is but one cell; x of another dimension.
        """
        return self.dihedral_angle(x, 2, condition) > check_threshold(threshold)

    def draw(self, n: int, seed: int | torch.Generator = 0) -> Float[Tensor, "n d"]:
        """n independent points of the source; with a generator in place of a seed, the next n."""
        generator = seed if isinstance(seed, torch.Generator) else None
        generator = generator or torch.Generator().manual_seed(whole_number(seed, "seed", 0))
        return self._source.draw(whole_number(n, "n", 0), generator).to(self.points.device)

    def draw_regular(self, n: int, *, threshold: float, seed: int = 0, condition: Any = None) -> Float[Tensor, "n d"]:
        """n points of the source, given that they are not singular: those that are, are drawn anew.

        Raises:
            ValueError: fewer than one draw in a thousand is accepted; as `singular`.
        """
        n, seed = whole_number(n, "n", 0), whole_number(seed, "seed", 0)

        def trial(drawn: int) -> tuple[Tensor, Tensor]:
            x = self.draw(PART, seeds(seed, drawn)[0])
            return x, self.dihedral_angle(x, condition=condition)

        return regular(trial, n, check_threshold(threshold)) if n > 0 else self.draw(0)

    def draw_pairs(self, n: int, generator: torch.Generator, family: int = 1) -> tuple[Tensor, Tensor]:
        """n points of the source, shape (n, d), and the number of the datum of each, shape (n,).

        Of points that share a cell each gets its share by weight. What pairs are made of; see `pairs`.

        Args:
            n: how many.
            generator: of the random numbers.
            family: as for `pairs`.
        """
        x, won = self._scorer().paired(self._inner(), n, generator, family)
        return x, self._chosen(won, torch.rand(n, generator=generator, dtype=torch.float64))

    def data(self, x: Float[Tensor, "n d"], shares: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The number of the datum of each x; of those that share its cell, by a uniform number in [0, 1) for each x."""
        return self._chosen(self._scorer().winners(self._checked(x), self._inner()), shares)

    def _chosen(self, won: Int[Tensor, " n"], shares: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        found = self._distinct.choose(won.cpu().numpy(), self.weights.numpy(), shares.numpy())
        return torch.from_numpy(found).to(won.device)

    def pairs(self, batch: int = 256, seed: int = 0, *, family: int = 1, rank: int = 0, world: int = 1) -> Pairs:
        """Batches of noise and numbers of data, without end: see `Pairs`, whose arguments these are."""
        return Pairs(self, batch, seed, family=family, rank=rank, world=world)

    def record(self, n: int, seed: int = 0, *, equal: bool = False, progress: bool = True) -> Recording:
        """n pairs to keep: see `Recording.of`, whose arguments these are."""
        return Recording.of(self, n, seed, equal=equal, progress=progress)

    def sample(self, n: int, seed: int = 0, condition: Any = None) -> Float[Tensor, "n d"]:
        """n independent points of the image: where the map carries `draw(n, seed)`."""
        return self.map(self.draw(n, seed), condition)

    def marginal_error(self, samples: int = FRESH, seed: int = 1) -> MarginalError:
        """Hold the masses of the cells against the weights, on fresh independent draws.

        Args:
            samples: draws, at least 512; they are rounded up to whole families.
            seed: of the draws, which are never those of a fit.
        """
        cells = self._scorer()
        families = max(BLOCKS, -(-whole_number(samples, "samples", 512) // cells.plain))
        tally = cells.tally(
            self._inner().double().cpu().numpy(), families, (whole_number(seed, "seed", 0), 0xE), independent=True
        )
        return MarginalError.of(tally, self._distinct.masses)

    def w2(self, samples: int = 2**17, seed: int = 1) -> Cost:
        """W2 between the source and the points, by the map and by the heights; see `Cost`."""
        weights, points = self.weights.double(), self.points.double().cpu()
        heights = self._distinct.unit * self._inner().double().cpu()
        constant = float(weights @ points.square().sum(1) + 2 * (torch.from_numpy(self._distinct.masses) @ heights))
        with self._scorer().working() as over:
            return cost_of(self, constant, over, whole_number(samples, "samples", 2), whole_number(seed, "seed", 0))

    def moments(self) -> tuple[Array, float]:
        """Mean of the points, shape (d,), and of their squared lengths, by weight."""
        points, b = self.points.double().cpu(), self.weights.double()
        return (b @ points).numpy(), float(b @ points.square().sum(1))

    def to_dataset(self) -> xr.Dataset:
        """Points, weights and heights, with how they were fitted and how well, as a dataset."""
        if self.heights is None or self.result is None:
            raise ValueError("the map has not been fitted yet: call fit first")
        return as_dataset(self.points, self.weights, self.heights, self.result, source=self.source, cells=self.size)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write `to_dataset` as netCDF, whole or not at all.

        Raises:
            ValueError: nothing was fitted, or the file exists or cannot be written.
        """
        data = self.to_dataset()
        with atomic_path(path, force) as draft:
            write_dataset(data, draft)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, source: Sampler | None = None, device: torch.device | str | None = None
    ) -> Self:
        """Read what `save` or `brenier transport` wrote.

        Args:
            path: of the file.
            source: where it was a function, that function.
            device: on which to compute. Default: the CPU.

        Raises:
            ValueError: no such file, or something else in it; a function was the source and is not given.
        """
        data = records.read(path, "transport")
        try:
            return cls.from_dataset(data, source=source, device=device)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)!r}: {error}") from None

    @classmethod
    def from_dataset(
        cls, data: xr.Dataset, *, source: Sampler | None = None, device: torch.device | str | None = None
    ) -> Self:
        """The map that `to_dataset` describes; source and device as for `load`."""
        records.check(data, "transport")
        name = str(data.attrs["source"])
        if name not in KINDS and source is None:
            raise ValueError("the map was fitted for a source of yours: give that function, too")
        points = torch.as_tensor(data["points"].values, device=usable_device(device))
        found = cls(points, data["weights"].values, source=name if source is None else source, **told_in(data))
        found._adopt(data)
        return found

    def _adopt(self, data: xr.Dataset) -> None:
        """Take heights, and how they were found, from a dataset."""
        heights, self.result = read_fit(data, self.weights)
        self.heights = heights.to(self.points.device)

    def _keep(self, inner: Array) -> None:
        own = self._distinct
        heights = own.unit * (inner - own.masses @ inner)
        whole = np.where(own.cell >= 0, heights[own.cell], -np.inf)
        self.heights = torch.from_numpy(whole).to(self.points.device)

    def _inner(self) -> Float[Tensor, " cells"]:
        """Heights of the cells in units of the points' spread, as scores need them."""
        if self.heights is None:
            raise ValueError("the map has not been fitted yet: call fit first")
        first = torch.from_numpy(self._distinct.first).to(self.heights.device)
        return (self.heights[first] / self._distinct.unit).to(self._points)

    def _scorer(self) -> Cells:
        return Cells(self._points, self._source)

    def _checked(self, x: Tensor, condition: Any = None) -> Tensor:
        if condition is not None:
            raise ValueError("this map was fitted without labels or conditions: leave condition out")
        as_points(x, "x", dim=self.dim, least=0, note=", as the points have")
        return x.to(self._points)

    def _start(self, cells: Cells, start: "SemiDiscrete | None", seed: int) -> Array:
        other, masses, unit = self if start is None else start, self._distinct.masses, self._distinct.unit
        if other.heights is None:
            if start is not None:
                raise ValueError("the map to start from has not been fitted yet")
            return guess(cells, masses, (seed, 0x57), self.dim <= FEW)
        if other.dim != self.dim:
            raise ValueError(f"the map to start from is in {other.dim} dimensions, this one in {self.dim}")
        theirs = other._inner().double().cpu().numpy() * other._distinct.unit
        if self._leads_where(other):
            return theirs / unit
        few = Cells(other._points, other._source, seed)
        found = carried(few, theirs, other._distinct.unit, other._places(), self._places(), seed) / unit
        return best_start(cells, masses, [found, guess(cells, masses, (seed, 0x57), False)], (seed, 0x58))

    def _leads_where(self, other: "SemiDiscrete") -> bool:
        return other.size == self.size and np.array_equal(other._places(), self._places())

    def _averaged(self, other: "SemiDiscrete") -> int:
        """Draws that the heights of `other` are worth, where its fit goes on here."""
        if other.result is None:
            raise ValueError("the map to start from has not been fitted yet")
        same = self._leads_where(other) and np.allclose(other._distinct.masses, self._distinct.masses, rtol=1e-9)
        if not same or other.source != self.source:
            raise ValueError("the fit to resume is of a map from another source, to other points or of other weights")
        return other.result.averaged

    def _places(self) -> Array:
        return self.points.double().cpu().numpy()[self._distinct.first]
