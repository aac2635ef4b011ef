"""Which method learns a map from N(0, I) to data best, and how long does it take?

    python benchmarks/mongeampere.py                       # an hour
    python benchmarks/mongeampere.py ring --seeds 1
    python benchmarks/mongeampere.py --ring-seeds 10       # Algorithm 1 on the ring: is it stable?

    ring       eight Gaussians, radius 3, standard deviation 0.3; 10,000 points
    moons      scikit-learn's two moons, noise 0.07; 10,000 points
    digits     of 8 x 8 pixels after PCA to 16 dimensions: 1,437 points, 360 held out
    mixture    eight Gaussians in 16 dimensions, means from N(0, 4I), variances from 0.1 to 1; 10,000 points

W2 is exact between pushed fresh points of N(0, I) and fresh points of the target (the held-out ones of the digits),
2,000 of each (360), the mean over 5 pairs of sets; the floor is that between two independent sets of target points (for
the digits of training and held-out points), the mean over 5 pairs, too. On the ring single pairs vary by a fifth, with
how many points each mode happens to get. Columns are means over the seeds, +- the standard deviation between them.
Methods take turns, so that a busy machine is busy for all. They see points, except where the name says "density".

    ours: neural, linear       `MongeAmpere` with default settings; "neural" from points is Algorithm 1
    ours: grid                 the parabolic equation in the plane
    ours: affine               the map between the normal laws with the same moments
    OTT-JAX dual               `W2NeuralDual` with MLPs (4 layers of 64; Adam, 1e-3 with cosine decay, betas 0.5;
                               batches of 1,024 as ours), conjugates refined by L-BFGS, its default (Amos): as many
                               steps as fit into the time of "ours: neural" on the same task, compilation not counted.
                               Convex networks, its default, take 10 s and more for a step on two cores; without
                               L-BFGS (Makkuva et al.) MLPs at 1e-3 and convex networks at 1e-3 and 1e-4 went
                               astray in minutes
    POT, OTT-JAX Sinkhorn      barycentric maps between 2,000 points of each law, applied to fresh
                               ones by the entropic map; epsilon over the mean squared distance in the name
    training points            drawn again: what a perfect copier scores

Sinkhorn's maps put out averages of training points, and for small epsilon the points themselves: "closer" says so for
the digits, where it is the share of samples nearer to a training point than that is to others, "FD" the Frechet
distance to held-out digits without its bias; the row "held-out" is the control.
"""

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import ot
import torch
from numpy.typing import NDArray
from ott.geometry.pointcloud import PointCloud
from ott.neural.methods.neuraldual import W2NeuralDual
from ott.neural.networks.potentials import PotentialMLP
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear.sinkhorn import Sinkhorn
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_moons
from torch import Tensor

import brenier
from brenier.distances.wasserstein import exact_w2
from brenier.metrics import frechet_distance, memorisation
from brenier.metrics.digits import digits_split
from brenier.transport.mongeampere import MongeAmpere

Array: TypeAlias = NDArray[np.float64]
Map: TypeAlias = Callable[[Tensor], Tensor]
COUNT, TRAIN, FLOORS, BATCH = 2000, 10_000, 5, 1024


@dataclass(frozen=True)
class Task:
    """A target.

    Attributes:
        name: of the task.
        train: points to learn from, shape (N, d).
        fresh: others, by seed.
        law: None where it is not known.
        floor: W2 between two sets of points.
    """

    name: str
    train: Tensor
    fresh: Callable[[int], Tensor]
    law: brenier.Target | None
    floor: float


def with_floor(name: str, fresh: Callable[[int, int], Tensor], law: brenier.Target | None) -> Task:
    """A task of which points can be drawn."""
    pairs = [(fresh(COUNT, 100 + k), fresh(COUNT, 200 + k)) for k in range(FLOORS)]
    floor = float(np.mean([exact_w2(*pair).value for pair in pairs]))
    return Task(name, fresh(TRAIN, 1), lambda seed: fresh(COUNT, 300 + seed), law, floor)


