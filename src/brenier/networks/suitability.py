"""Whether a network takes points, with a gradient and row by row, and whether data can be what it was trained on.

The latter asks whether it denoises them better than no network would.
At an SNR r the linear denoiser m + c (y/r - m), c = r^2 s^2/(1 + r^2 s^2), knows of data no more than their mean m and
their mean variance s^2. A network that knows their law has a lower error, at every SNR; pixels on another scale, in
another order or of other images raise it by orders of magnitude.
"""

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from brenier.core.random import generator_for
from brenier.laws.base import Target

SAMPLED = 256  # points for the mean and the variance
NUMBERS = 2**14  # of the noisy points that the network is shown
SPREADS = (8.0, 1.0, 0.125)  # noise levels, in standard deviations of the data
WORSE = 2.0  # how many times the squared error of the linear denoiser is too much


def check_rows(
    call: Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]],
    x: Float[Tensor, "2 d"],
    name: str,
    event_shape: Sequence[int],
    told: str,
) -> None:
    """Two calls: shapes, a gradient that reaches the input, and rows that do not see each other.

    Args:
        call: the network at some noise level.
        x: two points, which ask for gradients.
        name: of the network.
        event_shape: of a point.
        told: what the network is told beside.

    Raises:
        ValueError: it is not so.
    """
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            output = call(x)
            alone = call(x[:1])
    except (RuntimeError, IndexError, TypeError, AttributeError, KeyError) as error:
        line = " ".join(str(error).split())[:200]
        beside = f" with {told}" if told else ""
        raise ValueError(f"{name} does not take points of shape {tuple(event_shape)}{beside}: {line}") from error
    gradient = torch.autograd.grad(output.sum(), x, allow_unused=True)[0] if output.requires_grad else None
    if gradient is None:
        raise ValueError(
            f"{name} has no gradient in its input, so that it has no Jacobian: remove torch.no_grad, detach or"
            " conversions to NumPy from it"
        )
    apart = float((output[:1] - alone).detach().abs().max())
    if apart > 1e-2 * float(alone.detach().abs().max()):  # NaN is found where the SNR is known
        raise ValueError(
            f"{name} predicts a point differently beside another, or twice: every row must be predicted from itself"
            " alone (no batch statistics, no randomness)"
        )


def warn_of_data(
    denoise: Callable[[Float[Tensor, "n d"], float], Float[Tensor, "n d"]],
    data: Target,
    snr_range: tuple[float, float],
    name: str,
) -> None:
    """Say where a network denoises data much worse than no network would.

    Args:
        denoise: y = r x + z and r to the posterior mean, by the network.
        data: what is denoised.
        snr_range: SNRs that the network was trained for.
        name: of the network.

    Warns:
        UserWarning: its squared error is more than `WORSE` times that of the best linear denoiser.
    """
    points = data.sample(SAMPLED, 0)
    mean = points.double().mean(0)
    spread = math.sqrt(float((points - mean).square().mean()))
    if spread == 0:
        return
    x = points[: max(4, min(SAMPLED // 4, NUMBERS // data.dim))]
    z = torch.randn(x.shape, generator=generator_for(0, 0x5C1)).to(x)
    low, high = snr_range
    worst, told = WORSE, ""
    for snr in sorted({min(max(1 / (spread * noise), low), high) for noise in SPREADS}):
        found = denoise(snr * x + z, snr).double()
        gain = (snr * spread) ** 2 / (1 + (snr * spread) ** 2)
        linear = mean + gain * (x + z.double() / snr - mean)
        ratio = float((found - x).square().mean() / (linear - x).square().mean())
        if ratio > worst:
            worst = ratio
            ends = [f"{float(values.min()):.3g} to {float(values.max()):.3g}" for values in (points, found)]
            told = (
                f"{name} misses {data.name} by {math.sqrt(ratio):.3g} times as much as their mean and variance alone "
                f"would, at SNR {snr:.3g}: they go from {ends[0]}, what it returns from {ends[1]}; was it trained on "
                "such data, on this scale?"
            )
    if told:
        warnings.warn(told, UserWarning, stacklevel=4)
