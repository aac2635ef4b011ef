"""Is the quadrature of laws on the line right? Twenty-five distributions of scipy.stats against brute force.

Brute force: 20,000 quantiles of the law with equal steps in the normal score; posteriors as sums over them, at places y
that are fine beside the noise. It shares no line with brenier's panels. A row is "ok" where E L is within 1e-4 and
P(L > 1), m* and sup[delta - 5h] within 2e-3. m* of a log-concave law is compared with 0, as theory has it: there L < 1
comes within rounding of 1, which sums cannot tell from more; "P(L>1)=0" says that it is so exactly.

    python benchmarks/line.py [--quick]
"""

import argparse
import itertools
import math
import time
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import ndtr, wofz

import brenier

SNRS = (0.1, 1.0, 3.0, 10.0)
LAWS = {
    "norm": True, "logistic": True, "laplace": True, "gumbel_r": True, "gumbel_l": True, "expon": True,
    "gamma(2)": True, "uniform": True, "triang(0.3)": True, "hypsecant": True, "beta(2, 3)": True,
    "weibull_min(1.5)": True, "rayleigh": True, "maxwell": True, "skewnorm(5)": True, "t(3)": False, "t(5)": False,
    "cauchy": False, "gamma(0.5)": False, "beta(0.5, 0.5)": False, "lognorm(1)": False, "pareto(2.5)": False,
    "dgamma(2)": False, "invgauss(1)": False, "gennorm(0.7)": False,
}  # by name, and whether log-concave  # fmt: skip


def brute(distribution: Any, snr: float, count: int = 20000) -> tuple[float, float, float, float]:
    """E L, P(L > 1), m* and sup[delta - 5h] of a law in units of its quartiles, by sums over its quantiles."""
    z = np.linspace(-6.2, 6.2, count)
    mass = np.exp(-(z**2) / 2)
    mass /= mass.sum()
    x = np.where(z < 0, distribution.ppf(ndtr(z)), distribution.isf(ndtr(-z)))
    # Y on a grid that is fine beside the noise, and grows with the tails.
    ends = snr * np.unique(x[:: count // 800])
    steps = [np.arange(a, b, max(0.02, (b - a) / 40)) for a, b in itertools.pairwise(ends)]
    y = np.concatenate([ends[0] + np.linspace(-8, 0, 161)[:-1], *steps, ends[-1] + np.linspace(0, 8, 161)])
    y = np.unique(y)
    values, density = np.empty_like(y), np.empty_like(y)
    if distribution.dist.name == "cauchy":  # quantiles are too far apart in such a tail, but Voigt's law is known
        z = (y + 1j * snr) / math.sqrt(2)
        w = wofz(z)
        first = -2 * z * w + 2j / math.sqrt(math.pi)
        second = -2 * w - 2 * z * first
        ratio = first.real / w.real / math.sqrt(2)
        return _figures(y, 1 + second.real / w.real / 2 - ratio**2, w.real)
    for part in np.array_split(np.arange(len(y)), max(1, len(y) * count // 2**23)):
        g = -((y[part, None] - snr * x) ** 2) / 2 + np.log(mass)
        peak = g.max(1, keepdims=True)
        w = np.exp(g - peak)
        total = w.sum(1)
        mean = w @ x / total
        values[part] = snr**2 * (w * (x - mean[:, None]) ** 2).sum(1) / total
        density[part] = np.exp(peak[:, 0]) * total
    return _figures(y, values, density)


def _figures(y: Any, values: Any, density: Any) -> tuple[float, float, float, float]:
    weight = density * np.gradient(y)
    weight /= weight.sum()
    u = np.union1d(np.linspace(0, 0.999, 1000), 1 - np.geomspace(1, 1e-4, 800))
    u = np.union1d(u, values[values < 0.9999][:: max(1, len(values) // 1000)])
    h = np.array([(weight * np.maximum(values - level, 0)).sum() for level in u])
    best = max((1 - u - 5 * h).max(), 0.0)
    return float(weight @ values), float(weight[values > 1 + 1e-9].sum()), float((h / (1 - u)).min()), float(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="these laws alone")
    parser.add_argument("--quick", action="store_true", help="every fifth law")
    arguments = parser.parse_args()
    heads = "".join(f" {head:>8s} {'off':>8s}" for head in ("E L", "P(L>1)", "m*", "sup"))
    print(f"{'law':18s} {'SNR':>5s}{heads}")
    for name, concave in list(LAWS.items())[:: 5 if arguments.quick else 1]:
        if arguments.names and name not in arguments.names:
            continue
        head, _, tail = name.partition("(")
        family = getattr(stats, head)
        frozen = family(*(float(field) for field in tail.rstrip(")").split(",") if field))
        unit = (frozen.ppf(0.75) - frozen.ppf(0.25)) / 2
        start = time.perf_counter()
        profile = brenier.probe(f"scipy:{name}", np.array(SNRS) / unit, perturbations=(1, 5), progress=False)
        spent = time.perf_counter() - start
        for i, snr in enumerate(SNRS):
            row = profile.isel(snr=i)
            ours = (
                float(row.mean_localization),
                float(row.survival.sel(u=1.0)),
                float(row.m_star),
                max(float(row.zeta_star[1]) / (1 + float(row.snr) ** 2), 0.0),
            )
            theirs = brute(frozen, snr / unit)
            if concave:  # L < 1 comes within rounding of 1, so that sums cannot tell; theory says 0
                theirs = (theirs[0], 0.0, 0.0, theirs[3])
            off = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
            good = off[0] <= 1e-4 and max(off[1:]) <= 2e-3
            columns = " ".join(f"{a:8.4f} {b:8.1e}" for a, b in zip(ours, off, strict=True))
            flag = ("P(L>1)=0" if ours[1] == 0 else "NOT 0") if concave else ""
            print(f"{name:18s} {snr:5g} {columns} {'ok' if good else 'OFF'} {flag} {spent:.1f} s", flush=True)


if __name__ == "__main__":
    main()
