"""A chain between explicit laws on the line, by quantile functions: nothing is drawn at random.

In z = Phi^-1(u) the laws mu_k and nu_k are curves x(z) = Q(Phi(z)). The maps back are increasing, so they carry curves
to curves, and along mubar_k, y_k(z) = b_{k+1}(... b_K(x_K(z))), densities follow by change of variables:

    log p_{mubar_k}(y_k) = log p_K(x_K) - log T',    log p_{nubar_k}(y_k) = log q_K(x_K) - log T',    T' = dy_k/dx_K

with p_K, q_K the densities of mu_K and nu_K and T' the product of the slopes passed. Integrals over mu_k are taken at
the same points: int g dmu_k = int g(y_k) rho phi dz with rho = p_k(y_k) T'/p_K(x_K).
"""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from brenier.core.records import Variables
from brenier.laws.base import Target
from brenier.laws.line.quantiles import REACH, Mesh, Quantiles, resolve, variation
from brenier.probing.chain.walk import Walk

Array: TypeAlias = NDArray[np.float64]

_POSITION = 1e-8  # error allowed of a curve on a panel, relative to the spread of the laws
_ENTROPY = 1e-7  # of the integrand of a relative entropy, relative to its size or to 1
_MIDDLE = 3.2905  # |z| < _MIDDLE is the middle 99.9% of a law


class _Curves(NamedTuple):
    """Curves over the nodes z, shape (K + 1, m); rows are steps."""

    mu: Array
    nu: Array
    mubar: Array
    nubar: Array
    exact: Array  # mubar_k by the exact score; the same as mubar where the score has no error
    forward_gap: Array  # P(mu_k <= x) - P(nu_k <= x) at mu_k's points
    backward_gap: Array  # P(mu_k <= y) - P(nubar_k <= y) at mubar_k's points, without the point masses of mu_0
    forward_gain: Array  # log p_{mu_k} - log p_{nu_k} at mu_k's points
    entropy: Array  # rho (log p_{mu_k} - log p_{nubar_k}) at mubar_k's points
    log_mubar: Array  # log p_{mubar_k} there
    log_nubar: Array  # log p_{nubar_k} there
    predicted: Array  # mubar - exact to first order in the error


def account_by_quantiles(walk: Walk, nu: Target) -> tuple[Variables, str]:
    """Distances, relative entropies and total variations along the chain; and how they were found, in words."""
    mesh, curves = _resolved(walk, nu)
    weights = mesh.weights

    def distance(a: Array, b: Array) -> Array:
        return np.sqrt(((a - b) ** 2) @ weights)

    found = {
        "w2_forward": distance(curves.mu, curves.nu),
        "w2_backward": distance(curves.mu, curves.nubar),
        "w2_chain": distance(curves.mubar, curves.nubar),
        "w2_discretisation": distance(curves.mu, curves.mubar),
    }
    gap = (curves.mubar - curves.nubar)[:, abs(mesh.z) < _MIDDLE] ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        found["richness"] = gap.max(1) / found["w2_chain"] ** 2
    if walk.error is not None:
        found["w2_error"] = distance(curves.mubar, curves.exact)
        found["w2_error_predicted"] = np.sqrt(curves.predicted**2 @ weights)
    for way, gap, entropy in (
        ("forward", curves.forward_gap, curves.forward_gain),
        ("backward", curves.backward_gap, curves.entropy),
    ):
        found[f"tv_{way}"], found[f"kl_{way}"] = variation(gap) / 2, entropy @ weights
    found["kl_forward"][0], found["tv_forward"][0] = _divergences_at_start(walk.law, nu, curves, mesh)
    # Bijections leave both alone; integrated at every step all the same.
    found["kl_chain"] = (curves.log_mubar - curves.log_nubar) @ weights
    found["tv_chain"] = -np.minimum(np.expm1(curves.log_nubar - curves.log_mubar), 0) @ weights
    atoms = float(walk.law.point_masses()[1].sum())
    if atoms > 0:  # nubar_0 has none
        found["kl_backward"][0] = math.inf
        found["tv_backward"][0] += atoms / 2
    return {name: (("step",), values) for name, values in found.items()}, f"quantile quadrature, {len(weights)} nodes"


