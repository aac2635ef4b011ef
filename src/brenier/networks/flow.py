"""A flow that a network has learned: from N(0, I) at t = 0 to the law of its data at t = 1.

Flow matching (arXiv:2210.02747) finds v with  min E|v((1 - t) Z + t X, t) - (X - Z)|^2  for noise Z and data X. Where
the two are independent, v(x, t) = E[X - Z | x] names a posterior mean, and the flow is a network like any other: see
`conventions`, time "flow". Where they were coupled (arXiv:2302.00482), so that paths become straighter, the flow still
carries noise to data; but v is a mean under the coupling, E[X | x] no posterior mean, and who asks for one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from brenier.core.checks import whole_number
from brenier.core.points import Numbers
from brenier.core.random import generator_for, normal_like
from brenier.laws.base import Target, of_points
from brenier.laws.flow import STEPS, Velocity, check_times, even_times, follow
from brenier.networks.jacobian import DENSE, PROBES, Jacobian, dense_jacobian, from_dense, from_products
from brenier.networks.network import NetworkTarget
from brenier.networks.placing import Network


class FlowTarget(NetworkTarget):
    """The law that a flow from N(0, I) ends in.

    Its `sample` draws from the data where there are data, else it runs the flow, by 32 steps of the midpoint rule;
    `brenier.sample` runs it by any number of steps of any solver that `brenier.laws.flow` has.

    Args:
        network: a module or a callable, (x (n, *event_shape), t (n,)) -> velocity (n, *event_shape), with noise at
            t = 0 and data at t = 1; as in `NetworkTarget` otherwise, and so are all other arguments.
        data: what queries are drawn from, where its pairs were independent.
        coupled: whether noise and data were coupled in training: then it is no denoiser, and can be sampled only.
        event_shape: shape of one point. Default: that of the data.
        condition, unconditional, guidance: further arguments of the network, as for `NetworkTarget`.
        snr_range: SNRs t/(1 - t) that it answers for as a denoiser. Default: all.
        origin: d numbers around which the data lie, if far from zero.
        name: what to call the law in results.
        batch: points per call of the network.
        dtype: torch.float32 or torch.float64.
        device: where to compute.

    Raises:
        ValueError, TypeError: as `NetworkTarget`.
    """

    def __init__(
        self,
        network: Network,
        data: Target | Numbers | None = None,
        *,
        coupled: bool = True,
        event_shape: Sequence[int] | None = None,
        condition: Mapping[str, Any] | None = None,
        unconditional: Mapping[str, Any] | None = None,
        guidance: float = 1.0,
        snr_range: tuple[float, float] | None = None,
        origin: ArrayLike | Tensor | None = None,
        name: str = "flow",
        batch: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if not callable(network):
            raise TypeError(f"the network must be callable as network(x, t), got {type(network).__name__}")
        self.coupled = coupled
        super().__init__(
            _Backwards(network),
            data,
            prediction="velocity",
            time="flow",
            event_shape=event_shape,
            condition=condition,
            unconditional=unconditional,
            guidance=guidance,
            snr_range=snr_range,
            origin=origin,
            name=name,
            batch=batch,
            dtype=dtype,
            device=device,
        )

    @property
    def flow(self) -> Velocity:
        """Its velocity."""
        return self.velocity

    @of_points
    @torch.no_grad()
    def velocity(self, x: Float[Tensor, "n d"], t: float) -> Float[Tensor, "n d"]:
        """v(x, t), in the unit of the data, at t from 0 to 1.

        Raises:
            ValueError: points of another shape, or what the network returns is not finite.
        """
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"points must have shape (n, {self.dim}), got {tuple(x.shape)}")
        asked = [(x[rows], t, int(rows[0])) for rows in self.tasks.cut(len(x))] if len(x) else []
        found = torch.cat(self.tasks.each(self, "_velocities", asked) or [x])
        bad = ~torch.isfinite(found).all(1)
        if bool(bad.any()):
            raise ValueError(f"{self.name} returned NaN or infinite values at t = {t:g}, for {int(bad.sum())} points")
        return found

    @torch.no_grad()
    def _velocities(self, x: Float[Tensor, "n d"], t: float, first: int) -> Float[Tensor, "n d"]:
        parts = enumerate(x.split(self.batch))
        return torch.cat([self._velocity(part, t, first + k * self.batch) for k, part in parts])

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw points: of the data where there are data, else by running the flow."""
        if self.data is not None:
            return super().sample(n, seed)
        like = torch.zeros(whole_number(n, "n", 0), self.dim, dtype=self.dtype, device=self.device)
        x = normal_like(like, generator_for(seed, 0xF10))
        return self.end(x, even_times(STEPS), "midpoint")

    @of_points
    def end(self, x: Float[Tensor, "n d"], times: Iterable[float], solver: str = "euler") -> Float[Tensor, "n d"]:
        """Where the flow carries x, from the first of the times to the last, shape (n, d)."""
        *_, last = follow(self.velocity, x, check_times(times), solver)
        return last

    @of_points
    def end_jacobian(
        self, x: Float[Tensor, "n d"], times: Iterable[float] | None = None, solver: str = "midpoint", seed: int = 0
    ) -> Jacobian:
        """The Jacobian dx_1/dx of the point where the flow ends in that where it begins: norm, trace, symmetry.

        Args:
            x: where it begins, at the first of the times, shape (n, d).
            times: from 0 to 1. Default: 32 even steps.
            solver: euler, heun or midpoint.
            seed: of the random signs behind estimates, above `jacobian.DENSE` dimensions.

        Returns:
            A `Jacobian` whose `mean` is the end point.
        """
        grid = even_times(STEPS) if times is None else check_times(times)
        parts = [
            self._end_jacobian(part, grid, solver, generator_for(seed, k), k * self.batch)
            for k, part in enumerate(self._split(x))
        ]
        columns: list[list[Any]] = [[getattr(part, name) for part in parts] for name in Jacobian.__dataclass_fields__]
        return Jacobian(*(torch.cat(column) for column in columns))

    def scales(self) -> tuple[float, float]:
        """As those of a network, where pairs were independent."""
        self.check_denoiser()
        return super().scales()

    def _end_jacobian(
        self, x: Tensor, times: Sequence[float], solver: str, generator: torch.Generator, first: int
    ) -> Jacobian:
        def end(points: Tensor) -> Tensor:
            *_, last = follow(lambda at, t: self._velocity(at, t, first), points, times, solver)
            return last

        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            linear = torch.func.vjp(end, x)
            value = linear[0]

            def reverse(u: Tensor) -> Tensor:
                return linear[1](u)[0]

            if self.dim <= DENSE:
                return from_dense(value, dense_jacobian(x, reverse), True)
            # J v as the derivative of u -> J^T u, as for denoisers.
            bilinear = torch.func.vjp(lambda u: torch.func.vjp(end, x)[1](u)[0], torch.zeros_like(x))[1]
            start = torch.randn(x.shape, generator=generator).to(x)
            signs = (2 * torch.randint(2, (PROBES, *x.shape), generator=generator) - 1).to(x)
            return from_products(value, lambda v: bilinear(v)[0], reverse, start, signs, self.tolerance, True)

    def _velocity(self, x: Tensor, t: float, first: int) -> Tensor:
        """Of the flow to data around the origin: its path from noise to them goes by t times the origin.

        Rows are counted from `first`, as conditions go by them.
        """
        away = self._origin.to(x)
        return away - self._call(x - t * away, 1 - t, first)

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        if x.ndim != 2 or x.shape[1] != self.dim or len(x) == 0:
            raise ValueError(f"points must have shape (n, {self.dim}), n >= 1, got {tuple(x.shape)}")
        return x.split(self.batch)

    def check_denoiser(self) -> None:
        """Refuse what takes the velocity for a posterior mean.

        Raises:
            ValueError: pairs were coupled.
        """
        if self.coupled:
            raise ValueError(
                f"{self.name} is a flow whose noise was coupled to its data: its velocity is no posterior mean, and "
                "nothing can be told or planned by it; sample it by euler, heun or midpoint, or train one with "
                "independent pairs"
            )

    def _known(self, y: Tensor, snr: float) -> tuple[Tensor, float]:
        self.check_denoiser()
        return super()._known(y, snr)

    def _look_at_data(self) -> None:
        if not self.coupled:
            super()._look_at_data()


class _Backwards(nn.Module):
    """The same network as conventions have flows: told s = 1 - t, and returning noise less data."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, s: Tensor, **condition: Any) -> Tensor:
        return -self.network(x, 1 - s, **condition)
