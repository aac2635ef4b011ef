"""What is kept with a fitted map: how good it is, on fresh points, and what figures of it are drawn from.

KL(rho || e^{-f}) = E h(T(Y)), with h = log(rho/e^{-f}) in closed form where both laws have densities. For a density up
to a factor it is known up to a constant only; the standard deviation of h is known all the same, and is 0 for the map
that is sought and no other.
"""

import math
import statistics
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import whole_number
from brenier.core.random import generator_for
from brenier.distances.wasserstein import exact_w2
from brenier.transport.mongeampere.discrepancy import Exact, NotFinite
from brenier.transport.mongeampere.evidence import Evidence, NotANumber, measure
from brenier.transport.mongeampere.judge import POINTS
from brenier.transport.mongeampere.marginal import LogDensity, Marginal
from brenier.transport.mongeampere.model import MongeAmpere
from brenier.transport.mongeampere.potentials import Potential

FRESH = 2**13  # points of the reference that the divergence and the curvature are measured on
PAIRS = 4  # of samples, as large as those of the fit, that W2 is measured between
SHOWN = 1000  # points of each law that are kept
LINE, PLANE = 2001, 161  # places at which a density is kept, on the line and along an axis of the plane
WIDE = 0.3  # of the image's width, on each side, to which they reach


def portrait(flow: MongeAmpere, seed: int = 0) -> xr.Dataset:
    """The map as a dataset, measured on fresh points, with points and densities of both laws.

    To what `MongeAmpere.to_dataset` holds it adds, where they are known,

    - the attributes `kl`, `kl_se` (standard error), `kl_constant` (1: known up to a constant), `kl_spread` (standard
      deviation of log(rho/e^{-f})), over the points where psi is convex, and `nonconvex`, the share of others; NaN
      where the map reaches beyond the density. Without densities `kl` and `kl_se` are what a classifier said at the
      last step;
      `log_z` and `log_z_se`, the logarithm of the integral of the target's density, NaN where it is refused, and then
      why, `log_z_refused`, with the effective sample size `weights_ess` of so many `weights_n`, the Pareto shape
      `weights_k`, and what was found beside the points, `weights_drift` and `weights_unseen`, see `evidence`;
      `w2`, `floor` and `w2_points`, W2 between so many points of rho and the target, and between two samples of the
      target, root mean squares over `PAIRS` pairs, with standard errors `w2_se` and `floor_se`;
      `curvature`, the least eigenvalue of Hess psi on `FRESH` points; `drive`, `seed`;
    - `reference_points` and `target_points`, shapes (n, axis);
    - on the line `reference_density` over `y` and `target_density` over `x`; in the plane `target_density` over `x1`
      and `x2`, for a target that cannot be sampled. A density up to a factor is scaled to integral 1 there.

    Raises:
        ValueError: nothing was fitted.
    """
    data, potential = flow.to_dataset(), flow.psi
    assert potential is not None  # or to_dataset would have refused
    generator = torch.Generator().manual_seed(whole_number(seed, "seed", 0) + 2)  # fits take seed, judges seed + 1
    fresh = flow.reference.drawn(FRESH, generator)
    curvature = potential.curvatures(fresh)
    found: dict[str, Any] = {
        "seed": seed,
        "curvature": float(curvature.min()),
        "nonconvex": float((curvature <= 0).double().mean()),
    }
    data.attrs |= found | _divergence(flow, potential, fresh) | _evidence(flow, potential, seed)
    data.attrs |= _distance(flow, potential, generator)
    y = flow.reference.drawn(SHOWN, generator)
    data["reference_points"] = (("reference_point", "axis"), y.numpy())
    if flow.target.draw is not None:
        data["target_points"] = (("target_point", "axis"), flow.target.draw(SHOWN, generator).numpy())
    if flow.dim == 1:
        return _with_line(data, flow, y)
    if flow.dim == 2 and flow.target.draw is None and flow.target.log_density is not None:
        corners = _corners(flow.map(y))
        axes = [torch.linspace(float(low), float(high), PLANE, dtype=torch.float64) for low, high in corners.T]
        points = torch.cartesian_prod(*axes)
        cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
        density = _density(flow.target.log_density, points, cell, normalised=False).reshape(PLANE, PLANE)
        data["target_density"] = (("x1", "x2"), density)
        return data.assign_coords(x1=axes[0].numpy(), x2=axes[1].numpy())
    return data


