"""Do I have enough data to say where it is hard?

The same law, with more and more draws of it: the data tell further and further, and
past that they say so instead of guessing. The last line is the law itself, which
nobody has.
"""

import torch

import brenier

means = torch.zeros(3, 6)
means[0, 0], means[1, 0], means[2, 1] = 2.0, -2.0, 2.0
law = brenier.GaussianMixture(
    [0.4, 0.4, 0.2], means, 0.25 * torch.eye(6).expand(3, 6, 6), name="three modes"
)

for n in (300, 1000, 3000):
    profile = brenier.probe(law.sample(n, seed=1), queries=500, progress=False)
    found = brenier.bottleneck(profile)
    print(
        f"{n:5,} points tell up to r = {found['resolved_snr']:.2f}: "
        f"m* {found['m_star']:.2f} +- {found['m_star_se']:.2f}, r = {found['snr']:.2f}"
    )
found = brenier.bottleneck(brenier.probe(law, queries=2000, progress=False))
print(
    f"the law itself: "
    f"m* {found['m_star']:.2f} +- {found['m_star_se']:.2f}, r = {found['snr']:.2f}"
)
