"""What should a planned grid make small: the mean square error, the typical one, or the distance between laws?

    python benchmarks/objectives.py [--more rare.json ...]    # hours on two cores; --more: mixtures in JSON

For each law, sampler and number of steps, grids by `brenier.plan(objective=...)` start from the same fresh noise. Of
each is measured

    RMS, median   the distance to where the exact flow ends
    W2            between the law of the ends and that of the exact ends, which share their noise: exact on the line and
                  in the plane, sliced times sqrt(d) above
    Frechet       the same between normal laws with their means and covariances, as a length

The table has, for each law and in all, the geometric mean over cells of what "error" leaves over what the objective
does: above 1, the objective is better; "+-" is the standard error of that mean over cells.
"""

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context

import numpy as np
import torch
from plan import LAWS
from rich.console import Console
from rich.table import Table
from torch import Tensor

import brenier
from brenier.sampling import planning
from brenier.sampling.comparison import _to_twin
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.objectives import OBJECTIVES

SOLVERS = ("euler", "dpmpp-2m", "unipc-3")
STEPS = (5, 6, 8, 10)  # evaluations, too
MEASURES = ("RMS", "median", "W2", "Frechet")
NOISE = 4096


def uneven() -> brenier.GaussianMixture:
    """Eight components in 20 dimensions, with weights from 0.5 to 0.003."""
    draw = np.random.default_rng(0)
    weights = [0.5, 0.25, 0.12, 0.06, 0.04, 0.02, 0.007, 0.003]
    means, scales = 2 * draw.normal(size=(8, 20)), draw.uniform(0.05, 1, (8, 20))
    return brenier.GaussianMixture(weights, means, scales**2, name="uneven-20")


ARENA = {name: LAWS[name] for name in ("four-gaussians", "ring", "digits-0.01", "digits-network")} | {
    "uneven-20": uneven
}


def frechet(x: Tensor, y: Tensor) -> float:
    """Frechet distance between the normal laws of two samples, as a length."""
    a, b = (np.atleast_2d(np.cov(points.double().numpy().T)) for points in (x, y))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    apart = (x.double().mean(0) - y.double().mean(0)).square().sum()
    return math.sqrt(max(float(apart) + float(np.trace(a) + np.trace(b) - 2 * shared), 0.0))


def measure(job: tuple[str, str, int]) -> list[np.ndarray]:
    """For each number of steps, what each objective's grid leaves: arrays of objectives by measures."""
    torch.set_num_threads(1)
    name, solver, seed = job
    law = ARENA[name]() if name in ARENA else brenier.load_target(name)
    law = law.moved(-law.origin)
    high = planning.noise_range(law, None, None)[0]
    x = start(law, NOISE, high, seed=1 + seed)
    goal = reference(law, x, high, tolerance=1e-4)
    found: list[np.ndarray] = []
    for steps in STEPS:
        rows: list[list[float]] = []
        for objective in OBJECTIVES:
            made = brenier.plan(law, steps, solver=solver, objective=objective, seed=seed, progress=False)
            end = integrate(law, x, made.sigmas, solver).x
            away = (end - goal).double().norm(dim=1)
            w2 = _to_twin(end, goal)["w2"]
            rows.append([float(away.square().mean().sqrt()), float(away.median()), w2, frechet(end, goal)])
        found.append(np.array(rows))
    return found


def row(name: str, logs: np.ndarray) -> list[str]:
    """A line of the table from logarithms of ratios, (cells, measures)."""
    means, errors = logs.mean(0), logs.std(0, ddof=1) / math.sqrt(len(logs))
    return [name, *(f"{math.exp(m):.3f} +- {math.exp(m) * e:.3f}" for m, e in zip(means, errors, strict=True))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Objectives of planned schedules, against each other.")
    parser.add_argument("--laws", nargs="+", choices=ARENA, default=list(ARENA))
    parser.add_argument("--more", nargs="+", default=[], help="mixtures in JSON")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = [*given.laws, *given.more]
    jobs = [(*job, given.seed) for job in product(names, SOLVERS)]
    console, table = Console(width=120), Table("law", "objective", *MEASURES, title="error over objective")
    logs: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for (name, solver, _), cells in zip(jobs, pool.map(measure, jobs), strict=True):
            for steps, cell in zip(STEPS, cells, strict=True):
                text = "; ".join(" ".join(f"{value:.3g}" for value in line) for line in cell)
                console.print(f"{name} {solver} {steps}: {text}", soft_wrap=True)
                logs[name].append(np.log(np.maximum(cell[0], 1e-12) / np.maximum(cell, 1e-12)))
    for k, objective in enumerate(OBJECTIVES[1:], 1):
        for name, kept in [*logs.items(), ("all", [cell for each in logs.values() for cell in each])]:
            first, *others = row(name, np.array(kept)[:, k])
            table.add_row(first, objective, *others)
    console.print(table)


if __name__ == "__main__":
    main()
