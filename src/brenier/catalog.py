"""Every way to name a law: the built-in examples, files, mixtures in JSON, arrays, and `Target`s themselves.

The six one-dimensional examples are those of [LDK24] Section 5; `digits` is real data that needs no download.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from brenier.core.blocks import cluster
from brenier.core.blocks.blocks import Blocks
from brenier.core.blocks.rows import Rows, can_be_read, file_rows, is_lazy, size_of
from brenier.core.memory import free_memory
from brenier.core.points import Numbers
from brenier.core.reading.files import exists, line, split_member
from brenier.core.reading.options import Reading
from brenier.core.reading.read import check_fields, fields_of, read_array
from brenier.core.work import usable_device
from brenier.laws.base import Target
from brenier.laws.blocked import BlockedEmpirical, refused
from brenier.laws.empirical import Empirical
from brenier.laws.from_density import python_law
from brenier.laws.given import as_law, points_law
from brenier.laws.line import families
from brenier.laws.mixture import GaussianMixture
from brenier.laws.mixture_file import read_law
from brenier.laws.uniform import Uniform
from brenier.laws.written import elliptical, nearest
from brenier.networks import saved
from brenier.networks.diffusers import folders, model

# What names a law: a built-in's name, a file or folder, points, a distribution of scipy.stats, or a law itself.
LawLike: TypeAlias = Target | str | os.PathLike[str] | Numbers | families.Frozen


@dataclass(frozen=True)
class BuiltIn:
    """A law that goes by a name: what it is, how it is made, and whether it is a network."""

    law: str
    make: Callable[..., Target]
    learned: bool = False


def _mixture(weights: Sequence[float], means: Sequence[float], variances: Sequence[float]) -> Callable[..., Target]:
    return partial(GaussianMixture, weights, means, variances)


def _digits(**options: Any) -> Target:
    """They come along, with 0 to 16 in each pixel: importing scikit-learn takes longer than many commands."""
    with (resources.files("brenier") / "resources" / "digits.npz").open("rb") as file, np.load(file) as arrays:
        return Empirical(arrays["images"].astype(np.float32) / 8 - 1, **options)


def _digits_network(name: str, **options: Any) -> Target:
    with resources.as_file(resources.files("brenier") / "resources" / "digits-network") as folder:
        law = saved.load(folder, _digits(name="digits")).to(**options)
    law.name = name
    return law


BUILT_IN: dict[str, BuiltIn] = {
    "point-mass": BuiltIn("delta_0", _mixture([1.0], [0.0], [0.0])),
    "normal": BuiltIn("N(0, 1)", _mixture([1.0], [0.0], [1.0])),
    "uniform": BuiltIn("Unif(-1, 1)", partial(Uniform, -1.0, 1.0)),
    "two-points": BuiltIn("1/2 delta_-1 + 1/2 delta_1", _mixture([0.5, 0.5], [-1.0, 1.0], [0.0, 0.0])),
    "spike-slab": BuiltIn("1/2 delta_0 + 1/2 N(0, 1)", _mixture([0.5, 0.5], [0.0, 0.0], [0.0, 1.0])),
    "four-gaussians": BuiltIn(
        "0.1 N(-4, 1) + 0.2 N(-2, 0.5) + 0.4 N(2, 0.5) + 0.3 N(4, 1)",
        _mixture([0.1, 0.2, 0.4, 0.3], [-4.0, -2.0, 2.0, 4.0], [1.0, 0.5, 0.5, 1.0]),
    ),
    "digits": BuiltIn(
        "1,797 handwritten digits of 8 x 8 pixels in [-1, 1] (Alpaydin and Kaynak; as in scikit-learn)", _digits
    ),
    "digits-network": BuiltIn("a small network trained to denoise these digits", _digits_network, True),
}

FAMILIES: dict[str, str] = {
    "scipy:t(3)": "any continuous distribution of scipy.stats: scipy:NAME(PARAMETERS, loc=0, scale=1)",
    "scipy:t(3)[-2, 5]": "the same, truncated to an interval",
    "student(3, dim=5)": "Student's t in 5 dimensions; location=0, scale=1: a number, or a list, of squared units",
    "laplace(dim=5)": "Laplace's law in 5 dimensions, of covariance scale=1",
    "gennorm(0.8, dim=5)": "density exp(-|x|^0.8) in 5 dimensions, any exponent up to 2",
}

FILE_KINDS: dict[str, str] = {
    "points.npy": "array of shape (n,) for n numbers, (n, d), or (n, ...) for images",
    "points.npz": "the same; points.npz:NAME where a file of this or the next kinds holds several arrays",
    "points.pt": "a tensor, or a dict of tensors; also .pth and .safetensors",
    "points.h5": "a dataset of HDF5, points.h5:GROUP/NAME; also .hdf5, .h5ad (X), .mat of every version, .nc",
    "points.csv": "a table in text, .csv or .tsv, also .gz: a point per row, numeric columns, with names or without",
    "points.parquet": "a table, .parquet, .feather or .arrow: numeric columns, or lists of one length",
    "folder/": "images of one size, also in subfolders per class, pixels scaled from 0..255 to [-1, 1]",
    "images.zip": "the same in an archive, such as those of EDM",
    "network/": "what `brenier train` wrote: the law that the network has learned",
    "model/": "a model or pipeline that diffusers saved, with its scheduler",
    "mixture.json": '{"type": "gaussian-mixture", "weights": [...], "means": [...], "covariances": [...]}',
    "law.json": '{"type": "mixture", "weights": [0.3, 0.7], "components": [0, "scipy:t(3)"]}, or {"type": "product",'
    ' "factors": [...]}',
    "law.py": "a Python file that defines log_density(x), (n, dim) -> (n,) up to a constant, and dim",
}

LARGER = 64  # times as large as on disk data may be in memory: no smaller ones are opened to see

OF_NETWORK = (
    "shape",
    "condition",
    "unconditional",
    "guidance",
)  # what a `Reading` says of a network of diffusers, and of nothing else alone


def load_target(
    law: LawLike,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    max_memory: float | None = None,
    data: LawLike | None = None,
    reading: Reading | None = None,
    blocks: bool = False,
) -> Target:
    """Make the law that `law` names.

    What laws call `snr` is r = alpha/sigma, not squared: diffusers' `compute_snr` is r^2, see `brenier.scales`.

    Args:
        law: one of
            a name in `BUILT_IN` (it wins over a file of the same name: write "./digits" for that);
            an elliptical law as text, "student(3, dim=5)", "laplace(dim=5)" or "gennorm(0.8, dim=5)", see `Elliptical`;
            a continuous distribution of scipy.stats as text, "scipy:t(3)", see `brenier.laws.line.families`, or frozen;
            the path of a data file or of a folder of images, see `brenier.core.reading.read.read_array`;
            the path of a network: a folder that `brenier train` wrote, or a model or pipeline that diffusers saved;
            the path of a mixture or a product, `.json`: see `brenier.laws.mixture_file`;
            the path of a Python file, `.py`, that defines log_density(x) and dim: see `brenier.laws.from_density`;
            an array, list or tensor of shape (n,), (n, d) or (n, *event_shape), one point per row;
            a `Target`, which is returned as it is, or moved to `dtype` and `device` where these are given.
        dtype: torch.float32 or torch.float64. Default: float64 for explicit laws, float32 for data.
        device: default: the device of a tensor, else the CPU.
        max_memory: GiB that the blocks of an `Empirical` may take.
        data: what the queries of a network are drawn from, anything that this function takes but a network. Default:
            they are drawn by running the network's own chain.
        reading: how a file is to be read, that of `data` where there are some: columns, separator, shape, ...; of a
            network of diffusers, the shape of its points, its condition and guidance; of one that was trained here with
            labels, the condition `class_labels`, and the guidance where it was trained without some.
        blocks: whether data may stay where they are and be used in blocks, see `brenier.laws.blocked`: dask arrays, and
            files that can be read so where a `distributed.Client` is active or they would take more memory than
            `max_memory`, half of what is free where that is not given.

    Raises:
        ValueError, TypeError: one line, for names and files that do not exist or do not hold a law, or where `reading`
            says what does not apply to them.
    """
    device = usable_device(device)
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype {dtype} is not supported: choose torch.float32 or torch.float64")
    reading = Reading() if reading is None else reading
    of_law = reading.given if data is None else readable(law)
    own = reading.only(of_law)
    points = None
    if data is not None:
        others = [field for field in reading.given if field not in of_law or field in readable(data)]
        points = load_target(data, dtype=dtype, max_memory=max_memory, reading=reading.only(others))
    if isinstance(law, str | os.PathLike):
        if readable(law) == OF_NETWORK:
            check_fields(os.fspath(law), own, OF_NETWORK)
            weight = 1.0 if own.guidance is None else own.guidance
            asked = {"condition": own.condition, "unconditional": own.unconditional, "guidance": weight}
            return model.load_diffusers(law, data=points, event_shape=own.shape, dtype=dtype, device=device, **asked)
        stays = _rows_that_stay(law, own, max_memory) if blocks else None
        if stays is not None:
            found = BlockedEmpirical(Blocks(stays), name=_label(os.fspath(law)), dtype=dtype).to(device)
        else:
            found = _named(os.fspath(law), isinstance(law, str), dtype, device, own)
    else:
        check_fields("what is no file", own, ())
        lazy = blocks and is_lazy(law)
        found = BlockedEmpirical.of(law, dtype=dtype).to(device) if lazy else as_law(law, dtype, device)
    if max_memory is not None:
        found = found.within(max_memory)
    return found if points is None else found.with_data(points)


def _rows_that_stay(law: str | os.PathLike[str], reading: Reading, max_memory: float | None) -> Rows | None:
    """The rows of a file that is used in blocks; None for all else."""
    text = os.fspath(law)
    if not can_stay(law):
        return None
    limit = free_memory() / 2 if max_memory is None else max_memory * 2**30
    together = cluster.active() is not None
    if not together and size_of(text) <= limit / LARGER:
        return None
    rows = file_rows(text, replace(reading, standardize=False))
    wide = 4 if np.can_cast(rows.dtype, np.float32) else 8
    if not together and wide * math.prod(rows.shape) <= limit:
        return None
    if reading.standardize is not False:
        raise refused(_label(text), "standardize")
    return rows


def is_network(law: LawLike) -> bool:
    """Whether a name is that of a network, or a law is one."""
    if isinstance(law, Target):
        return law.learned
    if isinstance(law, str) and law in BUILT_IN:
        return BUILT_IN[law].learned
    if not isinstance(law, str | os.PathLike):
        return False
    folder = Path(law)
    return exists(folder) and folder.is_dir() and (saved.is_checkpoint(folder) or folders.is_diffusers(folder))


def can_stay(law: LawLike) -> bool:
    """Whether a name is that of data that can be used in blocks, where they lie."""
    if not isinstance(law, str | os.PathLike) or (isinstance(law, str) and law in BUILT_IN):
        return False
    return can_be_read(os.fspath(law)) and not is_network(law)


def readable(law: LawLike) -> tuple[str, ...]:
    """The fields of a `Reading` that say something about what is named: none where that is no file of data."""
    if not isinstance(law, str | os.PathLike):
        return ()
    if isinstance(law, str) and (law in BUILT_IN or law.startswith(families.PREFIX)):
        return ()
    file = Path(split_member(os.fspath(law))[0])
    if not exists(file) or file.suffix.lower() in (".json", ".py"):
        return ()
    if file.is_dir() and saved.is_checkpoint(file):
        return ("condition", "guidance") if saved.has_classes(file) else ()
    return OF_NETWORK if file.is_dir() and folders.is_diffusers(file) else fields_of(file)


def _named(
    text: str, built_in: bool, dtype: torch.dtype | None, device: torch.device | None, reading: Reading
) -> Target:
    """The law of a name that may be `built_in`, or of a file or folder, but one of diffusers."""
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    if built_in and text in BUILT_IN:
        check_fields(text, reading, ())
        return BUILT_IN[text].make(name=text, **options)
    if built_in and text.startswith(families.PREFIX):
        check_fields(text, reading, ())
        return families.named(text).to(**options)
    if built_in and (law := elliptical(text)) is not None:
        check_fields(text, reading, ())
        return law.to(**options)
    file = Path(split_member(text)[0])
    if not text or not exists(file):
        raise ValueError(_unknown(text, file))
    check_fields(text, reading, readable(Path(text)))
    if file.is_dir() and saved.is_checkpoint(file):
        return saved.load(file, condition=reading.condition, guidance=reading.guidance).to(**options)
    if file.suffix.lower() == ".json":
        return read_law(file, _part, **options)
    if file.suffix.lower() == ".py":
        return python_law(file).to(**options)
    if (why := folders.not_loadable(file)) is not None:
        raise ValueError(f"{text!r} {why}")
    return points_law(read_array(text, reading), _label(text), **options)


def _part(name: str) -> Target:
    """The law of a name in a file: files have no say in it, as paths would be from where the program runs."""
    law = families.named(name) if name.startswith(families.PREFIX) else elliptical(name)
    if law is not None:
        return law
    if name not in BUILT_IN:
        file = Path(split_member(name)[0])
        raise ValueError(f"{name!r} is a file: give names of laws" if exists(file) else _unknown(name, file))
    return BUILT_IN[name].make(name=name)


def _label(text: str) -> str:
    """The file's own name: the folder it lies in is no part of the law."""
    file, member = split_member(text)
    stem = Path(file).resolve().name
    return line(stem if member is None else f"{stem}:{member}")


def _unknown(text: str, file: Path) -> str:
    """One line on a name that is neither built in nor a file, with the nearest that is."""
    if (family := nearest(text)) is not None:
        return f"no target {text!r}: did you mean '{family}(...)'? See `brenier laws`"
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
