"""How soon does a semi-discrete map have the right masses, and how much sooner than with others' solvers?

    python benchmarks/semidiscrete.py                                       # the digits: 1,797 x 64
    python benchmarks/semidiscrete.py --cifar FILE --grey --count 2000      # 28 x 28 crops of CIFAR-10: 2,000 x 784
    python benchmarks/semidiscrete.py --small                               # 300 x 16: to see that all works

The source is N(0, I), the weights are equal, and the error is the excess total variation sqrt(TV^2 - floor^2): TV of
a million fresh draws (`--draws`), the same for everyone, and floor what a perfect map has at that number. Time to 0.02,
0.01 and 0.005 of

    brenier         `SemiDiscrete.fit(tolerance=level)`, once for each level and seed; the median of the seeds. It has
                    to find out by itself that it may stop, and that counts. Where the error e is above the level after
                    all, time and draws are multiplied by (e/level)^2; where it is below, nothing is taken off.
    OTT-JAX         `SemidiscreteSolver`, epsilon = 0 (hard assignment), from zero potentials as is its default; at each
                    level the best of a sweep over SGD and Adam, rates, schedules and averages (`potential_ema` is the
                    weight of the newest iterate: the default of 0.99 hardly averages). Its own measurements of the
                    error are left out, compilation is not counted.
    POT             `ot.semidiscrete.solve_semidiscrete` (POT 0.9.7 and later; projected averaged SGD, with entropic
                    regularisation that decreases: DRAG), NumPy in float32: with its defaults, and with larger batches,
                    steps a few times as long, and without regularisation. It cannot be looked into: each number of
                    draws is a run of its own, and that run's time counts.
    published loop  of DPM-OT (arXiv:2307.11308) and AE-OT (ICLR 2020), from its description: zero heights; histograms
                    of 10 N draws at first; Adam with rate 0.1 and betas 0.9 and 0.5 (or 0.999); heights with mean zero;
                    after 50 steps without a smaller |w - b| twice the draws and 0.8 times the rate; the best heights
                    are kept. Below it the same with rates that suit the problem, which nobody has published.
    averaged SGD    batches of 2,000, heights from extreme values, a rate that falls as the root of the steps
    Monte Carlo     (N - 1)/(2 pi level^2) draws, which tell the masses of given cells as precisely as that; the
                    products alone, at this machine's rate. The column "draws/floor" is in units of this number.

Peers are told when to stop: they are measured at numbers of draws that grow geometrically, measuring is not counted,
and between two of these time and draws are interpolated (log-log). All take turns, the one with the least time spent
so far goes next, so that a busy spell hits all. After `--limit` seconds a run is given up, as is one of a
sweep once another one has come to the last level in less time; "-" is followed by the error that was reached.

Read "/ours": time over that of brenier at the same level. Targets: 3 for OTT-JAX, 20 for the published loop. The error
of a measured excess is shown below the tables: at 0.005 a million draws tell it to about a fifth.
"""

import argparse
import io
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import ndtri
from torch import Tensor

import brenier
from brenier.transport import SemiDiscrete

LEVELS = (0.02, 0.01, 0.005)
TARGETS = {"OTT-JAX": 3.0, "published loop": 20.0}
ROUGH = 2**16  # draws that tell whether a measurement is worth a million
GROWTH = 1.5  # of the draws from one measurement to the next
BATCH = 2000
# Of the sweep over OTT-JAX: optimizer, rate, power p of its fall as (1 + t/200)^-p ("t^-p" in the tables), weight of
# the newest iterate. The best of some twenty on 300 of the digits, and one with the default average.
OTT = (
    ("sgd", 0.015, 0, 0.99),
    ("sgd", 0.015, 0, 0.003),
    ("sgd", 0.015, 0, 0.001),
    ("sgd", 0.05, 1, 0.01),
    ("adam", 0.0015, 0, 0.003),
    ("adam", 0.005, 0.5, 0.001),
    ("adam", 0.005, 1, 0.001),
)


# Of POT: batch, factor of the default step, whether to regularise. The first are its defaults.
POT = ((32, 1.0, True), (1024, 1.0, True), (1024, 2.0, True), (1024, 4.0, True), (1024, 2.0, False), (1024, 4.0, False))


class Checkpoint(NamedTuple):
    """Heights, shape (N,), and what they have cost."""

    draws: float
    seconds: float
    heights: NDArray[np.float64]


