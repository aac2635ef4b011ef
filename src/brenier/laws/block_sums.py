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
from brenier.laws.atoms import CHUNK

CACHED = 2**17  # numbers of float64 that caches hold
AT_ONCE = 2**19  # numbers of an array of queries x atoms: what caches hold
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
        points = working(values)
        return (points - self.centre.to(points.dtype)).div_(self.unit).to(self.dtype)


def working(values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Float[Tensor, "m d"]:
    """Rows in float32 where that holds all values of their type, else in float64."""
    return as_tensor(values).to(torch.float32 if np.can_cast(values.dtype, np.float32) else torch.float64)


def squares(points: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """|x|^2 of each, summed in float64: some at a time, which caches hold."""
    parts = points.split(max(1, CACHED // points.shape[1]))
    return torch.cat([torch.linalg.vector_norm(part.double(), dim=1).square_() for part in parts])


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
        """Atoms by `CHUNK` and queries that are needed: first row, atoms, queries, the two products."""
        every = torch.arange(len(self.x)) if needed is None else needed.nonzero()[:, 0]
        for start in range(0, len(block.values), CHUNK):
            atoms = self.frame.atoms(block.values[start : start + CHUNK])
            lengths = squares(atoms)
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

    def features(self, atoms: Float[Tensor, "m d"]) -> Float[Tensor, "m f"]:
        """Coordinates and their products."""
        if len(self.broad) == 0:
            return atoms.new_empty(len(atoms), 0)
        inside = atoms.to(self.queries.frame.fine)
        if self.basis is not None:
            inside = inside @ self.basis
        upper = torch.triu_indices(inside.shape[1], inside.shape[1])
        return torch.cat([inside, inside[:, upper[0]] * inside[:, upper[1]]], 1)


def posterior_sums(block: Block, shared: First, active: Bool[Tensor, "S n"] | None) -> Sums:
    """The sums over one block, at the SNRs and queries where it is `active`; everywhere where that is None."""
    queries = shared.queries
    size, n, fine = len(queries.ratios), len(queries.x), queries.frame.fine
    place = {int(s): k for k, s in enumerate(shared.broad)}
    total: Sums | None = None
    part: Sums | None = None
    features, last = torch.empty(0), -1
    for start, atoms, rows, distances, slopes in queries.pieces(block, None if active is None else active.any(0)):
        if start != last:
            total = part if total is None or part is None else total.merge(part)
            features, last = shared.features(atoms), start
            part = _empty(size, n, features.shape[1], shared.broad)
        assert part is not None
        for s in range(size):
            here = slice(None) if active is None else active[s, rows].nonzero()[:, 0]
            at = rows[here]
            if len(at) == 0:
                continue
            weights = queries.logits(distances[here], slopes[here], s)
            peak = weights.amax(1)
            weights.sub_(peak[:, None]).exp_()
            part.peak[s, at], part.mass[s, at] = peak.double(), weights.sum(1, dtype=torch.float64)
            part.square[s, at] = torch.linalg.vector_norm(weights, dim=1).double().square()
            steps = weights.to(fine) * distances[here]
            part.moment[s, at] = steps.sum(1).double()
            part.cross[s, at] = torch.einsum("nm,nm->n", weights.to(fine), steps).double()
            if s in place:
                part.inner[place[s], at] = (weights.to(features.dtype) @ features).double()
    assert part is not None  # a block without an active query is not asked for
    total = part if total is None else total.merge(part)
    total.blocks = [(block.number, total.log_mass.float(), (total.peak + total.moment.log()).float())]
    return total


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
    listed: list[tuple[Tensor, Tensor, Tensor]] = []
    needed = torch.zeros(n, dtype=torch.bool).index_fill_(0, query, value=True)
    if asked is not None:
        needed |= asked.any(0)
    features, last = None, -1
    for start, atoms, rows, distances, slopes in queries.pieces(block, needed):
        if start != last and shared.basis is not None:
            features, last = _outside(atoms, shared.basis, shared.rank), start
        local = torch.full((n,), -1).scatter_(0, rows, torch.arange(len(rows)))
        for s in range(size):
            own = ((snr == s) & (local[query] >= 0)).nonzero()[:, 0]
            names = rows[:0] if asked is None else rows[asked[s, rows]]
            at = torch.cat([query[own], names])
            if len(at) == 0:
                continue
            here = local[at]
            weights = queries.logits(distances[here], slopes[here], s)
            weights.sub_(shared.peak[s, at, None].to(weights)).exp_().div_(shared.mass[s, at, None].to(weights))
            if len(own):
                assert features is not None
                inside, rest = features
                mine = weights[: len(own)].to(inside.dtype)
                along = (shared.vectors[own].to(inside) @ inside.T).sub_(shared.means[own, None].to(inside)).mul_(mine)
                found = torch.cat([mine @ rest, along @ rest[:, :sketch]], 1)
                outside[own] += found.double()
            if len(names):
                mine = weights[len(own) :]
                apart = distances[here[len(own) :]] + shared.apart[s, names, None].to(weights)
                scale = shared.moment[s, names, None].clamp_min(torch.finfo(torch.float32).tiny)
                stake = (mine * apart).div_(scale.to(mine)).clamp_max_(1).add_(mine)
                visited[s, names] += stake.sum(1).double()
                listed.append(_listed(stake, s * n + names, start, shared.least[s, names]))
    code, row, stake = (torch.cat(part) for part in zip(*listed, strict=True)) if listed else _nothing()
    return More(outside, visited, code, row, stake)


def merge_more(first: More, second: More) -> More:
    """Over both."""
    return first.merge(second)


def _nothing() -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0)


def _listed(stake: Tensor, codes: Tensor, start: int, least: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The atoms with at least so much, at most `MOST` for each posterior: codes, rows and stakes."""
    least = least[:, None].to(stake)
    many = (stake >= least).sum(1) > MOST
    if bool(many.any()):
        floor = stake[many].topk(MOST, 1).values[:, -1:]
        stake = torch.where(many[:, None], torch.where(stake >= _spread(floor, many), stake, 0), stake)
    place, column = (stake >= least).nonzero(as_tuple=True)
    return codes[place], column + start, stake[place, column].float()


def _spread(values: Tensor, places: Tensor) -> Tensor:
    found = values.new_zeros(len(places), 1)
    found[places] = values
    return found


def _outside(atoms: Tensor, basis: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Coordinates inside; the sketch of the rest, products of its parts, |q|^2, |x|^2: as in `laws.atoms.Subspace`."""
    mixed = atoms.to(basis) @ basis
    inside, sketch = mixed[:, :rank], mixed[:, rank:]
    width = sketch.shape[1]
    side = width // 8
    left, right = (sketch[:, first : first + side] * width**0.5 for first in (0, side))
    squares = atoms.to(basis).square().sum(1, keepdim=True)
    rest = (squares - inside.square().sum(1, keepdim=True)).clamp_min(0)
    return inside, torch.cat([sketch, (left[:, :, None] * right[:, None]).flatten(1), rest, squares], 1)