def densities_by_quantiles(walk: Walk, nu: Target, points: int) -> tuple[Array, dict[str, Array]]:
    """Points x that show all laws of the chain, and the densities of mu_k, nu_k, mubar_k and nubar_k there."""
    mesh, curves = _resolved(walk, nu)
    middle = abs(mesh.z) < _MIDDLE
    shown = np.concatenate([part[:, middle] for part in (curves.mu, curves.nu, curves.mubar, curves.nubar)])
    margin = 0.05 * np.ptp(shown)
    x = np.linspace(shown.min() - margin, shown.max() + margin, points)
    found: dict[str, Array] = {}
    for name, law in (("forward_target", walk.law), ("forward_start", nu)):
        rows = np.exp(Quantiles(law, walk.alpha, walk.sigma).rows(np.tile(x, (walk.steps + 1, 1))).log_density.numpy())
        if len(law.point_masses()[1]):
            rows[0] = np.nan
        found[name] = rows
    for name, values in (("backward_target", curves.log_mubar), ("backward_start", curves.log_nubar)):
        rows = [np.interp(x, y, log_p, -np.inf, -np.inf) for y, log_p in zip(curves.mubar, values, strict=True)]
        found[name] = np.exp(np.stack(rows))
    return x, found


def _resolved(walk: Walk, nu: Target) -> tuple[Mesh, _Curves]:
    mu_curves, nu_curves = (Quantiles(law, walk.alpha, walk.sigma) for law in (walk.law, nu))
    edges = np.unique(np.concatenate([np.linspace(-REACH, REACH, 25), mu_curves.jumps(), nu_curves.jumps()]))
    mesh, values = resolve(
        lambda z: _evaluate(walk, mu_curves, nu_curves, z), edges, lambda v: _tolerances(_Curves(*v))
    )
    return mesh, _Curves(*values)


def _tolerances(first: _Curves) -> Array:
    """Errors allowed, from the curves on a first mesh."""
    spread = max(float(np.std(first.mu[0])), float(abs(first.mu[0] - first.nu[0]).max()), float(np.std(first.mu[-1])))
    rows = len(first.mu)
    position = np.full(5 * rows, _POSITION * spread)
    unresolved = np.full(1, np.inf)  # step 0 may have point masses
    forward, backward = (
        _ENTROPY * np.maximum(1, abs(part[1:]).mean(1)) for part in (first.forward_gain, first.entropy)
    )
    rest = np.full(3 * rows, np.inf)
    gaps = [unresolved, np.full(2 * rows - 1, _POSITION)]
    return np.concatenate([position, *gaps, unresolved, forward, unresolved, backward, rest])


