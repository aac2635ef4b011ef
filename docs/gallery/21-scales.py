"""SNR, sigma, t, alpha-bar: which is which?

r = alpha/sigma, not squared, is what brenier means by SNR. One level, in every
parametrisation that people use.
"""

from brenier import scales

sigma = 2.0
snr = float(scales.snr_from_sigma(sigma))
print(f"sigma (EDM, k-diffusion)            {sigma}")
print(f"SNR r = 1/sigma                     {snr}")
print(f"SNR of diffusers' compute_snr = r^2 {snr**2}")
print(f"Ornstein-Uhlenbeck time             {float(scales.time_from_snr(snr)):.4f}")
print(f"alpha-bar of DDPM = r^2/(1 + r^2)   {snr**2 / (1 + snr**2):.4f}")
print(f"t of flow matching, data at 0       {sigma / (1 + sigma):.4f}")
