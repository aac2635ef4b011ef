"""Denoisers of the diffusers library as laws: a model and the scheduler that it was trained with, or a folder of them.

The scheduler says what the network is given and what it returns (`schedulers`); the model's configuration and signature
say how it is called and what it needs beside the noisy point. A folder is read by class names of diffusers: weights in
safetensors only, and no code from it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from brenier.core.extras import library
from brenier.core.points import Numbers
from brenier.core.reading.files import read_json
from brenier.core.reading.plain import plain
from brenier.laws.base import Target
from brenier.networks.conventions import Prediction
from brenier.networks.diffusers.folders import WEIGHTS, parts_of
from brenier.networks.diffusers.scheduler import config_of, quiet, read_scheduler, says
from brenier.networks.network import NetworkTarget
from brenier.networks.placing import uncompiled

# What a model's configuration says about the arguments that it cannot do without, beyond those without a default.
NEEDS = {
    "class_embed_type": "class_labels",
    "num_class_embeds": "class_labels",
    "num_embeds_ada_norm": "class_labels",
    "addition_embed_type": "added_cond_kwargs",
    "use_additional_conditions": "added_cond_kwargs",
    "joint_attention_dim": "encoder_hidden_states",
    "cross_attention_dim": "encoder_hidden_states",
    "caption_channels": "encoder_hidden_states",
    "pooled_projection_dim": "pooled_projections",
    "axes_dims_rope": "img_ids",
    "guidance_embeds": "guidance",
}
CONVENTIONS = {"time", "alpha_bars", "beta", "sigma_data", "scale"}  # options that take the place of a scheduler


class _Denoiser(nn.Module):
    """A diffusers model as a function of (x, t) and its conditions: a learned variance is left aside."""

    def __init__(self, model: nn.Module, sign: int) -> None:
        super().__init__()
        self.model, self.sign = model, sign
        self.by_keyword = "timestep" in _arguments(model)

    def forward(self, x: Tensor, t: Tensor, **condition: Any) -> Any:
        try:
            if self.by_keyword:
                output = self.model(x, timestep=t, **condition, return_dict=False)
            else:
                output = self.model(x, t, **condition, return_dict=False)
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"{type(self.model).__name__} cannot be called with this condition: {line}") from error
        output = output[0] if isinstance(output, tuple | list) else output
        if isinstance(output, Tensor) and output.shape[1:] == (2 * x.shape[1], *x.shape[2:]):
            output = output[:, : x.shape[1]]
        return self.sign * output if isinstance(output, Tensor) else output


def from_diffusers(
    model: object,
    scheduler: object = None,
    *,
    condition: Mapping[str, Any] | None = None,
    unconditional: Mapping[str, Any] | None = None,
    guidance: float = 1.0,
    data: Target | Numbers | None = None,
    event_shape: Sequence[int] | None = None,
    prediction: Prediction | None = None,
    name: str | None = None,
    **options: Any,
) -> NetworkTarget:
    """The law that a diffusers model has learned.

    Where the output has twice the channels of the input, the second half is a learned variance and left aside.

    Args:
        model: a denoiser (`UNet2DModel`, `UNet2DConditionModel`, `DiTTransformer2DModel`, `SD3Transformer2DModel`, ...)
            or any module called as model(x, t, return_dict=False)[0]; or a pipeline, whose `unet` or `transformer` is
            taken.
        scheduler: the noise it was trained with. Default: that of the pipeline; without one, `prediction`
            and `time` or `scale` say the same, as for `NetworkTarget`.
        condition: keyword arguments for the model, such as `encoder_hidden_states` or `class_labels`; see
            `NetworkTarget`, also for the two that follow. What holds no numbers is passed as it is.
        unconditional: the same without a condition. Default: the label that DiT keeps for that.
        guidance: weight of classifier-free guidance, 1 for none.
        data: what queries are drawn from, as for `NetworkTarget`; for a model of latents, latents.
        event_shape: shape of one point. Default: (in_channels, height, width) of the model's configuration; where that
            does not tell, as for models in one or three dimensions, that of the data, channels first.
        prediction: what the model returns, where no scheduler says so.
        name: what to call the law. Default: the class of the model or pipeline.
        **options: further arguments of `NetworkTarget`.

    Raises:
        ValueError: a scheduler that says nothing of posterior means, conditions missing or unknown, shapes that do not
            fit. The message says what would be right.
        TypeError: `model` or `scheduler` is neither.
    """
    network, scheduler = _parts(model, scheduler)
    original = uncompiled(network)
    name = name or type(original if model is network else model).__name__
    network = cast(nn.Module, original)
    title, config = type(network).__name__, config_of(network)
    _check_channels(title, config, event_shape)
    condition = _check_condition(network, config, dict(condition or {}))
    if unconditional is None and config.get("num_embeds_ada_norm") and guidance != 1:
        unconditional = {**condition, "class_labels": config["num_embeds_ada_norm"]}
    if unconditional is not None:
        unconditional = _check_condition(network, config, dict(unconditional))
    given = sorted(CONVENTIONS & options.keys())
    sign = 1
    if scheduler is None:
        if prediction is None or not {"time", "scale"} & options.keys():
            raise ValueError(f"{title} needs the scheduler it was trained with: give scheduler, or prediction and time")
    elif given:
        raise ValueError(f"the scheduler says how noise is counted: leave {' and '.join(given)} out, or the scheduler")
    else:
        read = read_scheduler(scheduler, title)
        if prediction not in (None, read.prediction):
            raise ValueError(f'prediction is "{prediction}", but {says(scheduler)}: leave prediction out')
        prediction, sign = read.prediction, read.sign
        options = {**options, "scale": read.scale, "sigma_data": read.sigma_data}
    law = NetworkTarget(
        _Denoiser(network, sign),
        data,
        condition=condition,
        unconditional=unconditional,
        guidance=guidance,
        prediction=prediction,
        event_shape=_default_shape(title, config, data) if event_shape is None else event_shape,
        name=name,
        **options,
    )
    if scheduler is not None:
        # As schedulers count time: some pipelines divide it before their network is told.
        read = read_scheduler(scheduler, "")
        law.convention, law.course = read.name, read.course(*law.snr_range)
    return law


def _parts(model: Any, scheduler: object) -> tuple[nn.Module, object]:
    """The network and the scheduler, out of a pipeline too."""
    if isinstance(model, nn.Module):
        return model, scheduler
    found = [getattr(model, part, None) for part in ("unet", "transformer")]
    networks = [part for part in found if isinstance(part, nn.Module)]
    if not hasattr(model, "scheduler"):
        raise TypeError(f"model must be a torch module or a diffusers pipeline, got {type(model).__name__}")
    if len(networks) != 1 or getattr(model, "transformer_2", None) is not None:
        raise ValueError(
            f"{type(model).__name__} has not one denoiser in unet or transformer: give the network and its scheduler"
        )
    return networks[0], model.scheduler if scheduler is None else scheduler


# What a model takes


def _default_shape(title: str, config: dict[str, Any], data: Target | Numbers | None) -> tuple[int, ...]:
    channels, size = config.get("in_channels"), config.get("sample_size")
    axes = next((int(name[0]) + 1 for name in ("1D", "2D", "3D") if name in title), None)
    if channels is not None and size is not None and axes in (None, 3):
        return (channels, size, size) if isinstance(size, int) else (channels, *size)
    if data is None:
        raise ValueError(f"{title} does not tell the shape of its points: give data or event_shape (--data or --shape)")
    shape = data.event_shape if isinstance(data, Target) else plain(data, "data").shape[1:]
    return _channels_first(shape, channels, axes)


def _channels_first(shape: tuple[int, ...], channels: int | None, axes: int | None) -> tuple[int, ...]:
    """The shape of data as a network of so many channels and axes takes it: as it is where that is not clear."""
    if channels is not None and shape[0] != channels and shape[-1] == channels and axes in (None, len(shape)):
        return (channels, *shape[:-1])
    if channels == 1 and shape[0] != 1 and axes in (None, len(shape) + 1):
        return (1, *shape)
    return shape


def _check_channels(title: str, config: dict[str, Any], event_shape: Sequence[int] | None) -> None:
    into = config.get("in_channels")
    if into is None:
        return
    out = config.get("out_channels") or into
    if into > out:
        raise ValueError(
            f"{title} takes {into} channels and predicts {out}: the others are an image that it is conditioned on "
            "(inpainting, editing), which is not supported"
        )
    if out not in (into, 2 * into):
        raise ValueError(
            f"{title} takes {into} channels and predicts {out}: it must predict as many, or twice as many where the "
            "variance is learned"
        )
    if event_shape is not None and into not in event_shape:
        raise ValueError(f"{title} takes points with {into} channels, event_shape is {tuple(event_shape)}")


def _arguments(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters


def _check_condition(network: nn.Module, config: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any]:
    title, arguments = type(network).__name__, _arguments(network)
    kinds = inspect.Parameter
    optional = [key for key in list(arguments)[1:] if key not in ("timestep", "return_dict")]
    unknown = [key for key in condition if key not in optional]
    if unknown and not any(argument.kind == kinds.VAR_KEYWORD for argument in arguments.values()):
        raise ValueError(f"{title} takes no {unknown[0]!r}: conditions are {', '.join(optional) or 'not for it'}")
    needed = {
        argument
        for key, argument in NEEDS.items()
        if argument in arguments and config.get(key) and not (key == "addition_embed_type" and config[key] == "text")
    }
    if "timestep" in arguments:
        plain = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        needed |= {key for key in optional if arguments[key].default is kinds.empty and arguments[key].kind in plain}
    if missing := sorted(needed - condition.keys()):
        classes = config.get("num_class_embeds") or config.get("num_embeds_ada_norm")
        which = f", of 0 to {classes - 1}" if classes and missing[0] == "class_labels" else ""
        raise ValueError(
            f"{title} is conditional: give condition={{{', '.join(f'{key!r}: ...' for key in missing)}}}"
            f" (--condition {missing[0]}=...{which})"
        )
    return condition


# Folders


def load_diffusers(
    path: str | os.PathLike[str],
    *,
    data: Target | Numbers | None = None,
    **options: Any,
) -> NetworkTarget:
    """The law that a model in a folder has learned, as saved by `save_pretrained`; nothing is downloaded or unpickled.

    Args:
        path: folder of a pipeline, of which the `unet` or `transformer` and the `scheduler` are loaded; of a training's
            checkpoint, likewise, whose scheduler may lie in a folder `scheduler` beside it; or of a model, with
            scheduler_config.json in it, in a folder `scheduler` in it, or in one beside it or what it is in.
        data: see `from_diffusers`.
        **options: further arguments of `from_diffusers`. With `scheduler`, or with `time` or `scale`, no scheduler is
            loaded.

    Raises:
        ValueError: files are missing or damaged, or hold no model and scheduler of diffusers; all that `from_diffusers`
            raises.
    """
    model_folder, places = parts_of(path)
    options = {"name": Path(path).resolve().name, **options}
    with quiet():
        model = _load_model(model_folder)
        if not {"scheduler", "time", "scale"} & options.keys():
            options["scheduler"] = load_scheduler(places)
    return from_diffusers(model, data=data, **options)


def _class(file: Path, base: str) -> Any:
    """The class that a configuration names: one of diffusers, and of the right kind."""
    config = read_json(file)
    below: object = config.get("trained_with")
    name: object = (cast(dict[str, Any], below) if isinstance(below, dict) else config).get("_class_name")
    diffusers = library("diffusers", "diffusers", "models of diffusers")
    found = getattr(diffusers, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not isinstance(found, type) or not issubclass(found, getattr(diffusers, base)):
        kind = "model" if base == "ModelMixin" else "scheduler"
        raise ValueError(f"{str(file)!r}: {name!r} is no {kind} of diffusers {diffusers.__version__}")
    return found


def _load_model(folder: Path) -> nn.Module:
    found = _class(folder / "config.json", "ModelMixin")
    files = sorted(file.name for file in folder.glob(f"{WEIGHTS}*.safetensors*"))
    if not files:
        if any(folder.glob(f"{WEIGHTS}*.bin")):
            raise ValueError(
                f"{str(folder)!r} has its weights in .bin files, which can run code when opened: if you trust them, "
                "convert them with from_pretrained(..., use_safetensors=False).save_pretrained(...)"
            )
        raise ValueError(f"{str(folder)!r} has no weights: {WEIGHTS}.safetensors is missing")
    plain = any((folder / f"{WEIGHTS}.safetensors{end}").is_file() for end in ("", ".index.json"))
    from diffusers.utils.import_utils import is_accelerate_available
    from safetensors import SafetensorError

    try:
        model, report = found.from_pretrained(
            str(folder),
            variant=None if plain else files[0].split(".")[1].split("-")[0],  # such as fp16
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=is_accelerate_available(),
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(f"{str(folder)!r}: diffusers cannot load the model: {line}") from error
    if missing := report["missing_keys"]:
        raise ValueError(f"{str(folder)!r}: the weights lack {len(missing)} parameters, {missing[0]!r} among them")
    return model


def load_scheduler(places: Sequence[Path]) -> object:
    """The scheduler in the first of these folders that has one; beneath an installed schedule the network's own.

    Raises:
        ValueError: none has one of diffusers.
    """
    for place in places:
        file = place / "scheduler_config.json"
        if file.is_file():
            try:
                config = read_json(file)
                below: Any = config.get("trained_with")  # beneath a schedule that was installed
                return _class(file, "SchedulerMixin").from_config(below if isinstance(below, dict) else config)
            except (TypeError, ValueError, NotImplementedError, KeyError) as error:
                line = " ".join(str(error).split())[:200]
                raise ValueError(line if str(file) in line else f"{str(file)!r}: {line}") from None
    shown = ", ".join(repr(str(place)) for place in places)
    raise ValueError(f"no scheduler_config.json in {shown}: save the scheduler there, or give scheduler")
