"""Points and weights as they are given - arrays, lists, tensors - and results that go back as the same kind.

Inside, points are the rows of tensors. `as_points` reads what was given into one, `like` turns a result into what the
points came as: tensors give tensors, arrays and lists give NumPy arrays. `arrays_too` does both for a function.
"""

import copy
import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brenier.core.reading.plain import Annotated, Interface, Lent, Sparse, ordinary, plain, plain_tensor

# ArrayLike as the static checker knows it; the rest says the same to a checker at run time.
Numbers: TypeAlias = ArrayLike | Tensor | Sequence[Any] | float | int | Sparse | Annotated | Lent | Interface

PLACES = 64  # of a dtype between the smallest and the largest value, below which they say more of it than of the data

P = ParamSpec("P")
R = TypeVar("R")


def as_tensor(values: Numbers, name: str = "points") -> Tensor:
    """Real numbers as a tensor: in their own dtype where torch has it, in place where they can be, without a gradient.

    Args:
        values: what `brenier.core.reading.plain` takes; a tensor stays on its device.
        name: what to call it in errors.

    Raises:
        TypeError: complex numbers, text, dates, objects.
        ValueError: lists that are not rectangular, masked values, tensors without values or of several shapes.
    """
    if isinstance(values, Tensor):
        if values.is_complex():
            raise TypeError(f"{name} must be real numbers, got {values.dtype}")
        return plain_tensor(values, name)
    array = plain(values, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got an array of {' '.join(str(array.dtype).split())}")
    return torch.from_numpy(np.require(array, _torch_friendly(array.dtype), ["C", "W"]))


def _torch_friendly(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype itself where torch has it, float64 for the rest (long double, wide unsigned integers, byte orders)."""
    native = dtype.newbyteorder("=")
    known = native.kind in "bi" or native in (np.dtype(np.uint8), *map(np.dtype, (np.float16, np.float32, np.float64)))
    return native if known else np.dtype(np.float64)


def as_points(
    values: Numbers,
    name: str = "points",
    *,
    dim: int | None = None,
    least: int = 1,
    note: str = "",
    finite: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "n d"]:
    """Points as the rows of a floating-point tensor.

    Args:
        values: shape (n, d).
        name: what to call them in errors.
        dim: d, where it is known.
        least: how many there must be.
        note: a clause that says why `dim` or `least`, for the error.
        finite: whether to refuse NaN and infinity.
        dtype: default: their own, float64 for integers.
        device: default: their own, the CPU for arrays.

    Raises:
        ValueError: not a matrix, not of `dim` columns, fewer than `least` rows, values that are not finite.
        TypeError: not real numbers.
    """
    x = as_tensor(values, name)
    shape = tuple(x.shape)
    if dim is not None and (x.ndim != 2 or shape[1] != dim):
        raise ValueError(f"{name} must have shape (n, {dim}){note}, got {shape}")
    if x.ndim != 2 or shape[1] == 0:
        raise ValueError(f"{name} has shape {shape}: points are the rows of an array (n, d) with d >= 1")
    if len(x) < least:
        raise ValueError(f"{len(x)} points in {name} are too few: at least {least} are needed{note}")
    x = x.to(device=device, dtype=dtype or (x.dtype if x.is_floating_point() else torch.float64))
    if finite and not bool((good := torch.isfinite(x).all(1)).all()):
        raise ValueError(f"{name} holds values that are not finite, first in row {int((~good).nonzero()[0, 0])}")
    return x


def put_back(points: Float[Tensor, "*n d"], origin: Float[Tensor, " d"]) -> Float[Tensor, "*n d"]:
    """Points of a law that was moved to zero, where they belong: in float64, unless `origin` is 0."""
    return points.double() + origin.to(points.device) if bool((origin != 0).any()) else points


def warn_of_lattice(points: Float[Tensor, "n d"], name: str) -> None:
    """Say where points lie so far from zero that their dtype leaves few places for them.

    Warns:
        UserWarning: of a coordinate that takes more than one value, and all within `PLACES` steps of the dtype.
    """
    low, high = points.amin(0), points.amax(0)
    step = torch.finfo(points.dtype).eps / 2 * torch.maximum(low.abs(), high.abs()).double()
    step = 2.0 ** (step.clamp_min(1e-300).log2().floor() + 1)
    span = high.double() - low.double()
    share = torch.where(span > 0, step / span, 0)
    k = int(share.argmax())
    if float(share[k]) > 1 / PLACES:
        what = str(points.dtype).removeprefix("torch.")
        remedy = "give float64" if what != "float64" else "subtract what they have in common before they are rounded"
        where = f"coordinate {k} of the points" if len(span) > 1 else "the points"
        message = (
            f"{name}: {what} resolves {where} to {float(step[k]):.2g}, and they span {float(span[k]):.2g}: {remedy}"
        )
        warnings.warn(message, UserWarning, stacklevel=3)


def as_weights(values: Numbers | None, n: int, name: str = "weights") -> Float[Tensor, " n"]:
    """Weights of n points in float64 on the CPU, as they are; all 1 where there are none.

    Raises:
        ValueError: not n numbers, not finite, negative, or all zero.
        TypeError: not real numbers.
    """
    if values is None:
        return torch.ones(n, dtype=torch.float64)
    weights = as_tensor(values, name).to("cpu", torch.float64)
    if weights.shape != (n,):
        raise ValueError(f"{name} have shape {tuple(weights.shape)}: {n} points need shape ({n},)")
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise ValueError(f"{name} must be finite and not negative")
    if not bool((weights > 0).any()):
        raise ValueError(f"all {name} are zero: at least one must be positive")
    return weights


def as_labels(labels: Any, n: int) -> NDArray[Any]:
    """The labels of n points: whole numbers, or words.

    Raises:
        ValueError: another number of labels; one that is no number.
        TypeError: labels that are neither whole numbers nor words.
    """
    found = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if found.shape not in ((n,), (n, 1)):
        raise ValueError(f"labels must be {n:,}, one for each point, got shape {found.shape}")
    found = found.reshape(n).astype(str) if found.dtype.kind in "SU" else found.reshape(n)
    if found.dtype.kind == "f" and bool((found % 1 == 0).all()):
        return found.astype(np.int64)
    if found.dtype.kind == "f" and bool((bad := np.isnan(found)).any()):
        raise ValueError(f"labels: {np.count_nonzero(bad)} are NaN, first in row {int(bad.argmax())} (counted from 0)")
    if found.dtype.kind not in "biuU":
        raise TypeError(f"labels must be whole numbers or words, got {found.dtype}")
    return found if found.dtype.kind == "U" else found.astype(np.int64)


def like(result: Any, given: object) -> Any:
    """`result` as the kind that `given` is: as it is for a tensor, else with every tensor in it as a NumPy array.

    Tensors are found in tuples and dataclasses, too, which come back as copies; anything else is no array of numbers.
    """
    return result if isinstance(given, Tensor) else _with_arrays(result)


def _with_arrays(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.detach().cpu().numpy()
    if isinstance(result, tuple):
        parts = [_with_arrays(part) for part in cast(tuple[Any, ...], result)]
        kind: Any = type(result)
        return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        other = copy.copy(result)
        for field in dataclasses.fields(result):
            object.__setattr__(other, field.name, _with_arrays(getattr(result, field.name)))  # also in frozen ones
        return other
    return result


def arrays_too(
    count: int = 1, read: Callable[[Any, Numbers, str], Tensor] | None = None, *, after: str = "self"
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function of tensors one of arrays and lists, whose results come back as arrays.

    The type checker goes on seeing the function of tensors, which are handed on untouched where they are ordinary.

    Args:
        count: how many arguments are points: the first ones. The first of them says what results are.
        read: (the function's first argument, what was given, its name) -> tensor. Default: `as_tensor`.
        after: name of an argument that may come before them.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = list(inspect.signature(function).parameters)
        first = int(names[:1] == [after])
        places = list(enumerate(names))[first : first + count]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            given: list[Any] = [args[k] if k < len(args) else kwargs.get(name) for k, name in places]
            fit = [value is None or (isinstance(value, Tensor) and ordinary(value)) for value in given]
            if all(fit):
                return function(*args, **kwargs)
            positional, keyword = list(args), dict(kwargs)
            for (k, name), value, fits in zip(places, given, fit, strict=True):
                if not fits:
                    where: Any = positional if k < len(args) else keyword
                    found = as_tensor(value, name) if read is None else read(args[0], value, name)
                    where[k if k < len(args) else name] = found
            return like(cast(Any, function)(*positional, **keyword), given[0])

        return cast(Callable[P, R], wrapped)

    return decorate


def image_sides(shape: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of an image, whose channels, one or three, come first or last; None for other points."""
    sides = list(shape)
    if len(sides) == 3 and 1 in (sides[0] in (1, 3), sides[2] in (1, 3)):
        sides = sides[1:] if sides[0] in (1, 3) else sides[:2]
    return (sides[0], sides[1]) if len(sides) == 2 and min(sides) > 1 else None
