"""What users give as a density in several dimensions: checked, and where its mass may be."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from brenier.core.checks import Array

LogDensity: TypeAlias = Callable[[Array], Array]  # of points (n, d) -> (n,)

_DECADES = np.geomspace(1e-4, 1e6, 41)  # lengths at which mass is looked for
_POINTS = 100  # directions at each of them
_CLIMBED = 16  # places that a search climbs from, besides the best


class Mode(NamedTuple):
    """A place where a density is highest, and the lengths along the axes over which its logarithm falls by 1."""

    place: Array  # (d,)
    widths: Array  # (d,)
    height: float


def read_density(log_density: Any, dim: int) -> tuple[LogDensity, bool]:
    """The log density as a function of arrays (n, d), and whether it takes tensors and not arrays.

    Raises:
        TypeError: it is no function, takes neither, or returns no numbers.
        ValueError: it does not return a number for each point; later, where it is NaN or inf.
    """
    if hasattr(getattr(log_density, "__self__", log_density), "pmf"):
        raise ValueError("a discrete law has no density: give its points as GaussianMixture(probabilities, points, 0)")
    if not callable(log_density):
        raise TypeError(f"log_density must be a function of x, got {type(log_density).__name__}")
    probe = np.linspace(0.25, 0.5, 2 * dim).reshape(2, dim)
    tensors = False
    try:
        with np.errstate(all="ignore"):
            log_density(probe)
    except Exception as error:  # noqa: BLE001 - whatever a user's function raises
        tensors = True
        try:
            log_density(torch.from_numpy(probe))
        except Exception:  # noqa: BLE001
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise TypeError(f"log_density(x) fails on an array x of shape (n, {dim}): {said}") from error

    def asked(x: Array) -> Array:
        if len(x) == 1:  # densities of scipy.stats make a number of it
            return asked(np.repeat(x, 2, axis=0))[:1]
        with np.errstate(all="ignore"), torch.no_grad():
            found: Any = log_density(torch.from_numpy(x) if tensors else x)
        try:
            values = np.asarray(found, dtype=float)
        except (TypeError, ValueError):
            raise TypeError(f"log_density must return numbers, got {type(found).__name__}") from None
        if values.shape != x.shape[:1]:
            wanted = f"shape ({len(x)},) for x of shape {x.shape}"
            raise ValueError(f"log_density must return one number per point, {wanted}, got shape {values.shape}")
        bad = np.isnan(values) | (values == np.inf)
        if bad.any():
            k = int(bad.argmax())
            place = ", ".join(f"{value:.6g}" for value in x[k])
            raise ValueError(f"log_density is {values[k]:g} at x = ({place}): it must be a number, or -inf")
        return values

    asked(probe)
    return asked, tensors


def find_modes(log_density: LogDensity, dim: int, at: Sequence[Sequence[float]] = ()) -> list[Mode]:
    """The modes that climbs from good ones among many places lead to, that with most mass around it first.

    Raises:
        ValueError: `at` holds no points of d coordinates; the density is 0 wherever it was looked for.
    """
    places = np.asarray(at, dtype=float).reshape(len(at), -1) if len(at) else np.empty((0, dim))
    if places.shape[1] != dim:
        raise ValueError(f"at must be a list of points of {dim} coordinates, got {places.shape[1]}")
    random = np.random.default_rng(np.random.SeedSequence([0x5EA, dim]))
    around = np.zeros((1, dim)) if not len(at) else places
    ways = random.normal(size=(len(_DECADES), _POINTS, dim)) / np.sqrt(dim)
    cloud = (around[:, None, None] + ways * _DECADES[:, None, None]).reshape(-1, dim)
    x = np.concatenate([places, np.zeros((1, dim)), cloud])
    values = log_density(x)
    if not np.isfinite(values).any():
        raise ValueError("log_density is -inf wherever it was looked for: give points with mass as at=[x]")
    reach = np.linalg.norm(x[:, None] - around, axis=2).min(1)
    worth = np.where(np.isfinite(values), values + dim * np.log(np.maximum(reach, 1e-6)), -np.inf)
    likely = np.flatnonzero(worth > worth.max() - 10 * dim)
    spread = random.choice(likely, min(_CLIMBED, len(likely)), replace=False)
    starts = [*range(len(at)), int(values.argmax()), int(worth.argmax()), *spread.tolist()]
    found: list[Mode] = []
    for k in starts:
        if np.isfinite(values[k]):
            mode = _climbed(log_density, x[k], max(float(reach[k]), 1e-2) if k >= len(at) else 0.1)
            if not any((abs(mode.place - other.place) < 0.3 * other.widths).all() for other in found):
                found.append(mode)
    return sorted(found, key=lambda mode: -(mode.height + float(np.log(mode.widths).sum())))


def _climbed(log_density: LogDensity, start: Array, step: float) -> Mode:
    from scipy.optimize import minimize  # slow to import

    floor = float(log_density(start[None])[0]) - 1e3

    def depth(x: Array) -> float:
        value = float(log_density(x[None])[0])
        return -value if np.isfinite(value) else -floor

    dim = len(start)
    if dim <= 3:
        simplex = np.concatenate([start[None], start + step / 4 * np.eye(dim)])
        options: dict[str, Any] = {"initial_simplex": simplex, "xatol": 1e-6, "fatol": 1e-3, "maxfev": 200 * dim}
        result: Any = minimize(depth, start, method="Nelder-Mead", options=options)
    else:
        result = minimize(depth, start, method="L-BFGS-B", options={"maxiter": 60})
    place, height = np.asarray(result.x, dtype=float), -float(result.fun)
    lengths = np.exp2(np.arange(-80, 80) / 2)
    widths = np.empty(dim)
    for axis in range(dim):
        away = np.zeros((len(lengths), dim))
        away[:, axis] = lengths
        fallen = np.minimum(log_density(place + away), log_density(place - away)) < height - 1
        widths[axis] = lengths[int(fallen.argmax())] if fallen.any() else lengths[-1]
    return Mode(place, widths, height)
