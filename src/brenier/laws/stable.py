"""Density of the positive stable law of exponent a in (0, 1), whose Laplace transform is exp(-s^a).

    f(x) = a/(pi (1 - a)) x^{-1/(1-a)} int_0^pi A(u) exp(-A(u) x^{-a/(1-a)}) du,
    A(u) = (sin(a u)^a sin((1 - a) u)^{1-a}/sin u)^{1/(1-a)}

(Zolotarev, One-dimensional Stable Distributions, 1986; Kanter, Ann. Probab. 3, 1975). With u = pi/(1 + e^-w) the
integrand is smooth in w and vanishes at both ends: a trapezoidal sum, its step in proportion to (1 - a)/a, the width of
the peak.
"""

import math

import numpy as np

from brenier.core.checks import Array

NATS = 50.0  # below the peak, in nats, of x^{1/2} f(x), where what mixtures of normal laws need of it is cut
FOOT = 18.0  # -log of x^{a/(1-a)} below which f, exp(-A(0) e^18), counts as 0
LEAST = -40.0  # w from which the sum goes
STEP = 0.2  # of the sum, in widths of its peak
BLOCK = 2**22  # numbers in work at once


def log_stable(log_x: Array, a: float) -> Array:
    """log f(x) at log x, shape (n,), up to a constant; -inf where it counts as 0."""
    farthest = NATS / (0.5 + a)
    width = min(1.0, (1 - a) / a)
    w = np.arange(LEAST, a * farthest + 8, STEP * width)
    rest = np.logaddexp(0, -w)  # -log u/pi
    other = np.logaddexp(0, w)  # -log(1 - u/pi)
    u = math.pi * np.exp(-rest)
    sine = np.where(w > 0, np.sin(math.pi * np.exp(-other)), np.sin(u))
    log_a = (a * np.log(np.sin(a * u)) + (1 - a) * np.log(np.sin((1 - a) * u)) - np.log(sine)) / (1 - a)
    log_weight = log_a - rest - other  # du = u (1 - u/pi) dw
    found = np.full(len(log_x), -np.inf)
    (near,) = np.nonzero((log_x < farthest) & (-log_x * a / (1 - a) < FOOT))
    for part in np.array_split(near, max(1, len(near) * len(w) // BLOCK)):
        with np.errstate(over="ignore"):
            logs = log_weight - np.exp(log_a - a / (1 - a) * log_x[part, None])
        top = logs.max(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.log(np.exp(logs - top[:, None]).sum(1))
        found[part] = np.where(top > -np.inf, top + total, -np.inf) - log_x[part] / (1 - a)
    return found
