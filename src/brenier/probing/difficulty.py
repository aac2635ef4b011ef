"""What makes single points hard: the localization on the way to them, their dimension, and what is undecided there.

A sampler comes to a point by noisy points x_k at levels sigma_k. Along this way, y = x_k/sigma_k and r = 1/sigma_k,

    L_k = ||Cov[rX | Y_r = y]||_op = ||dD/dx||_op,    its largest value, and int L dlog r,

say how far errors are stretched that steps make there ([LDK24] section 5: are regions of high curvature hard?). Of the
point x itself the local intrinsic dimension (FLIPD, Kamkari et al., arXiv:2406.03537) is

    d + sigma^2 (tr grad s + |s|^2) = tr J + |x - D(x; sigma)|^2/sigma^2,    s = (D - x)/sigma^2, J = dD/dx,

at a level that is small beside the curvature of what X lies on, and large beside its grain: where the median over the
points stays the same over the widest range of levels. What is undecided at a noisy point are the principal components
of the posterior, the top eigenvectors of J.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.core.random import generator_for, normal_like
from brenier.laws.base import Localization, Target

CROWD = 8.0  # atoms that a posterior must hold for it to tell of a dimension
LEAST = 0.5  # of the largest dimension: below it all levels say little, as 0 does at the finest and the coarsest
NUDGE = {torch.float64: 1e-3, torch.float32: 1e-2}  # length of a difference quotient in units of sigma
SPARE = 2  # further directions, that let the last ones wanted converge
ROUNDS = 40
SETTLED = 0.003  # relative change of the variances in a round at which they have been found
BLOCK = 2**22  # distances at once


def localize_along(
    law: Target,
    path: Float[Tensor, "levels n d"],
    sigmas: Sequence[float],
    advance: Callable[[float], None] = lambda share: None,
) -> Localization:
    """L and tr J at the noisy points of a way, x at each of the levels: arrays of shape (levels, n)."""
    norm, trace = [], []
    for x, sigma in zip(path, sigmas, strict=True):
        found = law.localize(x / sigma, 1 / sigma)
        norm.append(found.norm.double())
        trace.append(found.trace.double())
        advance(1 / len(sigmas))
    return Localization(torch.stack(norm), torch.stack(trace))


def integral(values: Array, snrs: Array) -> Array:
    """int values dlog r over the first axis, by trapezoids; of a single level its value."""
    if len(snrs) == 1:
        return values[0]
    return np.asarray(np.trapezoid(values, np.log(snrs), axis=0), dtype=np.float64)


def local_dimension(law: Target, x: Float[Tensor, "n d"], sigma: float) -> Float[Tensor, " n"]:
    """Local intrinsic dimension at points of the data by FLIPD: tr J + |x - D(x; sigma)|^2/sigma^2, in float64.

    Args:
        law: whose denoiser is asked.
        x: points that are not noisy, in the unit of the data.
        sigma: level, in the unit of the data.
    """
    y = x / sigma
    mean = law.denoise(y, 1 / sigma)
    return law.localize(y, 1 / sigma).trace.double() + ((x - mean).double() / sigma).square().sum(1)


def dimension_level(law: Target, x: Float[Tensor, "n d"], sigmas: Sequence[float]) -> float:
    """The level in the middle of where the median local dimension changes least, among descending `sigmas`.

    Levels at which the median posterior holds fewer than eight atoms, or the median dimension is below half of its
    largest, are none; where none is left, it is the level of the largest.
    """
    medians, crowd = [], []
    for sigma in sigmas:
        y = x / sigma
        found = law.localize(y, 1 / sigma)
        off = ((x - law.denoise(y, 1 / sigma)).double() / sigma).square().sum(1)
        medians.append(float((found.trace.double() + off).median()))
        crowd.append(math.inf if found.ess is None else float(found.ess.double().median()))
    values = np.where(np.array(crowd) >= CROWD, medians, 0.0)
    if len(values) < 3 or values.max() <= 0:
        return float(sigmas[int(np.argmax(medians))])
    high = values >= LEAST * values.max()
    inner = high[1:-1] & high[:-2] & high[2:]
    if not inner.any():
        return float(sigmas[int(values.argmax())])
    slope = np.abs(values[2:] - values[:-2]) / np.maximum(values[1:-1], 1e-300)
    return float(sigmas[1 + int(np.where(inner, slope, np.inf).argmin())])


def distances(
    points: Float[Tensor, "n d"], others: Float[Tensor, "m d"] | None, rank: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Distance to the nearest and to the `rank`-th nearest of the others; None: of the points, each left out itself.

    Where there are fewer than `rank`, the last of them.
    """
    own = others is None
    among = points.double() if others is None else others.double()
    last = max(min(rank, len(among) - own), 1) - 1
    near, further = [], []
    for rows in torch.arange(len(points)).split(max(1, BLOCK // max(len(among), 1))):
        apart = torch.cdist(points[rows].double(), among, compute_mode="donot_use_mm_for_euclid_dist")
        if own:
            apart[torch.arange(len(rows)), rows] = math.inf
        found = apart.topk(last + 1, dim=1, largest=False).values
        near.append(found[:, 0])
        further.append(found[:, last])
    return torch.cat(near), torch.cat(further)


def undecided(
    law: Target, y: Float[Tensor, "n d"], snr: float, count: int, seed: int = 0
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c d"], Float[Tensor, "n d"]]:
    """Principal components of the posteriors at noisy points, by subspace iteration on difference quotients of D.

    A network's Jacobian is no covariance: of it these are directions of its symmetric part.

    Args:
        law: whose denoiser is asked.
        y: noisy points r x + z.
        snr: r.
        count: how many components; no more than d.
        seed: of the directions to start from.

    Returns:
        Variances, the eigenvalues of Cov[rX | Y_r = y], descending; directions of length 1; the posterior means.
    """
    n, d = y.shape
    width = min(count + SPARE, d)
    step = NUDGE[law.dtype]

    def apply(directions: Tensor) -> Tensor:
        """J v: dD/dx along v, and x = y/r, so that dD = J dy/r."""
        move = step * directions.to(law.dtype)
        ahead, behind = (
            law.denoise((y[:, None] + sign * move).reshape(-1, d), snr).double().reshape(n, -1, d) for sign in (1, -1)
        )
        return (ahead - behind) * snr / (2 * step)

    start = normal_like(torch.zeros((n, d, width), dtype=torch.float64, device=y.device), generator_for(seed, 0xD1FF))
    basis = torch.linalg.qr(start).Q.mT
    before = torch.full((n, width), math.inf, dtype=torch.float64, device=y.device)
    values, vectors = before, basis
    for _ in range(ROUNDS):
        image = apply(basis)
        inner = basis @ image.mT
        values, turn = torch.linalg.eigh((inner + inner.mT) / 2)
        values, turn = values.flip(1), turn.flip(2)
        vectors = turn.mT @ basis
        if bool(((values - before).abs()[:, :count] <= SETTLED * values[:, :1].abs() + 1e-9).all()):
            break
        before = values
        basis = torch.linalg.qr(image.mT).Q.mT
    return values[:, :count], vectors[:, :count], law.denoise(y, snr).double()
