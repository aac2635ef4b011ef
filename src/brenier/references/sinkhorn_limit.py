"""Sinkhorn's iteration tends to the parabolic Monge-Ampère equation as epsilon tends to 0 (arXiv:2504.09279).

Here epsilon goes with the cost |x - y|^2/2: it is reg/2 of `sinkhorn`, whose potentials psi and phi are the same. Let
mu and nu have densities e^{-g} and e^{-f}. Laplace's method, once for each line of the iteration,

    phi = psi* + epsilon [-g - (log det Hess psi)/2 + c] o grad psi*
    psi_new = psi + epsilon [g - f o grad psi + log det Hess psi] + O(epsilon^2)

makes an iteration an Euler step of length epsilon of d psi/dt = -f(grad psi) + g + log det Hess psi: k = t/epsilon of
them lead to psi(t), up to O(epsilon) (Berman, arXiv:1712.03082; Deb, Kim, Pal, Schiebinger, arXiv:2307.16421).
Between N(0, S0) and N(0, S), psi_k = y'A_k y/2 with A_{k+1} = ((A_k + epsilon S0^-1)^-1 + epsilon S^-1)^-1.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brenier.core import records
from brenier.core.work import progress_bar
from brenier.transport.entropic import sinkhorn
from brenier.transport.mongeampere.grid.equation import log_densities
from brenier.transport.mongeampere.grid.solve import GridPotential, solve_on_grid
from brenier.transport.mongeampere.marginal import Marginal

_ACCURACY = 1e-8  # of the equation's steps in time
_FEWEST, _LONGEST = 64, 4096  # points of a grid on the line
_NEGLIGIBLE = 1e-6  # mass on each side where kernels need not be resolved
_CENTRAL = 1e-3  # mass on each side that the largest error leaves out
NORMS = ("l2", "sup")


def sinkhorn_limit(
    reference: Marginal,
    target: Marginal,
    time: float = 1.0,
    epsilons: Sequence[float] = (0.1, 0.05, 0.025, 0.0125, 0.00625),
    points: int = 2048,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
    image: tuple[Sequence[float], Sequence[float]] | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """How far the potential after time/epsilon Sinkhorn iterations is from that of the Monge-Ampère equation at `time`.

    Both start from the potential of the affine map of box to box. The iteration runs on grids that resolve its kernels.

    Args:
        reference: a law on the line with a density.
        target: another; its density may lack a factor.
        time: t > 0 of the equation.
        epsilons: at least 3; each is rounded to `time` over a whole number, the number of iterations.
        points: cells of the equation's grid; its own error, of order 1/points^2, has to be far below the others.
        box: where the reference lives, as in `solve_on_grid`: two corners of one number each.
        image: the same for the target.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Dataset over `epsilon`, descending, with the errors `l2` and `sup` of psi, each taken with mean 0 under the
        reference, `iterations` and `grid_points` (the larger of both grids). Over `norm`: `slope` of the logarithm of
        the error over that of epsilon, by least squares, and `slope_low` and `slope_high`, its 95% interval.

    Raises:
        ValueError: laws that are not on the line or have no density; arguments out of range.
    """
    if reference.dim != 1 or target.dim != 1:
        raise ValueError(f"the limit is computed on the line, and {target.name} is in {target.dim} dimensions")
    if len(epsilons) < 3 or not all(0 < epsilon <= time for epsilon in epsilons) or not math.isfinite(time):
        raise ValueError(f"give at least 3 epsilons between 0 and the time {time:g}, got {list(epsilons)}")
    counts = sorted({max(1, round(time / epsilon)) for epsilon in epsilons})
    if len(counts) < 3:
        raise ValueError(f"the epsilons {list(epsilons)} make fewer than 3 numbers of iterations: spread them out")
    limit, _ = solve_on_grid(
        reference, target, points, [time], accuracy=_ACCURACY, box=box, image=image, progress=progress
    )
    rows: list[dict[str, float]] = []
    with progress_bar("Sinkhorn's iterations", progress) as advance:
        for count in counts:
            rows.append(_errors(reference, target, limit, time, count))
            advance(count / sum(counts))
    return _with_slopes(rows, reference, target, time, points)


def _errors(reference: Marginal, target: Marginal, limit: GridPotential, time: float, count: int) -> dict[str, float]:
    """After `count` iterations of length time/count."""
    epsilon = time / count
    arrays = limit.arrays()
    low, high, image_low, image_high = (float(arrays[name]) for name in ("low", "high", "image_low", "image_high"))
    ratio = (image_high - image_low) / (high - low)
    seen = torch.linspace(low, high, 2001, dtype=torch.float64)[:, None]
    heights = log_densities(reference, seen.numpy())
    mass = torch.from_numpy(np.exp(heights - heights.max()))
    mass /= mass.sum()
    below = mass.cumsum(0)
    steep = limit.hessian(seen[(below > _NEGLIGIBLE) & (below < 1 - _NEGLIGIBLE)])[:, 0, 0]
    # The kernels exp((yx - psi - phi)/epsilon) are as wide as sqrt(epsilon/psi'') in y and sqrt(epsilon psi'') in x.
    spacing = math.sqrt(epsilon / max(float(steep.max()), ratio)), math.sqrt(epsilon * min(float(steep.min()), ratio))
    y, a = _line(reference, low, high, spacing[0])
    x, b = _line(target, image_low, image_high, spacing[1])
    start = (ratio * (y - low) / 2 + image_low) * (y - low)
    found = sinkhorn(
        y[:, None], x[:, None], reg=2 * epsilon, reference_weights=a, target_weights=b, iterations=count, start=start
    )
    error = found.potential(seen) - limit.value(seen)
    error = error - mass @ error
    central = (below > _CENTRAL) & (below < 1 - _CENTRAL)
    return {
        "epsilon": epsilon,
        "l2": math.sqrt(float(mass @ error.square())),
        "sup": float(error[central].abs().max()),
        "iterations": count,
        "grid_points": max(len(y), len(x)),
    }


def _with_slopes(
    rows: list[dict[str, float]], reference: Marginal, target: Marginal, time: float, points: int
) -> xr.Dataset:
    from scipy import stats  # slow to import

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    epsilons = columns.pop("epsilon")
    slopes: list[tuple[float, float, float]] = []
    for norm in NORMS:
        fit: Any = stats.linregress(np.log(epsilons), np.log(columns[norm]))
        reach = float(stats.t.ppf(0.975, len(rows) - 2)) * fit.stderr
        slopes.append((fit.slope, fit.slope - reach, fit.slope + reach))
    data = {name: ("epsilon", values) for name, values in columns.items()}
    ends = {
        name: ("norm", list(part))
        for name, part in zip(("slope", "slope_low", "slope_high"), zip(*slopes, strict=True), strict=True)
    }
    return records.dataset(
        "sinkhorn limit",
        {**data, **ends},
        {"epsilon": epsilons, "norm": list(NORMS)},
        title=f"Sinkhorn's iteration from {reference.name} to {target.name} against its limit",
        reference=reference.name,
        target=target.name,
        time=time,
        points=points,
    )


def _line(law: Marginal, low: float, high: float, spacing: float) -> tuple[Tensor, Tensor]:
    """Centres of equal cells no wider than `spacing`, and weights in proportion to the density."""
    count = max(_FEWEST, math.ceil((high - low) / spacing))
    if count > _LONGEST:
        raise ValueError(f"a grid that resolves the smallest epsilon has {count} points: {_LONGEST} are the most")
    points = low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    heights = log_densities(law, points[:, None].numpy())
    weights = torch.from_numpy(np.exp(heights - heights.max()))
    return points, weights.clamp(min=1e-300)  # their logarithms are numbers