def _divergence(flow: MongeAmpere, potential: Potential, fresh: Float[Tensor, "n d"]) -> dict[str, float | int]:
    if flow.reference.log_density is not None and flow.target.log_density is not None:
        try:
            with torch.no_grad():
                h = Exact(flow.reference, flow.target).value(potential, fresh)
        except NotFinite:
            h = torch.full((len(fresh),), math.nan)
        known = h[torch.isfinite(h)]
        spread = float(known.std()) if len(known) > 1 else math.nan
        return {
            "kl": float(known.mean()),
            "kl_se": spread / math.sqrt(max(len(known), 1)),
            "kl_constant": int(not (flow.target.normalised and flow.reference.normalised)),
            "kl_spread": spread,
        }
    history = flow.history
    if history is not None and "kl" in history and history.sizes["step"]:
        return {"kl": float(history["kl"][-1]), "kl_se": float(history["kl_se"][-1]), "kl_constant": 0}
    return {}


def _evidence(flow: MongeAmpere, potential: Potential, seed: int) -> dict[str, float | int | str]:
    known = flow.reference.log_density is not None and flow.target.log_density is not None
    if not known or not flow.reference.normalised:
        return {}
    try:
        found = measure(flow.reference, flow.target, potential, FRESH, generator_for(seed, 0xE71D))
    except NotANumber as error:  # far out, where the map itself does not go
        found = Evidence(math.nan, math.nan, 0.0, math.inf, 1.0, 0.0, math.nan, math.nan, FRESH, refused=str(error))
    return {
        "log_z": found.value,
        "log_z_se": found.se,
        "weights_ess": found.ess,
        "weights_n": found.n,
        "weights_k": found.pareto_k,
        "weights_folded": found.folded,
        "weights_drift": found.drift,
        "weights_unseen": found.unseen,
        **({"log_z_refused": found.refused} if found.refused else {}),
    }


def _distance(flow: MongeAmpere, potential: Potential, generator: torch.Generator) -> dict[str, float | int]:
    if flow.target.draw is None:
        return {}
    found = dict[str, float | int]()
    for name, law in (("w2", flow.reference), ("floor", flow.target)):
        squares: list[float] = []
        for _ in range(PAIRS):
            x = law.drawn(POINTS, generator)
            with torch.no_grad():
                x = potential.gradient(x) if name == "w2" else x
            squares.append(exact_w2(x, flow.target.drawn(POINTS, generator)).value ** 2)
        root = math.sqrt(statistics.fmean(squares))
        found[name] = root
        found[f"{name}_se"] = statistics.stdev(squares) / math.sqrt(PAIRS) / (2 * root) if root > 0 else 0.0
    return {**found, "w2_points": POINTS}


def _with_line(data: xr.Dataset, flow: MongeAmpere, y: Float[Tensor, "n 1"]) -> xr.Dataset:
    """Densities on the line, over the places of the reference and where the map takes them."""
    low, high = _ends(flow.reference, y)
    places = torch.linspace(low, high, LINE, dtype=torch.float64)
    data = data.assign_coords(y=places.numpy())
    if flow.reference.log_density is not None:
        step = float(places[1] - places[0])
        density = _density(flow.reference.log_density, places[:, None], step, flow.reference.normalised)
        data["reference_density"] = ("y", density)
    if flow.target.log_density is not None:
        ((left,), (right,)) = _corners(flow.map(places[:, None])).tolist()
        x = torch.linspace(left, right, LINE, dtype=torch.float64)
        density = _density(flow.target.log_density, x[:, None], float(x[1] - x[0]), flow.target.normalised)
        data = data.assign_coords(x=x.numpy())
        data["target_density"] = ("x", density)
    return data


def _ends(law: Marginal, y: Float[Tensor, "n 1"]) -> tuple[float, float]:
    """Where the reference is looked at: 6.5 standard deviations of it, so that quantiles are exact; else its points."""
    low, high = float(y.min()), float(y.max())
    if law.mean is None or law.covariance is None:
        return low, high
    mean, reach = float(law.mean[0]), 6.5 * math.sqrt(float(law.covariance[0, 0]))
    return (low, high) if law.log_density is None else (min(low, mean - reach), max(high, mean + reach))


def _corners(points: Float[Tensor, "n d"]) -> Float[Tensor, "2 d"]:
    """Of a box around the image, with room on each side."""
    low, high = points.amin(0), points.amax(0)
    room = WIDE * (high - low).clamp(min=1e-12)
    return torch.stack([low - room, high + room])


def _density(
    log_density: LogDensity, points: Float[Tensor, "n d"], cell: float, normalised: bool
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """At points of a grid, 0 where it is not a number: beyond the support."""
    with torch.no_grad():
        heights = log_density(points).double().nan_to_num(nan=-math.inf, posinf=-math.inf)
    if normalised:
        return heights.exp().numpy()
    density = (heights - heights.max()).exp()
    return (density / (density.sum() * cell)).numpy()
