"""Every way to name a law: the built-in examples, files, mixtures in JSON, arrays, and `Target`s themselves.

The six one-dimensional examples are those of [LDK24] Section 5; `digits` is real data that needs no download.
"""

import difflib
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brenier.core.reading import check_array, exists, read_array, split_member
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.laws.uniform import Uniform
from brenier.networks import saved
from brenier.networks.diffusers import model
from brenier.networks.network import NetworkTarget

Source: TypeAlias = str | os.PathLike[str] | ArrayLike | Tensor | Target


@dataclass(frozen=True)
class BuiltIn:
    """A law that goes by a name: what it is, and how it is made."""

    law: str
    make: Callable[..., Target]


def _mixture(weights: Sequence[float], means: Sequence[float], variances: Sequence[float]) -> Callable[..., Target]:
    def make(**options: Any) -> Target:
        return GaussianMixture(weights, means, variances, **options)

    return make


def _uniform(**options: Any) -> Target:
    return Uniform(-1.0, 1.0, **options)


def _digits_network(**options: Any) -> Target:

    name = options.pop("name")
    with resources.as_file(resources.files("brenier") / "resources" / "digits-network") as folder:
        law = saved.load(folder, data="digits").to(**options)
    law.name = name
    return law


def _digits(**options: Any) -> Target:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return Empirical(np.asarray(digits.images, dtype=np.float32) / 8 - 1, **options)


BUILT_IN: dict[str, BuiltIn] = {
    "point-mass": BuiltIn("delta_0", _mixture([1.0], [0.0], [0.0])),
    "normal": BuiltIn("N(0, 1)", _mixture([1.0], [0.0], [1.0])),
    "uniform": BuiltIn("Unif(-1, 1)", _uniform),
    "two-points": BuiltIn("1/2 delta_-1 + 1/2 delta_1", _mixture([0.5, 0.5], [-1.0, 1.0], [0.0, 0.0])),
    "spike-slab": BuiltIn("1/2 delta_0 + 1/2 N(0, 1)", _mixture([0.5, 0.5], [0.0, 0.0], [0.0, 1.0])),
    "four-gaussians": BuiltIn(
        "0.1 N(-4, 1) + 0.2 N(-2, 0.5) + 0.4 N(2, 0.5) + 0.3 N(4, 1)",
        _mixture([0.1, 0.2, 0.4, 0.3], [-4.0, -2.0, 2.0, 4.0], [1.0, 0.5, 0.5, 1.0]),
    ),
    "digits": BuiltIn("1,797 handwritten digits of 8 x 8 pixels in [-1, 1], from scikit-learn", _digits),
    "digits-network": BuiltIn("a small network trained to denoise these digits", _digits_network),
}

FILE_KINDS: dict[str, str] = {
    "points.npy": "array of shape (n,) for n numbers, (n, d), or (n, ...) for images",
    "points.npz": "the same; points.npz:NAME where the archive holds several arrays",
    "points.csv": "one point per row, numbers separated by commas, with a header or without",
    "points.parquet": "one point per row, every column numeric",
    "folder/": "PNG and JPEG images of one size, pixels scaled from 0..255 to [-1, 1]",
    "network/": "what `brenier train` wrote: the law that the network has learned",
    "model/": "a model or pipeline that diffusers saved, with its scheduler",
    "mixture.json": '{"type": "gaussian-mixture", "weights": [...], "means": [...], "covariances": [...]}',
}


def load_target(
    source: Source,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    max_memory: int | None = None,
    data: Source | None = None,
) -> Target:
    """Make the law that `source` names.

    Args:
        source: one of
            a name in `BUILT_IN` (it wins over a file of the same name: write "./digits" for that);
            the path of a data file or of a folder of images, see `brenier.core.reading.read_array`;
            the path of a network: a folder that `brenier train` wrote, or a model or pipeline that diffusers saved;
            the path of a mixture, `.json`: {"type": "gaussian-mixture", "weights": [...], "means": [...],
            "covariances": [...]}, means of a 1-D law as numbers or one-element lists, each covariance a number
            (isotropic), d numbers (diagonal) or a d x d matrix;
            an array or tensor of shape (n,), (n, d) or (n, *event_shape), one point per row;
            a `Target`, which is returned as it is, or moved to `dtype` and `device` where these are given.
        dtype: torch.float32 or torch.float64. Default: float64 for explicit laws, float32 for data.
        device: default: the device of a tensor, else the CPU.
        max_memory: bytes that the blocks of an `Empirical` may take.
        data: what the queries of a network are drawn from, anything that this function takes but a network. Default:
            they are drawn by running the network's own chain.

    Raises:
        ValueError, TypeError: one line, for names and files that do not exist or do not hold a law.
    """
    device = _device(device)
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype {dtype} is not supported: choose torch.float32 or torch.float64")
    if data is not None:
        law = load_target(source, dtype=dtype, device=device, max_memory=max_memory)
        if not isinstance(law, NetworkTarget):
            raise ValueError(f"data are what a network's queries are drawn from, and {law.name} is no network")
        return law.with_data(load_target(data, max_memory=max_memory))
    if isinstance(source, Target):
        return source if dtype is None and device is None else source.to(device, dtype)
    memory: dict[str, Any] = {} if max_memory is None else {"max_memory": max_memory}
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if isinstance(source, str) and text in BUILT_IN:
            return BUILT_IN[text].make(name=text, **options, **(memory if text == "digits" else {}))
        file = Path(split_member(text)[0])
        if not text or not exists(file):
            raise ValueError(_unknown(text, file))
        if file.is_dir() and (network := _read_network(file, options)) is not None:
            return network
        if file.suffix.lower() == ".json":
            return _read_mixture(file, dtype, device)
        return _empirical(read_array(text), _label(text), **options, **memory)
    if isinstance(source, Tensor):
        options["device"] = device or source.device
        source = _to_numpy(source)
    return _empirical(check_array(source), "data", **options, **memory)


