"""`MongeAmpere`: a Brenier map from a reference to a target, found by the parabolic Monge-Ampère iteration."""

import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, get_args

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from brenier.core import records
from brenier.core.checks import whole_number
from brenier.core.work import progress_bar
from brenier.core.writing import atomic_path, write_dataset
from brenier.transport.mongeampere.conjugate import inverse
from brenier.transport.mongeampere.discrepancy import Discrepancy, Exact
from brenier.transport.mongeampere.fits import FeatureFit, Fit, ImplicitFit, NetworkFit, bumps
from brenier.transport.mongeampere.flow import Diverged, Iterate, iterate
from brenier.transport.mongeampere.gaussian import gaussian_map
from brenier.transport.mongeampere.grid.solve import solve_on_grid
from brenier.transport.mongeampere.judge import Judge
from brenier.transport.mongeampere.laws import (
    Law,
    affine_guess,
    centre_and_unit,
    covering,
    framed,
    pair,
    standard_normal,
    standardised,
)
from brenier.transport.mongeampere.learned import DEFAULT, Classified, Matched, Training
from brenier.transport.mongeampere.potentials import ConvexNetwork, Framed, Potential, Quadratic, Standardised
from brenier.transport.mongeampere.record import history, row
from brenier.transport.mongeampere.rules import step_sizes
from brenier.transport.mongeampere.storage import potential_dataset

Method: TypeAlias = Literal["gaussian", "grid", "linear", "neural"]
METHODS: tuple[Method, ...] = get_args(Method)
Drive: TypeAlias = Literal["auto", "density", "classifier", "score"]
Stopped: TypeAlias = Literal["closed form", "steady", "steps", "tolerance", "minutes", "interrupted", "diverged"]

CHECKS = 20  # times that W2 and the dual are looked at in a fit
KEPT = 200  # iterates that the average is made of
SETTLED = 20  # steps from which on the networks of the last half are averaged
FEATURES = {1: 100}  # bumps by dimension
POINTS = 4096  # of the reference in a step
ETA = 0.2  # step size for standardised laws
BATCH = 1024  # points in a gradient step of a network, at most
LIMIT = 0.5  # displacement per step, in standard deviations of the target, that is trusted


@dataclass(frozen=True)
class Fitted:
    """How a fit went.

    Attributes:
        stopped: "closed form", "steady" (no step makes it better), "steps", "tolerance", "minutes", "interrupted" or
            "diverged".
        steps: that were taken.
        seconds: it took; NaN where the map was read from a file.
        reason: for "diverged", why; else empty.
    """

    stopped: Stopped
    steps: int
    seconds: float
    reason: str = ""


