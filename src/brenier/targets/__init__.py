"""Laws that can be sampled and localized."""

from brenier.targets.base import Localization, Target
from brenier.targets.catalog import load_target
from brenier.targets.empirical import Empirical
from brenier.targets.mixture import GaussianMixture
from brenier.targets.network import NetworkTarget
from brenier.targets.pretrained import from_diffusers
from brenier.targets.uniform import Uniform

__all__ = [
    "Empirical",
    "GaussianMixture",
    "Localization",
    "NetworkTarget",
    "Target",
    "Uniform",
    "from_diffusers",
    "load_target",
]
