"""Which schedule brings a stochastic sampler closest to the law, by Kullback-Leibler divergence?

    python benchmarks/kl.py                                    # half an hour
    python benchmarks/kl.py --laws spike-slab --steps 6 10 20

Explicit laws on the line, where the density of what a sampler puts out is known by quadrature (`samplers.density`): no
samples, no error bar. All grids run from the law's sigma_max to its sigma_min, from the exact law of X + sigma_max Z.
Each row is a law, sampler and number of steps; each column a criterion: KL(law of X + sigma_min Z || output), in nats;
"-" where the joint density of two neighbouring noise levels, which dpmpp-2m-sde needs, takes too much memory.
The constant of criterion "kl" for dpmpp-2m-sde was chosen on the first four laws at 6 and 10 steps; the others test it.
The least of a row is marked. "kl/best" is what the grid of criterion "kl" leaves over the least of the others: at most
1 where it does what it says.
"""

import argparse

from rich.console import Console
from rich.table import Table

import brenier
from brenier.references.density import output_kl
from brenier.sampling.planning import CRITERIA, noise_range
from brenier.sampling.steps import SolverName

Mixture = brenier.GaussianMixture
LAWS = {
    **{
        name: (lambda name=name: brenier.load_target(name))
        for name in ("spike-slab", "four-gaussians", "uniform", "two-points")
    },
    "mixture": lambda: Mixture([0.5, 0.3, 0.2], [-1.0, 0.0, 1.5], [0.01, 0.0025, 0.04], name="mixture"),
    "skew": lambda: Mixture([0.8, 0.2], [0.0, 3.0], [1.0, 0.09], name="skew"),
    "wide": lambda: Mixture([0.5, 0.5], [0.0, 0.0], [0.04, 1.0], name="wide"),
}
SOLVERS: tuple[SolverName, ...] = ("euler-maruyama", "dpmpp-2m-sde")


def main() -> None:
    parser = argparse.ArgumentParser(description="KL divergence of stochastic samplers by schedule.")
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS))
    parser.add_argument("--steps", nargs="+", type=int, default=[6, 10, 20])
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    given = parser.parse_args()
    criteria = [criterion for criterion in CRITERIA if criterion != "error"]
    table = Table(show_edge=False)
    for title in ("law", "sampler", "steps", *criteria, "kl/best"):
        table.add_column(title, justify="left" if title in ("law", "sampler") else "right", no_wrap=True)
    console = Console(width=180)
    for name in given.laws:
        law = LAWS[name]()
        _, low, _ = noise_range(law, None, None)
        for solver in given.solvers:
            for steps in given.steps:
                left: dict[str, float] = {}
                for criterion in criteria:
                    grid = brenier.plan(law, steps, solver=solver, criterion=criterion, sigma_min=low, progress=False)
                    try:
                        left[criterion] = output_kl(law, grid.sigmas, solver)
                    except ValueError as error:
                        console.print(f"{name}, {solver}, {steps} steps, {criterion}: {error}")
                least = min(left.values())
                others = min(value for criterion, value in left.items() if criterion != "kl")
                cells = {c: f"[bold]{value:.3g}[/]" if value == least else f"{value:.3g}" for c, value in left.items()}
                ratio = f"{left['kl'] / others:.2f}" if "kl" in left else "-"
                table.add_row(name, solver, str(steps), *(cells.get(c, "-") for c in criteria), ratio)
    console.print(table)


if __name__ == "__main__":
    main()