def _read_network(folder: Path, options: dict[str, Any]) -> Target | None:
    """The network in a folder, None if it holds none."""

    if saved.is_checkpoint(folder):
        return saved.load(folder).to(**options)
    return model.load_diffusers(folder).to(**options) if model.is_diffusers(folder) else None


def _empirical(points: NDArray[Any], name: str, dtype: torch.dtype | None, **options: Any) -> Target:
    dtype = dtype or torch.float32
    largest = max(float(points.max()), -float(points.min()))
    # The squared distance of two points has to stay finite.
    limit = math.sqrt(torch.finfo(dtype).max / points[0].size) / 4
    if largest > limit:
        raise ValueError(f"{name!r}: the largest coordinate is {largest:.3g}, squares overflow in {dtype}: rescale")
    return Empirical(points, event_shape=points.shape[1:], name=name, dtype=dtype, **options)


def _label(text: str) -> str:
    """The file's own name: the folder it lies in is no part of the law."""
    file, member = split_member(text)
    stem = Path(file).resolve().name
    return stem if member is None else f"{stem}:{member}"


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor.resolve_conj()).numpy()


def _device(device: torch.device | str | None) -> torch.device | None:
    if device is None:
        return None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise ValueError(f"device {str(device)!r} is not available here: choose {' or '.join(here)}") from None
    return torch.device(device)


def _unknown(text: str, file: Path) -> str:
    """One line on a name that is neither built in nor a file, with the nearest that is."""
    looks_like_a_path = bool(file.suffix) or os.sep in text
    if not looks_like_a_path:
        near = difflib.get_close_matches(text.lower(), BUILT_IN, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"no target {text!r}: {hint}give a file, a folder of images, or one of {', '.join(BUILT_IN)}"
    if not exists(file.parent):
        return f"{text!r} does not exist: there is no folder {str(file.parent)!r}"
    near: list[str] = []
    with suppress(OSError):
        near = difflib.get_close_matches(file.name, [entry.name for entry in file.parent.iterdir()], n=1)
    hint = f": did you mean {str(file.parent / near[0])!r}?" if near else ": check the path"
    return f"{text!r} does not exist{hint}"


# Mixtures in JSON


def _read_mixture(file: Path, dtype: torch.dtype | None, device: torch.device | None) -> Target:
    try:
        fields = _mixture_fields(file)
        return GaussianMixture(**fields, name=file.name, dtype=dtype, device=device)
    except OSError as error:
        raise ValueError(f"{str(file)!r}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(file)!r} is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{str(file)!r} is not JSON: not text in UTF-8") from None
    except RecursionError:
        raise ValueError(f"{str(file)!r}: lists nested too deeply for a mixture") from None
    except (ValueError, TypeError) as error:
        raise type(error)(f"{str(file)!r}: {error}") from None


def _mixture_fields(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError('must be an object {"type": "gaussian-mixture", "weights": ..., "means": ..., ...}')
    fields = cast(dict[str, Any], content)
    if fields.get("type") != "gaussian-mixture":
        raise ValueError(f'"type" is {json.dumps(fields.get("type"))[:40]}: it must be "gaussian-mixture"')
    names = ("weights", "means", "covariances")
    for name in fields:
        if name not in ("type", *names):
            near = difflib.get_close_matches(name, names, n=1)
            raise ValueError(f'unknown field "{name[:40]}": {f"did you mean {near[0]}?" if near else "remove it"}')
    depth = {"weights": 0, "means": 1, "covariances": 2}
    for name in names:
        values = fields.get(name)
        if not isinstance(values, list) or not values:
            raise ValueError(f'"{name}" must be a list with one entry per component')
        count = len(cast(list[Any], fields["weights"]))
        if len(cast(list[Any], values)) != count:
            raise ValueError(f'"{name}" has {len(values)} entries, "weights" has {count}: give one per component')
        for index, value in enumerate(cast(list[Any], values)):
            _check_numbers(value, f"{name}[{index}]", depth[name])
    means = [_flat(mean) for mean in fields["means"]]
    for index, mean in enumerate(means):
        if len(mean) != len(means[0]):
            raise ValueError(f'"means[{index}]" has {len(mean)} coordinates, "means[0]" has {len(means[0])}')
        _check_shape(fields["covariances"][index], f"covariances[{index}]", len(mean))
    return {"weights": fields["weights"], "means": means, "covariances": fields["covariances"]}


def _flat(mean: Any) -> list[Any]:
    return mean if isinstance(mean, list) else [mean]


def _check_numbers(value: Any, where: str, depth: int) -> None:
    """A number, or lists of numbers nested at most `depth` deep."""
    if isinstance(value, list) and depth > 0 and value:
        for index, entry in enumerate(cast(list[Any], value)):
            _check_numbers(entry, f"{where}[{index}]", depth - 1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        kinds = ("a number", "a number or a list of numbers", "a number, a list of numbers or a matrix")
        raise ValueError(f'"{where}" is {json.dumps(value)[:40]}: it must be {kinds[depth]}')
    elif not math.isfinite(value):
        raise ValueError(f'"{where}" is {value}: it must be finite')


def _check_shape(covariance: Any, where: str, dim: int) -> None:
    if not isinstance(covariance, list):
        return
    rows = cast(list[Any], covariance)
    matrix = [isinstance(row, list) for row in rows]
    if len(rows) != dim or any(matrix) != all(matrix) or any(isinstance(row, list) and len(row) != dim for row in rows):
        raise ValueError(f'"{where}" must be a number, {dim} numbers or a {dim} x {dim} matrix: the means are {dim}-D')
