"""Which densities do Monge-Ampère maps fail on, and what is better there?

    python benchmarks/hard.py                          # all targets, half an hour
    python benchmarks/hard.py funnel2 --only triangular NUTS --seeds 3

All methods are given log_density(x), up to its constant, and its gradient, and nothing else.

    modes4, modes6, modes10    four Gaussians, means from N(0, 4I), standard deviation 1/2, in so many dimensions
    funnel2, funnel10          Neal's: x_1 ~ N(0, 9), the others N(0, e^{x_1})
    late10                     the same with x_1 as the last coordinate
    banana                     x_1 ~ N(0, 1), x_2 ~ N(x_1^2 - 1, 1/4)
    long                       a banana with long arms: x_1 ~ N(0, 100), x_2 ~ N(0.03 (100 - x_1^2), 1)
    turned                     the first turned by 30 degrees

    linear, neural             `MongeAmpere("normal", ..., drive="density")`, 10 steps, of a network --steps (120)
    triangular                 linear from the reference "triangular", four steps
    annealed                   neural, `anneal=True`
    modes                      the reference "modes" alone: the normal laws at all maxima that climbs find, mixed
    TransportMaps              where it is installed: a triangular map, integrated squares of order --order (2), its KL
                               on 1,000 points by BFGS
    MParT                      the same with monotone components, where it is installed
    NUTS                       BlackJAX, 4 chains of 1,000 draws after a warm-up of 1,000
    nested                     BlackJAX, nested slice sampling, 1,000 live points from N(0, 100 I), to 1e-3 of log Z
    exact                      draws of the target itself: what the numbers are when all is well

Columns: W2 between 1,000 draws and as many of the target (exact, of scaled draws), over what two sets of the target
have, for funnels of arcsinh of all but x_1; "beyond", the share of draws where log density is below what 1% of the
target's are; the error of log Z, with its standard error, the Pareto shape of the weights, of those that the program
refuses, too; evaluations of the density with its gradient ("nested": without), and seconds of CPU, compilation and all.
Means over the seeds, +- their standard deviation.
"""

import argparse
import importlib.util
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from variational import Array, Problem, banana, funnel, nuts

from brenier.distances.wasserstein import exact_w2
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.mongeampere.evidence import tail_shape

COUNT, FLOORS, DRAWS = 1000, 5, 20_000
LIVE, BROAD = 1000, 10.0  # points and scale of the prior of nested sampling
LOG_TAU = math.log(2 * math.pi)


@dataclass(frozen=True)
class Case:
    """A problem whose integral is known."""

    problem: Problem
    log_z: float


@dataclass
class Found:
    """Draws of one method.

    Attributes:
        draws: shape (n, d).
        log_z: its error; NaN where the method has none, or refuses.
        shape: k of the weights.
        note: how it went.
    """

    draws: Array
    log_z: float = math.nan
    se: float = math.nan
    shape: float = math.nan
    evaluations: int = 0
    note: str = ""
    seconds: float = field(default=math.nan, init=False)


def modes(dim: int) -> Case:
    means = 2 * np.random.default_rng(dim).standard_normal((4, dim))
    known = {torch: torch.from_numpy(means), jnp: jnp.asarray(means)}

    def log_density(x: Any, xp: Any) -> Any:
        return reduce(xp.logaddexp, [-2 * ((x - mean) ** 2).sum(-1) for mean in known[xp]])

    def draw(n: int, generator: np.random.Generator) -> Array:
        return means[generator.integers(4, size=n)] + generator.standard_normal((n, dim)) / 2

    return Case(Problem(f"modes{dim}", dim, log_density, draw), math.log(4) + dim / 2 * (LOG_TAU - math.log(4)))


def neal(dim: int, last: bool = False) -> Case:
    base = funnel()
    order = [*range(1, dim), 0] if last else list(range(dim))
    back = np.argsort(order)

    def log_density(x: Any, xp: Any) -> Any:
        x = x[..., back]
        v = x[..., 0]
        return -(v**2) / 18 - (dim - 1) / 2 * v - xp.exp(-v) * (x[..., 1:] ** 2).sum(-1) / 2

    def draw(n: int, generator: np.random.Generator) -> Array:
        v = 3 * generator.standard_normal((n, 1))
        return np.concatenate([v, np.exp(v / 2) * generator.standard_normal((n, dim - 1))], 1)[:, order]

    def seen(x: Array) -> Array:
        return base.seen(x[:, back])

    name = f"{'late' if last else 'funnel'}{dim}"
    return Case(Problem(name, dim, log_density, draw, seen), math.log(3) + dim / 2 * LOG_TAU)


