"""The covariance of posteriors on many atoms: its operator norm, with an error bound, and its trace.

With m = sum w_i x_i, the norm of Cov[rX | y] = r^2 (sum w_i x_i x_i^T - m m^T) is found on one of five routes, the
shortest by a count of flops. With N atoms in R^d, of which n matter to the posterior:

- gathered, 2 n^2 d, for n <= 64: the Gram matrix of those, squared until an enclosure closes (certified);
- whole, N d^2, for d <= 64: second moments from one product with the atoms' own, squared likewise (certified);
- sparse, 56 n d or less, for d > 64 like what follows: a Krylov space on the atoms that matter alone, those left out
  bounded, from the Ritz vectors on the heaviest of them. The SNRs of a query gather their atoms together;
- projected, 700 N or 5,000 N: leading directions of the data (16, in many dimensions then 128), and to second order the
  coupling to all others, that a random sketch measures. Where that is too coarse, what follows;
- dense, 56 N d: a Krylov space on all atoms, many queries and SNRs in the same products.

Which posteriors share products is up to `brenier.laws.path`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from brenier.core.linalg import norm_by_krylov, norm_by_squaring
from brenier.laws.atoms import (
    EXACT,
    FINE,
    LITTLE,
    Covariances,
    SecondMoments,
    Subspace,
    chunk_rows,
    chunked,
    covariance_norm,
    random_start,
)
from brenier.laws.stakes import least_stake, stakes

FEW = 64  # atoms up to which a posterior is gathered into one small Gram matrix
NARROW = 64  # dimensions up to which the covariance may be formed whole
WIDE = 1024  # dimensions past which many leading directions are few
BLOCK = 4  # vectors that a Krylov space starts from: with three, one in 2,000 misses the largest eigenvalue by 1%
KRYLOV = 56  # flops per atom and dimension: three products and a half with each of them
SLOWER = 6  # a flop on the atoms of one query takes as long as so many on all atoms for many queries at once
CALL = 1e8  # flops that take as long as setting up a Krylov space
SMALL, LARGE = (16, 64), (128, 128)  # leading directions of the data, and sketched ones for the rest
HEAVY, LIGHT = 0.1, 3  # of mass and second moment, what the heaviest atoms leave out; how many times fewer they must be
COARSE, TAKEN = 0.01, 2  # error of a norm on them, and how many of its Ritz vectors are taken along
POOL = 128  # posteriors on all atoms that are localized together
EACH = 32  # bytes that each of them takes for an atom
LEAST = 2**18  # numbers of atoms up to which float64 costs nothing
NARROWEST = 1e-4  # of |x|^2, what a norm is not below for which products with the atoms themselves do in float32
SPARE = 2**24  # bytes that are never spared: routes should not depend on the memory where it is not short
ROUNDED = 100  # second moments over norms, at most: past the collapse what sums tell of the former is rounding
HEAD = 32  # of the leading directions, how many have their covariance formed whole
PROJECTED = {SMALL: 700, LARGE: 5000}  # flops per atom

Found = tuple[Float[Tensor, "*n"], Float[Tensor, "*n"], Float[Tensor, "*n"]]  # norm, trace, relative error of the norm


@dataclass(frozen=True)
class Posterior:
    """Posterior weights at some queries, each at an SNR of its own."""

    weights: Float[Tensor, "n N"]  # normalised
    x: Float[Tensor, "n d"]  # clean part of the query
    moment: Float[Tensor, " n"]  # sum w_i |x - x_i|^2
    snr: Float[Tensor, " n"]

    def at(self, index: Tensor) -> Posterior:
        """The same at the queries in `index`."""
        if len(index) == len(self.weights):
            return self
        return Posterior(*(part.index_select(0, index) for part in (self.weights, self.x, self.moment, self.snr)))


@dataclass(frozen=True)
class Waiting:
    """A posterior that is to be localized together with others: of the same query, or on all atoms."""

    place: int  # of its SNR
    weights: Float[Tensor, " N"]
    snr: float
    least: float  # stake below which an atom is left out
    count: int  # of atoms that have more


class PosteriorNorms:
    """Norms and traces of the posterior covariances of the same atoms, centred and scaled to unit spread.

    Args:
        atoms: x_i, shape (N, d).
        squares: |x_i|^2, in float64.
        log_weights: log w_i.
        tolerance: relative error allowed in the norm.
        dropped: posterior mass that may be left out where few atoms matter.
        memory: bytes that one call may take beyond the atoms.
    """

    def __init__(
        self,
        atoms: Float[Tensor, "N d"],
        squares: Float[Tensor, " N"],
        log_weights: Float[Tensor, " N"],
        tolerance: float,
        dropped: float,
        memory: float,
    ) -> None:
        self._atoms, self._squares, self._log_weights = atoms, squares, log_weights
        self.tolerance, self._dropped, self._memory = tolerance, dropped, memory
        self._dim, self._dtype, self._device = atoms.shape[1], atoms.dtype, atoms.device
        little = atoms.numel() < LEAST or tolerance < EXACT
        self.fine = torch.float64 if little else atoms.dtype  # what second moments are summed in
        self._kept, self._threads = threading.local(), torch.get_num_threads()

    def prepare(self) -> None:
        """Compute now what all queries share, before workers ask for it at the same time."""
        if len(self._atoms) > FEW and self.second_moments is None:
            for space in self.subspaces:
                self._moments_in(space)
            _ = self.moments, self._random, self.concentration

    def select(self, weights: Tensor, distances: Tensor, ess: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The atoms that matter most at each query, heaviest first, and how many matter.

        Those left out hold at most `dropped` of the posterior mass and of the second moment together, see `stakes`:
        what they hold, and that moment, come along. The count is one more than are listed where that takes too many.
        """
        most = min(FEW, len(self._atoms))
        listed = most == len(self._atoms)  # then nothing can be left out
        order = torch.arange(most, device=weights.device).repeat(len(weights), 1)
        count = torch.full((len(weights),), most if listed else most + 1, device=weights.device)
        lost, moment = (torch.zeros(len(weights), dtype=torch.float64, device=weights.device) for _ in range(2))
        rows = (ess < most).nonzero()[:, 0]
        if len(rows):
            share, moment[rows] = stakes(weights.index_select(0, rows), distances.index_select(0, rows))
            top = share.topk(most, dim=1)
            left = share.sum(1, dtype=torch.float64)[:, None] - top.values.cumsum(1, dtype=torch.float64)
            order[rows] = top.indices
            count[rows] = (left > self._dropped).sum(1) + 1
            if listed:
                count[rows] = count[rows].clamp_max(most)
            lost[rows] = left.gather(1, count[rows, None].clamp_max(most) - 1)[:, 0].clamp_min(0)
        return order, count, lost, moment

    @cached_property
    def moments(self) -> Float[Tensor, "N d"]:
        """The atoms, in float64 where they are few."""
        return self._atoms.to(self.fine) if self._atoms.numel() < LITTLE else self._atoms

    @cached_property
    def _random(self) -> Float[Tensor, "b N"]:
        """What Krylov spaces start from: the same for every query, so that blocks of any size give the same numbers."""
        return torch.randn(BLOCK, len(self._atoms), generator=torch.Generator().manual_seed(0)).to(self.fine)

    @cached_property
    def concentration(self) -> float:
        """The share of the data's second moment along their leading direction: posteriors hardly ever have less."""
        some = self._atoms[:: max(1, len(self._atoms) // 2048)]
        weights = torch.full((1, len(some)), 1 / len(some)).to(some)
        start = random_start(weights, some, self._random[:, : len(some)].to(some))
        norm, _, _ = covariance_norm(weights, some, start, 0.05)
        trace = some.var(0, correction=0).sum()
        return max(float(norm[0] / trace.clamp_min(torch.finfo(trace.dtype).tiny)), 1 / self._dim)

    @cached_property
    def subspaces(self) -> Sequence[Subspace]:
        """Leading directions of the data, few and more, as far as there is room for them.

        None where a sketch of the rest would not do.
        """
        if self._dim <= NARROW or self.fine != self.moments.dtype:
            return []
        numbers = [rank + sketch + (sketch // 8) ** 2 + 1 for rank, sketch in (SMALL, LARGE)]
        room = max(self._memory / 2, SPARE) / self.moments.element_size() / len(self._atoms)
        sizes = [SMALL] * (numbers[0] <= room) + [LARGE] * (sum(numbers) <= room and self._dim > WIDE)
        return [Subspace.of(self.moments, self._squares, *size) for size in sizes]

    @cached_property
    def second_moments(self) -> SecondMoments | None:
        """Of the atoms, where they have few coordinates."""
        if self._dim > NARROW:
            return None
        dtype = self.fine if self.tolerance < EXACT else self._dtype
        return SecondMoments(self._atoms, max(self._memory / 4, SPARE), dtype)

    @cached_property
    def _inner(self) -> dict[int, SecondMoments]:
        return {}

    def _moments_in(self, space: Subspace) -> SecondMoments:
        """Second moments of the first coordinates in a subspace."""
        rank = space.atoms.shape[1]
        if rank not in self._inner:
            self._inner[rank] = SecondMoments(space.atoms[:, :HEAD].contiguous(), self._memory / 16)
        return self._inner[rank]

    def gathered(
        self,
        order: Int[Tensor, "n k"],
        count: Int[Tensor, " n"],
        lost: Float[Tensor, " n"],
        moment: Float[Tensor, " n"],
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        r: float,
    ) -> Found:
        """Few atoms, the first `count` of `order`, at r x + z; others hold `lost` of mass and second `moment`.

        Their differences to x are exact, so logits are computed anew, then the small Gram matrix. Of the others,
        |x_i - m|^2 <= 2 |x_i - x|^2 + 2 |x - m|^2 about the mean m adds to the norm, which is in the error.
        """
        most = int(count.max())
        index, valid = order[:, :most], torch.arange(most, device=self._device) < count[:, None]
        steps = self._atoms.index_select(0, index.flatten()).view(*index.shape, -1).sub_(x[:, None])  # (n, m, d)
        square = torch.linalg.vector_norm(steps, dim=2, dtype=torch.float64).square()
        steps = steps.double()
        along = (steps @ z.double()[:, :, None])[..., 0]
        logits = self._log_weights[index] - square * (r**2 / 2) + r * along
        weights = logits.masked_fill_(~valid, -torch.inf).softmax(1)
        steps.sub_(weights[:, None] @ steps)  # where nearly all is on an atom that x is far from, float32 is too coarse
        steps = steps.mul_(r * weights.sqrt()[..., None]).to(self._dtype)
        gram = steps @ steps.mT if steps.shape[1] <= steps.shape[2] else steps.mT @ steps
        norm, trace, error = self._told(gram, self._dropped * (1 + 2 * ROUNDED))
        ratio = (moment * r**2 / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max_(ROUNDED)
        return norm, trace, error + (lost * (1 + 2 * ratio)).to(error)

    def whole(self, weights: Float[Tensor, "n N"], x: Float[Tensor, "n d"], snr: Float[Tensor, " n"]) -> Found:
        """Few dimensions: the covariance itself, under normalised weights of queries with clean parts x."""
        assert self.second_moments is not None  # asked by the caller
        matrix, blurred = self.second_moments.covariance(weights)
        rows = blurred.nonzero()[:, 0]
        if len(rows):  # by differences to the mean of atoms that have a share that rounding leaves
            some = weights.index_select(0, rows)
            mean = some @ self._atoms
            distances = self._squares.to(some) - 2 * (mean @ self._atoms.T) + mean.square().sum(1, keepdim=True)
            stake, _ = stakes(some, distances.clamp_min_(0))
            kept = stake >= least_stake(stake, torch.finfo(stake.dtype).eps)[:, None]
            for i, own, chosen in zip(rows.tolist(), some, kept, strict=True):
                share, steps = own[chosen].to(matrix), (self._atoms[chosen] - x[i]).to(matrix)
                share /= share.sum()
                steps -= share @ steps
                matrix[i] = (steps * share[:, None]).T @ steps
        norm, trace, error = (part.to(self._dtype) for part in self._told(matrix.mul_(snr.square()[:, None, None])))
        return norm, trace, error

    def _told(self, matrices: Float[Tensor, "n m m"], spared: float = 0.0) -> Found:
        """Norm, trace and error, in which what sums may have rounded has a share; some of the tolerance is `spared`."""
        rounding = min(EXACT if matrices.dtype == torch.float32 else FINE, self.tolerance / 2)
        least = (self.tolerance - rounding) / 2
        norm, width, _ = norm_by_squaring(matrices, max(self.tolerance - rounding - spared, least))
        return norm, matrices.diagonal(dim1=1, dim2=2).sum(1), width + rounding * (norm > 0)

    def projected(self, posterior: Posterior, space: Subspace) -> tuple[Found, Float[Tensor, "n d"]]:
        """Many atoms in many dimensions, by their leading directions; an infinite error where these do not tell.

        Then the norm is that among them. The directions found come along.
        """
        rank, r2 = space.atoms.shape[1], posterior.snr.square()
        weights = _normalised(posterior.weights, space.atoms.dtype)
        matrix, blurred = self._moments_in(space).covariance(weights)
        values, vectors = torch.linalg.eigh(matrix)
        theta, inner, v, second = values[:, -1], torch.zeros_like(values[:, -1]), vectors[..., -1], values[:, -2]
        if rank > HEAD:
            start = torch.nn.functional.pad(vectors[..., -2:].mT, (0, rank - HEAD))
            theta, inner, ritz = covariance_norm(weights, space.atoms, start, self.tolerance / 4, steps=12)
            v = ritz[:, 0]
        norm, trace, error = space.extended(weights, theta, inner, v, second, self.tolerance)
        norm, error = torch.where(blurred, theta, norm), torch.where(blurred, torch.inf, error)
        norm, trace, error = (part.to(self._dtype) for part in (norm * r2, trace * r2, error))
        return (norm, trace, error), v @ space.basis.T

    def dense(self, posterior: Posterior, direction: Float[Tensor, "n d"] | None) -> Found:
        """A Krylov space on all atoms, for all queries at once; `direction` is what projections found.

        The sums are over atoms and not over steps from x to them, of which far narrower posteriors need more digits.
        """
        norm, trace, error = (torch.zeros_like(posterior.moment) for _ in range(3))
        rows = max(1, int(self._room / (EACH * len(self._atoms))))
        narrow = posterior.moment * self.concentration < NARROWEST * posterior.x.square().sum(1)
        for chosen, fine in ((narrow, torch.float64), (~narrow, self.fine)):
            every = chosen.nonzero()[:, 0]
            for index in every.split(rows) if len(every) else ():
                part = posterior.at(index)
                along = None if direction is None else direction[index]
                found = self._dense(part, along, fine)
                for whole, own in zip((norm, trace, error), found, strict=True):
                    whole[index] = own.to(whole)
        r2 = posterior.snr.square()
        return norm * r2, trace * r2, error

    def _dense(self, posterior: Posterior, direction: Float[Tensor, "n d"] | None, fine: torch.dtype) -> Found:
        """Of X and not of r X, with sums in a dtype."""
        atoms = self.moments
        weights, x = _normalised(posterior.weights, fine), posterior.x.to(fine)
        if direction is None:
            start = random_start(weights.to(atoms), atoms, self._random.to(atoms)).to(fine)
        else:  # with fewer random ones, which guard against taking what was next for the largest
            start = random_start(weights.to(atoms), atoms, self._random[: BLOCK - 2].to(atoms)).to(fine)
            length = torch.linalg.vector_norm(start[:, :1], dim=2, keepdim=True)
            start = torch.cat([length * direction[:, None].to(fine), start], 1)
        covariances = Covariances(weights, chunked(atoms, fine), about=x)
        norm, error, _ = norm_by_krylov(covariances, start, tolerance=self.tolerance)
        return norm, posterior.moment.to(norm) - covariances.mean.square().sum(1), error

    def _gather(self, index: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        """Some atoms, in room that every thread keeps for itself: to allocate it would cost more than to fill it."""
        room = getattr(self._kept, "room", None)
        if room is None or len(room) < len(index):
            self._kept.room = room = self._atoms.new_empty(len(index), self._dim)
        return torch.index_select(self._atoms, 0, index, out=room[: len(index)])

    def sparse(
        self,
        x: Float[Tensor, " d"],
        distances: Float[Tensor, " N"],
        waiting: Sequence[Waiting],
    ) -> Found:
        """A Krylov space for each of some posteriors of one query, on the atoms that matter to any of them.

        What is left out adds at most its second moment about x to the norm, and takes its mass from what the others
        weigh: that may be half the tolerance, and is counted in the error.
        """
        weights = torch.stack([each.weights for each in waiting])
        least = torch.tensor([each.least for each in waiting]).to(weights)
        stake, moment = stakes(weights, distances)
        while True:
            kept = (stake >= least[:, None]).any(0)
            left = (stake * ~kept).sum(1, dtype=torch.float64)  # of mass and second moment
            kept = kept.nonzero()[:, 0]
            some = weights[:, kept].to(self.fine)
            some /= some.sum(1, keepdim=True)
            near, start = self._near(x, kept, some, stake[:, kept])
            norm, error, _ = norm_by_krylov(near, start, tolerance=self.tolerance / 2)
            left = (left * (1 + moment / norm.clamp_min(torch.finfo(norm.dtype).tiny))).to(error)
            over = left > self.tolerance / 2
            if not bool(over.any()):
                break
            least = torch.where(over, least * (self.tolerance / 8 / left).to(least), least)
        trace = some @ distances[kept].to(some) - near.mean.square().sum(1)
        r2 = torch.tensor([each.snr**2 for each in waiting], dtype=torch.float64).to(norm)
        norm, trace, error = (part.to(self._dtype) for part in (norm * r2, trace * r2, error + left))
        return norm, trace, error

    def _near(
        self,
        x: Float[Tensor, " d"],
        kept: Int[Tensor, " m"],
        weights: Float[Tensor, "n m"],
        stake: Float[Tensor, "n m"],
    ) -> tuple[Covariances, Float[Tensor, "n b d"]]:
        """Covariances on some atoms, and vectors to start from.

        These are the leading Ritz vectors on the heaviest atoms alone where those are much fewer, and else random.
        """
        heavy = (stake >= least_stake(stake, HEAVY)[:, None]).any(0)
        index = heavy.nonzero()[:, 0]
        if LIGHT * len(index) > len(kept):
            steps = self._gather(kept).sub_(x).to(weights.dtype)
            return Covariances(weights, chunked(steps)), random_start(weights, steps, self._random[:, kept])
        steps = self._gather(kept[index]).sub_(x).to(weights.dtype)
        some = weights[:, index]
        some /= some.sum(1, keepdim=True)
        start = random_start(some, steps, self._random[:, kept[index]])
        start = covariance_norm(some, steps, start, COARSE)[2][:, :TAKEN]

        def chunks() -> Iterator[Tensor]:
            for rows in kept.split(chunk_rows(self._dim)):
                yield self._atoms[rows].sub_(x).to(weights.dtype)

        return Covariances(weights, chunks), start

    @property
    def pool(self) -> int:
        """Posteriors on all atoms that are localized together: products with so many rows are at full speed."""
        each = 8 if self.second_moments is not None else EACH  # of whole covariances weights alone
        return max(1, min(POOL, int(self._room / (each * len(self._atoms)))))

    @property
    def _room(self) -> float:
        """Bytes for the posteriors of a thread: half of all is for what they share."""
        return self._memory / 2 / self._threads

    def cost(self, count: Num[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Flops on all atoms that take as long as posteriors on so many."""
        return SLOWER * KRYLOV * self._dim * count + CALL / 4

    @property
    def least_cost(self) -> float:
        """Flops of the shortest route that takes all atoms, in many dimensions."""
        return len(self._atoms) * (PROJECTED[SMALL] if self.subspaces else KRYLOV * self._dim)


def _normalised(weights: Float[Tensor, "n N"], dtype: torch.dtype) -> Float[Tensor, "n N"]:
    """Normalised to the precision of another dtype, if it is another."""
    if weights.dtype == dtype:
        return weights
    weights = weights.to(dtype)
    return weights / weights.sum(1, keepdim=True)
