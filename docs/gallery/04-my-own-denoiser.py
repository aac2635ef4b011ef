"""My own denoiser: how do I probe it?

A function from noisy points and a noise level to what you predict is a law: say what
it predicts and what it is told. Here it is the exact denoiser of two points at -1 and
1, so that the answer is known: L = (r/cosh(r y))^2, whatever the Jacobian says by
autograd.
"""

import torch

import brenier


def denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """E[X | X + sigma Z = x] for X = -1 or 1, both with chance 1/2."""
    return torch.tanh(x / sigma[:, None] ** 2)


data = torch.tensor([[-1.0], [1.0]])
mine = brenier.NetworkTarget(
    denoiser, data, prediction="x0", time="sigma", snr_range=(0.1, 10), name="mine"
)
profile = brenier.probe(mine, snrs=[0.5, 1, 2], queries=2000, progress=False)
exact = brenier.probe("two-points", snrs=[0.5, 1, 2])
for snr in profile["snr"].values:
    at, true = (found.sel(snr=snr) for found in (profile, exact))
    print(
        f"r = {snr:3}: E L = {float(at['mean_localization']):.3f} "
        f"+- {float(at['mean_localization_se']):.3f}, "
        f"by quadrature {float(true['mean_localization']):.3f}"
    )
