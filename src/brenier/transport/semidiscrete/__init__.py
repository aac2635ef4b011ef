"""Semi-discrete optimal transport: from a density to weighted points."""

from brenier.transport.semidiscrete.classes import ByClass
from brenier.transport.semidiscrete.conditions import ByCondition
from brenier.transport.semidiscrete.map import Fitted, SemiDiscrete
from brenier.transport.semidiscrete.measures import MarginalError

__all__ = ["ByClass", "ByCondition", "Fitted", "MarginalError", "SemiDiscrete"]
