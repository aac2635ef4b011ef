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
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

RAREST = 1e-3  # share of the draws that has to be accepted where some are drawn anew


def facet_angle(y: Float[Tensor, "*#n d"], z: Float[Tensor, "*#n d"]) -> Float[Tensor, "*n"]:
    """The angle between the faces of points y and z, in radians; also where squares of them are too large for a number.

    Args:
        y: shape (..., d), float64.
        z: shape (..., d), float64.
    """
    one, other = _normals(y), _normals(z)
    # By the two chords: exact for small angles, where the cosine is 1.
    return 2 * torch.atan2((one - other).norm(dim=-1), (one + other).norm(dim=-1))


def leading_angle(y: Float[Tensor, "n k d"]) -> Float[Tensor, " n"]:
    """The largest angle between the face of the first of k points and those of the others.

    Args:
        y: the points of the leading cells at n places, shape (n, k, d), float64.
    """
    return facet_angle(y[:, :1], y[:, 1:]).amax(1)


def check_threshold(threshold: float) -> float:
    """An angle in radians.

    Raises:
        ValueError: it is not between 0 and pi.
    """
    if not 0 <= threshold <= math.pi:
        raise ValueError(f"threshold must be an angle from 0 to pi, in radians, got {threshold}")
    return threshold


def regular(trial: Callable[[int], tuple[Tensor, Tensor]], n: int, threshold: float) -> Tensor:
    """n draws whose angle is at most the threshold.

    Args:
        trial: some draws and their angles, by how many were drawn before.
        n: how many.
        threshold: in radians.

    Raises:
        ValueError: fewer than one draw in a thousand is accepted.
    """
    kept: list[Tensor] = []
    drawn, accepted = 0, 0
    while accepted < n:
        x, angles = trial(drawn)
        kept.append(x[angles <= check_threshold(threshold)])
        drawn, accepted = drawn + len(x), accepted + len(kept[-1])
        if accepted < RAREST * drawn:
            raise ValueError(
                f"{accepted} of {drawn:,} draws have an angle of at most {threshold:g} between their leading "
                f"cells: give a larger threshold (half of the last {len(x):,} angles are below "
                f"{float(angles.median()):.3g})"
            )
    return torch.cat(kept)[:n]


def _normals(y: Float[Tensor, "*n d"]) -> Float[Tensor, "*n up"]:
    size = y.abs().amax(-1, keepdim=True).clamp(min=1.0)
    n = torch.cat([y / size, -1 / size], -1)
    return n / n.norm(dim=-1, keepdim=True)