def long() -> Case:
    def log_density(x: Any, _: Any) -> Any:
        return -(x[..., 0] ** 2) / 200 - (x[..., 1] - 3 + 0.03 * x[..., 0] ** 2) ** 2 / 2

    def draw(n: int, generator: np.random.Generator) -> Array:
        z = generator.standard_normal((n, 2))
        return np.stack([10 * z[:, 0], 3 - 3 * z[:, 0] ** 2 + z[:, 1]], 1)

    return Case(Problem("long", 2, log_density, draw), math.log(10) + LOG_TAU)


def turned() -> Case:
    base, c, s = banana(), math.cos(math.pi / 6), math.sin(math.pi / 6)

    def log_density(x: Any, xp: Any) -> Any:
        a, b = c * x[..., 0] + s * x[..., 1], c * x[..., 1] - s * x[..., 0]
        return base.log_density(xp.stack([a, b], -1), xp)

    def draw(n: int, generator: np.random.Generator) -> Array:
        assert base.draw is not None
        return base.draw(n, generator) @ np.array([[c, s], [-s, c]])

    return Case(Problem("turned", 2, log_density, draw), math.log(math.pi))


CASES: dict[str, Callable[[], Case]] = {
    **{f"modes{dim}": lambda dim=dim: modes(dim) for dim in (4, 6, 10)},
    **{f"funnel{dim}": lambda dim=dim: neal(dim) for dim in (2, 10)},
    "late10": lambda: neal(10, last=True),
    "banana": lambda: Case(banana(), math.log(math.pi)),
    "long": long,
    "turned": turned,
}


def said(flow: MongeAmpere, case: Case, seed: int) -> Found:
    """Draws of a map, what it says of the integral, and the shape of the weights of its own points."""
    evidence = flow.log_evidence(seed=seed)
    result = flow.result
    assert result is not None
    note = f"{result.stopped} after {result.steps}" + ("" if evidence.holds else "; refused")
    draws = flow.sample(DRAWS, seed).numpy()
    return Found(draws, evidence.value - case.log_z, evidence.se, evidence.pareto_k, case.problem.gradients, note)


def ours(
    case: Case, seed: int, given: argparse.Namespace, reference: str, method: str, *, anneal: bool = False
) -> Found:
    dim = case.problem.dim
    drive = "auto" if method == "gaussian" else "density"
    flow = MongeAmpere(reference, case.problem.in_torch, method=method, dim=dim, drive=drive)
    steps = given.steps if method == "neural" else 4 if reference == "triangular" else 10
    return said(flow.fit(steps, seed=seed, anneal=anneal, progress=False), case, seed)


def transport_maps(case: Case, seed: int, given: argparse.Namespace) -> Found:
    """A triangular map by the package TransportMaps."""
    import TransportMaps
    from TransportMaps.Distributions import Distribution, StandardNormalDistribution
    from TransportMaps.Maps import assemble_IsotropicIntegratedSquaredTriangularTransportMap as triangular
    from TransportMaps.TransportMapDistributions import PullBackParametricTransportMapDistribution

    problem, points = case.problem, np.random.default_rng(seed).standard_normal((COUNT, case.problem.dim))

    class Density(Distribution):
        def log_pdf(self, x: Any, *args: Any, **kwargs: Any) -> Any:
            return problem.log_density(torch.from_numpy(np.asarray(x)), torch).numpy()

        def grad_x_log_pdf(self, x: Any, *args: Any, **kwargs: Any) -> Any:
            at = torch.from_numpy(np.array(x)).requires_grad_(True)
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(problem.in_torch(at).sum(), at)
            return slope.numpy()

    TransportMaps.setLogLevel(40)
    found = triangular(problem.dim, given.order, "total")
    pulled = PullBackParametricTransportMapDistribution(found, Density(problem.dim))
    base, weights = StandardNormalDistribution(problem.dim), np.full(COUNT, 1 / COUNT)
    log = pulled.minimize_kl_divergence(base, x=points, w=weights, tol=1e-4, ders=1)
    z = np.random.default_rng(seed + 1).standard_normal((DRAWS, problem.dim))
    draws = found.evaluate(z)
    height = problem.log_density(torch.from_numpy(draws), torch).numpy()
    logs = height + found.log_det_grad_x(z) - base.log_pdf(z)
    note = "converged" if log["success"] else "did not converge"
    return Found(draws, *weighed(logs, case), evaluations=problem.gradients, note=note)


