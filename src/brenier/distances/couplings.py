"""Optimal couplings of two weighted samples, through their potentials.

For the cost |x_i - y_j|^2 the potentials f and g satisfy

    f_i + g_j <= |x_i - y_j|^2,    a @ f + b @ g = min over couplings of the mean cost,

with equality where mass moves, and a @ f = b @ g. To first order, f_i and g_j are also what the minimum owes to one
point: its influence. All arrays are float64: x (n, d), y (m, d), and a (n,) and b (m,), positive with sum 1.
"""

from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

from brenier.core.checks import Array

_STEPS = 5000
_MARGINAL = 1e-4  # error of a marginal, summed over points, at which Sinkhorn's iteration stops


def by_sorting(x: Array, a: Array, y: Array, b: Array) -> tuple[float, Array, Array]:
    """Minimal cost and potentials on the line, d = 1: the coupling of equal quantiles, in O(n log n)."""
    by_x, by_y = np.argsort(x[:, 0], kind="stable"), np.argsort(y[:, 0], kind="stable")
    u, v = x[by_x, 0], y[by_y, 0]
    # Sums of whole shares first, one division after: levels that are equal fractions are equal numbers too.
    sums = [np.cumsum(mass / mass.min()) for mass in (a[by_x], b[by_y])]
    levels = np.concatenate([total[:-1] / total[-1] for total in sums])
    order = np.argsort(levels, kind="stable")
    in_x = order < len(u) - 1
    # The coupling is a staircase: between two levels the mass of x_i goes to y_j, and each level moves one of them on.
    i, j = (np.concatenate([[0], np.cumsum(steps)]) for steps in (in_x, ~in_x))
    mass = np.diff(np.concatenate([[0], levels[order], [1]]))
    cost = float(mass @ (u[i] - v[j]) ** 2)
    f, g = np.zeros_like(u), np.zeros_like(v)
    here, there = i[:-1][in_x], j[:-1][in_x]
    f[by_x[1:]] = np.cumsum((u[here + 1] - u[here]) * (u[here + 1] + u[here] - 2 * v[there]))
    here, there = i[:-1][~in_x], j[:-1][~in_x]
    g[by_y[1:]] = np.cumsum((v[there + 1] - v[there]) * (v[there + 1] + v[there] - 2 * u[here]))
    shift = ((u[0] - v[0]) ** 2 + b @ g - a @ f) / 2  # the constant that f and g may exchange: both get half the cost
    return cost, f + shift, g + (u[0] - v[0]) ** 2 - shift


def by_simplex(x: Array, a: Array, y: Array, b: Array) -> tuple[float, Array, Array]:
    """Minimal cost and potentials in any dimension, by POT's network simplex.

    Raises:
        RuntimeError: the solver stopped before the optimum.
    """
    import ot  # seconds to import: only who needs it waits

    _, log = ot.emd(a, b, cdist(x, y, "sqeuclidean"), numItermax=10**9, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"optimal transport between {len(x)} and {len(y)} points was not solved: {log['warning']}")
    return max(float(log["cost"]), 0.0), log["u"], log["v"]


def by_entropy(x: Array, a: Array, y: Array, b: Array, reg: float) -> tuple[Array, Array]:
    """Potentials of min E|X - Y|^2 + reg KL(coupling | product), by POT's Sinkhorn iteration on logarithms.

    Distances are computed block by block and again in every iteration: memory is linear in n and m. The value is far
    more accurate than the marginals: it is stationary where these are right.

    Raises:
        RuntimeError: the iteration did not reach a marginal error of 1e-4 in 5000 steps.
    """
    import ot

    u, v, p, q = (torch.from_numpy(array) for array in (x, y, a, b))
    block = max(1, 2**22 // max(len(x), len(y)))
    solution: Any = ot.bregman.empirical_sinkhorn(
        u, v, reg, p, q, numIterMax=_STEPS, stopThr=_MARGINAL, isLazy=True, batchSize=block, log=True, warn=False
    )
    f, g, log = solution
    if not (log["err"] and float(log["err"][-1]) <= _MARGINAL):
        raise RuntimeError(f"Sinkhorn's iteration did not converge in {_STEPS} steps: a larger regularisation would")
    return reg * (f.numpy() - np.log(a)), reg * (g.numpy() - np.log(b))


def by_entropy_alone(x: Array, a: Array, reg: float) -> Array:
    """The one potential between a law and itself: averaged steps settle in tens of steps, where turns of two creep.

    Raises:
        RuntimeError: the iteration did not reach a marginal error of 1e-4 in 5000 steps.
    """
    u, mass = torch.from_numpy(x), torch.from_numpy(a)
    f = torch.zeros_like(mass)
    rows = torch.arange(len(x)).split(max(1, 2**22 // len(x)))
    for _ in range(_STEPS):
        shifted = mass.log() + f / reg
        moved = torch.cat(
            [-reg * torch.logsumexp(shifted - torch.cdist(u[part], u).square() / reg, 1) for part in rows]
        )
        if float(mass @ torch.expm1((f - moved) / reg).abs()) <= _MARGINAL:
            return f.numpy()
        f = (f + moved) / 2
    raise RuntimeError(f"Sinkhorn's iteration did not converge in {_STEPS} steps: a larger regularisation would")


def by_any(x: Array, y: Array) -> tuple[float, Array, Array]:
    """Minimal cost and potentials between two samples with equal weights."""
    solve = by_sorting if x.shape[1] == 1 else by_simplex
    return solve(x, np.full(len(x), 1 / len(x)), y, np.full(len(y), 1 / len(y)))
