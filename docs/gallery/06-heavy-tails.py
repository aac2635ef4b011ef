"""A law with heavy tails: what do they do to a diffusion?

Any continuous distribution of scipy.stats is a law by its name, and so is any
log-density on the line. Of Student's t with 3 degrees of freedom the posterior of a
point far out in the tail stays as wide as the noise at any SNR: L exceeds 1 there, a
little, always.
"""

import brenier

profile = brenier.probe("scipy:t(3)", snrs=[0.3, 1, 3, 10])
print(brenier.summary(profile, width=100))
brenier.figures.save_figure(
    brenier.figures.plot(brenier.probe("scipy:t(3)")), "profile.png", dpi=100
)
