"""Tensors as torch and safetensors save them. Of a torch file nothing is loaded but tensors and what holds them."""

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brenier.core.reading.members import by_others, check_size, chosen
from brenier.core.reading.plain import plain

if TYPE_CHECKING:
    from torch import Tensor


def read_torch(path: Path, name: str | None = None) -> NDArray[Any]:
    """The tensor that torch.save wrote, or that of this name in a dict, list or tuple, where "a/b" is b in a."""
    import torch

    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed (TorchScript, perhaps), which torch.save does not do: save its tensors")
    with by_others("torch"), warnings.catch_warnings(action="ignore"):  # that it is TorchScript, which is refused
        try:
            # Mapped, a storage cannot reach beyond the file, whatever the file says of it.
            with torch.sparse.check_sparse_tensor_invariants():
                found = torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)
        except pickle.UnpicklingError as error:
            if "GLOBAL" not in str(error):
                raise ValueError("damaged, or not a file of torch: write it with torch.save") from None
            raise TypeError("holds Python objects, which are never loaded: save a tensor or a dict of them") from None
    tensors = dict(_tensors(found, "", set()))
    tensor = tensors[chosen(list(tensors), name, path.name)]
    if tensor.layout is torch.strided and not tensor.is_meta:
        check_size(tensor.shape, tensor.element_size())
    return np.array(plain(tensor, "the tensor"))


def _tensors(found: Any, name: str, seen: set[int]) -> "Iterator[tuple[str, Tensor]]":
    """The tensors in nested dicts, lists and tuples, by the way to them; each of these once."""
    from torch import Tensor

    if isinstance(found, Tensor):
        yield name, found
    elif isinstance(found, dict | list | tuple) and id(found) not in seen:
        seen.add(id(found))
        for key, part in found.items() if isinstance(found, dict) else enumerate(found):
            yield from _tensors(part, f"{name}/{key}" if name else str(key), seen)


def read_safetensors(path: Path, name: str | None = None) -> NDArray[Any]:
    """The tensor of this name; the only one where no name is given."""
    from safetensors import safe_open

    with by_others("safetensors"), safe_open(str(path), framework="pt") as file:
        name = chosen(sorted(file.keys()), name, path.name)
        part = file.get_slice(name)
        bits = re.search(r"\d+", part.get_dtype())
        check_size(part.get_shape(), math.ceil(int(bits[0]) / 8) if bits else 1)
        return np.array(plain(file.get_tensor(name), "the tensor"))
