"""Do the brackets of `brenier.probe(data)` hold what is true of the law behind the data, as often as they say?

    python benchmarks/behind.py                                  # all laws, 16 seeds: about half an hour on one core
    python benchmarks/behind.py --law two-modes-6 --points 4000 --seeds 100

For each law, number of points and SNR that at least a third of the seeds resolve, of E L, P(L > 1), m* and the sharp
zeta at M = 2:

    bias      mean over seeds less the truth, which is from 160,000 exact posteriors
    sd, se    standard deviation over seeds, and the mean of the standard errors that were stated
    interval  share of seeds whose value is within 2.13 standard errors of the truth (target: 90 to 99%)
    bracket   share of seeds whose bracket holds it (target: 97%)

and the share of seeds in which a bottleneck is reported (target for log-concave laws: at most 5%). What cannot hold:
the tails of `student-3` are where no points are, and no interval from points covers its second moment.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import special, stats
from torch import Tensor

import brenier
from brenier import GaussianMixture, complexity

TRUTH = 160_000
NAMES = ("mean_localization", "survival", "m_star", "zeta_sharp")


def normal(dim: int) -> GaussianMixture:
    """N(0, I)."""
    return GaussianMixture([1.0], np.zeros((1, dim)), [1.0])


def two_modes(dim: int) -> GaussianMixture:
    """N(+-1.5 e_1, 0.49 I)."""
    means = np.zeros((2, dim))
    means[:, 0] = 1.5, -1.5
    return GaussianMixture([0.5, 0.5], means, [0.49, 0.49])


def uneven(dim: int) -> GaussianMixture:
    """Three components of unlike weight and width."""
    means = np.zeros((3, dim))
    means[:, 0] = 2.0, -1.0, -1.0
    means[1, 1] = 1.5
    return GaussianMixture([0.6, 0.3, 0.1], means, [0.5, 0.3, 1.0])


def student(dim: int) -> GaussianMixture:
    """Student's t with three degrees of freedom, as a mixture over 400 scales."""
    share = (np.arange(400) + 0.5) / 400
    return GaussianMixture(np.full(400, 1 / 400), np.zeros((400, dim)), 3 / stats.chi2.ppf(share, 3))


def sheet() -> GaussianMixture:
    """A curved sheet in space with noise 0.2."""
    u = np.random.default_rng(3).uniform(-1.5, 1.5, (3000, 2))
    return GaussianMixture(np.full(3000, 1 / 3000), np.column_stack([u, u[:, 0] ** 2 - 1]), np.full(3000, 0.04))


