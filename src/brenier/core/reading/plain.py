"""Whatever holds numbers - tables, masked, sparse and labelled arrays, tensors of every kind - as one plain array."""

import math
import sys
from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from brenier.core.memory import check_fits
from brenier.core.reading.files import choices, line

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Sparse(Protocol):
    """A sparse array of SciPy, or one like it."""

    nnz: Any

    def toarray(self) -> Any:
        """The same, dense."""
        ...


@runtime_checkable
class Annotated(Protocol):
    """AnnData, or what is like it: numbers with notes on their rows."""

    X: Any
    obs: Any


@runtime_checkable
class Lent(Protocol):
    """An array of a library that lends it to others."""

    def __dlpack__(self, **options: Any) -> Any: ...


@runtime_checkable
class Interface(Protocol):
    """An array that says where it lies in memory."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


# What objects raise that do not become an array.
_UNREADABLE = (ValueError, TypeError, RuntimeError, BufferError, OverflowError, AttributeError)


def plain(values: object, name: str) -> NDArray[Any]:
    """The numbers in `values`, in their own dtype where NumPy has it and in place where they can be.

    Args:
        values: an array, a list, a tensor (from wherever, with a gradient or not, quantised, bfloat16); a table of
            pandas, polars or Arrow, where what is missing becomes NaN; an array with labels, a mask that hides nothing,
            or sparse; AnnData, whose X it is; and all that becomes an array by itself (`__array__`, DLPack).
        name: what to call it in errors.

    Raises:
        ValueError: masked values, ragged rows, a nested tensor, one without values, or a sparse one that does not fit
            into memory when it is dense.
        TypeError: several arrays in one object, or none: a dict, a generator, a set.
    """
    try:
        return _plain(values, name)
    except _UNREADABLE as error:
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: not an array of numbers, one point per row: {line(error)}") from None


def ordinary(tensor: "Tensor") -> bool:
    """Whether a tensor is dense and has values, none of them masked."""
    dense = str(tensor.layout) == "torch.strided" and not (tensor.is_nested or tensor.is_quantized)
    return dense and not (tensor.is_meta or hasattr(tensor, "get_mask"))


def plain_tensor(tensor: "Tensor", name: str) -> "Tensor":
    """A tensor as a dense one of the same values, where it is, without a gradient.

    Raises:
        ValueError: as `plain`.
    """
    if hasattr(tensor, "get_mask"):
        masked: Any = tensor
        check_unmasked(~np.asarray(masked.get_mask().cpu()), name)
        return masked.get_data().detach()
    if tensor.is_nested:
        raise ValueError(f"{name}: a nested tensor has rows of several shapes: give torch.stack of those of one shape")
    if tensor.is_meta or hasattr(tensor, "fake_mode"):
        raise ValueError(f"{name}: a meta tensor has a shape and no values: give one that has been filled")
    tensor = tensor.detach().resolve_neg()
    if tensor.is_quantized:
        return tensor.dequantize()
    if not ordinary(tensor):
        _check_dense(tuple(tensor.shape), tensor.element_size(), name)
        return tensor.to_dense()
    return tensor


def check_unmasked(mask: NDArray[np.bool_], name: str) -> None:
    """Refuse an array of which something is masked.

    Raises:
        ValueError: how much, and where first.
    """
    if mask.any():
        raise ValueError(f"{name}: {count(mask, 'masked')}")


def count(bad: NDArray[np.bool_], what: str) -> str:
    """How many values of an array are bad, the first row that has one, and what to do about it."""
    many = int(bad.sum())
    if bad.ndim == 0:
        return f"the value is {what}"
    row = int(np.argmax(bad.reshape(len(bad), -1).any(1)))
    start = "1 value is" if many == 1 else f"{many} values are"
    return f"{start} {what}, first in row {row} (counted from 0): remove or fill in such rows"


def _plain(values: Any, name: str) -> NDArray[Any]:
    torch, pandas = sys.modules.get("torch"), sys.modules.get("pandas")
    if torch is not None and isinstance(values, torch.Tensor):
        dense = plain_tensor(values, name).cpu()
        narrow = dense.is_floating_point() and dense.dtype not in (torch.float16, torch.float32, torch.float64)
        return (dense.float() if narrow else dense.resolve_conj()).numpy()
    if isinstance(values, np.ma.MaskedArray):
        check_unmasked(np.ma.getmaskarray(values), name)
        return np.asarray(cast(Any, values).data)
    if pandas is not None:
        kinds = (pandas.DataFrame, pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray)
        if isinstance(values, kinds) and (array := np.asarray(values)).dtype.kind not in "buif":
            return _columns(values, array.ndim, name)
    if isinstance(values, Annotated):
        inner = values.X
        if inner is None:
            raise ValueError(f"{name}: X holds nothing: give one of the layers")
        return _plain(inner.to_memory() if hasattr(inner, "to_memory") else inner, f"{name}.X")
    if isinstance(values, Sparse):
        sparse: Any = values
        _check_dense(sparse.shape, np.dtype(sparse.dtype).itemsize, name)
        if hasattr(sparse, "indptr"):  # SciPy writes beyond its memory where these lead beyond the shape
            if (np.diff(sparse.indptr) < 0).any():
                raise ValueError(f"{name}: a sparse array whose rows end before they begin")
            sparse.check_format(full_check=True)
        return np.asarray(sparse.toarray())
    if isinstance(values, Mapping):
        kind = type(values).__name__
        raise TypeError(f"{name}: a {kind} may hold several arrays: give one of {choices([*map(str, values)])}")
    if isinstance(values, Iterator | Set):
        raise TypeError(f"{name}: a {type(values).__name__} is no array: give a list or an array of points")
    if isinstance(values, list | tuple) and _holds_arrays(values):
        values = [_plain(value, f"{name}[{k}]") for k, value in enumerate(cast("list[Any]", values))]
    lent = isinstance(values, Lent) and not (hasattr(values, "__array__") or isinstance(values, Interface))
    array: NDArray[Any] = np.from_dlpack(cast(Any, values)) if lent else np.asarray(values)
    if array.dtype.kind == "V" and array.dtype.type is not np.void:  # bfloat16 and other small kinds beyond NumPy's
        array = array.astype(np.float32)
    if array.dtype.kind == "O" and array.ndim == 0:
        raise TypeError(f"{name}: an object of type {type(values).__name__} is no array of numbers")
    return array


def _columns(values: Any, ndim: int, name: str) -> NDArray[Any]:
    """What pandas holds that is no array of numbers at once: column by column, what is missing as NaN."""
    import pandas as pd

    from brenier.core.reading.tables import numbers

    try:
        array = numbers(values if ndim == 2 else pd.DataFrame({"values": values}))
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return array if ndim == 2 else array[:, 0]


def _holds_arrays(values: "list[Any] | tuple[Any, ...]") -> bool:
    """Whether there are arrays, of which some know more than NumPy would ask them, among nested lists."""
    kinds = set(map(type, values)) - {int, float, bool}
    if kinds <= {list, tuple}:
        return any(_holds_arrays(value) for value in values if isinstance(value, list | tuple))
    marks = ("__array__", "__dlpack__", "nnz")
    return any(not issubclass(kind, np.generic) and any(hasattr(kind, mark) for mark in marks) for kind in kinds)


def _check_dense(shape: tuple[int, ...], itemsize: int, name: str) -> None:
    check_fits(math.prod(shape) * itemsize, f"{name}, shape {shape}, is sparse, and as a dense array it")