def ring() -> Task:
    angle = np.arange(8) * np.pi / 4
    law = brenier.GaussianMixture(np.ones(8), 3 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.09, name="ring")
    return with_floor("ring", law.sample, law)


def moons() -> Task:
    def fresh(n: int, seed: int) -> Tensor:
        rows = np.random.default_rng(seed).integers(100_000, size=n)  # its points are evenly spread, not independent
        return torch.from_numpy(make_moons(100_000, noise=0.07, random_state=seed)[0][rows])

    return with_floor("moons", fresh, None)


def mixture() -> Task:
    generator = np.random.default_rng(0)
    means, variances = 2 * generator.standard_normal((8, 16)), generator.uniform(0.1, 1, 8)
    law = brenier.GaussianMixture(np.ones(8), means, variances, name="mixture")
    return with_floor("mixture", law.sample, law)


def digits() -> Task:
    images, _, (rows, others, held) = digits_split()
    train, held = images[torch.cat([rows, others])].double(), images[held].double()
    axes = torch.linalg.svd(train - train.mean(0), full_matrices=False).Vh[:16].T
    inside, outside = (train - train.mean(0)) @ axes, (held - train.mean(0)) @ axes
    generator = torch.Generator().manual_seed(0)
    sets = [inside[torch.randperm(len(inside), generator=generator)[: len(outside)]] for _ in range(FLOORS)]
    floor = float(np.mean([exact_w2(points, outside).value for points in sets]))
    return Task("digits", inside, lambda seed: outside, None, floor)


TASKS = {"ring": ring, "moons": moons, "digits": digits, "mixture": mixture}


def ours(_: Task, seed: int, method: str, source: Any, minutes: float) -> Map:
    """`MongeAmpere` with default settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # divergence: what is left is what is measured
        return MongeAmpere("normal", source, method=method).fit(minutes=minutes, seed=seed, progress=False).map


def batches(points: Array | None, dim: int, seed: int) -> Iterator[Array]:
    """Of points, or of N(0, I)."""
    generator = np.random.default_rng(seed)
    while True:
        if points is None:
            yield generator.standard_normal((BATCH, dim), dtype=np.float32)
        else:
            yield points[generator.integers(len(points), size=BATCH)]


def train_dual(task: Task, seed: int, steps: int) -> tuple[W2NeuralDual, float]:
    """OTT-JAX's networks after so many steps, and the seconds of all but the first two, which compile."""
    dim, widths, points = task.train.shape[1], [64] * 4, task.train.numpy().astype(np.float32)
    rate = optax.cosine_decay_schedule(1e-3, steps, 1e-2)
    solver = W2NeuralDual(
        dim,
        PotentialMLP(widths),
        PotentialMLP(widths),
        optax.adam(rate, b1=0.5, b2=0.5),
        optax.adam(rate, b1=0.5, b2=0.5),
        num_train_iters=steps,
        valid_freq=10**9,
        rng=jax.random.key(seed),
    )
    loaders = [batches(None, dim, seed), batches(points, dim, seed + 1)] * 2
    times: list[float] = []
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        solver(*loaders, callback=lambda step, _: times.append(time.perf_counter()))
    jax.block_until_ready(solver.state_f.params)
    return solver, time.perf_counter() - times[1]


def dual(task: Task, seed: int, seconds: float) -> tuple[Map, float, str]:
    """OTT-JAX's map after about so many seconds."""
    pilot = 22
    each = train_dual(task, seed, pilot)[1] / (pilot - 2)
    steps = min(max(int(seconds / each), 100), 20_000)
    solver, took = train_dual(task, seed, steps)
    gradient = jax.jit(solver.state_f.potential_gradient_fn(solver.state_f.params))
    return lambda y: to_torch(gradient(jnp.asarray(y.numpy(), jnp.float32))), took, f"{steps:,} steps"


