"""Posteriors along the SNRs of some queries: who shares a product with whom.

A posterior on few atoms is localized at once. One on some atoms waits for those of the same query at other SNRs, which
gather much the same atoms. One on all atoms waits for any others: all take products with the same atoms, and products
with many rows run at full speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.laws.posterior import (
    CALL,
    FEW,
    KRYLOV,
    Found,
    Posterior,
    PosteriorNorms,
    Waiting,
)
from brenier.laws.stakes import least_stake, stakes


@dataclass(frozen=True)
class _Pooled:
    """Posteriors of some queries at one SNR that wait for any others."""

    place: int  # of the SNR
    snr: float
    query: Int[Tensor, " m"]
    least: Float[Tensor, " m"]  # stake below which an atom is left out
    count: Int[Tensor, " m"]  # of atoms that have more


class Path:
    """Norms and traces at n queries y = r x + z and the SNRs r added so far.

    Args:
        norms: of the atoms' posteriors.
        x: clean part of the queries.
        z: noise of the queries.
        distances: |x - x_i|^2.
        number: of SNRs that will be added.
    """

    def __init__(
        self,
        norms: PosteriorNorms,
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        distances: Float[Tensor, "n N"],
        number: int,
    ) -> None:
        self._norms, self._x, self._z, self._distances = norms, x, z, distances
        self._found, self._place = distances.new_zeros(3, number, len(x)), 0  # of the next SNR
        self._waiting: list[list[Waiting]] = [[] for _ in x]
        self._pool: list[_Pooled] = []
        self._size = norms.pool
        self._room, self._full = distances.new_empty(0, distances.shape[1]), 0  # weights of those in the pool

    def add(self, weights: Float[Tensor, "n N"], ess: Float[Tensor, " n"], r: float) -> None:
        """The next SNR, with the posterior weights there and their effective sample sizes."""
        norms, atoms, place = self._norms, weights.shape[1], self._place
        self._place += 1
        order, count, lost, moment = norms.select(weights, self._distances, ess)
        for rows in ((count > 1) & (count <= 8), (count > 8) & (count <= FEW)):  # so that few are padded to many
            index = rows.nonzero()[:, 0]
            if len(index):
                left = lost[index], moment[index]
                parts = norms.gathered(order[index], count[index], *left, self._x[index], self._z[index], r)
                self._found[:, place, index] = torch.stack(parts)
        many = count > FEW
        least, matter, cheap = torch.zeros_like(ess), torch.full_like(count, atoms), torch.zeros_like(many)
        if norms.second_moments is None:  # in few dimensions looking for atoms that matter takes as long as all of them
            narrow = (many & (norms.cost(ess) < KRYLOV * atoms * self._x.shape[1])).nonzero()[:, 0]  # ess <= matter
            if len(narrow):
                stake, _ = stakes(weights.index_select(0, narrow), self._distances.index_select(0, narrow))
                least[narrow] = least_stake(stake, norms.tolerance / 10 * norms.concentration)
                matter[narrow] = (stake >= least[narrow, None]).sum(1)
            cheap = many & (norms.cost(matter) < norms.least_cost)  # on the atoms that matter alone
        for i in cheap.nonzero()[:, 0].tolist():
            self._waiting[i].append(Waiting(place, weights[i].clone(), r, float(least[i]), int(matter[i])))
        rest = (many & ~cheap).nonzero()[:, 0]
        while len(rest):
            if len(self._room) == 0:
                self._room = weights.new_empty(self._size, atoms)
            some, rest = rest.tensor_split([self._size - self._full])
            torch.index_select(weights, 0, some, out=self._room[self._full : self._full + len(some)])
            self._pool.append(_Pooled(place, r, some, least[some], matter[some]))
            self._full += len(some)
            if self._full == self._size:
                self._empty()

    def _empty(self) -> None:
        """Localize all in the pool but those that are to wait for others of their query."""
        if not self._pool:
            return
        norms, weights = self._norms, self._room[: self._full]
        sizes = torch.tensor([len(one.query) for one in self._pool])
        place = torch.tensor([one.place for one in self._pool]).repeat_interleave(sizes).to(self._x.device)
        snr = torch.tensor([one.snr for one in self._pool], dtype=torch.float64).repeat_interleave(sizes).to(weights)
        query, least, count = map(
            torch.cat, zip(*((one.query, one.least, one.count) for one in self._pool), strict=True)
        )
        self._pool, self._full = [], 0

        def keep(rows: Tensor, parts: Found) -> None:
            self._found[:, place[rows], query[rows]] = torch.stack(parts)

        rest = torch.arange(len(query), device=query.device)
        if norms.second_moments is not None:
            keep(rest, norms.whole(weights, self._x[query], snr))
            return
        moment = torch.stack([own @ self._distances[i] for own, i in zip(weights, query.tolist(), strict=True)])
        posterior, direction = Posterior(weights, self._x[query], moment, snr), None
        for space in norms.subspaces:
            if len(rest) == 0:
                return
            found, direction = norms.projected(posterior.at(rest), space)
            keep(rest, found)
            hard = found[2] > norms.tolerance
            rest, direction = rest[hard], direction[hard]
        cheap = norms.cost(count[rest]) < KRYLOV * weights.shape[1] * self._x.shape[1]
        for k in rest[cheap].tolist():
            waiting = Waiting(int(place[k]), weights[k].clone(), float(snr[k]), float(least[k]), int(count[k]))
            self._waiting[int(query[k])].append(waiting)
        rest, direction = rest[~cheap], None if direction is None else direction[~cheap]
        if len(rest):
            keep(rest, norms.dense(posterior.at(rest), direction))

    def found(self) -> Found:
        """Norms, traces and errors, each of shape (S, n)."""
        self._empty()
        for i, waiting in enumerate(self._waiting):
            for group in _alike(waiting, self._x.shape[1]):
                results = self._norms.sparse(self._x[i], self._distances[i], group)
                self._found[:, [each.place for each in group], i] = torch.stack(results)
        norm, trace, error = self._found
        return norm, trace, error


def _alike(waiting: list[Waiting], dim: int) -> Iterator[list[Waiting]]:
    """In groups, the larger ones first, that cost less together than apart."""
    left = sorted(waiting, key=lambda each: -each.count)
    while left:
        most = left[0].count
        group = [each for each in left if KRYLOV * (most - 2 * each.count) * dim < CALL or 4 * each.count >= most]
        left = left[len(group) :]
        yield group
