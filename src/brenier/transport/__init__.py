"""Optimal transport maps."""

from brenier.transport.judgement import Cost, MarginalError
from brenier.transport.semidiscrete import Fit, SemiDiscrete

__all__ = ["Cost", "Fit", "MarginalError", "SemiDiscrete"]
