"""What metrics look at instead of the points themselves: features phi(x).

    raw        phi(x) = x
    pca        phi(x) = V^T (x - mean), V the leading principal axes of the reference
    module     any torch module or function from (n, d) to (n, k)

Frechet and kernel distances and the k-nearest-neighbour metrics are those of the features, in their unit. Principal
components are not rescaled: with all of them, distances are those of the points.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brenier.core.points import Numbers, arrays_too, as_points
from brenier.laws.base import far
from brenier.metrics.estimates import points_of

Features: TypeAlias = str | nn.Module | Callable[[Tensor], Tensor]
Moments: TypeAlias = tuple[Float[Tensor, " d"], Float[Tensor, "d d"], int]  # mean, covariance, number of points

COMPONENTS = 64  # principal components, at most
PER_COMPONENT = 10  # samples to each of them, at least
_BATCH = 1024  # points per call of a module


def extract(
    samples: Numbers, reference: Numbers, *, features: Features = "raw", known: Moments | None = None
) -> tuple[Callable[[Tensor], Tensor], str]:
    """The function that takes points to their features, and what it is called.

    The function gives what it takes: tensors of tensors, arrays of arrays.

    Args:
        samples: what is to be judged, shape (n, d).
        reference: what it is judged against, shape (m, d).
        features: "raw"; "pca": as many leading principal components of the reference as the dimension has, 64 at most,
            and no more than give each ten samples and ten points of the reference; or a module or function, which is
            given float32 rows, 1,024 at a time; a function gets float64 ones of points that lie so far from zero that
            float32 would not tell them apart. A module is called in evaluation mode, where its parameters are.
        known: mean, covariance and number of all points of the reference, where those given are some of them.

    Raises:
        ValueError: points that do not fit, no such features, or a reference without principal axes.
        TypeError: neither a name nor a function.
    """
    x, y = points_of(samples, reference)
    count = len(y) if known is None else known[2]
    seen, called = _seen(features, min(len(x), count), y, known)
    return arrays_too(read=lambda _, values, name: as_points(values, name, dtype=torch.float64))(seen), called


def _seen(
    features: Features, fewest: int, reference: Float[Tensor, "m d"], known: Moments | None
) -> tuple[Callable[[Tensor], Tensor], str]:
    if features == "raw":
        return lambda points: points, "raw"
    if features == "pca":
        centre = reference.mean(0) if known is None else known[0].to(reference)
        room = fewest // PER_COMPONENT
        count = min(COMPONENTS, reference.shape[1], max(room, 1))
        centred = reference - centre
        if not float(centred.abs().max()) > 1e-12 * float(reference.abs().max()):
            raise ValueError("the reference is a single point: it has no principal components, use features='raw'")
        second = centred.mT @ centred if known is None else known[1].to(reference)
        axes = torch.linalg.eigh(second).eigenvectors.flip(1)[:, :count]
        return lambda points: (points - centre) @ axes, f"pca, {count} component{'s' * (count > 1)}"
    if isinstance(features, str):
        raise ValueError(f"no features {features!r}: they are 'raw', 'pca', a torch module or a function")
    if not callable(features):
        raise TypeError(f"features must be 'raw', 'pca', a torch module or a function, got {type(features).__name__}")
    return lambda points: apply(features, points, "features").double(), getattr(
        features, "__name__", type(features).__name__
    )


def apply(function: Callable[[Tensor], Tensor], x: Float[Tensor, "n d"], what: str) -> Float[Tensor, "n k"]:
    """Values of a module or function at float32 rows, in batches, on the device of x; see `extract`.

    Raises:
        ValueError: it does not return one finite row for each.
    """
    module = function if isinstance(function, nn.Module) else None
    training = module is not None and module.training
    parameter = next(module.parameters(), None) if module is not None else None
    device = x.device if parameter is None else parameter.device
    mean = x.mean(0)
    spread = float((x - mean).square().mean().sqrt())
    dtype = x.dtype if module is None and spread > 0 and far(mean, spread) else torch.float32
    if module is not None:
        module.eval()
    try:
        with torch.no_grad():
            parts = [torch.as_tensor(function(batch.to(device, dtype))) for batch in x.split(_BATCH)]
    finally:
        if module is not None:
            module.train(training)
    for part, batch in zip(parts, x.split(_BATCH), strict=True):
        if part.ndim != 2 or len(part) != len(batch):
            shapes = f"{tuple(batch.shape)} to {tuple(part.shape)}"
            raise ValueError(f"{what}: the function takes {shapes}: it must return one row of numbers for each point")
    values = torch.cat(parts).to(x.device)
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{what}: the function returns NaN or infinite values")
    return values
