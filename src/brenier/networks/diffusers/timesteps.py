"""Noise levels handed to the samplers of other libraries.

A schedule counts noise by sigma in x = X + sigma Z. Schedulers of the diffusers library count it by

    alpha-bar table   x = sqrt(ab_t) X + sqrt(1-ab_t) Z      sigma = sqrt((1-ab_t)/ab_t), or the step t
    flow matching     x = (1 - s) X + s Z                    s = sigma/(1 + sigma) before it is shifted
    EDM               x = X + sigma Z                        where on Karras's grid sigma lies, from 0 to 1

and differ in what `set_timesteps` takes, in what they make of it, and in whether they add the end themselves. So every
form that may be meant is tried on a copy of the scheduler, and the levels that the copy then holds are compared with
those of the schedule.

Levels are not all: `pipeline` compares the start and the network, too.
"""

import copy
import inspect
import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brenier.networks.conventions import NoiseScale, ddpm_scale, known_snr
from brenier.networks.diffusers.pipeline import check_convention, check_start, start_noise
from brenier.networks.diffusers.scheduler import EDM, Convention, config_of, flows, is_one_of, quiet, read_scheduler

Levels = NDArray[np.float64]

EXACT = 1e-6  # relative change that float32 makes of a level that is handed over as it is
FRACTION = 1e-4  # the same of one that is handed over as a fraction of a step
ROUNDING = 0.05  # relative change that is accepted where only whole steps can be handed over
SPACINGS = (
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas"),
    *("shift_terminal", "sigma_schedule", "final_sigmas_type"),
)
IDLE = (False, None)
USUAL = {"sigma_schedule": "karras", "final_sigmas_type": "zero"}
REFUSALS = (ValueError, TypeError, AssertionError, AttributeError, IndexError, KeyError, RuntimeError)


def to_timesteps(
    sigmas: Sequence[float], alphas_cumprod: ArrayLike | Tensor, fractional: bool = False
) -> list[int] | list[float]:
    """The DDPM steps at the positive ones of these noise levels: sigma = sqrt((1 - ab_t)/ab_t).

    Args:
        sigmas: noise levels, descending; the last may be 0, which is no step of the chain.
        alphas_cumprod: alpha-bar at steps 0, 1, ...
        fractional: fractions of steps, between which log sigma is interpolated; else the nearest whole steps.

    Raises:
        ValueError: a level is beyond the table, or two have the same nearest step.
    """
    scale = ddpm_scale(alphas_cumprod)
    levels = _within(sigmas, 1 / scale.high, 1 / scale.low, "the table of alpha-bars")
    positive = levels[levels > 0].tolist()
    steps = [scale.level(1 / sigma)[2] for sigma in positive]
    if fractional:
        return steps
    whole = [round(step) for step in steps]
    for k in range(len(whole) - 1):
        if whole[k] == whole[k + 1]:
            raise ValueError(
                f"sigma = {positive[k]:.4g} and {positive[k + 1]:.4g} both lie nearest to step {whole[k]}: plan fewer "
                "steps, or take fractional=True where the sampler knows fractions of steps"
            )
    return whole


def to_k_diffusion(sigmas: Sequence[float], dtype: torch.dtype = torch.float32) -> Float[Tensor, " levels"]:
    """The noise levels as k-diffusion's samplers take them.

    Raises:
        ValueError: two levels are the same in this dtype.
    """
    levels = torch.tensor(sigmas, dtype=dtype)
    if not bool((levels.diff() < 0).all()):
        raise ValueError(f"two noise levels are the same in {dtype}: take torch.float64")
    return levels


