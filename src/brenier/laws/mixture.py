"""Gaussian mixtures and finite point clouds: laws whose posterior given Y_r = r X + Z has a closed form.

For X ~ sum_i p_i N(mu_i, S_i), given Y_r = y and component i, rX is Gaussian with

    covariance  C_i = r^2 S_i (r^2 S_i + I)^-1      and mean      m_i = r mu_i + C_i e_i,    e_i = y - r mu_i,

and component i has posterior weight w_i ~ p_i N(y; r mu_i, r^2 S_i + I). The law of total covariance joins them:

    Cov[rX | y] = sum_i w_i C_i + sum_i w_i (m_i - m)(m_i - m)^T,    m = sum_i w_i m_i.

S_i = 0 is a point mass: then C_i = 0. Every S_i is diagonalised once, at construction; A_i = (r^2 S_i + I)^-1 = I - C_i
is then diagonal in the same axes at every r.

Two things keep the digits when r mu_i is large beside the unit noise, or y lies far out. Residuals and posterior means
are measured from a component near the query (the anchor), so that what is subtracted is mu_i - mu_anchor. Evidences are
compared with the anchor's through differences of squares in product form, never as two large squares.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from brenier.core.linalg import norm_by_krylov, norm_by_squaring
from brenier.core.points import Numbers
from brenier.laws.base import Distribution, Localization, Target, far, resolving
from brenier.laws.components import Components
from brenier.laws.envelope import breakpoints
from brenier.laws.parameters import (
    COVARIANCE_TYPES,
    check_snr,
    per_component,
    read_covariances,
    read_means,
    read_numbers,
    read_weights,
)

_BLOCK = 2**20  # numbers, queries x components x dimensions, in work at once: what caches hold and a GPU is busy with
_ASSEMBLED = 256  # dimensions up to which posterior covariances are assembled; beyond they are applied to vectors only


class _Posterior(NamedTuple):
    """The mixture given Y_r = y, for a block of n queries and K components."""

    weights: Float[Tensor, "n k"]  # w_i
    anchor: Float[Tensor, "n d"]  # mu of the anchor
    offset: Float[Tensor, "n k d"]  # m_i - r mu_anchor
    residual: Float[Tensor, "n k d"]  # e_i, in the axes of component i
    log_density: Float[Tensor, " n"]


class GaussianMixture(Target):
    """sum_i p_i N(mu_i, S_i) on R^d; components may be flat, down to point masses.

    Args:
        weights: p_i >= 0, shape (K,), not all zero; they are normalised, and components of weight 0 are left out.
        means: mu_i, shape (K, d), or (K,) for d = 1.
        covariances: one entry per component, or one number for all. Each entry is a variance (isotropic, 0 for a point
            mass), d variances (diagonal) or a d x d covariance matrix (may be rank-deficient), in squared data units.
        name: what to call the law in results.
        event_shape: the shape of one point before it was flattened to d numbers; (d,) by default.
        dtype: of computations; by default that of `means` where it is a floating tensor, else float64. Where float32
            does not resolve the law, far from zero, it is float64 all the same.
        device: where to compute; by default that of `means`.

    Raises:
        ValueError: weights negative or all zero, numbers not finite, wrong shapes, asymmetric or negative covariances.
        TypeError: complex, object or text arrays.

    Warns:
        UserWarning: float32 is asked for, and does not resolve the law.
    """

    swift = True

    def __init__(
        self,
        weights: Numbers,
        means: Numbers,
        covariances: Numbers,
        *,
        name: str = "gaussian-mixture",
        event_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        given = means.dtype if isinstance(means, Tensor) and means.is_floating_point() else torch.float64
        self.dtype = torch.float64
        if (dtype or given) != torch.float64:
            exact = GaussianMixture(weights, means, covariances, dtype=torch.float64, device="cpu")
            self.dtype = resolving(dtype or given, exact.means, exact.scales()[0], name, asked=dtype is not None)
        self.device = torch.device(device or (means.device if isinstance(means, Tensor) else "cpu"))
        self.name = name
        mass = read_weights(weights)
        centres = read_means(means, len(mass))
        self.event_shape = event_shape or (centres.shape[1],)
        if self.dim != centres.shape[1]:
            raise ValueError(f"event_shape {self.event_shape} holds {self.dim} numbers, means have {centres.shape[1]}")
        variances, axes = read_covariances(covariances, *centres.shape)
        kept = mass > 0
        self.weights = self._store(mass[kept] / mass.sum())
        self.means = self._store(centres[kept])
        self.variances = self._store(variances[kept])  # (K, 1) isotropic, else (K, d)
        self.axes = None if axes is None else self._store(axes[kept])  # (K, d, d), eigenvectors as columns
        if not bool(torch.isfinite(self.means).all() and torch.isfinite(self.variances).all()):
            raise ValueError(f"means or covariances overflow {self.dtype}: rescale them or use torch.float64")
        self._atoms = self._find_atoms()

    @classmethod
    def from_sklearn(
        cls, fitted: Any, *, name: str = "gaussian-mixture", event_shape: tuple[int, ...] | None = None
    ) -> Self:
        """The mixture that scikit-learn's `GaussianMixture` has been fitted to, in float64.

        Args:
            fitted: what has `weights_`, `means_`, `covariances_` and `covariance_type`, of all four types.
            name: what to call the law in results.
            event_shape: see the class.

        Raises:
            ValueError: it has not been fitted yet.
            TypeError: it is no mixture of scikit-learn.
        """
        kind = getattr(fitted, "covariance_type", None)
        if kind not in COVARIANCE_TYPES:
            raise TypeError(f"a fitted GaussianMixture of scikit-learn is needed, got {type(fitted).__name__}")
        if not hasattr(fitted, "covariances_"):
            raise ValueError(f"the {type(fitted).__name__} has not been fitted yet: call fit first")
        means = np.asarray(fitted.means_, dtype=np.float64)
        covariances = per_component(fitted.covariances_, kind, *means.shape)
        return cls(fitted.weights_, means, covariances, name=name, event_shape=event_shape)

    @classmethod
    def fit(
        cls,
        data: Numbers,
        components: int,
        *,
        covariance: Literal["full", "diagonal", "isotropic"] = "full",
        seed: int = 0,
        name: str = "gaussian-mixture",
    ) -> Self:
        """Fit a mixture to data of shape (n, d) or (n, *event_shape) by expectation-maximisation (scikit-learn)."""
        from sklearn.mixture import GaussianMixture as Estimator

        kinds = {"full": "full", "diagonal": "diag", "isotropic": "spherical"}
        if covariance not in kinds:
            raise ValueError(f"covariance must be one of {', '.join(kinds)}, got {covariance!r}")
        points = read_numbers(data, "data")
        if points.ndim == 0 or not 1 <= components <= len(points):
            raise ValueError(f"components must lie between 1 and the number of data points, got {components}")
        estimator = Estimator(components, covariance_type=kinds[covariance], random_state=seed)
        rows = points.reshape(len(points), -1)
        spread = float(rows.std(0, correction=0).square().mean().sqrt())
        origin = rows.mean(0) if far(rows.mean(0), spread) else torch.zeros_like(rows[0])
        estimator.fit((rows - origin).numpy())
        return cls.from_sklearn(estimator, name=name, event_shape=tuple(points.shape[1:]) or (1,)).moved(origin)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points: a component each, then a point of that component."""
        generator = torch.Generator(self.device).manual_seed(seed)
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn((n, self.dim), generator=generator, dtype=self.dtype, device=self.device)
        noise = self.variances[component].sqrt() * noise
        if self.axes is not None:
            for i in component.unique().tolist():
                mine = component == i
                noise[mine] = noise[mine] @ self.axes[i].mT
        return self.means[component] + noise

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y] of each noisy point ([LDK24] Proposition 2)."""
        return torch.cat([_mean(part, snr) for part in self._posteriors(y, snr)])

    def score(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """grad log p(y) = -sum_i w_i A_i e_i of Y_r, with no cancellation at high SNR."""
        shrink = 1 / (1 + snr**2 * self.variances)
        return torch.cat(
            [
                -torch.einsum("nk,nkd->nd", part.weights, self._to_data_axes(shrink * part.residual))
                for part in self._posteriors(y, snr)
            ]
        )

    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y."""
        return torch.cat([part.log_density for part in self._posteriors(y, snr)])

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Norm and trace of Cov[rX | Y_r = y], and E[X | Y_r = y] ([LDK24] Definition 4).

        The norm is exact in one dimension. In up to 256 it is a lower bound with a certified relative `error` (1e-6 in
        float64, 1e-5 in float32); in more dimensions the error is measured in the course of an iteration, and may be
        too small where the leading eigenvalues lie close together. `ess` is given where every component is a point
        mass; equal points count as one.
        """
        gain = _gain(self.variances, snr)
        parts = []
        for part in self._posteriors(y, snr):
            norm, trace, error = self._norm(part.weights, gain, part.offset)
            parts.append(Localization(norm, trace, _mean(part, snr), self._effective_size(part.weights), error))
        exact, dense = self.dim == 1, self._atoms is None
        return Localization(
            norm=torch.cat([p.norm for p in parts]),
            trace=torch.cat([p.trace for p in parts]),
            mean=torch.cat([p.mean for p in parts if p.mean is not None]),
            ess=None if dense else torch.cat([p.ess for p in parts if p.ess is not None]),
            norm_error=None if exact else torch.cat([p.norm_error for p in parts if p.norm_error is not None]),
        )

    def scales(self) -> tuple[float, float]:
        """The smallest and the largest length in the law, in the unit of the data.

        Largest: the standard deviation along the law's leading axis. Smallest: the least of it, the components'
        deviations along their own leading axes, and of half the distances between different component means, where a
        distance counts no less than the width that both components have in every direction. A single point has no
        length at all: (1, 1).
        """
        offset = self.means - self.weights @ self.means
        top = self._norm(self.weights[None], self.variances, offset[None])[0]
        largest = math.sqrt(float(top))
        if largest == 0:
            return 1.0, 1.0
        width = self.variances.amin(1).sqrt()
        smallest = largest
        spread = self.variances.amax(1).sqrt()
        if bool((spread > 0).any()):
            smallest = min(smallest, float(spread[spread > 0].min()))
        for rows in torch.arange(len(offset), device=self.device).split(max(1, _BLOCK // len(offset))):
            distance = torch.cdist(offset[rows], offset, compute_mode="donot_use_mm_for_euclid_dist") / 2
            length = torch.maximum(distance, torch.minimum(width[rows, None], width))
            distinct = distance > 8 * torch.finfo(self.dtype).eps * largest
            if bool(distinct.any()):
                smallest = min(smallest, float(length[distinct].min()))
        return smallest, largest

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The mean where it lies far from zero, else 0."""
        mean = self.weights.double() @ self.means.double()
        return mean if far(mean, self.scales()[0]) else torch.zeros_like(mean)

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by."""
        other = copy.copy(self)
        other.means = other._store(self.means.double() + by.to(self.device))
        return other

    @property
    def components(self) -> Components:
        """The components themselves."""
        return Components(self.weights, self.means, self.variances, self.axes)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or in another dtype."""
        other = copy.copy(self)
        other.device = torch.device(device or self.device)
        if dtype is not None and dtype != self.dtype:
            other.dtype = resolving(dtype, self.means, self.scales()[0], self.name)
        other.weights = other._store(self.weights)
        other.weights = other.weights / other.weights.sum()
        other.means = other._store(self.means)
        other.variances = other._store(self.variances)
        other.axes = None if self.axes is None else other._store(self.axes)
        other._atoms = None if self._atoms is None else self._atoms.to(other.device)
        return other

    def breakpoints(self, snr: float) -> Float[Tensor, " m"] | None:
        """In one dimension: points that enclose the mass of Y_r and separate its features, sorted; else None."""
        if self.dim != 1:
            return None
        check_snr(snr)
        mean = snr * self.means[:, 0].double().cpu().numpy()
        variance = 1 + snr**2 * self.variances[:, 0].double().cpu().numpy()
        log_weight = np.log(self.weights.double().cpu().numpy()) - np.log(variance) / 2
        return torch.from_numpy(breakpoints(mean, variance, log_weight)).to(self.device, self.dtype)

    def distribution(
        self, x: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], sigma: Float[Tensor, "*n"]
    ) -> Distribution:
        """In one dimension: distribution of alpha X + sigma Z at x, element by element."""
        if self.dim != 1:
            return super().distribution(x, alpha, sigma)
        away = x[..., None] - alpha[..., None] * self.means[:, 0]
        deviation = (alpha[..., None].square() * self.variances[:, 0] + sigma[..., None].square()).sqrt()
        smooth = deviation > 0
        deviation = torch.where(smooth, deviation, 1.0)
        z = torch.where(smooth, away / deviation, torch.where(away >= 0, math.inf, -math.inf))
        bell = -z.square() / 2 - deviation.log() - math.log(2 * math.pi) / 2
        log_weight = self.weights.log()
        return Distribution(
            log_cdf=(log_weight + torch.special.log_ndtr(z)).logsumexp(-1),
            log_sf=(log_weight + torch.special.log_ndtr(-z)).logsumexp(-1),
            log_density=(log_weight + torch.where(smooth, bell, -math.inf)).logsumexp(-1),
        )

    def point_masses(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
        """Places and probabilities of the components without variance; equal places are one."""
        flat = (self.variances == 0).all(1)
        places, which = torch.unique(self.means[flat], dim=0, return_inverse=True)
        return places, self.weights.new_zeros(len(places)).index_add_(0, which, self.weights[flat])

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]]:
        """Log density of X itself; ValueError where a component has none."""
        covariances = self.components.covariances()
        if bool((torch.linalg.eigvalsh(covariances)[:, 0] <= 0).any()):
            raise ValueError(f"{self.name} has components without a density: give them a positive definite covariance")
        return MixtureSameFamily(Categorical(self.weights), MultivariateNormal(self.means, covariances)).log_prob

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance of X."""
        return self.components.moments()

    def _store(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype).contiguous()

    def _find_atoms(self) -> Int[Tensor, " k"] | None:
        """For a law of point masses only: which distinct point each component is."""
        if bool((self.variances > 0).any()):
            return None
        return torch.unique(self.means, dim=0, return_inverse=True)[1]

    def _effective_size(self, weights: Float[Tensor, "n k"]) -> Float[Tensor, " n"] | None:
        if self._atoms is None:
            return None
        atoms = weights.new_zeros(len(weights), int(self._atoms.max()) + 1).index_add_(1, self._atoms, weights)
        return 1 / atoms.square().sum(1)

    def _posteriors(self, y: Float[Tensor, "n d"], snr: float) -> Iterator[_Posterior]:
        check_snr(snr)
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"noisy points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        rows = max(len(self.means), self.dim if self.dim <= _ASSEMBLED else 1)
        for block in y.to(self.device, self.dtype).split(max(1, _BLOCK // (rows * self.dim))):
            anchor = self._heaviest(block, snr)
            part, log_odds = self._given_anchor(block, snr, anchor)
            heaviest = log_odds.argmax(1)
            if bool((log_odds.amax(1) > 1).any()):
                # Rounding hid the heaviest component from the first guess.
                part, _ = self._given_anchor(block, snr, heaviest)
            yield part

    def _log_prior(self, snr: float) -> Float[Tensor, " k"]:
        """log of p_i times the peak of N(r mu_i, r^2 S_i + I), but for the constant (2 pi)^-d/2."""
        log_volume = torch.log1p(snr**2 * self.variances).sum(1) * (self.dim / self.variances.shape[1])
        return self.weights.log() - log_volume / 2

    def _heaviest(self, y: Float[Tensor, "n d"], snr: float) -> Int[Tensor, " n"]:
        """The component of largest posterior weight, up to rounding: products of matrices only."""
        centre = self.weights @ self.means
        y, means = y - snr * centre, snr * (self.means - centre)
        shrink = 1 / (1 + snr**2 * self.variances)
        if self.axes is None:
            shrink = shrink.expand_as(means)
            square = y.square() @ shrink.mT - 2 * y @ (shrink * means).mT + (shrink * means.square()).sum(1)
        else:
            whitened = torch.einsum("nd,kde->nke", y, self.axes) - torch.einsum("kd,kde->ke", means, self.axes)
            square = (shrink * whitened.square()).sum(2)
        return (self._log_prior(snr) - square / 2).argmax(1)

    def _given_anchor(
        self, y: Float[Tensor, "n d"], snr: float, anchor: Int[Tensor, " n"]
    ) -> tuple[_Posterior, Float[Tensor, "n k"]]:
        """Posterior of a block, and the log odds of every component against the anchor."""
        mean = self.means[anchor]
        base = y - snr * mean
        step = snr * (self.means - mean[:, None])
        residual = base[:, None] - step
        shrink = 1 / (1 + snr**2 * self.variances)
        prior = self._log_prior(snr)
        if self.axes is None:
            # A_i e_i^2 - A_a e_a^2 = A_i (e_i - e_a)(e_i + e_a) + (A_i - A_a) e_a^2
            product = step * (base[:, None] + residual)
            isotropic = self.variances.shape[1] == 1
            square = -(shrink[:, 0] * product.sum(2)) if isotropic else -(shrink * product).sum(2)
            if bool((self.variances != self.variances[0]).any()):
                contrast = snr**2 * (self.variances[anchor][:, None] - self.variances)
                contrast = contrast * shrink * shrink[anchor][:, None]
                own = base.square().sum(1, keepdim=True) if isotropic else base.square()
                square = square + (contrast * own[:, None]).sum(2)
            anchored = (shrink[anchor] * base.square()).sum(1)
        else:
            residual = torch.einsum("nkd,kde->nke", residual, self.axes)
            square = (shrink * residual.square()).sum(2)
            anchored = square.gather(1, anchor[:, None])[:, 0]
            square = square - anchored[:, None]
        log_odds = prior - prior[anchor][:, None] - square / 2
        log_density = prior[anchor] - anchored / 2 + log_odds.logsumexp(1) - self.dim / 2 * math.log(2 * math.pi)
        if self._atoms is None:
            step = step + self._to_data_axes(_gain(self.variances, snr) * residual)
        return _Posterior(log_odds.softmax(1), mean, step, residual, log_density), log_odds

    def _to_data_axes(self, vectors: Float[Tensor, "n k d"]) -> Float[Tensor, "n k d"]:
        return vectors if self.axes is None else torch.einsum("nke,kde->nkd", vectors, self.axes)

    def _norm(
        self, weights: Float[Tensor, "n k"], gain: Float[Tensor, "k c"], offset: Float[Tensor, "n k d"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"] | None]:
        """Norm, trace and error of sum_i w_i (C_i + b_i b_i^T - b b^T): b_i = `offset`, C_i = `gain` in i's axes."""
        centred = offset - torch.einsum("nk,nkd->nd", weights, offset)[:, None]
        within = gain.sum(1) * (self.dim / gain.shape[1])
        trace = weights @ within + (weights * centred.square().sum(2)).sum(1)
        if self.dim == 1:
            return trace, trace, None
        tolerance = max(1e-6, 100 * torch.finfo(self.dtype).eps)
        if self.dim <= _ASSEMBLED:
            norm, error, _ = norm_by_squaring(self._covariance(weights, gain, centred), tolerance)
            return norm, trace, error

        def apply(vectors: Float[Tensor, "m b d"], index: Int[Tensor, " m"]) -> Float[Tensor, "m b d"]:
            w, b = weights[index], centred[index]
            between = (w[:, None] * (vectors @ b.mT)) @ b
            if self.axes is None:
                return between + (w @ gain)[:, None] * vectors
            turned = gain * torch.einsum("mvd,kde->mvke", vectors, self.axes)
            return between + torch.einsum("mk,mvke,kde->mvd", w, turned, self.axes)

        # The same random start for all queries: blocks of any size give the same numbers.
        start = torch.randn((1, 2, self.dim), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        exact = max(1e-10, 100 * torch.finfo(self.dtype).eps)
        norm, error, _ = norm_by_krylov(apply, self._store(start).repeat(len(weights), 1, 1), tolerance=exact)
        return norm, trace, error

    def _covariance(
        self, weights: Float[Tensor, "n k"], gain: Float[Tensor, "k c"], centred: Float[Tensor, "n k d"]
    ) -> Float[Tensor, "n d d"]:
        between = (weights[:, :, None] * centred).mT @ centred
        if self.axes is None:
            return between + torch.diag_embed((weights @ gain).expand(-1, self.dim))
        components = (self.axes * gain[:, None]) @ self.axes.mT
        return between + (weights @ components.flatten(1)).view_as(between)


def _gain(variances: Float[Tensor, "k c"], snr: float) -> Float[Tensor, "k c"]:
    """Eigenvalues r^2 s^2/(1 + r^2 s^2) of C_i."""
    signal = snr**2 * variances
    return signal / (1 + signal)


def _mean(part: _Posterior, snr: float) -> Float[Tensor, "n d"]:
    return part.anchor + torch.einsum("nk,nkd->nd", part.weights, part.offset) / snr
