"""Normal laws in any dimension under a quadratic potential, f(x) = (x - c)' H (x - c)/2: chains in closed form.

    flow    m_t = c + e^{-Ht} (m - c),    S_t = e^{-Ht} S e^{-Ht} + (1 - e^{-2Ht})/(beta H)
    JKO     the map back, A - S_+^-1/b with A = 1 + eta H and b = beta/eta, takes S_+ to S: S_+ = A^-1/2 y A^-1/2 with
            y + 1/(b^2 y) = A^-1/2 S A^-1/2 + 2/b on its axes, y the larger root, and m_+ - c = A^-1 (m - c)
    back    x + eta (H (x - c) - S_k^-1 (x - m_k)/beta)

All maps are affine, so that all laws stay normal. Theorem 2 of [LDK24] holds with kappa the largest eigenvalue of H
and zeta = 1/(largest eigenvalue of S_k); the sharp rate is the largest eigenvalue of H - S_k^-1/beta itself.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brenier.core.checks import Array
from brenier.core.records import Variables
from brenier.laws.base import Target
from brenier.probing.chain.potential import Potential

_BLOCK, _LONGEST = 2**11, 2**15  # places of the sum behind total variation
_LEFT = 1e-7  # of it that may be left out

Forward = Literal["flow", "jko"]


class Normal(NamedTuple):
    """N(mean, covariance)."""

    mean: Array  # (d,)
    covariance: Array  # (d, d)


def is_normal(law: Target) -> bool:
    """Whether a law is a single normal law, or a point."""
    return law.components is not None and len(law.components.weights) == 1


def as_normal(law: Target) -> Normal:
    """Mean and covariance of a normal law."""
    mean, covariance = (part.double().cpu().numpy() for part in law.moments())
    return Normal(mean, covariance)


def quadratic_in(potential: Potential, dim: int) -> tuple[Array, Array]:
    """Hessian (d, d) and centre (d,) of a quadratic potential.

    Raises:
        ValueError: it is of another dimension.
    """
    assert potential.quadratic is not None
    hessian, centre = potential.quadratic
    for part, what in ((hessian, "Hessian"), (centre, "centre")):
        if part.ndim and len(part) != dim:
            raise ValueError(
                f"the {what} of the potential {potential.name} is of {len(part)} dimensions, the law has {dim}"
            )
    full = hessian if hessian.ndim == 2 else np.diag(np.broadcast_to(hessian, dim))
    return full.astype(np.float64), np.broadcast_to(centre, dim).astype(np.float64)


def account_of_normals(
    law: Normal, start: Normal, quadratic: tuple[Array, Array], steps: int, eta: float, beta: float, forward: Forward
) -> tuple[Variables, tuple[float, float]]:
    """Distances and rates of the chain, and the smallest and the largest eigenvalue of the Hessian.

    Raises:
        ValueError: a JKO step has no minimiser, or a step back folds.
    """
    hessian, centre = quadratic
    temperature = 1 / beta
    values = np.linalg.eigvalsh(hessian)
    low, high = values[[0, -1]]
    step = _jko if forward == "jko" else _flow
    onward = step(hessian, eta, temperature)
    mu, nu = [law], [start]
    for laws in (mu, nu):
        for _ in range(steps):
            laws.append(onward(laws[-1], centre))
    mubar, nubar = [mu[-1]], [nu[-1]]
    rates = np.full((3, steps + 1), np.nan)
    for k in range(steps, 0, -1):
        pull = temperature * _inverse(mu[k].covariance) if temperature else np.zeros_like(hessian)
        slope = np.eye(len(values)) + eta * (hessian - pull)
        least = float(np.linalg.eigvalsh(slope)[0])
        if least <= -1e-9:
            raise ValueError(
                f"step {k} of {steps} folds on its way back, its map's slope falls to {least:.3g}: take a smaller eta, "
                f"or JKO steps"
            )
        for bars in (mubar, nubar):
            mean, covariance = bars[0]
            back = mean + eta * (hessian @ (mean - centre) - pull @ (mean - mu[k].mean))
            bars.insert(0, Normal(back, _symmetric(slope @ covariance @ slope)))
        spread = float(np.linalg.eigvalsh(mu[k].covariance)[-1])
        zeta = 1 / spread if temperature else 0.0
        rates[:, k] = 2 * (high - zeta * temperature), 2 * (np.linalg.eigvalsh(hessian - pull)[-1]), -zeta
    pairs = {"forward": (mu, nu), "backward": (mu, nubar), "chain": (mubar, nubar), "discretisation": (mu, mubar)}
    found: Variables = {
        f"w2_{name}": (("step",), np.array([w2_of_normals(p, q) for p, q in zip(a, b, strict=True)]))
        for name, (a, b) in pairs.items()
    }
    found |= {
        f"{kind}_{name}": (("step",), np.array([between(p, q) for p, q in zip(*pairs[name], strict=True)]))
        for kind, between in (("kl", kl_of_normals), ("tv", tv_of_normals))
        for name in ("forward", "backward", "chain")
    }
    found |= {
        name: (("step",), row) for name, row in zip(("rate_worst", "rate_sharp", "sup_curvature"), rates, strict=True)
    }
    return found, (float(low), float(high))


def _flow(hessian: Array, eta: float, temperature: float) -> Callable[[Normal, Array], Normal]:
    values, axes = np.linalg.eigh(hessian)
    decay = (axes * np.exp(-values * eta)) @ axes.T
    with np.errstate(invalid="ignore", divide="ignore"):
        gained = np.where(values == 0, 2 * eta, -np.expm1(-2 * values * eta) / values)
    noise = (axes * (temperature * gained)) @ axes.T
    return lambda law, centre: Normal(
        centre + decay @ (law.mean - centre), _symmetric(decay @ law.covariance @ decay + noise)
    )


def _jko(hessian: Array, eta: float, temperature: float) -> Callable[[Normal, Array], Normal]:
    values, axes = np.linalg.eigh(hessian)
    scale = 1 + eta * values
    if scale[0] <= 0:
        raise ValueError(
            f"a JKO step of {eta:g} has no minimiser where the potential's curvature is {values[0]:.3g}: eta must be "
            f"below {-1 / values[0]:.3g}"
        )
    root = (axes / np.sqrt(scale)) @ axes.T
    short = eta * temperature

    def onward(law: Normal, centre: Array) -> Normal:
        inner, turned = np.linalg.eigh(_symmetric(root @ law.covariance @ root))
        total = np.maximum(inner, 0) + 2 * short
        larger = (total + np.sqrt(np.maximum(total**2 - 4 * short**2, 0))) / 2
        full = root @ (turned * larger)
        return Normal(centre + root @ (root @ (law.mean - centre)), _symmetric(full @ turned.T @ root))

    return onward


def w2_of_normals(a: Normal, b: Normal) -> float:
    """W2 of two normal laws (Bures), from the map between them: E|T x - x|^2 loses no digits where they are close."""
    shift = float(np.sum((a.mean - b.mean) ** 2))
    first, second = a.covariance, b.covariance
    values, axes = np.linalg.eigh(first)
    other = np.linalg.eigvalsh(second)
    if values[0] < other[0]:
        first, second = second, first
        values, axes = np.linalg.eigh(first)
    if values[0] <= 1e-12 * max(values[-1], 1e-300):  # both are flat somewhere: there is no map
        root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
        cross = np.sqrt(np.maximum(np.linalg.eigvalsh(_symmetric(root @ second @ root)), 0)).sum()
        return math.sqrt(shift + max(float(np.trace(first) + np.trace(second) - 2 * cross), 0.0))
    root, inverse = (axes * np.sqrt(values)) @ axes.T, (axes / np.sqrt(values)) @ axes.T
    inner, turned = np.linalg.eigh(_symmetric(root @ second @ root))
    moved = inverse @ ((turned * np.sqrt(np.maximum(inner, 0))) @ turned.T) @ inverse - np.eye(len(values))
    return math.sqrt(shift + max(float(np.trace(moved @ first @ moved.T)), 0.0))


def kl_of_normals(a: Normal, b: Normal) -> float:
    """KL(a | b) of two normal laws; infinite where one has a density and the other none, NaN where neither has."""
    if (missing := _flat(a, b)) is not None:
        return math.nan if all(missing) else math.inf
    spread, shift = _against(a, b)
    return float((spread - 1 - np.log(spread)).sum() + shift @ shift) / 2


def tv_of_normals(a: Normal, b: Normal) -> float:
    """Total variation of two normal laws, to 1e-6; 1 where one has a density and the other none, NaN where neither has.

    min(1, e^u) is the mean of e^{su}/(s (1 - s)) over the line s = 1/2 + it, so that with M(s) = int p^s q^(1-s)

        1 - TV = int min(p, q) = 1/2pi int M(1/2 + it)/(1/4 + t^2) dt

    a trapezoidal sum, whose error falls like e^(-pi/h): M has no pole on 0 <= Re s <= 1, nor one near where p and q are
    near, and 1 - M vanishes at the ends.
    """
    if (missing := _flat(a, b)) is not None:
        return math.nan if all(missing) else 1.0
    spread, shift = _against(a, b)
    variance = max(
        float((ratio**2).sum() / 2 + pull @ pull)
        for ratio, pull in ((1 - 1 / spread, shift / spread), (spread - 1, shift * np.sqrt(spread)))
    )  # of log p/q under one of the two
    if variance == 0:
        return 0.0
    h = max(1.0, 1 / math.sqrt(variance)) / 8
    total = 0.0
    for first in range(0, _LONGEST, _BLOCK):
        t = h * np.arange(first, first + _BLOCK)
        s = (0.5 + 1j * t)[:, None]
        mixed = s + (1 - s) * spread
        part = ((1 - s) * np.log(spread) - np.log(mixed) - s * (1 - s) * shift**2 / mixed).sum(1) / 2
        value = np.exp(part) / (0.25 + t**2)
        total += float(value.real.sum()) - (float(value[0].real) / 2 if first == 0 else 0.0)
        if abs(value[-1]) * t[-1] < _LEFT:
            break
    # The sum of 1/(1/4 + t^2) over the same places is 2 pi coth(pi/2h)/h.
    return float(np.clip(1 / math.tanh(math.pi / (2 * h)) - h / math.pi * total, 0, 1))


def _flat(a: Normal, b: Normal) -> tuple[bool, bool] | None:
    """Which of two laws have no density; None where both have."""
    values = [np.linalg.eigvalsh(law.covariance) for law in (a, b)]
    first, second = (bool(value[0] <= 1e-14 * max(value[-1], 1e-300)) for value in values)
    return (first, second) if first or second else None


def _against(a: Normal, b: Normal) -> tuple[Array, Array]:
    """Variances and means of a along axes that make its covariance diagonal, where b is N(0, I)."""
    values, axes = np.linalg.eigh(b.covariance)
    half = axes / np.sqrt(values)
    spread, turned = np.linalg.eigh(_symmetric(half.T @ a.covariance @ half))
    return spread, turned.T @ (half.T @ (a.mean - b.mean))


def _inverse(matrix: Array) -> Array:
    values, axes = np.linalg.eigh(matrix)
    return (axes / values) @ axes.T


def _symmetric(matrix: NDArray[np.float64]) -> Array:
    return (matrix + matrix.T) / 2