class MongeAmpere:
    """The map T = grad psi from a reference e^{-g} to a target e^{-f}, psi convex.

    Args:
        reference: "normal", N(0, I); a mixture, data or what `load_target` takes; a `Law`; or, for a function,
            "laplace", the normal law at its mode. Both laws are then whitened by that law, and the map is the optimal
            one for the cost |R^-1 (x - y)|^2, R R' its covariance: for targets whose scales differ, as of posteriors.
        target: the same, or a function log_density(x), (n, d) -> (n,), up to a constant, in torch.
        method: "gaussian", the affine map between the means and covariances; "grid", the parabolic equation itself, on
            the line and in the plane; "linear", a potential that is linear in features, for a few dimensions; "neural",
            an input-convex network.
        dim: d, where neither law says it.
        drive: what h = log(rho_k/e^{-f}) is taken from: "density", both densities; "classifier", samples of both laws
            (Algorithm 1); "score", the density of the target and a learned score of rho_k (Algorithm 2); "auto",
            densities, but a classifier for data and for a network between laws that can be sampled.
        units: of the network, 64 by default, or bumps among the features, 100 on the line, else 200.
        noise: that the classifier or the score is smoothed with in the end, in standard deviations of the target.
        standardise: work between laws that are shifted and scaled to mean 0 and mean variance 1; the iteration then
            starts at the map that shifts and scales. Else it starts at the identity.

    Attributes:
        reference, target: the laws.
        potential: psi; None before `fit`.
        history: what was measured on the way, an `xarray.Dataset` over "step", for a grid over "time"; None before.
        result: how the last fit went; None before.

    Raises:
        ValueError: laws of different dimensions or without what the method needs.
    """

    def __init__(
        self,
        reference: Any,
        target: Any,
        method: str = "neural",
        *,
        dim: int | None = None,
        drive: str = "auto",
        units: int | None = None,
        noise: float = DEFAULT.noise,
        standardise: bool = True,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"no method {method!r}: it is one of {', '.join(METHODS)}")
        if drive not in get_args(Drive):
            raise ValueError(f"no drive {drive!r}: it is one of {', '.join(get_args(Drive))}")
        if not 0 < noise < math.inf:
            raise ValueError(f"noise must be positive and finite, got {noise}")
        self.reference, self.target = pair(reference, target, dim)
        if self.reference.draw is None:
            raise ValueError(f"{self.reference.name} cannot be sampled, and the map starts from samples")
        self.method, self.noise, self.standardise = method, noise, bool(standardise)
        self._frame: tuple[Tensor, Tensor] | None = None
        if isinstance(reference, str) and reference == "laplace":
            if method in ("grid", "gaussian") or not standardise:
                raise ValueError('reference "laplace" whitens both laws: it is for "linear" and "neural", standardised')
            assert self.reference.mean is not None
            assert self.reference.covariance is not None
            self._frame = self.reference.mean, torch.linalg.cholesky(self.reference.covariance)
        self.drive = _drive(drive, method, self.reference, self.target)
        self.units = whole_number(
            (64 if method == "neural" else FEATURES.get(self.dim, 200)) if units is None else units, "units", 1
        )
        self.potential: Potential | None = None
        self.history: xr.Dataset | None = None
        self.result: Fitted | None = None
        self._iterates: list[tuple[float, Potential]] = []

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.reference.dim

    def fit(
        self,
        steps: int = 200,
        rule: str | None = None,
        eta: float | None = None,
        *,
        points: int | None = None,
        tolerance: float = 1e-5,
        minutes: float | None = None,
        seed: int = 0,
        start: "MongeAmpere | None" = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> Self:
        """Run the iteration.

        Args:
            steps: T.
            rule: of the step sizes, see `rules`. Default: "growing" for implicit steps, else "adaptive", after which,
                without densities, a network has the mean parameters of the last half of its steps: what is learned is
                noisy.
            eta: their constant, for standardised laws. Default: 0.2.
            points: of the reference in a step. Default: 4,096, for features always the same ones.
            tolerance: fall of KL in a step, over its size where that is below 1, at which "linear" with densities stops
                before its last step.
            minutes: after which "linear" and "neural" stop, too.
            seed: of all random numbers.
            start: a fitted map between the same laws to start from.
            checkpoint: a file to save the map to as it goes on, about every minute.
            progress: show a bar on stderr, where that is a terminal.

        Returns:
            Itself; `result` says how it went. When the flow diverges, the last good iterate is kept, and `result` and a
            warning say why. After Ctrl-C the iterates so far are kept.

        Raises:
            ValueError: an argument is out of range; the first step already diverges.
        """
        begun = time.monotonic()
        seed = whole_number(seed, "seed", 0)
        if self.method == "gaussian":
            self.potential, self.history = gaussian_map(self.reference, self.target), None
            self.result = Fitted("closed form", 0, time.monotonic() - begun)
            return self
        if self.method == "grid":
            self.potential, self.history = solve_on_grid(self.reference, self.target, progress=progress)
            self.result = Fitted("steady", self.history.sizes["time"] - 1, time.monotonic() - begun)
            return self
        steps = whole_number(steps, "steps", 1)
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        rule = ("growing" if self._newton else "adaptive") if rule is None else rule
        etas = step_sizes(rule, ETA if eta is None else eta, steps)
        stop = _Stop(tolerance, begun, math.inf if minutes is None else 60 * minutes)
        with progress_bar("Monge-Ampère flow", progress) as advance:
            self._run(etas, points, seed, start, stop, checkpoint, rule == "adaptive", advance)
        return self

    def map(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y), shape (n, d), in float64."""
        with torch.no_grad():
            return self._fitted().gradient(self._check(y))

    def inverse(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The y with T(y) = x, shape (n, d); see `conjugate.inverse`."""
        x = self._check(x)
        potential = self._fitted()
        if isinstance(potential, Framed):
            return potential.outward(inverse(potential.inner, potential.inward(x)))
        return inverse(potential, x, affine_guess(self.reference, self.target, x))

    def log_density(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """log density of the law of T(Y) at x, shape (n,): log e^{-g}(y) - log det Hess psi(y), T(y) = x.

        Raises:
            ValueError: the reference has no density.
        """
        if self.reference.log_density is None:
            raise ValueError(f"{self.reference.name} has no density, and so its image has none that is known")
        y = self.inverse(x)
        with torch.no_grad():
            return self.reference.log_density(y) - self._fitted().log_determinant(y)

    def sample(self, n: int, seed: int = 0, iterate: str = "last") -> Float[Tensor, "n d"]:
        """n points of the law of T(Y), shape (n, d), in float64.

        Args:
            n: how many.
            seed: of them.
            iterate: "last", the map; "average", the mixture of the laws of all iterates, in proportion to their steps,
                that the theory's O(1/T) is about. A map that was read from a file has its last only.

        Raises:
            ValueError: an iterate that was not kept.
        """
        generator = torch.Generator().manual_seed(whole_number(seed, "seed", 0))
        assert self.reference.draw is not None
        y = self.reference.draw(whole_number(n, "n", 0), generator)
        if iterate == "last":
            return self.map(y)
        if iterate != "average" or not self._iterates:
            raise ValueError('iterate is "last", or "average" after a fit of method "linear" or "neural"')
        weights = torch.tensor([eta for eta, _ in self._iterates], dtype=torch.float64)
        which = torch.multinomial(weights, max(n, 1), replacement=True, generator=generator)[:n]
        found = torch.empty_like(y)
        with torch.no_grad():
            for k in which.unique().tolist():
                found[which == k] = self._outward(self._iterates[k][1]).gradient(y[which == k])
        return found

    def _run(
        self,
        etas: list[float],
        points: int | None,
        seed: int,
        start: "MongeAmpere | None",
        stop: "_Stop",
        checkpoint: str | os.PathLike[str] | None,
        average: bool,
        advance: Callable[[float], None],
    ) -> None:
        reference, target = self._inner_laws()
        generator = torch.Generator().manual_seed(seed)
        count = whole_number(POINTS if points is None else points, "points", 2 * self.dim + 2)
        assert reference.draw is not None
        fixed = covering(reference, count, generator) if self.method == "linear" else None
        batch = min(BATCH, count)
        fit, discrepancy = self._fit(target, batch, seed), self._discrepancy(reference, target, len(etas), batch, seed)
        potential = Quadratic.identity(self.dim) if start is None else self._inward(start)
        judge, rows = Judge(reference, target, discrepancy, seed + 1), list[dict[str, float]]()
        reason, stopped = "", "interrupted"
        self._iterates, every, saved = [], max(1, len(etas) // CHECKS), stop.begun
        flow = iterate(
            potential, reference, discrepancy, fit, etas, count, LIMIT, generator, fixed, descend=self._newton
        )
        self.potential = self._outward(potential)
        try:
            for step in flow:
                self.potential = self._outward(step.potential)
                rows.append(row(step) | (judge.look(step.potential) if step.number % every == 0 else {}))
                self._keep(step)
                advance(1 / len(etas))
                if checkpoint is not None and time.monotonic() - saved > 60:
                    self._record(rows, judge, Fitted("interrupted", len(rows), stop.seconds))
                    self.save(checkpoint, force=True)
                    saved = time.monotonic()
                if (ended := stop.reached(step)) is not None:
                    stopped = ended
                    break
            else:
                stopped = "steps" if len(rows) == len(etas) else "steady"
            if average and not discrepancy.exact and len(rows) >= SETTLED and (mean := self._mean()) is not None:
                self.potential = self._outward(mean)
                rows[-1] |= judge.look(mean)
            elif len(rows) % every:
                rows[-1] |= judge.look(self._inner())
        except Diverged as error:
            if not rows:
                raise ValueError(str(error)) from None
            stopped, reason = "diverged", str(error)
            warnings.warn(f"the flow diverged, the last good map is kept: {error}", stacklevel=4)
        finally:
            self._record(rows, judge, Fitted(stopped, len(rows), stop.seconds, reason))

    def _record(self, rows: list[dict[str, float]], judge: Judge, result: Fitted) -> None:
        self.history, self.result = history(rows, judge.floor, self._units()[3]), result

    def _mean(self) -> Potential | None:
        """The network with the mean parameters of the last half of the iterates; None where some are no networks."""
        late = self._iterates[len(self._iterates) // 2 :]
        networks = [potential for _, potential in late if isinstance(potential, ConvexNetwork)]
        return ConvexNetwork.mean(networks, [eta for eta, _ in late]) if len(networks) == len(late) else None

    def _keep(self, step: Iterate) -> None:
        """Of long runs every second, fourth, ... iterate."""
        self._iterates.append((step.eta, step.potential))
        if len(self._iterates) > KEPT:
            pairs = zip(self._iterates[::2], self._iterates[1::2], strict=False)
            self._iterates = [(first[0] + second[0], second[1]) for first, second in pairs]

    def _fit(self, target: Law, batch: int, seed: int) -> Fit:
        if self.method == "neural":
            return NetworkFit(self.units, batch=batch)
        centres, width = bumps(self.dim, self.units, seed)
        if self._newton and target.log_density is not None:
            return ImplicitFit(centres, width, target.log_density)
        return FeatureFit(centres, width)

    def _discrepancy(self, reference: Law, target: Law, steps: int, batch: int, seed: int) -> Discrepancy:
        if self.drive == "density":
            return Exact(reference, target)
        training = Training(self.noise, steps, batch=batch, seed=seed)
        return (Classified if self.drive == "classifier" else Matched)(reference, target, training)

    @property
    def _newton(self) -> bool:
        """Whether steps are implicit."""
        return self.method == "linear" and self.drive == "density"

    def _units(self) -> tuple[Tensor, float, Tensor, float]:
        """m0, s0, m, s; those of a law without known moments are 0 and 1."""
        return (*centre_and_unit(self.reference, self.standardise), *centre_and_unit(self.target, self.standardise))

    def _inner_laws(self) -> tuple[Law, Law]:
        if self._frame is not None:
            return standard_normal(self.dim), framed(self.target, *self._frame)
        m0, s0, m, s = self._units()
        return standardised(self.reference, m0, s0), standardised(self.target, m, s)

    def _outward(self, inner: Potential) -> Potential:
        if self._frame is not None:
            return Framed(inner, *self._frame)
        return Standardised(inner, *self._units()) if self.standardise else inner

    def _inner(self) -> Potential:
        found = self._fitted()
        return found.inner if isinstance(found, Standardised | Framed) else found

    def _inward(self, other: "MongeAmpere") -> Potential:
        if other.dim != self.dim or other.standardise != self.standardise or other.method != self.method:
            raise ValueError("a map to start from must be between laws of the same dimension, by the same method")
        return other._inner()

    def _fitted(self) -> Potential:
        if self.potential is None:
            raise ValueError("the map has not been fitted yet: call fit first")
        return self.potential

    def _check(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"points must have shape (n, {self.dim}), as the laws have, got {tuple(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("points must be finite")
        return x.to("cpu", torch.float64)

    def to_dataset(self) -> xr.Dataset:
        """The potential's numbers, and the history, as a dataset."""
        potential, result = potential_dataset(self._fitted()), self.result
        assert result is not None
        data = xr.Dataset() if self.history is None else self.history.copy()
        data = data.merge(potential, combine_attrs="drop_conflicts")
        return records.describe(
            data,
            "flow",
            method=self.method,
            reference=self.reference.name,
            target=self.target.name,
            dim=self.dim,
            stopped=result.stopped,
            steps=result.steps,
        )

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Write `to_dataset` as netCDF, whole or not at all.

        Raises:
            ValueError: nothing was fitted, or the file exists or cannot be written.
        """
        data = self.to_dataset()
        with atomic_path(path, force) as draft:
            write_dataset(data, draft)


@dataclass
class _Stop:
    """When to stop before the last step."""

    tolerance: float
    begun: float
    limit: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def reached(self, step: Iterate) -> Stopped | None:
        if step.fall is not None and step.fall <= self.tolerance * min(1.0, step.eta):
            return "tolerance"
        return "minutes" if self.seconds > self.limit else None


def _drive(drive: str, method: str, reference: Law, target: Law) -> str:
    if method in ("gaussian", "grid"):
        return "density"
    if drive == "auto":
        if target.log_density is None or (method == "neural" and target.draw is not None):
            return "classifier"
        return "score" if reference.log_density is None else "density"
    if drive != "classifier" and target.log_density is None:
        raise ValueError(f'{target.name} has no density, which drive "{drive}" needs: use "classifier"')
    if drive == "classifier" and target.draw is None:
        raise ValueError(f'{target.name} cannot be sampled, which drive "classifier" needs: use "density" or "score"')
    if drive == "density" and reference.log_density is None:
        raise ValueError(f'{reference.name} has no density, which drive "density" needs: use "score"')
    return drive
