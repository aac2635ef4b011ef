"""Does a coupling that keeps to conditions make a flow that one step is enough for, and what does one that does not?

    python benchmarks/conditions.py                           # 3 seeds: 15 minutes on a quiet core
    python benchmarks/conditions.py --seeds 10                # as many as C2OT has
    python benchmarks/conditions.py --steps 100 --seeds 2 --points 200     # to see that all works

From eight normal laws on a circle to two moons, given which moon (a discrete condition) or given the first coordinate
(a continuous one), as in C2OT (arXiv:2503.10636, with its laws). One network, told the condition, is trained for as
many steps on as many of the same points with pairs that are

    independent   any noise with any datum
    minibatch     by exact plans between 256 noises and data, whatever their condition
    C2OT          by plans that keep to the moon, or that add kappa^2 |c - c'|^2 to the cost, kappa by their rule: so
                  that a noise may be given a twentieth of the data of the plan, on average
    map           of the optimal map from the eight laws to the points of each moon, or to points with conditions, kappa
                  by the skew test

and follows the flow by 1 or 20 Euler steps from fresh noise, given conditions of fresh points. Two measures, as
means over seeds with their standard errors:

    W2^2, marginal   between as many samples as fresh points, conditions left out, in squared units of the moons: what
                     C2OT publishes, but with 4,096 points, not 10,000; "two samples" is the same between fresh points,
                     and "points" between the training points, drawn with replacement, and fresh ones
    W2^2, joint      of points and conditions, debiased

Published for one step: given the moon, independent 2.573, minibatch 0.483, C2OT 0.048; given the coordinate 0.732,
8.276, 0.077. Their networks have width 128, too, and are trained for 20,000 steps on ever fresh points with plans
between 1,024.
"""

import argparse
import math
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import ot
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_moons
from torch import Tensor, nn

import brenier
from brenier.core.random import generator_for
from brenier.training.pairs import plan

VARIANCE = math.sqrt(0.1)  # of the eight laws: torchcfm's "variance" of 0.1 is the square of the covariance's
UNIT = math.sqrt(12.5 + VARIANCE)  # deviation of a coordinate of the eight laws, by which everything is divided
STEPS = (1, 20)
NAMES = ("independent", "minibatch", "C2OT", "map")
BATCH, FRESH, SHARE = 256, 4096, 0.05
RATE, EMA, WIDTH, DEPTH = 3e-3, 0.999, 128, 3
KINDS = ("moon", "coordinate")


def eight(n: int, generator: torch.Generator) -> Tensor:
    """n points of eight normal laws on a circle of radius 5, over `UNIT`."""
    angle = torch.randint(8, (n,), generator=generator) * (math.pi / 4)
    away = math.sqrt(VARIANCE) * torch.randn(n, 2, generator=generator)
    return (5 * torch.stack([angle.cos(), angle.sin()], 1) + away) / UNIT


def moons(n: int, seed: int, kind: str) -> tuple[Tensor, Tensor]:
    """n points of two moons, over `UNIT`, and their conditions, shape (n, 1)."""
    drawn: Any = make_moons(n, noise=0.2, random_state=seed)
    points, labels = drawn
    found = torch.from_numpy(3 * points - 1).float() / UNIT
    return found, torch.from_numpy(2.0 * labels - 1).float()[:, None] if kind == "moon" else found[:, :1]


def share_weight(x: Tensor, y: Tensor, c: Tensor) -> float:
    """C2OT's weight of conditions: the least at which a share of `SHARE` of the plan is cheaper than what was drawn."""
    apart, other = torch.cdist(x, y).square(), torch.cdist(c, c).square()
    low, high = 0.0, 1e4
    for _ in range(40):
        weight = math.sqrt(max(low, 1e-3) * high)
        below = float(((apart + weight * other) <= apart.diagonal()).float().mean()) < SHARE
        low, high = (low, weight) if below else (weight, high)
    return high


def pairs(name: str, kind: str, data: Tensor, c: Tensor, transport: Any, seed: int) -> Callable[[], tuple[Tensor, ...]]:
    """What draws a batch: noise, data, conditions."""
    generator = generator_for(seed, 0xC0)
    first = eight(1024, generator), torch.randint(len(data), (1024,), generator=generator)
    kappa = math.sqrt(share_weight(first[0], data[first[1]], c[first[1]]))

    def draw() -> tuple[Tensor, ...]:
        if name == "map":
            x, index = transport.draw_pairs(BATCH, generator)
            return x, data[index], c[index]
        x, index = eight(BATCH, generator), torch.randint(len(data), (BATCH,), generator=generator)
        y, told = data[index], c[index]
        if name == "minibatch":
            index = index[plan(x, y)]
        elif name == "C2OT" and kind == "moon":
            index = index[plan(x, y, told[:, 0].long())]
        elif name == "C2OT":
            index = index[plan(torch.cat([x, kappa * told], 1), torch.cat([y, kappa * told], 1))]
        return x, data[index], c[index]

    return draw


