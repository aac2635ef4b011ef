"""What figures of a semi-discrete map show: its cells and where they meet, what it makes of a grid, its cells' masses.

On the line and in the plane cells are looked up at many places; they meet on the way between two where the scores of
their points are equal.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from brenier.core.checks import Array
from brenier.core.linalg import principal_axes
from brenier.core.random import generator_for
from brenier.transport.semidiscrete.facets import facet_angle
from brenier.transport.semidiscrete.map import SemiDiscrete

Places: TypeAlias = NDArray[np.intp]

STEEP = 3.0  # times the median angle of the facets: what counts as singular unless a threshold is given
FINE = 500  # places along an axis of the plane at which cells are looked up
LONG = 4001  # places on the line, and along a line of the grid
GRID = 17  # lines of the grid in each direction
DRAWS, WORK = 2**20, 2e11  # draws that masses are counted from, and the multiplications that they may take


class Facets(NamedTuple):
    """Where two cells meet in the window: from where to where, between which points, at which angle."""

    ends: Array  # (F, 2, d)
    pair: Places  # (F, 2)
    angle: Array  # (F,)

    @property
    def steep(self) -> float:
        """Three times their median angle: above it the map is said to jump, unless a threshold is given."""
        return STEEP * float(np.median(self.angle)) if len(self.angle) else 0.0

    def singular(self, threshold: float | None = None) -> NDArray[np.bool_]:
        """Which of them have an angle above the threshold."""
        return self.angle > (self.steep if threshold is None else threshold)


class Cells(NamedTuple):
    """Places on the line, shape (n, 1), or on a grid of the plane, (n, n, 2), with their cells and where these meet."""

    x: Array
    cells: Places
    facets: Facets


class Masses(NamedTuple):
    """How many cells have a relative error of their mass between two edges, and how many would if draws were to blame.

    `noise` stands at `places`: each cell's error is normal, with a spread of its own; None where a cell has all mass.
    """

    draws: int
    edges: Array
    cells: Places
    places: Array
    noise: Array | None


def cells_on_line(transport: SemiDiscrete) -> Cells:
    """Of a map on the line, cells and borders from left to right.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    if transport.dim != 1:
        raise ValueError(f"this map is in {transport.dim} dimensions, and the figure is of one")
    low, high = _window(transport)[:, 0]
    x = np.linspace(low, high, LONG)[:, None]
    cells = _cells(transport, x)
    at = np.flatnonzero(cells[1:] != cells[:-1])
    pair = np.stack([cells[at], cells[at + 1]], 1)
    border = _crossing(transport, pair, x[at], x[at + 1])
    return Cells(x, cells, Facets(np.stack([border, border], 1), pair, _angle(transport, pair)))


def cells_in_plane(transport: SemiDiscrete) -> Cells:
    """Of a map in the plane, cells on a fine grid, and the segments where they meet, between their outermost crossings.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    low, high = _plane(transport)
    x = np.stack(np.meshgrid(*(np.linspace(low[k], high[k], FINE) for k in range(2))), -1)
    cells = _cells(transport, x.reshape(-1, 2)).reshape(FINE, FINE)
    places: list[Array] = []
    pairs: list[Places] = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        differ = cells[one] != cells[other]
        pair = np.stack([cells[one][differ], cells[other][differ]], 1)
        places.append(_crossing(transport, pair, x[one][differ], x[other][differ]))
        pairs.append(np.sort(pair, 1))
    return Cells(x, cells, _segments(transport, np.concatenate(places), np.concatenate(pairs)))


def _segments(transport: SemiDiscrete, place: Array, pair: Places) -> Facets:
    """Two cells share one segment: it runs along their border from the first of their crossings to the last."""
    kinds, kind = np.unique(pair, axis=0, return_inverse=True)
    kind = kind.ravel()
    y = _points(transport)
    apart = y[kinds[:, 0]] - y[kinds[:, 1]]
    direction = np.stack([-apart[:, 1], apart[:, 0]], 1) / np.maximum(np.hypot(*apart.T), np.finfo(float).tiny)[:, None]
    order = np.lexsort(((place * direction[kind]).sum(1), kind))
    first = np.searchsorted(kind[order], np.arange(len(kinds)))
    last = np.searchsorted(kind[order], np.arange(len(kinds)), side="right") - 1
    ends = np.stack([place[order[first]], place[order[last]]], 1)
    return Facets(ends, kinds, _angle(transport, kinds))


def image_of_grid(transport: SemiDiscrete) -> Facets:
    """What a map in the plane makes of a square grid: steps from point to point, each pair once.

    Raises:
        ValueError: the map is in another dimension, or has not been fitted.
    """
    low, high = _plane(transport)
    along, across = np.linspace(0, 1, LONG), np.linspace(0, 1, GRID)
    rows = np.stack(np.meshgrid(along, across), -1)
    x = low + (high - low) * np.concatenate([rows, rows[..., ::-1]])  # (lines, places, 2)
    cells = _cells(transport, x.reshape(-1, 2)).reshape(len(x), -1)
    line, at = np.nonzero(cells[:, 1:] != cells[:, :-1])
    pair = np.unique(np.sort(np.stack([cells[line, at], cells[line, at + 1]], 1), 1), axis=0)
    return Facets(_points(transport)[pair], pair, _angle(transport, pair))


def potential_at(transport: SemiDiscrete, x: Array) -> Array:
    """Brenier's potential at places x on the line, shape (n, 1), in double precision, as curves need it."""
    return np.asarray([float(value) for value in transport.potential(torch.from_numpy(x).float())])


