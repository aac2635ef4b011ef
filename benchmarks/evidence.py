"""Evidence from Monge-Ampère maps: is log Z inside its errors, and is what cannot be trusted refused?

    python benchmarks/evidence.py [TARGET...] [--seeds 10] [--fits 1]

Each target is fitted --fits times, by the method that the documentation names for it, and log Z is measured with so
many seeds, from 2^14 points each, of every map. A line per target: the truth, the mean and the standard deviation of
the measured values, the mean standard error, the share of seeds within 0.05 and within two standard errors of the
truth, the median Pareto shape and effective sample size, how many were refused, and why: "beside" is by the motion of
points, and "far" by what climbs found; then t of the moved points, which is N(0, 1) where nothing is amiss. The truth
is in closed form but for the logistic regression: there it is importance sampling from a multivariate t of five degrees
of freedom at the mode, a million draws, +- 0.001.
"""

import argparse
import math
import time
import warnings

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from brenier.transport.mongeampere import Evidence, MongeAmpere, find_marginal
from brenier.transport.mongeampere.marginal import laplace as at_the_mode

ANGLES = 2 * np.pi * torch.arange(8, dtype=torch.float64) / 8
RING = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
FOUR = torch.tensor([[1.5, 1.5], [-1.5, 1.5], [1.5, -1.5], [-1.5, -1.5]], dtype=torch.float64)

LOG_TAU = math.log(2 * math.pi)


def bumps(centres: Tensor, deviation: float, dim: int = 2) -> tuple:
    """Equal Gaussian bumps of height 1, and the logarithm of their integral."""

    def log_density(x: Tensor) -> Tensor:
        return torch.logsumexp(-torch.cdist(x, centres).square() / (2 * deviation**2), 1)

    return log_density, math.log(len(centres)) + dim / 2 * (LOG_TAU + 2 * math.log(deviation))


def banana(x: Tensor) -> Tensor:
    return -(x[:, 0] ** 2 + ((x[:, 1] - x[:, 0] ** 2 + 1) / 0.5) ** 2) / 2


def funnel(dim: int, scale: int = 0) -> tuple:
    """Neal's, the coordinate `scale` the one that scales the others."""

    def log_density(x: Tensor) -> Tensor:
        v, others = x[:, scale], x.square().sum(1) - x[:, scale] ** 2
        return -(v**2) / 18 - (dim - 1) / 2 * v - torch.exp(-v) * others / 2

    return log_density, math.log(3) + dim / 2 * LOG_TAU, dim


def modes(dim: int) -> tuple:
    """Four Gaussians of deviation 1/2 about draws of N(0, 4I)."""
    return *bumps(torch.from_numpy(2 * np.random.default_rng(dim).standard_normal((4, dim))), 0.5, dim), dim


def gaussian(dim: int) -> tuple:
    """Correlated, 0.8 between neighbours."""
    steps = torch.arange(dim, dtype=torch.float64)
    covariance = 0.8 ** (steps[:, None] - steps).abs()
    precision = torch.linalg.inv(covariance)
    return lambda x: -((x @ precision) * x).sum(1) / 2, dim / 2 * LOG_TAU + float(torch.logdet(covariance)) / 2, dim


def logistic() -> tuple:
    """The posterior of a regression on 10 features and its evidence, of likelihood times exp(-|x|^2/2)."""
    cases, malignant = load_breast_cancer(return_X_y=True)
    cases = cases[:, :10]
    rows = np.column_stack([np.ones(len(cases)), (cases - cases.mean(0)) / cases.std(0)])
    signed = torch.from_numpy((rows * (2 * malignant - 1)[:, None]).T.copy())

    def log_density(x: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(x @ signed).sum(1) - x.square().sum(1) / 2

    normal = at_the_mode(find_marginal(log_density, 11))
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
    plain, bent = {"reference": "normal", "method": "linear"}, {"reference": "triangular", "method": "linear"}
    laplace, steps = {"reference": "laplace", "method": "linear"}, {"steps": 4}
    neural, pi = {"reference": "normal", "method": "neural"}, math.log(math.pi)
    return {
        "four modes": (*four, 2, plain, {"minutes": 3}),
        "ring": (*ring, 2, {"reference": "normal", "method": "grid"}, {}),
        "breast cancer": (*logistic(), 11, laplace, {"steps": 6}),
        **{f"gaussian{dim}": (*gaussian(dim), laplace, steps) for dim in (2, 10)},
        "banana": (banana, pi, 2, bent, steps),
        **{f"funnel{dim}": (*funnel(dim), bent, steps) for dim in (2, 3, 10)},
        **{f"late{dim}": (*funnel(dim, dim - 1), bent, steps) for dim in (2, 3, 10)},
        **{f"modes{dim}": (*modes(dim), bent, steps) for dim in (4, 6, 8, 10)},
        "banana, N(0, I)": (banana, pi, 2, plain, {"steps": 20}),
        "banana, N(0, I), neural": (banana, pi, 2, neural, {"minutes": 3}),
        "funnel10, N(0, I)": (*funnel(10), plain, {"steps": 10, "minutes": 3}),
    }


def main() -> None:
    """Print a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--fits", type=int, default=1)
    parser.add_argument("names", nargs="*", metavar="TARGET", help="all by default")
    given = parser.parse_args()
    known = targets()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no target {unknown[0]!r}: it is one of {', '.join(known)}")
    for name in given.names or known:
        density, truth, dim, how, fit = known[name]
        begun, found = time.process_time(), list[Evidence]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for one in range(given.fits):
                try:
                    flow = MongeAmpere(how["reference"], density, dim=dim, method=how["method"])
                    flow.fit(**fit, seed=one, progress=False)
                except ValueError as error:
                    print(f"{name}: no map: {error}", flush=True)
                    continue
                found += [flow.log_evidence(seed=one * given.seeds + seed) for seed in range(given.seeds)]
        if found:
            tell(name, truth, f"d = {dim}, {how['method']}, {time.process_time() - begun:.0f} CPU s", found)


def tell(name: str, truth: float, about: str, found: list[Evidence]) -> None:
    """What the evidence of a target was."""
    held = [one for one in found if one.holds]
    values, errors = np.array([one.value for one in held]), np.array([one.se for one in held])
    off = np.abs(values - truth)
    shape = f"k {np.median([one.pareto_k for one in found]):.2f}"
    size = f"ESS {np.median([one.ess for one in found]):,.0f} of {found[0].n:,}"
    lost = f"folded {np.median([one.folded for one in found]):.1e}"
    beside = sum("mass beside" in one.refused for one in found)
    far = sum("about maxima" in one.refused for one in found)
    refused = f"refused {len(found) - len(held)} of {len(found)} (beside {beside}, far {far})"
    t = np.array([one.drift for one in found if not math.isnan(one.drift)])
    drift = f"t {t.mean():.2f}, deviation {t.std():.2f}, largest {t.max():.2f}" if len(t) else "no t"
    print(f"{name} ({about}): {shape}, {size}, {lost}, {refused}, {drift}", flush=True)
    if held:
        mean = f"log Z {values.mean():.4f}, deviation {values.std():.4f}, se {errors.mean():.4f}, truth {truth:.4f}"
        print(f"    {mean}; within 0.05: {(off < 0.05).mean():.0%}, 2 se: {(off < 2 * errors).mean():.0%}", flush=True)


if __name__ == "__main__":
    main()
