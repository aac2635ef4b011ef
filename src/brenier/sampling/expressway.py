"""The expressway: from noise to noisy data in one optimal transport map, from there down in a few steps.

Every datum x_i of weight w_i is diffused to the SNR r of the handover, once; then

    latents     y_i = x_i + sigma z_i,  z_i ~ N(0, I),  sigma = 1/r                  in x = X + sigma Z, as everywhere
    transport   T = argmin E|X - T(X)|^2  over maps of the source to sum w_i delta_{y_i}         (see `transport`)
    sample      x ~ source,  T(x) = y_i,  and a sampler from y_i at sigma down to 0

(DPM-OT, arXiv:2307.11308, Section 3). The map costs no evaluation of the denoiser. DDPM's latents are these but for a
factor, which the cells of T do not depend on.

What the map decides is which x goes to which y_i: the y_i that come out, one in w_i of the time each, are the same for
any other measure-preserving assignment, and so is the law of the samples. That law is as good as y_i are draws of
X + sigma Z, which they are; with N latents there are N different samples, and each is as near to its datum as sigma is
small. So three controls belong to it: `assignment="random"`, the same latents without the transport; `fresh_noise`,
y = x_i + sigma z with a new z for each sample; and a measure of copying beside every measure of quality, see `metrics`.

A network that is told classes starts from latents of the class that is asked for: with `labels` of the data there is a
transport to each class, see `told`, and random latents are of the class, too.

`assignment="monge-ampere"` takes a smooth map instead, which a flow learns from the latents (see
`transport.mongeampere`): its image has a density, and no latent is met exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Self, TypeAlias, cast

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core.checks import whole_number
from brenier.core.points import put_back
from brenier.core.random import generator_for
from brenier.laws.alike import ROWS, in_order, warn_of_scales
from brenier.laws.base import Target
from brenier.laws.empirical import Empirical
from brenier.networks.conventions import known_snr
from brenier.sampling.driver import check_points, integrate
from brenier.sampling.handmade import log_snr
from brenier.sampling.handover import Handover, find_handover, within
from brenier.sampling.planning import CRITERIA, noise_range, plan, usual_criterion
from brenier.sampling.sample import Samples, check_made_for, drawn
from brenier.sampling.schedule import Schedule
from brenier.sampling.steps import find_solver
from brenier.sampling.told import Told
from brenier.transport import SemiDiscrete
from brenier.transport.mongeampere import MongeAmpere
from brenier.transport.semidiscrete.sources import Sampler, find_source

Map: TypeAlias = Callable[[Tensor], Tensor]


PILOTS = 2**11  # noisy data that a schedule may be planned on
DEEP = 10.0  # by what factor steps go down from a handover below the lowest level that the law calls for


class Expressway:
    """One map from a source to noisy data, and a few steps of a sampler from there.

    Args:
        law: whose denoiser is followed: a law or a network, or what `load_target` takes. None: the data themselves,
            whose exact denoiser puts out copies of them whatever the handover.
        data: the points that are diffused, or what `load_target` takes. Default: the network's own, if it has some.
        handover: an SNR, such as `final_steps` gives; "auto": where a given `Schedule` starts, else what
            `find_handover` finds.
        steps: grid intervals from there to 0. Default: those of a given `Schedule`, else 10.
        solver: which sampler, see `brenier.sampling.steps`. Default: that of a given `Schedule`, else "dpmpp-2m".
        labels: the class of each datum, shape (N,), whole numbers or words, for a network that is told classes: data of
            others than it is asked for are left out, the latent of a row is of its class, and the handover suits the
            smallest crowd of all classes.
        source: of the transport: "normal", "uniform", or a function that takes n and a `torch.Generator` and returns
            points of shape (n, d). A Monge-Ampère flow starts from the normal law.
        fresh_noise: noise the datum of the latent anew for each sample. The transport then chooses the datum only.
        assignment: "transport"; "random", latents drawn by weight; "monge-ampere", a convex network's gradient that a
            Monge-Ampère flow fits to the latents; or a map of your own, a function or an object with a method `map`,
            from points of the source (n, d) to noisy points at the handover (n, d).
        schedule: noise levels to visit from the handover on, or the criterion to plan them by, see `plan`. Default:
            "error", for samplers that draw noise "kl", for "annealed-langevin" "log-snr".
        profile: of the law, by `probe`, for the choice of the handover.
        seed: of the latents' noise, the choice of the handover and the plan.
        device: where to compute. Default: where the law is.
        dtype: of the computation. Default: the law's.

    Attributes:
        law, data: the laws.
        handover: where; None before `fit`.
        latents: y, shape (N, d), in the unit of the data; None before `fit`.
        schedule: the noise levels that are visited; None before `fit`.
        transport: the fitted `SemiDiscrete`; None before `fit`, and for other assignments.
        flow: the fitted `MongeAmpere`; likewise.

    Raises:
        ValueError: no points to diffuse, points of another dimension than the law's, arguments that contradict each
            other or are out of range.
        TypeError: an assignment that is neither a name nor a map.
    """

    def __init__(
        self,
        law: LawLike | None,
        data: LawLike | None = None,
        *,
        labels: Any = None,
        handover: str | float = "auto",
        steps: int | None = None,
        solver: str | None = None,
        source: str | Sampler = "normal",
        fresh_noise: bool = False,
        assignment: Any = "transport",
        schedule: Schedule | str | None = None,
        profile: xr.Dataset | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        followed = data if law is None else law
        if followed is None:
            raise ValueError("give a law or a network to follow, or data, or both")
        self.law = load_target(followed, device=device, dtype=dtype)
        self.data = _points(self.law, data)
        self._told = None if labels is None else Told.of(labels, len(self.data), self.law)
        if self._told is not None:
            rows, self._told = self._told.restricted()
            self.data = self._rows(rows, self.data.name)
        self._origin = self.data.origin
        if labels is None and self.law.period > 1:
            raise ValueError(
                f"{self.law.name} is asked for {self.law.period} conditions in turn, and latents are of none: give "
                "labels, a class for each datum, or one condition and data of it"
            )
        self._law, self._data = self.law.moved(-self._origin), self.data.moved(-self._origin)
        self._steps, self.solver, self._given = _check_schedule(schedule, steps, solver, self.law)
        self._where = _check_handover(handover, self._given, self.law)
        self._source, self._source_given = find_source(source, self.law.dim), source
        self._assign = _check_assignment(assignment)
        self.fresh_noise = bool(fresh_noise)
        if self.fresh_noise and (callable(self._assign) or self._assign == "monge-ampere"):
            whose = "a map of your own" if callable(self._assign) else "a Monge-Ampère map"
            raise ValueError(f"fresh_noise noises a datum anew, and {whose} chooses none: leave one of them")
        if self._assign == "monge-ampere" and source != "normal":
            raise ValueError('a Monge-Ampère flow starts from the normal law: leave source out, or give "normal"')
        if self._told is not None and (callable(self._assign) or self._assign == "monge-ampere"):
            raise ValueError("labels are for latents of each class, and this map makes points of none: leave them out")
        self._profile, self._seed = profile, whole_number(seed, "seed", 0)
        self.handover: Handover | None = None
        self.latents: Float[Tensor, "N d"] | None = None
        self.schedule: Schedule | None = None
        self.transport: SemiDiscrete | None = None
        self.flow: MongeAmpere | None = None

    def fit(
        self,
        tolerance: float = 0.02,
        *,
        minutes: float | None = None,
        seed: int = 0,
        start: SemiDiscrete | None = None,
        progress: bool = True,
    ) -> Self:
        """Choose the handover, diffuse the data, plan the steps and find the map; see `SemiDiscrete.fit`.

        Args:
            tolerance: of the transport: total variation between the masses of its cells and the weights. A Monge-Ampère
                flow ends by its steps, see `MongeAmpere.fit`, or by `minutes`.
            minutes: after which its fit stops.
            seed: of its draws.
            start: a fitted transport to start from, such as that of a neighbouring handover.
            progress: show bars on stderr, where that is a terminal.

        Returns:
            Itself. Called again, or after Ctrl-C, `fit` goes on with the same latents where the transport stopped.

        Raises:
            ValueError: an argument is out of range; noise levels that the network was not trained for.
        """
        if self.handover is None:
            self.handover = self._where
        if self.handover is None:
            self.handover = self._find_handover(progress)
        if self.latents is None:
            self.latents = put_back(self._diffuse(self._data.data, self._seed, 0x1A7), self._origin)
        if self.schedule is None:
            self.schedule = self._plan(progress)
        if self._assign == "monge-ampere":
            if start is not None:
                raise ValueError("a saved transport is no start for a Monge-Ampère flow: leave out start")
            law = Empirical(self.latents, self.data.weights, name=f"{self.data.name} diffused")
            self.flow = MongeAmpere("normal", law).fit(minutes=minutes, seed=seed, progress=progress)
        if self._assign == "transport":
            if self.transport is None:
                code = None if self._told is None else self._told.code.numpy()
                self.transport = SemiDiscrete(self.latents, self.data.weights, source=self._source_given, labels=code)
            self.transport.fit(tolerance, minutes=minutes, seed=seed, start=start, progress=progress)
        return self

    def draw(self, n: int, seed: int = 0) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"] | None]:
        """Noisy points at the handover, where the sampler starts, and the rows of the data that they were made of.

        A map of your own has no rows to tell, nor has a Monge-Ampère map.
        """
        n, seed = whole_number(n, "n", 0), whole_number(seed, "seed", 0)
        if self.latents is None or self.handover is None:
            raise ValueError("the expressway has not been fitted yet: call fit first")
        generator = generator_for(seed, 0xD4A)
        if callable(self._assign):
            found = self._assign(self._source.draw(n, generator).to(self.latents))
            return check_points(self.law, found), None
        if self._assign == "monge-ampere":
            if self.flow is None or self.flow.psi is None:
                raise ValueError("the flow has not been fitted yet: call fit first")
            return check_points(self.law, self.flow.map(self._source.draw(n, generator))), None
        if n == 0:
            return self.latents[:0], torch.zeros(0, dtype=torch.long, device=self.latents.device)
        told = self._told
        if self._assign == "random" and told is not None:
            rows = told.draw(n, self.data.weights.cpu(), generator)
        elif self._assign == "random":
            rows = torch.multinomial(self.data.weights.cpu(), n, replacement=True, generator=generator)
        elif self.transport is None or self.transport.heights is None:
            raise ValueError("the transport has not been fitted yet: call fit first")
        else:
            x = self._source.draw(n, generator).to(self.latents.device)
            rows = self.transport.cells(x, None if told is None else told.wanted(n))
        rows = rows.to(self.latents.device)
        if not self.fresh_noise:
            return self.latents[rows], rows
        return put_back(self._diffuse(self._data.data[rows], seed, 0xF4E5), self._origin), rows

    def sample(
        self, n: int, seed: int = 0, *, batch: int | None = None, trajectory: bool = False, progress: bool = True
    ) -> Samples:
        """Draw points: by the map to the handover, by the sampler from there.

        Args:
            n: number of points, 0 or more.
            seed: of the source's draws and of whatever else is random.
            batch: points per call of the denoiser. Default: all; a law has its own limits.
            trajectory: whether to keep the points at every noise level.
            progress: show a bar on stderr, where that is a terminal.

        Returns:
            What `brenier.sample` returns. `evaluations` are those of the sampler: the map takes none.
        """
        x, _ = self.draw(n, seed)
        assert self.schedule is not None  # made before the latents' transport was
        x, sigmas = put_back(x, -self._origin), self.schedule.sigmas
        run = integrate(self._law, x, sigmas, self.solver, seed, batch, trajectory, progress)
        return drawn(run, self._origin, self.law, self.schedule, self.solver)

    def _find_handover(self, progress: bool) -> Handover:
        """Where to hand over; with classes, where the first of them ceases to be crowded."""
        parts = [self.data]
        if self._told is not None:
            parts = [self._rows(self._told.rows(k), f"class {k} of {self.data.name}") for k in self._told.known]
        found = [
            find_handover(self.law, part, profile=self._profile, seed=self._seed, progress=progress) for part in parts
        ]
        return min(found, key=lambda handover: handover.snr)

    def _rows(self, rows: Int[Tensor, " k"], name: str) -> Empirical:
        """Some of the data."""
        own, dtype = rows.to(self.data.device), self.data.dtype
        points = self.data.data[own].reshape(len(own), *self.data.event_shape)
        return Empirical(points, self.data.weights[own], name=name, dtype=dtype, event_shape=self.data.event_shape)

    def _diffuse(self, points: Float[Tensor, "n d"], seed: int, stream: int) -> Float[Tensor, "n d"]:
        """x + sigma z, for points about zero; the same z on every device and in every dtype, but for rounding."""
        assert self.handover is not None
        noise = torch.randn(points.shape, generator=generator_for(seed, stream), dtype=torch.float32)
        return points + self.handover.sigma * noise.to(points)

    def _plan(self, progress: bool) -> Schedule:
        """Noise levels from the handover to 0, planned on noisy data as they are there."""
        assert self.handover is not None
        law, sigma, criterion = self._law, self.handover.sigma, self._given
        if isinstance(criterion, Schedule):
            return criterion
        lowest = noise_range(law, None, None)[1]
        if criterion is None and sigma <= lowest:
            lowest = max(sigma / DEEP, 1 / law.snr_range[1])
            levels = [*log_snr(self._steps, sigma, lowest), 0.0]
            made_for = {"law": law.name, "convention": law.convention}
            return Schedule(levels, self.solver, criterion="log-snr", seed=self._seed, **made_for)
        if self._told is None:
            rows = self._data.sample(PILOTS, self._seed)
        else:
            own = self._told.draw(PILOTS, self.data.weights.cpu(), generator_for(self._seed, 0x9108))
            rows = self._data.data[own.to(self._data.device)]
        points = self._diffuse(rows, self._seed, 0x9107)
        return plan(
            law,
            self._steps,
            solver=self.solver,
            criterion=criterion or usual_criterion(self.solver),
            sigma_max=sigma,
            seed=self._seed,
            progress=progress,
            points=points,
        )


def _points(law: Target, data: LawLike | None) -> Empirical:
    """The points to diffuse."""
    if data is not None:
        found = load_target(data, device=law.device, dtype=law.dtype)
    else:
        found = law.drawn_from
    if found is None:
        raise ValueError(f"{law.name} has no data of its own: give data, the points to diffuse")
    if not isinstance(found, Empirical):
        kind = "a network" if found.learned else "a law"
        raise ValueError(f"{found.name} is {kind}, and what is diffused are points: give data, an array or a file")
    found = cast(Empirical, in_order(found, law.event_shape, law.name))
    if not law.learned:
        warn_of_scales(found.sample(ROWS, 0), law.sample(ROWS, 0), found.name, law.name)
    return found.to(law.device, law.dtype)


def _check_schedule(
    schedule: Schedule | str | None, steps: int | None, solver: str | None, law: Target
) -> tuple[int, str, Schedule | str | None]:
    """The number of steps, the sampler, and the schedule or criterion."""
    if not isinstance(schedule, Schedule):
        if schedule is not None and schedule not in CRITERIA:
            raise ValueError(f"no criterion {schedule!r}: it is one of {', '.join(CRITERIA)}")
        find_solver("dpmpp-2m" if solver is None else solver)
        return whole_number(10 if steps is None else steps, "steps", 1, 10_000), solver or "dpmpp-2m", schedule
    check_made_for(schedule, law.name, steps)
    if solver is not None and solver != schedule.solver:
        raise ValueError(f"the schedule was made for {schedule.solver}, not for {solver!r}: leave solver out")
    return schedule.steps, schedule.solver, schedule


def _check_handover(handover: str | float, schedule: Schedule | str | None, law: Target) -> Handover | None:
    """The handover, where it is known."""
    first = 1 / schedule.sigmas[0] if isinstance(schedule, Schedule) else None
    if handover == "auto":
        if first is None:
            return None
        snr, reason = first, "where the schedule starts"
    else:
        snr, reason = math.nan if isinstance(handover, str | bool) else float(handover), "as given"
        if not 0 < snr < math.inf:
            raise ValueError(f'handover must be "auto" or an SNR, positive and finite, got {handover!r}')
        if first is not None and not math.isclose(snr, first):
            raise ValueError(f"the schedule starts at SNR {first:g}, not at {snr:g}: leave handover out")
    low, high = law.snr_range
    if known_snr(snr, low, high) is None:
        raise ValueError(f"{law.name} was trained for SNRs from {low:.4g} to {high:.4g}: a handover at {snr:g} is none")
    return Handover(within(snr, law), reason)


def _check_assignment(assignment: Any) -> Literal["transport", "random", "monge-ampere"] | Map:
    if assignment == "transport" or assignment == "random" or assignment == "monge-ampere":
        return assignment
    if isinstance(assignment, str):
        names = '"transport", "random", "monge-ampere"'
        raise ValueError(f"no assignment {assignment!r}: it is {names} or a map, a function of points")
    found: Any = getattr(assignment, "map", assignment)
    if not callable(found):
        raise TypeError(f"assignment must be a name, a function or have a method map, got {type(assignment).__name__}")
    return cast(Map, found)