class Network(nn.Module):
    """A velocity, told the time and the condition."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [4, *[WIDTH] * DEPTH]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 2))

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """v(x, t), told c."""
        return self.layers(torch.cat([x, t[:, None], c], 1))


def trained(draw: Callable[[], tuple[Tensor, ...]], steps: int, seed: int) -> Network:
    """The average of the weights of a network that was trained with these pairs."""
    torch.manual_seed(seed)
    network, average = Network(), Network()
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for k in range(steps):
        x, y, c = draw()
        t = torch.rand(len(x))
        loss = (network(x + t[:, None] * (y - x), t, c) - (y - x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 1 - min(EMA, (1 + k) / (10 + k)))
    return average


def marginal(x: Tensor, y: Tensor) -> float:
    """W2^2 between the two samples, in the unit of the moons."""
    cost: Any = ot.emd2([], [], ot.dist(x.double().numpy(), y.double().numpy()), numItermax=10**7)
    return UNIT**2 * float(cost)


def joint(x: Tensor, y: Tensor, c: Tensor, kind: str, seed: int) -> float:
    """W2^2 of points and conditions; a moon of another kind is as far as can be, and is compared with itself alone."""
    if kind == "moon":
        parts = [brenier.w2(x[c[:, 0] == k], y[c[:, 0] == k], seed=seed).squared for k in (-1, 1)]
        return UNIT**2 * max(sum(parts) / 2, 0.0)
    return UNIT**2 * max(brenier.w2(torch.cat([x, c], 1), torch.cat([y, c], 1), seed=seed).squared, 0.0)


@torch.no_grad()
def judged(network: Network, kind: str, seed: int) -> list[float]:
    """Marginal and joint W2^2 by numbers of steps."""
    fresh, c = moons(FRESH, 10_000 + seed, kind)
    found: list[float] = []
    for steps in STEPS:
        x = eight(FRESH, generator_for(seed, 0xC1))
        for k in range(steps):
            x = x + network(x, torch.full((FRESH,), k / steps), c) / steps
        found += [marginal(x, fresh), joint(x, fresh, c, kind, seed)]
    return found


def measure(given: argparse.Namespace) -> None:
    """Train, judge and print."""
    torch.set_num_threads(1)
    console = Console(width=120)
    for kind in KINDS:
        rows: dict[str, list[list[float]]] = {name: [] for name in (*NAMES, "points", "two samples")}
        for seed in range(given.seeds):
            data, c = moons(given.points, seed, kind)
            begun = time.process_time()
            told: dict[str, Any] = {"labels": c[:, 0].int().numpy()} if kind == "moon" else {"conditions": c.numpy()}
            transport = brenier.SemiDiscrete(data, source=eight, **told).fit(0.05, seed=seed, progress=False)
            fit, kappa = time.process_time() - begun, getattr(transport, "kappa", math.inf)
            for name in NAMES:
                network = trained(pairs(name, kind, data, c, transport, seed), given.steps, seed)
                rows[name].append(judged(network, kind, seed))
            fresh, other = (moons(FRESH, first + seed, kind)[0] for first in (10_000, 20_000))
            again = data[torch.randint(len(data), (FRESH,), generator=generator_for(seed, 0xC2))]
            for name, sample in (("points", again), ("two samples", other)):
                rows[name].append([marginal(sample, fresh), math.nan] * len(STEPS))
            shown = ", ".join(f"{name} {values[-1][0]:.3f}" for name, values in rows.items())
            console.print(f"{kind}, seed {seed}: map {fit:.1f} s, kappa {kappa:.3g}; one step: {shown}", style="dim")
        heads = [f"{n} step{'s' * (n > 1)}, {what}" for n in STEPS for what in ("marginal", "joint")]
        table = Table("pairs", *heads, box=None, title=f"W2^2, given the {kind}: means over {given.seeds} networks")
        for name, values in rows.items():
            means, errors = np.mean(values, 0), np.std(values, 0, ddof=1) / math.sqrt(len(values))
            table.add_row(
                name, *("" if math.isnan(a) else f"{a:.3f} ± {b:.3f}" for a, b in zip(means, errors, strict=True))
            )
        console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    measure(parser.parse_args())
