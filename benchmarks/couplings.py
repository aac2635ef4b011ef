"""Which noise should a flow be trained on with which datum, at equal cost of training? And what does pairing cost?

    python benchmarks/couplings.py                                    # the digits, 1,797 x 64: 25 minutes on one core
    python benchmarks/couplings.py --seconds 5 --seeds 2              # to see that all works

The same network is trained as a flow on the digits by `brenier train --objective flow`, with pairs that are

    independent   any noise with any datum
    minibatch     by exact plans between 128 noises and 128 data (arXiv:2302.00482)
    map           of the optimal map from N(0, I) to the digits, a million of them recorded before and used in turn

for `--seconds` of this process's own time on one thread, pairing included: the cost of a step of each is measured
first, in turns, and the number of steps follows; the map's own fit and the recording are taken off its steps, for every
network anew. The first table says what that came to, and what pairing costs a step: against independent pairs, of which
it has the noise in common. There "map, fresh" are pairs that are made while training.

The second table holds for 1, 2, 4 and 8 Euler steps, as means over `--seeds` networks with their standard errors:

    sliced W2     between 1,797 samples and the digits, times sqrt(d), as `brenier evaluate` has it: a lower bound
    W2            between their laws, debiased: the same without projections, and with more noise
    Frechet       distance between them, of pixels, without the bias of finite samples
    copies        median over samples of the distance to the nearest digit over that to the second
    gain          of the map over the better of the other two, in standard errors of the difference

and below it the straightness int E|v - (x1 - x0)|^2 dt of each flow, and its share of int E|v|^2 dt. (The exact W2
between equally many samples and digits is no measure: digits shrunk by a fifth are closer to others, 2.53, than digits
themselves, 2.65.)
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import brenier
from brenier.distances import debiased_w2, sliced_w2
from brenier.metrics import frechet_distance, memorisation
from brenier.sampling.comparison import LINES
from brenier.sampling.sample import straightness_of
from brenier.training.pairs import pairs_of
from brenier.training.workers import Workers

STEPS = (1, 2, 4, 8)
NETWORK: dict[str, Any] = {"width": 192, "depth": 3, "batch": 256, "device": "cpu", "progress": False}
RECORDED = 2**20
ROUNDS, FEW = 3, 40  # in which the cost of a step is measured
NAMES = ("independent", "minibatch", "map")


def spent(work: Callable[[], Any]) -> tuple[Any, float]:
    """What came out, and the seconds of this process that it took."""
    begun = time.process_time()
    return work(), time.process_time() - begun


def step_costs(law: brenier.Target, pairs: dict[str, Callable[[], Any]], folder: Path) -> dict[str, float]:
    """Seconds of a step of training, the median of `ROUNDS` rounds of `FEW` steps."""
    times: dict[str, list[float]] = {name: [] for name in pairs}
    for turn in range(ROUNDS):
        for name, make in pairs.items():
            marks: list[float] = []
            brenier.train(
                law,
                folder / f"{name}-{turn}",
                objective="flow",
                pairs=make(),
                steps=FEW,
                on_step=lambda step, loss, marks=marks: marks.append(time.process_time()),
                **NETWORK,
            )
            times[name] += np.diff(marks).tolist()
    return {name: median(values) for name, values in times.items()}


def pair_costs(law: brenier.Target, pairs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds that drawing a batch of pairs takes, the median of 200."""
    here, found = Workers(torch.device("cpu")), {}
    for name, make in pairs.items():
        source = pairs_of(make(), 128, law, law, here)
        found[name] = median(spent(lambda k=k, s=source: s.draw(NETWORK["batch"], (k, k + 1)))[1] for k in range(200))
    return found


