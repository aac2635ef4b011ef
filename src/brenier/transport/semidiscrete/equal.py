"""Every datum equally often: noises of cells that have too many are given the best of those that have too few.

Among n draws cell i has n b_i noises but for chance, and a network that is trained on the pairs sees some data more
often than others. To make the counts those asked for, half the sum of their differences has to move, and no more does.
What a move costs is what the score of the new point falls short of that of the old; cheapest moves are made first. The
result is a plan between the n noises and the data with exactly the weights asked for, close to the optimal one, and not
that one.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from brenier.core.checks import Array

Places: TypeAlias = NDArray[np.integer]
Search: TypeAlias = Callable[[NDArray[np.intp], NDArray[np.intp]], tuple[NDArray[np.floating], Places]]


def apportioned(weights: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """n uses among data by their weights, to whole numbers: by largest remainders, ties by lot; shape (N,)."""
    exact = n * weights
    counts = np.floor(exact).astype(np.intp)
    left = exact - counts
    left[weights == 0] = -1
    order = np.lexsort((rng.random(len(left)), -np.round(left, 9)))
    counts[order[: n - int(counts.sum())]] += 1
    return counts


def equal_use(
    falls: NDArray[np.floating], places: Places, capacity: NDArray[np.intp], search: Search
) -> tuple[Places, Array]:
    """A cell for every noise, each cell as often as it should be.

    Args:
        falls: by how much the largest scores of each noise are below the largest, ascending from 0, shape (n, k);
            infinite for cells that are not for it.
        places: their cells, shape (n, k).
        capacity: how often each cell is to be used, shape (N,), sum n.
        search: the same for some noises, among some cells: (noises, cells) -> (falls, places), k of each.

    Returns:
        The cells, shape (n,), and the fall of each, shape (n,), 0 where none moved.
    """
    falls, places = falls.copy(), places.copy()
    cell, fall = places[:, 0].copy(), np.zeros(len(places))
    while True:
        count = np.bincount(cell, minlength=len(capacity))
        excess, room = np.maximum(count - capacity, 0), np.maximum(capacity - count, 0)
        crowded = np.flatnonzero(excess[cell] > 0)
        if len(crowded) == 0:
            return cell, fall
        free = (room[places[crowded]] > 0) & np.isfinite(falls[crowded])
        able = free.any(1)
        if not able.any():
            falls[crowded], places[crowded] = search(crowded, np.flatnonzero(room))
            continue
        who, at = crowded[able], free[able].argmax(1)
        price = falls[who, at]
        order = np.argsort(price, kind="stable")
        who, to, price = who[order], places[who[order], at[order]], price[order]
        leaves = _rank(cell[who]) < excess[cell[who]]
        who, to, price = who[leaves], to[leaves], price[leaves]
        enters = _rank(to) < room[to]
        cell[who[enters]], fall[who[enters]] = to[enters], price[enters]


def _rank(kind: Places) -> NDArray[np.intp]:
    """Of every entry, how many of the same kind come before it."""
    order = np.argsort(kind, kind="stable")
    first = np.flatnonzero(np.diff(kind[order], prepend=-1))
    begin = np.repeat(first, np.diff(np.append(first, len(kind))))
    rank = np.empty(len(kind), dtype=np.intp)
    rank[order] = np.arange(len(kind)) - begin
    return rank
