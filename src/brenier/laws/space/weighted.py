"""A law in many dimensions by its log density: posteriors by importance weights.

Draws from the posterior of a mixture q that follows the density p (`proposal`), given Y_r = y, have weights p(x)/q(x):
kernel and evidence are the same for both. Of what q has in closed form only the difference is estimated,

    E_p[f | y] = E_q[f | y] + sum_i (w_i - 1/M) f(x_i),

so that where q is p nothing is left to chance. The norm of an estimated covariance is too large, as it is a maximum:
the leading direction of one half of the draws is read off the other, either way round (`laws.crossfit`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Localization
from brenier.laws.space.asked import Mode
from brenier.laws.space.held import Held
from brenier.laws.space.proposal import fitted

_STREAM = 0x1337
_DRAWS = 1024  # for each posterior
_LEAST = 64.0  # effective sample size that a posterior must have,
_SHARE = 0.02  # but for this share of them
_FOUND = 0.05  # share of draws of the mixture that must be effective for the law to be made
_CHAIN = 32  # steps of the chains that draw from the law
_BLOCK = 2**22  # numbers in work at once


class _Weighted(NamedTuple):
    """A posterior as its draws tell it: t = r X - y."""

    mean: Float[Tensor, "n d"]
    covariance: Float[Tensor, "n d d"]
    halves: Float[Tensor, "2 n d d"]
    ess: Float[Tensor, " n"]
    log_density: Float[Tensor, " n"]


class ByWeights(Held):
    """A law on R^d by its log density; made by `from_density` in four dimensions and more.

    Args:
        log_density: of points (n, d) -> (n,), checked and up to a constant.
        modes: from `find_modes`.
        name: what to call the law in results.
        smooth: a log density of tensors that autograd differentiates; None where there is none.
        seed: of the draws.

    Raises:
        ValueError: no mixture follows the density well enough.
    """

    def __init__(
        self,
        log_density: Callable[[Array], Array],
        modes: list[Mode],
        *,
        name: str = "density",
        smooth: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(log_density, modes, name, smooth)
        self._seed = seed
        fit = fitted(log_density, modes, np.random.default_rng(np.random.SeedSequence([seed, _STREAM])))
        if fit.share < _FOUND:
            raise ValueError(
                f"{name}: of the draws of the best mixture found {fit.share:.1%} are effective, and {_FOUND:.0%} are "
                "needed: the law has no finite integral, or its modes are not found (give points near them as at=[x])"
            )
        self._mixture, self._integral = fit.mixture, fit.log_total
        self.effective = fit.share
        self._x, self._w = self._prior()

    @property
    def default_queries(self) -> int:
        """Noisy points per SNR that a probe of this law takes unless told otherwise."""
        return 512

    @property
    def square_integrable(self) -> bool:
        """Whether E |X|^2 is finite, as far as draws tell: no thousandth of them has half of its value."""
        share = np.sort(self._w * (self._x**2).sum(1))
        return bool(share[-max(1, len(share) // 1000) :].sum() < 0.5 * share.sum())

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points: the ends of n independence chains with draws of the mixture as proposals."""
        random = np.random.default_rng(np.random.SeedSequence([seed, _STREAM, 1]))
        found = self._mixture.sample(n, random)
        weight = self._log_weights(found)
        for _ in range(_CHAIN):
            new = self._mixture.sample(n, random)
            fresh = self._log_weights(new)
            taken = np.log(random.random(n)) < np.where(np.isneginf(weight), np.inf, fresh - weight)
            found[taken], weight[taken] = new[taken], fresh[taken]
        return (torch.from_numpy(found) + self._shift).to(self.device, self.dtype)

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Norm and trace of Cov[rX | Y_r = y], and E[X | Y_r = y], with the effective sample sizes behind them.

        `norm` is halfway between that of the whole estimate, which errs upwards, and the cross-fitted one, which errs
        downwards, and `norm_error` half the gap.
        """
        own = self._own(y, snr)
        found = self._posterior(own, snr)
        leading = torch.linalg.eigh(found.halves).eigenvectors[..., -1]
        across = torch.einsum("hni,hnij,hnj->hn", leading, found.halves.flip(0), leading).mean(0)
        whole = torch.linalg.eigvalsh(found.covariance)[:, -1]
        norm = ((across + whole) / 2).clamp_min(0)
        trace = found.covariance.diagonal(dim1=1, dim2=2).sum(1)
        mean = (own + found.mean) / snr + self._shift
        error = ((whole - across).abs() / 2 / norm.clamp_min(1e-300)).clamp_max(1)
        return Localization(
            norm=self._out(norm),
            trace=self._out(trace),
            mean=self._out(mean),
            ess=self._out(found.ess),
            norm_error=self._out(error),
        )

    def scales(self) -> tuple[float, float]:
        """The least and the largest root of an eigenvalue: of the mixture's shapes, and of its covariance or shapes."""
        widths = np.sqrt(self._mixture.spread)
        likely = self._mixture.weights > 0.02
        away = self._mixture.means - self._mixture.weights @ self._mixture.means
        between = np.einsum("k,ki,kj->ij", self._mixture.weights, away, away)
        within = np.einsum("k,kij->ij", self._mixture.weights, self._mixture.shapes)
        largest = math.sqrt(float(np.linalg.eigvalsh(between + within)[-1]))
        return min(float(widths[likely].min()), largest), largest

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance, by importance weights; NotImplementedError for a law that has none."""
        if not self.square_integrable:
            raise NotImplementedError(f"{self.name} has no second moment")
        mean = self._w @ self._x
        away = self._x - mean
        covariance = (self._w[:, None] * away).T @ away
        return self._out(torch.from_numpy(mean) + self._shift), self._out(torch.from_numpy(covariance))

    @property
    def _middle(self) -> Float[Tensor, " d"]:
        return torch.from_numpy(self._mixture.weights @ self._mixture.means)

    @property
    def _log_total(self) -> float:
        return self._integral

    def _log_weights(self, x: Array) -> Array:
        logs = torch.from_numpy(self._mixture.logs(x)).logsumexp(1).numpy()
        return self._asked(x) - logs

    def _prior(self) -> tuple[Array, Array]:
        """Draws of the mixture with their weights."""
        x = self._mixture.sample(20_000, np.random.default_rng(np.random.SeedSequence([self._seed, _STREAM, 2])))
        logs = self._log_weights(x)
        weight = np.exp(logs - logs.max())
        return x, weight / weight.sum()

    def _posterior(self, own: Float[Tensor, "n d"], snr: float) -> _Weighted:
        rows = max(1, _BLOCK // (self.dim * (_DRAWS + len(self._mixture.weights) * len(self._mixture.scales))))
        generator = torch.Generator().manual_seed(self._seed ^ _STREAM)
        parts = [self._drawn(block, snr, generator) for block in own.split(rows)]
        found = _Weighted(*(torch.cat(part, 1 if part[0].ndim == 4 else 0) for part in zip(*parts, strict=True)))
        poor = found.ess < _LEAST
        if float(poor.double().mean()) > _SHARE:
            many = f"{int(poor.sum())} of {len(poor)} posteriors"
            raise ValueError(
                f"{self.name}: at snr {snr:g} {many} have an effective sample size "
                f"below {_LEAST:.0f} of {_DRAWS} draws (median {float(found.ess.median()):.0f}): give points near all "
                "modes as at=[x], or a law with posteriors of its own"
            )
        return found

    def _drawn(self, y: Float[Tensor, "n d"], r: float, generator: torch.Generator) -> _Weighted:
        given = self._mixture.given(y, r)
        weights = given.log_weights.exp()
        centre = torch.einsum("nc,ncd->nd", weights, given.mean)
        picked = torch.multinomial(weights, _DRAWS // 2, replacement=True, generator=generator)
        axes = torch.from_numpy(self._mixture.axes)
        owner = torch.arange(len(self._mixture.weights)).repeat_interleave(len(self._mixture.scales))
        z = torch.randn((*picked.shape, self.dim), generator=generator, dtype=torch.float64)
        # Each with its mirror image in the component: what linear weights would do to a covariance cancels.
        picked, z = (torch.stack([part, sign * part], 2).flatten(1, 2) for part, sign in ((picked, 1), (z, -1)))
        z = z * given.variances.sqrt()[picked]
        turned = torch.empty_like(z)
        for k in range(len(axes)):
            mine = owner[picked] == k
            turned[mine] = z[mine] @ axes[k].T
        t = given.mean.gather(1, picked[:, :, None].expand(-1, -1, self.dim)) + turned
        x = ((y[:, None] + t) / r).flatten(0, 1).numpy()
        logs = torch.from_numpy(self._log_weights(x)).view(len(y), _DRAWS)
        log_density = given.log_density + logs.logsumexp(1) - math.log(_DRAWS) - self._log_total
        t = t - centre[:, None]
        between = given.mean - centre[:, None]
        exact = torch.einsum("nc,nci,ncj->nij", weights, between, between)
        within = torch.einsum("nc,cd->ncd", weights, given.variances).view(len(y), len(axes), -1, self.dim).sum(2)
        exact = exact + torch.einsum("nke,kie,kje->nij", within, axes, axes)
        mean, covariance, ess = _corrected(t, logs, exact)
        half = _DRAWS // 2
        halves = torch.stack(
            [_corrected(t[:, rows], logs[:, rows], exact)[1] for rows in (slice(half), slice(half, None))]
        )
        return _Weighted(centre + mean, covariance, halves, ess, log_density)


def _corrected(
    t: Float[Tensor, "n m d"], logs: Float[Tensor, "n m"], exact: Float[Tensor, "n d d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d d"], Float[Tensor, " n"]]:
    """Mean and covariance under p, of draws under q with mean 0 and covariance `exact`; effective sample sizes."""
    weight = logs.softmax(1)
    extra = weight - 1 / t.shape[1]
    mean = torch.einsum("nm,nmd->nd", extra, t)
    second = exact + torch.einsum("nm,nmi,nmj->nij", extra, t, t)
    covariance = second - mean[:, :, None] * mean[:, None]
    return mean, (covariance + covariance.mT) / 2, 1 / weight.square().sum(1)
