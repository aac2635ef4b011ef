"""Can a Monge-Ampère map replace a Markov chain, where the target is a density up to a factor (Algorithm 2)?

    python benchmarks/variational.py                        # an hour
    python benchmarks/variational.py banana --steps 100

    banana      the plane, x1 ~ N(0, 1), x2 | x1 ~ N(x1^2 - 1, 0.5^2)
    funnel      Neal's in 10 dimensions: x1 ~ N(0, 3^2), the others N(0, e^x1) given x1; compared by x1 and arcsinh of
                the others, whose own variance no sample of this size knows
    logistic    posterior of a logistic regression on scikit-learn's breast cancer data (569 cases, standardised, the
                first --features of 30, and an intercept), prior N(0, I)

All maps know nothing of the target but log_density(x) and its gradient.

    score, density    `MongeAmpere("normal", drive=...)`: the score of the samples learned (Algorithm 2), or in closed
                      form
    linear            features instead of a network, drive "density"
    laplace-...       the same from the reference "laplace" instead of N(0, I), the normal law at the mode, by which
                      both laws are whitened; a Hessian in the search for the mode counts as one gradient
    NUTS, MALA        BlackJAX: 4 chains, with its warm-up (mass matrix, step size), up to as many gradients as "score"
                      took, and up to a tenth; 100 chains with the step size of a pilot run, warm-up a fifth
    Laplace           the normal law at the mode

"mean" and "sd" are the largest errors over the coordinates, in standard deviations of the target: |m - m*|/s* and
|s/s* - 1|; next to the reference its own standard error. W2 is exact between 2,000 draws, "/floor" over what two
independent sets of 2,000 draws of the reference have; "-" for fewer than 2,000. The reference is a long NUTS run (4
chains), for banana and funnel exact draws, and then the long run is a row as well. "gradients" counts evaluations of
the gradient of log density, at one point each; seconds are without the compilation that BlackJAX needs, whose draws are
not independent: "ESS" is what they are worth (the least over coordinates, of x and x^2). Those of maps are independent.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from brenier.distances.wasserstein import exact_w2
from brenier.transport.mongeampere import MongeAmpere

Array = NDArray[np.float64]
CHAINS, PARALLEL = 4, 100  # of NUTS and MALA
COUNT, FLOORS = 2000, 5  # draws in a W2; pairs of sets in its floor
MANY = 20_000  # draws in moments
MAPS = ["score", "density", "linear", "laplace-score", "laplace-density", "laplace-linear"]
ACCEPT = 0.95  # of NUTS: at the usual 0.8 it diverges where these laws are narrow


@dataclass
class Problem:
    """A density, by operations that torch and jax.numpy share.

    Attributes:
        name: of the problem.
        dim: d.
        log_density: of points (..., d), given the module.
        draw: exact draws, where they are known.
        seen: what draws are compared by.
    """

    name: str
    dim: int
    log_density: Callable[[Any, Any], Any]
    draw: Callable[[int, np.random.Generator], Array] | None = None
    seen: Callable[[Array], Array] = np.asarray
    gradients: int = 0

    def in_torch(self, x: Tensor) -> Tensor:
        """log density of the rows of x; those that ask for a gradient are counted."""
        if torch.is_grad_enabled() and x.requires_grad:
            self.gradients += len(x)
        return self.log_density(x, torch)

    def in_jax(self, x: jax.Array) -> jax.Array:
        """log density at one point."""
        return self.log_density(x, jnp)


def banana() -> Problem:
    def log_density(x: Any, _: Any) -> Any:
        return -(x[..., 0] ** 2 + ((x[..., 1] - x[..., 0] ** 2 + 1) / 0.5) ** 2) / 2

    def draw(n: int, generator: np.random.Generator) -> Array:
        z = generator.standard_normal((n, 2))
        return np.stack([z[:, 0], z[:, 0] ** 2 - 1 + 0.5 * z[:, 1]], 1)

    return Problem("banana", 2, log_density, draw)


def funnel() -> Problem:
    def log_density(x: Any, xp: Any) -> Any:
        v = x[..., 0]
        return -(v**2) / 18 - 4.5 * v - xp.exp(-v) * (x[..., 1:] ** 2).sum(-1) / 2

    def draw(n: int, generator: np.random.Generator) -> Array:
        v = 3 * generator.standard_normal((n, 1))
        return np.concatenate([v, np.exp(v / 2) * generator.standard_normal((n, 9))], 1)

    def seen(x: Array) -> Array:
        return np.concatenate([x[:, :1], np.arcsinh(x[:, 1:])], 1)

    return Problem("funnel", 10, log_density, draw, seen)


def logistic(features: int) -> Problem:
    cases, malignant = load_breast_cancer(return_X_y=True)
    cases = cases[:, :features]
    rows = np.column_stack([np.ones(len(cases)), (cases - cases.mean(0)) / cases.std(0)])
    signed = rows * (2 * malignant - 1)[:, None]
    known = {torch: torch.from_numpy(signed.T.copy()), jnp: jnp.asarray(signed.T)}

    def log_density(x: Any, xp: Any) -> Any:
        margins = x @ known[xp]
        return -xp.logaddexp(-margins, 0 * margins).sum(-1) - (x**2).sum(-1) / 2

    return Problem("logistic", features + 1, log_density)


@dataclass
class Row:
    """Draws of one method, and what they cost."""

    name: str
    draws: Array
    gradients: int
    seconds: float
    ess: float = math.nan
    note: str = ""


@dataclass
class Chain:
    """Draws (draws, chains, d), gradients that each took over all chains, and those of the warm-up."""

    draws: Array
    costs: NDArray[np.int64]
    before: int
    seconds: float
    warming: float
    divergent: float

    def row(self, name: str, budget: float = math.inf) -> Row:
        """As far as a budget of gradients goes."""
        spent = self.before + np.cumsum(self.costs)
        n = max(int(np.searchsorted(spent, budget)), 2)
        kept, n = self.draws[:n], min(n, len(self.draws))
        seconds = self.warming + self.seconds * n / len(self.draws)
        note = f"{self.divergent:.1%} divergent" if self.divergent else ""
        return Row(name, kept.reshape(-1, kept.shape[2]), int(spent[n - 1]), seconds, least_ess(kept), note)


def least_ess(draws: Array) -> float:
    """The least effective sample size of x and x^2 over the coordinates."""
    chains = jnp.asarray(draws.swapaxes(0, 1))
    centred = chains - chains.mean((0, 1))
    both = jnp.concatenate([centred, centred**2], 2)
    return float(blackjax.ess(both).min()) if len(draws) > 3 else math.nan


def compiled(function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """What it returns, and seconds without its compilation."""
    ready = jax.jit(function).lower(*given).compile()
    begun = time.perf_counter()
    found = jax.block_until_ready(ready(*given))
    return found, time.perf_counter() - begun


def nuts(problem: Problem, draws: int, seed: int, warm: int = 1000) -> Chain:
    """Chains that start at N(0, I), each with a warm-up of its own."""
    adaptation = blackjax.window_adaptation(blackjax.nuts, problem.in_jax, target_acceptance_rate=ACCEPT)
    kernel = blackjax.nuts.build_kernel()

    def warm_up(key: jax.Array, start: jax.Array) -> Any:
        found, info = adaptation.run(key, start, num_steps=warm)
        return found.state, found.parameters, info.info.num_integration_steps.sum()

    def chain(key: jax.Array, state: Any, parameters: dict[str, Any]) -> Any:
        def advance(now: Any, key: jax.Array) -> Any:
            after, info = kernel(key, now, problem.in_jax, **parameters)
            return after, (after.position, info.num_integration_steps, info.is_divergent)

        return jax.lax.scan(advance, state, jax.random.split(key, draws))[1]

    first, second, third = jax.random.split(jax.random.key(seed), 3)
    start = jax.random.normal(first, (CHAINS, problem.dim))
    keys = [jax.random.split(key, CHAINS) for key in (second, third)]
    (states, parameters, before), warming = compiled(jax.vmap(warm_up), keys[0], start)
    (positions, costs, divergent), seconds = compiled(jax.vmap(chain), keys[1], states, parameters)
    found = np.asarray(positions).swapaxes(0, 1), np.asarray(costs).sum(0)
    return Chain(*found, int(before.sum()), seconds, warming, float(divergent.mean()))


def mala(problem: Problem, budget: int, seed: int) -> Row:
    """Parallel chains with the step size of seven that accepts nearest to 0.57 in 50 steps."""
    kernel = blackjax.mala.build_kernel()

    def run(key: jax.Array, start: jax.Array, size: jax.Array, steps: int) -> Any:
        def advance(now: Any, key: jax.Array) -> Any:
            after, info = kernel(key, now, problem.in_jax, size)
            return after, (after.position, info.acceptance_rate)

        begun = blackjax.mala.init(start, problem.in_jax)
        return jax.lax.scan(advance, begun, jax.random.split(key, steps))[1]

    many = jax.vmap(run, (0, 0, None, None))
    first, pilot, final = jax.random.split(jax.random.key(seed), 3)
    start, sizes = jax.random.normal(first, (PARALLEL, problem.dim)), 10 ** (-jnp.arange(7) / 2)
    keys = jax.random.split(pilot, PARALLEL)
    tried, before = compiled(lambda each: jax.lax.map(lambda size: many(keys, start, size, 50)[1], each), sizes)
    best = float(sizes[abs(tried[:, :, 25:].mean((1, 2)) - 0.57).argmin()])
    steps = max(budget // PARALLEL - 50 * len(sizes), 50)
    keys = jax.random.split(final, PARALLEL)
    (positions, rates), seconds = compiled(lambda each: many(each, start, best, steps), keys)
    kept = np.asarray(positions)[:, steps // 5 :: max(steps // 2000, 1)].swapaxes(0, 1)
    total = PARALLEL * (steps + 50 * len(sizes))
    note = f"step {best:.2g}, accepts {float(rates.mean()):.2f}"
    return Row("MALA", kept.reshape(-1, problem.dim), total, before + seconds, least_ess(kept), note)


def laplace(problem: Problem) -> Row:
    """The normal law at the mode."""
    problem.gradients, begun = 0, time.perf_counter()
    law = MongeAmpere("laplace", problem.in_torch, dim=problem.dim).reference
    assert law.draw is not None
    draws = law.draw(MANY, torch.Generator().manual_seed(0)).numpy()
    return Row("Laplace", draws, problem.gradients, time.perf_counter() - begun)


def our_map(problem: Problem, name: str, given: argparse.Namespace) -> Row:
    """A fit with default settings, and draws."""
    problem.gradients, begun = 0, time.perf_counter()
    kind = name.removeprefix("laplace-")
    method, drive = ("linear", "density") if kind == "linear" else ("neural", kind)
    reference = "normal" if kind == name else "laplace"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fitted = MongeAmpere(reference, problem.in_torch, method=method, dim=problem.dim, drive=drive)
        fitted.fit(given.steps, minutes=given.minutes, seed=given.seed, progress=False)
    result, history = fitted.result, fitted.history
    assert result is not None
    assert history is not None
    note = f"{result.stopped} after {result.steps}"
    if halved := int((history["halvings"] > 0).sum()):
        note += f", {halved} halved"
    if said:
        note += f", {len(said)} warnings"
    draws = fitted.sample(MANY, 1).numpy()
    return Row(name, draws, problem.gradients, time.perf_counter() - begun, MANY, note)


def report(problem: Problem, reference: Array, errors: tuple[float, float], rows: list[Row], console: Console) -> None:
    """A table."""
    generator, reference = np.random.default_rng(7), problem.seen(reference)
    sets = np.array_split(generator.permutation(reference)[: COUNT * 2 * FLOORS], 2 * FLOORS)
    pairs = zip(sets[::2], sets[1::2], strict=True)
    floor = float(np.mean([exact_w2(torch.from_numpy(a), torch.from_numpy(b)).value for a, b in pairs]))
    mean, sd = reference.mean(0), reference.std(0)
    known = f"standard errors of the reference: mean {errors[0]:.3f}, sd {errors[1]:.3f}"
    title = f"{problem.name}, d = {problem.dim}: W2 floor {floor:.3g}; {known}"
    table = Table("method", title=title, title_justify="left", show_edge=False)
    for head in ("mean", "sd", "W2", "/floor", "gradients", "seconds", "ESS"):
        table.add_column(head, justify="right")
    table.add_column("how it went")
    for row in rows:
        kept = problem.seen(row.draws[np.isfinite(row.draws).all(1)])
        off = abs(kept.mean(0) - mean) / sd, abs(kept.std(0) / sd - 1)
        chosen = generator.permutation(kept)[:COUNT]
        w2 = exact_w2(torch.from_numpy(chosen), torch.from_numpy(sets[0])).value if len(kept) >= COUNT else math.nan
        numbers = [f"{off[0].max():.3f}", f"{off[1].max():.3f}", f"{w2:.3g}", f"{w2 / floor:.2f}"]
        numbers = ["-" if number == "nan" else number for number in numbers]
        ess = "" if math.isnan(row.ess) else f"{row.ess:,.0f}"
        table.add_row(row.name, *numbers, f"{row.gradients:,}", f"{row.seconds:.1f}", ess, row.note)
    console.print(table)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description="Maps against Markov chains.")
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help="banana, funnel, logistic (default: all)")
    parser.add_argument("--steps", type=int, default=200, help="of a map")
    parser.add_argument("--minutes", type=float, default=5, help="after which a map's fit ends")
    parser.add_argument("--draws", type=int, default=25_000, help="of each chain of the long runs")
    parser.add_argument("--features", type=int, default=10, help="of the regression")
    parser.add_argument("--only", nargs="+", default=MAPS, help="of our maps")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    makers = {"banana": banana, "funnel": funnel, "logistic": lambda: logistic(given.features)}
    if unknown := [name for name in given.problems if name not in makers]:
        parser.error(f"no problem {unknown[0]!r}: it is one of {', '.join(makers)}")
    console, generator = Console(width=150), np.random.default_rng(given.seed)
    for name in given.problems or makers:
        problem, begun = makers[name](), time.perf_counter()
        long = nuts(problem, given.draws, 1)
        total = long.row("NUTS, long")
        if problem.draw is None:
            reference, size = total.draws, total.ess
        else:
            reference, size = problem.draw(10 * MANY, generator), 10 * MANY
        scaled = problem.seen(reference)
        errors = 1 / math.sqrt(size), float(np.std((scaled - scaled.mean(0)) ** 2 / scaled.var(0), 0).max())
        rows = [our_map(problem, kind, given) for kind in given.only]
        budget = max(row.gradients for row in rows)
        peer = nuts(problem, given.draws, 2, warm=300)
        rows += [peer.row("NUTS", budget), peer.row("NUTS, 1/10", budget / 10), mala(problem, budget, 3)]
        rows += [laplace(problem), total]
        report(problem, reference, (errors[0], errors[1] / 2 / math.sqrt(size)), rows, console)
        console.print(f"{time.perf_counter() - begun:.0f} s\n")


if __name__ == "__main__":
    main()