def weighed(logs: Array, case: Case) -> tuple[float, float, float]:
    """Error of log Z, its standard error, and the shape of the weights' tail."""
    w = np.exp(logs - logs.max())
    return (
        float(math.log(w.mean()) + logs.max() - case.log_z),
        float(w.std() / w.mean() / math.sqrt(len(w))),
        tail_shape(w),
    )


def mpart(case: Case, seed: int, given: argparse.Namespace) -> Found:
    """A triangular map by MParT: its coefficients by L-BFGS, all gradients its own."""
    import mpart as mt
    from scipy import optimize

    problem, dim = case.problem, case.problem.dim
    z = np.asfortranarray(np.random.default_rng(seed).standard_normal((dim, COUNT)))
    found = mt.CreateTriangular(dim, dim, given.order, mt.MapOptions())

    def slope(x: Array) -> tuple[Array, Array]:
        at = torch.from_numpy(x.T.copy()).requires_grad_(True)
        with torch.enable_grad():
            value = problem.in_torch(at)
            (gradient,) = torch.autograd.grad(value.sum(), at)
        return value.detach().numpy(), np.asfortranarray(gradient.numpy().T)

    def divergence(flat: Array) -> tuple[float, Array]:
        found.SetCoeffs(flat)
        value, gradient = slope(found.Evaluate(z))
        fall = found.CoeffGrad(z, gradient).mean(1) + found.LogDeterminantCoeffGrad(z).mean(1)
        return -float((value + found.LogDeterminant(z)).mean()), -fall

    result: Any = optimize.minimize(divergence, np.array(found.CoeffMap()), jac=True, method="L-BFGS-B")
    found.SetCoeffs(result.x)
    fresh = np.asfortranarray(np.random.default_rng(seed + 1).standard_normal((dim, DRAWS)))
    draws = np.asarray(found.Evaluate(fresh)).T
    height = problem.log_density(torch.from_numpy(draws.copy()), torch).numpy()
    logs = height + found.LogDeterminant(fresh) + (fresh**2).sum(0) / 2 + dim / 2 * LOG_TAU
    return Found(draws, *weighed(logs, case), evaluations=problem.gradients, note=str(result.message))


def chains(case: Case, seed: int, _: argparse.Namespace) -> Found:
    row = nuts(case.problem, 1000, seed).row("NUTS")
    return Found(row.draws, evaluations=row.gradients, note=f"ESS {row.ess:,.0f}, {row.note}".removesuffix(", "))


