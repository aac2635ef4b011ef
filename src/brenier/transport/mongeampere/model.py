"""`MongeAmpere`: a Brenier map from a reference to a target, found by the parabolic Monge-Ampère iteration."""

import math
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from brenier.core import records
from brenier.core.checks import whole_number
from brenier.core.points import arrays_too, as_points
from brenier.core.random import generator_for
from brenier.core.work import now_and_then, progress_bar
from brenier.core.writing import atomic_path, write_dataset
from brenier.transport.cost import Cost
from brenier.transport.mongeampere.conjugate import inverse
from brenier.transport.mongeampere.drives import METHODS, find_drive, make_discrepancy, make_fit
from brenier.transport.mongeampere.evidence import Evidence, measure, warn_of, weigh
from brenier.transport.mongeampere.flow import Diverged, Stop, iterate
from brenier.transport.mongeampere.frame import Frame, inward
from brenier.transport.mongeampere.gaussian import gaussian_map
from brenier.transport.mongeampere.grid.solve import solve_on_grid
from brenier.transport.mongeampere.judge import Judge, cost
from brenier.transport.mongeampere.laws import pair
from brenier.transport.mongeampere.learned import DEFAULT, Training
from brenier.transport.mongeampere.marginal import affine_guess, covering
from brenier.transport.mongeampere.potentials import Framed, Potential, Quadratic
from brenier.transport.mongeampere.record import Fitted, Stopped, history, row, rows
from brenier.transport.mongeampere.rules import step_sizes
from brenier.transport.mongeampere.storage import potential_dataset, read_map
from brenier.transport.mongeampere.trail import Trail

CHECKS = 20  # times that W2 and the dual are looked at in a fit
SETTLED = 20  # steps from which on the networks of the last half are averaged
FEATURES = {1: 100}  # bumps by dimension
POINTS = 4096  # of the reference in a step
ETA = 0.2  # step size for standardised laws
BATCH = 1024  # points in a gradient step of a network, at most
LIMIT = 0.5  # displacement per step, in standard deviations of the target, that is trusted