def judged(network: brenier.FlowTarget, law: brenier.Empirical, seed: int) -> dict[str, float]:
    """The numbers of one network."""
    found: dict[str, float] = {}
    for steps in STEPS:
        x = brenier.sample(network, len(law), steps=steps, solver="euler", seed=seed, progress=False).points
        nearest = memorisation(x, law.data).samples
        found |= {
            f"sliced W2 {steps}": sliced_w2(x, law.data, projections=LINES, seed=seed).value,
            f"W2 {steps}": debiased_w2(x, law.data, seed=seed).value,
            f"Frechet {steps}": frechet_distance(x, law.data)[1].value,
            f"copies {steps}": float((nearest.distance / nearest.second).median()),
        }
    bent = straightness_of(network, 1024, seed=seed)
    return found | {"straightness": bent.value, "share": bent.share}


def measure(given: argparse.Namespace) -> None:
    """Train, judge and print."""
    torch.set_num_threads(1)
    console = Console(width=120)
    law: Any = brenier.load_target("digits")
    transport, fit = spent(lambda: brenier.SemiDiscrete(law.data).fit(progress=False))
    recording, record = spent(lambda: transport.record(RECORDED, progress=False))
    pairs: dict[str, Callable[[], Any]] = {
        "independent": lambda: "independent",
        "minibatch": lambda: "minibatch",
        "map": lambda: brenier.RecordedPairs(recording, NETWORK["batch"]),
        "map, fresh": lambda: transport,
    }
    with tempfile.TemporaryDirectory() as place:
        costs, drawing = step_costs(law, pairs, Path(place)), pair_costs(law, pairs)
        ahead = {"map": fit + record}
        steps = {name: max(round((given.seconds - ahead.get(name, 0)) / costs[name]), 10) for name in NAMES}
        table = Table("pairs", "before (s)", "a step (ms)", "pairing (ms)", "more than independent", "steps", box=None)
        for name in pairs:
            more = (drawing[name] - drawing["independent"]) / costs["independent"]
            table.add_row(
                name,
                f"{fit + record * (name == 'map'):.1f}" if name.startswith("map") else "0",
                f"{1e3 * costs[name]:.2f}",
                f"{1e3 * drawing[name]:.2f}",
                f"{100 * more:.1f}%",
                f"{steps[name]:,}" if name in steps else "-",
            )
        console.print(table)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
        for seed in range(given.seeds):
            for name in NAMES:
                network, seconds = spent(
                    lambda name=name, seed=seed: brenier.train(
                        law,
                        Path(place) / f"{name}-of-{seed}",
                        objective="flow",
                        pairs=pairs[name](),
                        plan_size=128 if name == "minibatch" else None,
                        steps=steps[name],
                        seed=seed,
                        **NETWORK,
                    )
                )
                rows[name].append(judged(network, law, 1000 + seed))
                numbers = ", ".join(f"{key} {value:.4g}" for key, value in rows[name][-1].items())
                console.print(f"{name}, seed {seed}, {seconds:.0f} s: {numbers}", style="dim")
    show(rows, console)


def show(rows: dict[str, list[dict[str, float]]], console: Console) -> None:
    """Print means over seeds, their standard errors, and how sure a gain is."""

    def mean(name: str, key: str) -> tuple[float, float]:
        values = np.array([row[key] for row in rows[name]])
        return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))

    for kind in ("sliced W2", "W2", "Frechet", "copies"):
        table = Table(kind, *NAMES, "" if kind == "copies" else "gain", box=None)
        for steps in STEPS:
            found = {name: mean(name, f"{kind} {steps}") for name in NAMES}
            value, error = min(found["independent"], found["minibatch"])
            gain = (value - found["map"][0]) / math.hypot(error, found["map"][1])
            told = "" if kind == "copies" else f"{gain:.1f}"
            table.add_row(f"{steps} steps", *(f"{a:.3f} ± {b:.3f}" for a, b in found.values()), told)
        console.print(table)
    for key in ("straightness", "share"):
        console.print(key, *(f"{name} {a:.3f} ± {b:.3f}" for name in NAMES for a, b in [mean(name, key)]), sep="   ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--seeds", type=int, default=5)
    measure(parser.parse_args())
