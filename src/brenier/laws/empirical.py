"""Data as a law: N atoms, the posterior at a noisy point, and its covariance at every SNR.

Given Y_r = y the atom x_i has posterior weight w_i, softmax over i of  log w_i - |y - r x_i|^2/2.  With y = r x + z,

    |y - r x_i|^2 = r^2 |x - x_i|^2 + 2 r <z, x - x_i> + |z|^2,

so the two arrays |x - x_i|^2 and <z, x - x_i>, one large matrix product each, serve every SNR. What is left per SNR is
a few passes over them, and the norm of the posterior's covariance, see `brenier.laws.posterior`.

Atoms are kept centred and scaled to unit spread: r and x scale inversely, and the localization has no unit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.checks import check_memory
from brenier.core.points import Numbers
from brenier.core.work import workers
from brenier.laws.atoms import CHUNK, Sums, covariance_norm, exp_, summed_in
from brenier.laws.base import Localization, Target, crowded, far
from brenier.laws.path import Path
from brenier.laws.posterior import PosteriorNorms
from brenier.laws.standard import normalised, points_of, standardise

LITTLE_WORK = 2**24  # queries x SNRs x numbers of atoms up to which threads would mostly wait for the interpreter


class Empirical(Target):
    """The empirical measure sum w_i delta_{x_i} of a data set.

    An empirical measure memorises: past the collapse SNR a posterior sits on one atom and L_r -> 0. That is true of the
    N atoms and false of the law behind them; the effective sample size in `Localization.ess` tells the two apart.

    Args:
        data: N points, shape (N,) for points on the line, (N, d), or (N, *event_shape).
        weights: N non-negative weights, not all zero; normalised here, atoms of weight zero left out. Default: equal.
        event_shape: shape of one point, where `data` is already flattened.
        name: what to call the law in results.
        tolerance: relative error allowed in the operator norm.
        dropped: posterior mass that may be left out where few atoms matter. (An ascent may leave out more, if that is
            certified to change the norm by less than a quarter of the tolerance.)
        max_memory: GiB that one call may take beyond the data.
        dtype: torch.float32 by default, float64 for points far from zero, which float32 could not return, or so many on
            a line or in a plane that it would round what lies between neighbours. Sums that need it are in float64 all
            the same.
        device: where the atoms live. Default: where `data` is.

    Raises:
        ValueError: data or weights are empty, not finite, of the wrong shape, or weights negative or all zero.
        TypeError: data are not real numbers.
    """

    def __init__(
        self,
        data: Numbers,
        weights: Numbers | None = None,
        *,
        event_shape: Sequence[int] | None = None,
        name: str = "data",
        tolerance: float = 0.01,
        dropped: float = 1e-6,
        max_memory: float = 1.0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        points, shape = points_of(data, event_shape)
        chances = normalised(weights, len(points))
        if bool((chances == 0).any()):
            points, chances = points[chances > 0], chances[chances > 0]
        self.name = name
        self.event_shape = shape
        self.dtype = dtype or (torch.float64 if crowded(*points.shape) else torch.float32)
        self.device = torch.device(device) if device is not None else points.device
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance must lie in (0, 1), got {tolerance}")
        if not 0 <= dropped < 1:
            raise ValueError(f"dropped mass must lie in [0, 1), got {dropped}")
        self._tolerance = tolerance
        self.dropped = dropped
        self.max_memory = check_memory(max_memory)
        self.weights = chances.to(self.device)
        self._log_weights = self.weights.log().to(self.dtype)
        self._uniform = bool((self.weights == self.weights[0]).all())
        found = standardise(points, chances, self.dtype, self.device)
        if dtype is None and far(*found[:2]):
            self.dtype = torch.float64
            self._log_weights = self.weights.log().to(self.dtype)
            found = standardise(points, chances, self.dtype, self.device)
        self._centre, self._unit, self._atoms, self._squares = found

    def __len__(self) -> int:
        return len(self._atoms)

    @property
    def atoms(self) -> int:
        """How many atoms there are."""
        return len(self)

    @property
    def tolerance(self) -> float:
        """Relative error allowed in operator norms."""
        return self._tolerance

    @property
    def data(self) -> Float[Tensor, "N d"]:
        """The atoms, in the unit of the data, shape (N, d)."""
        return self._restore(self._atoms)

    def take(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The atoms of these numbers, in the unit of the data and in float64."""
        return self._restore(self._atoms[rows.to(self.device)].double())

    def point_masses(self) -> tuple[Float[Tensor, "N d"], Float[Tensor, " N"]]:
        """The atoms and their weights, in float64."""
        return self.data, self.weights

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same atoms, on another device or in another dtype."""
        if (device is None or torch.device(device) == self.device) and (dtype is None or dtype == self.dtype):
            return self
        return self._with(self._restore(self._atoms.double()), self.weights, dtype or self.dtype, device or self.device)

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The mean of the atoms where they lie far from zero, beside the distance to the next of them; else 0."""
        return self._centre if far(self._centre, self.scales()[0]) else torch.zeros_like(self._centre)

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by; moved by -`origin`, its points are the atoms as they are kept."""
        other = copy.copy(self)
        other._centre = self._centre + by.to(self._centre)
        return other

    def within(self, max_memory: float) -> Self:
        """The same law, of which one call may take `max_memory` GiB beyond the data."""
        other = copy.copy(self)
        other.max_memory = check_memory(max_memory)
        vars(other).pop("_norms", None)
        return other

    def arranged(self, order: Int[Tensor, " d"], event_shape: Sequence[int]) -> Self:
        """The same atoms with their coordinates in another order, which makes this shape of them."""
        other = copy.copy(self)
        order = order.to(self.device)
        other._atoms, other._centre = self._atoms[:, order], self._centre[order]
        other.event_shape = tuple(event_shape)
        vars(other).pop("_norms", None)
        return other

    def distinct(self) -> Self:
        """The same law with every point once: the weights of repeated ones are added up."""
        points = self.data.cpu().numpy()
        _, first, place = np.unique(points, axis=0, return_index=True, return_inverse=True)
        if len(first) == len(self):
            return self
        order = np.argsort(first)  # as they came
        weights = np.bincount(place.ravel(), self.weights.double().cpu().numpy())[order]
        return self._with(points[first[order]], weights, self.dtype, self.device)

    def _with(self, data: Numbers, weights: Numbers, dtype: torch.dtype, device: torch.device | str) -> Self:
        """The same law with other atoms."""
        return type(self)(
            data,
            weights,
            event_shape=self.event_shape,
            name=self.name,
            tolerance=self.tolerance,
            dropped=self.dropped,
            max_memory=self.max_memory,
            dtype=dtype,
            device=device,
        )

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n atoms with replacement."""
        generator = torch.Generator().manual_seed(seed)
        index = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        return self._restore(self._atoms[index.to(self.device)])

    def split(self, fraction: float, seed: int = 0) -> tuple[Self, Float[Tensor, "m d"]]:
        """The law without a random `fraction` of its atoms, and those atoms (drawn by weight, without replacement)."""
        held = round(fraction * len(self))
        if not 0 < held < len(self):
            raise ValueError(
                f"a holdout of {fraction} leaves {len(self) - held} of {len(self)} atoms and {held} queries: "
                "it must lie in (0, 1) and leave at least one of each"
            )
        generator = torch.Generator().manual_seed(seed)
        out = torch.randperm(len(self), generator=generator)[:held]
        rest = torch.ones(len(self), dtype=torch.bool).index_fill_(0, out, value=False)
        data = self._restore(self._atoms.double()).cpu()
        law = self._with(data[rest], self.weights.cpu()[rest], self.dtype, self.device)
        chance = self.weights.cpu()[out]
        if bool((chance != chance[0]).any()):
            out = out[torch.multinomial(chance, held, replacement=True, generator=generator)]
        return law, data[out].to(self.device, self.dtype)

    def scales(self) -> tuple[float, float]:
        """Median distance of an atom to the next distinct one, and the square root of the largest variance.

        Both from at most 128 atoms against all (the first) and a few passes over the data (the second); (1, 1) when all
        atoms coincide.
        """
        return self._scales

    @cached_property
    def _scales(self) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(0)
        some = self._atoms[torch.randperm(len(self), generator=generator)[:128].to(self.device)]
        near = torch.empty(len(some), 0, dtype=torch.long, device=self.device)
        apart = self._atoms.new_empty(near.shape)
        for start in range(0, len(self), CHUNK):
            found = self._distances(some, self.dtype, slice(start, start + CHUNK))
            nearest = found.topk(min(16, found.shape[1]), largest=False)
            both = torch.cat([apart, nearest.values], 1), torch.cat([near, nearest.indices + start], 1)
            apart, place = both[0].topk(min(16, both[0].shape[1]), largest=False)
            near = both[1].gather(1, place)
        gaps = torch.linalg.vector_norm(self._atoms[near].double() - some.double()[:, None], dim=2)
        gaps = torch.where(gaps > 0, gaps, torch.inf).amin(1)
        gaps = gaps[gaps.isfinite()]
        if len(gaps) == 0:
            return 1.0, 1.0
        return float(gaps.median()) * self._unit, float(self._spread) * self._unit

    @cached_property
    def _spread(self) -> float:
        """Square root of the largest eigenvalue of the atoms' covariance, in internal units."""
        start = torch.randn(1, 2, self.dim, generator=torch.Generator().manual_seed(0)).to(self._atoms)
        return float(covariance_norm(self.weights[None].to(self.dtype), self._atoms, start, self.tolerance)[0].sqrt())

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean at y, summed over blocks of atoms and merged: memory does not grow with their number."""
        r = self._ratio(snr)
        parts: list[Tensor] = []
        rows = max(1, min(len(y), int(self._bytes / (8 * 4 * CHUNK))))
        for block in self._inward(y, snr).split(rows):
            sums: Sums | None = None
            for i in range(0, len(self), CHUNK):
                atoms = slice(i, i + CHUNK)
                logits = self._logits(*self._grams(*decompose(block, r), atoms), r, atoms)
                part = Sums.of(logits, self._atoms[atoms])
                sums = part if sums is None else sums.merge(part)
            assert sums is not None  # at least one atom
            parts.append(sums.first / sums.mass[:, None])
        return self._restore(torch.cat(parts))

    def posteriors(
        self,
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        snrs: Sequence[float],
        without: Int[Tensor, " m"] | None = None,
    ) -> list[tuple[Float[Tensor, "n N"], Float[Tensor, "n d"]]]:
        """Weights of the atoms at y = r x + z for each r, in float64, and means, `without` some atoms."""
        inner = ((x.double() - self._centre) / self._unit).to(self.dtype)
        blocks = [slice(i, i + CHUNK) for i in range(0, len(self), CHUNK)]
        grams = [self._grams(inner, z.to(self.dtype), atoms) for atoms in blocks]
        distances, slopes = (torch.cat([pair[k] for pair in grams], 1) for k in range(2))
        found: list[tuple[Tensor, Tensor]] = []
        for snr in snrs:
            logits = self._logits(distances, slopes, self._ratio(snr)).double()
            if without is not None:
                logits[:, without.to(self.device)] = -torch.inf
            weights = torch.softmax(logits, 1)
            means = [weights[:, atoms].to(self.dtype) @ self._atoms[atoms] for atoms in blocks]
            found.append((weights, self._restore(torch.stack(means).double().sum(0))))
        return found

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Posterior mean, localization, its trace and effective sample size at y ([LDK24] Definition 4)."""
        r = self._ratio(snr)
        inner = self._inward(y, snr)
        modes: list[Tensor] = []
        for block in inner.split(self._rows()):
            logits = self._logits(*self._grams(*decompose(block, r)), r)
            modes.append(logits.argmax(1))
        x = self._atoms[torch.cat(modes)]  # differences to the likeliest atom are what the rest needs exactly
        path = self._path(x, (inner.double() - r * x.double()).to(self.dtype), [r], lambda share: None)
        assert path.ess is not None  # _path measures both
        assert path.norm_error is not None
        return Localization(path.norm[0], path.trace[0], self.denoise(y, snr), path.ess[0], path.norm_error[0])

    def localize_path(
        self,
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        snrs: Sequence[float],
        advance: Callable[[float], None] = lambda share: None,
    ) -> Localization:
        """Localize y = r x + z for each r in `snrs`: two matrix products shared by all of them."""
        inner = ((x.double() - self._centre) / self._unit).to(self.dtype)
        return self._path(inner, z.to(self.dtype), [self._ratio(snr) for snr in snrs], advance)

    # Internal units from here on: atoms centred and scaled, r multiplied by their scale.

    def _ratio(self, snr: float) -> float:
        if not 0 < snr < np.inf:
            raise ValueError(f"the SNR must be positive and finite, got {snr}")
        return float(snr) * self._unit

    def _inward(self, y: Tensor, snr: float) -> Tensor:
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        if len(y) == 0:
            raise ValueError("no queries: give at least one point")
        return (y.double() - snr * self._centre).to(self.dtype)

    def _restore(self, points: Tensor) -> Tensor:
        return (points.double() * self._unit + self._centre).to(points.dtype)

    @property
    def _bytes(self) -> float:
        """What a call may take where the caller keeps the data, of which the atoms are a copy; at least half of all."""
        return self.max_memory * 2**30 - min(self.max_memory * 2**29, self._atoms.numel() * self._atoms.element_size())

    def _rows(self) -> int:
        """Queries in a block: its arrays fit `max_memory`, and the caches where that leaves room for it."""
        return max(1, min(int(self._bytes / (128 * len(self))), max(64, 2**19 // len(self))))

    def _distances(self, x: Tensor, dtype: torch.dtype, atoms: slice = slice(None)) -> Tensor:
        """|x - x_i|^2, with the products in `dtype`."""
        squares = x.to(dtype).square().sum(1)[:, None] + self._squares[atoms].to(dtype)
        return self._products(squares, x, -2, atoms).clamp_min_(0)

    def _products(self, start: Tensor, x: Tensor, alpha: float, atoms: slice) -> Tensor:
        """start + alpha <x, x_i> in the dtype of `start`; where it is not that of the atoms, some of them at a time."""
        own, x = self._atoms[atoms], x.to(start)
        if own.dtype == start.dtype:
            return torch.addmm(start, x, own.T, alpha=alpha)
        starts = start.expand(len(x), len(own)).split(CHUNK, 1)
        parts = zip(starts, own.split(CHUNK), strict=True)
        return torch.cat([torch.addmm(first, x, part.to(first).T, alpha=alpha) for first, part in parts], 1)

    @cached_property
    def _product_dtype(self) -> torch.dtype:
        """float64 where products in the data's dtype would blur the distances that decide between neighbours.

        Neighbours at a distance g are told apart around r = 6/g, where a rounding error eps |x|^2 in |x - x_i|^2 moves
        a logit by (r^2/2) eps |x|^2. Small problems always afford float64.
        """
        if summed_in(self.dtype, self._atoms.numel(), self.tolerance) == torch.float64:
            return torch.float64
        gap = self.scales()[0] / self._unit
        blur = 18 / gap**2 * torch.finfo(self.dtype).eps * float(self._squares.max())
        return torch.float64 if blur > 1e-4 else self.dtype

    def _grams(self, x: Tensor, z: Tensor, atoms: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """|x - x_i|^2 and <z, x - x_i>: all that any SNR needs of the queries and the atoms."""
        wide = self._product_dtype
        distances = self._distances(x, wide, atoms).to(self.dtype)
        along = (z * x).sum(1, dtype=torch.float64)[:, None].to(wide)
        return distances, self._products(along, z, -1, atoms).to(self.dtype)

    def _logits(self, distances: Tensor, slopes: Tensor, r: float, atoms: slice = slice(None)) -> Tensor:
        logits = (distances * (-(r**2) / 2)).sub_(slopes, alpha=r)
        return logits if self._uniform else logits.add_(self._log_weights[atoms])

    def _path(self, x: Tensor, z: Tensor, ratios: Sequence[float], advance: Callable[[float], None]) -> Localization:
        if len(x) == 0:
            raise ValueError("no queries: give at least one point")
        self._norms.prepare()
        _ = self._product_dtype

        def one(rows: slice) -> Tensor:
            """Norm, trace, effective sample size and the norm's relative error for one block of queries."""
            distances, slopes = self._grams(x[rows], z[rows])
            path, sizes = Path(self._norms, x[rows], z[rows], distances, len(ratios)), []
            for r in ratios:
                weights = self._logits(distances, slopes, r)
                exp_(weights.sub_(weights.amax(1, keepdim=True)))
                weights.div_(weights.sum(1, keepdim=True))
                sizes.append(1 / torch.linalg.vector_norm(weights, dim=1).square())
                path.add(weights, sizes[-1], r)
                advance(len(distances) / len(x) / len(ratios))
            norm, trace, error = path.found()
            return torch.stack([norm, trace, torch.stack(sizes), error])

        threads = torch.get_num_threads()
        rows = max(1, min(self._rows(), int(self._bytes / (128 * threads * len(self)))))
        blocks = min(len(x), threads * -(-len(x) // (rows * threads)))  # as many for each thread, and of even size
        if len(x) <= rows and len(x) * len(ratios) * self._atoms.numel() < LITTLE_WORK:
            blocks = 1
        edges = np.linspace(0, len(x), blocks + 1).round().astype(int).tolist()
        with workers(self.device, blocks) as over:
            found = list(over(one, list(map(slice, edges, edges[1:]))))
        norm, trace, ess, error = torch.cat(found, 2)
        return Localization(norm=norm, trace=trace, ess=ess, norm_error=error)

    @cached_property
    def _norms(self) -> PosteriorNorms:
        return PosteriorNorms(self._atoms, self._squares, self._log_weights, self.tolerance, self.dropped, self._bytes)


def decompose(y: Tensor, r: float) -> tuple[Tensor, Tensor]:
    """Some x and z with y = r x + z that keeps both of moderate size: x = the posterior mean under a unit normal."""
    x = y * (r / (1 + r**2))
    return x, y - r * x
