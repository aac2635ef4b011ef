"""Data in blocks as a law: N atoms that need not be in memory, nor on one machine.

The same posteriors as `laws.empirical`, by rounds over the blocks of `core.blocks`. Queries go to the blocks, sums come
back. See `laws.block_norms` for the rounds.

Where rows are cut into blocks, how many workers there are and which of them ends first change nothing beyond rounding.
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.blocks.blocks import Blocks
from brenier.core.blocks.rows import rows_of
from brenier.core.checks import check_memory
from brenier.core.random import seeds
from brenier.laws import block_looks as looks
from brenier.laws import block_sums as sums
from brenier.laws.atoms import leading_directions, summed_in
from brenier.laws.base import Localization, Screened, Target, crowded, far
from brenier.laws.block_norms import NARROW, Batch, Ground, sizes
from brenier.laws.block_points import working
from brenier.laws.empirical import decompose
from brenier.laws.screening import Places

SAMPLE = 8192  # atoms that tell the leading directions, and how broad posteriors are


def refused(name: str, what: str) -> ValueError:
    """What data in blocks do not take, and what to do instead."""
    instead = "leave that out, or have them in memory: give --max-memory (max_memory=) room for all, without workers"
    return ValueError(f"{name} is used in blocks, which take no {what}: {instead}")


class BlockedEmpirical(Target):
    """The empirical measure of the rows of a file, a store, a dask array, of equal weights.

    Where a `distributed.Client` is active its workers do the work, else the threads of this process.

    Args:
        blocks: the points.
        name: what to call the law in results.
        tolerance: relative error allowed in the operator norm.
        dropped: posterior mass that may be left out.
        max_memory: GiB that one call may take here, and half of that on workers.
        dtype: of results: torch.float32 by default, float64 where it is the default of `Empirical`.

    Raises:
        ValueError: rows that are not finite, with their numbers and that of the block; blocks of several widths; a
            store that changes while it is read; a cluster that goes away.
    """

    def __init__(
        self,
        blocks: Blocks,
        *,
        name: str = "data",
        tolerance: float = 0.01,
        dropped: float = 1e-6,
        max_memory: float = 1.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance must lie in (0, 1), got {tolerance}")
        if not 0 < dropped < 1:
            raise ValueError(f"dropped mass must lie in (0, 1), got {dropped}")
        self.blocks, self.name, self.event_shape = blocks, name, tuple(blocks.shape[1:])
        self.device = torch.device("cpu")
        self._tolerance, self.dropped, self.max_memory = tolerance, dropped, check_memory(max_memory)
        first = working(blocks.take([0]))[0].double()
        seen = blocks.map_reduce(looks.look, looks.merge_looks, shared=(blocks.name, first))
        limit = math.sqrt(torch.finfo(dtype or torch.float32).max / self.dim) / 4
        if seen.largest > limit:
            raise ValueError(
                f"{name!r}: the largest coordinate is {seen.largest:.3g}, squares overflow in {dtype or torch.float32}:"
                " rescale"
            )
        work = torch.float32 if np.can_cast(blocks.dtype, np.float32) else torch.float64
        centre = seen.mean.to(work).double()  # so that subtracting it rounds once
        unit = 2.0 ** round(math.log2(math.sqrt(seen.scatter / seen.count / self.dim) or 1.0))
        self.dtype = dtype or (torch.float64 if far(centre, unit) or crowded(seen.count, self.dim) else torch.float32)
        fine = summed_in(self.dtype, seen.count * self.dim, tolerance)
        self._frame = sums.Frame(blocks.name, centre, unit, self.dtype, fine, fine)
        self._places = Places.of(seen, first, torch.from_numpy(blocks.sizes()).double(), self._frame)
        self._variance = seen.scatter / seen.count
        self._by = torch.zeros_like(centre)

    @classmethod
    def of(cls, data: object, size: int | None = None, *, name: str | None = None, **options: Any) -> Self:
        """Of whatever `brenier.core.blocks.rows.rows_of` takes, in blocks of `size` rows."""
        rows = rows_of(data)
        return cls(Blocks(rows, size), name=rows.name if name is None else name, **options)

    def __len__(self) -> int:
        return self.blocks.shape[0]

    @property
    def atoms(self) -> int:
        """How many atoms there are."""
        return len(self)

    @property
    def in_memory(self) -> bool:
        """False: the atoms are read for every question."""
        return False

    @property
    def tolerance(self) -> float:
        """Relative error allowed in operator norms."""
        return self._tolerance

    def take(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The atoms of these numbers, in the unit of the data and in float64."""
        return self._restore(self._atoms(rows.numpy()).double())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same atoms, in another dtype.

        Raises:
            ValueError: another device than the CPU.
        """
        if device is not None and torch.device(device).type != "cpu":
            raise ValueError(f"data in blocks are worked on by CPUs, not by {device}: leave device out")
        if dtype is None or dtype == self.dtype:
            return self
        options = {"tolerance": self.tolerance, "dropped": self.dropped, "max_memory": self.max_memory}
        return type(self)(self.blocks, name=self.name, dtype=dtype, **options).moved(self._by)

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The mean of the atoms where they lie far from zero, beside the distance to the next of them; else 0."""
        centre = self._frame.centre + self._by
        return centre if far(centre, self.scales()[0]) else torch.zeros_like(centre)

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by."""
        other = copy.copy(self)
        other._by = self._by + by.to(self._by)
        return other

    def within(self, max_memory: float) -> Self:
        """The same law, of which one call may take `max_memory` GiB."""
        other = copy.copy(self)
        other.max_memory = check_memory(max_memory)
        return other

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n atoms with replacement, those that `Empirical` draws with this seed."""
        generator = torch.Generator().manual_seed(seed)
        if len(self) < 2**24:
            chances = torch.full((len(self),), 1 / len(self), dtype=torch.float64)
            rows = torch.multinomial(chances, n, replacement=True, generator=generator)
        else:  # more than it draws from
            rows = torch.randint(len(self), (n,), generator=generator)
        return self._restore(self._atoms(rows.numpy()))

    def scales(self) -> tuple[float, float]:
        """Median distance of an atom to the next distinct one, and the square root of the largest variance.

        The first from at most 128 atoms against all, the second in the leading directions of a sample: a lower bound.
        """
        return self._scales[:2]

    @cached_property
    def _scales(self) -> tuple[float, float, float]:
        """And the largest |x_i|^2, in internal units."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randperm(len(self), generator=generator)[:128]
        basis = self._basis[:, : sizes(self.dim)[0]] if self.dim > NARROW else torch.eye(self.dim, dtype=self.dtype)
        some, sample = self._atoms(rows.numpy()), self._sample
        gaps = torch.full((len(some),), torch.inf, dtype=torch.float64)
        gaps = looks.nearer(gaps, some, sample, sample.double().square().sum(1))
        told = (self._frame, some, basis, gaps)
        found = self.blocks.map_reduce(looks.near, looks.merge_near, shared=told)
        gaps = found.gaps[found.gaps.isfinite()].sqrt()
        if len(gaps) == 0:
            return 1.0, 1.0, found.largest
        mean = found.first / found.count
        spread = math.sqrt(float(torch.linalg.eigvalsh(found.second / found.count - mean[:, None] * mean)[-1]))
        unit = self._frame.unit
        return float(gaps.median()) * unit, spread * unit, found.largest

    @property
    def centre(self) -> Float[Tensor, " d"]:
        """The mean of the atoms, as far as their own dtype tells it, in float64."""
        return self._frame.centre + self._by

    @property
    def spread(self) -> tuple[Float[Tensor, " d"], float]:
        """The same of the rows as they are stored, and the root of their mean squared distance from it; 1 for 0."""
        return self._frame.centre, math.sqrt(self._variance) or 1.0

    @property
    def _concentration(self) -> float:
        """The share of the second moment along the leading direction."""
        return max(1 / self.dim, min(1.0, self._scales[1] ** 2 / max(self._variance, 1e-300)))

    @cached_property
    def _sample(self) -> Float[Tensor, "m d"]:
        """Some atoms, all where they are few."""
        count = min(len(self), SAMPLE, max(1024, 2**24 // self.dim))
        rows = np.random.default_rng(seeds(0, len(self))).choice(len(self), count, replace=False)
        return self._atoms(np.sort(rows))

    @cached_property
    def _basis(self) -> Float[Tensor, "d f"]:
        """Leading directions and a sketch of the rest, as in `laws.atoms.Subspace`."""
        generator = torch.Generator().manual_seed(0)
        sample, (rank, sketch) = self._sample.to(self._frame.fine), sizes(self.dim)
        basis = leading_directions(sample, rank, generator)
        random = torch.randn(self.dim, sketch, generator=generator).to(basis) / sketch**0.5
        return torch.cat([basis, random - basis @ (basis.T @ random)], 1)

    @cached_property
    def _exact(self) -> sums.Frame:
        """The frame, with products in float64 where those in float32 would blur neighbours: see `laws.empirical`."""
        gap, _, largest = self._scales
        blur = 18 / (gap / self._frame.unit) ** 2 * torch.finfo(self._frame.dtype).eps * largest
        wide = torch.float64 if blur > 1e-4 else self._frame.wide
        f = self._frame
        return sums.Frame(f.name, f.centre, f.unit, f.dtype, wide, f.fine)

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean at y, one round over the blocks."""
        return self._restore(self._means(y, snr).to(self.dtype))

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Posterior mean, localization, its trace and effective sample size at y ([LDK24] Definition 4)."""
        mean, rows = self._modes(y, snr)
        x, r = self._atoms(rows.numpy()), self._ratio(snr)
        path = self._path(x, (self._inward(y, snr).double() - r * x.double()).to(self.dtype), [r], lambda share: None)
        assert path.ess is not None
        assert path.norm_error is not None
        mean = self._restore(mean.to(self.dtype))
        return Localization(path.norm[0], path.trace[0], mean, path.ess[0], path.norm_error[0], screened=path.screened)

    def localize_path(
        self,
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        snrs: Sequence[float],
        advance: Callable[[float], None] = lambda share: None,
    ) -> Localization:
        """Localize y = r x + z for each r in `snrs`, in a few rounds over the blocks for each batch of queries."""
        inner = ((x.double() - self._frame.centre - self._by) / self._frame.unit).to(self.dtype)
        return self._path(inner, z.to(self.dtype), [self._ratio(snr) for snr in snrs], advance)

    # Internal units from here on: atoms centred and scaled, r multiplied by their scale.

    def _ratio(self, snr: float) -> float:
        if not 0 < snr < math.inf:
            raise ValueError(f"the SNR must be positive and finite, got {snr}")
        return float(snr) * self._frame.unit

    def _inward(self, y: Tensor, snr: float) -> Tensor:
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        if len(y) == 0:
            raise ValueError("no queries: give at least one point")
        return (y.double() - snr * (self._frame.centre + self._by)).to(self.dtype)

    def _restore(self, points: Tensor) -> Tensor:
        return (points.double() * self._frame.unit + self._frame.centre + self._by).to(points.dtype)

    def _atoms(self, rows: NDArray[np.int64]) -> Float[Tensor, "n d"]:
        return self._frame.atoms(self.blocks.take(rows))

    def _modes(self, y: Tensor, snr: float) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """Posterior means, in internal units and float64, and the number of the likeliest atom."""
        r = self._ratio(snr)
        parts: list[looks.Mean] = []
        for some in self._inward(y, snr).split(max(1, int(self._bytes / (64 * self.dim)))):
            queries = sums.Queries(self._exact, *decompose(some, r), [r])
            parts.append(self.blocks.map_reduce(looks.means, looks.merge_means, shared=queries))
        mean = torch.cat([part.first / part.mass[:, None] for part in parts])
        return mean, torch.cat([part.row for part in parts])

    def _means(self, y: Tensor, snr: float) -> Float[Tensor, "n d"]:
        return self._modes(y, snr)[0]

    @property
    def _bytes(self) -> float:
        return self.max_memory * 2**30

    def _path(self, x: Tensor, z: Tensor, ratios: Sequence[float], advance: Callable[[float], None]) -> Localization:
        if len(x) == 0:
            raise ValueError("no queries: give at least one point")
        basis = self._basis if self.dim > NARROW else None
        known = self.tolerance, self.dropped, self._bytes, self._concentration
        ground = Ground(self.blocks, self._exact, self._places, self._sample, basis, *known)
        each = len(ratios) * (16 * len(self.blocks) + 16 * ground.inside * (ground.inside + 3))
        rows = max(16, int(self._bytes / 8 / each))
        share = [min(rows, len(x) - i) / len(x) for i in range(0, len(x), rows)]
        found = [
            Batch(ground, sums.Queries(self._exact, x[i : i + rows], z[i : i + rows], ratios)).localize(
                lambda part, k=k: advance(part * share[k])
            )
            for k, i in enumerate(range(0, len(x), rows))
        ]
        norm, trace, ess, error = (torch.cat([part[k] for part, _ in found], 1).to(self.dtype) for k in range(4))
        screened = Screened(
            max(one.dropped for _, one in found),
            sum(one.read * part for (_, one), part in zip(found, share, strict=True)),
        )
        return Localization(norm=norm, trace=trace, ess=ess, norm_error=error, screened=screened)
