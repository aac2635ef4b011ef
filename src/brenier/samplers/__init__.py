"""Few-step samplers, each a small step function, and one driver."""

from brenier.samplers.driver import Run, integrate, start
from brenier.samplers.endpoint import follow, reference
from brenier.samplers.steps import SOLVERS, evaluations

__all__ = ["SOLVERS", "Run", "evaluations", "follow", "integrate", "reference", "start"]
