"""What a scheduler of the diffusers library says of the network that was trained with it.

Its class and configuration tell what the network is given and what it returns:

    alpha-bar table   x = sqrt(ab_t) X + sqrt(1-ab_t) Z, t = step          epsilon, sample, v_prediction
    EDM               x = c_in (X + sigma Z), t = log(sigma)/4             F, or -F where it says v_prediction
      (cosine)        the same                 t = 2 atan(sigma)/pi
    flow matching     x = (1 - s) X + s Z,     t = steps s, or s           flow_prediction (Z - X), and those above
    VE score          x = X + sigma Z,         t = sigma                   score

What samplers do besides is no part of the law: `clip_sample`, `thresholding`, and how they space their steps. A `shift`
or Karras sigmas choose noise levels and not the t that belongs to one; of these, only `shift` enters the range of SNRs.
"""

import math
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from torch import Tensor

from brenier.core.extras import library
from brenier.laws.course import SAME, Course
from brenier.networks.conventions import (
    NoiseScale,
    Prediction,
    ddpm_scale,
    describe,
    edm_coefficients,
    edm_scale,
    flow_scale,
    posterior_mean,
    sigma_scale,
)

TABLE = {
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler"),
    *("PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler", "UnCLIPScheduler"),
    *("DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"),
    *("SASolverScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "RePaintScheduler"),
    *("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"),
}
EDM = {"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"}
FLOW = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "LTXEulerAncestralRFScheduler"}
DISTILLED = {
    *("LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "SCMScheduler", "FlowMatchLCMScheduler"),
    *("FlowMapEulerDiscreteScheduler", "PiflowScheduler"),
}
WIDEST = 20.0  # logarithm of noise levels beyond which there is nothing but noise, or none
ALIKE = 1e-6  # relative difference at which times are the same; of levels, a thousandth of it
PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "sample": "x0",
    "original_sample": "x0",
    "v_prediction": "v",
    "flow_prediction": "velocity",
}
# Transformers whose pipelines pass t/1000, and those whose pipelines turn time round and negate the output.
TOLD_SIGMA = {
    *("FluxTransformer2DModel", "Flux2Transformer2DModel", "ChromaTransformer2DModel", "AuraFlowTransformer2DModel"),
    *("QwenImageTransformer2DModel", "LongCatImageTransformer2DModel", "OvisImageTransformer2DModel"),
}
BACKWARD = {
    *("LuminaNextDiT2DModel", "Lumina2Transformer2DModel", "ZImageTransformer2DModel", "MochiTransformer3DModel")
}


