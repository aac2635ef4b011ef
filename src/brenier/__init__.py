"""brenier: probe, plan and sample diffusion models with optimal transport."""

from brenier.calibration import calibrate
from brenier.chains import chain
from brenier.profile import bottleneck, default_snrs, probe
from brenier.scores import train
from brenier.targets import (
    Empirical,
    GaussianMixture,
    Localization,
    NetworkTarget,
    Target,
    Uniform,
    from_diffusers,
    load_target,
)

__all__ = [
    "Empirical",
    "GaussianMixture",
    "Localization",
    "NetworkTarget",
    "Target",
    "Uniform",
    "bottleneck",
    "calibrate",
    "chain",
    "default_snrs",
    "from_diffusers",
    "load_target",
    "probe",
    "train",
]
