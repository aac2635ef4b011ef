"""My data cannot tell past some SNR: what does a model say?

A mixture chosen by held-out likelihood stands in for the law, and the figure shows
both: where the data can tell, they check the model; past that, it speaks alone.
"""

import torch

import brenier

generator = torch.Generator().manual_seed(0)
centres = 3 * torch.randn(4, 8, generator=generator)
data = centres[torch.arange(1200) % 4] + 0.5 * torch.randn(1200, 8, generator=generator)
fitted = brenier.fit_mixture(data, components=[1, 2, 4, 8], progress=False)
print(f"chosen: {fitted.components} components, {fitted.covariance_type}")
profile = brenier.probe(data, model=fitted.law, queries=500, progress=False)
print(brenier.summary(profile, width=100).splitlines()[-1])
brenier.figures.save_figure(brenier.figures.plot(profile), "profile.png", dpi=100)
