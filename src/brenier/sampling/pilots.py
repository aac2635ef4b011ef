"""Pilots: exact trajectories of the probability flow, and how an error made on the way shows at the end.

Along a trajectory x(sigma) of dx/dlog sigma = x - D a small error e obeys de/dlog sigma = (I - J) e, J = dD/dx: the
posterior covariance over sigma^2, i.e. the localization as a matrix. To first order the end error of a sampler is the
sum over its steps of (local error) x (amplification to the end),

    e_N = sum_i Phi_i+1 l_i,    Phi_i the solution of that equation from sigma_i to the end,

l_i being what step i makes of the exact x_i (with the exact D before it, for a multistep method), less the exact x_i+1.
A method that corrects its steps evaluates D where its predictor went: that adds J times the predictor's local error.
No Phi is formed. For random v with E v v^T = I, a_i = Phi_i^T v solves the adjoint equation, one product with J per
level, and E <v, e_N>^2 = E |e_N|^2 where

    <v, e_N> = sum_i <a_i+1, l_i>.

With x = D + sigma eps, l_i is a combination of D and eps at a few levels: tables of <a, D> and <a, eps> over
pairs of levels predict the error of any grid and sampler without another evaluation of the denoiser, in any dimension
at the same cost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from brenier.core.checks import Array
from brenier.core.random import seeds
from brenier.laws.base import Target
from brenier.sampling.driver import integrate
from brenier.sampling.multistep import Multistep
from brenier.sampling.steps import SolverName, find_solver

Place: TypeAlias = tuple[NDArray[np.int64], Array]

HERE, AFTER, BEYOND = 3, 4, 5  # columns of the levels around a step: three before it, its own two, and the next
AXES = 2  # dimensions up to which every axis is a probe v, and nothing is left to chance
PROBES = 16  # per pilot, where they cost nothing
TAIL = 9  # levels from the last one of a grid's to the floor
NUDGE = {torch.float64: 1e-4, torch.float32: 1e-2}  # length of a difference quotient in units of sigma


@dataclass(frozen=True)
class Pilots:
    """Pilot trajectories at levels equally spaced in log sigma, reduced to products with their adjoints.

    A table is over (level of a, level of D or eps, probe and pilot).

    Attributes:
        sigmas: descending, at least four.
        start: x at sigmas[0], in the law's dtype.
        end: where the trajectories end: x at the last level, or for grids that end at 0 further down.
        to_zero: whether grids end at 0.
        denoised: <a, D>.
        noise: <a, eps>.
        pulled_denoised: <J^T a, D>.
        pulled_noise: <J^T a, eps>.
        last: <v, D - end>, over (level, probe and pilot).
        probes: v, times the root of n weights, so that means over them are weighted.
        weights: of each pilot, in float64; they add up to one.
        evaluations: of the denoiser, of single points.
    """

    sigmas: tuple[float, ...]
    start: Float[Tensor, "n d"]
    end: Float[Tensor, "n d"]
    to_zero: bool
    denoised: Array
    noise: Array
    pulled_denoised: Array
    pulled_noise: Array
    last: Array
    probes: Float[Tensor, "probes n d"]
    weights: Float[Tensor, " n"]
    evaluations: int

    def contributions(self, sigmas: Sequence[float] | Array, solver: SolverName) -> Array:
        """What each step of a grid adds to the end error: <a_i+1, l_i>, shape (steps, probes x pilots).

        In the unit of the data. Squared, summed over steps before and over probes after, and averaged over pilots, they
        predict the mean square of the end error. The grid lies within the pilots' levels, but for a last level 0.
        """
        return self.steps(windows(sigmas), solver)

    def steps(self, around: Array, solver: SolverName) -> Array:
        """The same for single steps, by the levels around each of them, see `windows`; (steps, m)."""
        found = np.empty((len(around), self.last.shape[1]))
        final = around[:, AFTER] == 0
        if final.any():
            k, weights = self._place(around[final, HERE])
            found[final] = np.einsum("ik,ikm->im", weights, self.last[k])
        found[~final] = self._positive(around[~final], solver)
        return found

    def _positive(self, around: Array, solver: SolverName) -> Array:
        """The same for steps to positive levels."""
        method = find_solver(solver).multistep
        sigma, after, beyond = around[:, HERE:].T
        if method is None:  # Heun's, which sees D' + J e where Euler's step, with its error e, went
            here, there, c = self._place(sigma), self._place(after), (after / sigma)[:, None]
            change = _value(self.denoised, there, here) - _value(self.denoised, there, there)
            seen = self._local(around, Multistep(1), pulled=True)
            return self._local(around, Multistep(1)) + (1 / c - 1) / 2 * (seen - change)
        if not method.corrects:
            return self._local(around, method)
        # D' + J e likewise, which stands for half of the step to it and, not evaluated again, of the one from it.
        again = (beyond > 0) & np.isfinite(beyond)
        local = np.empty((len(around), self.last.shape[1]))
        local[~again] = self._local(around[~again], method)
        local[again] = self._local(around[again], method, ahead=True)
        stands = ((sigma - beyond) / (2 * after))[again, None]
        local[again] += stands * self._local(around[again], method, pulled=True)
        return local

    def _local(self, around: Array, method: Multistep, ahead: bool = False, pulled: bool = False) -> Array:
        """<a, l> or <J^T a, l>, l the error of a linear multistep step from exact D and eps, also those ahead."""
        denoised, noise = (self.pulled_denoised, self.pulled_noise) if pulled else (self.denoised, self.noise)
        before, (sigma, after, beyond) = around.T[HERE - 1 :: -1], around.T[HERE:]
        here, there = self._place(sigma), self._place(after)
        clean, eps = _value(denoised, there, here), _value(noise, there, here)
        # Euler's local error: D - D' + sigma' (eps - eps').
        local = clean - _value(denoised, there, there) + after[:, None] * (eps - _value(noise, there, there))
        table, held, share = (noise, eps, after - sigma) if method.noise else (denoised, clean, 1 - after / sigma)
        orders = method.orders(np.isfinite(before).sum(0), beyond)
        for order in range(1, method.order + 1):
            rows = orders == order
            known: list[Array] = list(before[: order - 1, rows])
            times = [np.log(level / sigma[rows]) for level in known]
            weights = method.weights(times, np.log(sigma / after)[rows], ahead)
            target = there[0][rows], there[1][rows]
            for weight, level in zip(weights, [after[rows], *known] if ahead else known, strict=True):
                change = _value(table, target, self._place(level)) - held[rows]
                local[rows] += (share[rows] * weight)[:, None] * change
        return local

    def thinned(self, count: int) -> Self:
        """The same with at most so many columns in its tables: for predictions only."""
        every = slice(None, None, -(-self.last.shape[1] // count))
        names = ("denoised", "noise", "pulled_denoised", "pulled_noise")
        few: dict[str, Any] = {name: np.ascontiguousarray(getattr(self, name)[..., every]) for name in names}
        return replace(self, last=self.last[:, every], **few)

    def project(self, x: Float[Tensor, "n d"]) -> Array:
        """<v, x - end> of points that a sampler has carried to the end, shape (probes x pilots,)."""
        return torch.einsum("pnd,nd->pn", self.probes, x.double() - self.end).flatten().cpu().numpy()

    def _place(self, sigma: Array) -> Place:
        """The four levels around each sigma, and their weights in a cubic polynomial in log sigma."""
        count = len(self.sigmas)
        at = np.log(self.sigmas[0] / sigma) / math.log(self.sigmas[0] / self.sigmas[-1]) * (count - 1)
        at = np.clip(at, 0, count - 1)
        k = np.clip(at.astype(int) - 1, 0, count - 4)
        w = at - k
        weights = [
            (1 - w) * (2 - w) * (3 - w) / 6,
            w * (2 - w) * (3 - w) / 2,
            w * (w - 1) * (3 - w) / 2,
            w * (w - 1) * (w - 2) / 6,
        ]
        return k[:, None] + np.arange(4), np.stack(weights, 1)


def windows(sigmas: Sequence[float] | Array) -> Array:
    """The levels around each step of a grid: `HERE` before it, inf where there are none; its two; the next, or inf."""
    padded = np.concatenate([np.full(HERE, np.inf), np.asarray(sigmas, dtype=np.float64), [np.inf]])
    return np.lib.stride_tricks.sliding_window_view(padded, BEYOND + 1)


def _value(table: Array, left: Place, right: Place) -> Array:
    """A table's value at pairs of levels."""
    (k, a), (j, b) = left, right
    weights, seen = a[:, :, None] * b[:, None, :], table[k[:, :, None], j[:, None, :]]
    pairs = weights.shape[1] * weights.shape[2]
    return (weights.reshape(len(a), 1, pairs) @ seen.reshape(len(a), pairs, table.shape[2]))[:, 0]


