"""What one block of atoms adds to the posteriors at many queries and SNRs: sums that merge, whatever the order.

With y = r x + z the logit of atom x_i is -r^2/2 |x - x_i|^2 - r <z, x - x_i>, so the two arrays of the products of
queries and atoms serve every SNR. Sums of weights are kept divided by exp(peak) of the largest logit so far, in
float64; merging two of them multiplies each by exp(peak - larger peak). Functions here run on workers: they take a
block, what all are told, and what this one is asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from brenier.core.blocks.blocks import Block
from brenier.core.points import as_tensor
from brenier.laws.atoms import CHUNK, exp_
from brenier.laws.block_points import few, held_in, squares

AT_ONCE = 2**19  # numbers of an array of queries x atoms: what caches hold
TOGETHER = 2**20  # and of weights that multiply features at once: many rows are faster than few
PIECE = 2**21  # numbers of atoms, or of their features: more would be memory that is mapped anew for each array
SMALL = 64  # dimensions up to which all products of coordinates are features
_INFINITE = 0x7F800000  # bits of infinity in float32
MOST = 2048  # atoms that are listed for a posterior: more are not gathered
ROUNDED = 1e-6  # of a second moment that rounding leaves of one which is subtracted from itself


@dataclass(frozen=True)
class Frame:
    """The unit that atoms are taken in: centred and scaled, as `laws.empirical` keeps them."""

    name: str
    centre: Float[Tensor, " d"]  # float64
    unit: float
    dtype: torch.dtype  # of the atoms
    wide: torch.dtype  # of products of atoms and queries
    fine: torch.dtype  # of second moments

    def atoms(self, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Float[Tensor, "m d"]:
        """Rows as atoms."""
        stored, atoms = as_tensor(values), torch.empty(values.shape, dtype=self.dtype)
        centre = self.centre.to(torch.promote_types(held_in(values.dtype), self.dtype))
        for part, out in zip(few(stored), few(atoms), strict=True):
            torch.div(part.to(centre.dtype) - centre, self.unit, out=out)
        return atoms

    def parts(
        self, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"
    ) -> Iterator[tuple[int, Float[Tensor, "m d"], Float[Tensor, " m"]]]:
        """Pieces of the rows, cut by the dimension alone: the number of the first, atoms, |x_i|^2."""
        dim = values.shape[1]
        step = max(1, min(CHUNK, PIECE // max(dim, min(dim, SMALL) * (min(dim, SMALL) + 3) // 2)))
        for start in range(0, len(values), step):
            atoms = self.atoms(values[start : start + step])
            yield start, atoms, squares(atoms)


@dataclass(frozen=True)
class Queries:
    """Points y = r x + z at several r, in the frame of the atoms."""

    frame: Frame
    x: Float[Tensor, "n d"]
    z: Float[Tensor, "n d"]
    ratios: Sequence[float]

    def grams(
        self, rows: Int[Tensor, " m"], atoms: Float[Tensor, "N d"], squares: Float[Tensor, " N"]
    ) -> tuple[Float[Tensor, "m N"], Float[Tensor, "m N"]]:
        """|x - x_i|^2 and <z, x - x_i> for the queries in `rows`."""
        x, z, wide, dtype = self.x[rows], self.z[rows], self.frame.wide, self.frame.dtype
        near = x.to(wide).square().sum(1)[:, None] + squares.to(wide)
        distances = torch.addmm(near, x.to(wide), atoms.to(wide).T, alpha=-2).clamp_min_(0).to(dtype)
        along = (z * x).sum(1, dtype=torch.float64)[:, None].to(wide)
        return distances, torch.addmm(along, z.to(wide), atoms.to(wide).T, alpha=-1).to(dtype)

    def pieces(
        self, block: Block, needed: Bool[Tensor, " n"] | None = None
    ) -> Iterator[tuple[int, Float[Tensor, "m d"], Int[Tensor, " k"], Float[Tensor, "k m"], Float[Tensor, "k m"]]]:
        """Atoms by `Frame.parts` and queries that are needed: first row, atoms, queries, the two products."""
        every = torch.arange(len(self.x)) if needed is None else needed.nonzero()[:, 0]
        for start, atoms, lengths in self.frame.parts(block.values):
            for rows in every.split(max(1, AT_ONCE // len(atoms))):
                yield block.start + start, atoms, rows, *self.grams(rows, atoms, lengths)

    def logits(self, distances: Tensor, slopes: Tensor, s: int) -> Tensor:
        """Of the posteriors at the s-th SNR."""
        r = self.ratios[s]
        return (distances * (-(r**2) / 2)).sub_(slopes, alpha=r)


@dataclass
class Sums:
    """Sums over atoms of exp(logit - peak), and of that times more, for each SNR and query, in float64.

    Attributes:
        peak: largest logit, shape (S, n); -inf where there is none.
        mass: of weights.
        square: of squared weights.
        moment: of weights times |x - x_i|^2.
        cross: of squared weights times that.
        inner: of weights times coordinates and their products, shape (B, n, k + p), for the SNRs at which they are
            asked for.
        blocks: number of each block, its log mass, and the log of its moment, (S, n) each.
    """

    peak: Float[Tensor, "S n"]
    mass: Float[Tensor, "S n"]
    square: Float[Tensor, "S n"]
    moment: Float[Tensor, "S n"]
    cross: Float[Tensor, "S n"]
    inner: Float[Tensor, "B n f"]
    broad: Int[Tensor, " B"]
    blocks: list[tuple[int, Tensor, Tensor]]

    def merge(self, other: Self) -> Self:
        """Over the atoms of both."""
        peak = torch.maximum(self.peak, other.peak)
        safe = torch.where(peak > -torch.inf, peak, 0)
        own, others = (self.peak - safe).exp(), (other.peak - safe).exp()
        self.peak = peak
        for name in ("mass", "moment"):
            getattr(self, name).mul_(own).addcmul_(others, getattr(other, name))
        for name in ("square", "cross"):
            getattr(self, name).mul_(own.square()).addcmul_(others.square(), getattr(other, name))
        self.inner.mul_(own[self.broad, :, None]).addcmul_(others[self.broad, :, None], other.inner)
        self.blocks += other.blocks
        return self

    @property
    def log_mass(self) -> Float[Tensor, "S n"]:
        """Logarithm of the sum of weights itself."""
        return self.peak + self.mass.log()

    @property
    def about(self) -> tuple[Float[Tensor, "S n"], Float[Tensor, "S n"]]:
        """|x_0 - x|^2 where an atom x_0 has most of the mass, else 0, and the second moment of `posterior.stakes`."""
        top, moment = 1 / self.mass, self.moment / self.mass
        apart = torch.where(top > 0.5, self.cross / self.square, 0)
        return apart, torch.maximum(moment + apart * (1 - 2 * top).clamp_max(0), ROUNDED * moment)


@dataclass(frozen=True)
class First:
    """What the first round over posteriors is told: the queries, and coordinates in which second moments are wanted."""

    queries: Queries
    basis: Float[Tensor, "d k"] | None  # None: the coordinates themselves
    broad: Int[Tensor, " B"]  # numbers of the SNRs at which they are wanted

    def features(self, atoms: Float[Tensor, "m d"]) -> Float[Tensor, "f m"]:
        """Coordinates and their products."""
        if len(self.broad) == 0:
            return atoms.new_empty(0, len(atoms))
        fine = self.queries.frame.fine
        inside = atoms.T.to(fine) if self.basis is None else (atoms.to(fine) @ self.basis).T
        k, m = inside.shape
        found = torch.empty(k * (k + 3) // 2, m, dtype=fine)
        found[:k] = inside
        end = k
        for i in range(k):
            start, end = end, end + k - i
            torch.mul(found[i:k], found[i], out=found[start:end])
        return found


def posterior_sums(block: Block, shared: First, active: Bool[Tensor, "S n"] | None) -> Sums:
    """The sums over one block, at the SNRs and queries where it is `active`; everywhere where that is None."""
    queries = shared.queries
    features, last = torch.empty(0, 0), -1
    total: Sums | None = None
    for start, atoms, rows, distances, slopes in queries.pieces(block, None if active is None else active.any(0)):
        if start != last:
            features, last = shared.features(atoms), start
        if total is None:
            total = _empty(len(queries.ratios), len(queries.x), len(features), shared.broad)
        _add(total, shared, None if active is None else active[:, rows], rows, (distances, slopes), features)
    assert total is not None  # a block without an active query is not asked for
    total.blocks = [(block.number, total.log_mass.float(), (total.peak + total.moment.log()).float())]
    return total


def _add(
    total: Sums,
    shared: First,
    active: Bool[Tensor, "S k"] | None,
    rows: Int[Tensor, " k"],
    grams: tuple[Float[Tensor, "k m"], Float[Tensor, "k m"]],
    features: Float[Tensor, "f m"],
) -> None:
    """Add what some atoms contribute for the queries in `rows`: weights are over exp of the largest logit so far."""
    queries, fine = shared.queries, shared.queries.frame.fine
    place = {int(s): k for k, s in enumerate(shared.broad)}
    before = total.peak[:, rows]
    peak = before.clone()
    mass, square, moment, cross = (torch.zeros_like(before) for _ in range(4))
    waiting: list[tuple[int, Tensor | slice, Tensor]] = []
    for s in range(len(queries.ratios)):
        here = slice(None) if active is None else active[s].nonzero()[:, 0]
        distances = grams[0][here]
        if len(distances) == 0:
            continue
        weights = queries.logits(distances, grams[1][here], s)
        peak[s, here] = torch.maximum(before[s, here], weights.amax(1).double())
        exp_(weights.sub_(peak[s, here, None].to(weights)))
        mass[s, here] = weights.sum(1, dtype=torch.float64)
        square[s, here] = torch.linalg.vector_norm(weights, dim=1).double().square()
        steps = weights.to(fine) * distances
        moment[s, here] = steps.sum(1).double()
        cross[s, here] = steps.mul_(weights).sum(1).double()
        if s in place:
            waiting.append((s, here, weights))
            if sum(one.numel() for _, _, one in waiting) >= TOGETHER:
                _inner(total, place, rows, before - peak, waiting, features)
                waiting = []
    if waiting:
        _inner(total, place, rows, before - peak, waiting, features)
    own = (before - torch.where(peak > -torch.inf, peak, 0)).exp()
    total.peak[:, rows] = peak
    for name, found in (("mass", mass), ("moment", moment)):
        getattr(total, name)[:, rows] = getattr(total, name)[:, rows] * own + found
    for name, found in (("square", square), ("cross", cross)):
        getattr(total, name)[:, rows] = getattr(total, name)[:, rows] * own.square() + found


def _inner(
    total: Sums,
    place: dict[int, int],
    rows: Int[Tensor, " k"],
    fall: Float[Tensor, "S k"],
    waiting: Sequence[tuple[int, Tensor | slice, Tensor]],
    features: Float[Tensor, "f m"],
) -> None:
    """Add weighted features at several SNRs, after what is there has fallen, in logarithms, by so much."""
    products = torch.cat([weights for _, _, weights in waiting]).to(features.dtype) @ features.T
    parts = products.split([len(weights) for _, _, weights in waiting])
    for (s, here, _), found in zip(waiting, parts, strict=True):
        at, fallen, inner = rows[here], fall[s, here], total.inner[place[s]]
        less = fallen != 0
        if bool(less.any()):
            inner[at[less]] *= fallen[less].exp()[:, None]
        adjacent = int(at[-1]) - int(at[0]) == len(at) - 1  # a view, and no copy
        inner[slice(int(at[0]), int(at[-1]) + 1) if adjacent else at] += found


def merge_sums(first: Sums, second: Sums) -> Sums:
    """Over both."""
    return first.merge(second)


def _empty(size: int, n: int, features: int, broad: Tensor) -> Sums:
    mass, square, moment, cross = (torch.zeros(size, n, dtype=torch.float64) for _ in range(4))
    peak = torch.full((size, n), -torch.inf, dtype=torch.float64)
    inner = torch.zeros(len(broad), n, features, dtype=torch.float64)
    return Sums(peak, mass, square, moment, cross, inner, broad, [])


@dataclass(frozen=True)
class Second:
    """What the second round is told: how weights are normalised, and what is wanted of which posteriors.

    Attributes:
        queries: as in the first round.
        peak, mass: found by it.
        apart, moment: as `Sums.about` says.
        least: of mass and second moment together, the share below which an atom is not listed, shape (S, n).
        pairs: number of the SNR and of the query of posteriors whose part outside leading directions is wanted, (2, P).
        vectors: their leading eigenvectors inside, shape (P, k).
        basis: leading directions and a sketch of the rest, shape (d, k + s).
        rank: k.
    """

    queries: Queries
    peak: Float[Tensor, "S n"]
    mass: Float[Tensor, "S n"]
    apart: Float[Tensor, "S n"]
    moment: Float[Tensor, "S n"]
    least: Float[Tensor, "S n"]
    pairs: Int[Tensor, "2 P"]
    vectors: Float[Tensor, "P k"]
    means: Float[Tensor, " P"]  # of the coordinate along the vector
    basis: Float[Tensor, "d f"] | None
    rank: int


@dataclass
class More:
    """What the second round finds: outside sums of `pairs`, (P, f); atoms listed for others.

    Attributes:
        outside: weighted sums of the sketch, its pairs, |q|^2, |x|^2, and of the sketch times the coordinate along v.
        visited: mass and second moment together, (S, n), of the atoms that were looked at.
        code: SNR number times n plus query number of each listed atom.
        row: of the atom.
        stake: its share in mass and second moment.
    """

    outside: Float[Tensor, "P f"]
    visited: Float[Tensor, "S n"]
    code: Int[Tensor, " m"]
    row: Int[Tensor, " m"]
    stake: Float[Tensor, " m"]

    def merge(self, other: Self) -> Self:
        """Of the atoms of both, where too many are listed for one posterior the largest."""
        self.outside += other.outside
        self.visited += other.visited
        for name in ("code", "row", "stake"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        if len(self.code) > 4 * MOST * max(1, int((self.visited > 0).sum())):
            self.cut()
        return self

    def cut(self) -> Self:
        """Listed by posterior, the largest first, and no more than `MOST` of each."""
        # Floats that are not negative are in the order of their bits; a stable sort is fast where parts are in order.
        key = (self.code.numpy() << 32) | (_INFINITE - self.stake.numpy().view(np.int32).astype(np.int64))
        order = torch.from_numpy(np.argsort(key, kind="stable"))
        code = self.code[order]
        place = torch.arange(len(code)) - torch.searchsorted(code, code)
        kept = order[place < MOST]
        self.code, self.row, self.stake = self.code[kept], self.row[kept], self.stake[kept]
        return self


def second_sums(block: Block, shared: Second, asked: Bool[Tensor, "S n"] | None) -> More:
    """What one block adds; `asked` says at which posteriors its atoms are to be listed."""
    queries, (snr, query) = shared.queries, shared.pairs
    size, n = shared.peak.shape
    sketch = 0 if shared.basis is None else shared.basis.shape[1] - shared.rank
    side = sketch // 8
    outside = torch.zeros(len(snr), 2 * sketch + side**2 + 2, dtype=torch.float64)
    visited = torch.zeros(size, n, dtype=torch.float64)
    listed = bytearray(), bytearray(), bytearray()  # that grow: small arrays would lie scattered between large ones
    waiting: list[tuple[Tensor, Tensor]] = []
    needed = torch.zeros(n, dtype=torch.bool).index_fill_(0, query, value=True)
    if asked is not None:
        needed |= asked.any(0)
    features, last = None, -1
    for start, atoms, rows, distances, slopes in queries.pieces(block, needed):
        if start != last and shared.basis is not None:
            features, last = _outside(atoms, shared.basis, shared.rank), start
        local = torch.full((n,), -1).scatter_(0, rows, torch.arange(len(rows)))
        mine = (local[query] >= 0).nonzero()[:, 0]
        for s in range(size):
            own = mine[snr[mine] == s]
            if len(own):
                assert features is not None
                waiting.append((own, _weights(shared, s, query[own], *_at(local[query[own]], distances, slopes))))
                if sum(weights.numel() for _, weights in waiting) >= TOGETHER:
                    _couple(outside, shared, waiting, *features)
                    waiting = []
            names = rows[:0] if asked is None else rows[asked[s, rows]]
            if len(names):
                steps, along = _at(local[names], distances, slopes)
                weights = _weights(shared, s, names, steps, along).div_(shared.mass[s, names, None].to(steps))
                scale = shared.moment[s, names, None].clamp_min(torch.finfo(torch.float32).tiny)
                steps = steps + shared.apart[s, names, None].to(steps)
                stake = steps.mul_(weights).div_(scale.to(steps)).clamp_max_(1).add_(weights)
                visited[s, names] += stake.sum(1).double()
                for known, one in zip(
                    listed, _listed(stake, s * n + names, start, shared.least[s, names]), strict=True
                ):
                    known += one.numpy().tobytes()
        if waiting:
            assert features is not None
            _couple(outside, shared, waiting, *features)
            waiting = []
    outside /= shared.mass[snr, query, None]
    kinds = np.int64, np.int64, np.float32
    code, row, stake = (torch.from_numpy(np.frombuffer(known, kind)) for known, kind in zip(listed, kinds, strict=True))
    return More(outside, visited, code, row, stake)


def _at(place: Int[Tensor, " k"], *grams: Tensor) -> Sequence[Tensor]:
    """Rows of the two products: as they are, where that is all."""
    return grams if len(place) == len(grams[0]) else [part[place] for part in grams]


def _weights(shared: Second, s: int, rows: Int[Tensor, " k"], distances: Tensor, slopes: Tensor) -> Tensor:
    """exp(logit - peak) at the s-th SNR for some queries."""
    return exp_(shared.queries.logits(distances, slopes, s).sub_(shared.peak[s, rows, None].to(distances)))


def _couple(
    outside: Float[Tensor, "P f"],
    shared: Second,
    waiting: Sequence[tuple[Tensor, Tensor]],
    inside: Float[Tensor, "k m"],
    rest: Float[Tensor, "g m"],
) -> None:
    """Add weighted sums of what lies outside leading directions, and of the sketch times the coordinate along v."""
    pairs, parts = zip(*waiting, strict=True)
    own, weights = torch.cat(pairs), torch.cat(parts).to(inside.dtype)
    sketch = outside.shape[1] - len(rest)
    along = (shared.vectors[own].to(inside) @ inside).sub_(shared.means[own, None].to(inside)).mul_(weights)
    # Two rows apart: products are slower by a third where their width is no multiple of a register's.
    outside[own] += torch.cat([weights @ rest[:-2].T, weights @ rest[-2:].T, along @ rest[:sketch].T], 1)


def merge_more(first: More, second: More) -> More:
    """Over both."""
    return first.merge(second)


def _listed(stake: Tensor, codes: Tensor, start: int, least: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The atoms with at least so much, at most `MOST` for each posterior: codes, rows and stakes."""
    least = least[:, None].to(stake)
    many = (stake >= least).sum(1) > MOST if stake.shape[1] > MOST else torch.zeros(len(stake), dtype=torch.bool)
    if bool(many.any()):
        floor = stake[many].topk(MOST, 1).values[:, -1:]
        stake = torch.where(many[:, None], torch.where(stake >= _spread(floor, many), stake, 0), stake)
    place, column = (stake >= least).nonzero(as_tuple=True)
    return codes[place], column + start, stake[place, column].float()


def _spread(values: Tensor, places: Tensor) -> Tensor:
    found = values.new_zeros(len(places), 1)
    found[places] = values
    return found


def _outside(
    atoms: Float[Tensor, "m d"], basis: Float[Tensor, "d f"], rank: int
) -> tuple[Float[Tensor, "k m"], Float[Tensor, "g m"]]:
    """Coordinates inside; the sketch of the rest, products of its parts, |q|^2, |x|^2: as in `laws.atoms.Subspace`."""
    mixed = basis.T @ atoms.to(basis).T
    inside, sketch = mixed[:rank], mixed[rank:]
    width, count = sketch.shape
    side = width // 8
    found = torch.empty(width + side**2 + 2, count, dtype=basis.dtype)
    found[:width] = sketch
    left, right = (sketch[first : first + side] * width**0.5 for first in (0, side))
    torch.mul(left[:, None], right, out=found[width:-2].view(side, side, count))
    found[-1] = squares(atoms)
    torch.sub(found[-1], inside.square().sum(0), out=found[-2]).clamp_min_(0)
    return inside, found
