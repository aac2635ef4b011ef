"""Data as the atoms of a law: a real matrix that is finite, with weights, centred and scaled to unit spread."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.points import Numbers, as_tensor, as_weights
from brenier.laws.atoms import chunk_rows


def points_of(data: Numbers, event_shape: Sequence[int] | None) -> tuple[Tensor, tuple[int, ...]]:
    """Data as a real (N, d) tensor, with the shape of one point."""
    points = as_tensor(data, "the data")
    if points.ndim == 0 or points.numel() == 0:
        raise ValueError(f"the data have shape {tuple(points.shape)}: at least one point of one dimension is needed")
    shape = tuple(points.shape[1:]) or (1,)
    points = points.reshape(len(points), -1)
    if event_shape is not None:
        shape = tuple(int(side) for side in event_shape)
        if int(np.prod(shape)) != points.shape[1]:
            raise ValueError(f"event_shape {shape} has {int(np.prod(shape))} entries, points have {points.shape[1]}")
    bad = torch.zeros(0)
    if points.is_floating_point():
        finite = torch.empty(len(points), dtype=torch.bool, device=points.device)
        size = chunk_rows(points.shape[1])
        for part, out in zip(points.split(size), finite.split(size), strict=True):
            out.copy_(torch.isfinite(part).all(1))
        bad = (~finite).nonzero()[:, 0]
    if len(bad):
        raise ValueError(f"{len(bad)} of {len(points)} points hold NaN or infinity, the first is number {int(bad[0])}")
    return points, shape


def normalised(weights: Numbers | None, n: int) -> Float[Tensor, " n"]:
    """Weights in float64 with sum 1."""
    values = as_weights(weights, n).numpy()
    values = values / values.max()
    return torch.from_numpy(values / values.sum())


def standardise(
    points: Tensor, weights: Tensor, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, " d"], float, Float[Tensor, "N d"], Float[Tensor, " N"]]:
    """Weighted mean (float64), a unit near the spread per coordinate, the points with both taken out, their squares.

    The unit is a power of two, so that it scales without rounding. The mean is summed about the first point, so that a
    constant coordinate comes out as exactly zero, and rounded to the dtype that it is subtracted in, the wider one of
    the data's and the result's.
    """
    work = torch.promote_types(points.dtype if points.dtype == torch.float32 else torch.float64, dtype)
    size = chunk_rows(points.shape[1])
    chunks = [slice(i, i + size) for i in range(0, len(points), size)]
    weights = weights.to(device)
    first = points[0].to(device, work)
    shift = torch.zeros_like(first, dtype=torch.float64)
    largest = 0.0
    for rows in chunks:
        block = points[rows].to(device, work)
        largest = max(largest, float(block.abs().max()))
        shift += (weights[rows].to(work) @ (block - first)).double()
    centre = (first.double() + shift).to(work)
    coarse = 2.0 ** round(float(np.log2(largest or 1.0)))  # keeps float64 data in the range of float32
    atoms = torch.empty(points.shape, dtype=dtype, device=device)
    squares = torch.empty(len(points), dtype=torch.float64, device=device)
    for rows in chunks:
        atoms[rows] = (points[rows].to(device, work) - centre).div_(coarse).to(dtype)
        squares[rows] = atoms[rows].double().square().sum(1)  # of the atoms as rounded, like every product with them
    spread = float(weights @ squares / points.shape[1]) ** 0.5
    fine = 2.0 ** round(float(np.log2(spread or 1.0)))
    return centre.double(), coarse * fine, atoms.div_(fine), squares / fine**2
