"""What every law can do: be sampled, be denoised, be localized.

A law of X is observed through Gaussian noise at a signal-to-noise ratio r,

    Y_r = r X + Z,    Z ~ N(0, I_d),

(r = alpha/sigma in x = alpha X + sigma Z; diffusers' `compute_snr` is its square, see `brenier.scales`), and everything
that brenier computes stands on the posterior of X given Y_r = y: its mean (the denoiser), the operator norm of
Cov[r X | Y_r = y] (the localization, [LDK24] Definition 4) and the trace of the same matrix.
"""

from __future__ import annotations

import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.checks import check_memory
from brenier.core.points import Numbers, arrays_too, as_tensor
from brenier.laws.components import Components
from brenier.laws.course import Course
from brenier.laws.flow import Velocity

FAR = 512.0  # lengths from zero beyond which a law is moved there: float32 rounds by 3e-5 of a length at this distance
CROWDED = 1e-4  # of the mean distance between neighbours, what a dtype may round


class Screened(NamedTuple):
    """What of data in blocks was not read, and may not be.

    Attributes:
        dropped: the largest share of a posterior's mass that the blocks left out may have, by proof.
        read: share of all (SNR, query, block) whose sums were made.
    """

    dropped: float
    read: float


@dataclass(frozen=True)
class Localization:
    """The posterior of X at n noisy points, as far as the localization needs it.

    Every shape has a leading axis over SNRs when it comes from `Target.localize_path`.

    Attributes:
        norm: ||Cov[rX | Y_r = y]||_op, shape (n,), no unit.
        trace: tr Cov[rX | Y_r = y], shape (n,), no unit.
        mean: E[X | Y_r = y], shape (n, d), in the unit of the data; None where it was not asked for.
        ess: effective sample size 1 / sum w^2 of the posterior weights, shape (n,); None for a law without atoms.
        norm_error: bound on the relative error of `norm`, shape (n,); None where the norm is exact to rounding.
        symmetric: for a network, largest eigenvalue of the symmetric part of its Jacobian, shape (n,).
        asymmetry: for a network, ||J - J^T||_F/||J||_F of its Jacobian, shape (n,).
        trace_se: standard error of `trace`, shape (n,), where it is estimated.
        screened: of data in blocks, what was left out.
    """

    norm: Float[Tensor, "*snr n"]
    trace: Float[Tensor, "*snr n"]
    mean: Float[Tensor, "*snr n d"] | None = None
    ess: Float[Tensor, "*snr n"] | None = None
    norm_error: Float[Tensor, "*snr n"] | None = None
    symmetric: Float[Tensor, "*snr n"] | None = None
    asymmetry: Float[Tensor, "*snr n"] | None = None
    trace_se: Float[Tensor, "*snr n"] | None = None
    screened: Screened | None = None


@dataclass(frozen=True)
class Distribution:
    """The distribution of a law on the line at given points, in logarithms: both tails keep their relative accuracy.

    Attributes:
        log_cdf: log P(X <= x), the shape of the points.
        log_sf: log P(X > x).
        log_density: log of the density, without the point masses of the law; in 1/unit of the data.
    """

    log_cdf: Float[Tensor, "*n"]
    log_sf: Float[Tensor, "*n"]
    log_density: Float[Tensor, "*n"]


def _read(law: Target, values: Numbers, name: str) -> Tensor:
    return as_tensor(values, name).to(law.device, law.dtype)


of_points, of_pairs = arrays_too(1, _read), arrays_too(2, _read)  # decorate methods of laws
_TAKE_POINTS = dict.fromkeys(("denoise", "score", "localize", "log_density"), of_points) | {"localize_path": of_pairs}


