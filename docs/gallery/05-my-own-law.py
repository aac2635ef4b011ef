"""My own law: what does a subclass need?

The shape of a point and four methods: draw, denoise, localize, and the lengths that
an SNR grid has to resolve. Then every verb takes it. This law is uniform on the unit
circle: given y its angle has a von Mises law of concentration k = r |y|, the
posterior mean lies on the ray of y at A = I1(k)/I0(k), and the posterior variances
are 1 - A/k - A^2 along the ray and A/k across.
"""

import math

import torch
from torch import Tensor

import brenier


class Circle(brenier.Target):
    """Uniform on the unit circle."""

    name, event_shape = "circle", (2,)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        angle = (
            2
            * math.pi
            * torch.rand(
                n, generator=torch.Generator().manual_seed(seed), dtype=self.dtype
            )
        )
        return torch.stack([angle.cos(), angle.sin()], 1)

    def localize(self, y: Tensor, snr: float) -> brenier.Localization:
        k = (snr * y.norm(dim=1)).clamp_min(1e-9)
        mean = torch.special.i1e(k) / torch.special.i0e(k)
        along, across = snr**2 * (1 - mean / k - mean**2), snr**2 * mean / k
        return brenier.Localization(
            torch.maximum(along, across), along + across, snr * y * (mean / k)[:, None]
        )

    def denoise(self, y: Tensor, snr: float) -> Tensor:
        return self.localize(y, snr).mean

    def scales(self) -> tuple[float, float]:
        return 1.0, 1.0


profile = brenier.probe(Circle(), snrs=[0.5, 1, 2, 4, 8], queries=2000, progress=False)
print(brenier.summary(profile, width=100))
schedule = brenier.plan(Circle(), 5, progress=False)
radius = brenier.sample(Circle(), 1000, schedule=schedule, progress=False).points.norm(
    dim=1
)
print(f"five planned steps end at radius {radius.mean():.3f} +- {radius.std():.3f}")
