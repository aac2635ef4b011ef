"""Optimal transport maps."""

from brenier.transport.entropic import Entropic, sinkhorn
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.semidiscrete.map import Fit, SemiDiscrete
from brenier.transport.semidiscrete.measures import Cost, MarginalError

__all__ = ["Cost", "Entropic", "Fit", "MarginalError", "MongeAmpere", "SemiDiscrete", "sinkhorn"]
