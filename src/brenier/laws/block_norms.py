"""Norms of posteriors on atoms in blocks, for a batch of queries at all SNRs: rounds over the blocks, few of them.

scouts   blocks that cannot matter are found by where they lie, see `laws.screening`
first    sums of weights, of their squares, of |x - x_i|^2; where posteriors are broad also second moments in the
         leading directions of the data: in up to 64 dimensions these are the covariance
second   for broad ones a sketch of all other directions, as `laws.atoms.Subspace`; for narrow ones the atoms that
         matter, looked for in the blocks that hold mass
last     those atoms, read by their numbers; what is left by Krylov spaces, a round for each product, from what is
         leading in the listed atoms or in a sample, see `laws.block_starts`
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.blocks.blocks import Blocks
from brenier.core.linalg import norm_by_krylov, norm_by_squaring
from brenier.laws import block_sums as sums
from brenier.laws.atoms import EXACT, FINE, exp_, second_order
from brenier.laws.base import Screened
from brenier.laws.block_draws import DRAWN, Variances, merge_variances, norms_along, pays, variances
from brenier.laws.block_products import Products, merge_product, products
from brenier.laws.block_starts import TAKEN, from_sample
from brenier.laws.gathered import Listed, grouped, solved
from brenier.laws.posterior import FEW
from brenier.laws.screening import Places, kept

NARROW = 64  # dimensions up to which covariances are formed whole
SIZES = {1024: (16, 64), 2**62: (32, 128)}  # up to how many dimensions: leading directions, random ones for the rest
BROAD = 64  # effective sample size from which a posterior's norm is sought in leading directions
FIRST = 0.25  # of the tolerance, that a Krylov space on atoms that were drawn may leave
ROOM = 24  # basis vectors of a Krylov space
PARTS = 4  # groups of posteriors on few atoms, per thread
SHARE = 0.75  # of the tolerance, that its measured error may take; the rest is for atoms that are left out
SAMPLED = 64  # atoms of a sample that tell how large a stake so many of all have
LEAST = 1e-6  # of a norm that is not worth a round for each product, whatever its relative error
FURTHER = 1000  # blocks left out may have so much less mass than atoms: far away, it adds more to second moments
CLOSER = 100  # cheap norms are found so much closer: else it shows where rounding ends an iteration a step earlier


@dataclass(frozen=True)
class Ground:
    """Atoms in blocks, and what is known of them.

    Attributes:
        blocks: where they are.
        frame: the unit that they are taken in.
        places: where each block lies.
        sample: some of them, shape (m, d).
        basis: leading directions and a sketch of the rest, shape (d, k + s), where there are more than `NARROW`.
        tolerance: relative error allowed in norms.
        dropped: posterior mass that may be left out.
        memory: bytes that may be taken.
        concentration: share of the data's second moment along their leading direction: posteriors hardly have less.
    """

    blocks: Blocks
    frame: sums.Frame
    places: Places
    sample: Float[Tensor, "m d"]
    basis: Float[Tensor, "d f"] | None
    tolerance: float
    dropped: float
    memory: float
    concentration: float

    @property
    def dim(self) -> int:
        """The dimension."""
        return self.blocks.dim

    @property
    def lost(self) -> float:
        """Share of mass and second moment that may be left out of a norm: what that does to it is measured."""
        return self.tolerance / 32 * self.concentration

    @property
    def inside(self) -> int:
        """Coordinates in which second moments are formed whole."""
        return self.dim if self.basis is None else sizes(self.dim)[0]


def sizes(dim: int) -> tuple[int, int]:
    """How many leading directions are taken in so many dimensions, and random ones for the rest."""
    rank, sketch = next(found for most, found in SIZES.items() if dim <= most)
    return min(rank, dim // 2), sketch


class Batch:
    """One batch of queries at all SNRs: norms, traces, effective sample sizes and errors of norms, (S, n)."""

    def __init__(self, ground: Ground, queries: sums.Queries) -> None:
        self._ground, self._queries, self._blocks = ground, queries, ground.blocks
        self._shape = len(queries.ratios), len(queries.x)
        self._squares = torch.tensor(queries.ratios, dtype=torch.float64).square()[:, None].expand(*self._shape)
        self._norm, self._trace = (torch.zeros(self._shape, dtype=torch.float64) for _ in range(2))
        self._error = torch.full(self._shape, torch.inf, dtype=torch.float64)
        self._leading: tuple[Tensor, ...] = ()  # SNRs, and what is known of posteriors there in leading directions
        self._listed: dict[tuple[int, int], Tensor] = {}  # leading vectors on listed atoms, by SNR and query

    def localize(self, advance: Callable[[float], None]) -> tuple[tuple[Tensor, ...], Screened]:
        """All that is asked of the posteriors, and what was left out."""
        broad, active, left = self._broad(), *self._screen()
        first = sums.First(self._queries, self._inside(), broad)
        asked = (
            None
            if active is None
            else {k: a.clone() for k in range(len(self._blocks)) if bool((a := active[:, :, k]).any())}
        )
        found = self._blocks.map_reduce(
            sums.posterior_sums, sums.merge_sums, shared=first, asked=asked, advance=lambda part: advance(part * 0.6)
        )
        ess = found.mass.square() / found.square
        dropped = 0.0 if active is None else float((left - found.log_mass).exp().max())
        read = 1.0 if active is None else float(active.double().mean())
        rest = self._second(found, broad, ess, lambda part: advance(part * 0.3))
        if len(rest[0]):
            self._krylov(found, rest)
        advance(0.1)
        return (self._norm * self._squares, self._trace * self._squares, ess, self._error), Screened(dropped, read)

    # What has to be read

    def _broad(self) -> Int[Tensor, " B"]:
        """The SNRs at which posteriors are broad, judged by a sample of the atoms and of the queries."""
        sample, queries = self._ground.sample, self._queries
        some = torch.arange(0, self._shape[1], max(1, self._shape[1] // 64))
        grams = queries.grams(some, sample, sample.double().square().sum(1))
        least = 8.0 if self._ground.dim > NARROW else 1.5
        chosen: list[int] = []
        for s in range(self._shape[0]):
            weights = queries.logits(*grams, s).softmax(1)
            ess = 1 / weights.double().square().sum(1)
            if float(ess.quantile(0.75)) >= least:
                chosen.append(s)
        return torch.tensor(chosen, dtype=torch.long)

    def _inside(self) -> Float[Tensor, "d k"] | None:
        ground = self._ground
        return None if ground.basis is None else ground.basis[:, : ground.inside]

    def _screen(self) -> tuple[Tensor | None, Tensor]:
        """Which blocks have to be read at which SNR for which query, and the log of what all others weigh at most.

        None where no block can be left out.
        """
        ground, size = self._ground, self._shape[0]
        left = torch.full(self._shape, -torch.inf, dtype=torch.float64)
        if len(self._blocks) == 1:
            return None, left
        best = torch.zeros(self._shape, dtype=torch.long)
        hope = False
        for s in range(size):
            bounds = ground.places.bounds(self._queries, s)
            most, best[s] = bounds.max(1)
            hope |= bool((bounds.amin(1) <= most + math.log(ground.dropped / FURTHER)).any())
        if not hope:
            return None, left
        asked = {int(k): best == k for k in best.unique()}
        bare = sums.First(self._queries, None, torch.zeros(0, dtype=torch.long))
        known = self._blocks.map_reduce(sums.posterior_sums, sums.merge_sums, shared=bare, asked=asked).log_mass
        active = torch.ones(*self._shape, len(self._blocks), dtype=torch.bool)
        for s in range(size):
            active[s], left[s] = kept(ground.places.bounds(self._queries, s), known[s], ground.dropped / FURTHER)
        return (None, left) if bool(active.all()) else (active, left)

    # Norms

    def _second(
        self, found: sums.Sums, broad: Tensor, ess: Tensor, advance: Callable[[float], None]
    ) -> Int[Tensor, "2 P"]:
        """Norms of what leading directions or few atoms tell; the rest is returned, numbers of SNRs and queries."""
        ground, done = self._ground, torch.zeros(self._shape, dtype=torch.bool)
        moment = found.moment / found.mass
        means, values, vectors, blurred = self._moments_inside(found)
        self._leading = broad, values, vectors, blurred
        wide = torch.zeros(self._shape, dtype=torch.bool)
        wide[broad] = ~blurred & ((ess[broad] >= BROAD) | (ground.dim <= NARROW))
        if ground.dim <= NARROW:
            done = wide
            pairs, inside = torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
            k = wide[broad]
            self._norm[wide], self._trace[wide], self._error[wide] = values[k][:, 0], values[k][:, 1], values[k][:, 2]
        else:
            pairs = wide.nonzero().T
            place = torch.zeros(self._shape[0], dtype=torch.long).index_copy_(0, broad, torch.arange(len(broad)))
            inside = place[pairs[0]] * self._shape[1] + pairs[1]
        few = ~done & (ess < 8 * BROAD)
        asked = self._holding(found, few)
        if pairs.shape[1] == 0 and not asked:
            return (~done).nonzero().T
        v = vectors.flatten(0, 1)[inside, :, -1] if pairs.shape[1] else torch.zeros(0, ground.inside)
        along = (v * means.flatten(0, 1)[inside]).sum(1) if pairs.shape[1] else torch.zeros(0)
        basis, rank = ground.basis, ground.inside
        told = sums.Second(
            self._queries,
            found.peak,
            found.mass,
            *found.about,
            self._least(found, few),
            pairs,
            v,
            along,
            basis,
            rank,
        )
        where: dict[int, Any] = dict.fromkeys(range(len(self._blocks))) if pairs.shape[1] else {}
        more = self._blocks.map_reduce(
            sums.second_sums, sums.merge_more, shared=told, asked=where | asked, advance=advance
        )
        if pairs.shape[1]:
            self._extend(pairs, values.flatten(0, 1)[inside], means.flatten(0, 1)[inside], more.outside)
        self._gather(more.cut(), few & (self._error > ground.tolerance), found.about)
        done |= (self._error <= ground.tolerance) | (moment * self._squares <= LEAST)
        return (~done).nonzero().T

    def _moments_inside(self, found: sums.Sums) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means, eigenvalues, vectors of covariances in the coordinates inside, and where these are blurred.

        Where all coordinates are inside, the second holds norm, trace and error instead.
        """
        inner = found.inner / found.mass[found.broad, :, None]
        dim = round((math.sqrt(9 + 8 * inner.shape[2]) - 3) / 2)
        mean, second = inner[..., :dim], inner[..., dim:]
        upper = torch.triu_indices(dim, dim)
        matrix = torch.zeros(*inner.shape[:2], dim, dim, dtype=inner.dtype)
        matrix[..., upper[0], upper[1]] = matrix[..., upper[1], upper[0]] = second
        square = matrix.diagonal(dim1=2, dim2=3).sum(2)
        matrix -= mean[..., :, None] * mean[..., None, :]
        trace = matrix.diagonal(dim1=2, dim2=3).sum(2)
        # As `SecondMoments`: a digit and a half for float32; sums of float64 may cancel ten digits.
        blurred = trace < (0.03 if self._queries.frame.fine == torch.float32 else 1e-8) * square
        if self._ground.dim <= NARROW:
            flat = matrix.flatten(0, 1)
            norm, width, _ = (
                norm_by_squaring(flat, self._ground.tolerance / CLOSER) if len(flat) else (flat.new_zeros(0),) * 3
            )
            info = torch.finfo(torch.float64)
            cancelled = (square / trace.clamp_min(info.tiny)).flatten()
            rounding = EXACT if self._queries.frame.fine == torch.float32 else FINE + 8 * info.eps * cancelled
            error = width + rounding * (norm > 0)
            values = torch.stack([norm, trace.flatten(), error], 1).view(*inner.shape[:2], 3)
            return mean, values, matrix[..., :0], blurred
        values, vectors = torch.linalg.eigh(matrix)
        return mean, values, vectors, blurred

    def _extend(self, pairs: Tensor, values: Tensor, means: Tensor, outside: Tensor) -> None:
        """Norms to second order in what couples leading directions to the others."""
        sketch = sizes(self._ground.dim)[1]
        side = sketch // 8
        mean, products = outside[:, :sketch], outside[:, sketch : sketch + side**2]
        rest, squares = outside[:, sketch + side**2], outside[:, sketch + side**2 + 1]
        coupling = outside[:, sketch + side**2 + 2 :].square().sum(1)
        centre = (mean[:, :side, None] * mean[:, None, side : 2 * side]).flatten(1)
        frobenius = torch.linalg.vector_norm(products / sketch - centre, dim=1) * sketch / side
        lost = mean.square().sum(1)
        trace = squares - means.square().sum(1) - lost
        bound = torch.minimum(rest, 1.5 * frobenius)
        theta, tolerance = values[:, -1], self._ground.tolerance
        norm, error = second_order(theta, 0.0, values[:, -2], coupling, bound, lost, trace, sketch, tolerance)
        s, q = pairs
        self._norm[s, q], self._trace[s, q], self._error[s, q] = norm, trace, error

    def _holding(self, found: sums.Sums, few: Tensor) -> dict[int, Tensor]:
        """The blocks in which posteriors of `few` atoms have all but a quarter of `dropped`, by their number."""
        if not bool(few.any()):
            return {}
        numbers, masses, moments = zip(*found.blocks, strict=True)
        apart, moment = found.about
        total, scale = found.log_mass, moment.clamp_min(1e-300)
        stakes = torch.stack([((part - total).exp() * (1 + apart / scale)).float() for part in masses])
        stakes += torch.stack([(part - total - scale.log()).exp().float() for part in moments])
        order = stakes.argsort(0)
        out = stakes.gather(0, order).double().cumsum(0) <= self._ground.dropped / 4
        held = torch.ones_like(out).scatter_(0, order, ~out) & few
        return {
            number: held[k].clone() for k, number in enumerate(numbers) if bool(held[k].any())
        }  # views are sent whole

    def _least(self, found: sums.Sums, few: Tensor) -> Float[Tensor, "S n"]:
        """What an atom must hold to be listed: so little that all others hold no more than an eighth of `dropped`.

        Where more than twice as many as are kept would be listed, judged by a sample, so much that about these are.
        """
        ground, sample, queries = self._ground, self._ground.sample, self._queries
        atoms = ground.blocks.shape[0]
        least = torch.full(self._shape, ground.dropped / 8 / atoms, dtype=torch.float64)
        rank = max(SAMPLED, math.ceil(2 * sums.MOST * len(sample) / atoms))
        if rank >= len(sample):
            return least
        squares, (apart, moment) = sums.squares(sample), found.about
        for rows in few.any(0).nonzero()[:, 0].split(max(1, sums.AT_ONCE // len(sample))):
            grams = queries.grams(rows, sample, squares)
            for s in range(self._shape[0]):
                at = few[s, rows].nonzero()[:, 0]
                q = rows[at]
                weights = queries.logits(grams[0][at], grams[1][at], s).double()
                weights = exp_(weights.sub_(found.peak[s, q, None])).div_(found.mass[s, q, None])
                steps = grams[0][at].double() + apart[s, q, None]
                stake = steps.div_(moment[s, q, None].clamp_min(1e-300)).clamp_max_(1).add_(1).mul_(weights)
                floor = stake.kthvalue(len(sample) - rank + 1, 1).values if len(at) else stake[:, 0]
                least[s, q] = torch.maximum(least[s, q], floor)
        return least

    def _gather(self, more: sums.More, few: Tensor, about: tuple[Tensor, Tensor]) -> None:
        """Norms of posteriors on few atoms, from those that matter: read by number, for some queries at a time."""
        ground, n = self._ground, self._shape[1]
        code, row, stake = more.code, more.row, more.stake.double()
        total, moment = more.visited.flatten(), (about[1] * (1 + (about[0] > 0).double())).flatten()
        starts = torch.searchsorted(code, torch.arange(self._shape[0] * n + 1))
        listed: list[Listed] = []
        for k in few.flatten().nonzero()[:, 0].tolist():
            part = slice(int(starts[k]), int(starts[k + 1]))
            left = (total[k] - stake[part].cumsum(0)).clamp_min(0)
            count = min(int((left > ground.dropped / 2).sum()) + 1, len(left))
            if count > FEW:  # a Krylov space: what is left out is counted
                count = max(FEW + 1, min(int((left > ground.lost).sum()) + 1, len(left)))
            lost = float(left[count - 1]) + ground.dropped / 4
            listed.append(Listed(k // n, k % n, row[part][:count].clone(), lost, float(moment[k])))
        budget = max(1, int(ground.memory / 4 / (4 * ground.dim)))  # atoms of a group
        share = sum(len(one.rows) for one in listed) // (PARTS * self._blocks.threads)
        groups = grouped(listed, min(budget, max(1, share)))
        told = self._queries, ground.tolerance, ground.dropped, ground.memory / 4
        asked = [(torch.cat([one.rows for one in group]).unique().numpy(), group) for group in groups]
        for group, answers in zip(groups, self._blocks.with_rows(solved, asked, told), strict=True):
            for one, (norm, trace, error, leading) in zip(group, answers, strict=True):
                self._norm[one.snr, one.query], self._trace[one.snr, one.query] = norm, trace
                self._error[one.snr, one.query] = error
                if leading is not None:
                    self._listed[one.snr, one.query] = leading

    def _krylov(self, found: sums.Sums, pairs: Int[Tensor, "2 P"]) -> None:
        """Norms of what neither leading directions nor few atoms tell: a round over the blocks for each product.

        Where products with all atoms cost more than with some that tell the tolerance, first on these.
        """
        held = self._holding(found, torch.ones(self._shape, dtype=torch.bool))
        draws = DRAWN / self._ground.tolerance**2
        if pays(self._ground.blocks.shape[0], self._ground.dim, draws):
            self._drawn(found, pairs, held, draws)
            pairs = pairs[:, self._error[pairs[0], pairs[1]] > self._ground.tolerance]
        for some in pairs.split(self._together(torch.float64), 1):
            norm, error, _, shift = self._space(found, some, held, self._start(*some), SHARE)
            self._tell(found, some, norm, error, shift)

    def _together(self, dtype: torch.dtype) -> int:
        """How many Krylov spaces there is room for."""
        return max(1, int(self._ground.memory / 4 / (2 * dtype.itemsize * ROOM * self._ground.dim)))

    def _space(
        self,
        found: sums.Sums,
        pairs: Tensor,
        held: dict[int, Tensor],
        start: Tensor,
        share: float,
        draws: float = math.inf,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Norms, their errors, at most a `share` of the tolerance, leading vectors, and means less x."""
        ground = self._ground
        shift = torch.zeros(pairs.shape[1], ground.dim, dtype=torch.float64)

        def apply(v: Tensor, index: Tensor) -> Tensor:
            told = self._asked(found, pairs[:, index], v, draws)
            asked = _by_block(held, pairs[:, index])
            got = self._blocks.map_reduce(products, merge_product, shared=told, asked=asked)
            product, shift[index] = got.product / got.mass[:, None, None], got.shift / got.mass[:, None]
            return (product - (v.double() @ shift[index, :, None]) * shift[index, None]).to(v)

        norm, error, leading = norm_by_krylov(apply, start, tolerance=share * ground.tolerance, room=ROOM)
        return norm.double(), error.double(), leading, shift

    def _asked(self, found: sums.Sums, pairs: Tensor, v: Tensor, draws: float, salt: int = 0) -> Products:
        least = self._ground.lost / self._ground.blocks.shape[0]
        return Products(self._queries, found.peak, found.mass, *found.about, pairs, v, least, draws, salt)

    def _drawn(self, found: sums.Sums, pairs: Int[Tensor, "2 P"], held: dict[int, Tensor], draws: float) -> None:
        """Norms from some of the atoms: directions from a Krylov space on these, and what others say of them."""
        dtype = self._queries.frame.fine
        for some in pairs.split(self._together(dtype), 1):
            s, q = some
            norm, error, leading, shift = self._space(found, some, held, self._start(s, q).to(dtype), FIRST, draws)
            v = leading.double()
            inside, known = self._known(s, q, v[:, 0])
            along = torch.stack([v[:, 0], inside, v[:, 1]], 1)
            told = self._asked(found, some, along, draws, salt=1)
            asked = Variances(told, (along @ shift[:, :, None])[..., 0], norm - known)
            got = self._blocks.map_reduce(variances, merge_variances, shared=asked, asked=_by_block(held, some))
            norm, noise = norms_along(got, known)
            self._tell(found, some, norm, error + noise, shift)

    def _known(self, s: Tensor, q: Tensor, v: Float[Tensor, "P d"]) -> tuple[Float[Tensor, "P d"], Float[Tensor, " P"]]:
        """The part of vectors in leading directions of the data, and the variance along it; 0 where it is not known."""
        broad, values, vectors, blurred = self._leading
        inside, known = torch.zeros_like(v), torch.zeros_like(v[:, 0])
        place = torch.full((self._shape[0],), -1).index_copy_(0, broad, torch.arange(len(broad)))
        at = (place[s] >= 0).nonzero()[:, 0]
        at = at[~blurred[place[s[at]], q[at]]]
        if self._ground.basis is None or len(at) == 0:
            return inside, known
        basis, k = self._ground.basis[:, : self._ground.inside].to(v), (place[s[at]], q[at])
        part = v[at] @ basis
        inside[at] = part @ basis.T
        known[at] = (values[k] * (vectors[k].mT @ part[:, :, None])[..., 0].square()).sum(1)
        return inside, known

    def _tell(self, found: sums.Sums, pairs: Tensor, norm: Tensor, error: Tensor, shift: Tensor) -> None:
        s, q = pairs
        moment = (found.about[1] * (1 + (found.about[0] > 0).double()))[s, q]
        error = error + self._ground.lost * (1 + moment / norm.clamp_min(1e-300))  # of atoms that are left out
        trace = found.moment[s, q] / found.mass[s, q] - shift.square().sum(1)
        self._norm[s, q], self._trace[s, q], self._error[s, q] = norm, trace, error

    def _start(self, snr: Int[Tensor, " P"], query: Int[Tensor, " P"]) -> Float[Tensor, "P b d"]:
        """Vectors to start from: leading ones on listed atoms, else in a sample and in the directions of the data."""
        broad, _, vectors, _ = self._leading
        start = torch.zeros(len(snr), TAKEN, self._ground.dim, dtype=torch.float64)
        names = list(zip(snr.tolist(), query.tolist(), strict=True))
        listed = torch.tensor([name in self._listed for name in names])
        for p in listed.nonzero()[:, 0].tolist():
            start[p] = self._listed[names[p]].double()
        rest = (~listed).nonzero()[:, 0]
        if len(rest):
            start[rest] = from_sample(self._queries, self._ground.sample, snr[rest], query[rest]).double()
        if self._ground.basis is not None and len(broad):
            place = torch.full((self._shape[0],), -1).index_copy_(0, broad, torch.arange(len(broad)))
            known = rest[place[snr[rest]] >= 0]
            inside = vectors[place[snr[known]], query[known], :, -1]
            start[known, -1] = inside.double() @ self._ground.basis[:, : self._ground.inside].T.double()
        return start


def _by_block(held: dict[int, Tensor], pairs: Int[Tensor, "2 P"]) -> dict[int, Tensor]:
    """Of the blocks that hold mass, those that these posteriors ask for, and which do."""
    return {k: on for k, mask in held.items() if bool((on := mask[pairs[0], pairs[1]]).any())}
