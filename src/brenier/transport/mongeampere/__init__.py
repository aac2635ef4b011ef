"""Brenier maps by the parabolic Monge-Ampère iteration (arXiv:2504.09279)."""

from brenier.transport.mongeampere.evidence import Evidence
from brenier.transport.mongeampere.gaussian import gaussian_flow, gaussian_map
from brenier.transport.mongeampere.laws import find_marginal
from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.model import MongeAmpere
from brenier.transport.mongeampere.record import Fitted
from brenier.transport.mongeampere.rules import RULES, step_sizes
from brenier.transport.mongeampere.storage import read_potential

__all__ = [
    "RULES",
    "Evidence",
    "Fitted",
    "Marginal",
    "MongeAmpere",
    "find_marginal",
    "gaussian_flow",
    "gaussian_map",
    "read_potential",
    "step_sizes",
]