@dataclass
class Run:
    """One solver with one setting: where it stands, and (draws, seconds, excess) of the checkpoints so far."""

    group: str
    name: str
    steps: Iterator[Checkpoint]
    points: list[tuple[float, float, float]] = field(default_factory=list)
    spent: float = 0.0

    def best(self) -> float:
        """The smallest error so far."""
        return min((excess for _, _, excess in self.points), default=math.inf)

    def reach(self, level: float) -> tuple[float, float] | None:
        """Seconds and draws to an error of `level`, or None."""
        at = next((k for k, (_, _, excess) in enumerate(self.points) if excess <= level), None)
        if at is None:
            return None
        draws, seconds, excess = self.points[at]
        if at == 0:
            return seconds, draws
        draws_before, seconds_before, excess_before = self.points[at - 1]
        share = math.log(excess_before / level) / math.log(excess_before / max(excess, level / 10))
        return (
            seconds_before * (seconds / seconds_before) ** share,
            draws_before * (draws / draws_before) ** share,
        )


class Ours(Run):
    """A fit for each level: a checkpoint answers for its own level alone."""

    def reach(self, level: float) -> tuple[float, float] | None:
        """Seconds and draws of the fit for `level`, or None."""
        at = LEVELS.index(level)
        if at >= len(self.points):
            return None
        draws, seconds, excess = self.points[at]
        charge = max(1.0, excess / level) ** 2
        return seconds * charge, draws * charge


def brenier_fits(points: NDArray[np.float32], limit: float, seed: int) -> Iterator[Checkpoint]:
    """A fresh map for each level."""
    for level in LEVELS:
        fitted = SemiDiscrete(points)
        start = time.perf_counter()
        fitted.fit(level, minutes=limit / 60, seed=seed, progress=False)
        seconds = time.perf_counter() - start
        if fitted.result.stopped == "minutes":
            return
        yield Checkpoint(fitted.result.samples, seconds, fitted.heights.numpy())


