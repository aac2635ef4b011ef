"""Norms of posteriors on few atoms of many: those that matter are in memory, what they leave out is in the error."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from brenier.laws.atoms import covariance_norm
from brenier.laws.block_sums import Queries, squares
from brenier.laws.posterior import FEW, PosteriorNorms

CLOSER = 100  # small ones are found so much closer: else it shows where rounding ends an iteration a step earlier
STARTS = 4  # vectors that Krylov spaces start from
TAKEN = 2  # of their vectors, from which spaces on all atoms start
COARSE = 0.1  # relative error of norms of which only these vectors are wanted
TINY = 1e-12  # second moment about the likeliest atom from which it is kept in float64
NARROW = 0.1  # share of spread in the mean squared distance from a query, below which rounding would show
MOSTLY = 0.7  # share of a query's atoms from which on all are worked with, others with weight 0
NUMBERS = 2**22  # of steps between atoms and queries, at a time


@dataclass(frozen=True)
class Listed:
    """The atoms that matter to a posterior: the numbers of its SNR and query, rows, and what they leave out."""

    snr: int
    query: int
    rows: Int[Tensor, " m"]
    lost: float  # of mass and second moment together
    moment: float  # which is so large at most


class Solved(NamedTuple):
    """Norm and trace of Cov[X], the norm's relative error, leading Ritz vectors, (k, d), where that is too large."""

    norm: float
    trace: float
    error: float
    leading: Float[Tensor, "k d"] | None = None


def solve(
    queries: Queries,
    listed: Sequence[Listed],
    numbers: Int[Tensor, " N"],
    atoms: Float[Tensor, "N d"],
    tolerance: float,
    dropped: float,
    memory: float,
) -> list[Solved]:
    """Norm and trace of Cov[X] of each posterior.

    Args:
        queries: that posteriors are at.
        listed: what matters to each.
        numbers: sorted rows of the atoms.
        atoms: as many.
        tolerance: relative error allowed in a norm.
        dropped: as of `PosteriorNorms`.
        memory: bytes.
    """
    none = torch.zeros(len(atoms), dtype=atoms.dtype)
    norms = PosteriorNorms(atoms, squares(atoms), none, tolerance / CLOSER, dropped, memory)
    found: dict[int, Solved] = {}
    for least, most in ((0, 8), (8, FEW)):  # so that few are padded to many
        some = [k for k, one in enumerate(listed) if least < len(one.rows) <= most]
        for snr, at in _by_snr(listed, some, max(1, NUMBERS // (most * atoms.shape[1]))):
            order = torch.zeros(len(at), most, dtype=torch.long)
            for place, k in enumerate(at):
                order[place, : len(listed[k].rows)] = torch.searchsorted(numbers, listed[k].rows)
            count = torch.tensor([len(listed[k].rows) for k in at])
            own = torch.tensor([listed[k].query for k in at])
            # With a second moment like the norm: past the collapse what sums over all atoms tell of it is rounding.
            lost = 3 * torch.tensor([listed[k].lost for k in at], dtype=torch.float64)
            r = queries.ratios[snr]
            parts = norms.gathered(order, count, lost, torch.zeros_like(lost), queries.x[own], queries.z[own], r)
            for k, norm, trace, error in zip(at, *(part.tolist() for part in parts), strict=True):
                found[k] = Solved(norm / r**2, trace / r**2, error)
    for query in sorted({one.query for one in listed if len(one.rows) > FEW}):
        own = [k for k, one in enumerate(listed) if one.query == query and len(one.rows) > FEW]
        found |= zip(own, _many(queries, [listed[k] for k in own], numbers, atoms, tolerance), strict=True)
    return [found[k] for k in range(len(listed))]


def solved(
    values: NDArray[Any],
    told: tuple[Queries, float, float, float],
    numbers: NDArray[np.int64],
    group: list[Listed],
) -> list[Solved]:
    """Norms of posteriors on few atoms, which are these rows."""
    queries, *how = told
    atoms = queries.frame.atoms(values)
    return solve(queries, group, torch.from_numpy(numbers), atoms, *how)


def grouped(listed: Sequence[Listed], budget: int) -> list[list[Listed]]:
    """By query, as many together as have at most so many atoms."""
    groups: list[list[Listed]] = []
    count = budget
    for one in sorted(listed, key=lambda one: (one.query, one.snr)):
        count += len(one.rows)
        if count > budget:
            groups.append([])
            count = len(one.rows)
        groups[-1].append(one)
    return groups


def _missing(lost: float, moment: float, norm: float) -> float:
    """What is left out adds at most its second moment to the norm, and takes its mass from what the others weigh."""
    return lost * (1 + moment / max(norm, 1e-300))


def _by_snr(listed: Sequence[Listed], some: Sequence[int], size: int) -> Iterator[tuple[int, list[int]]]:
    for snr in sorted({listed[k].snr for k in some}):
        own = [k for k in some if listed[k].snr == snr]
        for i in range(0, len(own), size):
            yield snr, own[i : i + size]


def _many(queries: Queries, listed: Sequence[Listed], numbers: Tensor, atoms: Tensor, tolerance: float) -> list[Solved]:
    """Krylov spaces on the atoms listed for posteriors of one query, which share the steps to them."""
    rows = torch.cat([one.rows for one in listed]).unique()
    x, z = queries.x[listed[0].query], queries.z[listed[0].query]
    steps = atoms[torch.searchsorted(numbers, rows)].sub_(x).to(queries.frame.fine)
    distances, slopes = squares(steps), (steps @ z.to(steps)).double()
    found: list[Solved] = []
    for one in listed:
        r, at = queries.ratios[one.snr], torch.searchsorted(rows, one.rows.sort().values)
        weights = (distances[at] * (-(r**2) / 2) + r * slopes[at]).softmax(0)
        moment = float(weights @ distances[at])
        if len(at) > MOSTLY * len(rows):
            own, weights = steps, torch.zeros_like(distances).index_copy_(0, at, weights)
        else:
            own = steps[at]
        hopeless = _missing(one.lost, 1.0, 1.0) > tolerance  # a norm is below the second moment
        norm, trace, error, leading = _krylov(own, weights, moment, COARSE if hopeless else tolerance)
        error += _missing(one.lost, one.moment, norm)
        found.append(Solved(norm, trace, error, leading if error > tolerance else None))
    return found


def _krylov(steps: Tensor, weights: Tensor, moment: float, tolerance: float) -> tuple[float, float, float, Tensor]:
    """Norm, trace, relative error and leading vectors of the covariance of steps with these weights and mean square."""
    some = weights[None].to(steps.dtype)
    mean = some @ steps
    trace, scale = moment - float(mean.double().square().sum()), 1.0
    if trace < NARROW * moment:  # where rounding would show, about the likeliest atom and in its own unit
        steps = steps - steps[int(weights.argmax())]
        scale = float(weights @ squares(steps))
        if scale == 0:
            return 0.0, 0.0, 0.0, steps[:TAKEN]
        if scale < TINY:  # past the collapse, where float32 has no room for squares of what is left
            steps = steps.double()
        steps = steps / scale**0.5
        some = weights[None].to(steps.dtype)
        mean = some @ steps
        trace = scale * (1 - float(mean.double().square().sum()))
    start = torch.randn(STARTS, steps.shape[1], generator=torch.Generator().manual_seed(0)).to(steps)
    start = ((start @ steps.T) * some) @ steps  # half a step ahead
    norm, error, leading = covariance_norm(some, steps, start[None], tolerance / 2, about=mean)
    return scale * float(norm[0]), trace, float(error[0]), leading[0, :TAKEN].clone()
