"""Evidence from a map to a density up to its constant: log Z, importance weights, and whether they can be trusted.

Points y of a law m are taken to x = T(y), and with e^{-f} the unnormalised target

    w = e^{-f(T(y))} det Hess psi(y)/m(y),    Z = int e^{-f} = E_m w,

whatever the map: a bad one makes w vary, and not Z wrong, as long as the points find where w is large. Nor does it do
harm where psi is not convex and the map lies over itself. T is affine far out, and so its degree is s = 1, or -1, if it
turns space inside out there: the preimages of nearly every x have signs of the determinant that add up to s, and
E_m w = s Z with weights of those signs. Without what is not convex all under a fold would be counted twice.

Points of the reference alone may not find where w is large: where the image is too light, none of them go, and nothing
in their weights says so. Half of the points are therefore pulled apart about the mean, by three factors, and m is the
mixture. That costs half of the effective sample size at most, and what the image lacks shows.

The largest weights are nearly those of a generalised Pareto law, of shape k. Above k = 1/2 the variance is
infinite, and above 0.7 no practicable number of samples finds the mean (Vehtari, Simpson, Gelman, Yao, Gabry,
arXiv:1507.02646): then the evidence is refused, unless the tail holds less than a hundredth of all. Weights that are
nearly equal have such tails, whose shape says nothing: of a good map, and a few points far out. It
is refused, too, where the points that were not pulled apart, the map's own, say something else than all.

Weights know nothing of mass that no point came to. What passes these tests is therefore looked at from the target's
side: points move as the target's would, and their weights must not grow (`stationarity`); and about the maxima that are
climbed to from afar there must be no mass that none came near (`unseen`).
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.transport.mongeampere.marginal import Marginal, standard_normal, whitened
from brenier.transport.mongeampere.potentials import Framed, Potential
from brenier.transport.mongeampere.proposal import KNOWN, Image, Proposal
from brenier.transport.mongeampere.stationarity import CHAINS, drift, root, thin
from brenier.transport.mongeampere.unseen import starts, unseen

WORST = 0.7  # shape of the tail above which averages are refused
FOLDED = 0.1  # share of the weights, sizes that is, that are negative, likewise: they cancel others, seen or not
LIGHT = 0.01  # share of the weights that a tail of any shape may hold
DISAGREEING = 4.0  # standard errors between what all points and the map's own say, and
ROUNDING = 1e-9
AFFINE = 1e6  # where maps are affine
VAGUE = 0.1  # standard error, of all or of what its own say, above which all is refused
LACKING = 2.0  # standard errors of log Z that what was not seen, less four errors of its own, may be worth
DRIFT = 3.0  # standard deviations by which weights may grow when points move
FEWEST = 25  # weights that a tail is made of 5 of
PRIOR = 10  # weights that the shape 1/2 counts for beside those of the tail


class NotANumber(ValueError):
    """There are no weights: a log density is not a number, or the target has no mass where the map goes."""


@dataclass(frozen=True)
class Evidence:
    """The integral of a density that is known up to a constant.

    Attributes:
        value: log Z, in nats; NaN where it is refused.
        se: its standard error; NaN where it is refused.
        ess: effective sample size (sum w)^2/sum w^2 of the weights.
        pareto_k: shape of the tail of the weights: above 0.5 `se` is too small, above 0.7 all is refused.
        tail: share of the sum of the weights that lies above where their tail begins; below 0.01 its shape is let pass.
        folded: share of the weights' sizes that is negative, where the map lies over itself: above 0.1 all is refused.
        own: log Z by the points alone that were not pulled apart, the map's own, and
        own_se: its standard error. Where they are more than four of both from `value`, or `own_se` is above 0.1, the
            map misses what lies beside it, and all is refused, as it is where `se` is above 0.1.
        n: number of points.
        drift: by how many standard deviations weights grow when their points move as the target's would, see
            `stationarity`: above 3 all is refused. NaN where it was refused before.
        unseen: mass over Z that was found where weights would be larger than all that were met, see `unseen`, and
        unseen_se: its standard error. Where all but four of these are worth more than two `se`, all is refused.
        refused: why it is; empty where it is not.
    """

    value: float
    se: float
    ess: float
    pareto_k: float
    tail: float
    folded: float
    own: float
    own_se: float
    n: int
    drift: float = math.nan
    unseen: float = math.nan
    unseen_se: float = math.nan
    refused: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is not refused."""
        return not self.refused