@dataclass(frozen=True)
class Convention:
    """What a network predicts, at which noise levels, and how it is told them.

    Attributes:
        prediction: see `conventions.posterior_mean`.
        scale: the noise levels of training.
        sigma_data: of EDM's preconditioning, where `prediction` is "edm".
        sign: that the network's output has to be multiplied by.
        levels: sigma at the steps of a table, descending.
    """

    prediction: Prediction
    scale: NoiseScale
    sigma_data: float | None = None
    sign: int = 1
    levels: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """All of it in words; see `conventions.describe`."""
        return describe(self.prediction, self.scale, self.sigma_data, self.sign)

    def seen(self, sigma: float) -> tuple[float, float]:
        """What X + sigma Z is multiplied by for the network to see it, and the time that the network is told."""
        alpha, _, t = self.scale.level(1 / sigma)
        return (alpha if self.sigma_data is None else edm_coefficients(sigma, self.sigma_data)[2]), t

    def sigma(self, t: float) -> float:
        """The noise level that the network takes this time for; inf: no signal, NaN: no time of its own.

        Between steps of a table log sigma is interpolated, as the network is told times.
        """
        if self.levels is not None:
            last = len(self.levels) - 1
            if not 0 <= t <= last:  # one step beyond the usable ones has no signal
                return math.inf if t == last + 1 else math.nan
            return float(np.exp(np.interp(t, np.arange(last + 1), np.log(self.levels[::-1]))))
        low, high = -WIDEST, WIDEST  # of log sigma, in which t grows
        ends = [self.scale.level(math.exp(-u))[2] for u in (low, high)]
        if not ends[0] - ALIKE <= t <= ends[1] * (1 + ALIKE):
            return math.nan
        if t >= ends[1] * (1 - ALIKE / 100):
            return math.inf
        while high - low > ALIKE / 1000:
            middle = (low + high) / 2
            low, high = (middle, high) if self.scale.level(math.exp(-middle))[2] < t else (low, middle)
        return math.exp(high)

    def clean(self, output: Float[Tensor, "*n"], seen: Float[Tensor, "*n"], sigma: float) -> Float[Tensor, "*n"]:
        """E[X | X + sigma Z] from what the network made of its input `seen`."""
        alpha, noise, _ = self.scale.level(1 / sigma)
        if self.sigma_data is None:
            return posterior_mean(self.prediction, self.sign * output, seen, alpha, noise)
        skip, out, into = edm_coefficients(sigma, self.sigma_data)
        return skip / into * seen + self.sign * out * output

    def course(self, low: float, high: float) -> Course:
        """How pipelines go with a network that covers these SNRs of the scale.

        They begin with noise of deviation 1 in the noisy variable alpha X + sigma Z where alpha falls with the SNR, and
        of deviation sigma where it does not. Where a range leaves out the top, what they begin with there is not known.
        """
        alpha, sigma, _ = self.scale.level(low)
        ends = 1 / high * (1 - SAME), 1 / low * (1 + SAME)
        middle = math.sqrt(self.scale.low * self.scale.high)
        return Course(
            1 / low,
            1 / high,
            noise=None if low > self.scale.low else (1 / alpha if alpha < 1 else sigma),
            levels=self.levels and tuple(level for level in self.levels if ends[0] <= level <= ends[1]),
            shift=1 / middle if abs(sum(self.scale.level(middle)[:2]) - 1) < SAME else None,
        )


def config_of(part: object) -> dict[str, Any]:
    """The configuration of a model or scheduler; empty where it has none."""
    config: Any = getattr(part, "config", None)
    return dict(config) if isinstance(config, Mapping) else dict(vars(config)) if hasattr(config, "__dict__") else {}


def is_one_of(scheduler: object, kinds: set[str]) -> bool:
    """Whether it is of one of these classes, or of one that is made from them."""
    return any(base.__name__ in kinds for base in type(scheduler).__mro__)


def flows(scheduler: object) -> bool:
    """Whether it walks (1 - s) X + s Z."""
    return is_one_of(scheduler, FLOW) or bool(config_of(scheduler).get("use_flow_sigmas"))


def says(scheduler: object) -> str:
    """The prediction type of a scheduler, in words for an error."""
    return f"{type(scheduler).__name__} has prediction_type {config_of(scheduler).get('prediction_type')!r}"