def even_noise(law: Target, count: int, seed: int) -> Tensor:
    """Standard normal noise (n, d), spread evenly by a scrambled Sobol sequence: few say as much as many at random."""
    state = seeds(seed, 0x9107)[0]
    if law.dim > torch.quasirandom.SobolEngine.MAXDIM:
        uniform = torch.rand((count, law.dim), generator=torch.Generator().manual_seed(state), dtype=torch.float64)
    else:
        engine = torch.quasirandom.SobolEngine(law.dim, scramble=True, seed=state)
        uniform = engine.draw(count, dtype=torch.float64)
    edge = 2.0**-33  # Sobol points are multiples of 2^-32 or so: none may be at 0 or 1
    return torch.special.ndtri(uniform.clamp(edge, 1 - edge)).to(law.device, law.dtype)


def fly(
    law: Target,
    x: Float[Tensor, "n d"],
    sigmas: Sequence[float],
    floor: float | None = None,
    stride: int = 1,
    alike: int | None = None,
    seed: int = 0,
    weights: Float[Tensor, " n"] | None = None,
) -> Pilots:
    """Follow the probability flow from x at sigmas[0], and the adjoint equation back.

    Args:
        law: whose denoiser is followed.
        x: shape (n, d).
        sigmas: levels equally spaced in log sigma, descending.
        floor: for grids that end at 0, the level down to which the flow is followed before D is taken for its end;
            None for grids that end at the last of the levels.
        stride: of the levels that the adjoints stop at: the first, the last, and at least two between.
        alike: save evaluations: solve the adjoint equation for so many pilots only, and let all errors at a level grow
            by one factor, the root mean square growth of dD/dlog sigma there. Then more probes cost nothing.
        seed: of the random probes v: above `AXES` dimensions one per pilot, or `PROBES` where they cost nothing; each
            axis up to there.
        weights: of the pilots, adding up to one. Default: equal.
    """
    n, d = x.shape
    weights = torch.full((n,), 1 / n, dtype=torch.float64, device=x.device) if weights is None else weights
    s, dtype = [float(sigma) for sigma in sigmas], x.dtype
    start, count = x, n * (len(s) + 1)
    path, clean = flow_path(law, x, s)
    path, clean, s = path[::stride], clean[::stride], s[::stride]
    generator = torch.Generator().manual_seed(seeds(seed, 0xAD101)[0])

    def probe(n: int, count: int) -> Tensor:
        if d <= AXES:
            return torch.eye(d, dtype=torch.float64, device=x.device)[:, None, :].expand(d, n, d)
        signs = 2.0 * torch.randint(2, (count, n, d), generator=generator, dtype=torch.float64) - 1
        return signs.to(x.device) / math.sqrt(count)

    def pull(a: Tensor, k: int) -> Tensor:
        """J^T a at level k, by a difference quotient along a: a posterior covariance is symmetric."""
        rows = a.shape[1]
        length = a.norm(dim=-1, keepdim=True)
        step = NUDGE[dtype] * s[k] * torch.where(length > 0, a / length, 0.0)
        nonlocal count
        count += rows * len(step)
        moved = torch.stack([_denoise(law, path[k][:rows] + e, s[k]) - clean[k][:rows] for e in step])
        return moved * length / (NUDGE[dtype] * s[k])

    def adjoint(v: Tensor) -> tuple[Tensor, Tensor]:
        """a and J^T a at all levels, for the first pilots: (levels, probes, n, d)."""
        last = len(s) - 1
        a = v  # also where D follows: data have dD/dx = 0 there, but an error still decides between two points
        found, pulled = [a], [pull(a, last)]
        for k in range(last - 1, -1, -1):
            # The transpose of Heun's step x' = y + g (D(y) - D(x)), y = D + c (x - D), linearised at the trajectory.
            c = s[k + 1] / s[k]
            g = (1 / c - 1) / 2
            bent = a + g * pulled[-1]
            a = c * bent + pull((1 - c) * bent - g * a, k)
            found.append(a)
            pulled.append(pull(a, k))
        return torch.stack(found[::-1]), torch.stack(pulled[::-1])

    known = torch.stack(clean)
    v = probe(n, 1 if alike is None else PROBES) * (n * weights).sqrt()[:, None]
    if alike is None:
        a, w = adjoint(v)
    else:
        few = adjoint(probe(min(alike, n), 1))[0]
        direction = torch.gradient(known[:, : few.shape[2]], dim=0)[0]
        growth = torch.einsum("kpnd,knd->kpn", few, direction).square().sum((1, 2)) / direction.square().sum((1, 2))
        growth = growth.nan_to_num(0.0).sqrt()[:, None, None, None]
        a = growth * v
        w = a - torch.gradient(a, spacing=math.log(s[0] / s[1]), dim=0)[0]  # a' = J^T a - a, up in log sigma
    left, bent = a.flatten(1, 2), w.flatten(1, 2)
    levels = torch.tensor(s, dtype=torch.float64, device=x.device)[:, None, None]
    noise = (torch.stack(path) - known) / levels
    end = finish(law, path[-1], clean[-1], s[-1], floor)
    if floor is not None and floor < s[-1]:
        count += 2 * (TAIL - 1) * n + n

    def table(left: Tensor, right: Tensor) -> Array:
        return torch.einsum("kmd,lmd->klm", left, right.repeat(1, len(v), 1)).cpu().numpy()

    last_products = torch.einsum("pnd,lnd->lpn", v, known - end).flatten(1).cpu().numpy()
    tables = table(left, known), table(left, noise), table(bent, known), table(bent, noise)
    return Pilots(tuple(s), start, end, floor is not None, *tables, last_products, v, weights, count)


