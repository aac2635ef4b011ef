"""Does a planned schedule leave a smaller error than those that people choose by hand, and than what could be had?

    python benchmarks/plan.py                                # everything: about an hour on two cores
    python benchmarks/plan.py --laws two-points ring --end sigma-min

For each law, sampler and number of evaluations (Heun: steps = evaluations/2): the root mean squared distance between
where the sampler ends and where the exact flow ends from the same noise, over noise that planning has not seen, with
its standard error.

    best        the best of karras, log-snr, cosine, linear-beta and uniform-sigma, by the test noise itself
    error       brenier.plan(criterion="error")
    /best       best over error: above 1, planning pays; "+-" is two standard errors of the paired ratio
    /karras     the same for Karras's rho = 7
    ceiling     the grid optimised end to end on the pilots, to convergence, from `error` and the best by hand; the
                derivatives through the sampler are difference quotients
    predicted   Schedule.end_error, and the linear prediction alone: local error times amplification
    median, W2  of `error` and of the best by hand: the few trajectories that change mode dominate the mean square
    worst 1%    share of the square of `error` that the worst hundredth of the test noise carries; where it is large,
                error bars are too small themselves

Where `error` loses, a line says what the same two grids leave the pilots. If `error` leaves them less, they are too few
to know the rare trajectories that decide; if it does not, its descent ended in the wrong valley.

--end sigma-min: all grids run from the law's sigma_max to its sigma_min, so that only what lies between differs.
--end zero: all grids end at 0, the default: planning chooses the last positive level, too; the others have sigma_min.
Targets: /best at least 1 in every cell within its error bar, 1.2 in the geometric mean, /karras 1.4; error within 5% of
the ceiling; predictions within a factor of 1.5, rank correlation 0.9 over all grids.
"""

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

import brenier
from brenier.distances.wasserstein import debiased_w2, sliced_w2
from brenier.sampling import error as stages
from brenier.sampling import planning
from brenier.sampling.driver import integrate, start
from brenier.sampling.endpoint import reference
from brenier.sampling.handmade import HANDMADE
from brenier.sampling.steps import evaluations
from laws import digits, ring, uneven

SOLVERS = ("euler", "heun", "dpmpp-2m")
BUDGETS = (6, 10, 20)
EXACT = 1e-6  # of the largest length: errors below it are none
ROWS = 1024  # of them from which W2 is found
TESTS = {2: 65536, 8: 16384, 64: 2048}  # test noise up to so many dimensions: rare trajectories decide


LAWS = {
    "two-points": lambda: brenier.load_target("two-points"),
    "spike-slab": lambda: brenier.load_target("spike-slab"),
    "four-gaussians": lambda: brenier.load_target("four-gaussians"),
    "ring": ring,
    "digits-0.01": lambda: digits(1e-2),
    "digits-0.001": lambda: digits(1e-3),
    "uneven": uneven,
    "digits-network": lambda: brenier.load_target("digits-network"),
}


class Cell(NamedTuple):
    """One law, sampler and budget."""

    law: str
    solver: str
    budget: int
    best_name: str
    best: float
    karras: float
    error: float
    spread: float  # two standard errors of log(best/error)
    standard: float  # standard error of `error`
    ceiling: float
    medians: tuple[float, float]  # of error, of the best by hand
    w2: tuple[float, float]
    seconds: float
    cost: float  # evaluations of planning over evaluations of 512 samples
    tail: float  # share of the worst hundredth in the square of `error`
    exact: bool  # the best by hand leaves no error
    measured: bool  # `error` leaves some
    grids: list[tuple[str, float, float, float]]  # criterion, predicted, linear prediction, measured


def measure(job: tuple[str, bool]) -> list[Cell]:
    """All cells of a law."""
    torch.set_num_threads(1)
    name, to_zero = job
    law = LAWS[name]()
    high, low, _ = planning.noise_range(law, None, None)
    end = None if to_zero else low
    count = next(count for dim, count in TESTS.items() if law.dim <= dim)
    x = start(law, count, high, seed=1)
    goal = reference(law, x, high, 0.0 if to_zero else low, tolerance=1e-5).double()
    truth = law.sample(ROWS, seed=12345)
    if end is not None:
        truth = truth + end * torch.randn(truth.shape, generator=torch.Generator().manual_seed(99)).to(truth)
    return [cell for solver in SOLVERS for cell in _cells(name, law, solver, to_zero, x, goal, truth)]