class Target(ABC):
    """A law on R^d. Points are rows: x and y have shape (n, d); images are flattened, `event_shape` remembers them.

    Points may be arrays or lists, too, and results are arrays then. A subclass need not care: it is handed tensors, in
    its own dtype and on its own device where what was given was none.

    A subclass sets `event_shape`, (d,) for points of d coordinates, defines `sample`, `denoise`, `localize` and
    `scales`, and need know nothing else: what else there is says what some laws can do besides. It may have a `name`,
    a `dtype` and a `device` of its own.
    """

    name: str = "law"
    event_shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    convention: str | None = None  # of a network: what it predicts from what, see `conventions.describe`
    course: Course | None = None  # of a network with a scheduler: how pipelines go with it, and so its plans
    swift: bool = False  # posteriors take few microseconds, as closed forms do: plans look further for the best grid

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, decorate in _TAKE_POINTS.items():
            if inspect.isfunction(method := vars(cls).get(name)):
                setattr(cls, name, decorate(method))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.event_shape))
        points = f"{self.atoms:,} points, " if self.atoms else ""
        return f"<{type(self).__name__} {self.name!r}: {points}{shape} dimension{'s' * (self.dim > 1)}>"

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(torch.Size(self.event_shape).numel())

    @property
    def default_queries(self) -> int:
        """Noisy points per SNR that a probe of this law takes unless told otherwise."""
        return 2048

    @property
    def snr_range(self) -> tuple[float, float]:
        """The SNRs, from low to high, between which posteriors can be had; a network knows those of its training."""
        return 0.0, math.inf

    @property
    def atoms(self) -> int:
        """How many points the law is made of; 0 for a law that is no set of points."""
        return 0

    @property
    def in_memory(self) -> bool:
        """Whether the law is there as a whole; False for data in blocks, which are read for every question."""
        return True

    @property
    def components(self) -> Components | None:
        """The Gaussian components that the law is a mixture of; None for a law that is no such mixture."""
        return None

    @property
    def learned(self) -> bool:
        """Whether posteriors are a network's: learned and not exact, and dear, at one pass or more for each point."""
        return False

    @property
    def dear(self) -> bool:
        """Whether posteriors take a tenth of a millisecond each and more: plans make do with the pilots asked for."""
        return self.learned

    @property
    def period(self) -> int:
        """How many laws rows belong to in turn: for a network with several conditions, row i goes with i modulo it."""
        return 1

    @property
    def asked_classes(self) -> Int[Tensor, " m"] | None:
        """The classes that rows belong to in turn, as the law counts them from 0; None where it is told none."""
        return None

    @property
    def guided(self) -> bool:
        """Whether what `denoise` returns is no posterior mean, but a network's under guidance."""
        return False

    @property
    def flow(self) -> Velocity | None:
        """The velocity of the flow from N(0, I) that the law is the end of, see `laws.flow`; None where it has none."""
        return None

    @property
    def square_integrable(self) -> bool:
        """Whether E |X|^2 is finite: of other laws no W2 statement holds, though the localization exists."""
        return True

    @property
    def tolerance(self) -> float:
        """Relative error allowed in operator norms; 0 where they are exact to rounding."""
        return 0.0

    @property
    def drawn_from(self) -> Target | None:
        """What `sample` draws from: this law, or a network's data; None where a network must run its own chain."""
        return self

    @abstractmethod
    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points of the law."""

    @abstractmethod
    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Posterior mean and localization at noisy points y = r x + z, r = `snr` ([LDK24] Definition 4)."""

    @abstractmethod
    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y], in the unit of the data ([LDK24] Proposition 2)."""

    @abstractmethod
    def scales(self) -> tuple[float, float]:
        """The smallest and largest length in the law, in the unit of the data: what an SNR grid has to resolve."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or in another dtype: a copy, with its tensors of real numbers there."""
        other = copy(self)
        other.device = self.device if device is None else torch.device(device)
        other.dtype = self.dtype if dtype is None else dtype
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, value.to(other.device, other.dtype if value.is_floating_point() else value.dtype))
        return other

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """Where the law lies, in float64, if that is `FAR` of its lengths from zero, where rounding would show; else 0.

        What is computed of a law that lies far away is computed of `moved(-origin)`.
        """
        return torch.zeros(self.dim, dtype=torch.float64, device=self.device)

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by.

        Raises:
            NotImplementedError: a law that cannot be moved, unless `by` is 0.
        """
        if bool((by == 0).all()):
            return self
        raise NotImplementedError(f"{self.name} cannot be moved")

    def within(self, max_memory: float) -> Self:
        """The same law, of which one call may take `max_memory` GiB: itself, where no call takes that much."""
        check_memory(max_memory)
        return self

    def arranged(self, order: Int[Tensor, " d"], event_shape: Sequence[int]) -> Self:
        """The same law with the coordinates of its points in another order, which makes this shape of them.

        Raises:
            ValueError: the law is no set of points.
        """
        shapes = f"{self.event_shape}: give it in {tuple(event_shape)}"
        raise ValueError(f"{self.name} is no set of points that could be rearranged, of shape {shapes}")

    def with_data(self, data: Target) -> Self:
        """The same law, with queries drawn from `data`: networks only.

        Raises:
            ValueError: the law is no network.
        """
        raise ValueError(f"data are what a network's queries are drawn from, and {self.name} is no network")

    @of_points
    def score(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Score of Y_r: grad log p(y) = r E[X | y] - y ([LDK24] Proposition 2, with Y scaled to unit noise)."""
        return snr * self.denoise(y, snr) - y

    @of_pairs
    def localize_path(
        self,
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        snrs: Sequence[float],
        advance: Callable[[float], None] = lambda share: None,
    ) -> Localization:
        """Localize y = r x + z for each r in `snrs` with x and z held fixed: common random numbers over the chain.

        Returns a `Localization` whose arrays have shape (SNRs, n) and whose `mean` is None. `advance` is told the share
        of the work done since it was last called. A law whose posteriors share work between SNRs overrides this.
        """
        path: list[Localization] = []
        for snr in snrs:
            path.append(self.localize(snr * x + z, snr))
            advance(1 / len(snrs))
        known: dict[str, Any] = {
            name: _stack([getattr(point, name) for point in path]) for name in ("norm", "trace", "ess", "norm_error")
        }
        return Localization(**known)

    def breakpoints(self, snr: float) -> Float[Tensor, " m"] | None:
        """Sorted points that enclose the mass of Y_r and separate its features: explicit 1-D laws only, else None."""
        return None

    @of_points
    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y, for laws that have it in closed form.

        Raises:
            NotImplementedError: where the law has no explicit density.
        """
        raise NotImplementedError(f"{self.name} has no explicit density")

    def norm_and_log_density(
        self, y: Float[Tensor, "n d"], snr: float
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """||Cov[rX | Y_r = y]||_op and log p of Y_r at y; a law that has both from one sum overrides this."""
        return self.localize(y, snr).norm, self.log_density(y, snr)

    def point_masses(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
        """Places and probabilities of the law's point masses; for laws with atoms or an explicit distribution only."""
        none = torch.zeros((0, self.dim), dtype=self.dtype, device=self.device)
        return none, none[:, 0]

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]] | None:
        """Log density of X itself, differentiable by autograd; None for a law that has no smooth one."""
        return None

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance of X, for laws that have them in closed form.

        Raises:
            NotImplementedError: where the law has no explicit moments.
        """
        raise NotImplementedError(f"{self.name} has no explicit moments")

    def distribution(
        self, x: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], sigma: Float[Tensor, "*n"]
    ) -> Distribution:
        """Distribution of alpha X + sigma Z at x, element by element: explicit 1-D laws only.

        `sigma` may be 0: then the law has its point masses, which `log_cdf` counts from their own place on.

        Raises:
            NotImplementedError: where the law has no explicit distribution on the line.
        """
        raise NotImplementedError(f"{self.name} has no explicit distribution on the line")


def far(centre: Float[Tensor, "*n"], length: float) -> bool:
    """Whether places lie far from zero beside a length."""
    return float(centre.abs().max()) > FAR * length


def crowded(count: int, dim: int) -> bool:
    """Whether float32 rounds what lies between neighbours of so many points of unit spread."""
    return count ** (1 / dim) * torch.finfo(torch.float32).eps > CROWDED


def resolving(
    dtype: torch.dtype, places: Float[Tensor, "*n"], length: float, name: str, *, asked: bool = True
) -> torch.dtype:
    """The dtype, or float64 where it rounds places by more than a thousandth of a length.

    Warns:
        UserWarning: it was asked for.
    """
    largest = float(places.abs().max())
    rounding = torch.finfo(dtype).eps * largest
    if dtype == torch.float64 or rounding <= length / 1000 or largest > torch.finfo(dtype).max:  # which is refused
        return dtype
    if asked:
        what = str(dtype).removeprefix("torch.")
        message = f"{name}: {what} resolves places to {rounding:.1g}, the law's smallest length is {length:.1g}"
        warnings.warn(f"{message}: float64 is used", UserWarning, stacklevel=3)
    return torch.float64


def _stack(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.stack(present) if len(present) == len(parts) else None