def flow_path(
    law: Target, x: Float[Tensor, "n d"], sigmas: Sequence[float]
) -> tuple[list[Float[Tensor, "n d"]], list[Float[Tensor, "n d"]]]:
    """The probability flow from x at sigmas[0]: x and D at each level, in float64; one evaluation per level, and one.

    The linear part is solved exactly, D extrapolated by a parabola: third order in the spacing of the levels.

    Args:
        law: whose denoiser is followed.
        x: shape (n, d).
        sigmas: equally spaced in log sigma, descending.
    """
    h = math.log(sigmas[0] / sigmas[1])
    q = math.exp(-h)
    first = 1 - q  # integrals over the step of exp(t - h) (t/h)^j, j = 0, 1, 2
    second = 1 - first / h
    third = 1 - 2 * second / h
    x = x.double()
    path, known = [x], [_denoise(law, x, sigmas[0])]
    for k in range(1, len(sigmas)):
        now, before, earlier = known[-1], known[max(k - 2, 0)], known[max(k - 3, 0)]
        slope, bend = now - before, torch.zeros_like(now)
        if k == 1:
            slope = _denoise(law, q * x + first * now, sigmas[1]) - now
        elif k > 2:
            slope, bend = (3 * now - 4 * before + earlier) / 2, (now - 2 * before + earlier) / 2
        x = q * x + first * now + second * slope + third * bend
        path.append(x)
        known.append(_denoise(law, x, sigmas[k]))
    return path, known


def finish(
    law: Target, x: Float[Tensor, "n d"], clean: Float[Tensor, "n d"], low: float, floor: float | None
) -> Tensor:
    """Where flows end that have come to x at `low`: there, or for grids that end at 0 further down, at `floor`."""
    if floor is None:
        return x
    if not floor < low:
        return clean
    rest = [*np.geomspace(low, floor, TAIL).tolist(), 0.0]
    return integrate(law, x.to(law.dtype), rest, "heun").x.double()


def _denoise(law: Target, x: Float[Tensor, "n d"], sigma: float) -> Float[Tensor, "n d"]:
    return law.denoise((x / sigma).to(law.dtype), 1 / sigma).double()
