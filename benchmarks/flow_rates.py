"""How fast does the Monge-Ampère iteration converge, by step rule, beside the rates that the theory promises?

    python benchmarks/flow_rates.py --figure rates.png
    python benchmarks/flow_rates.py --laws "two modes" --most 4096

psi_{k+1} = psi_k - eta_k log(rho_k/e^-f)(grad psi_k) with exact drive on the line: nothing is learned, nothing drawn.
"normal" follows the closed recursion. All others are the iteration on 24 cells of the reference: psi has a value for
each, its slopes at the faces are the map, h is the log-ratio of the mass of a cell and that of its image. The limit is
the exact quantile map, and the theory's identities hold for masses as they do for densities. All start at the identity.

    last      KL(rho_T || target)
    mean      the mean of KL(rho_k || target) over k = 1 ... T, in proportion to the steps
    mixture   KL(mean of the rho_k || target): the law of the averaged iterate, at most "mean"

By the theory (arXiv:2504.09279) the averaged iterate is O(1/T) for a constant step, the last one O(1/sqrt T) at
eta/sqrt(T) and O(log T/T) at lambda/(k + 1) and eta log(T)/T. These are bounds, from an evolution variational
inequality: in continuous time sum eta (KL + reverse KL) = D(psi_0) - D(psi_T), D the excess of Kantorovich's dual.
"bound" is D(psi_0)/(sum of eta), for means at the largest T. "slope" is that of log KL on log T from T = 64 on, with a
95% interval of the regression: there is no noise, and a wide interval says that it is no power of T. "-": KL < 1e-11.

How to read it: near the target KL falls as exp(-R t), t the sum of the steps; R is measured. So last iterates are
exponential in T for a constant step and in sqrt(T) for "root", and T^(-R lambda) for "harmonic" and "log": "expected".
That is better than log T/T where R lambda > 1, and worse where lambda is too small for the law ("harmonic, small"). The
mean keeps the 1/T of its first terms for ever, as the theory says; the mixture averages errors of densities, of which
KL sees the square.

Outside of the assumptions: "gap", modes 20 standard deviations apart (without cells Hess psi would go up to e^50);
"heavy target", Student with 2 degrees of freedom, and "heavy reference", 3 degrees, to a normal law (inf Hess psi = 0).
"halved" counts steps that were halved because psi would have lost its convexity.

The last table is what the theory does not say: the largest constant step that is never halved in 2,000 steps, by the
number of cells. The iteration is an explicit step of a parabolic equation; the richer the potentials, the smaller.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import special, stats

import brenier
from brenier.figures.axes import BLUE, GREEN, ORANGE
from brenier.transport.mongeampere import find_marginal, gaussian_flow, step_sizes

Array = NDArray[np.float64]
CELLS, TAIL = 24, 1e-3  # of the reference; mass on each side in and beyond cells as wide as all others
BINS = 6_000  # between quantiles of both laws: what the KL of mixtures is a sum over
FROM, LEAST = 64, 1e-11
ITERATES = ("last", "mean", "mixture")
THEORY = {("constant", "mean"): "-1", ("constant", "mixture"): "-1", ("root", "last"): "-1/2"}
THEORY |= {(rule, "last"): "-1 + log" for rule in ("harmonic", "harmonic, small", "log")}
STYLES = {"constant": ("black", "o"), "root": (BLUE, "s"), "harmonic": (ORANGE, "D"), "log": (GREEN, "^")}
DASHES = {"last": "-", "mean": "--", "mixture": ":"}


class Line(NamedTuple):
    """A mixture of laws on the line that scipy knows."""

    weights: Array
    parts: list[Any]

    def tails(self, x: Array) -> Array:
        """Masses of all parts below and above x, shape (parts, 2, n)."""
        return np.array([(part.cdf(x), part.sf(x)) for part in self.parts])

    def between(self, faces: Array) -> Array:
        """Masses between neighbouring faces."""
        tails = self.tails(faces)
        return self.apart(tails[..., :-1], tails[..., 1:])

    def apart(self, left: Array, right: Array) -> Array:
        """Masses between points of which tails are known, also small ones to a relative precision."""
        upper = left[:, 1] < 0.5
        return self.weights @ np.where(upper, left[:, 1] - right[:, 1], right[:, 0] - left[:, 0])

    def quantiles(self, u: Array) -> Array:
        """At chances u."""
        if len(self.parts) == 1:
            return self.parts[0].ppf(u)
        x = np.linspace(-12, 12, 400_001)
        return np.interp(u, sum(w * part.cdf(x) for w, part in zip(self.weights, self.parts, strict=True)), x)


def line(*parts: Any) -> Line:
    """A mixture in equal shares."""
    return Line(np.full(len(parts), 1 / len(parts)), list(parts))


NORMAL = line(stats.norm())
CASES = {  # reference, target, what the theory asks for
    "normal": (NORMAL, line(stats.norm(1, 1.25)), "log-concave"),
    "logistic": (NORMAL, line(stats.logistic()), "log-concave"),
    "two modes": (NORMAL, line(stats.norm(-1.5, 0.55), stats.norm(1.5, 0.75)), "not log-concave"),
    "gap": (NORMAL, line(stats.norm(-3, 0.3), stats.norm(3, 0.3)), "outside: a gap"),
    "heavy target": (NORMAL, line(stats.t(2)), "outside: a target without a variance"),
    "heavy reference": (line(stats.t(3)), NORMAL, "outside: inf Hess psi = 0"),
}


@dataclass(frozen=True)
class Step:
    """A step eta, after how many halvings, and what it leads to: KL both ways, rho of the bins, inf Hess psi."""

    eta: float
    halvings: int
    kl: float
    reverse: float
    masses: Array
    curvature: float


class Recursion:
    """From N(0, 1) to a normal law, in closed form."""

    def __init__(self, target: Line) -> None:
        self.mean, self.sd = float(target.parts[0].mean()), float(target.parts[0].std())
        z = np.linspace(-9, 9, BINS)
        self.x, self.masses = self.mean + self.sd * z, stats.norm.pdf(z) * (z[1] - z[0])
        self.excess = ((1 - self.sd) ** 2 + self.mean**2) / 2  # of the dual, at the identity: W2^2/2
        self.laws = (
            find_marginal("normal", 1),
            find_marginal(brenier.GaussianMixture([1.0], [[self.mean]], [self.sd**2])),
        )

    def run(self, etas: Sequence[float]) -> Iterator[Step]:
        """Step by step, from the identity."""
        for eta, potential in zip(etas, gaussian_flow(*self.laws, etas), strict=True):
            mean, sd = float(potential.b), float(potential.A)
            r, shift = sd / self.sd, (mean - self.mean) / self.sd
            kl = (r**2 - 1 - 2 * math.log1p(r - 1) + shift**2) / 2
            reverse = (1 / r**2 - 1 + 2 * math.log1p(r - 1) + (shift / r) ** 2) / 2
            bins = stats.norm.pdf(self.x, mean, sd) * (self.x[1] - self.x[0])
            yield Step(eta, 0, kl, reverse, bins, sd)


class Cells:
    """The iteration on cells of equal width. T is known at the faces: the slopes of psi between centres."""

    def __init__(self, reference: Line, target: Line, cells: int = CELLS) -> None:
        end = reference.quantiles(np.array(1 - TAIL))
        faces, self.target = np.linspace(-end, end, cells + 1), target
        self.width, self.centres = faces[1] - faces[0], (faces[1:] + faces[:-1]) / 2
        self.reference = reference.between(np.concatenate([[-np.inf], faces[1:-1], [np.inf]]))
        u = (np.arange(BINS // 2) + 0.5) / (BINS // 2)
        self.edges = np.unique(np.concatenate([target.quantiles(u), reference.quantiles(u)]))
        self.masses = target.between(np.concatenate([[-np.inf], self.edges, [np.inf]]))
        self.tails = target.tails(self.edges)
        limit = np.cumsum(target.quantiles(np.cumsum(self.reference)[:-1])) * self.width
        self.start = self.centres**2 / 2
        self.excess = self._dual(self.start) - self._dual(np.append(0.0, limit))

    def _dual(self, psi: Array) -> float:
        """E psi(Y) + E psi^c(X), the maximum of psi^c(x) = max_i x y_i - psi_i at the cell whose image holds x."""
        x = self.target.quantiles((np.arange(400_000) + 0.5) / 400_000)
        place = np.searchsorted(np.diff(psi) / self.width, x)
        return float(self.reference @ psi + (x * self.centres[place] - psi[place]).mean())

    def run(self, etas: Sequence[float]) -> Iterator[Step]:
        """Step by step, from the identity; a step that loses convexity is halved."""
        psi, ratio = self.start, self._log_ratio(self.start)
        assert ratio is not None
        for eta in etas:
            halvings, then = 0, None
            while then is None:
                after = psi - eta / 2**halvings * ratio
                then, halvings = self._log_ratio(after), halvings + 1
            psi, ratio = after, then
            slopes = np.diff(psi) / self.width
            kl, reverse = float(self.reference @ ratio), float(-(self.reference * np.exp(-ratio)) @ ratio)
            bins = self._bins(slopes, ratio)
            curvature = float(np.diff(slopes).min() / self.width)
            yield Step(eta / 2 ** (halvings - 1), halvings - 1, kl, reverse, bins, curvature)

    def _bins(self, slopes: Array, log_ratio: Array) -> Array:
        """rho of the bins: in the image of a cell it is in proportion to the target."""
        faces = np.concatenate([[-np.inf], slopes])
        place = np.searchsorted(slopes, self.edges)
        since = self.target.apart(self.target.tails(faces)[..., place], self.tails)
        below = np.append(0.0, np.cumsum(self.reference))[place] + np.exp(log_ratio)[place] * since
        return np.diff(below, prepend=0.0, append=1.0).clip(min=0)

    def _log_ratio(self, psi: Array) -> Array | None:
        """log(rho/target) on the images of all cells; None where psi is not convex."""
        slopes = np.diff(psi) / self.width
        if not (np.diff(slopes) > 0).all():
            return None
        masses = self.target.between(np.concatenate([[-np.inf], slopes, [np.inf]]))
        return np.log(self.reference / masses) if (masses > 0).all() else None


@dataclass
class Curve:
    """What one rule comes to at each T."""

    steps: list[int]
    values: dict[str, list[float]]
    halved: int = 0
    total: float = 0.0
    spent: float = 0.0  # sum of eta (KL + reverse KL)
    curvature: float = math.nan


def follow(engine: Recursion | Cells, rule: str, eta: float, horizons: list[int]) -> Curve:
    """One run, or for rules that depend on T one for each."""
    known = rule in ("root", "log")
    found = Curve(horizons, {name: [] for name in ITERATES})
    for last in horizons if known else horizons[-1:]:
        halved, total, spent, kls, bins = 0, 0.0, 0.0, 0.0, np.zeros(len(engine.masses))
        for k, step in enumerate(engine.run(step_sizes(rule, eta, last)), 1):
            halved, total = halved + (step.halvings > 0), total + step.eta
            spent += step.eta * (step.kl + step.reverse)
            kls += step.eta * step.kl
            bins += step.eta * step.masses
            found.curvature = step.curvature
            if k == last or (not known and k in horizons):
                mixed = float(special.kl_div(bins / total, engine.masses).sum())
                for name, value in zip(ITERATES, (step.kl, kls / total, mixed), strict=True):
                    found.values[name].append(value)
        found.halved, found.total, found.spent = halved, total, spent
    return found


def slope(steps: list[int], values: list[float]) -> tuple[float, float] | None:
    """Of log KL on log T, with half of the 95% interval."""
    kept = [(math.log(T), math.log(kl)) for T, kl in zip(steps, values, strict=True) if T >= FROM and kl > LEAST]
    if len(kept) < 3:
        return None
    fit = stats.linregress(*zip(*kept, strict=True))
    return float(fit.slope), float(fit.stderr * stats.t.ppf(0.975, len(kept) - 2))


def relaxation(engine: Recursion | Cells, eta: float) -> float:
    """R of KL ~ exp(-R t), between KL of 1e-4 and 1e-8, by small steps."""
    first, last, t = None, None, 0.0
    for step in engine.run([eta / 4] * 20_000):
        t += step.eta
        if step.kl < 1e-4 and first is None:
            first = t, math.log(step.kl)
        if step.kl < 1e-8:
            last = t, math.log(step.kl)
            break
    return (first[1] - last[1]) / (last[0] - first[0]) if first is not None and last is not None else math.nan


def largest_step(reference: Line, target: Line, cells: int, steps: int) -> float:
    """The largest of 0.5, 0.5/2^(1/4), ... with which no step is halved."""
    engine = Cells(reference, target, cells)
    for k in range(100):
        eta = 0.5 * 2 ** (-k / 4)
        if all(step.halvings == 0 for step in engine.run([eta] * steps)):
            return eta
    return math.nan


def table(name: str, curves: dict[str, Curve], etas: dict[str, float], R: float, excess: float) -> Table:
    """Everything about one law."""
    title = f"{name} ({CASES[name][2]}): R = {R:.2f}, D(psi_0) = {excess:.3g}"
    shown = Table("rule", "iterate", title=title, title_justify="left", show_edge=False)
    horizons = next(iter(curves.values())).steps
    marks = list(dict.fromkeys([T for T in (4, 32, 256) if T in horizons] + horizons[-1:]))
    for head in (*(f"T = {T:,}" for T in marks), "bound", "slope", "theory", "expected", "halved", "inf Hess"):
        shown.add_column(head, justify="right")
    for rule, curve in curves.items():
        for iterate in ITERATES:
            values = curve.values[iterate]
            found = slope(curve.steps, values)
            text = "-" if found is None else f"{found[0]:.2f} +- {found[1]:.2f}"
            power = f"{-R * etas[rule]:.2f}" if rule not in ("constant", "root") else "exponential"
            shown.add_row(
                f"{rule}, {etas[rule]:g}" if iterate == "last" else "",
                iterate,
                *(f"{values[curve.steps.index(T)]:.2e}" for T in marks),
                f"{excess / curve.total:.2e}" if iterate == "mean" else "",
                text,
                THEORY.get((rule, iterate), ""),
                power if iterate == "last" else "",
                str(curve.halved) if iterate == "last" else "",
                f"{curve.curvature:.2g}" if iterate == "last" else "",
            )
        shown.add_section()
    return shown


def draw(path: Path, everything: dict[str, dict[str, Curve]]) -> None:
    """KL against T, a panel for each law."""
    rows, marks = -(-len(everything) // 3), next(iter(everything.values()))["constant"].steps[::2]
    figure = Figure(figsize=(11, 3.7 * rows), layout="constrained")
    panels = figure.subplots(rows, min(3, len(everything)), squeeze=False, sharex=True, sharey=True)
    for ax, (name, curves) in zip(panels.flat, everything.items(), strict=False):
        ax.set(xscale="log", yscale="log", title=f"{name}\n{CASES[name][2]}", ylim=(1e-8, 30))
        ax.set_xticks(marks, [f"{T:,}" for T in marks])
        ax.set_xticks([], minor=True)
        for rule, (colour, marker) in STYLES.items():
            for iterate in ITERATES if rule == "constant" else ("last",):
                curve = curves[rule]
                kl, label = np.maximum(curve.values[iterate], 1e-16), f"{rule}, {iterate}"
                ax.plot(curve.steps, kl, DASHES[iterate], color=colour, marker=marker, markersize=3, label=label)
        T = np.array(curves["constant"].steps, float)
        for power, text in ((-0.5, "$T^{-1/2}$"), (-1.0, "$T^{-1}$"), (-2.0, "$T^{-2}$")):
            ax.plot(T, 3 * (T / T[0]) ** power, color="0.65", linewidth=0.8, zorder=0)
            ax.text(T[-1], 3 * (T[-1] / T[0]) ** power, text, color="0.4", fontsize=8, va="bottom", ha="right")
    for ax in panels[-1]:
        ax.set_xlabel("steps $T$")
    figure.supylabel("KL divergence from the target, nats", fontsize="medium")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="KL against the number of steps, by step rule.")
    parser.add_argument("--laws", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--most", type=int, default=1024, help="steps")
    parser.add_argument("--eta", type=float, default=0.02, help="the constant step; the other rules take multiples")
    parser.add_argument("--figure", type=Path, help="where to draw it")
    parser.add_argument("--stability", type=int, nargs="*", default=[8, 16, 32, 64], help="cells of the last table")
    given = parser.parse_args()
    console, begun = Console(width=170), time.perf_counter()
    horizons = [2**k for k in range(2, 30) if 2**k <= given.most]
    multiples = {"constant": 1.0, "root": 8.0, "harmonic": 40.0, "harmonic, small": 5.0, "log": 40.0}
    etas = {rule: given.eta * times for rule, times in multiples.items()}
    everything: dict[str, dict[str, Curve]] = {}
    for name in given.laws:
        reference, target, _ = CASES[name]
        engine = Recursion(target) if name == "normal" else Cells(reference, target)
        runs = {rule: follow(engine, rule.split(",")[0], eta, horizons) for rule, eta in etas.items()}
        everything[name] = runs
        console.print(table(name, runs, etas, relaxation(engine, given.eta), engine.excess))
        spent = ", ".join(f"{rule} {curve.spent / engine.excess:.3f}" for rule, curve in runs.items())
        console.print(f"sum of eta (KL + reverse KL), over D(psi_0): {spent}\n")
    limits = Table("cells", title="largest constant step", title_justify="left", show_edge=False)
    for name in ("logistic", "two modes"):
        limits.add_column(name, justify="right")
    for cells in given.stability:
        found = [largest_step(*CASES[name][:2], cells, 2000) for name in ("logistic", "two modes")]
        limits.add_row(str(cells), *(f"{eta:.4f}" for eta in found))
    console.print(limits)
    if given.figure is not None:
        draw(given.figure, everything)
    console.print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