def to_diffusers(
    sigmas: Sequence[float],
    scheduler: object,
    rounding: float = ROUNDING,
    *,
    convention: str | None = None,
    latent_scale: float | None = 1.0,
) -> dict[str, Any]:
    """What `set_timesteps` of this scheduler takes to visit these noise levels.

    Use it as `scheduler.set_timesteps(**arguments)`. The scheduler itself is left as it is.

    Args:
        sigmas: noise levels, descending; the last may be 0.
        scheduler: of the diffusers library.
        rounding: largest relative change of a noise level that is accepted where a scheduler knows whole steps only;
            how large it is, a warning tells.
        convention: of the network that is to be sampled, `Target.convention`. None: not known, and taken to be the
            scheduler's.
        latent_scale: what the noise that a pipeline takes as `latents` is multiplied by. None: it starts from noisy
            points at the first level, and not from noise.

    Returns:
        `sigmas` or `timesteps`, as the scheduler counts them; with them `mu` where it shifts levels dynamically, chosen
        so that it does not.

    Raises:
        ValueError: the scheduler takes neither, would visit other levels, would start from other noise than that of the
            first one, or was made for other levels or another network. The message says why.
        TypeError: it is no scheduler.
    """
    read = _read(scheduler)
    check_convention(scheduler, read, convention)
    arguments, trial, change = _fit(sigmas, scheduler, rounding, read)
    if latent_scale is not None:
        check_start(sigmas[0], trial, read, latent_scale)
    if change > FRACTION:
        warnings.warn(
            f"{type(scheduler).__name__} knows whole steps only: noise levels change by up to {change:.2g} of "
            "themselves",
            stacklevel=3,
        )
    return arguments


def latent_scale(sigmas: Sequence[float], scheduler: object, rounding: float = ROUNDING) -> float:
    """What unit noise has to be multiplied by to be a pipeline's `latents` at the first of these noise levels.

    A pipeline multiplies latents by the scheduler's `init_noise_sigma`, where there is one, and takes the product for
    noise of the first level.

    Raises:
        ValueError: as `to_diffusers`.
        TypeError: likewise.
    """
    read = _read(scheduler)
    starts, noise = start_noise(sigmas[0], _fit(sigmas, scheduler, rounding, read)[1], read)
    return noise / starts


def _read(scheduler: object) -> Convention:
    """What the scheduler says of a network."""
    title = type(scheduler).__name__
    if not config_of(scheduler) or not callable(getattr(scheduler, "set_timesteps", None)):
        raise TypeError(f"scheduler must be a diffusers scheduler, got {title}")
    if config_of(scheduler).get("invert_sigmas"):
        raise ValueError(f"{title} with invert_sigmas=True counts from noise to data: no noise levels fit it")
    return read_scheduler(scheduler, title)


def _fit(
    sigmas: Sequence[float], scheduler: object, rounding: float, read: Convention
) -> tuple[dict[str, Any], Any, float]:
    """Arguments for `set_timesteps`, a copy of the scheduler that was given them, the relative change of its levels."""
    title, config = type(scheduler).__name__, config_of(scheduler)
    setter: Any = getattr(scheduler, "set_timesteps", None)
    if not 0 <= rounding < math.inf:
        raise ValueError(f"rounding must be a finite number of at least 0, got {rounding}")
    taken = inspect.signature(setter).parameters.keys() & {"sigmas", "timesteps", "mu"}
    flow_only = "sigmas" in taken and "use_flow_sigmas" in config and not flows(scheduler)
    if flow_only:
        taken -= {"sigmas"}
    if not taken - {"mu"}:
        other = "FlowMatchEulerDiscrete" if flows(scheduler) else "EulerDiscrete"
        but = " (but for flow matching)" if flow_only else ""
        like = "EDMEuler" if is_one_of(scheduler, EDM) else other
        raise ValueError(
            f"{title}.set_timesteps takes neither sigmas{but} nor timesteps, only how many: make one that does, such "
            f"as {like}Scheduler.from_config(scheduler.config)"
        )
    levels = _within(sigmas, 1 / read.scale.high, 1 / read.scale.low, title)
    own = levels / (1 + levels) if flows(scheduler) else levels
    refusal = "would place its levels itself"
    for arguments, tolerance in _candidates(levels, own, scheduler, read.scale, taken, rounding):
        trial: Any = copy.deepcopy(scheduler)
        try:
            with quiet():
                trial.set_timesteps(**copy.deepcopy(arguments))
        except REFUSALS as error:
            refusal = f"refuses: {' '.join(str(error).split())[:200]}"
            continue
        change, refusal = _compare(own, trial, tolerance)
        if not refusal:
            return arguments, trial, change
    options = [
        f"{name}={config[name]!r}" for name in SPACINGS if config.get(name, False) not in (*IDLE, USUAL.get(name))
    ]
    raise ValueError(f"{title}{' with ' + ', '.join(options) if options else ''} {refusal}")


