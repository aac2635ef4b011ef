"""The covariance of posteriors on many atoms: its operator norm, with an error bound, and its trace.

With m = sum w_i x_i, the norm of Cov[rX | y] = r^2 (sum w_i x_i x_i^T - m m^T) is found on one of five routes, the
shortest by a count of flops. With N atoms in R^d, of which n matter to the posterior:

- gathered, 2 n^2 d, for n <= 64: the Gram matrix of those, squared until an enclosure closes (certified);
- whole, N d^2, for d <= 64: second moments from one product with the atoms' own, squared likewise (certified);
- sparse, 56 n d: a Krylov space on the atoms that matter alone, those left out bounded. The SNRs of a query gather
  their atoms together;
- projected, 700 N or 5,000 N, for d > 64: leading directions of the data (16, in many dimensions then 128), and to
  second order the coupling to all others, that a random sketch measures. Where that is too coarse, what follows;
- dense, 56 N d: a Krylov space on all atoms, all queries in the same products.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.linalg import norm_by_squaring
from brenier.laws.atoms import SecondMoments, Subspace, covariance_norm, random_start

FEW = 64  # atoms up to which a posterior is gathered into one small Gram matrix
NARROW = 64  # dimensions up to which the covariance may be formed whole
WIDE = 1024  # dimensions past which many leading directions are few
BLOCK = 4  # vectors that a Krylov space starts from: with three, one in 2,000 misses the largest eigenvalue by 1%
KRYLOV = 56  # flops per atom and dimension: three products and a half with each of them
SLOWER = 6  # a flop on the atoms of one query takes as long as so many on all atoms for many queries at once
CALL = 1e8  # flops that take as long as setting up a Krylov space
SMALL, LARGE = (16, 64), (128, 128)  # leading directions of the data, and sketched ones for the rest
SPARE = 2**24  # bytes that are never spared: routes should not depend on the memory where it is not short
HEAD = 32  # of the leading directions, how many have their covariance formed whole
PROJECTED = {SMALL: 700, LARGE: 5000}  # flops per atom

Found = tuple[Float[Tensor, "*n"], Float[Tensor, "*n"], Float[Tensor, "*n"]]  # norm, trace, relative error of the norm


@dataclass(frozen=True)
class Posterior:
    """Posterior weights at some queries of one block at one SNR, with what they were computed from."""

    weights: Float[Tensor, "n N"]  # normalised
    x: Float[Tensor, "n d"]
    z: Float[Tensor, "n d"]
    distances: Float[Tensor, "n N"]  # |x - x_i|^2
    order: Int[Tensor, "n k"]  # the atoms that matter most, first ones first
    count: Int[Tensor, " n"]  # how many of them matter; more than k: too many to tell
    snr: float

    def at(self, index: Tensor) -> "Posterior":
        """The same at the queries in `index`."""
        if len(index) == len(self.weights):
            return self
        weights, x, z, distances = self.weights[index], self.x[index], self.z[index], self.distances[index]
        return Posterior(weights, x, z, distances, self.order[index], self.count[index], self.snr)


@dataclass(frozen=True)
class Waiting:
    """A posterior that is to be localized on the atoms that matter to it, together with others of the same query."""

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
        self._kept = threading.local()

    def of(
        self,
        weights: Float[Tensor, "n N"],
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        distances: Float[Tensor, "n N"],
        ess: Float[Tensor, " n"],
        r: float,
    ) -> Found:
        """Norm, trace and the norm's relative error at n queries y = r x + z.

        Args:
            weights: of the posteriors, normalised.
            x: clean part of the queries.
            z: noise of the queries.
            distances: |x - x_i|^2.
            ess: effective sample size of the weights.
            r: the SNR.
        """
        path = self.path(x, z, distances)
        path.add(weights, ess, r)
        norm, trace, error = path.found()
        return norm[0], trace[0], error[0]

    def path(self, x: Float[Tensor, "n d"], z: Float[Tensor, "n d"], distances: Float[Tensor, "n N"]) -> "Path":
        """The same at several SNRs, which are added one after the other."""
        return Path(self, x, z, distances)

    def prepare(self) -> None:
        """Compute now what all queries share, before workers ask for it at the same time."""
        if len(self._atoms) > FEW:
            for space in self.subspaces:
                self._moments_in(space)
            _ = self.second_moments, self.moments, self._random, self.concentration

    def select(self, weights: Tensor, distances: Tensor, ess: Tensor) -> tuple[Tensor, Tensor]:
        """The atoms that matter most at each query, heaviest first, and how many matter.

        Those left out hold at most `dropped` of the posterior mass and of the second moment about x together. The count
        is one more than are listed where that takes too many.
        """
        most = min(FEW, len(self._atoms))
        listed = most == len(self._atoms)  # then nothing can be left out
        order = torch.arange(most, device=weights.device).repeat(len(weights), 1)
        count = torch.full((len(weights),), most if listed else most + 1, device=weights.device)
        rows = (ess < most).nonzero()[:, 0]
        if len(rows):
            share = _stakes(weights[rows], distances[rows])
            top = share.topk(most, dim=1)
            left = share.sum(1, dtype=torch.float64)[:, None] - top.values.cumsum(1, dtype=torch.float64)
            order[rows] = top.indices
            count[rows] = (left > self._dropped).sum(1) + 1
            if listed:
                count[rows] = count[rows].clamp_max(most)
        return order, count

    def least(self, weights: Tensor, distances: Tensor, lost: Tensor) -> tuple[Tensor, Tensor]:
        """The largest stake, up to a factor of four, below which atoms may be left out; how many are not.

        Those left out have at most the stake `lost` together.
        """
        stake = _stakes(weights, distances)
        least = lost / stake.shape[1]  # all below it are no more than that
        for _ in range(12):
            more = (stake * (stake < 4 * least[:, None])).sum(1) <= lost
            if not bool(more.any()):
                break
            least = torch.where(more, 4 * least, least)
        return least, (stake >= least[:, None]).sum(1)

    @cached_property
    def moments(self) -> Float[Tensor, "N d"]:
        """The atoms in the dtype that second moments are summed in: float64 where the problem is small."""
        return self._atoms.double() if self._atoms.numel() < 2**22 else self._atoms

    @cached_property
    def _random(self) -> Float[Tensor, "b N"]:
        """What Krylov spaces start from: the same for every query, so that blocks of any size give the same numbers."""
        return torch.randn(BLOCK, len(self._atoms), generator=torch.Generator().manual_seed(0)).to(self.moments)

    @cached_property
    def concentration(self) -> float:
        """The share of the data's second moment along their leading direction: posteriors hardly ever have less."""
        some = self._atoms[:: max(1, len(self._atoms) // 2048)].double()
        some = some - some.mean(0)
        values = torch.linalg.eigvalsh(some @ some.T if len(some) < self._dim else some.T @ some)
        return max(float(values[-1] / values.sum().clamp_min(1e-300)), 1 / self._dim)

    @cached_property
    def subspaces(self) -> Sequence[Subspace]:
        """Leading directions of the data, few and more, as far as there is room for them."""
        if self._dim <= NARROW:
            return []
        numbers = [rank + 2 * sketch + min(rank, HEAD) ** 2 // 2 for rank, sketch in (SMALL, LARGE)]
        room = max(self._memory / 2, SPARE) / self.moments.element_size() / len(self._atoms)
        sizes = [SMALL] * (numbers[0] <= room) + [LARGE] * (sum(numbers) <= room and self._dim > WIDE)
        return [Subspace.of(self.moments, self._squares, *size) for size in sizes]

    @cached_property
    def second_moments(self) -> SecondMoments | None:
        """Of the atoms, where they have few coordinates and there is room for the products of these."""
        size = len(self._atoms) * self._dim * (self._dim + 3) // 2 * self.moments.element_size()
        if self._dim > NARROW or (size > max(self._memory / 4, SPARE) and self._dim > NARROW // 4):
            return None
        return SecondMoments(self._atoms, max(self._memory / 4, SPARE))

    @cached_property
    def _inner(self) -> dict[int, SecondMoments]:
        return {}

    def _moments_in(self, space: Subspace) -> SecondMoments:
        """Second moments of the first coordinates in a subspace."""
        rank = space.atoms.shape[1]
        if rank not in self._inner:
            self._inner[rank] = SecondMoments(space.atoms[:, :HEAD].contiguous(), self._memory / 4)
        return self._inner[rank]

    def gathered(self, posterior: Posterior) -> Found:
        """Few atoms: their differences to x are exact, so logits are computed anew, then the small Gram matrix."""
        most = int(posterior.count.max())
        index, valid = posterior.order[:, :most], torch.arange(most, device=self._device) < posterior.count[:, None]
        r = posterior.snr
        steps = self._atoms[index].sub_(posterior.x[:, None])  # (n, m, d)
        square = torch.linalg.vector_norm(steps, dim=2, dtype=torch.float64).square()
        along = (steps.double() @ posterior.z.double()[:, :, None])[..., 0]
        logits = self._log_weights[index] - square * (r**2 / 2) + r * along
        weights = logits.masked_fill_(~valid, -torch.inf).softmax(1).to(self._dtype)
        steps.sub_(weights[:, None] @ steps).mul_(r * weights.sqrt()[..., None])
        gram = steps @ steps.mT if steps.shape[1] <= steps.shape[2] else steps.mT @ steps
        norm, width, _ = norm_by_squaring(gram, self.tolerance)
        return norm, gram.diagonal(dim1=1, dim2=2).sum(1), width

    def whole(self, posterior: Posterior) -> Found:
        """Few dimensions: the covariance itself."""
        assert self.second_moments is not None  # asked by the caller
        matrix, blurred = self.second_moments.covariance(posterior.weights)
        for i in blurred.nonzero()[:, 0].tolist():
            kept = posterior.weights[i] > 0
            weights, steps = posterior.weights[i, kept], self._atoms[kept] - posterior.x[i]
            steps -= weights @ steps / weights.sum()
            matrix[i] = (steps * weights[:, None] / weights.sum()).T @ steps
        norm, width, _ = norm_by_squaring(matrix.mul_(posterior.snr**2), self.tolerance)
        return norm, matrix.diagonal(dim1=1, dim2=2).sum(1), width

    def projected(self, posterior: Posterior, space: Subspace) -> tuple[Found, Float[Tensor, "n d"]]:
        """Many atoms in many dimensions, by their leading directions; an infinite error where these do not tell.

        Then the norm is that among them. The directions found come along.
        """
        rank, r2 = space.atoms.shape[1], posterior.snr**2
        weights = posterior.weights.to(space.atoms.dtype)
        weights = weights / weights.sum(1, keepdim=True)  # to the precision of the moments below
        matrix, blurred = self._moments_in(space).covariance(weights)
        values, vectors = torch.linalg.eigh(matrix)
        theta, inner, v, second = values[:, -1], torch.zeros_like(values[:, -1]), vectors[..., -1], values[:, -2]
        if rank > HEAD:
            start = torch.nn.functional.pad(vectors[..., -2:].mT, (0, rank - HEAD))
            theta, inner, v = covariance_norm(weights, space.atoms, start, self.tolerance / 4, steps=12)
        norm, trace, error = space.extended(weights, theta, inner, v, second, self.tolerance)
        norm, error = torch.where(blurred, theta, norm), torch.where(blurred, torch.inf, error)
        norm, trace, error = (part.to(self._dtype) for part in (norm * r2, trace * r2, error))
        return (norm, trace, error), v @ space.basis.T

    def dense(self, posterior: Posterior, direction: Float[Tensor, "n d"] | None) -> Found:
        """A Krylov space on all atoms, for all queries at once; `direction` is what projections found."""
        atoms = self.moments
        norm, trace, error = (torch.zeros_like(posterior.weights[:, 0], dtype=atoms.dtype) for _ in range(3))
        rows = max(1, int(self._memory / (64 * BLOCK * len(atoms))))
        for index in torch.arange(len(norm), device=self._device).split(rows):
            part = posterior.at(index)
            weights, x = part.weights.to(atoms.dtype), part.x.to(atoms.dtype)
            weights = weights / weights.sum(1, keepdim=True)
            if direction is None:
                start = random_start(weights, atoms, self._random)
            else:  # with fewer random ones, which guard against taking what was next for the largest
                start = random_start(weights, atoms, self._random[: BLOCK - 2])
                length = torch.linalg.vector_norm(start[:, :1], dim=2, keepdim=True)
                start = torch.cat([length * direction[index, None], start], 1)
            norm[index], error[index], _ = covariance_norm(weights, atoms, start, self.tolerance, about=x)
            shift = weights @ atoms - x
            trace[index] = (weights * part.distances).sum(1) - shift.square().sum(1)
        r2 = posterior.snr**2
        norm, trace, error = (part.to(self._dtype) for part in (norm * r2, trace * r2, error))
        return norm, trace, error

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
        stake, moment = _stakes(weights, distances), (weights * distances).sum(1, dtype=torch.float64)
        while True:
            kept = (stake >= least[:, None]).any(0)
            left = (stake * ~kept).sum(1, dtype=torch.float64)  # of mass and second moment
            kept = kept.nonzero()[:, 0]
            some = weights[:, kept].to(self.moments.dtype)
            some /= some.sum(1, keepdim=True)
            steps = self._gather(kept).sub_(x).to(some.dtype)
            start = random_start(some, steps, self._random[:, kept])
            norm, error, _ = covariance_norm(some, steps, start, self.tolerance / 2)
            left = (left * (1 + moment / norm.clamp_min(torch.finfo(norm.dtype).tiny))).to(error)
            over = left > self.tolerance / 2
            if not bool(over.any()):
                break
            least = torch.where(over, least * (self.tolerance / 8 / left).to(least), least)
        trace = some @ distances[kept].to(some) - (some @ steps).square().sum(1)
        r2 = torch.tensor([each.snr**2 for each in waiting]).to(norm)
        norm, trace, error = (part.to(self._dtype) for part in (norm * r2, trace * r2, error + left))
        return norm, trace, error

    def cost(self, count: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Flops on all atoms that take as long as posteriors on so many."""
        return SLOWER * KRYLOV * self._dim * count + CALL / 4

    @property
    def least_cost(self) -> float:
        """Flops of the shortest route that takes all atoms."""
        if self.second_moments is not None:
            return len(self._atoms) * min(self._dim**2, KRYLOV * self._dim)
        return len(self._atoms) * (PROJECTED[SMALL] if self.subspaces else KRYLOV * self._dim)


class Path:
    """Norms and traces at n queries and the SNRs added so far; small posteriors wait for those of the same query."""

    def __init__(
        self, norms: PosteriorNorms, x: Float[Tensor, "n d"], z: Float[Tensor, "n d"], distances: Float[Tensor, "n N"]
    ) -> None:
        self._norms, self._x, self._z, self._distances = norms, x, z, distances
        self._found: list[Tensor] = []  # of each SNR, shape (3, n)
        self._waiting: list[list[Waiting]] = [[] for _ in x]

    def add(self, weights: Float[Tensor, "n N"], ess: Float[Tensor, " n"], r: float) -> None:
        """The next SNR, with the posterior weights there and their effective sample sizes."""
        norms, atoms = self._norms, weights.shape[1]
        order, count = norms.select(weights, self._distances, ess)
        posterior = Posterior(weights, self._x, self._z, self._distances, order, count, r)
        found = weights.new_zeros(3, len(weights))
        self._found.append(found)
        for rows in ((count > 1) & (count <= 8), (count > 8) & (count <= FEW)):  # so that few are padded to many
            index = rows.nonzero()[:, 0]
            if len(index):
                found[:, index] = torch.stack(norms.gathered(posterior.at(index)))
        many = (count > FEW).nonzero()[:, 0]
        if len(many) == 0:
            return
        least, matter = torch.zeros_like(ess), torch.full_like(count, atoms)
        narrow = (ess[many] < atoms / 8).nonzero()[:, 0]
        if len(narrow):
            rows = many[narrow]
            lost = torch.full_like(ess[rows], norms.tolerance / 10 * norms.concentration)
            least[rows], matter[rows] = norms.least(weights[rows], self._distances[rows], lost)
        wait = norms.cost(matter[many]) < norms.least_cost
        self._wait(posterior, many[wait], least, matter)
        rest = many[~wait]
        if len(rest) and norms.second_moments is not None:
            found[:, rest] = torch.stack(norms.whole(posterior.at(rest)))
            return
        direction = None
        for space in norms.subspaces:
            if len(rest) == 0:
                return
            (norm, trace, error), direction = norms.projected(posterior.at(rest), space)
            found[:, rest] = torch.stack([norm, trace, error])
            hard = error > norms.tolerance
            rest, direction = rest[hard], direction[hard]
        few = norms.cost(matter[rest]) < KRYLOV * atoms * self._x.shape[1]
        self._wait(posterior, rest[few], least, matter)
        rest, direction = rest[~few], None if direction is None else direction[~few]
        if len(rest):
            found[:, rest] = torch.stack(norms.dense(posterior.at(rest), direction))

    def _wait(self, posterior: Posterior, rows: Tensor, least: Tensor, count: Tensor) -> None:
        place, r = len(self._found) - 1, posterior.snr
        for i in rows.tolist():
            one = Waiting(place, posterior.weights[i].clone(), r, float(least[i]), int(count[i]))
            self._waiting[i].append(one)

    def found(self) -> Found:
        """Norms, traces and errors, each of shape (S, n)."""
        for i, waiting in enumerate(self._waiting):
            for group in _alike(waiting, self._x.shape[1]):
                results = self._norms.sparse(self._x[i], self._distances[i], group)
                for each, *result in zip(group, *results, strict=True):
                    self._found[each.place][:, i] = torch.stack(result)
        norm, trace, error = torch.stack(self._found, 1)
        return norm, trace, error


def _alike(waiting: list[Waiting], dim: int) -> Iterator[list[Waiting]]:
    """In groups, the larger ones first, that cost less together than apart."""
    left = sorted(waiting, key=lambda each: -each.count)
    while left:
        most = left[0].count
        group = [each for each in left if KRYLOV * (most - 2 * each.count) * dim < CALL or 4 * each.count >= most]
        left = left[len(group) :]
        yield group


def _stakes(weights: Float[Tensor, "n N"], distances: Tensor) -> Float[Tensor, "n N"]:
    """Of the mass and of the second moment about x, what each atom holds: an atom at x has only the former."""
    stake = weights * distances
    stake /= stake.sum(1, keepdim=True).clamp_min(torch.finfo(stake.dtype).tiny)
    return stake.add_(weights)
