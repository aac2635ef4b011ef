"""What is seen at a few noisy images along the SNRs: the image, its mean, what is undecided, the nearest datum.

    y = r x + z,    E[X | y],    the top eigenvector of Cov[X | y],    the datum of the largest posterior weight

All in eight bits, as pictures of a page are. They are drawn by streams of their own: no other number of a profile
depends on whether they are there. About the law behind data the shown points are left out of the atoms.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from brenier.core.checks import Array
from brenier.core.points import image_sides
from brenier.core.random import generator_for, normal_like
from brenier.core.records import Variables
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.probing.difficulty import undecided

PLACES, FEWER = 12, 6  # SNRs at which they are kept; of a network, whose components are dear
MOST = 2**22  # bytes
CROWD = 1024  # atoms that a component is found from: those that matter, or so many draws of them
SLIGHT = 1e-3  # mass that may be left out
DECIDED = 1e-6  # variance of rX below which nothing is undecided, and no direction is
TURNS = 8  # of the subspace iteration
WIDE = 2.0  # standard deviations of the noise that a noisy image has room for on each side


def views_of(law: Target, grid: Array, count: int, seed: int, *, apart: bool) -> tuple[Variables, dict[str, float]]:
    """What is seen at `count` noisy images, at up to twelve of the SNRs.

    Args:
        law: of images; of another, of data in blocks and of images too large to keep there is nothing.
        grid: SNRs, ascending.
        count: how many images.
        seed: of which, and of the noise.
        apart: whether these are left out of the atoms.

    Returns:
        Variables over `view` and `shown`, and the attributes that say what eight bits stand for.
    """
    fewer = FEWER if law.learned else PLACES
    places = min(fewer, len(grid), MOST // max(4 * count * law.dim, 1))
    if count < 1 or places < 1 or image_sides(law.event_shape) is None or not law.in_memory:
        return {}, {}
    at = np.unique(np.linspace(0, len(grid) - 1, places).round().astype(int))
    x, rows = _chosen(law, count, seed)
    z = normal_like(x, generator_for(seed, 0x51E3))
    source = law if isinstance(law, Empirical) else law.drawn_from
    data = source if isinstance(source, Empirical) and source.dim == law.dim else None
    low, high = float(x.min()), float(x.max())
    found: list[dict[str, Any]] = []
    known = None if data is None else data.posteriors(x, z, grid[at].tolist(), rows if apart else None)
    for k, snr in enumerate(grid[at]):
        one: dict[str, Any] = {"view_noisy": x + z / snr}
        if known is not None:
            assert data is not None  # or nothing is known
            one["view_nearest"] = data.take(known[k][0].argmax(1))
        if known is not None and isinstance(law, Empirical):
            one["view_mean"] = known[k][1]
            one |= _of_atoms(law, known[k][0], float(snr), seed)
        else:
            values, vectors, means = undecided(law, snr * x + z, float(snr), 1, seed)
            one |= {"view_variance": values[:, 0], "view_axis": vectors[:, 0], "view_mean": means}
        one["view_axis"] = torch.where(one["view_variance"][:, None] > DECIDED, one["view_axis"], 0)
        found.append({name: value.double().cpu().numpy() for name, value in one.items()})
    everything = [one[name] for one in found for name in ("view_mean", "view_nearest") if name in one]
    low = min(low, *(float(part.min()) for part in everything))
    high = max(high, *(float(part.max()) for part in everything))
    variables: Variables = {"view_snr": (("view",), grid[at])}
    for name in found[0]:
        if name == "view_variance":
            variables[name] = (("view", "shown"), np.stack([one[name] for one in found]))
            continue
        parts = [_bits(name, one[name], low, high, float(snr)) for one, snr in zip(found, grid[at], strict=True)]
        variables[name] = (("view", "shown", "coordinate"), np.stack(parts))
    return variables, {"view_low": low, "view_high": high}


def _bits(name: str, values: Array, low: float, high: float, snr: float) -> Any:
    """Values as eight bits."""
    if name == "view_axis":
        largest = np.abs(values).max(1, keepdims=True)
        share = 0.5 + 0.5 * values / np.where(largest > 0, largest, 1)
    else:
        room = WIDE / snr if name == "view_noisy" else 0.0
        share = (values - low + room) / (high - low + 2 * room or 1.0)
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)


def _chosen(law: Target, count: int, seed: int) -> tuple[Float[Tensor, "n d"], Tensor | None]:
    """Points of the law, and their numbers where it has any."""
    if not isinstance(law, Empirical):
        return law.sample(count, int(generator_for(seed, 0x51E0).initial_seed() % 2**32)), None
    chances = law.weights.cpu()
    rows = torch.multinomial(chances, min(count, len(law)), generator=generator_for(seed, 0x51E0))
    return law.take(rows).to(law.dtype), rows


def _of_atoms(law: Empirical, weights: Float[Tensor, "n N"], snr: float, seed: int) -> dict[str, Tensor]:
    """The component from the atoms that matter, or from draws of them."""
    source = generator_for(seed, 0x51E5)
    variances, axes = [], []
    for own in weights:
        share, rows = own.topk(min(CROWD, len(own)))
        if float(share.sum()) < 1 - SLIGHT:
            rows = torch.multinomial(own.cpu(), CROWD, replacement=True, generator=source).to(own.device)
            share = torch.full_like(share, 1 / CROWD)
        variance, axis = _component(law.take(rows).to(law.dtype), (share / share.sum()).to(law.dtype), source)
        variances.append(variance.double() * snr**2)
        axes.append(axis)
    return {"view_variance": torch.stack(variances), "view_axis": torch.stack(axes)}


def _component(
    atoms: Float[Tensor, "m d"], weights: Float[Tensor, " m"], source: torch.Generator
) -> tuple[Float[Tensor, ""], Float[Tensor, " d"]]:
    """Variance and direction of the first principal component of weighted atoms, by subspace iteration."""
    rows = weights.sqrt()[:, None] * (atoms - weights @ atoms)
    start = torch.randn(atoms.shape[1], min(3, atoms.shape[1]), generator=source, dtype=torch.float64).to(rows)
    basis = torch.linalg.qr(start).Q
    for _ in range(TURNS):
        basis = torch.linalg.qr(rows.T @ (rows @ basis)).Q
    values, turn = torch.linalg.eigh(basis.T @ (rows.T @ (rows @ basis)))
    return values[-1], basis @ turn[:, -1]
