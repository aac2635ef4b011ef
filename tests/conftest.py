"""For every test: shapes and types checked at run time, one thread, and properties searched repeatably."""

import functools
import inspect
import types
import typing
from typing import Any

import beartype
import beartype.typing
import jaxtyping
import torch
from hypothesis import HealthCheck, settings

# jaxtyping decorates methods one by one, and beartype knows `Self` only in classes that it decorates whole: `Self` is
# left unchecked, everything else is checked. As for type checkers, an int will do for a float, and both for a complex.
CHECKER = beartype.beartype(
    conf=beartype.BeartypeConf(
        is_pep484_tower=True,
        hint_overrides=beartype.FrozenDict({beartype.typing.Self: object}),
        violation_type=jaxtyping.TypeCheckError,
    )
)
jaxtyped = jaxtyping.jaxtyped


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


def checked(function: Any = None, *, typechecker: Any = None) -> Any:
    """As jaxtyping's own decorator, which checks arguments twice and takes a third of the time of many tests."""
    if function is None:
        return functools.partial(checked, typechecker=typechecker)
    if not inspect.isfunction(function):
        return jaxtyped(function, typechecker=CHECKER)
    written, function.__annotations__ = function.__annotations__, resolved(function)
    inner = CHECKER(function)
    function.__annotations__ = written

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with jaxtyped("context"):  # in which n is one number, whatever it was in the caller
            return inner(*args, **kwargs)

    return call


# Before anything imports brenier: the hook wraps modules as they are loaded, with what it finds under this name.
jaxtyping.jaxtyped = checked
jaxtyping.install_import_hook("brenier", "beartype.beartype")

torch.set_num_threads(1)

# The same examples on every machine, and no verdict that depends on how fast the machine is.
settings.register_profile(
    "brenier", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("brenier")
