"""Posteriors along the SNRs of some queries: who shares a product with whom.

A posterior on few atoms is localized at once. One on some atoms waits for those of the same query at other SNRs, which
gather much the same atoms. One on all atoms waits for any others: all take products with the same atoms, and products
with many rows run at full speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
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


class Path:
    """Norms and traces at n queries y = r x + z and the SNRs r added so far.

    Args:
        norms: of the atoms' posteriors.
        x: clean part of the queries.
        z: noise of the queries.
        distances: |x - x_i|^2.
    """

    def __init__(
        self, norms: PosteriorNorms, x: Float[Tensor, "n d"], z: Float[Tensor, "n d"], distances: Float[Tensor, "n N"]
    ) -> None:
        self._norms, self._x, self._z, self._distances = norms, x, z, distances
        self._found: list[Tensor] = []  # of each SNR, shape (3, n)
        self._waiting: list[list[Waiting]] = [[] for _ in x]
        self._pool: list[tuple[Waiting, int]] = []  # and the numbers of their queries
        self._size = norms.pool
        self._room = distances.new_empty(0, distances.shape[1])  # for the weights of those in the pool

    def add(self, weights: Float[Tensor, "n N"], ess: Float[Tensor, " n"], r: float) -> None:
        """The next SNR, with the posterior weights there and their effective sample sizes."""
        norms, atoms, place = self._norms, weights.shape[1], len(self._found)
        order, count = norms.select(weights, self._distances, ess)
        found = weights.new_zeros(3, len(weights))
        self._found.append(found)
        for rows in ((count > 1) & (count <= 8), (count > 8) & (count <= FEW)):  # so that few are padded to many
            index = rows.nonzero()[:, 0]
            if len(index):
                parts = norms.gathered(order[index], count[index], self._x[index], self._z[index], r)
                found[:, index] = torch.stack(parts)
        many = count > FEW
        least, matter = torch.zeros_like(ess), torch.full_like(count, atoms)
        narrow = (many & (ess < atoms / 8)).nonzero()[:, 0]
        if len(narrow):
            stake, _ = stakes(weights[narrow], self._distances[narrow])
            least[narrow] = least_stake(stake, norms.tolerance / 10 * norms.concentration)
            matter[narrow] = (stake >= least[narrow, None]).sum(1)
        cheap = many & (norms.cost(matter) < norms.least_cost)  # on the atoms that matter alone
        told = list(zip(least.tolist(), matter.tolist(), strict=True))
        for i in cheap.nonzero()[:, 0].tolist():
            self._waiting[i].append(Waiting(place, weights[i].clone(), r, *told[i]))
        rest = (many & ~cheap).nonzero()[:, 0]
        while len(rest):
            if len(self._room) == 0:
                self._room = weights.new_empty(self._size, atoms)
            some, rest = rest.tensor_split([self._size - len(self._pool)])
            start = len(self._pool)
            own = torch.index_select(weights, 0, some, out=self._room[start : start + len(some)])
            self._pool += [(Waiting(place, one, r, *told[i]), i) for one, i in zip(own, some.tolist(), strict=True)]
            if len(self._pool) == self._size:
                self._empty()

    def _empty(self) -> None:
        """Localize all in the pool but those that are to wait for others of their query."""
        if not self._pool:
            return
        norms, pool = self._norms, [one for one, _ in self._pool]
        query = torch.tensor([i for _, i in self._pool], device=self._x.device)
        self._pool = []
        weights = self._room[: len(pool)]
        moment = torch.stack([one.weights @ self._distances[i] for one, i in zip(pool, query.tolist(), strict=True)])
        snr = torch.tensor([one.snr for one in pool]).to(weights)
        posterior = Posterior(weights, self._x[query], moment, snr)

        def keep(rows: Tensor, parts: Found) -> None:
            own, results = torch.tensor([pool[k].place for k in rows.tolist()]), torch.stack(parts)
            for place in own.unique().tolist():
                at = (own == place).to(rows.device)
                self._found[place][:, query[rows[at]]] = results[:, at]

        rest = torch.arange(len(pool), device=query.device)
        if norms.second_moments is not None:
            keep(rest, norms.whole(posterior))
            return
        direction = None
        for space in norms.subspaces:
            if len(rest) == 0:
                return
            found, direction = norms.projected(posterior.at(rest), space)
            keep(rest, found)
            hard = found[2] > norms.tolerance
            rest, direction = rest[hard], direction[hard]
        matter = torch.tensor([pool[k].count for k in rest.tolist()], dtype=torch.long, device=query.device)
        cheap = norms.cost(matter) < KRYLOV * weights.shape[1] * self._x.shape[1]
        for k in rest[cheap].tolist():
            self._waiting[int(query[k])].append(replace(pool[k], weights=weights[k].clone()))
        rest, direction = rest[~cheap], None if direction is None else direction[~cheap]
        if len(rest):
            keep(rest, norms.dense(posterior.at(rest), direction))

    def found(self) -> Found:
        """Norms, traces and errors, each of shape (S, n)."""
        self._empty()
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
