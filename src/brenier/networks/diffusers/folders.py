"""What folders and files of networks hold, by the names in them: a model that can be loaded, or what is missing."""

import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from brenier.core.reading.files import read_json
from brenier.core.reading.image_files import SUFFIXES

WEIGHTS = "diffusion_pytorch_model"
DENOISERS = ("unet", "transformer")  # of a pipeline, each in a folder of its own
WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".onnx", ".msgpack", ".h5", ".gguf")
LARGEST_HEADER = 2**24  # bytes
FROM_PYTHON = "load it in Python, and give brenier.NetworkTarget the network"


def is_diffusers(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder that diffusers has saved: a pipeline, a model, or a training's checkpoint of one.

    Reads at most its config.json.
    """
    folder = Path(path)
    config = folder / "config.json"
    try:
        if (folder / "model_index.json").is_file() or _denoisers(folder):
            return True
        if not config.is_file():
            return False
        return '"_class_name"' in config.read_text(errors="replace") or any(folder.glob(f"{WEIGHTS}*"))
    except OSError:
        return False


def parts_of(path: str | os.PathLike[str]) -> tuple[Path, Sequence[Path]]:
    """The folder of the denoiser in a folder that `is_diffusers`, and where its scheduler may lie, in this order.

    Raises:
        ValueError: it has no denoiser, or several.

    Warns:
        UserWarning: a checkpoint has the average of its weights beside them.
    """
    folder = Path(path)
    around = folder.resolve().parent
    if (folder / "model_index.json").is_file():
        index = read_json(folder / "model_index.json")
        parts = [part for part in (*DENOISERS, "transformer_2") if isinstance(index.get(part), list) and index[part][0]]
        places = [folder / "scheduler"]
    elif parts := _denoisers(folder):
        places = [folder / "scheduler", around / "scheduler"]
        average = folder / f"{parts[0]}_ema"
        if (average / "config.json").is_file():
            warnings.warn(
                f"read are the weights in {parts[0]!r}, not their average: that is {str(average)!r}", stacklevel=3
            )
    else:
        return folder, [folder, folder / "scheduler", around / "scheduler", around.parent / "scheduler"]
    if len(parts) != 1:
        raise ValueError(f"{str(path)!r} has not one denoiser in unet or transformer: give the folder of a model")
    return folder / parts[0], places


def _denoisers(folder: Path) -> list[str]:
    return [part for part in (*DENOISERS, "transformer_2") if (folder / part / "config.json").is_file()]


def not_loadable(path: Path) -> str | None:
    """Why a folder or file that holds a network, or a part of one, cannot be loaded: in a line; None for all others.

    It is for what is neither `is_diffusers` nor a network that was trained here.
    """
    if not path.is_dir():
        return _weights_file(path)
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError:
        return None
    if any(name.lower().endswith(SUFFIXES) and not name.startswith(".") for name in names):
        return None
    if "adapter_config.json" in names or any("lora" in name.lower() and name.endswith(WEIGHT_FILES) for name in names):
        return _LORA
    if "config.json" in names and (kind := _configured(path / "config.json")) is not None:
        return kind
    if "scheduler_config.json" in names:
        return "is a scheduler without its model: give the folder that holds both"
    if "snapshots" in names and (found := sorted((path / "snapshots").glob("*"))):
        return f"is a folder of the Hugging Face cache: give what it holds, {str(found[-1])!r}"
    checkpoints = [name for name in names if re.fullmatch(r"checkpoint[-_]\d+", name) and (path / name).is_dir()]
    if checkpoints:
        last = max(checkpoints, key=lambda name: int(re.split("[-_]", name)[1]))
        return f"holds checkpoints of a training and no final model: give one, such as {str(path / last)!r}"
    others = [name for name in names if (path / name / "config.json").is_file()]
    if others:
        return f"holds {', '.join(others)} of a pipeline, and neither unet nor transformer: the denoiser is missing"
    weights = [name for name in names if name.endswith(WEIGHT_FILES)]
    if weights:
        return f"holds weights ({weights[0]}) without a configuration of what network they are of: {FROM_PYTHON}"
    return None


_LORA = "holds LoRA weights, a change to a network and none itself: fuse them into their pipeline, and save that"


def _configured(file: Path) -> str | None:
    """What a configuration that is not one of diffusers says."""
    try:
        config = read_json(file)
    except ValueError:
        return None
    if "model_type" in config or "architectures" in config:
        return f"is a model of transformers ({config.get('model_type', 'of no type')}), which denoises nothing"
    model = config.get("model")
    if isinstance(model, dict) and "type" in model:
        kind = cast(dict[str, Any], model)["type"]
        return f"is a network of k-diffusion ({kind}), whose code is not here: {FROM_PYTHON}"
    return None


def _weights_file(path: Path) -> str | None:
    """Of a .safetensors file with the parameters of layers, and not data."""
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= LARGEST_HEADER else {}
    except (OSError, ValueError, RecursionError):
        return None
    names = [str(name) for name in header] if isinstance(header, dict) else []
    if any("lora" in name.lower() for name in names):
        return _LORA
    if sum(name.endswith((".weight", ".bias")) for name in names) > 1:
        return f"holds the weights of a network, and not what network that is: give its folder, or {FROM_PYTHON}"
    return None
