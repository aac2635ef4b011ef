"""Laws that can be sampled, denoised and localized: one module per kind."""

from brenier.laws.base import Localization, Target
from brenier.laws.empirical import Empirical
from brenier.laws.line.density import OnTheLine
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform

__all__ = ["Empirical", "GaussianMixture", "Localization", "OnTheLine", "Target", "Uniform"]