def read_scheduler(scheduler: object, title: str) -> Convention:
    """What `scheduler` says of a network of the class `title`.

    Raises:
        ValueError: the scheduler, or its configuration, says nothing of posterior means.
        TypeError: it is no scheduler.
    """
    scheduler = getattr(scheduler, "trained", scheduler)  # beneath a schedule that is installed
    config = config_of(scheduler)
    if not config:
        raise TypeError(f"scheduler must be a diffusers scheduler, got {type(scheduler).__name__}")
    names = {base.__name__ for base in type(scheduler).__mro__}
    if names & EDM:
        return _read_edm(scheduler, config, "CosineDPMSolverMultistepScheduler" in names)
    if "ScoreSdeVeScheduler" in names:
        low, high = 1 / config["sigma_max"], 1 / config["sigma_min"]
        return Convention("score", replace(sigma_scale(), low=low, high=high))
    if names & FLOW:
        return Convention("velocity", _flow(config, title))
    if names & TABLE:
        kind = config.get("prediction_type", "epsilon")
        if kind not in PREDICTIONS:
            raise ValueError(f"{says(scheduler)}: it must be one of {', '.join(PREDICTIONS)}")
        if config.get("use_flow_sigmas"):
            return Convention(PREDICTIONS[kind], _flow(config, title))
        bars = cast(Tensor, cast(Any, scheduler).alphas_cumprod).clone()
        if config.get("rescale_betas_zero_snr"):
            bars[-1] = 0.0  # which some schedulers have as 2^-24, more than the step before
        table = ddpm_scale(bars)
        if config.get("timestep_type") == "continuous" and kind == "v_prediction":
            return Convention("v", _continuous(config, table))
        usable = bars[bars > 0].double()
        levels = ((1 - usable) / usable).sqrt().flip(0).tolist()
        return Convention(PREDICTIONS[kind], table, levels=tuple(levels))
    refused = type(scheduler).__name__
    if names & DISTILLED:
        raise ValueError(
            f"{refused} belongs to distilled models, which predict where a trajectory ends and no posterior mean: give "
            "the model that was distilled, with its own scheduler"
        )
    raise ValueError(
        f"{refused} is not a scheduler that brenier can read: give one with a table of alpha-bars (DDPM, DDIM, Euler, "
        "...), EDM, flow matching or ScoreSdeVe; or leave it out and give prediction, and time or scale"
    )


def _read_edm(scheduler: object, config: dict[str, Any], cosine: bool) -> Convention:
    signs = {"epsilon": 1, "v_prediction": -1}
    if config["prediction_type"] not in signs:
        raise ValueError(f"{says(scheduler)}: with EDM preconditioning it must be epsilon or v_prediction")
    scale = edm_scale()
    if cosine:
        scale = replace(scale, level=lambda r: (1.0, 1 / r, 2 / math.pi * math.atan(1 / r)), name="2 atan(sigma)/pi")
    scale = replace(scale, low=1 / config["sigma_max"], high=1 / config["sigma_min"])
    return Convention("edm", scale, float(config["sigma_data"]), signs[config["prediction_type"]])


def _flow(config: dict[str, Any], title: str) -> NoiseScale:
    """t = steps s at the s in training, k/steps shifted; s = 1 has no signal and is left aside."""
    if title in BACKWARD or config.get("invert_sigmas"):
        raise ValueError(
            f"{title} counts time from noise to data: leave the scheduler out, and give prediction and scale for a "
            "module that turns time and sign round"
        )
    steps = config["num_train_timesteps"]
    if not steps >= 3:
        raise ValueError(f"the scheduler has num_train_timesteps {steps}: it must be at least 3")
    shift = 1.0 if config.get("use_dynamic_shifting") else config.get("shift") or config.get("flow_shift") or 1.0
    scale = flow_scale(1.0 if title in TOLD_SIGMA else steps)
    return replace(scale, low=1 / (steps - 1) / shift, high=(steps - 1) / shift)


def _continuous(config: dict[str, Any], table: NoiseScale) -> NoiseScale:
    """EulerDiscreteScheduler with timestep_type "continuous": the noisy variable of the table, told log(sigma)/4."""

    def level(r: float) -> tuple[float, float, float]:
        return r / math.hypot(r, 1), 1 / math.hypot(r, 1), -math.log(r) / 4

    low = 1 / config["sigma_max"] if config.get("sigma_max") else table.low
    high = 1 / config["sigma_min"] if config.get("sigma_min") else table.high
    return NoiseScale(level, low, high, "log(sigma)/4")


@contextmanager
def quiet() -> Generator[None]:
    """No progress bars, deprecations and advice from diffusers, nor what it thinks of a form not meant for it.

    Raises:
        ValueError: diffusers cannot be imported.
    """
    logging = library("diffusers.utils", "diffusers", "models of diffusers").logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
