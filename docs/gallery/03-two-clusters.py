"""Two results in one figure: which of two laws is harder?

The closer the clusters, the earlier (at a lower SNR) they can be told apart, and the
less there is to tell. Files that `brenier probe -o` wrote go into one figure by
`brenier show near.nc far.nc --figure both.png`.
"""

import torch

import brenier

profiles = {}
for name, distance in (("near", 2.0), ("far", 6.0)):
    means = torch.tensor([[-distance / 2, 0.0], [distance / 2, 0.0]])
    law = brenier.GaussianMixture(
        [0.5, 0.5], means, torch.eye(2).expand(2, 2, 2), name=name
    )
    profiles[name] = brenier.probe(law, queries=1000, progress=False)
    found = brenier.bottleneck(profiles[name])
    where = (
        "nowhere"
        if found["m_star"] != found["m_star"]
        else f"at r = {found['snr']:.2f}, m* = {found['m_star']:.2f}"
    )
    print(f"{name}: hard {where}")
brenier.figures.save_figure(
    brenier.figures.plot_profiles(profiles), "both.png", dpi=100
)
