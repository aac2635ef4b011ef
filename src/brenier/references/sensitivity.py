"""One backward step against one perturbation: what Theorem 4 and its sharp form bound, measured.

A law mu_t on the line is moved by a small field, nu = (i + eps xi)# mu_t, and both are taken back by mu_t's own map b.
The rate [W2^2(b# mu_t, b# nu)/W2^2(mu_t, nu) - 1]/eta is bounded by 2 - 2 zeta_M for every xi of richness
M = sup xi^2/E xi^2 ([LDK24] Definition 6), in the limit of small eps and eta. The field that lives on the 1/M of the
locations with the largest localization attains the sharp rate.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch

from brenier import complexity
from brenier.core.checks import Array
from brenier.distances.wasserstein import sorted_w2
from brenier.laws.base import Target
from brenier.laws.line.quadrature import localization_quadrature
from brenier.laws.line.quantiles import REACH, Quantiles, resolve
from brenier.probing.chain.process import backward_map, marginal

Field: TypeAlias = Callable[[Array], Array]

_POSITION = 1e-6  # error allowed of a curve on a panel, relative to its range


def richest_field(law: Target, time: float, perturbation: float, beta: float = 1.0) -> Field:
    """The field of richness M that a step back from time t expands most: sqrt(M) on the 1/M of mu_t with largest L."""
    alpha, sigma = marginal(time, beta)
    snr = alpha / sigma
    values, weights, _ = localization_quadrature(law, snr, np.empty(0), [perturbation])
    level = complexity.value_at_risk(values, [perturbation], weights)[0]

    def field(x: Array) -> Array:
        y = torch.from_numpy(x[:, None] / sigma)
        return np.sqrt(perturbation) * (law.localize(y, snr).norm.numpy() > level)

    return field


def perturbation_rate(
    law: Target, time: float, field: Field, size: float = 1e-5, eta: float = 1e-5, beta: float = 1.0
) -> tuple[float, float]:
    """Rate at which one step back lets W2^2 between mu_t and its perturbation grow, and the perturbation's richness.

    Args:
        law: an explicit law on the line.
        time: t > 0.
        field: xi, from points (m,) to displacements (m,).
        size: eps; the perturbed law is that of x + eps xi(x).
        eta: length of the step.
        beta: inverse temperature.

    Returns:
        [W2^2(b# mu_t, b# nu)/W2^2(mu_t, nu) - 1]/eta, with errors of order eps and eta; and M = sup xi^2/E xi^2.

    Raises:
        ValueError: the field is zero, or `backward_map` refuses the step.
    """
    law = law.to("cpu", torch.float64)
    alpha, sigma = marginal(time, beta)
    curve = Quantiles(law, np.array([alpha]), np.array([sigma]))

    def curves(z: Array) -> tuple[Array, Array]:
        x = curve(z)
        return x, field(x[0])[None]

    mesh, (x, xi) = resolve(
        curves,
        np.linspace(-REACH, REACH, 201),
        lambda values: _POSITION * np.array([np.ptp(values[0]), max(abs(values[1]).max(), np.finfo(float).tiny)]),
    )
    x, xi = x[0], xi[0]
    square = float(xi**2 @ mesh.weights)
    if not square > 0:
        raise ValueError("the field is zero everywhere: it perturbs nothing")
    moved = x + size * xi / np.sqrt(square)
    before = _distance(x, moved, mesh.weights)

    def back(points: Array) -> Array:
        return backward_map(law, torch.from_numpy(points[:, None]), time, eta, beta)[:, 0].numpy()

    after = _distance(back(x), back(moved), mesh.weights)
    return (after / before - 1) / eta, float((xi**2).max()) / square


def _distance(a: Array, b: Array, weights: Array) -> float:
    """Squared W2 between two laws on the line with the same weights."""
    mass = torch.from_numpy(weights / weights.sum())
    return sorted_w2(a[:, None], b[:, None], x_weights=mass, y_weights=mass).squared
