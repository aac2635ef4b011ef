"""Data as a law: N atoms, the posterior at a noisy point, and its covariance at every SNR.

Given Y_r = y the atom x_i has posterior weight w_i, softmax over i of  log w_i - |y - r x_i|^2/2.  With y = r x + z,

    |y - r x_i|^2 = r^2 |x - x_i|^2 + 2 r <z, x - x_i> + |z|^2,

so the two arrays |x - x_i|^2 and <z, x - x_i>, one large matrix product each, serve every SNR. What is left per SNR is
a few passes over them, and the operator norm of Cov[rX | y] = r^2 (sum w_i x_i x_i^T - m m^T), found by the first of
these that holds for the query:

1. few atoms matter: gather them, and square their Gram matrix until both ends of an enclosure meet (certified);
2. few dimensions (d <= 64): second moments from one product with the atoms' own, then the same squaring (certified);
3. many of both: in up to 128 leading directions of the data, then to second order in the coupling to all others, that
   a random sketch measures; where that is too coarse, ascent in R^d until the measured residual is small.

Atoms are kept centred and scaled to unit spread: r and x scale inversely, and the localization has no unit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from brenier.core.linalg import norm_by_squaring
from brenier.laws.atoms import CHUNK, HEAD, SKETCH, SecondMoments, Subspace, Sums, covariance_norm
from brenier.laws.base import Localization, Target

SPARSE = 64  # atoms up to which a posterior is gathered into one small Gram matrix
NARROW = 64  # dimensions up to which the covariance is formed whole
GATHER = 1024  # atoms up to which gathering a posterior beats a product with all atoms
SKETCHED = 3 * (2 / SKETCH) ** 0.5  # three standard deviations of a sketched square


@dataclass(frozen=True)
class _Posterior:
    """Posterior weights at some queries of one block at one SNR, with what they were computed from."""

    weights: Float[Tensor, "n N"]  # normalised
    x: Float[Tensor, "n d"]
    z: Float[Tensor, "n d"]
    distances: Float[Tensor, "n N"]  # |x - x_i|^2
    order: Int[Tensor, "n k"]  # the atoms that matter most, first ones first
    left: Float[Tensor, "n k"]  # share of mass and second moment about x that the first 1, 2, ... of them leave out
    count: Int[Tensor, " n"]  # how many of them matter; more than k: too many to tell
    snr: float

    def at(self, index: Tensor) -> "_Posterior":
        """The same at the queries in `index`."""
        if len(index) == len(self.weights):
            return self
        weights, x, z = self.weights[index], self.x[index], self.z[index]
        order, left, count = self.order[index], self.left[index], self.count[index]
        return _Posterior(weights, x, z, self.distances[index], order, left, count, self.snr)


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
        max_memory: bytes that one call may take beyond the data.
        dtype: torch.float32 by default. Sums that need it are in float64 all the same.
        device: where the atoms live. Default: where `data` is.

    Raises:
        ValueError: data or weights are empty, not finite, of the wrong shape, or weights negative or all zero.
        TypeError: data are not real numbers.
    """

    def __init__(
        self,
        data: ArrayLike | Tensor,
        weights: ArrayLike | Tensor | None = None,
        *,
        event_shape: Sequence[int] | None = None,
        name: str = "data",
        tolerance: float = 0.01,
        dropped: float = 1e-6,
        max_memory: float = 2**30,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        points, shape = _points(data, event_shape)
        chances = _probabilities(weights, len(points))
        if bool((chances == 0).any()):
            points, chances = points[chances > 0], chances[chances > 0]
        self.name = name
        self.event_shape = shape
        self.dtype = dtype or torch.float32
        self.device = torch.device(device) if device is not None else points.device
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance must lie in (0, 1), got {tolerance}")
        if not 0 <= dropped < 1:
            raise ValueError(f"dropped mass must lie in [0, 1), got {dropped}")
        if not max_memory > 0:
            raise ValueError(f"max_memory must be positive, got {max_memory} bytes")
        self._tolerance = tolerance
        self.dropped = dropped
        self.max_memory = max_memory
        self.weights = chances.to(self.device)
        self._log_weights = self.weights.log().to(self.dtype)
        self._uniform = bool((self.weights == self.weights[0]).all())
        self._centre, self._unit, self._atoms, self._squares = _standardise(points, chances, self.dtype, self.device)

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

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same atoms, on another device or in another dtype."""
        if (device is None or torch.device(device) == self.device) and (dtype is None or dtype == self.dtype):
            return self
        return type(self)(
            self._restore(self._atoms.double()),
            self.weights,
            event_shape=self.event_shape,
            name=self.name,
            tolerance=self.tolerance,
            dropped=self.dropped,
            max_memory=self.max_memory,
            dtype=dtype or self.dtype,
            device=device or self.device,
        )

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n atoms with replacement."""
        generator = torch.Generator().manual_seed(seed)
        index = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        return self._restore(self._atoms[index.to(self.device)])

    def split(self, fraction: float, seed: int = 0) -> tuple["Empirical", Float[Tensor, "m d"]]:
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
        law = type(self)(
            data[rest],
            self.weights.cpu()[rest],
            event_shape=self.event_shape,
            name=self.name,
            tolerance=self.tolerance,
            dropped=self.dropped,
            max_memory=self.max_memory,
            dtype=self.dtype,
            device=self.device,
        )
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
        near: list[Tensor] = []
        for block in some.split(max(1, self._rows() // 2)):
            nearest = self._distances(block, self.dtype).topk(min(16, len(self)), largest=False)
            near.append(nearest.indices)
        gaps = torch.linalg.vector_norm(self._atoms[torch.cat(near)].double() - some.double()[:, None], dim=2)
        gaps = torch.where(gaps > 0, gaps, torch.inf).amin(1)
        gaps = gaps[gaps.isfinite()]
        if len(gaps) == 0:
            return 1.0, 1.0
        return float(gaps.median()) * self._unit, float(self._spread) * self._unit

    @cached_property
    def _spread(self) -> float:
        """Square root of the largest eigenvalue of the atoms' covariance, in internal units."""
        start = torch.randn(1, self.dim, generator=torch.Generator().manual_seed(0)).to(self._atoms)
        return float(covariance_norm(self.weights[None].to(self.dtype), self._atoms, start, self.tolerance)[0].sqrt())

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean at y, summed over blocks of atoms and merged: memory does not grow with their number."""
        r = self._ratio(snr)
        parts: list[Tensor] = []
        rows = max(1, min(len(y), int(self.max_memory / (8 * 4 * CHUNK))))
        for block in self._inward(y, snr).split(rows):
            sums: Sums | None = None
            for i in range(0, len(self), CHUNK):
                atoms = slice(i, i + CHUNK)
                logits = self._logits(*self._grams(*_decompose(block, r), atoms), r, atoms)
                part = Sums.of(logits, self._atoms[atoms])
                sums = part if sums is None else sums.merge(part)
            assert sums is not None  # at least one atom
            parts.append(sums.first / sums.mass[:, None])
        return self._restore(torch.cat(parts))

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Posterior mean, localization, its trace and effective sample size at y ([LDK24] Definition 4)."""
        r = self._ratio(snr)
        inner = self._inward(y, snr)
        modes: list[Tensor] = []
        for block in inner.split(self._rows()):
            logits = self._logits(*self._grams(*_decompose(block, r)), r)
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

    def _rows(self) -> int:
        """Queries in a block: its arrays fit `max_memory`, and the caches where that leaves room for it."""
        return max(1, min(int(self.max_memory / (128 * len(self))), max(64, 2**19 // len(self))))

    def _distances(self, x: Tensor, dtype: torch.dtype, atoms: slice = slice(None)) -> Tensor:
        """|x - x_i|^2, with the products in `dtype`."""
        squares = x.to(dtype).square().sum(1)[:, None] + self._squares[atoms].to(dtype)
        return torch.addmm(squares, x.to(dtype), self._atoms[atoms].to(dtype).T, alpha=-2).clamp_min_(0)

    @cached_property
    def _product_dtype(self) -> torch.dtype:
        """float64 where products in the data's dtype would blur the distances that decide between neighbours.

        Neighbours at a distance g are told apart around r = 6/g, where a rounding error eps |x|^2 in |x - x_i|^2 moves
        a logit by (r^2/2) eps |x|^2. Small problems always afford float64.
        """
        gap = self.scales()[0] / self._unit
        blur = 18 / gap**2 * torch.finfo(self.dtype).eps * float(self._squares.max())
        return torch.float64 if blur > 1e-4 else self._moments.dtype

    @cached_property
    def _moments(self) -> Float[Tensor, "N d"]:
        """The atoms in the dtype that second moments are summed in: float64 where the problem is small."""
        return self._atoms.double() if self._atoms.numel() < 2**22 else self._atoms

    def _grams(self, x: Tensor, z: Tensor, atoms: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """|x - x_i|^2 and <z, x - x_i>: all that any SNR needs of the queries and the atoms."""
        wide = self._product_dtype
        distances = self._distances(x, wide, atoms).to(self.dtype)
        along = (z * x).sum(1, dtype=torch.float64)[:, None].to(wide)
        slopes = torch.addmm(along, z.to(wide), self._atoms[atoms].to(wide).T, alpha=-1).to(self.dtype)
        return distances, slopes

    def _logits(self, distances: Tensor, slopes: Tensor, r: float, atoms: slice = slice(None)) -> Tensor:
        logits = (distances * (-(r**2) / 2)).sub_(slopes, alpha=r)
        return logits if self._uniform else logits.add_(self._log_weights[atoms])

    def _path(self, x: Tensor, z: Tensor, ratios: Sequence[float], advance: Callable[[float], None]) -> Localization:
        if len(x) == 0:
            raise ValueError("no queries: give at least one point")
        found = x.new_zeros(4, len(ratios), len(x))
        rows = self._rows()
        for i in range(0, len(x), rows):
            block = slice(i, i + rows)
            grams = self._grams(x[block], z[block])
            for k, r in enumerate(ratios):
                found[:, k, block] = torch.stack(self._localize_block(x[block], z[block], *grams, r))
                advance(len(x[block]) / len(x) / len(ratios))
        norm, trace, ess, error = found
        return Localization(norm=norm, trace=trace, ess=ess, norm_error=error)

    def _localize_block(
        self, x: Tensor, z: Tensor, distances: Tensor, slopes: Tensor, r: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Norm, trace, effective sample size and the norm's relative error for one block of queries at one SNR."""
        weights = self._logits(distances, slopes, r)
        weights.sub_(weights.amax(1, keepdim=True)).exp_()
        weights.div_(weights.sum(1, keepdim=True))
        ess = 1 / torch.linalg.vector_norm(weights, dim=1).square()
        order, left, count = self._select(weights, distances, ess)
        posterior = _Posterior(weights, x, z, distances, order, left, count, r)
        norm, trace, error = (torch.zeros_like(ess) for _ in range(3))
        peaked = (ess < SPARSE / 4) & (self.dim > NARROW)  # seen better from its heaviest atoms than from a subspace
        for rows, method in (
            ((count > 1) & (count <= 8), self._gathered),  # apart, so that few are padded to many
            ((count > 8) & (count <= SPARSE), self._gathered),
            ((count > SPARSE) & peaked, self._peaked),
            ((count > SPARSE) & ~peaked, self._whole if self.dim <= NARROW else self._projected),
        ):
            index = rows.nonzero()[:, 0]
            if len(index):
                norm[index], trace[index], error[index] = method(posterior.at(index))
        return norm, trace, ess, error

    def _select(self, weights: Tensor, distances: Tensor, ess: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The atoms that matter at each query, heaviest first; what the first of them leave out; how many matter.

        Those left out hold at most `dropped` of the posterior mass and of the second moment about x together. The count
        is one more than are listed where that takes too many.
        """
        most = min(SPARSE if self.dim <= NARROW else GATHER, len(self))
        listed = most == len(self)  # then nothing can be left out
        order = torch.arange(most, device=weights.device).repeat(len(weights), 1)
        left = torch.full(order.shape, torch.inf, dtype=torch.float64, device=weights.device)
        if listed:
            left[:, -1] = 0
        count = torch.full((len(weights),), most if listed else most + 1, device=weights.device)
        rows = (ess < most).nonzero()[:, 0]
        if len(rows):
            weights = weights[rows]
            share = weights * distances[rows]
            share /= share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
            share += weights
            top = share.topk(most, dim=1)
            left[rows] = share.sum(1, dtype=torch.float64)[:, None] - top.values.cumsum(1, dtype=torch.float64)
            order[rows] = top.indices
            count[rows] = (left[rows] > self.dropped).sum(1) + 1
            if listed:
                count[rows] = count[rows].clamp_max(most)
        return order, left, count

    @cached_property
    def _subspace(self) -> Subspace:
        return Subspace.of(self._moments, self._squares)

    @cached_property
    def _second_moments(self) -> SecondMoments:
        """Of the atoms, or of their leading coordinates where they have too many."""
        atoms = self._atoms if self.dim <= NARROW else self._subspace.atoms[:, :HEAD].contiguous()
        return SecondMoments(atoms, self.max_memory / 4)

    def _gathered(self, posterior: _Posterior) -> tuple[Tensor, Tensor, Tensor]:
        """Few atoms: their differences to x are exact, so logits are computed anew, then the small Gram matrix."""
        most = int(posterior.count.max())
        index, valid = posterior.order[:, :most], torch.arange(most, device=self.device) < posterior.count[:, None]
        r = posterior.snr
        steps = self._atoms[index].sub_(posterior.x[:, None])  # (n, m, d)
        square = torch.linalg.vector_norm(steps, dim=2, dtype=torch.float64).square()
        along = (steps.double() @ posterior.z.double()[:, :, None])[..., 0]
        logits = self._log_weights[index] - square * (r**2 / 2) + r * along
        weights = logits.masked_fill_(~valid, -torch.inf).softmax(1).to(self.dtype)
        steps.sub_(weights[:, None] @ steps).mul_(r * weights.sqrt()[..., None])
        gram = steps @ steps.mT if steps.shape[1] <= steps.shape[2] else steps.mT @ steps
        norm, width, _ = norm_by_squaring(gram, self.tolerance)
        return norm, gram.diagonal(dim1=1, dim2=2).sum(1), width

    def _whole(self, posterior: _Posterior) -> tuple[Tensor, Tensor, Tensor]:
        """Few dimensions: the covariance itself."""
        matrix, blurred = self._second_moments.covariance(posterior.weights)
        for i in blurred.nonzero()[:, 0].tolist():
            weights, steps = self._steps(posterior, i, int(posterior.count[i]))
            matrix[i] = (steps * weights[:, None]).T @ steps
        norm, width, _ = norm_by_squaring(matrix.mul_(posterior.snr**2), self.tolerance)
        return norm, matrix.diagonal(dim1=1, dim2=2).sum(1), width

    def _steps(self, posterior: _Posterior, i: int, count: int) -> tuple[Float[Tensor, " m"], Float[Tensor, "m d"]]:
        """Normalised weights of the first atoms that matter to query i (past the list, all), and the atoms centred."""
        kept = posterior.order[i, :count] if count <= posterior.order.shape[1] else slice(None)
        weights = posterior.weights[i, kept]
        weights = weights / weights.sum()
        steps = self._atoms[kept] - posterior.x[i]
        return weights, steps - weights @ steps

    def _projected(self, posterior: _Posterior) -> tuple[Tensor, Tensor, Tensor]:
        """Many atoms in many dimensions: the leading subspace exactly, the rest to second order by a sketch.

        With theta the norm inside the subspace, v its vector, b the part of Cov v outside and c a bound on the norm
        outside, the whole norm lies between theta + b^2/theta and theta + b^2/(theta - c) to that order, unless an
        eigenvalue theta_2 near theta could be raised beyond, to theta_2 theta/(theta - c) at most.
        """
        space = self._subspace
        weights = posterior.weights.to(space.atoms.dtype)
        weights = weights / weights.sum(1, keepdim=True)  # to the precision of the moments below
        matrix, blurred = self._second_moments.covariance(weights)
        values, vectors = torch.linalg.eigh(matrix)
        gap = (values[:, -1] - values[:, -2]).clamp_min(0)
        start = torch.nn.functional.pad(vectors[..., -1], (0, space.atoms.shape[1] - HEAD))
        theta, inner, v = covariance_norm(weights, space.atoms, start, self.tolerance / 4, gap)
        theta = theta.clamp_min(torch.finfo(theta.dtype).tiny)
        along = v @ space.atoms.T
        along -= (weights * along).sum(1, keepdim=True)
        coupling = (along.mul_(weights) @ space.sketch).square().sum(1)
        mean = weights @ torch.cat([space.atoms, space.sketch], 1)
        mean, mean_outside = mean.split([space.atoms.shape[1], SKETCH], 1)
        room = theta - space.norm_outside(weights, mean_outside)
        low = theta + (1 - SKETCHED) * coupling / theta
        high = theta * (1 + inner) + (1 + SKETCHED) * coupling / room
        norm, error = (low + high) / 2, (high - low) / (high + low)
        trusted = (room > 0) & (values[:, -2] * theta <= high * room)
        lost = mean_outside.square().sum(1)
        trace = weights @ self._squares.to(weights.dtype) - mean.square().sum(1) - lost
        hard = ~trusted | (error > self.tolerance) | (SKETCHED * lost > self.tolerance * trace) | blurred
        rows = hard.nonzero()[:, 0]
        if len(rows):
            found = self._ascended(posterior.at(rows), v[rows] @ space.basis.T, gap[rows], theta[rows])
            norm[rows], trace[rows], error[rows] = found
        r2 = posterior.snr**2
        norm, trace, error = (part.to(self.dtype) for part in (norm * r2, trace * r2, error))
        return norm, trace, error

    def _peaked(self, posterior: _Posterior) -> tuple[Tensor, Tensor, Tensor]:
        """A few heavy atoms and a long tail: ascent in R^d from the leading direction of the heaviest alone."""
        index = posterior.order[:, :SPARSE]
        weights = posterior.weights.gather(1, index)
        steps = self._atoms[index].sub_(posterior.x[:, None])
        steps.sub_((weights / weights.sum(1, keepdim=True))[:, None] @ steps).mul_(weights.sqrt()[..., None])
        values, vectors = torch.linalg.eigh(steps @ steps.mT)
        start, gap = (vectors[:, None, :, -1] @ steps)[:, 0], values[:, -1] - values[:, -2]
        dtype = self._moments.dtype
        found = self._ascended(posterior, start.to(dtype), gap.to(dtype), values[:, -1].to(dtype))
        norm, trace, error = found
        r2 = posterior.snr**2
        norm, trace, error = (part.to(self.dtype) for part in (norm * r2, trace * r2, error))
        return norm, trace, error

    def _ascended(
        self, posterior: _Posterior, start: Tensor, gap: Tensor, floor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ascent in R^d; per query on its own atoms where they are few enough to be worth gathering.

        With `floor` a lower bound on the norm, the atoms left out there have a second moment, which bounds what they
        add to the norm, of at most a quarter of the tolerance; it is counted in the error.
        """
        norm, trace, error = (torch.zeros_like(start[:, 0]) for _ in range(3))
        moment = (posterior.weights * posterior.distances).sum(1, dtype=torch.float64)
        lost = posterior.left * (moment / floor.clamp_min(torch.finfo(floor.dtype).tiny))[:, None]
        few = torch.minimum(posterior.count, (lost > self.tolerance / 4).sum(1) + 1)
        gather = few <= GATHER
        for i in gather.nonzero()[:, 0].tolist():
            weights, steps = (part.to(start.dtype) for part in self._steps(posterior, i, int(few[i])))
            row = slice(i, i + 1)
            norm[i], error[i], _ = covariance_norm(weights[None], steps, start[row], self.tolerance / 2, gap[row])
            error[i] += lost[i, min(int(few[i]), lost.shape[1]) - 1]
            trace[i] = weights @ torch.linalg.vector_norm(steps, dim=1).square()
        rest = (~gather).nonzero()[:, 0]
        if len(rest):
            weights, x = posterior.weights[rest].to(start.dtype), posterior.x[rest].to(start.dtype)
            weights /= weights.sum(1, keepdim=True)
            norm[rest], error[rest], _ = covariance_norm(
                weights, self._moments, start[rest], self.tolerance, gap[rest], about=x
            )
            shift = weights @ self._moments - x
            trace[rest] = (weights * posterior.distances[rest]).sum(1) - shift.square().sum(1)
        return norm, trace, error


def _decompose(y: Tensor, r: float) -> tuple[Tensor, Tensor]:
    """Some x and z with y = r x + z that keeps both of moderate size: x = the posterior mean under a unit normal."""
    x = y * (r / (1 + r**2))
    return x, y - r * x


def _points(data: ArrayLike | Tensor, event_shape: Sequence[int] | None) -> tuple[Tensor, tuple[int, ...]]:
    """Data as a real (N, d) tensor, with the shape of one point."""
    if isinstance(data, Tensor):
        if data.is_complex():
            raise TypeError("the data are complex numbers: real ones are needed")
        points = data.detach()
    else:
        array = np.asarray(data)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"the data have dtype {array.dtype}: real numbers are needed")
        points = torch.from_numpy(np.require(array, _torch_friendly(array.dtype), ["C", "W"]))
    if points.ndim == 0 or points.numel() == 0:
        raise ValueError(f"the data have shape {tuple(points.shape)}: at least one point of one dimension is needed")
    shape = tuple(points.shape[1:]) or (1,)
    points = points.reshape(len(points), -1)
    if event_shape is not None:
        shape = tuple(int(side) for side in event_shape)
        if int(np.prod(shape)) != points.shape[1]:
            raise ValueError(f"event_shape {shape} has {int(np.prod(shape))} entries, points have {points.shape[1]}")
    bad = (~torch.isfinite(points).all(1)).nonzero()[:, 0] if points.is_floating_point() else points.new_zeros(0)
    if len(bad):
        raise ValueError(f"{len(bad)} of {len(points)} points hold NaN or infinity, the first is number {int(bad[0])}")
    return points, shape


def _torch_friendly(dtype: np.dtype) -> np.dtype:
    """The dtype itself where torch has it, float64 for the rest (long double, wide unsigned integers, byte orders)."""
    native = dtype.newbyteorder("=")
    known = native.kind in "bi" or native in (np.dtype(np.uint8), *map(np.dtype, (np.float16, np.float32, np.float64)))
    return native if known else np.dtype(np.float64)


def _probabilities(weights: ArrayLike | Tensor | None, n: int) -> Float[Tensor, " n"]:
    """Normalised weights in float64."""
    if weights is None:
        return torch.full((n,), 1 / n, dtype=torch.float64)
    given = weights.detach().cpu().numpy() if isinstance(weights, Tensor) else np.asarray(weights)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"the weights have dtype {given.dtype}: real numbers are needed")
    if given.shape != (n,):
        raise ValueError(f"weights have shape {given.shape}: {n} points need shape ({n},)")
    values = given.astype(np.float64)
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError("weights must be finite and not negative")
    if not values.max() > 0:
        raise ValueError("all weights are zero: at least one must be positive")
    values = values / values.max()
    return torch.from_numpy(values / values.sum())


def _standardise(
    points: Tensor, weights: Tensor, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, " d"], float, Float[Tensor, "N d"], Float[Tensor, " N"]]:
    """Weighted mean (float64), a unit near the spread per coordinate, the points with both taken out, their squares.

    The unit is a power of two, so that it scales without rounding. The mean is summed about the first point, so that a
    constant coordinate comes out as exactly zero, and rounded to the data's dtype, so that subtracting it rounds once.
    """
    work = points.dtype if points.dtype in (torch.float32, torch.float64) else torch.float64
    chunks = [slice(i, i + CHUNK) for i in range(0, len(points), CHUNK)]
    weights = weights.to(device)
    first = points[0].to(device, work)
    shift = torch.zeros_like(first, dtype=torch.float64)
    size = 0.0
    for rows in chunks:
        block = points[rows].to(device, work)
        size = max(size, float(block.abs().max()))
        shift += (weights[rows].to(work) @ (block - first)).double()
    centre = (first.double() + shift).to(work)
    coarse = 2.0 ** round(float(np.log2(size or 1.0)))  # keeps float64 data in the range of float32
    atoms = torch.empty(points.shape, dtype=dtype, device=device)
    squares = torch.empty(len(points), dtype=torch.float64, device=device)
    for rows in chunks:
        atoms[rows] = (points[rows].to(device, work) - centre).div_(coarse).to(dtype)
        squares[rows] = atoms[rows].double().square().sum(1)  # of the atoms as rounded, like every product with them
    spread = float(weights @ squares / points.shape[1]) ** 0.5
    fine = 2.0 ** round(float(np.log2(spread or 1.0)))
    return centre.double(), coarse * fine, atoms.div_(fine), squares / fine**2
