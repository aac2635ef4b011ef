"""Relative entropies and total variations along a chain whose laws have densities at places, on a mesh of quantiles.

Along mubar_k, whose points y_k(z) the maps back carry from x_K(z), densities follow by change of variables,

    log p_{mubar_k} = log p_K(x_K) - log T',    log p_{nubar_k} = log q_K(x_K) - log T',    T' = dy_k/dx_K,

and with rho = p_k/p_{mubar_k} there,

    KL(mu_k | nubar_k) = E rho log(p_k/p_{nubar_k}),    TV(mu_k, nubar_k) = E rho (1 - p_{nubar_k}/p_k)_+,

means over z. Between mubar_k and nubar_k both are what they are at step K: the maps are bijections.
"""

import math
from collections.abc import Callable

import numpy as np

from brenier.core.checks import Array
from brenier.laws.base import Target
from brenier.laws.line.quantiles import Quantiles

LogDensity = Callable[[int, Array], Array]  # of step k >= 1, at places
HELD = 1e-4  # share of mu_k's mass that may be missing
WAYS = ("forward", "backward", "chain")


def divergences(
    laws: tuple[Target, Target],
    log_densities: tuple[LogDensity, LogDensity],
    slope: LogDensity,
    places: tuple[Array, Array],
    weights: Array,
) -> dict[str, Array]:
    """KL and total variation on the way there, back, and between the laws taken back, shapes (K + 1,).

    KL is right to 1e-9 or so, total variation, whose integrand has kinks, to 3e-4. NaN where the points taken back do
    not hold all of mu_k, as at the edge of a compact law at step 0, where laws with point masses have an infinite KL.

    Args:
        laws: mu_0 and nu_0.
        log_densities: of mu_k and nu_k.
        slope: of the map back from step k.
        places: of mu_k and of mubar_k over the mesh, each of shape (K + 1, m).
        weights: of the mesh, shape (m,).
    """
    theirs, back = places
    steps = len(theirs) - 1
    known = [_at_start(each, log_density) for each, log_density in zip(laws, log_densities, strict=True)]
    found = {f"{kind}_{way}": np.full(steps + 1, np.nan) for kind in ("kl", "tv") for way in WAYS}
    ends = [log_density(steps, theirs[-1]) for log_density in known]
    whole = _of(ends[0], ends[1], np.ones_like(weights), weights)
    found["kl_chain"][:], found["tv_chain"][:] = whole
    stretch = np.zeros_like(weights)
    smooth = all(float(each.point_masses()[1].sum()) == 0 for each in laws)
    for k in range(steps, -1, -1):
        if k == 0 and not smooth:
            found["kl_forward"][0] = found["kl_backward"][0] = math.inf
            break
        at_mu = [log_density(k, theirs[k]) for log_density in known]
        found["kl_forward"][k], found["tv_forward"][k] = _of(at_mu[0], at_mu[1], np.ones_like(weights), weights)
        own = known[0](k, back[k])
        rho = np.exp(own - (ends[0] - stretch))
        if abs(float(rho @ weights) - 1) < HELD:
            found["kl_backward"][k], found["tv_backward"][k] = _of(own, ends[1] - stretch, rho, weights)
        if k:
            stretch = stretch + np.log(np.maximum(slope(k, back[k]), np.finfo(float).tiny))
    return found


def _of(log_p: Array, log_q: Array, rho: Array, weights: Array) -> tuple[float, float]:
    """KL(p | q) and total variation, from log densities where p has mass rho times the weights."""
    met = rho > 0
    gain = np.where(met, log_p - log_q, 0.0)
    return float((rho * gain) @ weights), float(-(rho * np.expm1(np.minimum(-gain, 0.0))) @ weights)


def _at_start(law: Target, log_density: LogDensity) -> LogDensity:
    """The log density of all steps, that of step 0 from the law itself."""
    start = Quantiles(law, np.ones(1), np.zeros(1))

    def found(k: int, x: Array) -> Array:
        return start.rows(x[None]).log_density.numpy()[0] if k == 0 else log_density(k, x)

    return found
