"""Stable laws on the line: far out their density is a series, and scipy's quadrature has few digits left there.

The characteristic function exp(-|t|^a (1 - i b tan(pi a/2) sign t)), term by term against e^{-itx}
(Bergström, Ark. Mat. 2, 1952): with q = 1 - i b tan(pi a/2),

    p(x) = 1/pi Re sum_{n >= 1} (-q)^n Gamma(a n + 1)/n! (i x)^(-a n - 1),    x > 0

which converges for a < 1 and is asymptotic for a > 1. It is taken where its least term is nothing beside the sum.
"""

import math

import numpy as np
from scipy.special import gammaln

from brenier.core.checks import Array

_TERMS = 60
_DIGITS = 1e-14  # least term over the sum


def log_density(x: Array, alpha: float, beta: float) -> Array:
    """log p(x) of the stable law of this index and skew, as scipy has it, location 0 and scale 1; shape (n,)."""
    from scipy.stats import levy_stable

    found = np.full(x.shape, math.nan)
    if alpha not in (1, 2):
        for side, sign in ((x > 0, 1.0), (x < 0, -1.0)):
            found[side] = _far(abs(x[side]), alpha, sign * beta)
    rest = np.isnan(found)
    found[rest] = levy_stable.logpdf(x[rest], alpha, beta)
    return found


def _far(x: Array, alpha: float, beta: float) -> Array:
    """The series, for x > 0; NaN where it does not do."""
    n = np.arange(1, _TERMS + 1)
    q = 1 - 1j * beta * math.tan(math.pi * alpha / 2)
    # The sign and phase of each term do not depend on x.
    phase = ((-q / abs(q)) ** n * np.exp(-0.5j * math.pi * (alpha * n + 1))).real
    size = n * math.log(abs(q)) + gammaln(alpha * n + 1) - gammaln(n + 1)
    logs = size - np.log(x)[:, None] * (alpha * n)
    last = logs.argmin(1)
    terms = np.where(np.arange(_TERMS) <= last[:, None], np.exp(np.minimum(logs, 0)), 0)
    with np.errstate(all="ignore"):
        total = terms @ phase
        good = (logs.max(1) <= 0) & (terms[np.arange(len(x)), last] < _DIGITS * total)
        return np.where(good, np.log(total / math.pi) - np.log(x), math.nan)
