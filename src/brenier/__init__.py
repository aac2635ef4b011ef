"""brenier: probe, plan and sample diffusion models with optimal transport."""

from brenier.chains import chain
from brenier.profile import bottleneck, default_snrs, probe
from brenier.targets import Empirical, GaussianMixture, Localization, Target, Uniform, load_target

__all__ = [
    "Empirical",
    "GaussianMixture",
    "Localization",
    "Target",
    "Uniform",
    "bottleneck",
    "chain",
    "default_snrs",
    "load_target",
    "probe",
]