def _evaluate(walk: Walk, mu_curves: Quantiles, nu_curves: Quantiles, z: Array) -> _Curves:
    mu, nu = mu_curves(z), nu_curves(z)
    mubar, nubar, exact, log_stretch, predicted = (np.zeros_like(mu) for _ in range(5))
    mubar[-1], nubar[-1], exact[-1] = mu[-1], nu[-1], mu[-1]
    least, folding = math.inf, 0
    for k in range(walk.steps, 0, -1):
        if walk.error is None:
            there, slopes = walk.back_with_slope(_column(mubar[k], nubar[k]), k)
            mubar[k - 1], nubar[k - 1] = _rows(there, 2)
            exact[k - 1] = mubar[k - 1]
            slope = slopes[: len(z)].numpy()
        else:
            x = _column(mubar[k], nubar[k], exact[k])
            wrong, wrong_slope = (walk.eta / walk.beta * part for part in walk.score_error(x, k))
            there, slopes, wrong, wrong_slope = (
                _rows(part, 3) for part in (*walk.back_with_slope(x, k), wrong, wrong_slope)
            )
            mubar[k - 1], nubar[k - 1], exact[k - 1] = there[0] + wrong[0], there[1] + wrong[1], there[2]
            predicted[k - 1] = slopes[2] * predicted[k] + wrong[2]
            slope = slopes[0] + wrong_slope[0]
            lowest = float((slopes + wrong_slope)[:2].min())
            least, folding = (lowest, k) if lowest < least else (least, folding)
        log_stretch[k - 1] = log_stretch[k] + np.log(np.maximum(slope, np.finfo(float).tiny))
    if least <= 0:
        raise ValueError(
            f"by this wrong score step {folding} of {walk.steps} folds, its map's slope falls to {least:.3g}: at its "
            f"noise level eta must be below {walk.eta / (1 - least):.3g}, or the error smaller"
        )
    at_mu, nu_at_mu, mu_at_mubar = mu_curves.rows(mu), nu_curves.rows(mu), mu_curves.rows(mubar)
    log_mubar, log_nubar = (at.log_density.numpy()[-1] - log_stretch for at in (at_mu, nu_at_mu))
    log_density = mu_at_mubar.log_density.numpy()
    backward_gap = mu_at_mubar.log_cdf.exp().numpy() - nu_at_mu.log_cdf.exp().numpy()[-1]
    for place, mass in zip(*(part.numpy() for part in walk.law.point_masses()), strict=True):
        backward_gap[0] -= mass * (mubar[0] >= place)
    with np.errstate(invalid="ignore"):
        # At step 0 both laws may have point masses alone: the account of that step is made from those.
        forward_gain = at_mu.log_density.numpy() - nu_at_mu.log_density.numpy()
        forward_gain[0] = np.where(np.isnan(forward_gain[0]), np.inf, forward_gain[0])
        rho = np.exp(log_density - log_mubar)
        entropy = np.where(rho > 0, rho * (log_density - log_nubar), 0)
    return _Curves(
        mu=mu,
        nu=nu,
        mubar=mubar,
        nubar=nubar,
        exact=exact,
        forward_gap=ndtr(z) - nu_at_mu.log_cdf.exp().numpy(),
        backward_gap=backward_gap,
        forward_gain=forward_gain,
        entropy=entropy,
        log_mubar=log_mubar,
        log_nubar=log_nubar,
        predicted=predicted,
    )


def _column(*rows: Array) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(rows)[:, None])


def _rows(column: torch.Tensor, count: int) -> Array:
    return column.numpy().reshape(count, -1)


def _divergences_at_start(law: Target, nu: Target, curves: _Curves, mesh: Mesh) -> tuple[float, float]:
    """KL(mu_0 | nu_0) and total variation, point masses against point masses and densities against densities."""
    (places, masses), (others, other_masses) = (
        tuple(part.double().cpu().numpy() for part in each.point_masses()) for each in (law, nu)
    )
    x = curves.mu[0]
    near = 1e-12 * max(np.ptp(x), abs(x).max(), 1e-300)
    smooth = np.ones(len(x), dtype=bool)
    entropy, variation = 0.0, 0.0
    for place, mass in zip(places[:, 0], masses, strict=True):
        smooth &= abs(x - place) > near
        other = float(other_masses[abs(others[:, 0] - place) <= near].sum())
        entropy += math.inf if other == 0 else float(mass) * math.log(float(mass) / other)
        variation += max(float(mass) - other, 0.0)
    gain, weights = curves.forward_gain[0, smooth], mesh.weights[smooth]
    entropy += float(gain @ weights) if smooth.any() else 0.0
    common = np.minimum(np.exp(-np.maximum(gain, 0)), 1) @ weights
    return entropy, variation + max(1 - float(masses.sum()) - float(common), 0.0)
