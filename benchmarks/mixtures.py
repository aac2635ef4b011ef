"""Do plans hold on laws that nobody looked at, whose errors rare switches between modes may rule?

    python benchmarks/mixtures.py                         # 20 random mixtures: 20 minutes on one core
    python benchmarks/mixtures.py --count 0 CASE.json ... # mixtures of yours, from sigma = 40 to 0.02

Mixtures of 3 to 15 normal laws in 2 to 30 dimensions, with weights of Dirichlet's law (1, ..., 1). A cell is one of
them, a sampler and a number of evaluations. On 4,000 noises that no plan has seen, the root mean square distance to the
exact end is held against what the plan predicts, and against that of the best of all grids made by hand, each in the
unit of a quarter, half, once, twice or four times the law's largest length. Which is best is found on one half of the
noises and measured on the other, and the other way round: of so many, one is lucky on the noises that it is chosen by.

    z        (measured - predicted)/standard error of both
    /best    best by hand over planned: above 1, planning pays; +- two standard errors of the paired ratio
    lucky    the same, by the best of all noises
"""

import argparse
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

import brenier
from brenier.sampling import planning
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.handmade import HANDMADE

CELLS = (("dpmpp-2m", 8), ("dpmpp-2m", 20), ("heun", 5), ("heun", 10))  # samplers and steps
UNITS = (0.25, 0.5, 1.0, 2.0, 4.0)
SCALELESS = ("karras", "log-snr", "uniform-sigma", "ays")
NOISES = 4000
BETWEEN = 40.0, 0.02  # levels of mixtures that are given


class Cell(NamedTuple):
    """One law, sampler and number of steps."""

    z: float
    log_ratio: float  # of measured over predicted
    gain: float
    gain_se: float
    lucky: float


def mixture(seed: int) -> brenier.GaussianMixture:
    """A random one."""
    draw = np.random.default_rng(seed)
    dim, count = int(draw.integers(2, 31)), int(draw.integers(3, 16))
    means, deviations = draw.normal(size=(count, dim)), draw.uniform(0.05, 0.4, count)
    return brenier.GaussianMixture(draw.dirichlet(np.ones(count)), means, deviations**2, name=f"random-{seed}")


def by_hand(steps: int, high: float, low: float, to_zero: bool, largest: float) -> Iterator[tuple[str, list[float]]]:
    """All grids made by hand, in each unit where they have one."""
    for name, place in HANDMADE.items():
        for unit in UNITS[-1:] if name in SCALELESS else UNITS:
            size = unit * largest
            levels = [size * sigma for sigma in place(steps if to_zero else steps + 1, high / size, low / size)]
            said = name if name in SCALELESS else f"{name} x{unit:g}"
            yield said, [high, *levels[1:], *([0.0] if to_zero else [])]


def measure(law: brenier.Target, between: tuple[float, float] | None, cells: list[tuple[str, int]]) -> list[Cell]:
    """All cells of a law."""
    high, low, to_zero = planning.noise_range(law, *(between or (None, None)))
    x = start(law, NOISES, high, seed=1)
    goal = reference(law, x, high, 0.0 if to_zero else low, tolerance=1e-4).double()
    largest, found = law.scales()[1], list[Cell]()
    options = {} if between is None else {"sigma_max": high, "sigma_min": low}
    for solver, steps in cells:

        def squares(sigmas: list[float], solver: str = solver) -> np.ndarray:
            return (integrate(law, x, sigmas, solver).x.double() - goal).square().sum(1).numpy()

        begun = time.process_time()
        plan = brenier.plan(law, steps, solver=solver, progress=False, **options)
        spent = time.process_time() - begun
        own = squares([*plan.sigmas])
        hand = {name: squares(grid) for name, grid in by_hand(steps, high, low, to_zero, largest)}
        halves = slice(0, None, 2), slice(1, None, 2)
        best = [min(hand, key=lambda name: hand[name][half].mean()) for half in halves]
        chosen = np.empty_like(own)
        for half, name in zip(reversed(halves), best, strict=True):
            chosen[half] = hand[name][half]
        rms, other, predicted = math.sqrt(own.mean()), math.sqrt(chosen.mean()), plan.end_error or math.nan
        lucky = math.sqrt(min(square.mean() for square in hand.values())) / rms
        se = float(own.std()) / math.sqrt(NOISES) / 2 / rms
        relative = chosen / chosen.mean() - own / own.mean()
        gain_se = other / rms * float(relative.std()) / math.sqrt(NOISES) / 2
        z = (rms - predicted) / math.hypot(se, plan.end_error_se or 0.0)
        found.append(Cell(z, math.log(rms / predicted), other / rms, gain_se, lucky))
        print(
            f"{law.name:20} d {law.dim:2}  {solver:9} {steps:2}  planned {rms:.3g} +- {se:.1g}, predicted "
            f"{predicted:.3g} +- {plan.end_error_se or math.nan:.1g}, z {z:+.1f}; best by hand "
            f"{' or '.join(dict.fromkeys(best))} {other:.3g}, /best {other / rms:.2f} +- {2 * gain_se:.2f}, lucky "
            f"{lucky:.2f}  ({spent:.0f} s)",
            flush=True,
        )
    return found


def report(cells: list[Cell]) -> None:
    """What it says of the targets."""
    z, ratio, gain, error, lucky = (np.array(column) for column in zip(*cells, strict=True))
    behind, least = gain + 2 * error < 1 / 1.05, lucky.min()
    print(
        f"{len(cells)} cells: predicted within two standard errors of measured in {np.mean(np.abs(z) <= 2):.0%}, "
        f"within a factor of 1.5 in {np.mean(np.abs(ratio) <= math.log(1.5)):.0%}; best by hand over planned "
        f"{math.exp(np.log(gain).mean()):.2f} in the geometric mean, at least {gain.min():.2f}; more than 5% behind "
        f"beyond error bars in {behind.sum()}; lucky: {math.exp(np.log(lucky).mean()):.2f}, at least {least:.2f}"
    )


def main() -> None:
    """Measure, and say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="mixtures, .json")
    parser.add_argument("--count", type=int, default=20, help="random mixtures")
    parser.add_argument("--cells", type=int, nargs="+", choices=range(len(CELLS)), default=[*range(len(CELLS))])
    given = parser.parse_args()
    torch.set_num_threads(1)
    cells = [CELLS[k] for k in given.cells]
    found: list[Cell] = []
    for file in given.files:
        found += measure(brenier.load_target(file), BETWEEN, cells)
    for seed in range(given.count):
        found += measure(mixture(seed), None, cells)
    report(found)


if __name__ == "__main__":
    main()