def _cells(
    name: str, law: brenier.Target, solver: str, to_zero: bool, x: Tensor, goal: Tensor, truth: Tensor
) -> list[Cell]:
    """All budgets of a law and sampler: from the noise x, to `goal` by the exact flow, `truth` drawn from the law."""
    high, low, _ = planning.noise_range(law, None, None)
    end, count = None if to_zero else low, len(x)

    def distances(sigmas: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        points = integrate(law, x, sigmas, solver).x
        return points, (points.double() - goal).norm(dim=1)

    cells: list[Cell] = []
    for budget in BUDGETS:
        steps = budget // 2 if solver == "heun" else budget
        hand = {
            c: brenier.plan(law, steps, solver=solver, criterion=c, sigma_min=end, progress=False) for c in HANDMADE
        }
        begin = time.perf_counter()
        planned = brenier.plan(law, steps, solver=solver, sigma_min=end, progress=False)
        seconds = time.perf_counter() - begin
        schedules = {**hand, "error": planned}
        found = {c: distances(schedule.sigmas) for c, schedule in schedules.items()}
        squares = {c: away.square() for c, (_, away) in found.items()}
        rms = {c: math.sqrt(float(square.mean())) for c, square in squares.items()}
        best = min(hand, key=lambda c: rms[c])
        exact = rms[best] < EXACT * law.scales()[1]
        relative = squares[best] / squares[best].mean() - squares["error"] / squares["error"].mean()
        spread = 0.0 if exact else float(relative.std()) / math.sqrt(count)  # of log(best/error), doubled and halved
        standard = 0.0 if exact else float(squares["error"].std()) / math.sqrt(count) / (2 * rms["error"])
        between, cost = (high, _low(law, low, to_zero), to_zero), evaluations(solver, planned.sigmas)
        flown, _ = planning._fly(law, *between, 256, cost, 0, runs=1)
        predicted = brenier.predict(law, list(schedules.values()))
        grids = [
            (c, schedule.end_error or 0.0, _linear(flown, schedule), rms[c])
            for c, schedule in zip(schedules, predicted, strict=True)
        ]
        tries = [planned, *sorted(hand.values(), key=lambda s: rms[s.criterion])[: 1 if law.dim > 8 else 2]]
        ceiling = rms["error"] if exact else _ceiling(law, flown, solver, tries, distances)
        w2 = tuple(_w2(found[c][0], truth) for c in ("error", best))
        worst = squares["error"].topk(count // 100).values.sum() / squares["error"].sum()
        medians = (float(found["error"][1].median()), float(found[best][1].median()))
        cost = planned.evaluations / (512 * evaluations(solver, planned.sigmas))
        cells.append(
            Cell(
                name, solver, budget, best, rms[best], rms["karras"], rms["error"], spread, standard, ceiling, medians,
                w2, seconds, cost, float(worst), exact, rms["error"] > EXACT * law.scales()[1], grids,
            )
        )  # fmt: skip
    return cells


def _low(law: brenier.Target, low: float, to_zero: bool) -> float:
    return planning._lowest(law, low) if to_zero else low


def _linear(flown: planning.Pilots, schedule: brenier.Schedule) -> float:
    total = flown.contributions(schedule.sigmas, schedule.solver).sum(0)
    return math.sqrt(float(total @ total) / len(flown.end))


def _ceiling(law: brenier.Target, flown: planning.Pilots, solver: str, tries: list, distances: object) -> float:
    """The test error of the grid that leaves the pilots the least, of those found by descent from each try."""
    grids = stages._Grids(flown.sigmas[0], flown.sigmas[-1], flown.to_zero)
    sampler = stages._Sampler(law, flown, solver)
    trials = 3 if law.dim > 8 else 15
    ends = [stages._descend(grids, grids.gaps(s.sigmas), sampler.error, sampler.slopes, trials) for s in tries]
    best = min(ends, key=lambda end: end[1])[0]
    return math.sqrt(float(distances(tuple(grids.sigmas(best)))[1].square().mean()))


def _w2(x: Tensor, y: Tensor) -> float:
    """W2 on the line and in the plane; sqrt(d) times the sliced distance above."""
    return (sliced_w2 if x.shape[1] > 2 else debiased_w2)(x[:ROWS].double(), y.double()).value


def report(cells: list[Cell], end: str) -> None:
    """The table, and what it says of the targets."""
    console = Console(width=225)
    table = Table(title=f"grids end at {end}", show_edge=False)
    for title in (
        *("law", "sampler", "evals", "best by hand", "best", "error", "se", "/best", "+-", "/karras", "error/ceiling"),
        *("predicted", "linear", "median", "(best)", "W2", "(best)", "worst 1%", "cost/512", "s"),
    ):
        table.add_column(
            title, justify="left" if title in ("law", "sampler", "best by hand") else "right", no_wrap=True
        )
    for cell in cells:
        gain = cell.best / cell.error if cell.error else math.inf
        _, predicted, linear, _ = cell.grids[-1]
        ratios = ["exact"] * 4
        if not cell.exact:
            values = (gain, gain * math.expm1(cell.spread), cell.karras / cell.error, cell.error / cell.ceiling)
            ratios = [f"{value:.2f}" for value in values]
        numbers = [f"{value:.3g}" for value in (cell.best, cell.error, cell.standard)]
        others = [f"{value:.2g}" for value in (predicted, linear, *cell.medians, *cell.w2, cell.cost)]
        names = (cell.law, cell.solver, str(cell.budget), cell.best_name)
        others.insert(-1, "" if cell.exact else f"{cell.tail:.0%}")
        table.add_row(*names, *numbers, *ratios, *others, f"{cell.seconds:.1f}")
    console.print(table)
    kept = [cell for cell in cells if cell.measured and not cell.exact]
    won, none = sum(not cell.measured and not cell.exact for cell in cells), sum(cell.exact for cell in cells)
    console.print(
        f"{len(kept)} cells; left out of what follows: {none} in which the best by hand is exact already, {won} in "
        "which `error` alone is"
    )
    for cell in cells:
        if cell.exact and cell.measured:
            console.print(f"  not exact by `error`: {cell.law} {cell.solver} {cell.budget}, {cell.error:.2g}")
    gain = np.array([cell.best / cell.error for cell in kept])
    karras = np.array([cell.karras / cell.error for cell in kept])
    short = np.array([cell.error / cell.ceiling for cell in kept])
    console.print(
        f"geometric means: best by hand/error {_mean(gain):.3f} (median {np.median(gain):.3f}), karras/error "
        f"{_mean(karras):.3f} (median {np.median(karras):.3f}), error/ceiling {_mean(short):.3f}"
    )
    for law in dict.fromkeys(cell.law for cell in kept):
        own = np.array([cell.law == law for cell in kept])
        console.print(f"  {law}: {_mean(gain[own]):.3f}, {_mean(karras[own]):.3f}, {_mean(short[own]):.3f}")
    far = [f"{c.law} {c.solver} {c.budget} ({v:.2f})" for c, v in zip(kept, short, strict=True) if v > 1.05]
    console.print(f"error/ceiling above 1.05 in {len(far)} cells{': ' * bool(far)}{', '.join(far)}")
    losses = [cell for cell in kept if cell.best > 0 and cell.best / cell.error < 1 - 1e-3]
    beyond = [cell for cell in losses if cell.best / cell.error < math.exp(-cell.spread)]
    console.print(f"worse than the best by hand in {len(losses)} cells, in {len(beyond)} of them beyond the error bar:")
    for cell in losses:
        console.print(f"  {_reason(cell, cell in beyond)}", soft_wrap=True)
    rows = [grid for cell in kept for grid in cell.grids if min(grid[1:]) > EXACT]
    for k, what in ((1, "prediction (pilots)"), (2, "linear prediction")):
        pairs = np.array([(grid[k], grid[3]) for grid in rows])
        away = np.exp(np.abs(np.log(pairs[:, 0] / pairs[:, 1])))
        console.print(
            f"{what}: rank correlation {spearmanr(*pairs.T)[0]:.3f} over {len(rows)} grids; within a factor of 1.5 in "
            f"{np.mean(away < 1.5):.0%}, median factor {np.median(away):.2f}"
        )


def _reason(cell: Cell, beyond: bool) -> str:
    """Where `error` loses, and what the pilots say."""
    pilots = {criterion: predicted for criterion, predicted, _, _ in cell.grids}
    own, other = pilots["error"], pilots[cell.best_name]
    bar = "beyond" if beyond else "within"
    causes = ("the pilots are too few", "they cannot tell the grids apart", "the descent ended in the wrong valley")
    cause = causes[0 if own < other else 1 if own == other else 2]
    return (
        f"{cell.law} {cell.solver} {cell.budget}: {cell.best / cell.error:.3f} of {cell.best_name}, {bar} the error "
        f"bar; the worst 1% carry {cell.tail:.0%} of the square; on the pilots error leaves {own:.3g}, "
        f"{cell.best_name} {other:.3g}: {cause}"
    )


def _mean(values: np.ndarray) -> float:
    return float(np.exp(np.log(values).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Planned against hand-made schedules.")
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS))
    parser.add_argument("--end", choices=("sigma-min", "zero", "both"), default="both")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    for end in ("sigma-min", "zero") if given.end == "both" else (given.end,):
        jobs = [(law, end == "zero") for law in given.laws]
        with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
            report([cell for cells in pool.map(measure, jobs) for cell in cells], end)


if __name__ == "__main__":
    main()