def measure(
    reference: Marginal, target: Marginal, potential: Potential, n: int, generator: torch.Generator
) -> Evidence:
    """The evidence from n fresh points, half of them pulled apart: of whitened laws, where the map is between such.

    Raises:
        ValueError: a law without density, a reference whose density is known up to a constant only, or fewer than 25
            points.
    """
    if n < FEWEST:
        raise ValueError(f"{n} points are too few for weights: take at least {FEWEST}")
    check(reference, target)
    law, known, whitening = target, reference, None
    if isinstance(potential, Framed):
        whitening = potential.whitening
        reference, target = standard_normal(reference.dim), whitened(target, whitening)
        potential = potential.inner
    proposal = Proposal(reference)
    y, stretch = proposal.drawn(n, generator)
    mixed = proposal.log_at(y)
    weights = weigh(target, potential, y, mixed)
    still = stretch == 0
    own = Weights((weights.log + mixed - reference.log_at(y))[still], weights.sign[still], weights.convex[still])
    found = _evidence(weights, own, target.name)
    if not found.holds:
        return found
    image = Image(target, potential, proposal, whitening, proposal.drawn(KNOWN, generator)[0])
    return _looked_beside(found, law, known, image, image.points(y), weights, generator)


def _looked_beside(
    found: Evidence,
    law: Marginal,
    reference: Marginal,
    image: Image,
    x: Float[Tensor, "n d"],
    weights: "Weights",
    generator: torch.Generator,
) -> Evidence:
    """The evidence of points and weights, refused where the law has mass that they lack."""
    kept, sizes = thin(weights.log, min(CHAINS, len(x) // 4), generator)
    scale = root(x[kept], sizes)
    t = drift(law, image, x[kept], sizes * weights.sign[kept], scale, found.value, generator)
    begin, largest = starts(reference, x[kept], scale, generator), float(weights.log.max())
    lacking = unseen(law, image, begin, scale, largest, found.value, generator)
    return _judged(replace(found, drift=t, unseen=lacking.share, unseen_se=lacking.se))


def check(reference: Marginal, target: Marginal) -> None:
    """Refuse laws between which there are no weights.

    Raises:
        ValueError: a law without density, or a reference whose density is known up to a constant only.
    """
    for law in (reference, target):
        if law.log_density is None:
            raise ValueError(
                f"{law.name} has no density, and weights are a ratio of densities: give a function or a law"
            )
    if not reference.normalised:
        raise ValueError(f"the density of {reference.name} is known up to a constant only: weights need its own")


class Weights(NamedTuple):
    """Of n points.

    Attributes:
        log: log |w|; -inf where the target has no mass.
        sign: of w, 1 or -1: that of the Jacobian's determinant, times what it is far out.
        convex: where psi is.
    """

    log: Float[Tensor, " n"]
    sign: Float[Tensor, " n"]
    convex: Bool[Tensor, " n"]


def weigh(target: Marginal, potential: Potential, y: Float[Tensor, "n d"], log_density: Float[Tensor, " n"]) -> Weights:
    """Weights of points y whose law has this log density.

    Raises:
        NotANumber: the target's log density is none somewhere.
    """
    with torch.no_grad():
        height = target.log_at(potential.gradient(y))
        unknown = torch.isnan(height) | (height == math.inf)
        if bool(unknown.any()):
            raise NotANumber(
                f"the log density of {target.name} is not a number at {int(unknown.sum())} of {len(y)} points"
            )
        sign, log_size = torch.linalg.slogdet(potential.hessian(y))
        degree = torch.linalg.slogdet(potential.hessian(torch.full_like(y[:1], AFFINE))).sign
        convex = ~torch.isnan(potential.log_determinant(y))
        return Weights(height - log_density + log_size, degree * sign, convex)


def _evidence(weights: Weights, own: Weights, name: str) -> Evidence:
    """log Z from all weights, and from those of the map's own points."""
    largest = float(weights.log.max())
    if not math.isfinite(largest):
        raise NotANumber(f"{name} has no mass where the map goes: no weight is above 0")
    sizes = (weights.log - largest).exp().double().cpu().numpy()
    signed = sizes * weights.sign.double().cpu().numpy()
    value, se = _mean(signed)
    own_value, own_se = _mean((own.sign * (own.log - largest).exp()).double().cpu().numpy())
    found = Evidence(
        value=value + largest,
        se=se,
        ess=float(signed.sum().clip(0) ** 2 / (sizes**2).sum()),
        pareto_k=tail_shape(sizes),
        tail=tail_share(sizes),
        folded=float(sizes[signed < 0].sum() / sizes.sum()),
        own=own_value + largest,
        own_se=own_se,
        n=len(sizes),
    )
    return _judged(found)


def _judged(found: Evidence) -> Evidence:
    """The evidence, NaN and why where it is refused."""
    why = why_not(found)
    return found if why is None else replace(found, value=math.nan, se=math.nan, refused=why)


def _mean(weights: Array) -> tuple[float, float]:
    """The logarithm of their mean, and its standard error; NaN where the mean is not above 0."""
    mean = float(weights.mean())
    if not mean > 0:
        return math.nan, math.nan
    return math.log(mean), float(weights.std(ddof=1) / mean / math.sqrt(len(weights)))


def warn_of(found: Evidence, name: str, reference: str) -> Evidence:
    """The evidence; with a warning where it is refused.

    Warns:
        UserWarning: it is, why, and what to take instead.
    """
    if not found.holds:
        warnings.warn(f"the evidence of {name} is refused: {found.refused}; {instead(reference)}", stacklevel=4)
    return found


def instead(reference: str) -> str:
    """What to take instead of a map from this reference whose weights do not hold."""
    bent = reference == "triangular"
    other = "for one mode the coordinates in another order, " if bent else 'for one mode the reference "triangular", '
    several = "a network with anneal" if reference == "modes" else 'the reference "modes" or a network with anneal'
    return f"try {other}for several {several}, or take NUTS for one, nested sampling for several"


def why_not(found: Evidence) -> str | None:
    """Why it is refused; None where it is not."""
    if found.folded > FOLDED:
        return f"the map lies over itself: {found.folded:.1%} of the weights are negative"
    if found.pareto_k > WORST and found.tail > LIGHT:
        return f"the Pareto shape k of the weights is {found.pareto_k:.2f}, above {WORST}"
    if not found.se <= VAGUE:
        return f"its standard error would be {found.se:.2g}: few of the weights have most of all"
    apart = abs(found.own - found.value)
    if not (found.own_se <= VAGUE and apart <= DISAGREEING * math.hypot(found.own_se, found.se) + ROUNDING):
        return f"the map's own points say {found.own:.4g} ± {found.own_se:.2g}, and those beside them something else"
    if found.drift > DRIFT:
        return f"the target has mass beside the map's points: weights grow when these move, by {found.drift:.1f} sd"
    if math.log1p(max(found.unseen - DISAGREEING * found.unseen_se, 0)) > LACKING * found.se + ROUNDING:
        return f"the target has at least {found.unseen:.2g} of Z about maxima that none of the map's points came near"
    return None


def tail_shape(weights: Array) -> float:
    """k of the generalised Pareto law of the largest weights: min(n/5, 3 sqrt(n)) of them, over the next one.

    The estimate leans towards 1/2 by ten weights' worth. -inf where the largest weights are all the same.
    """
    beyond = _tail(weights)
    if not beyond[-1] > 0:
        return -math.inf
    k, _ = pareto_fit(beyond[beyond > 0])
    return (len(beyond) * k + PRIOR * 0.5) / (len(beyond) + PRIOR)


def tail_share(weights: Array) -> float:
    """The share of the weights' sum that lies above where their tail begins."""
    return float(_tail(weights).sum() / max(weights.sum(), 1e-300))


def _tail(weights: Array) -> Array:
    """By how much the largest weights exceed the next one, ascending."""
    ordered = np.sort(weights)
    count = int(min(math.ceil(0.2 * len(ordered)), 3 * math.sqrt(len(ordered))))
    return ordered[-count:] - ordered[-count - 1]


def pareto_fit(excesses: Array) -> tuple[float, float]:
    """Shape k and scale s of a generalised Pareto law, 1 - F(x) = (1 + k x/s)^(-1/k), from n > 0 positive numbers.

    By Zhang and Stephens (Technometrics 51, 2009): with t = -k/s the shape is k(t) = mean log(1 - t x), and t the mean
    under its profile likelihood of points spread over where it can be: without iterations, and near to efficient.
    """
    x = np.sort(np.asarray(excesses, dtype=np.float64))
    n = len(x)
    points = 30 + int(math.sqrt(n))
    quarter = x[max(int(n / 4 + 0.5) - 1, 0)]
    j = np.arange(1, points + 1)
    t = 1 / x[-1] + (1 - np.sqrt(points / (j - 0.5))) / (3 * quarter)
    shape = np.log1p(-t[:, None] * x).mean(1)
    profile = n * (np.log(-t / shape) - shape - 1)
    mass = np.exp(profile - profile.max())
    best = float((t * mass).sum() / mass.sum())
    k = float(np.log1p(-best * x).mean())
    return k, -k / best