class MongeAmpere:
    """The map T = grad psi from a reference e^{-g} to a target e^{-f}, psi convex.

    Args:
        reference: "normal", N(0, I); a mixture, data or what `load_target` takes; a `Marginal`; or, for a function,
            "laplace", the normal law at its mode, or "triangular", the image of N(0, I) under the triangular map that
            fits it best, for bananas and funnels: both laws are then whitened by that map S, see `whitening`, and the
            flow's is optimal for the cost |S^-1(x) - S^-1(y)|^2; or "modes", the normal laws at all maxima, mixed.
        target: the same, or a function log_density(x), (n, d) -> (n,), up to a constant, in torch; or a Python file
            that defines it and `dim`.
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
        reference, target: the laws, as `Marginal`s.
        psi: the potential; None before `fit`.
        history: what was measured on the way, an `xarray.Dataset` over "step", for a grid over "time"; None before.
        result: how the last fit went; None before.

    Raises:
        ValueError: laws of different dimensions or without what the method needs.
    """

    def __init__(
        self,
        reference: Any,
        target: Any,
        *,
        method: str = "neural",
        dim: int | None = None,
        drive: str = "auto",
        units: int | None = None,
        noise: float = DEFAULT.noise,
        standardise: bool = True,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"no method {method!r}: it is one of {', '.join(METHODS)}")
        if not 0 < noise < math.inf:
            raise ValueError(f"noise must be positive and finite, got {noise}")
        self.reference, self.target = pair(reference, target, dim)
        if self.reference.draw is None:
            raise ValueError(f"{self.reference.name} cannot be sampled, and the map starts from samples")
        self.method, self.noise, self.standardise = method, noise, bool(standardise)
        if self.reference.whitening is not None and (method in ("grid", "gaussian") or not standardise):
            name = self.reference.name
            raise ValueError(f'reference "{name}" whitens both laws: it is for "linear" and "neural", standardised')
        self.drive = find_drive(drive, method, self.reference, self.target)
        self.units = whole_number(
            (64 if method == "neural" else FEATURES.get(self.dim, 200)) if units is None else units, "units", 1
        )
        self.psi: Potential | None = None
        self.history: xr.Dataset | None = None
        self.result: Fitted | None = None
        self._trail = Trail()

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.reference.dim

    def fit(
        self,
        steps: int = 200,
        *,
        rule: str | None = None,
        eta: float | None = None,
        points: int | None = None,
        tolerance: float = 1e-5,
        minutes: float | None = None,
        seed: int = 0,
        start: "MongeAmpere | str | os.PathLike[str] | None" = None,
        resume: bool = False,
        anneal: bool = False,
        checkpoint: str | os.PathLike[str] | Callable[[], object] | None = None,
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
            start: a fitted map between the same laws, or the file of one, to start from.
            resume: whether the fit of `start` goes on: its steps count among `steps`, its history stays. What is
                learned from samples is learned anew, and averages are of the steps that follow.
            anneal: go by way of laws between the two in the first half of the steps: for "neural" with densities, where
                there are several modes. See `discrepancy.Exact`.
            checkpoint: a file to save the map to as it goes on, about every minute, or what to call then.
            progress: show a bar on stderr, where that is a terminal.

        Returns:
            Itself; `result` says how it went. When the flow diverges, the last good iterate is kept, and `result` and a
            warning say why. After Ctrl-C the iterates so far are kept.

        Raises:
            ValueError: an argument is out of range; the first step already diverges; a file to start from is of a map
                between other laws, or by another method.
        """
        begun = time.monotonic()
        if self.reference.draw is None or (self.target.draw is None and self.target.log_density is None):
            raise ValueError("a file does not hold the laws of its map: give them to `load`, and it can be fitted on")
        seed = whole_number(seed, "seed", 0)
        if anneal and not (self.method == "neural" and self.drive == "density"):
            raise ValueError('anneal is for method "neural" and drive "density"')
        begin, past = self._begin(start)
        if self.method == "gaussian":
            self.psi, self.history = gaussian_map(self.reference, self.target), None
            self.result = Fitted("closed form", 0, time.monotonic() - begun)
            return self
        if self.method == "grid":
            self.psi, self.history = solve_on_grid(self.reference, self.target, progress=progress)
            self.result = Fitted("steady", self.history.sizes["time"] - 1, time.monotonic() - begun)
            return self
        steps = whole_number(steps, "steps", 1)
        if minutes is not None and not minutes > 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        rule = ("growing" if self._newton else "adaptive") if rule is None else rule
        etas = step_sizes(rule, ETA if eta is None else eta, steps)
        stop = Stop(tolerance, begun, math.inf if minutes is None else 60 * minutes)
        with progress_bar("Monge-Ampère flow", progress) as advance:
            by_path = isinstance(checkpoint, str | os.PathLike)
            save = partial(self.save, checkpoint, force=True) if by_path else checkpoint
            average, annealed = rule == "adaptive", steps // 2 if anneal else 0
            self._run(etas, points, seed, begin, past if resume else None, stop, save, average, annealed, advance)
        return self

    @arrays_too()
    def map(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """T(y), shape (n, d), in float64."""
        with torch.no_grad():
            return self._fitted().gradient(self._checked(y))

    @arrays_too()
    def potential(self, y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """psi(y), up to a constant, shape (n,), in float64; of the whitened laws, where those are whitened."""
        with torch.no_grad():
            return self._fitted().value(self._checked(y))

    @arrays_too()
    def inverse(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The y with T(y) = x, shape (n, d); see `conjugate.inverse`."""
        x, psi = self._checked(x), self._fitted()
        if isinstance(psi, Framed):
            return psi.outward(inverse(psi.inner, psi.inward(x)))
        return inverse(psi, x, affine_guess(self.reference, self.target, x))

    @arrays_too()
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

    def draw(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """n independent points of the reference, shape (n, d), in float64.

        Raises:
            ValueError: the map was read from a file, and the reference was data or a function.
        """
        return self._draw(n, torch.Generator().manual_seed(whole_number(seed, "seed", 0)))

    def sample(self, n: int, seed: int = 0, *, iterate: str = "last") -> Float[Tensor, "n d"]:
        """n points of the law of T(Y), shape (n, d), in float64.

        Args:
            n: how many.
            seed: of them.
            iterate: "last", the map; "average", the mixture of the laws of all iterates, in proportion to their steps,
                that the theory's O(1/T) is about. A map that was read from a file has its last only.

        Raises:
            ValueError: an iterate that was not kept; as `draw`.
        """
        generator = torch.Generator().manual_seed(whole_number(seed, "seed", 0))
        y = self._draw(n, generator)
        if iterate == "last":
            return self.map(y)
        if iterate != "average" or not self._trail.etas:
            raise ValueError('iterate is "last", or "average" after a fit of method "linear" or "neural"')
        weights = torch.tensor(self._trail.etas, dtype=torch.float64)
        which = torch.multinomial(weights, max(n, 1), replacement=True, generator=generator)[:n]
        found, frame = torch.empty_like(y), self._frame()
        with torch.no_grad():
            for k in which.unique().tolist():
                found[which == k] = frame.outward(self._trail.potentials[k]).gradient(y[which == k])
        return found

    def log_evidence(self, n: int = 2**14, seed: int = 0) -> Evidence:
        """log Z, Z = int e^{-f}, from n points; a warning says where it is refused, and NaN. See `evidence`."""
        generator = generator_for(whole_number(seed, "seed", 0), 0xE71D)
        found = measure(self.reference, self.target, self._fitted(), whole_number(n, "n", 1), generator)
        return warn_of(found, self.target.name, self.reference.name)

    def weights(self, n: int, seed: int = 0) -> Float[Tensor, " n"]:
        """Weights of the points `sample(n, seed)` that make their averages the target's, shape (n,); they add up to 1.

        0 where psi is not convex. Warns as `log_evidence` does.
        """
        self.log_evidence(seed=seed)
        y = self.draw(n, seed)
        found = weigh(self.target, self._fitted(), y, self.reference.log_at(y))
        return torch.softmax(torch.where(found.convex, found.log, -math.inf), 0)

    def w2(self, samples: int = 2**12, seed: int = 1) -> Cost:
        """W2 from the reference to the image, as the map pays it, and to the target, as psi vouches for it; see `Cost`.

        Args:
            samples: draws of each law.
            seed: of them.

        Returns:
            Of whitened laws, where those are whitened. `dual` is NaN for a target that cannot be sampled.
        """
        generator = torch.Generator().manual_seed(whole_number(seed, "seed", 0))
        y = self._draw(whole_number(samples, "samples", 2), generator)
        x = None if self.target.draw is None else self.target.draw(len(y), generator)
        return cost(self._fitted(), y, x, None if x is None else self.inverse(x))

    def _run(
        self,
        etas: list[float],
        points: int | None,
        seed: int,
        begin: Potential,
        past: xr.Dataset | None,
        stop: Stop,
        checkpoint: Callable[[], object] | None,
        average: bool,
        annealed: int,
        advance: Callable[[float], None],
    ) -> None:
        frame = self._frame()
        reference, target = frame.laws()
        generator = torch.Generator().manual_seed(seed)
        count = whole_number(POINTS if points is None else points, "points", 2 * self.dim + 2)
        fixed = covering(reference, count, generator) if self.method == "linear" else None
        batch = min(BATCH, count)
        fit = make_fit(self.method, self.drive, target, self.units, batch, seed)
        training = Training(self.noise, len(etas), batch=batch, seed=seed)
        discrepancy = make_discrepancy(self.drive, reference, target, training, annealed)
        judge, known = Judge(reference, target, discrepancy, seed + 1), rows(past, frame.target_unit)
        reason, stopped, done = "", "interrupted", len(known)
        self._trail, every = Trail(), max(1, len(etas) // CHECKS)
        if done:
            generator = generator_for(seed, 0xF10, done)
        flow = iterate(begin, reference, discrepancy, fit, etas, count, LIMIT, generator, fixed, self._newton, done)
        self.psi = frame.outward(begin)

        def keep(stopped: Stopped) -> None:
            self.history = history(known, judge.floor, frame.target_unit)
            self.result = Fitted(stopped, len(known), stop.seconds, reason)

        def save() -> None:
            keep("interrupted")
            if checkpoint is not None:
                checkpoint()

        look = now_and_then(save)
        try:
            for step in flow:
                self.psi = frame.outward(step.potential)
                known.append(row(step) | (judge.look(step.potential) if step.number % every == 0 else {}))
                self._trail.add(step)
                advance(1 / len(etas))
                look()
                if (ended := stop.reached(step)) is not None:
                    stopped = ended
                    break
            else:
                stopped = "steps" if len(known) >= len(etas) else "steady"
            if average and not discrepancy.exact and len(known) >= SETTLED and (mean := self._trail.mean()) is not None:
                self.psi = frame.outward(mean)
                known[-1] |= judge.look(mean)
            elif len(known) % every:
                known[-1] |= judge.look(inward(self.psi))
        except Diverged as error:
            if not known:
                raise ValueError(str(error)) from None
            stopped, reason = "diverged", str(error)
            warnings.warn(f"the flow diverged, the last good map is kept: {error}", stacklevel=4)
        finally:
            keep(stopped)

    @property
    def _newton(self) -> bool:
        """Whether steps are implicit."""
        return self.method == "linear" and self.drive == "density"

    def _frame(self) -> Frame:
        return Frame(self.reference, self.target, self.standardise, self.reference.whitening)

    def _begin(self, start: "MongeAmpere | str | os.PathLike[str] | None") -> tuple[Potential, xr.Dataset | None]:
        """The potential to start from, on the common scale, and the history that it has."""
        if start is None:
            return Quadratic.identity(self.dim), None
        if isinstance(start, str | os.PathLike):
            place, start = repr(os.fspath(start)), MongeAmpere.load(start)
            now = {"reference": self.reference.name, "target": self.target.name, "method": self.method, "dim": self.dim}
            then = (start.reference.name, start.target.name, start.method, start.dim)
            for (name, value), other in zip(now.items(), then, strict=True):
                if other != value:
                    raise ValueError(f"{place} has {name} {other!r}, and now it is {value!r}: leave out start")
        if start.dim != self.dim or start.standardise != self.standardise or start.method != self.method:
            raise ValueError("a map to start from must be between laws of the same dimension, by the same method")
        return inward(start._fitted()), start.history

    def _fitted(self) -> Potential:
        if self.psi is None:
            raise ValueError("the map has not been fitted yet: call fit first")
        return self.psi

    def _draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        if self.reference.draw is None:
            raise ValueError(f"a file does not hold its reference, {self.reference.name}: give it to `load`")
        return self.reference.draw(whole_number(n, "n", 0), generator)

    def _checked(self, x: Tensor) -> Float[Tensor, "n d"]:
        note = ", as the laws have"
        return as_points(x, "points", dim=self.dim, least=0, note=note, dtype=torch.float64, device="cpu")

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
            drive=self.drive,
            dim=self.dim,
            event_shape=list(self.target.event_shape),
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

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, reference: Any = None, target: Any = None) -> Self:
        """Read what `save` or `brenier flow` wrote.

        Args:
            path: of the file.
            reference: what the map was fitted from, where that was neither "normal" nor whitens: a file holds no laws
                but these. Needed to `draw` and to `sample`, and for `log_density`.
            target: what it was fitted to. Needed, beside the reference, to `fit` on, and for the dual side of `w2`.

        Raises:
            ValueError: no such file, or something else in it; laws that are not those of the map.
        """
        return cls._made(records.read(path, "flow"), repr(os.fspath(path)), reference, target)

    @classmethod
    def from_dataset(cls, data: xr.Dataset, *, reference: Any = None, target: Any = None) -> Self:
        """The map that `to_dataset` describes; the laws as for `load`."""
        return cls._made(data, "the dataset", reference, target)

    @classmethod
    def _made(cls, data: xr.Dataset, place: str, reference: Any, target: Any) -> Self:
        found, saved = cls.__new__(cls), read_map(data, place)
        found.psi, found.history, found.result = saved.psi, saved.history, saved.result
        found.method, found.standardise = saved.method, saved.standardised
        found.units, found.noise, found._trail = saved.units, saved.noise, Trail()
        found.reference, found.target = saved.laws(reference, target, place)
        known = target is not None
        found.drive = find_drive(saved.drive, saved.method, found.reference, found.target) if known else saved.drive
        return found
