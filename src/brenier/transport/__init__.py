"""Optimal transport maps."""

from brenier.transport.cost import Cost
from brenier.transport.entropic import Entropic, sinkhorn
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.semidiscrete.blocked import BlockedSemiDiscrete
from brenier.transport.semidiscrete.coupling import coupling_report
from brenier.transport.semidiscrete.map import SemiDiscrete
from brenier.transport.semidiscrete.measures import MarginalError
from brenier.transport.semidiscrete.skew import Skew, skew_test

__all__ = [
    "BlockedSemiDiscrete",
    "Cost",
    "Entropic",
    "MarginalError",
    "MongeAmpere",
    "SemiDiscrete",
    "Skew",
    "coupling_report",
    "sinkhorn",
    "skew_test",
]
