"""Diffuse, then denoise: a law's chain forward and back, with its account in Wasserstein distance."""

from brenier.chains.run import chain, densities
from brenier.chains.start import start_law

__all__ = ["chain", "densities", "start_law"]
