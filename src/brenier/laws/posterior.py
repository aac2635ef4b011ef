"""The covariance of a posterior on many atoms: its operator norm, with an error bound, and its trace.

With m = sum w_i x_i, the norm of Cov[rX | y] = r^2 (sum w_i x_i x_i^T - m m^T) is found by the first of these that
holds for the query:

1. few atoms matter: gather them, and square their Gram matrix until both ends of an enclosure meet (certified);
2. few dimensions (d <= 64): second moments from one product with the atoms' own, then the same squaring (certified);
3. many of both: in up to 128 leading directions of the data, then to second order in the coupling to all others, that
   a random sketch measures; where that is too coarse, ascent in R^d until the measured residual is small.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.linalg import norm_by_squaring
from brenier.laws.atoms import HEAD, SKETCH, SecondMoments, Subspace, covariance_norm

SPARSE = 64  # atoms up to which a posterior is gathered into one small Gram matrix
NARROW = 64  # dimensions up to which the covariance is formed whole
GATHER = 1024  # atoms up to which gathering a posterior beats a product with all atoms
SKETCHED = 3 * (2 / SKETCH) ** 0.5  # three standard deviations of a sketched square


@dataclass(frozen=True)
class Posterior:
    """Posterior weights at some queries of one block at one SNR, with what they were computed from."""

    weights: Float[Tensor, "n N"]  # normalised
    x: Float[Tensor, "n d"]
    z: Float[Tensor, "n d"]
    distances: Float[Tensor, "n N"]  # |x - x_i|^2
    order: Int[Tensor, "n k"]  # the atoms that matter most, first ones first
    left: Float[Tensor, "n k"]  # share of mass and second moment about x that the first 1, 2, ... of them leave out
    count: Int[Tensor, " n"]  # how many of them matter; more than k: too many to tell
    snr: float

    def at(self, index: Tensor) -> "Posterior":
        """The same at the queries in `index`."""
        if len(index) == len(self.weights):
            return self
        weights, x, z = self.weights[index], self.x[index], self.z[index]
        order, left, count = self.order[index], self.left[index], self.count[index]
        return Posterior(weights, x, z, self.distances[index], order, left, count, self.snr)


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
        self._tolerance, self._dropped, self._memory = tolerance, dropped, memory
        self._dim, self._dtype, self._device = atoms.shape[1], atoms.dtype, atoms.device

    def of(
        self,
        weights: Float[Tensor, "n N"],
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        distances: Float[Tensor, "n N"],
        ess: Float[Tensor, " n"],
        r: float,
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Norm, trace and the norm's relative error at n queries y = r x + z.

        Args:
            weights: of the posteriors, normalised.
            x: clean part of the queries.
            z: noise of the queries.
            distances: |x - x_i|^2.
            ess: effective sample size of the weights.
            r: the SNR.
        """
        order, left, count = self._select(weights, distances, ess)
        posterior = Posterior(weights, x, z, distances, order, left, count, r)
        norm, trace, error = (torch.zeros_like(ess) for _ in range(3))
        peaked = (ess < SPARSE / 4) & (self._dim > NARROW)  # seen better from its heaviest atoms than from a subspace
        for rows, method in (
            ((count > 1) & (count <= 8), self._gathered),  # apart, so that few are padded to many
            ((count > 8) & (count <= SPARSE), self._gathered),
            ((count > SPARSE) & peaked, self._peaked),
            ((count > SPARSE) & ~peaked, self._whole if self._dim <= NARROW else self._projected),
        ):
            index = rows.nonzero()[:, 0]
            if len(index):
                norm[index], trace[index], error[index] = method(posterior.at(index))
        return norm, trace, error

    def _select(self, weights: Tensor, distances: Tensor, ess: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The atoms that matter at each query, heaviest first; what the first of them leave out; how many matter.

        Those left out hold at most `dropped` of the posterior mass and of the second moment about x together. The count
        is one more than are listed where that takes too many.
        """
        most = min(SPARSE if self._dim <= NARROW else GATHER, len(self._atoms))
        listed = most == len(self._atoms)  # then nothing can be left out
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
            count[rows] = (left[rows] > self._dropped).sum(1) + 1
            if listed:
                count[rows] = count[rows].clamp_max(most)
        return order, left, count

    @cached_property
    def moments(self) -> Float[Tensor, "N d"]:
        """The atoms in the dtype that second moments are summed in: float64 where the problem is small."""
        return self._atoms.double() if self._atoms.numel() < 2**22 else self._atoms

    @cached_property
    def _subspace(self) -> Subspace:
        return Subspace.of(self.moments, self._squares)

    @property
    def leading(self) -> Float[Tensor, "N k"]:
        """The atoms in the leading directions of the data, first ones first."""
        return self._subspace.atoms

    @cached_property
    def _second_moments(self) -> SecondMoments:
        """Of the atoms, or of their leading coordinates where they have too many."""
        atoms = self._atoms if self._dim <= NARROW else self._subspace.atoms[:, :HEAD].contiguous()
        return SecondMoments(atoms, self._memory / 4)

    def _gathered(self, posterior: Posterior) -> tuple[Tensor, Tensor, Tensor]:
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
        norm, width, _ = norm_by_squaring(gram, self._tolerance)
        return norm, gram.diagonal(dim1=1, dim2=2).sum(1), width

    def _whole(self, posterior: Posterior) -> tuple[Tensor, Tensor, Tensor]:
        """Few dimensions: the covariance itself."""
        matrix, blurred = self._second_moments.covariance(posterior.weights)
        for i in blurred.nonzero()[:, 0].tolist():
            weights, steps = self._steps(posterior, i, int(posterior.count[i]))
            matrix[i] = (steps * weights[:, None]).T @ steps
        norm, width, _ = norm_by_squaring(matrix.mul_(posterior.snr**2), self._tolerance)
        return norm, matrix.diagonal(dim1=1, dim2=2).sum(1), width

    def _steps(self, posterior: Posterior, i: int, count: int) -> tuple[Float[Tensor, " m"], Float[Tensor, "m d"]]:
        """Normalised weights of the first atoms that matter to query i (past the list, all), and the atoms centred."""
        kept = posterior.order[i, :count] if count <= posterior.order.shape[1] else slice(None)
        weights = posterior.weights[i, kept]
        weights = weights / weights.sum()
        steps = self._atoms[kept] - posterior.x[i]
        return weights, steps - weights @ steps

    def _projected(self, posterior: Posterior) -> tuple[Tensor, Tensor, Tensor]:
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
        theta, inner, v = covariance_norm(weights, space.atoms, start, self._tolerance / 4, gap)
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
        hard = ~trusted | (error > self._tolerance) | (SKETCHED * lost > self._tolerance * trace) | blurred
        rows = hard.nonzero()[:, 0]
        if len(rows):
            found = self._ascended(posterior.at(rows), v[rows] @ space.basis.T, gap[rows], theta[rows])
            norm[rows], trace[rows], error[rows] = found
        r2 = posterior.snr**2
        norm, trace, error = (part.to(self._dtype) for part in (norm * r2, trace * r2, error))
        return norm, trace, error

    def _peaked(self, posterior: Posterior) -> tuple[Tensor, Tensor, Tensor]:
        """A few heavy atoms and a long tail: ascent in R^d from the leading direction of the heaviest alone."""
        index = posterior.order[:, :SPARSE]
        weights = posterior.weights.gather(1, index)
        steps = self._atoms[index].sub_(posterior.x[:, None])
        steps.sub_((weights / weights.sum(1, keepdim=True))[:, None] @ steps).mul_(weights.sqrt()[..., None])
        values, vectors = torch.linalg.eigh(steps @ steps.mT)
        start, gap = (vectors[:, None, :, -1] @ steps)[:, 0], values[:, -1] - values[:, -2]
        dtype = self.moments.dtype
        found = self._ascended(posterior, start.to(dtype), gap.to(dtype), values[:, -1].to(dtype))
        norm, trace, error = found
        r2 = posterior.snr**2
        norm, trace, error = (part.to(self._dtype) for part in (norm * r2, trace * r2, error))
        return norm, trace, error

    def _ascended(
        self, posterior: Posterior, start: Tensor, gap: Tensor, floor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ascent in R^d; per query on its own atoms where they are few enough to be worth gathering.

        With `floor` a lower bound on the norm, the atoms left out there have a second moment, which bounds what they
        add to the norm, of at most a quarter of the tolerance; it is counted in the error.
        """
        norm, trace, error = (torch.zeros_like(start[:, 0]) for _ in range(3))
        moment = (posterior.weights * posterior.distances).sum(1, dtype=torch.float64)
        lost = posterior.left * (moment / floor.clamp_min(torch.finfo(floor.dtype).tiny))[:, None]
        few = torch.minimum(posterior.count, (lost > self._tolerance / 4).sum(1) + 1)
        gather = few <= GATHER
        for i in gather.nonzero()[:, 0].tolist():
            weights, steps = (part.to(start.dtype) for part in self._steps(posterior, i, int(few[i])))
            row = slice(i, i + 1)
            norm[i], error[i], _ = covariance_norm(weights[None], steps, start[row], self._tolerance / 2, gap[row])
            error[i] += lost[i, min(int(few[i]), lost.shape[1]) - 1]
            trace[i] = weights @ torch.linalg.vector_norm(steps, dim=1).square()
        rest = (~gather).nonzero()[:, 0]
        if len(rest):
            weights, x = posterior.weights[rest].to(start.dtype), posterior.x[rest].to(start.dtype)
            weights /= weights.sum(1, keepdim=True)
            norm[rest], error[rest], _ = covariance_norm(
                weights, self.moments, start[rest], self._tolerance, gap[rest], about=x
            )
            shift = weights @ self.moments - x
            trace[rest] = (weights * posterior.distances[rest]).sum(1) - shift.square().sum(1)
        return norm, trace, error