def _candidates(
    levels: Levels, own: Levels, scheduler: Any, scale: NoiseScale, taken: set[str], rounding: float
) -> Generator[tuple[dict[str, Any], float]]:
    """What may be meant by `sigmas` and `timesteps`, and the relative change that each may bring; likeliest last."""
    config = config_of(scheduler)
    if "sigmas" in taken:
        neutral = {"exponential": 0.0, "linear": 1.0}.get(config.get("time_shift_type", ""))
        shifts = {"mu": neutral} if "mu" in taken and config.get("use_dynamic_shifting") else {}
        for form in _forms(own, scheduler, config):
            for given in (form, form[:-1]):
                yield {"sigmas": given, **shifts}, EXACT
    if "timesteps" in taken and not flows(scheduler):
        positive = levels[levels > 0]
        whole = [round(scale.level(1 / sigma)[2]) for sigma in positive]
        table = _table(scheduler)
        yield {"timesteps": whole}, EXACT
        yield {"timesteps": np.interp(positive, table, np.arange(len(table))).tolist()}, FRACTION
        yield {"timesteps": whole}, rounding


def _forms(own: Levels, scheduler: Any, config: Mapping[str, Any]) -> Generator[Any]:
    """Levels in the type that the scheduler computes with, as they are and with its shift undone."""
    if is_one_of(scheduler, EDM):
        start, end, sigmas = (np.power(x, 1 / config["rho"]) for x in (config["sigma_max"], config["sigma_min"], own))
        yield torch.from_numpy((sigmas - start) / (end - start))
    elif config.get("use_flow_sigmas"):
        yield _unshifted(own, config["flow_shift"])
    else:
        yield own.tolist()
        if flows(scheduler) and not config.get("use_dynamic_shifting"):
            yield _unshifted(own, getattr(scheduler, "shift", 1.0)).tolist()


def _unshifted(s: Levels, shift: float) -> Levels:
    """u whose shift u/(1 + (shift - 1) u) is s."""
    return s / (shift - (shift - 1) * s)


def _table(scheduler: Any) -> Levels:
    """Sigma at steps 0, 1, ... of a scheduler with a table."""
    bars = scheduler.alphas_cumprod.cpu().double().numpy()
    return np.sqrt((1 - bars) / bars)


def _compare(own: Levels, trial: Any, tolerance: float) -> tuple[float, str]:
    """How far the levels in a scheduler are from those that were meant, and why that will not do; else nothing."""
    if hasattr(trial, "sigmas"):
        held = trial.sigmas.cpu().double().numpy()
        if trial.order == 2:  # every level between the ends is there twice
            held = np.concatenate([held[:1], held[1:-1:2], held[-1:]])
    else:
        held = np.append(_table(trial)[trial.timesteps.cpu().numpy()], 0.0)
    if len(held) != len(own):
        return math.inf, f"would take {len(held) - 1} steps instead of {len(own) - 1}, and end at {held[-1]:.4g}"
    if (held[-1] == 0) != (own[-1] == 0):
        return math.inf, f"ends at {held[-1]:.4g}, and the schedule at {own[-1]:.4g}"
    change = np.abs(np.divide(held, own, out=np.ones_like(own), where=own > 0) - 1)
    worst = int(np.argmax(change))
    if not change[worst] <= tolerance:
        return math.inf, (
            f"would visit {held[worst]:.4g} instead of {own[worst]:.4g}, a relative change of {change[worst]:.2g}, and "
            f"{tolerance:g} is accepted"
        )
    times = trial.timesteps[:: trial.order]
    if len(torch.unique(times)) < len(times):
        return math.inf, "would tell the network the same time at two levels"
    return float(change[worst]), ""


def _within(sigmas: Sequence[float], low: float, high: float, what: str) -> Levels:
    """The levels, those outside by rounding only moved to the end that they miss."""
    for sigma in sigmas:
        if sigma > 0 and known_snr(1 / sigma, 1 / high, 1 / low) is None:
            raise ValueError(
                f"{what} covers sigma from {low:.4g} to {high:.4g}, and the schedule goes to {sigma:.4g}: plan with "
                "sigma_max and sigma_min within"
            )
    levels = np.asarray(sigmas, dtype=np.float64)
    return np.where(levels > 0, levels.clip(low, high), 0.0)
