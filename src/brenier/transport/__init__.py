"""Optimal transport maps."""

from brenier.transport.semidiscrete import Cost, Fit, MarginalError, SemiDiscrete

__all__ = ["Cost", "Fit", "MarginalError", "SemiDiscrete"]
