"""How far data can tell of the law behind them: `resolved_snr` against the number of points and dimensions.

    python benchmarks/resolution.py                    # normal laws and the digits: a few minutes on one core
    python benchmarks/resolution.py --data FILE ...    # of these data instead

With d_e = tr Cov/|Cov| of the posterior (the mean over queries), n_e its effective sample size (the median):

    expected    n_e of N(0, I) where its posterior has the median norm, N exp(-d c(r)) with
                c = log(1 + r^2) - log(1 + 2 r^2)/2 + r^2/(1 + 2 r^2), which is r^2 where r is small
    n_e/d_e     at the last SNR resolved: a bracket is about sqrt(d_e/n_e) wide
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

import brenier
from brenier import Empirical

SIZES = (500, 2_000, 10_000, 50_000)
DIMENSIONS = (1, 2, 6, 20, 64)
SNRS = np.geomspace(0.02, 16, 48)


def laws(files: list[str]) -> Iterator[tuple[str, Empirical, bool]]:
    """What is to be resolved: a title, data, and whether they are normal."""
    for file in files:
        law = brenier.load_target(file)
        assert isinstance(law, Empirical), f"{file} holds no data"
        yield file, law, False
    if not files:
        for dim in DIMENSIONS:
            for size in SIZES:
                points = np.random.default_rng(dim).normal(size=(size, dim)).astype(np.float32)
                yield f"N(0, I_{dim})", Empirical(points), True
        law = brenier.load_target("digits")
        assert isinstance(law, Empirical)
        yield "digits", law, False


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--queries", type=int, default=512)
    options = parser.parse_args()
    table = Table("law", "points", "resolved up to SNR", "n_e", "expected", "d_e", "n_e/d_e", "E L", "m*", "seconds")
    for title, law, normal in laws(options.data):
        start = time.perf_counter()
        guess = np.sqrt(max(np.log(len(law) / 64), 0.1) / law.dim) if normal else 1.0
        grid = SNRS[abs(np.log(SNRS / guess)) < 1.6] if normal else SNRS[SNRS < 3]
        profile = brenier.probe(law, grid, queries=options.queries, progress=False)
        seconds, last = time.perf_counter() - start, float(profile["resolved_snr"])
        if np.isnan(last):
            table.add_row(title, f"{len(law):,}", "none", *[""] * 6, f"{seconds:.1f}")
            continue
        at = profile.sel(snr=last, method="nearest")
        ess, dim = float(at["ess"]), float(at["effective_dimension"])
        falls = np.log1p(last**2) - np.log1p(2 * last**2) / 2 + last**2 / (1 + 2 * last**2)
        expected = f"{len(law) * np.exp(-law.dim * falls):.0f}" if normal else ""
        numbers = [f"{float(at[name]):.3f}" for name in ("mean_localization", "m_star")]
        row = [f"{last:.3g}", f"{ess:.0f}", expected, f"{dim:.1f}", f"{ess / dim:.0f}", *numbers, f"{seconds:.1f}"]
        table.add_row(title, f"{len(law):,}", *row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
