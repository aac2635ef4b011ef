"""What data tell about the curvature of the law behind them: localizations by cross-fitting.

The posterior of N atoms is a kernel estimate of the posterior of the law behind them, with n_e = 1/sum w_i^2 points.
The operator norm of its covariance is a maximum over directions, and a maximum turns sampling noise into bias: a
covariance of n points whose norm l stands out of a bulk of d directions shows l (1 + g) (Johnstone, Ann. Stat. 29,
2001; Baik and Silverstein, J. Multivar. Anal. 97, 2006; g depends on d/n and vanishes with it), long before posteriors
collapse.

Two estimates stand on both sides of the truth. The direction v from some atoms and the variance along v from others:
given v that is an estimate of v'Cov v <= l, so its bias is downwards. And the plug-in, upwards. Where l is one
direction that stands out of an even bulk by so much that it can be seen, the first is l/(1 + g) to the same order, so
the geometric mean of the two is l; where it cannot be seen, the first is right and the geometric mean too large. So the
truth lies between the cross-fitted value and the geometric mean, and which it is nearer to can be told by how well
directions from disjoint halves of the atoms agree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.linalg import norm_by_squaring
from brenier.core.work import workers
from brenier.laws.atoms import exp_, leading_directions
from brenier.laws.empirical import Empirical
from brenier.laws.path import Path

GROUPS = 16  # of atoms and queries, each left out in turn by the jackknife
FOLDS = 4  # of groups: directions for the atoms of one come from the other three
LEAST = 2 * GROUPS  # distinct points without which a group may hold a single one
NARROW = 32  # coordinates in which directions are sought: all there are, or those in leading directions of the data
SOME = 4  # one query in so many is asked how far two halves of the atoms disagree
SQUARINGS, PRODUCTS = 3, 5  # 2^3 (1 + 5) = 48 steps of the power method: what it has not told apart is as good


@dataclass(frozen=True)
class CrossFitted:
    """Localizations at Q queries and S SNRs that are no atoms, all in float64.

    Attributes:
        floor: variance along cross-fitted directions as it is, below the truth in expectation, shape (S, Q).
        form: the same, free of the bias of a variance from few points.
        ceiling: geometric mean of `form` and the plug-in norm, likewise freed.
        agreement: squared cosine of the leading directions of two halves of the atoms, less what it is by chance: 1
            where they are the same, 0 in the mean where they have nothing in common.
        ess: effective sample size of the posterior.
        trace: tr Cov[rX | y].
        noise: squared relative standard error of `form` along the directions that it has, by the jackknife over groups
            of atoms.
        disagreement: square of half the difference of two such values, one from each half of the atoms and so
            independent, over the square of `form`; it includes what directions scatter. NaN where it was not measured.
        group: of each query, shape (Q,).
        form_without: `form` without the atoms of each group, shape (G, S, Q).
        trace_without: `trace` likewise.
    """

    floor: Float[Tensor, "S Q"]
    form: Float[Tensor, "S Q"]
    ceiling: Float[Tensor, "S Q"]
    agreement: Float[Tensor, "S Q"]
    ess: Float[Tensor, "S Q"]
    trace: Float[Tensor, "S Q"]
    noise: Float[Tensor, "S Q"]
    disagreement: Float[Tensor, "S Q"]
    group: Int[Tensor, " Q"]
    form_without: Float[Tensor, "G S Q"]
    trace_without: Float[Tensor, "G S Q"]


class CrossFit(Empirical):
    """Data in groups, at whose noisy points the posterior is that of all other groups.

    Make one with `CrossFit.of`.
    """

    _ends: list[int]  # of the groups, in the order of the atoms

    @classmethod
    def of(cls, law: Empirical, seed: int = 0) -> Self:
        """The same law in `GROUPS` random groups of equal size; equal points are one atom, of their weights together.

        Raises:
            ValueError: there are fewer than `LEAST` distinct points.
        """
        law = law.distinct()
        points, distinct = law._restore(law._atoms.double()).cpu(), len(law)
        if distinct < LEAST:
            raise ValueError(
                f"{law.name} has {distinct} distinct point{'s' * (distinct > 1)}: what they tell about the law behind "
                f"them needs at least {LEAST}; ask for what the points are themselves with about='atoms' "
                "(--about atoms)"
            )
        group = np.random.default_rng(seed).permutation(distinct) % GROUPS
        order = torch.from_numpy(np.argsort(group, kind="stable"))
        self = cls(
            points[order],
            law.weights.cpu()[order],
            event_shape=law.event_shape,
            name=law.name,
            tolerance=law.tolerance,
            dropped=law.dropped,
            max_memory=law.max_memory,
            dtype=law.dtype,
            device=law.device,
        )
        self._ends = np.bincount(group, minlength=GROUPS).cumsum().tolist()
        return self

    def draw(self, n: int, seed: int = 0) -> Int[Tensor, " n"]:
        """Numbers of n atoms to make queries of: spread over all as evenly as their weights say, so over all groups."""
        shift = np.random.default_rng(seed).random()
        edges = self.weights.double().cpu().numpy().cumsum()
        index = np.searchsorted(edges / edges[-1], (shift + np.arange(n)) / n, side="right")
        return torch.from_numpy(index.clip(0, len(self) - 1)).to(self.device)

    def crowd(self, index: Int[Tensor, " Q"], z: Float[Tensor, "Q d"], snrs: Sequence[float]) -> NDArray[np.float64]:
        """Median effective sample size, at each SNR, of the posteriors that `crossfit` localizes."""
        sizes: list[list[Tensor]] = [[] for _ in snrs]
        for block in torch.arange(len(index), device=index.device).split(self._rows()):
            hidden = self._groups[index[block], None] == self._groups
            grams = self._grams(self._atoms[index[block]], z[block].to(self.dtype))
            for found, snr in zip(sizes, snrs, strict=True):
                weights = self._logits(*grams, self._ratio(snr)).masked_fill_(hidden, -torch.inf).softmax(1)
                found.append(1 / torch.linalg.vector_norm(weights, dim=1).square())
        return np.array([float(torch.cat(found).median()) for found in sizes])

    @cached_property
    def _groups(self) -> Int[Tensor, " N"]:
        """The group of each atom."""
        return torch.bucketize(torch.arange(len(self)), torch.tensor(self._ends), right=True).to(self.device)

    def crossfit(
        self,
        index: Int[Tensor, " Q"],
        z: Float[Tensor, "Q d"],
        snrs: Sequence[float],
        advance: Callable[[float], None] = lambda share: None,
    ) -> CrossFitted:
        """Localize y = r x + z, x the atoms of these numbers, for each r, by the atoms of all groups but x's own."""
        group = self._groups
        own, ratios = group[index], [self._ratio(snr) for snr in snrs]
        x, z = self._atoms[index], z.to(self.dtype)
        share = FOLDS * self._features_per_atom * len(self._coordinates)  # numbers that a query takes in the sums
        threads = torch.get_num_threads()
        rows = min(self._rows(), int(self._bytes / (32 * share * threads)), max(16, 2**19 // share))
        rows = max(1, min(rows, -(-len(x) // threads)))
        _ = self._product_dtype, self._kept, self._place, self._few  # now, before workers ask for it at the same time
        if self.dim > NARROW:
            self._norms.prepare()

        def one(block: slice) -> Tensor:
            """All that is asked of the posteriors of one block, one above the other."""
            grams, hidden = self._grams(x[block], z[block]), own[block, None] == group
            path, parts = Path(self._norms, x[block], z[block], grams[0], len(ratios)), list[Tensor]()
            for r in ratios:
                weights = self._logits(*grams, r).masked_fill_(hidden, -torch.inf)
                exp_(weights.sub_(weights.amax(1, keepdim=True)))
                weights.div_(weights.sum(1, keepdim=True))
                parts.append(self._summarise(weights, own[block]))
                if self.dim > NARROW:
                    path.add(weights, parts[-1][4].to(weights), r)
                advance(len(hidden) / len(x) / len(ratios))
            squares = torch.tensor(ratios, dtype=torch.float64, device=self.device).square()[:, None]
            exact = None
            if self.dim > NARROW:
                norm, trace, _ = path.found()
                exact = norm.double() / squares, trace.double() / squares
            return _finished(torch.stack(parts, 1), exact, squares)

        with workers(self.device) as over:
            found = torch.cat(list(over(one, [slice(i, i + rows) for i in range(0, len(x), rows)])), 2)
        without = found[8:].unflatten(0, (2, GROUPS))
        parts: Any = (*found[:8], own, *without)
        return CrossFitted(*parts)

    def _summarise(self, weights: Tensor, own: Tensor) -> Tensor:
        """What is asked of the posteriors of one block at one SNR, of X and not of rX, and the norm as it is."""
        ess = 1 / torch.linalg.vector_norm(weights, dim=1, dtype=torch.float64).square()
        folds = self._sums(weights)
        others = (1 - torch.eye(FOLDS, dtype=folds.dtype, device=folds.device)).chunk(len(folds))
        sides = torch.eye(2, dtype=folds.dtype, device=folds.device).repeat_interleave(FOLDS // 2, 1)
        asked = zip((*others, sides), (*folds, folds[0]), strict=True)
        chosen = torch.cat([torch.einsum("jk,nkp->njp", rows, kind) for rows, kind in asked], 1)
        directions, halves = self._directions(chosen).split([FOLDS, 2], 1)
        floor, form, form_without = self._forms(weights, directions)
        trace, trace_without = self._traces(weights)
        norm = torch.zeros_like(form)
        if self.dim <= NARROW:
            norm = norm_by_squaring(self._covariance(folds[0].sum(1, keepdim=True))[:, 0], self.tolerance)[0].double()
        chance = 1 / max(2, self._number)
        cosine = (halves[:, 0] * halves[:, 1]).sum(1).double().square()
        agreement = torch.ones_like(cosine) if self.dim == 1 else (cosine - chance) / (1 - chance)
        elsewhere = torch.arange(GROUPS, device=own.device)[:, None] != own
        count = elsewhere.sum(0)
        mean = (form_without * elsewhere).sum(0) / count
        spread = ((form_without - mean).square() * elsewhere).sum(0) * (count - 1) / count
        noise = spread / mean.square().clamp_min(1e-300)
        disagreement = torch.full_like(form, torch.nan)
        measured = torch.cat([kind[::SOME].chunk(len(folds), 1)[k] for k, kind in enumerate(folds)], 1)
        apart = self._apart(weights[::SOME], measured)
        disagreement[::SOME] = apart.square() / form[::SOME].square().clamp_min(1e-300)
        found = [floor, form, norm, agreement, ess, trace, noise, disagreement]
        return torch.cat([torch.stack(found), form_without, trace_without])

    @cached_property
    def _coordinates(self) -> list[Float[Tensor, "N c"]]:
        """The coordinates in which directions are sought: the atoms', or where these are too many two kinds of them.

        In the first half of the folds the variance is measured along directions in what leads in the second half, and
        the other way round: the leading directions of some points have more variance in these than in the law.
        """
        if self.dim <= NARROW:
            return [self._atoms]
        half = self._ends[GROUPS // 2 - 1]
        chosen = (
            leading_directions(part, NARROW, torch.Generator().manual_seed(0))
            for part in (self._atoms[half:], self._atoms[:half])
        )
        return [self._atoms @ basis for basis in chosen]

    @property
    def _number(self) -> int:
        """Of coordinates."""
        return self._coordinates[0].shape[1]

    @cached_property
    def _upper(self) -> Int[Tensor, "2 p"]:
        return torch.triu_indices(self._number, self._number, device=self.device)

    @property
    def _features_per_atom(self) -> int:
        return 1 + self._number + self._upper.shape[1]

    def _features(self, atoms: slice) -> list[Tensor]:
        """1, the coordinates and their products, for each kind of coordinates."""
        return [
            torch.cat([torch.ones_like(part[:, :1]), part, part[:, self._upper[0]] * part[:, self._upper[1]]], 1)
            for part in (kind[atoms] for kind in self._coordinates)
        ]

    @cached_property
    def _kept(self) -> list[list[Tensor]] | None:
        size = len(self._coordinates) * len(self) * self._features_per_atom * self._atoms.element_size()
        return [self._features(atoms) for atoms in self._folds] if size <= self._bytes / 4 else None

    @cached_property
    def _folds(self) -> list[slice]:
        ends = self._ends[GROUPS // FOLDS - 1 :: GROUPS // FOLDS]
        return [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]

    def _measured(self, fold: int) -> Float[Tensor, "m c"]:
        """The atoms of a fold, in the coordinates in which the variance in it is measured."""
        return self._coordinates[fold * len(self._coordinates) // FOLDS][self._folds[fold]]

    def _sums(self, weights: Tensor) -> Float[Tensor, "s n k p"]:
        """Weighted sums of the features over each fold, in each kind of coordinates."""
        features = self._kept if self._kept is not None else map(self._features, self._folds)
        sums = [
            [weights[:, atoms] @ part for part in kinds] for atoms, kinds in zip(self._folds, features, strict=True)
        ]
        return torch.stack([torch.stack(kind, 1) for kind in zip(*sums, strict=True)])

    def _covariance(self, sums: Float[Tensor, "n m p"]) -> Float[Tensor, "n m c c"]:
        dim = self._number
        mass = sums[..., :1].clamp_min(torch.finfo(sums.dtype).tiny)
        first, second = (sums[..., 1:] / mass).split([dim, sums.shape[-1] - 1 - dim], -1)
        whole = second.index_select(-1, self._place).unflatten(-1, (dim, dim))
        return whole.sub_(first[..., None] * first[..., None, :])

    @cached_property
    def _place(self) -> Int[Tensor, " cc"]:
        """Where each entry of a symmetric matrix stands among those of its upper triangle."""
        dim = self._number
        place = torch.empty(dim, dim, dtype=torch.long, device=self.device)
        order = torch.arange(self._upper.shape[1], device=self.device)
        place[self._upper[0], self._upper[1]] = place[self._upper[1], self._upper[0]] = order
        return place.reshape(-1)

    @cached_property
    def _few(self) -> Float[Tensor, "N q"]:
        """1, the coordinates and their sum of squares: what a trace is made of."""
        part = self._coordinates[0]
        return torch.cat([torch.ones_like(part[:, :1]), part, part.square().sum(1, keepdim=True)], 1)

    def _traces(self, weights: Tensor) -> tuple[Float[Tensor, " n"], Float[Tensor, "G n"]]:
        """Trace of the covariance, and without each group."""
        slices = zip([0, *self._ends], self._ends, strict=False)
        sums = torch.stack([weights[:, start:stop] @ self._few[start:stop] for start, stop in slices])
        whole = sums.sum(0)
        mass, first, second = torch.cat([whole[None], whole - sums]).split([1, self._number, 1], -1)
        mass = mass.maximum(1e-6 * whole[:, :1])  # what is less tells nothing
        trace = ((second / mass)[..., 0] - (first / mass).square().sum(-1)).double().clamp_min(0)
        return trace[0], trace[1:]

    def _along(
        self, weights: Tensor, directions: Float[Tensor, "n k c"]
    ) -> tuple[Float[Tensor, "3 n k g"], Float[Tensor, "3 n k"]]:
        """Mass, first and second sums along the direction of a fold, about the mean there, in float64.

        Over each group under the weights, and over each fold under their squares.
        """
        sums: list[Tensor] = []
        squares: list[Tensor] = []
        for k, atoms in enumerate(self._folds):
            w, a = weights[:, atoms], directions[:, k] @ self._measured(k).T
            a -= torch.linalg.vecdot(w, a)[:, None] / w.sum(1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
            group = self._groups[atoms] - k * (GROUPS // FOLDS)
            members = torch.nn.functional.one_hot(group, GROUPS // FOLDS).to(w)
            wa = w * a
            sums.append(torch.stack([w @ members, wa @ members, a.mul_(wa) @ members]))
            pairs = ((w, w), (w, wa), (wa, wa))
            squares.append(torch.stack([torch.linalg.vecdot(*pair) for pair in pairs]))
        return torch.stack(sums, 2).double(), torch.stack(squares, 2).double()

    def _forms(
        self, weights: Tensor, directions: Float[Tensor, "n k c"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "G n"]]:
        """Variance within each fold along its direction, pooled: as it is, freed of bias, and so without each group.

        With S = sum w^2 (a - m)^2 and Q = sum w^2, the variance V under weights w of sum M is too small by
        (2 S - V Q)/M^2, to first order in 1/n_e.
        """
        parts, (mass2, first2, second2) = self._along(weights, directions)
        remaining = 1 - torch.eye(parts.shape[-1], dtype=torch.float64, device=parts.device)
        whole, without = _within(parts.sum(3)), _within(parts @ remaining)  # (2, n, k), (2, n, k, g)
        total = whole.sum(2)
        left = total[:, :, None, None] - whole[..., None] + without
        floor = _quotient(*total)
        some = left[1].maximum(1e-9 * total[1, :, None, None])  # what is less is rounding
        mass, first, _ = parts.sum(3)
        mean = first / mass.clamp_min(1e-300)
        moment = second2 - 2 * mean * first2 + mean.square() * mass2
        short = _quotient(2 * moment - _quotient(*whole) * mass2, mass).sum(1).clamp_min(0)
        gain = 1 + _quotient(short, total[0]).clamp_max(GROUPS)
        return floor, floor * gain, (left[0].clamp_min(0) / some * gain[:, None, None]).flatten(1).T

    def _apart(self, weights: Tensor, folds: Float[Tensor, "n 4 p"]) -> Float[Tensor, " n"]:
        """Half the difference of the variances that the first two folds and the last two, cross-fitted, tell of."""
        partner = torch.tensor([1, 0, 3, 2], device=folds.device)
        part = _within(self._along(weights, self._directions(folds[:, partner]))[0].sum(3))
        value = _quotient(*part.unflatten(2, (2, 2)).sum(3))
        return (value[:, 0] - value[:, 1]) / 2

    def _directions(self, sums: Float[Tensor, "n m p"]) -> Float[Tensor, "n m c"]:
        """Leading directions of the covariances."""
        return _leading(self._covariance(sums)).to(sums)


def _finished(
    parts: Float[Tensor, "f S n"],
    exact: tuple[Float[Tensor, "S n"], Float[Tensor, "S n"]] | None,
    squares: Float[Tensor, "S 1"],
) -> Float[Tensor, "f S n"]:
    """The same of rX, the plug-in norm freed of bias, norm and trace in all coordinates where they are given."""
    floor, form, norm, agreement, ess, trace, noise, disagreement = parts[:8]
    form_without, trace_without = parts[8:].split(GROUPS)
    if exact is not None:
        norm, full = exact
        trace_without, trace = trace_without * torch.where(trace > 0, full / trace, 1), full
    gain = 1 + (form / floor.clamp_min(1e-300) - 1) / FOLDS  # all atoms are so many more than those of a fold
    ceiling = (form * gain * norm.clamp_min(0)).sqrt().maximum(form)
    found = [floor * squares, form * squares, ceiling * squares, agreement, ess, trace * gain * squares]
    return torch.cat(
        [torch.stack([*found, noise, disagreement]), form_without * squares, trace_without * gain * squares]
    )


def _leading(matrices: Float[Tensor, "*n c c"]) -> Float[Tensor, "*n c"]:
    """About the leading eigenvector of each; an error in it lowers what is found along it, to second order."""
    tiny = torch.finfo(torch.float32).tiny
    largest = matrices.abs().amax((-2, -1), keepdim=True)  # rounding leaves diagonals below 0
    power = (matrices / largest.clamp_min(torch.finfo(matrices.dtype).tiny)).float()
    for _ in range(SQUARINGS):
        power = power @ power
    row = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    vector = power.take_along_dim(row[..., None, None], -2)
    for _ in range(PRODUCTS):
        vector = torch.nn.functional.normalize(vector, dim=-1, eps=tiny) @ power
    return torch.nn.functional.normalize(vector[..., 0, :], dim=-1, eps=tiny)


def _within(parts: Float[Tensor, "3 *n"]) -> Float[Tensor, "2 *n"]:
    """Of mass, first and second sums: the sum of squares about the mean, and the mass."""
    mass, first, second = parts
    return torch.stack([(second - _quotient(first.square(), mass)).clamp_min(0), mass])


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """A ratio of sums, 0 where there is nothing below."""
    return torch.where(below > 1e-290, above / below.clamp_min(1e-290), 0)
