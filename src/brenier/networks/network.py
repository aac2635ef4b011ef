"""A trained network as a law: its denoiser, and its localization through the denoiser's Jacobian.

For a perfect denoiser D(x; sigma) = E[X | X + sigma Z = x], at sigma = 1/r,

    Cov[rX | Y_r = r x] = dD/dx,

so ||dD/dx||_op is the localization ([LDK24] Proposition 3). For a trained one it is the localization that the network
has learned; how far it is from being one of any law, its asymmetry and `brenier.calibrate` tell.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from brenier.core.blocks import cluster
from brenier.core.checks import whole_number
from brenier.core.points import Numbers
from brenier.core.random import seeds
from brenier.laws.alike import in_order
from brenier.laws.base import Localization, Target, of_points
from brenier.laws.given import as_law
from brenier.networks.conditions import Conditions
from brenier.networks.conventions import (
    NoiseScale,
    Prediction,
    TimeArgument,
    check_prediction,
    check_range,
    describe,
    edm_coefficients,
    known_snr,
    noise_scale,
    posterior_mean,
)
from brenier.networks.drawing import drawn_by_chain
from brenier.networks.jacobian import DENSE, PROBES, Jacobian, dense_jacobian, from_dense, from_products
from brenier.networks.placing import Network, check_dtype, parameters, placed, shape_of, uncompiled
from brenier.networks.suitability import check_rows, warn_of_data
from brenier.networks.tasks import Tasks

KNOWN = ("norm", "trace", "norm_error", "symmetric", "asymmetry", "trace_se")  # of a localization, beside its mean
PASSES = 8192  # through the network, back, that the default queries at one SNR take, up to `DENSE` dimensions
BLEND = 0.5  # share of randomness in the start of a bidiagonalisation that follows one at another SNR


class NetworkTarget(Target):
    """The law that a denoising network has learned, as far as its posterior means go.

    Args:
        network: a module or a callable, (x (n, *event_shape), t (n,), **condition) -> prediction (n, *event_shape). It
            is put into evaluation mode; every row has to be predicted from itself alone.
        data: what queries are drawn from: a law; or points, as an array, list or tensor. Default: queries are drawn by
            running the chain with the network.
        prediction: what it returns: "x0", "epsilon", "v", "score" or "velocity" (see `conventions.posterior_mean`), or
            "edm", the raw network inside EDM's preconditioning (needs `sigma_data`).
        time: what t is, and with it what x is: "sigma", "log-sigma" or "edm" (X + sigma Z), "ou", "ddpm" (needs
            `alpha_bars`) or "flow" (see `conventions`).
        event_shape: shape of one point. Default: that of the data.
        alpha_bars: alpha-bar at steps 0, 1, ... of a DDPM chain.
        beta: inverse temperature of the Ornstein-Uhlenbeck process, for time "ou".
        sigma_data: EDM's standard deviation of the data, for prediction "edm".
        scale: another way to count noise, in place of `time`.
        snr_range: SNRs that the network was trained for, from low to high. Default: all that its scale covers.
        origin: d numbers that are subtracted from points before the network sees them, and added to what it returns: of
            data that lie far from zero. Default: 0.
        condition: further arguments of the network: numbers, arrays or tensors whose first axis counts conditions. One
            is for all points; of m, condition i modulo m is for point i, and queries are drawn by the chain.
        unconditional: the same without a condition, for guidance.
        guidance: weight w of classifier-free guidance, see `conditions`.
        name: what to call the law in results.
        tolerance: relative error at which an operator norm is done, above `jacobian.DENSE` dimensions.
        batch: points per call of the network. Default: as many Jacobians as 2^24 numbers hold, at most 2^14; 16 where
            they are not formed.
        dtype: of the points and the network, torch.float32 or torch.float64; a network in another dtype is copied.
            Default: that of the network's parameters, float32 where they are narrower or it has none; float64 with an
            origin.
        device: where to compute. Default: where the parameters are, the CPU where it has none.

    Raises:
        ValueError: the arguments contradict each other, or the network does not take or return points of this shape, or
            is not differentiable. The message says what would be right.

    Warns:
        UserWarning: the network denoises the data worse than no network would, see `networks.suitability`; or it was
            compiled, and the original is taken.
    """

    def __init__(
        self,
        network: Network,
        data: Target | Numbers | None = None,
        *,
        prediction: Prediction = "x0",
        time: TimeArgument = "sigma",
        event_shape: Sequence[int] | None = None,
        alpha_bars: ArrayLike | Tensor | None = None,
        beta: float = 1.0,
        sigma_data: float | None = None,
        scale: NoiseScale | None = None,
        snr_range: tuple[float, float] | None = None,
        origin: ArrayLike | Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
        unconditional: Mapping[str, Any] | None = None,
        guidance: float = 1.0,
        name: str = "network",
        tolerance: float = 0.02,
        batch: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.scale = noise_scale(time, alpha_bars, beta) if scale is None else scale
        check_prediction(prediction, self.scale)
        if (prediction == "edm") != (sigma_data is not None):
            raise ValueError('sigma_data goes with prediction="edm", the raw network of EDM: give both or neither')
        if sigma_data is not None and not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive and finite, got {sigma_data}")
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance must lie in (0, 1), got {tolerance}")
        if not callable(network):
            raise TypeError(f"the network must be callable as network(x, t), got {type(network).__name__}")
        first = next((p for p in parameters(network) if p.is_floating_point()), None)
        wide = origin is not None or (first is not None and first.dtype == torch.float64)
        self.dtype = check_dtype(dtype or (torch.float64 if wide else torch.float32))
        self.device = torch.device(device or ("cpu" if first is None else first.device))
        network = uncompiled(network)
        if isinstance(network, nn.Module):
            network = placed(network, self.device, self.dtype).eval()
        self.network, self.sigma_data, self.tasks = network, sigma_data, Tasks(network)
        self.prediction: Prediction = prediction
        self.convention = describe(prediction, self.scale, sigma_data)
        self.conditions = Conditions.of(condition, unconditional, guidance)
        self.name = f"{name} ({self.conditions.name})" if self.conditions.name else name
        self._tolerance = tolerance
        self._snr_range = check_range(snr_range, self.scale)
        law = None if data is None else self._drawn(data)
        self.event_shape = shape_of(event_shape, law)
        self.data = None if law is None else in_order(law, self.event_shape, name)
        self._origin = torch.zeros(self.dim, dtype=torch.float64, device=self.device)
        if origin is not None:
            self._origin = torch.as_tensor(origin, dtype=torch.float64, device=self.device).reshape(self.dim)
        self._batch = None if batch is None else whole_number(batch, "batch", 1)
        self._check_network()
        self._look_at_data()

    @property
    def batch(self) -> int:
        """Points per call of the network."""
        return self._batch or (min(2**24 // self.dim**2, 2**14) if self.dim <= DENSE else 16)

    @property
    def snr_range(self) -> tuple[float, float]:
        """The SNRs, from low to high, that the network was trained for."""
        return self._snr_range

    @property
    def learned(self) -> bool:
        """True: posteriors are the network's."""
        return True

    @property
    def period(self) -> int:
        """The number of its conditions, see `conditions`."""
        return self.conditions.count

    @property
    def asked_classes(self) -> Int[Tensor, " m"] | None:
        """Its condition `class_labels`, where it has one of whole numbers."""
        return self.conditions.classes

    @property
    def guided(self) -> bool:
        """Whether its denoiser is guided, and so the posterior mean of no law."""
        return self.conditions.guided

    @property
    def tolerance(self) -> float:
        """Relative error at which an operator norm is done, above `jacobian.DENSE` dimensions."""
        return self._tolerance

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The one that it was made with."""
        return self._origin

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by, with its data."""
        other = copy.copy(self)
        other._origin = self._origin + by.to(self.device)
        other.data = None if self.data is None else self.data.moved(by)
        return other

    @property
    def drawn_from(self) -> Target | None:
        """The data that `sample` draws from; None without data: points are made by running the chain."""
        return self.data

    @property
    def default_queries(self) -> int:
        """Queries per SNR that `probe` takes: fewer where each costs more passes, one per dimension up to `DENSE`."""
        return min(2048, max(64, PASSES // self.dim))

    def with_data(self, data: Target | Numbers | None) -> Self:
        """The same network, with queries drawn from other data; None: by running the chain."""
        other = copy.copy(self)
        law = None if data is None else self._drawn(data)
        other.data = None if law is None else in_order(law, self.event_shape, self.name)
        other._look_at_data()
        return other

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy of the network and its data, on another device or in another dtype."""
        dtype, device = check_dtype(dtype or self.dtype), torch.device(device or self.device)
        if device == self.device and dtype == self.dtype:
            return self
        other = copy.copy(self)
        if isinstance(self.network, nn.Module):
            other.network = placed(self.network, device, dtype)
        other.tasks = Tasks(other.network)
        other.dtype, other.device, other._origin = dtype, device, self._origin.to(device)
        other.data = None if self.data is None else self.data.to(device, dtype)
        other._check_network()
        return other

    def scales(self) -> tuple[float, float]:
        """The data's lengths, where there are data, as far as the network's noise levels resolve them.

        Without data, lengths whose `default_snrs` are the SNRs that the network covers.
        """
        low, high = self.snr_range
        smallest, largest = (0.0, math.inf) if self.data is None else self.data.scales()
        smallest = max(smallest, 10 / high)
        largest = min(largest, 0.1 / low if low > 0 else math.inf)
        if not 0 < smallest <= 100 * largest < math.inf:
            raise ValueError(
                f"which noise levels {self.name} knows is not known: give data or snr_range"
                if self.data is None
                else f"{self.name} covers SNRs from {low:g} to {high:g}, which resolve nothing of {self.data.name}"
            )
        return smallest, largest

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw points: of the data where there are data, else by the chain (see `drawing`)."""
        if self.data is not None:
            return self.data.sample(n, seed).to(self.dtype)
        return drawn_by_chain(self, n, seed, self.batch if cluster.active() is None else max(n, self.batch))

    @torch.no_grad()
    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """The network's posterior mean at y, in the unit of the data."""
        y, snr = self._known(y, snr)
        asked = [(y[rows], snr, int(rows[0])) for rows in self.tasks.cut(len(y))]
        return self._check_finite(torch.cat(self.tasks.each(self, "_denoise", asked)), snr)

    @torch.no_grad()
    def _denoise(self, y: Float[Tensor, "n d"], snr: float, first: int = 0) -> Float[Tensor, "n d"]:
        blocks = torch.arange(len(y)).split(self.batch)
        return torch.cat([self._scaled_mean(y[rows], snr, first + int(rows[0])) for rows in blocks]) / snr

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Posterior mean and localization by the network's Jacobian at y ([LDK24] Definition 4)."""
        found = self.jacobian(y, snr, spectrum=False)
        return Localization(mean=found.mean, **{name: getattr(found, name) for name in KNOWN})

    def localize_path(
        self,
        x: Float[Tensor, "n d"],
        z: Float[Tensor, "n d"],
        snrs: Sequence[float],
        advance: Callable[[float], None] = lambda share: None,
    ) -> Localization:
        """Localize y = r x + z for each r in `snrs`, each norm starting from the direction found at the one before."""
        parts = self.tasks.cut(len(x), 1 if self.dim <= DENSE else self.batch)
        if len(parts) == 1:
            return self._localize_path(x, z, snrs, 0, advance)
        asked = [(x[rows], z[rows], snrs, int(rows[0])) for rows in parts]
        found = self.tasks.each(self, "_localize_path", asked, advance)
        known: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in found], 1) for name in KNOWN}
        return Localization(**known)

    def _localize_path(
        self, x: Tensor, z: Tensor, snrs: Sequence[float], first: int, advance: Callable[[float], None] | None = None
    ) -> Localization:
        """The same of some rows of all, counted from `first`."""
        found: dict[str, Any] = {name: x.new_zeros(len(snrs), len(x)) for name in KNOWN}
        for rows in torch.arange(len(x)).split(self.batch):
            direction: Tensor | None = None
            start = first + int(rows[0])
            for k, snr in enumerate(snrs):
                there = self._jacobian(snr * x[rows] + z[rows], snr, (0, start), direction, False, start)
                direction = there.direction
                for name, values in found.items():
                    values[k, rows] = getattr(there, name)
                if advance is not None:
                    advance(len(rows) / len(x) / len(snrs))
        return Localization(**found)

    @of_points
    def jacobian(self, y: Float[Tensor, "n d"], snr: float, seed: int = 0, spectrum: bool = True) -> Jacobian:
        """The Jacobian dD/dx of the denoiser at x = y/r: norm, trace, symmetry and spectrum.

        Args:
            y: noisy points r x + z.
            snr: r.
            seed: of the random signs behind estimates, above `jacobian.DENSE` dimensions.
            spectrum: whether to find the share of negative eigenvalues, too; it costs about as much as the rest.

        Raises:
            ValueError: the SNR is outside the network's range, or the network's output is not finite.
        """
        y, snr = self._known(y, snr)
        rows = torch.arange(len(y)).split(self.batch)
        asked = [(y[part], snr, (seed, i), None, spectrum, i * self.batch) for i, part in enumerate(rows)]
        parts = self.tasks.each(self, "_jacobian", asked)
        columns = [[getattr(part, name) for part in parts] for name in Jacobian.__dataclass_fields__]
        return Jacobian(*(None if column[0] is None else torch.cat(column) for column in columns))  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def _jacobian(
        self, y: Tensor, snr: float, seed: tuple[int, int], direction: Tensor | None, spectrum: bool, first: int
    ) -> Jacobian:
        y, snr = self._known(y, snr)
        generator = _generator(*seed)

        def scaled_mean(points: Tensor) -> Tensor:
            return self._scaled_mean(points, snr, first)

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            linear = torch.func.vjp(scaled_mean, y)
            mean = self._check_finite(linear[0] / snr, snr)

            def reverse(u: Tensor) -> Tensor:
                return self._check_finite(linear[1](u)[0], snr, "has a Jacobian with")

            if self.dim <= DENSE:
                return from_dense(mean, dense_jacobian(y, reverse), spectrum)
            # J v as the derivative of u -> J^T u: forward mode lacks kernels that networks use (norms, attention).
            bilinear = torch.func.vjp(
                lambda u: torch.func.vjp(lambda points: self._scaled_mean(points, snr, first), y)[1](u)[0],
                torch.zeros_like(y),
            )

            def forward(v: Tensor) -> Tensor:
                return self._check_finite(bilinear[1](v)[0], snr, "has a Jacobian with")

            start = torch.randn(y.shape, generator=generator).to(y)
            if direction is not None:
                start = direction + BLEND / math.sqrt(self.dim) * start
            signs = (2 * torch.randint(2, (PROBES, *y.shape), generator=generator) - 1).to(y)
            return from_products(mean, forward, reverse, start, signs, self.tolerance, spectrum)

    def _scaled_mean(self, y: Float[Tensor, "n d"], snr: float, first: int) -> Float[Tensor, "n d"]:
        """r E[X | Y_r = y] by the network: its Jacobian in y is that of the denoiser in x = y/r.

        Rows are counted from `first`, as conditions go by them.
        """
        alpha, sigma, t = self.scale.level(snr)
        away = (snr * self._origin).to(y)
        x = sigma * (y - away)
        if self.prediction == "edm":
            assert self.sigma_data is not None  # checked when the target was made
            skip, out, into = edm_coefficients(sigma, self.sigma_data)
            return snr * (skip * x + out * self._call(into * x, t, first)) + away
        return snr * posterior_mean(self.prediction, self._call(x, t, first), x, alpha, sigma) + away

    def _call(self, x: Float[Tensor, "n d"], t: float, first: int = 0) -> Float[Tensor, "n d"]:
        """What the network returns, flattened."""
        points, times = x.reshape(len(x), *self.event_shape), x.new_full((len(x),), t)
        output: object = self.conditions.ask(self.network, points, times, first)
        if not isinstance(output, Tensor):
            raise TypeError(f"{self.name} returned {type(output).__name__}: it must return a tensor")
        if output.shape != (len(x), *self.event_shape):
            raise ValueError(
                f"{self.name} returned shape {tuple(output.shape)}, it must be that of its input, "
                f"{(len(x), *self.event_shape)}"
            )
        return output.flatten(1)

    def _drawn(self, data: Target | Numbers) -> Target:
        """What queries are drawn from."""
        law = as_law(data, self.dtype, self.device)
        if law.learned:
            raise ValueError(f"{law.name} is a network itself: give data or a law to draw queries from")
        if self.period > 1:
            raise ValueError(
                f"{self.name} has {self.period} conditions, and data are of one: give one, or leave data out"
            )
        return law

    def _check_network(self) -> None:
        """Refuse what does not take points of this shape, row by row and differentiably."""
        low, high = self.snr_range
        snr = math.sqrt(max(low, min(1e-3, high)) * min(high, max(1e3, low)))
        _, _, t = self.scale.level(snr)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn((2, self.dim), generator=generator).to(self.device, self.dtype).requires_grad_()
        check_rows(lambda points: self._call(points, t), x, self.name, self.event_shape, self.conditions.name)

    def _look_at_data(self) -> None:
        """Warn where the data cannot be what the network was trained on."""
        if self.data is not None and not self.guided:
            warn_of_data(self._denoise, self.data, self.snr_range, self.name)

    def _known(self, y: Tensor, snr: float) -> tuple[Tensor, float]:
        """Points and SNR; the same x = y/r at the end of the range, where that was missed by rounding only."""
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        if len(y) == 0:
            raise ValueError("no queries: give at least one point")
        low, high = self.snr_range
        known = known_snr(snr, low, high)
        if known is None:
            raise ValueError(
                f"the SNR {snr:g} is not one that {self.name} was trained for: it must lie between {low:.4g} and "
                f"{high:.4g}"
            )
        return (y, snr) if known == snr else (y * (known / snr), known)

    def _check_finite(self, values: Tensor, snr: float, what: str = "returned") -> Tensor:
        bad = ~torch.isfinite(values).all(1)
        if bool(bad.any()):
            raise ValueError(
                f"{self.name} {what} NaN or infinite values at SNR {snr:g}, for {int(bad.sum())} of {len(bad)} points"
            )
        return values


def _generator(seed: int, part: int) -> torch.Generator:
    """Of the random directions at one block of queries: another stream than any that the queries come from."""
    return torch.Generator().manual_seed(seeds(seed, part, 0x1AC0B)[0])
