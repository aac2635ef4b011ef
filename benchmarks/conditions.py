"""Does a coupling that keeps to classes make a flow that one step is enough for, and what does one that does not make?

    python benchmarks/conditions.py                           # 3 seeds: 5 minutes on a quiet core
    python benchmarks/conditions.py --steps 100 --seeds 2     # to see that all works

From eight normal laws on a circle to two moons, given which moon (as in C2OT, arXiv:2503.10636, with torchcfm's laws).
The same network, told the moon, is trained for as many steps on as many points with pairs that are

    independent   any noise with any datum
    minibatch     by exact plans between 256 noises and data, whatever their moon
    within        the same, each noise with data of one moon: C2OT
    map           of the optimal map from the eight laws to the points of each moon

and follows the flow to each moon by 1, 2 or 20 Euler steps from fresh noise. W2 between the joint laws of point and
moon is the root of the mean over moons of the squared W2, debiased, to fresh points: as means over seeds, with their
standard errors. Published for one step: independent 2.573, minibatch 0.483, C2OT 0.048 (whose networks, numbers of
points and estimate of W2 are others). "points" are the training points themselves, which no flow should beat by much.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_moons
from torch import Tensor

import brenier
from brenier.core.random import generator_for
from brenier.training.pairs import plan

UNIT = math.sqrt(12.5 + 0.1)  # deviation of a coordinate of the eight laws, by which everything is divided
STEPS = (1, 2, 20)
NAMES = ("independent", "minibatch", "within", "map")
BATCH, FRESH = 256, 4096


def eight(n: int, generator: torch.Generator) -> Tensor:
    """n points of eight normal laws of variance 0.1 on a circle of radius 5, over `UNIT`."""
    angle = torch.randint(8, (n,), generator=generator) * (math.pi / 4)
    away = math.sqrt(0.1) * torch.randn(n, 2, generator=generator)
    return (5 * torch.stack([angle.cos(), angle.sin()], 1) + away) / UNIT


def moons(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n points of two moons, over `UNIT`, and which moon they are of."""
    points, labels = make_moons(n, noise=0.2, random_state=seed)
    return torch.from_numpy(3 * points - 1).float() / UNIT, torch.from_numpy(labels)


def pairs(name: str, data: Tensor, labels: Tensor, transport: Any, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Batches of noise and numbers of data, without end."""
    generator = generator_for(seed, 0xC0)
    while True:
        if name == "map":
            yield transport.draw_pairs(BATCH, generator)
            continue
        x, index = eight(BATCH, generator), torch.randint(len(data), (BATCH,), generator=generator)
        if name != "independent":
            index = index[plan(x, data[index], labels[index] if name == "within" else None)]
        yield x, index


def joint(found: list[Tensor], seed: int) -> float:
    """W2 between points of each moon and fresh ones, in the unit of the moons."""
    fresh, labels = moons(2 * FRESH, 10_000 + seed)
    squares = [brenier.w2(x, fresh[labels == k], seed=seed).squared for k, x in enumerate(found)]
    return UNIT * math.sqrt(max(sum(squares) / 2, 0))


def measure(given: argparse.Namespace) -> None:
    """Train, judge and print."""
    torch.set_num_threads(1)
    console = Console(width=120)
    rows: dict[str, list[list[float]]] = {name: [] for name in (*NAMES, "points")}
    for seed in range(given.seeds):
        data, labels = moons(given.points, seed)
        begun = time.process_time()
        transport = brenier.SemiDiscrete(data, labels=labels.numpy(), source=eight).fit(0.05, seed=seed, progress=False)
        fit = time.process_time() - begun
        noise = eight(FRESH, generator_for(seed, 0xC1))
        for name in NAMES:
            with tempfile.TemporaryDirectory() as place:
                brenier.train(
                    data,
                    Path(place) / "net",
                    objective="flow",
                    pairs=pairs(name, data, labels, transport, seed),
                    labels=labels.numpy(),
                    steps=given.steps,
                    batch=BATCH,
                    width=64,
                    depth=3,
                    seed=seed,
                    device="cpu",
                    progress=False,
                )
                reading = [brenier.Reading(condition={"class_labels": k}) for k in range(2)]
                flows: Any = [brenier.load_target(Path(place) / "net", reading=each) for each in reading]
            times = [[k / steps for k in range(steps + 1)] for steps in STEPS]
            rows[name].append([joint([flow.end(noise, each) for flow in flows], seed) for each in times])
        rows["points"].append([joint([data[labels == k] for k in range(2)], seed)] * len(STEPS))
        shown = ", ".join(f"{name} {values[-1][0]:.3f}" for name, values in rows.items())
        console.print(f"seed {seed}: map {fit:.1f} s; one step: {shown}", style="dim")
    table = Table("pairs", *(f"{steps} steps" for steps in STEPS), box=None)
    for name, values in rows.items():
        means, errors = np.mean(values, 0), np.std(values, 0, ddof=1) / math.sqrt(len(values))
        table.add_row(name, *(f"{a:.3f} ± {b:.3f}" for a, b in zip(means, errors, strict=True)))
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    measure(parser.parse_args())
