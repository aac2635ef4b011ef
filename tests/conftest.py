"""For every test: shapes and types checked at run time, one thread, and properties searched repeatably."""

import dataclasses
import functools
import gc
import inspect
import re
import types
import typing
import warnings
from typing import Any

import beartype
import beartype.roar
import beartype.typing
import jaxtyping
import torch
from hypothesis import HealthCheck, settings
from jaxtyping._storage import get_shape_memo

# jaxtyping decorates methods one by one, and beartype knows `Self` only in classes that it decorates whole: `Self` is
# left unchecked, everything else is checked. As for type checkers, an int will do for a float, and both for a complex.
CHECKER = beartype.beartype(
    conf=beartype.BeartypeConf(
        is_pep484_tower=True,
        hint_overrides=beartype.FrozenDict({beartype.typing.Self: object}),
        violation_type=jaxtyping.TypeCheckError,
    )
)
jaxtyped: Any = jaxtyping.jaxtyped


def resolved(function: Any) -> dict[str, Any]:
    """A function's annotations, those that are strings looked up; what is not found may be anything."""
    found: dict[str, Any] = {}
    for name, hint in function.__annotations__.items():
        try:
            alone = types.SimpleNamespace(__annotations__={name: hint})
            found |= typing.get_type_hints(alone, function.__globals__, include_extras=True)
        except Exception:  # noqa: BLE001 - a name that only type checkers import, say
            found[name] = Any
    return found


def shaped(hint: Any) -> bool:
    """Whether a hint names dimensions, which must agree with those of other arguments."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    parts = typing.get_args(hint)
    return isinstance(hint, str | typing.TypeVar) or any(shaped(part) for part in parts)


def checked(function: Any = None, *, typechecker: Any = None) -> Any:
    """As jaxtyping's own decorator, which checks arguments twice and takes a third of the time of many tests."""
    if function is None:
        return functools.partial(checked, typechecker=typechecker)
    if isinstance(function, classmethod | staticmethod):
        return type(function)(checked(function.__func__))
    if isinstance(function, property):
        return property(*(part and checked(part) for part in (function.fget, function.fset, function.fdel)))
    if dataclasses.is_dataclass(function) and "__init__" in vars(function):
        function.__init__ = checked(function.__init__)  # pyright: ignore[reportAttributeAccessIssue]
        return function
    if not inspect.isfunction(function):
        return jaxtyped(function, typechecker=CHECKER)
    written, function.__annotations__ = function.__annotations__, resolved(function)
    dimensions = any(shaped(hint) for hint in function.__annotations__.values())
    with warnings.catch_warnings():  # a dataset of torch is a `typing.Iterable`
        warnings.simplefilter("ignore", beartype.roar.BeartypeDecorHintPep585DeprecationWarning)
        inner = CHECKER(function)
    function.__annotations__ = inner.__annotations__ = written
    if not dimensions:
        return inner

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with jaxtyped("context"):  # in which n is one number, whatever it was in the caller
            return inner(*args, **kwargs)

    return call


NAMES: dict[Any, list[str] | None] = {}  # of dimensions, by (hint, dtype) that a tensor fitted; None: not names alone
one_by_one: Any = type(jaxtyping.AbstractArray).__instancecheck__


def fits(hint: Any, value: Any) -> bool:
    """As jaxtyping's own check, which reads type and dtype anew every time: of a tensor, only sizes are new."""
    if type(value) is not torch.Tensor:
        return one_by_one(hint, value)
    key = hint, value.dtype
    names = NAMES.get(key)
    if names is not None and len(names) == value.ndim:
        known, sizes = get_shape_memo()[0], dict(zip(names, value.shape, strict=True))
        if all(known.get(name, size) == size for name, size in sizes.items()):
            known.update(sizes)
            return True
    right = one_by_one(hint, value)  # also says what is wrong
    if right and key not in NAMES:
        names = hint.dim_str.split()
        plain = len(set(names)) == len(names) and all(re.fullmatch("[a-z]+", name) for name in names)
        NAMES[key] = names if plain else None
    return right


# Before anything imports brenier: the hook wraps modules as they are loaded, with what it finds under this name.
jaxtyping.jaxtyped = checked
type(jaxtyping.AbstractArray).__instancecheck__ = fits  # pyright: ignore[reportAttributeAccessIssue]
jaxtyping.install_import_hook("brenier", "beartype.beartype")

gc.disable()  # until all is imported: a third of what collecting the tests takes
torch.set_num_threads(1)

# The same examples on every machine, and no verdict that depends on how fast the machine is.
settings.register_profile(
    "brenier", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("brenier")


def pytest_collection_finish() -> None:
    """What was imported stays, and need not be looked through again."""
    gc.collect()
    gc.freeze()
    gc.enable()