def to_torch(x: Any) -> Tensor:
    """In float64."""
    return torch.from_numpy(np.asarray(x, np.float64))


def pair(task: Task, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Points of N(0, I) and of the training data."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(task.train), generator=generator)[:n]
    return torch.randn(n, task.train.shape[1], generator=generator, dtype=torch.float64), task.train[rows].double()


def pot_sinkhorn(task: Task, seed: int, regularisation: float) -> Map:
    """Barycentric map of POT's coupling."""
    y, x = pair(task, seed, COUNT)
    cost = ot.dist(y.numpy(), x.numpy())
    epsilon = regularisation * cost.mean()
    weights = [np.full(len(z), 1 / len(z)) for z in (y, x)]
    log = ot.sinkhorn(*weights, cost, epsilon, method="sinkhorn_log", numItermax=500, stopThr=1e-4, log=True)[1]
    potential = torch.from_numpy(log["log_v"])
    return lambda at: (potential - torch.cdist(at, x).square() / epsilon).softmax(1) @ x


def ott_sinkhorn(task: Task, seed: int, regularisation: float) -> Map:
    """The entropic map of OTT-JAX."""
    y, x = (jnp.asarray(z.numpy(), jnp.float32) for z in pair(task, seed, COUNT))
    geometry = PointCloud(y, x, epsilon=regularisation, relative_epsilon="mean")
    found = jax.jit(Sinkhorn(max_iterations=1000, threshold=1e-3))(LinearProblem(geometry))
    jax.block_until_ready(found.f)
    return lambda at: to_torch(found.to_dual_potentials().transport(jnp.asarray(at.numpy(), jnp.float32)))


def copies(task: Task, seed: int) -> Map:
    """Training points, drawn again."""
    generator = torch.Generator().manual_seed(seed)
    return lambda y: task.train[torch.randint(len(task.train), (len(y),), generator=generator)].double()


def timed(fit: Callable[..., Map], *given: Any) -> Callable[[Task, int, float], tuple[Map, float, str]]:
    """The map and the seconds it took."""

    def run(task: Task, seed: int, _: float) -> tuple[Map, float, str]:
        begun = time.perf_counter()
        found = fit(task, seed, *given)
        return found, time.perf_counter() - begun, ""

    return run


def contestants(task: Task, minutes: float) -> dict[str, Callable[[Task, int, float], tuple[Map, float, str]]]:
    """All methods for a task; "ours: neural" comes first, and gives the others' time."""
    found = {"ours: neural": timed(ours, "neural", task.train, minutes)}
    if task.law is not None:
        found["ours: neural, density"] = timed(ours, "neural", task.law, minutes)
    if task.law is not None and task.law.dim == 2:
        found["ours: linear, density"] = timed(ours, "linear", task.law, minutes)
        found["ours: grid, density"] = timed(ours, "grid", task.law, minutes)
    found["ours: affine"] = timed(ours, "gaussian", task.train, minutes)
    found["OTT-JAX dual"] = dual
    for regularisation in (0.05, 0.01):
        found[f"POT Sinkhorn {regularisation:g}"] = timed(pot_sinkhorn, regularisation)
    for regularisation in (0.01, 0.003):
        found[f"OTT-JAX Sinkhorn {regularisation:g}"] = timed(ott_sinkhorn, regularisation)
    found["training points"] = timed(copies)
    return found


def compare(task: Task, seeds: int, minutes: float, only: list[str] | None, console: Console) -> None:
    """A table of all methods."""
    methods, numbers, notes = contestants(task, minutes), dict[str, list[list[float]]](), dict[str, str]()
    if only is not None:
        methods = {name: fit for name, fit in methods.items() if any(f"{name} ".startswith(f"{o} ") for o in only)}
    for seed in range(seeds):
        seconds = 60.0
        for name, fit in methods.items():
            pushed, took, notes[name] = fit(task, seed, seconds)
            seconds = took if name == "ours: neural" else seconds
            numbers.setdefault(name, []).append([took, *scores(task, pushed, seed)])
            console.print(f"{task.name} {seed} {name}: {took:.1f} s, {numbers[name][-1][1]:.3f}", style="dim")
    heads = ["seconds", "W2", "W2/floor", *(["FD", "closer"] if task.name == "digits" else []), ""]
    title = f"{task.name}, d = {task.train.shape[1]}: floor {task.floor:.3g}, {seeds} seeds"
    table = Table("method", title=title, title_justify="left", show_edge=False)
    for head in heads:
        table.add_column(head, justify="right")
    for name, rows in numbers.items():
        mean, spread = np.mean(rows, 0), np.std(rows, 0, ddof=min(1, seeds - 1))
        cells = [f"{mean[0]:.1f}", *(f"{m:.3f} +- {s:.3f}" for m, s in zip(mean[1:], spread[1:], strict=True))]
        table.add_row(name, *cells, notes[name])
    if task.name == "digits":
        held = task.fresh(0)
        closer = memorisation(held, task.train).samples.shares()["closer"].value
        table.add_row("held-out", "", f"{task.floor:.3f}", "1.000", "0", f"{closer:.3f}", "")
    console.print(table)


def scores(task: Task, pushed: Map, seed: int) -> list[float]:
    """W2, that over the floor; Frechet distance and closeness for the digits."""
    generator, dim = torch.Generator().manual_seed(400 + seed), task.train.shape[1]
    samples = pushed(torch.randn(FLOORS * COUNT, dim, generator=generator, dtype=torch.float64)).split(COUNT)
    fresh = [task.fresh(FLOORS * seed + k).double() for k in range(FLOORS)]
    w2 = float(np.mean([exact_w2(x[: len(z)], z).value for x, z in zip(samples, fresh, strict=True)]))
    found = [w2, w2 / task.floor]
    if task.name == "digits":
        near = memorisation(samples[0], task.train).samples.shares()
        found += [frechet_distance(samples[0], fresh[0])[1].value, near["closer"].value]
    return found


def stability(seeds: int, minutes: float, console: Console) -> None:
    """Algorithm 1 on the ring, seed by seed."""
    task, found = ring(), list[tuple[float, float]]()
    for seed in range(seeds):
        pushed, took, _ = timed(ours, "neural", task.train, minutes)(task, seed, 0.0)
        found.append((scores(task, pushed, seed)[1], took))
        console.print(f"seed {seed}: W2/floor {found[-1][0]:.3f}, {took:.0f} s")
    ratios, seconds = np.array(found).T
    summary = f"mean {ratios.mean():.3f}, sd {ratios.std(ddof=1):.3f}, worst {ratios.max():.3f}"
    met = "met" if ratios.max() <= 1.3 and seconds.max() < 300 else "MISSED"
    console.print(f"{seeds} seeds: W2/floor {summary} (target 1.3), at most {seconds.max():.0f} s (300): {met}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Maps from N(0, I) to data, by several methods.")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5, help="after which a fit of ours ends")
    parser.add_argument("--ring-seeds", type=int, default=0, help="seeds of Algorithm 1 on the ring, and nothing else")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="'ours: neural', OTT-JAX, ... (default: all)")
    given = parser.parse_args()
    if unknown := [task for task in given.tasks if task not in TASKS]:
        parser.error(f"no task {unknown[0]!r}: it is one of {', '.join(TASKS)}")
    console, begun = Console(width=130), time.perf_counter()
    if given.ring_seeds:
        stability(given.ring_seeds, given.minutes, console)
    for name in () if given.ring_seeds else given.tasks or TASKS:
        compare(TASKS[name](), given.seeds, given.minutes, given.only, console)
        console.print(f"{(time.perf_counter() - begun) / 60:.0f} minutes\n")


if __name__ == "__main__":
    main()
