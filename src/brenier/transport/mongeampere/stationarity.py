"""Is what a weighted sample says of a target still so when its points move as the target's would?

Points X_0 = T(Y), Y ~ m, of weights w are a sample of the target p, and so are the X_k that k steps of a kernel make of
them which leaves p as it is, here Hamiltonian Monte Carlo. For any function h, whatever the map,

    E_m[w (h(X_k) - h(X_0))] = Z E_p[h(X_k) - h(X_0)] = 0.

If the points lack part of p, next to where they are, they flow into it and none come back. There w is large, of all
places, and so h = log(1 + w/Z) is what is looked at, up to w/Z = e^10. With D the rise of h along one chain,

    t = sum a D/sqrt(sum a^2 D^2)

is N(0, 1) for a sample of p, and large where p has more. Chains start at points that were drawn independently, one
each, so that their rises are independent. A point is kept with probability min(1, |w|/c), and its a is max(|w|, c),
with the sign of w. Moves are reversible: where all a are equal, D and -D are as likely, and t exceeds sqrt(2 log(1/e))
with probability e at most, whatever the law of D (Efron, J. Amer. Statist. Assoc. 64, 1969).

What points cannot come to in so few steps is not seen: mass far from all of them, above all.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.proposal import Image

CHAINS, MOVES, LEAPS = 1000, 8, 8  # gradients: 1,000 (1 + 8 x 8)
LONGEST, RANGE = 1.6, 30.0  # largest step over d^{-1/4}, in deviations; over the smallest
HIGHEST = 10.0  # log(w/Z) that counts


def drift(
    law: Marginal,
    image: Image,
    x: Float[Tensor, "n d"],
    weights: Float[Tensor, " n"],
    scale: Float[Tensor, "d d"],
    log_z: float,
    generator: torch.Generator,
) -> float:
    """t of a weighted sample: N(0, 1) where it is one of the law, large where the law has mass beside it.

    Args:
        law: p, up to a constant.
        image: the law that points came from.
        x: the points, in the law's own space.
        weights: with their signs, a.
        scale: R, in whose units they move.
        log_z: log Z by them.
        generator: of random numbers.
    """
    end = move(law, x, scale, generator)
    before, after = _height(image, torch.cat([x, end]), log_z).split(len(x))  # by one rule, found or not
    rise = weights * (after - before)
    size = float(rise.norm())
    return float(rise.sum()) / size if size > 0 else 0.0


def _height(image: Image, x: Float[Tensor, "n d"], log_z: float) -> Float[Tensor, " n"]:
    """log(1 + w/Z); log 2 where w is not known."""
    logs = (image.log_weight(x) - log_z).nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
    return torch.nn.functional.softplus(logs.clamp(max=HIGHEST))


def thin(
    log_weights: Float[Tensor, " n"], count: int, generator: torch.Generator
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """About `count` of n points, and weights, with the same expectation of weighted sums; the largest are all kept.

    A point of weight w is kept with probability min(1, w/c), by one uniform number for all; it then weighs max(w, c)/c.
    """
    w = (log_weights - log_weights.max()).exp().double()
    ordered = w.sort(descending=True).values
    rest = ordered.flip(0).cumsum(0).flip(0)  # of what is not among the largest k
    larger = torch.arange(count) < count - 1
    whole = int((larger & (ordered[:count] * (count - torch.arange(count)) > rest[:count])).sum())
    c = rest[whole] / (count - whole)
    start = torch.rand(1, generator=generator, dtype=torch.float64)
    passed = start + (w / c).clamp(max=1).cumsum(0)
    kept = (passed.floor() > torch.cat([start, passed[:-1]]).floor()).nonzero()[:, 0]
    return kept, (w[kept] / c).clamp(min=1)


def root(x: Float[Tensor, "n d"], weights: Float[Tensor, " n"]) -> Float[Tensor, "d d"]:
    """R, RR' about the covariance of a weighted sample: the fewer points, the less of what is off its diagonal."""
    w = weights / weights.sum()
    centred = x - w @ x
    covariance = centred.T @ (w[:, None] * centred)
    own = covariance.diagonal().clamp(min=torch.finfo(x.dtype).tiny).diag()
    few = min(1.0, x.shape[1] * float(w.square().sum()) + 1e-9)
    return torch.linalg.cholesky((1 - few) * covariance + few * own)


def move(
    law: Marginal, x: Float[Tensor, "n d"], scale: Float[Tensor, "d d"], generator: torch.Generator
) -> Float[Tensor, "n d"]:
    """Points after some steps of Hamiltonian Monte Carlo with mass (RR')^-1, each step of a length of its own."""
    log_density, slope = ascent(law, x)
    longest = LONGEST / x.shape[1] ** 0.25
    for _ in range(MOVES):
        uniform = torch.rand(len(x), 2, generator=generator, dtype=torch.float64)
        length = longest * RANGE ** -uniform[:, :1]
        speed = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        before = log_density - speed.square().sum(1) / 2
        there, force, lost = x, slope, torch.zeros(len(x), dtype=torch.bool)
        high = log_density
        for _ in range(LEAPS):
            speed = speed + length / 2 * force @ scale
            there = there + length * speed @ scale.T
            lost = lost | ~torch.isfinite(there).all(1)
            there = torch.where(lost[:, None], x, there)
            high, force = ascent(law, there)
            speed = speed + length / 2 * force @ scale
        gain = torch.where(lost, -math.inf, high - speed.square().sum(1) / 2 - before)
        taken = uniform[:, 1].log() < gain  # NaN is not taken
        x = torch.where(taken[:, None], there, x)
        log_density, slope = torch.where(taken, high, log_density), torch.where(taken[:, None], force, slope)
    return x


def ascent(law: Marginal, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"]]:
    """log density and its gradient."""
    with torch.enable_grad():
        at = x.detach().requires_grad_(True)
        value = law.log_at(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), slope
