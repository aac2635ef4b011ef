"""Optimal transport maps."""

from brenier.transport.cost import Cost
from brenier.transport.entropic import Entropic, sinkhorn
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.semidiscrete.map import SemiDiscrete
from brenier.transport.semidiscrete.measures import MarginalError

__all__ = ["Cost", "Entropic", "MarginalError", "MongeAmpere", "SemiDiscrete", "sinkhorn"]
