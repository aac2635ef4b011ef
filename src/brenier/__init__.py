"""brenier: probe, plan and sample diffusion models with optimal transport."""

from brenier.calibration import calibrate
from brenier.chains import chain
from brenier.comparison import compare
from brenier.expressway import Expressway
from brenier.profile import bottleneck, default_snrs, probe
from brenier.sampling import Samples, sample
from brenier.schedules import Schedule, plan, predict
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
from brenier.transport import MongeAmpere, SemiDiscrete

__all__ = [
    "Empirical",
    "Expressway",
    "GaussianMixture",
    "Localization",
    "MongeAmpere",
    "NetworkTarget",
    "Samples",
    "Schedule",
    "SemiDiscrete",
    "Target",
    "Uniform",
    "bottleneck",
    "calibrate",
    "chain",
    "compare",
    "default_snrs",
    "from_diffusers",
    "load_target",
    "plan",
    "predict",
    "probe",
    "sample",
    "train",
]
