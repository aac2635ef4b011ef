"""A trained network in a folder, read; `brenier.training.checkpoint` writes it.

config.json            what it is, readable: format, data, network, noise levels, training settings
model.safetensors      the averaged weights: what `load` reads
state.safetensors      weights, their average, Adam's moments, the step, the losses: what a resumed run reads
history.csv            loss per SNR band
"""

import math
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from brenier.core.points import Numbers
from brenier.core.reading.files import exists, line, read_json
from brenier.laws.base import Target
from brenier.networks.architectures import Denoiser, Velocity, build
from brenier.networks.flow import FlowTarget
from brenier.networks.network import NetworkTarget
from brenier.networks.noise_levels import FlowTimes, levels_of

FORMAT = "brenier-network"
VERSION = 1
CONFIG = "config.json"
MODEL = "model.safetensors"
INDEPENDENT = "independent"  # pairs of a flow that is a posterior mean
COVERED = 0.999  # share of the training noise levels that a loaded network answers for


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder that `brenier.train` wrote, of this or another version."""
    try:
        return _config_of(Path(path)).get("format") == FORMAT
    except ValueError:
        return False


def load(
    path: str | os.PathLike[str],
    data: Target | Numbers | None = None,
    condition: Mapping[str, Any] | None = None,
    guidance: float | None = None,
) -> NetworkTarget:
    """Load a trained network as a law that can be probed.

    Args:
        path: the folder that `train` wrote.
        data: what the network was trained on, or other data to draw queries from: a law, or points.
        condition: of a network with classes, class_labels: the numbers of those that it is asked for. Default: all, in
            turn.
        guidance: weight of classifier-free guidance, see `brenier.networks.conditions`, of a network that was trained
            without some of the labels. Default: 1, none.

    Returns:
        A `NetworkTarget`, of a flow a `FlowTarget`, on the CPU; as a denoiser it answers for the SNRs which hold 99.9%
        of the training noise levels.

    Raises:
        ValueError: a file is missing, damaged, or of another version of the format; guidance of a network that always
            knew the labels.
    """
    folder = Path(path)
    config = read_config(folder)
    with readable(folder / CONFIG):
        levels = levels_of(config["noise"])
        low, high = levels.interval(COVERED)
        coupled = config["training"].get("pairs") != INDEPENDENT
        dropped = config["training"].get("drop_labels") is not None
        classes = int(config["network"].get("classes", 0)) - dropped
        origin = config["data"].get("origin")
        if origin is not None:
            origin = torch.tensor(origin, dtype=torch.float64).reshape(math.prod(config["data"]["event_shape"]))
    if guidance not in (None, 1) and not dropped:
        raise ValueError(f"{str(folder)!r} was never trained without labels: train it with --drop-labels to guide it")
    about: dict[str, Any] = {
        "event_shape": tuple(config["data"]["event_shape"]),
        "snr_range": (1 / high, 1 / low),
        "origin": origin,
        "name": line(folder.resolve().name),
        "condition": condition if condition or not classes else {"class_labels": torch.arange(classes)},
        "unconditional": {"class_labels": classes} if dropped else None,
        "guidance": 1.0 if guidance is None else guidance,
    }
    if isinstance(levels, FlowTimes):
        return FlowTarget(read_model(folder), data, coupled=coupled, **about)
    return NetworkTarget(read_model(folder), data, prediction="x0", time="sigma", **about)


def has_classes(path: Path) -> bool:
    """Whether a folder holds a network that was trained here, and is told classes."""
    return is_checkpoint(path) and bool(dict(_config_of(path).get("network") or {}).get("classes"))


def read_model(path: str | os.PathLike[str]) -> Denoiser | Velocity:
    """The averaged network in a checkpoint, on the CPU, in evaluation mode.

    Where the data lay far from zero, it is that of the data less `origin` of the config.

    Raises:
        ValueError: as `load`.
    """
    folder = Path(path)
    config = read_config(folder)
    with readable(folder / CONFIG):
        model = empty_model(config)
    tensors = read_tensors(folder / MODEL)
    _fill(model, tensors, folder / MODEL)
    return model.eval().requires_grad_(False)


def empty_model(config: dict[str, Any]) -> Denoiser | Velocity:
    """The denoiser or the velocity that a config describes, around zero and before its weights are filled in."""
    shape = tuple(config["data"]["event_shape"])
    kind = Velocity if isinstance(levels_of(config["noise"]), FlowTimes) else Denoiser
    return kind(build(config["network"], shape), torch.zeros(shape), float(config["data"]["sigma_data"]))


def _fill(module: nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    """Copy `tensors` into the parameters and buffers of those names."""
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise ValueError(f"{str(file)!r} does not fit {CONFIG}: it holds no {name!r}")
        if tensors[name].shape != tensor.shape:
            shapes = f"{tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
            raise ValueError(f"{str(file)!r} does not fit {CONFIG}: {name!r} has shape {shapes}")
    for name in tensors.keys() - own.keys():
        raise ValueError(f"{str(file)!r} does not fit {CONFIG}: there is no place for {name!r}")
    module.load_state_dict(tensors)


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a checkpoint.

    Raises:
        ValueError: it is missing, damaged, not ours, or of another version.
    """
    file = folder / CONFIG
    config = _config_of(folder)
    if config.get("format") != FORMAT:
        raise ValueError(f"{str(folder)!r} is not a network that brenier trained: its {CONFIG} is of another format")
    if config.get("version") != VERSION:
        found = config.get("version")
        raise ValueError(f"{str(folder)!r} is version {found} of the format: this brenier reads {VERSION}")
    for name in ("data", "network", "noise", "training"):
        if not isinstance(config.get(name), dict):
            raise ValueError(f"{str(file)!r} is damaged: it holds no {name!r}")
    return config


@contextmanager
def readable(file: Path) -> Generator[None, None, None]:
    """Turn what a damaged entry of a config raises into one line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        what = f"it holds no {error.args[0]!r}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{str(file)!r} is damaged: {what}") from None


def _config_of(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not exists(folder):
        raise ValueError(f"{str(folder)!r} does not exist: give the folder that `brenier train -o` wrote")
    if not folder.is_dir() or not exists(file):
        raise ValueError(f"{str(folder)!r} holds no {CONFIG}: give the folder that `brenier train -o` wrote")
    return read_json(file)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors in a file of a checkpoint, by their names.

    Raises:
        ValueError: it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not exists(file):
        raise ValueError(f"{str(file.parent)!r} holds no {file.name}: its training stopped before the first checkpoint")
    try:
        return load_file(file)
    except OSError as error:
        raise ValueError(f"{str(file)!r}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ValueError(f"{str(file)!r} is damaged: {error}") from None
