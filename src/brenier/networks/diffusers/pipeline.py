"""What a pipeline of diffusers makes of a plan, besides its levels: where it starts, and which network it runs.

A pipeline starts from noise of deviation `init_noise_sigma`, 1 where a scheduler has none, whatever the first level is:
EDM's from sigma_max, flow matching from s = 1. And a scheduler makes noisy points in its own way, which has to be that
of the network's training.
"""

from typing import Any

import torch

from brenier.networks.conventions import ROUNDED, check_prediction
from brenier.networks.diffusers.scheduler import Convention, config_of, flows, says

START = 0.01  # accepted relative change between the noise that a pipeline starts from and that of the first level


def start_noise(sigma: float, trial: Any, read: Convention) -> tuple[float, float]:
    """Deviations of the noise that a pipeline starts from and of that at the first level, as this scheduler has it."""
    noise = read.scale.level(1 / sigma)[1]
    if read.prediction != "edm" and hasattr(trial, "scale_model_input"):
        # Some schedulers keep X + sigma Z, and scale it for the network.
        noise /= float(trial.scale_model_input(torch.ones(1), trial.timesteps[0]))
    return float(getattr(trial, "init_noise_sigma", 1.0)), noise


def check_start(sigma: float, trial: Any, read: Convention, latent_scale: float) -> None:
    """Refuse a first level that a pipeline does not start from, with its latents multiplied by `latent_scale`."""
    starts, noise = start_noise(sigma, trial, read)
    top = 1 / read.scale.low
    usual = latent_scale == 1 and sigma >= top * (1 - ROUNDED[0]) and not flows(trial)  # where it starts by itself
    if usual or abs(latent_scale * starts / noise - 1) <= START:
        return
    remedy = f"multiply latents by {noise / starts:.4g} and give latent_scale={noise / starts:.4g}"
    if not flows(trial) or 1 / top <= START:
        remedy = f"plan with sigma_max={top:.6g}, or {remedy}"
    raise ValueError(
        f"with {type(trial).__name__} a pipeline starts from noise of deviation {latent_scale * starts:.4g}, and the "
        f"schedule, at sigma = {sigma:.4g}, from {noise:.4g}: {remedy}"
    )


def check_convention(scheduler: object, read: Convention, convention: str | None) -> None:
    """Refuse a scheduler of networks that predict something else, or from something else."""
    check_prediction(read.prediction, read.scale)
    if convention is None and config_of(scheduler).get("use_flow_sigmas") and read.prediction != "velocity":
        raise ValueError(
            f"{says(scheduler)} and use_flow_sigmas=True: few networks predict that from (1 - s) X + s Z: leave "
            "use_flow_sigmas out, take prediction_type='flow_prediction', or give network="
        )
    if convention not in (None, read.name):
        raise ValueError(
            f"the network is {convention}, and {type(scheduler).__name__} takes it for {read.name}: make one from the "
            "configuration of the network's own scheduler, or give network= where the plan was for another one"
        )
