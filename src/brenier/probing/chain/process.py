"""The Ornstein-Uhlenbeck process of a law, and the maps that follow it forward and back.

    dX = -X dt + sqrt(2/beta) dB,    X_t = alpha X_0 + sigma Z,    alpha = e^-t,  sigma^2 = (1 - e^-2t)/beta     (4.1)

    forward    f = i - eta (i + grad log p_{mu_t}/beta)                                          [LDK24] (3.1)
    backward   b = i + eta (i + grad log p_{mu_t}/beta)                                          [LDK24] (3.2)
    reverse SDE    x + eta (x + 2 grad log p_{mu_t}/beta) + sqrt(2 eta/beta) N(0, I)

With Hess log p_{mu_t} = -(I - Cov[rX | .])/sigma^2 ([LDK24] (4.2)) the Jacobian of b has the eigenvalues

    1 + eta - (eta/beta) (1 - l)/sigma^2,    l >= 0 an eigenvalue of the localization's matrix:

at least 1 - eta/(e^2t - 1). So b cannot fold while eta < e^2t - 1, and with an exact score no step of a chain, where
t = k eta >= eta, ever does: its eigenvalues stay above 1/2.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.laws.base import Target

_FEATURES = 16


def marginal(time: float | int, beta: float | int = 1.0, pull: float | int = 1.0) -> tuple[float, float]:
    """alpha and sigma of X_t = alpha X_0 + sigma Z at time t >= 0 ([LDK24] (4.1)), with drift -pull X."""
    if pull == 0:
        return 1.0, math.sqrt(2 * time / beta)
    return math.exp(-pull * time), math.sqrt(-math.expm1(-2 * pull * time) / (pull * beta))


def score_at(
    law: Target, x: Float[Tensor, "n d"], time: float | int, beta: float | int = 1.0, pull: float | int = 1.0
) -> Float[Tensor, "n d"]:
    """grad log p_{mu_t}(x) of the process started from `law`, in 1/unit of the data.

    Raises:
        ValueError: t is not positive. At t = 0 the SNR is infinite, and a law with point masses has no score.
    """
    _check_time(law, time)
    alpha, sigma = marginal(time, beta, pull)
    return law.score(x / sigma, alpha / sigma) / sigma


def forward_map(
    law: Target, x: Float[Tensor, "n d"], time: float | int, eta: float | int, beta: float | int = 1.0
) -> Float[Tensor, "n d"]:
    """f(x) = x - eta (x + grad log p_{mu_t}(x)/beta): one Euler step of the Wasserstein gradient flow ([LDK24] (3.1)).

    Raises:
        ValueError: t or eta is not positive, or eta is so large that the map folds at one of the points.
    """
    _check_time(law, time)
    alpha, sigma = marginal(time, beta)
    steepest = float(law.localize(x / sigma, alpha / sigma).norm.max())
    slope = 1 + (steepest - 1) / (beta * sigma**2)
    if not 0 < eta < (1 / slope if slope > 0 else math.inf):
        limit = f": it must be below {1 / slope:.6g}" if slope > 0 else ""
        raise ValueError(f"the forward map of {law.name} at time {time:g} folds with eta = {eta:g}{limit} and above 0")
    return x - eta * (x + score_at(law, x, time, beta) / beta)


def backward_map(
    law: Target, x: Float[Tensor, "n d"], time: float | int, eta: float | int, beta: float | int = 1.0
) -> Float[Tensor, "n d"]:
    """b(x) = x + eta (x + grad log p_{mu_t}(x)/beta): the optimal backward map ([LDK24] (3.2), Proposition 1).

    Raises:
        ValueError: t or eta is not positive, or eta >= e^2t - 1: the map folds where the posterior is concentrated.
    """
    _check_time(law, time)
    if not 0 < eta < math.expm1(2 * time):
        most = math.expm1(2 * time)
        raise ValueError(
            f"the backward map of {law.name} at time {time:g} folds with eta = {eta:g}: it must be above 0 and below "
            f"e^2t - 1 = {most:.6g}"
        )
    return x + eta * (x + score_at(law, x, time, beta) / beta)


def _check_time(law: Target, time: float | int) -> None:
    if not 0 < time < math.inf:
        raise ValueError(
            f"the score of {law.name} is asked for at time {time:g}, where the SNR is "
            f"{'infinite' if time == 0 else 'not defined'}: give a time > 0"
        )


@dataclass(frozen=True)
class ScoreError:
    """An error of the score, relative to its root mean square at the same noise level.

    Args:
        size: relative error eps >= 0: E|error|^2 = eps^2 E|score|^2 at each step.
        kind: "smooth", a fixed random field that varies on the scale of the noisy law (a sum of plane waves, the same
            at all steps in units of that scale), or "white", drawn anew for every point and step.
        band: SNRs from low to high where there is an error; None for all.
        seed: of the field, and of the noise.

    Raises:
        ValueError: a negative or infinite size, an unknown kind, or a band that is not 0 <= low < high.
    """

    size: float | int
    kind: Literal["smooth", "white"] = "smooth"
    band: tuple[float | int, float | int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.size < math.inf:
            raise ValueError(f"the score's relative error must be finite and at least 0, got {self.size}")
        if self.kind not in ("smooth", "white"):
            raise ValueError(f"the score's error must be smooth or white, got {self.kind!r}")
        if self.band is not None and not 0 <= self.band[0] < self.band[1]:
            raise ValueError(f"the band of SNRs must run from low to high, got {self.band[0]:g} to {self.band[1]:g}")

    def at(self, snr: float) -> float:
        """Relative error at an SNR."""
        return self.size if self.band is None or self.band[0] <= snr <= self.band[1] else 0.0

    def field(self, x: Float[Tensor, "n d"], length: float) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """A smooth field at x, of mean square 1 over its random phases, and its slope along the first axis.

        `length` is the scale of the noisy law: between two of its points the waves turn by about 1.4 radians.
        """
        d = x.shape[1]
        draw = np.random.default_rng([self.seed, 0x5C0])
        wave = torch.from_numpy(draw.normal(size=(_FEATURES, d))).to(x) / (length * math.sqrt(d))
        phase = torch.from_numpy(draw.uniform(0, 2 * math.pi, _FEATURES)).to(x)
        direction = torch.from_numpy(draw.normal(size=(_FEATURES, d))).to(x)
        direction = direction * math.sqrt(2 / float(direction.square().sum()))
        angle = x @ wave.mT + phase
        return angle.cos() @ direction, -(angle.sin() @ (wave[:, 0] * direction[:, 0]))
