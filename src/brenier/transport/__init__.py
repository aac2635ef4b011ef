"""Optimal transport maps."""

from brenier.transport.entropic import Entropic, sinkhorn
from brenier.transport.judgement import Cost, MarginalError
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.semidiscrete import Fit, SemiDiscrete

__all__ = ["Cost", "Entropic", "Fit", "MarginalError", "MongeAmpere", "SemiDiscrete", "sinkhorn"]
