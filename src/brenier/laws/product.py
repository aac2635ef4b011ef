"""Products of laws: independent blocks of coordinates, whose posteriors are independent, too.

With X = (X_1, ..., X_m) independent and noise of independent coordinates, p(x | y) = prod_k p(x_k | y_k): the mean is
that of every block, and Cov[rX | y] is block diagonal. Its norm is the largest of the blocks', its trace their sum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.points import Numbers
from brenier.core.random import seeds
from brenier.laws.base import Localization, Target
from brenier.laws.given import as_law
from brenier.laws.line.families import Frozen
from brenier.laws.parameters import check_snr

_STREAM = 0x9B0D


class Product(Target):
    """The law of independent blocks, one after another. The same object in several places is computed at once.

    Args:
        laws: of the blocks, explicit ones: laws, or frozen distributions of scipy.stats. `[law] * 100` are 100
            independent copies.
        name: what to call the law in results. Default: the names of the blocks.

    Raises:
        ValueError: no law, or one that is learned or made of data.
    """

    def __init__(self, laws: Sequence[Target | Numbers | Frozen], *, name: str | None = None) -> None:
        given = {id(law): as_law(law) for law in laws}
        factors = [given[id(law)] for law in laws]
        if not factors:
            raise ValueError("a product needs at least one law")
        for law in given.values():
            if law.atoms or law.learned:
                what = f"made of {law.atoms:,} points" if law.atoms else "a network"
                instead = "fit_mixture(data).law, or join the columns of the data" if law.atoms else "an explicit law"
                raise ValueError(f"a product is of explicit laws, and {law.name} is {what}: give {instead}")
        self.device = factors[0].device
        self.dtype = max((law.dtype for law in factors), key=lambda dtype: torch.finfo(dtype).bits)
        moved = {key: law.to(self.device, self.dtype) for key, law in given.items()}
        self._hold([moved[id(law)] for law in laws])
        self.event_shape = (sum(law.dim for law in factors),)
        self.name = name or _named([law.name for law in factors])

    def _hold(self, factors: Sequence[Target]) -> None:
        self.factors = tuple(factors)
        first, blocks = 0, dict[int, tuple[Target, list[Tensor]]]()
        for law in factors:
            blocks.setdefault(id(law), (law, []))[1].append(torch.arange(first, first + law.dim, device=self.device))
            first += law.dim
        self._blocks = [(law, torch.stack(columns)) for law, columns in blocks.values()]

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Draw n independent points."""
        x = torch.empty((n, self.dim), dtype=self.dtype, device=self.device)
        for (law, columns), own in zip(self._blocks, seeds(seed, _STREAM, count=len(self._blocks)), strict=True):
            x[:, columns] = law.sample(n * len(columns), own).view(n, *columns.shape)
        return x

    def denoise(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """Posterior mean E[X | Y_r = y]."""
        return self._each(y, snr, lambda law, rows: law.denoise(rows, snr))

    def score(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, "n d"]:
        """grad log p(y) of Y_r."""
        return self._each(y, snr, lambda law, rows: law.score(rows, snr))

    def localize(self, y: Float[Tensor, "n d"], snr: float) -> Localization:
        """Norm and trace of Cov[rX | Y_r = y], and E[X | Y_r = y]."""
        mean = torch.empty((len(y), self.dim), dtype=self.dtype, device=self.device)
        norms: list[Tensor] = []
        traces: list[Tensor] = []
        errors: list[Tensor] = []
        for law, columns, rows in self._rows(y, snr):
            found = law.localize(rows, snr)
            norm, trace = (part.view(len(y), -1) for part in (found.norm, found.trace))
            assert found.mean is not None  # `localize` tells it, `localize_path` does not
            mean[:, columns] = found.mean.view(len(y), *columns.shape)
            norms.append(norm.amax(1))
            traces.append(trace.sum(1))
            if found.norm_error is not None:
                errors.append(found.norm_error.view(len(y), -1).amax(1))
        return Localization(
            norm=torch.stack(norms).amax(0),
            trace=torch.stack(traces).sum(0),
            mean=mean,
            norm_error=torch.stack(errors).amax(0) if errors else None,
        )

    def log_density(self, y: Float[Tensor, "n d"], snr: float) -> Float[Tensor, " n"]:
        """log p of Y_r at y."""
        parts = [law.log_density(rows, snr).view(len(y), -1).sum(1) for law, _, rows in self._rows(y, snr)]
        return torch.stack(parts).sum(0)

    def density(self) -> Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]] | None:
        """Log density of X itself, differentiable by autograd; None where a block has none."""
        known = [(law.density(), columns) for law, columns in self._blocks]
        parts = [(density, columns) for density, columns in known if density is not None]
        if len(parts) < len(known):
            return None

        def log_density(x: Tensor) -> Tensor:
            values = [density(x[:, columns].flatten(0, 1)).view(len(x), -1).sum(1) for density, columns in parts]
            return torch.stack(values).sum(0)

        return log_density

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance, where every block has them."""
        mean = torch.empty(self.dim, dtype=self.dtype, device=self.device)
        covariance = torch.zeros((self.dim, self.dim), dtype=self.dtype, device=self.device)
        for law, columns in self._blocks:
            mean[columns], own = law.moments()
            covariance[columns[:, :, None], columns[:, None]] = own
        return mean, covariance

    def scales(self) -> tuple[float, float]:
        """The smallest and the largest length in any block."""
        smallest, largest = zip(*(law.scales() for law, _ in self._blocks), strict=True)
        return min(smallest), max(largest)

    @property
    def square_integrable(self) -> bool:
        """Whether E |X|^2 is finite."""
        return all(law.square_integrable for law, _ in self._blocks)

    @property
    def snr_range(self) -> tuple[float, float]:
        """The SNRs between which posteriors of all blocks can be had."""
        low, high = zip(*(law.snr_range for law, _ in self._blocks), strict=True)
        return max(low), min(high)

    @property
    def tolerance(self) -> float:
        """Relative error allowed in operator norms."""
        return max(law.tolerance for law, _ in self._blocks)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same law, on another device or in another dtype."""
        other = copy.copy(self)
        other.device, other.dtype = torch.device(device or self.device), dtype or self.dtype
        moved = {id(law): law.to(device, dtype) for law, _ in self._blocks}
        other._hold([moved[id(law)] for law in self.factors])
        return other

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """The origins of the blocks."""
        origin = torch.empty(self.dim, dtype=torch.float64, device=self.device)
        for law, columns in self._blocks:
            origin[columns] = law.origin.to(origin)
        return origin

    def moved(self, by: Float[Tensor, " d"]) -> Self:
        """The law of X + by."""
        if bool((by == 0).all()):
            return self
        by = by.to(self.device)
        return self.mapped(lambda law, part: law.moved(part), by)

    def mapped(self, change: Callable[[Target, Tensor], Target], values: Float[Tensor, " d *c"]) -> Self:
        """The product of what `change` makes of each block and its coordinates of `values`; equal ones stay one."""
        made: dict[tuple[int, bytes], Target] = {}
        factors: list[Target] = []
        first = 0
        for law in self.factors:
            part = values[first : first + law.dim]
            first += law.dim
            key = id(law), part.cpu().numpy().tobytes()
            if key not in made:
                made[key] = change(law, part)
            factors.append(made[key])
        other = copy.copy(self)
        other._hold(factors)
        return other

    def _each(
        self, y: Float[Tensor, "n d"], snr: float, find: Callable[[Target, Tensor], Tensor]
    ) -> Float[Tensor, "n d"]:
        found = torch.empty((len(y), self.dim), dtype=self.dtype, device=self.device)
        for law, columns, rows in self._rows(y, snr):
            found[:, columns] = find(law, rows).view(len(y), *columns.shape)
        return found

    def _rows(self, y: Float[Tensor, "n d"], snr: float) -> Iterator[tuple[Target, Int[Tensor, "m e"], Tensor]]:
        """Each law, its coordinates, and what of y is its own, one row for each copy."""
        check_snr(snr)
        if y.ndim != 2 or y.shape[1] != self.dim:
            raise ValueError(f"noisy points must have shape (n, {self.dim}), got {tuple(y.shape)}")
        y = y.to(self.device, self.dtype)
        for law, columns in self._blocks:
            yield law, columns, y[:, columns].flatten(0, 1)


def _named(names: Sequence[str]) -> str:
    """The names of the blocks, equal neighbours as a power."""
    parts: list[tuple[str, int]] = []
    for name in names:
        if parts and parts[-1][0] == name:
            parts[-1] = name, parts[-1][1] + 1
        else:
            parts.append((name, 1))
    words = [f"({name})^{count}" if count > 1 else name for name, count in parts]
    return " x ".join(words) if len(words) <= 4 else f"{' x '.join(words[:3])} x ... ({len(names)} factors)"
