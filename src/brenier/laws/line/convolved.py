"""A law on the line seen through Gaussian noise: integrals of its density against a kernel in t = r u - y.

    density of Y_r   int p(u) phi(t) du          its moments in t are those of the posterior of r u - y
    distribution     int p(u) Phi(-t) du         of Y_r = r U + Z, and the same with Phi(t) for the upper tail

Sums over Gauss-Legendre nodes. Which panels of the law matter to a place y is told from bounds in logarithms. A panel
that is narrow beside the noise is summed over its own nodes; of a wide one the part around the place of it that is
nearest to y, in pieces within which kernel and density are both smooth. All terms are positive: small variances keep
their relative accuracy.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from numpy.polynomial import legendre
from torch import Tensor

from brenier.laws.line.panels import GAUSS, NODES, ORDER, VARIATION, Panels

_NATS = 40.0  # what is that much smaller than the largest part is left out
_NARROW = 2.5  # deviations of the noise that a panel's own nodes resolve
_STEEP = 16.0  # nats by which the kernel may fall over a panel that is summed over its own nodes
_FULL = 8.5  # Phi of it is 1
_CLEAR = 1e-6  # the last coefficients of log p on a panel, which has digits to tell a power by
_FINE, _FINE_GAUSS = legendre.leggauss(32)  # enough for a Gaussian from its peak to e^-50 of it
_BLOCK = 2**17  # places x panels at once: what the caches hold
_ROWS = 2**14  # of values of a series
_ALIKE = 512  # places whose panels are looked for together
_LOG_PEAK = -math.log(2 * math.pi) / 2


class Moments(NamedTuple):
    """The posterior of t = r u - y, and the density behind it.

    Attributes:
        log_density: log of the density of r U + Z at y.
        mean: of t.
        variance: of t, that is of r U.
    """

    log_density: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]
    variance: Float[Tensor, " n"]


class Convolved:
    """Panels as tensors, and integrals of their law against kernels.

    Args:
        panels: of the law, normalised.
        device: where to compute.
    """

    def __init__(self, panels: Panels, device: torch.device | str = "cpu") -> None:
        def tensor(values: object) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float64, device=device)

        self.left, self.right = tensor(panels.left), tensor(panels.right)
        self.coefficients, self.log_mass = tensor(panels.coefficients), tensor(panels.log_mass)
        self.goes_on = panels.goes_on
        self._nodes, self._log_gauss = tensor(NODES), tensor(GAUSS).log()
        self._fine, self._log_fine = tensor(_FINE), tensor(_FINE_GAUSS).log()
        self._middle, self._half = (self.left + self.right) / 2, (self.right - self.left) / 2
        self._u = self._middle[:, None] + self._half[:, None] * self._nodes
        every = torch.arange(len(self.left), device=self.left.device)
        self._values = self._series(every, self._nodes.expand(len(every), ORDER))
        self._weighted = self._values + self._log_gauss + self._half[:, None].log()
        slack = self._values.amax(1) - self._values.amin(1)
        self._highest, self._lowest = self._values.amax(1) + slack / 8, self._values.amin(1) - slack / 8
        self._from_left = torch.cat([tensor([-math.inf]), self.log_mass.logcumsumexp(0)])
        self._from_right = torch.cat([self.log_mass.flip(0).logcumsumexp(0).flip(0), tensor([-math.inf])])

    def moments(self, y: Float[Tensor, " n"], r: Float[Tensor, " n"]) -> Moments:
        """Density of r U + Z at y, and mean and variance of the posterior of t = r U - y.

        NaN where the posterior lies on the last panel of a law that goes on beyond it: the density has not been
        followed there.
        """
        if not len(y):
            return Moments(y, y, y)
        order = (y / r).argsort(stable=True)
        blocks = [(y[rows], r[rows]) for rows in order.split(_ALIKE)]
        parts = [self._moments(*block, self._at_hand(*block)) for block in blocks]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return Moments(*(torch.cat(part)[place] for part in zip(*parts, strict=True)))

    def log_tails(
        self, y: Float[Tensor, " n"], r: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """log P(r U + Z <= y) and log P(r U + Z > y): the smaller one by quadrature, the other from it."""
        left = self.log_tail_clean(y / r, upper=False) < -math.log(2)
        small = torch.empty_like(y)
        for side, sign in ((left, 1.0), (~left, -1.0)):
            parts = [self._log_tail(*block, sign) for block in self._blocks(y[side], r[side])]
            small[side] = torch.cat(parts)
        large = torch.log1p(-small.exp().clamp_max(1 - 1e-16))
        return torch.where(left, small, large), torch.where(left, large, small)

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        """n independent points of the law, by rejection within panels."""
        like: dict[str, Any] = {"generator": generator, "dtype": torch.float64, "device": self.left.device}
        share = self._from_left[1:].exp()
        panel = torch.searchsorted(share, share[-1] * torch.rand(n, **like)).clamp_max(len(share) - 1)
        u = torch.empty(n, dtype=torch.float64, device=self.left.device)
        waiting = torch.arange(n, device=self.left.device)
        while len(waiting):
            mine = panel[waiting]
            place = 2 * torch.rand(len(waiting), **like) - 1
            height = self._series(mine, place[:, None])[:, 0] - self._highest[mine]
            taken = torch.rand(len(waiting), **like) < height.exp()
            u[waiting[taken]] = (self._middle[mine] + self._half[mine] * place)[taken]
            waiting = waiting[~taken]
        return u

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Of the law itself, where they are finite."""
        mass = self._weighted.exp()
        mean = (mass * self._u).sum() / mass.sum()
        return mean, (mass * (self._u - mean).square()).sum() / mass.sum()

    def powers(self) -> tuple[float, float]:
        """d log p/d log|u| on the first and on the last panel; -inf on narrow ones, which a power does not need.

        Those on which a function has lost its digits, far out, are passed over, and those beyond them: where it has
        none left it is a constant, as clear as any.
        """
        powers: list[float] = []
        clear = torch.nn.functional.pad(self.coefficients[:, -3:].abs().amax(1) < _CLEAR, (1, 1), value=True)
        left, right = ((clear[1:-1] & inner).nonzero()[:, 0].tolist() for inner in (clear[2:], clear[:-2]))
        for panel, near, away in ((min(left, default=0), -1, 0), (max(right, default=-1), 0, -1)):
            u, values = self._u[panel], self._values[panel]
            ratio = float(u[away] / u[near])
            powers.append(float(values[away] - values[near]) / math.log(ratio) if ratio > 1.05 else -math.inf)
        return powers[0], powers[1]

    def log_tail_clean(self, u: Float[Tensor, " n"], *, upper: bool) -> Float[Tensor, " n"]:
        """log P(U <= u), or of > u."""
        return torch.cat([self._clean(block, upper) for block in u.split(_BLOCK // 16)])

    def log_density_clean(self, u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """log p(u), -inf outside the panels; differentiable."""
        panel = (torch.searchsorted(self.left, u.detach(), right=True) - 1).clamp_min(0)
        place = (u - self._middle[panel]) / self._half[panel]
        inside = (u >= self.left[panel]) & (u <= self.right[panel])
        return torch.where(inside, self._series(panel, place.clamp(-1, 1)[:, None])[:, 0], -math.inf)

    def _blocks(self, y: Tensor, r: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = max(1, _BLOCK // len(self.left))
        return list(zip(y.split(size), r.split(size), strict=True))

    def _series(self, panel: Int[Tensor, " n"], place: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """log p on panels, at places in [-1, 1]: Clenshaw's recurrence."""
        rows = max(1, _ROWS // max(place.shape[1], 1))
        parts: list[Tensor] = []
        for c, x in zip(self.coefficients[panel].split(rows), place.split(rows), strict=True):
            after, here = torch.zeros_like(x), torch.zeros_like(x)
            for k in range(ORDER - 1, -1, -1):
                rest = torch.add(c[:, k, None], after, alpha=-(k + 1) / (k + 2))
                here, after = rest.addcmul_(x, here, value=(2 * k + 1) / (k + 1)), here
            parts.append(here)
        return torch.cat(parts)

    def _at_hand(self, y: Float[Tensor, " n"], r: Float[Tensor, " n"]) -> Int[Tensor, " p"]:
        """Panels that may matter to one of the places: by the bounds of `_moments`, over all places at once."""
        edges = torch.stack([r.min(), r.max()])[:, None] * torch.stack([self.left, self.right])[:, None]
        nearest = torch.maximum(edges[0].amin(0) - y.max(), y.min() - edges[1].amax(0)).clamp_min(0)
        farthest = torch.maximum(edges[0].amax(0) - y.min(), y.max() - edges[1].amin(0)).clamp_min(0)
        least, most = 2 * r.min() * self._half, 2 * r.max() * self._half
        upper = self._highest + most.clamp_max(2.6).log() - nearest.square() / 2
        within = torch.minimum(least, 1 / (1 + farthest))
        lower = self._lowest + within.log() - (farthest + most.clamp_max(1)).square() / 2
        return (upper >= lower.max() - _NATS).nonzero()[:, 0]

    def _moments(
        self, y: Float[Tensor, " n"], r: Float[Tensor, " n"], among: Int[Tensor, " p"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
        low, high = r[:, None] * self.left[among] - y[:, None], r[:, None] * self.right[among] - y[:, None]
        distance = torch.maximum(low, -high).clamp_min(0)
        width = 2 * r[:, None] * self._half[among]  # which `high - low` may be too coarse for
        upper = self._highest[among] + width.clamp_max(2.6).log() - distance.square() / 2
        within = torch.minimum(width, 1 / (1 + distance))
        lower = self._lowest[among] + within.log() - (distance + within).square() / 2
        best = lower.amax(1)
        owner, panel = (upper > best[:, None] - _NATS).nonzero(as_tuple=True)
        wide = _coarse(width[owner, panel], distance[owner, panel])
        column, panel = panel, among[panel]

        o, p = owner[~wide], panel[~wide]
        half, middle = r[o] * self._half[p], r[o] * self._middle[p] - y[o]
        t = middle[:, None] + half[:, None] * self._nodes
        near = (o, p, middle, half, _sums(self._weighted[p] + (r.log() - best)[o, None] - t.square() / 2, self._nodes))
        o, p = owner[wide], panel[wide]
        ends = _cut(low[o, column[wide]], high[o, column[wide]], None)
        middle, half, t, log_weight = self._in_pieces(o, p, ends, y, r)
        o, p = (part.repeat_interleave(ends.shape[1] - 1) for part in (o, p))
        far = (o, p, middle, half, _sums(log_weight - best[o, None] - t.square() / 2, self._fine))
        owner, panel, middle, half, sums = (torch.cat(pair) for pair in zip(near, far, strict=True))

        mass = sums[:, 0]
        there = mass > 0
        place = torch.where(there, sums[:, 1] / mass, 0.0)
        mean = middle + half * place
        spread = half.square() * torch.where(there, sums[:, 2] / mass - place.square(), 0.0)
        whole = torch.zeros_like(y).index_add(0, owner, mass)
        centre = torch.zeros_like(y).index_add(0, owner, mass * mean) / whole
        variance = torch.zeros_like(y).index_add(0, owner, mass * (spread + (mean - centre[owner]).square())) / whole
        unknown = torch.zeros_like(y).index_add(0, owner, mass * self._last_panel(panel)) / whole > 1e-9
        log_density = best + whole.log() + _LOG_PEAK - r.log()
        return tuple(torch.where(unknown, math.nan, v) for v in (log_density, centre, variance))  # pyright: ignore[reportReturnType]

    def _last_panel(self, panel: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        """1 where a panel is the last of a law that goes on beyond it."""
        left, right = self.goes_on
        return ((panel == 0) & left | (panel == len(self.left) - 1) & right).double()

    def _in_pieces(
        self,
        owner: Int[Tensor, " m"],
        panel: Int[Tensor, " m"],
        ends: Float[Tensor, "m e"],
        y: Float[Tensor, " n"],
        r: Float[Tensor, " n"],
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"], Float[Tensor, "k f"], Float[Tensor, "k f"]]:
        """Pieces between ends in t: middle, half length, nodes, and logs of their weights times the density."""
        half = (ends[:, 1:] - ends[:, :-1]) / 2
        middle = (ends[:, 1:] + ends[:, :-1]) / 2
        t = middle[..., None] + half[..., None] * self._fine
        centre = r[owner] * self._middle[panel] - y[owner]
        place = (t.flatten(1) - centre[:, None]) / (r[owner] * self._half[panel])[:, None]
        values = self._series(panel, place.clamp(-1, 1)).view_as(t)
        log_weight = half.log()[..., None] + self._log_fine + values
        return middle.flatten(), half.flatten(), t.flatten(0, 1), log_weight.flatten(0, 1)

    def _log_tail(self, y: Float[Tensor, " n"], r: Float[Tensor, " n"], sign: float) -> Float[Tensor, " n"]:
        """log P(r U + Z <= y) for sign 1, of > y for -1."""
        low, high = r[:, None] * self.left - y[:, None], r[:, None] * self.right - y[:, None]
        log_mass = self.log_mass
        # In s = sign * t the kernel is Phi(-s); panels with s below -_FULL count in full.
        near = low if sign > 0 else -high
        end = high if sign > 0 else -low
        full = end <= -_FULL
        width = 2 * r[:, None] * self._half
        bound = self._highest + width.log() - near.clamp_min(0).square() / 2
        least = torch.where(full, log_mass, self._lowest + width.clamp_max(1.0).log() + _log_phi(near + 1))
        keep = ~full & (bound > least.amax(1, keepdim=True) - _NATS)
        sure = torch.where(full, log_mass, -math.inf).logsumexp(1) - 0.0
        owner, panel = keep.nonzero(as_tuple=True)
        wide = _coarse(width[owner, panel], near.clamp_min(0)[owner, panel])

        def summed(owner: Tensor, s: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
            return owner, (log_weight + _log_phi(s)).logsumexp(1)

        o, p = owner[~wide], panel[~wide]
        s = sign * (r[o, None] * self._u[p] - y[o, None])
        parts = [summed(o, s, self._weighted[p] + r[o, None].log())]
        o, p = owner[wide], panel[wide]
        ends = _cut(near[o, p], end[o, p], _FULL)
        _, _, t, log_weight = self._in_pieces(o, p, sign * ends if sign > 0 else (-ends).flip(1), y, r)
        parts.append(summed(o.repeat_interleave(ends.shape[1] - 1), sign * t, log_weight))
        owner, log_part = (torch.cat(pair) for pair in zip(*parts, strict=True))
        log_part = log_part - r[owner].log()
        total = sure.scatter_reduce(0, owner, log_part, "amax")
        floor = torch.where(total == -math.inf, 0.0, total)
        whole = (sure - floor).exp().index_add(0, owner, (log_part - floor[owner]).exp())
        return (floor + whole.log()).clamp_max(0.0)

    def _clean(self, u: Float[Tensor, " n"], upper: bool) -> Float[Tensor, " n"]:
        panel = (torch.searchsorted(self.left, u, right=True) - 1).clamp_min(0)
        ends = (u, self.right[panel]) if upper else (self.left[panel], u)
        half = (ends[1] - ends[0]).clamp_min(0) / 2
        half = torch.minimum(half, self._half[panel])
        middle = ends[1] - half if upper else ends[0] + half
        place = (middle - self._middle[panel])[:, None] + half[:, None] * self._nodes
        values = self._series(panel, (place / self._half[panel, None]).clamp(-1, 1))
        part = (values + self._log_gauss).logsumexp(1) + half.log()
        rest = self._from_right[panel + 1] if upper else self._from_left[panel]
        before = u < self.left[0]
        if upper:
            return torch.where(before, 0.0, torch.logaddexp(rest, part).clamp_max(0.0))
        return torch.where(before, -math.inf, torch.logaddexp(rest, part).clamp_max(0.0))


def _sums(log_mass: Float[Tensor, "m k"], nodes: Float[Tensor, " k"]) -> Float[Tensor, "m 3"]:
    """Mass, and its first two moments in the coordinate of the nodes."""
    return log_mass.exp() @ torch.stack([torch.ones_like(nodes), nodes, nodes.square()], 1)


def _coarse(width: Float[Tensor, " m"], distance: Float[Tensor, " m"]) -> Bool[Tensor, " m"]:
    """Whether a panel's own nodes are too few for the kernel, which falls with the square of the distance."""
    return (width > _NARROW) | (width * distance > _STEEP)


def _log_phi(s: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    return torch.special.log_ndtr(-s)


def _cut(low: Float[Tensor, " m"], high: Float[Tensor, " m"], full: float | None) -> Float[Tensor, "m e"]:
    """Ends of pieces of panels from `low` to `high` in t, around the place nearest to 0.

    Pieces reach as far as a Gaussian times a density that changes by `VARIATION` can matter. With `full`, below -full
    the kernel is constant, and all the rest of the panel there is one piece.
    """
    nearest = torch.zeros_like(low).clamp(low, high)
    away = nearest.abs()
    nats = _NATS + VARIATION
    reach = 2 * nats / (away + (away.square() + 2 * nats).sqrt())
    after = torch.minimum(nearest + reach, high)
    before = torch.maximum(nearest - (reach if full is None else (full + nearest).clamp_min(0)), low)
    ends = [before, nearest, after]
    return torch.stack(ends if full is None else [low, *ends], 1)
