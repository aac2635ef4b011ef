"""I pair noise with conditional data: does that skew anything?

A plan that knows nothing of the condition makes noise depend on it, and a conditional
sampler, which draws noise at random, is then wrong. The skew test says whether it
does; one map for each class does not.
"""

import torch

import brenier
from brenier.transport import skew_test

generator = torch.Generator().manual_seed(0)
labels = torch.arange(1000) % 2
points = torch.randn(1000, 2, generator=generator) + 4 * labels[:, None]
plain = brenier.SemiDiscrete(points).fit(0.05, progress=False)
by_class = brenier.SemiDiscrete(points, labels=labels).fit(0.05, progress=False)

noise = torch.randn(1000, 2, generator=generator)
cells = plain.cells(noise)
print(f"plain: p = {skew_test(noise, labels[cells]).p:.3g}")
wanted = labels[torch.randint(1000, (1000,), generator=generator)]
by_class.cells(
    noise, wanted
)  # the datum depends on noise and class; the noise does not know the class
print(f"one map for each class: p = {skew_test(noise, wanted).p:.3g}")
