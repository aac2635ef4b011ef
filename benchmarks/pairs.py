"""How many pairs of noise and data a second, against a dense argmax, and what do correlated ones and equal use cost?

    python benchmarks/pairs.py                            # the digits: 1,797 x 64
    python benchmarks/pairs.py --cifar FILE               # 28 x 28 crops of CIFAR-10 in grey: 10,000 x 784
    python benchmarks/pairs.py --small                    # 300 normal points in 32 dimensions: to see that all works

One thread, whose own time counts. The map is fitted for at most `--minutes` first; how well does not matter for times.

The first table: microseconds a pair of

    argmax     in torch: `(x @ y.T + h).argmax(1)` for 1,024 at a time, noise included
    pairs      `SemiDiscrete.pairs`, independent
    family     of M pairs, combinations of 16 or 32 draws, with what an average over them is worth: inflation is the
               variance of the mean of a test function over a family, times M, over the variance for independent pairs;
               pairs over inflation is how many independent pairs a family is worth. Functions: the squared distance
               |x - y|^2, which is even and gains nothing from the negatives in a family; and the mean over fifty
               entries <a, x> <b, y - x>, a and b random directions, as in the gradient of a linear velocity. A family
               pays for a function where (microseconds times inflation) is below that of independent pairs.
    recorded   pairs that were made once, from their file: noise alone

The second table: equal use. How many noises get another datum, and what share of the gain over independent pairs (in
mean squared distance) is lost, for so many uses of each datum.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from semidiscrete import load
from torch import Tensor

from brenier import Pairs, RecordedPairs, SemiDiscrete

BATCH = 1024
DIRECTIONS = 50


def per_pair(batches: Iterator[Any], seconds: float = 5.0) -> float:
    """Microseconds a pair, of batches of `BATCH`; the first one warms up."""
    next(batches)
    begun, count = time.process_time(), 0
    while time.process_time() - begun < seconds:
        next(batches)
        count += BATCH
    return 1e6 * (time.process_time() - begun) / count


def dense(transport: SemiDiscrete) -> Iterator[Tensor]:
    """What one writes in torch."""
    assert transport.heights is not None
    y, h = transport.points.float(), transport.heights.float()
    generator = torch.Generator().manual_seed(0)
    while True:
        x = torch.randn(BATCH, y.shape[1], generator=generator)
        yield (x @ y.T + h).argmax(1)


def entries(transport: SemiDiscrete) -> Callable[[Tensor, Tensor], Tensor]:
    """|x - y|^2 and fifty products of random directions of x and y - x, shape (1 + 50, n)."""
    generator, d = torch.Generator().manual_seed(1), transport.dim
    a, b = (torch.randn(d, DIRECTIONS, generator=generator) for _ in range(2))
    points = transport.points.float()

    def values(x: Tensor, index: Tensor) -> Tensor:
        v = points[index] - x
        return torch.cat([v.square().sum(1)[None], ((x @ a) * (v @ b)).T])

    return values


def inflation(transport: SemiDiscrete, family: int, families: int) -> tuple[float, float]:
    """Of the squared distance, and of the products in the mean."""
    found = entries(transport)
    own = torch.cat([found(*pair) for pair in islice(iter(Pairs(transport, BATCH, 5)), 8)], 1)
    means = torch.stack(
        [found(*pair).mean(1) for pair in islice(iter(Pairs(transport, family, 6, family=family)), families)]
    )
    ratio = family * means.var(0) / own.var(1)
    return float(ratio[0]), float(ratio[1:].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Pairs per second, and what correlated ones and equal use cost.")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as JPEG files in one .npz (bytes, offsets, split)")
    parser.add_argument("--count", type=int, default=10_000, help="of its images")
    parser.add_argument("--small", action="store_true", help="300 normal points in 32 dimensions")
    parser.add_argument("--minutes", type=float, default=10, help="of the fit")
    parser.add_argument("--map", type=Path, help="a map that was saved, instead of a fit")
    parser.add_argument("--families", type=int, default=400, help="that an inflation is measured by")
    parser.add_argument("--uses", type=int, nargs="+", default=(1, 8, 64), help="of each datum, for the second table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    if given.map is not None:
        name, transport = given.map.name, SemiDiscrete.load(given.map)
    else:
        given.grey = True
        name, points = load(given)
        points = np.random.default_rng(0).standard_normal((300, 32), np.float32) if given.small else points
        transport = SemiDiscrete(points).fit(minutes=given.minutes, progress=False)
    excess = float("nan") if transport.result is None else transport.result.excess
    console.print(
        f"{name}: {len(transport.points):,} x {transport.dim}, excess {excess:.3g}; torch {torch.__version__}"
    )
    table = Table("", "us a pair", "times argmax's", "inflation: distance", "products", title="one thread")
    plain = per_pair(dense(transport))
    table.add_row("argmax in torch", f"{plain:.1f}", "1")
    own = per_pair(iter(Pairs(transport, BATCH)))
    table.add_row("pairs", f"{own:.1f}", f"{plain / own:.2f}", "1", "1")
    draws = 16 if transport.dim < 512 else 32
    for family in (2 * draws, 256, BATCH):
        if transport.dim < 24:
            break
        each = per_pair(iter(Pairs(transport, BATCH, family=family)))
        ratios = inflation(transport, family, given.families)
        table.add_row(
            f"family of {family}", f"{each:.1f}", f"{plain / each:.2f}", *(f"{ratio:.2f}" for ratio in ratios)
        )
    kept = per_pair(iter(RecordedPairs(transport.record(8 * BATCH, progress=False), BATCH)))
    table.add_row("recorded", f"{kept:.1f}", f"{plain / kept:.1f}", "1", "1")
    console.print(table)
    table = Table("uses of a datum", "moved", "of the gain lost", "seconds", "us a pair", title="equal use")
    for uses in given.uses:
        begun, n = time.perf_counter(), uses * len(transport.points)
        made = transport.record(n, equal=True, progress=False)
        seconds = time.perf_counter() - begun
        row = f"{100 * made.moved:.2f}%", f"{100 * made.lost:.2f}%", f"{seconds:.1f}", f"{1e6 * seconds / n:.1f}"
        table.add_row(f"{uses}", *row)
    console.print(table)


if __name__ == "__main__":
    main()