def nested(case: Case, seed: int, _: argparse.Namespace) -> Found:
    """Draws and log Z of nested slice sampling, the density over a broad normal law as likelihood."""
    problem, dim = case.problem, case.problem.dim

    def log_prior(x: jax.Array) -> jax.Array:
        return -(x**2).sum() / (2 * BROAD**2) - dim * (LOG_TAU / 2 + math.log(BROAD))

    def log_likelihood(x: jax.Array) -> jax.Array:
        return problem.in_jax(x) - log_prior(x)

    steps = max(5, 2 * dim)
    sampler = blackjax.nss(log_prior, log_likelihood, num_inner_steps=steps, num_delete=LIVE // 10)
    keys = jax.random.split(jax.random.key(seed), 4)
    state = sampler.init(BROAD * jax.random.normal(keys[0], (LIVE, dim)))
    step, dead, spent = jax.jit(sampler.step), [], LIVE
    for key in jax.random.split(keys[1], 2000):
        state, info = step(key, state)
        dead.append(info)
        if float(state.integrator.logZ_live - state.integrator.logZ) < -7:
            break
    spent += sum(evaluations(info) for info in dead)
    every = blackjax.ns.utils.finalise(state, dead, update_info=False)
    values = jax.scipy.special.logsumexp(blackjax.ns.utils.log_weights(keys[2], every, shape=100), axis=0)
    draws = np.asarray(blackjax.ns.utils.sample(keys[3], every, shape=4 * COUNT).position)
    size = float(blackjax.ns.utils.ess(keys[2], every))
    found = float(values.mean()) - case.log_z, float(values.std())
    return Found(draws, *found, evaluations=spent, note=f"ESS {size:,.0f}")


def evaluations(info: Any) -> int:
    """Of the density, in a step of nested sampling: both ends of each slice, to step out, and to shrink."""
    inner = info.update_info
    return int(2 * inner.num_shrink.size + inner.num_expansions.sum() + inner.num_shrink.sum())


def exact(case: Case, seed: int, _: argparse.Namespace) -> Found:
    assert case.problem.draw is not None
    return Found(case.problem.draw(DRAWS, np.random.default_rng(10_000 + seed)))


METHODS: dict[str, Callable[[Case, int, argparse.Namespace], Found]] = {
    "linear": lambda *given: ours(*given, "normal", "linear"),
    "neural": lambda *given: ours(*given, "normal", "neural"),
    "triangular": lambda *given: ours(*given, "triangular", "linear"),
    "annealed": lambda *given: ours(*given, "normal", "neural", anneal=True),
    "modes": lambda *given: ours(*given, "modes", "gaussian"),
    "TransportMaps": transport_maps,
    "MParT": mpart,
    "NUTS": chains,
    "nested": nested,
    "exact": exact,
}
PACKAGES = {"TransportMaps": "TransportMaps", "MParT": "mpart"}


def scores(case: Case, found: Found, seed: int) -> list[float]:
    """W2 over its floor, the share of draws in the tails, log Z with its error, k, evaluations and seconds."""
    problem, generator = case.problem, np.random.default_rng(seed)
    assert problem.draw is not None
    fresh = problem.draw(DRAWS, np.random.default_rng(20_000 + seed))
    seen = problem.seen(fresh)
    sd = seen.std(0)
    sets = [torch.from_numpy(part) for part in np.array_split(seen[: 2 * FLOORS * COUNT] / sd, 2 * FLOORS)]
    floor = np.mean([exact_w2(a, b).value for a, b in zip(sets[::2], sets[1::2], strict=True)])
    finite = found.draws[np.isfinite(found.draws).all(1)]
    own = torch.from_numpy(problem.seen(generator.permutation(finite)[: 3 * COUNT]) / sd)
    w2 = np.mean([exact_w2(part, other).value for part, other in zip(own.split(COUNT), sets, strict=False)])
    heights = [problem.log_density(torch.from_numpy(np.array(x)), torch).numpy() for x in (fresh, finite)]
    beyond = float((heights[1] < np.quantile(heights[0], 0.01)).mean())
    return [float(w2 / floor), 100 * beyond, found.log_z, found.se, found.shape, found.evaluations, found.seconds]


def compare(name: str, given: argparse.Namespace, console: Console) -> None:
    """A table of one target."""
    case = CASES[name]()
    table = Table("method", title=f"{name}, d = {case.problem.dim}", title_justify="left", show_edge=False)
    for head in ("W2/floor", "beyond 1%", "log Z error", "se", "k", "evaluations", "CPU s"):
        table.add_column(head, justify="right")
    table.add_column("how it went")
    for method in given.only:
        if method in PACKAGES and importlib.util.find_spec(PACKAGES[method]) is None:
            table.add_row(method, *["-"] * 7, f"skipped: {PACKAGES[method]} is not installed")
            continue
        rows, notes = [], []
        for seed in range(given.seeds):
            case.problem.gradients, begun = 0, time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # refusals and divergence: what is left is measured
                try:
                    found = METHODS[method](case, seed, given)
                except ValueError as error:
                    notes.append(f"no map: {error}")
                    continue
            found.seconds = time.process_time() - begun
            rows.append(scores(case, found, seed))
            notes.append(found.note)
            console.print(f"{name} {seed} {method}: {', '.join(cells(np.array(rows[-1:])))}", style="dim")
        table.add_row(method, *(cells(np.array(rows)) if rows else ["-"] * 7), notes[-1])
    console.print(table, "")


def cells(rows: Array) -> list[str]:
    """Means, with standard deviations where there are several."""
    forms = (".2f", ".2f", "+.3f", ".3f", ".2f", ",.0f", ",.1f")

    def cell(column: Array, form: str) -> str:
        known = column[np.isfinite(column)]
        if not len(known):
            return "-"
        spread = f" +- {known.std(ddof=1):.2f}" if len(known) > 1 and form in (".2f", "+.3f") else ""
        return f"{known.mean():{form}}{spread}" + (f" ({len(known)})" if len(known) < len(column) else "")

    return [cell(column, form) for column, form in zip(rows.T, forms, strict=True)]


def main() -> None:
    """A table for each target."""
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="TARGET", help=f"{', '.join(CASES)} (default: all)")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=120, help="of a network")
    parser.add_argument("--order", type=int, default=2, help="of the polynomials of TransportMaps and MParT")
    given = parser.parse_args()
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"no target {unknown[0]!r}: it is one of {', '.join(CASES)}")
    console = Console(width=150)
    for name in given.cases or CASES:
        compare(name, given, console)


if __name__ == "__main__":
    main()
