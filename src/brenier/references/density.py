"""The law of what a stochastic sampler puts out, by density: explicit laws on the line, nothing drawn at random.

A stochastic step is a Gaussian kernel, x' ~ N(m, s^2). Where m depends on x alone (euler-maruyama, each Langevin step),
the density of x is carried from level to level,

    q'(x') = int q(x) N(x'; m(x), s^2) dx,

and where m remembers the step before as well (dpmpp-2m-sde), the joint density of the last two points is. The means are
those of `steps` itself. Integrands are analytic and vanish at both ends, so that the trapezoidal rule converges faster
than any power once its spacing resolves the kernels; `resolution` divides the spacing, for whoever wants to see that.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from brenier.core.checks import Array
from brenier.laws.base import Target
from brenier.sampling.steps import LANGEVIN, SOLVERS, Memory, SolverName, find_solver, langevin_size

_SPACING = 0.55  # of nodes, in units of the narrowest feature: an error of exp(-2 pi^2/0.75^2) = 6e-16
_WINDOW = 8.5  # half-width of a kernel that is summed, in standard deviations
_LAST_WINDOW = 37.0  # of the last kernel: no density that a divergence needs is 0
_TAIL = 30.0  # -log of the mass beyond the last nodes
_TRIMMED = 1e-19  # density, relative to its peak, below which nodes are dropped
_SEEN = 1e-8  # density, relative to its peak, of the places whose features have to be resolved
_MASS = 1e-5  # error of the total mass above which the result is refused
_MOST = 2**27  # nodes of a joint density


@dataclass(frozen=True)
class OutputDensity:
    """What a sampler puts out, beside the law that it aims at.

    Attributes:
        x: evenly spaced points, shape (n,), in the unit of the data.
        density: of the sampler's output there, shape (n,).
        exact: density of X + sigma Z there, sigma the last noise level, shape (n,).
    """

    x: Array
    density: Array
    exact: Array

    @property
    def kl(self) -> float:
        """KL(law of X + sigma Z || law of the output), in nats."""
        return self._divergence(self.exact, self.density)

    @property
    def reverse_kl(self) -> float:
        """KL(law of the output || law of X + sigma Z), in nats."""
        return self._divergence(self.density, self.exact)

    def _divergence(self, p: Array, q: Array) -> float:
        """int p log(p/q) - p + q: every term is positive, and small divergences keep their digits."""
        p, q = p[p > 0], q[p > 0]
        small = np.clip(np.minimum(q, 2 * p) / p - 1, -1e-4, 1e-4)
        with np.errstate(divide="ignore"):
            terms = np.where(abs(small) < 1e-4, p * (small**2 / 2 - small**3 / 3), q - p + p * (np.log(p) - np.log(q)))
        return float(terms.sum() * (self.x[1] - self.x[0]))


def output_kl(
    law: Target, sigmas: Sequence[float], solver: SolverName = "dpmpp-2m-sde", from_normal: bool = False
) -> float:
    """KL(law of X + sigma Z || law of the sampler's output) in nats, sigma = sigmas[-1]; see `output_density`."""
    return output_density(law, sigmas, solver, from_normal).kl


def output_density(
    law: Target,
    sigmas: Sequence[float],
    solver: SolverName = "dpmpp-2m-sde",
    from_normal: bool = False,
    resolution: float = 1.0,
) -> OutputDensity:
    """Density of a stochastic sampler's output, for an explicit law on the line.

    Args:
        law: with `distribution` and `log_density`.
        sigmas: noise levels, descending, the last one positive: at 0 a law with atoms has no density.
        solver: "euler-maruyama", "dpmpp-2m-sde" or "annealed-langevin".
        from_normal: start from N(E X, Var X + sigmas[0]^2) instead of the exact law of X + sigmas[0] Z. The exact
            start, the default, leaves the steps as the only source of error.
        resolution: nodes, as a multiple of what is taken to be enough.

    Raises:
        ValueError: a deterministic solver, levels that do not descend to a positive one, a law without a density, or
            one whose features are too narrow to resolve.
        RuntimeError: mass was lost on the way.
    """
    if not find_solver(solver).stochastic:
        stochastic = ", ".join(name for name, found in SOLVERS.items() if found.stochastic)
        raise ValueError(f"{solver} draws no noise, its output has no density by kernels: take one of {stochastic}")
    if len(sigmas) < 2 or not all(0 < after < before < math.inf for before, after in pairwise(sigmas)):
        raise ValueError(f"sigmas must be at least two levels that descend to a positive one, got {list(sigmas)}")
    if law.dim != 1 or law.breakpoints(1 / sigmas[-1]) is None:
        raise ValueError(f"{law.name} is no explicit law on the line: only there are densities known")
    return _carry(law.to(dtype=torch.float64, device="cpu"), list(sigmas), solver, from_normal, resolution)


@dataclass(frozen=True)
class LinearStep:
    """x' = from_x x + from_clean D(x; sigma) + from_past D_before + noise z: what every stochastic step here is.

    Attributes:
        sigma: noise level at which D is taken.
        after: the level stepped to.
        from_x: coefficient of x.
        from_clean: coefficient of the denoised x.
        from_past: coefficient of D at the start of the step before.
        noise: deviation of the noise.
    """

    sigma: float
    after: float
    from_x: float
    from_clean: float
    from_past: float
    noise: float


def linear_steps(solver: SolverName, sigmas: Sequence[float]) -> Iterator[LinearStep]:
    """The steps of a stochastic sampler as coefficients, read off the step function itself by stepping unit vectors."""
    x, clean, past, noise = torch.eye(4, dtype=torch.float64)[:, :, None]
    before = math.inf
    for sigma, after in pairwise(sigmas):
        if solver == "annealed-langevin":
            size = langevin_size(sigma / after)
            for _ in range(LANGEVIN):
                yield LinearStep(after, after, 1 - size, size, 0.0, math.sqrt(2 * size) * after)
        else:
            memory = Memory(lambda like: noise, () if before == math.inf else ((before, past),))
            yield LinearStep(
                sigma, after, *find_solver(solver).step(lambda *_: clean, x, sigma, after, memory)[:, 0].tolist()
            )
        before = sigma


def _carry(law: Target, sigmas: list[float], solver: SolverName, from_normal: bool, resolution: float) -> OutputDensity:
    steps = list(linear_steps(solver, sigmas))
    low, high = _reach(law, sigmas[0])
    x = _nodes(low, high, _scale(law, sigmas[0], sigmas[0], steps), resolution)
    density = _exact(law, x, sigmas[0])
    if from_normal:
        mean = (density @ x) / density.sum()
        variance = (density @ (x - mean) ** 2) / density.sum()
        density = torch.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    at, past, mass = torch.arange(len(x)), torch.zeros_like(x), density * (x[1] - x[0])  # of every pair of points
    for k, step in enumerate(steps):
        final = k == len(steps) - 1
        clean = law.denoise(x[:, None] / step.sigma, 1 / step.sigma)[:, 0]
        at, past, mass = (part[mass > 0] for part in (at, past, mass))
        mean = step.from_x * x[at] + step.from_clean * clean[at] + step.from_past * past
        aim = _reach(law, sigmas[-1]) if final else (math.inf, -math.inf)
        low = min(float(mean.min()) - _WINDOW * step.noise, aim[0])
        high = max(float(mean.max()) + _WINDOW * step.noise, aim[1])
        after = _nodes(low, high, _scale(law, step.after, step.noise, steps[k + 1 :]), resolution)
        remembers = not final and steps[k + 1].from_past != 0
        row = at if remembers else torch.zeros_like(at)
        at, row, pairs = _convolve(mean, mass, step.noise, after, row, _LAST_WINDOW if final else _WINDOW)
        density = torch.zeros_like(after).index_add_(0, at, pairs)
        # The past that has no share in the peak has none in what follows.
        kept = (density[at] > _TRIMMED * density.max()) & (pairs > _TRIMMED * pairs.max())
        at, past, mass = at[kept], (clean if remembers else torch.zeros_like(x))[row[kept]], pairs[kept]
        x, mass = after, mass * (after[1] - after[0])
    total = float(density.sum() * (x[1] - x[0]))
    if not abs(total - 1) < _MASS:
        raise RuntimeError(f"the density of {solver} on {law.name} has the mass {total!r}: it must be 1")
    return OutputDensity(x.numpy(), density.numpy() / total, _exact(law, x, sigmas[-1]).numpy())


def _convolve(
    mean: Tensor, mass: Tensor, noise: float, nodes: Tensor, row: Tensor, window: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Density of masses that are spread by a normal law, separately for every row: index of node, row, density.

    Only the stretch of nodes that a row's masses reach is kept.
    """
    spacing = float(nodes[1] - nodes[0])
    nearest = torch.round((mean - nodes[0]) / spacing).long()
    reach = math.ceil(window * noise / spacing)
    count = int(row.max()) + 1
    first = torch.full((count,), len(nodes)).scatter_reduce(0, row, nearest, "amin") - reach
    last = torch.zeros(count, dtype=torch.long).scatter_reduce(0, row, nearest, "amax") + reach
    width = int((last - first).max()) + 1
    if count * width > _MOST:
        raise ValueError(f"a joint density at {count} x {width} points is too large: its features are too narrow")
    out = nodes.new_zeros(count * width)
    base = row * width - first[row]
    for shift in range(-reach, reach + 1):
        place = nearest + shift
        z = (nodes[place.clamp(0, len(nodes) - 1)] - mean) / noise  # of what lies outside, nothing is kept
        out.index_add_(0, base + place, mass * torch.exp(-(z**2) / 2))
    there = out.nonzero()[:, 0]
    row = there // width
    at = first[row] + there % width
    inside = (at >= 0) & (at < len(nodes))
    return at[inside], row[inside], out[there[inside]] / (noise * math.sqrt(2 * math.pi))


def _scale(law: Target, sigma: float, width: float, steps: Sequence[LinearStep]) -> float:
    """The narrowest feature, at level `sigma`, of a density smooth on `width` and of the next kernels in x."""
    points = law.breakpoints(1 / sigma)
    assert points is not None  # checked by `output_density`
    points = sigma * points.double()
    share = torch.linspace(0, 1, 9, dtype=torch.float64)[:-1, None]
    x = (points[:-1] + share * points.diff()).T.flatten()
    density = _exact(law, x, sigma)
    features = [1 / width, 1 / sigma]
    if steps:
        seen = x[density > _SEEN * density.max(), None] / steps[0].sigma
        slope = law.localize(seen, 1 / steps[0].sigma).norm
        features.append(float((steps[0].from_x + steps[0].from_clean * slope).abs().max()) / steps[0].noise)
        if len(steps) > 1:
            features.append(abs(steps[1].from_past) * float(slope.max()) / steps[1].noise)
    return 1 / math.hypot(*features)


def _reach(law: Target, sigma: float) -> tuple[float, float]:
    """Points that leave a mass of exp(-_TAIL) of X + sigma Z out on either side."""
    points = law.breakpoints(1 / sigma)
    assert points is not None  # checked by `output_density`
    ends: list[float] = []
    for tail in ("log_cdf", "log_sf"):
        low, high = (sigma * points[[0, -1]]).double()
        for _ in range(40):
            middle = (low + high) / 2
            laws = law.distribution(middle, torch.ones_like(middle), torch.full_like(middle, sigma))
            outside = bool(getattr(laws, tail) < -_TAIL)
            low, high = (middle, high) if outside == (tail == "log_cdf") else (low, middle)
        ends.append(float(low))
    return ends[0], ends[1]


def _nodes(low: float, high: float, scale: float, resolution: float) -> Tensor:
    count = math.ceil((high - low) / (_SPACING * scale) * resolution) + 1
    return torch.linspace(low, high, count, dtype=torch.float64)


def _exact(law: Target, x: Tensor, sigma: float) -> Tensor:
    return law.log_density(x[:, None] / sigma, 1 / sigma).exp() / sigma
