"""Which deterministic sampler ends closest to the exact flow, planned for and with the best grid made by hand?

    python benchmarks/solvers.py                                # ten minutes on one core
    python benchmarks/solvers.py --laws ring --evaluations 6

For each law, sampler and number of evaluations (Heun: steps = evaluations/2): the root mean square distance to the
exact end from 4,096 points of noise that planning has not seen, and in brackets that of the best of karras, log-snr,
cosine, linear-beta and uniform-sigma, by the test noise itself. All grids end at 0.
"""

import argparse

import torch

import brenier
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.handmade import HANDMADE
from brenier.sampling.planning import noise_range
from brenier.sampling.steps import SOLVERS
from laws import ring, six

NOISE = 4096


LAWS = {"four-gaussians": lambda: brenier.load_target("four-gaussians"), "ring": ring, "six": six}


def measure(name: str, budgets: list[int]) -> None:
    """Print a row for each sampler."""
    law = brenier.load_target(LAWS[name]())
    high = noise_range(law, None, None)[0]
    x = start(law, NOISE, high, seed=7)
    end = reference(law, x, high, 0.0, 1e-4)

    def left(solver: str, steps: int, criterion: str) -> float:
        grid = brenier.plan(law, steps, solver=solver, criterion=criterion, pilots=64, progress=False).sigmas
        return float((integrate(law, x, grid, solver).x - end).square().sum(1).mean().sqrt())

    for solver in (solver for solver, about in SOLVERS.items() if not about.stochastic):
        cells: list[str] = []
        for budget in budgets:
            steps = budget // 2 if solver == "heun" else budget
            best = min(left(solver, steps, hand) for hand in HANDMADE)
            cells.append(f"{left(solver, steps, 'error'):.2g} ({best:.2g})")
        print(f"{name:15} {solver:9} " + "  ".join(f"{cell:17}" for cell in cells), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=[*LAWS])
    parser.add_argument("--evaluations", nargs="+", type=int, default=[6, 10])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.laws:
        measure(name, given.evaluations)
