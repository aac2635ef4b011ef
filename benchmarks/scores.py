"""Does a trained network have the localization of the law that it was trained on, and is it flagged when it has not?

    python benchmarks/scores.py              # 2-D and 16-D mixtures: a few minutes each on two cores
    python benchmarks/scores.py --law 2-D

For each law: a network trained with the defaults, and the same with a twentieth of the steps. Over the SNRs that hold
95% of the training noise levels, with the same queries for network and law:

    worst        largest relative deviation of the network's E L_r from the exact one (target: 5%)
    bottleneck   SNRs of the grid between the network's largest m* and the law's (target: at most 1)
    sampling     verdicts of `brenier.calibrate` there (target: all good)
    probing      likewise (target: all good; for the short run: not all)
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import brenier
from brenier.networks.noise_levels import NoiseLevels
from brenier.probing.verdicts import PURPOSES, VERDICTS
from brenier.training.train import train

GRID = 12


def five_in_the_plane() -> brenier.GaussianMixture:
    """Five components of different shape on a circle of radius 2."""
    angle = np.arange(5) * 2 * np.pi / 5
    means = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    covariances = [0.09, [0.04, 0.16], 0.06, [[0.1, 0.05], [0.05, 0.08]], 0.04]
    return brenier.GaussianMixture([0.3, 0.2, 0.2, 0.2, 0.1], means, covariances, name="2-D")


def eight_in_16() -> brenier.GaussianMixture:
    """Eight components in 16 dimensions, with random axes and standard deviations from 0.04 to 1."""
    draw = np.random.default_rng(0)
    covariances = []
    for _ in range(8):
        axes, _ = np.linalg.qr(draw.normal(size=(16, 16)))
        deviations = np.exp(draw.uniform(np.log(0.1), 0, 16)) * draw.uniform(0.4, 1.0)
        covariances.append(axes @ np.diag(deviations**2) @ axes.T)
    weights = draw.dirichlet(np.full(8, 5.0))
    return brenier.GaussianMixture(weights, draw.normal(size=(8, 16)), covariances, name="16-D")


LAWS = {"2-D": five_in_the_plane, "16-D": eight_in_16}
STEPS = {"2-D": 2500, "16-D": 5000}


def compare(law: brenier.GaussianMixture, steps: int, queries: int) -> tuple[str, ...]:
    """Train on a law, probe both, calibrate."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        net = train(law, Path(folder) / "net", steps=steps, progress=False)
        seconds = time.perf_counter() - start
    deviation = float(net.network.sigma_data)
    low, high = NoiseLevels.of_law(law, deviation).interval(0.95)
    grid = np.geomspace(1 / high, 1 / low, GRID)
    of_net = brenier.probe(net, grid, queries=queries, progress=False)
    exact = law.to(dtype=torch.float64)
    of_law = brenier.probe(exact, grid, queries=queries, progress=False)
    relative = (of_net["mean_localization"] / of_law["mean_localization"] - 1).to_numpy()
    k = int(abs(relative).argmax())
    apart = int(abs(of_net["m_star"].to_numpy().argmax() - of_law["m_star"].to_numpy().argmax()))
    found = brenier.calibrate(net, law, snrs=grid, progress=False)
    shown: list[str] = []
    for purpose in PURPOSES:
        counts = [f"{int((found[f'verdict_{purpose}'] == code).sum())} {name}" for code, name in enumerate(VERDICTS)]
        shown.append(", ".join(count for count in counts if not count.startswith("0 ")))
    return f"{seconds:.0f} s", f"{relative[k]:+.1%} at r = {grid[k]:.3g}", str(apart), *shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--law", choices=[*LAWS])
    parser.add_argument("--queries", type=int, default=2048)
    arguments = parser.parse_args()
    table = Table("law", "steps", "training", "worst", "bottleneck", *PURPOSES)
    for name in [arguments.law] if arguments.law else LAWS:
        for steps in (STEPS[name] // 20, STEPS[name]):
            table.add_row(name, str(steps), *compare(LAWS[name](), steps, arguments.queries))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