def projection(transport: SemiDiscrete) -> tuple[Array, Array]:
    """Coordinates of the points along their first two principal axes, (N, 2), and their shares of the variance."""
    y = _points(transport)
    unit = np.abs(y).max() or 1.0
    y = y / unit
    weights = transport.weights.cpu().numpy()
    centred = y - weights @ y
    axes, share = principal_axes((weights[:, None] * centred).T @ centred)
    return centred @ axes * unit, share


def ranks(transport: SemiDiscrete) -> Array:
    """Ranks of the points along their first two principal axes, from 0 to 1, shape (N, 2)."""
    places, _ = projection(transport)
    return places[:, :2].argsort(0).argsort(0) / max(len(places) - 1, 1)


def mass_errors(transport: SemiDiscrete, seed: int = 2) -> Masses:
    """Relative errors of the cells' masses on fresh draws, counted in 40 bins.

    Raises:
        ValueError: the map has not been fitted.
    """
    n = int(min(DRAWS, max(WORK / (transport.size * transport.dim), 2**12)))
    counts = torch.zeros(len(transport.points), dtype=torch.float64)
    for k, begin in enumerate(range(0, n, 2**14)):
        _, index = transport.draw_pairs(min(2**14, n - begin), generator_for(seed, k))
        counts += torch.bincount(index.cpu(), minlength=len(counts))
    kept = transport.cell_of >= 0
    _, cell = np.unique(transport.cell_of[kept], return_inverse=True)
    masses, weights = (np.bincount(cell, values[kept]) for values in (counts.numpy(), transport.weights.cpu().numpy()))
    errors = masses / n / weights - 1
    reach = float(np.quantile(np.abs(errors), 0.995)) or 1.0
    edges = np.linspace(-reach, reach, 41)
    heights, _ = np.histogram(np.clip(errors, -reach, reach), edges)
    places = np.linspace(-reach, reach, 401)
    sizes, number = np.unique(np.sqrt((1 - weights) / (n * weights)), return_counts=True)
    if sizes.min(initial=1.0) == 0:
        return Masses(n, edges, heights, places, None)
    density = np.exp(-((places[:, None] / sizes) ** 2) / 2) / (sizes * np.sqrt(2 * np.pi)) @ number
    return Masses(n, edges, heights, places, density * (edges[1] - edges[0]))


def _plane(transport: SemiDiscrete) -> Array:
    if transport.dim != 2:
        raise ValueError(f"this map is in {transport.dim} dimensions, and the figure is of two")
    return _window(transport)


def _window(transport: SemiDiscrete) -> Array:
    """The corners of a box that holds nearly all of the source, shape (2, d)."""
    ends = {"normal": [-3.0, 3.0], "uniform": [0.0, 1.0]}.get(transport.source)
    if ends is not None:
        return np.array(ends)[:, None].repeat(transport.dim, 1)
    x = transport.draw(4096).double().cpu().numpy()
    middle, half = (x.max(0) + x.min(0)) / 2, (x.max(0) - x.min(0)).max() / 2 or 1.0
    return np.stack([middle - half, middle + half])


def _points(transport: SemiDiscrete) -> Array:
    return transport.points.double().cpu().numpy()


def _cells(transport: SemiDiscrete, x: Array) -> Places:
    return transport.cells(torch.from_numpy(x).float()).cpu().numpy()


def _angle(transport: SemiDiscrete, pair: Places) -> Array:
    y = transport.points.double().cpu()[torch.from_numpy(pair)]
    return facet_angle(y[:, 0], y[:, 1]).numpy()


def _crossing(transport: SemiDiscrete, pair: Places, x: Array, z: Array) -> Array:
    """Where on the way from x to z the scores of the two points are equal, shape (n, d)."""
    assert transport.heights is not None
    y, h = _points(transport), transport.heights.cpu().numpy()
    apart, drop = y[pair[:, 0]] - y[pair[:, 1]], h[pair[:, 0]] - h[pair[:, 1]]
    unit = np.maximum(np.abs(apart).max(1, initial=0.0), np.finfo(float).tiny)  # squares of huge points overflow
    here, there = ((place * (apart / unit[:, None])).sum(1) + drop / unit for place in (x, z))
    change = here - there
    share = np.clip(np.divide(here, change, out=np.full_like(here, 0.5), where=change != 0), 0, 1)
    return x + share[:, None] * (z - x)