def histogram(y: Tensor, heights: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Share of draws of N(0, I) in each cell, shape (N,)."""
    counts = torch.zeros(len(y))
    for start in range(0, draws, BATCH):
        x = torch.randn(min(BATCH, draws - start), y.shape[1], generator=generator)
        won = torch.addmm(heights, x, y.T).numpy().argmax(1)  # several times as fast as torch's
        counts += torch.from_numpy(np.bincount(won, minlength=len(y)))
    return counts / draws


def published_loop(points: NDArray[np.float32], rate: float, beta: float = 0.5) -> Iterator[Checkpoint]:
    """Adam on full histograms; twice the draws when it stalls."""
    y, generator = torch.from_numpy(points), torch.Generator().manual_seed(0)
    heights = torch.zeros(len(y))
    mean, square, best = torch.zeros(len(y)), torch.zeros(len(y)), heights
    size, smallest, bad, step, samples, seconds = 10 * len(y), math.inf, 0, 0, 0, 0.0
    due = float(size)
    while True:
        start = time.perf_counter()
        excess = histogram(y, heights, size, generator) - 1 / len(y)
        step, samples, norm = step + 1, samples + size, float(excess.norm())
        bad += 1
        if norm < smallest:
            smallest, bad, best = norm, 0, heights
        if bad > 50:
            size, rate, smallest, bad = 2 * size, 0.8 * rate, math.inf, 0
        mean = 0.9 * mean + 0.1 * excess
        square = beta * square + (1 - beta) * excess**2
        move = mean / (1 - 0.9**step) / ((square / (1 - beta**step)).sqrt() + 1e-8)
        heights = heights - rate * move
        heights = heights - heights.mean()
        seconds += time.perf_counter() - start
        if samples >= due:
            yield Checkpoint(samples, seconds, best.double().numpy())
            due = GROWTH * samples


def averaged_sgd(points: NDArray[np.float32], rate: float) -> Iterator[Checkpoint]:
    """h <- h - g_t N (w^ - b) with g_t = g/sqrt(1 + t/100), and an average with weights that grow as t."""
    y, generator = torch.from_numpy(points), torch.Generator().manual_seed(0)
    # As if scores were independent normal variables, each above one common level with a chance 1/N.
    heights = torch.from_numpy(np.linalg.norm(points, axis=1) * ndtri(1 / len(y))).float()
    average, step, seconds, due = heights.double(), 0, 0.0, float(len(y))
    while True:
        start = time.perf_counter()
        excess = histogram(y, heights, BATCH, generator) - 1 / len(y)
        heights = heights - rate / math.sqrt(1 + step / 100) * len(y) * excess
        step += 1
        average += (heights.double() - average) * 2 / (step + 1)
        seconds += time.perf_counter() - start
        if step * BATCH >= due:
            yield Checkpoint(step * BATCH, seconds, average.numpy().copy())
            due = GROWTH * step * BATCH


def ott_jax(
    points: NDArray[np.float32], optimizer: str, rate: float, power: float, ema: float, batch: int
) -> Iterator[Checkpoint]:
    """Steps of OTT-JAX's solver, as many at a time as lead to the next checkpoint."""
    import jax
    import jax.numpy as jnp
    import optax
    from ott.geometry.semidiscrete_pointcloud import SemidiscretePointCloud
    from ott.problems.linear.semidiscrete_linear_problem import SemidiscreteLinearProblem
    from ott.solvers.linear.semidiscrete import SemidiscreteSolver, SemidiscreteState

    most, count = 2**20, len(points)
    chosen = getattr(optax, optimizer)(lambda t: rate / (1 + t / 200) ** power)
    solver = SemidiscreteSolver(num_iterations=most, batch_size=batch, optimizer=chosen, potential_ema=ema)
    problem = SemidiscreteLinearProblem(SemidiscretePointCloud(jax.random.normal, jnp.asarray(points), epsilon=0.0))
    zero, none = jnp.zeros(count), jnp.full(most, jnp.inf)
    state = SemidiscreteState(
        it=jnp.array(0),
        epsilon=jnp.zeros(()),
        g=zero,
        g_ema=zero,
        opt_state=chosen.init(zero),
        losses=none,
        grad_norms=none,
        errors=none[: most // solver.error_eval_every + 1],
    )

    @jax.jit
    def advance(state: SemidiscreteState, steps: int) -> SemidiscreteState:
        key = jax.random.key(0)
        return jax.lax.fori_loop(
            0, steps, lambda _, now: solver.step(jax.random.fold_in(key, now.it), now, problem), state
        )

    jax.block_until_ready(advance(state, 2))  # compiles
    square, done, seconds, due = np.square(points, dtype=np.float64).sum(1), 0, 0.0, float(count)
    while done < most:
        steps = min(max(math.ceil(due / batch) - done, 1), most - done)
        start = time.perf_counter()
        state = jax.block_until_ready(advance(state, steps))
        seconds += time.perf_counter() - start
        done += steps
        # It minimises |x - y|^2 - g(y), and we maximise <x, y> + h(y).
        yield Checkpoint(done * batch, seconds, (np.asarray(state.g_ema, np.float64) - square) / 2)
        due = GROWTH * done * batch


def pot(points: NDArray[np.float32], batch: int, factor: float, regularised: bool) -> Iterator[Checkpoint]:
    """Runs of POT's solver, each for twice as many draws as the one before. It minimises |x - y|^2 - g(y)."""
    from ot.semidiscrete import solve_semidiscrete

    count, square = len(points), np.square(points, dtype=np.float64).sum(1)
    steps = max(1, 64 * count // batch)
    while True:
        rng = np.random.default_rng(0)
        start = time.perf_counter()
        g = solve_semidiscrete(
            points,
            lambda n, rng=rng: rng.standard_normal((n, points.shape[1]), dtype=np.float32),
            max_iter=steps,
            batch_size=batch,
            lr0=factor * math.sqrt(count * batch),
            decreasing_reg=regularised,
        )
        seconds = time.perf_counter() - start
        yield Checkpoint(steps * batch, seconds, (np.asarray(g, np.float64) - square) / 2)
        steps *= 2


def contestants(points: NDArray[np.float32], limit: float, seeds: int, batch: int) -> list[Run]:
    """All runs. Rates are in units of the points' spread, which is that of the scores and so of the heights."""
    spread = float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))
    runs: list[Run] = [Ours("brenier", f"seed {seed}", brenier_fits(points, limit, seed)) for seed in range(seeds)]
    for optimizer, rate, power, ema in OTT:
        name = f"{optimizer} {rate:g}{f' t^-{power:g}' if power else ''}, ema {ema:g}"
        unit = 2 * spread * (len(points) if optimizer == "sgd" else 1)  # g = 2 h + |y|^2
        runs.append(Run("OTT-JAX", name, ott_jax(points, optimizer, rate * unit, power, ema, batch)))
    for size, factor, regularised in POT:
        name = "defaults" if (size, factor, regularised) == POT[0] else f"batch {size}, {factor:g} x, reg {regularised}"
        group = "POT" if name == "defaults" else "POT, tuned"
        runs.append(Run(group, name, pot(points, size, factor, regularised)))
    runs += [Run("published loop", f"betas 0.9, {beta:g}", published_loop(points, 0.1, beta)) for beta in (0.5, 0.999)]
    runs += [Run("the same, tuned", f"rate {rate:g}", published_loop(points, rate * spread)) for rate in (0.01, 0.003)]
    runs.append(Run("averaged SGD", "rate 0.05", averaged_sgd(points, 0.05 * spread)))
    return runs


def race(runs: list[Run], measure: Callable[[NDArray[np.float64]], float], limit: float) -> None:
    """Let the runs take turns until all have come to the last level, or are given up."""
    going = list(runs)
    finished: dict[str, float] = {}
    while going:
        run = min(going, key=lambda one: one.spent)
        own = isinstance(run, Ours)
        point = next(run.steps, None)
        if point is not None:
            run.spent = run.spent + point.seconds if own else point.seconds
            run.points.append((point.draws, point.seconds, measure(point.heights)))
        if point is None or (not own and (run.spent > limit or run.best() <= LEVELS[-1])):
            going.remove(run)
        reached = None if own else run.reach(LEVELS[-1])
        if reached is not None:
            finished[run.group] = min(finished.get(run.group, math.inf), reached[0])
        going = [one for one in going if one.spent <= finished.get(one.group, math.inf)]


def judge(points: NDArray[np.float32], draws: int) -> Callable[[NDArray[np.float64]], float]:
    """The excess total variation of heights; by fewer draws while it is large."""
    held = SemiDiscrete(points)

    def measure(heights: NDArray[np.float64]) -> float:
        held.heights = torch.from_numpy(heights)
        if draws > ROUGH:
            rough = held.marginal_error(ROUGH)
            if rough.excess - 3 * rough.excess_se > 2 * LEVELS[0]:
                return rough.excess
        return held.marginal_error(draws).excess

    return measure


def product_rate(points: NDArray[np.float32]) -> float:
    """GFLOP/s of the products that scores take."""
    x, y = torch.randn(BATCH, points.shape[1]), torch.from_numpy(points)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(x, y.T)
        best = min(best, time.perf_counter() - start)
    return 2 * BATCH * points.size / best / 1e9


def report(runs: list[Run], points: NDArray[np.float32], rate: float, limit: float, console: Console) -> None:
    """Time, draws and ratios at each level; what each setting of a sweep came to; which targets are met."""
    floors = {level: (len(points) - 1) / (2 * math.pi * level**2) for level in LEVELS}
    groups = list(dict.fromkeys(run.group for run in runs))
    found: dict[tuple[str, float], tuple[float, float, str]] = {}
    for group in groups:
        for level in LEVELS:
            ends = [(*end, run.name) for run in runs if run.group == group and (end := run.reach(level)) is not None]
            if group == "brenier":
                if len(ends) == sum(run.group == group for run in runs):
                    seconds, draws, _ = zip(*ends, strict=True)
                    found[group, level] = (float(np.median(seconds)), float(np.median(draws)), "")
            elif ends:
                found[group, level] = min(ends)
    found.update({("Monte Carlo", k): (2 * floors[k] * points.size / rate / 1e9, floors[k], "") for k in LEVELS})
    table = Table("solver", title="time to an excess total variation")
    for level in LEVELS:
        for title in (f"{level:g}: s", "draws/floor", "/ours"):
            table.add_column(title, justify="right")
    for group in (*groups, "Monte Carlo"):
        row = [group]
        for level in LEVELS:
            ours, own = found.get(("brenier", level)), found.get((group, level))
            if own is None:
                row += [f"- ({min(run.best() for run in runs if run.group == group):.3g})", "", ""]
                if ours is not None:
                    row[-1] = f"> {limit / ours[0]:.1f}"
                continue
            row += [f"{own[0]:.3g}", f"{own[1] / floors[level]:.2f}", f"{own[0] / ours[0]:.2f}" if ours else ""]
        table.add_row(*row)
    console.print(table)
    details = Table("solver", "setting", title="all runs")
    for title in ("s/million draws", *(f"{level:g}: s" for level in LEVELS), "got to", "after s"):
        details.add_column(title, justify="right")
    for run in runs:
        if not run.points:
            continue
        ends = [run.reach(level) for level in LEVELS]
        shown = [f"{end[0]:.3g}" if end is not None else "-" for end in ends]
        got = ", ".join(f"{point[2]:.4f}" for point in run.points) if isinstance(run, Ours) else f"{run.best():.4f}"
        per = 1e6 * run.points[-1][1] / run.points[-1][0]
        details.add_row(run.group, run.name, f"{per:.2f}", *shown, got, f"{run.spent:.0f}")
    console.print(details)
    for group in (group for group in groups if group in TARGETS):
        target = TARGETS[group]
        for level in LEVELS:
            ours, theirs = found.get(("brenier", level)), found.get((group, level))
            if ours is None:
                console.print(f"{group} at {level:g}: we are not there ourselves")
                continue
            ratio, sign = (theirs[0] / ours[0], "") if theirs else (limit / ours[0], "more than ")
            said = "met" if ratio >= target else ("open: a larger --limit" if theirs is None else "MISSED")
            by = f", by {theirs[2]}" if theirs else ""
            console.print(f"{group} at {level:g}: {sign}{ratio:.1f} times our time{by}; target {target:g}: {said}")


def load(given: argparse.Namespace) -> tuple[str, NDArray[np.float32]]:
    """The problem's name and points."""
    if given.small:
        return "normal points", np.random.default_rng(0).standard_normal((300, 16), dtype=np.float32)
    if given.cifar is None:
        return "digits", np.asarray(brenier.load_target("digits").data, np.float32).reshape(1797, 64)
    from PIL import Image

    archive = np.load(given.cifar)
    data, offsets = archive["bytes"], archive["offsets"]
    rows = []
    for i in np.flatnonzero(archive["split"] == 0)[: given.count]:
        image = Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]]))
        rows.append(np.asarray(image.convert("L"))[2:30, 2:30] if given.grey else np.asarray(image))
    points = np.unique(np.stack(rows).reshape(len(rows), -1), axis=0).astype(np.float32) / 127.5 - 1
    return "CIFAR-10" + " in grey, cropped" * given.grey, points


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to a given error of semi-discrete transport.")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as JPEG files in one .npz (bytes, offsets, split)")
    parser.add_argument("--count", type=int, default=10_000, help="of its images")
    parser.add_argument("--grey", action="store_true", help="its images in grey, the middle 28 x 28")
    parser.add_argument("--small", action="store_true", help="300 normal points in 16 dimensions")
    parser.add_argument("--limit", type=float, default=240, help="seconds after which a run is given up")
    parser.add_argument("--seeds", type=int, default=3, help="of our fits")
    parser.add_argument("--draws", type=int, default=2**20, help="that an error is measured by")
    parser.add_argument("--batch", type=int, default=1024, help="of OTT-JAX")
    parser.add_argument("--only", nargs="+", help="solvers, or settings: 'OTT-JAX, adam 0.005 t^-1'")
    given = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    console = Console(width=132)
    name, points = load(given)
    rate = product_rate(points)
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "POT", "ott-jax", "jax", "optax"))
    console.print(f"{name}: {len(points):,} x {points.shape[1]:,}; {threads} threads, {versions}")
    console.print(f"products at {rate:.3g} GFLOP/s")
    runs = contestants(points, given.limit, given.seeds, given.batch)
    if given.only is not None:
        runs = [run for run in runs if any(f"{run.group}, {run.name}".startswith(only) for only in given.only)]
    begun = time.perf_counter()
    race(runs, judge(points, given.draws), given.limit)
    wall, spent = time.perf_counter() - begun, sum(run.spent for run in runs)
    report(runs, points, rate, given.limit, console)
    floor = math.sqrt((len(points) - 1) / (2 * math.pi * given.draws))
    noise = math.sqrt((1 - 2 / math.pi) / (4 * given.draws))
    bars = ", ".join(f"{math.hypot(floor, level) * noise / level:.4f} at {level:g}" for level in LEVELS)
    console.print(f"floor {floor:.4f}; standard error of a measured excess: {bars}")
    console.print(f"products at {product_rate(points):.3g} GFLOP/s now")
    console.print(f"{wall / 60:.0f} minutes, {spent / 60:.0f} of them the solvers'")


if __name__ == "__main__":
    main()
