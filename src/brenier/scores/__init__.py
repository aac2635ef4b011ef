"""Score networks: denoising score matching with EDM preconditioning, checkpoints, and the way back into `probe`."""

from brenier.scores.checkpoint import is_checkpoint, load, read_model
from brenier.scores.history import read_history
from brenier.scores.networks import Denoiser, Mlp, UNet
from brenier.scores.noise import NoiseLevels
from brenier.scores.training import train

__all__ = ["Denoiser", "Mlp", "NoiseLevels", "UNet", "is_checkpoint", "load", "read_history", "read_model", "train"]
