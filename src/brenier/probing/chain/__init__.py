"""Diffuse, then denoise: a law's chain forward and back, with its account in Wasserstein distance."""
