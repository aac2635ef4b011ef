"""How networks count noise and what they return: each convention turned into an SNR and a posterior mean.

A network is given the noisy variable  x = alpha X + sigma Z  and a number t that names the noise level, and returns a
prediction. Which alpha, sigma and t belong to an SNR r = alpha/sigma is a `NoiseScale`:

    sigma       x = X + sigma Z                     t = sigma                    sigma = 1/r
    log-sigma   the same                            t = log sigma
    edm         the same                            t = log(sigma)/4             EDM (arXiv:2206.00364), Table 1
    ou          x = e^-t X + sqrt((1-e^-2t)/beta) Z t = log(1 + beta/r^2)/2      [LDK24] (4.1)
    ddpm        x = sqrt(ab_t) X + sqrt(1-ab_t) Z   t = 0..T-1                   DDPM (arXiv:2006.11239) (4)
    flow        x = (1 - s) X + s Z                 t = s = 1/(1 + r)            flow matching (arXiv:2210.02747)

and E[X | x] follows from each prediction F by `posterior_mean`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from brenier.scales import alpha_bar_from_snr, time_from_snr

Prediction: TypeAlias = Literal["x0", "epsilon", "v", "score", "velocity", "edm"]
TimeArgument: TypeAlias = Literal["sigma", "log-sigma", "edm", "ou", "ddpm", "flow"]

PREDICTIONS: tuple[Prediction, ...] = ("x0", "epsilon", "v", "score", "velocity", "edm")
ROUNDED = (1e-3, 1e-2)  # relative change of a sigma that is taken for rounding: of any, and at most of small ones
DECIMALS = 5e-4  # change of a sigma by rounding it to three decimals


@dataclass(frozen=True)
class NoiseScale:
    """How a network is told the noise level.

    Attributes:
        level: SNR r -> alpha, sigma and t: the network is given alpha X + sigma Z, alpha/sigma = r, and t.
        low: smallest SNR that the network covers.
        high: largest.
        name: what t is, in words.
    """

    level: Callable[[float], tuple[float, float, float]]
    low: float | int
    high: float | int
    name: str


def sigma_scale() -> NoiseScale:
    """X + sigma Z, told sigma."""
    return NoiseScale(lambda r: (1.0, 1 / r, 1 / r), 0.0, math.inf, "sigma")


def log_sigma_scale() -> NoiseScale:
    """X + sigma Z, told log sigma."""
    return NoiseScale(lambda r: (1.0, 1 / r, -math.log(r)), 0.0, math.inf, "log sigma")


def edm_scale() -> NoiseScale:
    """X + sigma Z, told log(sigma)/4 (EDM's c_noise)."""
    return NoiseScale(lambda r: (1.0, 1 / r, -math.log(r) / 4), 0.0, math.inf, "log(sigma)/4")


def ou_scale(beta: float | int = 1.0) -> NoiseScale:
    """The Ornstein-Uhlenbeck process at inverse temperature beta, told its time."""

    def level(r: float) -> tuple[float, float, float]:
        alpha = r / math.sqrt(beta + r**2)
        return alpha, alpha / r, float(time_from_snr(r, beta))

    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be positive and finite, got {beta}")
    return NoiseScale(level, 0.0, math.inf, "Ornstein-Uhlenbeck time")


def ddpm_scale(alpha_bars: ArrayLike | Tensor) -> NoiseScale:
    """A variance-preserving chain with alpha-bar at steps 0..T-1, told the step; between two steps, a fraction of one.

    Between tabulated steps the logarithm of the SNR is interpolated, as samplers with few steps do. Steps without any
    signal (alpha-bar 0, at the end of a chain "with zero terminal SNR") are left aside.

    Raises:
        ValueError: fewer than two usable steps, or alpha-bars that do not fall from below 1 to 0 or more.
    """
    bars = np.asarray(alpha_bars.detach().cpu() if isinstance(alpha_bars, Tensor) else alpha_bars, dtype=np.float64)
    if bars.ndim != 1 or not np.all((bars >= 0) & (bars < 1)) or not np.all(np.diff(bars) < 0):
        raise ValueError("alpha_bars must be a list of numbers that fall from below 1 to 0 or more, one per step")
    usable = bars[bars > 0]
    if len(usable) < 2:
        raise ValueError(f"alpha_bars must have at least two steps with some signal, got {len(usable)}")
    steps = np.arange(len(usable), dtype=np.float64)
    log_snr = (np.log(usable) - np.log1p(-usable)) / 2

    def level(r: float) -> tuple[float, float, float]:
        bar = float(alpha_bar_from_snr(r))
        step = float(np.interp(-math.log(r), -log_snr, steps))
        return math.sqrt(bar), math.sqrt(bar) / r, step

    return NoiseScale(level, float(np.exp(log_snr[-1])), float(np.exp(log_snr[0])), f"step 0 to {len(usable) - 1}")


def flow_scale(multiplier: float | int = 1.0) -> NoiseScale:
    """The straight path (1 - s) X + s Z, told `multiplier` times s = 1/(1 + r)."""
    return NoiseScale(
        lambda r: (r / (1 + r), 1 / (1 + r), multiplier / (1 + r)),
        0.0,
        math.inf,
        f"{multiplier:g} s of (1 - s) X + s Z",
    )


def noise_scale(
    time: TimeArgument | str, alpha_bars: ArrayLike | Tensor | None = None, beta: float | int = 1.0
) -> NoiseScale:
    """The scale that goes by a name; "ddpm" needs `alpha_bars`, "ou" takes `beta`."""
    if (alpha_bars is not None) != (time == "ddpm"):
        raise ValueError(
            'time="ddpm" needs alpha_bars, the chain\'s table of alpha-bar at steps 0, 1, ...'
            if alpha_bars is None
            else f'alpha_bars belong to time="ddpm", not to time="{time}": leave one out'
        )
    if time == "ddpm":
        assert alpha_bars is not None  # just checked
        return ddpm_scale(alpha_bars)
    if time == "ou":
        return ou_scale(beta)
    simple = {"sigma": sigma_scale, "log-sigma": log_sigma_scale, "edm": edm_scale, "flow": flow_scale}
    if time not in simple:
        raise ValueError(f"time must be sigma, log-sigma, edm, ou, ddpm or flow, got {time!r}")
    return simple[time]()


def describe(prediction: str, scale: NoiseScale, sigma_data: float | None = None, sign: int = 1) -> str:
    """What a network predicts, from which noisy variable, and what it is told at SNR 1: equal for equal conventions."""
    r = min(max(1.0, scale.low), scale.high)
    alpha, sigma, t = scale.level(r)
    paths = {
        "X + sigma Z": alpha,
        "(1 - s) X + s Z": alpha + sigma,
        "sqrt(ab) X + sqrt(1 - ab) Z": math.hypot(alpha, sigma),
    }
    path = next((path for path, one in paths.items() if abs(one - 1) < 1e-6), f"{alpha:.3g} X + {sigma:.3g} Z")
    known = "" if sigma_data is None else f" with sigma_data {sigma_data:g}"
    return f"{'-' * (sign < 0)}{prediction}{known} from {path}, told {t + 0.0:.3g} at SNR {r:.3g}"


def known_snr(snr: float, low: float, high: float) -> float | None:
    """The SNR within a range, or the end of the range that it misses no further than published sigmas are rounded.

    These, sigma = 1/snr, may be off by 0.1%; or, as three decimals make of small ones, by 0.0005 and up to 1%.

    Returns:
        None for one that is further outside.
    """
    nearest = min(max(snr, low), high)
    slack = min(max(ROUNDED[0], DECIMALS * nearest), ROUNDED[1])
    return nearest if 0 < snr < math.inf and abs(nearest / snr - 1) <= slack else None


def check_range(snr_range: tuple[float, float] | None, scale: NoiseScale) -> tuple[float, float]:
    """The SNRs that a network was trained for, from low to high; all that its scale covers where none are given."""
    try:
        low, high = (scale.low, scale.high) if snr_range is None else map(float, snr_range)
    except (TypeError, ValueError):
        raise ValueError(f"snr_range must be two numbers, from low to high, got {snr_range}") from None
    if not 0 <= low < high:
        raise ValueError(f"snr_range must run from low to high, got {low:g} to {high:g}")
    within = [min(max(end, scale.low), scale.high) for end in (low, high)]
    if any(
        near != end and known_snr(end, scale.low, scale.high) is None
        for near, end in zip(within, (low, high), strict=True)
    ):
        raise ValueError(
            f"snr_range {low:g} to {high:g} goes beyond what the network's {scale.name} covers: {scale.low:g} to "
            f"{scale.high:g}"
        )
    return within[0], within[1]


def check_prediction(prediction: str, scale: NoiseScale) -> None:
    """Refuse a prediction that is not known, or is not defined for the noisy variable of the scale."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
    r = math.sqrt(max(scale.low, 1e-3) * min(scale.high, 1e3))
    alpha, sigma, _ = scale.level(r)
    needs = {
        "v": (alpha**2 + sigma**2, "a variance-preserving chain, alpha^2 + sigma^2 = 1 (time ddpm, or ou with beta 1)"),
        "velocity": (alpha + sigma, "the straight path (1 - s) X + s Z (time flow)"),
        "edm": (alpha, "X + sigma Z (time sigma, log-sigma or edm)"),
    }
    if prediction in needs and abs(needs[prediction][0] - 1) > 1e-6:
        raise ValueError(
            f'prediction "{prediction}" is defined for {needs[prediction][1]}, and this network is told {scale.name} '
            f"of alpha X + sigma Z with alpha = {alpha:.4g}, sigma = {sigma:.4g} at SNR {r:.4g}"
        )


def posterior_mean(
    prediction: Prediction, output: Float[Tensor, "*n"], x: Float[Tensor, "*n"], alpha: float | int, sigma: float | int
) -> Float[Tensor, "*n"]:
    """E[X | alpha X + sigma Z = x] from what a network predicts there.

    Args:
        prediction: "x0": E[X | x] itself. "epsilon": E[Z | x]. "v": E[alpha Z - sigma X | x], where
            alpha^2 + sigma^2 = 1 (arXiv:2202.00512). "score": grad log p(x). "velocity": E[Z - X | x], where
            alpha + sigma = 1.
        output: the prediction.
        x: the noisy point.
        alpha: of the noise level, > 0.
        sigma: of the noise level.
    """
    if prediction == "x0":
        return output
    if prediction == "epsilon":
        return (x - sigma * output) / alpha
    if prediction == "v":
        return alpha * x - sigma * output
    if prediction == "score":
        return (x + sigma**2 * output) / alpha
    if prediction == "velocity":
        return x - sigma * output
    raise ValueError(f"prediction {prediction!r} is no estimate of X, Z or their difference")


def edm_coefficients(sigma: float | int, sigma_data: float | int) -> tuple[float, float, float]:
    """c_skip, c_out and c_in of EDM's preconditioning: D = c_skip x + c_out F(c_in x) (arXiv:2206.00364, Table 1)."""
    total = math.hypot(sigma, sigma_data)
    return (sigma_data / total) ** 2, sigma * sigma_data / total, 1 / total
