"""Brenier maps by the parabolic Monge-Ampère iteration (arXiv:2504.09279)."""

from brenier.transport.mongeampere.gaussian import gaussian_flow, gaussian_map
from brenier.transport.mongeampere.laws import Law, find_law
from brenier.transport.mongeampere.model import Fitted, MongeAmpere
from brenier.transport.mongeampere.rules import RULES, step_sizes
from brenier.transport.mongeampere.storage import load_potential, read_potential

__all__ = [
    "RULES",
    "Fitted",
    "Law",
    "MongeAmpere",
    "find_law",
    "gaussian_flow",
    "gaussian_map",
    "load_potential",
    "read_potential",
    "step_sizes",
]
