"""Is my network calibrated?

The Jacobian of a denoiser is the posterior covariance that it has learned. If that
were right, its trace would predict the denoising error. The network that comes along
was trained on the digits; the data are the digits that it was trained on.
"""

import brenier

found = brenier.calibrate(
    "digits-network", "digits", snrs=[0.3, 1, 3], queries=400, progress=False
)
print(brenier.summary(found, width=100))
brenier.figures.save_figure(brenier.figures.plot(found), "calibration.png", dpi=100)