class Sphere:
    """Uniform on the unit sphere, where posteriors are von Mises-Fisher."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Draw n points."""
        x = torch.randn(n, self.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return x / x.norm(dim=1, keepdim=True)

    def norms(self, y: Tensor, snr: float) -> Tensor:
        """L at y: the variance along y or across, whichever is larger."""
        k, order = (snr * y.norm(dim=1)).numpy(), self.dim / 2
        mean = special.ive(order, k) / special.ive(order - 1, k)
        return torch.from_numpy(snr**2 * np.maximum(1 - mean**2 - (self.dim - 1) / k * mean, mean / k))


LAWS: dict[str, tuple[Callable[[], GaussianMixture | Sphere], Sequence[int], Sequence[float]]] = {
    "normal-2": (lambda: normal(2), (500, 2000), (0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 3.0)),
    "normal-6": (lambda: normal(6), (2000, 10000), (0.3, 0.6, 0.9, 1.2, 1.6, 2.0)),
    "normal-20": (lambda: normal(20), (2000, 10000), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "normal-64": (lambda: normal(64), (2000,), (0.03, 0.05, 0.1, 0.15, 0.2)),
    "two-modes-2": (lambda: two_modes(2), (500, 2000), (0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 3.0)),
    "two-modes-6": (lambda: two_modes(6), (500, 4000), (0.3, 0.6, 0.9, 1.2, 1.6, 2.0)),
    "two-modes-20": (lambda: two_modes(20), (10000,), (0.2, 0.4, 0.6, 0.8, 1.0)),
    "uneven-3": (lambda: uneven(3), (500, 2000), (0.3, 0.6, 0.9, 1.2, 1.6, 2.0)),
    "uneven-6": (lambda: uneven(6), (2000,), (0.3, 0.6, 0.9, 1.2, 1.6)),
    "student-1": (lambda: student(1), (500,), (0.3, 0.6, 0.9, 1.2, 1.6, 2.0)),
    "student-3": (lambda: student(3), (2000,), (0.1, 0.2, 0.3, 0.6, 1.2)),
    "sphere-3": (lambda: Sphere(3), (2000,), (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)),
    "sphere-8": (lambda: Sphere(8), (2000,), (0.5, 1.0, 2.0, 3.0)),
    "sheet": (sheet, (2000,), (0.5, 1.0, 2.0, 3.0, 4.0)),
}


def truth(law: GaussianMixture | Sphere, snr: float) -> dict[str, float]:
    """From exact posteriors at many noisy points."""
    x = law.sample(TRUTH, 10**6).double()
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = [
        law.norms(y, snr) if isinstance(law, Sphere) else law.localize(y, snr).norm for y in (snr * x + z).split(4000)
    ]
    value = torch.cat(found).numpy()[None]
    weights = np.full(value.shape, 1 / value.size)
    return {
        "mean_localization": float(value.mean()),
        "survival": float((value > 1).mean()),
        "m_star": float(complexity.minimal_relative_tail(value, weights)[0][0]),
        "zeta_sharp": float(complexity.sharp_contraction(value, [2.0], [snr], weights)[0, 0]),
    }


def curve(profile: xr.Dataset, name: str) -> NDArray[np.float64]:
    """A variable over the SNRs: the survival at 1, rates at M = 2."""
    values = profile[name]
    values = values.sel(u=1.0) if "u" in values.dims else values
    return (values.isel(perturbation=0) if "perturbation" in values.dims else values).to_numpy()


def main() -> None:
    """Run what was asked for and print a table for each law and number of points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--law", choices=list(LAWS))
    parser.add_argument("--points", type=int)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--queries", type=int, default=1024)
    options = parser.parse_args()
    console = Console(width=150)
    for name, (make, sizes, grid) in LAWS.items():
        if options.law not in (None, name):
            continue
        law = make()
        known = [truth(law, snr) for snr in grid]
        for points in sizes if options.points is None else [options.points]:
            start, found = time.perf_counter(), 0
            profiles: list[xr.Dataset] = []
            for seed in range(options.seeds):
                data = brenier.Empirical(law.sample(points, seed).float())
                call: dict[str, Any] = {
                    "queries": options.queries,
                    "perturbations": [2.0],
                    "seed": seed,
                    "progress": False,
                }
                profiles.append(brenier.probe(data, grid, **call))
                found += brenier.bottleneck(profiles[-1])["m_star"] > 0
            seconds = (time.perf_counter() - start) / options.seeds
            title = f"{name}, {points:,} points: bottleneck in {found} of {options.seeds}, {seconds:.1f} s each"
            console.print(_table(title, grid, known, profiles))


def _table(
    title: str, grid: Sequence[float], known: Sequence[dict[str, float]], profiles: Sequence[xr.Dataset]
) -> Table:
    table = Table("SNR", "seeds", *(f"{name}: truth, bias, sd, se, interval, bracket" for name in NAMES), title=title)
    level = stats.t.ppf(0.975, 15)
    for k, snr in enumerate(grid):
        told = [profile for profile in profiles if float(profile["resolved_snr"]) >= snr]
        if len(told) < len(profiles) / 3:
            break
        cells = [f"{snr:g}", str(len(told))]
        for name in NAMES:
            value, error, low, high = (
                np.array([curve(profile, name + end)[k] for profile in told]) for end in ("", "_se", "_low", "_high")
            )
            exact = known[k][name]
            near = np.mean(abs(value - exact) <= level * error + 1e-9)
            held = np.mean((low <= exact + 1e-9) & (high >= exact - 1e-9))
            numbers = f"{exact:.3f} {value.mean() - exact:+.3f} {value.std():.3f} {error.mean():.3f}"
            cells.append(f"{numbers} {near:.0%} {held:.0%}")
        table.add_row(*cells)
    return table


if __name__ == "__main__":
    main()
