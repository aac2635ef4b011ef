"""What users give a Monge-Ampère flow to go from and to, as marginals: the door to this room.

a mixture or normal law     density and samples
a function log_density(x)   density up to a factor; its gradient comes from autograd
a Python file               the same, with its dimension: it defines log_density and dim
points                      samples only
"""

import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from brenier.catalog import load_target
from brenier.core.reading.files import exists
from brenier.laws.alike import in_order
from brenier.laws.base import Target
from brenier.laws.from_density import read_python
from brenier.transport.mongeampere.marginal import Marginal, laplace, standard_normal
from brenier.transport.mongeampere.modal import mixture_at_maxima
from brenier.transport.mongeampere.triangular import triangular

WHITENED: dict[str, Callable[[Marginal], Marginal]] = {"laplace": laplace, "triangular": triangular}
MODES = "modes"  # the reference that is made of the maxima of a density
"""References that are found from the target, by what whitens both."""


def find_marginal(source: Any, dim: int | None = None, like: Marginal | None = None) -> Marginal:
    """The law that `source` names, as a flow knows it.

    Args:
        source: "normal", N(0, I) in `dim` dimensions; whatever `load_target` takes, where data are their points; a
            function log_density(x) of points (n, d) -> (n,), which needs `dim`, or a Python file, `.py`, that defines
            it and `dim`; or a `Marginal`.
        dim: d, for a normal law or a function; checked against all others.
        like: the other law, in whose order points are put, see `laws.alike`.

    Raises:
        ValueError: the dimension is missing or another; a law that is neither a mixture nor points; a function whose
            values are not finite at the origin or have the wrong shape; a file that does not define it.
        TypeError: not a law.
    """
    if isinstance(source, Marginal):
        law = source
    elif isinstance(source, str) and source == "normal" and dim is not None:
        return standard_normal(dim)
    elif callable(source) and not isinstance(source, Target):
        if dim is None:
            raise ValueError("a function has no dimension of its own: give dim, that of its points")
        law = _function(source, dim)
    elif isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".py":
        law = _python(Path(source))
    else:
        found = load_target(source)
        if like is not None and like.shape is not None and found.dim == like.dim:
            found = in_order(found, like.shape, like.name)
        law = _from_target(found)
    if dim is not None and law.dim != dim:
        raise ValueError(f"{law.name} is in {law.dim} dimensions, the other law in {dim}: give two of one dimension")
    return law


def pair(reference: Any, target: Any, dim: int | None) -> tuple[Marginal, Marginal]:
    """Both laws, of one dimension: "normal" takes that of the other, and 1 where both are normal.

    With the reference "modes" the target has the mixture's mean and covariance, so that both are scaled alike.
    """

    def is_normal(source: Any) -> bool:
        return isinstance(source, str) and source == "normal"

    if isinstance(reference, str) and reference in (*WHITENED, MODES):
        law = find_marginal(target, dim)
        if law.draw is not None:
            raise ValueError(f'reference "{reference}" is for a function, and {law.name} can be sampled: use "normal"')
        if reference in WHITENED:
            return WHITENED[reference](law), law
        mixture = _from_target(mixture_at_maxima(law))
        return mixture, replace(law, mean=mixture.mean, covariance=mixture.covariance)  # one scale for both
    if not is_normal(reference):
        _check_spelling(reference)
        first = find_marginal(reference, dim)
        return first, find_marginal(target, first.dim, first)
    second = find_marginal(target, 1 if is_normal(target) and dim is None else dim)
    return standard_normal(second.dim), second


def _check_spelling(reference: Any) -> None:
    """Refuse what is nothing, and nearly the name of a reference."""
    names = ["normal", *WHITENED, MODES]
    near = difflib.get_close_matches(reference.lower(), names, 1, 0.8) if isinstance(reference, str) else []
    if near and not exists(Path(reference)):
        raise ValueError(f"no reference {reference!r}: did you mean {near[0]!r}?")


def _function(log_density: Any, dim: int) -> Marginal:
    name = getattr(log_density, "__name__", "log_density")

    def checked(x: Tensor) -> Tensor:
        values = log_density(x)
        if not isinstance(values, Tensor) or values.shape != x.shape[:1]:
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"{name} must return a tensor of shape ({len(x)},), a number for each point, got {found}")
        return values

    with torch.enable_grad():
        x = torch.zeros(2, dim, dtype=torch.float64, requires_grad=True)
        value = checked(x)
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} is not finite at the origin: shift it to where the law lives")
        if not value.requires_grad:
            raise ValueError(f"{name} cannot be differentiated: compute it from x by operations of torch")
    return Marginal(name, dim, checked, False, None, None, None)


def _python(path: Path) -> Marginal:
    """The law whose log density a Python file defines."""
    given = read_python(path)
    return replace(_function(given.named, given.dim), name=given.name)


def _from_target(target: Target) -> Marginal:
    target = target.to(dtype=torch.float64, device="cpu")
    if target.atoms:
        points, weights = target.point_masses()
        return replace(_points(target.name, points, weights.to(torch.float64)), shape=target.event_shape)
    density = target.density()
    if density is None:
        raise ValueError(f"{target.name} has no smooth density and no points: give a mixture, data or a function")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return target.sample(n, int(torch.randint(2**62, (), generator=generator)))

    return Marginal(target.name, target.dim, density, True, draw, *target.moments(), shape=target.event_shape)


def _points(name: str, points: Float[Tensor, "n d"], weights: Float[Tensor, " n"]) -> Marginal:
    mean = weights @ points
    spread = points - mean

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return points[torch.multinomial(weights, n, replacement=True, generator=generator)]

    return Marginal(name, points.shape[1], None, False, draw, mean, (weights[:, None] * spread).T @ spread)
