"""The singular set of a semi-discrete map: where it jumps from one part of the data to another.

Brenier's potential is a polyhedron whose faces z = <x, y_i> + h_i have the normals n_i = (y_i, -1)/|(y_i, -1)|. Where
two faces meet at a small angle

    cos theta = <n_i, n_j>

the map goes on from one point to a neighbour of it; at a large one it jumps, and what is made by averaging or by
interpolating across lies between modes of the data. Such edges make up the singular set (AE-OT, ICLR 2020;
arXiv:2307.11308), and draws whose two leading cells meet at one are rejected.

The angle depends on the unit of the data, and on where their origin is: of points c y it tends to c |y_i - y_j| as c
tends to 0, and to the angle between y_i and y_j as seen from the origin as c grows. A threshold belongs to the data
that it was chosen for; the angles at some thousand draws show which ones part the modes.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brenier.core.checks import whole_number
from brenier.transport.semidiscrete.map import SemiDiscrete

BATCH = 4096  # draws at a time
RAREST = 1e-3  # share of the draws that has to be accepted


def dihedral_angle(transport: SemiDiscrete, x: Float[Tensor, "n d"], k: int = 2) -> Float[Tensor, " n"]:
    """The angle at which the faces of the two leading cells at x meet, or the largest to the k - 1 that follow.

    Args:
        transport: a fitted map.
        x: shape (n, d).
        k: leading cells to look at.

    Returns:
        Angles in radians, from 0 to pi, shape (n,), float64.

    Raises:
        ValueError: k is below 2, or there are not k cells; x of another dimension.
    """
    k = whole_number(k, "k", 2)
    _, places = transport.top(x, k)
    found: list[Tensor] = []
    for part in places.split(BATCH):
        y = transport.points[part].double()
        found.append(facet_angle(y[:, :1], y[:, 1:]).amax(1))
    return torch.cat(found)


def facet_angle(y: Float[Tensor, "*#n d"], z: Float[Tensor, "*#n d"]) -> Float[Tensor, "*n"]:
    """The angle between the faces of points y and z, in radians; also where squares of them are too large for a number.

    Args:
        y: shape (..., d), float64.
        z: shape (..., d), float64.
    """
    one, other = _normals(y), _normals(z)
    # By the two chords: exact for small angles, where the cosine is 1.
    return 2 * torch.atan2((one - other).norm(dim=-1), (one + other).norm(dim=-1))


def is_singular(transport: SemiDiscrete, x: Float[Tensor, "n d"], threshold: float) -> Bool[Tensor, " n"]:
    """Whether the two leading cells at x meet at an angle above the threshold.

    Args:
        transport: a fitted map.
        x: shape (n, d).
        threshold: in radians.

    Raises:
        ValueError: the threshold is not between 0 and pi; there is but one cell; x of another dimension.
    """
    return dihedral_angle(transport, x) > _check(threshold)


def draw_regular(transport: SemiDiscrete, n: int, threshold: float, seed: int = 0) -> Float[Tensor, "n d"]:
    """Draws of the source, given that they are not singular: those that are, are drawn anew.

    Args:
        transport: a fitted map.
        n: how many.
        threshold: in radians.
        seed: of the draws.

    Returns:
        Points x of shape (n, d); `transport.map(x)` carries them on.

    Raises:
        ValueError: fewer than one draw in a thousand is accepted; as `is_singular`.
    """
    n, seed, threshold = whole_number(n, "n", 0), whole_number(seed, "seed", 0), _check(threshold)
    kept: list[Tensor] = [transport.points.new_zeros(0, transport.dim, dtype=torch.float32)]
    drawn, accepted = 0, 0
    while accepted < n:
        x = transport.draw(BATCH, int(np.random.SeedSequence((seed, drawn)).generate_state(1)[0]))
        angles = dihedral_angle(transport, x)
        kept.append(x[angles <= threshold])
        drawn, accepted = drawn + BATCH, accepted + len(kept[-1])
        if accepted < RAREST * drawn:
            raise ValueError(
                f"{accepted} of {drawn:,} draws have an angle of at most {threshold:g} between their leading cells: "
                f"give a larger threshold (half of the last {BATCH:,} angles are below {float(angles.median()):.3g})"
            )
    return torch.cat(kept)[:n]


def _check(threshold: float) -> float:
    if not 0 <= threshold <= math.pi:
        raise ValueError(f"threshold must be an angle from 0 to pi, in radians, got {threshold}")
    return threshold


def _normals(y: Float[Tensor, "*n d"]) -> Float[Tensor, "*n up"]:
    size = y.abs().amax(-1, keepdim=True).clamp(min=1.0)
    n = torch.cat([y / size, -1 / size], -1)
    return n / n.norm(dim=-1, keepdim=True)
