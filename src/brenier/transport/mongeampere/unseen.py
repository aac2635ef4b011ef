"""Mass of a density where no point of a map came: maxima are climbed to from afar, and what is about them is weighed.

Climbs begin at points of N(0, I), of the reference and of the map, all pulled apart, and go up log e^{-f} by its
gradient, in steps of Barzilai and Borwein's length (IMA J. Numer. Anal. 8, 1988). About every maximum c, H the Hessian
of f there, points are drawn from N(c, H^-1). Of the mixture G of these

    E_G[e^{-f}/G; w > max w_i],    w = e^{-f}/q,

is the mass that G reaches where the weights would be larger than all that were met, whatever G: a lower bound of what
is missing from Z. Only maxima that a climb ends at are seen.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.proposal import Image
from brenier.transport.mongeampere.stationarity import ascent

CLIMBS = 32  # from each kind of start
STRETCHES = (1.0, 2.0, 4.0, 8.0)  # of starts about their middle
STEPS = 100
MEMORY = 5  # steps back that a value is compared with
GAIN = 1e-4  # of what the slope promises
FLAT = 0.1  # squared Newton step at a maximum, in its own standard deviations
DIFFERENCE = 1e-4  # of gradients, for the Hessian
MOST, DRAWS = 16, 64  # maxima, and points about each


class Unseen(NamedTuple):
    """Mass over Z, and its standard error."""

    share: float
    se: float


class Maxima(NamedTuple):
    """Distinct maxima.

    Attributes:
        at: shape (k, d).
        root: of H^-1, RR' = H^-1, shape (k, d, d).
    """

    at: Float[Tensor, "k d"]
    root: Float[Tensor, "k d d"]


def unseen(
    law: Marginal,
    image: Image,
    starts: Float[Tensor, "n d"],
    scale: Float[Tensor, "d d"],
    largest: float,
    log_z: float,
    generator: torch.Generator,
) -> Unseen:
    """Mass about the maxima where weights would be larger than all that were met, over Z.

    Args:
        law: e^{-f}.
        image: the law of the map's points.
        starts: of the climbs, in the law's space.
        scale: R, in whose units steps are made.
        largest: log of the largest weight that was met.
        log_z: log Z.
        generator: of random numbers.
    """
    tops = maxima(law, climb(law, starts, scale), scale)
    k, d = tops.at.shape
    if k == 0:
        return Unseen(0.0, 0.0)
    noise = torch.randn(k, DRAWS, d, generator=generator, dtype=torch.float64)
    x = (tops.at[:, None] + noise @ tops.root.mT).reshape(-1, d)
    with torch.no_grad():
        logs = law.log_at(x) - _log_mixture(tops, x) - log_z
    weights = image.log_weight(x)
    beyond = (weights > largest) & torch.isfinite(logs)  # where weights are not known nothing is said to be missing
    shares = torch.where(beyond, logs, -math.inf).exp()
    return Unseen(float(shares.mean()), float(shares.std()) / math.sqrt(len(shares)))


def _log_mixture(tops: Maxima, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """log of the mean of the densities N(c, H^-1)."""
    k, d = tops.at.shape
    off = torch.linalg.solve_triangular(tops.root, (x - tops.at[:, None]).mT, upper=False).square().sum(1)  # (k, n)
    size = tops.root.diagonal(dim1=1, dim2=2).log().sum(1)
    return torch.logsumexp(-off / 2 - size[:, None], 0) - math.log(k) - d / 2 * math.log(2 * math.pi)


def starts(
    reference: Marginal, points: Float[Tensor, "n d"], scale: Float[Tensor, "d d"], generator: torch.Generator
) -> Float[Tensor, "m d"]:
    """Where climbs begin: about the origin, the mean of a reference and that of a map's points.

    Args:
        reference: in the space of the target.
        points: of the map, their law that of the target as far as it is known.
        scale: R, RR' their covariance.
        generator: of random numbers.
    """
    d = points.shape[1]
    noise = torch.randn(2, CLIMBS, d, generator=generator, dtype=torch.float64)
    own = reference.drawn(CLIMBS, generator)
    spread = torch.tensor(STRETCHES, dtype=torch.float64).repeat(CLIMBS // len(STRETCHES))[:, None]
    middle = own.median(0).values if reference.mean is None else reference.mean
    about = points.mean(0) + noise[1] @ scale.T * spread
    return torch.cat([noise[0] * spread, middle + (own - middle) * spread, about])


def climb(law: Marginal, x: Float[Tensor, "n d"], scale: Float[Tensor, "d d"]) -> Float[Tensor, "n d"]:
    """Points as far up as some steps along the gradient lead, but for those that begin where there is no density."""
    value, slope = _up(law, x, scale)
    known = torch.isfinite(value) & torch.isfinite(slope).all(1)
    x, value, slope = x[known], value[known], slope[known]
    length = 1 / (1 + slope.norm(dim=1))
    past = value[None].expand(MEMORY, -1)
    for step in range(STEPS):
        there = x + (length[:, None] * slope) @ scale.T
        high, next_slope = _up(law, there, scale)
        rise = GAIN * length * slope.square().sum(1)
        good = (high >= past.amin(0) + rise) & torch.isfinite(high) & torch.isfinite(next_slope).all(1)
        bend = (slope * (slope - next_slope)).sum(1)  # over length: minus the curvature along the step
        longer = torch.where(bend > 0, length * slope.square().sum(1) / bend, 4 * length)
        length = torch.where(good, longer, length / 4)
        x = torch.where(good[:, None], there, x)
        value, slope = torch.where(good, high, value), torch.where(good[:, None], next_slope, slope)
        past = torch.cat([past[: step % MEMORY], value[None], past[step % MEMORY + 1 :]])
    return x


def _up(
    law: Marginal, x: Float[Tensor, "n d"], scale: Float[Tensor, "d d"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """log density, and its gradient in units of R."""
    value, slope = ascent(law, x)
    return value, slope @ scale


def maxima(law: Marginal, x: Float[Tensor, "n d"], scale: Float[Tensor, "d d"]) -> Maxima:
    """The distinct maxima among points at or near them, those with most mass by Laplace's approximation."""
    d = x.shape[1]
    value, slope = _up(law, x, scale)
    steps = DIFFERENCE * torch.eye(d, dtype=torch.float64)
    columns = [_up(law, x - s @ scale.T, scale)[1] - _up(law, x + s @ scale.T, scale)[1] for s in steps]
    hessian = torch.stack(columns, 2) / (2 * DIFFERENCE)
    hessian = (hessian + hessian.mT) / 2
    factor, failed = torch.linalg.cholesky_ex(hessian.nan_to_num())
    newton = torch.linalg.solve_triangular(factor, slope[:, :, None], upper=False).square().sum((1, 2))
    there = (failed == 0) & (newton < FLAT) & torch.isfinite(hessian).all((1, 2))
    mass = torch.where(there, value - factor.diagonal(dim1=1, dim2=2).log().sum(1), -math.inf)
    kept = list[int]()
    left: Bool[Tensor, " n"] = there.clone()
    while bool(left.any()) and len(kept) < MOST:
        best = int(torch.where(left, mass, -math.inf).argmax())
        kept.append(best)
        off = torch.linalg.solve(scale, (x - x[best]).T).T
        left = left & ((off @ hessian[best] * off).sum(1) > 1)
        left[best] = False
    inner = torch.linalg.inv(factor[kept]).mT  # LL' = R'HR: (R L^-T)(R L^-T)' = H^-1
    whole = scale @ inner
    return Maxima(x[kept], torch.linalg.cholesky(whole @ whole.mT))
