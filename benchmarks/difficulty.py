"""Are regions of high curvature those that are hard to generate? [LDK24] section 5 leaves it open.

For each law, the integral and the largest value of L along the sampler's own few steps are held against the distance to
the flow's end from the same noise, beside controls: the trace, FLIPD, distances to the mean, the nearest and the fifth
nearest of the data, the length of the noise, and the log density where there is one. A line per law, sampler and
measure: Spearman's correlation, the lead of the integral of L over the control, the partial correlation with the
control held fixed, and the area under the curve for the worst tenth of the errors, with 95% bootstrap intervals.

How to read it: the hypothesis holds where the correlation of L is at least 0.5 and every lead lies above 0. `verdict`
says so for each law and sampler, and names the controls that are not beaten.

    python benchmarks/difficulty.py [--n 512] [--network FOLDER ...] [--label CLASS] [--only TEXT] [--samplers 0 1 2]

A network of `brenier train` (of a flow, too) or of diffusers is taken beside the others where its folder is given; what
is told classes is told the one of --label. --samplers says which of the three.
"""

import argparse
import time

import numpy as np

import brenier
from brenier.sampling.difficulty import difficulty

SAMPLERS = (("dpmpp-2m", "error"), ("dpmpp-2m", "karras"), ("euler", "karras"))
STEPS = 5


def laws() -> dict[str, object]:
    """Explicit laws, data, and the network that comes with the package."""
    angles = 2 * np.pi * np.arange(8) / 8
    ring = np.stack([np.cos(angles), np.sin(angles)], 1) * 2
    random = np.random.default_rng(0)
    clusters = 2 * random.normal(size=(12, 16))
    return {
        "four-gaussians": "four-gaussians",
        "ring of 8 in 2-D": brenier.GaussianMixture(np.ones(8), ring, 0.04, name="ring"),
        "12 clusters in 16-D": brenier.GaussianMixture(
            random.uniform(0.2, 1, 12), clusters, random.uniform(0.05, 1.0, 12), name="clusters"
        ),
        "t(3)": "scipy:t(3)",
        "mixture fitted to the digits": brenier.fit_mixture(brenier.load_target("digits")).law,
        "digits": "digits",
        "digits-network": "digits-network",
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--network", action="append", default=[])
    parser.add_argument("--only", help="names of laws that hold this text")
    parser.add_argument("--label", type=int, help="class that networks are told")
    parser.add_argument("--samplers", type=int, nargs="+", choices=range(len(SAMPLERS)), default=range(len(SAMPLERS)))
    asked = parser.parse_args()
    told = None if asked.label is None else brenier.Reading(condition={"class_labels": asked.label})
    known = laws() | {folder: brenier.load_target(folder, reading=told) for folder in asked.network}
    for name, law in known.items():
        if asked.only is not None and asked.only not in name:
            continue
        for solver, schedule in (SAMPLERS[which] for which in asked.samplers):
            begun = time.perf_counter()
            options = {"solver": solver, "schedule": schedule, "steps": STEPS, "n": asked.n, "components": 0}
            found = difficulty(law, seed=1, progress=False, **options)
            seconds = time.perf_counter() - begun
            print(f"\n{name}, {solver} {STEPS} steps by {schedule} ({seconds:.0f} s)")
            print(f"{'':24s}{'rho':>22s}{'lead of int L':>22s}{'int L, this fixed':>22s}{'AUC':>22s}")
            for measure in found["measure"].to_numpy():
                row = found.sel(measure=measure)
                cells = "".join(f"{interval(row, key):>22s}" for key in ("rho", "lead", "partial", "auc"))
                print(f"{measure:24s}{cells}")
            print(f"all controls held fixed: {interval(found, 'partial_all')}")
            print(f"verdict: {verdict(found)}", flush=True)


def interval(row, name: str) -> str:
    """A number with its interval."""
    value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
    return "-" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def verdict(found) -> str:
    """Whether the hypothesis holds, and what is not beaten."""
    own = found.sel(measure="integral_localization")
    others = [str(m) for m in found["measure"].to_numpy() if np.isfinite(float(found["lead"].sel(measure=m)))]
    rivals = [m for m in others if not float(found["lead_low"].sel(measure=m)) > 0]
    rho, auc = float(own["rho"]), float(own["auc"])
    said = "holds" if rho >= 0.5 and not rivals and auc >= 0.8 else "does not hold"
    return f"{said}: rho {rho:.2f}, AUC {auc:.2f}; not beaten: {', '.join(rivals) or 'none'}"


if __name__ == "__main__":
    main()
