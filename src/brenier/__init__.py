"""brenier: probe, plan and sample diffusion models with optimal transport."""

from brenier.catalog import load_target
from brenier.laws.base import Localization, Target
from brenier.laws.empirical import Empirical
from brenier.laws.levels import default_snrs
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.networks.diffusers.model import from_diffusers
from brenier.networks.network import NetworkTarget
from brenier.probing.bottleneck import bottleneck
from brenier.probing.calibration import calibrate
from brenier.probing.chain.run import chain
from brenier.probing.profile import probe
from brenier.sampling.comparison import compare
from brenier.sampling.expressway import Expressway
from brenier.sampling.planning import plan, predict
from brenier.sampling.sample import Samples, sample
from brenier.sampling.schedule import Schedule
from brenier.training.train import train
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
