"""How likely a denoiser finds points, by how well it denoises them.

Along the SNR, information grows by half the squared denoising error: d I(X; rX + Z)/d r^2 = E|X - E[X | Y_r]|^2/2 (Guo,
Shamai and Verdu, IEEE Trans. Inf. Theory 51, 2005), so that with points of the data as X

    E log q(X + Z/r) >= d log(r/sqrt(2 pi e)) - 1/2 integral_0^{r^2} E|X - D(Y_s, s)|^2 ds^2

is a bound on the log-likelihood of the law that a network D samples, at its smallest noise, as in the variational bound
of diffusion models; of a law's own denoiser and points of that law it is an equality (Kong, Brekelmans and Ver Steeg,
ICLR 2023).
"""

import math

import numpy as np
import torch

from brenier.core.random import seeds
from brenier.laws.base import Target

SNRS = 48  # in the integral, which is over log r^2


def log_likelihood(law: Target, data: Target, points: int, *, seed: int = 0) -> tuple[float, float, float]:
    """Mean log-likelihood of noisy data, in nats per point in the unit of the data; for a network, a lower bound.

    Args:
        law: whose denoiser is asked, over its whole range of SNRs.
        data: the points X; held out, if the law was not made from them.
        points: how many are drawn from them.
        seed: of the choice and the noise.

    Returns:
        Mean, its standard error over points, and the noise level 1/r of the law's largest SNR.
    """
    low, high = law.snr_range
    if not (low > 0 and math.isfinite(high)):
        low, high = 0.01 / law.scales()[1], 10 / law.scales()[0]
    pick, noise = seeds(seed, count=2)
    x = data.sample(points, pick).to(law.device, law.dtype)
    generator = torch.Generator().manual_seed(noise)
    snrs = np.geomspace(low, high, SNRS)
    errors = np.empty((SNRS, len(x)))
    for k, r in enumerate(snrs.tolist()):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        errors[k] = (x - law.denoise(r * x + z, r)).double().square().sum(1).cpu().numpy()
    integral = np.trapezoid(errors * snrs[:, None] ** 2, np.log(snrs**2), axis=0) + errors[0] * low**2
    each = law.dim * (math.log(high) - 0.5 * math.log(2 * math.pi * math.e)) - integral / 2
    spread = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.nan
    return float(each.mean()), spread, 1 / high
