"""Evidence from Monge-Ampère maps: is log Z inside its errors, and is what cannot be trusted refused?

    python benchmarks/evidence.py [TARGET...] [--seeds 10]

Each target is fitted once, by the method that the documentation names for it, and log Z is measured with as many seeds,
from 2^14 points each. A line per target: the truth, the mean and the standard deviation of the measured values, the
mean standard error, the share of seeds within 0.05 and within two standard errors of the truth, the median Pareto shape
and effective sample size, and how many were refused. The truth is in closed form but for the logistic regression: there
it is importance sampling from a multivariate t of five degrees of freedom at the mode, a million draws, +- 0.001.
"""

import argparse
import math
import time
import warnings

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from brenier.transport.mongeampere import MongeAmpere, find_marginal
from brenier.transport.mongeampere.marginal import laplace

ANGLES = 2 * np.pi * torch.arange(8, dtype=torch.float64) / 8
RING = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
FOUR = torch.tensor([[1.5, 1.5], [-1.5, 1.5], [1.5, -1.5], [-1.5, -1.5]], dtype=torch.float64)

FUNNEL = math.log(3) + 5 * math.log(2 * math.pi)


def bumps(centres: Tensor, deviation: float) -> tuple:
    """Equal Gaussian bumps of height 1, and the logarithm of their integral."""

    def log_density(x: Tensor) -> Tensor:
        return torch.logsumexp(-torch.cdist(x, centres).square() / (2 * deviation**2), 1)

    return log_density, math.log(len(centres) * 2 * math.pi * deviation**2)


def banana(x: Tensor) -> Tensor:
    return -(x[:, 0] ** 2 + ((x[:, 1] - x[:, 0] ** 2 + 1) / 0.5) ** 2) / 2


def funnel(x: Tensor) -> Tensor:
    return -(x[:, 0] ** 2) / 18 - 4.5 * x[:, 0] - torch.exp(-x[:, 0]) * x[:, 1:].square().sum(1) / 2


def logistic() -> tuple:
    """The posterior of a regression on 10 features and its evidence, of likelihood times exp(-|x|^2/2)."""
    cases, malignant = load_breast_cancer(return_X_y=True)
    cases = cases[:, :10]
    rows = np.column_stack([np.ones(len(cases)), (cases - cases.mean(0)) / cases.std(0)])
    signed = torch.from_numpy((rows * (2 * malignant - 1)[:, None]).T.copy())

    def log_density(x: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(x @ signed).sum(1) - x.square().sum(1) / 2

    normal = laplace(find_marginal(log_density, 11))
    root = torch.linalg.cholesky(normal.covariance)
    generator, freedom, parts = torch.Generator().manual_seed(0), 5.0, []
    tail = torch.distributions.Chi2(freedom)
    torch.manual_seed(0)
    for _ in range(100):
        z = torch.randn(10_000, 11, generator=generator, dtype=torch.float64)
        z = z * (freedom / tail.sample((10_000, 1)).double()).sqrt()
        own = (
            math.lgamma((freedom + 11) / 2)
            - math.lgamma(freedom / 2)
            - 5.5 * math.log(freedom * math.pi)
            - (freedom + 11) / 2 * torch.log1p(z.square().sum(1) / freedom)
            - root.diagonal().log().sum()
        )
        parts.append(log_density(normal.mean + z @ root.T) - own)
    weights = torch.cat(parts)
    return log_density, float(torch.logsumexp(weights, 0) - math.log(len(weights)))


def targets() -> dict:
    """Density, truth, dimension, and the map."""
    ring, four = bumps(RING, 0.2), bumps(FOUR, 0.7)
    return {
        "four modes": (*four, 2, {"reference": "normal", "method": "linear"}, {"minutes": 3}),
        "ring": (*ring, 2, {"reference": "normal", "method": "grid"}, {}),
        "breast cancer": (*logistic(), 11, {"reference": "laplace", "method": "linear"}, {"steps": 6}),
        "banana": (banana, math.log(math.pi), 2, {"reference": "triangular", "method": "linear"}, {"steps": 4}),
        "banana, N(0, I), neural": (
            banana,
            math.log(math.pi),
            2,
            {"reference": "normal", "method": "neural"},
            {"minutes": 3},
        ),
        "banana, N(0, I)": (banana, math.log(math.pi), 2, {"reference": "normal", "method": "linear"}, {"steps": 20}),
        "funnel": (funnel, FUNNEL, 10, {"reference": "triangular", "method": "linear"}, {"steps": 4}),
        "funnel, N(0, I)": (
            funnel,
            FUNNEL,
            10,
            {"reference": "normal", "method": "linear"},
            {"steps": 10, "minutes": 3},
        ),
    }


def main() -> None:
    """Print a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("names", nargs="*", metavar="TARGET", help="all by default")
    given = parser.parse_args()
    seeds, known = given.seeds, targets()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no target {unknown[0]!r}: it is one of {', '.join(known)}")
    for name in given.names or known:
        density, truth, dim, how, fit = known[name]
        begun = time.perf_counter()
        reference = how.pop("reference")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                flow = MongeAmpere(reference, density, dim=dim, **how).fit(**fit, progress=False)
                found = [flow.log_evidence(seed=seed) for seed in range(seeds)]
            except ValueError as error:
                print(f"{name}: no map: {error}", flush=True)
                continue
        held = [one for one in found if one.holds]
        values, errors = np.array([one.value for one in held]), np.array([one.se for one in held])
        off = np.abs(values - truth)
        shape = f"k {np.median([one.pareto_k for one in found]):.2f}"
        size = f"ESS {np.median([one.ess for one in found]):,.0f} of {found[0].n:,}"
        refused = f"refused {len(found) - len(held)} of {len(found)}"
        lost = f"folded {np.median([one.folded for one in found]):.1e}"
        seconds = f"{time.perf_counter() - begun:.0f} s"
        print(f"{name} (d = {dim}), {how['method']}: {shape}, {size}, {lost}, {refused}, {seconds}")
        if held:
            mean = f"log Z {values.mean():.4f}, deviation {values.std():.4f}, se {errors.mean():.4f}, truth {truth:.4f}"
            print(
                f"    {mean}; within 0.05: {(off < 0.05).mean():.0%}, 2 se: {(off < 2 * errors).mean():.0%}", flush=True
            )


if __name__ == "__main__":
    main()
