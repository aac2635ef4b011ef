"""Semi-discrete optimal transport: from a density to weighted points."""

from brenier.transport.semidiscrete.map import Fit, SemiDiscrete
from brenier.transport.semidiscrete.measures import Cost, MarginalError

__all__ = ["Cost", "Fit", "MarginalError", "SemiDiscrete"]
